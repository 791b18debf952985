"""The configuration as frozen data: every key, its default, its unit, its limits.

Attributes carry their unit (`interval_seconds`); a file spells the key without it (`interval = "30s"`).
Constructing these classes reads neither files nor the environment; `collector.settings.load` does.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PrivateAttr, WrapSerializer
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from collector.catalogue.products.cms import STATISTICS
from collector.catalogue.products.pai_dlc import METRIC_TYPES
from collector.settings import kinds
from collector.shares import Share, parse_share

LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["auto", "console", "json"]

RECHECKS_MAX = 10

SETTLE_AUTO_SECONDS = (15, 300)
"""Bounds of a settle that is learned from how late records arrive."""


def _empty() -> Mapping[str, Any]:
    return MappingProxyType({})


# The serializer takes a dict only.
_thawed = WrapSerializer(lambda value, write: write(dict(value)))


class Section(BaseModel):
    """One table of the configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_name=True, validate_by_alias=True)


class PriceSettings(Section):
    """What one call of an operation costs, in place of the catalogue's price."""

    cny: Annotated[Decimal, kinds.price()] = Field(description="CNY for each call, failed ones too.")
    free_calls_per_month: Annotated[int, kinds.whole(0)] = Field(
        alias="free", description="Calls a month that cost nothing."
    )


class RetrySettings(Section):
    """How often and when a call that failed is repeated; each repeat is billed."""

    base_seconds: Annotated[float, kinds.duration("10ms", "1m", fraction=True)] = Field(
        1.0,
        alias="base",
        description="Wait before the first repeat, a duration from 10ms to 1m, spread between half of it and all. "
        "A wait that the service names counts instead.",
    )
    factor: Annotated[int, kinds.whole(1, 10)] = Field(
        2, description="Each further wait is this many times as long (1, 2, 4, 8 s), at most 30s: 1 to 10."
    )
    attempts_max: Annotated[int, kinds.whole(1, 20)] = Field(
        6, description="Attempts at a call, the first one included: 1 to 20. 1 repeats nothing."
    )
    deadline_seconds: Annotated[float, kinds.duration("1s", "1h", fraction=True)] = Field(
        180.0,
        alias="deadline",
        description="No attempt starts later than this after the call was asked for, a duration from 1s to 1h.",
    )


class ApiSettings(Section):
    """How the services are asked. Keys come from the environment, never from this file."""

    gateway: Annotated[Literal["bearer", "openapi"], kinds.choice("bearer", "openapi")] = Field(
        "bearer",
        description='"bearer": one address for all, the API key in a header. "openapi": the signed regional '
        "endpoints of each product, with access keys (needs pai-collector[openapi]).",
    )
    site: Annotated[Literal["china", "international"], kinds.choice("china", "international")] = Field(
        "china",
        description='Of the bearer gateway: "china" asks https://api.aliyun.com, "international" '
        "https://api.alibabacloud.com (GetUserViewMetrics is asked at api.aliyun.com for both).",
    )
    base_url: Annotated[str, kinds.base_url()] = Field(
        "",
        description="An http(s) address in place of all but those in api.endpoints: a proxy, the simulator. Empty: the "
        "services' own.",
    )
    region: Annotated[str, kinds.identifier("a region")] = Field(
        "cn-hangzhou",
        description="Region of the openapi gateway's endpoints, and label of the stored rows. On the bearer gateway "
        "only the label: nothing on the wire carries it.",
    )
    network: Annotated[Literal["public", "vpc"], kinds.choice("public", "vpc")] = Field(
        "public", description='Of the openapi gateway: "vpc" asks the addresses inside the region\'s network.'
    )
    sign_with: Annotated[Literal["access_key", "bearer"], kinds.choice("access_key", "bearer")] = Field(
        "access_key",
        description='Of the openapi gateway: "access_key" takes the official default chain of credentials, "bearer" '
        "sends the API key as the official SDK sends bearer tokens.",
    )
    endpoints: Annotated[
        Mapping[str, Annotated[str, kinds.base_url(required=True)]], AfterValidator(MappingProxyType), _thawed
    ] = Field(
        default_factory=_empty,
        description="An http(s) address for a product, in place of the site's, the region's or base_url.",
    )
    timeout_seconds: Annotated[float, kinds.duration("1s", "10m", fraction=True)] = Field(
        30.0, alias="timeout", description="Longest wait for one answer, a duration from 1s to 10m."
    )
    concurrency_max: Annotated[int, kinds.whole(1, 1000)] = Field(
        64, description="Requests in flight at most, over all operations: 1 to 1000."
    )
    retry: RetrySettings = Field(default_factory=RetrySettings)
    quotas: Annotated[Mapping[str, Annotated[int, kinds.whole(1)]], AfterValidator(MappingProxyType), _thawed] = Field(
        default_factory=_empty,
        description="Requests per second that an operation takes, in place of the catalogue's figure.",
    )
    prices: Annotated[Mapping[str, PriceSettings], AfterValidator(MappingProxyType), _thawed] = Field(
        default_factory=_empty,
        description="CNY for each call and free calls a month, in place of the catalogue's price.",
    )


