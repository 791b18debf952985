"""The simulated service, seen by the official SDKs: what they sign it accepts, what it answers they understand."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import aiohttp
import pytest
from alibabacloud_tea_openapi import utils as sdk_utils
from alibabacloud_tea_openapi.exceptions import ClientException, ServerException, ThrottlingException
from darabonba.model import DaraModel
from Tea.model import TeaModel

from collector.catalogue.operation import Nesting, Numbers, Operation, Place, Tokens
from collector.catalogue.operations import CATALOGUE
from collector.clock import SystemClock
from collector.simulator.answers import records_of as simulated_records
from collector.simulator.clock import SimulatorClock
from collector.simulator.credentials import ACCESS_KEY_ID, ACCESS_KEY_SECRET, SIMULATOR_KEY, Credentials
from collector.simulator.faults import Fault, FaultKind
from collector.simulator.paging import civil, iso
from collector.simulator.server import Simulator
from collector.simulator.service import SimulatorOptions
from collector.simulator.world import World
from tests.support.official_sdk import Sdk

TOKEN = "CAIS-simulator"
PAIR = {"access_key_id": ACCESS_KEY_ID, "access_key_secret": ACCESS_KEY_SECRET}
MODES: dict[str, dict[str, str]] = {
    "access key": PAIR,
    "security token": {**PAIR, "security_token": TOKEN},
    "bearer token": {"bearer_token": SIMULATOR_KEY},
}

Question = Mapping[str, Any]


def simulator(second: float, *, security_token: str | None = None, faults: Sequence[Fault] = ()) -> Simulator:
    """A simulator that stands at `second`; the SDKs sign with the machine's date, so it must be near."""
    world = World(seed=7, node_count=12, group_count=3, nodes_per_cluster=4)
    options = SimulatorOptions(
        credentials=Credentials(security_token=security_token),
        page_size=20,
        quotas=dict.fromkeys(CATALOGUE, 100_000),
    )
    return Simulator(world, options, now=SimulatorClock.frozen(second), faults=faults)


@pytest.fixture
def second() -> float:
    """The machine's time, to the second."""
    return SystemClock().wall() // 1


def a_job(running: Simulator) -> str:
    """A job that has run for an hour at least."""
    now = running.now()
    return next(job.job_id for job in running.backend.account.jobs(now) if job.started + 3600 < now < job.finished)


def log_path(running: Simulator) -> Question:
    """The path parameters of a serving resource."""
    resource = next(iter(running.backend.account.resources.values()))
    return {"ClusterId": resource.cluster_id, "ResourceId": resource.resource_id}


def last_hour(running: Simulator) -> Question:
    """A range for metrics and events."""
    return {"StartTime": iso(running.now() - 3600), "EndTime": iso(running.now())}


def a_diagnosis(running: Simulator) -> Question:
    """All parameters of a new diagnosis, the log among them."""
    cluster_id, cluster = next(iter(running.backend.account.clusters.items()))
    node_ids = [node.node_id for node in cluster.nodes[:2]]
    minute = int(running.now()) // 60 * 60
    logs = [{"Datetime": "20251009", "LogContent": "NCCL timeout & more"}]
    return {
        "ClusterId": cluster_id,
        "NodeIds": node_ids,
        "DiagnosticType": "CheckByAiJobLogs",
        "AiJobLogInfo": {
            "StartTime": str(minute - 3600),
            "EndTime": str(minute),
            "AiJobLogs": [{"AiInstance": "i-1", "NodeId": node_ids[0], "Logs": logs}],
        },
    }


