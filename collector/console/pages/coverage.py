"""What is missing of the streams: the gaps as a table, and all that is collected on a timeline."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from collector.console.page import PageRequest
from collector.console.paging import part_of
from collector.console.period import Period, iso
from collector.console.stacking import stacked
from collector.console.store import Answer, failure_of
from collector.console.table import Chart, Choice, Column, Kind, Table
from collector.errors import CollectorError, UsageError
from collector.journal.entries import StreamState
from collector.model import StreamKey
from collector.owner.gaps import gaps, sources_of
from collector.pipeline.coverage import ADDED_LATER, BEFORE
from collector.units import format_duration, rough_duration

HOUR_SECONDS: Final = 3600
POINTS_MAX: Final = 240
TIMELINE_ROWS: Final = 60

SPANS_MAX: Final = 200
"""Gaps that are drawn of one stream."""

WHAT_CHOICES: Final = {"": "gaps", "all": "all that is missing"}

GAPS: Final = (
    Column("scope_id", "scope", Kind.CODE),
    Column("from", "from", Kind.TIME),
    Column("to", "until", Kind.TIME),
    Column("seconds", "length", Kind.DURATION),
    Column("reason", "why"),
    Column("source", "source", link="/collection?tab=gaps&source={source}"),
    Column("operation", "operation", Kind.CODE),
)


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a line of the timeline; x and width are thousandths of the range."""

    x: float
    width: float
    kind: str
    """`covered` or `missing`."""
    told: str


@dataclass(frozen=True, slots=True)
class Line:
    """A stream on the timeline."""

    label: str
    operation: str
    told: str
    """All that it shows, in words."""
    spans: Sequence[Span]


@dataclass(frozen=True, slots=True)
class Timeline:
    """Streams over time, one line each."""

    start: int
    end: int
    ticks: Sequence[int]
    """Seconds since the epoch, evenly spread over the range."""
    lines: Sequence[Line]
    note: str


async def coverage(asked: PageRequest) -> dict[str, Any]:
    """Return gaps and timeline of the range."""
    period = asked.period()
    source, words, what = asked.text("source"), asked.text("q").lower().split(), asked.text("what")
    if what not in WHAT_CHOICES:
        raise UsageError(f"what: got {what[:40]!r}; expected all, or nothing")
    names = list(type(asked.owner.settings.sources).model_fields)
    (answer, marks, failure), stored = await asyncio.gather(
        _known(asked, period, source), asked.store.named("rows_by_source", period.parameters)
    )
    found = [gap for gap in answer["gaps"] if _is_about(gap, words)] if answer else []
    real = [gap for gap in found if gap["reason"] not in (BEFORE, ADDED_LATER)]
    shown = sorted(
        found if what else real, key=lambda gap: (gap["from"] is not None, -(gap["seconds"] or 0), gap["scope_id"])
    )
    part, paging = part_of(asked, shown)
    count = answer["streams"] if answer else 0
    nothing = f"nothing is missing of {count:,} streams in this range" if count else "no stream was begun in this range"
    note = f"{len(found) - len(real):,} ranges from before streams were collected are left out." if not what else ""
    return {
        "gaps": Table(
            "gaps",
            "Gaps" if not what else "All that is missing",
            GAPS,
            part,
            nothing,
            failure,
            note=note if len(found) > len(real) else "",
        ),
        "paging": paging,
        "rows": _rows(stored, period, source),
        "timeline": None if failure else _timeline(period, real, _drawn(asked, period, marks, real)),
        "source_names": names,
        "kinds": [
            Choice(title, asked.address(what=name, page=None), name == what, len(found if name else real))
            for name, title in WHAT_CHOICES.items()
        ],
    }


async def _known(
    asked: PageRequest, period: Period, source: str
) -> tuple[dict[str, Any] | None, Mapping[StreamKey, StreamState], str]:
    """What `gaps` says, the streams of the journal, and why neither is known. Raises UsageError."""
    # Up to now, what is on its way is no gap.
    end = None if period.last else period.end
    try:
        found = msgspec.to_builtins(await gaps(asked.owner, source or None, period.start, end))
        return found, await asked.owner.journal.streams(), ""
    except UsageError:
        raise
    except CollectorError as error:
        return None, {}, failure_of(error)


def _is_about(gap: Mapping[str, Any], words: Iterable[str]) -> bool:
    text = f"{gap['scope_id']} {gap['operation']} {gap['source']} {gap['reason']}".lower()
    return all(word in text for word in words)


