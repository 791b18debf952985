"""Filters of a source are part of its streams: what was asked with one is never taken for all that there is."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from collector.model import filtered_scope
from collector.owner.instance import Owner
from collector.settings import Settings
from collector.simulator.clock import SimulatorClock
from collector.simulator.server import SIMULATOR_KEY, Simulator
from collector.simulator.usage import workspace_of, workspaces
from collector.simulator.world import LateRows, World
from collector.units import iso
from tests.support import (
    LOOKBACK,
    NOW,
    SETTLE,
    as_row,
    calls,
    collect_unshipped,
    differences,
    fetch,
    run_once,
    settings,
    ship,
    simulator,
    stored_syslogs,
)
from tests.support.default_chain import use_access_key
from tests.support.range_commands import asked, gaps, report, work

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


LOGS_STEP = 600
"""Seconds between two runs: shorter than the look back, so that what two queries ask for overlaps."""


def logs(folder: Path, api: Simulator, query: str, gateway: str = "bearer", **syslogs: Any) -> Settings:
    """Log lines of all nodes."""
    section = {"initial_lookback": f"{LOOKBACK}s", "settle": f"{SETTLE}s", "recheck": [], "query": query, **syslogs}
    return settings(
        folder, api.base_url, api={"base_url": api.base_url, "gateway": gateway},
        targets={"nodes": api.world.node_ids}, sources={"syslogs": section},
    )  # fmt: skip


def two_nodes() -> World:
    return World(11, 2, 1, lines_per_second=1.5)


def true_lines(world: World, query: str, start: int, end: int) -> Counter[tuple[Any, ...]]:
    """What the service selects of `start <= time < end`."""
    return Counter(
        as_row(record.wire, node)
        for node in world.node_ids
        for record in world.truth(node, start, end)
        if query in record.wire["Msg"]
    )


@pytest.mark.parametrize("gateway", GATEWAYS)
@pytest.mark.slow("filters end to end", cases=2, fast=("bearer",))
async def test_a_query_collects_the_lines_that_it_selects(
    gateway: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of them once, under the node alone; what is collected is shown under the node and the query."""
    use_access_key(monkeypatch, tmp_path)
    world = two_nodes()
    async with simulator(world) as api:
        config = logs(tmp_path, api, "User", gateway)
        assert not (await run_once(config)).failures

        expected = true_lines(world, "User", NOW - LOOKBACK, NOW - SETTLE)
        assert 100 < sum(expected.values()) < sum(true_lines(world, "", NOW - LOOKBACK, NOW - SETTLE).values()) / 3
        assert not differences(expected, await stored_syslogs(config))
        marks = await fetch(config, "SELECT scope_id, toUnixTimestamp(watermark) FROM watermarks ORDER BY 1")
        assert marks == [[f"{node}?Query=User", NOW - SETTLE] for node in sorted(world.node_ids)]
        asked_before = calls(api, "ListSyslogs")
        await run_once(config)
        assert calls(api, "ListSyslogs") == asked_before


@pytest.mark.parametrize("journal", ["kept", "unshipped", "lost"])
@pytest.mark.parametrize(
    "queries",
    [("", "User", ""), ("User", "kubelet", "User"), ("kubelet", "", "Session"), ("User", "Session", "")],
    ids=["all-one-all", "one-other-one", "one-all-other", "one-other-all"],
)
@pytest.mark.slow("filters end to end", cases=12, fast=("one-other-all-unshipped",))
async def test_a_query_that_changes_loses_and_doubles_nothing(
    queries: tuple[str, ...], journal: str, tmp_path: Path
) -> None:
    """Whatever was asked for is stored once: what went on in the journal, or is found in the store alone."""
    world, clock = two_nodes(), SimulatorClock.frozen(NOW)
    expected: Counter[tuple[Any, ...]] = Counter()
    begun: dict[str, int] = {}
    async with simulator(world, clock) as api:
        for query in queries:
            now = int(clock.now())
            config = logs(tmp_path, api, query)
            await (collect_unshipped(config) if journal == "unshipped" else run_once(config))
            # A stream goes on where it was; what it covers is all that it selects since it began.
            expected |= true_lines(world, query, begun.setdefault(query, now - LOOKBACK), now - SETTLE)
            clock.advance(LOGS_STEP)
            if journal == "lost":
                for part in tmp_path.glob("journal.db*"):
                    part.unlink()
        await ship(config)

        assert not differences(expected, await stored_syslogs(config))
        marks = await fetch(config, "SELECT scope_id, toUnixTimestamp(collected_from) FROM watermarks")
        scopes = {query: filtered_scope("", {"Query": query} if query else {}) for query in queries}
        assert sorted(map(tuple, marks)) == sorted(
            (node + scopes[query], start) for node in world.node_ids for query, start in begun.items()
        )


