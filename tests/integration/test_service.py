"""The service in hours that pass in seconds: what works goes on, what cannot is not asked, what comes back is seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from collector.errors import StoreUnavailable
from collector.journal.coverage import open_gaps
from collector.model import StreamKey
from collector.owner.instance import Owner
from collector.owner.status import status
from collector.settings.model import RetrySettings
from collector.simulator.account import Account
from collector.simulator.faults import Fault, FaultKind
from collector.simulator.world import World
from tests.support import NOW, SYSLOG_COLUMNS, calls, differences, settings, true_syslogs
from tests.support.running_service import RATE, Running, running


def a_world(nodes: int = 4) -> World:
    return World(seed=5, node_count=nodes, group_count=1, density=0.3)


def targets(world: World) -> dict[str, Any]:
    return {"nodes": world.node_ids, "resource_groups": world.group_ids}


def age(run: Running) -> float:
    """Seconds that have passed for the simulator."""
    return run.api.now() - NOW


@asynccontextmanager
async def reopened(folder: Path, world: World) -> AsyncIterator[Owner]:
    """What a service has left behind."""
    async with await Owner.open(settings(folder, "http://127.0.0.1:9", targets=targets(world))) as owner:
        yield owner


async def assert_exact(owner: Owner, world: World) -> None:
    """Of each node, everything between the start and the watermark is stored once."""
    columns = ", ".join(f"toUnixTimestamp({c})" if c in ("time", "receive_time") else c for c in SYSLOG_COLUMNS)
    for key, state in (await owner.journal.streams()).items():
        if key.operation != "ListSyslogs":
            continue
        assert state.collected_from is not None
        assert state.watermark is not None
        bounds = {"node": key.scope_id, "start": state.collected_from, "end": state.watermark}
        rows = await owner.store.fetch(
            f"SELECT {columns} FROM syslogs WHERE node_id = {{node:String}}"
            " AND time >= {start:UInt32} AND time < {end:UInt32}",
            bounds,
        )
        truth = true_syslogs(world, [key.scope_id], state.collected_from, state.watermark)
        assert not differences(truth, Counter(tuple(row) for row in rows))


@pytest.mark.slow("hours of service")
async def test_half_an_hour_of_service_stores_everything_once(tmp_path: Path) -> None:
    """Every stream is collected, the rows are the truth, and the meter is the service's own count."""
    world = a_world()
    async with running(tmp_path, world, targets=targets(world)) as run:
        await run.until(lambda: age(run) > 1800)
        for source in run.service.facts().sources:
            assert source.states == {"collected": sum(source.states.values())}
        assert run.service.facts().stops == ()
    async with reopened(tmp_path, world) as owner:
        metered = {operation: count for operation, count, _ in await owner.journal.spend("2025-10")}
        assert metered == {name: stats.calls for name, stats in run.api.stats.items() if stats.calls}
        assert (await owner.journal.depth()).rows == 0
        await assert_exact(owner, world)


@pytest.mark.slow("hours of service")
async def test_a_quiet_node_is_asked_less_often_than_a_busy_one(tmp_path: Path) -> None:
    """The interval of a node follows what it logs."""
    world = World(seed=5, node_count=1, group_count=1, lines_per_second=6.0)
    quiet = World(seed=5, node_count=1, group_count=1, lines_per_second=0.01)
    for name, each, interval in (("busy", world, 10), ("quiet", quiet, 30)):
        async with running(tmp_path / name, each, targets={"nodes": each.node_ids}) as run:
            (slot,) = run.service.slots
            await run.until(lambda slot=slot: (slot.state.watermark or 0) > NOW + 300)  # type: ignore[misc]
            await run.until(lambda slot=slot, interval=interval: slot.interval == interval)  # type: ignore[misc]


