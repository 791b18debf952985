"""Which metrics of CloudMonitor are collected, with which period, by patterns and by what the service lists."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

import msgspec

from collector.api.products.cms import DESCRIBE_METRIC_LIST
from collector.journal.entries import KnownObject, StreamState
from collector.model import StreamKey
from collector.pipeline.windows import FIRST_LOOK
from collector.settings import Settings
from collector.sources.cloud_metrics import Series

if TYPE_CHECKING:
    from collector.owner.streams import Targets

CLOUD_KINDS: Final = ("cloud_namespace", "cloud_metric")
METRIC: Final = "cloud_metric"


def watches_cloud_metrics(settings: Settings) -> bool:
    """Whether the configuration asks for metrics of CloudMonitor, and for the lists that name them."""
    cloud = settings.sources.cloud_metrics
    return cloud.enabled and bool(cloud.namespaces) and settings.sources.inventory.enabled


def is_pattern(name: str) -> bool:
    """Whether a name stands for all that match it."""
    return any(character in name for character in "*?[")


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether one of the patterns fits a name; letters count as they are."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def period_of(periods: str, wanted: int) -> int:
    """The period that a metric is asked with: the wanted one, else its next longer one, else its longest.

    `periods` are those that the service lists, with commas; a metric without any is asked with the wanted one.
    """
    offered = sorted(int(text) for part in periods.split(",") if (text := part.strip()).isdecimal() and int(text))
    return next((period for period in offered if period >= wanted), offered[-1] if offered else wanted)


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


def _attributes(known: KnownObject) -> dict[str, Any]:
    """What the list says of a metric, out of its stored state."""
    try:
        found = msgspec.json.decode(msgspec.json.decode(known.state)[-1])
    except (msgspec.MsgspecError, IndexError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}
