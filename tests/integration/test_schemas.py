"""The simulator's answers against the schemas: what users check real answers with holds for simulated ones too."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp
import pytest

from collector.catalogue.operation import Place
from collector.catalogue.operations import CATALOGUE
from collector.simulator.answers import records_of
from collector.simulator.server import SIMULATOR_KEY, Simulator
from collector.simulator.world import World
from tests.support import NOW, simulator
from tests.support.schema_files import stored, strict, validator

SECONDS = {"FromTime": str(NOW - 300), "ToTime": str(NOW - 60)}
MOMENTS = {"StartTime": "2025-10-09T08:00:00Z", "EndTime": "2025-10-09T08:50:00Z"}
CIVIL = {"StartTime": "2025-10-08 00:00:00", "EndTime": "2025-10-09 08:50:00"}

SCOPES_MAX = 5
"""So many nodes, jobs and so on are asked about, for answers of more than one kind."""


class Asker:
    """A plain client of one wire form that holds every answer against its schema."""

    def __init__(self, running: Simulator, session: aiohttp.ClientSession, form: str) -> None:
        self._base_url = running.base_url
        self._session = session
        self._spell = {"bearer": as_bearer, "product": as_product}[form]
        self.records: dict[str, int] = {}
        """Records seen, by operation; 1 for an answer that is the record."""

    async def ask(self, name: str, **parameters: Any) -> Any:
        """The answer. Fails where it is none, or not as its schema says."""
        row = CATALOGUE[name]
        path, options = self._spell(name, parameters)
        async with self._session.request(row.method, self._base_url + path, **options) as response:
            answer = await response.json()
            assert response.status == 200, answer
        validator(strict(stored(f"answers/{name}.json"))).validate(answer)
        records = records_of(row, answer) if row.records_field else [answer]
        self.records[name] = self.records.get(name, 0) + len(records)
        return answer


def as_bearer(name: str, parameters: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Path and options of a request of the bearer gateway."""
    row = CATALOGUE[name]
    path = f"/api/{row.product}/{row.version}/{row.action}"
    headers = {"Authorization": f"Bearer {SIMULATOR_KEY}"}
    if row.method != "POST":
        return path, {"params": parameters, "headers": headers}
    within = {p.name for p in row.parameters if p.place is Place.JSON}
    body = {key: value for key, value in parameters.items() if key not in within}
    if within:
        body["body"] = {key: value for key, value in parameters.items() if key in within}
    return path, {"json": body, "headers": headers}


def as_product(name: str, parameters: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Path and options of a request of a product endpoint, with the bearer token of the official SDKs."""
    row = CATALOGUE[name]
    headers = {
        "x-acs-action": row.action,
        "x-acs-version": row.version,
        "x-acs-bearer-token": SIMULATOR_KEY,
        "x-acs-signature-type": "BEARERTOKEN",
    }
    places: dict[Place, dict[str, Any]] = {place: {} for place in Place}
    for key, value in parameters.items():
        known = row.parameter(key)
        assert known is not None
        places[known.place][key] = ",".join(value) if isinstance(value, list) else value
    options: dict[str, Any] = {"headers": headers, "params": places[Place.QUERY]}
    if places[Place.FORM]:
        options["data"] = places[Place.FORM]
    if places[Place.JSON]:
        options["json"] = places[Place.JSON]
    return row.path.format_map(places[Place.PATH]), options


@pytest.fixture(params=["bearer", "product"])
async def asker(request: pytest.FixtureRequest) -> AsyncIterator[Asker]:
    async with simulator(World(seed=7)) as running, aiohttp.ClientSession() as session:
        yield Asker(running, session, request.param)


async def test_every_simulated_answer_fits_its_schema(asker: Asker) -> None:
    """Each operation, in both wire forms, answers with fields that its schema names, and with no other."""

    async def ids(name: str, *fields: str, **parameters: Any) -> list[list[str]]:
        answer = await asker.ask(name, **parameters)
        records = records_of(CATALOGUE[name], answer)
        return [[record[field] for field in fields] for record in records[:SCOPES_MAX]]

    for (cluster,) in await ids("ListClusters", "ClusterId"):
        nodes = [node for (node,) in await ids("ListClusterNodes", "NodeId", ClusterId=cluster)]
        for node in nodes:
            await asker.ask("ListSyslogs", NodeId=node, **SECONDS)
        task = await asker.ask("CreateDiagnosticTask", ClusterId=cluster, NodeIds=nodes, DiagnosticType="NetDiag")
        await asker.ask("DescribeDiagnosticResult", DiagnosticId=task["DiagnosticId"])
    for (diagnosis,) in await ids("ListDiagnosticResults", "DiagId"):
        await asker.ask("DescribeDiagnosticResult", DiagnosticId=diagnosis)
    for (group,) in await ids("ListResourceGroups", "ResourceGroupID"):
        await asker.ask("GetUserViewMetrics", ResourceGroupID=group, PageNumber="1", PageSize="100")
        await asker.ask("GetNodeMetrics", ResourceGroupID=group, MetricType="CpuUsageRate", **MOMENTS)
    for (job,) in await ids("ListJobs", "JobId"):
        await asker.ask("GetJobMetrics", JobId=job, MetricType="GpuCoreUsage", **MOMENTS)
        await asker.ask("GetJobEvents", JobId=job)
    for (notebook,) in await ids("ListInstances", "InstanceId"):
        await asker.ask("GetInstanceMetrics", InstanceId=notebook, MetricType="CpuCoreUsage", **MOMENTS)
    for cluster, service in await ids("ListServices", "Region", "ServiceName"):
        await asker.ask("DescribeServiceEvent", ClusterId=cluster, ServiceName=service, **CIVIL)
    for cluster, resource in await ids("ListResources", "ClusterId", "ResourceId"):
        here = {"ClusterId": cluster, "ResourceId": resource}
        await asker.ask("DescribeResourceLog", **here)
        await asker.ask("CreateResourceLog", **here, ProjectName="demo-sls", LogStore="access_log")
        await asker.ask("DescribeResourceLog", **here)
        await asker.ask("DeleteResourceLog", **here)
        await asker.ask("DescribeResourceLog", **here)
    await asker.ask("GetXtraceToken")
    for (namespace,) in await ids("DescribeProjectMeta", "Namespace"):
        for (metric,) in await ids("DescribeMetricMetaList", "MetricName", Namespace=namespace):
            await asker.ask("DescribeMetricList", Namespace=namespace, MetricName=metric, **CIVIL)
    await asker.ask("DlcGetMetrics", MetricName="GPU_CORE_USAGE", **MOMENTS)
    await asker.ask("DswGetMetrics", InstanceId=notebook, MetricName="CPU_CORE_USAGE", **MOMENTS)

    assert sorted(name for name, count in asker.records.items() if count) == sorted(CATALOGUE)


async def test_an_answer_of_another_shape_is_seen(asker: Asker) -> None:
    """The strict variant notices a field that no schema names, wherever it stands."""
    answer = await asker.ask("GetUserViewMetrics", ResourceGroupID="rgsim0001", PageNumber="1", PageSize="10")
    schema = stored("answers/GetUserViewMetrics.json")
    answer["Summary"]["TotalTPU"] = 1

    validator(schema).validate(answer)
    assert not validator(strict(schema)).is_valid(answer)
