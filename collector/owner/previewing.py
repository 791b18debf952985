"""`preview`: one page of a source, as the rows that it would be stored as. Stores nothing but the call's meter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from collector.api.client import Reply
from collector.errors import UsageError
from collector.model import StreamKey, Window
from collector.owner.caller import Caller
from collector.owner.calls import cost_of, refusal_to_call
from collector.owner.ranges import iso
from collector.owner.streams import lacks
from collector.pipeline.chunking import decode_lines
from collector.pipeline.collecting import dead_letters
from collector.pipeline.streams import SnapshotStreams, StateStreams, Streams, WindowStreams
from collector.pipeline.windows import SPAN_SECONDS_MAX, tick_of
from collector.settings import Settings
from collector.sources.tables import DEAD_LETTERS, Row, Table

NAMES_TOLD_MAX: Final = 5


@dataclass(slots=True)
class _Page:
    """The rows of a page, by table."""

    rows: dict[Table, list[Row]] = field(default_factory=dict)
    outside: int = 0
    """Rows that lie outside what was asked."""
    has_more: bool = False


async def preview(owner: Caller, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Ask for the first page of a stream and return its rows by table.

    `asked` has `source`, `scope` (empty for the first one) and `seconds`, the range before now of what has a time of
    its own. Raises UsageError where there is no such source or scope, and what a call raises.
    """
    if owner.client is None:
        raise refusal_to_call(owner)
    streams, key = await _chosen(owner, str(asked["source"]), str(asked["scope"]))
    async with owner.asking():
        now = owner.server_clock.now()
        end = now - streams.settle
        window = Window(max(0, end - min(int(asked["seconds"]), SPAN_SECONDS_MAX)), end)
        if isinstance(streams, WindowStreams):
            parameters = streams.source.parameters(key, window, None)
        elif isinstance(streams, SnapshotStreams):
            parameters = streams.source.parameters(key, Window(now, now + 1), None)
        else:
            assert isinstance(streams, StateStreams)
            parameters = streams.source.parameters(key, None)
        reply = await owner.client.request(streams.operation, key.scope_id, parameters)
        await owner.journal.settle(reply.attempt)
    page = _read(streams, key, window, reply)
    return {
        "source": streams.name,
        "operation": streams.operation.name,
        "scope_id": key.scope_id,
        "from": iso(window.start) if isinstance(streams, WindowStreams) else None,
        "to": iso(window.end) if isinstance(streams, WindowStreams) else None,
        "tables": [
            {"table": table.name, "columns": list(table.columns), "rows": [list(row) for row in rows]}
            for table, rows in page.rows.items()
        ],
        "outside": page.outside,
        "has_more": page.has_more,
        "request_id": reply.request_id,
        "cost": await cost_of(owner, streams.operation, reply.attempt.time),
    }


async def _chosen(owner: Caller, name: str, scope: str) -> tuple[Streams, StreamKey]:
    settings = _switched_on(owner.settings, name)
    region = settings.api.region
    found = [each for each in await owner.streams(settings) if each.name == name]
    keys = [(each, key) for each in found for key in each.keys(region)]
    if not keys:
        if name == "cloud_metrics" and (misfits := await owner.mismatches()):
            raise UsageError("; ".join(misfits))
        raise UsageError(
            f"{name} watches nothing: {lacks(settings, name)}",
            hint="what is discovered is known after pai-collector run --once --source inventory",
        )
    for each, key in keys:
        if not scope or key.is_about(scope):
            return each, key
    known = [key.scope_id for _, key in keys]
    more = f" and {len(known) - NAMES_TOLD_MAX} more" if len(known) > NAMES_TOLD_MAX else ""
    raise UsageError(
        f"--scope: got {scope!r}, which is no target of {name}; it has {', '.join(known[:NAMES_TOLD_MAX])}{more}",
        hint="pai-collector check --offline shows what is watched",
    )


def _switched_on(settings: Settings, name: str) -> Settings:
    """The settings with that source, which may be previewed before it is switched on. Raises UsageError."""
    sources = settings.sources
    names = list(type(sources).model_fields)
    if name not in names:
        raise UsageError(f"got source {name!r}; expected one of {', '.join(names)}")
    section = getattr(sources, name).model_copy(update={"enabled": True})
    return settings.model_copy(update={"sources": sources.model_copy(update={name: section})})


def _read(streams: Streams, key: StreamKey, window: Window, reply: Reply) -> _Page:
    """What the pipeline would make of the page."""
    if isinstance(streams, StateStreams):
        seen = streams.source.page(key, None, reply.answer)
        rows = [observed.row(reply.date, key.region) for observed in seen.objects]
        has_more = streams.source.next_cursor(None, reply.answer) is not None
        return _Page({streams.tables[0]: rows, **_dead(streams, key, seen.dead, reply)}, 0, has_more)
    assert isinstance(streams, WindowStreams | SnapshotStreams)
    if isinstance(streams, SnapshotStreams):
        tick = tick_of(reply.date, streams.tick)
        window = Window(tick, tick + 1)
    page = streams.source.page(key, window, None, reply.answer)
    for table, rows in page.unsure.items():
        page.rows.setdefault(table, []).extend(rows)
    outside = sum(map(len, page.strays.values()))
    has_more = streams.source.next_cursor(None, reply.answer) is not None
    return _Page({**page.rows, **_dead(streams, key, page.dead, reply)}, outside, has_more)


def _dead(streams: Streams, key: StreamKey, dead: Sequence[tuple[str, object]], reply: Reply) -> dict[Table, list[Row]]:
    chunks = dead_letters(key, streams.operation, dead, reply)
    return {DEAD_LETTERS: [tuple(row) for chunk in chunks for row in decode_lines(chunk.body)]} if chunks else {}
