"""`pai-collector preview`: what a source would store, without storing it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import typer

from collector.cli.calling import ask, duration_of
from collector.cli.options import options_of
from collector.cli.output import print_json, print_line, print_table
from collector.cli.running import run_to_end
from collector.errors import UsageError
from collector.model import StreamKey, Window
from collector.rpc import Access, Method, Request
from collector.units import iso

if TYPE_CHECKING:
    from collector.api.client import Reply
    from collector.owner.caller import Caller
    from collector.pipeline.streams import Streams
    from collector.settings import Settings
    from collector.sources.tables import Row, Table

NAMES_TOLD_MAX: Final = 5
EMPTY: tuple[object, ...] = ("", None, [], "{}")


class PreviewRequest(Request, frozen=True, tag="preview"):
    """One page of a source."""

    source: str
    scope: str
    """Empty for the first one."""
    seconds: int
    """The range before now, of a source that has one."""


class TableRows(msgspec.Struct, frozen=True):
    """Rows of one table."""

    table: str
    columns: list[str]
    rows: list[list[Any]]

    def records(self) -> list[dict[str, Any]]:
        """Return the rows with the names of their columns, times as such."""
        return [{name: _value(name, value) for name, value in zip(self.columns, row, strict=True)} for row in self.rows]


class Preview(msgspec.Struct, frozen=True):
    """The rows of a page; times in ISO 8601 UTC, None for a source without a range."""

    source: str
    operation: str
    scope_id: str
    from_text: str | None = msgspec.field(name="from")
    to_text: str | None = msgspec.field(name="to")
    tables: list[TableRows]
    outside: int
    has_more: bool
    request_id: str
    cost: str


async def handle(owner: Caller, request: PreviewRequest) -> AsyncGenerator[Preview, None]:
    """Request the first page of a stream and return its rows by table.

    Raises UsageError if the source or the scope does not exist, and what a call raises.
    """
    from collector.owner.calls import cost_of, refusal_to_call
    from collector.pipeline.streams import SnapshotStreams, StateStreams, WindowStreams
    from collector.pipeline.windows import SPAN_SECONDS_MAX

    if owner.client is None:
        raise refusal_to_call(owner)
    streams, key = await _chosen(owner, request.source, request.scope)
    async with owner.asking():
        now = owner.server_clock.now()
        end = now - streams.settle
        window = Window(max(0, end - min(request.seconds, SPAN_SECONDS_MAX)), end)
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
    is_range = isinstance(streams, WindowStreams)
    yield Preview(
        source=streams.name,
        operation=streams.operation.name,
        scope_id=key.scope_id,
        from_text=iso(window.start) if is_range else None,
        to_text=iso(window.end) if is_range else None,
        tables=[
            TableRows(table.name, list(table.columns), [list(row) for row in rows]) for table, rows in page.rows.items()
        ],
        outside=page.outside,
        has_more=page.has_more,
        request_id=reply.request_id,
        cost=await cost_of(owner, streams.operation, reply.attempt.time),
    )


@dataclass(slots=True)
class _Page:
    """The rows of a page, by table."""

    rows: dict[Table, list[Row]] = field(default_factory=dict)
    outside: int = 0
    """Rows that lie outside what was asked."""
    has_more: bool = False


async def _chosen(owner: Caller, name: str, scope: str) -> tuple[Streams, StreamKey]:
    from collector.owner.streams import lacks

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
    """Return what the pipeline would make of the page."""
    from collector.pipeline.streams import SnapshotStreams, StateStreams, WindowStreams
    from collector.pipeline.windows import tick_of

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
    from collector.pipeline.chunking import decode_lines
    from collector.pipeline.collecting import dead_letters
    from collector.sources.tables import DEAD_LETTERS

    chunks = dead_letters(key, streams.operation, dead, reply)
    return {DEAD_LETTERS: [tuple(row) for chunk in chunks for row in decode_lines(chunk.body)]} if chunks else {}


PREVIEW = Method(PreviewRequest, Preview, handle, Access.CALLER)
METHODS = (PREVIEW,)


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def preview(
        context: typer.Context,
        source: Annotated[str, typer.Argument(metavar="SOURCE", help="A source, as in [sources.SOURCE].")],
        scope: Annotated[str, typer.Option(metavar="ID", help="This node, group, job ... [its first one].")] = "",
        last: Annotated[str, typer.Option(metavar="DURATION", help="How far back, at most 6h.")] = "1h",
        as_json: Annotated[bool, typer.Option("--json", help="All columns and rows, for programs.")] = False,
    ) -> None:
        """Ask for one page of a source and show its rows as they would be stored. Stores nothing.

        The call is throttled, metered and billed like any other. The source may be switched off.
        """
        request = PreviewRequest(source, scope, max(1, int(duration_of("--last", last))))
        page = run_to_end(ask(options_of(context).settings(), PREVIEW, request))
        if as_json:
            tables = {table.table: table.records() for table in page.tables}
            print_json(msgspec.to_builtins(page) | {"tables": tables})
        else:
            _show(page)


def _show(page: Preview) -> None:
    for table in page.tables:
        records = table.records()
        # A page of log lines has columns that no service fills.
        filled = [name for name in table.columns if any(record[name] not in EMPTY for record in records)]
        empty = [name for name in table.columns if name not in filled]
        title = f"{table.table}: {len(records)} rows" + (f"; empty: {', '.join(empty)}" if records and empty else "")
        if records:
            print_table(title, filled, ([record[name] for name in filled] for record in records))
        else:
            print_line(title)
        print_line()
    if not page.tables:
        print_line("the answer holds no rows")
    range_text = f", {page.from_text} to {page.to_text}" if page.from_text else ""
    more = "; there are more pages" if page.has_more else ""
    outside = f"; {page.outside} rows outside the range are not shown" if page.outside else ""
    print_line(f"{page.source} of {page.scope_id}{range_text}{more}{outside}")
    print_line(f"nothing is stored; one call of {page.operation}: {page.cost}")


def _value(column: str, value: Any) -> Any:
    is_time = column == "time" or column.endswith(("_time", "_at"))
    return datetime.fromtimestamp(value, UTC) if is_time and isinstance(value, int) else value
