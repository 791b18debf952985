"""Every source, from the service to its table, on both gateways: what is stored is the truth, once."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from collector.owner.instance import Owner
from collector.settings import Settings
from collector.simulator.account import CANARY, Account
from collector.simulator.clock import SimulatorClock
from collector.simulator.server import Simulator
from collector.simulator.world import World
from tests.support import NOW, calls, fetch, run_once, settings, simulator
from tests.support.default_chain import use_access_key

SETTLE, STEP, LOOKBACK = 60, 300, 3600
GATEWAYS = ("bearer", "openapi")
DISCOVER = ("clusters", "resource_groups", "jobs", "instances", "services", "eas_resources")


@pytest.fixture(params=[pytest.param(GATEWAYS[0], marks=pytest.mark.slow("second gateways")), GATEWAYS[1]])
def gateway(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Each gateway in turn, with the credentials that it takes."""
    use_access_key(monkeypatch, tmp_path)
    return str(request.param)


def a_world() -> World:
    return World(seed=7, node_count=4, group_count=2, density=0.2)


def configuration(folder: Path, api: Simulator, gateway: str = "bearer", **targets: Any) -> Settings:
    return settings(
        folder,
        api.base_url,
        api={"base_url": api.base_url, "gateway": gateway},
        targets=targets,
        sources={
            "syslogs": {"initial_lookback": "5m", "settle": "60s", "recheck": []},
            "node_metrics": {"recheck": ["30m"]},
            "job_metrics": {"recheck": ["30m"]},
            "events": {"recheck": ["30m"]},
        },
    )


Points = dict[tuple[str, str, str, str, int], float]


def true_points(api: Simulator, now: int, *, since: int) -> dict[str, Points]:
    """(scope, entity, metric, GPU type, time) -> value, by source, of every step that is over and settled."""
    end = now - SETTLE - STEP
    account, listings = api.backend.account, api.backend.listings
    scopes = {
        "node_metrics": ("GetNodeMetrics", account.group_ids, ("CpuUsageRate", "GpuUsageRate")),
        "job_metrics": ("GetJobMetrics", account.job_ids(now), ("GpuCoreUsage", "MemoryUsage")),
        "dsw_metrics": ("GetInstanceMetrics", account.instance_ids, ("GpuCoreUsage", "MemoryUsage")),
    }
    truth: dict[str, Points] = {}
    for source, (operation, ids, metrics) in scopes.items():
        points = truth.setdefault(source, {})
        for scope in ids:
            for metric in metrics:
                told: Any = listings[operation]
                for series, values in told.truth(scope, metric, since, end).items():
                    points |= {(scope, series[0], metric, series[1], time): value for time, value in values.items()}
    return truth


async def stored_points(configuration: Settings, source: str) -> Points:
    rows = await fetch(
        configuration,
        "SELECT scope_id, entity_id, metric, gpu_type, toUnixTimestamp(time), value FROM metric_points"
        " WHERE source = {source:String}",
        {"source": source},
    )
    points = {tuple(row[:5]): row[5] for row in rows}
    assert len(points) == len(rows), "a point is stored twice"
    return points


async def test_everything_discovered_is_collected(tmp_path: Path, gateway: str) -> None:
    """With nothing named but what to look for, every source fills its table through either gateway."""
    async with simulator(a_world()) as api:
        config = configuration(tmp_path, api, gateway, discover=DISCOVER)
        report = await run_once(config)
        account = api.backend.account
        assert report.failures == {}

        kinds = dict(await fetch(config, "SELECT kind, count() FROM inventory GROUP BY kind"))
        assert kinds == {
            "cluster": len(account.cluster_ids),
            "node": 4,
            "resource_group": 2,
            "job": len(account.jobs(NOW)),
            "instance": len(account.instance_ids),
            "service": len(account.service_ids),
            "eas_resource": len(account.eas_resource_ids),
        }
        nodes = await fetch(config, "SELECT node_id, cluster_id, operating_state FROM nodes ORDER BY 1")
        assert nodes == sorted(
            [node, cluster, account.node_state(node, NOW)]
            for cluster in account.cluster_ids
            for node in account.nodes_of(cluster)
        )
        counts = {
            table: (await fetch(config, f"SELECT count() FROM {table}"))[0][0]
            for table in ("syslogs", "user_metrics", "resource_group_metrics", "metric_points", "events", "diagnostics")
        }
        assert all(counts.values()), counts
        shipping = await fetch(config, "SELECT cluster_id, resource_id FROM resource_logs ORDER BY 2")
        assert ["/".join(row) for row in shipping] == sorted(account.eas_resource_ids)
        metered = dict(await fetch(config, "SELECT operation, sum(calls) FROM api_calls GROUP BY 1"))
        assert metered == {name: stats.calls for name, stats in api.stats.items() if stats.calls}


