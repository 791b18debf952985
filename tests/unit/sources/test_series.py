"""Series: a window is asked metric by metric, and every point that can be placed becomes one row."""

from __future__ import annotations

import json
from typing import Any

import pytest

from collector.api.decode import decode_answer
from collector.catalogue.answers import Answer
from collector.catalogue.parameters import coerce_parameters
from collector.errors import CursorError
from collector.model import StreamKey, Window
from collector.sources.job_metrics import InstanceMetricsSource, JobMetricsSource
from collector.sources.node_metrics import NodeMetricsSource
from collector.sources.page import PageRows
from collector.sources.series import SeriesSource
from collector.sources.tables import METRIC_POINTS
from tests.support.catalogue import records_key

START, END, STEP = 1_760_000_400, 1_760_001_300, 300
WINDOW = Window(START, END)
NODES = NodeMetricsSource(["CpuUsageRate", "GpuUsageRate"], STEP)
JOBS = JobMetricsSource(["GpuCoreUsage"], STEP)
NOTEBOOKS = InstanceMetricsSource(["CpuCoreUsage"], STEP)
NOT_CLOUD = ("", 0, "", "{}", "")
"""Namespace, period, statistic, dimensions and unit, which only CloudMonitor names."""
SOURCES = [NODES, JOBS, NOTEBOOKS]


def key(source: SeriesSource) -> StreamKey:
    return StreamKey(source.operation.name, "r", "scope")


def answer(source: SeriesSource, *series: object) -> Answer:
    """The series as the client would hand them over."""
    field = records_key(source.operation)
    decoded = decode_answer(source.operation, json.dumps({field: series}).encode())
    assert isinstance(decoded, Answer)
    return decoded


def page_of(source: SeriesSource, *series: object, cursor: str | None = None) -> PageRows:
    """The page as the last look at its window takes it."""
    page = source.page(key(source), WINDOW, cursor, answer(source, *series))
    for table, rows in page.unsure.items():
        page.rows[table] = sorted(page.rows[table] + rows, key=lambda row: row[0])  # type: ignore[return-value]
    return page


def points_of(source: SeriesSource, *points: object, **fields: object) -> PageRows:
    """The page of one series with these points."""
    return page_of(source, {source.entity_field: "e1", "Metrics": points, **fields})


def rows_of(page: PageRows) -> list[dict[str, Any]]:
    return [dict(zip(METRIC_POINTS.columns, row, strict=True)) for row in page.rows[METRIC_POINTS]]


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_what_is_asked_fits_the_catalogue(source: SeriesSource) -> None:
    """The range is wider than the window, at its end by a step more, and the step a text that the service takes."""
    asked = source.parameters(key(source), WINDOW, None)

    assert coerce_parameters(source.operation, asked) == asked
    assert asked[source.operation.scope] == "scope"
    assert (asked["StartTime"], asked["EndTime"]) == ("2025-10-09T08:59:59Z", "2025-10-09T09:20:01Z")
    assert asked["TimeStep"] == "5m"
    assert source.parameters(key(source), Window(0, 60), None)["StartTime"] == "1970-01-01T00:00:00Z"


def test_metric_types_are_asked_one_after_another() -> None:
    """The cursor is the name of a metric type; one that is configured no more is a cursor that has died."""
    source = NodeMetricsSource(["a", "b", "a", "c"], STEP)
    empty = answer(source)
    cursors: list[str | None] = [None]
    while (following := source.next_cursor(cursors[-1], empty)) is not None:
        cursors.append(following)

    assert cursors == [None, "b", "c"]
    assert [source.parameters(key(source), WINDOW, cursor)["MetricType"] for cursor in cursors] == ["a", "b", "c"]
    assert source.pages_of_window == 3
    with pytest.raises(CursorError, match="gone"):
        source.parameters(key(source), WINDOW, "gone")
    with pytest.raises(ValueError, match="at least one metric type"):
        NodeMetricsSource([], STEP)