def _kept(what: str) -> Any:
    return Field(0, alias=what, description=f'How long rows of {what} are kept, such as "90d"; "0s": for ever.')


Kept = Annotated[int, kinds.retention()]


class RetentionSettings(Section):
    """How long rows are kept. Dropped are whole days of syslogs and metric_points, and whole months of the others."""

    syslogs_seconds: Kept = _kept("syslogs")
    metric_points_seconds: Kept = _kept("metric_points")
    user_metrics_seconds: Kept = _kept("user_metrics")
    resource_group_metrics_seconds: Kept = _kept("resource_group_metrics")
    events_seconds: Kept = _kept("events")
    dead_letters_seconds: Kept = _kept("dead_letters")
    api_calls_seconds: Kept = _kept("api_calls")


class StoreSettings(Section):
    """Where history is kept."""

    path: Annotated[Path, kinds.path()] = Field(
        Path("data/store"), description="Folder of the embedded store, relative to this file; may hold {shard}."
    )
    url: Annotated[str, kinds.store_url()] = Field(
        "",
        description="A ClickHouse server in place of the embedded store: http://user@host:8123/pai or https://... "
        "The password comes from PAI_COLLECTOR_STORE_PASSWORD, or a token from PAI_COLLECTOR_STORE_TOKEN.",
    )
    reader: Annotated[str, kinds.optional_identifier("a user")] = Field(
        "",
        description="User of that server that the console and `query` read as, such as reader of "
        "sql/grants/reader.sql; its password comes from PAI_COLLECTOR_STORE_READER_PASSWORD. Empty: the collector's "
        "own user, read-only.",
    )
    cluster: Annotated[str, kinds.cluster_name()] = Field(
        "", description="Name of a cluster of that server: tables are then replicated and spread over its machines."
    )
    ca_file: Annotated[Path | None, kinds.optional_path()] = Field(
        None, description="Certificates (PEM) that an https server is checked against, in place of the system's."
    )
    timeout_seconds: Annotated[float, kinds.duration("1s", "1h", fraction=True)] = Field(
        60.0,
        alias="timeout",
        description="Longest wait for the server to send anything, a duration from 1s to 1h. What was lost is sent "
        "again and stored once.",
    )
    flush_interval_seconds: Annotated[float, kinds.duration("100ms", "1m", fraction=True)] = Field(
        5.0,
        alias="flush_interval",
        description="A row waits at most this long before it is sent to the store, a duration from 100ms to 1m.",
    )
    fault_rules: Annotated[Path | None, kinds.optional_path()] = Field(
        None,
        description="TOML file with rules of your own for faults in log lines, relative to this file. Empty: only "
        "those that the program has (sql/faults.toml shows the form).",
    )
    text_index: Annotated[bool, kinds.flag()] = Field(
        False,
        description="true keeps an index of the words of log messages: hasToken(msg, 'word') over all history answers "
        "at once, and syslogs takes several times the disk.",
    )
    retention: RetentionSettings = Field(default_factory=RetentionSettings)


