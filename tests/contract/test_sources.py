"""Every source of the program keeps the contract, with the simulator's answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import deepcopy
from functools import cache
from typing import Any

from collector.model import Window
from collector.settings import Settings
from collector.simulator.account import Account
from collector.simulator.faults import Fired
from collector.simulator.service import Backend
from collector.simulator.world import World
from collector.sources.cloud_metrics import CloudMetricsSource
from collector.sources.diagnostics import DiagnosticsSource
from collector.sources.events import JobEventSource, ServiceEventSource
from collector.sources.inventory import KINDS, InventorySource
from collector.sources.job_metrics import InstanceMetricsSource, JobMetricsSource
from collector.sources.node_metrics import NodeMetricsSource
from collector.sources.registry import SPECS
from collector.sources.resource_logs import ResourceLogSource
from collector.sources.syslogs import SyslogSource
from collector.sources.user_metrics import UserMetricsSource
from tests.contract.source_contract import SnapshotContract, SourceContract, StateContract, WindowContract
from tests.support.simulated_pages import plain

NOW = 1_760_000_000
STEP = 300
HOUR = Window(NOW - 3600, NOW)
ACCOUNT = Account(World(seed=7, node_count=12, group_count=2, lines_per_second=0.1))
RUNNING_JOB = next(job.job_id for job in ACCOUNT.jobs(NOW) if job.started < NOW - 1800 and job.finished > NOW)
SETTINGS = Settings()
WEEK = Window(NOW - 604_800, NOW)
BACKEND = Backend(ACCOUNT, 7, lambda: float(NOW), page_size=25)


class Simulated(SourceContract):
    """Answers of the simulator."""

    def body(self, number: int, parameters: Mapping[str, Any]) -> dict[str, Any]:
        name = self.source.operation.name
        return deepcopy(_answer(name, json.dumps(parameters), number))


@cache
def _answer(operation: str, parameters: str, number: int) -> dict[str, Any]:
    return plain(BACKEND.listings[operation].page(json.loads(parameters), NOW, Fired(), number + 1))


class TestSyslogs(Simulated, WindowContract):
    source = SyslogSource()
    scope_id = ACCOUNT.world.node_ids[0]
    window = HOUR


class TestUserMetrics(Simulated, SnapshotContract):
    source = UserMetricsSource(page_size=10, time_step="5m")
    scope_id = ACCOUNT.group_ids[0]
    tick = NOW


class TestNodeMetrics(Simulated, WindowContract):
    source = NodeMetricsSource(["CpuUsageRate", "GpuUsageRate"], STEP)
    scope_id = ACCOUNT.group_ids[0]
    window = HOUR


class TestJobMetrics(Simulated, WindowContract):
    source = JobMetricsSource(["GpuCoreUsage", "MemoryUsage"], STEP)
    scope_id = RUNNING_JOB
    window = HOUR


class TestInstanceMetrics(Simulated, WindowContract):
    source = InstanceMetricsSource(["CpuCoreUsage"], STEP)
    scope_id = ACCOUNT.instance_ids[0]
    window = HOUR


class TestCloudMetrics(Simulated, WindowContract):
    source = CloudMetricsSource(["Average", "Maximum"])
    scope_id = "acs_pai_quota/GPU_USAGE_RATE/300"
    window = HOUR


class TestCloudNamespaces(Simulated, StateContract):
    source = InventorySource("cloud_namespace")
    scope_id = "account"


class TestCloudMetricLists(Simulated, StateContract):
    source = InventorySource("cloud_metric")
    scope_id = "acs_pai_dlc"


class TestServiceEvents(Simulated, WindowContract):
    source = ServiceEventSource(page_size=10)
    scope_id = ACCOUNT.service_ids[0]
    window = HOUR


class TestJobEvents(Simulated, WindowContract):
    source = JobEventSource()
    scope_id = RUNNING_JOB
    window = WEEK


class TestDiagnostics(Simulated, StateContract):
    source = DiagnosticsSource()
    scope_id = "account"


class TestResourceLogs(Simulated, StateContract):
    source = ResourceLogSource()
    scope_id = ACCOUNT.eas_resource_ids[0]


class TestClusters(Simulated, StateContract):
    source = InventorySource("cluster")
    scope_id = "account"


class TestNodes(Simulated, StateContract):
    source = InventorySource("node")
    scope_id = ACCOUNT.cluster_ids[0]


class TestResourceGroups(Simulated, StateContract):
    source = InventorySource("resource_group")
    scope_id = "account"


class TestJobs(Simulated, StateContract):
    source = InventorySource("job")
    scope_id = "account"


class TestInstances(Simulated, StateContract):
    source = InventorySource("instance")
    scope_id = "account"


class TestEasResources(Simulated, StateContract):
    source = InventorySource("eas_resource")
    scope_id = "account"


class TestServices(Simulated, StateContract):
    source = InventorySource("service")
    scope_id = "account"


def test_every_source_is_held_to_the_contract() -> None:
    """Each of the registry, and each list of the inventory."""
    held = {each.source.operation.name for each in Simulated.__subclasses__()}
    listed = {InventorySource(kind).operation.name for kind in KINDS}
    made = {spec.make(getattr(SETTINGS.sources, spec.name)).operation.name for spec in SPECS}

    assert held == listed | made