QUESTIONS: dict[str, Callable[[Simulator], Question]] = {
    "ListSyslogs": lambda s: {
        "FromTime": str(int(s.now()) - 14_400), "ToTime": str(int(s.now())), "NodeId": s.world.node_ids[0],
        "Query": "e", "Reverse": True,
    },
    "CreateDiagnosticTask": a_diagnosis,
    "DescribeDiagnosticResult": lambda s: {"DiagnosticId": s.backend.diagnostics.tasks(s.now())[0].task_id},
    "ListDiagnosticResults": lambda s: {"MaxResults": 100},
    "ListClusters": lambda s: {"MaxResults": 100},
    "ListClusterNodes": lambda s: {
        "ClusterId": s.backend.account.cluster_ids[0], "MaxResults": 100,
        "OperatingStates": ["Using", "Operating", "ClusterNodeStopped"],
    },
    "GetUserViewMetrics": lambda s: {
        "ResourceGroupID": s.world.group_ids[0], "PageNumber": "1", "PageSize": "1000", "SortBy": "GmtModified",
        "Order": "DESC", "TimeStep": "5m",
    },
    "GetNodeMetrics": lambda s: {
        "ResourceGroupID": s.world.group_ids[0], "MetricType": "CpuUsageRate", "Verbose": False, **last_hour(s),
    },
    "ListResourceGroups": lambda s: {"PageNumber": 1, "PageSize": 100, "ShowAll": True},
    "GetJobMetrics": lambda s: {"JobId": a_job(s), "MetricType": "GpuCoreUsage", **last_hour(s)},
    "GetJobEvents": lambda s: {"JobId": a_job(s), "MaxEventsNum": 10_000},
    "ListJobs": lambda s: {"PageNumber": 1, "PageSize": 100, "Order": "desc", "FromAllWorkspaces": True},
    "GetInstanceMetrics": lambda s: {
        "InstanceId": s.backend.account.instance_ids[0], "MetricType": "CpuCoreUsage", **last_hour(s),
    },
    "ListInstances": lambda s: {"PageNumber": 1, "PageSize": 100, "Order": "ASC"},
    "CreateResourceLog": lambda s: {**log_path(s), "ProjectName": "demo-sls", "LogStore": "access_log"},
    "DescribeResourceLog": log_path,
    "DeleteResourceLog": log_path,
    "DescribeServiceEvent": lambda s: {
        "ClusterId": "cn-hangzhou", "ServiceName": next(iter(s.backend.account.services.values())).name,
        "PageNum": "1", "PageSize": "100", "StartTime": civil(s.now() - 6 * 86_400), "EndTime": civil(s.now()),
    },
    "ListResources": lambda s: {"PageNumber": 1, "PageSize": 100, "Order": "Desc"},
    "ListServices": lambda s: {"PageNumber": 1, "PageSize": 100, "Order": "asc"},
    "GetXtraceToken": lambda s: {},
    "DlcGetMetrics": lambda s: {
        "JobId": a_job(s), "Namespace": "acs_pai_dlc", "MetricName": "GPU_CORE_USAGE", "Period": "300", **last_hour(s),
    },
    "DswGetMetrics": lambda s: {
        "InstanceId": s.backend.account.instance_ids[0], "MetricName": "CPU_CORE_USAGE", "Length": "1000",
        **last_hour(s),
    },
    "DescribeMetricList": lambda s: {
        "Namespace": "acs_pai_quota", "MetricName": "GPU_USAGE_RATE", "Period": "900", "Length": "1440",
        "StartTime": str(int(s.now() - 3600) * 1000), "EndTime": str(int(s.now()) * 1000),
    },
    "DescribeMetricMetaList": lambda s: {"Namespace": "acs_pai_dlc", "PageNumber": 1, "PageSize": 100},
    "DescribeProjectMeta": lambda s: {"PageNumber": 1, "PageSize": 100},
}  # fmt: skip


def prepared(running: Simulator, name: str) -> Question:
    """The question of an operation, with the state that it needs."""
    if name == "DeleteResourceLog":
        running.backend.resource_logs.create("/".join(log_path(running).values()), "demo-sls", "access_log", 0)
    return QUESTIONS[name](running)


async def plain(running: Simulator, row: Operation, question: Question) -> Any:
    """The same question on the bearer gateway, by a client that knows nothing; the answer's JSON."""
    given = {**question, **question.get("AiJobLogInfo", {})}
    given.pop("AiJobLogInfo", None)
    options: dict[str, Any] = {}
    if row.method == "POST":
        inner = {p.name: given.pop(p.name) for p in row.parameters if p.place is Place.JSON}
        options["json"] = {**given, **({"body": inner} if inner else {})}
    else:
        options["params"] = {
            name: str(value).lower() if value in (True, False) else value for name, value in given.items()
        }
    headers = {"Authorization": f"Bearer {SIMULATOR_KEY}"}
    url = f"{running.base_url}/api/{row.product}/{row.version}/{row.action}"
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.request(row.method, url, **options) as response,
    ):
        assert response.status == 200, await response.text()
        return json.loads(await response.read())


def without_nothing(value: Any) -> Any:
    """A JSON value without what is null or empty: the SDKs leave out the one and make up the other."""
    if isinstance(value, dict):
        inner = {name: without_nothing(held) for name, held in value.items()}
        return {name: held for name, held in inner.items() if held not in (None, [], {})}
    return [without_nothing(held) for held in value] if isinstance(value, list) else value


def records_of(row: Operation, body: Any) -> list[Any]:
    """The records of an answer that the SDK has read."""
    found: Any = getattr(body, str(row.records_field))
    if row.nesting is Nesting.TEXT:
        return list(json.loads(found))
    return list(found.resource if row.nesting is Nesting.RESOURCE else found)


def test_every_operation_is_asked() -> None:
    """An operation that comes into the catalogue has to come here, too."""
    assert QUESTIONS.keys() == CATALOGUE.keys()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", CATALOGUE)