def _rows(answer: Answer, period: Period, source: str) -> Chart:
    """Rows of each source over time: where one stops, something is missing that no stream knows of."""
    step = max(HOUR_SECONDS, period.step(POINTS_MAX))
    first = period.start // step * step
    return stacked(
        Chart(
            "rows",
            f"Rows stored by source, every {format_duration(step)}",
            range(first, period.end, step),
            (),
            "rows",
            is_stacked_bars=True,
            failure=answer.failure,
            sql=answer.sql,
        ),
        [
            ((_seconds(row["hour"]) - first) // step, row["source"], float(row["rows"]))
            for row in answer.rows
            if not source or row["source"] == source
        ],
    )


Name = tuple[str, str]
"""Operation and scope of a stream."""


def _drawn(
    asked: PageRequest,
    period: Period,
    states: Mapping[StreamKey, StreamState],
    gaps: Sequence[Mapping[str, Any]],
) -> Mapping[Name, StreamState]:
    """The streams that have something in the range, as the journal knows them."""
    source_of, source, words = sources_of(asked.owner), asked.text("source"), asked.text("q").lower().split()
    with_gaps = {(gap["operation"], gap["scope_id"]) for gap in gaps}

    def is_drawn(key: StreamKey, state: StreamState) -> bool:
        name, its_source = (key.operation, key.scope_id), source_of.get(key.operation, "")
        text = f"{key.scope_id} {key.operation} {its_source}".lower()
        is_asked_for = (not source or its_source == source) and all(word in text for word in words)
        return name in with_gaps or (is_asked_for and (state.watermark or 0) > period.start)

    return {(key.operation, key.scope_id): state for key, state in states.items() if is_drawn(key, state)}


def _timeline(period: Period, gaps: Sequence[Mapping[str, Any]], states: Mapping[Name, StreamState]) -> Timeline:
    """The streams with most missing first; beside gaps what the journal knows as collected is drawn."""
    missing: dict[Name, list[Mapping[str, Any]]] = {}
    for gap in gaps:
        missing.setdefault((gap["operation"], gap["scope_id"]), []).append(gap)
    length: Callable[[Name], int] = lambda name: sum(gap["seconds"] or 0 for gap in missing.get(name, ()))  # noqa: E731
    names = sorted({*missing, *states}, key=lambda name: (-length(name), name))
    lines = [_line(period, name, missing.get(name, []), states.get(name)) for name in names[:TIMELINE_ROWS]]
    note = f"The {TIMELINE_ROWS} with most missing of {len(names):,} streams." if len(names) > TIMELINE_ROWS else ""
    ticks = [period.start + period.seconds * part // 4 for part in range(5)]
    return Timeline(period.start, period.end, ticks, lines, note)


def _line(period: Period, name: Name, missing: Sequence[Mapping[str, Any]], state: StreamState | None) -> Line:
    operation, scope_id = name
    spans: list[Span] = []
    if state is not None and state.collected_from is not None and state.watermark is not None:
        spans += _span(
            period,
            state.collected_from,
            state.watermark,
            "covered",
            f"collected from {iso(state.collected_from)} until {iso(state.watermark)}",
        )
    known = [gap for gap in missing if gap["from"] is not None]
    for gap in sorted(known, key=lambda gap: -gap["seconds"])[:SPANS_MAX]:
        text = f"missing: {gap['from']} until {gap['to']}, {gap['reason']}"
        spans += _span(period, _seconds(gap["from"]), _seconds(gap["to"]), "missing", text)
    seconds = sum(gap["seconds"] for gap in known)
    if known:
        told = f"{len(known):,} gap{'s' * (len(known) != 1)}, {rough_duration(seconds)} missing"
    else:
        told = "not collected yet" if not spans else "nothing missing"
    return Line(scope_id, operation, told, spans)


def _span(period: Period, start: int, end: int, kind: str, text: str) -> list[Span]:
    first, last = max(start, period.start), min(end, period.end)
    if first >= last:
        return []
    scale = 1000 / period.seconds
    x = round((first - period.start) * scale, 2)
    # A gap of a second must be seen on a range of a month.
    width = max(round((last - first) * scale, 2), 1.5 if kind == "missing" else 0.5)
    return [Span(min(x, 1000 - width), width, kind, text)]


def _seconds(time: str) -> int:
    moment = datetime.fromisoformat(time)
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
