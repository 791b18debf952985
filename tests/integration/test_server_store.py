"""The store on a server: lost acknowledgements, a server that dies, refusals in plain words, a whole run."""

from __future__ import annotations

import asyncio
import json
import os
import re
import ssl
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from collector.cli.commands.check import check_all, check_store
from collector.cli.commands.query import QUERY, Notes, Piece, QueryRequest
from collector.clock import ServerClock
from collector.errors import StoreUnavailable, UsageError
from collector.model import BLOCK_ROWS_MAX, StreamKey
from collector.owner.caller import Caller
from collector.owner.instance import Owner, bring_up_to_date
from collector.owner.journals import JournalState, KnownJournal, write_journals
from collector.owner.lock import OwnerLock
from collector.pipeline.lateness import ROWS_MIN, SETTLE_MARGIN_SECONDS, Lateness
from collector.rpc import Access
from collector.shares import Share
from collector.simulator.server import SIMULATOR_KEY
from collector.simulator.world import World
from collector.store.address import Credentials, ServerAddress
from collector.store.named import named_queries
from collector.store.server import ServerStore, check_version
from tests.support import (
    LOOKBACK,
    NOW,
    SETTLE,
    calls,
    configuration,
    differences,
    fetch,
    run_once,
    settings,
    simulator,
    stored_syslogs,
    true_syslogs,
)
from tests.support.server_process import PASSWORD, WRITER, ServerProcess, address, lossy, open_at, open_server, url
from tests.support.sessions import session
from tests.support.sql_server import sql_server
from tests.support.virtual_clock import ManualClock
from tests.support.warm_commands import run_command

TABLE = """
CREATE TABLE pai.probe (time DateTime('UTC'), name LowCardinality(String)) ENGINE = MergeTree
PARTITION BY toYYYYMMDD(time) ORDER BY time
SETTINGS non_replicated_deduplication_window = 100000, fsync_after_insert = 1
"""


def many(count: int) -> bytes:
    return b"".join(b'[%d,"n%d"]\n' % (1_760_000_000 + i % 3600, i) for i in range(count))


async def count(store: ServerStore) -> int:
    return int((await store.fetch("SELECT count() FROM probe"))[0][0])


async def insert_until_taken(store: ServerStore, body: bytes, token: str, up: asyncio.Event) -> int:
    """As the shipper does it, while the server is `up`; how often it was tried."""
    for attempt in range(1, 100):
        try:
            await store.insert("probe", ("time", "name"), body, token=token)
        except StoreUnavailable:
            await up.wait()
            continue
        return attempt
    raise AssertionError("the store never took it")


async def test_lost_acknowledgements_store_nothing_twice(tmp_path: Path) -> None:
    """Answers are lost once, and again, also under the client's own silent repeat; the rows are there once."""
    async with sql_server(tmp_path / "store") as server, lossy(server.port) as line:
        store = await open_at(line.port)
        await store.execute(TABLE)
        attempts = []
        up = asyncio.Event()
        up.set()
        for number in range(6):
            line.to_lose = number
            attempts.append(await insert_until_taken(store, many(1000), f"token {number}", up))
        stored = await count(store)
        await store.close()

    assert stored == 6_000
    assert line.inserts == 6 + sum(range(6))
    # The client repeats by itself what a broken connection has swallowed, so fewer are seen here than were sent.
    assert sum(attempts) < line.inserts


@pytest.mark.slow("kills", cases=6)
async def test_a_server_killed_in_the_middle_of_inserts_has_every_row_once(tmp_path: Path) -> None:
    """SIGKILL at many moments; what was acknowledged at once is there after the restart, what was not goes in once."""
    process = ServerProcess(tmp_path / "store")
    await process.start()
    store = await open_at(process.port)
    await store.execute(TABLE)
    body = many(BLOCK_ROWS_MAX)
    try:
        for number in range(6):
            inserting = asyncio.create_task(insert_until_taken(store, body, f"token {number}", process.up))
            # Ever later into the insert, whatever it is doing then.
            await asyncio.wait([inserting], timeout=0.02 + 0.03 * number)
            await process.kill()
            await process.start()
            if await inserting > 1 and await count(store) < (number + 1) * BLOCK_ROWS_MAX:
                # Killed between the token and the part: what the shipper finds by comparing after a second try.
                await store.insert("probe", ("time", "name"), body, token=f"token {number}, compared")
        stored = await count(store)
    finally:
        await store.close()
        await process.kill()

    assert stored == 6 * BLOCK_ROWS_MAX


async def test_nobody_there_is_said_with_the_address(tmp_path: Path) -> None:
    """A server that cannot be reached is unavailable, by its address, at the start and later."""
    async with sql_server(tmp_path / "store") as server:
        store = await open_server(server)
        port = server.port
    with pytest.raises(StoreUnavailable, match=f"127.0.0.1:{port}"):
        await store.fetch("SELECT 1")
    await store.close()
    with pytest.raises(StoreUnavailable, match=f"opening the store http://writer@127.0.0.1:{port}/pai"):
        await open_at(port)


