"""Every key of the configuration does something on both gateways, or is refused by its name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from collector.catalogue.operations import CATALOGUE
from collector.clock import ServerClock
from collector.errors import ConfigError
from collector.journal.reading import JournalFile
from collector.owner.caller import retry_policy
from collector.owner.gateway import gateway_of
from collector.owner.prices import prices_of
from collector.owner.quotas import quotas_of
from collector.owner.streams import everything
from collector.pipeline.budget import Budget
from collector.settings import Settings, load
from collector.settings.reading import KeyPath, key_text, keys
from collector.simulator.server import SIMULATOR_KEY
from collector.store.embedded import EmbeddedStore
from collector.store.shape import plan_shape
from tests.support.default_chain import use_access_key
from tests.support.virtual_clock import ManualClock

ROOT = Path(__file__).parents[3] / "collector"
TARGETS = {
    "targets.nodes": ["n1"], "targets.resource_groups": ["rg1"], "targets.jobs": ["dlc1"], "targets.clusters": ["c1"],
    "targets.instances": ["dsw1"], "targets.services": ["c1/s1"], "targets.eas_resources": ["c1/r1"],
}  # fmt: skip
ASKED = {
    "ListSyslogs": {"NodeId": "n1", "FromTime": "1", "ToTime": "2"},
    "GetUserViewMetrics": {"ResourceGroupID": "rg1", "PageNumber": "1", "PageSize": "10"},
    "GetXtraceToken": {},
}
SERVER = {"store.url": "http://u@127.0.0.1:1/pai"}


@dataclass(frozen=True)
class Changed:
    """A value that is not the default, which changes what `portrait` shows."""

    value: Any
    beside: Mapping[str, Any] = field(default_factory=dict)
    """Other keys, without which this one says nothing."""


@dataclass(frozen=True)
class Shaped:
    """A value that changes the statements which bring tables to their shape."""

    value: Any


@dataclass(frozen=True)
class Read:
    """A value that takes effect where a test of its own sees it: the module reads it by these words."""

    value: Any
    module: str
    words: str
    beside: Mapping[str, Any] = field(default_factory=dict)


CLOUD = {"sources.cloud_metrics.namespaces": ["acs_pai_dlc"]}

EFFECTS: dict[str, Changed | Shaped | Read] = {
    "shard": Changed("0/2"),
    "api.gateway": Changed("the other"),
    "api.site": Changed("international"),
    "api.base_url": Changed("http://127.0.0.1:1"),
    "api.region": Changed("cn-shanghai"),
    "api.network": Changed("vpc", {"api.endpoints": {"PaiLLMTrace": "http://own", "eas": "http://own"}}),
    "api.sign_with": Changed("bearer"),
    "api.endpoints": Changed({"PaiStudio": "http://127.0.0.1:2"}, {"api.base_url": "http://127.0.0.1:1"}),
    "api.timeout": Read("7s", "owner/caller.py", "timeout_seconds=api.timeout_seconds"),
    "api.concurrency_max": Read(7, "owner/caller.py", "concurrency_max=api.concurrency_max"),
    "api.retry.base": Changed("7s"),
    "api.retry.factor": Changed(7),
    "api.retry.attempts_max": Changed(7),
    "api.retry.deadline": Changed("7s"),
    "api.quotas": Changed({"ListSyslogs": 7}),
    "api.prices": Changed({"ListSyslogs": {"cny": 7, "free": 7}}),
    "store.path": Read("elsewhere", "store/opening.py", "settings.store.path"),
    "store.url": Read(SERVER["store.url"], "store/opening.py", "parse_address(store.url"),
    "store.reader": Read("reader", "store/opening.py", "user=store.reader", SERVER),
    "store.cluster": Read("main", "store/opening.py", "store.cluster", SERVER),
    "store.ca_file": Read("ca.pem", "store/opening.py", "store.ca_file", {"store.url": "https://u@127.0.0.1:1/pai"}),
    "store.timeout": Read("7s", "store/opening.py", "timeout_seconds=store.timeout_seconds", SERVER),
    "store.flush_interval": Read("7s", "owner/instance.py", "settings.store.flush_interval_seconds"),
    "store.fault_rules": Read("rules.toml", "store/shape.py", "fault_rules(settings.fault_rules)"),
    "store.text_index": Shaped(True),
    "store.retention.syslogs": Shaped("70d"),
    "store.retention.metric_points": Shaped("70d"),
    "store.retention.user_metrics": Shaped("70d"),
    "store.retention.resource_group_metrics": Shaped("70d"),
    "store.retention.events": Shaped("70d"),
    "store.retention.dead_letters": Shaped("70d"),
    "store.retention.api_calls": Shaped("70d"),
    "journal.path": Read("elsewhere/journal.db", "owner/caller.py", "OwnerLock(self.settings.journal.path)"),
    "journal.bytes_max": Read("300MiB", "owner/caller.py", "self.journal, settings.journal.bytes_max"),
    "targets.discover": Changed(["jobs"]),
    **{key: Changed([f"{value[0]}-other"]) for key, value in TARGETS.items()},
    **{
        f"sources.{source}.enabled": Changed(False)
        for source in (
            "syslogs", "user_metrics", "node_metrics", "job_metrics", "events", "diagnostics", "resource_logs",
            "inventory",
        )
    },
    "sources.cloud_metrics.enabled": Changed(False, CLOUD),
    "sources.cloud_metrics.namespaces": Changed(["acs_pai_dlc", "acs_pai_*"]),
    "sources.cloud_metrics.metrics": Read(["GPU"], "owner/cloud_targets.py", "cloud.metrics", CLOUD),
    "sources.cloud_metrics.period": Read("5m", "owner/cloud_targets.py", "cloud.period_seconds", CLOUD),
    "sources.cloud_metrics.statistics": Read(["Maximum"], "sources/registry.py", "section.statistics", CLOUD),
    "sources.cloud_metrics.measures": Read(["a/b=c"], "sources/registry.py", "section.measures", CLOUD),
    **{
        f"sources.cloud_metrics.{key}": Read(value, "owner/streams.py", f"section.{key}_seconds", CLOUD)
        for key, value in {"interval": "2m", "settle": "7s", "initial_lookback": "7h", "recheck": ["7h"]}.items()
    },
    **{
        f"sources.{source}.interval": Changed("2m")
        for source in (
            "syslogs", "user_metrics", "node_metrics", "job_metrics", "events", "diagnostics", "resource_logs",
            "inventory",
        )
    },
    "sources.syslogs.interval_max": Changed("17m"),
    **{
        f"sources.{source}.{key}": Changed(value)
        for source in ("syslogs", "node_metrics", "job_metrics", "events")
        for key, value in {"settle": "7s", "initial_lookback": "7h", "recheck": ["7h"]}.items()
    },
    "sources.syslogs.query": Changed("oom killer"),
    "sources.user_metrics.time_step": Changed("7m"),
    "sources.user_metrics.page_size": Changed(7),
    "sources.user_metrics.sort_by": Changed("JobType"),
    "sources.user_metrics.order": Changed("desc"),
    "sources.user_metrics.workspaces": Changed(["90001"]),
    "sources.user_metrics.user_ids": Changed(["1201"]),
    "sources.node_metrics.time_step": Changed("7m"),
    "sources.node_metrics.metric_types": Changed(["MemoryUsageRate"]),
    "sources.job_metrics.time_step": Changed("7m"),
    "sources.job_metrics.metric_types": Changed(["GpuCoreUsage"]),
    "budget.monthly_cny": Changed(7),
    "budget.on_reached": Changed("warn", {"budget.monthly_cny": 7}),
    "service.listen": Read("127.0.0.1:1", "service/serving.py", "settings.service.listen"),
    "service.sql_listen": Read("127.0.0.1:1", "service/serving.py", "settings.service.sql_listen"),
    "service.grace": Read("7s", "owner/instance.py", "settings.service.grace_seconds"),
    "tracing.enabled": Read(True, "owner/caller.py", "settings.tracing.enabled"),
    "tracing.endpoint": Read("internal", "owner/caller.py", "settings.tracing.endpoint", {"tracing.enabled": True}),
    "log.level": Read("debug", "cli/options.py", "settings.log.level"),
    "log.format": Read("json", "cli/options.py", "settings.log.format"),
}  # fmt: skip

REFUSED = {("bearer", "api.network"), ("bearer", "api.sign_with"), ("openapi", "api.site")}


def every_key(model: type[BaseModel] = Settings, path: KeyPath = ()) -> Iterator[str]:
    """Yield the keys that hold a value, from the definition of the settings."""
    for key, name in keys(model).items():
        annotation = model.model_fields[name].annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from every_key(annotation, (*path, key))
        else:
            yield key_text((*path, key))


def written(folder: Path, values: Mapping[str, Any]) -> Path:
    """Write a configuration with these keys."""
    file = folder / "collector.toml"
    file.write_text("".join(f"{key} = {toml(value)}\n" for key, value in values.items()))
    return file


def toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{name} = {toml(inner)}" for name, inner in value.items()) + " }"
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value) if isinstance(value, int) else f'"{value}"'


def shown(value: object) -> str:
    """Everything that an object holds, as text."""
    if hasattr(value, "__dict__") and type(value).__module__.startswith("collector."):
        return f"{type(value).__name__}({', '.join(f'{k}={shown(v)}' for k, v in vars(value).items())})"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(shown, value))}]"
    return repr(value)


async def portrait(settings: Settings) -> str:
    """What a configuration leads to: where calls go, how and how often they are made, and the streams."""
    clock = ManualClock()
    gateway = gateway_of(settings, SIMULATOR_KEY, clock, ServerClock(clock))
    requests = [await gateway.prepare(CATALOGUE[name], parameters) for name, parameters in ASKED.items()]
    with JournalFile.open(settings.journal.path) as nothing:
        streams = await everything(settings, nothing)
    share, budget = settings.share, settings.budget
    owned = [[key for key in each.keys(settings.api.region) if share.owns(key)] for each in streams]
    return "\n".join(
        [
            *(f"{one.method} {one.url} {sorted(one.headers)}" for one in (gateway.clock_probe(), *requests)),
            shown(streams), shown(owned), repr(retry_policy(settings)), repr(quotas_of(settings)),
            repr(prices_of(settings)), repr(Budget.of(budget.monthly_cny, budget.on_reached)),
        ]
    )  # fmt: skip


def test_every_key_has_an_entry_here() -> None:
    """A new key has to say what it does."""
    assert sorted(EFFECTS) == sorted(every_key())


@pytest.mark.parametrize("gateway", ["bearer", "openapi"])
@pytest.mark.parametrize("key", sorted(EFFECTS))
async def test_a_key_does_something_or_is_refused(
    key: str, gateway: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another value than the default is seen in what the program does; if it would not be, the key is refused."""
    use_access_key(monkeypatch, tmp_path)
    entry = EFFECTS[key]
    beside = {"api.gateway": gateway, **TARGETS, **(entry.beside if isinstance(entry, Changed | Read) else {})}
    value = {"bearer": "openapi", "openapi": "bearer"}[gateway] if key == "api.gateway" else entry.value
    file = written(tmp_path, beside | {key: value})
    if (gateway, key) in REFUSED:
        with pytest.raises(ConfigError) as refused:
            load(file, {})
        assert all(key in line and "api.gateway" in line for line in refused.value.mistakes)
        return
    settings = load(file, {})
    if isinstance(entry, Changed):
        after = await portrait(settings)
        assert after != await portrait(load(written(tmp_path, beside), {}))
    elif isinstance(entry, Read):
        assert entry.words in (ROOT / entry.module).read_text()


