"""A forward proxy on loopback that keeps what it was asked and sends everything to one address."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass
class ForwardProxy:
    """One that runs; `heads` are the requests' first bytes as they came."""

    url: str = ""
    heads: list[str] = field(default_factory=list)
    reply: bytes = b""
    """Sent instead of forwarding, if not empty."""


@asynccontextmanager
async def forward_proxy(target: str = "http://127.0.0.1:9") -> AsyncIterator[ForwardProxy]:
    """Forward every request and every tunnel to `target`, whatever host it names."""
    proxy = ForwardProxy()
    where = urlsplit(target)

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65_536):
            sink.write(data)
            await sink.drain()
        sink.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            proxy.heads.append(head.decode())
            if proxy.reply:
                writer.write(proxy.reply)
                await writer.drain()
                return
            method, address, _ = head.decode().split(" ", 2)
            up_reader, up_writer = await asyncio.open_connection(where.hostname, where.port)
            if method == "CONNECT":
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                parts = urlsplit(address)
                origin = f"{parts.scheme}://{parts.netloc}"
                # One request a connection, so that each is seen.
                changed = head.replace(origin.encode(), b"", 1).replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
                up_writer.write(changed)
            await asyncio.gather(pump(reader, up_writer), pump(up_reader, writer), return_exceptions=True)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
