"""A history moves from any store to any other: every row, every field, once, whatever happens on the way."""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from collector.clock import SystemClock
from collector.errors import StoreTooLarge, UsageError
from collector.owner.instance import Owner
from collector.settings import Settings
from collector.simulator.clock import SimulatorClock
from collector.simulator.world import World
from collector.store.base import Store
from collector.store.exporting import export_history, stored_tables
from collector.store.history import Manifest
from collector.store.importing import import_history, read_manifest
from collector.store.migrate import migrate
from tests.support import (
    LOOKBACK,
    NOW,
    SETTLE,
    calls,
    differences,
    run_once,
    settings,
    simulator,
    stored_syslogs,
    true_syslogs,
)
from tests.support.server_process import ENVIRON, PASSWORD, open_server, url
from tests.support.sql_server import SqlServer, sql_server
from tests.support.store_template import migrated_store
from tests.support.virtual_clock import ManualClock

DAYS = 40
ROWS_A_DAY = 50


@asynccontextmanager
async def embedded(folder: Path) -> AsyncIterator[Store]:
    async with migrated_store(folder) as store:
        yield store


@asynccontextmanager
async def on_server(server: SqlServer) -> AsyncIterator[Store]:
    store = await open_server(server)
    await migrate(store)
    yield store
    await store.close()


async def fill(store: Store) -> None:
    """Rows of many days, with text that breaks careless writers."""
    odd = 'tab\\t \\"quote\\" back\\\\slash \\u2028 🚀 \\u0000'
    for day in range(DAYS):
        body = "".join(
            f'[{NOW + day * 86_400 + n},"cn-hangzhou","e{n}","{odd} {n}","{{}}"]\n' for n in range(ROWS_A_DAY)
        )
        await store.insert("syslogs", ("time", "region", "node_id", "msg", "extra"), body.encode(), token=f"day {day}")
    await store.insert(
        "watermark_states",
        ("operation", "region", "scope_id", "collected_from", "watermark", "updated_at"),
        f'["ListSyslogs","cn-hangzhou","e1",{NOW},{NOW + 100},"{NOW}.125"]\n'.encode(),
        token="watermark",
    )
    await store.insert(
        "api_call_parts",
        ("minute", "region", "operation", "http_status", "code", "calls", "rows", "bytes", "cost_cny"),
        f'[{NOW},"cn-hangzhou","ListSyslogs",200,"",3,150,9007199254740993,0.000123]\n'.encode(),
        token="calls",
    )


async def contents(store: Store) -> dict[str, Counter[tuple[Any, ...]]]:
    """Every stored field of every table that holds history."""
    found = {}
    for table in await stored_tables(store):
        names = ", ".join(f"toString(`{column}`)" for column in table.columns)
        rows = await store.fetch(f"SELECT {names} FROM pai.`{table.name}`")
        found[table.name] = Counter(map(tuple, rows))
    return found


async def exported(store: Store, folder: Path) -> Manifest:
    return await export_history(store, await stored_tables(store), folder)


