"""The SQL endpoint as a client of ClickHouse's HTTP interface sees it: requests, answers, errors, limits."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import os
import re
import subprocess
import sys
import zlib
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import lz4.frame
import pytest
from aiohttp.test_utils import unused_port
from backports import zstd

from collector.admission import Admission
from collector.chdb_http.compressed_blocks import BlockCompressor, decompress_blocks
from collector.chdb_http.native import BLOCK_INFO
from collector.chdb_http.settings import ACCEPTED
from collector.errors import ConfigError, QueryError, UsageError
from collector.queries import QueryLimits
from collector.service.http import check_listener
from collector.service.sql import KEY, serving_sql
from collector.simulator.world import World
from tests.support.running_service import running
from tests.support.sql_server import SqlServer, sql_server

PATIENCE_SECONDS = 60.0
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def server_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An endpoint in a process of its own, for tests that change nothing."""
    folder = tmp_path_factory.mktemp("endpoint")
    command = [sys.executable, "-m", "tests.support.sql_server", str(folder / "store")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.communicate()


@pytest.fixture
async def endpoint(server_url: str) -> AsyncIterator[aiohttp.ClientSession]:
    """A client of it."""
    headers = {"Authorization": basic("reader", "read-it")}
    async with aiohttp.ClientSession(server_url, headers=headers, auto_decompress=False) as client:
        yield client


@asynccontextmanager
async def asked(folder: Path, **options: Any) -> AsyncIterator[tuple[SqlServer, aiohttp.ClientSession]]:
    """An endpoint without a password, and a client that leaves bodies as they come."""
    options = {"is_guarded": False} | options
    async with (
        sql_server(folder / "store", **options) as server,
        aiohttp.ClientSession(server.url, auto_decompress=False) as client,
    ):
        yield server, client


async def ask(
    client: aiohttp.ClientSession, sql: str | bytes = "", /, headers: Mapping[str, str] | None = None, **arguments: Any
) -> tuple[int, bytes, Mapping[str, str]]:
    """Status, body and headers of a POST."""
    async with client.post("/", params=arguments, data=sql or None, headers=headers) as answer:
        return answer.status, await answer.read(), answer.headers


def basic(user: str, password: str) -> str:
    return aiohttp.encode_basic_auth(user, password)


# Requests


async def test_native_blocks_are_of_the_revision_that_the_client_names(tmp_path: Path) -> None:
    """Go's driver, which has no way back, gets block information and a flag a column; others get what they had."""
    sql = "SELECT displayName() AS a, revision() AS b FORMAT Native"
    async with asked(tmp_path) as (_, client):
        _, plain, _ = await ask(client, sql)
        assert (await ask(client, sql, client_protocol_version="0"))[1] == plain
        _, older, _ = await ask(client, sql, client_protocol_version="54405")
        assert older == BLOCK_INFO + plain
        _, newer, _ = await ask(client, sql, client_protocol_version="54460", default_format="Native")
        assert newer == BLOCK_INFO + plain.replace(b"String", b"String\0").replace(b"UInt32", b"UInt32\0")
        assert (await ask(client, "SELECT 1", client_protocol_version="54460"))[1] == b"1\n"
        for wrong in ("-1", "x", "9" * 10):
            status, body, _ = await ask(client, sql, client_protocol_version=wrong)
            assert (status, b"client_protocol_version" in body) == (400, True)
        odd = "SELECT sumState(number) FROM numbers(3) FORMAT Native"
        status, body, _ = await ask(client, odd, client_protocol_version="54460")
        assert (status, b"convert it" in body) == (501, True)


async def test_sql_comes_in_the_address_in_the_body_or_in_a_form(tmp_path: Path) -> None:
    """However a client spells its query, it is the same query; an address and a body make one text."""
    async with asked(tmp_path) as (_, client):
        async with client.get("/ping") as answer:
            assert await answer.text() == "Ok.\n"
        async with client.get("/") as answer:
            assert await answer.text() == "Ok.\n"
        async with client.get("/", params={"query": "SELECT 1"}) as answer:
            assert await answer.text() == "1\n"
        assert (await ask(client, "SELECT 1"))[1] == b"1\n"
        assert (await ask(client, "+ 1", query="SELECT 1"))[1] == b"2\n"
        form = aiohttp.FormData()
        form.add_field("query", "SELECT {x:String}", content_type="text/plain")
        form.add_field("param_x", "é", content_type="text/plain")
        assert (await ask(client, form))[1] == "é\n".encode()
        # What curl -d sends is called a form, and is the SQL.
        curl = {"Content-Type": "application/x-www-form-urlencoded"}
        assert (await ask(client, "SELECT 1 AS a", headers=curl))[1] == b"1\n"


async def test_an_address_may_be_as_long_as_a_server_takes_it(tmp_path: Path) -> None:
    """Up to 1 MiB it is read; beyond that, and for what is no HTTP, the error has ClickHouse's form."""
    async with asked(tmp_path) as (server, client):
        long = f"SELECT length('{'x' * 200_000}')"
        assert (await ask(client, query=long))[1] == b"200000\n"
        status, body, headers = await ask(client, query=f"SELECT '{'x' * 1_100_000}'")
        assert (status, headers["X-ClickHouse-Exception-Code"]) == (400, "36")
        assert re.match(rb"Code: 36. DB::Exception: The request cannot be read as HTTP: Got more than .*BAD_ARG", body)
        reader, writer = await asyncio.open_connection(server.host, server.port)
        writer.write(b"SELECT 1\r\n\r\n")
        answer = await reader.read()
        assert b"Code: 36. DB::Exception: The request cannot be read as HTTP" in answer
        writer.close()


async def test_a_file_in_a_form_is_refused(tmp_path: Path) -> None:
    """External tables would be written somewhere; the client is told that there are none."""
    async with asked(tmp_path) as (_, client):
        form = aiohttp.FormData()
        form.add_field("query", "SELECT * FROM t")
        form.add_field("t", b"1\n", filename="t")
        status, body, headers = await ask(client, form)
        assert (status, headers["X-ClickHouse-Exception-Code"]) == (501, "48")
        assert b"external tables" in body


@pytest.mark.parametrize(
    ("sql", "arguments", "body", "format"),
    [
        ("SELECT 1 AS a", {}, b"1\n", "TabSeparated"),
        ("SELECT 1 AS a", {"default_format": "JSONEachRow"}, b'{"a":1}\n', "JSONEachRow"),
        ("SELECT 1 AS a FORMAT CSV", {"default_format": "JSONEachRow"}, b"1\n", "CSV"),
        ("SELECT {x:UInt8} + 1", {"param_x": "41"}, b"42\n", "TabSeparated"),
        ("SELECT {x:Array(String)}", {"param_x": "['a\\'b','c']"}, b"['a\\'b','c']\n", "TabSeparated"),
        ("SELECT {x:String}", {"param_x": "'; DROP TABLE t --"}, b"\\'; DROP TABLE t --\n", "TabSeparated"),
        ("SELECT currentDatabase()", {}, b"pai\n", "TabSeparated"),
        ("SELECT currentDatabase()", {"database": "information_schema"}, b"information_schema\n", "TabSeparated"),
        ("SELECT currentDatabase()", {"database": "default"}, b"pai\n", "TabSeparated"),
        ("SELECT 18446744073709551615 AS a", {"default_format": "JSONEachRow",
         "output_format_json_quote_64bit_integers": "1"}, b'{"a":"18446744073709551615"}\n', "JSONEachRow"),
        ("SHOW DATABASES LIKE 'pai' FORMAT JSONEachRow", {}, b'{"name":"pai"}\n', "JSONEachRow"),
        ("SELECT 1; -- done", {}, b"1\n", "TabSeparated"),
    ],
)  # fmt: skip
async def test_a_query_is_answered_as_a_server_would(
    tmp_path: Path, sql: str, arguments: dict[str, str], body: bytes, format: str
) -> None:
    """Format, parameters, database and settings are obeyed wherever they stand, and the headers say what came out."""
    async with asked(tmp_path) as (_, client):
        status, given, headers = await ask(client, sql, **arguments)
        assert (status, given, headers["X-ClickHouse-Format"]) == (200, body, format)


async def test_the_headers_are_those_that_clients_read(tmp_path: Path) -> None:
    """Identity of the query, time zone, name of the server, summary in JSON; the client's own query_id comes back."""
    async with asked(tmp_path) as (_, client):
        _, _, headers = await ask(client, "SELECT 1", query_id="mine-1")
        assert headers["X-ClickHouse-Query-Id"] == "mine-1"
        assert headers["X-ClickHouse-Server-Display-Name"] == "pai-collector"
        assert headers["X-ClickHouse-Timezone"]
        assert json.loads(headers["X-ClickHouse-Summary"])["read_rows"] == "0"
        assert "Access-Control-Allow-Origin" not in headers
        assert len((await ask(client, "SELECT 1"))[2]["X-ClickHouse-Query-Id"]) == 36
        assert (await ask(client, "SELECT 1", query_id="a\r\nb"))[0] == 400


@pytest.mark.parametrize(
    ("sql", "arguments", "status", "code"),
    [
        ("SELEC 1", {}, 400, 62),
        ("SELECT nope", {}, 404, 47),
        ("SELECT * FROM nope", {}, 404, 60),
        ("SELECT 1", {"database": "nope"}, 404, 81),
        ("SELECT {x:UInt8}", {}, 400, 456),
        ("SELECT 1 FORMAT Nope", {}, 400, 73),
        ("INSERT INTO t VALUES (1)", {}, 403, 164),
        ("SELECT 1 SETTINGS max_threads = 9", {}, 403, 164),
        ("SELECT 1", {"allow_ddl": "1"}, 403, 164),
        ("SELECT 1", {"max_rows_to_raed": "1"}, 400, 115),
        ("SELECT count() FROM numbers(9)", {"max_rows_to_read": "1"}, 500, 158),
        ("CREATE VIEW v AS SELECT 1", {}, 403, 164),
        ("SELECT 1", {"output_format_schema": "/tmp/x"}, 403, 164),
        ("SELECT 1", {"max_threads": "many"}, 400, 36),
        ("SELECT 1", {"session_timezone": "Nowhere/City"}, 400, 36),
        ("SELECT 1", {"compress": "1", "network_compression_method": "brotli"}, 400, 36),
        ("SELECT 1", {"decompress": "1"}, 400, 271),
        ("SELECT throwIf(1)", {"compress": "1"}, 500, 395),
        ("SELECT 1", {"role": "admin"}, 501, 48),
        ("SELECT throwIf(1)", {}, 500, 395),
        (b"SELECT '\xff'", {}, 400, 36),
    ],
)
async def test_an_error_is_told_as_a_server_would(
    tmp_path: Path, sql: str | bytes, arguments: dict[str, str], status: int, code: int
) -> None:
    """One line with code and name, the code in a header as well, and the connection goes on."""
    async with asked(tmp_path) as (_, client):
        given, body, headers = await ask(client, sql, **arguments)
        assert (given, headers["X-ClickHouse-Exception-Code"]) == (status, str(code)), body
        assert body.startswith(b"Code: %d. DB::Exception: " % code)
        assert body.count(b"\n") == 1
        assert (await ask(client, "SELECT 1"))[1] == b"1\n"


async def test_an_error_after_the_first_bytes_ends_the_body(tmp_path: Path) -> None:
    """It stands in a frame with the tag of the headers, so no client takes the rest for the whole."""
    async with asked(tmp_path) as (_, client):
        sql = "SELECT throwIf(number = 2000000) FROM numbers(3000000)"
        status, body, headers = await ask(client, sql)
        tag = headers["X-ClickHouse-Exception-Tag"].encode()
        assert status == 200
        assert body.startswith(b"0\n0\n")
        assert b"\r\n__exception__\r\n" + tag + b"\r\nCode: 395. " in body
        assert body.endswith(b" " + tag + b"\r\n__exception__\r\n")
        # Who asks for the whole gets the error alone.
        status, body, _ = await ask(client, sql, wait_end_of_query="1")
        assert status == 500
        assert body.startswith(b"Code: 395. ")


# Limits


async def test_limits_can_be_lowered_and_not_raised(tmp_path: Path) -> None:
    """A client's own limit holds where it is the stricter one."""
    async with asked(tmp_path, limits=QueryLimits(rows_max=100, threads_max=2)) as (_, client):
        assert (await ask(client, "SELECT number FROM numbers(50)", max_result_rows="10"))[2][
            "X-ClickHouse-Exception-Code"
        ] == "396"
        for raised in ("0", "1000000", "1e9"):
            _, body, headers = await ask(client, "SELECT number FROM numbers(500)", max_result_rows=raised)
            assert headers["X-ClickHouse-Exception-Code"] == "396", body
        setting = "SELECT getSetting('max_threads')"
        assert (await ask(client, setting, max_threads="1"))[1] == b"1\n"
        assert (await ask(client, setting, max_threads="64"))[1] == b"2\n"


@pytest.mark.parametrize(
    ("sql", "settings", "body"),
    [
        ("SELECT 1", {"max_result_rows": "1"}, b"1\n"),
        ("SELECT number FROM numbers(3)", {"max_result_rows": "3"}, b"0\n1\n2\n"),
        ("SELECT number FROM numbers(9)", {"limit": "2"}, b"0\n1\n"),
        ("SELECT number FROM numbers(9)", {"offset": "7"}, b"7\n8\n"),
        ("SELECT number FROM numbers(9)", {"limit": "1", "offset": "4", "max_result_rows": "1"}, b"4\n"),
        ("SELECT 1", {"max_result_bytes": "9"}, b"1\n"),
        ("SELECT 1", {"max_rows_to_read": "1", "max_bytes_to_read": "8", "max_columns_to_read": "1"}, b"1\n"),
        ("SELECT 1 AS x", {"extremes": "1"}, b"1\n\n1\n1\n"),
        ("SELECT number AS x FROM numbers(3) FORMAT CSV", {"extremes": "1"}, b"0\n1\n2\n"),
        ("SELECT 'a\tb'", {"output_format_tsv_crlf_end_of_line": "1"}, b"a\\tb\r\n"),
        ("SELECT 1", {"default_format": "Null"}, b""),
        ("SELECT 1 FORMAT CSV", {"default_format": "Null", "max_block_size": "1"}, b"1\n"),
        ("SELECT 1", {"max_execution_time": "20", "max_threads": "1", "max_memory_usage": "30000000"}, b"1\n"),
        ("SHOW TABLES LIKE 'nothing'", {"max_result_rows": "1", "limit": "1", "offset": "1", "extremes": "1"}, b""),
        ("SELECT 'x' FROM system.settings", {"limit": "2", "max_result_rows": "2"}, b"x\nx\n"),
    ],
)  # fmt: skip
async def test_a_readers_settings_act_on_its_result_alone(
    endpoint: aiohttp.ClientSession, sql: str, settings: dict[str, str], body: bytes
) -> None:
    """What judges the SQL meets no limit and no setting of the reader's."""
    status, given, _ = await ask(endpoint, sql, **settings)
    assert (status, given[: len(body) or None]) == (200, body)


async def test_the_table_of_settings_shows_what_is_accepted(endpoint: aiohttp.ClientSession) -> None:
    """A driver that reads it before it sends a setting sends what is accepted, and nothing else."""
    sql = "SELECT name, readonly FROM system.settings FORMAT JSONCompactEachRow"
    _, body, _ = await ask(endpoint, sql)
    shown = dict(map(json.loads, body.splitlines()))
    assert len(shown) > 1000
    assert {name for name, readonly in shown.items() if not readonly} == ACCEPTED & shown.keys()
    for accepted in ("max_threads", "session_timezone", "max_execution_time", "mutations_sync"):
        assert shown[accepted] == 0
    for refused in ("allow_ddl", "allow_introspection_functions", "format_schema", "max_parser_depth"):
        assert shown[refused] == 1
        assert (await ask(endpoint, "SELECT 1", **{refused: "1"}))[0] == 403

    of = "system.settings"
    for variant, expected in (
        (f"SELECT {of}.readonly FROM {of} WHERE {of}.name = 'max_threads'", b"0\n"),
        (f"SELECT a.readonly + b.readonly FROM {of} a JOIN {of} AS b USING name WHERE name = 'allow_ddl'", b"2\n"),
        (f"SELECT (SELECT readonly FROM {of} WHERE name = 'limit'), '{of}', `x`.`{of}` FROM"
         f" (SELECT 1 AS `{of}`) AS x", f"0\t{of}\t1\n".encode()),
        ("WITH t AS (SELECT value, changed FROM `system`.settings WHERE name = 'max_threads') SELECT * FROM t",
         b"1\t1\n"),
        (f"SELECT toTypeName(readonly) FROM {of} LIMIT 1", b"UInt8\n"),
        (f"EXISTS TABLE {of}", b"1\n"),
    ):  # fmt: skip
        assert (await ask(endpoint, variant, max_threads="1"))[:2] == (200, expected)
    assert (await ask(endpoint, f"DESCRIBE TABLE {of}"))[0] == 200
    assert (await ask(endpoint, f"EXPLAIN SYNTAX SELECT * FROM {of}"))[0] == 200


@pytest.mark.parametrize("name", ["stacktrace", "quota_key", "session_id", "session_check", "buffer_size"])
async def test_what_the_interface_ignores_is_ignored(endpoint: aiohttp.ClientSession, name: str) -> None:
    """Arguments of ClickHouse's interface that mean nothing here are no error."""
    assert (await ask(endpoint, "SELECT 1", **{name: "1"}))[:2] == (200, b"1\n")


async def test_a_refusal_says_what_to_do_instead(endpoint: aiohttp.ClientSession) -> None:
    """A view, a type that a driver cannot read."""
    _, body, _ = await ask(endpoint, "CREATE OR REPLACE VIEW v AS SELECT 1")
    assert b"write the query as a subquery or with WITH instead of a view" in body
    json_column = "SELECT '{\"a\": 1}'::JSON AS j"
    assert (await ask(endpoint, json_column))[:2] == (200, b'{"a":1}\n')
    status, body, _ = await ask(endpoint, json_column, default_format="Native", client_protocol_version="54405")
    assert (status, b"convert it, such as with toString" in body) == (501, True), body


async def test_nothing_is_left_for_the_next_request(tmp_path: Path) -> None:
    """A session that a client names keeps no settings, and one request's are not the next one's."""
    async with asked(tmp_path) as (_, client):
        setting = "SELECT getSetting('join_use_nulls')"
        assert (await ask(client, setting, join_use_nulls="1", session_id="s"))[1] == b"true\n"
        assert (await ask(client, setting, session_id="s"))[1] == b"false\n"


async def test_more_requests_than_allowed_are_refused_at_once(tmp_path: Path) -> None:
    """The one too many is told so, with ClickHouse's code, and there is room again when one has ended."""
    async with asked(tmp_path, admission=Admission(2, 0, 60)) as (server, client):
        sql = "SELECT sum(sipHash64(number)) FROM numbers(10000000000000)"
        endless = [asyncio.create_task(client.post("/", data=sql)) for _ in range(2)]
        async with asyncio.timeout(PATIENCE_SECONDS):
            while await running_queries(server) < 2:
                await asyncio.sleep(0.02)
        status, body, headers = await ask(client, "SELECT 1")
        assert (status, headers["X-ClickHouse-Exception-Code"]) == (500, "202"), body
        assert headers["Retry-After"] == "5"
        for task in endless:
            task.cancel()
        await asyncio.gather(*endless, return_exceptions=True)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (await ask(client, "SELECT 1"))[1] != b"1\n":
                await asyncio.sleep(0.05)


@pytest.mark.slow("requests by the hundred")
async def test_a_hundred_requests_are_all_answered(tmp_path: Path) -> None:
    """More than may run wait for their turn, and those that go while they wait leave their place to others."""
    async with asked(tmp_path, admission=Admission(4, 100, 60)) as (server, client):
        endless = "SELECT sum(sipHash64(number)) FROM numbers(10000000000000)"
        running = [asyncio.create_task(client.post("/", data=endless)) for _ in range(4)]
        async with asyncio.timeout(PATIENCE_SECONDS):
            while await running_queries(server) < 4:
                await asyncio.sleep(0.02)
        gone = [asyncio.create_task(client.post("/", data="SELECT 0")) for _ in range(90)]
        await asyncio.sleep(0.2)
        for task in [*gone, *running]:
            task.cancel()
        await asyncio.gather(*gone, *running, return_exceptions=True)
        async with asyncio.timeout(PATIENCE_SECONDS):
            answers = await asyncio.gather(*(ask(client, f"SELECT {number}") for number in range(100)))
        assert [answer[:2] for answer in answers] == [(200, b"%d\n" % number) for number in range(100)]


async def test_a_query_is_cancelled_by_its_id(tmp_path: Path) -> None:
    """As drivers do it, from another connection; the client gets ClickHouse's code, and another id stops nothing."""
    async with asked(tmp_path) as (server, client):
        endless = "SELECT sum(sipHash64(number)) FROM numbers(10000000000000)"
        task = asyncio.create_task(ask(client, endless, query_id="long-1"))
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not await running_queries(server):
                await asyncio.sleep(0.02)
        assert (await ask(client, "KILL QUERY WHERE query_id = 'long-2'"))[:2] == (200, b"")
        writer = await ask(client, "KILL QUERY WHERE query_id = 'long-1'", user="writer", password="write-it")
        assert (writer[:2], task.done()) == ((200, b""), False)
        status, body, _ = await ask(client, "KILL QUERY WHERE query_id='long-1' FORMAT JSONEachRow")
        assert json.loads(body) == {"kill_status": "waiting", "query_id": "long-1", "user": "", "query": ""}
        status, body, headers = await task
        assert (status, headers["X-ClickHouse-Exception-Code"]) == (500, "394"), body
        async with asyncio.timeout(PATIENCE_SECONDS):
            while await running_queries(server):
                await asyncio.sleep(0.02)


async def running_queries(server: SqlServer) -> int:
    """Readers' queries that the engine runs at the moment."""
    others = "SELECT count() FROM system.processes WHERE query LIKE '%sipHash64%' AND query NOT LIKE '%processes%'"
    [[count]] = await server.store.fetch(others)
    return int(count)


async def test_a_client_that_goes_takes_its_query_along(tmp_path: Path) -> None:
    """The engine stops what nobody waits for, before the first byte as well as after it."""
    endless = "SELECT sum(sipHash64(number)) FROM numbers(10000000000000)"
    streaming = "SELECT number, sipHash64(number) FROM numbers(10000000000000)"
    async with asked(tmp_path) as (server, client):
        for sql in (endless, streaming):
            task = asyncio.create_task(client.post("/", data=sql))
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not await running_queries(server):
                    await asyncio.sleep(0.02)
                if sql is streaming:
                    (await task).close()
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                while await running_queries(server):
                    await asyncio.sleep(0.02)


@pytest.mark.slow("requests by the hundred")
async def test_the_end_of_the_endpoint_is_the_end_of_its_queries(tmp_path: Path) -> None:
    """Whoever waits for an endless query loses the connection, and the store can be closed."""
    async with aiohttp.ClientSession() as client:
        async with sql_server(tmp_path / "store", is_guarded=False, limits=QueryLimits(seconds_max=3600)) as server:
            sql = "SELECT sum(sipHash64(number)) FROM numbers(10000000000000)"
            task = asyncio.create_task(client.post(server.url, data=sql))
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not await running_queries(server):
                    await asyncio.sleep(0.02)
        with pytest.raises(aiohttp.ClientError):
            await task


@pytest.mark.slow("requests by the hundred")
async def test_a_client_that_does_not_read_is_cut_off(tmp_path: Path) -> None:
    """An answer that nobody takes is given up after its time, and the engine has not run ahead of the client."""
    async with asked(tmp_path, seconds_max=2.0) as (server, _):
        reader, writer = await asyncio.open_connection(server.host, server.port, limit=1 << 10)
        sql = b"SELECT number, sipHash64(number) FROM numbers(10000000000000)"
        writer.write(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (len(sql), sql))
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not await running_queries(server):
                await asyncio.sleep(0.02)
            while await running_queries(server):
                await asyncio.sleep(0.02)
        given = b""
        with contextlib.suppress(ConnectionError):
            given = await reader.read()
        assert not given.endswith(b"\r\n0\r\n\r\n")
        writer.close()


@pytest.mark.slow("rows by the million")
async def test_a_large_result_takes_no_memory(tmp_path: Path) -> None:
    """The process grows by what is under way, not by what is read: 80 MiB of JSON pass through a few."""
    sql = "SELECT number, toString(number) AS text, number * 1.5 AS half FROM numbers(2000000) FORMAT JSON"
    async with asked(tmp_path, limits=QueryLimits(seconds_max=600), seconds_max=600) as (_, client):
        # What the first query loads once is no part of it.
        assert (await ask(client, sql.replace("2000000", "20000")))[0] == 200
        before, read, highest = resident_bytes(), 0, 0
        async with client.post("/", data=sql) as answer:
            async for piece in answer.content.iter_any():
                read += len(piece)
                highest = max(highest, resident_bytes())
        assert read > 80 << 20
        assert highest - before < 40 << 20


def resident_bytes() -> int:
    """Of this process, which holds the endpoint and its client."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def test_a_body_that_is_too_large_is_refused(tmp_path: Path) -> None:
    """Plain or in a form, a reader's SQL has a limit."""
    async with asked(tmp_path) as (_, client):
        long = "SELECT 1 -- " + "x" * (300 << 10)
        status, body, headers = await ask(client, long)
        assert (status, headers["X-ClickHouse-Exception-Code"]) == (413, "307")
        assert b"262,144 bytes" in body
        form = aiohttp.FormData()
        for name in ("query", "param_a", "param_b"):
            form.add_field(name, "x" * 100_000, content_type="text/plain")
        assert (await ask(client, form))[0] == 413


# Compression

PACK = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": zstd.compress,
    "lz4": lz4.frame.compress,
}
UNPACK = {
    "gzip": gzip.decompress,
    "deflate": zlib.decompress,
    "zstd": zstd.decompress,
    "lz4": lz4.frame.decompress,
}


