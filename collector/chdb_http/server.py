"""The SQL endpoint: ClickHouse's HTTP interface, for whoever the accounts admit.

Without a password it answers on loopback only, to requests that name a loopback host and that no page in a browser
has sent: a page whose name was made to point here must not read it, and none may make it work.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Final

import aiohttp
from aiohttp import web

from collector.admission import REQUEST_SECONDS_MAX, Admission
from collector.chdb_http.accounts import Accounts, Executor
from collector.chdb_http.compressed_blocks import BlockCompressor
from collector.chdb_http.compression import Compressor, chosen, compressor, decompress
from collector.chdb_http.exceptions import (
    ACCESS_DENIED,
    BAD_ARGUMENTS,
    CANNOT_READ_ALL_DATA,
    NOT_IMPLEMENTED,
    QUERY_IS_TOO_LARGE,
    QUERY_WAS_CANCELLED,
    TIMEOUT_EXCEEDED,
    TOO_MANY_SIMULTANEOUS_QUERIES,
    code_of,
    failure,
    frame,
    status_of,
    text_of,
)
from collector.chdb_http.native import NativeBlocks, UnknownType
from collector.chdb_http.protocol import SqlRequest, credentials, killed_query, parse
from collector.errors import QueryError, StoreError
from collector.proxies import is_loopback
from collector.queries import QueryAnswer, literal

SHUTDOWN_SECONDS: Final = 1.0
"""At the end, short answers are waited for this long; then every query is stopped."""
HEAD_BYTES_MAX: Final = 1 << 20
"""Maximum of the address, and of each header: as much as a ClickHouse server takes by default."""
HEADERS_MAX: Final = 1_000
WHOLE_BYTES_MAX: Final = 16 << 20
"""An answer that is to be whole before it is sent is kept until it is larger than this."""
RETRY_AFTER_SECONDS: Final = 5
"""What a client that is refused for want of room is told to wait."""

_TYPES = {
    "JSONEachRow": "application/x-ndjson",
    "CSV": "text/csv",
    "XML": "application/xml",
    "Markdown": "text/markdown",
}
_NOTHING_DONE = json.dumps(
    dict.fromkeys(("read_rows", "read_bytes", "written_rows", "written_bytes", "total_rows_to_read", "result_rows",
                   "result_bytes", "elapsed_ns"), "0")
)  # fmt: skip
"""The headers go out before anything is known."""
_NO_EXTERNAL_TABLES: Final = (
    "external tables (files in a form) are not supported; put the rows into the SQL, such as"
    " WITH ids AS (SELECT * FROM format(TSV, 'id UInt32', '1\\n2')), or give them as a parameter {ids:Array(UInt32)}"
)
_KILLED: Final = "SELECT 'waiting' AS kill_status, {query_id} AS query_id, '' AS user, '' AS query LIMIT {found}"
"""What a server responds to KILL QUERY, one row for each query that is stopped."""


@dataclass(slots=True, eq=False)
class _Running:
    """A request while it is answered."""

    query_id: str
    deadline: asyncio.Timeout
    executor: Executor | None = None
    """Of the account that sent it."""
    is_killed: bool = False

    def kill(self) -> None:
        if not self.deadline.expired():
            self.is_killed = True
            self.deadline.reschedule(0)


class SqlEndpoint:
    """Answers requests. `name` is what it calls itself to clients, `version` and `timezone` are the engine's."""

    def __init__(
        self,
        accounts: Accounts,
        *,
        name: str,
        version: str,
        timezone: str,
        is_guarded: bool,
        admission: Admission | None = None,
        seconds_max: float = REQUEST_SECONDS_MAX,
    ) -> None:
        self._accounts = accounts
        self._name = name
        self._version = version
        self._timezone = timezone
        self._is_guarded = is_guarded
        """A password keeps strangers out, so any host name will do."""
        self._admission = admission or Admission()
        self._seconds_max = seconds_max
        self._running: set[_Running] = set()

    def application(self) -> web.Application:
        application = web.Application(client_max_size=0)
        application.router.add_get("/ping", self._ping)
        application.router.add_route("GET", "/", self._answer)
        application.router.add_route("POST", "/", self._answer)
        return application

    async def _ping(self, request: web.Request) -> web.Response:
        return web.Response(text="Ok.\n")

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        query_id = request.query.get("query_id", "") or str(uuid.uuid4())
        sender = _Sender(request, self._headers(query_id), self._version)
        running = _Running(query_id, asyncio.timeout(self._seconds_max))
        try:
            async with running.deadline, self._admission.permit():
                self._running.add(running)
                asked, answer = await self._begin(request, running)
                if answer is None:
                    return web.Response(text="Ok.\n")
                async with answer:
                    return await sender.send(asked, answer)
        except StoreError as error:
            return self._refusal(request, _as_query_error(error), query_id)
        except TimeoutError:
            if sender.response is None:
                late = failure(TIMEOUT_EXCEEDED, f"the request took longer than {self._seconds_max:g} s")
                killed = failure(QUERY_WAS_CANCELLED, "Query was cancelled")
                return self._refusal(request, killed if running.is_killed else late, query_id)
            # A client that has not read the response until now would not read its end either.
            if request.transport is not None:
                request.transport.abort()
            return sender.response
        finally:
            self._running.discard(running)

    async def _begin(self, request: web.Request, running: _Running) -> tuple[SqlRequest, QueryAnswer | None]:
        query_id = running.query_id
        if not (query_id.isascii() and query_id.isprintable() and len(query_id) <= 256):
            raise failure(BAD_ARGUMENTS, "query_id: expected at most 256 printable ASCII characters")
        self._check_origin(request)
        running.executor = executor = self._accounts.executor(credentials(request.query, request.headers))
        asked = await self._parse(request, executor)
        if not asked.sql.strip():
            return asked, None
        if killed := killed_query(asked.sql):
            asked = replace(asked, sql=self._kill(executor, *killed))
        return asked, await executor.run(asked)

    def _kill(self, executor: Executor, query_id: str, format_name: str) -> bytes:
        """Stop an account's requests of this id, and return the SQL of the response."""
        found = [running for running in self._running if (running.query_id, running.executor) == (query_id, executor)]
        for running in found:
            running.kill()
        sql = _KILLED.format(query_id=literal(query_id), found=min(len(found), 1))
        return (f"{sql} FORMAT {format_name}" if format_name else sql).encode()

    def _check_origin(self, request: web.Request) -> None:
        if self._is_guarded:
            return
        named = request.headers.get("Host", "")
        if not is_loopback(named.rpartition(":")[0] or named):
            raise failure(ACCESS_DENIED, "ask by a loopback name or address")
        if "Origin" in request.headers or request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            raise failure(ACCESS_DENIED, "pages in a browser cannot ask here")

    async def _parse(self, request: web.Request, executor: Executor) -> SqlRequest:
        arguments = list(request.query.items())
        if request.content_type == "multipart/form-data":
            return parse(arguments, request.headers, b"", form=await _form(request, executor.body_bytes_max))
        body = bytearray()
        async for piece in request.content.iter_any():
            body += piece
            if len(body) > executor.body_bytes_max:
                raise failure(QUERY_IS_TOO_LARGE, f"the body has more than {executor.body_bytes_max:,} bytes")
        plain = decompress(bytes(body), request.headers.get("Content-Encoding", ""), executor.body_bytes_max)
        return parse(arguments, request.headers, plain, body_bytes_max=executor.body_bytes_max)

    def unreadable(self, status: int, message: str) -> web.Response:
        """Return the answer to a request that cannot be read as HTTP."""
        error = failure(BAD_ARGUMENTS, f"The request cannot be read as HTTP: {message}")
        headers = self._headers("") | {"X-ClickHouse-Exception-Code": str(code_of(error))}
        response = web.Response(status=status, text=text_of(error, self._version) + "\n", headers=headers)
        response.force_close()
        return response

    def _headers(self, query_id: str) -> dict[str, str]:
        return {
            "X-ClickHouse-Query-Id": query_id,
            "X-ClickHouse-Server-Display-Name": self._name,
            "X-ClickHouse-Timezone": self._timezone,
            "X-Content-Type-Options": "nosniff",
            "Content-Security-Policy": "default-src 'none'; sandbox",
            "Cache-Control": "no-store",
        }

    def _refusal(self, request: web.Request, error: QueryError, query_id: str = "") -> web.Response:
        shown = query_id if query_id.isascii() and query_id.isprintable() else ""
        headers = self._headers(shown) | {"X-ClickHouse-Exception-Code": str(code_of(error))}
        status = status_of(error)
        if code_of(error) == TOO_MANY_SIMULTANEOUS_QUERIES[0]:
            headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
        if status == HTTPStatus.UNAUTHORIZED:
            headers["WWW-Authenticate"] = f'Basic realm="{self._name}"'
        response = web.Response(status=status, text=text_of(error, self._version) + "\n", headers=headers)
        if not request.content.is_eof():
            # What has not been read of the request must not be read as the next one.
            response.force_close()
        return response