async def test_an_owner_that_finds_no_server_says_so_and_lets_go(tmp_path: Path) -> None:
    """The server's absence is what is told, not what it leads to; the journal is free for the next try."""
    async with sql_server(tmp_path / "store") as server:
        configuration = settings(tmp_path, "", store={"url": url(server.port)})
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="opening the store http://writer@127"):
            await Owner.open(configuration)


@pytest.mark.slow("stores on a server")
async def test_a_query_of_a_server_needs_no_journal_and_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes to the server directly, while another process has the journal too, and writes nothing."""
    monkeypatch.setenv("PAI_COLLECTOR_STORE_PASSWORD", PASSWORD)
    async with sql_server(tmp_path / "store") as server:
        wanted = configuration(tmp_path / "here", "", store={"url": url(server.port)})
        lock = OwnerLock(wanted.journal.path).acquire()
        before = sorted((tmp_path / "here").rglob("*"))
        async with session(wanted, Access.STORE) as history:
            events = history.stream(QUERY, QueryRequest("SELECT count() AS n FROM syslogs", "JSONEachRow", {}))
            assert await anext(events) == Notes(["no history here yet: pai-collector run"])
            with pytest.raises(UsageError, match="no history here yet"):
                await anext(events)
        store = await open_server(server)
        await bring_up_to_date(store, wanted)
        await store.close()
        async with session(wanted, Access.STORE) as history:
            request = QueryRequest("SELECT count() AS n FROM syslogs", "JSONEachRow", {})
            notes, *pieces = [event async for event in history.stream(QUERY, request)]
        assert notes == Notes([])
        assert b"".join(piece.data for piece in pieces if isinstance(piece, Piece)) == b'{"n":0}\n'
        assert sorted((tmp_path / "here").rglob("*")) == before
        lock.release()


async def test_a_wrong_password_names_the_variable(tmp_path: Path) -> None:
    """A refused user is told which variable holds the password, and the password shows nowhere."""
    async with sql_server(tmp_path / "store") as server:
        with pytest.raises(StoreUnavailable, match="refuses the user writer") as refusal:
            await ServerStore.open(address(server.port), Credentials("hunter2"))

    assert "PAI_COLLECTOR_STORE_PASSWORD" in refusal.value.hint
    assert "hunter2" not in str(refusal.value) + repr(Credentials("hunter2"))


@pytest.mark.parametrize("version", ["24.8.4.13", "26.2.1.1", "odd"])
def test_an_old_server_is_refused(version: str) -> None:
    """A server without what the tables need is named with its version and what is needed."""
    with pytest.raises(UsageError, match=r"expected 26\.3 or later"):
        check_version(version, address(8123))
    check_version("26.9.2.1", address(8123))


async def test_a_run_ships_to_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`run --once` with `store.url` brings every row to the server once, and a second run nothing more."""
    monkeypatch.setenv("PAI_COLLECTOR_STORE_PASSWORD", PASSWORD)
    world = World(7, 3, 1, lines_per_second=2.0)
    truth = true_syslogs(world, world.node_ids, NOW - LOOKBACK, NOW - SETTLE)
    targets = {"nodes": world.node_ids, "resource_groups": world.group_ids}
    async with sql_server(tmp_path / "server") as server, simulator(world) as api:
        configuration = settings(tmp_path, api.base_url, store={"url": url(server.port)}, targets=targets)
        first = await run_once(configuration)
        bought = calls(api, "ListSyslogs")
        second = await run_once(configuration)
        stored = await stored_syslogs(configuration)
        users = await fetch(configuration, "SELECT count(), uniqExact(user_id, job_type) FROM user_metrics")
        rebought = calls(api, "ListSyslogs") - bought

    assert not first.failures
    assert not second.failures
    assert users[0][0] == users[0][1] > 0
    assert rebought == 0
    assert truth
    assert not differences(truth, stored)
    assert not (tmp_path / "store").exists()


