"""The endpoint over an engine that ends a result too early."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest

from collector.chdb_http.accounts import Account, Accounts
from collector.chdb_http.native import NativeBlocks
from collector.chdb_http.protocol import SqlRequest
from collector.chdb_http.server import SqlEndpoint, endpoint
from collector.queries import QueryAnswer
from tests.support.sql_server import Made

# One column "n" of UInt32 with two rows, in the format Native of revision 0.
BLOCK = b"\x01\x02\x01n\x06UInt32" + (7).to_bytes(4, "little") + (8).to_bytes(4, "little")


class Engine:
    """An `Executor` whose every result is the same bytes."""

    body_bytes_max = 1 << 15

    def __init__(self, result: bytes) -> None:
        self.result = result

    async def run(self, request: SqlRequest) -> QueryAnswer:
        self.asked = request
        return Made(self.result, "Native")


@pytest.mark.parametrize("cut", [0, 1, 4, len(BLOCK) - 1])
@pytest.mark.parametrize("is_whole", [False, True])
async def test_a_native_result_that_is_cut_short_is_an_error(cut: int, is_whole: bool) -> None:
    """At the border of a block it is whole; anywhere else the client gets an error, not a result with fewer rows."""
    engine = Engine(BLOCK + BLOCK[:cut])
    answering = SqlEndpoint(Accounts(Account(engine)), name="here", version="1", timezone="UTC", is_guarded=False)
    arguments = {"client_protocol_version": "54405", "wait_end_of_query": str(int(is_whole))}
    async with (
        endpoint(answering, "127.0.0.1", 0) as url,
        aiohttp.ClientSession() as client,
        client.post(url, params=arguments, data="SELECT n FROM t") as response,
    ):
        body = await response.read()
    text = b"Code: 33. DB::Exception: the engine's result ends within a block"
    if not cut:
        assert body == NativeBlocks(54405).feed(BLOCK)
    elif is_whole or response.status != 200:
        assert (response.status, body[: len(text)]) == (500, text)
    else:
        assert response.headers["X-ClickHouse-Exception-Tag"].encode() in body
        assert text in body


async def test_a_form_is_read_however_the_network_cuts_it() -> None:
    """A field longer than one read, of which three bytes come alone, arrives as it was sent."""
    engine = Engine(BLOCK)
    answering = SqlEndpoint(Accounts(Account(engine)), name="here", version="1", timezone="UTC", is_guarded=False)
    sql = "SELECT n FROM t -- ".ljust(20_000, "x")

    async def pieces() -> AsyncIterator[bytes]:
        yield b'--edge\r\nContent-Disposition: form-data; name="query"\r\n\r\n' + sql[:8192].encode()
        for piece in (sql[8192:8195], sql[8195:] + "\r\n--edge--\r\n"):
            for _ in range(100):  # The server has read what was sent.
                await asyncio.sleep(0)
            yield piece.encode()

    headers = {"Content-Type": "multipart/form-data; boundary=edge"}
    async with (
        endpoint(answering, "127.0.0.1", 0) as url,
        aiohttp.ClientSession() as client,
        client.post(url, headers=headers, data=pieces()) as response,
    ):
        assert (response.status, await response.read()) == (200, BLOCK)
    assert engine.asked.sql == sql.encode()
