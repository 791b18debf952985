"""Everything that answers stand on, and which listing answers which operation."""

from __future__ import annotations

from collections.abc import Callable

from collector.simulator.account import Account
from collector.simulator.cloud_monitor import (
    CloudMonitor,
    MetricListListing,
    MetricMetaListing,
    NamespaceListing,
    ProductMetricsListing,
)
from collector.simulator.diagnostics import CreateTaskListing, DescribeTaskListing, DiagnosticDesk, TaskListing
from collector.simulator.events import EventLog, JobEventListing, ServiceEventListing
from collector.simulator.inventory import (
    ClusterListing,
    ClusterNodeListing,
    InstanceListing,
    JobListing,
    ResourceGroupListing,
    ResourceListing,
    ServiceListing,
)
from collector.simulator.listing import Listing
from collector.simulator.resource_logs import CreateLogListing, DeleteLogListing, DescribeLogListing, ResourceLogDesk
from collector.simulator.series import InstanceMetricsListing, JobMetricsListing, Measurements, NodeMetricsListing
from collector.simulator.syslogs import Bounds, SyslogListing
from collector.simulator.tokens import TokenMint
from collector.simulator.traces import TraceDesk
from collector.simulator.user_metrics import UserMetricsListing


class Backend:
    """One account as its services know it. Tests read the truth here, and change it.

    `bounds` says of every operation with a range whether its end belongs to it, `page_size` is that
    of `ListSyslogs`, `token_seconds_max` how long a cursor lives.
    """

    def __init__(
        self,
        account: Account,
        seed: int,
        now: Callable[[], float],
        *,
        bounds: Bounds = "closed",
        page_size: int = 100,
        token_seconds_max: float | None = None,
    ) -> None:
        mint = TokenMint(seed, token_seconds_max)
        self.account = account
        self.measurements = Measurements(account)
        self.cloud = CloudMonitor(self.measurements)
        self.events = EventLog(account)
        self.diagnostics = DiagnosticDesk(account, mint)
        self.resource_logs = ResourceLogDesk(account)
        self.traces = TraceDesk(seed, now)
        self.listings: dict[str, Listing] = {
            "ListSyslogs": SyslogListing(account.world, mint, seed, bounds, page_size),
            "CreateDiagnosticTask": CreateTaskListing(self.diagnostics),
            "DescribeDiagnosticResult": DescribeTaskListing(self.diagnostics),
            "ListDiagnosticResults": TaskListing(self.diagnostics),
            "ListClusters": ClusterListing(account, mint),
            "ListClusterNodes": ClusterNodeListing(account, mint),
            "GetUserViewMetrics": UserMetricsListing(account.world, seed),
            "GetNodeMetrics": NodeMetricsListing(self.measurements, bounds),
            "ListResourceGroups": ResourceGroupListing(account),
            "GetJobMetrics": JobMetricsListing(self.measurements, bounds),
            "GetJobEvents": JobEventListing(self.events),
            "ListJobs": JobListing(account),
            "GetInstanceMetrics": InstanceMetricsListing(self.measurements, bounds),
            "ListInstances": InstanceListing(account),
            "CreateResourceLog": CreateLogListing(self.resource_logs),
            "DescribeResourceLog": DescribeLogListing(self.resource_logs),
            "DeleteResourceLog": DeleteLogListing(self.resource_logs),
            "DescribeServiceEvent": ServiceEventListing(self.events),
            "ListResources": ResourceListing(account),
            "ListServices": ServiceListing(account),
            "GetXtraceToken": self.traces,
            "DlcGetMetrics": ProductMetricsListing(self.cloud, mint, "DataPoints", "acs_pai_dlc", "JobId", "jobId"),
            "DswGetMetrics": ProductMetricsListing(
                self.cloud, mint, "Datapoints", "acs_pai_dsw", "InstanceId", "instanceId"
            ),
            "DescribeMetricList": MetricListListing(self.cloud, mint, "Datapoints"),
            "DescribeMetricMetaList": MetricMetaListing(self.cloud),
            "DescribeProjectMeta": NamespaceListing(self.cloud),
        }
        """By the operation's name in the catalogue."""