async def test_the_sdk_understands_every_answer(second: float, name: str, mode: str) -> None:
    """The answer is the one that a bearer call gets, and not one field of it is unknown to the SDK."""
    row = CATALOGUE[name]
    token = TOKEN if mode == "security token" else None
    async with simulator(second, security_token=token) as running, simulator(second) as other:
        body = await Sdk(running.base_url, **MODES[mode]).call(name, **prepared(running, name))
        expected = await plain(other, row, prepared(other, name))

        told = json.loads(json.dumps(body.to_map()).replace(running.base_url, other.base_url))
        assert without_nothing(told) == without_nothing(expected)
        assert dict(running.stats[name].by_gateway) == {"openapi": 1}
        assert dict(running.stats[name].by_status) == {200: 1}
    if row.records_field:
        assert records_of(row, body)
        kinds: tuple[type, ...] = (str,) if name == "GetJobEvents" else (DaraModel, TeaModel)
        kinds = (dict,) if row.nesting is Nesting.TEXT else kinds
        assert all(isinstance(record, kinds) for record in records_of(row, body))


SIZES = {"ListDiagnosticResults": 20, "DescribeServiceEvent": 100}
PAGED = [name for name, row in CATALOGUE.items() if row.paging is not None]


@pytest.mark.parametrize("name", PAGED)
async def test_the_pages_of_a_listing_are_the_whole(second: float, name: str) -> None:
    """Small pages, asked for one after another, hold what one large page holds: every record once, in order."""
    row = CATALOGUE[name]
    paging = row.paging
    async with simulator(second) as running, simulator(second) as other:
        sdk = Sdk(running.base_url, **PAIR)
        question = dict(prepared(running, name))
        pages: list[list[Any]] = []
        if isinstance(paging, Tokens):
            if paging.size:
                question[paging.size] = SIZES.get(name, 1 if row.nesting is Nesting.PLAIN else 3)
            while True:
                body = await sdk.call(name, **question)
                pages.append(records_of(row, body))
                if not body.next_token:
                    break
                question["NextToken"] = body.next_token
        else:
            assert isinstance(paging, Numbers)
            kind = str if paging.as_text else int
            question[paging.size] = kind(SIZES.get(name, 1))
            total = 1
            while sum(map(len, pages)) < total:
                question[paging.number] = kind(len(pages) + 1)
                body = await sdk.call(name, **question)
                pages.append(records_of(row, body))
                total = int(getattr(body, paging.total))
        assert len(pages) > 1
        read = [r if isinstance(r, dict) else r.to_map() for page in pages for r in page]

        if name == "ListSyslogs":
            node_id, first, last = question["NodeId"], int(question["FromTime"]), int(question["ToTime"])
            window = running.world.window(node_id, first, last, int(second))
            assert read == [record.wire for record in reversed(window) if "e" in record.wire["Msg"]]
        elif name == "DescribeServiceEvent":
            service_id = f"{question['ClusterId']}/{question['ServiceName']}"
            events = running.backend.events.service_events(service_id, second - 6 * 86_400, second + 1)
            assert len(read) == sum(event.visible_at <= second for event in events)
        else:
            whole = await plain(other, row, prepared(other, name))
            assert without_nothing(read) == without_nothing(simulated_records(row, whole))


async def test_the_answer_of_the_asynchronous_client(second: float) -> None:
    """The SDK's other transport adds headers that it has not signed; its calls are let in all the same."""
    async with simulator(second) as running:
        sdk = Sdk(running.base_url, **PAIR)

        for name in ("GetUserViewMetrics", "ListSyslogs", "CreateResourceLog"):
            assert (await sdk.call_async(name, **prepared(running, name))).to_map()
            assert dict(running.stats[name].by_status) == {200: 1}


async def test_awkward_text_survives_path_query_and_form(second: float) -> None:
    """Spaces, slashes, percent signs, stars and umlauts are signed and read alike wherever they travel."""
    awkward = "a b/ü~*%2F+&=?c"
    async with simulator(second) as running:
        sdk = Sdk(running.base_url, **PAIR)
        users = await sdk.call("GetUserViewMetrics", **{**QUESTIONS["GetUserViewMetrics"](running), "UserId": awkward})
        lines = await sdk.call("ListSyslogs", **{**QUESTIONS["ListSyslogs"](running), "Query": awkward})
        with pytest.raises(ClientException) as refused:
            await sdk.call("GetNodeMetrics", ResourceGroupID="gruppe ü", MetricType="CpuUsageRate")

    assert (users.user_metrics, users.total) == ([], 0)
    assert lines.logs == []
    assert (refused.value.status_code, refused.value.code) == (404, "InvalidResourceGroupID.NotFound")
    assert "gruppe ü" in refused.value.message


