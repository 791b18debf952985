"""What ClickHouse's Java clients send and expect, byte by byte: the JDBC driver, and so Metabase and DBeaver.

Written after the sources of client V1 and V2 (0.9 to 0.11): by default both ask for compressed blocks (LZ4), name the
format in a header, and find an error by its header.
"""

from __future__ import annotations

import http.client
import subprocess
import sys
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest

from collector.chdb_http.compressed_blocks import BlockCompressor, decompress_blocks

ROOT = Path(__file__).parents[2]
BYTES_MAX = 1 << 26
Response = tuple[int, bytes, dict[str, str]]
LONG_MAX = str(2**63 - 1)
BASIC = "Basic " + b64encode(b"reader:read-it").decode()


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Host and port of an endpoint in a process of its own, with a table."""
    folder = tmp_path_factory.mktemp("java")
    command = [sys.executable, "-m", "tests.support.sql_server", str(folder / "store")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        host = process.stdout.readline().strip().removeprefix("http://")
        writer = {"user": "writer", "password": "write-it"}
        for sql in (
            "CREATE TABLE pai.lines (time DateTime('UTC'), node String, level LowCardinality(String),"
            " gpu Nullable(UInt8), tags Array(String)) ENGINE = MergeTree ORDER BY time",
            "INSERT INTO pai.lines SELECT toDateTime(1760000000 + number, 'UTC'), concat('n', toString(number % 9)),"
            " 'err', if(number % 2, number % 8, NULL), ['a'] FROM numbers(100000)",
        ):
            connection = http.client.HTTPConnection(host)
            connection.request("POST", f"/?{urlencode(writer)}", sql.encode())
            assert connection.getresponse().read() == b""
            connection.close()
        yield host
        process.communicate()


class JavaClient:
    """One connection, kept alive, as both clients keep theirs."""

    def __init__(self, host: str) -> None:
        self.connection = http.client.HTTPConnection(host, timeout=120)

    def send(self, path: str, body: bytes, headers: dict[str, str]) -> http.client.HTTPResponse:
        self.connection.putrequest("POST", path, skip_accept_encoding=True)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.connection.putheader(name, value)
        self.connection.endheaders(body)
        return self.connection.getresponse()


@pytest.fixture
def client(host: str) -> Iterator[JavaClient]:
    """One client."""
    client = JavaClient(host)
    yield client
    client.connection.close()


def v2(client: JavaClient, sql: str, query_id: str = "0b4e3c1a-1", **settings: str) -> Response:
    """A query of client V2, on which the JDBC driver is built."""
    arguments = {"query_id": query_id, "compress": "1", **settings}
    body = sql.encode()
    headers = {
        "Content-Type": "text/plain; charset=UTF-8",
        "X-ClickHouse-Format": "RowBinaryWithNamesAndTypes",
        "X-ClickHouse-Query-Id": query_id,
        "X-ClickHouse-Database": "pai",
        "Authorization": BASIC,
        "User-Agent": "jdbc-v2/0.11.1 clickhouse-java-v2/0.11.1 (Linux; jvm:17.0.15) Apache-HttpClient/5.4.4",
        "Connection": "keep-alive",
    }
    response = client.send(f"/?{urlencode(arguments, quote_via=quote)}", body, headers)
    return response.status, response.read(), {name.lower(): value for name, value in response.getheaders()}


def v1(client: JavaClient, sql: str, **settings: str) -> Response:
    """A query of client V1, which older releases of Metabase and DBeaver have."""
    arguments = {"compress": "1", "extremes": "0", **settings}
    headers = {
        "accept": "*/*",
        "user-agent": "ClickHouse-JdbcDriver ClickHouse-JavaClient/0.7.2 (Linux; jvm:17.0.15) Apache-HttpClient",
        "authorization": BASIC,
        "x-clickhouse-database": "pai",
        "x-clickhouse-format": "RowBinaryWithNamesAndTypes",
        "content-type": "text/plain; charset=UTF-8",
    }
    response = client.send(f"/?{urlencode(arguments)}", sql.encode(), headers)
    return response.status, response.read(), {name.lower(): value for name, value in response.getheaders()}


def text(value: str) -> bytes:
    return bytes([len(value)]) + value.encode()


def rows(names: list[str], types: list[str], values: bytes) -> bytes:
    """A result in the format RowBinaryWithNamesAndTypes."""
    return bytes([len(names)]) + b"".join(map(text, names + types)) + values


def test_the_connection_is_opened(client: JavaClient) -> None:
    """Both clients ask for user, time zone and version first, V1 for settings too, and read the same headers."""
    status, body, headers = v2(
        client, "SELECT currentUser() AS user, timezone() AS timezone, version() AS version LIMIT 1"
    )
    assert status == 200
    plain = decompress_blocks(body, BYTES_MAX)
    assert plain.startswith(
        b"\x03" + b"".join(map(text, ["user", "timezone", "version", "String", "String", "String"]))
    )
    assert headers["x-clickhouse-format"] == "RowBinaryWithNamesAndTypes"
    assert headers["x-clickhouse-query-id"] == "0b4e3c1a-1"
    assert headers["x-clickhouse-timezone"]
    assert headers["x-clickhouse-server-display-name"] == "pai-collector"
    assert headers["x-clickhouse-summary"].startswith("{")
    assert "content-encoding" not in headers
    assert "x-clickhouse-exception-code" not in headers

    setting = "ifnull((select value from system.settings where name = '{}'), '0')"
    sql = (
        "select currentUser() user, timezone() timezone, version() version, toUInt8("
        + setting.format("readonly")
        + ") as readonly, toUInt64("
        + setting.format("max_insert_block_size")
        + ") as max_insert_block_size FORMAT RowBinaryWithNamesAndTypes"
    )
    status, body, _ = v1(client, sql)
    assert status == 200
    # The driver takes the connection for one that only reads: the value is 1.
    names = b"\x05" + b"".join(map(text, ["user", "timezone", "version", "readonly", "max_insert_block_size"]))
    assert decompress_blocks(body, BYTES_MAX).startswith(names)


@pytest.mark.parametrize("ask", [v1, v2])
def test_rows_are_read_counted_and_limited(client: JavaClient, ask: Callable[..., Response]) -> None:
    """Values of each kind, a hundred thousand rows, and the limits of `setMaxRows`."""
    sql = "SELECT * FROM lines ORDER BY time LIMIT 1"
    types = ["DateTime('UTC')", "String", "LowCardinality(String)", "Nullable(UInt8)", "Array(String)"]
    row = (1_760_000_000).to_bytes(4, "little") + text("n0") + text("err") + b"\x01" + b"\x01" + text("a")
    expected = rows(["time", "node", "level", "gpu", "tags"], types, row)
    status, body, _ = ask(client, sql)
    assert (status, decompress_blocks(body, BYTES_MAX)) == (200, expected)

    _, body, _ = ask(client, "SELECT count() AS c FROM lines")
    assert decompress_blocks(body, BYTES_MAX) == rows(["c"], ["UInt64"], (100_000).to_bytes(8, "little"))
    _, body, _ = ask(client, "SELECT toUnixTimestamp(time) AS t FROM lines ORDER BY time")
    head = rows(["t"], ["UInt32"], b"")
    assert len(decompress_blocks(body, BYTES_MAX)) == len(head) + 4 * 100_000

    # setMaxRows(200), and setMaxRows(0) after it.
    break_at = {"max_result_rows": "200", "result_overflow_mode": "break"}
    _, body, _ = ask(client, "SELECT toUnixTimestamp(time) AS t FROM lines ORDER BY time", **break_at)
    given = (len(decompress_blocks(body, BYTES_MAX)) - len(head)) // 4
    assert 200 <= given < 100_000
    for sql, size in (("SELECT 1 AS t", 1), ("SELECT toUInt8(number) AS t FROM numbers(200)", 200)):
        for settings in (break_at, {"max_result_rows": "200"}, {"max_result_rows": LONG_MAX}):
            status, body, _ = ask(client, sql, **settings)
            assert (status, len(decompress_blocks(body, BYTES_MAX))) == (200, len(rows(["t"], ["UInt8"], b"x" * size)))


def test_what_metabase_sets_is_accepted(client: JavaClient) -> None:
    """Also with a request body in compressed blocks."""
    status, body, _ = v2(client, "SELECT 1 AS x", select_sequential_consistency="true", product_name="")
    assert (status, body[:8]) == (400, b"Code: 11")
    status, body, _ = v2(
        client, "SELECT 1 AS x", select_sequential_consistency="true", session_timezone="Asia/Shanghai"
    )
    assert (status, decompress_blocks(body, BYTES_MAX)) == (200, rows(["x"], ["UInt8"], b"\x01"))
    packed = BlockCompressor().compress(b"SELECT 1 AS x").decode("latin-1")
    response = client.send(
        "/?compress=1&decompress=1",
        packed.encode("latin-1"),
        {"Authorization": BASIC, "X-ClickHouse-Format": "RowBinaryWithNamesAndTypes"},
    )
    assert decompress_blocks(response.read(), BYTES_MAX) == rows(["x"], ["UInt8"], b"\x01")


def test_the_queries_of_metadata_are_answered(client: JavaClient) -> None:
    """Schemas, tables, columns, keys, types and functions, as the JDBC driver looks for them."""
    for sql in (
        "SELECT name AS TABLE_SCHEM, '' AS TABLE_CATALOG FROM system.databases ORDER BY name",
        "SELECT '' AS TABLE_CAT, t.database AS TABLE_SCHEM, t.name AS TABLE_NAME, t.comment AS REMARKS,"
        " if(t.is_temporary = 1, concat('Temporary', t.engine), t.engine) AS TABLE_TYPE, d.engine AS TYPE_SCHEM"
        " FROM system.tables t JOIN system.databases d ON system.tables.database = system.databases.name"
        " WHERE t.database LIKE 'pai' AND t.name LIKE '%' AND (t.is_temporary = 0)",
        "SELECT database AS TABLE_SCHEM, table AS TABLE_NAME, name AS COLUMN_NAME, type AS TYPE_NAME,"
        " toInt32(multiIf(character_octet_length IS NOT NULL, character_octet_length, system.columns.type == 'UInt8',"
        " 1, numeric_precision IS NOT NULL, numeric_precision, 0)) AS COLUMN_SIZE, system.columns.comment AS REMARKS,"
        " system.columns.default_expression AS COLUMN_DEF, toInt32(system.columns.position) AS ORDINAL_POSITION"
        " FROM system.columns WHERE database LIKE 'pai' AND table LIKE 'lines' ORDER BY ORDINAL_POSITION",
        "SELECT system.tables.name, trim(c.1) AS COLUMN_NAME FROM system.tables ARRAY JOIN"
        " arrayMap(x -> tuple(x), splitByChar(',', primary_key)) AS c WHERE system.tables.primary_key <> ''",
        "SELECT * FROM system.data_type_families dt",
        "SELECT name, is_aggregate FROM system.functions WHERE name LIKE '%'",
        "SELECT arrayJoin(['TABLE', 'VIEW']) AS TABLE_TYPE ORDER BY TABLE_TYPE",
        "DESCRIBE TABLE lines FORMAT TSKV",
        "SELECT 1 FORMAT TabSeparated",
    ):
        status, body, _ = v2(client, sql)
        assert status == 200, body
        assert decompress_blocks(body, BYTES_MAX)


@pytest.mark.parametrize("ask", [v1, v2])
def test_an_error_is_found_by_its_header(client: JavaClient, ask: Callable[..., Response]) -> None:
    """Its text is no compressed block, and the same connection answers the next query."""
    for sql, status, code in (("SELECT nope", 404, "47"), ("SELEC", 400, "62"), ("DROP TABLE lines", 403, "164")):
        given, body, headers = ask(client, sql)
        assert (given, headers["x-clickhouse-exception-code"]) == (status, code)
        assert body.startswith(f"Code: {code}. DB::Exception: ".encode())
    assert ask(client, "SELECT 1")[0] == 200


@pytest.mark.parametrize("kill", ["KILL QUERY WHERE query_id = '{}'", "KILL QUERY WHERE query_id='{}'"])
@pytest.mark.slow("clients of the SQL endpoint")
def test_a_statement_is_cancelled(host: str, client: JavaClient, kill: str) -> None:
    """`Statement.cancel()` of either driver: the thread that waits gets an error, the other one a result."""
    query_id = f"5f7d-{len(kill)}"
    ended: list[Response] = []
    endless = "SELECT sum(sipHash64(number)) FROM numbers(10000000000000)"
    other = JavaClient(host)
    waiting = threading.Thread(target=lambda: ended.append(v2(other, endless, query_id)))
    waiting.start()
    found = b""
    while waiting.is_alive() and not found:
        status, body, _ = v2(client, kill.format(query_id), "c-1")
        assert status == 200
        names = ["kill_status", "query_id", "user", "query"]
        found = decompress_blocks(body, BYTES_MAX).removeprefix(rows(names, ["String"] * 4, b""))
    waiting.join()
    other.connection.close()
    assert found == text("waiting") + text(query_id) + text("") + text("")
    [(status, body, headers)] = ended
    assert (status, headers["x-clickhouse-exception-code"]) == (500, "394"), body
