"""Collecting from a simulator, as the commands do it: settings, a run, and what is stored afterwards."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from collector.errors import StoreUnavailable
from collector.owner.instance import Owner
from collector.pipeline.run import RunReport
from collector.settings import Settings
from collector.simulator.account import Account
from collector.simulator.clock import SimulatorClock
from collector.simulator.faults import Fault
from collector.simulator.server import SIMULATOR_KEY, Simulator
from collector.simulator.service import SimulatorOptions
from collector.simulator.world import World
from collector.store.opening import open_store
from tests.support.store_template import copy_template
from tests.support.truth import stored_columns
from tests.support.unreliable_store import Unreliable

NOW = 1_760_000_000
"""2025-10-09T08:53:20Z: where the simulators' clocks stand."""
SETTLE = 60
LOOKBACK = 1800


def settings(folder: Path, base_url: str, **sections: Mapping[str, Any]) -> Settings:
    """As `configuration`, whose embedded store has its tables before it is opened for the first time."""
    made = configuration(folder, base_url, **sections)
    if not made.store.url:
        copy_template(made.store.path)
    return made


def configuration(folder: Path, base_url: str, **sections: Mapping[str, Any]) -> Settings:
    """A configuration before a simulator; `sections` are merged over it, section by section."""
    merged: dict[str, dict[str, Any]] = {
        "api": {"base_url": base_url, "retry": {"base": "10ms"}},
        "store": {"path": folder / "store", "flush_interval": "200ms"},
        "journal": {"path": folder / "journal.db"},
        "sources": {
            "syslogs": {"initial_lookback": f"{LOOKBACK}s", "settle": f"{SETTLE}s", "recheck": []},
            # Tests of usage name resource groups too; those of series switch it on.
            "node_metrics": {"enabled": False},
        },
    }
    for name, values in sections.items():
        merged.setdefault(name, {}).update(values)
    return Settings(**merged)


@asynccontextmanager
async def simulator(
    world: World,
    clock: SimulatorClock | None = None,
    *,
    account: Account | None = None,
    faults: Iterable[Fault] = (),
    **options: Any,
) -> AsyncIterator[Simulator]:
    """A simulator whose clock stands still at NOW unless another is given; `options` as of `SimulatorOptions`."""
    now = clock or SimulatorClock.frozen(NOW)
    async with Simulator(world, SimulatorOptions(**options), account=account, now=now, faults=faults) as running:
        yield running


async def run_once(configuration: Settings, *, key: str = SIMULATOR_KEY) -> RunReport:
    """Open everything, catch up, close, as `run --once` does."""
    async with await Owner.open(configuration, key=key) as owner:
        return await owner.once().run()


async def ship(configuration: Settings) -> None:
    """Bring to the store what waits in the journal, as the next process that collects does."""
    async with await Owner.open(configuration) as owner:
        await owner.shipper().drain()


async def fetch(configuration: Settings, sql: str, parameters: Mapping[str, object] | None = None) -> list[list[Any]]:
    """Rows of one query of the store, opened for it."""
    store = await open_store(configuration)
    try:
        return await store.fetch(sql, parameters)
    finally:
        await store.close()


async def stored_syslogs(configuration: Settings, region: str = "cn-hangzhou") -> Counter[tuple[Any, ...]]:
    """All stored log lines, every field the service sent, as a multiset."""
    sql = f"SELECT {stored_columns()} FROM syslogs WHERE region = {{r:String}}"
    rows = await fetch(configuration, sql, {"r": region})
    return Counter(tuple(row) for row in rows)


async def collect_unshipped(configuration: Settings) -> None:
    """Collect what is due into the journal while the store is away."""
    async with await Owner.open(configuration, key=SIMULATOR_KEY) as owner:
        owner.store = Unreliable(owner.store, away=1_000_000)
        with pytest.raises(StoreUnavailable):
            await owner.once().run()


def calls(running: Simulator, operation: str) -> int:
    """Calls that the simulator has counted."""
    return running.stats[operation].calls if operation in running.stats else 0
