"""What a service tells about itself in hours in which nothing goes wrong, looked at every few seconds."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from collector.owner.condition import judged
from collector.owner.instance import Owner, bring_up_to_date
from collector.owner.status import status
from collector.settings import Settings
from collector.simulator.server import SIMULATOR_KEY, Simulator
from collector.simulator.service import SimulatorOptions
from collector.simulator.world import World
from tests.simulation.machine import Machine, Shop, Wire
from tests.support import NOW
from tests.support.store_template import open_migrated
from tests.support.virtual_clock import VirtualClock, VirtualLoop, run

HOUR = 3600
LOOK_SECONDS = 7
NODES = 500
HANDLING_SECONDS = 3
"""What a slow answer and a full second may add."""


@pytest.mark.slow("simulated hours of service")
def test_a_service_that_is_well_says_so_at_every_moment(tmp_path: Path) -> None:
    """Each source stays as fresh as it promises, and the headline never speaks of anything that is wrong."""
    loop = VirtualLoop()
    store = asyncio.run(open_migrated(tmp_path / "store"))
    clock = VirtualClock(loop, NOW)
    settings = Settings(
        api={"retry": {}},
        store={"path": tmp_path / "store", "flush_interval": "1m"},
        journal={"path": tmp_path / "journal.db"},
        targets={"discover": ["clusters", "resource_groups", "jobs", "services"]},
        sources={"user_metrics": {"interval": "10m"}},
    )

    async def live() -> None:
        api = Simulator(
            World(7, 2, 2, density=0.05),
            SimulatorOptions(latency_seconds=(0.1, 0.5), seed=7),
            now=lambda: NOW + loop.now,
            clock=clock,
        )
        machine = Machine(tmp_path, api, Shop(store), clock, 7)
        await machine.start(settings)
        # By then everything was discovered and looked at, also what has a look each ten minutes.
        await asyncio.sleep(HOUR)
        while loop.now < 2 * HOUR:
            await asyncio.sleep(LOOK_SECONDS)
            told = await status(machine.owner)
            for source in told.sources:
                assert source.freshness_seconds is not None, source
                assert source.freshness_seconds <= source.freshness_promise_seconds + HANDLING_SECONDS, source
                assert set(source.states) <= {"collected"}, source
            assert told.is_well, told.headline
        await machine.end()

    try:
        run(live(), loop)
    finally:
        asyncio.run(store.close())


@pytest.mark.slow("simulated hours of service")
def test_a_run_against_a_service_that_is_away_ends_soon(tmp_path: Path) -> None:
    """However many streams there are: they do not wait for their deadlines one after the other."""
    loop = VirtualLoop()
    store = asyncio.run(open_migrated(tmp_path / "store"))
    Shop(store)
    clock = VirtualClock(loop, NOW)
    world = World(7, NODES, 1)
    settings = Settings(
        api={"retry": {}},
        store={"path": tmp_path / "store"},
        journal={"path": tmp_path / "journal.db"},
        targets={"nodes": world.node_ids},
    )

    async def live() -> None:
        api = Simulator(world, now=lambda: NOW + loop.now, clock=clock)
        wire = Wire(api, 30.0)
        wire.is_cut = True
        await bring_up_to_date(store, settings)
        async with await Owner.open(
            settings, key=SIMULATOR_KEY, clock=clock, transport=wire, store=store, threaded=False
        ) as owner:
            report = await owner.once().run()
            assert len(report.failures) == NODES
            assert all("wire is cut" in str(error) for error in report.failures.values())

    try:
        run(live(), loop)
        assert loop.now < 2 * 60
    finally:
        asyncio.run(store.close())


@pytest.mark.slow("simulated hours of service")
def test_a_service_that_is_away_is_told_once(tmp_path: Path) -> None:
    """Many streams of an operation that is away are one line, and what is told is that it is away, since when."""
    loop = VirtualLoop()
    store = asyncio.run(open_migrated(tmp_path / "store"))
    clock = VirtualClock(loop, NOW)
    world = World(7, 100, 1, density=0.01)
    settings = Settings(
        api={"retry": {}},
        store={"path": tmp_path / "store", "flush_interval": "1m"},
        journal={"path": tmp_path / "journal.db"},
        targets={"nodes": world.node_ids},
        sources={"syslogs": {"recheck": []}},
    )

    async def live() -> None:
        api = Simulator(world, SimulatorOptions(latency_seconds=(0.1, 0.5)), now=lambda: NOW + loop.now, clock=clock)
        machine = Machine(tmp_path, api, Shop(store), clock, 7)
        await machine.start(settings)
        await asyncio.sleep(600)
        assert (await status(machine.owner)).is_well
        machine.wire.is_cut = True
        begun = api.now()
        await asyncio.sleep(900)
        (stop,) = machine.service.facts().stops
        assert (stop.what, stop.operation) == ("circuit", "ListSyslogs")
        assert begun <= stop.since <= begun + 60
        assert stop.next_try is not None
        assert stop.next_try - api.now() <= 61
        assert "wire is cut" in stop.error
        told = await status(machine.owner)
        assert told.headline.startswith("ListSyslogs keeps failing; every stream fails")
        assert not (await judged(machine.owner)).is_ready
        assert machine.service.facts().sources[0].states["failing"] > 10
        machine.wire.is_cut = False
        await asyncio.sleep(1200)
        assert (await status(machine.owner)).is_well
        assert (await judged(machine.owner)).is_ready
        await machine.end()

    try:
        with capture_logs() as logs:
            run(live(), loop)
        events = Counter(line["event"] for line in logs)
        assert events["circuit_opened"] == events["circuit_closed"] == 1
        # Whoever was just then over its deadline may still say so.
        assert events["stream_failed"] == events["stream_recovered"] <= 3
    finally:
        asyncio.run(store.close())
