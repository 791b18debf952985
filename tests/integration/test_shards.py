"""Several processes over one account and one store: each stream is one process's, and no row is stored twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from collector.clock import Clock, SystemClock
from collector.errors import BudgetReached, ConfigError, StoreUnavailable, UsageError
from collector.owner.instance import Owner
from collector.owner.journals import FRESH_SECONDS, JournalState, forget_journal, read_journals
from collector.owner.shards import REPLACED_SECONDS
from collector.settings import load
from collector.simulator.server import SIMULATOR_KEY, Simulator
from collector.simulator.world import World
from collector.store.embedded import EmbeddedStore
from tests.support import NOW, SETTLE, SYSLOG_COLUMNS, calls, differences, settings, true_syslogs
from tests.support.range_commands import work
from tests.support.store_template import migrated_store

NODES = 6


class Machines:
    """Machines before one account and one store that all of them reach."""

    def __init__(self, folder: Path, world: World, api: Simulator, store: EmbeddedStore, moment: list[float]) -> None:
        self.folder = folder
        self.world = world
        self.api = api
        self.store = store
        self._moment = moment

    @property
    def now(self) -> int:
        """The service's time, seconds since the epoch."""
        return int(self._moment[0])

    def later(self, seconds: float = 600) -> int:
        """Time passes; returns up to when syslogs are settled then."""
        self._moment[0] += seconds
        return self.now - SETTLE

    @asynccontextmanager
    async def process(
        self, disk: str, shard: str = "", clock: Clock | None = None, **sections: Any
    ) -> AsyncIterator[Owner]:
        """A process with the journal of that disk, until it ends cleanly."""
        targets = sections.pop("targets", {"nodes": self.world.node_ids, "resource_groups": self.world.group_ids})
        configuration = settings(self.folder / disk, self.api.base_url, targets=targets, **sections)
        configuration = configuration.model_copy(update={"shard": shard})
        async with await Owner.open(configuration, key=SIMULATOR_KEY, store=self.store, clock=clock) as owner:
            yield owner

    async def run(self, disk: str, shard: str = "", **sections: Any) -> set[str]:
        """One run of a process; the nodes whose syslogs it has collected up to now."""
        async with self.process(disk, shard, **sections) as owner:
            return await collected(owner)

    async def killed_before_shipping(self, disk: str, shard: str = "") -> set[str]:
        """A process that collects, cannot ship and is killed: its journal holds what was collected."""
        async with self.process(disk, shard) as owner:
            owner.membership.leave = _nothing  # type: ignore[method-assign]
            insert = self.store.insert

            async def only_states(table: str, *arguments: Any, **named: Any) -> None:
                if table not in ("journal_states",):
                    raise StoreUnavailable("the store is away")
                await insert(table, *arguments, **named)

            self.store.insert = only_states  # type: ignore[method-assign]
            try:
                with pytest.raises(StoreUnavailable):
                    await owner.once().run()
            finally:
                self.store.insert = insert  # type: ignore[method-assign]
            return await nodes_of(owner)

    async def assert_exact(self, end: int) -> None:
        """Everything up to `end` is stored once, of each node, and the snapshots of usage with it."""
        columns = ", ".join(f"toUnixTimestamp({c})" if c in ("time", "receive_time") else c for c in SYSLOG_COLUMNS)
        rows = await self.store.fetch(f"SELECT {columns} FROM syslogs")
        start = min(int(row[SYSLOG_COLUMNS.index("time")]) for row in rows)
        first = await self.store.fetch("SELECT toUnixTimestamp(min(collected_from)) FROM watermarks")
        truth = true_syslogs(self.world, self.world.node_ids, min(start, first[0][0]), end)
        assert not differences(truth, Counter(tuple(row) for row in rows))


class SuspendedClock(SystemClock):
    """The clock of a machine that was suspended: its monotonic clock has not counted that time."""

    suspended_seconds = 0.0

    def wall(self) -> float:
        return super().wall() + self.suspended_seconds


async def _nothing() -> None:
    return None


