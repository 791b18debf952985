"""Lines of any length: nothing is bounded in rows alone, and nothing that is too large is repeated unchanged."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path

import pytest
import structlog

from collector.errors import StoreRefused, StoreTooLarge
from collector.memory import MIB, MemoryLimit
from collector.owner.instance import Owner
from collector.settings import Settings
from collector.simulator.server import SIMULATOR_KEY
from collector.simulator.world import LongLines, World
from collector.store.embedded import EmbeddedStore
from collector.store.engine_config import EngineLimits
from tests.support import NOW, SETTLE, Unreliable, differences, settings, simulator
from tests.support.store_template import copy_template

SEED = 7
LOOKBACK = 120
END = NOW - SETTLE
SMALL = MemoryLimit(64 * MIB, "test")
"""Segments and windows of 1 MiB."""
LARGE = MemoryLimit(4096 * MIB, "test")
"""Segments and windows of 64 MiB."""


class Picky(Unreliable):
    """The real store behind what refuses inserts for their size."""

    def __init__(
        self, store: EmbeddedStore, bytes_max: int, *, also_letters: bool = True, refused_line_bytes: int = 1 << 40
    ) -> None:
        super().__init__(store)
        self._bytes_max = bytes_max
        self._also_letters = also_letters
        self._refused_line_bytes = refused_line_bytes
        self.sizes: list[int] = []

    async def insert(self, table: str, columns: Sequence[str], body: bytes, *, token: str) -> None:
        if table == "dead_letters" and not self._also_letters:
            raise StoreRefused(f"insert into {table}: it takes none")
        if table == "syslogs":
            self.sizes.append(len(body))
            if len(body) > self._bytes_max:
                raise StoreTooLarge(f"insert into {table}: HTTP status 413: too large", is_certain=True)
            if any(len(line) > self._refused_line_bytes for line in body.splitlines()):
                raise StoreRefused(f"insert into {table}: it never takes this")
        await super().insert(table, columns, body, token=token)


def account(*long: LongLines) -> World:
    return World(SEED, 2, 1, lines_per_second=0.3, bursts=False, long=long)


def noisy_node() -> str:
    return World(SEED, 2, 1).node_ids[0]


def long_lines(start: int, seconds: int, per_second: int, size: int, *, is_equal: bool = False) -> LongLines:
    return LongLines(noisy_node(), start, start + seconds, per_second, size, is_equal)


@asynccontextmanager
async def opened(
    folder: Path, base_url: str, world: World, memory: MemoryLimit, limits: EngineLimits | None = None
) -> AsyncIterator[Owner]:
    """An owner of an embedded store with limits of its own."""
    configuration: Settings = settings(
        folder,
        base_url,
        targets={"nodes": tuple(world.node_ids)},
        sources={"syslogs": {"initial_lookback": f"{LOOKBACK}s", "settle": f"{SETTLE}s", "recheck": []}},
    )
    copy_template(folder / "store")
    store = await EmbeddedStore.open(folder / "store", limits or EngineLimits())
    try:
        async with await Owner.open(configuration, key=SIMULATOR_KEY, store=store, memory=memory) as owner:
            yield owner
    finally:
        await store.close()


async def assert_whole(owner: Owner, world: World) -> None:
    """Every line of every node is stored once. Messages are compared by their digests."""
    truth = Counter(
        (record.time, node_id, sha256(record.wire["Msg"].encode()).hexdigest())
        for node_id in world.node_ids
        for record in world.truth(node_id, NOW - LOOKBACK, END)
    )
    rows = await owner.store.fetch("SELECT toUnixTimestamp(time), node_id, lower(hex(SHA256(msg))) FROM syslogs")
    assert not differences(truth, Counter(map(tuple, rows)))


@pytest.mark.slow("long lines")
async def test_many_long_lines_arrive_in_windows_and_segments_of_bounded_size(tmp_path: Path) -> None:
    """Windows end at their last whole second before they outgrow a segment, and a calm node is not held up."""
    world = account(long_lines(END - 30, 30, 8, 15_000))
    async with simulator(world) as api, opened(tmp_path, api.base_url, world, SMALL) as owner:
        store = Picky(owner.store, 1 << 40)
        owner.store = store
        report = await owner.once().run()
        assert not report.failures
        assert max(store.sizes) <= owner.bounds.segment
        assert len(store.sizes) >= 30 * 8 * 15_000 // owner.bounds.segment
        await assert_whole(owner, world)


@pytest.mark.parametrize("is_equal", [False, True], ids=["different", "equal"])
@pytest.mark.slow("long lines")
async def test_a_second_that_is_larger_than_a_segment_is_stored_once(tmp_path: Path, is_equal: bool) -> None:
    """It is shipped in parts, and without the journal compared in parts: equal lines stay as many as they were."""
    world = account(long_lines(END - 30, 1, 150, 15_000, is_equal=is_equal))
    async with simulator(world) as api:
        async with opened(tmp_path, api.base_url, world, SMALL) as owner:
            store = Picky(owner.store, 1 << 40)
            owner.store = store
            assert not (await owner.once().run()).failures
            assert max(store.sizes) <= owner.bounds.segment
            await assert_whole(owner, world)
        for left in tmp_path.glob("journal.db*"):
            left.unlink()
        async with opened(tmp_path, api.base_url, world, SMALL) as owner:
            await owner.store.execute("ALTER TABLE pai.watermark_states DELETE WHERE 1 SETTINGS mutations_sync = 2")
            assert not (await owner.once().run()).failures
            assert (await owner.journal.counters()).get("rows_added_by_compare", 0) == 0
            await assert_whole(owner, world)


@pytest.mark.slow("long lines")
async def test_a_segment_that_the_engine_has_no_memory_for_is_divided(tmp_path: Path) -> None:
    """Code 241 for a segment that was within its bounds: smaller ones follow, and the rows are there once."""
    world = account(long_lines(END - 20, 20, 10, 60_000))
    limits = EngineLimits(query_bytes_max=24 * MIB)
    async with simulator(world) as api, opened(tmp_path, api.base_url, world, LARGE, limits) as owner:
        with structlog.testing.capture_logs() as logs:
            assert not (await owner.once().run()).failures
        assert [entry for entry in logs if entry["event"] == "segment_too_large"]
    # Read with more memory than there was for writing.
    async with opened(tmp_path, "http://127.0.0.1:1", world, LARGE) as owner:
        await assert_whole(owner, world)


async def test_a_row_that_fits_nowhere_is_a_dead_letter_and_its_neighbours_are_stored(tmp_path: Path) -> None:
    """The letter has the beginning of the row, its size and its digest; the watermark moves."""
    world = account(long_lines(END - 10, 1, 1, 300_000), long_lines(END - 10, 10, 5, 5_000))
    async with simulator(world) as api, opened(tmp_path, api.base_url, world, LARGE) as owner:
        store = owner.store
        owner.store = Picky(store, 100_000)
        assert not (await owner.once().run()).failures
        letters = await store.fetch("SELECT reason, length(record) FROM dead_letters")
        ((reason, size),) = letters
        assert reason.startswith("too large for the store: 300")
        assert size == 64 << 10
        truth = [record for node_id in world.node_ids for record in world.truth(node_id, NOW - LOOKBACK, END)]
        assert (await store.fetch("SELECT count() FROM syslogs"))[0][0] == len(truth) - 1
        assert all(state.watermark == END for state in (await owner.journal.streams()).values())


@pytest.mark.slow("long lines")
async def test_equal_rows_that_are_refused_are_as_many_dead_letters(tmp_path: Path) -> None:
    """Also where their window was compared before: letters of equal lines are counted together."""
    world = account(long_lines(END - 10, 1, 12, 2_000, is_equal=True))
    async with simulator(world) as api, opened(tmp_path, api.base_url, world, LARGE) as owner:
        store = owner.store
        owner.store = Picky(store, 20_000, refused_line_bytes=2_000)
        assert not (await owner.once().run()).failures
        assert await store.fetch("SELECT count(), uniqExact(record) FROM dead_letters") == [[12, 1]]
        truth = [record for node_id in world.node_ids for record in world.truth(node_id, NOW - LOOKBACK, END)]
        assert (await store.fetch("SELECT count() FROM syslogs"))[0][0] == len(truth) - 12
        assert (await owner.journal.counters())["dead_letters"] == 12
        assert all(state.watermark == END for state in (await owner.journal.streams()).values())


@pytest.mark.slow("long lines")
async def test_a_dead_letter_that_is_refused_is_quarantined(tmp_path: Path) -> None:
    """The journal keeps it and counts it; its table and its stream continue, also after a restart."""
    world = account(long_lines(END - 10, 1, 1, 300_000))
    async with simulator(world) as api:
        async with opened(tmp_path, api.base_url, world, LARGE) as owner:
            owner.store = Picky(owner.store, 100_000, also_letters=False)
            assert not (await owner.once().run()).failures
            assert (await owner.journal.counters())["quarantined_rows"] == 1
            assert await owner.outgoing.tables() == []
            assert all(state.watermark == END for state in (await owner.journal.streams()).values())
        async with opened(tmp_path, api.base_url, world, LARGE) as owner:
            assert await owner.outgoing.tables() == []
            assert (await owner.journal.run(lambda db: db.execute("SELECT count() FROM quarantine").fetchone()))[0] == 1