class JournalSettings(Section):
    """Where rows wait until the store has them."""

    path: Annotated[Path, kinds.path()] = Field(
        Path("data/journal.db"),
        description="File of the journal, relative to this file; may hold {shard}. Keep it on a local disk.",
    )
    bytes_max: Annotated[int, kinds.size("256MiB", "16TiB")] = Field(
        2 << 30,
        description="Collecting pauses when the journal holds this many bytes, a size from 256MiB up: "
        "a request is only sent when its largest answer has room.",
    )


_KINDS = ("clusters", "resource_groups", "jobs", "instances", "services", "eas_resources")
Discovered = Literal["clusters", "resource_groups", "jobs", "instances", "services", "eas_resources"]


class TargetSettings(Section):
    """What is watched. A source without targets is idle."""

    nodes: tuple[Annotated[str, kinds.identifier("a node id")], ...] = Field(
        (), description='Nodes whose logs are collected, such as ["e01-cn-9lb36u4s601"].'
    )
    clusters: tuple[Annotated[str, kinds.identifier("a cluster id")], ...] = Field(
        (), description="Lingjun clusters whose nodes are watched too."
    )
    resource_groups: tuple[Annotated[str, kinds.identifier("a resource group id")], ...] = Field(
        (), description='Resource groups whose usage and metrics are collected, such as ["rgf0zhfqn1d4ity2"].'
    )
    jobs: tuple[Annotated[str, kinds.identifier("a job id")], ...] = Field(
        (), description='Training jobs (DLC) whose metrics and events are collected, such as ["dlc1abc"].'
    )
    instances: tuple[Annotated[str, kinds.identifier("a notebook id")], ...] = Field(
        (), description='Notebooks (DSW) whose metrics are collected, such as ["dsw-1abc"].'
    )
    services: tuple[Annotated[str, kinds.pair("a service", "cn-shanghai/chat")], ...] = Field(
        (), description='Services (EAS) whose events are collected, each with its cluster: ["cn-shanghai/chat"].'
    )
    eas_resources: tuple[Annotated[str, kinds.pair("a resource group", "cn-shanghai/eas-r-1abc")], ...] = Field(
        (), description='EAS resource groups whose log shipping is watched: ["cn-shanghai/eas-r-1abc"].'
    )
    discover: tuple[Annotated[Discovered, kinds.choice(*_KINDS)], ...] = Field(
        (), description=f"Kinds of targets that are found by asking for them: any of {', '.join(_KINDS)}."
    )


def _enabled() -> Any:
    return Field(True, description="false switches the source off.")


def _settle(seconds: int) -> Any:
    return Field(
        seconds,
        alias="settle",
        description="Stay this far behind now, so that what is on its way can arrive: a duration from 1s to 1d.",
    )


def _initial_lookback(what: str) -> Any:
    return Field(
        3600, alias="initial_lookback", description=f"How far back {what} is collected, a duration up to 365d."
    )


def _recheck() -> Any:
    return Field(
        (900, 21_600),
        alias="recheck",
        max_length=RECHECKS_MAX,
        description="Look again at finished ranges this much later, for what came late: at most "
        f"{RECHECKS_MAX} ascending durations, each longer than settle. [] switches it off.",
    )


Flag = Annotated[bool, kinds.flag()]
Interval = Annotated[int, kinds.duration("1s", "1d")]
Tick = Annotated[int, kinds.duration("1s", "1d", divides_day=True)]
Settle = Annotated[int, kinds.duration("1s", "1d")]
SettleOrAuto = Annotated[int, kinds.duration_or_auto("1s", "1d")]
Lookback = Annotated[int, kinds.duration("0s", "365d")]
Rechecks = tuple[Annotated[int, kinds.duration("1s", "30d")], ...]