@pytest.mark.slow("sources end to end")
async def test_no_secret_of_a_list_is_stored(tmp_path: Path) -> None:
    """Tokens of services and environments of jobs are left out, in the store and in the journal."""
    async with simulator(a_world()) as api:
        config = configuration(tmp_path, api, discover=DISCOVER)
        await run_once(config)
    jobs = await fetch(config, "SELECT attributes FROM inventory WHERE kind IN ('job', 'service', 'instance')")
    assert jobs
    for (attributes,) in jobs:
        assert CANARY not in attributes
    for file in tmp_path.rglob("*"):
        if file.is_file():
            assert CANARY.encode() not in file.read_bytes(), file


@pytest.mark.slow("sources end to end")
async def test_series_are_the_truth_and_a_second_run_collects_what_is_new(tmp_path: Path, gateway: str) -> None:
    """Points of nodes, jobs and notebooks: each once, with its value, and no step that is still being filled."""
    clock = SimulatorClock.frozen(NOW)
    async with simulator(a_world(), clock) as api:
        account = api.backend.account
        config = configuration(
            tmp_path, api, gateway, resource_groups=account.group_ids, jobs=account.job_ids(NOW),
            instances=account.instance_ids,
        )  # fmt: skip
        config = config.model_copy(
            update={
                "sources": config.sources.model_copy(
                    update={
                        "job_metrics": config.sources.job_metrics.model_copy(
                            update={"metric_types": ("GpuCoreUsage", "MemoryUsage")}
                        )
                    }
                )
            }
        )
        await run_once(config)
        for source, points in true_points(api, NOW, since=NOW - LOOKBACK).items():
            stored = await stored_points(config, source)
            # A machine that lags is not read yet; what is stored of it is final all the same.
            assert stored.items() <= points.items(), source
            assert len(stored) > len(points) // 2, source

        # Later, with the rechecks done, what lagged is there too.
        later = NOW + 3 * 3600
        clock.set(later)
        await run_once(config)
        end = later - 2 * 3600
        for source, points in true_points(api, later, since=NOW - LOOKBACK).items():
            stored = await stored_points(config, source)
            assert stored.items() <= points.items(), source
            assert {key for key in points if key[4] < end} - set(stored) == set(), source


@pytest.mark.slow("sources end to end")
async def test_a_value_that_changes_later_is_counted_and_the_first_one_stays(tmp_path: Path) -> None:
    """The service rewrites its past: history says what was seen first, and that it differs."""
    clock = SimulatorClock.frozen(NOW)
    async with simulator(a_world(), clock) as api:
        group = api.backend.account.group_ids[0]
        config = configuration(tmp_path, api, resource_groups=[group])
        await run_once(config)
        before = await stored_points(config, "node_metrics")
        scope, entity, metric, _, time = max(before, key=lambda key: key[4])
        changed = [key for key in before if key[:3] == (scope, entity, metric) and key[4] == time]
        api.backend.measurements.revise(scope, entity, metric, time)

        clock.set(NOW + 3 * 3600)
        await run_once(config)
        after = await stored_points(config, "node_metrics")
    assert {key: after[key] for key in before} == before
    async with await Owner.open(config) as owner:
        assert (await owner.journal.counters())["conflicts"] == len(changed)


@pytest.mark.slow("sources end to end")
async def test_events_are_the_truth_with_equal_ones_kept_apart(tmp_path: Path, gateway: str) -> None:
    """Events of services and jobs, field by field, as multisets; a second run adds only what is new."""
    clock = SimulatorClock.frozen(NOW)
    async with simulator(a_world(), clock) as api:
        account, log = api.backend.account, api.backend.events
        config = configuration(tmp_path, api, gateway, services=account.service_ids, jobs=account.job_ids(NOW))
        log.storm(account.service_ids[0], NOW - 900, 230)
        for now in (NOW, NOW + 600):
            clock.set(now)
            await run_once(config)
        start, end = NOW - LOOKBACK, NOW + 600 - SETTLE
        rows = await fetch(
            config, "SELECT source, scope_id, toUnixTimestamp(time), event_type, reason, content FROM events"
        )
        expected: Counter[tuple[Any, ...]] = Counter()
        for scope in account.service_ids:
            for event in log.service_events(scope, start, end):
                wire = event.wire
                expected["eas", scope, event.time, wire["Type"], wire["Reason"], wire["Message"]] += 1
        for job in account.job_ids(NOW):
            for event in log.job_events(job, start, end):
                stamp = datetime.fromtimestamp(event.time, UTC).strftime("%Y-%m-%d %H:%M:%S")
                expected["dlc", job, event.time, "", "", event.wire.removeprefix(stamp).strip()] += 1
    stored = Counter(tuple(row) for row in rows)
    assert expected.total() > 230
    assert stored - expected == Counter()
    assert expected - stored == Counter()


