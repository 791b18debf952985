"""A simulated week of service: whatever goes wrong, what is stored is the truth, once, and every call is metered."""

from __future__ import annotations

import asyncio
import gc
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from collector.service.serving import reconfigure
from collector.settings import Settings
from collector.simulator.faults import Fault, FaultKind
from collector.simulator.server import Simulator
from collector.simulator.service import SimulatorOptions
from collector.simulator.world import World
from tests.simulation.machine import Machine, Shop, counted, digest_of
from tests.support import NOW, SYSLOG_COLUMNS, differences, settings, true_syslogs
from tests.support.store_template import open_migrated
from tests.support.virtual_clock import VirtualClock, VirtualLoop, run

HOUR = 3600
DAY = 24 * HOUR
SETTLE = 60
QUOTA = {"ListSyslogs": 2, "GetUserViewMetrics": 2}
FLUSH_SECONDS = 300.0
HANDLING_SECONDS = 120.0
"""What waiting for the quota and for slow answers may add to the freshness that is promised."""
NODES, GROUPS = 40, 8
FIRST_NODES = 30
"""The others come with a reload."""


class Story:
    """What happens to one service, and what has to be so meanwhile."""

    def __init__(self, machine: Machine, world: World, seed: int, days: float) -> None:
        self.machine = machine
        self.world = world
        self.days = days
        self.random = Random(seed)
        self.nodes = world.node_ids[:FIRST_NODES]
        self.quotas = dict(QUOTA)
        self.checked: dict[str, int] = {}
        self.objects: list[int] = []

    def configuration(self) -> Settings:
        found = settings(
            self.machine.folder, "http://127.0.0.1:1",
            api={"base_url": "http://127.0.0.1:1", "quotas": self.quotas, "timeout": "30s", "retry": {}},
            targets={"nodes": self.nodes, "resource_groups": self.world.group_ids},
            store={"path": self.machine.folder / "store", },
            sources={
                "syslogs": {
                    "interval": "10m", "interval_max": "1h", "initial_lookback": "30m", "settle": f"{SETTLE}s",
                    "recheck": [],
                },
                "user_metrics": {"interval": "1h"},
            },
        )  # fmt: skip
        # Longer than a configuration may say: the engine's inserts are what a simulated week spends its time on.
        return found.model_copy(
            update={"store": found.store.model_copy(update={"flush_interval_seconds": FLUSH_SECONDS})}
        )

    async def tell(self) -> None:
        """The whole story: incidents in an order and at times that the seed decides, and checks after each."""
        incidents: list[Callable[[], Awaitable[None]]] = [
            self.outage, self.revoked_key, self.store_away, self.smaller_quota, self.restart, self.power_loss,
            self.clock_ahead_and_back, self.hanging_node, self.errors, self.odd_answers, self.more_nodes,
            self.power_loss,
        ]  # fmt: skip
        self.random.shuffle(incidents)
        pause = self.days * DAY / len(incidents)
        await self.machine.start(self.configuration())
        begun = self.machine.clock.monotonic()
        for number, incident in enumerate(incidents):
            until = begun + pause * number + self.random.uniform(0.1, 0.3) * pause
            await self.pass_time(until - self.machine.clock.monotonic())
            print(f"{(self.machine.clock.monotonic() - begun) / HOUR:6.1f} h  {incident.__name__}", flush=True)
            await incident()
            await self.pass_time(begun + pause * (number + 0.8) - self.machine.clock.monotonic())
            await self.check()
            if pause > 8 * HOUR:
                # Whatever it was, an hour's pause of what was stopped is over by now.
                self.check_freshness()
        await self.pass_time(begun + self.days * DAY - self.machine.clock.monotonic())
        await self.check()
        await self.machine.end()

    async def pass_time(self, seconds: float) -> None:
        left = seconds
        while left > 0:
            await asyncio.sleep(min(left, HOUR))
            left -= HOUR
            assert self.machine.failed is None, self.machine.failed

    # What happens

    def a_while(self) -> float:
        """Seconds that something lasts: 2 to 8 % of a part of the story."""
        return self.random.uniform(0.1, 0.4) * self.days * DAY / 12

    async def outage(self) -> None:
        self.machine.wire.is_cut = True
        await self.pass_time(self.a_while())
        self.machine.wire.is_cut = False

    async def revoked_key(self) -> None:
        api = self.machine.api
        good, before = api.credentials, sum(stats.calls for stats in api.stats.values())
        api.credentials = good.changed({"key": "sk-another"})
        seconds = self.a_while()
        await self.pass_time(seconds)
        # Probes come after 5 minutes, doubling to an hour; each of them is paid for.
        burnt = sum(stats.calls for stats in api.stats.values()) - before
        assert burnt <= 6 + seconds / HOUR + 8, burnt
        api.credentials = good

    async def store_away(self) -> None:
        self.machine.shop.is_away = True
        await self.pass_time(self.a_while())
        self.machine.shop.is_away = False

    async def smaller_quota(self) -> None:
        self.quotas = {"ListSyslogs": 1, "GetUserViewMetrics": 1}
        assert await self.reload()
        await self.pass_time(self.a_while())
        self.quotas = dict(QUOTA)
        assert await self.reload()

    async def restart(self) -> None:
        await self.machine.end()
        await self.pass_time_down(self.a_while())
        await self.machine.start(self.configuration())

    async def power_loss(self) -> None:
        # In the midst of whatever it does.
        await asyncio.sleep(self.random.uniform(0, 600))
        await self.machine.lose_power()
        await self.pass_time_down(self.random.uniform(0, 900))
        await self.machine.start(self.configuration())

    async def pass_time_down(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def clock_ahead_and_back(self) -> None:
        self.machine.clock.step_wall(DAY)
        await self.pass_time(self.a_while())
        await self.check()
        self.machine.clock.step_wall(-DAY)

    async def hanging_node(self) -> None:
        self.machine.api.faults = [Fault(kind=FaultKind.HANG, scope_id=self.random.choice(self.nodes))]
        await self.pass_time(self.a_while())
        self.machine.api.faults = []

    async def errors(self) -> None:
        self.machine.api.faults = [
            Fault(kind=FaultKind.ERROR_500, probability=0.2),
            Fault(kind=FaultKind.RESET_BEFORE, probability=0.1),
            Fault(kind=FaultKind.LATENCY, probability=0.2, seconds_max=45.0),
            Fault(kind=FaultKind.THROTTLE_429, probability=0.02, retry_after_seconds=3.0),
        ]
        await self.pass_time(self.a_while())
        self.machine.api.faults = []

    async def odd_answers(self) -> None:
        self.machine.api.faults = [
            Fault(kind=kind, probability=0.03)
            for kind in (
                FaultKind.HTML_200, FaultKind.INVALID_JSON, FaultKind.EMPTY_BODY, FaultKind.TRUNCATED,
                FaultKind.CODE_IN_200, FaultKind.REPEATED_TOKEN, FaultKind.EXPIRED_TOKEN, FaultKind.DISORDER,
            )
        ]  # fmt: skip
        await self.pass_time(self.a_while())
        self.machine.api.faults = []

    async def more_nodes(self) -> None:
        self.nodes = self.world.node_ids
        assert await self.reload()

    async def reload(self) -> bool:
        return await reconfigure(self.machine.owner, self.configuration)

    # What has to be so

    async def check(self) -> None:
        """Up to each watermark everything is stored once, the quota was kept, and every call is in the meter."""
        owner, api = self.machine.owner, self.machine.api
        assert self.machine.failed is None, self.machine.failed
        bounds: dict[str, tuple[int, int]] = {}
        for key, state in (await owner.journal.streams()).items():
            if key.operation == "ListSyslogs" and state.watermark is not None:
                assert state.collected_from is not None
                assert state.watermark <= api.now() - SETTLE + 1
                since = self.checked.get(key.scope_id, state.collected_from)
                assert since <= state.watermark, f"the watermark of {key.scope_id} went back"
                bounds[key.scope_id] = (since, state.watermark)
        if not self.machine.shop.is_away:
            await self._check_rows(bounds)
            self.checked |= {node_id: end for node_id, (_, end) in bounds.items()}
        for operation, limit in QUOTA.items():
            assert api.max_in_any_second(operation) <= limit, operation
            assert api.stats[operation].refused == 0, operation
        # A call on its way is reserved, so it is in both or will be: the meter is never behind.
        (month,) = {"2025-10"}
        metered = {name: calls for name, calls, _ in await owner.journal.spend(month)}
        for name, stats in api.stats.items():
            ahead = metered.get(name, 0) - stats.calls
            assert 0 <= ahead <= 256, (name, metered.get(name, 0), stats.calls)
        gc.collect()
        ours = sum(
            (module := str(type(each).__module__)).startswith("collector.") and ".simulator" not in module
            for each in gc.get_objects()
        )
        self.objects.append(ours // (len(self.nodes) + GROUPS))

    def check_freshness(self) -> None:
        """Every stream is as fresh as was promised, and works."""
        for source in self.machine.service.facts().sources:
            assert set(source.states) <= {"collected"}, source
            assert source.freshness_seconds is not None
            assert source.freshness_seconds <= source.freshness_promise_seconds + HANDLING_SECONDS, source

    async def _check_rows(self, bounds: dict[str, tuple[int, int]]) -> None:
        """Of each node, between its two times, the store has what was logged, and each line once."""
        columns = ", ".join(f"toUnixTimestamp({c})" if c in ("time", "receive_time") else c for c in SYSLOG_COLUMNS)
        first, last = min(start for start, _ in bounds.values()), max(end for _, end in bounds.values())
        rows = await self.machine.shop.store.fetch(
            f"SELECT {columns} FROM syslogs WHERE time >= {{start:UInt32}} AND time < {{end:UInt32}}",
            {"start": first, "end": last},
        )
        time, node = SYSLOG_COLUMNS.index("time"), SYSLOG_COLUMNS.index("node_id")
        stored = counted([row for row in rows if bounds[row[node]][0] <= row[time] < bounds[row[node]][1]])
        truth: Counter[tuple[Any, ...]] = Counter()
        for node_id, (start, end) in bounds.items():
            truth += true_syslogs(self.world, [node_id], start, end)
        assert not differences(truth, stored)


def told(folder: Path, seed: int, days: float) -> tuple[str, Story]:
    """Live through the story of a seed; what came of it, as a digest, and the story."""
    folder.mkdir(parents=True)
    loop = VirtualLoop()
    # The engine is opened before and closed after, in time that passes.
    store = asyncio.run(open_migrated(folder / "store"))
    try:
        world = World(seed, NODES, GROUPS, density=0.02, bursts=False)
        clock = VirtualClock(loop, NOW)

        async def live() -> tuple[str, Story]:
            task = asyncio.current_task()
            assert task is not None
            task.set_name("story")
            api = Simulator(
                world,
                SimulatorOptions(quotas=QUOTA, latency_seconds=(0.005, 0.02), seed=seed),
                now=lambda: NOW + loop.now,
                clock=clock,
            )
            machine = Machine(folder, api, Shop(store), clock, seed)
            story = Story(machine, world, seed, days)
            await story.tell()
            rows = await store.fetch("SELECT * EXCEPT ingested_at FROM syslogs ORDER BY ALL")
            bounds = {}
            for node_id, end in story.checked.items():
                first = await store.fetch(
                    "SELECT toUnixTimestamp(min(collected_from)) FROM watermarks WHERE scope_id = {node:String}",
                    {"node": node_id},
                )
                bounds[node_id] = (first[0][0], end)
            await story._check_rows(bounds)
            (metered,) = await store.fetch("SELECT sum(calls) FROM api_calls")
            assert metered[0] >= sum(stats.calls for stats in api.stats.values())
            return digest_of(api, rows), story

        return run(live(), loop)
    finally:
        asyncio.run(store.close())


@pytest.fixture
def folder() -> Iterator[Path]:
    """In memory where there is such a place: the disk of a simulated machine need not be this one's."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as name:
        yield Path(name)


@pytest.mark.timeout(1800)
@pytest.mark.slow("simulated weeks")
def test_a_week_of_incidents_leaves_the_truth(folder: Path) -> None:
    """Outages, refused keys, lost power, clocks that jump, errors: nothing is lost, doubled or unmetered."""
    days = float(os.environ.get("SIMULATED_DAYS", "7"))
    _, story = told(folder / "week", seed=1, days=days)
    assert len(story.checked) == NODES
    # Memory a stream does not grow from the first days to the last.
    half = len(story.objects) // 2
    assert max(story.objects[half:]) <= 1.25 * max(story.objects[:half])


@pytest.mark.slow("simulated weeks")
@pytest.mark.parametrize("seed", [7])
def test_the_same_seed_gives_the_same_run(folder: Path, seed: int) -> None:
    """Every call at the same moment, every row the same: a failure can be looked at again."""
    first, _ = told(folder / "first", seed, days=0.25)
    second, _ = told(folder / "second", seed, days=0.25)
    assert first == second