async def nodes_of(owner: Owner) -> set[str]:
    """The nodes whose syslogs are in a journal."""
    return {key.scope_id for key in await owner.journal.streams() if key.operation == "ListSyslogs"}


async def collected(owner: Owner) -> set[str]:
    """Run once; the nodes that are collected up to now."""
    report = await owner.once().run()
    assert not report.failures
    return await nodes_of(owner)


@pytest.fixture
async def machines(tmp_path: Path) -> AsyncIterator[Machines]:
    """Nobody has collected anything."""
    world = World(seed=8, node_count=NODES, group_count=3, density=0.5)
    moment = [float(NOW)]
    async with (
        migrated_store(tmp_path / "store") as store,
        Simulator(world, now=lambda: moment[0]) as api,
    ):
        yield Machines(tmp_path, world, api, store, moment)


async def test_two_shards_share_the_streams_without_rest(machines: Machines) -> None:
    """Each node is collected by one of the two; together they have all of them, once, at the cost of one process."""
    first = await machines.run("a", "0/2")
    second = await machines.run("b", "1/2")
    assert first
    assert second
    assert not first & second
    assert first | second == set(machines.world.node_ids)
    before = calls(machines.api, "ListSyslogs")
    end = machines.later()
    assert await machines.run("b", "1/2") == second
    assert await machines.run("a", "0/2") == first
    await machines.assert_exact(end)
    assert calls(machines.api, "ListSyslogs") - before <= before + NODES
    states = {str(one.share): one.state for one in await read_journals(machines.store)}
    assert states == {"0/2": JournalState.DRAINED, "1/2": JournalState.DRAINED}


@pytest.mark.slow("histories of shards")
async def test_a_shard_takes_over_what_a_drained_journal_had(machines: Machines) -> None:
    """One process becomes two: the new one goes on where the store ends, the old one lets go, nothing is doubled."""
    assert await machines.run("a") == set(machines.world.node_ids)
    machines.later()
    second = await machines.run("b", "1/2")
    end = machines.later()
    first = await machines.run("a", "0/2")
    assert first | second == set(machines.world.node_ids)
    assert not first & second
    await machines.run("b", "1/2")
    await machines.assert_exact(end)


@pytest.mark.slow("histories of shards")
async def test_streams_wait_for_a_journal_that_still_holds_rows_of_them(machines: Machines) -> None:
    """A process that died before it could ship keeps its streams, until it has come back and shipped."""
    assert await machines.killed_before_shipping("a") == set(machines.world.node_ids)
    async with machines.process("b", "1/2") as owner:
        assert await collected(owner) == set()
        assert owner.membership.waiting > 0
    machines.later()
    # It comes back with another part: what it holds of the other part is shipped, and then it lets go of it.
    await machines.run("a", "0/2")
    await machines.run("a", "0/2")
    end = machines.later()
    first, second = await machines.run("a", "0/2"), await machines.run("b", "1/2")
    assert first | second == set(machines.world.node_ids)
    assert not first & second
    await machines.assert_exact(end)


@pytest.mark.slow("histories of shards")
async def test_a_journal_that_was_given_up_and_comes_back_is_compared(machines: Machines) -> None:
    """What it held is stored meanwhile by another process: nothing is stored again, no snapshot is lost."""
    await machines.killed_before_shipping("a")
    (journal,) = await read_journals(machines.store)
    end = machines.later()
    with pytest.raises(UsageError, match="was alive 0 s ago"):
        await forget_journal(machines.store, journal.id, journal.heartbeat)
    assert await forget_journal(machines.store, journal.id, machines.now)
    assert await forget_journal(machines.store, journal.id, machines.now) == []
    assert await machines.run("b") == set(machines.world.node_ids)
    await machines.assert_exact(end)
    snapshots = "SELECT count(), uniqExact(time) FROM user_metrics"
    (before,) = await machines.store.fetch(snapshots)
    machines.later()
    # It is entered under a new id, and waits for the streams that another journal has now.
    async with machines.process("a", "1/2") as owner:
        await owner.once().run()
        assert owner.membership.journal_id != journal.id
    end = machines.later()
    await machines.run("b", "0/2")
    await machines.run("a", "1/2")
    await machines.run("a", "1/2")
    await machines.run("b", "0/2")
    await machines.assert_exact(end)
    (after,) = await machines.store.fetch(snapshots)
    assert after[1] > before[1]
    assert after[0] * before[1] == before[0] * after[1]