async def test_keys_that_shape_tables_change_their_statements(store: EmbeddedStore, tmp_path: Path) -> None:
    """Each retention, and the index of words, has statements of its own."""
    found = {
        key: tuple(await plan_shape(store, load(written(tmp_path, {key: entry.value}), {}).store))
        for key, entry in EFFECTS.items()
        if isinstance(entry, Shaped)
    }
    assert len(set(found.values())) == len(found)
    assert (
        tuple(await plan_shape(store, load(written(tmp_path, {"log.level": "info"}), {}).store)) not in found.values()
    )


@pytest.mark.parametrize(
    ("values", "key", "right"),
    [
        ({"api.site": "international", "api.base_url": "http://h"}, "api.site", "beside api.base_url"),
        (
            {"api.gateway": "openapi", "api.network": "vpc", "api.base_url": "http://h"},
            "api.network",
            "beside api.base_url",
        ),
        ({"store.timeout": "7s"}, "store.timeout", "while store.url is empty"),
        (SERVER | {"service.sql_listen": "127.0.0.1:1"}, "service.sql_listen", "while store.url names a server"),
    ],
    ids=str,
)
def test_a_key_that_another_one_takes_the_effect_of_is_refused(
    values: dict[str, Any], key: str, right: str, tmp_path: Path
) -> None:
    """The refusal names the key and the one that stands in its way."""
    with pytest.raises(ConfigError) as refused:
        load(written(tmp_path, values), {})
    (line,) = refused.value.mistakes
    assert line.startswith(key)
    assert right in line
