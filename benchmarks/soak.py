"""A service at full quota for many minutes: is its memory flat, its freshness steady, no call refused?

The simulator is a process of its own. 400 nodes at one look in 4 seconds ask for all of the 100 calls a second
that `ListSyslogs` takes.
"""

from __future__ import annotations

import asyncio
import os
import resource
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from collector.clock import SystemClock
from collector.owner.instance import Owner
from collector.settings import Settings
from collector.simulator.process import SimulatorProcess, simulator_process
from collector.simulator.server import SIMULATOR_KEY
from collector.telemetry import log

NODES = 400
GROUPS = 4
INTERVAL_SECONDS = 4
SAMPLE_SECONDS = 5.0
GROWTH_MAX = 1.05
"""Memory of the last quarter over that of the second: more is a leak. The first quarter fills caches."""
DRIFT_SECONDS_MAX = 5.0
PAGE_BYTES = resource.getpagesize()


@dataclass(frozen=True, slots=True)
class Sample:
    """The service at one moment."""

    seconds: float
    rss_bytes: int
    freshness_seconds: float
    """Of the stream of `syslogs` that is furthest behind."""
    calls: int
    refused: int
    rows: int
    ticks_missed: int


@dataclass(frozen=True, slots=True)
class Soak:
    """What a run showed."""

    samples: Sequence[Sample]
    most_in_a_second: int

    def quarter(self, number: int) -> Sequence[Sample]:
        """One of the four quarters, 0 first."""
        size = max(1, len(self.samples) // 4)
        return self.samples[number * size : (number + 1) * size if number < 3 else None]

    @property
    def mistakes(self) -> list[str]:
        """What a service that runs for months must not do; empty when it did none of it."""
        found = []
        memory = [median(sample.rss_bytes for sample in self.quarter(number)) for number in (1, 3)]
        if memory[1] > memory[0] * GROWTH_MAX:
            found.append(f"memory grew by {memory[1] / memory[0] - 1:.1%} between the second and the last quarter")
        fresh = [median(sample.freshness_seconds for sample in self.quarter(number)) for number in (1, 3)]
        if fresh[1] > fresh[0] + DRIFT_SECONDS_MAX:
            found.append(f"freshness went from {fresh[0]:.0f} to {fresh[1]:.0f} s")
        if self.samples[-1].refused:
            found.append(f"{self.samples[-1].refused} calls were refused")
        return found


async def soak(minutes: float) -> Soak:
    """Run the service for so long and look at it every few seconds."""
    log.configure("warning")
    arguments = ("--nodes", str(NODES), "--groups", str(GROUPS), "--latency", "0.01", "0.1")
    with tempfile.TemporaryDirectory(prefix="pai-soak-") as folder:
        async with simulator_process(*arguments) as api:
            world: dict[str, Any] = await api.told("world")
            settings = _settings(Path(folder), api.base_url, list(world["nodes"]), world["groups"])
            async with await Owner.open(settings, key=SIMULATOR_KEY) as owner:
                service = owner.service()
                await service.start()
                stop = asyncio.Event()
                running = asyncio.create_task(service.run(stop))
                samples: list[Sample] = []
                clock = SystemClock()
                start = clock.monotonic()
                while clock.monotonic() - start < minutes * 60 and not running.done():
                    await clock.sleep(SAMPLE_SECONDS)
                    samples.append(await _sample(owner, service, api, clock.monotonic() - start))
                    _progress(samples[-1], minutes * 60)
                stop.set()
                await running
            stats = await api.told("stats")
    return Soak(samples, stats["ListSyslogs"]["max_in_any_second"])


def _settings(folder: Path, base_url: str, nodes: list[str], groups: list[str]) -> Settings:
    return Settings(
        api={"base_url": base_url},
        store={"path": folder / "store", "flush_interval": "5s"},
        journal={"path": folder / "journal.db"},
        targets={"nodes": nodes, "resource_groups": groups},
        sources={
            "syslogs": {
                "interval": f"{INTERVAL_SECONDS}s", "interval_max": f"{INTERVAL_SECONDS}s", "settle": "10s",
                "initial_lookback": "1m", "recheck": [],
            },
            "user_metrics": {"interval": "10s"},
            "node_metrics": {"enabled": False},
        },
    )  # fmt: skip


async def _sample(owner: Owner, service: Any, api: SimulatorProcess, seconds: float) -> Sample:
    stats: dict[str, dict[str, Any]] = await api.told("stats")
    facts = {source.source: source for source in service.facts().sources}
    return Sample(
        seconds=seconds,
        rss_bytes=_resident_bytes(),
        freshness_seconds=facts["syslogs"].freshness_seconds or 0.0,
        calls=sum(each["calls"] for each in stats.values()),
        refused=sum(each["refused"] for each in stats.values()),
        rows=service.shipped.rows.get("syslogs", 0),
        ticks_missed=facts["syslogs"].ticks_missed,
    )


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES


def _progress(sample: Sample, seconds: float) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(
            f"\r{sample.seconds:5.0f} of {seconds:.0f} s  {sample.rss_bytes >> 20} MiB  {sample.calls:,} calls  "
            f"{sample.rows:,} rows  {sample.freshness_seconds:.0f} s behind "
        )
        sys.stderr.flush()


def report(result: Soak) -> int:
    """Print what was seen; 1 when it is not what a service that runs for months must show."""
    last = result.samples[-1]
    print(
        f"\n{NODES} nodes every {INTERVAL_SECONDS} s, {GROUPS} groups, {last.seconds / 60:.0f} minutes, "
        f"{os.cpu_count()} cores"
    )
    print("quarter   memory MiB   syslogs behind s, median / max   calls a second")
    for number in range(4):
        quarter = result.quarter(number)
        rate = (quarter[-1].calls - quarter[0].calls) / max(1.0, quarter[-1].seconds - quarter[0].seconds)
        fresh = [sample.freshness_seconds for sample in quarter]
        memory = median(sample.rss_bytes for sample in quarter) / (1 << 20)
        print(f"{number + 1:>7}   {memory:>10.0f}   {median(fresh):>18.0f} / {max(fresh):<9.0f}   {rate:>14.1f}")
    print(f"calls {last.calls:,}, refused {last.refused}, most in any second {result.most_in_a_second} of 100")
    print(f"log lines stored {last.rows:,}, looks that came an interval late {last.ticks_missed:,}")
    for mistake in result.mistakes:
        print(f"not right: {mistake}")
    return int(bool(result.mistakes))