@pytest.mark.slow("hours of service")
async def test_a_refused_key_costs_two_calls_and_is_tried_again_later(tmp_path: Path) -> None:
    """A wrong key stops the account; when it is right again, the next try opens everything."""
    world = a_world()
    async with running(tmp_path, world, key="sk-wrong", targets=targets(world)) as run:
        await run.until(lambda: bool(run.service.facts().stops))
        await run.until(lambda: age(run) > 200)
        assert sum(stats.calls for stats in run.api.stats.values()) == 2
        (stop,) = run.service.facts().stops
        assert (stop.what, stop.operation) == ("account", "")
        assert stop.next_try is not None
        assert 250 <= stop.next_try - stop.since <= 350
        run.api.credentials = run.api.credentials.changed({"key": "sk-wrong"})
        await run.until(lambda: not run.service.facts().stops)
        await run.until(lambda: run.source("ListSyslogs").states == {"collected": 4})
        assert age(run) >= 300


@pytest.mark.slow("hours of service")
async def test_an_unknown_node_stops_alone(tmp_path: Path) -> None:
    """A scope that the service does not know is asked rarely; the others are collected as ever."""
    world = a_world()
    gone = world.node_ids[1]
    async with running(tmp_path, world, targets=targets(world)) as run:
        run.api.faults = [Fault(kind=FaultKind.NOT_FOUND, operation="ListSyslogs", scope_id=gone)]
        await run.until(lambda: run.source("ListSyslogs").states == {"collected": 3, "stopped": 1})
        before = calls(run.api, "ListSyslogs")
        await run.until(lambda: calls(run.api, "ListSyslogs") > before + 30)
        assert run.source("ListSyslogs").states == {"collected": 3, "stopped": 1}
        key = StreamKey("ListSyslogs", "cn-hangzhou", gone)
        assert run.service.polls()[key].next > run.api.now() - 1
        state = (await run.owner.journal.streams())[key]
        assert "InvalidScope.NotFound" in state.error
        run.api.faults = []
        await run.until(lambda: run.source("ListSyslogs").states == {"collected": 4})
        assert not (await run.owner.journal.streams())[key].error


@pytest.mark.slow("hours of service")
async def test_a_single_refusal_of_a_collected_scope_loses_no_tick(tmp_path: Path) -> None:
    """A resource group that was refused once is asked again soon; from the second refusal on it is asked rarely."""
    world = World(seed=5, node_count=1, group_count=1)
    async with running(tmp_path, world, targets={"resource_groups": world.group_ids}) as run:
        await run.until(lambda: run.source("GetUserViewMetrics").states == {"collected": 1})
        run.api.faults = [Fault(kind=FaultKind.FORBIDDEN)]
        await run.until(lambda: run.source("GetUserViewMetrics").states == {"failing": 1})
        (next_try,) = (polls.next for polls in run.service.polls().values() if polls.is_failing)
        assert next_try - run.api.now() <= 30
        await run.until(lambda: run.source("GetUserViewMetrics").states == {"stopped": 1})
        (next_try,) = (polls.next for polls in run.service.polls().values() if polls.is_failing)
        assert next_try - run.api.now() > 300


@pytest.mark.slow("hours of service")
async def test_a_node_that_always_hangs_holds_nobody_up(tmp_path: Path) -> None:
    """One stream that times out fails alone, at a growing distance; the others keep their pace."""
    world = a_world()
    slow = world.node_ids[0]
    async with running(tmp_path, world, targets=targets(world)) as run:
        run.api.faults = [Fault(kind=FaultKind.HANG, operation="ListSyslogs", scope_id=slow)]
        await run.until(lambda: run.source("ListSyslogs").states.get("failing") == 1)
        others = [s for s in run.service.slots if s.state.key.scope_id != slow]
        marks = [slot.state.watermark or 0 for slot in others]
        await run.until(lambda: all((s.state.watermark or 0) > m + 60 for s, m in zip(others, marks, strict=True)))
        assert run.source("ListSyslogs").states == {"collected": 3, "failing": 1}


