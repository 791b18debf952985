"""Older ranges, asked again: what is stored, what is covered then, and what an interruption costs."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import aclosing
from decimal import Decimal
from pathlib import Path

import pytest

from collector.cli.commands.backfill import BackfillRequest, handle
from collector.cli.ranges import Progress
from collector.errors import UsageError
from collector.journal.inspect import contents
from collector.model import Window
from collector.owner.instance import Owner
from collector.owner.ranges import asked_streams
from collector.pipeline.backfill import Asked, Backfill
from collector.rpc import Access
from collector.settings import Settings
from collector.simulator.clock import SimulatorClock
from collector.simulator.faults import Fault, FaultKind
from collector.simulator.server import SIMULATOR_KEY, Simulator
from collector.simulator.world import LateRows, World
from collector.units import iso
from tests.support import (
    LOOKBACK,
    NOW,
    SETTLE,
    calls,
    differences,
    fetch,
    run_once,
    settings,
    simulator,
    stored_syslogs,
    true_syslogs,
)
from tests.support.range_commands import answer, asked, gaps, report, work
from tests.support.running_service import PATIENCE_SECONDS, running
from tests.support.sessions import listening, session

HOUR = 3600
BEGIN = NOW - LOOKBACK
"""Where the streams of these tests begin."""


def a_world(nodes: int = 2) -> World:
    return World(21, nodes, 1, density=0.5, bursts=False)


def configured(folder: Path, running: Simulator, world: World, **sections: object) -> Settings:
    return settings(folder, running.base_url, targets={"nodes": tuple(world.node_ids)}, **sections)


async def coverage(configuration: Settings) -> list[list[object]]:
    return await fetch(
        configuration, "SELECT DISTINCT toUnixTimestamp(collected_from), toUnixTimestamp(watermark) FROM watermarks"
    )


@pytest.mark.slow("backfills")
async def test_a_range_before_the_first_window_is_stored_and_covered(tmp_path: Path) -> None:
    """Every record is there once, the stream begins earlier, and nothing is missing."""
    world = a_world()
    async with simulator(world) as api:
        configuration = configured(tmp_path, api, world)
        await run_once(configuration)
        told = await report(configuration, "backfill", asked("syslogs", BEGIN - 9 * HOUR, BEGIN))
        assert told["failures"] == []
        assert told["rows_added"] > 0
        truth = true_syslogs(world, world.node_ids, BEGIN - 9 * HOUR, NOW - SETTLE)
        assert not differences(truth, await stored_syslogs(configuration))
        assert await coverage(configuration) == [[BEGIN - 9 * HOUR, NOW - SETTLE]]
        assert await gaps(configuration) == []


@pytest.mark.slow("backfills")
async def test_a_range_that_does_not_adjoin_leaves_a_gap_that_can_be_filled(tmp_path: Path) -> None:
    """What lies between is told as missing, in the store too, until it is backfilled; a part of it divides it."""
    world = a_world(1)
    (node,) = world.node_ids
    middle = BEGIN - 2 * HOUR
    async with simulator(world) as api:
        configuration = configured(tmp_path, api, world)
        await run_once(configuration)
        await report(configuration, "backfill", asked("syslogs", BEGIN - 8 * HOUR, BEGIN - 6 * HOUR))
        between = (node, iso(BEGIN - 6 * HOUR), iso(BEGIN), "not collected")
        assert await gaps(configuration) == [between]

        await report(configuration, "backfill", asked("syslogs", middle, BEGIN))
        assert await gaps(configuration) == [(node, iso(BEGIN - 6 * HOUR), iso(middle), "not collected")]
        shown = await fetch(
            configuration, "SELECT toUnixTimestamp(start), toUnixTimestamp(end), state FROM gaps ORDER BY start, end"
        )
        assert shown == [
            [BEGIN - 6 * HOUR, middle, "open"], [BEGIN - 6 * HOUR, BEGIN, "divided"], [middle, BEGIN, "filled"],
        ]  # fmt: skip

        await report(configuration, "backfill", asked("syslogs", BEGIN - 6 * HOUR, middle))
        assert await gaps(configuration) == []
        truth = true_syslogs(world, world.node_ids, BEGIN - 8 * HOUR, NOW - SETTLE)
        assert not differences(truth, await stored_syslogs(configuration))


@pytest.mark.slow("backfills")
async def test_a_gap_survives_the_loss_of_the_journal(tmp_path: Path) -> None:
    """A new journal learns the gaps that the store shows, so that filling them closes them."""
    world = a_world(1)
    async with simulator(world) as api:
        configuration = configured(tmp_path, api, world)
        await run_once(configuration)
        await report(configuration, "backfill", asked("syslogs", BEGIN - 8 * HOUR, BEGIN - 6 * HOUR))
        for path in tmp_path.glob("journal.db*"):
            path.unlink()
        await run_once(configuration)
        assert len(await gaps(configuration)) == 1
        await report(configuration, "backfill", asked("syslogs", BEGIN - 6 * HOUR, BEGIN))
        assert await gaps(configuration) == []


@pytest.mark.slow("backfills")
async def test_a_covered_range_is_asked_again_and_what_came_late_is_added(tmp_path: Path) -> None:
    """Rows that no recheck looked for are stored once, and those that are stored stay single."""
    world = a_world()
    node = world.node_ids[0]
    async with simulator(world) as api:
        configuration = configured(tmp_path, api, world)
        await run_once(configuration)
        world.add_late(LateRows(node, BEGIN, BEGIN + 600, 40, NOW - 1))
        told = await report(configuration, "backfill", asked("syslogs", BEGIN, NOW))
        assert told["rows_added"] == 40
        truth = true_syslogs(world, world.node_ids, BEGIN, NOW - SETTLE)
        assert not differences(truth, await stored_syslogs(configuration))


@pytest.mark.slow("interrupted backfills")
async def test_what_was_paid_for_is_not_bought_again(tmp_path: Path) -> None:
    """Interrupted again and again, a backfill takes the calls of one that is not, and those that were in flight."""
    world = World(22, 2, 1, bursts=False, lines_per_second=0.2)
    start = BEGIN - 12 * HOUR
    async with simulator(world, latency_seconds=(0.002, 0.004)) as api:
        whole = configured(tmp_path / "whole", api, world)
        await run_once(whole)
        before = calls(api, "ListSyslogs")
        await report(whole, "backfill", asked("syslogs", start, BEGIN))
        needed = calls(api, "ListSyslogs") - before

        configuration = configured(tmp_path / "cut", api, world)
        await run_once(configuration)
        before, interruptions = calls(api, "ListSyslogs"), 0
        for at in range(needed // 5, needed, needed // 5):
            async with (
                await Owner.open(configuration, key=SIMULATOR_KEY) as owner,
                aclosing(handle(owner, BackfillRequest("syslogs", start + at % 3, BEGIN))) as words,
            ):
                async for _ in words:
                    if calls(api, "ListSyslogs") - before >= at:
                        interruptions += 1
                        break
        told = await report(configuration, "backfill", asked("syslogs", start, BEGIN))
        assert told["failures"] == []
        spent = calls(api, "ListSyslogs") - before
        assert interruptions >= 3
        # Each stream had a call on its way, and other begins make other windows.
        assert needed <= spent <= needed + interruptions * 2 * len(world.node_ids), (spent, needed)
        assert not differences(
            true_syslogs(world, world.node_ids, start, NOW - SETTLE), await stored_syslogs(configuration)
        )
        assert await coverage(configuration) == [[start, NOW - SETTLE]]
        assert await gaps(configuration) == []


@pytest.mark.slow("backfills")
async def test_nothing_counts_as_covered_before_the_store_has_it(tmp_path: Path) -> None:
    """The stream begins where it began until the last row of the range is acknowledged."""
    world = a_world(1)
    async with simulator(world) as api:
        configuration = configured(tmp_path, api, world)
        await run_once(configuration)
        async with await Owner.open(configuration, key=SIMULATOR_KEY) as owner:
            whole = owner.store.insert

            async def insert(table: str, *arguments: object, **more: object) -> None:
                if table == "syslogs":
                    (state,) = (await owner.journal.streams()).values()
                    assert state.collected_from == BEGIN
                await whole(table, *arguments, **more)

            owner.store.insert = insert  # type: ignore[method-assign]
            await work(owner, "backfill", asked("syslogs", BEGIN - HOUR, BEGIN))
            (state,) = (await owner.journal.streams()).values()
            assert state.collected_from == BEGIN - HOUR


@pytest.mark.slow("backfills")
async def test_a_backfill_stops_at_the_budget_and_goes_on_with_more(tmp_path: Path) -> None:
    """What fits is read, the rest with the next budget, none of it twice."""
    world = a_world(1)
    price = {"prices": {"ListSyslogs": {"cny": Decimal("0.01"), "free": 0}}}
    start = BEGIN - 30 * HOUR
    async with simulator(world) as api:
        base = {"base_url": api.base_url} | price
        poor = configured(tmp_path, api, world, api=base, budget={"monthly_cny": Decimal("0.04")})
        await run_once(poor)
        first = calls(api, "ListSyslogs")
        told = await report(poor, "backfill", asked("syslogs", start, BEGIN))
        assert told["budget"]
        assert calls(api, "ListSyslogs") == 4
        rich = configured(tmp_path, api, world, api=base, budget={"monthly_cny": Decimal("100")})
        told = await report(rich, "backfill", asked("syslogs", start, BEGIN))
        assert told["budget"] is None
        assert not differences(true_syslogs(world, world.node_ids, start, NOW - SETTLE), await stored_syslogs(rich))
        assert await coverage(rich) == [[start, NOW - SETTLE]]
        metered = await fetch(rich, "SELECT sum(calls) FROM api_calls WHERE operation = 'ListSyslogs'")
        assert metered == [[calls(api, "ListSyslogs")]]
        assert first < 4


@pytest.mark.slow("backfills")
async def test_what_the_service_refuses_is_a_gap_with_that_reason(tmp_path: Path) -> None:
    """A range that it will not answer for is told, with its code; the rest of the history stays covered."""
    world = a_world(1)
    (node,) = world.node_ids
    async with simulator(world) as api:
        configuration = configured(tmp_path, api, world)
        await run_once(configuration)
        api.faults = [Fault(kind=FaultKind.INVALID_PARAMETER)]
        told = await report(configuration, "backfill", asked("syslogs", BEGIN - HOUR, BEGIN))
        assert len(told["failures"]) == 1
        assert await gaps(configuration) == []
        assert await gaps(configuration, asked("syslogs", BEGIN - 2 * HOUR, BEGIN)) == [
            (node, iso(BEGIN - 2 * HOUR), iso(BEGIN - HOUR), "before the stream was collected"),
            (node, iso(BEGIN - HOUR), iso(BEGIN), "refused by the service: InvalidParameter"),
        ]


@pytest.mark.parametrize(
    ("source", "start", "scopes", "text"),
    [
        ("user_metrics", -HOUR, (), "user_metrics shows only the present"),
        ("syslog", -HOUR, (), "got source 'syslog'; expected one of syslogs, "),
        ("events", -HOUR, (), "events: it has no targets"),
        ("syslogs", -HOUR, ("e01-nowhere",), "--scope: e01-nowhere is no target of syslogs"),
        ("syslogs", 0, (), "is not before --to"),
        ("syslogs", NOW + HOUR, (), "is not before --to"),
        ("syslogs", -SETTLE, (), "nothing can be asked again: it is collected up to"),
    ],
)
@pytest.mark.slow("backfills")
async def test_what_cannot_be_asked_again_is_refused(
    tmp_path: Path, source: str, start: int, scopes: tuple[str, ...], text: str
) -> None:
    """The reason is told, and no call is made."""
    world = a_world(1)
    async with simulator(world) as api:
        configuration = settings(
            tmp_path, api.base_url, targets={"nodes": tuple(world.node_ids), "resource_groups": tuple(world.group_ids)}
        )
        await run_once(configuration)
        before = calls(api, "ListSyslogs")
        async with await Owner.open(configuration, key=SIMULATOR_KEY) as owner:
            with pytest.raises(UsageError, match=text):
                await answer(owner, "backfill.price", asked(source, start, 0, *scopes))
        assert calls(api, "ListSyslogs") == before


@pytest.mark.slow("backfills")
async def test_the_price_is_a_lower_bound_and_costs_nothing(tmp_path: Path) -> None:
    """Calls and money are told before anything is asked, and the backfill takes no fewer."""
    world = a_world()
    async with simulator(world) as api:
        configuration = configured(tmp_path, api, world)
        await run_once(configuration)
        before = calls(api, "ListSyslogs")
        async with await Owner.open(configuration, key=SIMULATOR_KEY) as owner:
            told = await answer(owner, "backfill.price", asked("syslogs", BEGIN - 7 * HOUR, BEGIN))
            assert told["calls_at_least"] == {"ListSyslogs": 4}
            assert told["streams"] == 2
            assert calls(api, "ListSyslogs") == before
            await work(owner, "backfill", asked("syslogs", BEGIN - 7 * HOUR, BEGIN))
        assert calls(api, "ListSyslogs") - before >= 4


async def test_gaps_tell_what_is_missing_and_why(tmp_path: Path) -> None:
    """A missed tick, a node that came later, a range before the first window, and one that is not collected yet."""
    world = a_world()
    clock = SimulatorClock.frozen(NOW)
    first, second = world.node_ids
    group = world.group_ids[0]
    async with simulator(world, clock) as api:
        targets: dict[str, object] = {"nodes": (first,), "resource_groups": (group,)}
        await run_once(settings(tmp_path, api.base_url, targets=targets))
        clock.advance(600)
        configuration = settings(tmp_path, api.base_url, targets=targets | {"nodes": (first, second)})
        assert (second, None, None, "not collected yet") in await gaps(configuration)
        await run_once(configuration)
        tick = NOW // 60 * 60 + 60
        missed = (group, iso(tick), iso((NOW + 600) // 60 * 60), "missed")
        assert await gaps(configuration) == [missed]
        late = BEGIN + 600
        assert await gaps(configuration, asked("syslogs", BEGIN - 60, NOW + 600)) == [
            (first, iso(BEGIN - 60), iso(BEGIN), "before the stream was collected"),
            (first, iso(NOW + 600 - SETTLE), iso(NOW + 600), "not collected yet"),
            (second, iso(BEGIN - 60), iso(late), "the stream was added later than others"),
            (second, iso(NOW + 600 - SETTLE), iso(NOW + 600), "not collected yet"),
        ]


@pytest.mark.slow("backfills")
async def test_an_interrupted_backfill_leaves_nothing_running(tmp_path: Path) -> None:
    """Who stops listening ends it: no call goes out any more. Until then no other one touches its streams."""
    world = World(22, 4, 1, lines_per_second=0.5, bursts=False)
    async with simulator(world, latency_seconds=(0.01, 0.02)) as api:
        configuration = configured(tmp_path, api, world)
        await run_once(configuration)
        async with await Owner.open(configuration, key=SIMULATOR_KEY) as owner:
            words = handle(owner, BackfillRequest("syslogs", BEGIN - 48 * HOUR, BEGIN))
            async for word in words:
                if isinstance(word, Progress) and word.total:
                    break
            with pytest.raises(UsageError, match=r"a backfill of .* is under way"):
                await work(owner, "backfill", asked("syslogs", BEGIN - HOUR, BEGIN))
            await words.aclose()
            before = calls(api, "ListSyslogs")
            await asyncio.sleep(0.1)
            assert calls(api, "ListSyslogs") == before


@pytest.mark.slow("backfills")
async def test_a_service_does_the_work_of_a_command_beside_its_own(tmp_path: Path) -> None:
    """Through the owner's socket; the live streams go on meanwhile, and nothing is stored twice."""
    world = a_world()
    async with running(tmp_path, world, targets={"nodes": tuple(world.node_ids)}) as run, listening(run.owner):
        await run.until(lambda: run.source("ListSyslogs").states.get("collected") == 2)
        marks = {key: state.watermark for key, state in (await run.owner.journal.streams()).items()}
        start = min(state.collected_from or 0 for state in (await run.owner.journal.streams()).values()) - 7 * HOUR
        async with session(run.owner.settings, Access.COLLECTOR) as owner:
            price = await answer(owner, "backfill.price", asked("syslogs", start, 0))
            assert price["calls_at_least"] == {"ListSyslogs": 4}
            words = await work(owner, "backfill", asked("syslogs", start, 0))
            async with asyncio.timeout(PATIENCE_SECONDS):
                # The service may still be shipping what was read.
                while (await answer(owner, "gaps", asked("syslogs", start, None)))["gaps"]:
                    await asyncio.sleep(0.05)
            clean = (await work(owner, "verify", asked("syslogs", start, -300)))[-1]["report"]
        assert words[-1]["report"]["failures"] == []
        assert (clean["missing"], clean["extra"], clean["different"]) == (0, 0, 0)
        assert clean["records"] > 0

        def has_moved() -> bool:
            slots = run.service.slots
            return all((slot.state.watermark or 0) > (marks[slot.state.key] or 0) for slot in slots)

        await run.until(has_moved)
        configuration = run.owner.settings
    ends = await fetch(configuration, "SELECT toUnixTimestamp(min(watermark)) FROM watermarks")
    truth = true_syslogs(world, world.node_ids, start, ends[0][0])
    stored = await stored_syslogs(configuration)
    assert not differences(truth, Counter({row: n for row, n in stored.items() if row[0] < ends[0][0]}))


