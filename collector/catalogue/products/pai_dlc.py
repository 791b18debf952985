"""pai-dlc 2020-12-03, ROA: training jobs, their metrics and events."""

from __future__ import annotations

from types import MappingProxyType
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
from collector.catalogue.products.points import POINT_IDENTITY

METRIC_TYPES = (
    "GpuCoreUsage", "GpuMemoryUsage", "CpuCoreUsage", "MemoryUsage",
    "NetworkInputRate", "NetworkOutputRate", "DiskReadRate", "DiskWriteRate",
)  # fmt: skip
"""Metrics of jobs and of notebooks."""


class PodMetricPoint(msgspec.Struct, rename="pascal", forbid_unknown_fields=True):
    """`Metrics[]` of a pod. The time is in milliseconds for jobs, in seconds for notebooks."""

    time: int
    value: float


class PodSeries(msgspec.Struct, rename="pascal", forbid_unknown_fields=True, omit_defaults=True):
    """`PodMetrics[]`: the points of one pod."""

    pod_id: str = ""
    metrics: list[PodMetricPoint] = msgspec.field(default_factory=list)


class GetJobMetricsAnswer(Answer, rename="pascal"):
    """`GetJobMetrics`: one metric of all pods of a job."""

    job_id: str | None = None
    pod_metrics: list[PodSeries] | None = None


class DlcGetMetricsAnswer(Answer, rename="pascal"):
    """`GetMetrics` of pai-dlc: points of CloudMonitor's metrics of jobs. `DataPoints` is a list as JSON text."""

    data_points: list[dict[str, Any]] | None = None
    next_token: str | None = None
    period: str | None = None
    success: bool | None = None


class GetJobEventsAnswer(Answer, rename="pascal"):
    """`GetJobEvents`: events as texts, each beginning with its time, `2025-01-28 14:07:24 Created pod: x`."""

    job_id: str | None = None
    events: list[str] | None = None


class JobRecord(msgspec.Struct, rename="pascal", forbid_unknown_fields=True, omit_defaults=True):
    """`ListJobs` `Jobs[]`."""

    accessibility: str | None = None
    cluster_id: str | None = None
    code_source: dict[str, Any] | None = None
    credential_config: dict[str, Any] | None = None
    data_sources: list[dict[str, Any]] | None = None
    display_name: str | None = None
    duration: int | None = None
    elastic_spec: dict[str, Any] | None = None
    enable_preemptible_job: bool | None = None
    enabled_debugger: bool | None = None
    envs: dict[str, Any] | None = None
    gmt_create_time: str | None = None
    gmt_failed_time: str | None = None
    gmt_finish_time: str | None = None
    gmt_modified_time: str | None = None
    gmt_running_time: str | None = None
    gmt_stopped_time: str | None = None
    gmt_submitted_time: str | None = None
    gmt_successed_time: str | None = None
    is_deleted: bool | None = None
    job_id: str | None = None
    job_max_running_time_minutes: int | None = None
    job_replica_statuses: list[dict[str, Any]] | None = None
    job_specs: list[dict[str, Any]] | None = None
    job_type: str | None = None
    node_count: str | None = None
    node_names: list[str] | None = None
    pods: list[dict[str, Any]] | None = None
    priority: int | None = None
    reason_code: str | None = None
    reason_message: str | None = None
    request_cpu: int | None = msgspec.field(default=None, name="RequestCPU")
    request_gpu: str | None = msgspec.field(default=None, name="RequestGPU")
    request_memory: str | None = None
    resource_id: str | None = None
    resource_level: str | None = None
    resource_name: str | None = None
    resource_quota_name: str | None = None
    resource_type: str | None = None
    restart_times: str | None = None
    retry_count: int | None = None
    scheduling_strategy: str | None = None
    settings: dict[str, Any] | None = None
    status: str | None = None
    status_history: list[dict[str, Any]] | None = None
    sub_status: str | None = None
    system_envs: dict[str, Any] | None = None
    template_id: str | None = None
    template_name: str | None = None
    tenant_id: str | None = None
    thirdparty_lib_dir: str | None = None
    thirdparty_libs: list[str] | None = None
    use_oversold_resource: bool | None = None
    user_command: str | None = None
    user_id: str | None = None
    user_script: str | None = None
    user_vpc: dict[str, Any] | None = None
    username: str | None = None
    working_dir: str | None = None
    workspace_id: str | None = None
    workspace_name: str | None = None
    supported_profiling_types: str | None = msgspec.field(default=None, name="supportedProfilingTypes")


class ListJobsAnswer(Answer, rename="pascal"):
    """`ListJobs`: one page of jobs."""

    jobs: list[JobRecord] | None = None
    total_count: int | None = None


def _roa(
    name: str, path: str, summary: str, parameters: tuple[Parameter, ...], answer: type[Answer], **rest: Any
) -> Operation:
    return Operation(name, Product.PAI_DLC, "2020-12-03", Style.ROA, "GET", path, summary, parameters, answer, **rest)