class _Sender:
    """Sends one answer: its headers with the first bytes, an error among the bytes once they are out."""

    def __init__(self, request: web.Request, headers: dict[str, str], version: str) -> None:
        self._request = request
        self._version = version
        self._tag = secrets.token_hex(8)
        self._headers = headers | {"X-ClickHouse-Exception-Tag": self._tag, "X-ClickHouse-Summary": _NOTHING_DONE}
        self._compressors: list[Compressor] = []
        """What a piece passes through, the last one HTTP's."""
        self.response: web.StreamResponse | None = None
        """What has been begun to be sent."""

    async def send(self, asked: SqlRequest, answer: QueryAnswer) -> web.StreamResponse:
        """Raises StoreError while nothing has been sent."""
        encoding = chosen(self._request.headers.get("Accept-Encoding", "")) if asked.is_compressed else ""
        if asked.block_method is not None:
            self._compressors.append(BlockCompressor(asked.block_method))
        if encoding:
            self._compressors.append(compressor(encoding))
            self._headers["Content-Encoding"] = encoding
        if answer.format:
            self._headers["X-ClickHouse-Format"] = answer.format
        self._headers["Content-Type"] = _content_type(answer.format)
        blocks = NativeBlocks(asked.revision) if asked.revision and answer.format == "Native" else None
        kept = bytearray()
        try:
            async for piece in answer:
                kept += _fed(blocks, piece) if blocks else piece
                if not asked.is_whole or len(kept) > WHOLE_BYTES_MAX:
                    await self._write(bytes(kept), self._compressors)
                    kept.clear()
            if blocks and not blocks.is_between_blocks:
                raise failure(CANNOT_READ_ALL_DATA, "the engine's result ends within a block; run the query again")
            response = await self._write(bytes(kept), self._compressors)
        except StoreError as error:
            if self.response is None:
                raise
            await self._write(bytes(kept), self._compressors)
            text = frame(text_of(_as_query_error(error), self._version), self._tag)
            # Never as a compressed block: a reader of rows would take the text for values, while what is no block
            # fails its checks.
            is_in_blocks = asked.block_method is not None
            response = await self._write(text, self._compressors[1:] if is_in_blocks else self._compressors)
        for place, each in enumerate(self._compressors):
            await self._write(each.flush(), self._compressors[place + 1 :])
        await response.write_eof()
        return response

    async def _write(self, piece: bytes, compressors: Sequence[Compressor]) -> web.StreamResponse:
        if self.response is None:
            self.response = web.StreamResponse(headers=self._headers)
            await self.response.prepare(self._request)
        for each in compressors:
            piece = each.compress(piece)
        if piece:
            await self.response.write(piece)
        return self.response


