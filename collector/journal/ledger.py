"""Calls and money: every attempt is reserved before it is sent and settled by its answer.

What a crash leaves reserved is entered as `unknown` at the next start and counts like any other
call, so the meter is never below what the service has counted. Money is kept in millionths of a CNY.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

from collector.api.metering import CODE_UNKNOWN, Attempt
from collector.api.operation import Price

BILLING_ZONE = timezone(timedelta(hours=8))
"""Billing months are calendar months of China's time."""

_MICRO = Decimal(1_000_000)

Prices = dict[str, Price | None]
"""Operation -> price, None where the service gives none."""


def billing_month(time: int) -> str:
    """The billing month of a moment, such as `2026-11`."""
    return datetime.fromtimestamp(time, BILLING_ZONE).strftime("%Y-%m")


def month_start(time: int) -> int:
    """The first second of the billing month of a moment."""
    local = datetime.fromtimestamp(time, BILLING_ZONE)
    return int(local.replace(day=1, hour=0, minute=0, second=0, microsecond=0).timestamp())


def reserve(db: sqlite3.Connection, operation: str, now: int) -> int:
    """Let one call out; returns its ticket."""
    cursor = db.execute("INSERT INTO reserved (operation, minute) VALUES (?, ?)", (operation, now // 60 * 60))
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def release(db: sqlite3.Connection, ticket: int) -> None:
    """Take back a call that was never sent."""
    db.execute("DELETE FROM reserved WHERE ticket = ?", (ticket,))


def settle(db: sqlite3.Connection, attempt: Attempt, prices: Prices) -> None:
    """Enter the outcome of a call. A ticket that is settled already is left alone."""
    row = db.execute("DELETE FROM reserved WHERE ticket = ? RETURNING ticket", (attempt.ticket,)).fetchone()
    if row is None:
        return
    _enter(
        db, attempt.time // 60 * 60, attempt.operation, attempt.http_status, attempt.code, attempt.rows, attempt.bytes,
        prices.get(attempt.operation),
    )  # fmt: skip


def settle_unknown(db: sqlite3.Connection, prices: Prices) -> int:
    """Enter every call that an earlier process left reserved; returns how many."""
    left = db.execute("DELETE FROM reserved RETURNING operation, minute").fetchall()
    for operation, minute in left:
        _enter(db, minute, operation, 0, CODE_UNKNOWN, 0, 0, prices.get(operation))
    return len(left)


def _enter(
    db: sqlite3.Connection, minute: int, operation: str, http_status: int, code: str, rows: int, size: int,
    price: Price | None,
) -> None:  # fmt: skip
    month = billing_month(minute)
    before = db.execute("SELECT calls FROM months WHERE month = ? AND operation = ?", (month, operation)).fetchone()
    calls_before = before[0] if before else 0
    cost = 0
    if price is not None and calls_before >= price.free_calls_per_month:
        cost = int(price.cny * _MICRO)
    db.execute(
        "INSERT INTO months VALUES (?, ?, 1, ?)"
        " ON CONFLICT DO UPDATE SET calls = calls + 1, cost_micro_cny = cost_micro_cny + excluded.cost_micro_cny",
        (month, operation, cost),
    )
    db.execute(
        "INSERT INTO meter VALUES (?, ?, ?, ?, 1, ?, ?, ?) ON CONFLICT DO UPDATE SET calls = calls + 1,"
        " rows = rows + excluded.rows, bytes = bytes + excluded.bytes,"
        " cost_micro_cny = cost_micro_cny + excluded.cost_micro_cny",
        (minute, operation, http_status, code, rows, size, cost),
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
        row = (minute, region, operation, http_status, code, calls, rows, size, str(Decimal(cost) / _MICRO))
        parts.append((partition, row))
    return parts


def spend(db: sqlite3.Connection, month: str) -> list[tuple[str, int, Decimal]]:
    """(operation, calls, CNY) of a billing month."""
    rows = db.execute("SELECT operation, calls, cost_micro_cny FROM months WHERE month = ? ORDER BY 1", (month,))
    return [(operation, calls, Decimal(cost) / _MICRO) for operation, calls, cost in rows]


def load_month(db: sqlite3.Connection, month: str, spent: Iterable[tuple[str, int, Decimal]]) -> None:
    """Start a month from what the store knows of it, in a journal that knows nothing yet."""
    db.executemany(
        "INSERT INTO months VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        [(month, operation, calls, int(cny * _MICRO)) for operation, calls, cny in spent],
    )