class SyslogsSettings(Section):
    """Log lines of nodes, from ListSyslogs."""

    enabled: Flag = _enabled()
    interval_seconds: Interval = Field(
        30, alias="interval", description="Time between two looks at a busy node, a duration from 1s to 1d."
    )
    interval_max_seconds: Interval = Field(
        300,
        alias="interval_max",
        description="A node that logs little is looked at less often, down to this; equal to interval: always alike.",
    )
    settle_seconds: SettleOrAuto = Field(
        60,
        alias="settle",
        description="Stay this far behind now, so that what is on its way can arrive: a duration from 1s to 1d, or "
        '"auto": learned for each node from how late its lines arrive, 15s to 5m.',
    )
    initial_lookback_seconds: Lookback = _initial_lookback("a node that is new here")
    recheck_seconds: Rechecks = _recheck()
    query: Annotated[str, kinds.search_text("a search condition")] = Field(
        "",
        description="Only lines that the service selects by this condition are collected, in streams of their own. "
        '"": all lines.',
    )


class UserMetricsSettings(Section):
    """Usage of every user of a resource group, from GetUserViewMetrics."""

    enabled: Annotated[bool, kinds.flag()] = Field(True, description="false switches the source off.")
    interval_seconds: Annotated[int, kinds.duration("1s", "1d", divides_day=True)] = Field(
        60, alias="interval", description="Time between two snapshots, a duration that divides a day."
    )
    time_step_seconds: Annotated[int, kinds.duration("1s", "1d")] = Field(
        300, alias="time_step", description="Span that the service averages usage over, a duration from 1s to 1d."
    )
    page_size: Annotated[int, kinds.whole(1, 1000)] = Field(
        1000, description="Users asked for with each call: 1 to 1000."
    )
    sort_by: Annotated[str, kinds.optional_identifier("a field")] = Field(
        "UserId",
        description="Field that the list is sorted by, one that does not change while it is paged: then no user moves "
        'between pages. "": as the service has it.',
    )
    order: Annotated[Literal["asc", "desc"], kinds.choice("asc", "desc")] = Field(
        "asc", description='Order of the list by that field: "asc" or "desc".'
    )
    workspaces: tuple[Annotated[str, kinds.identifier("a workspace id")], ...] = Field(
        (),
        description='Workspaces whose usage is asked for, each in snapshots of its own: ["90001"]. [] asks for the '
        "whole resource group.",
    )
    user_ids: tuple[Annotated[str, kinds.identifier("a user id")], ...] = Field(
        (),
        description="Users whose usage is asked for, each in snapshots of its own; what the service then sums up is "
        "not stored. [] asks for all users.",
    )


class NodeMetricsSettings(Section):
    """Metrics of the nodes of a resource group, from GetNodeMetrics."""

    enabled: Flag = _enabled()
    interval_seconds: Interval = Field(
        300, alias="interval", description="Time between two looks at a resource group, a duration from 1s to 1d."
    )
    metric_types: tuple[Annotated[str, kinds.identifier("a metric")], ...] = Field(
        ("CpuUsageRate", "GpuUsageRate"), description="Metrics that are asked for, one call each."
    )
    time_step_seconds: Settle = Field(
        300, alias="time_step", description="Span that each point covers, a duration from 1s to 1d."
    )
    settle_seconds: Settle = _settle(60)
    initial_lookback_seconds: Lookback = _initial_lookback("a resource group that is new here")
    recheck_seconds: Rechecks = _recheck()


class JobMetricsSettings(Section):
    """Metrics of jobs and notebooks, from GetJobMetrics (DLC) and GetInstanceMetrics (DSW)."""

    enabled: Flag = _enabled()
    interval_seconds: Interval = Field(
        300, alias="interval", description="Time between two looks at a job, a duration from 1s to 1d."
    )
    metric_types: tuple[Annotated[str, kinds.choice(*METRIC_TYPES)], ...] = Field(
        ("GpuCoreUsage", "GpuMemoryUsage", "CpuCoreUsage", "MemoryUsage"),
        description=f"Metrics that are asked for, one call each: any of {', '.join(METRIC_TYPES)}.",
    )
    time_step_seconds: Settle = Field(
        300, alias="time_step", description="Span that each point covers, a duration from 1s to 1d."
    )
    settle_seconds: Settle = _settle(60)
    initial_lookback_seconds: Lookback = _initial_lookback("a job that is new here")
    recheck_seconds: Rechecks = _recheck()


