"""Real clients at the SQL endpoint of a service that collects: what they read is right, and so is what it stores."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import clickhouse_connect
import pytest
import sqlalchemy
from clickhouse_connect.driver.exceptions import DatabaseError, StreamFailureError

from collector.service.sql import serving_sql
from collector.simulator.world import World
from tests.support import SYSLOG_COLUMNS, differences, true_syslogs
from tests.support.running_service import Running, running

TOKEN = "a-long-token"
WORLD = World(seed=9, node_count=4, group_count=0, density=0.5)
ROWS = 300_000
MANY = f"SELECT number, toString(number) AS text FROM numbers({ROWS})"
BREAKS = "SELECT number, throwIf(number = 2500000) AS x FROM numbers(3000000)"
# Values of every kind that a column of the store has.
VALUES = (
    "SELECT toUInt64(18446744073709551615) AS big, -1.5 AS float, 'tab\\t\\'ü🚀' AS text,"
    " NULL::Nullable(Int64) AS none,"
    " ['a', 'b'] AS list, toDateTime('2025-10-09 08:53:20', 'UTC') AS time,"
    " toDateTime64('2025-10-09 08:53:20.125', 3, 'UTC') AS precise, toLowCardinality('x') AS repeated,"
    " toDecimal64('1.250000', 6) AS money"
)

CURL = shutil.which("curl")
NODE = shutil.which("node") and shutil.which("npm")
NODE_CLIENT = "@clickhouse/client@1.23.1"
NODE_FOLDER = Path(tempfile.gettempdir()) / "pai-collector-tests-node"


@asynccontextmanager
async def served(folder: Path) -> AsyncIterator[tuple[str, int]]:
    """Host and port of the endpoint of a service that collects; at the end, what it has stored is exact."""
    async with running(folder, WORLD, targets={"nodes": WORLD.node_ids}) as run:
        async with serving_sql(run.owner, listen="127.0.0.1:0", token=TOKEN) as address:
            await run.until(lambda: run.source("ListSyslogs").states == {"collected": 4})
            before = await stored(run)
            host, _, port = address.removeprefix("http://").rpartition(":")
            yield host, int(port)
        async with asyncio.timeout(60):
            while await stored(run) <= before:
                await asyncio.sleep(0.05)
        await check_exact(run)


async def stored(run: Running) -> int:
    [[count]] = await run.owner.store.fetch("SELECT count() FROM syslogs")
    return int(count)


async def check_exact(run: Running) -> None:
    """Every line until the watermarks is stored once."""
    fetch = run.owner.store.fetch
    marks = await fetch(
        "SELECT scope_id, toUnixTimestamp(collected_from), toUnixTimestamp(watermark) FROM watermarks"
        " WHERE operation = 'ListSyslogs'"
    )
    assert len(marks) == 4
    columns = ", ".join(
        f"toUnixTimestamp({name})" if name in ("time", "receive_time") else name for name in SYSLOG_COLUMNS
    )
    for node_id, start, end in marks:
        rows = await fetch(
            f"SELECT {columns} FROM syslogs WHERE node_id = {{n:String}} AND time >= {start} AND time < {end}",
            {"n": node_id},
        )
        assert differences(true_syslogs(WORLD, [node_id], start, end), Counter(map(tuple, map(flat, rows)))) == []


def flat(row: list[Any]) -> list[Any]:
    return [tuple(value) if isinstance(value, list) else value for value in row]


@pytest.mark.parametrize(
    "compress",
    [
        False,
        *(
            pytest.param(name, marks=pytest.mark.slow("clients of the SQL endpoint"))
            for name in ("lz4", "zstd", "gzip")
        ),
    ],
)
@pytest.mark.slow("clients of the SQL endpoint")
async def test_clickhouse_connect(tmp_path: Path, compress: bool | str) -> None:
    """Rows, streamed blocks, Arrow, data frames, parameters, commands and errors, compressed in each way."""

    def work(host: str, port: int) -> None:
        with clickhouse_connect.get_client(
            host=host, port=port, username="reader", password=TOKEN, database="pai", compress=compress
        ) as client:
            assert client.query("SELECT count() FROM syslogs").first_row[0] > 0
            assert client.command("SELECT 41 + 1") == 42
            assert "syslogs" in client.command("SHOW TABLES").split("\n")
            assert client.query("SELECT * FROM syslogs LIMIT 0").column_names[0] == "time"
            found = client.query("SELECT {a:UInt32}, {b:Array(String)}", parameters={"a": 7, "b": ["x'", "\t"]})
            assert found.first_row == (7, ["x'", "\t"])
            value = client.query(VALUES).first_item
            assert (value["big"], value["text"], value["none"]) == (2**64 - 1, "tab\t'ü🚀", None)
            assert (value["list"], str(value["money"])) == (["a", "b"], "1.250000")
            assert value["precise"].microsecond == 125_000
            with client.query_row_block_stream(MANY) as stream:
                assert sum(number for block in stream for number, _ in block) == ROWS * (ROWS - 1) // 2
            table = client.query_arrow(MANY, use_strings=True)
            assert (table.num_rows, table.column("text")[ROWS - 1].as_py()) == (ROWS, str(ROWS - 1))
            frame = client.query_df(MANY)
            assert frame["number"].sum() == ROWS * (ROWS - 1) // 2
            for sql, code in (("SELECT nope", 47), ("DROP TABLE syslogs", 164), ("SELECT file('/etc/passwd')", 164)):
                with pytest.raises(DatabaseError) as refusal:
                    client.query(sql)
                assert refusal.value.code == code
            with pytest.raises(StreamFailureError, match="395"), client.query_row_block_stream(BREAKS) as stream:
                for _ in stream:
                    pass
            with pytest.raises(DatabaseError) as refusal:
                client.insert("syslogs", [["x"]], column_names=["msg"])
            assert refusal.value.code == 164
            assert client.query("SELECT 1").first_row == (1,)

    async with served(tmp_path) as (host, port):
        await asyncio.to_thread(work, host, port)


@pytest.mark.slow("clients of the SQL endpoint")
async def test_clickhouse_connect_async(tmp_path: Path) -> None:
    """The same over its asynchronous client, many at once, with parameters in a form."""
    async with served(tmp_path) as (host, port):
        client = await clickhouse_connect.get_async_client(
            host=host, port=port, username="reader", password=TOKEN, database="pai", form_encode_query_params=True
        )
        try:
            sums = await asyncio.gather(
                *(client.query("SELECT sum(number) + {x:UInt8} FROM numbers(1000000)", {"x": x}) for x in range(20))
            )
            assert [result.first_row[0] - 499_999_500_000 for result in sums] == list(range(20))
            async with await client.query_row_block_stream(MANY) as stream:
                assert sum([len(block) async for block in stream]) == ROWS
            async with await client.raw_stream(MANY, fmt="Parquet") as stream:
                document = b"".join([piece async for piece in stream])
            assert document.startswith(b"PAR1")
            assert document.endswith(b"PAR1")
            assert (await client.query_arrow(MANY)).num_rows == ROWS
            with pytest.raises(DatabaseError) as refusal:
                await client.query("SELECT nope")
            assert refusal.value.code == 47
            with pytest.raises(StreamFailureError, match="395"):
                await client.query(BREAKS)
            assert (await client.query("SELECT 1")).first_row == (1,)
        finally:
            await client.close()


@pytest.mark.slow("clients of the SQL endpoint")
async def test_sqlalchemy(tmp_path: Path) -> None:
    """Schemas, tables and columns are found by reflection, and a query built from them runs."""

    def work(host: str, port: int) -> None:
        engine = sqlalchemy.create_engine(f"clickhousedb://reader:{TOKEN}@{host}:{port}/pai")
        inspector = sqlalchemy.inspect(engine)
        assert "pai" in inspector.get_schema_names()
        assert {"syslogs", "events"} <= set(inspector.get_table_names("pai"))
        assert inspector.get_columns("syslogs", "pai")[0]["name"] == "time"
        table = sqlalchemy.Table("syslogs", sqlalchemy.MetaData(schema="pai"), autoload_with=engine)
        with engine.connect() as connection:
            counted = sqlalchemy.select(sqlalchemy.func.count()).where(table.c.node_id == WORLD.node_ids[0])
            assert connection.execute(counted.select_from(table)).scalar_one() > 0
            newest = connection.execute(sqlalchemy.select(table.c.time, table.c.msg).limit(3)).all()
            assert len(newest) == 3
        engine.dispose()

    async with served(tmp_path) as (host, port):
        await asyncio.to_thread(work, host, port)


@pytest.mark.slow("clients of the SQL endpoint")
@pytest.mark.skipif(CURL is None, reason="curl is not installed")
async def test_curl(tmp_path: Path) -> None:
    """The lines of the how-to: a query in the body, in the address, as CSV, compressed, and a refusal."""

    def curl(*arguments: str) -> str:
        done = subprocess.run(
            ["curl", "-sS", *arguments], capture_output=True, text=True, timeout=60, check=False
        )  # fmt: skip
        assert done.stderr == ""
        return done.stdout

    def work(host: str, port: int) -> None:
        url, user = f"http://{host}:{port}/", f"reader:{TOKEN}"
        assert curl(f"{url}ping") == "Ok.\n"
        assert curl("-u", user, url, "-d", "SELECT 1 + 1") == "2\n"
        assert curl("-u", user, "-G", url, "--data-urlencode", "query=SELECT {x:UInt8}", "-d", "param_x=3") == "3\n"
        assert int(curl("-u", user, url, "-d", "SELECT count() FROM syslogs FORMAT CSV")) > 0
        packed = curl("--compressed", "-u", user, f"{url}?enable_http_compression=1", "-d", MANY)
        assert packed.count("\n") == ROWS
        assert "AUTHENTICATION_FAILED" in curl(url, "-d", "SELECT 1")
        assert "READONLY" in curl("-u", user, url, "-d", "DROP TABLE syslogs")

    async with served(tmp_path) as (host, port):
        await asyncio.to_thread(work, host, port)


NODE_PROGRAM = """
const { createClient } = require('@clickhouse/client')
const [, , url, password, many, breaks] = process.argv
async function main() {
  const client = createClient({ url, password, username: 'reader', database: 'pai', max_open_connections: 4,
    compression: { response: true, request: true } })
  const told = {}
  told.ping = (await client.ping()).success
  const rows = await client.query({ query: 'SELECT count() > 0 AS some FROM syslogs', format: 'JSONEachRow' })
  told.rows = await rows.json()
  const bound = await client.query({ query: 'SELECT {a:UInt8} AS a, {b:Array(String)} AS b', format: 'JSON',
    query_params: { a: 7, b: ["x'", '\\t'] } })
  told.bound = (await bound.json()).data
  const big = await client.query({ query: 'SELECT toUInt64(18446744073709551615) AS big', format: 'JSONEachRow',
    clickhouse_settings: { output_format_json_quote_64bit_integers: 1 } })
  told.big = await big.json()
  const streamed = await client.query({ query: many, format: 'JSONCompactEachRow' })
  told.streamed = 0
  for await (const block of streamed.stream()) told.streamed += block.length
  told.errors = []
  for (const query of ['SELECT nope', 'DROP TABLE syslogs']) {
    try { await (await client.query({ query })).text() } catch (error) { told.errors.push(error.code) }
  }
  try {
    const broken = await client.query({ query: breaks, format: 'JSONCompactEachRow' })
    for await (const block of broken.stream());
    told.errors.push('none')
  } catch (error) { told.errors.push(error.code) }
  await client.close()
  console.log(JSON.stringify(told))
}
main().catch((error) => { console.error(error); process.exit(1) })
"""


@pytest.mark.slow("clients of the SQL endpoint")
@pytest.mark.skipif(NODE is None, reason="node or npm is not installed")
async def test_the_client_of_node(tmp_path: Path) -> None:
    """The official JavaScript client: parameters, settings, streams, compression, errors also in the middle."""
    if not (NODE_FOLDER / "node_modules/@clickhouse/client").exists():
        install = ["npm", "install", "--silent", "--prefix", str(NODE_FOLDER), NODE_CLIENT]
        installed = await asyncio.to_thread(subprocess.run, install, capture_output=True, text=True, check=False)
        if installed.returncode:
            pytest.skip(f"npm cannot install {NODE_CLIENT}: {installed.stderr[-300:]}")
    program = NODE_FOLDER / "read.js"
    program.write_text(NODE_PROGRAM)

    def work(host: str, port: int) -> dict[str, Any]:
        command = ["node", str(program), f"http://{host}:{port}", TOKEN, MANY, BREAKS]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    async with served(tmp_path) as (host, port):
        told = await asyncio.to_thread(work, host, port)
    assert told == {
        "ping": True,
        "rows": [{"some": 1}],
        "bound": [{"a": 7, "b": ["x'", "\t"]}],
        "big": [{"big": "18446744073709551615"}],
        "streamed": ROWS,
        "errors": ["47", "164", "395"],
    }