@pytest.mark.parametrize("how", ["the budget", "its listener"])
async def test_a_backfill_that_ends_in_the_middle_of_a_window_stores_what_it_read(tmp_path: Path, how: str) -> None:
    """Whole seconds are sealed, and the next backfill begins behind them; nothing waits unseen."""
    world = World(22, 1, 1, bursts=False, lines_per_second=2.0)
    price = {"prices": {"ListSyslogs": {"cny": Decimal("0.01"), "free_calls_per_month": 0}}}
    start = BEGIN - 600
    async with simulator(world, latency_seconds=(0.02, 0.04)) as api:
        base = {"base_url": api.base_url} | price
        rich = configured(tmp_path, api, world, api=base)
        await run_once(rich)
        before = calls(api, "ListSyslogs")
        if how == "the budget":
            cap = {"monthly_cny": Decimal("0.01") * (before + 3)}
            poor = configured(tmp_path, api, world, api=base, budget=cap)
            assert (await report(poor, "backfill", asked("syslogs", start, BEGIN)))["budget"]
        else:
            async with (
                await Owner.open(rich, key=SIMULATOR_KEY) as owner,
                aclosing(handle(owner, BackfillRequest("syslogs", start, BEGIN))) as words,
            ):
                async for _ in words:
                    if calls(api, "ListSyslogs") >= before + 3:
                        break
        read = calls(api, "ListSyslogs") - before
        assert contents(rich.journal.path)["open_windows"] == []
        stored = await stored_syslogs(rich)
        assert sum(count for row, count in stored.items() if row[0] < BEGIN) > 100 * (read - 2)
        assert (await report(rich, "backfill", asked("syslogs", start, BEGIN)))["budget"] is None
        truth = true_syslogs(world, world.node_ids, start, NOW - SETTLE)
        assert not differences(truth, await stored_syslogs(rich))
        assert await gaps(rich) == []


