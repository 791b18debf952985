"""The JSON Schemas: as the types give them, valid, and of use to somebody who has a file to check."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from collector.api.decode import decode_answer
from collector.api.envelope import ErrorBody
from collector.catalogue.operations import CATALOGUE
from collector.cli.masking import masked
from collector.settings import example
from tests.support.schema_files import SCHEMAS, stored, strict, validator
from tools.schemas import ANSWERS, COMMAND, CONFIGURATION, answer_schema, documents, main, text_of

CONFIG = Path(__file__).parents[2] / "testdata" / "config"

POINTS = [{"Time": 1760000100000, "Value": 71.5}]

# One answer of each operation, in the shape that the service's documentation gives it.
CLOUD_POINTS = (
    '[{"timestamp":1548777660000,"userId":"1200000000000001","jobId":"dlc1demo","podId":"dlc1demo-worker-0",'
    '"Minimum":93.1,"Maximum":100,"Average":99.52}]'
)
CLOUD = {"Code": "200", "Success": True, "Message": "", "RequestId": "3121"}
SAMPLES: dict[str, dict[str, Any]] = {
    "DescribeMetricList": CLOUD | {"Datapoints": CLOUD_POINTS, "NextToken": "15761432", "Period": "60"},
    "DlcGetMetrics": CLOUD | {"DataPoints": CLOUD_POINTS, "NextToken": "15761432", "Period": "60"},
    "DswGetMetrics": CLOUD | {"Datapoints": CLOUD_POINTS, "NextToken": "15761432", "Period": "60"},
    "DescribeMetricMetaList": CLOUD | {
        "TotalCount": "1",
        "Resources": {"Resource": [{
            "Namespace": "acs_pai_dlc", "MetricName": "GPU_UTIL", "Description": "GPU in use", "Unit": "%",
            "Periods": "60,300", "Statistics": "Average,Minimum,Maximum", "Dimensions": "userId,jobId,podId",
            "Labels": '[{"name":"metricCategory","value":"job"}]',
        }]},
    },
    "DescribeProjectMeta": CLOUD | {
        "PageNumber": "1", "PageSize": "30", "Total": "1",
        "Resources": {"Resource": [{
            "Namespace": "acs_pai_dlc", "Description": "PAI training jobs",
            "Labels": '[{"name":"product","value":"pai"}]',
        }]},
    },
    "ListSyslogs": {
        "RequestId": "2F1C", "NextToken": "9b1d0c7e5a",
        "Logs": [{
            "ClusterId": "i110000000000000000001", "Domain": "ALIYUN_PUBLIC", "Facility": "kern",
            "Hostname": "gpu-0007", "Ip": "10.0.3.7", "Msg": "bond0: link status up for eth1",
            "NodeId": "e01-cn-demo0001", "Severity": "warning", "Sn": "21A4DEMO", "Source": "gpu-0007",
            "Syslogtag": "kernel", "TagHostname": "gpu-0007", "TagPackId": "D99031DEMO-1080",
            "TagPath": "/var/log/kern", "TagReceiveTime": "1760000103", "TagUserDefinedId": "application_b",
            "Time": "1760000101", "Topic": "logserver",
        }],
    },
    "CreateDiagnosticTask": {"RequestId": "A5", "DiagnosticId": "diag-i150000000000000000001"},
    "DescribeDiagnosticResult": {
        "RequestId": "8F06", "DiagnosticId": "diag-i150000000000000000001", "ClusterId": "i110000000000000000001",
        "DiagnosticType": "CheckByAiJobLogs", "DiagnosticState": "Fault", "CreatedTime": "2025-10-09T10:17:56",
        "EndTime": "2025-10-09T10:20:30", "NodeIds": ["e01-cn-demo0001"],
        "DiagnosticResults": [{"Anything": [1, "a", None]}, "text"],
    },
    "ListDiagnosticResults": {
        "RequestId": "AC4F", "NextToken": "", "MaxResults": 20,
        "DiagnosticResults": [{
            "DiagId": "123", "ClusterId": "i110000000000000000001", "ClusterName": "demo",
            "ResourceId": "e01-cn-demo0001", "ServerName": "", "DiagContent": "static check", "DiagResult": "Success",
            "Status": "succeed", "CreationTime": "2025-10-09T02:01:12Z", "FinishedTime": "2025-10-09T02:04:00Z",
        }],
    },
    "ListClusters": {
        "RequestId": "R2", "NextToken": "f4f9a292",
        "Clusters": [{
            "ClusterId": "i110000000000000000001", "ClusterName": "demo", "ClusterType": "AckEdgePro",
            "OperatingState": "running", "NodeCount": 12, "NodeGroupCount": 2, "HpnZone": "B1", "VpcId": "vpc-1",
            "CreateTime": "1672134938", "Components": {"any": ["thing"]}, "Tags": [{"Key": "env", "Value": "x"}],
        }],
    },
    "ListClusterNodes": {
        "RequestId": "R3", "NextToken": "",
        "Nodes": [{
            "NodeId": "e01-cn-demo0001", "Hostname": "gpu-0007", "Sn": "21A4DEMO", "OperatingState": "Using",
            "MachineType": "efg1.nvga1", "NodeGroupId": "ng-1", "NodeGroupName": "default",
            "ZoneId": "cn-wulanchabu-b", "CreateTime": "1642472468000", "ExpiredTime": "1792185600000",
            "Networks": [{"BondName": "bond0", "Ip": "10.0.3.7"}], "Tags": [],
        }],
    },
    "GetUserViewMetrics": {
        "ResourceGroupId": "rg7k2demo", "Total": 1,
        "UserMetrics": [{
            "ResourceGroupId": "rg7k2demo", "UserId": "1200000000000001", "JobType": "PyTorchJob", "TotalCPU": 192,
            "TotalGPU": 16, "TotalMemory": 1610612736, "RequestCPU": 96, "RequestGPU": 8, "RequestMemory": 805306368,
            "CPUUsageRate": "41.7", "GPUUsageRate": "88.2", "MemoryUsageRate": "37.5", "NetworkInputRate": "12.4",
            "NetworkOutputRate": "9.8", "DiskReadRate": "3.1", "DiskWriteRate": "0.6", "CPUNodeNumber": 0,
            "GPUNodeNumber": 1, "CpuJobNames": [], "GpuJobNames": ["dlc1abc"], "NodeNames": ["lrn-a1"],
            "CpuNodeNames": [], "GpuNodeNames": ["lrn-a1"],
        }],
        "Summary": {"ResourceGroupId": "rg7k2demo", "TotalCPU": 192, "TotalGPU": 16, "GPUUsageRate": "44.1"},
    },
    "GetNodeMetrics": {
        "ResourceGroupID": "rg7k2demo", "MetricType": "CpuUsageRate",
        "NodesMetrics": [{"NodeID": "lrn-a1", "GPUType": "", "Metrics": [{"Time": 1760000100, "Value": "37.25"}]}],
    },
    "ListResourceGroups": {
        "RequestId": "R1", "TotalCount": 1,
        "ResourceGroups": [{
            "ResourceGroupID": "rg7k2demo", "Name": "train", "NodeCount": 2, "ResourceType": "ECS", "Status": "Ready",
            "WorkspaceID": "90001", "CreatorID": "1200000000000001", "GmtCreatedTime": "2025-06-01T00:00:00Z",
        }],
    },
    "GetJobMetrics": {
        "RequestId": "5D0F", "JobId": "dlc1abc", "PodMetrics": [{"PodId": "dlc1abc-worker-0", "Metrics": POINTS}],
    },
    "GetJobEvents": {
        "RequestId": "5D10", "JobId": "dlc1abc", "Events": ["2025-01-28 14:07:24 Created pod: x-worker-0"],
    },
    "ListJobs": {
        "RequestId": "5D11", "TotalCount": 1,
        "Jobs": [{
            "JobId": "dlc1abc", "DisplayName": "train", "Status": "Running", "WorkspaceId": "90001",
            "RequestCPU": 16, "RequestGPU": "8", "Envs": {"KEY": "value"}, "Pods": [{"PodId": "dlc1abc-worker-0"}],
        }],
    },
    "GetInstanceMetrics": {
        "RequestId": "A1", "Success": True, "Code": "", "HttpStatusCode": 200, "Message": "", "InstanceId": "dsw-1",
        "PodMetrics": [{"PodId": "dsw-1-0", "Metrics": [{"Time": 1760000100, "Value": 25.9}]}],
    },
    "ListInstances": {
        "RequestId": "A2", "Success": True, "HttpStatusCode": 200, "TotalCount": 1,
        "Instances": [{
            "InstanceId": "dsw-1", "InstanceName": "notebook", "Status": "Running", "AcceleratorType": "GPU",
            "EnvironmentVariables": {"KEY": "value"}, "WebIDEUrl": "https://example.com/ide", "Priority": 1,
        }],
    },
    "CreateResourceLog": {"RequestId": "4032", "Message": "Log service for resource [eas-r-demo] is creating"},
    "DescribeResourceLog": {
        "RequestId": "4033", "ProjectName": "demo-sls", "LogStore": "access_log", "Status": "ResourceReady",
        "Message": "Resource is ready",
    },
    "DeleteResourceLog": {"RequestId": "4034", "Message": "Log service for resource [eas-r-demo] is deleting"},
    "DescribeServiceEvent": {
        "RequestId": "4035", "PageNum": 1, "TotalCount": 1, "TotalPageNum": 1,
        "Events": [{
            "Type": "Warning", "Reason": "Unhealthy", "Message": '{"Text":"probe failed"}',
            "Time": "2025-10-09 08:00:00",
        }],
    },
    "ListResources": {
        "RequestId": "R4", "PageNumber": 1, "PageSize": 100, "TotalCount": 1,
        "Resources": [{
            "ResourceId": "eas-r-demo", "ResourceName": "serve", "ResourceType": "Dedicated",
            "ClusterId": "cn-shanghai", "Status": "ResourceReady", "Message": "Resource is ready", "CpuCount": 16,
            "GpuCount": 1, "InstanceCount": 4, "CreateTime": "2025-05-19T14:19:42Z", "ExtraData": {},
        }],
    },
    "ListServices": {
        "RequestId": "R5", "PageNumber": 1, "PageSize": 100, "TotalCount": 1,
        "Services": [{
            "ServiceName": "chat", "Region": "cn-shanghai", "Status": "Running", "Cpu": 4, "Memory": 8192,
            "AccessToken": "NmI2ZTdm", "ServiceConfig": "{}", "Labels": [{"LabelKey": "a", "LabelValue": "b"}],
        }],
    },
    "GetXtraceToken": {
        "RequestId": "6A87", "Token": "abc123@demo_abc123@demo",
        "HttpEndpoint": "http://tracing.example.com/adapt_abc@demo@x/api/otlp/traces",
        "HttpInternalEndpoint": "http://tracing-internal.example.com/adapt_abc@demo@x/api/otlp/traces",
        "GrpcEndpoint": "http://tracing.example.com:8090",
        "GrpcInternalEndpoint": "http://tracing-internal.example.com:8090",
    },
}  # fmt: skip

REFUSALS = [
    {"RequestId": "1", "Code": "Throttling.User", "Message": "Request was denied due to user flow control."},
    {"Code": "InvalidInputParams", "Message": "NoPermission"},
    {"Message": "anything"},
    {},
    [],
]

# Mistakes that stand between keys, or that a reader of JSON cannot see in one value.
UNSEEN = {
    "duration_not_in_day": "arithmetic",
    "duration_not_whole": "arithmetic",
    "duration_too_long": "arithmetic",
    "duration_too_short": "arithmetic",
    "flush_interval": "arithmetic",
    "cloud_period": "arithmetic",
    "cloud_interval": "two keys",
    "interval_max": "arithmetic",
    "shard": "arithmetic",
    "size_too_small": "arithmetic",
    "price_too_fine": "arithmetic",
    "price_nan": "JSON has no NaN",
    "journal_in_store": "two keys",
    "cluster_without_url": "two keys",
    "ca_file_plain": "two keys",
    "recheck_order": "order",
    "recheck_series": "two keys",
    "recheck_settle": "two keys",
}

# What the schema leaves to `load`, and could say: a better one may refuse these too.
LENIENT = {
    "cloud_measure", "cloud_measure_twice", "cloud_metric_none", "cloud_metric_twice",
    "endpoint_address", "endpoint_product", "group_three_times", "metric_none", "metric_twice", "path_placeholder",
    "quota_operation", "recheck_twice", "target_twice", "url_credentials", "url_port", "url_query", "url_scheme",
    "workspace_twice",
}  # fmt: skip


def wrongly_typed(sample: Any, schema: Any, definitions: Any) -> Iterator[tuple[str, Any]]:
    """Copies of a sample in which one field, at any depth, holds what its schema does not allow."""
    schema = definitions[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    for name, field in schema.get("properties", {}).items():
        if name not in sample:
            continue
        allowed = str(field.get("type", field.get("anyOf", "")))
        # A field that may be anything cannot be wrong.
        if allowed:
            kinds = {"string": "wrong", "boolean": True, "number": 0.5}
            yield name, {**sample, name: next(value for kind, value in kinds.items() if kind not in allowed)}
        if isinstance(sample[name], dict) and "properties" in field:
            for below, copy in wrongly_typed(sample[name], field, definitions):
                yield f"{name}.{below}", {**sample, name: copy}
        inner = sample[name][:1] if isinstance(sample[name], list) else []
        for item in inner:
            if isinstance(item, dict):
                for below, copy in wrongly_typed(item, field.get("items", {}), definitions):
                    yield f"{name}[].{below}", {**sample, name: [copy]}


# The files


def test_the_files_are_what_the_types_give() -> None:
    """A change of a type changes its schema in the same commit."""
    wanted = {name: text_of(schema) for name, schema in documents().items()}
    found = {path.relative_to(SCHEMAS).as_posix(): path.read_text(encoding="utf-8") for path in SCHEMAS.rglob("*.json")}

    stale = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))

    assert stale == [], f"renew them with: {COMMAND}"


def test_every_operation_has_its_schema() -> None:
    """Each row of the catalogue has one file, named after it, and so has the configuration."""
    assert sorted(documents()) == sorted([CONFIGURATION, *(f"{ANSWERS}/{name}.json" for name in CATALOGUE)])


@pytest.mark.parametrize("name", sorted(documents()))
def test_each_schema_is_valid_and_says_what_it_is(name: str) -> None:
    """Every file is a schema of its dialect with an id that is its place, a title and a description."""
    schema = stored(name)

    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["$id"] == name
    assert schema["title"]
    assert schema["description"]


def test_the_command_writes_checks_and_clears(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What it has written it finds right; a file that is changed, missing or left over is named, and renewed."""
    assert main([str(tmp_path)]) == 0
    assert main(["--check", str(tmp_path)]) == 0
    capsys.readouterr()
    (tmp_path / CONFIGURATION).write_text("{}")
    (tmp_path / ANSWERS / "ListSyslogs.json").unlink()
    (tmp_path / ANSWERS / "ListMoons.json").write_text("{}")

    assert main(["--check", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert all(name in said for name in (CONFIGURATION, "ListSyslogs.json", "ListMoons.json", COMMAND))

    assert main([str(tmp_path)]) == 0
    assert main(["--check", str(tmp_path)]) == 0
    assert not (tmp_path / ANSWERS / "ListMoons.json").exists()


# Answers


def test_every_operation_has_a_sample() -> None:
    """The samples below are one of each, and the program itself takes them as answers."""
    assert SAMPLES.keys() == CATALOGUE.keys()
    for name, sample in SAMPLES.items():
        assert not isinstance(decode_answer(CATALOGUE[name], json.dumps(sample).encode()), ErrorBody)


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_a_documented_answer_fits(name: str) -> None:
    """A sample of the service's documentation fits its schema, and holds no field that the schema does not name."""
    schema = stored(f"{ANSWERS}/{name}.json")

    validator(schema).validate(SAMPLES[name])
    validator(strict(schema)).validate(SAMPLES[name])


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_a_wrong_answer_does_not_fit(name: str) -> None:
    """Each field of the sample with another type is refused, and so is what the service says of a failure."""
    schema = stored(f"{ANSWERS}/{name}.json")
    check = validator(schema)
    wrong = dict(wrongly_typed(SAMPLES[name], schema, schema.get("$defs", {})))

    assert len(wrong) > 1
    assert [path for path, answer in wrong.items() if check.is_valid(answer)] == []
    assert [answer for answer in REFUSALS if check.is_valid(answer)] == []


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_a_field_that_is_new_fits(name: str) -> None:
    """The service adds fields without notice: users' schemas take them, the strict variant does not."""
    schema = stored(f"{ANSWERS}/{name}.json")
    grown = deepcopy(SAMPLES[name])
    grown["NewField"] = {"Any": "thing"}
    for value in SAMPLES[name].values():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            value[0] = {**value[0], "NewField": 1}

    validator(schema).validate(grown)
    assert not validator(strict(schema)).is_valid(grown)


@pytest.mark.parametrize("name", sorted(name for name, row in CATALOGUE.items() if row.secret_fields))
def test_a_masked_answer_fits(name: str) -> None:
    """What `call` prints of an answer with secrets is still an answer."""
    row = CATALOGUE[name]
    schema = stored(f"{ANSWERS}/{name}.json")
    shown = masked(SAMPLES[name], row.secret_fields)

    assert shown != SAMPLES[name]
    validator(schema).validate(shown)


def test_a_code_of_success_is_no_failure() -> None:
    """The words for success that some products put into `Code` are taken in any case."""
    check = validator(answer_schema(CATALOGUE["GetInstanceMetrics"]))

    for code in (None, "", "200", "OK", "ok", "Success"):
        check.validate(SAMPLES["GetInstanceMetrics"] | {"Code": code})
    assert not check.is_valid(SAMPLES["GetInstanceMetrics"] | {"Code": "InternalError"})


# The configuration


def test_the_example_fits() -> None:
    """What `init` writes is what editors take, its commented samples too."""
    sample = re.compile(rf"# (?=({'|'.join(CATALOGUE)}) = )")
    lines = example().splitlines()
    uncommented = [sample.sub("", line) for line in lines]

    assert len([line for line in lines if sample.match(line)]) > len(CATALOGUE)
    for text in (lines, uncommented):
        validator(stored(CONFIGURATION)).validate(tomllib.loads("\n".join(text)))


def test_an_empty_file_fits() -> None:
    """Every key has a default."""
    validator(stored(CONFIGURATION)).validate({})


@pytest.mark.parametrize("path", sorted(CONFIG.glob("*.toml")), ids=lambda path: path.name)
def test_the_schema_agrees_with_the_program(path: Path) -> None:
    """A right file fits; a wrong one does not, unless its mistake is one that a schema cannot see."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError:
        assert path.name.endswith(".bad.toml")
        return
    fits = validator(stored(CONFIGURATION)).is_valid(content)
    name = path.name.partition(".")[0]

    if not path.name.endswith(".bad.toml") or name in UNSEEN:
        assert fits
    elif name not in LENIENT:
        assert not fits
