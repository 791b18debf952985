"""A ClickHouse over HTTP for tests: the SQL endpoint over an embedded store, with an account that may also write."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from collector.admission import LIMITS
from collector.chdb_http.accounts import Account, Accounts
from collector.chdb_http.protocol import SqlRequest
from collector.chdb_http.server import SqlEndpoint, endpoint
from collector.queries import Column, QueryAnswer, QueryLimits
from collector.service.sql import SERVER_NAME, ReadingExecutor
from collector.store.embedded import EmbeddedStore
from collector.store.engine import connect
from collector.store.failures import query_failure

INSERT = re.compile(
    rb"\s*(?P<statement>INSERT\s+INTO\s+(?:(?!\bSELECT\b).)*?)\s+FORMAT\s+(?P<format>\w+)"
    rb"(?:[ \t;]*(?:\r?\n|$)|[ \t]+(?=[\[{]))(?P<rows>.*)",
    re.IGNORECASE | re.DOTALL,
)
FORMAT = re.compile(r"\bFORMAT\s+(\w+)\s*;?\s*$", re.IGNORECASE)
PRODUCES = re.compile(r"\s*(SELECT|WITH|SHOW|DESC|DESCRIBE|EXISTS|EXPLAIN|CHECK)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class SqlServer:
    """One that runs."""

    url: str
    store: EmbeddedStore
    reader: str = "reader"
    reader_password: str = "read-it"
    writer: str = "writer"
    writer_password: str = "write-it"

    @property
    def host(self) -> str:
        return self.url.removeprefix("http://").rpartition(":")[0]

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])


@asynccontextmanager
async def sql_server(
    folder: Path | None = None,
    *,
    store: EmbeddedStore | None = None,
    port: int = 0,
    limits: QueryLimits | None = None,
    is_guarded: bool = True,
    **options: Any,
) -> AsyncIterator[SqlServer]:
    """Serve the given store, or a new one in `folder`. Without `is_guarded` readers need no password."""
    async with AsyncExitStack() as stack:
        if store is None:
            assert folder is not None
            store = await EmbeddedStore.open(folder)
            stack.push_async_callback(store.close)
        [[version, timezone]] = await store.fetch("SELECT version(), timezone()")
        plain = SqlServer("", store)
        reading = ReadingExecutor(store, limits or LIMITS)
        accounts = Accounts(
            Account(reading, plain.reader_password if is_guarded else ""),
            {plain.writer: Account(WritingExecutor(store), plain.writer_password)},
        )
        answering = SqlEndpoint(
            accounts, name=SERVER_NAME, version=version, timezone=timezone, is_guarded=is_guarded, **options
        )
        url = await stack.enter_async_context(endpoint(answering, "127.0.0.1", port))
        yield SqlServer(url, store)


class WritingExecutor:
    """Runs anything, as the engine takes it, on a handle for each request: a server's user with all rights."""

    body_bytes_max = 512 << 20

    def __init__(self, store: EmbeddedStore) -> None:
        self._store = store
        without_end = QueryLimits(seconds_max=3600, rows_max=1 << 40, bytes_max=1 << 50)
        self._reading = ReadingExecutor(store, without_end)

    async def run(self, request: SqlRequest) -> QueryAnswer:
        """See `Executor.run`. The result is made in one piece, but for one who asks for readonly=1."""
        if request.settings.get("readonly") == "1":
            return await self._reading.run(request)
        try:
            # It runs to its end like on a server, also when the client has gone.
            return await asyncio.shield(asyncio.to_thread(self._run, request))
        except Exception as error:
            raise query_failure(error) from None

    def _run(self, request: SqlRequest) -> Made:
        handle = connect(self._store._connection_string)
        try:
            if request.database:
                handle.query(f"USE `{request.database}`")
            if request.settings:
                handle.query("SET " + ", ".join(f"`{name}` = {_literal(v)}" for name, v in request.settings.items()))
            insert = INSERT.fullmatch(request.sql)
            if insert and insert["format"].lower() != b"values":
                return self._insert(handle, insert)
            sql = request.sql.decode()
            own = FORMAT.search(sql)
            chosen = own[1] if own else request.default_format or "TabSeparated"
            made = handle.query(sql, chosen, params=dict(request.parameters))
            return Made(made.bytes(), chosen if PRODUCES.match(sql) else "")
        finally:
            handle.close()

    def _insert(self, handle: Any, insert: re.Match[bytes]) -> Made:
        statement, format = insert["statement"].decode(), insert["format"].decode()
        if format.startswith("JSON"):
            # In one text with the statement: the engine's own stream of an insert ends without an error where a row
            # breaks a constraint, and stores nothing.
            handle.query(f"{statement} FORMAT {format}\n{insert['rows'].decode()}", "TabSeparated")
            return Made(b"", "")
        # Left before its end, the insert is cancelled.
        with handle.send_insert(statement, format) as sending:
            sending.append(insert["rows"])
            sending.finish()
        return Made(b"", "")


def _literal(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


class Made:
    """A `QueryAnswer` that is there already."""

    def __init__(self, body: bytes, format: str) -> None:
        self._body = body
        self.format = format
        self.columns: tuple[Column, ...] = ()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._body:
            yield self._body

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        self._body = b""


async def main(folder: str, port: str = "0", seconds_max: str = "30") -> None:
    """Serve until stdin ends, and print the URL: `python -m tests.support.sql_server FOLDER [PORT [SECONDS]]`."""
    async with sql_server(
        Path(folder), port=int(port), limits=replace(LIMITS, seconds_max=float(seconds_max))
    ) as server:
        print(server.url, flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
