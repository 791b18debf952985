"""What a billing month has cost so far, calls in flight included, and at which pace. Read inside a transaction.

Calls 1 to n of the month are free, of an operation or of all that share a pot, and the service does not say which
of several calls in flight it counts first. So the cost of those in flight is the most that they can come to: exact
while they were all reserved under the same price, and never too little where a price has just changed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from collector.catalogue.operation import Price
from collector.journal.money import billing_month, micro_cny, month_start
from collector.units import DAY_SECONDS

Prices = dict[str, Price | None]
"""Operation -> price, None where the service gives none."""

BUDGET_KEY: Final = "budget_told"
"""Under this name the journal keeps the month and cap that were reached last."""

TURN_SECONDS = 3600
"""A call that was reserved this long before the month may still be sent in it."""

PACE_SECONDS = DAY_SECONDS
HOUR_SECONDS = 3600
_HOURS_KEPT_SECONDS = 2 * PACE_SECONDS


@dataclass(frozen=True, slots=True)
class InFlight:
    """Calls that are reserved and not settled, of an operation or a pot. Money is in millionths of a CNY."""

    calls_before: int = 0
    """Settled calls of the month."""
    reserved: int = 0
    """Calls in flight, or left by callers that never told what became of them."""
    price_sum_micro_cny: int = 0
    """What the reserved ones cost if none of them is free."""
    price_max_micro_cny: int = 0
    """Of the dearest one."""
    free_calls: int = 0
    """The fewest free calls that any of them was reserved under."""

    @property
    def held_micro_cny(self) -> int:
        """The most that they can come to."""
        paid = min(self.reserved, max(0, self.calls_before + self.reserved - self.free_calls))
        return min(self.price_sum_micro_cny, paid * self.price_max_micro_cny)

    def with_call(self, price: Price) -> InFlight:
        """With one more call, at this price."""
        price_micro_cny, free_calls = micro_cny(price.counted_cny), price.free_calls_per_month
        return InFlight(
            self.calls_before,
            self.reserved + 1,
            self.price_sum_micro_cny + price_micro_cny,
            max(self.price_max_micro_cny, price_micro_cny),
            min(self.free_calls, free_calls) if self.reserved else free_calls,
        )


@dataclass(frozen=True, slots=True)
class Spending:
    """A month's money before and after one more call, in millionths of a CNY."""

    month: str
    """Such as `2026-11`."""
    before_micro_cny: int
    after_micro_cny: int

    @property
    def call_micro_cny(self) -> int:
        """What the call costs."""
        return self.after_micro_cny - self.before_micro_cny


def pot_of(operation: str, prices: Prices) -> str:
    """The pot that an operation takes its free calls from: its own name where it shares none."""
    price = prices.get(operation)
    return price.pot if price is not None and price.pot else operation


def pot_members(pot: str, prices: Prices) -> tuple[str, ...]:
    """The operations of a pot."""
    shared = tuple(name for name, price in prices.items() if price is not None and price.pot == pot and pot)
    return shared or (pot,)


def calls_of_month(db: sqlite3.Connection, operations: Iterable[str], time: int) -> int:
    """Settled calls of some operations together in the billing month of `time`."""
    names = tuple(operations)
    row = db.execute(
        f"SELECT ifnull(sum(calls), 0) FROM months WHERE month = ? AND operation IN ({', '.join('?' * len(names))})",
        (billing_month(time), *names),
    )
    return int(row.fetchone()[0])


def spending_with(db: sqlite3.Connection, operation: str, prices: Prices, now: int) -> Spending | None:
    """The month of `now` (server time, s) with one more call of `operation`; None when that call is free.

    Reads a row for each operation of the month and for each call in flight, so it costs the same all month long.
    """
    price = prices[operation]
    assert price is not None
    flights, pot = in_flight(db, now, prices), pot_of(operation, prices)
    mine = flights.get(pot)
    if mine is None:
        mine = InFlight(calls_of_month(db, pot_members(pot, prices), now))
    if mine.calls_before + mine.reserved < price.free_calls_per_month:
        return None
    before = _settled(db, now) + sum(flight.held_micro_cny for flight in flights.values())
    after = before - mine.held_micro_cny + mine.with_call(price).held_micro_cny
    return Spending(billing_month(now), before, after)


def committed(db: sqlite3.Connection, now: int, prices: Prices) -> int:
    """Millionths of a CNY that the billing month of `now` has to pay, whatever becomes of the calls in flight."""
    return _settled(db, now) + sum(flight.held_micro_cny for flight in in_flight(db, now, prices).values())