@pytest.mark.slow("histories of shards")
async def test_a_disk_that_returns_after_others_had_its_streams_begins_anew(machines: Machines) -> None:
    """Two become one and two again: the disk that lay aside does not go on from its old watermarks."""
    await machines.run("a", "0/2")
    mine = await machines.run("b", "1/2")
    machines.later()
    assert await machines.run("a") == set(machines.world.node_ids)
    machines.later()
    await machines.run("a", "0/2")
    end = machines.later()
    before = calls(machines.api, "ListSyslogs")
    assert await machines.run("b", "1/2") == mine
    # What the other one had asked meanwhile is not asked again.
    new = true_syslogs(machines.world, mine, end - 1200, end)
    assert calls(machines.api, "ListSyslogs") - before <= new.total() / 100 + 2 * len(mine)
    await machines.run("a", "0/2")
    await machines.assert_exact(end)


@pytest.mark.slow("histories of shards")
async def test_the_same_shard_with_another_journal_is_refused(machines: Machines) -> None:
    """Two machines that are told the same part: the second is told of the first, and takes over once it is silent."""
    await machines.run("c", "1/2")
    async with machines.process("a", "0/2") as first:
        await first.once().run()
        async with machines.process("b", "0/2") as second:
            with pytest.raises(
                UsageError, match=r"shard 0/2 is at work with another journal: .* on .*, alive \d+ s ago"
            ):
                await second.once().run()
        machines.later(FRESH_SECONDS + 1)
        async with machines.process("b", "0/2") as second:
            assert await collected(second)
            assert second.membership.waiting == 0
            with pytest.raises(UsageError, match="was given up while it was at work"):
                await first.membership.beat()
    end = machines.later(FRESH_SECONDS)
    await machines.run("b", "0/2")
    await machines.run("c", "1/2")
    await machines.assert_exact(end)


@pytest.mark.slow("lost journals")
async def test_a_journal_given_up_while_it_is_at_work_ends_its_process(machines: Machines) -> None:
    """The next heartbeat says so; what it has not shipped will be compared."""
    async with machines.process("a") as owner:
        await owner.once().run()
        await forget_journal(machines.store, owner.membership.journal_id, machines.now, force=True)
        with pytest.raises(UsageError, match="was given up while it was at work"):
            await owner.membership.beat()
    end = machines.later()
    assert await machines.run("b") == set(machines.world.node_ids)
    await machines.assert_exact(end)


@pytest.mark.slow("lost journals")
async def test_a_machine_that_was_suspended_stores_nothing_that_another_one_has_by_now(machines: Machines) -> None:
    """Its shard was taken over while it was silent: what its journal holds waits, to be compared."""
    clock = SuspendedClock()
    async with machines.process("a", clock=clock) as owner:
        insert = machines.store.insert

        async def only_states(table: str, *arguments: Any, **named: Any) -> None:
            if table != "journal_states":
                raise StoreUnavailable("the store is away")
            await insert(table, *arguments, **named)

        machines.store.insert = only_states  # type: ignore[method-assign]
        with pytest.raises(StoreUnavailable):
            await owner.once().run()
        machines.store.insert = insert  # type: ignore[method-assign]
        end = machines.later(FRESH_SECONDS + SETTLE)
        clock.suspended_seconds = FRESH_SECONDS + SETTLE
        assert await machines.run("b") == set(machines.world.node_ids)
        with pytest.raises(StoreUnavailable, match="was given up while it was at work"):
            await owner.shipper().drain(attempts_max=1)
    await machines.assert_exact(end)
    machines.later()
    await machines.run("a")
    end = machines.later()
    await machines.run("b")
    await machines.assert_exact(end)


