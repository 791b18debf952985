"""Readers' SQL: what is kept of a result, how columns are told apart, and what an error is about."""

from __future__ import annotations

import pytest

from collector.admission import Admission
from collector.clock import SystemClock
from collector.console.readers_sql import Spot, distinct, explained, run, spot_of
from collector.errors import StoreUnavailable
from collector.queries import EngineQueryError, QueryLimits
from collector.store.embedded import EmbeddedStore


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["a", "b"], ["a", "b"]),
        (["a", "a", "a"], ["a", "a 2", "a 3"]),
        (["a 2", "a", "a"], ["a 2", "a", "a 3"]),
        (["a", "a", "a 2"], ["a", "a 3", "a 2"]),
    ],
)
def test_columns_of_one_name_are_told_apart(names: list[str], told: list[str]) -> None:
    """No two columns share a key, and a name that is there already is taken from nobody."""
    assert distinct(names) == told


@pytest.mark.parametrize(
    ("sql", "message", "spot"),
    [
        ("SELECT\n x y z", "Syntax error: failed at position 12 (z) (line 2, col 6): z", Spot(2, 6)),
        ("SELECT 1\nFROM a.b", "Unknown table expression identifier 'a.b' in scope", Spot(2, 6, 3)),
        ("SELECT myfoo, foo", "Unknown expression identifier `foo`", Spot(1, 15, 3)),
        ("SELECT 1", "Function with name `gone` does not exist", None),
        ("SELECT 1", "failed at position 1 (line 9, col 1)", None),
        ("SELECT 1", "Limit for result exceeded", None),
    ],
)
def test_place_of_an_error(sql: str, message: str, spot: Spot | None) -> None:
    """The engine's line and column, else the first place of the name that it did not know."""
    assert spot_of(sql, EngineQueryError(message)) == spot


async def test_query_that_runs_too_long_says_so(store: EmbeddedStore) -> None:
    """It is stopped at its limit, and the words name the limit."""
    limits = QueryLimits(seconds_max=0.2)
    sql = "SELECT sum(sipHash64(number)) FROM numbers(100000000000)"
    result = await run(store, Admission(), SystemClock(), sql, {}, limits=limits)
    assert result.error is not None
    assert explained(result.error, limits).startswith("The query ran too long and was stopped; 0.2 s are allowed.")


async def test_only_what_is_shown_is_read(store: EmbeddedStore) -> None:
    """A result is cut at its rows or bytes; what was read is told only of a whole one."""
    admission, clock = Admission(), SystemClock()
    cut = await run(store, admission, clock, "SELECT number FROM numbers(1000000000)", {}, rows_max=3)
    assert ([row["number"] for row in cut.rows], cut.cut, cut.rows_read) == ([0, 1, 2], "rows", None)
    large = await run(store, admission, clock, "SELECT repeat('x', 999) FROM numbers(5000)", {}, bytes_max=50_000)
    assert (large.cut, 0 < len(large.rows) < 2000) == ("bytes", True)
    whole = await run(store, admission, clock, "SELECT number FROM numbers(3)", {}, rows_max=3)
    assert (len(whole.rows), whole.cut, whole.rows_read) == (3, "", 3)
    none = await run(store, admission, clock, "SELECT 1 AS a WHERE 0", {})
    assert ([column.name for column in none.columns], list(none.rows)) == (["a"], [])
    shown = await run(store, admission, clock, "SHOW TABLES FROM pai LIKE 'syslogs'", {})
    assert [list(row.values()) for row in shown.rows] == [["syslogs"]]


def test_a_store_that_fails_is_no_mistake_of_the_sql() -> None:
    """The words tell the two apart."""
    assert explained(StoreUnavailable("gone")) == "the store cannot be read: gone"
