"""Mistakes that no single key shows: values that do not fit each other."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from collector.settings.model import SETTLE_AUTO_SECONDS, ServiceSettings, Settings, StoreSettings, TargetSettings
from collector.settings.reading import KeyPath, Mistake, expected, show
from collector.units import DAY_SECONDS, format_duration


@dataclass(frozen=True, slots=True)
class Check:
    """One rule, and the keys it looks at: it says nothing while one of them is itself wrong."""

    keys: tuple[KeyPath, ...]
    find: Callable[[Settings], Iterator[Mistake]]

    def applies(self, failed: Sequence[KeyPath]) -> bool:
        return not any(_same_branch(key, path) for key in self.keys for path in failed)


def cross_mistakes(settings: Settings, failed: Sequence[KeyPath]) -> list[Mistake]:
    """What does not fit together, beside the keys that have already failed on their own."""
    return [mistake for check in CHECKS if check.applies(failed) for mistake in check.find(settings)]


def _same_branch(one: KeyPath, other: KeyPath) -> bool:
    length = min(len(one), len(other))
    return one[:length] == other[:length]


def _repeated(path: KeyPath, ids: Sequence[str]) -> Iterator[Mistake]:
    for scope_id in dict.fromkeys(scope_id for scope_id in ids if ids.count(scope_id) > 1):
        times = {2: "twice"}.get(ids.count(scope_id), f"{ids.count(scope_id)} times")
        yield Mistake(path, f"got {show(scope_id)} {times}; expected each id once")


def _recheck(settings: Settings, source: str) -> Iterator[Mistake]:
    section = getattr(settings.sources, source)
    recheck = section.recheck_seconds
    path: KeyPath = ("sources", source, "recheck")
    shown = [format_duration(seconds) for seconds in recheck]
    if list(recheck) != sorted(set(recheck)):
        yield expected(path, shown, "durations that ascend, each once")
    elif recheck and recheck[0] <= (most := section.settle_seconds or SETTLE_AUTO_SECONDS[1]):
        is_auto = "at most " if not section.settle_seconds else ""
        settle = f"{is_auto}{format_duration(most)}"
        yield expected(path, shown, f"durations longer than sources.{source}.settle, which is {settle}")


def _metric_types(settings: Settings, source: str) -> Iterator[Mistake]:
    path: KeyPath = ("sources", source, "metric_types")
    metric_types = getattr(settings.sources, source).metric_types
    if not metric_types:
        yield expected(path, [], f"at least one metric; enabled = false switches {source} off")
    yield from _repeated(path, metric_types)


def _cloud_metrics(settings: Settings) -> Iterator[Mistake]:
    section = settings.sources.cloud_metrics
    path: KeyPath = ("sources", "cloud_metrics")
    for key in ("metrics", "statistics"):
        if not getattr(section, key):
            yield expected((*path, key), [], "at least one; namespaces = [] asks for nothing")
    for key in ("namespaces", "metrics", "statistics"):
        yield from _repeated((*path, key), getattr(section, key))
    if section.interval_seconds < section.period_seconds:
        right = (
            f"a duration of at least sources.cloud_metrics.period, which is {format_duration(section.period_seconds)}: "
            "a look between two points costs a call and finds nothing"
        )
        yield expected((*path, "interval"), format_duration(section.interval_seconds), right)
    yield from _repeated((*path, "measures"), [word.partition("=")[0] for word in section.measures])
    for word in section.measures:
        if not re.fullmatch(r"[^/=]+/[^/=]+=[^=]+", word):
            yield expected((*path, "measures"), word, "NAMESPACE/METRIC=MEASURE, as acs_pai_dlc/GPU_UTIL=GpuCoreUsage")


def _interval_max(settings: Settings) -> Iterator[Mistake]:
    section = settings.sources.syslogs
    # One that nobody named goes up with the interval.
    is_named = "interval_max_seconds" in section.model_fields_set
    if is_named and section.interval_max_seconds < section.interval_seconds:
        interval = format_duration(section.interval_seconds)
        right = f"a duration of at least sources.syslogs.interval, which is {interval}"
        yield expected(_INTERVAL_MAX, format_duration(section.interval_max_seconds), right)


def _journal_apart(settings: Settings) -> Iterator[Mistake]:
    store, journal = settings.store.path.resolve(), settings.journal.path.resolve()
    if journal.is_relative_to(store) or store.is_relative_to(journal):
        yield expected(_JOURNAL, str(settings.journal.path), "a path apart from store.path, which the engine owns")


def _gateway(settings: Settings) -> Iterator[Mistake]:
    """Keys of the other gateway, which this one would ignore."""
    api = settings.api
    if api.gateway == "openapi":
        if api.site != "china":
            right = '"china", or api.gateway = "bearer": the addresses of openapi follow api.region and api.network'
            yield expected(("api", "site"), api.site, right)
        return
    if api.network != "public":
        right = (
            '"public", or api.gateway = "openapi": no address of the bearer gateway inside a VPC is documented; '
            "one of your own goes into api.base_url or api.endpoints"
        )
        yield expected(("api", "network"), api.network, right)
    if api.sign_with != "access_key":
        right = 'no such key, or api.gateway = "openapi": the bearer gateway always sends the API key'
        yield expected(("api", "sign_with"), api.sign_with, right)


def _address(settings: Settings) -> Iterator[Mistake]:
    """Keys that choose the address which `base_url` replaces."""
    api = settings.api
    key, value, default = ("site", api.site, "china") if api.gateway == "bearer" else ("network", api.network, "public")
    if api.base_url and value != default:
        yield expected(("api", key), value, f'"{default}" beside api.base_url, which replaces that address')


def _needs_url(settings: Settings) -> Iterator[Mistake]:
    store = settings.store
    if store.url:
        return
    if store.cluster:
        yield expected(("store", "cluster"), store.cluster, "nothing while store.url is empty: a cluster is of servers")
    if store.reader:
        yield expected(("store", "reader"), store.reader, "nothing while store.url is empty: it is a user of a server")
    if store.ca_file is not None:
        yield expected(("store", "ca_file"), str(store.ca_file), "nothing while store.url is empty")
    if store.timeout_seconds != StoreSettings().timeout_seconds:
        shown = format_duration(store.timeout_seconds)
        yield expected(
            ("store", "timeout"), shown, "no such key while store.url is empty: it bounds waits for a server"
        )


def _sql_listen(settings: Settings) -> Iterator[Mistake]:
    address = settings.service.sql_listen
    if settings.store.url and address not in ("", ServiceSettings().sql_listen):
        yield expected(
            _SQL_LISTEN, address, '"" while store.url names a server, which answers ClickHouse\'s clients itself'
        )


def _needs_tls(settings: Settings) -> Iterator[Mistake]:
    store = settings.store
    if store.ca_file is not None and store.url.startswith("http://"):
        yield expected(("store", "ca_file"), str(store.ca_file), "nothing, or store.url with https://")


def looks_back_seconds(settings: Settings, source: str) -> int:
    """How long after its events a source may still ask for a window, s."""
    section = getattr(settings.sources, source)
    return int(section.initial_lookback_seconds + section.settle_seconds + max(section.recheck_seconds, default=0))


def _retention(settings: Settings, table: str, sources: Sequence[str]) -> Iterator[Mistake]:
    kept = getattr(settings.store.retention, f"{table}_seconds")
    if not kept:
        return
    path: KeyPath = ("store", "retention", table)
    if table == "api_calls" and kept < BILLING_SECONDS:
        right = f"at least {format_duration(BILLING_SECONDS)}, since a month's spend is read from it"
        yield expected(path, format_duration(kept), right)
    # A recheck that asks for rows which are dropped already would buy them again, only for them to be dropped again.
    least, source = max((looks_back_seconds(settings, source), source) for source in sources) if sources else (0, "")
    if kept <= least:
        least = -(-least // 3600) * 3600
        why = f"for which sources.{source} looks back (initial_lookback, settle and recheck)"
        right = f"longer than {format_duration(least)}, {why}"
        yield expected(path, format_duration(kept), right)


def _retention_check(table: str, sources: Sequence[str]) -> Check:
    keys: list[KeyPath] = [("store", "retention", table)]
    for source in sources:
        keys += [("sources", source, key) for key in ("initial_lookback", "settle", "recheck")]
    return Check(tuple(keys), lambda settings: _retention(settings, table, sources))


def _target_check(name: str) -> Check:
    path: KeyPath = ("targets", name)
    return Check((path,), lambda settings: _repeated(path, getattr(settings.targets, name)))


def _recheck_check(source: str) -> Check:
    keys: tuple[KeyPath, ...] = (("sources", source, "recheck"), ("sources", source, "settle"))
    return Check(keys, lambda settings: _recheck(settings, source))


def _usage_check(key: str) -> Check:
    path: KeyPath = ("sources", "user_metrics", key)
    return Check((path,), lambda settings: _repeated(path, getattr(settings.sources.user_metrics, key)))


def _metric_check(source: str) -> Check:
    return Check((("sources", source, "metric_types"),), lambda settings: _metric_types(settings, source))


BILLING_SECONDS = 32 * DAY_SECONDS
"""The longest month, and a day for what comes late."""

_WINDOWED = ("syslogs", "node_metrics", "job_metrics", "cloud_metrics", "events")
_FILLED_BY = {
    "syslogs": ("syslogs",),
    "metric_points": ("node_metrics", "job_metrics", "cloud_metrics"),
    "user_metrics": (),
    "resource_group_metrics": (),
    "events": ("events",),
    # A record that is asked for again must find its dead letter.
    "dead_letters": _WINDOWED,
    "api_calls": (),
}

_INTERVAL: KeyPath = ("sources", "syslogs", "interval")
_INTERVAL_MAX: KeyPath = ("sources", "syslogs", "interval_max")
_JOURNAL: KeyPath = ("journal", "path")
_SQL_LISTEN: KeyPath = ("service", "sql_listen")
_STORE: KeyPath = ("store", "path")

CHECKS = (
    *(_target_check(name) for name in TargetSettings.model_fields),
    *(_recheck_check(source) for source in _WINDOWED),
    *(_retention_check(table, sources) for table, sources in _FILLED_BY.items()),
    *(_usage_check(key) for key in ("workspaces", "user_ids")),
    *(_metric_check(source) for source in ("node_metrics", "job_metrics")),
    Check((_INTERVAL, _INTERVAL_MAX), _interval_max),
    Check(
        tuple(
            ("sources", "cloud_metrics", key)
            for key in ("namespaces", "metrics", "statistics", "period", "interval", "measures")
        ),
        _cloud_metrics,
    ),
    Check((_JOURNAL, _STORE), _journal_apart),
    Check((("api", "gateway"), ("api", "site"), ("api", "network"), ("api", "sign_with")), _gateway),
    Check((("api", "gateway"), ("api", "site"), ("api", "network"), ("api", "base_url")), _address),
    Check(
        (("store", "url"), ("store", "reader"), ("store", "cluster"), ("store", "ca_file"), ("store", "timeout")),
        _needs_url,
    ),
    Check((("store", "url"), _SQL_LISTEN), _sql_listen),
    Check((("store", "url"), ("store", "ca_file")), _needs_tls),
)