@pytest.mark.slow("moves between stores")
async def test_a_collector_goes_on_at_the_server_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Embedded to server with every field equal; the next run collects what is new, and buys nothing again."""
    monkeypatch.setenv("PAI_COLLECTOR_STORE_PASSWORD", PASSWORD)
    world = World(11, 3, 1, lines_per_second=1.0)
    targets = {"nodes": world.node_ids, "resource_groups": world.group_ids}
    async with simulator(world) as api:
        before = settings(tmp_path, api.base_url, targets=targets)
        await run_once(before)
        needed = calls(api, "ListSyslogs")
    async with await Owner.open(before) as owner:
        at_home = await contents(owner.store)
        await exported(owner.store, tmp_path / "moved")

    later = SimulatorClock.frozen(NOW + 600)
    async with sql_server(tmp_path / "server") as server, simulator(world, later) as api:
        after = settings(tmp_path, api.base_url, store={"url": url(server.port)}, targets=targets)
        await imported(after, tmp_path / "moved")
        async with await Owner.open(after) as owner:
            on_the_server = await contents(owner.store)
        await run_once(after)
        bought = calls(api, "ListSyslogs")
        stored = await stored_syslogs(after)

    assert at_home["syslogs"]
    assert at_home["watermark_states"]
    assert at_home["journal_states"]
    assert on_the_server == at_home
    assert not differences(true_syslogs(world, world.node_ids, NOW - LOOKBACK, NOW + 600 - SETTLE), stored)
    assert 0 < bought < needed


async def imported(configuration: Settings, folder: Path, **options: bool) -> None:
    async with await Owner.open(configuration) as owner:
        await import_history(owner.store, folder, read_manifest(folder), SystemClock(), **options)


@pytest.mark.slow("moves between stores")
async def test_a_history_comes_back_from_a_server(tmp_path: Path) -> None:
    """Server to embedded: every stored field of every table is equal, numbers and odd text to the last digit."""
    async with sql_server(tmp_path / "server") as server, on_server(server) as source:
        await fill(source)
        there = await contents(source)
        manifest = await exported(source, tmp_path / "moved")
    async with embedded(tmp_path / "home") as target:
        await import_history(target, tmp_path / "moved", manifest, SystemClock())
        here = await contents(target)

    assert here == there
    assert sum(there["syslogs"].values()) == DAYS * ROWS_A_DAY


@pytest.mark.slow("kills", cases=3)
async def test_an_import_that_is_killed_goes_on_and_brings_every_row_once(tmp_path: Path) -> None:
    """SIGKILL at three moments of the command; the run after them ends with every row there once."""
    async with embedded(tmp_path / "home") as source:
        await fill(source)
        there = await contents(source)
        await exported(source, tmp_path / "moved")
    async with sql_server(tmp_path / "server") as server:
        (tmp_path / "collector.toml").write_text(f'[store]\nurl = "{url(server.port)}"\n')
        for lines in (2, 20, 60):
            assert await command(tmp_path, until_lines=lines) == -9
        assert await command(tmp_path) == 0
        # And once more, when all is there.
        assert await command(tmp_path) == 0
        async with on_server(server) as target:
            here = await contents(target)

    assert here == there


@pytest.mark.slow("moves between stores")
async def test_a_file_that_is_sent_again_is_stored_once(tmp_path: Path) -> None:
    """With the memory of what is done lost, every file goes out once more under its token, and adds nothing."""
    async with embedded(tmp_path / "home") as source:
        await fill(source)
        there = await contents(source)
        manifest = await exported(source, tmp_path / "moved")
    async with embedded(tmp_path / "target") as target:
        await import_history(target, tmp_path / "moved", manifest, SystemClock())
        for progress in (tmp_path / "moved").glob("imported-*"):
            progress.unlink()
        await import_history(target, tmp_path / "moved", manifest, SystemClock(), is_added=True)
        assert await contents(target) == there


async def command(folder: Path, until_lines: int | None = None) -> int | None:
    """Run `import`; kill it once its file of progress has so many lines."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "collector", "import", str(folder / "moved"), "--config", str(folder / "collector.toml"),
        env={**os.environ, **ENVIRON},
    )  # fmt: skip
    ended = asyncio.create_task(process.wait())
    while until_lines is not None and not ended.done():
        if sum(path.read_bytes().count(b"\n") for path in (folder / "moved").glob("imported-*")) >= until_lines:
            process.kill()
            break
        await asyncio.wait([ended], timeout=0.005)
    return await ended


