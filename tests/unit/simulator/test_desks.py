"""Simulated desks: what a client begins there goes on by the simulator's clock, and only by it."""

from __future__ import annotations

import gzip
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from collector.simulator.account import Account
from collector.simulator.diagnostics import (
    RUN_SECONDS,
    CreateTaskListing,
    DescribeTaskListing,
    DiagnosticDesk,
    TaskListing,
)
from collector.simulator.paging import TokenMint
from collector.simulator.resource_logs import CreateLogListing, DeleteLogListing, DescribeLogListing, ResourceLogDesk
from collector.simulator.traces import UPLOADS_KEPT_MAX, TraceDesk
from collector.simulator.world import World
from tests.support.simulated_pages import T, all_by_token, decoded, plain, refusal

ACCOUNT = Account(World(seed=7, node_count=20, nodes_per_cluster=10))
MINT = TokenMint(7, 900.0)
CLUSTER, OTHER_CLUSTER = ACCOUNT.cluster_ids
NODE_IDS = ACCOUNT.nodes_of(CLUSTER)[:2]


def begun(desk: DiagnosticDesk, now: float = T, **parameters: Any) -> str:
    """The id of a new diagnosis."""
    page = CreateTaskListing(desk).page({"ClusterId": CLUSTER, "NodeIds": NODE_IDS, **parameters}, now)
    task_id: str = decoded("CreateDiagnosticTask", page).diagnostic_id
    return task_id


def described(desk: DiagnosticDesk, task_id: str, now: float) -> Any:
    return decoded("DescribeDiagnosticResult", DescribeTaskListing(desk).page({"DiagnosticId": task_id}, now))


def test_a_diagnosis_is_created_runs_and_ends_with_its_findings() -> None:
    """Its state moves with the clock; results and an end come when it is over, without a zone in the times."""
    desk = DiagnosticDesk(ACCOUNT, MINT)
    task_id = begun(desk, DiagnosticType="NetDiag", StartTime=str(T - 120), EndTime=str(T - 60))
    task = desk.tasks(T)[0]

    states = [described(desk, task_id, now).diagnostic_state for now in (T, T + 3, task.ended - 1)]
    assert states == ["Created", "Running", "Running"]
    assert described(desk, task_id, task.ended - 1).diagnostic_results == []
    over = described(desk, task_id, task.ended)
    assert over.diagnostic_state in ("Succeed", "Fault")
    assert (over.cluster_id, over.diagnostic_type, over.node_ids) == (CLUSTER, "NetDiag", NODE_IDS)
    assert over.created_time == "2025-10-09T08:53:20"
    assert {result["NodeId"] for result in over.diagnostic_results} == set(NODE_IDS)
    assert RUN_SECONDS[0] <= task.ended - T < RUN_SECONDS[1]


def test_some_diagnoses_find_a_fault_and_others_none() -> None:
    """A fault is in the state, in the results and in the list; each diagnosis has an id of its own."""
    desk = DiagnosticDesk(ACCOUNT, MINT)
    task_ids = [begun(desk) for _ in range(12)]
    over = [described(desk, task_id, T + 100) for task_id in task_ids]

    assert len(set(task_ids)) == 12
    assert {answer.diagnostic_state for answer in over} == {"Succeed", "Fault"}
    for answer in over:
        bad = [result for result in answer.diagnostic_results if result["Result"] == "Fault"]
        assert len(bad) == (answer.diagnostic_state == "Fault")


def test_diagnoses_are_listed_newest_first_under_other_names() -> None:
    """The new one and those of the past, page by page; what runs has neither result nor end."""
    desk = DiagnosticDesk(ACCOUNT, MINT)
    listing = TaskListing(desk)
    task_id = begun(desk)

    first = decoded("ListDiagnosticResults", listing.page({}, T))
    found = all_by_token(listing, "DiagnosticResults", {"MaxResults": 20}, lambda: T)

    assert first.max_results == len(first.diagnostic_results) == 20
    assert first.next_token
    assert [task["DiagId"] for task in found] == [task.task_id for task in desk.tasks(T)]
    assert len(found) == 25
    assert found[0] == {
        "DiagId": task_id, "ClusterId": CLUSTER, "ClusterName": f"lingjun-{CLUSTER[-2:]}",
        "ResourceId": ",".join(NODE_IDS), "ServerName": "", "DiagContent": "CheckByAiJobLogs", "DiagResult": "",
        "Status": "created", "CreationTime": "2025-10-09T08:53:20Z", "FinishedTime": "",
    }  # fmt: skip
    assert {task["Status"] for task in found[1:]} == {"succeed", "fault"}
    lengths = {len(task["FinishedTime"]) for task in found[1:]}
    assert lengths == {len("2025-10-09T08:53Z"), len("2025-10-09T08:53:20Z")}