@pytest.mark.parametrize("encoding", PACK)
async def test_bodies_are_compressed_both_ways(tmp_path: Path, encoding: str) -> None:
    """What a client compresses is read, what it takes compressed is compressed, errors on the way included."""
    async with asked(tmp_path) as (_, client):
        sql = PACK[encoding](b"SELECT number FROM numbers(100000)")
        wanted = {"Content-Encoding": encoding, "Accept-Encoding": encoding}
        status, body, headers = await ask(client, sql, wanted, enable_http_compression="1")
        assert (status, headers["Content-Encoding"]) == (200, encoding)
        assert UNPACK[encoding](body) == b"".join(b"%d\n" % number for number in range(100_000))
        assert len(body) < 450_000

        sql = PACK[encoding](b"SELECT throwIf(number = 2000000) FROM numbers(3000000)")
        _, body, headers = await ask(client, sql, wanted, enable_http_compression="1")
        assert headers["X-ClickHouse-Exception-Tag"].encode() in UNPACK[encoding](body)
        # Not asked for, nothing is compressed.
        _, body, headers = await ask(client, "SELECT 1", {"Accept-Encoding": encoding})
        assert (body, headers.get("Content-Encoding")) == (b"1\n", None)


@pytest.mark.parametrize("encoding", PACK)
async def test_a_body_that_grows_too_large_is_refused(tmp_path: Path, encoding: str) -> None:
    """Few bytes that become many, a cut-off body and one with a rest behind it are refused with their reason."""
    async with asked(tmp_path) as (_, client):
        bomb = PACK[encoding](b"SELECT 1 --" + b" " * (64 << 20))
        assert len(bomb) < 1 << 20
        named = {"Content-Encoding": encoding}
        status, body, headers = await ask(client, bomb, named)
        assert (status, headers["X-ClickHouse-Exception-Code"]) == (413, "307"), body
        whole = PACK[encoding](b"SELECT 1")
        for broken in (whole[:-3], whole + b"SELECT 2", b"SELECT 1"):
            status, body, headers = await ask(client, broken, named)
            assert (status, headers["X-ClickHouse-Exception-Code"]) == (400, "271"), body