async def test_tags_travel_beside_the_form(second: float) -> None:
    """A list of objects is numbered in the query while the rest of the call is a form."""
    async with simulator(second) as running:
        sdk = Sdk(running.base_url, **PAIR)
        everything = await sdk.call("ListClusters", MaxResults=100)
        tag = everything.clusters[0].tags[0].to_map()

        tagged = await sdk.call("ListClusters", MaxResults=100, Tags=[tag])
        other = await sdk.call("ListClusters", MaxResults=100, Tags=[{"Key": "no", "Value": "such tag"}])

    assert tagged.clusters
    assert all(tag in [one.to_map() for one in cluster.tags] for cluster in tagged.clusters)
    assert other.clusters == []


async def refusal(sdk: Sdk, running: Simulator) -> tuple[int, str]:
    """Status and code of a call's refusal."""
    with pytest.raises(ClientException) as refused:
        await sdk.call("GetUserViewMetrics", **QUESTIONS["GetUserViewMetrics"](running))
    return refused.value.status_code, refused.value.code


@pytest.mark.parametrize(
    ("wrong", "status", "code"),
    [
        ({**PAIR, "access_key_secret": "wrong"}, 400, "SignatureDoesNotMatch"),
        ({**PAIR, "access_key_id": "LTAI-wrong"}, 404, "InvalidAccessKeyId.NotFound"),
        ({**PAIR, "security_token": "CAIS-wrong"}, 400, "MalformedSecurityToken"),
        ({"bearer_token": "sk-wrong"}, 401, "InvalidApiKey"),
    ],
)
async def test_who_cannot_prove_it_is_refused(second: float, wrong: dict[str, str], status: int, code: str) -> None:
    """A wrong secret, id, security token or bearer token: the SDK raises with the service's own code."""
    async with simulator(second) as running:
        assert await refusal(Sdk(running.base_url, **wrong), running) == (status, code)
        assert dict(running.stats["GetUserViewMetrics"].by_status) == {status: 1}


async def test_a_replayed_call_is_refused(second: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two calls with one nonce: the first is answered, the second is not."""
    monkeypatch.setattr(sdk_utils.Utils, "get_nonce", staticmethod(lambda: "0123456789abcdef"))
    async with simulator(second) as running:
        sdk = Sdk(running.base_url, **PAIR)
        await sdk.call("GetUserViewMetrics", **QUESTIONS["GetUserViewMetrics"](running))

        assert await refusal(sdk, running) == (400, "SignatureNonceUsed")


@pytest.mark.parametrize("off", [-1000, 1000])
async def test_a_stale_call_is_refused(second: float, off: int) -> None:
    """A machine whose clock is more than a quarter of an hour off cannot sign."""
    async with simulator(second + off) as running:
        assert await refusal(Sdk(running.base_url, **PAIR), running) == (400, "InvalidTimeStamp.Expired")


async def test_credentials_expire_and_are_rotated(second: float) -> None:
    """An expired security token is refused, and taken no longer once another pair is in force, which is."""
    new = {"access_key_id": "STS.new", "access_key_secret": "new-secret", "security_token": "CAIS-new"}
    async with simulator(second, security_token=TOKEN) as running:
        old = Sdk(running.base_url, **PAIR, security_token=TOKEN)
        await old.call("GetXtraceToken")
        running.credentials = running.credentials.changed({"expires_at": second})
        assert await refusal(old, running) == (400, "InvalidSecurityToken.Expired")

        running.credentials = running.credentials.changed({**new, "expires_at": second + 900})

        assert await refusal(old, running) == (404, "InvalidAccessKeyId.NotFound")
        await Sdk(running.base_url, **new).call("GetXtraceToken")


@pytest.mark.parametrize(
    ("kind", "error", "status", "code"),
    [
        (FaultKind.THROTTLE_429, ClientException, 429, "Throttling.User"),
        (FaultKind.THROTTLE_400, ThrottlingException, 400, "Throttling.User"),
        (FaultKind.FORBIDDEN, ClientException, 403, "NoPermission"),
        (FaultKind.ERROR_500, ServerException, 500, "InternalError"),
        (FaultKind.ERROR_503, ServerException, 503, "ServiceUnavailable"),
    ],
)
async def test_errors_are_those_that_the_sdk_knows(
    second: float, kind: FaultKind, error: type[Exception], status: int, code: str
) -> None:
    """Each refusal becomes the SDK's own exception for it, and the wait of a throttled call is in milliseconds."""
    async with simulator(second, faults=[Fault(kind=kind, retry_after_seconds=2)]) as running:
        with pytest.raises(error) as raised:
            await Sdk(running.base_url, **PAIR).call("ListJobs", PageNumber=1)

    assert type(raised.value) is error
    assert (raised.value.status_code, raised.value.code) == (status, code)  # type: ignore[attr-defined]
    assert getattr(raised.value, "retry_after", None) in (2000, None)