async def test_what_a_killed_backfill_read_is_stored_by_one_of_another_range(tmp_path: Path) -> None:
    """Its window is given up; its rows were paid for."""
    world = World(22, 1, 1, bursts=False, lines_per_second=2.0)
    async with simulator(world, latency_seconds=(0.02, 0.04)) as api:
        configuration = configured(tmp_path, api, world)
        await run_once(configuration)
        before = calls(api, "ListSyslogs")
        async with await Owner.open(configuration, key=SIMULATOR_KEY) as owner:
            work = Backfill(owner.collecting(), await streams_of(owner, BEGIN - 600, BEGIN))
            task = asyncio.create_task(work.run())
            while calls(api, "ListSyslogs") < before + 3:
                await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        assert contents(configuration.journal.path)["open_windows"] != []
        await report(configuration, "backfill", asked("syslogs", BEGIN - 1200, BEGIN - 900))
        assert contents(configuration.journal.path)["open_windows"] == []
        stored = await stored_syslogs(configuration)
        assert sum(count for row, count in stored.items() if BEGIN - 600 <= row[0] < BEGIN) > 100


async def streams_of(owner: Owner, start: int, end: int) -> list[Asked]:
    streams, _ = await asked_streams(owner, BackfillRequest("syslogs", start, end), Window(start, end))
    return streams
