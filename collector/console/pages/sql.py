"""The SQL page: a reader's own statement or a named query, its result as table, chart and file, and the schema."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Final
from urllib.parse import urlencode

import structlog
from aiohttp import web

from collector.admission import LIMITS
from collector.console.access import COOKIE, is_followed_link
from collector.console.elsewhere import Endpoint, Value, snippets
from collector.console.page import HEADERS, Download, PageRequest
from collector.console.readers_sql import ROWS_MAX, Result, Spot, answering, explained, run, spot_of
from collector.console.result_chart import chart_of, kind_of
from collector.console.table import Choice, Column, Kind, Row, Table, View
from collector.errors import CollectorError, QueryError, UsageError
from collector.owner.instance import Owner
from collector.store.address import parse_address, url_host
from collector.store.named import NamedQuery, QueryParameter, bind_own, named_queries, named_query
from collector.store.statements import placeholders
from collector.units import format_size, rough_size

log = structlog.get_logger(__name__)

ADDRESS_CHARACTERS_MAX: Final = 6_000
"""Longer SQL has no address of its own and is sent as a form."""
TABLE_ROWS_MAX: Final = 1_000
"""Maximum rows of a table in a page; chart, JSON and downloads have more."""
KEPT_BYTES: Final = 1 << 16
"""Bytes of a file that are waited for before any is sent: until then an error can still be told as such."""
LINES_AROUND: Final = 2
"""Lines shown before and after the one that an error is about."""
VIEWS: Final = ("table", "chart")

QUERIES: Final = (
    Column("name", "query", Kind.CODE, link="/sql?name={name}"),
    Column("purpose", "what it shows"),
    Column("parameters", "parameters", Kind.CODE),
)


@dataclass(frozen=True, slots=True)
class _Question:
    """What a person asks."""

    sql: str
    named: NamedQuery | None
    parameters: Sequence[QueryParameter]
    given: Mapping[str, str]
    """Values of parameters, as typed; one without a value is missing."""

    def bind(self) -> dict[str, str]:
        """Return the values as `Store.query` takes them. Raises UsageError."""
        return self.named.bind(self.given) if self.named else bind_own(self.sql, self.given)

    def address(self, suffix: str = "", **more: str) -> str:
        """Return the address that asks the same; empty if it would be too long."""
        asked = {"name": self.named.name} if self.named else {"q": self.sql}
        values = {f"p_{name}": value for name, value in self.given.items()}
        address = f"/sql{suffix}?" + urlencode(asked | values | more)
        return address if len(address) <= ADDRESS_CHARACTERS_MAX else ""

    @property
    def title(self) -> str:
        return self.named.name if self.named else "Result"


async def sql(asked: PageRequest) -> View:
    question = _question(asked)
    view = asked.text("view", VIEWS[0])
    if view not in VIEWS:
        raise UsageError(f"view: got {view[:60]!r}; expected one of: {', '.join(VIEWS)}")
    is_page = asked.http.path == asked.path
    if question and is_page and asked.http.method == "POST" and (address := question.address(**_kept(view))):
        raise web.HTTPSeeOther(address)
    values: dict[str, Any] = {
        "query": _query_values(question),
        "limits": _limits_told(),
        "is_held": question is not None and is_followed_link(asked.http),
        "view": view,
        "mistake": "",
        "result": None,
        "facts": None,
        "failure": None,
        "chart": None,
        "chart_note": "",
    }
    status = 200
    if question and not values["is_held"]:
        status = await _run(asked, question, values, view)
    if is_page or question is None:
        values |= await _page_values(asked, question, view)
    return View("sql.html", values, title=f"{question.title} · SQL" if question else "", status=status, renews=False)


async def _run(asked: PageRequest, question: _Question, values: dict[str, Any], view: str) -> int:
    """Run the SQL, put what came of it into `values`, and return the status of the response."""
    try:
        bound = question.bind()
    except UsageError as error:
        values["mistake"] = str(error)
        return 400
    owner = asked.owner
    is_table = asked.http.path == asked.path and view == "table"
    rows_max = TABLE_ROWS_MAX if is_table else ROWS_MAX
    result, zone = await asyncio.gather(
        run(owner.store, owner.admission, owner.clock, question.sql, bound, rows_max=rows_max),
        asked.store.own("time_zone"),
    )
    if result.error is not None:
        values["failure"] = _failure(question.sql, result.error)
        return 400 if isinstance(result.error, QueryError) else 503
    zone_name = zone.first.get("time_zone", "")
    columns = [
        Column(column.name, column.name, kind_of(column.type, zone_name), hint=column.type) for column in result.columns
    ]
    nothing = "The first row is too large to be shown." if result.cut else "The query returned no rows."
    values["result"] = Table("result", question.title, columns, result.rows, empty=nothing)
    values["facts"] = _facts(result)
    if view == "chart":
        values["chart"], values["chart_note"] = chart_of(result.columns, result.rows, zone_name, question.title)
    return 200


async def _page_values(asked: PageRequest, question: _Question | None, view: str) -> dict[str, Any]:
    queries = Table("queries", "Named queries", QUERIES, [_listed(query) for query in _named()])
    schema = await asked.store.own("schema")
    endpoint = _endpoint(asked)
    views: list[Choice] = []
    downloads: list[Choice] = []
    if question and (here := question.address()):
        views = [Choice(name, question.address(**_kept(name)), name == view) for name in VIEWS]
        downloads = [Choice(title, question.address(suffix)) for suffix, (title, _, _) in FILES.items()]
        downloads.append(Choice("JSON of this page", question.address(".json")))
    else:
        here = ""
    return {
        "queries": queries,
        "schema": _tables(schema.rows),
        "schema_failure": schema.failure,
        "snippets": _snippets(question, endpoint),
        "is_endpoint_served": endpoint is not None,
        "permalink": here,
        "views": views,
        "downloads": downloads,
        "files": [(suffix, title) for suffix, (title, _, _) in FILES.items()],
    }


def _question(asked: PageRequest) -> _Question | None:
    """Raises UsageError for a name that no query has."""
    own = asked.query.get("q", "").replace("\r\n", "\n")
    name = asked.text("name")
    given = {key.removeprefix("p_"): value for key, value in asked.query.items() if key.startswith("p_")}
    if own.strip():
        parameters = [QueryParameter(known, type) for known, type in dict(placeholders(own)).items()]
        names = {known.name for known in parameters}
        # Fields of what stood there before are nothing to complain about.
        return _Question(own, None, parameters, {key: value for key, value in given.items() if key in names})
    if not name:
        return None
    query = named_query(name)
    blank = {known.name for known in query.parameters if known.default is not None and "String" not in known.type}
    kept = {key: value for key, value in given.items() if value.strip() or key not in blank}
    return _Question(query.sql, query, query.parameters, kept)


def _query_values(question: _Question | None) -> dict[str, Any]:
    if question is None:
        return {"name": "", "purpose": "", "sql": "", "parameters": [], "edit": ""}
    named = question.named
    fields = [
        {
            "name": known.name,
            "type": known.type,
            "default": known.default,
            "meaning": known.meaning,
            "value": question.given.get(known.name, known.default or ""),
        }
        for known in question.parameters
    ]
    values = {f"p_{field['name']}": field["value"] for field in fields}
    return {
        "name": named.name if named else "",
        "purpose": named.purpose if named else "",
        "sql": question.sql,
        "parameters": fields,
        "edit": "/sql?" + urlencode({"q": question.sql} | values) if named else "",
    }


def _kept(view: str) -> dict[str, str]:
    return {} if view == VIEWS[0] else {"view": view}


def _failure(sql: str, error: CollectorError) -> dict[str, Any]:
    spot = spot_of(sql, error)
    return {
        "text": explained(error),
        "hint": error.hint or "",
        "line": spot.line if spot else None,
        "column": spot.column if spot else None,
        "excerpt": _excerpt(sql, spot) if spot else [],
    }


def _excerpt(sql: str, spot: Spot) -> list[dict[str, Any]]:
    """The lines around a place, with their numbers; the one that is meant in three parts."""
    lines = sql.split("\n")
    end = spot.column - 1 + spot.length
    first, last = max(1, spot.line - LINES_AROUND), min(len(lines), spot.line + LINES_AROUND)
    return [
        {
            "number": number,
            "before": line if number != spot.line else line[: spot.column - 1],
            "at": "" if number != spot.line else line[spot.column - 1 : end] or " ",
            "after": "" if number != spot.line else line[end:],
        }
        for number, line in enumerate(lines[first - 1 : last], first)
    ]


def _facts(result: Result) -> dict[str, Any]:
    count = len(result.rows)
    told = [f"{count:,} {'row' if count == 1 else 'rows'}", _seconds(result.seconds)]
    if result.rows_read is not None and result.bytes_read is not None:
        told.append(f"read {result.rows_read:,} rows, {rough_size(result.bytes_read)}")
    cut = {
        "": "",
        "rows": f"The first {count:,} rows; LIMIT, or download for more.",
        "bytes": f"The first {count:,} rows, because the result is large; choose columns, or download for more.",
    }[result.cut]
    return {
        "told": "; ".join(told),
        "cut": cut,
        "seconds": round(result.seconds, 4),
        "rows_read": result.rows_read,
        "bytes_read": result.bytes_read,
    }


def _seconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _limits_told() -> str:
    return (
        f"Read-only. A query may take {LIMITS.seconds_max:g} s and {format_size(LIMITS.memory_bytes_max)} of memory,"
        f" and return {LIMITS.rows_max:,} rows or {format_size(LIMITS.bytes_max)}."
    )


def _endpoint(asked: PageRequest) -> Endpoint | None:
    owner: Owner = asked.owner
    needs_secret = COOKIE in asked.http.cookies or "Authorization" in asked.http.headers
    if owner.sql_address:
        return Endpoint(owner.sql_address, needs_secret=needs_secret)
    if owner.settings.store.url:
        server = parse_address(owner.settings.store.url)
        address = f"{server.scheme}://{url_host(server.host)}:{server.port}"
        return Endpoint(address, is_server=True, user=owner.settings.store.reader or server.user)
    return None


def _snippets(question: _Question | None, endpoint: Endpoint | None) -> list[Any]:
    if question is None:
        return []
    try:
        bound = question.bind()
    except UsageError:
        return []
    name = question.named.name if question.named else ""
    values = {known.name: Value(known.type, bound[known.name]) for known in question.parameters}
    return snippets(question.sql, values, endpoint, name, question.given)


def _listed(query: NamedQuery) -> Row:
    return {
        "name": query.name,
        "purpose": query.purpose,
        "parameters": ", ".join(known.shown() for known in query.parameters),
    }


def _tables(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Tables with their columns, those that people read before those behind the views."""
    tables: dict[str, dict[str, Any]] = {}
    for row in rows:
        table = tables.setdefault(
            row["table"],
            {
                "name": row["table"],
                "is_view": bool(row["is_view"]),
                "comment": row["table_comment"],
                "is_inner": row["table"].endswith(("_states", "_parts")) or row["table"] == "migrations",
                "columns": [],
                "first_rows": "/sql?" + urlencode({"q": f"SELECT *\nFROM {row['table']}\nLIMIT 100"}),
            },
        )
        table["columns"].append({"name": row["column"], "type": row["type"], "comment": row["comment"]})
    return sorted(tables.values(), key=lambda table: (table["is_inner"], table["name"]))