@pytest.mark.slow("hours of service")
async def test_after_an_outage_everything_is_caught_up_and_nothing_is_missing(tmp_path: Path) -> None:
    """While the service fails, its operations are probed and no more; afterwards the rows are the truth."""
    world = a_world()
    async with running(tmp_path, world, targets=targets(world)) as run:
        await run.until(lambda: run.source("ListSyslogs").states == {"collected": 4})
        run.api.faults = [Fault(kind=FaultKind.ERROR_503)]
        client = run.owner.client
        assert client is not None
        await run.until(lambda: client.gate.circuit_open("ListSyslogs"))
        began, before = age(run), calls(run.api, "ListSyslogs")
        await run.until(lambda: age(run) > began + 900)
        # Probes come at doubling distances up to a minute.
        assert calls(run.api, "ListSyslogs") - before <= 6 + 900 / 50
        run.api.faults = []
        await run.until(lambda: not client.gate.circuit_open("ListSyslogs"))
        await run.until(lambda: run.source("ListSyslogs").states == {"collected": 4})
        # Two seconds of this machine are 80 of the service's.
        await run.until(lambda: (run.source("ListSyslogs").freshness_seconds or 999) < 300)
    async with reopened(tmp_path, world) as owner:
        await assert_exact(owner, world)


async def test_while_the_store_is_away_rows_wait_and_watermarks_stand(tmp_path: Path) -> None:
    """A store that refuses to work loses nothing: what is collected meanwhile is shipped when it is back."""
    world = a_world()
    async with running(tmp_path, world, targets=targets(world)) as run:
        await run.until(lambda: run.source("ListSyslogs").states == {"collected": 4})
        insert = run.owner.store.insert

        async def away(*arguments: Any, **options: Any) -> None:
            raise StoreUnavailable("the store is away")

        run.owner.store.insert = away  # type: ignore[method-assign]
        marks = {slot.state.key: slot.state.watermark for slot in run.service.slots if slot.state.watermark}
        began = age(run)
        await run.until(lambda: age(run) > began + 300)
        assert run.owner.shipping_error == "the store is away"
        depth = await run.owner.journal.depth()
        assert depth.rows > 0
        for slot in run.service.slots:
            if slot.state.key.operation != "ListSyslogs":
                continue
            mark = slot.state.watermark or 0
            waiting = world.truth(slot.state.key.scope_id, marks[slot.state.key] or 0, mark)
            # Windows without a row need no store; the first with one holds the watermark.
            assert not [row for row in waiting if int(row.wire["Time"]) >= (marks[slot.state.key] or 0)]
        run.owner.store.insert = insert  # type: ignore[method-assign]
        await run.until(lambda: run.owner.shipping_error is None)
    async with reopened(tmp_path, world) as owner:
        assert (await owner.journal.depth()).rows == 0
        await assert_exact(owner, world)


@pytest.mark.slow("hours of service")
async def test_the_budget_stops_what_costs_and_nothing_else(tmp_path: Path) -> None:
    """Calls stop before the cap is passed, shown as a stop; operations that are free go on; more money opens it."""
    world = a_world()
    prices = {"ListSyslogs": {"cny": Decimal("0.01"), "free": 10}, "GetUserViewMetrics": {"cny": 0, "free": 0}}
    async with running(
        tmp_path, world, targets=targets(world), budget={"monthly_cny": Decimal("0.5")},
        api={"prices": prices},
    ) as run:  # fmt: skip
        await run.until(lambda: bool(run.service.facts().stops))
        (stop,) = run.service.facts().stops
        assert (stop.what, stop.operation) == ("budget", "ListSyslogs")
        snapshots = calls(run.api, "GetUserViewMetrics")
        await run.until(lambda: calls(run.api, "GetUserViewMetrics") > snapshots + 5)
        assert calls(run.api, "ListSyslogs") == 60
        before = run.owner.settings
        budget = before.budget.model_copy(update={"monthly_cny": Decimal(100)})
        api = before.api.model_copy(update={"retry": RetrySettings(attempts_max=9)})
        run.owner.reconfigure(before.model_copy(update={"budget": budget, "api": api}))
        assert run.owner.client is not None
        assert run.owner.client.policy.attempts_max == 9
        await run.until(lambda: not run.service.facts().stops)
        await run.until(lambda: calls(run.api, "ListSyslogs") > 80)