@pytest.mark.parametrize("method", ["", "LZ4", "ZSTD", "NONE"])
async def test_bodies_come_in_compressed_blocks_both_ways(endpoint: aiohttp.ClientSession, method: str) -> None:
    """With `compress=1` and `decompress=1`, as ClickHouse's Java clients ask for, and under HTTP's compression too."""
    arguments = {"compress": "1", "decompress": "1"} | ({"network_compression_method": method} if method else {})
    sql = BlockCompressor(method).compress(b"SELECT number FROM numbers(500000)")
    lines = b"".join(b"%d\n" % number for number in range(500_000))
    status, body, headers = await ask(endpoint, sql, **arguments)
    assert (status, headers.get("Content-Encoding")) == (200, None)
    assert decompress_blocks(body, len(lines)) == lines
    assert body[16] == {"ZSTD": 0x90, "NONE": 0x02}.get(method, 0x82)

    wanted = {"Content-Encoding": "gzip", "Accept-Encoding": "gzip"}
    status, body, _ = await ask(endpoint, gzip.compress(sql), wanted, enable_http_compression="1", **arguments)
    assert (status, decompress_blocks(gzip.decompress(body), len(lines)) == lines) == (200, True)

    empty = await ask(endpoint, BlockCompressor(method).compress(b"SELECT 1 WHERE 0"), **arguments)
    assert empty[:2] == (200, b"")
    status, body, _ = await ask(endpoint, sql[:-1], **arguments)
    assert (status, body[:9]) == (400, b"Code: 271")


