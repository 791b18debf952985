"""Rows that the service shows behind a watermark: how many are found, how often, and for how many calls.

A simulated service of 80 minutes before 20 nodes, the same with rechecks and without. Time is simulated, the
simulator answers in the same thread.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

from collector.owner.instance import Owner, bring_up_to_date
from collector.settings import Settings
from collector.simulator.nodes import Profile
from collector.simulator.server import SIMULATOR_KEY, Simulator
from collector.simulator.service import SimulatorOptions
from collector.simulator.world import LateRows, World
from collector.store.embedded import EmbeddedStore
from collector.telemetry import log
from tests.simulation.machine import Shop, Wire
from tests.support import stored_columns, true_syslogs
from tests.support.virtual_clock import VirtualClock, VirtualLoop, run

NODES: Final = 20
START: Final = 1_760_000_000
MINUTE: Final = 60
RUN_SECONDS: Final = 80 * MINUTE
LATE_AT: Final = 30 * MINUTE
"""The late rows appear so long after the start."""
TIMES_MAX: Final = 2.0


@dataclass(frozen=True, slots=True)
class Case:
    """How late the rows of one node are."""

    name: str
    count: int
    begin: int
    end: int
    """Seconds that their events lie before the moment at which they appear."""


CASES: Final = (
    Case("300 rows behind one node's watermark", 300, 12 * MINUTE, 6 * MINUTE),
    Case("1,000 rows of one node after its checkpoint", 1_000, 8 * MINUTE, 5 * MINUTE),
)


@dataclass(frozen=True, slots=True)
class Result:
    """What one service did."""

    calls: int
    lost: int
    doubled: int


def measure(case: Case, recheck: list[str]) -> Result:
    """The service with these rechecks."""
    log.configure("error")
    loop = VirtualLoop()
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="pai-late-", dir=memory if memory.is_dir() else None) as name:
        store = asyncio.run(EmbeddedStore.open(Path(name) / "store"))
        try:
            return run(_live(Path(name), store, loop, case, recheck), loop)
        finally:
            asyncio.run(store.close())


async def _live(folder: Path, store: EmbeddedStore, loop: VirtualLoop, case: Case, recheck: list[str]) -> Result:
    world = World(6, 3 * NODES, 1, bursts=False)
    nodes = [node.node_id for node in world.nodes if node.profile is not Profile.BUSY][:NODES]
    settings = Settings(
        api={"base_url": "http://127.0.0.1:1"},
        store={"path": folder / "store", "flush_interval": "1m"},
        journal={"path": folder / "journal.db"},
        targets={"nodes": nodes},
        sources={"syslogs": {"initial_lookback": "20m", "recheck": recheck}},
    )
    clock = VirtualClock(loop, START)
    api = Simulator(world, SimulatorOptions(latency_seconds=(0.01, 0.02)), now=lambda: START + loop.now, clock=clock)
    Shop(store)
    await bring_up_to_date(store, settings)
    async with await Owner.open(
        settings, key=SIMULATOR_KEY, clock=clock, random=Random(6), transport=Wire(api, 30.0), store=store,
        threaded=False,
    ) as owner:  # fmt: skip
        owner.membership._is_exclusive = True
        service = owner.service()
        await service.start()
        stop = asyncio.Event()
        running = asyncio.create_task(service.run(stop))
        await asyncio.sleep(LATE_AT)
        now = START + LATE_AT
        world.add_late(LateRows(nodes[0], now - case.begin, now - case.end, case.count, now))
        await asyncio.sleep(RUN_SECONDS - LATE_AT)
        stop.set()
        await running
        (end,) = {min(state.watermark or 0 for state in (await owner.journal.streams()).values())}
    # Late rows that have not had their recheck yet would not be lost: all of these have had it.
    truth = true_syslogs(world, nodes, START - 10 * MINUTE, end)
    stored = Counter(
        tuple(row)
        for row in await store.fetch(
            f"SELECT {stored_columns()} FROM syslogs WHERE time >= {START - 10 * MINUTE} AND time < {end}"
        )
    )
    return Result(
        calls=api.stats["ListSyslogs"].calls,
        lost=(truth - stored).total(),
        doubled=(stored - truth).total(),
    )


def report() -> int:
    """Print every case; 1 where a row is lost or doubled, or rechecks cost more than was promised."""
    failed = False
    print(f"{NODES} nodes, {RUN_SECONDS // MINUTE} simulated minutes of service, ListSyslogs, default intervals")
    print("                                                 rechecks      calls    lost   doubled")
    for case in CASES:
        plain = measure(case, [])
        found = measure(case, ["15m", "6h"])
        for name, result in (("none", plain), ("15m, 6h", found)):
            print(f"{case.name:<47} {name:>10} {result.calls:>10,} {result.lost:>7,} {result.doubled:>9,}")
        times = found.calls / plain.calls
        print(f"{'':<47} {times:.2f} times the calls")
        failed |= bool(found.lost or found.doubled or plain.lost != case.count or times > TIMES_MAX)
    return int(failed)


if __name__ == "__main__":
    sys.exit(report())
