"""From the journal to the store: lost answers, refused rows, repeats, outages."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from collector.errors import StoreUnavailable
from collector.journal.outgoing import Outgoing
from collector.owner.instance import Owner
from collector.pipeline.ship import TOKEN_TRUST_SECONDS
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

SEED = 41


@pytest.fixture
def world() -> World:
    return World(SEED, 4, 1, lines_per_second=0.5)


@pytest.fixture
async def api(world: World) -> AsyncIterator[Simulator]:
    async with simulator(world) as running:
        yield running


async def assert_exact(configuration: Any, world: World, end: int = NOW - SETTLE) -> None:
    truth = true_syslogs(world, world.node_ids, NOW - LOOKBACK, end)
    assert not differences(truth, await stored_syslogs(configuration))


@pytest.mark.parametrize("how", [{"lose_answers": 3}, {"away": 3}, {"lose_answers": 2, "away": 2}], ids=str)
@pytest.mark.slow("lost acknowledgements", fast=("{'lose_answers': 3}",))
async def test_an_acknowledgement_that_is_lost_doubles_nothing(
    tmp_path: Path, world: World, api: Simulator, how: dict[str, int]
) -> None:
    """The same segment is sent again under its token until the store says it has it."""
    configuration = settings(tmp_path, api.base_url, targets={"nodes": tuple(world.node_ids)})
    async with await Owner.open(configuration, key=SIMULATOR_KEY) as owner:
        unreliable = Unreliable(owner.store, **how)
        owner.store = unreliable
        await owner.once().run()
        assert unreliable.inserts > 3
    await assert_exact(configuration, world)


@pytest.mark.slow("lost acknowledgements")
async def test_a_kill_between_the_token_and_the_part_loses_nothing(
    tmp_path: Path, world: World, api: Simulator
) -> None:
    """The engine notes a token before it names the part: killed in between, it takes the next try for a repeat."""
    configuration = settings(tmp_path, api.base_url, targets={"nodes": tuple(world.node_ids)})
    async with await Owner.open(configuration, key=SIMULATOR_KEY) as owner:
        store = owner.store
        owner.store = Unreliable(store, away=10_000)
        with pytest.raises(StoreUnavailable):
            await owner.once().run()
        owner.store = Unreliable(store, lose_answers=1)
        with pytest.raises(StoreUnavailable, match="the answer was lost"):
            await owner.shipper().ship_one("syslogs", draining=True)
        parts = await store.fetch("SELECT path FROM system.parts WHERE table = 'syslogs' AND active")
        (part,) = (Path(str(path)) for (path,) in parts)
    # What such a kill leaves.
    part.rename(part.parent / f"tmp_insert_{part.name}")
    await run_once(configuration)
    await assert_exact(configuration, world)


@pytest.mark.slow("lost acknowledgements")
async def test_a_store_that_stays_away_keeps_the_rows_in_the_journal(
    tmp_path: Path, world: World, api: Simulator
) -> None:
    """The run ends with an error, the watermark stays, and the next run ships without asking again."""
    configuration = settings(tmp_path, api.base_url, targets={"nodes": tuple(world.node_ids)})
    async with await Owner.open(configuration, key=SIMULATOR_KEY) as owner:
        owner.store = Unreliable(owner.store, away=10_000)
        with pytest.raises(StoreUnavailable):
            await owner.once().run()
        assert (await owner.journal.depth()).rows > 0
        assert all(state.watermark is None for state in (await owner.journal.streams()).values())
    asked = api.stats["ListSyslogs"].calls
    await run_once(configuration)
    assert api.stats["ListSyslogs"].calls == asked
    await assert_exact(configuration, world)


async def test_a_poison_row_becomes_a_dead_letter_and_stops_nothing(
    tmp_path: Path, world: World, api: Simulator
) -> None:
    """The segment is split down to the row that the store refuses; the others are stored, once each."""
    configuration = settings(tmp_path, api.base_url, targets={"nodes": tuple(world.node_ids)})
    truth = true_syslogs(world, world.node_ids, NOW - LOOKBACK, NOW - SETTLE)
    plain = [row for row in truth if row[-1].isascii() and row[-1].isprintable() and not set(row[-1]) & set("'\\")]
    seen = Counter(row[-1] for row in truth.elements())
    # A line that stands twice in its second, and one that stands alone.
    twice = min((row[-1] for row in plain if truth[row] > 1), key=lambda msg: seen[msg])
    poison = [twice, next(row[-1] for row in plain if seen[row[-1]] == 1)]
    async with await Owner.open(configuration, key=SIMULATOR_KEY) as owner:
        listed = ", ".join(f"'{text}'" for text in poison)
        await owner.store.execute(f"ALTER TABLE pai.syslogs ADD CONSTRAINT poison CHECK msg NOT IN ({listed})")
        report = await owner.once().run()
        assert not report.failures
        assert (await owner.journal.depth()).rows == 0

    refused = sum(count for row, count in truth.items() if row[-1] in poison)
    assert refused >= 3
    stored = await stored_syslogs(configuration)
    for row in list(truth):
        if row[-1] in poison:
            del truth[row]
    assert not differences(truth, stored)
    letters = await fetch(configuration, "SELECT operation, scope_id, reason, record FROM dead_letters")
    assert len(letters) == refused
    assert all(operation == "ListSyslogs" and "refused by the store" in reason for operation, _, reason, _ in letters)
    marks = await fetch(configuration, "SELECT DISTINCT toUnixTimestamp(watermark) FROM watermarks")
    assert marks == [[NOW - SETTLE]]


@pytest.mark.slow("lost acknowledgements")
async def test_a_segment_sent_again_with_other_settings_in_between_is_stored_once(
    tmp_path: Path, world: World, api: Simulator
) -> None:
    """The token decides, not the settings of the session or what else was inserted meanwhile."""
    configuration = settings(tmp_path, api.base_url, targets={"nodes": tuple(world.node_ids)})
    await collect_unshipped(configuration)
    async with await Owner.open(configuration) as owner:
        store = owner.store
        outgoing = Outgoing(owner.journal)
        segment = await outgoing.unsent("syslogs")
        assert segment is not None
        from collector.sources.tables import SYSLOGS

        for setting in (None, "max_insert_block_size = 7", "min_insert_block_size_rows = 3", "async_insert = 1"):
            if setting:
                await store.execute(f"SET {setting}")
            await store.insert("syslogs", SYSLOGS.columns, segment.body, token=segment.id)
        ((count,),) = await store.fetch("SELECT count() FROM syslogs")
        assert count == segment.rows


@pytest.mark.slow("lost acknowledgements")
async def test_a_segment_lost_for_longer_than_tokens_are_kept_is_compared(
    tmp_path: Path, world: World, api: Simulator
) -> None:
    """Sent, answered into the void, and found again after days: what is stored is not stored twice."""
    configuration = settings(tmp_path, api.base_url, targets={"nodes": tuple(world.node_ids)})
    async with await Owner.open(configuration, key=SIMULATOR_KEY) as owner:
        owner.store = Unreliable(owner.store, lose_answers=10_000)
        with pytest.raises(StoreUnavailable):
            await owner.once().run()
        # The store's memory of tokens ends with the table's log of them.
        await owner.store.execute("ALTER TABLE pai.syslogs MODIFY SETTING non_replicated_deduplication_window = 0")
        await owner.store.execute("ALTER TABLE pai.syslogs MODIFY SETTING non_replicated_deduplication_window = 100000")
        await owner.journal.run(
            lambda db: db.execute("UPDATE segments SET sent_at = sent_at - ?", (TOKEN_TRUST_SECONDS + 1,)) and None
        )
    await run_once(configuration)
    await assert_exact(configuration, world)


@pytest.mark.slow("lost journals")
async def test_a_journal_that_is_damaged_is_set_aside_and_nothing_is_doubled(tmp_path: Path, world: World) -> None:
    """With the journal gone in the middle, the store's own watermark and rows decide what is asked again."""
    clock = SimulatorClock.frozen(NOW)
    async with simulator(world, clock) as api:
        configuration = settings(tmp_path, api.base_url, targets={"nodes": tuple(world.node_ids)})
        await run_once(configuration)
        path = configuration.journal.path
        path.write_bytes(path.read_bytes()[:5000].ljust(20_000, b"\x5a"))
        clock.advance(200)
        async with await Owner.open(configuration, key=SIMULATOR_KEY) as owner:
            assert owner.journal_set_aside is not None
            assert owner.journal_set_aside.exists()
            await owner.once().run()
        await assert_exact(configuration, world, NOW + 200 - SETTLE)


@pytest.mark.slow("lost acknowledgements")
async def test_a_pending_segment_keeps_its_rows_through_reopening(tmp_path: Path, world: World, api: Simulator) -> None:
    """Frozen bytes are what the journal holds, compressed or not."""
    configuration = settings(tmp_path, api.base_url, targets={"nodes": tuple(world.node_ids)})
    async with await Owner.open(configuration, key=SIMULATOR_KEY) as owner:
        owner.store = Unreliable(owner.store, away=10_000)
        with pytest.raises(StoreUnavailable):
            await owner.once().run()
        before = await owner.outgoing.unsent("syslogs")
    async with await Owner.open(configuration) as owner:
        after = await owner.outgoing.unsent("syslogs")
        assert after is not None
        assert before is not None
        assert (after.id, after.body) == (before.id, before.body)
        # How many windows were sealed when it was frozen depends on the moment; none of them is pending too.
        waiting = sum(chunk.rows for chunk in await owner.outgoing.pending("syslogs"))
        (rows,) = await owner.journal.run(
            lambda db: db.execute("SELECT sum(rows) FROM chunks WHERE table_name = 'syslogs'").fetchone()
        )
        assert waiting + after.rows == rows