def in_flight(db: sqlite3.Connection, now: int, prices: Prices) -> dict[str, InFlight]:
    """Pot (an operation where it shares none) -> the calls in flight that may be of the billing month of `now`.

    Which month a call belongs to is known when it has been sent. Until then a call that was reserved near the
    end of a month counts in both.
    """
    rows = db.execute(
        "SELECT operation, count(), sum(ifnull(price_micro_cny, 0)), max(ifnull(price_micro_cny, 0)),"
        " min(ifnull(free_calls, 0)) FROM reserved WHERE minute >= ? GROUP BY operation",
        (month_start(now) - TURN_SECONDS,),
    ).fetchall()
    calls = dict(db.execute("SELECT operation, calls FROM months WHERE month = ?", (billing_month(now),)))
    found: dict[str, InFlight] = {}
    for operation, reserved, price_sum, price_max, free_calls in rows:
        pot = pot_of(operation, prices)
        before = found.get(pot)
        if before is None:
            calls_before = sum(calls.get(name, 0) for name in pot_members(pot, prices))
            found[pot] = InFlight(calls_before, reserved, price_sum, price_max, free_calls)
        else:
            found[pot] = InFlight(
                before.calls_before,
                before.reserved + reserved,
                before.price_sum_micro_cny + price_sum,
                max(before.price_max_micro_cny, price_max),
                min(before.free_calls, free_calls),
            )
    return found


def _settled(db: sqlite3.Connection, now: int) -> int:
    row = db.execute("SELECT ifnull(sum(cost_micro_cny), 0) FROM months WHERE month = ?", (billing_month(now),))
    return int(row.fetchone()[0])


def note_cost(db: sqlite3.Connection, minute: int, cost_micro_cny: int) -> None:
    """Enter what a call of `minute` cost, for the pace."""
    hour = minute // HOUR_SECONDS * HOUR_SECONDS
    db.execute(
        "INSERT INTO spend_hours VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET"
        " since = min(since, excluded.since), cost_micro_cny = cost_micro_cny + excluded.cost_micro_cny",
        (hour, minute, cost_micro_cny),
    )
    db.execute("DELETE FROM spend_hours WHERE hour < ?", (hour - _HOURS_KEPT_SECONDS,))


def note_calls(db: sqlite3.Connection, minute: int, pot: str) -> None:
    """Enter a call of `minute` that a pot pays for, for the pace."""
    hour = minute // HOUR_SECONDS * HOUR_SECONDS
    db.execute(
        "INSERT INTO pot_hours VALUES (?, ?, ?, 1) ON CONFLICT DO UPDATE SET"
        " since = min(since, excluded.since), calls = calls + 1",
        (hour, pot, minute),
    )
    db.execute("DELETE FROM pot_hours WHERE hour < ?", (hour - _HOURS_KEPT_SECONDS,))


def pot_hours(db: sqlite3.Connection, pot: str) -> list[HourSpend]:
    """The last two days' hours in which calls came out of a pot, in order; their number stands for the cost."""
    rows = db.execute("SELECT hour, since, calls FROM pot_hours WHERE pot = ? ORDER BY hour", (pot,))
    return [HourSpend(*row) for row in rows]


@dataclass(frozen=True, slots=True)
class HourSpend:
    """What calls of one hour cost."""

    hour: int
    """Its first second."""
    since: int
    """Minute of its first call that cost something."""
    cost_micro_cny: int


def hour_spends(db: sqlite3.Connection) -> list[HourSpend]:
    """The last two days' hours in which something was paid, in order."""
    return [HourSpend(*row) for row in db.execute("SELECT hour, since, cost_micro_cny FROM spend_hours ORDER BY hour")]


@dataclass(frozen=True, slots=True)
class MonthSpend:
    """What the present billing month has cost, and how fast it costs."""

    micro_cny: int
    """Calls in flight included."""
    hours: list[HourSpend]
    """The last two days' hours in which something was paid, in order."""
    budget_reached: str | None
    """The month and cap that were reached last, None if none ever was."""


def month_spend(db: sqlite3.Connection, now: int, prices: Prices) -> MonthSpend:
    """Read the money of the billing month of `now` (server time, s)."""
    reached = db.execute("SELECT value FROM meta WHERE key = ?", (BUDGET_KEY,)).fetchone()
    return MonthSpend(committed(db, now, prices), hour_spends(db), None if reached is None else reached[0])


@dataclass(frozen=True, slots=True)
class PotSpend:
    """The free calls of a pot in the present billing month."""

    calls: int
    """Settled ones."""
    hours: list[HourSpend]
    """The last two days' hours in which calls came out of it, in order; their number stands for the cost."""


def pot_spend(db: sqlite3.Connection, pot: str, now: int, prices: Prices) -> PotSpend:
    """Read how many calls came out of a pot in the billing month of `now` (server time, s)."""
    return PotSpend(calls_of_month(db, pot_members(pot, prices), now), pot_hours(db, pot))


def pace_micro_cny(hours: Iterable[HourSpend], now: int) -> float:
    """Millionths of a CNY a second over the last 24 hours, or since the first call that cost something."""
    known = [spend for spend in hours if spend.hour <= now]
    # Whole hours: of one that lies across the limit nobody knows which part is inside.
    first_hour = -((PACE_SECONDS - now) // HOUR_SECONDS) * HOUR_SECONDS
    recent = [spend for spend in known if spend.hour >= first_hour]
    if not recent:
        return 0.0
    began = first_hour if known[0].hour < first_hour else recent[0].since
    return sum(spend.cost_micro_cny for spend in recent) / max(60, now - began)
