"""PaiStudio 2022-01-12, ROA: resource groups and who uses them."""

from __future__ import annotations

from decimal import Decimal
from types import MappingProxyType
from typing import Any

import msgspec

from collector.catalogue.answers import Answer
from collector.catalogue.operation import MIB, Form, Numbers, Operation, Parameter, Place, Price, Product, Quota, Style
from collector.catalogue.products.points import POINT_IDENTITY


class UserViewMetric(msgspec.Struct, forbid_unknown_fields=True):
    """PaiStudio `UserViewMetric`: usage of one user in a resource group. Rates are numbers in strings."""

    resource_group_id: str = msgspec.field(default="", name="ResourceGroupId")
    user_id: str = msgspec.field(default="", name="UserId")
    job_type: str = msgspec.field(default="", name="JobType")
    total_cpu: int | None = msgspec.field(default=None, name="TotalCPU")
    total_gpu: int | None = msgspec.field(default=None, name="TotalGPU")
    total_memory: int | None = msgspec.field(default=None, name="TotalMemory")
    request_cpu: int | None = msgspec.field(default=None, name="RequestCPU")
    request_gpu: int | None = msgspec.field(default=None, name="RequestGPU")
    request_memory: int | None = msgspec.field(default=None, name="RequestMemory")
    cpu_usage_rate: str | None = msgspec.field(default=None, name="CPUUsageRate")
    gpu_usage_rate: str | None = msgspec.field(default=None, name="GPUUsageRate")
    memory_usage_rate: str | None = msgspec.field(default=None, name="MemoryUsageRate")
    network_input_rate: str | None = msgspec.field(default=None, name="NetworkInputRate")
    network_output_rate: str | None = msgspec.field(default=None, name="NetworkOutputRate")
    disk_read_rate: str | None = msgspec.field(default=None, name="DiskReadRate")
    disk_write_rate: str | None = msgspec.field(default=None, name="DiskWriteRate")
    cpu_node_number: int | None = msgspec.field(default=None, name="CPUNodeNumber")
    gpu_node_number: int | None = msgspec.field(default=None, name="GPUNodeNumber")
    cpu_job_names: list[str] = msgspec.field(default_factory=list, name="CpuJobNames")
    gpu_job_names: list[str] = msgspec.field(default_factory=list, name="GpuJobNames")
    node_names: list[str] = msgspec.field(default_factory=list, name="NodeNames")
    cpu_node_names: list[str] = msgspec.field(default_factory=list, name="CpuNodeNames")
    gpu_node_names: list[str] = msgspec.field(default_factory=list, name="GpuNodeNames")


class GetUserViewMetricsAnswer(Answer, rename="pascal"):
    """PaiStudio `GetUserViewMetrics`: one page of a snapshot. It carries no time and no request id."""

    resource_group_id: str | None = None
    user_metrics: list[UserViewMetric] | None = None
    summary: UserViewMetric | None = None
    total: int | None = None


class NodeMetricPoint(msgspec.Struct, rename="pascal", forbid_unknown_fields=True):
    """`GetNodeMetrics` `Metrics[]`: a number in a string; the unit of its time is not documented."""

    time: int
    value: str


