"""Rows that the service shows behind a watermark: found by the next recheck, stored once, for few calls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from collector.owner.instance import Owner
from collector.owner.measured import measured
from collector.settings import Settings
from collector.simulator.clock import SimulatorClock
from collector.simulator.server import Simulator
from collector.simulator.world import LateRows, World
from tests.support import (
    LOOKBACK,
    NOW,
    SETTLE,
    calls,
    differences,
    fetch,
    run_once,
    settings,
    simulator,
    stored_syslogs,
    true_syslogs,
)

NODES = 20
LATER = 1_200
"""Seconds between two runs, as long as the recheck is late."""


def configured(folder: Path, running: Simulator, world: World, recheck: list[str]) -> Settings:
    sources: dict[str, Any] = {
        "syslogs": {"initial_lookback": f"{LOOKBACK}s", "settle": f"{SETTLE}s", "recheck": recheck},
        "node_metrics": {"enabled": False},
    }
    return settings(folder, running.base_url, targets={"nodes": tuple(world.node_ids)}, sources=sources)


async def runs(folder: Path, recheck: list[str], late: int, begin: int, end: int) -> tuple[Settings, World, int]:
    """Two runs; between them `late` rows of one node appear in [NOW - begin, NOW - end). Returns the calls too."""
    world = World(41, NODES, 1, bursts=False, density=0.2)
    clock = SimulatorClock.frozen(NOW)
    async with simulator(world, clock) as api:
        configuration = configured(folder, api, world, recheck)
        await run_once(configuration)
        # Appears right behind the run.
        world.add_late(LateRows(world.node_ids[7], NOW - begin, NOW - end, late, NOW + 1))
        clock.advance(LATER)
        report = await run_once(configuration)
        assert not report.failures
        return configuration, world, calls(api, "ListSyslogs")


@pytest.mark.parametrize(
    ("late", "begin", "end"),
    [
        pytest.param(300, 880, 400, id="behind the watermark"),
        pytest.param(1_000, 600, SETTLE, id="after it", marks=pytest.mark.slow("late rows")),
    ],
)
@pytest.mark.slow("late rows")
async def test_late_rows_are_stored_once_by_the_next_recheck(tmp_path: Path, late: int, begin: int, end: int) -> None:
    """Every one of them, for at most twice the calls of the same runs without rechecks, which lose them all."""
    plain, world, plain_calls = await runs(tmp_path / "plain", [], late, begin, end)
    truth = true_syslogs(world, world.node_ids, NOW - LOOKBACK, NOW + LATER - SETTLE)
    assert (truth - await stored_syslogs(plain)).total() == late

    configuration, world, made = await runs(tmp_path / "rechecked", ["15m"], late, begin, end)
    assert not differences(truth, await stored_syslogs(configuration))
    assert made <= 2 * plain_calls, (made, plain_calls)
    ((shown,),) = await fetch(configuration, "SELECT sum(calls) FROM api_calls WHERE operation = 'ListSyslogs'")
    assert shown == made


@pytest.mark.slow("late rows")
async def test_rechecks_are_counted_with_what_they_find(tmp_path: Path) -> None:
    """The calls that rechecks took and the rows that they found are told by status and the metrics."""
    configuration, _, made = await runs(tmp_path, ["15m"], 300, 880, 400)
    async with await Owner.open(configuration) as owner:
        counted = await owner.journal.counters()
        gauges = {gauge.name: gauge for gauge in await measured(owner)}
    assert counted["recheck_rows/ListSyslogs"] == 300
    assert NODES <= counted["recheck_calls/ListSyslogs"] < made / 2
    assert gauges["late_rows"].value == 300
    assert gauges["recheck_calls"].labels == {"operation": "ListSyslogs"}
