"""Journals that were set aside, or that another machine left: what they still hold becomes history, once."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from collector.clock import SystemClock
from collector.errors import JournalCorrupt, OwnedElsewhere, StoreUnavailable, UsageError
from collector.journal.recovery.set_aside import set_aside_of
from collector.owner.instance import Owner
from collector.owner.lock import OwnerLock
from collector.settings import STORE_PASSWORD_VARIABLE, Settings
from collector.simulator.clock import SimulatorClock
from collector.simulator.server import SIMULATOR_KEY, Simulator
from collector.simulator.world import World
from tests.support import (
    LOOKBACK,
    NOW,
    SETTLE,
    Unreliable,
    collect_unshipped,
    differences,
    fetch,
    run_once,
    settings,
    simulator,
    stored_syslogs,
    true_syslogs,
)
from tests.support.range_commands import asked, gaps, report, work
from tests.support.server_process import PASSWORD, url
from tests.support.sql_server import sql_server

TICK = 60


def a_world() -> World:
    return World(43, 3, 1, lines_per_second=0.5)


def configured(folder: Path, api: Simulator, **sections: Any) -> Settings:
    world = api.world
    targets = {"nodes": tuple(world.node_ids), "resource_groups": tuple(world.group_ids)}
    return settings(folder, api.base_url, targets=targets, **sections)


def spoil_a_chunk(journal: Path, table: str) -> int:
    """Damage the newest rows of a table, as a bad sector does; returns how many."""
    with sqlite3.connect(journal) as db:
        rows, body = db.execute(
            "SELECT rows, body FROM chunks WHERE table_name = ? ORDER BY id DESC LIMIT 1", (table,)
        ).fetchone()
        db.execute("UPDATE meta SET value = 0 WHERE key = 'clean_end'")
        db.commit()
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    data = bytearray(journal.read_bytes())
    place = data.index(body[20:40])
    data[place] ^= 0xFF
    journal.write_bytes(data)
    return int(rows)


async def assert_metered(configuration: Settings, api: Simulator) -> None:
    metered = await fetch(configuration, "SELECT operation, sum(calls) FROM api_calls GROUP BY 1 ORDER BY 1")
    assert metered == sorted([name, stats.calls] for name, stats in api.stats.items() if stats.calls)


async def ticks(configuration: Settings) -> list[list[int]]:
    """(tick, snapshots, users) of the group."""
    return await fetch(
        configuration,
        "SELECT toUnixTimestamp(time), count(), any(user_count) FROM resource_group_metrics GROUP BY 1 ORDER BY 1",
    )


@pytest.mark.parametrize("kind", ["embedded", "server"])
@pytest.mark.slow("histories of replayed journals")
async def test_what_a_damaged_journal_still_holds_comes_back(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Snapshots that nobody can ask again, log lines once, every call; only what was damaged is asked again."""
    world, clock = a_world(), SimulatorClock.frozen(NOW)
    monkeypatch.setenv(STORE_PASSWORD_VARIABLE, PASSWORD)
    async with AsyncExitStack() as stack:
        api = await stack.enter_async_context(simulator(world, clock))
        store = {}
        if kind == "server":
            store["url"] = url((await stack.enter_async_context(sql_server(tmp_path / "server"))).port)
        configuration = configured(tmp_path, api, store=store)
        await run_once(configuration)
        clock.advance(2 * TICK)
        await collect_unshipped(configuration)
        lost = spoil_a_chunk(configuration.journal.path, "syslogs")
        clock.advance(2 * TICK)

        told = await report(configuration, "journal.repair", {})
        assert told["rows_damaged"] == lost
        assert told["rows_added"] == told["rows"] > 0
        assert told["left_out"] == []
        assert Path(told["moved_to"]).exists()
        assert set_aside_of(configuration.journal.path) == []
        await run_once(configuration)

        truth = true_syslogs(world, world.node_ids, NOW - LOOKBACK, NOW + 4 * TICK - SETTLE)
        assert not differences(truth, await stored_syslogs(configuration))
        await assert_metered(configuration, api)
        first = NOW // TICK * TICK
        assert [row[:2] for row in await ticks(configuration)] == [[first + 2 * n * TICK, 1] for n in range(3)]
        (users,) = (
            await fetch(configuration, f"SELECT uniqExact(user_id) FROM user_metrics WHERE time = {first + 2 * TICK}")
        )[0]
        assert users == (await ticks(configuration))[1][2]


@pytest.mark.slow("histories of replayed journals")
async def test_a_snapshot_that_came_back_is_no_gap(tmp_path: Path) -> None:
    """Whether it comes back before the stream goes on or after it."""
    for name, goes_on_first in (("before", False), ("after", True)):
        world, clock = a_world(), SimulatorClock.frozen(NOW)
        async with simulator(world, clock) as api:
            configuration = configured(tmp_path / name, api)
            await run_once(configuration)
            clock.advance(TICK)
            await collect_unshipped(configuration)
            configuration.journal.path.rename(other := tmp_path / name / "other.db")
            clock.advance(TICK)
            if goes_on_first:
                await run_once(configuration)
                assert [gap[3] for gap in await gaps(configuration)] == ["missed"]
            told = await report(configuration, "journal.replay", {"path": str(other)})
            assert told["rows_damaged"] == told["places_lost"] == 0
            await run_once(configuration)
            assert await gaps(configuration) == []
            assert [row[1] for row in await ticks(configuration)] == [1, 1, 1]
            truth = true_syslogs(world, world.node_ids, NOW - LOOKBACK, NOW + 2 * TICK - SETTLE)
            assert not differences(truth, await stored_syslogs(configuration))
            await assert_metered(configuration, api)


