"""From the service to the table and back: the real loops, real HTTP on loopback, the real engine."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from collector.errors import CredentialsError, UsageError
from collector.journal.inspect import contents
from collector.owner.instance import Owner
from collector.simulator.clock import SimulatorClock
from collector.simulator.faults import Fault, FaultKind
from collector.simulator.server import SIMULATOR_KEY
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

WORLD_SEED = 11


def a_world(nodes: int = 6, **options: object) -> World:
    return World(WORLD_SEED, nodes, 2, **{"density": 0.4, **options})


def targets(world: World) -> dict[str, object]:
    return {"nodes": tuple(world.node_ids), "resource_groups": tuple(world.group_ids)}


@pytest.mark.slow("collecting end to end")
async def test_a_second_run_asks_for_nothing_and_stores_nothing(tmp_path: Path) -> None:
    """Stored rows are the truth, every field and each as often; the next run finds nothing due."""
    world = a_world()
    async with simulator(world) as api:
        configuration = settings(tmp_path, api.base_url, targets=targets(world))
        first = await run_once(configuration)
        asked = {name: stats.calls for name, stats in api.stats.items()}
        after_first = await stored_syslogs(configuration)

        second = await run_once(configuration)

        assert not first.failures
        assert not second.failures
        assert not differences(true_syslogs(world, world.node_ids, NOW - LOOKBACK, NOW - SETTLE), after_first)
        assert {name: stats.calls for name, stats in api.stats.items()} == asked
        assert await stored_syslogs(configuration) == after_first
        assert (await fetch(configuration, "SELECT count() FROM resource_group_metrics")) == [[2]]


@pytest.mark.slow("collecting end to end")
async def test_usage_is_stored_as_the_service_told_it(tmp_path: Path) -> None:
    """Strings that are numbers become numbers, all users get the tick's time, and the Summary its own table."""
    world = a_world()
    async with simulator(world) as api:
        configuration = settings(tmp_path, api.base_url, targets={"resource_groups": (world.group_ids[0],)})
        await run_once(configuration)

        tick = NOW // 60 * 60
        truth = world.snapshot(world.group_ids[0], NOW)
        rows = await fetch(
            configuration,
            "SELECT toUnixTimestamp(time), user_id, job_type, total_gpu, gpu_usage_rate, disk_read_rate, gpu_job_names"
            " FROM user_metrics ORDER BY user_id, job_type",
        )
        expected = sorted(
            [
                tick, u["UserId"], u["JobType"], u["TotalGPU"], float(u["GPUUsageRate"]), float(u["DiskReadRate"]),
                u["GpuJobNames"],
            ]
            for u in truth["UserMetrics"]
        )  # fmt: skip
        assert rows == expected
        summary = await fetch(
            configuration,
            "SELECT toUnixTimestamp(time), user_count, total_cpu, cpu_usage_rate FROM resource_group_metrics",
        )
        users = {u["UserId"] for u in truth["UserMetrics"]}
        told = truth["Summary"]
        assert summary == [[tick, len(users), told["TotalCPU"], float(told["CPUUsageRate"])]]


@pytest.mark.slow("pages")
async def test_a_snapshot_over_several_pages_is_one_snapshot(tmp_path: Path) -> None:
    """All pages carry one tick, no user is lost or doubled, and the group's count is over all pages."""
    world = a_world(users_per_group=2345)
    async with simulator(world) as api:
        configuration = settings(tmp_path, api.base_url, targets={"resource_groups": (world.group_ids[0],)})
        await run_once(configuration)

        assert calls(api, "GetUserViewMetrics") == 3
        truth = world.snapshot(world.group_ids[0], NOW)["UserMetrics"]
        ((rows, ticks, keys),) = await fetch(
            configuration, "SELECT count(), uniqExact(time), uniqExact(user_id, job_type) FROM user_metrics"
        )
        assert (rows, ticks, keys) == (len(truth), 1, len(truth))
        ((user_count,),) = await fetch(configuration, "SELECT user_count FROM resource_group_metrics")
        assert user_count == len({u["UserId"] for u in truth})