class NodeSeries(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """`GetNodeMetrics` `NodesMetrics[]`: the points of one node and GPU type."""

    node_id: str = msgspec.field(default="", name="NodeID")
    gpu_type: str = msgspec.field(default="", name="GPUType")
    metrics: list[NodeMetricPoint] = msgspec.field(default_factory=list, name="Metrics")


class GetNodeMetricsAnswer(Answer, rename="pascal"):
    """`GetNodeMetrics`: one metric of all nodes of a resource group. It carries no request id."""

    resource_group_id: str | None = msgspec.field(default=None, name="ResourceGroupID")
    metric_type: str | None = None
    nodes_metrics: list[NodeSeries] | None = None


class ResourceGroupRecord(msgspec.Struct, rename="pascal", forbid_unknown_fields=True, omit_defaults=True):
    """`ListResourceGroups` `ResourceGroups[]`."""

    creator_id: str | None = msgspec.field(default=None, name="CreatorID")
    gmt_created_time: str | None = None
    gmt_modified_time: str | None = None
    name: str | None = None
    node_count: int | None = None
    resource_group_id: str | None = msgspec.field(default=None, name="ResourceGroupID")
    resource_type: str | None = None
    status: str | None = None
    user_vpc: dict[str, Any] | None = None
    version: str | None = None
    workspace_id: str | None = msgspec.field(default=None, name="WorkspaceID")


class ListResourceGroupsAnswer(Answer, rename="pascal"):
    """`ListResourceGroups`: one page of resource groups."""

    resource_groups: list[ResourceGroupRecord] | None = None
    total_count: int | None = None


def _roa(
    name: str, path: str, summary: str, parameters: tuple[Parameter, ...], answer: type[Answer], **rest: Any
) -> Operation:
    return Operation(
        name, Product.PAI_STUDIO, "2022-01-12", Style.ROA, "GET", path, summary, parameters, answer, **rest
    )


_GROUP = Parameter("ResourceGroupID", Place.PATH, "The resource group.", required=True)
_TIME_STEP = Parameter(
    "TimeStep", Place.QUERY, "Averaging step, such as 5m; units h, m, s, seconds without one.", form=Form.TIME_STEP
)

GET_USER_VIEW_METRICS = _roa(
    "GetUserViewMetrics",
    "/api/v1/resources/{ResourceGroupID}/usermetrics",
    "Present usage of every user of a resource group.",
    (
        _GROUP,
        Parameter("PageNumber", Place.QUERY, "1-based page.", required=True, form=Form.COUNT),
        Parameter(
            "PageSize", Place.QUERY, "Records a page, at most 1000.", required=True, form=Form.COUNT, least=1, most=1000
        ),
        Parameter("SortBy", Place.QUERY, "Field to sort by."),
        Parameter("Order", Place.QUERY, "asc or desc.", choices=("asc", "desc")),
        Parameter("UserId", Place.QUERY, "Only this user."),
        _TIME_STEP,
        Parameter("WorkspaceId", Place.QUERY, "Only this workspace."),
    ),
    GetUserViewMetricsAnswer,
    records_field="user_metrics",
    records_max=1000,
    paging=Numbers(total="total", as_text=True),
    quota=Quota(100),
    price=Price(Decimal("0.001"), free_calls_per_month=1000),
    answer_bytes_max=32 * MIB,
    scope="ResourceGroupID",
    identity=MappingProxyType(
        {
            "user_metrics": ("time", "region", "resource_group_id", "workspace_id", "user_id", "job_type"),
            "resource_group_metrics": ("time", "region", "resource_group_id", "workspace_id"),
        }
    ),
    one_host=True,
)

GPU_TYPES = ("V100", "A100", "A10", "T4", "P100")

GET_NODE_METRICS = _roa(
    "GetNodeMetrics",
    "/api/v1/resources/{ResourceGroupID}/nodemetrics/{MetricType}",
    "One metric of every node of a resource group, as series.",
    (
        _GROUP,
        Parameter("MetricType", Place.PATH, "The metric, such as CpuUsageRate.", required=True),
        Parameter("GPUType", Place.QUERY, "Only nodes with this GPU.", choices=GPU_TYPES),
        Parameter("StartTime", Place.QUERY, "Start of the range, such as 2025-10-09T08:00:00Z.", form=Form.MOMENT),
        Parameter("EndTime", Place.QUERY, "End of the range, such as 2025-10-09T09:00:00Z.", form=Form.MOMENT),
        _TIME_STEP,
        Parameter("Verbose", Place.QUERY, "More detail.", type=bool),
    ),
    GetNodeMetricsAnswer,
    records_field="nodes_metrics",
    answer_bytes_max=32 * MIB,
    scope="ResourceGroupID",
    identity=POINT_IDENTITY,
)

LIST_RESOURCE_GROUPS = _roa(
    "ListResourceGroups",
    "/api/v1/resources",
    "The account's resource groups.",
    (
        Parameter("PageNumber", Place.QUERY, "1-based page.", type=int, least=1),
        Parameter("PageSize", Place.QUERY, "Resource groups a page.", type=int, least=1, most=1000),
        Parameter("Name", Place.QUERY, "Only the group of this name."),
        Parameter("Status", Place.QUERY, "Only groups of this status."),
        Parameter("SortBy", Place.QUERY, "Field to sort by."),
        Parameter("Order", Place.QUERY, "asc or desc.", choices=("asc", "desc")),
        Parameter("ShowAll", Place.QUERY, "Groups of all kinds.", type=bool),
        Parameter("ResourceType", Place.QUERY, "ECS or Lingjun.", choices=("ECS", "Lingjun")),
        Parameter("ComputingResourceProvider", Place.QUERY, "Only groups of this provider."),
        Parameter("HasResource", Place.QUERY, "Only groups with nodes.", type=bool),
        Parameter("ResourceGroupIDs", Place.QUERY, "Only these groups, with commas between."),
        Parameter("Versions", Place.QUERY, "Only groups of these versions."),
    ),
    ListResourceGroupsAnswer,
    records_field="resource_groups",
    records_max=100,
    paging=Numbers(),
)

ROWS = (GET_USER_VIEW_METRICS, GET_NODE_METRICS, LIST_RESOURCE_GROUPS)