def test_diagnoses_are_found_by_type_id_and_resource_group() -> None:
    """Each filter narrows the list; past diagnoses are the same in every desk of the seed."""
    desk = DiagnosticDesk(ACCOUNT, MINT)
    listing = TaskListing(desk)
    group_id = ACCOUNT.clusters[OTHER_CLUSTER].resource_group_id

    def found(**parameters: Any) -> list[Any]:
        records: list[Any] = plain(listing.page({"MaxResults": 100, **parameters}, T))["DiagnosticResults"]
        return records

    task_id = found()[3]["DiagId"]
    assert [task["DiagId"] for task in found(DiagnosticId=task_id)] == [task_id]
    assert {task["DiagContent"] for task in found(DiagType="NetDiag")} == {"NetDiag"}
    assert {task["ClusterId"] for task in found(ResourceGroupId=group_id)} == {OTHER_CLUSTER}
    assert DiagnosticDesk(ACCOUNT, MINT).tasks(T) == desk.tasks(T)
    assert desk.tasks(1_700_000_000) == []


def test_what_cannot_be_diagnosed_is_refused() -> None:
    """Unknown clusters and nodes, nodes of another cluster, unknown diagnoses, and tokens that are none."""
    desk = DiagnosticDesk(ACCOUNT, MINT)
    create = CreateTaskListing(desk)

    assert refusal(create, {"ClusterId": "i0"}) == (404, "InvalidClusterId.NotFound")
    assert refusal(create, {"NodeIds": ["e01-none"]}) == (404, "InvalidNodeId.NotFound")
    stranger = ACCOUNT.nodes_of(OTHER_CLUSTER)[0]
    assert refusal(create, {"ClusterId": CLUSTER, "NodeIds": [stranger]}) == (400, "InvalidParameter")
    assert refusal(DescribeTaskListing(desk), {"DiagnosticId": "diag-none"}) == (404, "InvalidDiagnosticId.NotFound")
    assert refusal(TaskListing(desk), {"NextToken": "nonsense"}) == (400, "InvalidParameter")


RESOURCE_ID = ACCOUNT.eas_resource_ids[0].partition("/")[2]
RESOURCE = {"ClusterId": "cn-hangzhou", "ResourceId": RESOURCE_ID}
NAMES = {"ProjectName": "demo-sls", "LogStore": "access_log"}


def log_state(desk: ResourceLogDesk, now: float) -> tuple[str, str, str]:
    """What the service says of the resource's logs."""
    answer = decoded("DescribeResourceLog", DescribeLogListing(desk).page(RESOURCE, now))
    assert (answer.project_name, answer.log_store, answer.status) == desk.state(ACCOUNT.eas_resource_ids[0], now)
    return answer.project_name, answer.log_store, answer.status


def test_shipping_of_logs_is_set_up_and_taken_down() -> None:
    """Creating and deleting each take their seconds; before and after, both names are empty."""
    desk = ResourceLogDesk(ACCOUNT, creating_seconds=10, deleting_seconds=5)
    assert log_state(desk, T) == ("", "", "ResourceReady")

    created = decoded("CreateResourceLog", CreateLogListing(desk).page(RESOURCE | NAMES, T))
    assert created.message == f"Log service for resource [{RESOURCE_ID}] is creating"
    assert log_state(desk, T + 9) == ("demo-sls", "access_log", "ResourceCreating")
    assert log_state(desk, T + 10) == ("demo-sls", "access_log", "ResourceReady")

    deleted = decoded("DeleteResourceLog", DeleteLogListing(desk).page(RESOURCE, T + 100))
    assert deleted.message == f"Log service for resource [{RESOURCE_ID}] is deleting"
    assert log_state(desk, T + 104) == ("demo-sls", "access_log", "ResourceDeleting")
    assert log_state(desk, T + 105) == ("", "", "ResourceReady")
    assert desk.state(ACCOUNT.eas_resource_ids[1], T + 9) == ("", "", "ResourceReady")


def test_shipping_is_not_set_up_twice_nor_taken_down_without() -> None:
    """A second creation is refused until the first is gone for good, a deletion where there is nothing."""
    desk = ResourceLogDesk(ACCOUNT)
    create, delete = CreateLogListing(desk), DeleteLogListing(desk)
    exists, absent = (400, "ResourceLogExists"), (400, "ResourceLogNotFound")

    assert refusal(delete, RESOURCE) == absent
    create.page(RESOURCE | NAMES, T)
    assert refusal(create, RESOURCE | NAMES, T + 1) == exists
    assert refusal(create, RESOURCE | NAMES, T + 100) == exists
    delete.page(RESOURCE, T + 200)
    assert refusal(create, RESOURCE | NAMES, T + 201) == exists
    assert refusal(delete, RESOURCE, T + 201) == absent
    create.page(RESOURCE | NAMES, T + 205)
    assert log_state(desk, T + 300)[0] == "demo-sls"


