"""SIGKILL at random points: nothing lost, nothing doubled, nothing bought twice."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest

from collector.journal.inspect import contents
from collector.settings import load
from collector.simulator.process import SimulatorProcess, simulator_process
from collector.simulator.server import SIMULATOR_KEY
from collector.simulator.world import World
from tests.support import LOOKBACK, NOW, SETTLE, differences, fetch, stored_syslogs, true_syslogs

FEW_KILLS, MANY_KILLS = (3, 4, 2.0), (30, 16, 4.0)
"""Kills, nodes, and lines a second of each: enough pages for a run to last until its last kill."""
SEED = 31
RUNS_MAX_A_KILL = 3
FIRST_KILL_SECONDS = (0.5, 2.5)
"""From the start of a process: from before its journal is open until it is well under way."""


@pytest.mark.parametrize(
    ("wanted", "nodes", "lines_per_second"),
    [
        pytest.param(*FEW_KILLS, id="few"),
        pytest.param(*MANY_KILLS, id="many", marks=pytest.mark.slow("kills", cases=MANY_KILLS[0])),
    ],
)
async def test_kills_lose_double_and_rebuy_nothing(
    tmp_path: Path, wanted: int, nodes: int, lines_per_second: float
) -> None:
    """After each SIGKILL the next run goes on; rows equal the truth, calls are those needed plus those in flight."""
    world = World(SEED, nodes, 2, lines_per_second=lines_per_second)
    random = Random(SEED)
    runs_max = wanted * RUNS_MAX_A_KILL
    sim = (
        "--seed", str(SEED), "--nodes", str(nodes), "--lines-per-second", str(lines_per_second), "--start", str(NOW),
        "--rate", "0",
    )  # fmt: skip
    async with simulator_process(*sim) as api:
        undisturbed = configure(tmp_path / "undisturbed", api, world)
        assert await run(undisturbed) == 0
        needed = await counted(api)
    async with simulator_process(*sim, "--latency", "0.2", "0.5") as api:
        path = configure(tmp_path / "killed", api, world)
        journal = path.parent / "data" / "journal.db"
        unsettled: Counter[str] = Counter()
        kills = 0
        for _ in range(runs_max):
            if kills < wanted:
                status = await run(path, kill_after=random.uniform(*FIRST_KILL_SECONDS))
            else:
                status = await run(path)
            if status == 0:
                break
            assert status == -9
            kills += 1
            unsettled += left_open(journal)
        else:
            raise AssertionError(f"not done after {runs_max} runs")
        made = await counted(api)

        settings = load(path, {})
        truth = true_syslogs(world, world.node_ids, NOW - LOOKBACK, NOW - SETTLE)
        assert not differences(truth, await stored_syslogs(settings))
        ticks = await fetch(settings, "SELECT count() FROM resource_group_metrics GROUP BY resource_group_id, time")
        assert ticks == [[1], [1]]
        metered: dict[str, int] = {
            operation: calls
            for operation, calls in await fetch(settings, "SELECT operation, sum(calls) FROM api_calls GROUP BY 1")
        }
        print(
            f"kills {kills}, needed {dict(needed)}, made {dict(made)}, unsettled {dict(unsettled)}, metered {metered}"
        )
        for operation, calls in made.items():
            assert calls <= needed[operation] + unsettled.get(operation, 0)
            assert calls <= metered.get(operation, 0) <= calls + unsettled.get(operation, 0)
        assert kills >= wanted - wanted // 5
        assert contents(journal)["chunks"] == []


def configure(folder: Path, api: SimulatorProcess, world: World) -> Path:
    folder.mkdir()
    path = folder / "collector.toml"
    path.write_text(
        f"""
        [api]
        base_url = "{api.base_url}"
        concurrency_max = 8
        [store]
        flush_interval = "300ms"
        [targets]
        nodes = {world.node_ids}
        resource_groups = {world.group_ids}
        [sources.syslogs]
        initial_lookback = "{LOOKBACK}s"
        settle = "{SETTLE}s"
        recheck = []
        """
    )
    return path


async def run(path: Path, *, kill_after: float | None = None) -> int:
    """One `run --once`, killed after so many seconds; returns its exit status."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "collector", "run", "--once", "--config", str(path), "--log-format", "json",
        env=os.environ | {"DASHSCOPE_API_KEY": SIMULATOR_KEY}, stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with asyncio.timeout(kill_after if kill_after is not None else 300):
            return await process.wait()
    except TimeoutError:
        process.kill()
        return await process.wait()


async def counted(api: SimulatorProcess) -> Counter[str]:
    stats: dict[str, dict[str, Any]] = await api.told("stats")
    return Counter({operation: facts["calls"] for operation, facts in stats.items()})


def left_open(journal: Path) -> Counter[str]:
    """Calls that a killed process had let out and not settled."""
    if not journal.exists():
        return Counter()
    db = sqlite3.connect(journal)
    try:
        return Counter(dict(db.execute("SELECT operation, count(*) FROM reserved GROUP BY 1")))
    except sqlite3.OperationalError:
        # Killed before its tables were made.
        return Counter()
    finally:
        db.close()