@pytest.mark.slow("histories of replayed journals")
async def test_a_second_replay_adds_nothing(tmp_path: Path) -> None:
    """The file is renamed, and should somebody insist, its rows are in the store and its calls are entered."""
    world, clock = a_world(), SimulatorClock.frozen(NOW)
    async with simulator(world, clock) as api:
        configuration = configured(tmp_path, api)
        await collect_unshipped(configuration)
        configuration.journal.path.rename(other := tmp_path / "other.db")
        first = await report(configuration, "journal.replay", {"path": str(other)})
        assert not other.exists()
        again = await report(configuration, "journal.replay", {"path": first["moved_to"]})
        assert (again["rows"], again["rows_added"], again["calls"]) == (first["rows"], 0, 0)
        assert again["calls_left"] == "they were entered before"
        assert again["moved_to"] != first["moved_to"]
        await run_once(configuration)
        truth = true_syslogs(world, world.node_ids, NOW - LOOKBACK, NOW - SETTLE)
        assert not differences(truth, await stored_syslogs(configuration))
        await assert_metered(configuration, api)


@pytest.mark.slow("histories of replayed journals")
async def test_what_a_journal_holds_comes_back_without_a_key(tmp_path: Path) -> None:
    """Nothing is called, so whoever sees to a broken machine needs none, and finds nobody there either."""
    world = a_world()
    async with simulator(world, SimulatorClock.frozen(NOW)) as api:
        configuration = configured(tmp_path, api)
        await collect_unshipped(configuration)
        configuration.journal.path.rename(other := tmp_path / "other.db")
        asked = api.stats["ListSyslogs"].calls
    told = await report(configuration, "journal.replay", {"path": str(other)}, key=None)
    assert (told["rows_added"], told["calls"]) == (told["rows"], sum(stats.calls for stats in api.stats.values()))
    assert api.stats["ListSyslogs"].calls == asked
    truth = true_syslogs(world, world.node_ids, NOW - LOOKBACK, NOW - SETTLE)
    assert not differences(truth, await stored_syslogs(configuration))


@pytest.mark.slow("histories of replayed journals")
async def test_what_is_waited_for_is_shipped_without_the_interval(tmp_path: Path) -> None:
    """The interval gathers a service's many small windows; a command that waits for its rows has no use for it."""
    world, clock = a_world(), SimulatorClock.frozen(NOW)
    async with simulator(world, clock) as api:
        targets = {"nodes": tuple(world.node_ids), "resource_groups": tuple(world.group_ids)}
        configuration = settings(tmp_path, api.base_url, targets=targets, store={"flush_interval": "1m"})
        await collect_unshipped(configuration)
        configuration.journal.path.rename(other := tmp_path / "other.db")
        async with await Owner.open(configuration, clock=WithoutLongSleeps()) as owner:
            told = (await work(owner, "journal.replay", {"path": str(other)}))[-1]["report"]
        assert told["rows_added"] == told["rows"] > 0
        await run_once(configuration)
        older = asked("syslogs", NOW - 2 * LOOKBACK, NOW - LOOKBACK)
        async with await Owner.open(configuration, key=SIMULATOR_KEY, clock=WithoutLongSleeps()) as owner:
            read = (await work(owner, "backfill", older))[-1]["report"]
        assert (read["waiting"], read["rows_added"] > 0) == (0, True)


class WithoutLongSleeps(SystemClock):
    """The machine's clock, by which nothing that sleeps for half a minute is ever woken."""

    async def sleep(self, seconds: float) -> None:
        await (asyncio.Event().wait() if seconds > 30 else super().sleep(seconds))


@pytest.mark.slow("histories of replayed journals")
async def test_a_segment_whose_answer_was_lost_is_counted_once(tmp_path: Path) -> None:
    """Calls that the store has and the journal does not know of are recognised by their segment's id."""
    world = a_world()
    async with simulator(world) as api:
        configuration = configured(tmp_path, api)
        await collect_unshipped(configuration)
        async with await Owner.open(configuration) as owner:
            await owner.outgoing.flush_meter(None, owner.clock.monotonic())
            owner.store = Unreliable(owner.store, lose_answers=1)
            with pytest.raises(StoreUnavailable, match="stored, and the answer was lost"):
                await owner.shipper().ship_one("api_call_parts", draining=True)
        assert await fetch(configuration, "SELECT sum(calls) > 0 FROM api_calls") == [[1]]
        configuration.journal.path.rename(other := tmp_path / "other.db")
        await report(configuration, "journal.replay", {"path": str(other)})
        await run_once(configuration)
        await assert_metered(configuration, api)


@pytest.mark.slow("histories of replayed journals")
async def test_what_is_no_journal_is_told(tmp_path: Path) -> None:
    """Nothing there, a text, another database, the journal in use, and one that another process works with."""
    world = a_world()
    async with simulator(world) as api:
        configuration = configured(tmp_path, api)
        await run_once(configuration)
        text, database, in_use = (tmp_path / name for name in ("text.db", "database.db", "in_use.db"))
        text.write_text("no journal" * 1000)
        with sqlite3.connect(database) as db:
            db.execute("CREATE TABLE something (id)")
        db.close()
        in_use.write_bytes(configuration.journal.path.read_bytes())
        lock = OwnerLock(in_use).acquire()
        for path, error, words in (
            (tmp_path / "nothing.db", UsageError, "there is no journal"),
            (text, JournalCorrupt, "nothing can be read"),
            (database, UsageError, "no journal"),
            (configuration.journal.path, UsageError, "the journal in use"),
            (in_use, OwnedElsewhere, "is owned by"),
        ):
            with pytest.raises(error, match=words):
                await report(configuration, "journal.replay", {"path": str(path)})
            assert path.exists() == (path.name != "nothing.db")
        lock.release()