@pytest.mark.slow("hours of service")
async def test_what_was_read_of_a_snapshot_is_stored_when_the_budget_ends_it(tmp_path: Path) -> None:
    """Its tick cannot be read to its end any more: the rows are in the table, and the tick is a gap."""
    world = World(seed=5, node_count=1, group_count=1, users_per_group=30)
    async with running(
        tmp_path, world, targets={"resource_groups": world.group_ids}, budget={"monthly_cny": Decimal("0.02")},
        api={"prices": {"GetUserViewMetrics": {"cny": Decimal("0.01"), "free_calls_per_month": 0}}},
        sources={"user_metrics": {"interval": "1h", "page_size": 10}},
    ) as run:  # fmt: skip
        await run.until(lambda: run.service.shipped.rows.get("user_metrics", 0) > 0)
        # One of them has told the time.
        assert calls(run.api, "GetUserViewMetrics") == 2
        ((key, (gap,)),) = (await run.owner.journal.run(open_gaps)).items()
        assert (key.operation, gap.reason) == ("GetUserViewMetrics", "partial")


@pytest.mark.slow("hours of service")
async def test_a_window_that_waits_while_its_account_is_stopped_is_stored(tmp_path: Path) -> None:
    """It failed after its first pages; then another stream's poll was refused, and nothing is requested for minutes."""
    world = World(seed=5, node_count=2, group_count=1, lines_per_second=2.0)
    waiting, other = world.node_ids
    failing = Fault(kind=FaultKind.ERROR_500, operation="ListSyslogs", scope_id=waiting, arrivals=tuple(range(4, 99)))
    refusing = Fault(kind=FaultKind.UNAUTHORIZED)
    async with running(
        tmp_path, world, targets={"nodes": [waiting]}, api={"retry": {"attempts_max": 2}}, faults=[failing],
        sources={"syslogs": {"interval": "100s", "interval_max": "100s", "initial_lookback": "10m"}},
    ) as run:  # fmt: skip
        await run.until(lambda: run.source("ListSyslogs").states == {"failing": 1})
        run.api.faults = [refusing]
        before = run.owner.settings
        run.owner.reconfigure(
            before.model_copy(update={"targets": before.targets.model_copy(update={"nodes": (waiting, other)})})
        )
        await run.until(lambda: bool(run.service.facts().stops))
        refused = calls(run.api, "ListSyslogs")
        (slot,) = [slot for slot in run.service.slots if slot.state.key.scope_id == waiting]
        await run.until(lambda: slot.state.watermark is not None)
        assert calls(run.api, "ListSyslogs") == refused


@pytest.mark.slow("hours of service")
async def test_targets_that_change_are_followed_without_a_restart(tmp_path: Path) -> None:
    """A reload adds and removes streams; those that stay are not asked again for what they have."""
    world = a_world()
    first, second = world.node_ids[:2], world.node_ids[1:3]
    async with running(tmp_path, world, targets={"nodes": first}) as run:
        await run.until(lambda: run.source("ListSyslogs").states == {"collected": 2})
        stays = next(slot for slot in run.service.slots if slot.state.key.scope_id == first[1])
        before = run.owner.settings
        run.owner.reconfigure(
            before.model_copy(update={"targets": before.targets.model_copy(update={"nodes": tuple(second)})})
        )
        watched = lambda: {slot.state.key.scope_id for slot in run.service.slots}  # noqa: E731
        await run.until(lambda: watched() == set(second))
        await run.until(lambda: run.source("ListSyslogs").states == {"collected": 2})
        assert stays in run.service.slots
        assert stays.failures == 0


@pytest.mark.slow("hours of service")
async def test_a_node_that_leaves_is_collected_to_its_end_and_makes_nothing_late(tmp_path: Path) -> None:
    """It is seen by the next list, waits for its recheck without being late, and ends; the others go on."""
    world = a_world()
    sources = {
        "syslogs": {
            "interval": "10s", "interval_max": "30s", "initial_lookback": "5m", "settle": "60s", "recheck": ["10m"],
        },
        "inventory": {"interval": "60s"}, "diagnostics": {"enabled": False},
    }  # fmt: skip
    async with running(tmp_path, world, targets={"clusters": Account(world).cluster_ids}, sources=sources) as run:
        await run.until(lambda: len(run.service.slots) == 5)
        await run.until(lambda: run.source("ListSyslogs").states == {"collected": 4})
        left = run.api.now()
        node = world.node_ids[0]
        run.api.backend.account.leave(node, left, left + 90_000)
        slot = next(slot for slot in run.service.slots if slot.state.key.scope_id == node)
        await run.until(lambda: slot.streams.end(slot.state.key) is not None)
        end = slot.streams.end(slot.state.key)
        assert end is not None
        assert left <= end <= left + 180
        await run.until(lambda: slot.state.watermark == end)
        await run.until(lambda: run.api.now() > end + 400)
        facts = run.source("ListSyslogs")
        assert facts.states == {"collected": 4}
        assert facts.freshness_seconds is not None
        assert facts.freshness_seconds < 200
        await run.until(lambda: run.source("ListSyslogs").states == {"collected": 3})
        state = (await run.owner.journal.streams())[slot.state.key]
        assert (state.sealed_to, set(state.rechecks.values())) == (end, {end})
        await assert_exact(run.owner, world)


