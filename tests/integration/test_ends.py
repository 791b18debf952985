"""What ends is collected to its last second, or its rest is a gap; `status` and `gaps` say the same of it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from collector.owner.gaps import gaps
from collector.owner.instance import Owner
from collector.owner.reader import Reader
from collector.owner.status import status
from collector.owner.streams import JOB_TAIL_SECONDS
from collector.settings import Settings
from collector.simulator.account import Account
from collector.simulator.clock import SimulatorClock
from collector.simulator.faults import Fault, FaultKind
from collector.simulator.inventory import ResourceGroupListing, ServiceListing
from collector.simulator.server import Simulator
from collector.simulator.world import World
from tests.support import NOW, calls, differences, fetch, run_once, settings, simulator, stored_syslogs, true_syslogs

LOOKBACK, SETTLE, RECHECK = 300, 60, 1800
LEFT, SEEN = NOW + 900, NOW + 1200
"""When the node leaves, and when the list is looked at next."""


def configuration(folder: Path, api: Simulator, **targets: Any) -> Settings:
    return settings(
        folder,
        api.base_url,
        targets=targets,
        sources={
            "syslogs": {"initial_lookback": f"{LOOKBACK}s", "settle": f"{SETTLE}s", "recheck": [f"{RECHECK}s"]},
            "diagnostics": {"enabled": False},
        },
    )


async def told_gaps(config: Settings) -> list[dict[str, Any]]:
    async with await Reader.open(config) as reader:
        return list(msgspec.to_builtins((await gaps(reader)).gaps))


async def told_state(config: Settings, operation: str, scope_id: str) -> tuple[str, int | None]:
    async with await Reader.open(config) as reader:
        streams = (await status(reader)).streams
    (found,) = [one for one in streams if (one.operation, one.scope_id) == (operation, scope_id)]
    return found.state, found.freshness_seconds


async def rechecked_to(config: Settings, scope_id: str) -> list[int]:
    async with await Owner.open(config) as owner:
        states = await owner.journal.streams()
        return [to for key, one in states.items() if key.scope_id == scope_id for to in one.rechecks.values()]


async def forget_journal(config: Settings) -> None:
    for file in config.journal.path.parent.glob(f"{config.journal.path.name}*"):
        file.unlink()


@pytest.mark.parametrize("lost", [False, True], ids=["journal kept", "journal lost"])
@pytest.mark.slow("targets that leave")
async def test_a_node_that_leaves_is_collected_to_its_last_second(lost: bool, tmp_path: Path) -> None:
    """Also when it left while nothing ran: up to when it was missed, then its rechecks, then nothing more."""
    clock, world = SimulatorClock.frozen(NOW), World(seed=7, node_count=4, group_count=1, density=0.2)
    account = Account(world)
    node = account.clusters[account.cluster_ids[0]].nodes[0].node_id
    async with simulator(world, clock, account=account) as api:
        config = configuration(tmp_path, api, clusters=account.cluster_ids)
        await run_once(config)
        account.leave(node, LEFT, NOW + 90_000)
        if lost:
            await forget_journal(config)
        clock.set(SEEN)
        await run_once(config)
        clock.set(SEEN + 2 * SETTLE)
        await run_once(config)
        truth = true_syslogs(world, [node], NOW - LOOKBACK, SEEN)
        stored = {row: count for row, count in (await stored_syslogs(config)).items() if node in row}
        assert not differences(truth, type(truth)(stored))
        assert await told_state(config, "ListSyslogs", node) == ("collected", None)
        clock.set(SEEN + RECHECK + 1)
        await run_once(config)
        assert await rechecked_to(config, node) == [SEEN]
        assert await told_state(config, "ListSyslogs", node) == ("ended", None)
        assert await told_gaps(config) == []
        before = calls(api, "ListSyslogs")
        clock.set(SEEN + RECHECK + 300)
        await run_once(config)
        assert calls(api, "ListSyslogs") - before <= 2 * (len(world.node_ids) - 1)


@pytest.mark.slow("targets that leave")
async def test_nodes_of_a_cluster_that_is_gone_end_with_it(tmp_path: Path) -> None:
    """A discovered cluster takes its nodes along, whose list nobody asks for any more."""
    clock, world = SimulatorClock.frozen(NOW), World(seed=7, node_count=4, group_count=1, density=0.2)
    account = Account(world)
    cluster_id = account.cluster_ids[0]
    nodes = [each.node_id for each in account.clusters[cluster_id].nodes]
    async with simulator(world, clock, account=account) as api:
        config = configuration(tmp_path, api, discover=["clusters"])
        await run_once(config)
        del account.clusters[cluster_id]
        clock.set(SEEN)
        await run_once(config)
        clock.set(SEEN + 2 * SETTLE)
        await run_once(config)
        truth = true_syslogs(world, nodes, NOW - LOOKBACK, SEEN)
        assert not differences(truth, await stored_syslogs(config))
        marks = await fetch(
            config,
            "SELECT toUnixTimestamp(watermark) FROM watermarks WHERE operation = 'ListSyslogs'"
            " AND scope_id IN {ids:Array(String)}",
            {"ids": nodes},
        )
        assert marks == [[SEEN]] * len(nodes)


@pytest.mark.slow("targets that leave")
async def test_the_rest_of_what_is_not_answered_any_more_is_a_gap(tmp_path: Path) -> None:
    """A service that knows nothing of a node that has left is asked once; the stream ends, and fails no more."""
    clock, world = SimulatorClock.frozen(NOW), World(seed=7, node_count=4, group_count=1, density=0.2)
    account = Account(world)
    node = account.clusters[account.cluster_ids[0]].nodes[0].node_id
    async with simulator(world, clock, account=account) as api:
        config = configuration(tmp_path, api, clusters=account.cluster_ids)
        await run_once(config)
        account.leave(node, LEFT, NOW + 90_000)
        api.faults = (Fault(kind=FaultKind.NOT_FOUND, operation="ListSyslogs", scope_id=node),)
        clock.set(SEEN)
        report = await run_once(config)
        assert not report.failures
        (gap,) = await told_gaps(config)
        assert (gap["operation"], gap["scope_id"], gap["seconds"]) == ("ListSyslogs", node, SEEN - NOW + SETTLE)
        assert gap["reason"].startswith("left, and is not answered any more: ")
        assert await told_state(config, "ListSyslogs", node) == ("ended", None)
        before = calls(api, "ListSyslogs")
        report = await run_once(config)
        assert not report.failures
        assert calls(api, "ListSyslogs") == before


@pytest.mark.slow("targets that leave")
async def test_many_that_left_and_are_refused_stop_nobody_else(tmp_path: Path) -> None:
    """Three refused scopes in a row stop an operation; those that have left are expected to be refused."""
    clock, world = SimulatorClock.frozen(NOW), World(seed=7, node_count=8, group_count=1, density=0.2)
    account = Account(world)
    nodes = [node.node_id for cluster in account.clusters.values() for node in cluster.nodes]
    async with simulator(world, clock, account=account) as api:
        config = configuration(tmp_path, api, clusters=account.cluster_ids)
        await run_once(config)
        for node in nodes[:6]:
            account.leave(node, LEFT, NOW + 90_000)
        api.faults = tuple(
            Fault(kind=FaultKind.NOT_FOUND, operation="ListSyslogs", scope_id=node) for node in nodes[:6]
        )
        clock.set(SEEN)
        report = await run_once(config)
        assert not report.failures
        assert {gap["scope_id"] for gap in await told_gaps(config)} == set(nodes[:6])
        stored = await stored_syslogs(config)
        assert not differences(true_syslogs(world, nodes[6:], NOW - SETTLE, SEEN - SETTLE), _since(stored, nodes[6:]))


def _since(stored: Counter[tuple[Any, ...]], nodes: list[str]) -> Counter[tuple[Any, ...]]:
    return Counter({row: n for row, n in stored.items() if row[0] >= NOW - SETTLE and not {*nodes}.isdisjoint(row)})


@pytest.mark.slow("targets that leave")
async def test_ticks_missed_before_a_group_left_are_a_gap(tmp_path: Path) -> None:
    """Its usage cannot be asked for later; with the last tick that was taken nothing is missing."""
    clock, world = SimulatorClock.frozen(NOW), World(seed=7, node_count=4, group_count=2, density=0.2)
    async with simulator(world, clock) as api:
        config = configuration(tmp_path, api, discover=["resource_groups"])
        await run_once(config)
        fewer = World(seed=7, node_count=4, group_count=1, density=0.2)
        (gone,) = set(world.group_ids) - set(fewer.group_ids)
        api.backend.listings["ListResourceGroups"] = ResourceGroupListing(Account(fewer))
        clock.set(SEEN)
        await run_once(config)
        found = [gap for gap in await told_gaps(config) if gap["scope_id"] == gone]
        (gap,) = found
        assert (gap["operation"], gap["reason"]) == ("GetUserViewMetrics", "missed")
        assert SEEN - 60 - NOW - 60 <= gap["seconds"] <= SEEN - NOW
        assert await told_state(config, "GetUserViewMetrics", gone) == ("ended", None)


@pytest.mark.slow("targets that leave")
async def test_jobs_that_were_over_before_the_first_look_are_no_gap(tmp_path: Path) -> None:
    """They never began here: `status` calls them ended, and `gaps` expects nothing of them."""
    clock, world = SimulatorClock.frozen(NOW), World(seed=7, node_count=4, group_count=2, density=0.2)
    async with simulator(world, clock) as api:
        config = configuration(tmp_path, api, discover=["jobs"])
        config = config.model_copy(
            update={"sources": config.sources.model_copy(update={"job_metrics": replace_recheck(config)})}
        )
        await run_once(config)
        over = [job.job_id for job in api.backend.account.jobs(NOW) if job.finished < NOW - 2 * 3600]
        assert over
        assert await told_state(config, "GetJobEvents", over[0]) == ("ended", None)
        assert await told_gaps(config) == []


def replace_recheck(config: Settings) -> Any:
    return config.sources.job_metrics.model_copy(update={"recheck_seconds": ()})


WINDOWED = {
    "services": {"DescribeServiceEvent"},
    "resource_groups": {"GetNodeMetrics"},
    "jobs": {"GetJobMetrics", "GetJobEvents"},
}
"""For each kind of target the operations that are asked for ranges of time."""


def rechecked(config: Settings) -> Settings:
    """All sources with rechecks that are due soon."""
    changed = {
        name: getattr(config.sources, name).model_copy(update={"enabled": True, "recheck_seconds": (RECHECK,)})
        for name in ("node_metrics", "job_metrics", "events")
    }
    return config.model_copy(update={"sources": config.sources.model_copy(update=changed)})


@pytest.mark.parametrize("kind", list(WINDOWED))
@pytest.mark.slow("targets that leave", cases=3)
async def test_whatever_leaves_is_collected_to_its_end_and_rechecked(kind: str, tmp_path: Path) -> None:
    """Events of a service, metrics of a group's nodes, metrics and events of a job; then nothing more is asked."""
    clock, world = SimulatorClock.frozen(NOW), World(seed=7, node_count=4, group_count=2, density=0.2)
    account, fewer = Account(world), Account(World(seed=7, node_count=4, group_count=1, density=0.2), service_count=2)
    async with simulator(world, clock, account=account) as api:
        config = rechecked(configuration(tmp_path, api, discover=[kind]))
        await run_once(config)
        seen = SEEN
        if kind == "services":
            (target,) = set(account.service_ids) - set(fewer.service_ids)
            api.backend.listings["ListServices"] = ServiceListing(fewer)
        elif kind == "resource_groups":
            (target,) = set(world.group_ids) - set(fewer.group_ids)
            api.backend.listings["ListResourceGroups"] = ResourceGroupListing(fewer)
        else:
            job = min((job for job in account.jobs(NOW) if job.finished > NOW), key=lambda job: job.finished)
            target, seen = job.job_id, int(job.finished) + JOB_TAIL_SECONDS
        for now in (seen, seen + RECHECK + 3600):
            clock.set(now)
            report = await run_once(config)
            assert not report.failures
        async with await Owner.open(config) as owner:
            streams = await owner.journal.streams()
        ended = [one for key, one in streams.items() if key.scope_id == target and key.operation in WINDOWED[kind]]
        assert {one.key.operation for one in ended} == WINDOWED[kind]
        for one in ended:
            assert one.sealed_to is not None
            assert NOW < one.sealed_to <= seen
            assert one.watermark == one.sealed_to
            assert set(one.rechecks.values()) == {one.sealed_to}
            assert await told_state(config, one.key.operation, target) == ("ended", None)
        assert not [gap for gap in await told_gaps(config) if gap["operation"] in WINDOWED[kind]]
