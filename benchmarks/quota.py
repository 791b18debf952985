"""How much of a quota is used while there is work, and whether it is ever passed, as the service counts.

A simulator in another process answers after 20 to 200 ms. Its own count of arrivals is read twice,
some seconds apart, while every stream still has pages to read.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from collector.owner.instance import Owner
from collector.settings import Settings
from collector.simulator.process import SimulatorProcess, simulator_process
from collector.simulator.server import SIMULATOR_KEY
from collector.simulator.world import World

OPERATION = "ListSyslogs"
NODES = 50
WARM_UP_SECONDS = 2.5


@dataclass(frozen=True, slots=True)
class QuotaResult:
    limit: int
    used_ratio: float
    max_in_any_second: int
    refused: int


async def measure(limit: int, seconds: float, seed: int) -> QuotaResult:
    """One run at `limit` requests a second, measured for `seconds`."""
    world = World(seed, NODES, 1)
    arguments = [
        "--seed", str(seed), "--nodes", str(NODES), "--lines-per-second", "20", "--no-bursts", "--quota",
        f"{OPERATION}={limit}", "--latency", "0.02", "0.2",
    ]  # fmt: skip
    async with simulator_process(*arguments) as api:
        with tempfile.TemporaryDirectory() as folder:
            settings = Settings(
                api={"base_url": api.base_url, "quotas": {OPERATION: limit}},
                store={"path": Path(folder) / "store"},
                journal={"path": Path(folder) / "journal.db"},
                targets={"nodes": tuple(world.node_ids)},
            )
            async with await Owner.open(settings, key=SIMULATOR_KEY) as owner:
                running = asyncio.create_task(owner.once().run())
                await asyncio.sleep(WARM_UP_SECONDS)
                first, started = await _calls(api), time.monotonic()
                await asyncio.sleep(seconds)
                last, ended = await _calls(api), time.monotonic()
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)
            stats = (await api.told("stats"))[OPERATION]
    return QuotaResult(limit, (last - first) / (ended - started) / limit, stats["max_in_any_second"], stats["refused"])


async def _calls(api: SimulatorProcess) -> int:
    stats = await api.told("stats")
    return int(stats[OPERATION]["calls"])