def test_the_metric_is_the_one_that_was_asked_for() -> None:
    """A row's metric is the cursor's, not what the answer calls it."""
    body = {"MetricType": "else", "NodesMetrics": [{"NodeID": "n", "Metrics": [{"Time": START, "Value": "1"}]}]}
    told = decode_answer(NODES.operation, json.dumps(body).encode())
    assert isinstance(told, Answer)

    first, second = (NODES.page(key(NODES), WINDOW, cursor, told) for cursor in (None, "GpuUsageRate"))
    first.rows, second.rows = first.unsure, second.unsure

    assert [rows_of(page)[0]["metric"] for page in (first, second)] == ["CpuUsageRate", "GpuUsageRate"]


@pytest.mark.parametrize(
    ("source", "name", "time", "value"),
    [
        (NODES, "node_metrics", START, "37.25"),
        (NODES, "node_metrics", START * 1000, 37.25),
        (NODES, "node_metrics", "2025-10-09T09:00:00Z", " 37.25 "),
        (JOBS, "job_metrics", START * 1000, 37.25),
        (JOBS, "job_metrics", str(START * 1000), "37.25"),
        (JOBS, "job_metrics", "2025-10-09 17:00:00+08:00", 37.25),
        (NOTEBOOKS, "dsw_metrics", START, 37.25),
        (NOTEBOOKS, "dsw_metrics", START * 10**9, 37.25),
    ],
)
def test_a_point_becomes_a_row(source: SeriesSource, name: str, time: object, value: object) -> None:
    """Seconds, milliseconds and ISO text are recognised, and a number in a string is a number."""
    page = points_of(source, {"Time": time, "Value": value})

    assert page.rows == {
        METRIC_POINTS: [
            (
                START,
                "r",
                name,
                "scope",
                "e1",
                source.metric_types[0],
                "",
                37.25,
                "{}",
                *NOT_CLOUD,
                source.metric_types[0],
            )
        ],
    }
    assert (page.dead, page.strays, page.times, page.record_count) == ([], {}, [], 1)


def test_series_of_one_node_are_told_apart_by_gpu_type() -> None:
    """A node with two kinds of GPU has a row for each."""
    point = {"Time": START, "Value": "1"}
    page = page_of(NODES, *({"NodeID": "n", "GPUType": gpu, "Metrics": [point]} for gpu in ("A100", "T4")))

    assert [(row["entity_id"], row["gpu_type"]) for row in rows_of(page)] == [("n", "A100"), ("n", "T4")]


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_the_first_of_two_points_with_one_key_wins(source: SeriesSource) -> None:
    """Within an answer a time and entity has one value, also where it comes in two series or spellings."""
    series = {source.entity_field: "e1", "Metrics": [{"Time": START, "Value": "1"}, {"Time": START, "Value": "2"}]}
    again = {source.entity_field: "e1", "Metrics": [{"Time": START * 1000, "Value": "3", "More": 1}]}

    assert [row["value"] for row in rows_of(page_of(source, series, again))] == [1.0]


def test_a_bad_value_does_not_stand_in_the_way_of_a_good_one() -> None:
    """Only a point that became a row takes its key."""
    page = points_of(JOBS, {"Time": START, "Value": None}, {"Time": START, "Value": 5})

    assert [row["value"] for row in rows_of(page)] == [5.0]
    assert len(page.dead) == 1


@pytest.mark.parametrize(
    ("point", "reason"),
    [
        ({"Time": START, "Value": None}, "Value is missing"),
        ({"Time": START}, "Value is missing"),
        ({"Time": START, "Value": ""}, "Value is missing"),
        ({"Time": START, "Value": "n/a"}, "Value is not a number"),
        ({"Time": START, "Value": "NaN"}, "Value is not a number"),
        ({"Time": START, "Value": True}, "Value is not a number"),
        ({"Time": START, "Value": [1]}, "Value is not a number"),
        ({"Value": 1}, "Time is missing"),
        ({"Time": None, "Value": 1}, "Time is missing"),
        ({"Time": "soon", "Value": 1}, "Time: not a time: 'soon'"),
        ({"Time": -1, "Value": 1}, "Time: not a time: -1"),
        ([START, 1], "the point is not an object"),
    ],
)
@pytest.mark.parametrize("source", [NODES, JOBS], ids=lambda source: source.name)
def test_a_point_that_cannot_be_placed_is_a_dead_letter(source: SeriesSource, point: object, reason: str) -> None:
    """It is kept with its series and the reason, and its neighbours become rows."""
    good = {"Time": START + 1, "Value": "1"}
    page = points_of(source, point, good, Unit="%")

    entity = {source.entity_field: "e1"}
    assert page.dead == [(f"{source.metric_types[0]}: {reason}", {**entity, "Unit": "%", "Metrics": [point]})]
    assert [row["time"] for row in rows_of(page)] == [START + 1]
    assert page.record_count == 2


