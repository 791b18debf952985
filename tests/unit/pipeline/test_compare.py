"""Differences of multisets, merges of readings, partitions: pure."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.journal.entries import Chunk
from collector.model import ShipMode
from collector.pipeline.chunking import chunks, cut_at, decode_lines, identities, merge_readings
from collector.pipeline.compare import AnsweredRows, StoredRows, missing_rows
from collector.sources.normalise import lines
from collector.sources.tables import SYSLOGS, USER_METRICS, Table


def syslog(time: int, msg: str, extra: str = "{}") -> tuple[Any, ...]:
    row: list[Any] = ["" for _ in SYSLOGS.columns]
    row[0], row[1] = time, time + 1
    row[SYSLOGS.columns.index("msg")] = msg
    row[-1] = extra
    return tuple(row)


def difference(
    table: Table, rows: list[tuple[Any, ...]], stored: list[tuple[Any, ...]], *, whole: bool = True
) -> tuple[list[int], int]:
    held = StoredRows(table, identities(table, stored))
    return missing_rows(table, AnsweredRows(table, rows), held, whole_seconds=whole)


def missing(rows: list[tuple[Any, ...]], stored: list[tuple[Any, ...]], **how: bool) -> tuple[list[str], int]:
    found, conflicts = difference(SYSLOGS, rows, stored, whole=how.get("whole", True))
    return [rows[i][SYSLOGS.columns.index("msg")] for i in found], conflicts


def test_equal_rows_are_counted() -> None:
    """Three equal lines against one stored: two are missing."""
    a = syslog(5, "a")
    assert missing([a, a, a], [a]) == (["a", "a"], 0)


def test_a_second_that_changed_adds_nothing_and_is_a_conflict() -> None:
    """As many stored rows as are answered, but other ones: the answer has changed since."""
    assert missing([syslog(5, "a"), syslog(5, "b")], [syslog(5, "a"), syslog(5, "x")]) == ([], 1)


def test_a_late_row_beside_stored_ones_is_added() -> None:
    """More rows answered than stored: what is new is added."""
    assert missing([syslog(5, "a"), syslog(5, "b")], [syslog(5, "a")]) == (["b"], 0)


def test_a_conflict_in_one_second_does_not_hold_back_another() -> None:
    """Conflicts are judged second by second."""
    rows = [syslog(5, "a"), syslog(6, "late")]
    assert missing(rows, [syslog(5, "x")]) == (["late"], 1)


def test_strays_know_nothing_of_whole_seconds() -> None:
    """A stray is added when the store lacks it, whatever else stands in its second."""
    assert missing([syslog(5, "a")], [syslog(5, "x")], whole=False) == (["a"], 0)


def test_extra_does_not_tell_rows_apart() -> None:
    """A field that appears later at the service does not make old rows new."""
    assert missing([syslog(5, "a", '{"New":1}')], [syslog(5, "a")]) == ([], 0)


def test_a_snapshot_is_compared_by_key_and_the_first_row_wins() -> None:
    """For usage a row of the same group, workspace, tick, user and job type is the same row, whatever its figures."""
    row = (60, "r", "g", "u", "J", *range(15), [], [], [], [], [], "{}", "")
    changed = (60, "r", "g", "u", "J", *range(1, 16), [], [], [], [], [], "{}", "")
    other = (60, "r", "g", "v", "J", *range(15), [], [], [], [], [], "{}", "")
    found, _ = difference(USER_METRICS, [changed, other, other, (*row[:-1], "w")], [row])
    assert found == [1, 3]


@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from("abc"))),
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from("abc"))),
)
def test_nothing_is_doubled_and_only_conflicts_are_left_out(
    answered: list[tuple[int, str]], stored: list[tuple[int, str]]
) -> None:
    """After adding, each row stands as often as answered or stored, whichever is more, but for conflicts."""
    rows = [syslog(t, m) for t, m in answered]
    held = [syslog(t, m) for t, m in stored]
    found, conflicts = difference(SYSLOGS, rows, held)
    after = Counter(stored) + Counter(answered[i] for i in found)
    union = Counter(stored) | Counter(answered)
    differing = {t for t, _ in (union - after)}

    assert not after - union
    assert len(differing) == conflicts
    for second in differing:
        assert sum(t == second for t, _ in stored) == sum(t == second for t, _ in answered)


@pytest.mark.parametrize(("complete", "times"), [(1, 1), (None, 2)])
def test_readings_of_a_window_are_merged_as_multisets(complete: int | None, times: int) -> None:
    """A complete last reading counts its rows; of all others the larger number seen in one reading is kept."""
    first = [syslog(5, "a"), syslog(5, "a"), syslog(6, "b"), syslog(7, "d"), syslog(7, "d")]
    last = [syslog(5, "a"), syslog(6, "b"), syslog(6, "c")]
    day = "19700101"
    pairs = [
        (reading, Chunk("syslogs", day, len(rows), lines(rows), ShipMode.APPEND))
        for reading, rows in ((1, last), (0, first))
    ]
    merged = list(merge_readings(pairs, complete))
    rows = [row for chunk in merged for row in decode_lines(chunk.body)]
    got = Counter((row[0], row[SYSLOGS.columns.index("msg")]) for row in rows)
    assert got == Counter({(5, "a"): times, (6, "b"): 1, (6, "c"): 1, (7, "d"): 2})
    assert sum(chunk.rows for chunk in merged) == sum(got.values())


def test_an_empty_last_reading_counts_nothing() -> None:
    """The first reading that has rows is not taken for the complete one."""
    rows = [syslog(5, "a"), syslog(5, "a")]
    readings = [(1, rows[:1]), (0, rows)]
    pairs = [
        (number, Chunk("syslogs", "19700101", len(each), lines(each), ShipMode.APPEND)) for number, each in readings
    ]
    assert sum(chunk.rows for chunk in merge_readings(pairs, 2)) == 2


def test_a_cut_keeps_what_lies_before_it() -> None:
    """A window that is sealed early gives up the rows from its end on."""
    chunk = Chunk("syslogs", "19700101", 2, lines([syslog(5, "a"), syslog(6, "b")]), ShipMode.APPEND)
    (kept,) = cut_at(6)([chunk])
    assert [row[0] for row in decode_lines(kept.body)] == [5]


def test_rows_are_chunked_by_day() -> None:
    """A chunk belongs to one partition, in the table's own spelling."""
    made = chunks({SYSLOGS: [syslog(86_399, "a"), syslog(86_400, "b"), syslog(1, "c")]}, ShipMode.APPEND)
    assert {chunk.partition: chunk.rows for chunk in made} == {"19700101": 2, "19700102": 1}