_JOB = Parameter("JobId", Place.PATH, "The job, dlc...", required=True)
_START = Parameter("StartTime", Place.QUERY, "Start of the range, such as 2025-10-09T08:00:00Z.", form=Form.MOMENT)
_END = Parameter("EndTime", Place.QUERY, "End of the range, such as 2025-10-09T09:00:00Z.", form=Form.MOMENT)
EVENTS_MAX = 10_000
"""Events that `GetJobEvents` gives at most, if it is asked for so many."""

GET_JOB_METRICS = _roa(
    "GetJobMetrics",
    "/api/v1/jobs/{JobId}/metrics",
    "One metric of every pod of a job, as series.",
    (
        _JOB,
        Parameter("MetricType", Place.QUERY, "The metric.", required=True, choices=METRIC_TYPES),
        _START,
        _END,
        Parameter("TimeStep", Place.QUERY, "Averaging step, such as 5m.", form=Form.TIME_STEP),
        Parameter("Token", Place.QUERY, "Token of a shared job.", is_secret=True),
    ),
    GetJobMetricsAnswer,
    records_field="pod_metrics",
    answer_bytes_max=32 * MIB,
    scope="JobId",
    identity=POINT_IDENTITY,
)

GET_JOB_EVENTS = _roa(
    "GetJobEvents",
    "/api/v1/jobs/{JobId}/events",
    "Events of a job.",
    (
        _JOB,
        _START,
        _END,
        Parameter(
            "MaxEventsNum", Place.QUERY, f"Events at most, 1 to {EVENTS_MAX}.", type=int, least=1, most=EVENTS_MAX
        ),
    ),
    GetJobEventsAnswer,
    records_field="events",
    records_max=EVENTS_MAX,
    answer_bytes_max=32 * MIB,
    scope="JobId",
    identity=MappingProxyType(
        {
            "events": (
                "time", "region", "source", "scope_id", "entity_id", "event_id", "event_type", "reason",
                "triggered_by", "content",
            ),
        }
    ),
)  # fmt: skip

LIST_JOBS = _roa(
    "ListJobs",
    "/api/v1/jobs",
    "Jobs, those of the last seven days unless a range is given.",
    (
        Parameter("PageNumber", Place.QUERY, "1-based page.", type=int, least=1, most=1000),
        Parameter("PageSize", Place.QUERY, "Jobs a page, at most 100.", type=int, least=1, most=100),
        Parameter("JobId", Place.QUERY, "Only this job."),
        Parameter("DisplayName", Place.QUERY, "Only jobs of this name."),
        Parameter("JobType", Place.QUERY, "Only jobs of this framework, such as PyTorchJob."),
        Parameter("Status", Place.QUERY, "Only jobs of this status, such as Running."),
        Parameter("WorkspaceId", Place.QUERY, "Only jobs of this workspace."),
        Parameter("ResourceId", Place.QUERY, "Only jobs on this resource."),
        _START,
        _END,
        Parameter("SortBy", Place.QUERY, "Field to sort by."),
        Parameter("Order", Place.QUERY, "desc or asc.", choices=("desc", "asc")),
        Parameter("ShowOwn", Place.QUERY, "Only the caller's own jobs.", type=bool),
        Parameter("FromAllWorkspaces", Place.QUERY, "Jobs of all workspaces.", type=bool),
    ),
    ListJobsAnswer,
    records_field="jobs",
    records_max=100,
    paging=Numbers(),
    answer_bytes_max=32 * MIB,
    secret_fields=frozenset({"CredentialConfig", "Envs", "SystemEnvs", "UserCommand", "UserScript"}),
)

DLC_GET_METRICS = _roa(
    "DlcGetMetrics",
    "/api/v1/cms/metrics",
    "Points of one of CloudMonitor's metrics of training jobs, as pai-dlc passes them on.",
    (
        Parameter("JobId", Place.QUERY, "The job."),
        Parameter("Namespace", Place.QUERY, "Namespace of the metric, such as acs_pai_dlc."),
        Parameter("MetricName", Place.QUERY, "The metric."),
        Parameter("Dimensions", Place.QUERY, 'Only these series: JSON such as [{"jobId":"dlc1abc"}].'),
        _START,
        _END,
        Parameter("Period", Place.QUERY, "Seconds that a point covers: 15, 60, 900 or 3600.", form=Form.COUNT),
        Parameter(
            "Length", Place.QUERY, "Points a page, 1000 unless it is given.", form=Form.COUNT, least=1, most=1440
        ),
        Parameter("NextToken", Place.QUERY, "Cursor of the next page."),
        Parameter("Token", Place.QUERY, "Token of a shared job.", is_secret=True),
    ),
    DlcGetMetricsAnswer,
    records_field="data_points",
    records_max=1440,
    nesting=Nesting.TEXT,
    paging=Tokens("Length"),
    wire_name="GetMetrics",
)

ROWS = (GET_JOB_METRICS, GET_JOB_EVENTS, LIST_JOBS, DLC_GET_METRICS)
