"""Filters of a source are part of its streams: what was asked with one is never taken for all that there is."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from collector.settings import Settings
from collector.simulator.server import Simulator
from collector.simulator.usage import workspace_of, workspaces
from collector.simulator.world import World
from tests.support import NOW, calls, collect_unshipped, fetch, run_once, settings, ship, simulator
from tests.support.default_chain import use_access_key

GATEWAYS = ["bearer", "openapi"]
USERS = "SELECT workspace_id, user_id, job_type, total_gpu FROM user_metrics"
GROUPS = "SELECT workspace_id, user_count, request_gpu FROM resource_group_metrics ORDER BY 1"


def usage(folder: Path, api: Simulator, gateway: str = "bearer", **filters: Any) -> Settings:
    """Snapshots of the one resource group."""
    return settings(
        folder, api.base_url, api={"base_url": api.base_url, "gateway": gateway},
        targets={"resource_groups": api.world.group_ids}, sources={"user_metrics": filters},
    )  # fmt: skip


def a_group() -> World:
    return World(seed=7, node_count=4, group_count=1, density=0.2, users_per_group=30)


def true_users(world: World, *workspace_ids: str) -> Counter[tuple[Any, ...]]:
    """Rows of the tick that the clock stands in, as `USERS` asks for them; "" is the whole group."""
    return Counter(
        (workspace, user["UserId"], user["JobType"], user["TotalGPU"])
        for workspace in workspace_ids
        for user in world.snapshot(world.group_ids[0], NOW)["UserMetrics"]
        if workspace in ("", workspace_of(world.seed, user["UserId"]))
    )


async def stored_users(config: Settings) -> Counter[tuple[Any, ...]]:
    return Counter(map(tuple, await fetch(config, USERS)))


@pytest.mark.parametrize("gateway", GATEWAYS)
@pytest.mark.slow("filters end to end", cases=2, fast=("bearer",))
async def test_workspaces_stand_beside_each_other(
    gateway: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is asked for by itself, and its users and its sum carry its id."""
    use_access_key(monkeypatch, tmp_path)
    world = a_group()
    async with simulator(world) as api:
        both = workspaces(world.seed)
        config = usage(tmp_path, api, gateway, workspaces=both)
        assert not (await run_once(config)).failures

        assert calls(api, "GetUserViewMetrics") == 2
        assert await stored_users(config) == true_users(world, *both)
        told = [world.snapshot(world.group_ids[0], NOW, workspace=one) for one in both]
        assert await fetch(config, GROUPS) == [
            [one, len({user["UserId"] for user in answer["UserMetrics"]}), answer["Summary"]["RequestGPU"]]
            for one, answer in zip(both, told, strict=True)
        ]
        marks = await fetch(config, "SELECT scope_id FROM watermarks ORDER BY 1")
        assert marks == [[f"{world.group_ids[0]}?WorkspaceId={one}"] for one in both]


@pytest.mark.parametrize("gateway", GATEWAYS)
@pytest.mark.slow("filters end to end", cases=2, fast=("bearer",))
async def test_users_are_asked_for_alone(gateway: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their rows are those that they have in the whole list; a sum over one user is not stored as the group's."""
    use_access_key(monkeypatch, tmp_path)
    world = a_group()
    async with simulator(world) as api:
        chosen = [row[1] for row in sorted(true_users(world, ""))][:2]
        config = usage(tmp_path, api, gateway, user_ids=chosen)
        assert not (await run_once(config)).failures

        assert calls(api, "GetUserViewMetrics") == 2
        assert await stored_users(config) == Counter({r: n for r, n in true_users(world, "").items() if r[1] in chosen})
        assert await fetch(config, GROUPS) == []


@pytest.mark.parametrize("is_away", [False, True], ids=["stored", "in the journal"])
@pytest.mark.slow("filters end to end", cases=2, fast=("in the journal",))
async def test_a_change_within_a_tick_doubles_no_user(is_away: bool, tmp_path: Path) -> None:
    """Users, all, a workspace and users again in one tick: rows of the group stand once, those of the workspace too."""
    world = a_group()
    async with simulator(world) as api:
        user = min(true_users(world, ""))[1]
        workspace = workspace_of(world.seed, user)
        for filters in (
            {"user_ids": [user]}, {}, {"workspaces": [workspace], "user_ids": [user]}, {"workspaces": [workspace]},
            {"user_ids": [user, "120"]},
        ):  # fmt: skip
            config = usage(tmp_path, api, **filters)
            await (collect_unshipped(config) if is_away else run_once(config))
        await ship(config)

        assert await stored_users(config) == true_users(world, "", workspace)
