"""Requests in both wire forms: the simulator finds the operation and its parameters, and refuses what is odd."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import pytest

from collector.catalogue.operations import CATALOGUE
from collector.simulator.requests import Call, Gateway, Refusal, check_parameters, parameters_of, target_of

JSON = {"content-type": "application/json; charset=utf-8"}
FORM = {"content-type": "application/x-www-form-urlencoded"}


def bearer(name: str, query: str = "", body: Any = None, *, method: str = "") -> Call:
    """A call of the bearer gateway."""
    row = CATALOGUE[name]
    sent = b"" if body is None else json.dumps(body).encode()
    return Call(method or row.method, f"/api/{row.product}/{row.version}/{name}", query, JSON if sent else {}, sent)


def product(
    name: str,
    path: str,
    query: str = "",
    body: bytes = b"",
    headers: dict[str, str] | None = None,
    *,
    method: str = "",
) -> Call:
    """A call of a product endpoint."""
    row = CATALOGUE[name]
    named = {"x-acs-action": name, "x-acs-version": row.version}
    return Call(method or row.method, path, query, {**named, **(headers or {})}, body)


def form(name: str, fields: dict[str, str], query: str = "") -> Call:
    """An RPC call."""
    return product(name, "/", query, urlencode(fields).encode(), FORM)


def read(call: Call) -> dict[str, Any]:
    """The parameters of a call, checked."""
    target = target_of(call)
    parameters = parameters_of(target, call)
    check_parameters(target.operation, parameters)
    return parameters


LOGS = {"FromTime": "1760000000", "ToTime": "1760000060", "NodeId": "e01"}
JOB_LOGS = [{"NodeId": "e01", "Logs": []}]
RANGE = {"StartTime": "1760000040", "EndTime": "1760003640"}
LOG_PATH = "/api/v2/resources/cn-shanghai/eas-r-demo/log"
LOG = {"ClusterId": "cn-shanghai", "ResourceId": "eas-r-demo"}
SHIPPED = {"ProjectName": "demo-sls", "LogStore": "access_log"}


@pytest.mark.parametrize(
    ("on_bearer", "on_product", "parameters"),
    [
        (
            bearer("ListSyslogs", body={**LOGS, "Query": "a b", "Reverse": True, "NextToken": None}),
            form("ListSyslogs", {**LOGS, "Query": "a b", "Reverse": "True"}),
            {**LOGS, "Query": "a b", "Reverse": True},
        ),
        (
            bearer("CreateDiagnosticTask", body={"NodeIds": ["a", "b"], **RANGE, "AiJobLogs": JOB_LOGS}),
            form(
                "CreateDiagnosticTask",
                {"NodeIds": "a,b", "AiJobLogInfo": json.dumps({**RANGE, "AiJobLogs": JOB_LOGS})},
            ),
            {"NodeIds": ["a", "b"], **RANGE, "AiJobLogs": JOB_LOGS},
        ),
        (
            bearer("ListDiagnosticResults", body={"MaxResults": 20}),
            form("ListDiagnosticResults", {"MaxResults": "20"}, "SignatureType=BEARERTOKEN"),
            {"MaxResults": 20},
        ),
        (
            bearer(
                "ListClusterNodes",
                body={"ClusterId": "i1", "OperatingStates": ["Using", "Unused"], "Tags": [{"Key": "k", "Value": "v"}]},
            ),
            form(
                "ListClusterNodes",
                {"ClusterId": "i1", "OperatingStates.1": "Using", "OperatingStates.2": "Unused"},
                "Tags.1.Key=k&Tags.1.Value=v",
            ),
            {"ClusterId": "i1", "OperatingStates": ["Using", "Unused"], "Tags": [{"Key": "k", "Value": "v"}]},
        ),
        (
            bearer("GetNodeMetrics", "ResourceGroupID=rg%201&MetricType=CpuUsageRate&Verbose=true"),
            product("GetNodeMetrics", "/api/v1/resources/rg%201/nodemetrics/CpuUsageRate", "Verbose=True"),
            {"ResourceGroupID": "rg 1", "MetricType": "CpuUsageRate", "Verbose": True},
        ),
        (
            bearer("ListServices", "PageNumber=2&Label=%7B%22team%22%3A%22a%22%7D"),
            product("ListServices", "/api/v2/services", "PageNumber=2&Label=%7B%22team%22%3A%22a%22%7D"),
            {"PageNumber": 2, "Label": {"team": "a"}},
        ),
        (
            bearer("CreateResourceLog", body={**LOG, "body": SHIPPED}),
            product("CreateResourceLog", LOG_PATH, "", json.dumps(SHIPPED).encode(), JSON),
            {**LOG, **SHIPPED},
        ),
        (bearer("DeleteResourceLog", urlencode(LOG)), product("DeleteResourceLog", LOG_PATH), LOG),
        (bearer("GetXtraceToken"), product("GetXtraceToken", "/api/v1/PAILLMTrace/XtraceToken"), {}),
    ],
)
def test_both_forms_of_a_call_mean_the_same(on_bearer: Call, on_product: Call, parameters: dict[str, Any]) -> None:
    """Form, query, path and JSON, numbered lists, comma lists and nested objects: what arrives is spelled alike."""
    assert target_of(on_bearer).gateway is Gateway.BEARER
    assert target_of(on_product).gateway is Gateway.PRODUCT
    assert read(on_bearer) == read(on_product) == parameters


METRICS = "/api/v1/resources/rg1/usermetrics"


@pytest.mark.parametrize(
    "call",
    [
        Call("GET", "/", "", {}, b""),
        Call("GET", "/api/PaiStudio/2022-01-12/DropEverything", "", {}, b""),
        Call("GET", "/api/eas/2022-01-12/GetUserViewMetrics", "", {}, b""),
        product("GetUserViewMetrics", METRICS + "/"),
        product("GetUserViewMetrics", "/api/v1/resources/a/b/usermetrics"),
        product("ListSyslogs", METRICS),
        product("GetUserViewMetrics", METRICS, headers={"x-acs-action": "GetNodeMetrics"}),
        product("GetUserViewMetrics", METRICS, headers={"x-acs-version": "2021-07-01"}),
        Call("GET", METRICS, "", {"x-acs-version": "2022-01-12"}, b""),
    ],
)
def test_what_is_no_operation(call: Call) -> None:
    """Path, action and version have to agree, whoever calls."""
    with pytest.raises(Refusal) as refused:
        target_of(call)

    assert (refused.value.status, refused.value.code) == (404, "InvalidAction.NotFound")


@pytest.mark.parametrize(
    ("call", "status", "says"),
    [
        (bearer("ListSyslogs", method="GET"), 405, "POST only"),
        (product("ListSyslogs", "/", method="GET"), 405, "POST only"),
        (product("DescribeResourceLog", LOG_PATH, method="PUT"), 405, "GET only"),
        (bearer("ListSyslogs", "NodeId=e01", LOGS), 400, "NodeId"),
        (bearer("ListSyslogs", body={**LOGS, "Nodeid": "x"}), 400, "Nodeid"),
        (bearer("CreateResourceLog", body={**LOG, **SHIPPED}), 400, "ProjectName"),
        (bearer("CreateResourceLog", body={**LOG, "body": {**SHIPPED, "More": 1}}), 400, "More"),
        (bearer("CreateResourceLog", body={**LOG, "body": [1]}), 400, "body"),
        (bearer("CreateDiagnosticTask", body={"AiJobLogInfo": RANGE}), 400, "AiJobLogInfo"),
        (bearer("GetXtraceToken", body={}), 400, "no body"),
        (bearer("ListJobs", "PageNumber=1&PageNumber=2"), 400, "twice"),
        (bearer("ListJobs", "DisplayName=%FF"), 400, "UTF-8"),
        (bearer("ListSyslogs", body=[1]), 400, "JSON object"),
        (bearer("ListSyslogs", body=LOGS)._replace(headers={}), 400, "application/json"),
        (form("ListSyslogs", LOGS)._replace(body=b"%FF=1"), 400, "UTF-8"),
        (form("ListSyslogs", LOGS)._replace(body=b"Query=\xff"), 400, "UTF-8"),
        (product("ListSyslogs", "/", "", urlencode(LOGS).encode()), 400, "application/x-www-form-urlencoded"),
        (product("ListSyslogs", "/", "", json.dumps(LOGS).encode(), JSON), 400, "application/x-www-form-urlencoded"),
        (form("ListSyslogs", LOGS, "Reverse=true"), 400, "Reverse"),
        (form("ListDiagnosticResults", {"DiagnosticId": "d"}), 400, "DiagnosticId"),
        (form("CreateDiagnosticTask", RANGE), 400, "StartTime"),
        (form("CreateDiagnosticTask", {"AiJobLogInfo": "soon"}), 400, "AiJobLogInfo"),
        (form("CreateDiagnosticTask", {"AiJobLogInfo": '{"Start": 1}'}), 400, "Start"),
        (form("ListClusterNodes", {"ClusterId": "i1", "OperatingStates": "Using"}), 400, "OperatingStates"),
        (form("ListClusterNodes", {"ClusterId": "i1", "OperatingStates.0": "Using"}), 400, "OperatingStates.0"),
        (form("ListClusterNodes", {"ClusterId": "i1", "OperatingStates.2": "Using"}), 400, "OperatingStates"),
        (form("ListClusters", {}, "Tags.1=x&Tags.1.Key=k"), 400, "Tags.1.Key"),
        (product("GetUserViewMetrics", METRICS, "ResourceGroupID=rg1"), 400, "ResourceGroupID"),
        (product("ListJobs", "/api/v1/jobs", "SignatureType=BEARERTOKEN"), 400, "SignatureType"),
        (product("CreateResourceLog", LOG_PATH, "", json.dumps({"body": SHIPPED}).encode(), JSON), 400, "body"),
        (product("DescribeResourceLog", LOG_PATH, "", b"{}", JSON), 400, "no body"),
    ],
)
def test_what_cannot_be_read_is_refused(call: Call, status: int, says: str) -> None:
    """Wrong methods, misplaced, unknown, repeated and malformed parameters: the refusal names what is wrong."""
    with pytest.raises(Refusal) as refused:
        read(call)

    assert refused.value.status == status
    assert says in refused.value.message


@pytest.mark.parametrize(
    ("name", "change", "code"),
    [
        ("ListSyslogs", {"NodeId": ""}, "MissingParameter"),
        ("ListSyslogs", {"ToTime": None}, "MissingParameter"),
        ("ListSyslogs", {"FromTime": 1760000000}, "InvalidParameter"),
        ("ListSyslogs", {"FromTime": "1760000000000"}, "InvalidParameter"),
        ("ListSyslogs", {"FromTime": "١٧٦٠٠٠٠٠٠٠"}, "InvalidParameter"),
        ("ListSyslogs", {"Reverse": 1}, "InvalidParameter"),
        ("ListClusters", {"MaxResults": True}, "InvalidParameter"),
        ("ListClusters", {"MaxResults": 101}, "InvalidParameter"),
        ("ListClusters", {"MaxResults": 0}, "InvalidParameter"),
        ("ListClusters", {"Tags": {"Key": "k"}}, "InvalidParameter"),
        ("CreateDiagnosticTask", {"StartTime": "1760000001"}, "InvalidParameter"),
        ("CreateDiagnosticTask", {"NodeIds": "a"}, "InvalidParameter"),
        ("GetUserViewMetrics", {"PageSize": "1001"}, "InvalidParameter"),
        ("GetUserViewMetrics", {"PageNumber": "-1"}, "InvalidParameter"),
        ("GetUserViewMetrics", {"TimeStep": "0m"}, "InvalidParameter"),
        ("GetUserViewMetrics", {"TimeStep": "5d"}, "InvalidParameter"),
        ("GetUserViewMetrics", {"Order": "up"}, "InvalidParameter"),
        ("GetJobMetrics", {"MetricType": "Mood"}, "InvalidParameter"),
        ("GetJobMetrics", {"StartTime": "2025-10-09T08:00:00"}, "InvalidParameter"),
        ("GetJobMetrics", {"StartTime": "2025-02-30T08:00:00Z"}, "InvalidParameter"),
        ("GetJobMetrics", {"StartTime": "2025-10-9T08:00:00Z"}, "InvalidParameter"),
        ("DescribeServiceEvent", {"StartTime": "2025-10-09T08:00:00Z"}, "InvalidParameter"),
        ("ListServices", {"Label": "team"}, "InvalidParameter"),
    ],
)
def test_values_are_held_against_the_catalogue(name: str, change: dict[str, Any], code: str) -> None:
    """Types, forms, choices and bounds of the row hold, and a required parameter must be there."""
    row = CATALOGUE[name]
    right: dict[str, Any] = {
        "ListSyslogs": LOGS,
        "GetUserViewMetrics": {"ResourceGroupID": "rg1", "PageNumber": "1", "PageSize": "1000"},
        "GetJobMetrics": {"JobId": "dlc1", "MetricType": "gpucoreusage", "StartTime": "2025-10-09T08:00:00.292Z"},
        "DescribeServiceEvent": {"ClusterId": "c", "ServiceName": "s", "StartTime": "2025-10-09 08:00:00"},
    }.get(name, {})
    check_parameters(row, right)

    with pytest.raises(Refusal) as refused:
        check_parameters(row, {**right, **change})

    assert (refused.value.status, refused.value.code) == (400, code)
    assert next(iter(change)) in refused.value.message