async def test_an_error_among_compressed_blocks_is_no_block(endpoint: aiohttp.ClientSession) -> None:
    """What comes before it is whole; a reader of blocks cannot take the error for values, or the end for the end."""
    sql = "SELECT throwIf(number = 2000000) FROM numbers(3000000)"
    _, body, headers = await ask(endpoint, sql, compress="1")
    blocks, mark, rest = body.partition(b"\r\n__exception__\r\n")
    assert mark
    assert headers["X-ClickHouse-Exception-Tag"].encode() in rest
    assert decompress_blocks(blocks, 1 << 24).count(b"0\n") > 1_000_000
    with pytest.raises(QueryError):
        decompress_blocks(body, 1 << 24)


async def test_an_encoding_that_nobody_knows_is_named(tmp_path: Path) -> None:
    """The error says what was seen and what would be right."""
    async with asked(tmp_path) as (_, client):
        status, body, _ = await ask(client, "SELECT 1", {"Content-Encoding": "snappy"})
        assert status == 501
        assert b"got Content-Encoding: snappy; expected one of zstd" in body


# Who may ask


@pytest.mark.parametrize(
    ("headers", "arguments"),
    [
        ({"Authorization": basic("anybody", "read-it")}, {}),
        ({"Authorization": "Bearer read-it"}, {}),
        ({"X-ClickHouse-User": "x", "X-ClickHouse-Key": "read-it"}, {}),
        ({"X-ClickHouse-Key": "read-it"}, {}),
        ({}, {"user": "x", "password": "read-it"}),
        ({}, {"password": "read-it"}),
    ],
)
async def test_the_password_is_taken_in_each_way_and_only_the_right_one(
    tmp_path: Path, headers: dict[str, str], arguments: dict[str, str]
) -> None:
    """Any user name with the password gets in; without it nobody, and the refusal repeats nothing of what was given."""
    async with asked(tmp_path, is_guarded=True) as (_, client):
        assert (await ask(client, "SELECT 1", headers, **arguments))[1] == b"1\n"
        assert (await ask(client, "SELECT 1", headers | {"Host": "reports.example"}, **arguments))[0] == 200
        other = basic("anybody", "read-Secret")
        wrong = {name: other if "Basic" in text else text.replace("-it", "-Secret") for name, text in headers.items()}
        worse = {name: text.replace("-it", "-Secret") for name, text in arguments.items()}
        status, body, told = await ask(client, "SELECT 1", wrong, **worse)
        assert (status, told["X-ClickHouse-Exception-Code"]) == (401, "516")
        assert "Basic" in told["WWW-Authenticate"]
        assert b"Secret" not in body
        assert (await ask(client, "SELECT 1"))[0] == 401