class CloudMetricsSettings(Section):
    """Series of CloudMonitor's metrics, from DescribeMetricList; which there are, it says itself."""

    enabled: Flag = _enabled()
    namespaces: tuple[Annotated[str, kinds.pattern("a namespace", "acs_pai_*")], ...] = Field(
        (), description='Namespaces whose metrics are collected, by name or pattern, such as ["acs_pai_*"]. [] is none.'
    )
    metrics: tuple[Annotated[str, kinds.pattern("a metric", "*GPU*")], ...] = Field(
        ("*",), description='Metrics of these namespaces, by name or pattern, such as ["*GPU*"].'
    )
    period_seconds: Annotated[int, kinds.duration("15s", "1d")] = Field(
        60,
        alias="period",
        description="Span that each point covers, a duration from 15s to 1d; of a metric that does not have it, its "
        "next longer one.",
    )
    statistics: tuple[Annotated[str, kinds.choice(*STATISTICS)], ...] = Field(
        ("Average",),
        description=f"Values of each point, a row each: any of {', '.join(STATISTICS)}. They come with the same call.",
    )
    measures: tuple[Annotated[str, kinds.identifier("NAMESPACE/METRIC=MEASURE")], ...] = Field(
        (),
        description="What metrics measure in the words of the older operations, where their names do not tell it, such "
        'as ["acs_pai_dlc/GPU_UTIL=GpuCoreUsage"].',
    )
    interval_seconds: Interval = Field(
        300, alias="interval", description="Time between two looks at a metric, a duration from the period to 1d."
    )
    settle_seconds: Settle = _settle(300)
    initial_lookback_seconds: Lookback = _initial_lookback("a metric that is new here")
    recheck_seconds: Rechecks = _recheck()


class EventsSettings(Section):
    """Events of services and jobs, from DescribeServiceEvent (EAS) and GetJobEvents (DLC)."""

    enabled: Flag = _enabled()
    interval_seconds: Interval = Field(
        60, alias="interval", description="Time between two looks at a service or job, a duration from 1s to 1d."
    )
    settle_seconds: Settle = _settle(60)
    initial_lookback_seconds: Lookback = _initial_lookback("a service or job that is new here")
    recheck_seconds: Rechecks = _recheck()


class DiagnosticsSettings(Section):
    """Diagnoses of nodes, from ListDiagnosticResults and DescribeDiagnosticResult, where clusters are watched."""

    enabled: Flag = _enabled()
    interval_seconds: Tick = Field(
        300, alias="interval", description="Time between two looks at the list, a duration that divides a day."
    )


class ResourceLogsSettings(Section):
    """Where the logs of EAS resource groups are shipped, from DescribeResourceLog."""

    enabled: Flag = _enabled()
    interval_seconds: Tick = Field(
        600, alias="interval", description="Time between two looks, a duration that divides a day."
    )


class InventorySettings(Section):
    """What exists, from the lists of targets.discover and the nodes of each cluster."""

    enabled: Flag = _enabled()
    interval_seconds: Tick = Field(
        600, alias="interval", description="Time between two looks at a list, a duration that divides a day."
    )


class SourceSettings(Section):
    """What is collected, one table for each source."""

    syslogs: SyslogsSettings = Field(default_factory=SyslogsSettings)
    user_metrics: UserMetricsSettings = Field(default_factory=UserMetricsSettings)
    node_metrics: NodeMetricsSettings = Field(default_factory=NodeMetricsSettings)
    job_metrics: JobMetricsSettings = Field(default_factory=JobMetricsSettings)
    cloud_metrics: CloudMetricsSettings = Field(default_factory=CloudMetricsSettings)
    events: EventsSettings = Field(default_factory=EventsSettings)
    diagnostics: DiagnosticsSettings = Field(default_factory=DiagnosticsSettings)
    resource_logs: ResourceLogsSettings = Field(default_factory=ResourceLogsSettings)
    inventory: InventorySettings = Field(default_factory=InventorySettings)


class TracingSettings(Section):
    """Spans of the collector's own work, sent to the account's XTrace (needs pai-collector[tracing])."""

    enabled: Flag = Field(False, description="true sends a span for each window, page and segment.")
    endpoint: Annotated[Literal["internet", "internal"], kinds.choice("internet", "internal")] = Field(
        "internet", description='Address of XTrace that is used: "internet", or "internal" from inside the region.'
    )


