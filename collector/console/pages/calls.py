"""Calls and the quota, what was asked for again, and what the journal holds: tabs of the collection."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from msgspec import to_builtins

from collector.console.page import PageRequest
from collector.console.paging import PAGE_ROWS
from collector.console.period import Period, iso
from collector.console.stacking import stacked
from collector.console.store import Answer
from collector.console.table import Chart, Choice, Column, Kind, Row, Table, Tile
from collector.owner.answers import Status
from collector.owner.gaps import sources_of
from collector.owner.status import status
from collector.units import format_duration, rough_size

STOPS: Final = (
    Column("what", "what"),
    Column("operation", "operation", Kind.CODE),
    Column("since", "since", Kind.TIME),
    Column("next_try", "next try", Kind.TIME),
)
POINTS_MAX: Final = 120

QUOTAS: Final = (
    Column("operation", "operation", Kind.CODE),
    Column("calls_this_month", "calls this month", Kind.NUMBER, hint="of this process, in the billing month (UTC+8)"),
    Column("quota_per_second", "quota a second", Kind.NUMBER, hint="of this process"),
    Column("quota_source", "quota from"),
    Column("quota_used_percent", "used now", Kind.PERCENT, hint="of the quota, in the last second"),
    Column(
        "rate_per_second",
        "rate now",
        Kind.NUMBER,
        hint="calls a second that are let out; less than the quota after a refusal",
    ),
    Column("waiting", "waiting", Kind.NUMBER, hint="calls that wait for the quota now"),
)

REFUSED: Final = (
    Column("operation", "operation", Kind.CODE),
    Column("kind", "kind", Kind.STATE),
    Column("http_status", "HTTP", Kind.NUMBER, hint="0: there was no answer"),
    Column("code", "code", Kind.CODE),
    Column("calls", "calls", Kind.NUMBER),
    Column("percent_of_calls", "of its calls", Kind.PERCENT),
    Column("cost_cny", "cost", Kind.MONEY),
    Column("last", "last", Kind.TIME),
)

FINDS: Final = (
    Column("operation", "operation", Kind.CODE),
    Column("why", "asked again for"),
    Column("calls", "calls", Kind.NUMBER),
    Column("rows", "rows found", Kind.NUMBER, hint="rows that the first look did not show"),
)

RECHECKS: Final = (
    Column("source", "source"),
    Column("delay_seconds", "asked again after", Kind.DURATION),
    Column("streams", "streams", Kind.NUMBER),
    Column("done_until", "done until", Kind.TIME, hint="of the stream that is furthest behind with it"),
    Column("operation", "operation", Kind.CODE),
)

DELAYS: Final = (
    Column("node_id", "node", Kind.CODE, link="/nodes/{node_id}"),
    Column("lines", "lines", Kind.NUMBER),
    Column("p50_seconds", "half within", Kind.DURATION),
    Column("p99_seconds", "99 % within", Kind.DURATION),
    Column("p999_seconds", "99.9 % within", Kind.DURATION),
    Column("latest_seconds", "latest", Kind.DURATION),
)

JOURNAL: Final = (Column("what", "what"), Column("value", "value"), Column("meaning", "what it means"))

COUNTERS: Final = (Column("name", "what was counted"), Column("count", "count", Kind.NUMBER))

MEANING_OF_COUNTERS: Final = {
    "strays": "records outside of what was asked for",
    "dead_letters": "records that no row could be made of",
    "replaced_bytes": "bytes that were no UTF-8 and were replaced",
    "conflicts": "rows that the store has with other values",
    "rows_added_by_compare": "rows added after a comparison with the store",
    "quarantined_rows": "rows that the store refuses for ever",
    "rows_asked_again": "rows asked for again after the journal came back",
}


async def calls(asked: PageRequest) -> dict[str, Any]:
    """Return the calls of the range and the quotas now."""
    period = asked.period()
    step = max(60, period.step(POINTS_MAX))
    told, over_time, refused = await asyncio.gather(
        status(asked.owner, streams_max=0),
        asked.store.own("calls_over_time", period.parameters | {"step": str(step)}),
        asked.store.named("refused_calls", period.parameters | {"rows": str(PAGE_ROWS)}),
    )
    wants_all = asked.text("all") == "1"
    operations = [
        {
            **to_builtins(operation),
            "quota_used_percent": 100 * operation.quota_used_ratio,
            "quota_source": "documented" if operation.quota_documented else "assumed",
        }
        for operation in told.operations
        if wants_all or operation.calls_this_month or operation.waiting
    ]
    left_out = len(told.operations) - len(operations)
    return {
        "quotas": Table(
            "quotas",
            f"Operations, calls in {told.month} (billing month, UTC+8)",
            QUOTAS,
            sorted(operations, key=lambda operation: -operation["calls_this_month"]),
            "no call was made this month",
        ),
        "refused": Table(
            "refused",
            "Failed calls",
            REFUSED,
            refused.rows,
            "no call failed in this range",
            refused.failure,
            refused.sql,
            "A failed call costs as much as one that is answered.",
        ),
        "charts": [
            chart
            for chart in (
                _chart("calls", "Calls", over_time, period, step),
                _chart("failed", "Failed calls", over_time, period, step),
            )
            # Where no call failed, the table says so.
            if chart.name == "calls" or chart.times
        ],
        "stops": stops_table(told),
        "left_out": Choice(f"Show the {left_out:,} operations without calls", asked.address(all="1"))
        if left_out
        else None,
    }


def _chart(name: str, title: str, answer: Answer, period: Period, step: int) -> Chart:
    """A column of calls over time, by operation."""
    first = period.start // step * step
    return stacked(
        Chart(
            name,
            f"{title} every {format_duration(step)}",
            range(first, period.end, step),
            (),
            "calls",
            is_stacked_bars=True,
            failure=answer.failure,
            sql=answer.sql,
        ),
        # Calls are metered by the minute: a part without a row had none.
        [((row["time"] - first) // step, row["operation"], float(row[name])) for row in answer.rows],
    )


async def rechecks(asked: PageRequest) -> dict[str, Any]:
    """Return what rechecks found and how late lines arrive."""
    period = asked.period()
    told, states, delays = await asyncio.gather(
        status(asked.owner, streams_max=0),
        asked.owner.journal.streams(),
        asked.store.named("delays", period.parameters | {"rows": str(PAGE_ROWS)}),
    )
    source_of = sources_of(asked.owner)
    marks: dict[tuple[str, int], list[int]] = {}
    for key, state in states.items():
        for delay, done in state.rechecks.items():
            marks.setdefault((key.operation, delay), []).append(done)
    return {
        "finds": Table(
            "finds",
            "What was asked for again, and found",
            FINDS,
            _finds(told.counters),
            "nothing was asked for again yet",
            note="Since the journal was made. A recheck asks for a finished range once more, for what came late.",
        ),
        "rechecks": Table(
            "rechecks",
            "Rechecks",
            RECHECKS,
            [
                {
                    "source": source_of.get(operation, ""),
                    "operation": operation,
                    "delay_seconds": delay,
                    "streams": len(done),
                    "done_until": iso(min(done)),
                }
                for (operation, delay), done in sorted(marks.items())
            ],
            "no stream has a recheck: recheck = [] switches them off",
        ),
        "delays": Table(
            "delays",
            "How late lines arrive at the log service",
            DELAYS,
            delays.rows,
            "no line with a time of arrival in this range",
            delays.failure,
            delays.sql,
        ),
    }


def _finds(counters: Mapping[str, int]) -> list[Row]:
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for name, count in counters.items():
        what, _, operation = name.partition("/")
        why, _, unit = what.rpartition("_")
        if operation and why in ("recheck", "backfill", "replay") and unit in ("calls", "rows"):
            row = found.setdefault((operation, why), {"operation": operation, "why": why, "calls": 0, "rows": 0})
            row[unit] = count
    return [found[key] for key in sorted(found)]


async def journal(asked: PageRequest) -> dict[str, Any]:
    """Return what the journal holds and has counted."""
    told = await status(asked.owner, streams_max=0)
    depth = told.journal
    facts = [
        ("file", depth.path, ""),
        ("size", rough_size(depth.bytes), f"collecting pauses at {rough_size(depth.bytes_max)}"),
        ("rows", f"{depth.rows:,}", "collected, and not in the store yet"),
        ("chunks", f"{depth.chunks:,}", "rows of one page for one partition of a table"),
        ("segments", f"{depth.segments:,}", "one insert each, sent until the store has acknowledged it"),
        ("open windows", f"{depth.open_windows:,}", "ranges of time whose last page is still missing"),
        ("streams waiting", f"{told.streams_waiting:,}", "another journal may hold rows of them"),
        ("store", told.store_error or "takes rows", "where the rows go"),
    ]  # fmt: skip
    if depth.set_aside:
        facts.append(("set aside", depth.set_aside, "a damaged journal; pai-collector journal replay reads it"))
    rows = [{"what": what, "value": value, "meaning": meaning} for what, value, meaning in facts]
    counters = [
        {"name": MEANING_OF_COUNTERS.get(name, name.replace("_", " ")), "count": count}
        for name, count in told.counters.items()
        if "/" not in name
    ]
    return {
        "journal": Table("journal", "Journal", JOURNAL, rows),
        "counters": Table(
            "counters", "Counted since the journal was made", COUNTERS, counters, "nothing unusual was counted yet"
        ),
        "stops": stops_table(told),
    }


def stops_table(told: Status) -> Table:
    """Return what is not asked for at present, with why."""
    stops = to_builtins(told.stops)
    return Table("stops", "Stopped: not asked at present", STOPS, stops, "everything is asked", detail="error")


def journal_tile(asked: PageRequest, told: Status) -> Tile:
    """Return the figure of what waits for the store."""
    journal = told.journal
    return Tile(
        "Waiting in the journal",
        f"{journal.rows:,} rows",
        f"{rough_size(journal.bytes)} of {rough_size(journal.bytes_max)}"
        + (f"; the store: {told.store_error}" if told.store_error else ""),
        "bad" if journal.is_full or told.store_error else "good",
        asked.address(tab="journal", state=None, page=None),
    )
