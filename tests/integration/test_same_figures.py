"""The same simulated cluster through the older operations, through CloudMonitor and through both: the same figures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from collector.settings import Settings
from collector.simulator.clock import SimulatorClock
from collector.simulator.server import Simulator
from collector.simulator.world import World
from collector.store.assets import sql_files, sql_folder
from collector.store.named import named_query, parsed
from tests.support import NOW, fetch, run_once, settings, simulator
from tests.support.grafana import View, dashboards, expand, panels

HOUR = NOW // 3600 * 3600
LOOKBACK = 7200
SETTLE = "5m"

LATE = {"settle": SETTLE, "initial_lookback": "2h", "recheck": []}
OLDER: dict[str, dict[str, Any]] = {
    "node_metrics": {"metric_types": ["GpuUsageRate", "CpuUsageRate"], **LATE},
    "job_metrics": {"metric_types": ["GpuCoreUsage"], **LATE},
}
SERIES = {
    "namespaces": ["acs_pai_quota", "acs_pai_dlc", "acs_pai_dsw"],
    "metrics": ["GPU_USAGE_RATE", "CPU_USAGE_RATE", "GPU_CORE_USAGE"],
    "period": "5m",
    **LATE,
}
ABOUT_SERIES = ("metrics", "metric_anomalies")
STATISTICS = ["Average", "Maximum", "Minimum"]


def a_world() -> World:
    return World(seed=7, node_count=2, group_count=2, users_per_group=5, density=0.2)


def configured(folder: Path, api: Simulator, sources: Mapping[str, Any]) -> Settings:
    folder.mkdir(exist_ok=True)
    return settings(
        folder,
        api.base_url,
        targets={"resource_groups": api.backend.account.group_ids, "discover": ["jobs", "instances"]},
        sources={"syslogs": {"enabled": False}, "events": {"enabled": False}, **sources},
    )


async def answer(config: Settings, name: str, parameters: Mapping[str, str]) -> list[Any]:
    """What a named query answers, without the service that told it: the first column of those about series."""
    query = named_query(name)
    rows = await fetch(config, query.sql, query.bind(parameters))
    return sorted((row[1:] if name in ABOUT_SERIES else row for row in rows), key=str)


async def hourly(config: Settings, parameters: Mapping[str, str]) -> list[Any]:
    """What the console shows of GPUs."""
    query = next(parsed(name, text) for name, text in sql_files(sql_folder("console")) if name == "gpus_by_hour")
    return await fetch(config, query.sql, query.bind(parameters))


async def shown(config: Settings, title: str, end: int) -> list[Any]:
    """What a panel of the board of nodes shows of the last two hours."""
    (panel,) = (one for one in panels(dashboards()["nodes"]) if one["title"] == title)
    (target,) = panel["targets"]
    rows = await fetch(config, expand(target["rawSql"], View(end - LOOKBACK, end, interval_seconds=300)))
    # The engine adds up in the order in which it reads.
    return [[*row[:-1], round(row[-1], 9)] for row in rows]


@pytest.mark.slow("figures from either source")
async def test_series_are_the_same_from_either_source(tmp_path: Path) -> None:
    """Last values, anomalies and the panels of nodes and jobs; with both, nothing counts twice."""
    until = {"until": "2025-10-09 08:00:00", "hours": "2"}
    kinds = {"older": OLDER, "cloud": {"node_metrics": {"enabled": False}, "job_metrics": {"enabled": False}}}
    kinds["cloud"] |= {"cloud_metrics": SERIES | {"statistics": STATISTICS}}
    kinds["both"] = OLDER | {"cloud_metrics": SERIES | {"statistics": STATISTICS}}
    found: dict[str, list[Any]] = {}
    async with simulator(a_world(), SimulatorClock.frozen(HOUR)) as api:
        for kind, sources in kinds.items():
            config = configured(tmp_path / kind, api, {"user_metrics": {"enabled": False}, **sources})
            report = await run_once(config)
            assert report.failures == {}
            found[kind] = [
                await answer(config, "metrics", until),
                await answer(config, "metric_anomalies", until | {"z_min": "2", "points_min": "5"}),
                await shown(config, "Node metrics, mean of all nodes", HOUR),
                await shown(config, "Job metrics, mean of all pods", HOUR),
            ]

    assert all(found["older"])
    assert found["cloud"] == found["older"]
    assert found["both"] == found["older"]


@pytest.mark.slow("figures from either source")
async def test_usage_is_the_same_from_either_source(tmp_path: Path) -> None:
    """Utilization and idle GPUs, from snapshots of users or from metrics of users; with both, nothing counts twice."""
    looks = 10
    wanted = {"until": "2025-10-09 08:00:00", "hours": "1"}
    cloud = {
        "namespaces": ["acs_pai_user"], "period": "60s", "interval": "60s", "settle": "40s", "recheck": [],
        "initial_lookback": "700s",
    }  # fmt: skip
    no_series = {"node_metrics": {"enabled": False}, "job_metrics": {"enabled": False}}
    found: dict[str, list[Any]] = {}
    for kind in ("older", "cloud", "both"):
        clock = SimulatorClock.frozen(HOUR - 1800)
        async with simulator(a_world(), clock) as api:
            older = {"user_metrics": {"interval": "60s", "enabled": kind != "cloud"}}
            config = configured(tmp_path / kind, api, {**no_series, **older})
            for _ in range(looks):
                await run_once(config)
                clock.advance(60)
            clock.advance(100)
            if kind != "older":
                users = {"user_metrics": {"enabled": False}, "cloud_metrics": cloud}
                config = configured(tmp_path / kind, api, {**no_series, **users})
                report = await run_once(config)
                assert report.failures == {}
            found[kind] = [
                await answer(config, "utilization", wanted),
                await answer(config, "idle_gpus", wanted | {"rate": "60", "minutes": "1"}),
                await hourly(config, wanted),
            ]

    assert all(found["older"])
    assert found["cloud"] == found["older"]
    assert found["both"] == found["older"]
