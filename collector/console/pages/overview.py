"""The overview: one verdict, what to do about it, and the figures that lead on."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

from msgspec import to_builtins

from collector.console.drawing import money, number
from collector.console.page import PageRequest
from collector.console.period import Period
from collector.console.store import Answer
from collector.console.table import Column, Kind, Row, Table, Tile, View
from collector.owner.answers import BudgetStatus, PotStatus, Status
from collector.owner.status import status
from collector.units import rough_duration

INCIDENTS_SHOWN = 10
FAILING_SHOWN = 20
INCIDENTS_MAX = 10_000
HOUR = 3600
DAYS = 31

SOURCES = (
    Column("source", "source", link="/collection?source={source}"),
    Column("fresh", "fresh", hint="streams that are collected, of all that should be"),
    Column("state", "state", Kind.STATE),
    Column("freshness_seconds", "behind", Kind.DURATION, hint="of the stream that is furthest behind now"),
    Column("freshness_promise_seconds", "promised", Kind.DURATION, hint="no stream should be further behind"),
    Column("due", "due now", Kind.NUMBER),
    Column("ticks_missed", "ticks missed", Kind.NUMBER, hint="snapshots that could not be taken, since the start"),
    Column("operation", "operation", Kind.CODE),
)
INCIDENTS = (
    Column("fault_severity", "severity", Kind.STATE),
    Column("last", "last seen", Kind.TIME),
    Column("node_id", "node", Kind.CODE, link="/nodes/{node_id}"),
    Column("fault", "fault"),
    Column("device", "device", Kind.CODE),
    Column("lines", "lines", Kind.NUMBER),
    Column("meaning", "meaning"),
    Column("action", "what to do"),
    Column("users", "users", Kind.LIST),
)
NOTES = (Column("note", "what does not fit"),)
REASONS = (Column("text", "what is wrong"), Column("detail", "seen"), Column("action", "what to do"))
FAILING = (
    Column("scope_id", "scope", Kind.CODE),
    Column("operation", "operation", Kind.CODE),
    Column("error_at", "since", Kind.TIME),
    Column("next_try", "next try", Kind.TIME),
)
STOPS = (
    Column("what", "what"),
    Column("operation", "operation", Kind.CODE),
    Column("since", "since", Kind.TIME),
    Column("next_try", "next try", Kind.TIME),
    Column("error", "why"),
)


async def overview(asked: PageRequest) -> View:
    told = await status(asked.owner)
    period = asked.period()
    store, all_of_them = asked.store, {"rows": str(INCIDENTS_MAX)}
    incidents, silent, nodes, gpus, idle, days = await asyncio.gather(
        store.named("incidents", period.parameters | all_of_them),
        store.named("silent_nodes"),
        store.own("node_count"),
        store.own("gpus_by_hour", period.parameters),
        store.named("idle_gpus", period.parameters | all_of_them),
        store.named("spend_by_day", {"hours": str(24 * DAYS)}),
    )
    shown = to_builtins(told)
    return View(
        "overview.html",
        {
            "told": {name: shown[name] for name in ("headline", "is_well", "is_ready", "reasons", "region", "shard")},
            "tiles": [
                _incident_tile(incidents, period),
                _node_tile(incidents, silent, nodes),
                _gpu_tile(gpus, idle, period),
                _money_tile(told.budget, told.pots, days),
                _lag_tile(told),
            ],
            "sources": _sources(told),
            "incidents": _incidents(incidents),
            "reasons": Table("reasons", "What is wrong", REASONS, shown["reasons"]),
            "notes": Table("notes", "To be known", NOTES, [{"note": note} for note in told.notes]),
            "stops": Table("stops", "Stopped", STOPS, shown["stops"]),
            "failing": _failing(told),
        },
    )


def _incident_tile(answer: Answer, period: Period) -> Tile:
    by_severity = Counter(row["fault_severity"] for row in answer.rows)
    serious = by_severity["fatal"] + by_severity["degraded"]
    told = [f"{by_severity[name]:,} {name}" for name in ("fatal", "degraded", "application", "corrected", "info")]
    hours = [0.0] * period.hours
    for row in answer.rows:
        place = _hours_ago(row["last"], period)
        if 0 <= place < len(hours):
            hours[-1 - place] += 1
    return Tile(
        f"Incidents, {_span(period)}",
        f"{len(answer.rows):,}" + ("+" if len(answer.rows) >= INCIDENTS_MAX else ""),
        ", ".join(text for text in told if not text.startswith("0 ")) or "none of any severity",
        "bad" if by_severity["fatal"] else "warning" if serious else "good",
        "/faults",
        hours,
        answer.failure,
        answer.sql,
    )


def _node_tile(incidents: Answer, silent: Answer, count: Answer) -> Tile:
    failure = incidents.failure or silent.failure or count.failure
    bad = {row["node_id"] for row in incidents.rows if row["fault_severity"] in ("fatal", "degraded")}
    nodes = count.first.get("nodes", 0)
    return Tile(
        "Nodes in trouble",
        f"{len(bad):,} of {nodes:,}" if nodes else None,
        f"{len(silent.rows):,} silent: collected, and no line for an hour"
        if nodes
        else "no node's log is collected yet",
        ("bad" if bad else "warning" if silent.rows else "good") if nodes else "",
        "/nodes",
        failure=failure,
        sql=silent.sql,
    )


def _gpu_tile(hours: Answer, idle: Answer, period: Period) -> Tile:
    known = [row for row in hours.rows if row["gpus_requested"] is not None]
    wasted = sum(row["gpu_hours"] or 0 for row in idle.rows)
    if not known:
        return Tile("GPUs", None, "no snapshot in this range", href="/usage", failure=hours.failure, sql=hours.sql)
    last = known[-1]
    used = "n/a" if last["gpus_used"] is None else number(round(last["gpus_used"], 1))
    idle_told = f"idle not known: {idle.failure}" if idle.failure else f"{number(round(wasted, 1))} GPU hours held idle"
    return Tile(
        "GPUs used of requested",
        f"{used} of {number(round(last['gpus_requested'], 1))}",
        f"{idle_told}, {_span(period)}",
        "warning" if wasted else "good",
        "/usage",
        [row["gpus_used"] for row in hours.rows],
        hours.failure,
        hours.sql,
    )


def _money_tile(budget: BudgetStatus, pots: Sequence[PotStatus], days: Answer) -> Tile:
    cap = budget.cap_cny
    by_day: dict[str, float] = {}
    for row in reversed(days.rows):
        by_day[row["day"]] = by_day.get(row["day"], 0.0) + float(row["cost_cny"])
    over = cap is not None and float(budget.forecast_cny) > float(cap)
    over = over or any(pot.forecast_calls > pot.free_calls_per_month for pot in pots)
    free = "".join(f"; {pot.pot}: {pot.told}" for pot in pots)
    return Tile(
        "Spent this billing month",
        money(budget.spent_cny) + ("" if cap is None else f" of {money(cap)}"),
        f"forecast {money(budget.forecast_cny)}; "
        + ("no budget is set" if cap is None else "budget as configured")
        + free,
        "bad" if budget.is_reached else "warning" if over else "good",
        "/money",
        list(by_day.values()),
        sql=days.sql,
    )


def _lag_tile(told: Status) -> Tile:
    behind = [(source.freshness_seconds, source) for source in told.sources if source.freshness_seconds is not None]
    if not behind:
        nothing = "nothing is collected by this process" if not told.collecting else "no stream has a watermark yet"
        return Tile("Furthest behind", None, nothing, href="/collection")
    seconds, worst = max(behind, key=lambda each: each[0] / each[1].freshness_promise_seconds)
    late = [source for _, source in behind if not source.is_fresh]
    return Tile(
        "Furthest behind",
        rough_duration(max(0, seconds)),
        f"{worst.source}, promised {rough_duration(worst.freshness_promise_seconds)}; "
        f"{len(behind) - len(late)} of {len(behind)} sources as promised",
        "bad" if late else "good",
        "/collection",
    )


def _sources(told: Status) -> Table:
    rows: list[Row] = []
    for source in told.sources:
        states = {name: count for name, count in source.states.items() if count}
        all_of_them = sum(count for name, count in states.items() if name != "ended")
        troubles = [name for name in ("failing", "stopped", "waiting", "new") if states.get(name)]
        state = troubles[0] if troubles else "late" if not source.is_fresh else "collected" if all_of_them else "ended"
        rows.append(
            {**to_builtins(source), "fresh": f"{states.get('collected', 0):,} of {all_of_them:,}", "state": state}
        )
    nothing = "a run catches up at present" if told.collecting else "this process collects nothing at present"
    return Table("sources", "Sources", SOURCES, rows, empty=nothing)


def _failing(told: Status) -> Table:
    failing = [stream for stream in told.streams if stream.error and stream.state != "ended"]
    more = f"{FAILING_SHOWN} of {len(failing):,}" if len(failing) > FAILING_SHOWN else ""
    return Table(
        "failing", "Streams that fail", FAILING, to_builtins(failing[:FAILING_SHOWN]), note=more, detail="error"
    )


def _incidents(answer: Answer) -> Table:
    rows = [{**row, "fault": fault_name(row)} for row in answer.rows[:INCIDENTS_SHOWN]]
    more = f"the worst {INCIDENTS_SHOWN} of {len(answer.rows):,}" if len(answer.rows) > INCIDENTS_SHOWN else ""
    return Table(
        "incidents", "Worst incidents", INCIDENTS, rows, "no incident in this range", answer.failure, answer.sql, more
    )


def fault_name(row: Row) -> str:
    """Return a fault as people call it, such as `xid 79`."""
    parts: Sequence[object] = (row["fault_class"], row.get("fault_code") or "", row.get("fault_case") or "")
    return " ".join(str(part) for part in parts if part)


def _hours_ago(last: str, period: Period) -> int:
    return int(period.end - datetime.fromisoformat(last).replace(tzinfo=UTC).timestamp()) // HOUR


def _span(period: Period) -> str:
    return f"last {period.last}" if period.last else "in the range"