class BudgetSettings(Section):
    """What calls may cost."""

    monthly_cny: Annotated[Decimal, kinds.price(100_000_000, "CNY a month", "4000")] = Field(
        Decimal(0), description="CNY in a billing month (UTC+8) after the free calls. 0: no cap."
    )
    on_reached: Annotated[Literal["stop", "warn"], kinds.choice("stop", "warn")] = Field(
        "stop", description='"stop": the call that would pass the cap is not made. "warn": it is made and told.'
    )


class ServiceSettings(Section):
    """What `pai-collector run` does beside collecting."""

    listen: Annotated[str, kinds.listener()] = Field(
        "127.0.0.1:9600",
        description='Address and port of the status page, /healthz, /readyz and /metrics. "": none. '
        "Beyond this machine only with a token in PAI_COLLECTOR_SERVICE_TOKEN.",
    )
    sql_listen: Annotated[str, kinds.listener()] = Field(
        "127.0.0.1:8124",
        description="Address and port at which the embedded store answers ClickHouse's clients (its HTTP interface, "
        'read-only). "": none. Beyond this machine only with a token in PAI_COLLECTOR_SERVICE_TOKEN, as the password.',
    )
    grace_seconds: Annotated[float, kinds.duration("1s", "10m", fraction=True)] = Field(
        20.0, alias="grace", description="At the end, answers and shipping are waited for this long at most."
    )


class LogSettings(Section):
    """What the program says on stderr."""

    level: Annotated[LogLevel, kinds.choice(*get_args(LogLevel))] = Field(
        "info", description="Least severe level shown: debug, info, warning or error."
    )
    format: Annotated[LogFormat, kinds.choice(*get_args(LogFormat))] = Field(
        "auto", description='"console" for people, "json" one object a line, "auto": console on a terminal, else json.'
    )


@dataclass(frozen=True, slots=True)
class Origins:
    """Where the values of a configuration came from; configurations with equal values are equal whatever it says."""

    file: str = field(default="", compare=False)
    """Path of the file; empty for a configuration that was made without one."""
    keys: Mapping[tuple[str | int, ...], str] = field(default_factory=dict, compare=False)
    """Key -> `file`, the environment variable or the option that its value is from. Other keys have their defaults."""

    def of(self, path: tuple[str, ...]) -> str:
        """Return where the value of a key is from, or `default`."""
        return next((self.keys[path[:n]] for n in range(len(path), 0, -1) if path[:n] in self.keys), "default")


class Settings(BaseSettings):
    """The whole configuration."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid")

    shard: Annotated[str, kinds.shard()] = Field(
        "",
        description='Which part of the streams this process collects: "0/3" is the first of three, "auto/3" takes the '
        'number at the end of the host name. "": all.',
    )
    api: ApiSettings = Field(default_factory=ApiSettings)
    store: StoreSettings = Field(default_factory=StoreSettings)
    journal: JournalSettings = Field(default_factory=JournalSettings)
    targets: TargetSettings = Field(default_factory=TargetSettings)
    sources: SourceSettings = Field(default_factory=SourceSettings)
    budget: BudgetSettings = Field(default_factory=BudgetSettings)
    service: ServiceSettings = Field(default_factory=ServiceSettings)
    tracing: TracingSettings = Field(default_factory=TracingSettings)
    log: LogSettings = Field(default_factory=LogSettings)
    _origins: Origins = PrivateAttr(default_factory=Origins)

    @property
    def origins(self) -> Origins:
        """Where the values came from."""
        return self._origins

    def with_origins(self, origins: Origins) -> Self:
        """Return the same settings that know where they came from."""
        copy = self.model_copy()
        copy._origins = origins
        return copy

    @property
    def share(self) -> Share:
        """The part of the streams that is this process's. Raises ValueError for an `auto` that has no number."""
        return parse_share(self.shard, socket.gethostname())

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what is handed in: a variable named `API` or `LOG` on the machine is not meant for us."""
        return (init_settings,)