async def test_the_writers_name_needs_the_writers_password(tmp_path: Path) -> None:
    """The reader's password under another account's name opens nothing."""
    async with asked(tmp_path, is_guarded=True) as (server, client):
        auth = {"Authorization": basic(server.writer, server.reader_password)}
        assert (await ask(client, "SELECT 1", auth))[0] == 401


@pytest.mark.parametrize("headers", [{"Authorization": "Basic !"}, {"Authorization": "Basic AAAA/w=="},
                                     {"Authorization": "Digest x"}])  # fmt: skip
async def test_an_authorization_that_cannot_be_read_is_refused(tmp_path: Path, headers: dict[str, str]) -> None:
    """Not taken for none."""
    async with asked(tmp_path) as (_, client):
        assert (await ask(client, "SELECT 1", headers))[0] == 400


async def test_without_a_password_no_page_in_a_browser_can_ask(tmp_path: Path) -> None:
    """Neither under a name that was made to point here, nor from a page of another origin."""
    async with asked(tmp_path) as (_, client):
        for host in ("evil.example", "evil.example:8124", "127.0.0.1.evil.example"):
            status, body, _ = await ask(client, "SELECT 1", {"Host": host})
            assert (status, body[:9]) == (403, b"Code: 497")
        for origin in ("http://evil.example", "null", "http://localhost:3000"):
            assert (await ask(client, "SELECT 1", {"Origin": origin}))[0] == 403
        assert (await ask(client, "SELECT 1", {"Host": "localhost:8124"}))[0] == 200
        assert (await ask(client, "SELECT 1", {"Sec-Fetch-Site": "cross-site"}))[0] == 403
        async with client.options("/", headers={"Origin": "http://evil.example"}) as answer:
            assert answer.status == 405
            assert "Access-Control-Allow-Origin" not in answer.headers