@pytest.mark.parametrize("wrong", [{"ResourceId": "eas-r-none"}, {"ClusterId": "cn-beijing"}])
def test_an_unknown_resource_ships_no_logs(wrong: dict[str, str]) -> None:
    """Each of the three operations answers 404 for it."""
    desk = ResourceLogDesk(ACCOUNT)

    for listing in (CreateLogListing(desk), DescribeLogListing(desk), DeleteLogListing(desk)):
        assert refusal(listing, RESOURCE | NAMES | wrong) == (404, "InvalidResourceId.NotFound")


class Hand:
    """A clock moved by hand."""

    def __init__(self) -> None:
        self.now = float(T)

    def __call__(self) -> float:
        return self.now


PROTOBUF = {"Content-Type": "application/x-protobuf"}
BASE_URL = "http://127.0.0.1:8080"


def spans(*names: str) -> bytes:
    """An OTLP upload as the official exporter writes it."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("test")
    for name in names:
        with tracer.start_as_current_span(name, attributes={"rows": 3, "share": 0.5}):
            pass
    body: bytes = encode_spans(exporter.get_finished_spans()).SerializeToString()
    return body


def path_of(desk: TraceDesk, now: float) -> str:
    """Where a new token says that traces go."""
    answer = decoded("GetXtraceToken", desk.page({}, now))
    assert answer.token
    assert answer.http_endpoint == answer.http_internal_endpoint
    assert answer.http_endpoint.startswith(f"{BASE_URL}/adapt_{answer.token}/api/otlp/traces")
    return str(answer.http_endpoint).removeprefix(BASE_URL)


def test_traces_are_taken_while_their_token_lives() -> None:
    """An upload is kept with its spans' names, plain or compressed; 403 once the token has ended, 401 for none."""
    clock = Hand()
    desk = TraceDesk(7, clock, token_seconds=60, base_url=BASE_URL)
    path, body = path_of(desk, T), spans("collect", "ship")

    assert desk.receive(path, PROTOBUF, body) == 200
    packed = {"content-type": "application/x-protobuf", "Content-Encoding": "gzip"}
    assert desk.receive(path.replace("@", "%40"), packed, gzip.compress(body)) == 200
    clock.now = T + 60
    assert desk.receive(path, PROTOBUF, body) == 403
    assert desk.receive("/adapt_none@sim/api/otlp/traces", PROTOBUF, body) == 401

    assert [upload.span_names for upload in desk.received] == [("collect", "ship")] * 2
    assert [upload.body for upload in desk.received] == [body] * 2
    assert desk.receive(path_of(desk, clock.now), PROTOBUF, body) == 200
    assert len(desk.received) == 3


def test_every_token_is_another() -> None:
    """Two tokens differ and live side by side."""
    desk = TraceDesk(7, Hand(), base_url=BASE_URL)
    first, second = path_of(desk, T), path_of(desk, T)

    assert first != second
    assert [desk.receive(path, PROTOBUF, b"") for path in (first, second)] == [200, 200]


def test_an_upload_that_is_none_is_refused() -> None:
    """Other paths, other content types, bodies that are no OTLP message and bodies beyond all bounds."""
    desk = TraceDesk(7, Hand(), base_url=BASE_URL)
    path, body = path_of(desk, T), spans("collect")
    packed = PROTOBUF | {"Content-Encoding": "gzip"}

    assert desk.receive("/api/otlp/traces", PROTOBUF, body) == 404
    assert desk.receive(path, {"Content-Type": "application/json"}, body) == 415
    assert desk.receive(path, PROTOBUF, body[:-3]) == 400
    assert desk.receive(path, PROTOBUF, b"\xff" * 20) == 400
    assert desk.receive(path, packed, body) == 400
    assert desk.receive(path, packed, gzip.compress(body)[:-9]) == 400
    assert desk.receive(path, packed, gzip.compress(bytes(17 << 20))) == 413
    assert desk.received == []


def test_only_the_newest_uploads_are_kept() -> None:
    """A thousand of them, however many come."""
    desk = TraceDesk(7, Hand(), base_url=BASE_URL)
    path = path_of(desk, T)
    first, later = spans("first"), spans("later")

    assert desk.receive(path, PROTOBUF, first) == 200
    assert {desk.receive(path, PROTOBUF, later) for _ in range(UPLOADS_KEPT_MAX)} == {200}

    assert len(desk.received) == UPLOADS_KEPT_MAX
    assert {upload.span_names for upload in desk.received} == {("later",)}
