"""The quota as the service counts it: fifty nodes at once, and no sliding second above the limit."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
from pathlib import Path

import pytest

from collector.owner.instance import Owner
from collector.simulator.process import simulator_process
from collector.simulator.server import SIMULATOR_KEY
from collector.simulator.world import World
from tests.support import NOW, settings
from tests.support.virtual_clock import ManualClock

NODES = 50


@pytest.mark.slow("quotas")
@pytest.mark.parametrize(("limit", "lines_per_second"), [(100, 0.8), (10, 0.04)])
async def test_no_sliding_second_ever_holds_more_than_the_limit(
    tmp_path: Path, limit: int, lines_per_second: float
) -> None:
    """With answers after 20 to 200 ms the server counts at most the limit and refuses nothing."""
    world = World(3, NODES, 1, lines_per_second=lines_per_second, bursts=False)
    arguments = [
        "--seed", "3", "--nodes", str(NODES), "--lines-per-second", str(lines_per_second), "--no-bursts",
        "--quota", f"ListSyslogs={limit}", "--latency", "0.02", "0.2", "--start", str(NOW), "--rate", "0",
    ]  # fmt: skip
    async with simulator_process(*arguments) as api:
        path = tmp_path / "collector.toml"
        path.write_text(
            f"""
            [api]
            base_url = "{api.base_url}"
            quotas = {{ ListSyslogs = {limit} }}
            [targets]
            nodes = {world.node_ids}
            [sources.syslogs]
            initial_lookback = "30m"
            recheck = []
            """
        )
        # The collector stands back behind the simulator: a service is not starved by its clients' machines.
        process = await asyncio.create_subprocess_exec(
            "nice", "-n", "10", sys.executable, "-m", "collector", "run", "--once", "--config", str(path),
            env=os.environ | {"DASHSCOPE_API_KEY": SIMULATOR_KEY}, stdout=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        assert await process.wait() == 0
        stats = (await api.told("stats"))["ListSyslogs"]

    assert stats["calls"] > limit
    assert stats["max_in_any_second"] <= limit
    assert stats["refused"] == 0


@pytest.mark.slow("quotas")
async def test_a_restarted_process_honours_what_the_one_before_sent(tmp_path: Path) -> None:
    """Runs that follow each other at once share the quota's second, whether they ended cleanly or not."""
    limit = 5
    arguments = ["--seed", "3", "--nodes", "5", "--quota", f"ListSyslogs={limit}", "--start", str(NOW), "--rate", "60"]
    async with simulator_process(*arguments) as api:
        configuration = settings(
            tmp_path,
            api.base_url,
            api={"base_url": api.base_url, "quotas": {"ListSyslogs": limit}},
            targets={"nodes": tuple(World(3, 5, 1).node_ids)},
            sources={"syslogs": {"initial_lookback": "90s", "settle": "60s", "recheck": []}},
        )
        for _ in range(4):
            async with await Owner.open(configuration, key=SIMULATOR_KEY) as owner:
                assert not (await owner.once().run()).failures
        stats = (await api.told("stats"))["ListSyslogs"]

    assert stats["calls"] >= 4 * limit
    assert stats["max_in_any_second"] <= limit
    assert stats["refused"] == 0


async def test_after_a_kill_every_token_counts_as_just_spent(tmp_path: Path) -> None:
    """Nobody knows what a killed process sent in its last second, so the next one waits that second out."""
    configuration = settings(tmp_path, "http://127.0.0.1:1")
    async with await Owner.open(configuration) as first:
        assert first.buckets["ListSyslogs"].snapshot() == []
    async with await Owner.open(configuration) as after_a_clean_end:
        assert after_a_clean_end.buckets["ListSyslogs"].snapshot() == []
    # What a kill leaves: the mark of a clean end is not there.
    with sqlite3.connect(configuration.journal.path) as db:
        db.execute("UPDATE meta SET value = 0 WHERE key = 'clean_end'")
    db.close()
    # The second must not pass while the store is being opened.
    async with await Owner.open(configuration, clock=ManualClock()) as after_a_kill:
        assert len(after_a_kill.buckets["ListSyslogs"].snapshot()) == 100