# In the service

WORLD = World(seed=5, node_count=2, group_count=0, density=0.3)


@pytest.mark.slow("requests by the hundred")
async def test_the_service_serves_it_and_says_where(tmp_path: Path) -> None:
    """With the token of the environment as password; status and page name the address while it is served."""
    async with running(tmp_path, WORLD, targets={"nodes": WORLD.node_ids}) as run:
        async with (
            serving_sql(run.owner, listen="127.0.0.1:0", token="a-long-token") as address,
            aiohttp.ClientSession(address) as client,
        ):
            assert run.owner.sql_address == address
            bearer = {"Authorization": "Bearer a-long-token"}
            assert (await ask(client, "SELECT count() > 0 FROM watermarks", bearer))[0] == 200
            assert (await ask(client, "SELECT 1"))[0] == 401
            auth = {"Authorization": basic("writer", "a-long-token")}
            assert (await ask(client, "DROP TABLE syslog", auth))[0] == 403
        assert run.owner.sql_address == ""


@pytest.mark.slow("requests by the hundred")
async def test_an_address_that_is_taken_is_named_with_its_key(tmp_path: Path) -> None:
    """The error says which key, what it was, and what to do; an empty one serves nothing."""
    port = unused_port()
    async with running(tmp_path, WORLD, targets={"nodes": WORLD.node_ids}) as run:
        async with serving_sql(run.owner, listen=f"127.0.0.1:{port}", token=""):
            with pytest.raises(UsageError, match=rf"service\.sql_listen: got \"127\.0\.0\.1:{port}\"") as refusal:
                async with serving_sql(run.owner, listen=f"127.0.0.1:{port}", token=""):
                    pass
            assert "another port" in refusal.value.hint
        async with serving_sql(run.owner, listen="", token="") as address:
            assert address == ""


@pytest.mark.slow("hostile queries")
def test_others_are_answered_only_with_a_token() -> None:
    """An address that others can reach is a mistake of the configuration without a token."""
    with pytest.raises(ConfigError, match=r"service\.sql_listen: got .*PAI_COLLECTOR_SERVICE_TOKEN"):
        check_listener("0.0.0.0:8124", "", KEY)
    check_listener("0.0.0.0:8124", "a-long-token", KEY)
