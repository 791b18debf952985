"""The configuration as frozen data: every key, its default, its unit, its limits.

Attributes carry their unit (`interval_seconds`); a file spells the key without it (`interval = "30s"`).
Constructing these classes reads neither files nor the environment; `collector.settings.load` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WrapSerializer
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from collector.settings import kinds

LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["auto", "console", "json"]

RECHECKS_MAX = 10


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


class ApiSettings(Section):
    """How the services are asked. The key comes from the environment variable DASHSCOPE_API_KEY."""

    gateway: Annotated[Literal["bearer"], kinds.choice("bearer")] = Field(
        "bearer", description='How requests are addressed and signed: "bearer", the API key in a header.'
    )
    site: Annotated[Literal["china", "international"], kinds.choice("china", "international")] = Field(
        "china",
        description='"china" asks https://api.aliyun.com, "international" https://api.alibabacloud.com '
        "(GetUserViewMetrics is asked at api.aliyun.com for both).",
    )
    base_url: Annotated[str, kinds.base_url()] = Field(
        "", description="An http(s) address that replaces the site's: a proxy, the simulator. Empty: the site's own."
    )
    region: Annotated[str, kinds.identifier("a region")] = Field(
        "cn-hangzhou", description="Label of the stored rows; nothing on the wire carries it."
    )
    timeout_seconds: Annotated[float, kinds.duration("1s", "10m", fraction=True)] = Field(
        30.0, alias="timeout", description="Longest wait for one answer, a duration from 1s to 10m."
    )
    concurrency_max: Annotated[int, kinds.whole(1, 1000)] = Field(
        64, description="Requests in flight at most, over all operations: 1 to 1000."
    )
    quotas: Annotated[Mapping[str, Annotated[int, kinds.whole(1)]], AfterValidator(MappingProxyType), _thawed] = Field(
        default_factory=_empty,
        description="Requests per second that an operation takes, in place of the catalogue's figure.",
    )
    prices: Annotated[Mapping[str, PriceSettings], AfterValidator(MappingProxyType), _thawed] = Field(
        default_factory=_empty,
        description="CNY for each call and free calls a month, in place of the catalogue's price.",
    )


class StoreSettings(Section):
    """Where history is kept."""

    path: Annotated[Path, kinds.path()] = Field(
        Path("data/store"), description="Folder of the embedded store, relative to this file."
    )
    flush_interval_seconds: Annotated[float, kinds.duration("100ms", "1m", fraction=True)] = Field(
        5.0,
        alias="flush_interval",
        description="A row waits at most this long before it is sent to the store, a duration from 100ms to 1m.",
    )


class JournalSettings(Section):
    """Where rows wait until the store has them."""

    path: Annotated[Path, kinds.path()] = Field(
        Path("data/journal.db"), description="File of the journal, relative to this file. Keep it on a local disk."
    )
    bytes_max: Annotated[int, kinds.size("256MiB", "16TiB")] = Field(
        2 << 30,
        description="Collecting pauses when the journal holds this many bytes, a size from 256MiB up: "
        "a request is only sent when its largest answer has room.",
    )


class TargetSettings(Section):
    """What is watched. A source without targets is idle."""

    nodes: tuple[Annotated[str, kinds.identifier("a node id")], ...] = Field(
        (), description='Nodes whose logs are collected, such as ["e01-cn-9lb36u4s601"].'
    )
    resource_groups: tuple[Annotated[str, kinds.identifier("a resource group id")], ...] = Field(
        (), description='Resource groups whose usage is collected, such as ["rgf0zhfqn1d4ity2"].'
    )


class SyslogsSettings(Section):
    """Log lines of nodes, from ListSyslogs."""

    enabled: Annotated[bool, kinds.flag()] = Field(True, description="false switches the source off.")
    interval_seconds: Annotated[int, kinds.duration("1s", "1d")] = Field(
        30, alias="interval", description="Time between two looks at a node, a duration from 1s to 1d."
    )
    settle_seconds: Annotated[int, kinds.duration("1s", "1d")] = Field(
        60,
        alias="settle",
        description="Stay this far behind now, so that lines on their way can arrive: a duration from 1s to 1d.",
    )
    initial_lookback_seconds: Annotated[int, kinds.duration("0s", "365d")] = Field(
        3600,
        alias="initial_lookback",
        description="How far back a node that is new here is collected, a duration up to 365d.",
    )
    recheck_seconds: tuple[Annotated[int, kinds.duration("1s", "30d")], ...] = Field(
        (900, 21_600),
        alias="recheck",
        max_length=RECHECKS_MAX,
        description="Look again at finished ranges this much later, for lines that came late: at most "
        f"{RECHECKS_MAX} ascending durations, each longer than settle. [] switches it off.",
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


class SourceSettings(Section):
    """What is collected, one table for each source."""

    syslogs: SyslogsSettings = Field(default_factory=SyslogsSettings)
    user_metrics: UserMetricsSettings = Field(default_factory=UserMetricsSettings)


class LogSettings(Section):
    """What the program says on stderr."""

    level: Annotated[LogLevel, kinds.choice(*get_args(LogLevel))] = Field(
        "info", description="Least severe level shown: debug, info, warning or error."
    )
    format: Annotated[LogFormat, kinds.choice(*get_args(LogFormat))] = Field(
        "auto", description='"console" for people, "json" one object a line, "auto": console on a terminal, else json.'
    )


class Settings(BaseSettings):
    """The whole configuration."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid")

    api: ApiSettings = Field(default_factory=ApiSettings)
    store: StoreSettings = Field(default_factory=StoreSettings)
    journal: JournalSettings = Field(default_factory=JournalSettings)
    targets: TargetSettings = Field(default_factory=TargetSettings)
    sources: SourceSettings = Field(default_factory=SourceSettings)
    log: LogSettings = Field(default_factory=LogSettings)

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