@pytest.mark.slow("pages")
async def test_a_total_that_changes_while_paging_is_read_again(tmp_path: Path) -> None:
    """When the list shifts under the pages, the snapshot is read again and still holds each user once."""
    world = a_world(users_per_group=1500)
    faults = [Fault(kind=FaultKind.CHANGING_TOTAL, arrivals=(2,))]
    async with simulator(world, faults=faults) as api:
        configuration = settings(tmp_path, api.base_url, targets={"resource_groups": (world.group_ids[0],)})
        report = await run_once(configuration)

        assert not report.failures
        assert calls(api, "GetUserViewMetrics") > 2
        truth = world.snapshot(world.group_ids[0], NOW)["UserMetrics"]
        ((rows, keys),) = await fetch(configuration, "SELECT count(), uniqExact(user_id, job_type) FROM user_metrics")
        assert (rows, keys) == (len(truth), len(truth))


@pytest.mark.slow("hours of service")
async def test_ticks_that_were_not_asked_are_gaps(tmp_path: Path) -> None:
    """A missed tick is never asked under an old time: it is listed, with its range."""
    world = a_world()
    clock = SimulatorClock.frozen(NOW)
    async with simulator(world, clock) as api:
        configuration = settings(tmp_path, api.base_url, targets={"resource_groups": (world.group_ids[0],)})
        await run_once(configuration)
        clock.advance(300)
        await run_once(configuration)

        first, second = NOW // 60 * 60, (NOW + 300) // 60 * 60
        ticks = await fetch(configuration, "SELECT toUnixTimestamp(time) FROM resource_group_metrics ORDER BY 1")
        assert ticks == [[first], [second]]
        gaps = await fetch(
            configuration, "SELECT toUnixTimestamp(start), toUnixTimestamp(end), reason, state FROM gaps"
        )
        assert gaps == [[first + 60, second, "missed", "open"]]


@pytest.mark.slow("collecting end to end")
async def test_later_time_is_collected_from_the_watermark_on(tmp_path: Path) -> None:
    """Runs follow each other without a hole and without an overlap."""
    world = a_world()
    clock = SimulatorClock.frozen(NOW)
    async with simulator(world, clock) as api:
        configuration = settings(tmp_path, api.base_url, targets=targets(world))
        for _ in range(4):
            await run_once(configuration)
            clock.advance(77)
        end = NOW + 3 * 77 - SETTLE

        assert not differences(
            true_syslogs(world, world.node_ids, NOW - LOOKBACK, end), await stored_syslogs(configuration)
        )
        marks = await fetch(
            configuration,
            "SELECT DISTINCT toUnixTimestamp(collected_from), toUnixTimestamp(watermark) FROM watermarks"
            " WHERE operation = 'ListSyslogs'",
        )
        assert marks == [[NOW - LOOKBACK, end]]


@pytest.mark.slow("collecting end to end")
async def test_a_node_that_never_logged_has_its_watermark(tmp_path: Path) -> None:
    """Nothing logged is a fact that is stored, too."""
    world = World(WORLD_SEED, 2, 1, density=0.0, bursts=False)
    async with simulator(world) as api:
        configuration = settings(tmp_path, api.base_url, targets={"nodes": tuple(world.node_ids)})
        await run_once(configuration)

        assert await fetch(configuration, "SELECT count() FROM syslogs") == [[0]]
        assert await fetch(configuration, "SELECT count(), min(toUnixTimestamp(watermark)) FROM watermarks") == [
            [2, NOW - SETTLE]
        ]


@pytest.mark.slow("late rows")
async def test_late_rows_are_stored_once_by_the_recheck(tmp_path: Path) -> None:
    """300 rows that appear behind the watermark come with the next recheck, at no more than twice the calls."""
    world = a_world()
    clock = SimulatorClock.frozen(NOW)
    node = world.node_ids[0]
    world.add_late(LateRows(node, NOW - 600, NOW - 300, 300, NOW + 200))
    async with simulator(world, clock) as api:
        configuration = settings(
            tmp_path,
            api.base_url,
            targets={"nodes": tuple(world.node_ids)},
            sources={"syslogs": {"initial_lookback": "30m", "settle": "60s", "recheck": ["15m"]}},
        )
        await run_once(configuration)
        plain_calls = calls(api, "ListSyslogs")
        before = sum((await stored_syslogs(configuration)).values())
        clock.advance(900)
        await run_once(configuration)

        end = NOW + 900 - SETTLE
        truth = true_syslogs(world, world.node_ids, NOW - LOOKBACK, end)
        assert sum(truth.values()) >= before + 300
        assert not differences(truth, await stored_syslogs(configuration))
        async with simulator(a_world(), SimulatorClock.frozen(NOW + 900)) as other:
            plain = settings(
                tmp_path / "plain",
                other.base_url,
                targets={"nodes": tuple(world.node_ids)},
                sources={"syslogs": {"initial_lookback": "45m", "settle": "60s", "recheck": []}},
            )
            await run_once(plain)
            assert calls(api, "ListSyslogs") <= 2 * calls(other, "ListSyslogs")
        assert plain_calls <= calls(api, "ListSyslogs")


