"""pai-dsw 2022-01-01, ROA: notebooks and their metrics."""

from __future__ import annotations

from typing import Any

import msgspec

from collector.catalogue.answers import Answer
from collector.catalogue.operation import (
    MIB,
    Form,
    Nesting,
    Numbers,
    Operation,
    Parameter,
    Place,
    Product,
    Style,
    Tokens,
)
from collector.catalogue.products.pai_dlc import METRIC_TYPES, PodSeries
from collector.catalogue.products.points import POINT_IDENTITY


class Envelope(Answer, rename="pascal"):
    """What every answer of this product carries; `http_status_code` and `success` repeat the status."""

    http_status_code: int | None = None
    success: bool | None = None


class GetInstanceMetricsAnswer(Envelope, rename="pascal"):
    """`GetInstanceMetrics`: one metric of a notebook."""

    instance_id: str | None = None
    pod_metrics: list[PodSeries] | None = None


class DswGetMetricsAnswer(Answer, rename="pascal"):
    """`GetMetrics` of pai-dsw: points of CloudMonitor's metrics of a notebook. `Datapoints` is a list as JSON text."""

    datapoints: list[dict[str, Any]] | None = None
    next_token: str | None = None
    period: str | None = None
    success: bool | None = None


class InstanceRecord(msgspec.Struct, rename="pascal", forbid_unknown_fields=True, omit_defaults=True):
    """`ListInstances` `Instances[]`."""

    accelerator_type: str | None = None
    accessibility: str | None = None
    accumulated_running_time_in_ms: int | None = None
    affinity: dict[str, Any] | None = None
    cloud_disks: list[dict[str, Any]] | None = None
    credential_config: dict[str, Any] | None = None
    datasets: list[dict[str, Any]] | None = None
    driver: str | None = None
    dynamic_mount: dict[str, Any] | None = None
    ecs_spec: str | None = None
    environment_variables: dict[str, Any] | None = None
    gmt_create_time: str | None = None
    gmt_modified_time: str | None = None
    idle_instance_culler: dict[str, Any] | None = None
    image_auth: str | None = None
    image_id: str | None = None
    image_name: str | None = None
    image_url: str | None = None
    instance_id: str | None = None
    instance_name: str | None = None
    instance_shutdown_timer: dict[str, Any] | None = None
    instance_snapshot_list: list[dict[str, Any]] | None = None
    instance_url: str | None = None
    jupyterlab_url: str | None = None
    labels: list[dict[str, Any]] | None = None
    latest_snapshot: dict[str, Any] | None = None
    oversold_info: str | None = None
    oversold_type: str | None = None
    payment_type: str | None = None
    priority: int | None = None
    reason_code: str | None = None
    reason_message: str | None = None
    requested_resource: dict[str, Any] | None = None
    resource_id: str | None = None
    resource_name: str | None = None
    service_config: dict[str, Any] | None = None
    status: str | None = None
    tags: list[dict[str, Any]] | None = None
    terminal_url: str | None = None
    user_id: str | None = None
    user_name: str | None = None
    user_vpc: dict[str, Any] | None = None
    web_ide_url: str | None = msgspec.field(default=None, name="WebIDEUrl")
    workspace_id: str | None = None
    workspace_name: str | None = None
    workspace_source: str | None = None


class ListInstancesAnswer(Envelope, rename="pascal"):
    """`ListInstances`: one page of notebooks."""

    instances: list[InstanceRecord] | None = None
    total_count: int | None = None
    migration_options: dict[str, Any] | None = None


def _roa(
    name: str, path: str, summary: str, parameters: tuple[Parameter, ...], answer: type[Answer], **rest: Any
) -> Operation:
    return Operation(name, Product.PAI_DSW, "2022-01-01", Style.ROA, "GET", path, summary, parameters, answer, **rest)