@pytest.mark.parametrize(
    ("series", "reason"),
    [
        ("text", "the series is not an object"),
        (None, "the series is not an object"),
        ({"NodeID": "n", "Metrics": {}}, "Metrics is not a list"),
    ],
)
def test_a_series_that_is_none_is_a_dead_letter(series: object, reason: str) -> None:
    """What holds no points is kept as it came, and the other series become rows."""
    page = page_of(NODES, series, {"NodeID": "n", "Metrics": [{"Time": START, "Value": "1"}]})

    assert page.dead == [(f"CpuUsageRate: {reason}", series)]
    assert len(rows_of(page)) == 1


@pytest.mark.parametrize("series", [{"NodeID": "n"}, {"NodeID": "n", "Metrics": None}, {"NodeID": "n", "Metrics": []}])
def test_a_series_without_points_is_nothing(series: object) -> None:
    """An entity that was not measured is no fault."""
    page = page_of(NODES, series)

    assert (page.rows, page.dead, page.record_count) == ({METRIC_POINTS: []}, [], 0)


def test_unknown_fields_are_kept_in_extra() -> None:
    """Those of the point and of its series, and what a cut to whole seconds would lose."""
    page = points_of(JOBS, {"Time": START * 1000 + 250, "Value": 1, "Flag": None}, PodName="p", Flag=2)

    (row,) = rows_of(page)
    assert (row["time"], row["entity_id"]) == (START, "e1")
    assert json.loads(row["extra"]) == {"PodName": "p", "Series.Flag": 2, "Flag": None, "Time": START * 1000 + 250}


def test_an_entity_of_another_type_or_without_a_name_is_a_row() -> None:
    """A missing id is empty, a number is text."""
    points = [{"Time": START, "Value": "1"}]
    page = page_of(NODES, {"NodeID": 7, "Metrics": points}, {"Metrics": points})

    assert [row["entity_id"] for row in rows_of(page)] == ["7", ""]


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
@pytest.mark.parametrize("typed", [True, False])
def test_points_outside_the_window_belong_to_neighbours_or_are_strays(source: SeriesSource, typed: bool) -> None:
    """Up to a step and a second before the window, and always after it, a point is left to another window."""
    far = START - STEP - 2
    times = [far, far + 1, START - 1, START, END - 1, END, END + STEP, END + 10 * STEP]
    more = {} if typed else {"More": 1}
    page = points_of(source, *({"Time": time, "Value": "1", **more} for time in times))

    assert [row["time"] for row in rows_of(page)] == [START, END - 1]
    assert [row[0] for row in page.strays[METRIC_POINTS]] == [far]
    assert (page.dead, page.times, page.record_count) == ([], [], len(times))


def test_a_bad_value_outside_the_window_is_the_neighbours() -> None:
    """A point that will be asked for again is no dead letter of this window: its value may be filled by then."""
    page = points_of(JOBS, {"Time": END * 1000, "Value": None}, {"Time": (START - 1) * 1000, "Value": None})

    assert page.dead == []


def test_the_newest_point_of_each_series_is_unsure() -> None:
    """A point is sure when its own series has a newer one, in the window or after it: entities lag apart."""
    ahead = [{"Time": at, "Value": "1"} for at in (START, START + STEP, END)]
    behind = [{"Time": START, "Value": "1"}, {"Time": START + STEP, "Value": "0.1"}]
    series = [{"NodeID": "ahead", "Metrics": ahead}, {"NodeID": "behind", "Metrics": behind}]
    page = NODES.page(key(NODES), WINDOW, None, answer(NODES, *series))

    entity, time = METRIC_POINTS.columns.index("entity_id"), METRIC_POINTS.columns.index("time")
    assert [(row[entity], row[time]) for row in page.rows[METRIC_POINTS]] == [
        ("ahead", START),
        ("ahead", START + STEP),
        ("behind", START),
    ]
    assert [(row[entity], row[time]) for row in page.unsure[METRIC_POINTS]] == [("behind", START + STEP)]