async def test_a_certificate_is_always_checked(tmp_path: Path) -> None:
    """A server with a certificate of its own is refused, and trusted with that certificate as `store.ca_file`."""
    key_file, certificate = self_signed(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key_file)
    async with sql_server(tmp_path / "store") as server, lossy(server.port, context) as line:
        behind_tls = ServerAddress("https", "localhost", line.port, WRITER)
        with pytest.raises(StoreUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
            await ServerStore.open(behind_tls, Credentials(PASSWORD))
        store = await ServerStore.open(behind_tls, Credentials(PASSWORD), ca_file=str(certificate))
        assert await store.fetch("SELECT 1") == [[1]]
        await store.close()


def self_signed(folder: Path) -> tuple[Path, Path]:
    """Files of a key and of its certificate for localhost."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2100, 1, 1, tzinfo=UTC))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    key_file, certificate = folder / "key.pem", folder / "certificate.pem"
    key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    certificate.write_bytes(made.public_bytes(Encoding.PEM))
    return key_file, certificate


@pytest.mark.parametrize("kind", ["embedded", "server"])
@pytest.mark.slow("stores on a server")
async def test_check_names_a_table_that_forgets_tokens(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sound store is told with version and place; a table without a deduplication window is a failure, by name."""
    monkeypatch.setenv("PAI_COLLECTOR_STORE_PASSWORD", PASSWORD)
    async with AsyncExitStack() as stack:
        where: dict[str, Any] = {"path": tmp_path / "store"}
        if kind == "server":
            server = await stack.enter_async_context(sql_server(tmp_path / "server"))
            where["url"] = url(server.port)
        async with await Owner.open(settings(tmp_path, "", store=where)) as owner:
            sound = await check_store(owner)
            await owner.store.execute("ALTER TABLE pai.events MODIFY SETTING non_replicated_deduplication_window = 0")
            forgetful = await check_store(owner)

    assert sound.ok
    assert re.fullmatch(r"ClickHouse [\d.]+ at (/|http://writer@127).*", sound.detail)
    assert not forgetful.ok
    assert "sent again is stored twice: events;" in forgetful.detail


async def test_a_database_without_tables_has_no_history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An administrator may have made it for a user that may not: what reads and calls works before the first run."""
    monkeypatch.setenv("PAI_COLLECTOR_STORE_PASSWORD", PASSWORD)
    world = World(seed=11, node_count=1, group_count=1)
    async with sql_server(tmp_path / "server") as server, simulator(world) as api:
        config = settings(tmp_path, api.base_url, store={"url": url(server.port)}, targets={"nodes": world.node_ids})
        async with await Caller.open(config, key=SIMULATOR_KEY) as caller:
            results = await check_all(caller)
            assert await server.store.fetch("SELECT name FROM system.tables WHERE database = 'pai'") == []
    assert [one.detail for one in results if not one.ok] == []
    assert "does not exist yet; pai-collector run creates it" in results[0].detail


@pytest.mark.slow("stores on a server")
async def test_every_named_query_runs_on_a_server(tmp_path: Path) -> None:
    """With its defaults, NULL among them."""
    async with sql_server(tmp_path / "server") as server:
        store = await open_server(server)
        await bring_up_to_date(store, settings(tmp_path, ""))
        for query in named_queries():
            needed = {known.name: "1" for known in query.parameters if known.default is None}
            async with await store.query(query.sql, parameters=query.bind(needed), format="CSVWithNames") as answer:
                assert [chunk async for chunk in answer]
        await store.close()


async def test_delays_are_learned_from_a_server(tmp_path: Path) -> None:
    """The program reads as one who may not change settings."""
    async with sql_server(tmp_path / "server") as server:
        store = await open_server(server)
        await bring_up_to_date(store, settings(tmp_path, ""))
        rows = b"".join(b'[%d,%d,"r","n","m"]\n' % (NOW - age, NOW - age + 40) for age in range(ROWS_MIN))
        await store.insert("syslogs", ("time", "receive_time", "region", "node_id", "msg"), rows, token="a")
        clock = ManualClock()
        server_clock = ServerClock(clock)
        server_clock.observe(NOW)
        lateness = Lateness(store, "r", clock, server_clock, (15, 300))
        await lateness.learn()
        await store.close()
    assert lateness.settles == {"n": 40 + SETTLE_MARGIN_SECONDS}
    assert lateness.all is not None
    assert lateness.all.rows == ROWS_MIN


@pytest.mark.slow("stores on a server")
async def test_a_run_whose_streams_wait_for_another_journal_has_not_succeeded(tmp_path: Path) -> None:
    """It says how many wait and what to do; what does not wait is collected."""
    world = World(seed=11, node_count=6, group_count=0)
    async with sql_server(tmp_path / "server") as server, simulator(world) as api:
        store = await open_server(server)
        await bring_up_to_date(store, settings(tmp_path, ""))
        await write_journals(
            store, [KnownJournal("a lost one", "cn-hangzhou", Share(0, 1), JournalState.HOLDING, NOW, "there", 1)]
        )
        await store.close()
        path = tmp_path / "collector.toml"
        path.write_text(
            f"""
            shard = "1/2"
            [api]
            base_url = "{api.base_url}"
            [store]
            url = "{url(server.port)}"
            [targets]
            nodes = {world.node_ids}
            """
        )
        environ = os.environ | {"DASHSCOPE_API_KEY": SIMULATOR_KEY, "PAI_COLLECTOR_STORE_PASSWORD": PASSWORD}
        arguments = ["run", "--once", "--config", str(path), "--log-format", "console"]
        ran = await run_command(arguments, environ, tmp_path, 100)
        told = await run_command([*arguments, "--json"], environ, tmp_path, 100)
    mine = len([node for node in world.node_ids if Share(1, 2).owns(StreamKey("ListSyslogs", "cn-hangzhou", node))])
    assert 0 < mine < len(world.node_ids)
    assert ran.status == 1
    assert f"0 of {mine} caught up" in ran.stdout.decode()
    assert f"failed: {mine} streams were not polled" in ran.stderr
    assert "journal forget" in ran.stderr
    assert json.loads(told.stdout)["streams_waiting"] == mine
