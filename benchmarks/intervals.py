"""Intervals that follow the data: how many calls a simulated day takes, and how fresh each node stays.

1,000 nodes, 5 % of them busy. The same day with a fixed interval of 30 s is run for an hour of it, since all of its
hours are alike. Time is simulated, the simulator answers in the same thread.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from collector.owner.instance import Owner, bring_up_to_date
from collector.settings import Settings
from collector.simulator.nodes import Profile
from collector.simulator.server import SIMULATOR_KEY, Simulator
from collector.simulator.service import SimulatorOptions
from collector.simulator.world import World
from collector.store.embedded import EmbeddedStore
from collector.telemetry import log
from tests.simulation.machine import Shop, Wire
from tests.support.virtual_clock import VirtualClock, VirtualLoop, run

NODES: Final = 1_000
BUSY: Final = 50
START: Final = 1_760_000_000
HOUR: Final = 3_600
SAMPLE_SECONDS: Final = 60
WARM_UP_SECONDS: Final = 2 * HOUR
"""In which every node finds its interval."""
RATIO_WANTED: Final = 5.0


@dataclass(slots=True)
class Day:
    """What one way of choosing intervals took."""

    hours: float
    calls: int = 0
    rows: int = 0
    behind: dict[str, float] = field(default_factory=dict)
    """Node -> the most it ever was behind, seconds, after the first look."""
    promise_seconds: float = 0.0
    refused: int = 0

    @property
    def calls_a_day(self) -> float:
        return self.calls / self.hours * 24


def measure(interval_max: str, hours: float) -> Day:
    """A day of the service with intervals from 30 s to `interval_max`."""
    log.configure("error")
    loop = VirtualLoop()
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="pai-day-", dir=memory if memory.is_dir() else None) as name:
        store = asyncio.run(EmbeddedStore.open(Path(name) / "store"))
        try:
            return run(_live(Path(name), store, loop, interval_max, hours), loop)
        finally:
            asyncio.run(store.close())


async def _live(folder: Path, store: EmbeddedStore, loop: VirtualLoop, interval_max: str, hours: float) -> Day:
    world = World(4, 3 * NODES, 1, bursts=False)
    nodes = _first(world, Profile.BUSY, BUSY) + _first(world, Profile.QUIET, NODES - BUSY)
    settings = Settings(
        api={"base_url": "http://127.0.0.1:1"},
        store={"path": folder / "store", "flush_interval": "1m"},
        journal={"path": folder / "journal.db"},
        targets={"nodes": nodes},
        sources={
            "syslogs": {
                "interval": "30s", "interval_max": interval_max, "settle": "60s", "initial_lookback": "2m",
                "recheck": [],
            },
        },
    )  # fmt: skip
    clock = VirtualClock(loop, START)
    api = Simulator(world, SimulatorOptions(latency_seconds=(0.01, 0.02)), now=lambda: START + loop.now, clock=clock)
    Shop(store)
    day = Day(hours)
    await bring_up_to_date(store, settings)
    async with await Owner.open(
        settings, key=SIMULATOR_KEY, clock=clock, transport=Wire(api, 30.0), store=store, threaded=False
    ) as owner:
        owner.membership._is_exclusive = True
        service = owner.service()
        await service.start()
        stop = asyncio.Event()
        running = asyncio.create_task(service.run(stop))
        while loop.now < hours * HOUR and not running.done():
            await asyncio.sleep(SAMPLE_SECONDS)
            _look(service, api.now(), day, is_warm=loop.now > WARM_UP_SECONDS or interval_max == "30s")
            _progress(loop.now, hours * HOUR)
        (facts,) = service.facts().sources
        day.promise_seconds = facts.freshness_promise_seconds
        stop.set()
        await running
    day.calls, day.refused = api.stats["ListSyslogs"].calls, api.stats["ListSyslogs"].refused
    day.rows = (await store.fetch("SELECT count() FROM syslogs"))[0][0]
    return day


def _first(world: World, profile: Profile, count: int) -> list[str]:
    return [node.node_id for node in world.nodes if node.profile is profile][:count]


def _look(service: Any, now: float, day: Day, *, is_warm: bool) -> None:
    for slot in service._slots.values():
        mark = slot.state.watermark
        if is_warm and mark is not None:
            node = slot.state.key.scope_id
            day.behind[node] = max(day.behind.get(node, 0.0), now - mark)


def _progress(now: float, end: float) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{now / HOUR:5.1f} of {end / HOUR:.0f} simulated hours ")
        sys.stderr.flush()


def report(adaptive: Day, fixed: Day) -> int:
    """Print both; 1 when the promise was broken, or too little was saved."""
    print(f"\n{NODES} nodes, {BUSY} of them busy, ListSyslogs, intervals from 30 s to 15 min against 30 s")
    print("             hours      calls   calls a day   log lines   furthest behind s   promised s   refused")
    for name, day in (("adaptive", adaptive), ("fixed", fixed)):
        print(
            f"{name:<12} {day.hours:>5g} {day.calls:>10,} {day.calls_a_day:>13,.0f} {day.rows:>11,} "
            f"{max(day.behind.values()):>19.0f} {day.promise_seconds:>12.0f} {day.refused:>9}"
        )
    ratio = fixed.calls_a_day / adaptive.calls_a_day
    late = _late(adaptive.behind.items(), adaptive.promise_seconds)
    print(f"{ratio:.1f} times fewer calls; {len(late)} of {len(adaptive.behind)} nodes ever later than promised")
    return int(ratio < RATIO_WANTED or bool(late) or len(adaptive.behind) < NODES)


def _late(behind: Iterable[tuple[str, float]], promise_seconds: float) -> list[str]:
    return [node for node, seconds in behind if seconds > promise_seconds]
