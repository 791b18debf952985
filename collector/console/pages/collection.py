"""What is collected: every stream, what is missing of it, the calls it takes, and what the journal holds."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, Final

from msgspec import to_builtins

from collector.console.drawing import number
from collector.console.page import PageRequest
from collector.console.pages.calls import calls, journal, journal_tile, rechecks, stops_table
from collector.console.pages.coverage import coverage
from collector.console.paging import part_of
from collector.console.table import Choice, Column, Kind, Row, Table, Tile, View
from collector.errors import UsageError
from collector.model import ENDED, StreamKey
from collector.owner.answers import Status, StreamStatus
from collector.owner.gaps import sources_of
from collector.owner.status import status
from collector.pipeline.facts import COLLECTED, FAILING, NEW, STOPPED, WAITING
from collector.units import rough_duration

STORED_MAX: Final = 100_000
"""Streams of which the store is asked what is covered."""
LATE: Final = "late"
"""Collected, and further behind than its source promises."""
STATES: Final = (FAILING, STOPPED, LATE, WAITING, NEW, COLLECTED, ENDED)
"""The worst first."""
TABS: Final = {
    "streams": "Streams",
    "gaps": "Gaps",
    "calls": "Calls and quota",
    "rechecks": "Rechecks",
    "journal": "Journal",
}
STREAMS: Final = (
    Column("scope_id", "scope", Kind.CODE, link="/nodes/{node_id}"),
    Column("source", "source", link="/collection?source={source}"),
    Column("state", "state", Kind.STATE),
    Column("freshness_seconds", "behind", Kind.DURATION, hint="time since the watermark: all before it is stored"),
    Column("promise_seconds", "promised", Kind.DURATION, hint="no stream of the source should be further behind"),
    Column("covered_percent", "covered", Kind.PERCENT, hint="of the time from its begin to the watermark, as stored"),
    Column("last_poll", "last call", Kind.TIME, hint="by this process, at the service's time"),
    Column("next_poll", "next try", Kind.TIME),
    Column("operation", "operation", Kind.CODE),
    Column("open_gaps", "gaps", Kind.NUMBER, hint="ranges before the watermark that are missing, as stored"),
    Column("watermark", "watermark", Kind.TIME),
)
SOURCES: Final = (
    Column("source", "source", link="/collection?source={source}"),
    Column("fresh_text", "fresh", hint="streams that are collected and as fresh as promised, of all that should be"),
    Column("state", "state", Kind.STATE),
    Column("freshness_seconds", "behind", Kind.DURATION, hint="of the stream that is furthest behind now"),
    Column("promise_seconds", "promised", Kind.DURATION),
    Column("due", "due now", Kind.NUMBER, hint="streams whose turn it is, and that wait for the quota"),
    Column("ticks_missed", "ticks missed", Kind.NUMBER, hint="snapshots that could not be taken, since the start"),
    Column("operation", "operation", Kind.CODE),
)


async def collection(asked: PageRequest) -> View:
    tab = asked.text("tab", "streams")
    if tab not in TABS:
        raise UsageError(f"tab: got {tab[:40]!r}; expected one of {', '.join(TABS)}")
    make = {"streams": _streams, "gaps": coverage, "calls": calls, "rechecks": rechecks, "journal": journal}[tab]
    values = await make(asked)
    tabs = [Choice(title, _tab_address(asked, name), name == tab) for name, title in TABS.items()]
    return View("collection.html", {"tab": tab, **values, "tabs": tabs})


def _tab_address(asked: PageRequest, tab: str) -> str:
    # What is chosen on one tab holds on the others where they know it.
    return asked.address(tab="" if tab == "streams" else tab, state=None, page=None, what=None)


async def _streams(asked: PageRequest) -> dict[str, Any]:
    told, stored = await asyncio.gather(
        status(asked.owner, streams_max=None),
        asked.store.named("freshness", {"rows": str(STORED_MAX)}),
    )
    coverage_of = {(row["operation"], row["scope_id"]): row for row in stored.rows}
    source_of = sources_of(asked.owner)
    promised = {source.operation: source.freshness_promise_seconds for source in told.sources}
    source_of |= {source.operation: source.source for source in told.sources}
    why = {stop.operation: stop.error for stop in told.stops}
    rows = [_stream_row(stream, source_of, promised, why, coverage_of) for stream in told.streams]
    wanted, state, words = asked.text("source"), asked.text("state"), asked.text("q").lower().split()
    chosen = [row for row in rows if (not wanted or row["source"] == wanted) and _has(row, words)]
    states = Counter(row["state"] for row in chosen)
    shown = [row for row in chosen if not state or row["state"] == state]
    shown.sort(key=lambda row: (STATES.index(row["state"]), -_lag(row), row["operation"], row["scope_id"]))
    part, paging = part_of(asked, shown)
    nothing = "this process knows no stream yet" if not rows else "no stream matches"
    return {
        "streams": Table(
            "streams",
            "Streams",
            STREAMS,
            part,
            nothing,
            sql=stored.sql,
            note=f"What is covered is not known: {stored.failure}" if stored.failure else "",
            detail="error",
        ),
        "paging": paging,
        "states": [Choice("all", asked.address(state=None, page=None), not state, len(chosen))]
        + [
            Choice(name, asked.address(state=name, page=None), state == name, states[name])
            for name in STATES
            if states[name] or state == name
        ],
        "source_names": sorted({row["source"] for row in rows if row["source"]} | ({wanted} if wanted else set())),
        "sources": _sources(told, rows),
        "stops": stops_table(told),
        "tiles": _tiles(asked, told, rows),
    }


def _stream_row(
    stream: StreamStatus,
    source_of: Mapping[str, str],
    promised: Mapping[str, float],
    why: Mapping[str, str],
    coverage_of: Mapping[tuple[str, str], Row],
) -> Row:
    operation, state = stream.operation, stream.state
    promise, behind = promised.get(operation), stream.freshness_seconds
    if state == COLLECTED and promise is not None and behind is not None and behind > promise:
        state = LATE
    # A stream that stands still with its operation or its account has no error of its own.
    stopped = why.get(operation, why.get("")) if state in (FAILING, STOPPED) else None
    coverage = coverage_of.get((operation, stream.scope_id), {})
    key = StreamKey(operation, stream.region, stream.scope_id)
    return {
        **to_builtins(stream),
        "state": state,
        "error": stream.error or stopped,
        "source": source_of.get(operation, ""),
        "promise_seconds": promise,
        "covered_percent": coverage.get("covered_percent"),
        "open_gaps": coverage.get("open_gaps"),
        "node_id": key.target_id if operation == "ListSyslogs" else None,
    }


def _has(row: Row, words: Iterable[str]) -> bool:
    text = f"{row['scope_id']} {row['operation']} {row['source']} {row['error'] or ''}".lower()
    return all(word in text for word in words)


def _lag(row: Row) -> float:
    return (row["freshness_seconds"] or 0) / (row["promise_seconds"] or 1)


def _sources(told: Status, rows: Sequence[Row]) -> Table:
    facts = {source.operation: source for source in told.sources}
    order: Callable[[Row], tuple[str, str]] = lambda row: (row["source"], row["operation"])  # noqa: E731
    by_operation = {key: list(group) for key, group in groupby(sorted(rows, key=order), key=order)}
    for source in told.sources:
        by_operation.setdefault((source.source, source.operation), [])
    found: list[Row] = []
    for (name, operation), streams in sorted(by_operation.items()):
        states = Counter(row["state"] for row in streams)
        fact = facts.get(operation)
        # Streams that wait for another journal are not in this process's journal.
        states[WAITING] = max(states[WAITING], fact.states.get(WAITING, 0) if fact else 0)
        total = sum(states.values()) - states[ENDED]
        worst = next((state for state in STATES if states[state]), ENDED)
        lags = [row["freshness_seconds"] for row in streams if row["freshness_seconds"] is not None]
        found.append(
            {
                "source": name,
                "operation": operation,
                "fresh": states[COLLECTED],
                "streams": total,
                "fresh_text": f"{states[COLLECTED]:,} of {total:,} fresh"
                + "".join(f", {states[state]:,} {state}" for state in STATES if states[state] and state != COLLECTED),
                "state": worst,
                "freshness_seconds": max(lags, default=None),
                "promise_seconds": fact.freshness_promise_seconds if fact else None,
                "due": fact.due if fact else None,
                "ticks_missed": fact.ticks_missed if fact else None,
            }
        )
    nothing = "no source is switched on, or none has a target"
    note = "" if told.collecting else "This process collects nothing at present: what is promised is not known."
    return Table("sources", "Sources", SOURCES, found, nothing, note=note)


def _tiles(asked: PageRequest, told: Status, rows: Sequence[Row]) -> list[Tile]:
    watched = [row for row in rows if row["state"] != ENDED]
    states = Counter(row["state"] for row in watched)
    ill = [f"{states[name]:,} {name}" for name in STATES if states[name] and name not in (COLLECTED, ENDED)]
    bad = states[FAILING] or states[STOPPED]
    fresh_state = ("bad" if bad else "warning" if ill else "good") if watched else ""
    ended = f"; {len(rows) - len(watched):,} ended" if len(rows) > len(watched) else ""
    lags = [row for row in watched if row["freshness_seconds"] is not None]
    worst = max(lags, key=lambda row: (_lag(row), row["freshness_seconds"]), default=None)
    is_late = bool(worst and worst["promise_seconds"] and worst["freshness_seconds"] > worst["promise_seconds"])
    return [
        Tile(
            "Streams fresh",
            f"{states[COLLECTED]:,} of {len(watched):,}",
            (", ".join(ill) or "none fails, none is late") + ended,
            fresh_state,
        ),
        Tile(
            "Furthest behind",
            None if worst is None else rough_duration(worst["freshness_seconds"]),
            "no stream has a watermark yet"
            if worst is None
            else f"{worst['scope_id']} of {worst['source'] or worst['operation']}"
            + (f", promised {rough_duration(worst['promise_seconds'])}" if worst["promise_seconds"] else ""),
            "" if worst is None else "bad" if is_late else "good",
        ),
        journal_tile(asked, told),
        Tile(
            "Stopped",
            number(len(told.stops)),
            "operations and accounts that are not asked at present" if told.stops else "everything may be asked",
            "bad" if told.stops else "good",
        ),
    ]
