"""What the calls cost: this month and earlier ones, by day and by operation, and where the month will end."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any, Final

from msgspec import to_builtins

from collector.console.drawing import money as cny
from collector.console.drawing import number
from collector.console.page import PageRequest
from collector.console.period import iso, sql_time
from collector.console.stacking import stacked
from collector.console.store import Answer
from collector.console.table import Chart, Choice, Column, Kind, Row, Table, Tile, View
from collector.errors import UsageError
from collector.journal.money import BILLING_ZONE, billing_month, month_end, month_start
from collector.owner.answers import OperationStatus, PotStatus, Status
from collector.owner.status import status
from collector.units import DAY_SECONDS, rough_duration

HOUR_SECONDS: Final = 3600
DAYS_ROWS_MAX: Final = 10_000
MONTHS_MAX: Final = 24

OPERATIONS: Final = (
    Column("operation", "operation", Kind.CODE),
    Column("calls", "calls", Kind.NUMBER),
    Column("failed", "failed", Kind.NUMBER, hint="calls without a good answer; they cost the same"),
    Column("free_text", "free calls used", hint="of those of the month; the whole account shares them"),
    Column("price_text", "a call", hint="beyond the free ones"),
    Column("cost_cny", "cost", Kind.MONEY, hint="after the free calls"),
    Column("cost_failed_cny", "of failed", Kind.MONEY, hint="part of the cost that failed calls are"),
    Column("cny_per_million_records", "a million records", Kind.MONEY),
    Column(
        "forecast_cny", "cost, forecast", Kind.MONEY, hint="at the end of the month, at the pace of the last 24 hours"
    ),
    Column("forecast_calls", "calls, forecast", Kind.NUMBER, hint="at the end of the month"),
    Column("records", "records", Kind.NUMBER),
)
POTS: Final = (
    Column("pot", "free calls of"),
    Column("calls", "used", Kind.NUMBER),
    Column("free_calls_per_month", "of", Kind.NUMBER),
    Column("forecast_calls", "by month's end", Kind.NUMBER, hint="at the pace of the last 24 hours"),
    Column("operations", "operations that share them", Kind.LIST),
)
DAYS: Final = (
    Column("day", "day (UTC+8)"),
    Column("calls", "calls", Kind.NUMBER),
    Column("failed", "failed", Kind.NUMBER),
    Column("records", "records", Kind.NUMBER),
    Column("cost_cny", "cost", Kind.MONEY),
    Column("cost_failed_cny", "of failed", Kind.MONEY),
)


async def money(asked: PageRequest) -> View:
    this_month = billing_month(asked.now)
    month = asked.text("month", this_month)
    start = _start_of(month)
    end = month_end(start)
    is_present = month == this_month
    hours = {"hours": str((end - start) // HOUR_SECONDS), "until": sql_time(end)}
    told, months, days, pace = await asyncio.gather(
        status(asked.owner, streams_max=0),
        asked.store.named("spend"),
        asked.store.named("spend_by_day", hours | {"rows": str(DAYS_ROWS_MAX)}),
        asked.store.own("calls_over_time", {"hours": "24", "until": sql_time(asked.now), "step": str(HOUR_SECONDS)}),
    )
    known = {operation.operation: operation for operation in told.operations}
    pots = told.pots if is_present else []
    rows = _operations(days, known, is_present=is_present)
    _add_pots(rows, pots)
    if is_present and not pace.failure and not days.failure:
        _add_forecast(rows, pace, known, told.pots, asked.now, end)
    names = sorted({row["month"] for row in months.rows} | {this_month, month}, reverse=True)[:MONTHS_MAX]
    return View(
        "money.html",
        {
            "month": month,
            "starts_at": iso(start),
            "ends_at": iso(end),
            "operations": Table(
                "operations",
                "By operation",
                OPERATIONS,
                rows,
                f"no call was made in {month}",
                sql=days.sql,
                note=_note(days, rows),
            ),
            "months": [Choice(name, asked.address(month=name), name == month) for name in names],
            "tiles": _tiles(asked, told, days, rows, month, is_present=is_present),
            "charts": [
                _by_day("cost", "Spend by day", days, start, min(end, asked.now), "cost_cny", "CNY"),
                _by_day("calls", "Calls by day", days, start, min(end, asked.now), "calls", "calls"),
            ],
            "pots": Table("pots", "Free calls that operations share", POTS, to_builtins(pots)),
            "days": Table(
                "days",
                "By day",
                DAYS,
                _days(days),
                f"no call was made in {month}",
                days.failure,
                days.sql,
                "Days of UTC+8, as they are billed.",
            ),
            "budget": to_builtins(told.budget),
            "shard": told.shard,
        },
    )


def _start_of(month: str) -> int:
    if not re.fullmatch(r"20\d\d-(0[1-9]|1[0-2])", month):
        raise UsageError(f"month: got {month[:40]!r}; expected a month such as 2026-11")
    return month_start(int(datetime(int(month[:4]), int(month[5:]), 2, tzinfo=BILLING_ZONE).timestamp()))


def _operations(days: Answer, known: Mapping[str, OperationStatus], *, is_present: bool) -> list[dict[str, Any]]:
    """The month's operations, the dearest first: as the store has them, with what only the journal has yet."""
    unknown = None if days.failure else 0
    nothing = {"calls": 0, "cost_cny": 0.0, "failed": unknown, "records": unknown, "cost_failed_cny": unknown}
    found: dict[str, dict[str, Any]] = {}
    for row in days.rows:
        sums = found.setdefault(row["operation"], dict(nothing))
        for name in nothing:
            sums[name] += float(row[name]) if name.startswith("cost") else int(row[name])
    for sums in found.values():
        sums["cny_per_million_records"] = sums["cost_cny"] / sums["records"] * 1_000_000 if sums["records"] else None
    for name, operation in known.items() if is_present else ():
        if operation.calls_this_month:
            # Other processes may have made calls that only the store has: neither is the sum of both.
            sums = found.setdefault(name, dict(nothing))
            sums["calls"] = max(sums["calls"], operation.calls_this_month)
            sums["cost_cny"] = max(sums["cost_cny"], float(operation.spend_cny))
    rows = []
    for name, sums in found.items():
        operation = known.get(name, OperationStatus(name))
        price, free = operation.price_cny, operation.free_calls_per_month
        if price is None and not sums["cost_cny"]:
            # What has no price may cost something all the same.
            sums |= {"cost_cny": None, "cost_failed_cny": None, "cny_per_million_records": None}
        rows.append(
            {
                "operation": name,
                "cny_per_million_records": None,
                **sums,
                "price_cny": price,
                "price_text": "unpriced" if price is None else "free" if not float(price) else f"{price} CNY",
                "free_calls": free,
                "free_used": min(sums["calls"], free),
                "free_text": f"{min(sums['calls'], free):,} of {free:,}" if free else "none" if price else "",
                "forecast_calls": None,
                "forecast_cny": None,
            }
        )
    return sorted(rows, key=lambda row: (-(row["cost_cny"] or 0), -row["calls"], row["operation"]))


