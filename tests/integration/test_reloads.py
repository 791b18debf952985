"""Streams that leave and return by a reload: nothing is missing, doubled or left behind, whatever is under way."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from collector.journal.coverage import open_gaps
from collector.owner.instance import Owner
from collector.settings import Settings
from collector.simulator.faults import Fault, FaultKind
from collector.simulator.server import SIMULATOR_KEY
from collector.simulator.usage import workspaces
from collector.simulator.world import World
from tests.integration.test_service import assert_exact
from tests.support import NOW, calls, settings, simulator, true_syslogs
from tests.support.running_service import Running, running


def changed(run: Running, section: str, **values: Any) -> Settings:
    """The configuration with other values in one section, a source's with its name behind a dot."""
    before = run.owner.settings
    top, _, inner = section.partition(".")
    part = getattr(before, top)
    if inner:
        part = part.model_copy(update={inner: getattr(part, inner).model_copy(update=values)})
    else:
        part = part.model_copy(update=values)
    return before.model_copy(update={top: part})


def watched(run: Running, operation: str) -> set[str]:
    return {slot.state.key.scope_id for slot in run.service.slots if slot.state.key.operation == operation}


async def left(run: Running, section: str, **values: Any) -> None:
    """Reload, and wait until the plan is another one."""
    before = {slot.state.key for slot in run.service.slots}
    run.owner.reconfigure(changed(run, section, **values))
    await run.until(lambda: {slot.state.key for slot in run.service.slots} != before)


@pytest.mark.slow("hours of service")
async def test_a_node_that_leaves_and_returns_is_collected_without_a_hole(tmp_path: Path) -> None:
    """Also what it logged while it was not watched: its stream goes on where it was."""
    world = World(seed=5, node_count=3, group_count=1, density=0.3)
    node = world.node_ids[0]
    async with running(tmp_path, world, targets={"nodes": world.node_ids}) as run:
        await run.until(lambda: run.source("ListSyslogs").states == {"collected": 3})
        await left(run, "targets", nodes=tuple(world.node_ids[1:]))
        away = run.api.now()
        await run.until(lambda: run.api.now() > away + 600)
        assert node not in watched(run, "ListSyslogs")
        await left(run, "targets", nodes=tuple(world.node_ids))
        back = run.api.now()
        slot = next(slot for slot in run.service.slots if slot.state.key.scope_id == node)
        await run.until(lambda: (slot.state.watermark or 0) > back)
        assert slot.state.collected_from is not None
        assert slot.state.collected_from < away
        await assert_exact(run.owner, world)


@pytest.mark.slow("hours of service")
async def test_a_group_that_leaves_and_returns_misses_the_ticks_between(tmp_path: Path) -> None:
    """Nobody can ask for them later: they are a gap, of the whole group and of a workspace alike."""
    world = World(seed=5, node_count=1, group_count=2, users_per_group=8)
    here = workspaces(world.seed)[0]
    sources = {"user_metrics": {"interval": "30s", "workspaces": [here]}}
    async with running(tmp_path, world, targets={"resource_groups": world.group_ids}, sources=sources) as run:
        await run.until(lambda: run.source("GetUserViewMetrics").states == {"collected": 2})
        everywhere = run.owner.settings.sources.user_metrics
        for section, without, again in (
            ("targets", {"resource_groups": tuple(world.group_ids[1:])}, {"resource_groups": tuple(world.group_ids)}),
            ("sources.user_metrics", {"workspaces": ()}, {"workspaces": everywhere.workspaces}),
            ("sources.user_metrics", {"enabled": False}, {"enabled": True}),
        ):
            await left(run, section, **without)
            away = run.api.now()
            await run.until(lambda away=away: run.api.now() > away + 200)  # type: ignore[misc]
            await left(run, section, **again)
            back = run.api.now()
            scope = f"{world.group_ids[0]}?WorkspaceId={here}"
            slot = next(slot for slot in run.service.slots if slot.state.key.scope_id == scope)
            await run.until(lambda slot=slot, back=back: (slot.state.sealed_to or 0) > back)  # type: ignore[misc]
            gap = (await run.owner.journal.run(open_gaps))[slot.state.key][-1].window
            assert away - 60 <= gap.start <= away + 60
            assert back - 60 <= gap.end <= back + 60