def _fed(blocks: NativeBlocks, piece: bytes) -> bytes:
    """Raises QueryError."""
    try:
        return blocks.feed(piece)
    except UnknownType as error:
        raise failure(NOT_IMPLEMENTED, str(error)) from None


def _content_type(format_name: str) -> str:
    if format_name in _TYPES:
        return _TYPES[format_name] + "; charset=UTF-8"
    if format_name.startswith("JSON"):
        return "application/json; charset=UTF-8"
    if format_name.startswith("CSV"):
        return "text/csv; charset=UTF-8"
    if format_name.startswith(("TSV", "TabSeparated")):
        return "text/tab-separated-values; charset=UTF-8"
    if format_name.startswith(("Native", "RowBinary", "Arrow", "Parquet", "ORC", "Avro", "MsgPack")):
        return "application/octet-stream"
    return "text/plain; charset=UTF-8"


def _as_query_error(error: StoreError) -> QueryError:
    return error if isinstance(error, QueryError) else failure((999, "STORE_UNAVAILABLE"), str(error))


async def _form(request: web.Request, bytes_max: int) -> list[tuple[str, str]]:
    """The fields of a multipart body. Raises QueryError."""
    if request.headers.get("Content-Encoding"):
        raise failure(NOT_IMPLEMENTED, "a form with Content-Encoding is not taken")
    fields: list[tuple[str, str]] = []
    left = bytes_max
    try:
        async for part in await request.multipart():
            if not isinstance(part, aiohttp.BodyPartReader) or part.name is None or part.filename is not None:
                raise failure(NOT_IMPLEMENTED, _NO_EXTERNAL_TABLES)
            text = bytearray()
            while piece := await part.read_chunk():
                text += piece
                left -= len(piece)
                if left < 0:
                    raise failure(QUERY_IS_TOO_LARGE, f"the form has more than {bytes_max:,} bytes")
            fields.append((part.name, text.decode("utf-8", "surrogateescape")))
    except (ValueError, AssertionError, aiohttp.ClientError) as error:
        raise failure(BAD_ARGUMENTS, f"the form cannot be read: {error}") from None
    return fields