def _add_pots(rows: Sequence[dict[str, Any]], pots: Sequence[PotStatus]) -> None:
    for pot in pots:
        for row in rows:
            if row["operation"] in pot.operations:
                row["free_text"] = f"of the pot {pot.pot}"


def _add_forecast(
    rows: Sequence[dict[str, Any]],
    pace: Answer,
    known: Mapping[str, OperationStatus],
    pots: Sequence[PotStatus],
    now: int,
    end: int,
) -> None:
    """What each operation will have cost at the end of the month, if it is called as in the last 24 hours."""
    recent: dict[str, int] = {}
    for row in pace.rows:
        recent[row["operation"]] = recent.get(row["operation"], 0) + row["calls"]
    began = min((row["time"] for row in pace.rows), default=now)
    seconds = min(DAY_SECONDS, max(HOUR_SECONDS, now - began))
    coming = {row["operation"]: recent.get(row["operation"], 0) / seconds * (end - now) for row in rows}
    for row in rows:
        name = row["operation"]
        pot = next((pot for pot in pots if name in pot.operations), None)
        members = pot.operations if pot else [name]
        free = pot.free_calls_per_month if pot else row["free_calls"]
        # Of a pot the journal knows the calls; its members use up what is free in step.
        used = pot.calls if pot else row["calls"]
        all_coming = sum(coming.get(member, 0.0) for member in members)
        paid = max(0.0, all_coming - max(0, free - used)) / all_coming if all_coming else 0.0
        row["forecast_calls"] = round(row["calls"] + coming[name])
        if row["price_cny"] is not None and row["cost_cny"] is not None:
            row["forecast_cny"] = row["cost_cny"] + float(row["price_cny"]) * coming[name] * paid


def _note(days: Answer, rows: Sequence[Row]) -> str:
    notes = []
    if days.failure:
        notes.append(f"As this process counted them; what failed, and records, are not known: {days.failure}.")
    if unpriced := [row["operation"] for row in rows if row["price_cny"] is None]:
        notes.append(
            f"Unpriced: {', '.join(unpriced)}. What they cost is not known and in no sum; api.prices can name it."
        )
    return " ".join(notes)


