"""What the embedded engine does in silence, each tested at the place where the project meets it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from collector.errors import OwnedElsewhere, QueryError, StoreRefused, StoreUnavailable, UsageError
from collector.model import BLOCK_ROWS_MAX
from collector.store.embedded import EmbeddedStore
from collector.store.engine import connect, connection_string
from collector.store.engine_config import EngineLimits
from collector.store.migrate import migrate

TABLE = """
CREATE TABLE IF NOT EXISTS pai.probe (time DateTime('UTC'), number UInt64)
ENGINE = MergeTree ORDER BY time SETTINGS non_replicated_deduplication_window = 100000
"""


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[EmbeddedStore]:
    opened = await EmbeddedStore.open(tmp_path / "store")
    await opened.execute(TABLE)
    yield opened
    await opened.close()


def body(rows: int) -> bytes:
    return b"".join(b"[1,%d]\n" % number for number in range(rows))


def child(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Another Python that runs `code`, with `path` as its first argument and the store's names imported."""
    head = (
        "import asyncio, os, sys\n"
        "from pathlib import Path\n"
        "from collector.store.embedded import EmbeddedStore\n"
        "path = Path(sys.argv[1])\n"
    )
    command = [sys.executable, "-c", head + code, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


HOLD = """
async def main():
    store = await EmbeddedStore.open(path)
    print("open", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await store.close()
asyncio.run(main())
"""


# What a failed query leaves behind


async def test_the_output_of_a_failed_read_does_not_come_out_of_the_next(store: EmbeddedStore) -> None:
    """A read that fails half way leaves its rows in its handle; the next read does not see them."""
    half = "SELECT number, throwIf(number = 90000) FROM numbers(100000) SETTINGS max_block_size = 1000, max_threads = 1"
    for _ in range(3):
        with pytest.raises(StoreRefused):
            await store.fetch(half)

        assert await store.fetch("SELECT 'x' WHERE 0") == []
        assert await store.fetch("SELECT 'x'") == [["x"]]


async def test_the_trap_of_stale_output_is_still_there(store: EmbeddedStore) -> None:
    """The engine itself gives a handle's next query what a failed one had put out: the reason for the test above."""
    handle = connect(connection_string(store.path))
    try:
        with pytest.raises(Exception, match="throwIf"):
            handle.query("SELECT throwIf(number = 90000) FROM numbers(100000) SETTINGS max_block_size = 1000", "CSV")

        assert len(handle.query("SELECT 'x' WHERE 0", "CSV").bytes()) > 0
    finally:
        handle.close()


async def test_a_readers_settings_do_not_reach_the_next_reader(store: EmbeddedStore) -> None:
    """Every query has a handle of its own: neither its failure nor its parameters are seen by the next."""
    with pytest.raises(QueryError):
        await store.query("SELECT {x:UInt8}, throwIf(1)", parameters={"x": "1"})

    with pytest.raises(QueryError, match="not set"):
        await store.query("SELECT {x:UInt8}")


# Inserts that become nothing


async def test_an_insert_of_other_rows_than_were_counted_is_noticed(store: EmbeddedStore) -> None:
    """When the engine takes another number of rows than were sent, the insert has not succeeded."""
    with pytest.raises(StoreUnavailable, match="took 2 of 1 rows"):
        await store.insert("probe", ("time", "number"), b"[1,1][1,2]\n", token="a")


@pytest.mark.parametrize("name", ["a?b", "a*b", "a{b}", "a\\b"])
async def test_a_path_that_reads_as_a_pattern_is_refused(tmp_path: Path, name: str) -> None:
    """The engine would look for files by that pattern, find none, and insert nothing without an error."""
    with pytest.raises(UsageError, match="cannot hold"):
        await EmbeddedStore.open(tmp_path / name)

    assert not (tmp_path / name).exists()


async def test_a_path_may_hold_anything_else(tmp_path: Path) -> None:
    """Spaces, quotes, percent signs and letters of any script are ordinary in a path."""
    path = tmp_path / "it's a store & 100% 数据"
    store = await EmbeddedStore.open(path)
    await store.execute(TABLE)
    await store.insert("probe", ("time", "number"), body(3), token="a")

    assert await store.fetch("SELECT count() FROM probe") == [[3]]
    await store.close()


# One process


async def test_a_second_process_is_told_who_holds_the_store(tmp_path: Path) -> None:
    """The refusal names the holder's process id and command line, and passes once the holder is gone, killed or not."""
    path = tmp_path / "store"
    holder = child(HOLD, path)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "open\n"

    with pytest.raises(OwnedElsewhere) as refusal:
        await EmbeddedStore.open(path)
    holder.send_signal(signal.SIGKILL)
    holder.communicate()

    assert f"process {holder.pid}" in str(refusal.value)
    assert "EmbeddedStore.open" in str(refusal.value)
    await (await EmbeddedStore.open(path)).close()


async def test_the_same_process_is_told_too(store: EmbeddedStore) -> None:
    """Opening the same store twice in one process is refused and harms the first in nothing."""
    with pytest.raises(OwnedElsewhere, match="already open in this process"):
        await EmbeddedStore.open(store.path)

    assert await store.fetch("SELECT 1") == [[1]]


async def test_errors_on_every_handle_do_not_let_the_store_go(store: EmbeddedStore) -> None:
    """Handles are thrown away after errors, all of them at once if need be; the lock on the store stays."""
    with pytest.raises(StoreRefused):
        await store.fetch("SELECT nope")
    with pytest.raises(StoreRefused):
        await store.execute("ALTER TABLE pai.nowhere DROP COLUMN x")

    other = child(HOLD, store.path)
    _, error = await asyncio.to_thread(other.communicate, "")

    assert other.returncode != 0
    assert f"held by process {os.getpid()}" in error


# Crashes


SEND = """
async def main():
    store = await EmbeddedStore.open(path)
    body = b"".join(b"[1,%d]\\n" % number for number in range(int(sys.argv[2])))
    await store.execute(sys.argv[3])
    print("sending", flush=True)
    await store.insert("probe", ("time", "number"), body, token="a")
    os._exit(0)
asyncio.run(main())
"""


def kill_while_sending(path: Path, rows: int) -> None:
    """Let another process insert `rows` rows under the token a, and kill it when the first part is there."""
    sender = child(SEND, path, rows, TABLE)
    assert sender.stdout is not None
    assert sender.stdout.readline() == "sending\n"
    while sender.poll() is None and not list((path / "store").glob("*/*/all_*")):
        pass
    sender.kill()
    sender.communicate()


async def test_a_large_body_cut_off_by_a_kill_is_completed_once(tmp_path: Path) -> None:
    """Of a body of many blocks a kill leaves some; the same bytes under the same token add exactly the others."""
    rows = BLOCK_ROWS_MAX * 20
    # On a busy machine the kill may come too late to cut anything off; then it is tried again elsewhere.
    for attempt in range(10):
        path = tmp_path / f"store{attempt}"
        kill_while_sending(path, rows)
        store = await EmbeddedStore.open(path)
        [[left]] = await store.fetch("SELECT count() FROM probe")
        await store.insert("probe", ("time", "number"), body(rows), token="a")
        [[stored, different]] = await store.fetch("SELECT count(), uniqExact(number) FROM probe")
        await store.close()

        assert (stored, different) == (rows, rows)
        if left < rows:
            return
    pytest.fail("no kill came in time")


async def test_what_a_crash_left_in_the_spool_is_cleared(tmp_path: Path) -> None:
    """Bytes of an insert that a crash cut off do not stay on disk for ever."""
    store = await EmbeddedStore.open(tmp_path / "store")
    await store.close()
    left_over = tmp_path / "store" / "spool" / "insert.jsonl"
    left_over.write_bytes(b"[1,2]\n")

    store = await EmbeddedStore.open(tmp_path / "store")
    await store.close()

    assert not left_over.exists()


async def test_nothing_of_an_insert_stays_in_the_spool(store: EmbeddedStore) -> None:
    """Whether an insert works or is refused, its bytes leave the spool."""
    await store.insert("probe", ("time", "number"), body(1), token="a")
    with pytest.raises(StoreRefused):
        await store.insert("probe", ("time", "number"), b'["x",1]\n', token="b")

    assert list((store.path / "spool").iterdir()) == []


# Greed


async def test_the_limits_are_in_force(tmp_path: Path) -> None:
    """Memory, caches and threads are what was asked for, not 90 % of the machine."""
    limits = EngineLimits(memory_bytes_max=900 << 20, cache_bytes_max=16 << 20, merge_threads=1)
    store = await EmbeddedStore.open(tmp_path / "store", limits)

    server = dict(await store.fetch("SELECT name, value FROM system.server_settings"))
    tables = dict(await store.fetch("SELECT name, value FROM system.merge_tree_settings"))
    await store.close()

    assert {name: int(server[name]) for name in limits.server_settings()} == limits.server_settings()
    assert {name: int(tables[name]) for name in limits.merge_tree_settings()} == limits.merge_tree_settings()


async def test_every_table_remembers_tokens_and_is_durable(store: EmbeddedStore) -> None:
    """Each table has the deduplication window and the fsync settings that exactly-once rests on."""
    await migrate(store)

    tables = await store.fetch(
        "SELECT name, engine_full FROM system.tables"
        " WHERE database = 'pai' AND engine LIKE '%MergeTree' AND name != 'probe'"
    )

    assert len(tables) > 5
    for name, engine in tables:
        assert "non_replicated_deduplication_window = 100000" in engine, name
        assert "replicated_deduplication_window_seconds = 604800" in engine, name
        assert "fsync_after_insert = 1" in engine, name
        assert "fsync_part_directory = 1" in engine, name


async def test_the_directory_is_nobody_elses(store: EmbeddedStore) -> None:
    """The store's directory can be entered by its owner only."""
    assert store.path.stat().st_mode & 0o777 == 0o700


async def test_a_broken_pipe_still_ends_the_process(tmp_path: Path) -> None:
    """Opening the store leaves the main thread's signals alone; importing the engine there would block SIGPIPE."""
    asking = (
        "import signal\n"
        "async def main():\n"
        "    store = await EmbeddedStore.open(path)\n"
        "    print(signal.SIGPIPE in signal.pthread_sigmask(signal.SIG_BLOCK, []))\n"
        "    await store.close()\n"
        "asyncio.run(main())\n"
    )
    process = child(asking, tmp_path / "store")
    output, _ = await asyncio.to_thread(process.communicate)

    assert output == "False\n"


# Readers who mean harm

HOSTILE = [
    "INSERT INTO probe VALUES (1, 1)",
    "INSERT INTO FUNCTION file('{out}', 'CSV', 'x String') SELECT 'x'",
    "CREATE TABLE evil (x UInt8) ENGINE = Memory",
    "CREATE TEMPORARY TABLE evil (x UInt8)",
    "CREATE FUNCTION evil AS x -> x",
    "CREATE DICTIONARY evil (x UInt8) PRIMARY KEY x SOURCE(FILE(path '{secret}' format 'CSV')) LAYOUT(FLAT())",
    "DROP TABLE probe",
    "TRUNCATE TABLE probe",
    "ALTER TABLE probe DELETE WHERE 1",
    "DELETE FROM probe WHERE 1",
    "UPDATE probe SET number = 1 WHERE 1",
    "OPTIMIZE TABLE probe FINAL",
    "RENAME TABLE probe TO gone",
    "DETACH TABLE probe",
    "BACKUP TABLE probe TO File('{out}')",
    "SET readonly = 0",
    "SET max_memory_usage = 0",
    "SELECT 1 SETTINGS readonly = 0",
    "SELECT 1 SETTINGS max_execution_time = 0",
    "USE system",
    "SET ROLE ALL",
    "KILL QUERY WHERE 1",
    "SYSTEM STOP MERGES",
    "SYSTEM SHUTDOWN",
    "EXECUTE AS default SELECT 1",
    "SELECT 1; DROP TABLE probe",
    "SELECT 1; SELECT 2",
    "SELECT 'x' INTO OUTFILE '{out}'",
    "SELECT 'x' INTO OUTFILE '{out}' TRUNCATE FORMAT CSV",
    "SELECT file('{secret}')",
    "SELECT `file`('{secret}')",
    "SELECT \"file\"('{secret}')",
    "SELECT/**/file/**/('{secret}')",
    "SELECT arrayMap(file, ['{secret}'])",
    "SELECT arrayMap(x -> file(x), ['{secret}'])",
    "SELECT arrayFold(acc, x -> file(x), ['{secret}'], '')",
    "WITH file AS f SELECT f('{secret}')",
    "WITH (SELECT file('{secret}')) AS s SELECT s",
    "SELECT * APPLY file FROM (SELECT '{secret}' AS x)",
    "SELECT * APPLY(file) FROM (SELECT '{secret}' AS x)",
    "SELECT COLUMNS('x') APPLY(x -> file(x)) FROM (SELECT '{secret}' AS x)",
    "SELECT * REPLACE(file(x) AS x) FROM (SELECT '{secret}' AS x)",
    "SELECT 1 WHERE file('{secret}') != ''",
    "SELECT 1 ORDER BY file('{secret}') LIMIT 1 BY file('{secret}')",
    "SELECT sum(1) OVER (ORDER BY file('{secret}'))",
    "SELECT * FROM view(SELECT file('{secret}'))",
    "EXPLAIN SELECT file('{secret}')",
    "EXPLAIN PLAN actions = 1 SELECT file('{secret}')",
    "DESCRIBE (SELECT file('{secret}'))",
    "SELECT * FROM eval('SELECT file(''{secret}'')')",
    "SELECT * FROM file('{secret}', 'LineAsString')",
    "SELECT * FROM FILE('{secret}', 'LineAsString')",
    "SELECT * FROM filesystem('/')",
    "DESCRIBE TABLE file('{secret}', 'CSV')",
    "SELECT * FROM url('{url}', 'CSV', 'x String')",
    "DESCRIBE TABLE url('{url}', 'CSV')",
    "DESCRIBE TABLE s3('{url}', 'CSV')",
    "SELECT * FROM s3('{url}', 'CSV', 'x String')",
    "SELECT * FROM remote('127.0.0.1:{port}', system.one)",
    "DESCRIBE TABLE remote('127.0.0.1:{port}', system.one)",
    "SELECT * FROM remoteSecure('127.0.0.1:{port}', system.one)",
    "SELECT * FROM mysql('127.0.0.1:{port}', 'd', 't', 'u', 'p')",
    "DESCRIBE TABLE postgresql('127.0.0.1:{port}', 'd', 't', 'u', 'p')",
    "EXPLAIN TABLE OVERRIDE mysql('127.0.0.1:{port}', 'd', 't', 'u', 'p') PARTITION BY x",
    "SELECT * FROM sqlite('{secret}', 't')",
    "SELECT * FROM executable('/bin/cat {secret}', 'LineAsString', 'x String')",
    "SELECT * FROM python('os')",
    "SELECT * FROM dictionary('evil')",
    "SELECT * FROM merge('system', 'stack_trace')",
    "SELECT * FROM loop(system, stack_trace)",
    "SELECT * FROM system.stack_trace",
    "SELECT 1 WHERE 1 IN (SELECT thread_id FROM `system`.`stack_trace`)",
    "SELECT 1 IN system.stack_trace",
    "file('{secret}')",
    ", file('{secret}')",
]

HARMLESS = [
    "SELECT count() FROM probe",
    "SELECT 'file(''/etc/passwd'')' AS url, 1 AS files",
    "SELECT url, input FROM (SELECT 'x' AS url, 1 AS input)",
    "WITH recent AS (SELECT * FROM probe) SELECT arrayMap(x -> x + 1, [1]), max(number) FROM recent",
    "SELECT number, row_number() OVER (ORDER BY number) FROM numbers(3)",
    "SELECT * FROM values('x UInt8', 1, 2)",
    "SELECT * FROM system.tables LIMIT 1",
    "SELECT name FROM system.columns WHERE table = 'probe'",
    "SHOW TABLES",
    "SHOW CREATE TABLE probe",
    "SHOW COLUMNS FROM probe",
    "DESCRIBE TABLE probe",
    "EXISTS TABLE probe",
    "EXPLAIN SELECT * FROM probe",
    "(SELECT 1 UNION ALL SELECT 2) -- comment",
    "FROM probe SELECT count()",
    "select version();",
]


class Listener:
    """A port on loopback that notes whether anybody knocks."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.socket.setblocking(False)
        self.port: int = self.socket.getsockname()[1]

    def was_called(self) -> bool:
        with contextlib.suppress(BlockingIOError):
            self.socket.accept()[0].close()
            return True
        return False


async def test_statements_that_reach_out_or_change_anything_are_refused(store: EmbeddedStore, tmp_path: Path) -> None:
    """None of them gets through, gives a file's content away, writes a file or opens a connection."""
    listener = Listener()
    secret, out = tmp_path / "secret.txt", tmp_path / "out.txt"
    secret.write_text("the-content-of-the-secret")
    await store.insert("probe", ("time", "number"), body(3), token="a")
    passed, leaked = [], []

    for template in HOSTILE:
        sql = template
        for name, value in {"secret": secret, "out": out, "port": listener.port}.items():
            sql = sql.replace("{" + name + "}", str(value))
        sql = sql.replace("{url}", f"http://127.0.0.1:{listener.port}/x")
        try:
            async with await store.query(sql) as answer:
                given = b"".join([chunk async for chunk in answer])
            passed.append((template, given))
        except QueryError as error:
            if "the-content" in str(error):
                leaked.append(template)

    called = listener.was_called()
    listener.socket.close()
    assert passed == []
    assert leaked == []
    assert not called
    assert not out.exists()
    assert await store.fetch("SELECT count(), sum(number) FROM probe") == [[3, 3]]


async def test_two_statements_are_one_too_many(store: EmbeddedStore) -> None:
    """The refusal of a second statement says that, whatever the second is."""
    with pytest.raises(QueryError, match="one statement at a time, got 2"):
        await store.query("SELECT 1; SELECT 2")


async def test_statements_that_only_read_the_store_pass(store: EmbeddedStore) -> None:
    """The gate lets through what people and dashboards ask."""
    refused = []
    for sql in HARMLESS:
        try:
            async with await store.query(sql, columns=True) as answer:
                assert [chunk async for chunk in answer], sql
        except QueryError as error:
            refused.append((sql, str(error)))

    assert refused == []


async def test_a_parameter_cannot_smuggle_a_name_in(store: EmbeddedStore, tmp_path: Path) -> None:
    """A parameter that stands for a name is judged as the name that it becomes."""
    secret = tmp_path / "secret.txt"
    secret.write_text("the-content-of-the-secret")

    with pytest.raises(QueryError, match="reaches outside"):
        await store.query(f"SELECT arrayMap({{f:Identifier}}, ['{secret}'])", parameters={"f": "file"})


async def test_the_trap_of_apply_is_still_there(store: EmbeddedStore, tmp_path: Path) -> None:
    """The engine's tree does not name the function behind APPLY, and readonly does not stop it: why it is refused."""
    secret = tmp_path / "secret.txt"
    secret.write_text("the-content-of-the-secret")
    handle = connect(connection_string(store.path))
    try:
        handle.query("SET readonly = 1")
        tree = handle.query("EXPLAIN AST SELECT * APPLY file FROM (SELECT 'x')", "TSV").bytes()
        given = handle.query(f"SELECT * APPLY file FROM (SELECT '{secret}' AS x)", "TSV").bytes()
    finally:
        handle.close()

    assert b"file" not in tree
    assert b"the-content-of-the-secret" in given


async def test_no_folder_of_the_path_is_a_column(tmp_path: Path) -> None:
    """The engine would take `number=7` for the value of that column in every row that comes from a file below."""
    store = await EmbeddedStore.open(tmp_path / "number=7" / "store")
    await store.execute(TABLE)
    await store.insert("probe", ("time", "number"), body(3), token="a")

    assert await store.fetch("SELECT count(), countIf(number = 7) FROM probe") == [[3, 0]]
    await store.close()
