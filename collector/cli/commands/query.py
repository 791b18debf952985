"""`pai-collector query`: SQL over history, read-only, while a collector runs or not."""

from __future__ import annotations

import enum
import sys
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import msgspec
import typer

from collector.cli.calling import session
from collector.cli.options import options_of
from collector.cli.output import print_json, print_line, print_table
from collector.cli.report import Reporter
from collector.cli.running import run_to_end
from collector.errors import CollectorError, QueryError, UsageError
from collector.rpc import Access, Method, Request
from collector.store.named import bind_own, named_queries, named_query

if TYPE_CHECKING:
    from collector.settings import Settings
    from collector.store.base import Store

ROWS_SHOWN_MAX = 10_000
"""Rows that a table for people shows at most; the other formats give all."""


class Format(enum.StrEnum):
    """How a result is printed."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


ENGINE_FORMATS = {
    Format.TABLE: "JSONCompactEachRowWithNamesAndTypes",
    Format.CSV: "CSVWithNames",
    Format.JSON: "JSONEachRow",
    Format.PARQUET: "Parquet",
}


class QueryRequest(Request, frozen=True, tag="query"):
    """One statement; `parameters` as `Store.query` takes them."""

    sql: str
    format: str
    parameters: dict[str, str]


class Notes(msgspec.Struct, frozen=True, tag=True):
    """What a reader should know of the store, a line each."""

    lines: list[str]


class Piece(msgspec.Struct, frozen=True, tag=True):
    """Bytes of the result in ClickHouse's format."""

    data: bytes


class History(Protocol):
    """What a query needs of a process."""

    @property
    def store(self) -> Store: ...
    @property
    def notes(self) -> list[str]: ...


async def handle(history: History, request: QueryRequest) -> AsyncGenerator[Notes | Piece, None]:
    """Run the statement. Raises QueryError, and UsageError if there is no history."""
    yield Notes(list(history.notes))
    query = history.store.query(request.sql, format=request.format, parameters=request.parameters)
    async with await query as answer:
        async for data in answer:
            yield Piece(data)


def _lost(request: QueryRequest, events: int) -> CollectorError | None:
    return QueryError("the owner ended before the result was complete") if events > 1 else None


QUERY = Method(QueryRequest, Notes | Piece, handle, Access.STORE, _lost)
METHODS = (QUERY,)


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def query(
        context: typer.Context,
        sql: Annotated[str | None, typer.Argument(metavar="SQL", help="One statement that reads.")] = None,
        name: Annotated[str | None, typer.Option(help="A named query instead; --list shows them.")] = None,
        param: Annotated[
            list[str] | None,
            typer.Option(metavar="NAME=VALUE", help="A value for {NAME:Type} in the SQL; may be repeated."),
        ] = None,
        listed: Annotated[bool, typer.Option("--list", help="List the named queries.")] = False,
        show: Annotated[
            bool, typer.Option("--show", help="Print the SQL of the named query, values in it, and run nothing.")
        ] = False,
        output: Annotated[Format, typer.Option("--format", help="Form of the result.")] = Format.TABLE,
    ) -> None:
        """Ask the history, for example: query "SELECT node_id, count() FROM syslogs GROUP BY 1"."""
        if listed:
            _list(output)
            return
        if (sql is None) == (name is None):
            raise UsageError("give one SQL statement, or --name of a named query", hint="query --list shows the names")
        given = _values(param or [])
        if show:
            if name is None:
                raise UsageError("--show is for a named query", hint="query --list shows the names")
            for line in named_query(name).standing_alone(given).splitlines():
                print_line(line)
            return
        if output is Format.PARQUET and sys.stdout.isatty():
            raise UsageError(
                "parquet is no text for a terminal", hint="redirect it: ... --format parquet > rows.parquet"
            )
        if sql is not None:
            statement, values = sql, bind_own(sql, given)
        else:
            query = named_query(str(name))
            statement, values = query.sql, query.bind(given)
        options = options_of(context)
        request = QueryRequest(statement, ENGINE_FORMATS[output], values)
        run_to_end(_print(options.settings(), request, output, options.reporter))


def _list(output: Format) -> None:
    if output not in (Format.TABLE, Format.JSON):
        raise UsageError(f"the list is a table or json, not {output}", hint="query --list --format json")
    queries = named_queries()
    if output is Format.JSON:
        print_json([asdict(query) for query in queries])
        return
    rows = [(query.name, query.purpose, ", ".join(known.shown() for known in query.parameters)) for query in queries]
    print_table("", ["name", "purpose", "parameters"], rows)


def _values(words: Sequence[str]) -> dict[str, str]:
    """`NAME=VALUE` words. Raises UsageError."""
    values: dict[str, str] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name:
            raise UsageError(f"--param: expected NAME=VALUE, got {word!r}", hint="such as --param hours=48")
        if name in values:
            raise UsageError(f"--param {name} is given twice, as {values[name]!r} and {text!r}")
        values[name] = text
    return values


async def _print(settings: Settings, request: QueryRequest, output: Format, reporter: Reporter) -> None:
    notes: list[str] = []

    async def pieces() -> AsyncGenerator[bytes, None]:
        async with aclosing(reached.stream(QUERY, request)) as events:
            async for event in events:
                if isinstance(event, Notes):
                    notes[:] = event.lines
                else:
                    yield event.data

    async with session(settings, Access.STORE) as reached, aclosing(pieces()) as result:
        try:
            match output:
                case Format.TABLE:
                    if await _table(result):
                        hint = f"these are the first {ROWS_SHOWN_MAX:,} rows; --format csv gives all"
                        reporter.line(hint, word="hint")
                case Format.JSON:
                    await _json_array(result)
                case _:
                    async for piece in result:
                        sys.stdout.buffer.write(piece)
        except QueryError:
            # The tables of another version may be why.
            reporter.notes(notes)
            raise
        reporter.notes(notes)
    sys.stdout.buffer.flush()


async def _lines(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Whole lines without their ends, whatever pieces they come in."""
    rest = b""
    async for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        for line in whole:
            yield line
    if rest:
        yield rest


async def _table(pieces: AsyncIterator[bytes]) -> bool:
    """Print a table for people; true when there were more rows than it shows."""
    decode = msgspec.json.Decoder(list[Any]).decode
    head: list[list[Any]] = []
    rows: list[list[Any]] = []
    cut = False
    async for line in _lines(pieces):
        if len(head) < 2:
            head.append(decode(line))
        elif len(rows) < ROWS_SHOWN_MAX:
            rows.append([_shown(value) for value in decode(line)])
        else:
            cut = True
            break
    print_table("", _distinct(head[0]) if head else [], rows)
    return cut


def _shown(value: Any) -> Any:
    return msgspec.json.encode(value).decode() if isinstance(value, list | dict) else value


def _distinct(names: list[str]) -> list[str]:
    """Column names, told apart where a query gives one twice."""
    seen: Counter[str] = Counter()
    told = []
    for name in names:
        seen[name] += 1
        told.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return told


async def _json_array(pieces: AsyncIterator[bytes]) -> None:
    """One JSON array of objects out of an object a line."""
    first = True
    sys.stdout.buffer.write(b"[")
    async for line in _lines(pieces):
        sys.stdout.buffer.write(b"\n" if first else b",\n")
        sys.stdout.buffer.write(line)
        first = False
    sys.stdout.buffer.write(b"]\n" if first else b"\n]\n")
