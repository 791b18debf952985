"""Calls and money: every attempt is reserved before it is sent and settled by its answer.

What a crash leaves reserved is entered as `unknown` at the next start and counts like any other
call, so the meter is never below what the service has counted. Money is kept in millionths of a CNY.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial

from collector.api.metering import CODE_UNKNOWN, Attempt
from collector.catalogue.operation import Price
from collector.journal.coverage import BUDGET_REACHED_KEY
from collector.journal.money import BILLING_ZONE, billing_month, cny, micro_cny, month_start
from collector.journal.spending import (
    BUDGET_KEY,
    Prices,
    Spending,
    calls_of_month,
    note_calls,
    note_cost,
    pot_members,
    pot_of,
    spending_with,
)

__all__ = [
    "BILLING_ZONE", "Allow", "Note", "Prices", "billing_month", "load_month", "month_start", "note_budget_reached",
    "release", "reserve", "settle", "settle_unknown", "spend", "take_meter",
]  # fmt: skip

Note = Callable[[str], bool]
"""Remembers, with the call, that a budget was reached; False if the journal knows it already."""
Allow = Callable[[Spending, Note], None]
"""Asked inside the transaction, before a call that costs something is let out; what it raises refuses the call."""


def reserve(db: sqlite3.Connection, operation: str, now: int, prices: Prices, allow: Allow | None = None) -> int:
    """Let one call out at its price; returns its ticket. Raises what `allow` raises, and then nothing is reserved."""
    price = prices.get(operation)
    if allow is not None and price is not None and price.cny:
        spending = spending_with(db, operation, prices, now)
        if spending is not None:
            allow(spending, partial(note_budget_reached, db, now=now))
    price_micro_cny, free_calls = (
        (micro_cny(price.counted_cny), price.free_calls_per_month) if price is not None else (0, 0)
    )
    cursor = db.execute(
        "INSERT INTO reserved (operation, minute, price_micro_cny, free_calls) VALUES (?, ?, ?, ?)",
        (operation, now // 60 * 60, price_micro_cny, free_calls),
    )
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def note_budget_reached(db: sqlite3.Connection, budget: str, now: int) -> bool:
    """Remember that `budget` (month and cap) was reached at `now` (server time, s); False if that is known already."""
    (known,) = db.execute("SELECT count() FROM meta WHERE key = ? AND value = ?", (BUDGET_KEY, budget)).fetchone()
    if not known:
        facts = [(BUDGET_KEY, budget), (BUDGET_REACHED_KEY, now)]
        db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", facts)
    return not known


def release(db: sqlite3.Connection, ticket: int) -> None:
    """Take back a call that was never sent."""
    db.execute("DELETE FROM reserved WHERE ticket = ?", (ticket,))


def settle(db: sqlite3.Connection, attempt: Attempt, prices: Prices) -> None:
    """Enter the outcome of a call, at the price of its reservation and in the month in which it was sent.

    A ticket that is settled already is left alone.
    """
    row = db.execute(
        "DELETE FROM reserved WHERE ticket = ? RETURNING price_micro_cny, free_calls", (attempt.ticket,)
    ).fetchone()
    if row is None:
        return
    _enter(
        db, attempt.time // 60 * 60, attempt.operation, attempt.http_status, attempt.code, attempt.rows, attempt.bytes,
        _terms(row, prices.get(attempt.operation)), prices,
    )  # fmt: skip


def settle_unknown(db: sqlite3.Connection, prices: Prices) -> int:
    """Enter every call that an earlier process left reserved; returns how many."""
    left = db.execute("DELETE FROM reserved RETURNING operation, minute, price_micro_cny, free_calls").fetchall()
    enter_unknown(db, left, prices)
    return len(left)


def enter_unknown(
    db: sqlite3.Connection, left: Iterable[tuple[str, int, int | None, int | None]], prices: Prices
) -> None:
    """Enter calls of which nobody knows what became: (operation, minute, price in millionths of a CNY, free calls)."""
    for operation, minute, *terms in left:
        _enter(db, minute, operation, 0, CODE_UNKNOWN, 0, 0, _terms(terms, prices.get(operation)), prices)


def _terms(kept: Sequence[int | None], price: Price | None) -> tuple[int, int]:
    """Price (millionths of a CNY) and free calls of a ticket; those of today where it was reserved without any."""
    price_micro_cny, free_calls = kept
    if price_micro_cny is not None and free_calls is not None:
        return price_micro_cny, free_calls
    return (0, 0) if price is None else (micro_cny(price.counted_cny), price.free_calls_per_month)


def _enter(
    db: sqlite3.Connection, minute: int, operation: str, http_status: int, code: str, rows: int, size: int,
    terms: tuple[int, int], prices: Prices,
) -> None:  # fmt: skip
    price_micro_cny, free_calls = terms
    pot = pot_of(operation, prices)
    calls_before = calls_of_month(db, pot_members(pot, prices), minute)
    if pot != operation:
        note_calls(db, minute, pot)
    cost = price_micro_cny if calls_before >= free_calls else 0
    add_settled(db, minute, operation, http_status, code, 1, rows, size, cost)


def add_settled(
    db: sqlite3.Connection, minute: int, operation: str, http_status: int, code: str, calls: int, rows: int,
    size: int, cost_micro_cny: int,
) -> None:  # fmt: skip
    """Enter calls of a minute with what they cost."""
    add_to_month(db, minute, operation, calls, cost_micro_cny)
    db.execute(
        "INSERT INTO meter VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET calls = calls + excluded.calls,"
        " rows = rows + excluded.rows, bytes = bytes + excluded.bytes,"
        " cost_micro_cny = cost_micro_cny + excluded.cost_micro_cny",
        (minute, operation, http_status, code, calls, rows, size, cost_micro_cny),
    )


def add_to_month(db: sqlite3.Connection, minute: int, operation: str, calls: int, cost_micro_cny: int) -> None:
    """Count calls of a minute, and what they cost, in their billing month."""
    if cost_micro_cny:
        note_cost(db, minute, cost_micro_cny)
    db.execute(
        "INSERT INTO months VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET calls = calls + excluded.calls,"
        " cost_micro_cny = cost_micro_cny + excluded.cost_micro_cny",
        (billing_month(minute), operation, calls, cost_micro_cny),
    )


def take_meter(db: sqlite3.Connection, before_minute: int | None, region: str) -> list[tuple[str, tuple[object, ...]]]:
    """Take the settled calls out of the meter, as (partition, row of `api_call_parts`).

    Minutes from `before_minute` on stay, since more calls may join them; None takes all.
    """
    limit = before_minute if before_minute is not None else 2**62
    taken = db.execute("DELETE FROM meter WHERE minute < ? RETURNING *", (limit,)).fetchall()
    parts: list[tuple[str, tuple[object, ...]]] = []
    for minute, operation, http_status, code, calls, rows, size, cost in sorted(taken):
        partition = datetime.fromtimestamp(minute, UTC).strftime("%Y%m")
        row = (minute, region, operation, http_status, code, calls, rows, size, str(cny(cost)))
        parts.append((partition, row))
    return parts


def spend(db: sqlite3.Connection, month: str) -> list[tuple[str, int, Decimal]]:
    """(operation, calls, CNY) of a billing month."""
    rows = db.execute("SELECT operation, calls, cost_micro_cny FROM months WHERE month = ? ORDER BY 1", (month,))
    return [(operation, calls, cny(cost)) for operation, calls, cost in rows]


def load_month(db: sqlite3.Connection, month: str, spent: Iterable[tuple[str, int, Decimal]]) -> None:
    """Start a month from what the store knows of it, in a journal that knows nothing yet."""
    db.executemany(
        "INSERT INTO months VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        [(month, operation, calls, micro_cny(cost)) for operation, calls, cost in spent],
    )