@pytest.mark.slow("lost journals")
async def test_a_lost_journal_stores_nothing_twice(tmp_path: Path) -> None:
    """On a new machine before an old store, what is asked again is compared, and rows after it appended."""
    world = a_world()
    clock = SimulatorClock.frozen(NOW)
    async with simulator(world, clock) as api:
        configuration = settings(tmp_path, api.base_url, targets=targets(world))
        await run_once(configuration)
        # The store shows an earlier watermark than its newest rows, as after a loss between the two.
        async with await Owner.open(configuration) as owner:
            await owner.store.execute("TRUNCATE TABLE pai.watermark_states")
        configuration.journal.path.unlink()
        clock.advance(120)
        await run_once(configuration)

        truth = true_syslogs(world, world.node_ids, NOW - LOOKBACK, NOW + 120 - SETTLE)
        stored = await stored_syslogs(configuration)
        assert not differences(truth, stored)
        ticks = await fetch(
            configuration, "SELECT resource_group_id, time, count() FROM resource_group_metrics GROUP BY 1, 2"
        )
        assert [row[2] for row in ticks] == [1] * 4


async def test_a_store_that_cannot_be_opened_is_what_is_told(tmp_path: Path) -> None:
    """Letting go of the journal, which was opened before, does not hide why; the next start finds it well."""
    async with simulator(World(seed=7, node_count=1, group_count=1)) as api:
        wrong = settings(tmp_path, api.base_url, store={"path": tmp_path / "what?"})
        with pytest.raises(UsageError, match=r"path cannot hold"):
            await Owner.open(wrong, key=SIMULATOR_KEY)

        async with await Owner.open(settings(tmp_path, api.base_url), key=SIMULATOR_KEY) as owner:
            assert owner.journal_set_aside is None


@pytest.mark.slow("collecting end to end")
async def test_a_wrong_key_costs_a_handful_of_calls(tmp_path: Path) -> None:
    """A refused key stops the account: fifty streams cost a few calls, and nothing reads as no data."""
    world = a_world(50)
    async with simulator(world) as api:
        configuration = settings(tmp_path, api.base_url, targets=targets(world))
        report = await run_once(configuration, key="sk-wrong-canary")

        assert report.refused
        assert isinstance(report.credentials, CredentialsError)
        assert len(report.failures) == 52
        assert sum(stats.calls for stats in api.stats.values()) <= 3
        assert await fetch(configuration, "SELECT count() FROM watermarks") == [[0]]


async def test_the_meter_counts_what_the_service_counts(tmp_path: Path) -> None:
    """Every attempt is metered, failed ones too, and priced after the free tier."""
    world = a_world(8, lines_per_second=2.0)
    faults = [
        Fault(kind=FaultKind.ERROR_500, probability=0.05),
        Fault(kind=FaultKind.THROTTLE_400, probability=0.02, times_max=2, retry_after_seconds=0.05),
    ]
    async with simulator(world, faults=faults) as api:
        configuration = settings(
            tmp_path,
            api.base_url,
            api={"base_url": api.base_url, "prices": {"ListSyslogs": {"cny": Decimal("0.01"), "free": 100}}},
            targets=targets(world),
        )
        await run_once(configuration)

        metered = await fetch(
            configuration, "SELECT operation, sum(calls), toString(sum(cost_cny)) FROM api_calls GROUP BY 1"
        )
        counted = {name: stats.calls for name, stats in api.stats.items() if stats.calls}
        assert {operation: count for operation, count, _ in metered} == counted
        cost = {operation: float(cny) for operation, _, cny in metered}
        assert cost["ListSyslogs"] == pytest.approx((counted["ListSyslogs"] - 100) * 0.01)
        assert cost["GetUserViewMetrics"] == 0
        statuses = await fetch(configuration, "SELECT DISTINCT http_status FROM api_calls ORDER BY 1")
        assert [500] in statuses


