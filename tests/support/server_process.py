"""A store on a server, as the tests open it; and what may stand or fall between the two."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from collector.settings import STORE_PASSWORD_VARIABLE
from collector.store.address import Credentials, ServerAddress
from collector.store.server import ServerStore
from tests.support.sql_server import SqlServer

WRITER, PASSWORD = "writer", "write-it"
ENVIRON = {STORE_PASSWORD_VARIABLE: PASSWORD}


async def open_server(server: SqlServer, **options: Any) -> ServerStore:
    """Open `server` as its writer."""
    return await open_at(server.port, **options)


async def open_at(port: int, **options: Any) -> ServerStore:
    """Open what answers at `port` of this machine."""
    store = await ServerStore.open(address(port), Credentials(PASSWORD), **options)
    await store.make_database()
    return store


def address(port: int) -> ServerAddress:
    """Of the test's writer at `port`."""
    return ServerAddress("http", "127.0.0.1", port, WRITER)


def url(port: int) -> str:
    """The same as a configuration spells it."""
    return f"http://{WRITER}@127.0.0.1:{port}/pai"


class ServerProcess:
    """The endpoint as a process of its own, which can be killed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None
        self.port = 0
        self.up = asyncio.Event()

    async def start(self) -> None:
        """Start it, at the port of the time before."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.support.sql_server", str(self._folder), str(self.port),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2],
        )  # fmt: skip
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        self.port = int(line.decode().rpartition(":")[2])
        self.up.set()

    async def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        assert self._process is not None
        self.up.clear()
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()


class Line:
    """What stands between client and server, and loses answers to inserts."""

    def __init__(self) -> None:
        self.port = 0
        self.to_lose = 0
        """So many answers are still to be lost."""
        self.inserts = 0
        """Inserts that went through to the server."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: int) -> None:
        """One connection of a client, with one of its own to the server."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            there, here = await asyncio.open_connection("127.0.0.1", target)
            try:
                while True:
                    request, _ = await _message(reader)
                    here.write(request)
                    is_insert = b"insert_deduplication_token" in request.partition(b"\r\n")[0]
                    self.inserts += is_insert
                    answer, ends = await _message(there)
                    if is_insert and self.to_lose:
                        self.to_lose -= 1
                        return
                    writer.write(answer)
                    await writer.drain()
                    if ends:
                        return
            finally:
                here.close()
                writer.close()


@asynccontextmanager
async def lossy(target: int, tls: ssl.SSLContext | None = None) -> AsyncIterator[Line]:
    """A line to the server at port `target`, with `tls` a sealed one."""
    line = Line()
    server = await asyncio.start_server(
        lambda reader, writer: line.serve(reader, writer, target), "127.0.0.1", 0, ssl=tls
    )
    line.port = server.sockets[0].getsockname()[1]
    async with server:
        yield line


async def _message(reader: asyncio.StreamReader) -> tuple[bytes, bool]:
    """One HTTP message, and whether its connection ends with it."""
    head = await reader.readuntil(b"\r\n\r\n")
    fields = head.lower()
    body = b""
    if b"transfer-encoding: chunked" in fields:
        while True:
            size = await reader.readuntil(b"\r\n")
            piece = await reader.readexactly(int(size, 16) + 2)
            body += size + piece
            if size == b"0\r\n":
                break
    elif b"content-length: " in fields:
        body = await reader.readexactly(int(fields.partition(b"content-length: ")[2].split(b"\r\n")[0]))
    return head + body, b"connection: close" in fields
