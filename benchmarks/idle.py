"""What 20,000 streams cost while hardly any is due: seconds of CPU in a minute, and memory a stream.

The simulator answers in the same process, so what it takes for the few looks that are due is counted as well.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from collector.clock import SystemClock
from collector.owner.instance import Owner
from collector.settings import Settings
from collector.simulator.server import SIMULATOR_KEY, Simulator
from collector.simulator.service import SimulatorOptions
from collector.simulator.world import World
from collector.telemetry import log
from tests.simulation.machine import Wire

STREAMS: Final = 20_000
SECONDS: Final = 60.0
CPU_RATIO_MAX: Final = 0.10
PAGE_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class Idle:
    """What was measured."""

    cpu_ratio: float
    """Of one core."""
    calls: int
    """Made meanwhile."""
    bytes_a_stream: float


async def measure() -> Idle:
    """Start a service, let it look at every stream once, and then watch it for a minute."""
    log.configure("error")
    memory = "/dev/shm"
    with tempfile.TemporaryDirectory(prefix="pai-idle-", dir=memory if os.access(memory, os.W_OK) else None) as name:
        folder = Path(name)
        world = World(4, STREAMS, 1, density=0.01, bursts=False)
        clock = SystemClock()
        quotas = {"ListSyslogs": 10_000}
        api = Simulator(world, SimulatorOptions(quotas=quotas), now=clock.wall, clock=clock)
        settings = Settings(
            api={"base_url": "http://127.0.0.1:1", "quotas": quotas},
            store={"path": folder / "store"},
            journal={"path": folder / "journal.db"},
            targets={"nodes": world.node_ids},
            sources={
                "syslogs": {"interval": "1h", "interval_max": "1h", "initial_lookback": "1m", "settle": "10s",
                            "recheck": []},
            },
        )  # fmt: skip
        async with await Owner.open(settings, key=SIMULATOR_KEY, transport=Wire(api, 30.0)) as owner:
            before = _resident_bytes()
            service = owner.service()
            await service.start()
            stop = asyncio.Event()
            running = asyncio.create_task(service.run(stop))
            while any(slot.state.sealed_to is None for slot in service._slots.values()) and not running.done():
                await asyncio.sleep(1)
                if sys.stderr.isatty():
                    sys.stderr.write(f"\r{api.stats['ListSyslogs'].calls:,} of {STREAMS:,} streams begun ")
            await asyncio.sleep(15)
            after = _resident_bytes()
            calls, cpu, wall = api.stats["ListSyslogs"].calls, time.process_time(), time.monotonic()
            await asyncio.sleep(SECONDS)
            used, passed = time.process_time() - cpu, time.monotonic() - wall
            calls = api.stats["ListSyslogs"].calls - calls
            stop.set()
            await running
    return Idle(used / passed, calls, (after - before) / STREAMS)


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES


def report(result: Idle) -> int:
    """Print it; 1 when it is too much."""
    print(
        f"\n{STREAMS:,} streams, an hour's interval: {result.cpu_ratio:.1%} of a core with {result.calls} looks in "
        f"{SECONDS:g} s (at most {CPU_RATIO_MAX:.0%}), {result.bytes_a_stream / 1024:.1f} KiB a stream"
    )
    return int(result.cpu_ratio > CPU_RATIO_MAX)
