"""Which metrics of CloudMonitor are collected, with which period, by patterns and by what the service lists."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

import msgspec

from collector.catalogue.products.cms import DESCRIBE_METRIC_LIST
from collector.journal.entries import KnownObject, StreamState
from collector.model import StreamKey
from collector.pipeline.windows import FIRST_LOOK
from collector.settings import Settings
from collector.settings.model import CloudMetricsSettings
from collector.settings.reading import show
from collector.sources.cloud_metrics import Series
from collector.units import format_duration

if TYPE_CHECKING:
    from collector.owner.streams import Targets

CLOUD_KINDS: Final = ("cloud_namespace", "cloud_metric")
METRIC: Final = "cloud_metric"
NAMES_TOLD_MAX: Final = 8


def watches_cloud_metrics(settings: Settings) -> bool:
    """Whether the configuration asks for metrics of CloudMonitor, and for the lists that name them."""
    cloud = settings.sources.cloud_metrics
    return cloud.enabled and bool(cloud.namespaces) and settings.sources.inventory.enabled


def is_pattern(name: str) -> bool:
    """Whether a name stands for all that match it."""
    return any(character in name for character in "*?")


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether one of the patterns fits a name; letters count as they are."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def period_of(periods: str, wanted: int) -> int:
    """The period that a metric is asked with: the wanted one, else its next longer one, else its longest.

    `periods` are those that the service lists, with commas; a metric without any is asked with the wanted one.
    """
    offered = _periods(periods)
    return next((period for period in offered if period >= wanted), offered[-1] if offered else wanted)


def _periods(listed: str) -> list[int]:
    return sorted(int(text) for part in listed.split(",") if (text := part.strip()).isdecimal() and int(text))


@dataclass(frozen=True, slots=True)
class Listed:
    """What the lists of CloudMonitor show, as far as they have been read."""

    namespaces: Collection[str]
    """Empty while that list has not been read."""
    metrics: Mapping[str, Mapping[str, Mapping[str, Any]]]
    """Namespace -> metric -> what its list says of it; of the namespaces whose list has been read."""

    def fitting(self, cloud: CloudMetricsSettings) -> list[Mapping[str, Any]]:
        """What the lists say of each metric that is asked for."""
        return [
            told
            for namespace, metrics in self.metrics.items()
            if matches(namespace, cloud.namespaces)
            for metric, told in metrics.items()
            if matches(metric, cloud.metrics)
        ]


def mismatches(cloud: CloudMetricsSettings, listed: Listed) -> list[str]:
    """What the configuration asks for and the lists do not have: the key, what it says, and what would be right."""
    wanted = {name for name in listed.namespaces if matches(name, cloud.namespaces)}
    wanted.update(name for name in cloud.namespaces if not is_pattern(name))
    found = [*_namespaces(cloud, listed)]
    # What a list that is still to be read may have is not missed.
    if wanted and wanted <= listed.metrics.keys():
        found += _metrics(cloud, listed)
    return [f"sources.cloud_metrics.{line}" for line in found]


def _namespaces(cloud: CloudMetricsSettings, listed: Listed) -> Iterator[str]:
    for name in cloud.namespaces:
        if is_pattern(name):
            if listed.namespaces and not any(matches(each, [name]) for each in listed.namespaces):
                yield (
                    f"namespaces: got {show(name)}, which fits none of the service's namespaces "
                    f"({len(listed.namespaces)}); expected one of {_some(name, listed.namespaces)}, or a pattern that "
                    "fits some"
                )
        elif not listed.metrics.get(name, True):
            yield (
                f"namespaces: got {show(name)}, of which the service lists no metric; expected a namespace that has "
                "some: pai-collector call DescribeProjectMeta --all lists them"
            )


def _metrics(cloud: CloudMetricsSettings, listed: Listed) -> Iterator[str]:
    names = sorted({metric for metrics in listed.metrics.values() for metric in metrics})
    for name in cloud.metrics:
        if names and not any(matches(each, [name]) for each in names):
            yield (
                f"metrics: got {show(name)}, which fits none of the metrics of these namespaces ({len(names)}); "
                f"expected one of {_some(name, names)}, or a pattern that fits some"
            )
    for word in cloud.measures:
        namespace, _, metric = word.partition("=")[0].partition("/")
        if metric not in (known := listed.metrics.get(namespace, {})):
            yield (
                f"measures: got {show(word)}, whose metric is not listed; expected one of "
                f"{_some(metric, known or names)}" + (f" of {namespace}" if known else "")
            )
    fitting = listed.fitting(cloud)
    periods = [_periods(str(told.get("Periods") or "")) for told in fitting]
    if fitting and all(each and cloud.period_seconds not in each for each in periods):
        offered = sorted({period for each in periods for period in each})
        asked = sorted({period_of(str(told.get("Periods")), cloud.period_seconds) for told in fitting})
        yield (
            f"period: got {show(format_duration(cloud.period_seconds))}, which none of the metrics that fit "
            f"({len(fitting)}) has; expected one of {', '.join(map(format_duration, offered))}; they are asked with "
            f"{' and '.join(map(format_duration, asked))}"
        )
    statistics = [{part.strip() for part in str(told.get("Statistics") or "").split(",")} - {""} for told in fitting]
    for name in cloud.statistics:
        if fitting and all(each and name not in each for each in statistics):
            offered_names = sorted({each for known in statistics for each in known})
            yield (
                f"statistics: got {show(name)}, which none of the metrics that fit ({len(fitting)}) has; "
                f"expected any of {', '.join(offered_names)}"
            )


def _some(name: str, known: Iterable[str]) -> str:
    """Some of the known names, those that are spelled alike first."""
    names = sorted(known)
    alike = difflib.get_close_matches(name.strip("*?"), names, n=NAMES_TOLD_MAX, cutoff=0.4)
    told = [*alike, *(each for each in names if each not in alike)]
    more = f" and {len(told) - NAMES_TOLD_MAX} more" if len(told) > NAMES_TOLD_MAX else ""
    return ", ".join(told[:NAMES_TOLD_MAX]) + more


def add_cloud_metrics(
    settings: Settings,
    targets: Targets,
    listed: Sequence[KnownObject],
    streams: Mapping[StreamKey, StreamState],
    is_left: Callable[[str, int, int], bool],
) -> None:
    """Add the metrics that are asked for, and what is left of those that were.

    A metric that has left the list is collected to its end. One that was collected with another period goes on where
    that ended; what was stored stays, and is looked at again with the period it has. `is_left` says whether a scope
    that ended is not collected to its end, as of the newest list.
    """
    cloud = settings.sources.cloud_metrics
    newest = max((known.seen_at for known in listed), default=0)
    periods: dict[str, int] = {}
    for known in listed:
        namespace, _, metric = known.object_id.partition("/")
        if (
            "/" in metric
            or not metric
            or not matches(metric, cloud.metrics)
            or not matches(namespace, cloud.namespaces)
        ):
            continue
        attributes = _attributes(known)
        period = period_of(str(attributes.get("Periods") or ""), cloud.period_seconds)
        scope_id = str(Series(namespace, metric, period))
        targets.units[known.object_id] = str(attributes.get("Unit") or "")
        periods[known.object_id] = period
        if not known.is_present:
            if not is_left(scope_id, known.seen_at, newest):
                continue
            targets.ends[scope_id] = known.seen_at
        targets.add(METRIC, [scope_id])
    for key, state in streams.items():
        if key.operation != DESCRIBE_METRIC_LIST.name or key.region != settings.api.region or state.sealed_to is None:
            continue
        series = Series.of(key.scope_id)
        period = periods.get(f"{series.namespace}/{series.metric}", series.period_seconds)
        if period == series.period_seconds:
            continue
        reading = state.open.get(FIRST_LOOK)
        end = max(state.sealed_to, reading.window.end if reading is not None else 0)
        scope_id = str(Series(series.namespace, series.metric, period))
        targets.begins[scope_id] = max(end, targets.begins.get(scope_id, 0))
        if is_left(key.scope_id, end, 0):
            targets.add(METRIC, [key.scope_id])
            targets.ends[key.scope_id] = end


def told(listed: Iterable[KnownObject]) -> dict[str, dict[str, Any]]:
    """What a list says of each metric that is in it."""
    return {known.object_id.partition("/")[2]: _attributes(known) for known in listed if known.is_present}


def _attributes(known: KnownObject) -> dict[str, Any]:
    """What the list says of a metric, out of its stored state."""
    try:
        return attributes_of(msgspec.json.decode(known.state))
    except (msgspec.MsgspecError, TypeError):
        return {}


def attributes_of(values: Sequence[Any]) -> dict[str, Any]:
    """What the list says of an object, out of its columns: the last one has all of it, as JSON."""
    try:
        found = msgspec.json.decode(values[-1])
    except (msgspec.MsgspecError, IndexError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}