@cache
def _named() -> tuple[NamedQuery, ...]:
    return named_queries()


async def _download(suffix: str, asked: PageRequest) -> web.StreamResponse | None:
    """Send a whole result, as the engine makes it. An error on the way breaks the connection."""
    _, format_name, content_type = FILES[suffix]
    try:
        question = _question(asked)
        if question is None and suffix == ".csv":
            return None
        if question is None:
            raise UsageError("q or name: got neither; expected SQL, or the name of a query")
        bound = question.bind()
    except UsageError as error:
        return web.Response(status=400, text=f"{error}\n")
    if is_followed_link(asked.http):
        return web.Response(
            status=403, text="a link from another site runs nothing: open it below /sql to see its SQL\n"
        )
    headers = {
        **HEADERS,
        "Content-Type": content_type,
        "Content-Disposition": f'attachment; filename="{question.title.lower()}{suffix}"',
    }
    response = web.StreamResponse(headers=headers)
    kept = bytearray()
    if suffix != ".parquet":
        response.enable_compression()
    try:
        async with answering(asked.owner.store, asked.owner.admission, question.sql, bound, format_name) as answer:
            async for piece in answer:
                kept += piece
                if len(kept) > KEPT_BYTES:
                    if not response.prepared:
                        await response.prepare(asked.http)
                    await response.write(bytes(kept))
                    kept.clear()
            if not response.prepared:
                await response.prepare(asked.http)
            await response.write_eof(bytes(kept))
    except CollectorError as error:
        if not response.prepared:
            hint = f"; {error.hint}" if error.hint else ""
            status = 400 if isinstance(error, QueryError) else 503
            return web.Response(status=status, text=f"{explained(error)}{hint}\n")
        log.warning("console_download_broken", error=explained(error))
        if asked.http.transport is not None:
            asked.http.transport.abort()
    return response


FILES: Final = {
    ".csv": ("CSV", "CSVWithNames", "text/csv; charset=utf-8"),
    ".jsonl": ("JSON lines", "JSONEachRow", "application/x-ndjson; charset=utf-8"),
    ".parquet": ("Parquet", "Parquet", "application/vnd.apache.parquet"),
}
"""Suffix -> title, ClickHouse's format, and type of the content."""
DOWNLOADS: Final[Mapping[str, Download]] = {suffix: partial(_download, suffix) for suffix in FILES}
