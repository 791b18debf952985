"""A query's result as a line chart: its first time column against its numbers. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from collector.console.table import Chart, Kind, Row, Series
from collector.queries import Column

SERIES_MAX: Final = 8
_OUTER: Final = re.compile(r"(?:Nullable|LowCardinality)\((.*)\)")
_TIME: Final = re.compile(r"Date(?:32)?|DateTime(?:64\(\d+(?:, ?'(?P<zone64>[^']+)')?\)|\('(?P<zone>[^']+)'\))?")
_NUMBER: Final = re.compile(r"(?:U?Int\d+|Float\d+|BFloat16|Decimal.*)")
_TEXT: Final = re.compile(r"(?:String|FixedString.*|Enum.*|UUID|IPv[46])")


def inner(type_name: str) -> str:
    """Return a ClickHouse type without Nullable and LowCardinality."""
    while found := _OUTER.fullmatch(type_name):
        type_name = found[1]
    return type_name


def zone_of(type_name: str, zone: str) -> str | None:
    """Return the time zone that values of a type are written in, `zone` by default; None for another type."""
    found = _TIME.fullmatch(inner(type_name))
    if found is None:
        return None
    return "UTC" if inner(type_name) in ("Date", "Date32") else found["zone64"] or found["zone"] or zone


def kind_of(type_name: str, zone: str) -> Kind:
    """Return how values of a type are shown."""
    bare = inner(type_name)
    if zone_of(bare, zone) in ("UTC", "Etc/UTC") and not bare.startswith("Date32") and bare != "Date":
        return Kind.TIME
    if _NUMBER.fullmatch(bare):
        return Kind.EXACT
    return Kind.YES_NO if bare == "Bool" else Kind.CODE


def chart_of(columns: Sequence[Column], rows: Sequence[Row], zone: str, title: str) -> tuple[Chart | None, str]:
    """Return the chart of a result with a note on what it leaves out, or None and why there is none.

    A column of text makes a series of each of its values; else each number is a series.
    """
    time = next((column for column in columns if _is_time(column, zone)), None)
    numbers = [column.name for column in columns if column is not time and _NUMBER.fullmatch(inner(column.type))]
    texts = [column.name for column in columns if _TEXT.fullmatch(inner(column.type))]
    if time is None:
        return None, "A chart needs a column of times, such as toStartOfHour(time) AS hour."
    if not numbers:
        return None, "A chart needs a column of numbers."
    values: dict[str, dict[int, float]] = {}
    moments: set[int] = set()
    doubled = 0
    for row in rows:
        moment = _moment(row[time.name], zone_of(time.type, zone))
        if moment is None:
            continue
        moments.add(moment)
        word = " · ".join(str(row[name]) for name in texts if row[name] not in (None, ""))
        for name in numbers[:1] if texts else numbers:
            value = _number(row[name])
            if value is not None:
                line = values.setdefault((word or "(empty)") if texts else name, {})
                doubled += moment in line
                line[moment] = value
    shown = list(values)
    if texts:
        shown.sort(key=lambda name: -sum(abs(value) for value in values[name].values()))
    notes = []
    if len(shown) > SERIES_MAX:
        which = "largest" if texts else "first"
        notes.append(f"the {SERIES_MAX} {which} of {len(shown):,} series")
    if texts and len(numbers) > 1:
        notes.append(f"of the numbers only {numbers[0]}")
    if doubled:
        notes.append(f"{doubled:,} rows share time and series with a later one, which is drawn")
    times = sorted(moments)
    series = [Series(name, [values[name].get(moment) for moment in times]) for name in shown[:SERIES_MAX]]
    return Chart("chart", title, times, series, zooms=False), "; ".join(notes)


def _is_time(column: Column, zone: str) -> bool:
    # Seconds since the epoch are numbers by type, and a time by name.
    return zone_of(column.type, zone) is not None or (column.name == "time" and inner(column.type).startswith("UInt"))


def _moment(value: Any, zone: str | None) -> int | None:
    """Seconds since the epoch."""
    try:
        if isinstance(value, int):
            return value
        if len(value) <= 10:
            return int(datetime.combine(date.fromisoformat(value), datetime.min.time(), UTC).timestamp())
        return int(datetime.fromisoformat(value).replace(tzinfo=ZoneInfo(zone or "UTC")).timestamp())
    except (TypeError, ValueError, OverflowError, KeyError):
        return None


def _number(value: Any) -> float | None:
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError):
        return None