def _tiles(
    asked: PageRequest,
    told: Status,
    days: Answer,
    rows: Sequence[Row],
    month: str,
    *,
    is_present: bool,
) -> list[Tile]:
    budget, by_day = told.budget, {row["day"]: row["cost_cny"] for row in _days(days)}
    points = [by_day[day] for day in sorted(by_day)] if len(by_day) > 1 else []
    failed = [row for row in rows if row["failed"] is not None]
    failed_cny = sum(row["cost_failed_cny"] or 0.0 for row in failed)
    failed_calls = sum(row["failed"] for row in failed)
    failed_tile = Tile(
        "Paid for failed calls",
        cny(failed_cny) if not days.failure else None,
        f"{failed_calls:,} of {sum(row['calls'] for row in rows):,} calls failed",
        "warning" if failed_cny else "good",
        "/collection?tab=calls",
        failure=days.failure,
    )
    if not is_present:
        spent = sum(row["cost_cny"] or 0.0 for row in rows)
        return [
            Tile(f"Spent in {month}", cny(spent), "", "", points=points, failure=days.failure, sql=days.sql),
            failed_tile,
        ]
    cap = None if budget.cap_cny is None else float(budget.cap_cny)
    spent, forecast = float(budget.spent_cny), float(budget.forecast_cny)
    part = " (this process's part)" if told.shard else ""
    left = rough_duration(month_end(asked.now) - asked.now)
    on_reached = asked.owner.settings.budget.on_reached
    reached = "calls that cost are not made" if on_reached == "stop" else "calls are made, and the log warns"
    return [
        Tile(
            "Spent this billing month" + part,
            cny(spent),
            f"{month}, UTC+8; calls in flight included",
            "bad" if budget.is_reached else "",
            points=points,
        ),
        Tile(
            "Budget" + part,
            "none" if cap is None else cny(cap),
            "budget.monthly_cny sets one"
            if cap is None
            else f"{number(round(100 * spent / cap, 1)) if cap else 100} % spent; when it is reached, {reached}",
            "" if cap is None else "bad" if budget.is_reached else "good",
            "/configuration?q=budget",
        ),
        Tile(
            "Forecast" + part,
            cny(forecast),
            f"at the end of the month, in {left}, if every day costs what the last 24 hours did",
            "" if cap is None else "bad" if forecast > cap else "good",
        ),
        _free_tile(rows, told.pots),
        failed_tile,
    ]


def _free_tile(rows: Sequence[Row], pots: Sequence[PotStatus]) -> Tile:
    of_pots = {name for pot in pots for name in pot.operations}
    frees = [(row["free_calls"], row["calls"]) for row in rows if row["free_calls"] and row["operation"] not in of_pots]
    frees += [(pot.free_calls_per_month, pot.calls) for pot in pots if pot.free_calls_per_month]
    free, used = sum(free for free, _ in frees), sum(min(free, calls) for free, calls in frees)
    spent = sum(calls >= free for free, calls in frees)
    return Tile(
        "Free calls used",
        f"{used:,} of {free:,}" if frees else None,
        f"{spent} of {len(frees)} free tiers are used up" if frees else "no operation with free calls was called",
        "warning" if spent else "",
    )


def _days(days: Answer) -> list[Row]:
    found: dict[str, dict[str, Any]] = {}
    for row in days.rows:
        sums = found.setdefault(
            row["day"],
            {"day": row["day"], "calls": 0, "failed": 0, "records": 0, "cost_cny": 0.0, "cost_failed_cny": 0.0},
        )
        for name in ("calls", "failed", "records"):
            sums[name] += int(row[name])
        for name in ("cost_cny", "cost_failed_cny"):
            sums[name] += float(row[name])
    return [found[day] for day in sorted(found, reverse=True)]


def _by_day(name: str, title: str, days: Answer, start: int, end: int, column: str, unit: str) -> Chart:
    first = datetime.fromtimestamp(start, BILLING_ZONE).date()
    count = max(1, -(-(end - start) // DAY_SECONDS)) if end > start else 0
    # A day stands at its midnight of UTC, so that the axis names it as the bill does.
    midnight = int(datetime(first.year, first.month, first.day, tzinfo=UTC).timestamp())
    return stacked(
        Chart(
            name,
            title,
            [midnight + day * DAY_SECONDS for day in range(count)],
            (),
            unit,
            is_stacked_bars=True,
            failure=days.failure,
            sql=days.sql,
            zooms=False,
        ),
        [((date.fromisoformat(row["day"]) - first).days, row["operation"], float(row[column])) for row in days.rows],
    )