@pytest.mark.slow("histories of shards")
async def test_a_shard_learns_from_the_store_what_another_one_discovers(machines: Machines) -> None:
    """One process looks at each list; all of them watch what it shows."""
    for _ in range(3):
        for index in (0, 1):
            await machines.run(f"disk {index}", f"{index}/2", targets={"discover": ["clusters"]})
        machines.later()
    found = [await machines.run(f"disk {index}", f"{index}/2", targets={"discover": ["clusters"]}) for index in (0, 1)]
    assert found[0] | found[1] == set(machines.world.node_ids)
    assert not found[0] & found[1]
    assert found[0]
    assert found[1]


async def test_a_shard_alone_with_its_store_cannot_discover(tmp_path: Path) -> None:
    """Where the others cannot read the store, targets have to be named."""
    configuration = settings(tmp_path, "http://127.0.0.1:1", targets={"discover": ["clusters"]})
    with pytest.raises(ConfigError) as caught:
        await Owner.open(configuration.model_copy(update={"shard": "0/2"}), key=SIMULATOR_KEY)
    assert "targets.discover: got clusters with shard 0/2" in caught.value.mistakes[0]


@pytest.mark.parametrize(
    "cap",
    [*(pytest.param(cap, marks=pytest.mark.slow("histories of shards")) for cap in ("0.0004", "0.0011")), "0.002"],
)
@pytest.mark.slow("histories of shards")
async def test_two_shards_together_stay_within_the_budget(machines: Machines, cap: str) -> None:
    """Each has its part of cap and free calls; no two parts add up to more, also across restarts."""
    sections: dict[str, Any] = {
        "budget": {"monthly_cny": Decimal(cap)},
        "api": {
            "base_url": machines.api.base_url,
            "prices": {"ListSyslogs": {"cny": Decimal("0.0001"), "free_calls_per_month": 3}},
        },
        "targets": {"nodes": machines.world.node_ids},
    }
    reached = 0
    for _ in range(4):
        for index in (0, 1):
            async with machines.process(f"disk {index}", f"{index}/2", **sections) as owner:
                report = await owner.once().run()
                reached += isinstance(report.budget, BudgetReached)
        machines.later(1800)
    assert reached
    made = calls(machines.api, "ListSyslogs")
    assert (made - 3) * Decimal("0.0001") <= Decimal(cap)
    assert made >= 3


async def test_the_quotas_of_all_shards_add_up_to_the_accounts(machines: Machines) -> None:
    """A shard's bucket has its part; more shards than calls a second are refused."""
    limits = []
    for index in (0, 1, 2):
        async with machines.process(f"disk {index}", f"{index}/3") as owner:
            limits.append(owner.buckets["ListSyslogs"].rate_limit)
    assert sum(limits) == 100
    assert max(limits) - min(limits) <= 1
    api = {"base_url": machines.api.base_url, "quotas": {"ListSyslogs": 2}}
    with pytest.raises(ConfigError, match="ListSyslogs allows 2 calls a second; expected at most 2 shards"):
        async with machines.process("disk 0", "0/3", api=api):
            pass


@pytest.mark.slow("histories of shards")
async def test_a_journal_copied_back_on_an_embedded_store_is_compared(tmp_path: Path) -> None:
    """On a store that only one process can open, a new journal gives the old one up by itself."""
    world = World(seed=8, node_count=2, group_count=1, density=0.5)
    async with Simulator(world, now=lambda: float(NOW)) as api:

        async def run(disk: str) -> Owner:
            sections = {"store": {"path": tmp_path / "store"}, "targets": {"nodes": world.node_ids}}
            async with await Owner.open(
                settings(tmp_path / disk, api.base_url, **sections), key=SIMULATOR_KEY
            ) as owner:
                await owner.once().run()
            return owner

        await run("a")
        await run("b")
        states = []
        async with await Owner.open(
            settings(tmp_path / "b", api.base_url, store={"path": tmp_path / "store"})
        ) as owner:
            states = [one.state for one in await read_journals(owner.store)]
            (count,) = await owner.store.fetch("SELECT count() FROM syslogs")
        await run("a")
        async with await Owner.open(
            settings(tmp_path / "b", api.base_url, store={"path": tmp_path / "store"})
        ) as owner:
            assert await owner.store.fetch("SELECT count() FROM syslogs") == [count]
    assert sorted(states) == [JournalState.DRAINED, JournalState.DRAINED]


