"""The owner's socket: other commands of the same user have the owner do their work.

HTTP over a Unix socket beside the journal, mode 0600. Nothing of it is reachable from elsewhere.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from collector.errors import CollectorError, QueryError
from collector.owner.check import check_all
from collector.owner.instance import Owner
from collector.owner.status import status

PATH_BYTES_MAX = 100
"""The system takes about 107 bytes as the path of a socket."""

SQL_BYTES_MAX = 1 << 20
CONNECT_SECONDS = 5.0
READ_SECONDS = 120.0

# A query's result travels in frames, so that an error after the first byte is told apart from an end.
_FRAME = struct.Struct(">cI")
_DATA, _ERROR, _END = b"D", b"E", b"."


def socket_path(journal_path: Path) -> Path:
    """Where the owner of a journal listens."""
    return journal_path.with_name(journal_path.name + ".sock")


@asynccontextmanager
async def reachable(path: Path) -> AsyncIterator[str]:
    """`path` in a form that fits into a socket address: a long one goes through its open directory."""
    if len(os.fsencode(path)) <= PATH_BYTES_MAX:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


@asynccontextmanager
async def listening(owner: Owner) -> AsyncIterator[None]:
    """Answer other commands while the body runs."""
    path = socket_path(owner.settings.journal.path)
    path.unlink(missing_ok=True)
    runner = web.AppRunner(_application(owner), access_log=None)
    await runner.setup()
    try:
        async with reachable(path) as address:
            # Made with the right mode at once: between bind and chmod anybody could connect.
            mask = os.umask(0o177)
            try:
                await web.UnixSite(runner, address).start()
            finally:
                os.umask(mask)
            yield
    finally:
        await runner.cleanup()
        path.unlink(missing_ok=True)


def _application(owner: Owner) -> web.Application:
    async def show_status(request: web.Request) -> web.StreamResponse:
        return web.json_response(await status(owner))

    async def run_check(request: web.Request) -> web.StreamResponse:
        return web.json_response([result.as_dict() for result in await check_all(owner)])

    async def run_query(request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            async with await owner.store.query(str(asked["sql"]), format=str(asked["format"])) as answer:
                async for piece in answer:
                    await response.write(_FRAME.pack(_DATA, len(piece)) + piece)
            await response.write(_FRAME.pack(_END, 0))
        except CollectorError as error:
            told = json.dumps({"error": str(error), "hint": error.hint}).encode()
            await response.write(_FRAME.pack(_ERROR, len(told)) + told)
        await response.write_eof()
        return response

    application = web.Application(client_max_size=SQL_BYTES_MAX)
    application.router.add_get("/status", show_status)
    application.router.add_post("/check", run_check)
    application.router.add_post("/query", run_query)
    return application


class OwnerClient:
    """The other end of the socket, for a command that is not the owner."""

    def __init__(self, address: str) -> None:
        self._session = aiohttp.ClientSession(
            "http://owner",
            connector=aiohttp.UnixConnector(path=address),
            timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_SECONDS, sock_read=READ_SECONDS),
        )

    async def close(self) -> None:
        await self._session.close()

    async def status(self) -> dict[str, Any]:
        """See `owner.status.status`."""
        async with self._session.get("/status", raise_for_status=True) as response:
            told: dict[str, Any] = await response.json()
            return told

    async def check(self) -> list[dict[str, Any]]:
        """See `owner.check.check_all`."""
        async with self._session.post("/check", raise_for_status=True) as response:
            told: list[dict[str, Any]] = await response.json()
            return told

    async def query(self, sql: str, format_name: str) -> AsyncIterator[bytes]:
        """The bytes of a result in ClickHouse's format of that name. Raises QueryError."""
        asked = {"sql": sql, "format": format_name}
        async with self._session.post("/query", json=asked, raise_for_status=True) as response:
            while True:
                try:
                    kind, size = _FRAME.unpack(await response.content.readexactly(_FRAME.size))
                    body = await response.content.readexactly(size)
                except EOFError as error:
                    raise aiohttp.ClientPayloadError("the owner ended before the result was complete") from error
                if kind == _END:
                    return
                if kind == _ERROR:
                    told = json.loads(body)
                    raise QueryError(told["error"], hint=told["hint"])
                yield body
