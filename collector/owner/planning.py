"""What a configuration asks of which operation, without asking anybody: named targets, and assumed ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

from collector.catalogue.products.pai_llm_trace import GET_XTRACE_TOKEN
from collector.errors import UsageError
from collector.owner.cloud_targets import is_pattern, watches_cloud_metrics
from collector.owner.streams import KIND_OF
from collector.pipeline.plan import Asking, Demand
from collector.settings import SETTLE_AUTO_SECONDS, Settings
from collector.sources.inventory import InventorySource
from collector.sources.registry import SPECS, Look, Spec, step_seconds
from collector.telemetry.tracing import Limits

WORD_OF = {kind: word for word, kind in KIND_OF.items()} | {"node": "nodes"}
"""For each kind of target its word in `[targets]`."""
CLOUD_METRICS = "cloud_metrics"
CLOUD_SERIES = "cloud_series"
ASSUMED = (*WORD_OF.values(), CLOUD_METRICS, CLOUD_SERIES)
"""What numbers may be assumed of: targets, metrics of CloudMonitor, and the series that each of these has."""


def demands_of(settings: Settings, assumed: Mapping[str, int] | None = None) -> list[Demand]:
    """What each source asks for. `assumed` says how many targets of a kind there are, by the words of `[targets]`.

    Raises UsageError where fewer are assumed than the configuration names.
    """
    counts = _Counts(settings, assumed or {})
    found = [*_lists(settings, counts)]
    for spec in SPECS:
        section = getattr(settings.sources, spec.name)
        if section.enabled:
            targets, is_at_least = counts.of(spec)
            demands = _demands(spec, section, targets * len(spec.filters(section)), is_at_least)
            if spec.name == "cloud_metrics":
                points = Fraction(counts.series, section.period_seconds)
                demands = [replace(demand, points_per_second=points) for demand in demands]
            found += demands
    if settings.tracing.enabled:
        renewal = int(Limits().renew_seconds)
        found.append(Demand("tracing", GET_XTRACE_TOKEN, Asking.TOKENS, 1, False, renewal, renewal))
    return [demand for demand in found if demand.streams or demand.is_at_least]


class _Counts:
    """How many targets of each kind there are, and whether there may be more."""

    def __init__(self, settings: Settings, assumed: Mapping[str, int]) -> None:
        targets = settings.targets
        self._counts: dict[str, tuple[int, bool]] = {}
        for kind, word in WORD_OF.items():
            named = len(getattr(targets, word))
            count = assumed.get(word, named)
            if count < named:
                raise UsageError(f"--assume {word}={count}: got fewer than the {named} that targets.{word} names")
            is_discovered = word in targets.discover
            if kind == "node":
                is_discovered = settings.sources.inventory.enabled and any(self._counts["cluster"])
            self._counts[kind] = (count, is_discovered and word not in assumed)
        self._counts["cloud_metric"] = _cloud_metrics(settings, assumed.get(CLOUD_METRICS))
        self.series = assumed.get(CLOUD_SERIES, 1)

    def __getitem__(self, kind: str) -> tuple[int, bool]:
        return self._counts[kind]

    def of(self, spec: Spec) -> tuple[int, bool]:
        if spec.target:
            return self._counts[spec.target]
        # One look at the account, where there is what it needs.
        return int(not spec.needs or any(self._counts[spec.needs])), False


def _lists(settings: Settings, counts: _Counts) -> list[Demand]:
    inventory = settings.sources.inventory
    if not inventory.enabled:
        return []
    interval = inventory.interval_seconds

    def listing(kind: str, streams: int, is_at_least: bool) -> Demand:
        operation = InventorySource(kind).operation
        return Demand("inventory", operation, Asking.LISTS, streams, is_at_least, interval, interval)

    lists = [listing(KIND_OF[word], 1, False) for word in settings.targets.discover]
    lists.append(listing("node", *counts["cluster"]))
    if watches_cloud_metrics(settings):
        namespaces = settings.sources.cloud_metrics.namespaces
        has_patterns = any(map(is_pattern, namespaces))
        if has_patterns:
            lists.append(listing("cloud_namespace", 1, False))
        lists.append(listing("cloud_metric", sum(not is_pattern(each) for each in namespaces), has_patterns))
    return lists


def _cloud_metrics(settings: Settings, assumed: int | None) -> tuple[int, bool]:
    """Metrics of CloudMonitor that are asked for, as far as the configuration tells, and whether there may be more."""
    cloud = settings.sources.cloud_metrics
    if not watches_cloud_metrics(settings):
        return 0, False
    named = [name for name in cloud.namespaces if not is_pattern(name)]
    metrics = [name for name in cloud.metrics if not is_pattern(name)]
    has_patterns = any(map(is_pattern, (*cloud.namespaces, *cloud.metrics)))
    # Named ones need not exist, but nobody names what does not.
    return (len(named) * len(metrics), has_patterns) if assumed is None else (assumed, False)


def _demands(spec: Spec, section: Any, streams: int, is_at_least: bool) -> list[Demand]:
    source = spec.make(section)
    interval = section.interval_seconds
    if spec.look is Look.WINDOW:
        return [
            Demand(
                spec.name,
                source.operation,
                Asking.LOOKS,
                streams,
                is_at_least,
                interval,
                getattr(section, "interval_max_seconds", interval),
                calls_per_look=max(1, source.pages_of_window),
                rechecks=tuple(section.recheck_seconds),
                step=step_seconds(section),
                settle=section.settle_seconds or SETTLE_AUTO_SECONDS[1],
            )
        ]
    asking = Asking.SNAPSHOTS if spec.look is Look.SNAPSHOT else Asking.LISTS
    found = [Demand(spec.name, source.operation, asking, streams, is_at_least, interval, interval)]
    detail = getattr(source, "detail_operation", None)
    if detail is not None and streams:
        # One call for each object that has changed: nobody can count them beforehand.
        found.append(Demand(spec.name, detail, Asking.DETAILS, 0, True, interval, interval))
    return found