def test_paths_hold_the_number_of_the_shard(tmp_path: Path) -> None:
    """`{shard}` in a path is the number, however it was given, and `auto` needs a host name that ends in one."""
    file = tmp_path / "collector.toml"
    file.write_text('shard = "0/3"\n[journal]\npath = "journal-{shard}.db"\n[store]\npath = "store-{shard}"\n')
    assert load(file, {}).journal.path == tmp_path / "journal-0.db"
    assert load(file, {"PAI_COLLECTOR__SHARD": "1/3"}).store.path == tmp_path / "store-1"
    assert load(file, {"PAI_COLLECTOR__SHARD": "1/3"}, shard="2/3").journal.path == tmp_path / "journal-2.db"
    with pytest.raises(ConfigError, match="--shard: got '3/3'"):
        load(file, {}, shard="3/3")


def test_a_set_of_pods_takes_its_numbers_from_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`auto/3` is the number at the end of the host name; one too many is told so."""
    file = tmp_path / "collector.toml"
    file.write_text('shard = "auto/3"\n[journal]\npath = "journal-{shard}.db"\n')
    monkeypatch.setattr("socket.gethostname", lambda: "collector-2.pai.svc")
    assert load(file, {}).shard == "2/3"
    monkeypatch.setattr("socket.gethostname", lambda: "collector-3")
    with pytest.raises(ConfigError, match='shard: got "auto/3" with the number 3'):
        load(file, {})


@pytest.mark.slow("histories of shards")
async def test_a_journal_of_all_streams_is_replayed_by_each_shard(machines: Machines) -> None:
    """Each takes the rows of its own streams, one of them enters the calls, and the file stays for the other."""
    assert await machines.killed_before_shipping("lone")
    file = machines.folder / "other.db"
    (machines.folder / "lone" / "journal.db").rename(file)
    (lone,) = await read_journals(machines.store)
    machines.later(FRESH_SECONDS + 1)
    await forget_journal(machines.store, lone.id, machines.now)
    told = []
    for disk, shard in (("a", "0/2"), ("b", "1/2")):
        async with machines.process(disk, shard) as owner:
            told.append((await work(owner, "journal.replay", {"path": str(file)}))[-1]["report"])
        assert file.exists()
    assert {one["reason"] for report in told for one in report["left_out"]} == {"another shard collects it"}
    assert all(report["rows_added"] == report["rows"] > 0 for report in told)
    assert told[0]["calls"] > 0
    assert (told[1]["calls"], told[1]["calls_left"]) == (0, "shard 0 enters them")
    await machines.run("a", "0/2")
    await machines.run("b", "1/2")
    await machines.assert_exact(machines.now - SETTLE)
    metered = await machines.store.fetch("SELECT operation, sum(calls) FROM api_calls GROUP BY 1")
    assert dict(metered) == {name: stats.calls for name, stats in machines.api.stats.items() if stats.calls}


async def state_of(machines: Machines, journal_id: str) -> set[JournalState]:
    return {one.state for one in await read_journals(machines.store) if one.id == journal_id}


def remove_journal(folder: Path) -> None:
    for file in folder.glob("journal.db*"):
        if file.name.endswith((".db", "-wal", "-shm")):
            file.unlink()


@pytest.mark.parametrize(
    ("lost", "shard", "next_shard"),
    [
        ("removed", "", ""), ("emptied", "1/2", "1/2"),
        *(pytest.param(*each, marks=pytest.mark.slow("histories of shards")) for each in (
            ("damaged", "", ""), ("a directory", "", ""), ("removed", "1/2", "1/2"), ("removed", "", "0/2"),
        )),
    ],
)  # fmt: skip
@pytest.mark.slow("lost journals", fast=("removed--",))
async def test_a_journal_lost_where_it_was_is_given_up_at_once(
    machines: Machines, lost: str, shard: str, next_shard: str
) -> None:
    """However it went, the next start in its place asks again what it had not shipped; nothing waits or doubles."""
    await machines.run("a", shard)
    other = "0/2" if next_shard == "1/2" else "1/2"
    if shard:
        await machines.run("b", other)
    machines.later()
    await machines.killed_before_shipping("a", shard)
    (before,) = [one for one in await read_journals(machines.store) if str(one.share) == (shard or "0/1")]
    path = machines.folder / "a" / "journal.db"
    if lost == "damaged":
        path.write_bytes(b"SQLite format 3\0" + bytes(5000))
    else:
        remove_journal(machines.folder / "a")
        if lost == "emptied":
            path.touch()
        elif lost == "a directory":
            path.mkdir()
    end = machines.later(5)
    async with machines.process("a", next_shard) as owner:
        mine = await collected(owner)
        assert owner.membership.waiting == 0
    assert mine
    assert await state_of(machines, before.id) == {JournalState.FORGOTTEN}
    if next_shard:
        end = machines.later(FRESH_SECONDS)
        mine |= await machines.run("b", other) | await machines.run("a", next_shard)
    assert mine == set(machines.world.node_ids)
    await machines.assert_exact(end)


@pytest.mark.slow("histories of shards")
async def test_a_journal_of_another_shard_or_place_is_not_given_up(machines: Machines) -> None:
    """Whoever is at work elsewhere keeps its streams while the other shard begins again without its journal."""
    async with machines.process("a", "0/2") as first:
        await collected(first)
        await machines.killed_before_shipping("b", "1/2")
        remove_journal(machines.folder / "b")
        await machines.run("b", "1/2")
        await first.membership.beat()
        assert await state_of(machines, first.membership.journal_id) == {JournalState.COLLECTING}


@pytest.mark.slow("lost journals")
async def test_an_older_copy_of_a_journal_begins_anew_from_the_store(machines: Machines) -> None:
    """What was shipped since the copy was made is not appended a second time."""
    await machines.run("a")
    older = (machines.folder / "a" / "journal.db").read_bytes()
    machines.later()
    await machines.run("a")
    remove_journal(machines.folder / "a")
    (machines.folder / "a" / "journal.db").write_bytes(older)
    end = machines.later()
    assert await machines.run("a") == set(machines.world.node_ids)
    await machines.assert_exact(end)


@pytest.mark.slow("lost journals")
async def test_a_journal_of_another_store_begins_anew_from_this_one(machines: Machines) -> None:
    """Its watermarks tell of rows that this store never had: no range is shown as covered that is not."""
    await machines.run("a")
    machines.later()
    await machines.run("a")
    tables = (
        "SELECT name FROM system.tables WHERE database = 'pai' AND engine LIKE '%MergeTree'"
        " AND name NOT LIKE '%migration%'"
    )
    for (name,) in await machines.store.fetch(tables):
        await machines.store.execute(f"TRUNCATE TABLE pai.{name}")
    end = machines.later()
    assert await machines.run("a") == set(machines.world.node_ids)
    await machines.assert_exact(end)


@pytest.mark.slow("lost journals")
async def test_shards_that_take_turns_need_nobody_when_a_machine_is_gone_and_their_number_changes(
    machines: Machines,
) -> None:
    """With `run --once` by a timer no two are ever alive together; each says what waits until all have worked."""
    for disk, shard in (("a", "0/3"), ("b", "1/3"), ("c", "2/3")):
        await machines.run(disk, shard)
    machines.later()
    assert await machines.killed_before_shipping("c", "2/3")
    machines.later(REPLACED_SECONDS)
    waiting = []
    for turn in ("0/2", "1/2"):
        async with machines.process(f"of two {turn[0]}", turn) as owner:
            waiting.append((await owner.once().run()).streams_waiting)
    # The second one is the first to know that both have worked since.
    assert waiting[0] > 0
    assert waiting[1] == 0
    end = machines.later()
    first, second = [await machines.run(f"of two {turn[0]}", turn) for turn in ("0/2", "1/2")]
    assert first | second == set(machines.world.node_ids)
    await machines.assert_exact(end)
