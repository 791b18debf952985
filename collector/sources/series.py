"""What all sources of metric series share: a window is asked metric by metric, and a point is a row.

The "pages" of a window are the metric types one after another, so a cursor is the name of a metric
type. A point's metric is the one that was asked for, whatever the answer calls it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import msgspec

from collector.catalogue.answers import Answer, UnreadableRecord
from collector.catalogue.operation import Operation
from collector.catalogue.products.pai_dlc import PodMetricPoint
from collector.catalogue.products.pai_studio import NodeMetricPoint
from collector.errors import CursorError
from collector.model import StreamKey, Window
from collector.sources.fields import text_of
from collector.sources.moments import iso_text, read_moment
from collector.sources.normalise import EXTRA_NONE, TIME_MAX, Field, Kind, as_json, unusable, values
from collector.sources.page import MARGIN_SECONDS, PageRows
from collector.sources.tables import METRIC_POINTS, Row
from collector.units import format_duration

_MS_MIN = 10**11
"""From here up a whole number is taken for milliseconds, as everywhere."""
_VALUE = (Field("Value", Kind.NUMBER),)


class SeriesSource:
    """What to ask for a window of a scope's series, and how they become rows of `metric_points`.

    Each answer holds series, each with the points (`Metrics`) of one entity. `time_step_seconds` is
    the averaging step; a point up to one step outside the window belongs to the neighbouring window.
    """

    name: ClassVar[str]
    operation: ClassVar[Operation]
    entity_field: ClassVar[str]
    """Field of a series that names what it was measured on."""
    gpu_type_field: ClassVar[str] = ""
    """Field of a series that tells GPUs of one entity apart, empty where there is none."""
    tables = (METRIC_POINTS,)

    def __init__(self, metric_types: Sequence[str], time_step_seconds: int) -> None:
        # Each once: the name of a metric type is the cursor.
        self.metric_types = tuple(dict.fromkeys(metric_types))
        if not self.metric_types:
            raise ValueError(f"{self.name}: needs at least one metric type")
        self.time_step_seconds = time_step_seconds

    @property
    def pages_of_window(self) -> int:
        """One for each metric type."""
        return len(self.metric_types)

    def parameters(self, key: StreamKey, window: Window, cursor: str | None) -> dict[str, Any]:
        """Parameters that ask for the metric type at `cursor`; the range is wider than the window by the margin."""
        return {
            self.operation.scope: key.scope_id,
            "MetricType": self._asked(cursor),
            "StartTime": iso_text(window.start - MARGIN_SECONDS),
            # A step further: the point after the last one shows that the last one is complete.
            "EndTime": iso_text(window.end + self.time_step_seconds + MARGIN_SECONDS),
            "TimeStep": format_duration(self.time_step_seconds, largest="h"),
        }

    def next_cursor(self, cursor: str | None, answer: Answer) -> str | None:
        """The metric type after the one at `cursor`, None after the last one."""
        following = self.metric_types.index(self._asked(cursor)) + 1
        return self.metric_types[following] if following < len(self.metric_types) else None

    def page(self, key: StreamKey, window: Window, cursor: str | None, answer: Answer) -> PageRows:
        """The rows of one metric type. Event times are not listed: entities are in no common order."""
        assert self.operation.records_field is not None
        filling = _Filling(self, key, window, self._asked(cursor))
        for series in getattr(answer, self.operation.records_field) or ():
            filling.add(series)
        filling.set_unsure_apart()
        return filling.page

    def _asked(self, cursor: str | None) -> str:
        if cursor is None:
            return self.metric_types[0]
        if cursor not in self.metric_types:
            # What was read of the window is merged with a reading from its start.
            raise CursorError(
                f"the window stands at {cursor}, which is no configured metric any more",
                operation=self.operation.name,
            )
        return cursor


@dataclass(slots=True)
class _Series:
    """One series, opened."""

    entity_id: str
    gpu_type: str
    unknown: dict[str, Any]
    """Its fields that the catalogue does not know."""
    own: dict[str, Any]
    """All its fields but the points."""


@dataclass(slots=True)
class _Filling:
    """One page while it is being filled."""

    source: SeriesSource
    key: StreamKey
    window: Window
    metric: str
    page: PageRows = field(default_factory=PageRows)
    rows: list[Row] = field(default_factory=list)
    known: set[tuple[int, str, str]] = field(default_factory=set)
    newest: dict[tuple[str, str], int] = field(default_factory=dict)
    """Entity and GPU type -> time of the newest point that the answer has of them, in the window or after it."""

    def __post_init__(self) -> None:
        self.page.rows[METRIC_POINTS] = self.rows

    def add(self, record: Any) -> None:
        """Take one series of the answer, typed or raw."""
        raw = msgspec.to_builtins(record) if isinstance(record, msgspec.Struct) else record
        if not isinstance(raw, dict):
            self._dead(*unusable(raw, "the series is not an object"))
            return
        typed = record.metrics if isinstance(record, msgspec.Struct) and hasattr(record, "metrics") else None
        points = raw.get("Metrics") if typed is None else typed
        if points is not None and not isinstance(points, list):
            self._dead("Metrics is not a list", raw)
            return
        series = self._opened(raw)
        for point in points or ():
            self.page.record_count += 1
            if (clean := _clean_point(point)) is None:
                self._add_odd(series, point)
                continue
            self._note(series, clean[0])
            if self._is_wanted(clean[0]):
                self._place(series, *clean, as_json(series.unknown) if series.unknown else EXTRA_NONE)

    def set_unsure_apart(self) -> None:
        """Take the newest point of each series out of the rows: nothing shows yet that its step is complete.

        An entity may lag behind the others of its scope, so its newest point is judged by its own series.
        """
        time, entity, gpu = (METRIC_POINTS.columns.index(name) for name in ("time", "entity_id", "gpu_type"))
        unsure = [row for row in self.rows if row[time] == self.newest[str(row[entity]), str(row[gpu])]]
        if unsure:
            self.page.unsure[METRIC_POINTS] = unsure
            apart = {id(row) for row in unsure}
            self.rows[:] = [row for row in self.rows if id(row) not in apart]

    def _note(self, series: _Series, time: int) -> None:
        identity = (series.entity_id, series.gpu_type)
        self.newest[identity] = max(self.newest.get(identity, 0), time)

    def _opened(self, raw: dict[str, Any]) -> _Series:
        entity, gpu = self.source.entity_field, self.source.gpu_type_field
        own = {name: value for name, value in raw.items() if name != "Metrics"}
        unknown = {name: value for name, value in own.items() if name not in (entity, gpu)}
        return _Series(text_of(raw.get(entity)), text_of(raw.get(gpu)) if gpu else "", unknown, own)

    def _add_odd(self, series: _Series, point: Any) -> None:
        raw = msgspec.to_builtins(point) if isinstance(point, msgspec.Struct) else point
        record = {**series.own, "Metrics": [raw.text if isinstance(raw, UnreadableRecord) else raw]}
        if not isinstance(raw, dict):
            self._dead(unusable(raw, "the point is not an object")[0], record, counted=True)
            return
        try:
            time, exact = read_moment(raw.get("Time"))
        except ValueError as error:
            reason = f"Time: {error}" if raw.get("Time") is not None else "Time is missing"
            self._dead(reason, record, counted=True)
            return
        self._note(series, time)
        if not self._is_wanted(time):
            return
        (value,), _ = values({"Value": raw.get("Value")}, _VALUE)
        if value is None:
            reason = "Value is not a number" if raw.get("Value") not in (None, "") else "Value is missing"
            self._dead(reason, record, counted=True)
            return
        unknown = {name: given for name, given in raw.items() if name not in ("Time", "Value")}
        if not exact:
            unknown["Time"] = raw["Time"]
        # Both may have an unknown field of the same name.
        inherited = {(f"Series.{name}" if name in unknown else name): given for name, given in series.unknown.items()}
        extra = {**inherited, **unknown}
        self._place(series, time, value, as_json(extra) if extra else EXTRA_NONE)

    def _is_wanted(self, time: int) -> bool:
        """Whether a point is the window's, or was not asked for and lies behind it.

        What lies near the window is the neighbour's. What lies after it is asked for again: stored now,
        it could be a step that is still being filled.
        """
        start, end = self.window.start, self.window.end
        return start <= time < end or time < start - self.source.time_step_seconds - MARGIN_SECONDS

    def _place(self, series: _Series, time: int, value: float, extra: str) -> None:
        identity = (time, series.entity_id, series.gpu_type)
        if identity in self.known:
            return
        self.known.add(identity)
        source = METRIC_POINTS.sources[self.source.operation.name]
        row = (
            time, self.key.region, source, self.key.scope_id, series.entity_id, self.metric, series.gpu_type,
            value, extra, "", 0, "", EXTRA_NONE, "", self.metric,
        )  # fmt: skip
        if time >= self.window.start:
            self.rows.append(row)
        else:
            self.page.strays.setdefault(METRIC_POINTS, []).append(row)

    def _dead(self, reason: str, record: object, *, counted: bool = False) -> None:
        self.page.record_count += not counted
        # The answer need not say which metric it holds, and the same node may have the same fault in several.
        self.page.dead.append((f"{self.metric}: {reason}", record))


def _clean_point(point: Any) -> tuple[int, float] | None:
    """Time in seconds and value of a typed point with whole seconds and a finite number, else None."""
    if isinstance(point, PodMetricPoint):
        number = point.value
    elif isinstance(point, NodeMetricPoint):
        try:
            number = float(point.value)
        except ValueError:
            return None
    else:
        return None
    time = point.time
    if time >= _MS_MIN and time % 1_000 == 0:
        time //= 1_000
    return (time, number) if 0 <= time <= TIME_MAX and math.isfinite(number) else None