@pytest.mark.slow("filters end to end")
async def test_lines_of_one_second_that_two_queries_select_are_all_stored(tmp_path: Path) -> None:
    """As many lines of a second as are stored, but other ones, are no changed answer if a part was asked for."""
    world = two_nodes()
    async with simulator(world) as api:
        one, other = (true_lines(world, query, NOW - LOOKBACK, NOW - SETTLE) for query in ("User", "kubelet"))
        counts = [Counter(row[:4] for row in rows.elements()) for rows in (one, other)]
        assert any(counts[0][second] == counts[1][second] for second in counts[0])
        for query in ("User", "kubelet"):
            config = logs(tmp_path, api, query)
            assert not (await run_once(config)).failures
        assert not differences(one | other, await stored_syslogs(config))


async def test_late_lines_are_found_by_the_same_query(tmp_path: Path) -> None:
    """A recheck asks as the first look did, and adds what has come since."""
    world, clock = two_nodes(), SimulatorClock.frozen(NOW)
    node = world.node_ids[0]
    async with simulator(world, clock) as api:
        config = logs(tmp_path, api, "User", recheck=["10m"])
        await run_once(config)
        before = true_lines(world, "User", NOW - LOOKBACK, NOW - SETTLE)
        world.add_late(LateRows(node, NOW - 500, NOW - 300, 60, NOW + 1))
        after = true_lines(world, "User", NOW - LOOKBACK, NOW - SETTLE)
        assert sum(after.values()) > sum(before.values())
        clock.advance(2 * LOGS_STEP)
        await run_once(config)
        assert not differences(
            after | true_lines(world, "User", NOW - SETTLE, NOW + 2 * LOGS_STEP - SETTLE), await stored_syslogs(config)
        )


@pytest.mark.slow("filters end to end")
async def test_a_range_is_verified_and_filled_by_the_query(tmp_path: Path) -> None:
    """Lines that it does not select are not too much; one that it selects and that is gone is missing."""
    world = two_nodes()
    async with simulator(world) as api:
        await run_once(logs(tmp_path, api, ""))
        config = logs(tmp_path, api, "User")
        await run_once(config)
        everything = await stored_syslogs(config)
        what = asked("syslogs", NOW - LOOKBACK, NOW)
        assert await verified(config, what) == Counter()

        async with await Owner.open(config) as owner:
            await owner.store.execute(
                "ALTER TABLE pai.syslogs DELETE WHERE msg = (SELECT min(msg) FROM pai.syslogs WHERE msg LIKE '%User%')"
                " SETTINGS mutations_sync = 1"
            )
        gone = everything - await stored_syslogs(config)
        assert await verified(config, what) == Counter(missing=sum(gone.values())) != Counter()
        await report(config, "backfill", asked("syslogs", NOW - LOOKBACK, NOW, world.node_ids[0]))
        await report(config, "backfill", asked("syslogs", NOW - LOOKBACK, NOW, f"{world.node_ids[1]}?Query=User"))
        assert not differences(everything, await stored_syslogs(config))


async def verified(config: Settings, what: dict[str, Any]) -> Counter[str]:
    async with await Owner.open(config, key=SIMULATOR_KEY) as owner:
        words = await work(owner, "verify", what)
    return Counter(word["finding"]["kind"] for word in words[:-1])


@pytest.mark.slow("filters end to end")
async def test_what_a_query_missed_is_a_gap_of_its_own_stream(tmp_path: Path) -> None:
    """What all lines cover does not cover a query, nor the other way round; each names what is not collected."""
    world, clock = two_nodes(), SimulatorClock.frozen(NOW)
    node = world.node_ids[0]
    async with simulator(world, clock) as api:
        await run_once(logs(tmp_path, api, ""))
        clock.advance(3 * LOOKBACK)
        config = logs(tmp_path, api, "User")
        await run_once(config)
        begun, later = NOW + 3 * LOOKBACK - LOOKBACK, NOW + 3 * LOOKBACK - SETTLE
        what = asked("syslogs", NOW - LOOKBACK, later, node)
        (missed,) = await gaps(config, what)
        assert missed[:3] == (f"{node}?Query=User", iso(NOW - LOOKBACK), iso(begun))

        config = logs(tmp_path, api, "")
        await run_once(config)
        assert await gaps(config, what) == []
        assert not differences(true_lines(world, "", NOW - LOOKBACK, later), await stored_syslogs(config))