@pytest.mark.slow("hours of service")
async def test_a_node_that_returns_while_it_is_still_polled_is_polled_once(tmp_path: Path) -> None:
    """Two polls of one stream would read the same window side by side."""
    world = World(seed=5, node_count=2, group_count=1, lines_per_second=4.0)
    node = world.node_ids[0]
    slow = Fault(kind=FaultKind.LATENCY, scope_id=node, seconds_min=10.0, seconds_max=10.0)
    async with running(tmp_path, world, targets={"nodes": world.node_ids}, faults=[slow]) as run:
        slot = next(slot for slot in run.service.slots if slot.state.key.scope_id == node)
        await run.until(lambda: bool(slot.state.open) and slot.is_polled)
        await left(run, "targets", nodes=(world.node_ids[1],))
        assert slot.is_polled
        await left(run, "targets", nodes=tuple(world.node_ids))
        again = next(slot for slot in run.service.slots if slot.state.key.scope_id == node)
        await run.until(lambda: (again.state.watermark or 0) > NOW + 60)
        assert again.failures == 0
        await assert_exact(run.owner, world)


@pytest.mark.slow("hours of service")
@pytest.mark.parametrize("how", ["polled", "waiting"])
async def test_what_was_read_of_a_node_that_leaves_in_the_middle_of_a_window_is_stored(
    tmp_path: Path, how: str
) -> None:
    """Whether its next page is under way, or waits for its next try: those before it were paid for."""
    world = World(seed=5, node_count=2, group_count=1, lines_per_second=4.0)
    node = world.node_ids[0]
    slow = Fault(kind=FaultKind.LATENCY, scope_id=node, seconds_min=5.0, seconds_max=5.0)
    fault = Fault(kind=FaultKind.HANG if how == "polled" else FaultKind.ERROR_500, scope_id=node)
    api = {"retry": {"base": "10ms", "attempts_max": 1}, "timeout": "10s"}
    async with running(tmp_path, world, targets={"nodes": world.node_ids}, faults=[slow], api=api) as run:
        slot = next(slot for slot in run.service.slots if slot.state.key.scope_id == node)
        await run.until(lambda: bool(slot.state.open))
        run.api.add_faults([fault])
        await run.until(lambda: slot.is_polled == (how == "polled") and bool(slot.state.open))
        await left(run, "targets", nodes=(world.node_ids[1],))
        await run.until(lambda: not slot.is_polled)
        gone = run.api.now()
        await run.until(lambda: run.api.now() > gone + 60)
        state = (await run.owner.journal.streams())[slot.state.key]
        assert not state.open
        assert state.watermark == state.sealed_to
        await assert_exact(run.owner, world)


@pytest.mark.parametrize("start", ["run --once", "a service"])
@pytest.mark.slow("hours of service", cases=2, fast=("run --once",))
async def test_what_was_read_of_a_node_that_is_gone_at_the_next_start_is_stored(tmp_path: Path, start: str) -> None:
    """A process was killed in the middle of a window, and its node was taken out of the configuration since."""
    world = World(seed=5, node_count=2, group_count=1, lines_per_second=4.0)
    node, other = world.node_ids
    hang = Fault(kind=FaultKind.HANG, scope_id=node, arrivals=(3,))
    async with simulator(world, faults=[hang]) as api:
        before = settings(tmp_path, api.base_url, targets={"nodes": [node]})
        async with await Owner.open(before, key=SIMULATOR_KEY) as owner:
            run = asyncio.create_task(owner.once().run())
            while calls(api, "ListSyslogs") < 3:
                await asyncio.sleep(0.01)
            run.cancel()
            with pytest.raises(asyncio.CancelledError):
                await run
            assert (await owner.journal.depth()).open_windows == 1
        after = settings(tmp_path, api.base_url, targets={"nodes": [other]})
        async with await Owner.open(after, key=SIMULATOR_KEY) as owner:
            if start == "run --once":
                await owner.once().run()
            else:
                await owner.service().start()
                await owner.shipper().drain()
            (left,) = (state for key, state in (await owner.journal.streams()).items() if key.scope_id == node)
            assert not left.open
            assert left.watermark == left.sealed_to
            rows = await owner.store.fetch(f"SELECT count() FROM syslogs WHERE node_id = '{node}'")
        assert rows[0][0] > 100
        assert left.collected_from is not None
        assert rows[0][0] == true_syslogs(world, [node], left.collected_from, left.watermark).total()
