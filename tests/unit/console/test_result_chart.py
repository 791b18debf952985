"""Results as charts: which column is the time, what becomes a series, and what is said of the rest."""

from __future__ import annotations

import pytest

from collector.console.result_chart import SERIES_MAX, chart_of, kind_of
from collector.console.table import Chart, Kind, Row
from collector.queries import Column


def drawn(columns: dict[str, str], rows: list[list[object]], zone: str = "UTC") -> tuple[Chart | None, str]:
    told: list[Row] = [dict(zip(columns, row, strict=True)) for row in rows]
    return chart_of([Column(name, type) for name, type in columns.items()], told, zone, "x")


def series(chart: Chart | None) -> dict[str, list[float | None]]:
    assert chart is not None
    return {each.title: list(each.values) for each in chart.series}


@pytest.mark.parametrize(
    ("type_name", "value", "seconds"),
    [
        ("Date", "2025-10-09", 1_759_968_000),
        ("DateTime('UTC')", "2025-10-09 00:00:01", 1_759_968_001),
        ("Nullable(DateTime64(3, 'UTC'))", "2025-10-09 00:00:01.500", 1_759_968_001),
        ("DateTime('Asia/Shanghai')", "2025-10-09 08:00:00", 1_759_968_000),
        ("LowCardinality(DateTime)", "2025-10-09 02:00:00", 1_759_968_000),
    ],
)
def test_times_of_every_type_are_seconds(type_name: str, value: str, seconds: int) -> None:
    """A type's own zone counts, else that of the store."""
    chart, note = drawn({"n": "UInt8", "t": type_name}, [[5, value]], zone="Europe/Berlin")
    assert chart is not None
    assert (list(chart.times), series(chart), note) == ([seconds], {"n": [5.0]}, "")


def test_seconds_named_time_are_times() -> None:
    """A number called `time` is the axis, not a line."""
    chart, _ = drawn({"time": "UInt32", "n": "Float64"}, [[60, 1.5], [0, None]])
    assert chart is not None
    assert (list(chart.times), series(chart)) == ([0, 60], {"n": [None, 1.5]})


def test_text_makes_series_largest_first() -> None:
    """Each text is a line; beyond the most that fit, the smallest are left out with a word."""
    rows: list[list[object]] = [["2025-10-09", f"s{number}", number, 0] for number in range(10)]
    chart, note = drawn({"day": "Date", "name": "LowCardinality(String)", "n": "UInt64", "m": "UInt8"}, rows)
    assert list(series(chart)) == [f"s{number}" for number in range(9, 9 - SERIES_MAX, -1)]
    assert note == "the 8 largest of 10 series; of the numbers only n"


def test_missing_points_are_not_zero_and_doubled_ones_are_told() -> None:
    """A series without a value at a time has none there; two values at one time are no secret."""
    rows: list[list[object]] = [["2025-10-09", "a", 1], ["2025-10-10", "b", 2], ["2025-10-10", "b", 3]]
    chart, note = drawn({"day": "Date", "name": "String", "n": "UInt8"}, rows)
    assert series(chart) == {"b": [None, 3.0], "a": [1.0, None]}
    assert note.startswith("1 rows share time and series")


@pytest.mark.parametrize(
    ("columns", "word"), [({"n": "UInt8"}, "column of times"), ({"t": "DateTime"}, "column of numbers")]
)
def test_what_is_missing_is_told(columns: dict[str, str], word: str) -> None:
    """Without times or without numbers there is no chart, and the reason."""
    chart, note = drawn(columns, [])
    assert chart is None
    assert word in note


def test_only_utc_is_shown_as_utc() -> None:
    """Times of another zone stay as the query wrote them."""
    kinds = [
        kind_of(name, "Asia/Shanghai") for name in ("DateTime", "DateTime('UTC')", "Date", "Decimal(18, 3)", "Bool")
    ]
    assert kinds == [Kind.CODE, Kind.TIME, Kind.CODE, Kind.EXACT, Kind.YES_NO]
