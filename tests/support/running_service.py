"""Time that passes quickly: a service of hours beside a simulator of hours, in seconds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from collector.clock import SystemClock
from collector.owner.instance import Owner
from collector.pipeline.facts import SourceFacts
from collector.pipeline.service import Service
from collector.simulator.clock import SimulatorClock
from collector.simulator.faults import Fault
from collector.simulator.server import SIMULATOR_KEY, Simulator
from collector.simulator.world import World
from tests.support import NOW, settings

RATE = 40.0
"""Seconds that pass in one second of the machine."""
PATIENCE_SECONDS = 180.0
"""Of the machine: longer than anything takes that happens at all."""


class FastClock:
    """The machine's clock, as it would be on a machine on which `RATE` seconds pass in one."""

    def __init__(self) -> None:
        self._clock = SystemClock()

    def wall(self) -> float:
        return NOW + self._clock.monotonic() * RATE

    def monotonic(self) -> float:
        return self._clock.monotonic() * RATE

    async def sleep(self, seconds: float) -> None:
        await self._clock.sleep(seconds / RATE)


@dataclass
class Running:
    """A service that runs before a simulator."""

    api: Simulator
    owner: Owner
    service: Service
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    def source(self, operation: str) -> SourceFacts:
        """The facts of one operation."""
        return next(facts for facts in self.service.facts().sources if facts.operation == operation)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something is so; AssertionError when it never is."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not condition():
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise AssertionError(f"never so: {self.service.facts()}") from None


@asynccontextmanager
async def running(
    folder: Path, world: World, *, key: str = SIMULATOR_KEY, faults: Sequence[Fault] = (), **sections: Any
) -> AsyncIterator[Running]:
    """A service of small intervals, started and, at the end, stopped in good order."""
    clock = FastClock()
    sources = {
        "syslogs": {
            "interval": "10s", "interval_max": "30s", "initial_lookback": "5m", "settle": "60s", "recheck": [],
        },
        "user_metrics": {"interval": "30s"},
        "node_metrics": {"enabled": False},
    }  # fmt: skip
    sections["sources"] = sources | sections.get("sources", {})
    async with Simulator(world, now=SimulatorClock(NOW, clock=clock), clock=clock, faults=faults) as api:
        configuration = settings(folder, api.base_url, **sections)
        async with await Owner.open(configuration, key=key, clock=clock) as owner:
            service = owner.service()
            await service.start()
            run = Running(api, owner, service)
            task = asyncio.create_task(service.run(run.stop))
            try:
                yield run
            finally:
                run.stop.set()
                await task