class Small:
    """A store that refuses inserts for their size, and may end in the middle of one."""

    def __init__(self, store: Store, bytes_max: int, inserts_max: int) -> None:
        self._store = store
        self._bytes_max = bytes_max
        self._inserts_left = inserts_max

    async def insert(self, table: str, columns: Any, body: bytes, *, token: str) -> None:
        if len(body) > self._bytes_max:
            raise StoreTooLarge("too large", is_certain=True)
        if not self._inserts_left:
            raise UsageError("interrupted")
        self._inserts_left -= 1
        await self._store.insert(table, columns, body, token=token)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


@pytest.mark.slow("moves between stores")
async def test_a_file_that_is_too_large_is_imported_in_parts(tmp_path: Path) -> None:
    """Also where that was interrupted, and where the store then has room for the whole: every row is there once."""
    async with embedded(tmp_path / "from") as store:
        await fill(store)
        manifest = await export_history(store, await stored_tables(store), tmp_path / "files")
    clock = ManualClock()
    async with embedded(tmp_path / "to") as store:
        with pytest.raises(UsageError, match="interrupted"):
            await import_history(Small(store, 2000, 7), tmp_path / "files", manifest, clock)
        await import_history(store, tmp_path / "files", manifest, clock)
        assert (await store.fetch("SELECT count() FROM syslogs"))[0][0] == DAYS * ROWS_A_DAY


@pytest.mark.slow("moves between stores")
async def test_a_damaged_file_is_named_and_nothing_of_it_is_stored(tmp_path: Path) -> None:
    """A changed byte is noticed before its file is sent; with the file as it was, the import goes on to its end."""
    async with embedded(tmp_path / "home") as source:
        await fill(source)
        there = await contents(source)
        manifest = await exported(source, tmp_path / "moved")
    table = next(table for table in manifest.tables if table.name == "syslogs")
    damaged = table.partitions[3].files[0]
    path = tmp_path / "moved" / damaged.name
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    async with embedded(tmp_path / "target") as target:
        with pytest.raises(UsageError, match=f"{damaged.name}: damaged") as refusal:
            await import_history(target, tmp_path / "moved", manifest, SystemClock())
        between = await contents(target)
        path.write_bytes(whole)
        await import_history(target, tmp_path / "moved", manifest, SystemClock())
        here = await contents(target)

    assert "copy it again" in refusal.value.hint
    assert sum(between["syslogs"].values()) == 3 * ROWS_A_DAY
    assert here == there


@pytest.mark.slow("moves between stores")
async def test_a_store_with_other_rows_is_refused_unless_asked_for(tmp_path: Path) -> None:
    """Rows that are there already are named by table and partition; with consent the others come beside them."""
    async with embedded(tmp_path / "home") as source:
        await fill(source)
        manifest = await exported(source, tmp_path / "moved")
        with pytest.raises(UsageError, match="syslogs 20251009: 50"):
            await import_history(source, tmp_path / "moved", manifest, SystemClock())
        await import_history(source, tmp_path / "moved", manifest, SystemClock(), is_added=True)
        assert (await source.fetch("SELECT count() FROM pai.syslogs"))[0][0] == 2 * DAYS * ROWS_A_DAY


@pytest.mark.slow("moves between stores")
async def test_what_is_no_whole_export_is_refused(tmp_path: Path) -> None:
    """A folder without a manifest, without a file, or of another format says what it lacks."""
    with pytest.raises(UsageError, match=r"no manifest\.json"):
        read_manifest(tmp_path)
    async with embedded(tmp_path / "home") as source:
        await fill(source)
        manifest = await exported(source, tmp_path / "moved")
        with pytest.raises(UsageError, match="holds an exported history already"):
            await exported(source, tmp_path / "moved")
    (tmp_path / "moved" / manifest.files[0].name).unlink()
    with pytest.raises(UsageError, match="missing"):
        read_manifest(tmp_path / "moved")
    (tmp_path / "moved" / "manifest.json").write_text('{"format_version": 2}')
    with pytest.raises(UsageError, match="format version 2; this version reads 1"):
        read_manifest(tmp_path / "moved")