@pytest.mark.slow("hours of service")
async def test_a_node_that_is_not_watched_any_more_does_not_fail_for_ever(tmp_path: Path) -> None:
    """What was wrong with a target that was taken out of the configuration is over, also in what is told later."""
    world = a_world()
    named = [*world.node_ids[:2], "e01-cn-mistyped"]
    async with running(tmp_path, world, targets={"nodes": named}) as run:
        await run.until(lambda: run.source("ListSyslogs").states == {"collected": 2, "stopped": 1})
        told = await status(run.owner)
        assert not told.is_well
        assert told.headline.startswith("1 of 3 streams fail")
        before = run.owner.settings
        run.owner.reconfigure(
            before.model_copy(update={"targets": before.targets.model_copy(update={"nodes": tuple(named[:2])})})
        )
        await run.until(lambda: run.source("ListSyslogs").states == {"collected": 2})
        told = await status(run.owner)
        assert told.states == {"collected": 2, "ended": 1}
        assert not told.headline.startswith("1 of 3 streams fail")
        assert [stream.scope_id for stream in told.streams][-1] == "e01-cn-mistyped"
    async with await Owner.open(settings(tmp_path, "http://127.0.0.1:9", targets={"nodes": named[:2]})) as owner:
        told = await status(owner)
        assert told.states == {"collected": 2, "ended": 1}
        assert told.headline == "2 streams, none fails; no service runs."


@pytest.mark.slow("hours of service")
async def test_what_is_discovered_is_collected_and_what_is_gone_is_left(tmp_path: Path) -> None:
    """Streams follow the lists: jobs come and end while the service runs."""
    world = a_world()
    async with running(
        tmp_path, world, targets={"discover": ["jobs", "clusters"]}, sources={"inventory": {"interval": "60s"}},
    ) as run:  # fmt: skip
        await run.until(lambda: any(s.operation == "ListSyslogs" for s in run.service.facts().sources))
        await run.until(lambda: run.source("ListSyslogs").states == {"collected": 4})
        await run.until(lambda: run.source("GetJobEvents").states.get("collected", 0) > 0)


@pytest.mark.slow("hours of service")
async def test_a_node_that_is_hours_behind_does_not_starve_the_others(tmp_path: Path) -> None:
    """While one stream catches up with all that the quota gives, the others stay fresh."""
    world = World(seed=5, node_count=4, group_count=1, lines_per_second=1.0)
    async with running(
        tmp_path, world, targets={"nodes": world.node_ids[:3]}, api={"quotas": {"ListSyslogs": 2}}
    ) as run:
        await run.until(lambda: run.source("ListSyslogs").states == {"collected": 3})
        before = run.owner.settings
        syslogs = before.sources.syslogs.model_copy(update={"initial_lookback_seconds": 12 * 3600})
        named = before.targets.model_copy(update={"nodes": tuple(world.node_ids)})
        sources = before.sources.model_copy(update={"syslogs": syslogs})
        run.owner.reconfigure(before.model_copy(update={"targets": named, "sources": sources}))
        await run.until(lambda: len(run.service.slots) == 4)
        behind = next(s for s in run.service.slots if s.state.key.scope_id == world.node_ids[3])
        began = age(run)
        await run.until(lambda: age(run) > began + 180)
        assert (behind.state.sealed_to or 0) < run.api.now() - 2 * 3600
        others = [slot for slot in run.service.slots if slot is not behind]
        assert all(run.api.now() - (slot.state.watermark or 0) < 60 + 30 + 2 * RATE for slot in others)