class _Protocol(web.RequestHandler):
    """One connection; what cannot be read as HTTP is answered in ClickHouse's form too."""

    __slots__ = ("_answering",)

    def __init__(self, answering: SqlEndpoint, manager: web.Server, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(
            manager,
            loop=loop,
            # None switches it off, also where the types say otherwise.
            access_log=None,  # type: ignore[arg-type]
            auto_decompress=False,
            max_line_size=HEAD_BYTES_MAX,
            max_field_size=HEAD_BYTES_MAX,
            max_headers=HEADERS_MAX,
        )
        self._answering = answering

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """As aiohttp's, which would log each such request with a traceback."""
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return super().handle_error(request, status, exc, message)
        # The parser's words are followed by the bytes that it met.
        return self._answering.unreadable(status, (message or "").strip().split("\n")[0].split(":")[0])


@asynccontextmanager
async def endpoint(answering: SqlEndpoint, host: str, port: int) -> AsyncIterator[str]:
    """Answer at host and port while the body runs; gives the address. Raises OSError where it cannot be had."""
    runner = web.AppRunner(
        answering.application(),
        handle_signals=False,
        # A client that goes takes its query along.
        handler_cancellation=True,
        shutdown_timeout=SHUTDOWN_SECONDS,
    )
    await runner.setup()
    manager, loop = runner.server, asyncio.get_running_loop()
    assert manager is not None, "the runner is set up"
    try:
        server = await loop.create_server(lambda: _Protocol(answering, manager, loop), host, port)
        try:
            bound = server.sockets[0].getsockname()
            yield f"http://{f'[{bound[0]}]' if ':' in bound[0] else bound[0]}:{bound[1]}"
        finally:
            server.close()
    finally:
        await runner.cleanup()