@pytest.mark.slow("answers of ten thousand records")
async def test_an_answer_that_is_full_is_split_down_to_a_second_and_the_rest_is_a_gap(tmp_path: Path) -> None:
    """More events in one second than an answer holds: what came is stored, and the cut is told."""
    async with simulator(a_world()) as api:
        account, log = api.backend.account, api.backend.events
        job = next(job for job in account.jobs(NOW) if job.status(NOW) == "Running")
        second = NOW - 1800
        log.storm(job.job_id, second, 10_400)
        log.storm(job.job_id, second + 60, 9_000)
        log.storm(job.job_id, second + 62, 9_000)
        config = configuration(tmp_path, api, jobs=[job.job_id])
        report = await run_once(config)
        assert report.failures == {}
        count = "SELECT toUnixTimestamp(time) - {second:UInt32} AS at, count() FROM events WHERE at IN (0, 60, 62)"
        counts = dict(await fetch(config, f"{count} GROUP BY at", {"second": second}))
        for at in (60, 62):
            assert counts[at] == len(log.job_events(job.job_id, second + at, second + at + 1))
        assert 9_000 < counts[0] <= 10_000
        gaps = await fetch(
            config, "SELECT operation, scope_id, toUnixTimestamp(start), toUnixTimestamp(end), reason FROM gaps"
        )
        assert ["GetJobEvents", job.job_id, second, second + 1, "cut off"] in gaps
        # Neighbours are asked for with a margin that reaches into the storm: whether they are whole is not known.
        near = {at + beside for at in (0, 60, 62) for beside in (-2, -1, 0, 1)}
        assert {gap[2] - second for gap in gaps} <= near
        assert calls(api, "GetJobEvents") < 120


@pytest.mark.slow("sources end to end")
async def test_a_job_that_has_ended_costs_no_more_calls(tmp_path: Path) -> None:
    """A discovered job is asked for until its end and a little after, and then no more."""
    clock = SimulatorClock.frozen(NOW)
    async with simulator(a_world(), clock) as api:
        config = configuration(tmp_path, api, discover=("jobs",))
        await run_once(config)
        ended = [job for job in api.backend.account.jobs(NOW) if job.finished < NOW - 2 * 3600]
        assert ended
        marks = await fetch(config, "SELECT scope_id FROM watermarks WHERE operation = 'GetJobEvents'")
        assert {row[0] for row in marks}.isdisjoint(job.job_id for job in ended)


@pytest.mark.slow("sources end to end")
async def test_a_node_that_comes_to_a_cluster_is_watched(tmp_path: Path) -> None:
    """Discovery goes on: a node that joins is collected, one that leaves is shown as gone."""
    clock = SimulatorClock.frozen(NOW)
    world = a_world()
    account = Account(world)
    node = world.node_ids[0]
    account.leave(node, NOW - 10, NOW + 100)
    async with simulator(world, clock, account=account) as api:
        config = configuration(tmp_path, api, clusters=account.cluster_ids)
        await run_once(config)
        assert await fetch(config, "SELECT count() FROM watermarks WHERE scope_id = {n:String}", {"n": node}) == [[0]]
        clock.set(NOW + 1200)
        await run_once(config)
        assert await fetch(config, "SELECT count() FROM watermarks WHERE scope_id = {n:String}", {"n": node}) == [[1]]
        account.leave(node, NOW + 1300, NOW + 9000)
        clock.set(NOW + 2400)
        await run_once(config)
        shown = await fetch(config, "SELECT is_present FROM nodes WHERE node_id = {n:String}", {"n": node})
        assert shown == [[0]]


@pytest.mark.slow("sources end to end")
async def test_the_collector_sends_its_own_spans_where_that_is_asked_for(tmp_path: Path, gateway: str) -> None:
    """One setting: windows, pages and segments arrive at the endpoint that GetXtraceToken names; off by default."""
    async with simulator(a_world()) as api:
        config = configuration(tmp_path, api, gateway, nodes=api.world.node_ids)
        await run_once(config)
        assert calls(api, "GetXtraceToken") == 0
        traced = config.model_copy(update={"tracing": config.tracing.model_copy(update={"enabled": True})})
        api.clock.advance(600)
        await run_once(traced)
        assert calls(api, "GetXtraceToken") == 1
        names = {name for upload in api.backend.traces.received for name in upload.span_names}
        assert names == {"window", "page", "segment"}


@pytest.mark.parametrize("sort_by", ["UserId", "NoSuchField"])
@pytest.mark.slow("sources end to end")
async def test_lists_of_users_are_sorted_unless_the_service_refuses_it(sort_by: str, tmp_path: Path) -> None:
    """Every page is asked for in one stable order; a field that the service does not know costs one call."""
    world = World(seed=7, node_count=4, group_count=1, density=0.2)
    async with simulator(world) as api:
        config = settings(
            tmp_path,
            api.base_url,
            targets={"resource_groups": world.group_ids},
            sources={"user_metrics": {"page_size": 5, "sort_by": sort_by, "order": "desc"}},
        )
        report = await run_once(config)
        assert not report.failures
        users = await fetch(config, "SELECT user_id, job_type FROM user_metrics")
        assert len(users) == len({(user, job_type) for user, job_type in users}) > 5
        pages = -(-len(users) // 5)
        assert calls(api, "GetUserViewMetrics") == pages + (sort_by != "UserId")