@pytest.mark.parametrize("pages", [2, 3])
@pytest.mark.slow("collecting end to end", fast=("2",))
async def test_what_was_paid_before_the_budget_ended_is_stored(tmp_path: Path, pages: int) -> None:
    """A window that cannot go on ends at its last whole second; nothing waits unseen, nothing is called caught up."""
    world = a_world(1, lines_per_second=2.0)
    async with simulator(world) as api:
        sections: dict[str, Any] = {"targets": {"nodes": tuple(world.node_ids)}, "api": {"base_url": api.base_url}}
        sections["api"]["prices"] = {"ListSyslogs": {"cny": Decimal("0.0001"), "free_calls_per_month": 0}}
        poor = settings(tmp_path, api.base_url, **sections, budget={"monthly_cny": Decimal("0.0001") * pages})
        report = await run_once(poor)
        assert report.budget is not None
        assert {key.scope_id for key in report.held_back} == set(world.node_ids)
        assert calls(api, "ListSyslogs") == pages
        stored = await stored_syslogs(poor)
        ((watermark,),) = await fetch(poor, "SELECT toUnixTimestamp(watermark) FROM watermarks")
        assert not differences(true_syslogs(world, world.node_ids, NOW - LOOKBACK, watermark), stored)
        assert stored.total() > 100 * (pages - 1)
        assert contents(poor.journal.path)["open_windows"] == []

        rich = settings(tmp_path, api.base_url, **sections)
        assert (await run_once(rich)).budget is None
        truth = true_syslogs(world, world.node_ids, NOW - LOOKBACK, NOW - SETTLE)
        assert not differences(truth, await stored_syslogs(rich))


@pytest.mark.parametrize("what", ["one second", "several metrics"])
async def test_rows_of_a_window_that_cannot_be_sealed_are_stored(tmp_path: Path, what: str) -> None:
    """Nobody knows up to when such a window is complete: it stays open, covers nothing, and its end is compared."""
    world = a_world(1, lines_per_second=300.0)
    name, table, pages = (
        ("ListSyslogs", "syslogs", 5) if what == "one second" else ("GetNodeMetrics", "metric_points", 1)
    )
    sections: dict[str, Any] = {
        "sources": {
            "syslogs": {"initial_lookback": "70s", "settle": "60s", "recheck": []},
            "node_metrics": {"enabled": True, "metric_types": ["CpuUsageRate", "GpuUsageRate"], "recheck": []},
        },
        "targets": {"nodes": tuple(world.node_ids)} if what == "one second" else {"resource_groups": world.group_ids},
    }
    identity = "msg" if what == "one second" else "scope_id, entity_id, metric, gpu_type, time"
    count = f"SELECT count(), uniqExact({identity}) FROM {table}"
    async with simulator(world) as api:
        price = {"prices": {name: {"cny": Decimal("0.01"), "free_calls_per_month": 0}}}
        sections["api"] = {"base_url": api.base_url} | price
        poor = settings(tmp_path, api.base_url, **sections, budget={"monthly_cny": Decimal("0.01") * pages})
        assert (await run_once(poor)).budget is not None
        assert calls(api, name) == pages
        open_windows = contents(poor.journal.path)["open_windows"]
        assert name in {each["operation"] for each in open_windows}
        ((stored, _),) = await fetch(poor, count)
        assert stored > 0
        assert await fetch(poor, f"SELECT count() FROM watermarks WHERE operation = '{name}'") == [[0]]

        # Nothing new was read: nothing is stored again.
        assert (await run_once(poor)).budget is not None
        assert (await fetch(poor, count))[0][0] == stored

        rich = settings(tmp_path, api.base_url, **sections)
        assert (await run_once(rich)).budget is None
        assert contents(rich.journal.path)["open_windows"] == []
        if what == "one second":
            truth = true_syslogs(world, world.node_ids, NOW - 70, NOW - SETTLE)
            assert not differences(truth, await stored_syslogs(rich))
        else:
            ((rows, distinct),) = await fetch(rich, count)
            assert rows == distinct > stored