GET_INSTANCE_METRICS = _roa(
    "GetInstanceMetrics",
    "/api/v2/instance/{InstanceId}/metrics",
    "One metric of a notebook, as series.",
    (
        Parameter("InstanceId", Place.PATH, "The notebook, dsw-...", required=True),
        Parameter("MetricType", Place.QUERY, "The metric.", required=True, choices=METRIC_TYPES),
        Parameter("StartTime", Place.QUERY, "Start of the range, such as 2025-10-09T08:00:00Z.", form=Form.MOMENT),
        Parameter("EndTime", Place.QUERY, "End of the range, such as 2025-10-09T09:00:00Z.", form=Form.MOMENT),
        Parameter("TimeStep", Place.QUERY, "Averaging step, such as 15m.", form=Form.TIME_STEP),
    ),
    GetInstanceMetricsAnswer,
    records_field="pod_metrics",
    answer_bytes_max=32 * MIB,
    scope="InstanceId",
    identity=POINT_IDENTITY,
)

LIST_INSTANCES = _roa(
    "ListInstances",
    "/api/v2/instances",
    "Notebooks.",
    (
        Parameter("PageNumber", Place.QUERY, "1-based page.", type=int, least=1),
        Parameter("PageSize", Place.QUERY, "Notebooks a page.", type=int, least=1, most=100),
        Parameter("InstanceId", Place.QUERY, "Only this notebook."),
        Parameter("InstanceName", Place.QUERY, "Only notebooks of this name."),
        Parameter("Status", Place.QUERY, "Only notebooks of this status, such as Running."),
        Parameter("AcceleratorType", Place.QUERY, "Only notebooks with this processor.", choices=("CPU", "GPU")),
        Parameter("WorkspaceId", Place.QUERY, "Only notebooks of this workspace."),
        Parameter("ResourceId", Place.QUERY, "Only notebooks on this resource."),
        Parameter("SortBy", Place.QUERY, "Field to sort by."),
        Parameter("Order", Place.QUERY, "ASC or DESC.", choices=("ASC", "DESC")),
    ),
    ListInstancesAnswer,
    records_field="instances",
    records_max=100,
    paging=Numbers(),
    answer_bytes_max=32 * MIB,
    secret_fields=frozenset(
        {"CredentialConfig", "EnvironmentVariables", "ImageAuth", "InstanceUrl", "JupyterlabUrl", "TerminalUrl",
         "WebIDEUrl"}
    ),
)  # fmt: skip

DSW_GET_METRICS = _roa(
    "DswGetMetrics",
    "/api/v2/instance/{InstanceId}/cms/metrics",
    "Points of one of CloudMonitor's metrics of a notebook, as pai-dsw passes them on.",
    (
        Parameter("InstanceId", Place.PATH, "The notebook, dsw-...", required=True),
        Parameter("Namespace", Place.QUERY, "Namespace of the metric, such as acs_pai_dsw."),
        Parameter("MetricName", Place.QUERY, "The metric."),
        Parameter("Dimensions", Place.QUERY, 'Only these series: JSON such as [{"pod":"dsw-1abc-0"}].'),
        Parameter("StartTime", Place.QUERY, "Start of the range, such as 2025-10-09T08:00:00Z.", form=Form.MOMENT),
        Parameter("EndTime", Place.QUERY, "End of the range, such as 2025-10-09T09:00:00Z.", form=Form.MOMENT),
        Parameter("Period", Place.QUERY, "Seconds that a point covers, such as 60.", form=Form.COUNT),
        Parameter("Length", Place.QUERY, "Points a page, at most 1440.", form=Form.COUNT, least=1, most=1440),
        Parameter("NextToken", Place.QUERY, "Cursor of the next page."),
    ),
    DswGetMetricsAnswer,
    records_field="datapoints",
    records_max=1440,
    nesting=Nesting.TEXT,
    paging=Tokens("Length"),
    scope="InstanceId",
    wire_name="GetMetrics",
)

ROWS = (GET_INSTANCE_METRICS, LIST_INSTANCES, DSW_GET_METRICS)
