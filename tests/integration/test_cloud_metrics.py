"""CloudMonitor, from its lists to the table: what is stored is the truth, once, at the calls that `plan` said."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from collector.errors import FreeCallsUsedUp, UsageError
from collector.model import Window
from collector.owner.planning import demands_of
from collector.owner.prices import prices_of
from collector.pipeline.plan import plan
from collector.service.http import serving_http
from collector.settings import Settings
from collector.simulator.clock import SimulatorClock
from collector.simulator.cloud_monitor import METRICS, NAMESPACES, Metric
from collector.simulator.faults import Fault, FaultKind
from collector.simulator.server import SIMULATOR_KEY, Simulator
from collector.simulator.world import World
from tests.support import NOW, calls, fetch, run_once, settings, simulator
from tests.support.default_chain import use_access_key
from tests.support.range_commands import answer, asked, report
from tests.support.running_service import running
from tests.support.sessions import session
from tests.support.warm_commands import run_command

SETTLE, LOOKBACK = 300, 3600
POD = "acs_pai_dlc/GPU_CORE_USAGE"
PAI = [metric for metric in METRICS if metric.namespace.startswith("acs_pai_")]

Row = tuple[str, str, str, str, str, int, float]
"""Scope, entity, GPU type, statistic, dimensions, time, value."""


def a_world() -> World:
    return World(seed=7, node_count=2, group_count=2, users_per_group=4, density=0.2)


@pytest.fixture(params=["bearer", "openapi"])
def gateway(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Each gateway in turn, with the credentials that it takes."""
    use_access_key(monkeypatch, tmp_path)
    return str(request.param)


def cloud(folder: Path, api: Simulator, gateway: str = "bearer", **given: Any) -> Settings:
    """A configuration that collects nothing but the metrics of training jobs, unless told otherwise."""
    section = {"namespaces": ["acs_pai_dlc"], "metrics": ["GPU_CORE_USAGE"], "period": "60s", "recheck": []} | given
    return settings(
        folder,
        api.base_url,
        api={"gateway": gateway},
        targets={},
        sources={"cloud_metrics": section, "inventory": {"interval": "10m"}},
    )


def row_of(point: dict[str, Any], statistic: str) -> Row:
    """A point as the table has it, by what its dimensions are called."""
    known = {"timestamp", "Average", "Minimum", "Maximum"}
    dimensions = {name: value for name, value in point.items() if name not in known}
    scope = next((point[name] for name in ("jobId", "service", "quotaId", "instanceId") if name in point), "")
    entity = next((point[name] for name in ("podId", "instance", "nodeId", "subUserId") if name in point), "")
    text = json.dumps(dict(sorted(dimensions.items())), separators=(",", ":"))
    return scope, entity, point.get("gpuType", ""), statistic, text, point["timestamp"] // 1000, point[statistic]


def truth(
    api: Simulator,
    namespace: str,
    metric: str,
    start: int,
    end: int,
    period: int = 60,
    statistics: Iterable[str] = ("Average",),
) -> list[Row]:
    """Every row of `[start, end)`, sorted."""
    points = api.backend.cloud.truth(namespace, metric, start, end, period)
    return sorted(row_of(point, statistic) for point in points for statistic in statistics)


async def stored(config: Settings, namespace: str, metric: str, period: int = 60) -> list[Row]:
    rows = await fetch(
        config,
        "SELECT scope_id, entity_id, gpu_type, statistic, dimensions, toUnixTimestamp(time), value FROM metric_points"
        " WHERE source = 'cloud_metrics' AND namespace = {namespace:String} AND metric = {metric:String}"
        " AND period_seconds = {period:UInt32}",
        {"namespace": namespace, "metric": metric, "period": period},
    )
    return sorted(tuple(row) for row in rows)


async def test_what_patterns_name_is_found_and_collected(tmp_path: Path, gateway: str) -> None:
    """Namespaces and metrics come out of the lists, with their units; what is not named is not asked for."""
    async with simulator(a_world()) as api:
        config = cloud(tmp_path, api, gateway, namespaces=["acs_pai_*"], metrics=["*GPU*", "QPS"], period="5m")
        report = await run_once(config)
        assert report.failures == {}

        end = NOW - SETTLE - 300
        wanted = [metric for metric in PAI if "GPU" in metric.name or metric.name == "QPS"]
        for metric in wanted:
            found = await stored(config, metric.namespace, metric.name, 300)
            assert found == truth(api, metric.namespace, metric.name, NOW - LOOKBACK, end, 300), metric
        told = await fetch(config, "SELECT DISTINCT namespace, metric, unit FROM metric_points ORDER BY 1, 2")
        assert told == sorted([metric.namespace, metric.name, metric.unit] for metric in wanted)
        listed = dict(await fetch(config, "SELECT kind, count() FROM inventory GROUP BY kind"))
        assert listed == {"cloud_namespace": len(NAMESPACES), "cloud_metric": len(PAI)}
        assert api.stats["DescribeMetricList"].by_status.keys() == {200}
        assert api.stats["DescribeMetricList"].by_gateway.keys() == {gateway}


async def test_a_namespace_without_metrics_is_no_failure(tmp_path: Path) -> None:
    """It may have some tomorrow; nothing is asked of it until then."""
    async with simulator(a_world()) as api:
        config = cloud(tmp_path, api, namespaces=["acs_pai_new"], metrics=["*"])
        report = await run_once(config)

        assert report.failures == {}
        assert calls(api, "DescribeMetricList") == 0
        assert calls(api, "DescribeMetricMetaList") == 1


async def test_a_metric_that_comes_is_collected_from_the_next_list_on(tmp_path: Path) -> None:
    """A namespace without metrics gets one, which is collected then as far as it looks back."""
    clock = SimulatorClock.frozen(NOW)
    async with simulator(a_world(), clock) as api:
        config = cloud(tmp_path, api, namespaces=["acs_pai_n*"], metrics=["*"])
        await run_once(config)
        api.backend.cloud.add(Metric("acs_pai_new", "GPU_UTIL", "GpuCoreUsage", ("userId", "jobId", "podId")))
        api.backend.cloud.add_series("acs_pai_new", "GPU_UTIL", [{"jobId": "dlcnew", "podId": "dlcnew-worker-0"}])
        clock.advance(1200)
        report = await run_once(config)

        assert report.failures == {}
        found = await stored(config, "acs_pai_new", "GPU_UTIL")
        assert found == truth(api, "acs_pai_new", "GPU_UTIL", NOW + 1200 - LOOKBACK, NOW + 1200 - SETTLE - 60)
        assert len(found) == (LOOKBACK - SETTLE) // 60 - 1


@dataclass(frozen=True)
class Commands:
    """Command lines of a process of its own, before a simulator."""

    folder: Path
    api: Simulator

    async def __call__(self, *words: str, **wrong: str) -> tuple[int, str]:
        """Exit status and all that was said, of a configuration with these keys."""
        keys = {"namespaces": '["acs_pai_dlc"]', "metrics": '["*"]'} | wrong
        section = "".join(f"{name} = {value}\n" for name, value in keys.items())
        api = f'[api]\ngateway = "openapi"\nbase_url = "{self.api.base_url}"\n'
        (self.folder / "collector.toml").write_text(f"{api}[sources.cloud_metrics]\n{section}")
        environ = {**os.environ, "PAI_COLLECTOR_CONFIG": str(self.folder / "collector.toml")}
        ran = await run_command(["--log-format", "console", *words], environ, self.folder, 120)
        return ran.status, ran.stdout.decode() + ran.stderr


async def test_what_fits_nothing_is_told_by_every_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key, what it says and what would be right: of the check before the first run, of run, status and preview."""
    use_access_key(monkeypatch, tmp_path)
    async with simulator(a_world()) as api:
        command = Commands(tmp_path, api)
        told = '"acs_foo_*", which fits none of the service\'s namespaces (8); expected one of acs_pai_'
        status, said = await command("check", namespaces='["acs_foo_*"]')
        assert status == 1
        assert f"sources.cloud_metrics.namespaces: got {told}" in " ".join(said.split())
        status, said = await command("check", metrics='["NOPE"]')
        assert status == 1
        assert 'metrics: got "NOPE", which fits none of the metrics' in said
        status, said = await command("preview", "cloud_metrics")
        assert status == 2
        assert "have not been read" in said
        wrong = {"period": '"61s"', "statistics": '["Sum"]', "metrics": '["GPU_CORE_USAGE", "NOPE"]'}
        lines = [
            'metrics: got "NOPE", which fits none of the metrics of these namespaces (8); expected one of CPU_CORE',
            'period: got "61s", which none of the metrics that fit (1) has; expected one of 1m, 5m, 15m, 1h; '
            "they are asked with 5m",
            'statistics: got "Sum", which none of the metrics that fit (1) has; expected any of Average, Max',
        ]
        for words, ends_with in ((["run", "--once"], 0), (["status"], 0)):
            status, said = await command(*words, **wrong)
            assert status == ends_with
            for line in lines:
                assert f"note: sources.cloud_metrics.{line}" in said
        status, said = await command("preview", "cloud_metrics", metrics='["NOPE"]')
        assert status == 2
        assert 'error: sources.cloud_metrics.metrics: got "NOPE"' in said
        status, said = await command("check", **wrong)
        assert status == 1
        assert [line in said for line in lines] == [True] * len(lines)
        assert (await command("check"))[0] == 0


async def test_statistics_are_rows_of_one_call(tmp_path: Path) -> None:
    """Average, minimum and maximum of a point come together; a statistic that a metric lacks costs no point."""
    every = ("Average", "Minimum", "Maximum")
    async with simulator(a_world()) as api:
        config = cloud(tmp_path, api, statistics=[*every, "Sum"], period="5m")
        await run_once(config)

        found = await stored(config, "acs_pai_dlc", "GPU_CORE_USAGE", 300)
        assert found == truth(api, "acs_pai_dlc", "GPU_CORE_USAGE", NOW - LOOKBACK, NOW - SETTLE - 300, 300, every)
        assert calls(api, "DescribeMetricList") == 1


async def test_an_unknown_dimension_is_kept(tmp_path: Path) -> None:
    """A dimension that no list names is in the column of all dimensions, and the row is where the known ones put it."""
    async with simulator(a_world()) as api:
        api.backend.cloud.add_dimension("acs_pai_dlc", "rack", "r7")
        config = cloud(tmp_path, api)
        await run_once(config)

        assert await stored(config, "acs_pai_dlc", "GPU_CORE_USAGE") == truth(
            api, "acs_pai_dlc", "GPU_CORE_USAGE", NOW - LOOKBACK, NOW - SETTLE - 60
        )
        assert await fetch(
            config, "SELECT DISTINCT JSONExtractString(dimensions, 'rack') FROM metric_points WHERE scope_id != ''"
        ) == [["r7"]]


async def test_points_that_come_late_are_found_by_a_recheck(tmp_path: Path) -> None:
    """What lagged at the first look is stored by the second, and nothing twice."""
    clock = SimulatorClock.frozen(NOW)
    async with simulator(a_world(), clock) as api:
        config = cloud(tmp_path, api, recheck=["1h"], period="5m")
        pod = truth(api, "acs_pai_dlc", "GPU_CORE_USAGE", NOW - LOOKBACK, NOW, 300)[-1][1]
        api.backend.measurements.add_lag(pod, 1800)
        await run_once(config)
        first = await stored(config, "acs_pai_dlc", "GPU_CORE_USAGE", 300)
        end = NOW - SETTLE - 300
        whole = truth(api, "acs_pai_dlc", "GPU_CORE_USAGE", NOW - LOOKBACK, end, 300)
        assert set(first) < set(whole)
        assert {row[1] for row in set(whole) - set(first)} == {pod}

        clock.advance(7200)
        await run_once(config)
        api.backend.measurements.add_lag(pod, -1800)
        found = await stored(config, "acs_pai_dlc", "GPU_CORE_USAGE", 300)
        assert [row for row in found if row[5] < end] == whole
        assert len(set(found)) == len(found)


@pytest.mark.parametrize(("old", "new"), [(60, 300), pytest.param(300, 60, marks=pytest.mark.slow("periods"))])
async def test_another_period_changes_nothing_of_the_past(tmp_path: Path, old: int, new: int) -> None:
    """What was stored stays and is looked at again with its own period; the new one goes on where that ended."""
    clock = SimulatorClock.frozen(NOW)
    async with simulator(a_world(), clock) as api:
        before = cloud(tmp_path, api, recheck=["15m"], period=f"{old}s")
        await run_once(before)
        switch = NOW - SETTLE - old
        pod = truth(api, "acs_pai_dlc", "GPU_CORE_USAGE", NOW - LOOKBACK, NOW)[-1][1]

        clock.advance(3600)
        after = cloud(tmp_path, api, recheck=["15m"], period=f"{new}s")
        for _ in range(2):
            assert (await run_once(after)).failures == {}
            clock.advance(1800)
        past = await stored(after, "acs_pai_dlc", "GPU_CORE_USAGE", old)
        assert past == truth(api, "acs_pai_dlc", "GPU_CORE_USAGE", NOW - LOOKBACK, switch, old)
        since = await stored(after, "acs_pai_dlc", "GPU_CORE_USAGE", new)
        assert since == truth(api, "acs_pai_dlc", "GPU_CORE_USAGE", switch, NOW + 5400 - SETTLE - new, new)
        assert pod in {row[1] for row in past}
        (rechecked,) = await fetch(
            after,
            "SELECT toUnixTimestamp(watermark) FROM watermarks WHERE scope_id = {scope:String}",
            {"scope": f"{POD}/{old}"},
        )
        assert rechecked == [switch]


async def test_a_period_that_a_metric_lacks_is_the_next_longer_one(tmp_path: Path) -> None:
    """Which periods there are, the list of metrics says."""
    async with simulator(a_world()) as api:
        config = cloud(tmp_path, api, period="10m", interval="1h")
        await run_once(config)

        assert await fetch(config, "SELECT DISTINCT period_seconds FROM metric_points") == [[900]]


@pytest.mark.parametrize(
    "signs", [{"Success": False, "Code": "500", "Message": "busy"}, {"Success": False, "Code": "200"}]
)
async def test_an_answer_without_success_is_never_an_empty_range(tmp_path: Path, signs: dict[str, Any]) -> None:
    """It is asked again, and what is stored then is the truth."""
    async with simulator(a_world()) as api:
        api.faults = [Fault(kind=FaultKind.DENIED, operation="DescribeMetricList", times_max=2, signs=signs)]
        config = cloud(tmp_path, api)
        report = await run_once(config)

        assert report.failures == {}
        assert calls(api, "DescribeMetricList") == 3
        assert await stored(config, "acs_pai_dlc", "GPU_CORE_USAGE") == truth(
            api, "acs_pai_dlc", "GPU_CORE_USAGE", NOW - LOOKBACK, NOW - SETTLE - 60
        )


async def test_a_pot_that_is_used_up_is_the_end_of_a_budget(tmp_path: Path) -> None:
    """The service takes no further query this month: one call finds out, nothing has failed, and nothing is lost."""
    clock = SimulatorClock.frozen(NOW)
    async with simulator(a_world(), clock) as api:
        api.backend.cloud.calls_max = 1
        config = cloud(tmp_path, api, metrics=["GPU_*"])
        report = await run_once(config)
        assert isinstance(report.budget, FreeCallsUsedUp)
        assert report.failures == {}
        assert len(report.held_back) == 1

        api.backend.cloud.calls_max = None
        clock.advance(600)
        report = await run_once(config)
        assert report.budget is None
        for metric in ("GPU_CORE_USAGE", "GPU_MEMORY_USAGE"):
            found = await stored(config, "acs_pai_dlc", metric)
            times = {row[5] for row in found}
            whole = truth(api, "acs_pai_dlc", metric, min(times), NOW + 600 - SETTLE - 60)
            assert found == whole


async def test_a_run_that_finds_the_pot_used_up_ends_with_4(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what the service said and what can be done, and no stream asks twice."""
    use_access_key(monkeypatch, tmp_path)
    async with simulator(a_world()) as api:
        api.backend.cloud.calls_max = 0
        status, said = await Commands(tmp_path, api)("run", "--once")
        assert status == 4
        assert "user api quota limit" in said
        assert "switch on pay-as-you-go of CloudMonitor Basic" in said
        assert "1 of 9 caught up" in said
        assert calls(api, "DescribeMetricList") <= 8


@pytest.mark.slow("pots")
async def test_a_service_goes_on_when_the_pot_is_filled_again(tmp_path: Path) -> None:
    """Until then status, page and metrics say that the budget stops the operation, and none of its streams fails."""
    sources = {
        **{name: {"enabled": False} for name in ("syslogs", "user_metrics")},
        "cloud_metrics": {
            "namespaces": ["acs_pai_dlc"], "metrics": ["GPU_*", "NOPE"], "interval": "60s", "settle": "60s",
            "recheck": [], "initial_lookback": "10m",
        },
        "inventory": {"interval": "60s"},
    }  # fmt: skip
    async with (
        running(tmp_path, a_world(), targets={}, sources=sources) as run,
        serving_http(run.owner, listen="127.0.0.1:0", token="") as address,
        aiohttp.ClientSession(address) as client,
    ):
        pot = run.api.backend.cloud

        async def told(path: str) -> str:
            async with client.get(path) as answer:
                return await answer.text()

        await run.until(lambda: pot.calls > 1)
        pot.calls_max = pot.calls
        await run.until(lambda: bool(run.service.facts().stops))
        status = json.loads(await told("/status"))
        assert [(stop["what"], stop["operation"]) for stop in status["stops"]] == [("budget", "DescribeMetricList")]
        assert "failing" not in status["states"]
        (shown,) = status["pots"]
        assert shown["calls"] == pot.calls
        assert shown["forecast_calls"] > shown["calls"]
        line = f"{pot.calls} of 1,000,000 free calls this month, forecast {shown['forecast_calls']:,}"
        assert shown["told"] == line
        assert "The budget stops DescribeMetricList" in (page := await told("/"))
        assert f"CloudMonitor queries: {pot.calls} of 1,000,000 free calls this month, forecast " in page
        assert "which fits none of the metrics of these namespaces" in page
        metrics = await told("/metrics")
        assert f'pai_collector_pot_calls{{pot="CloudMonitor queries"}} {pot.calls}.0' in metrics
        assert 'pai_collector_pot_free_calls{pot="CloudMonitor queries"} 1e+06' in metrics
        assert 'pai_collector_pot_forecast_calls{pot="CloudMonitor queries"}' in metrics
        assert 'pai_collector_stopped{operation="DescribeMetricList",what="budget"} 1.0' in metrics

        pot.calls_max = None
        await run.until(lambda: not run.service.facts().stops)
        await run.until(lambda: run.source("DescribeMetricList").states == {"collected": 2})


@pytest.mark.slow("rechecks of the plan")
async def test_rechecks_take_the_calls_of_the_plan(tmp_path: Path) -> None:
    """First looks and rechecks of some hours are what `plan` said of a day, to the hours' part."""
    clock = SimulatorClock.frozen(NOW // 3600 * 3600)
    async with simulator(a_world(), clock) as api:
        # A third of this recheck is three looks, so that single runs ask as often as a service does.
        config = cloud(tmp_path, api, period="5m", interval="10m", recheck=["85m"], initial_lookback="10m")
        lines = [
            line.calls_per_day.most
            for line in plan(demands_of(config, {"cloud_series": 8}), prices_of(config), {}).lines
            if line.demand.operation.name == "DescribeMetricList"
        ]
        for _ in range(15):
            await run_once(config)
            clock.advance(600)
        before, hours = calls(api, "DescribeMetricList"), 2
        for _ in range(hours * 6):
            await run_once(config)
            clock.advance(600)

        assert lines == [144, 48]
        assert calls(api, "DescribeMetricList") - before == sum(lines) * hours // 24


@pytest.mark.parametrize("order", ["by time", pytest.param("in none", marks=pytest.mark.slow("orders of pages"))])
async def test_five_thousand_series_come_in_pages_at_the_calls_of_the_plan(tmp_path: Path, order: str) -> None:
    """A metric of 5,000 pods: every point once, from one stream of pages, and no call beside those that `plan` said."""
    clock = SimulatorClock.frozen(NOW // 3600 * 3600)
    async with simulator(a_world(), clock) as api:
        pods = [{"jobId": "dlcbig", "podId": f"dlcbig-worker-{place}"} for place in range(5000)]
        api.backend.cloud.add_series("acs_pai_eas", "QPS", pods)
        if order == "in none":
            api.faults = [Fault(kind=FaultKind.DISORDER, operation="DescribeMetricList")]
        config = cloud(
            tmp_path, api, namespaces=["acs_pai_eas"], metrics=["QPS"], period="5m", interval="5m",
            initial_lookback="15m", settle="10m",
        )  # fmt: skip
        series = len(truth(api, "acs_pai_eas", "QPS", clock() - 300, clock(), 300))
        demands = demands_of(config, {"cloud_metrics": 1, "cloud_series": series})
        (line,) = [
            line
            for line in plan(demands, prices_of(config), {}).lines
            if line.demand.operation.name == "DescribeMetricList"
        ]
        await run_once(config)
        before = calls(api, "DescribeMetricList")
        looks = 4
        for _ in range(looks):
            clock.advance(300)
            report = await run_once(config)
            assert report.failures == {}

        assert calls(api, "DescribeMetricList") - before == line.calls_per_day.most * looks * 300 // 86_400
        found = await stored(config, "acs_pai_eas", "QPS", 300)
        whole = truth(api, "acs_pai_eas", "QPS", min(row[5] for row in found), clock() - 900, 300)
        assert found == whole
        assert len(found) > 5000 * looks


async def test_a_range_is_filled_and_verified_on_request(tmp_path: Path) -> None:
    """A backfill stores what lies before the first window, and a verification finds every row, once, as it was told."""
    async with simulator(a_world()) as api:
        config = cloud(tmp_path, api, metrics=["GPU_*"], period="5m", statistics=["Average", "Maximum"])
        await run_once(config)
        scope = f"{POD}/300"
        filled = await report(config, "backfill", asked("cloud_metrics", NOW - 3 * LOOKBACK, NOW - LOOKBACK, scope))
        assert filled["failures"] == []
        await run_once(config)
        begin, every = NOW - 3 * LOOKBACK, ("Average", "Maximum")
        whole = truth(api, "acs_pai_dlc", "GPU_CORE_USAGE", begin, NOW - SETTLE - 300, 300, every)
        assert await stored(config, "acs_pai_dlc", "GPU_CORE_USAGE", 300) == whole

        told = await report(config, "verify", asked("cloud_metrics", NOW - 3 * LOOKBACK, NOW, scope))
        assert (told["missing"], told["extra"], told["different"], told["records"]) == (0, 0, 0, len(whole))


async def test_a_page_is_shown_once_the_metrics_are_listed(tmp_path: Path) -> None:
    """A preview costs one call; before the lists have been asked for, it says what is missing."""
    async with simulator(a_world()) as api:
        config = cloud(tmp_path, api)
        what = {"source": "cloud_metrics", "scope": "", "seconds": 3600}
        async with session(config, key=SIMULATOR_KEY) as owner:
            with pytest.raises(UsageError, match="cloud_metrics watches nothing") as refused:
                await answer(owner, "preview", what)
        assert "run --once" in refused.value.hint
        await run_once(config)
        before = calls(api, "DescribeMetricList")
        async with session(config, key=SIMULATOR_KEY) as owner:
            told = await answer(owner, "preview", what)
        assert calls(api, "DescribeMetricList") == before + 1
        (table,) = told["tables"]
        assert table["table"] == "metric_points"
        assert table["rows"]


async def test_a_new_machine_stores_nothing_twice(tmp_path: Path) -> None:
    """Without the journal the stream goes on from the store's watermark, and rows that are there are found there."""
    clock = SimulatorClock.frozen(NOW)
    async with simulator(a_world(), clock) as api:
        config = cloud(tmp_path, api, recheck=["15m"])
        await run_once(config)
        for path in tmp_path.glob("journal.db*"):
            path.unlink()
        clock.advance(1200)
        await run_once(config)

        assert await stored(config, "acs_pai_dlc", "GPU_CORE_USAGE") == truth(
            api, "acs_pai_dlc", "GPU_CORE_USAGE", NOW - LOOKBACK, NOW + 1200 - SETTLE - 60
        )


async def test_a_metric_that_leaves_the_list_is_collected_to_its_end(tmp_path: Path) -> None:
    """The service answers no more of it; what is not collected then is a gap, and no other metric is stopped."""
    clock = SimulatorClock.frozen(NOW)
    async with simulator(a_world(), clock) as api:
        config = cloud(tmp_path, api, metrics=["GPU_*"])
        await run_once(config)
        api.backend.cloud.remove("acs_pai_dlc", "GPU_CORE_USAGE")
        clock.advance(3600)
        report = await run_once(config)

        assert {key.scope_id for key in report.failures} <= {"acs_pai_dlc/GPU_CORE_USAGE/60"}
        assert await stored(config, "acs_pai_dlc", "GPU_MEMORY_USAGE") == truth(
            api, "acs_pai_dlc", "GPU_MEMORY_USAGE", NOW - LOOKBACK, NOW + 3600 - SETTLE - 60
        )


async def test_the_older_operations_go_on_beside_it(tmp_path: Path) -> None:
    """Their rows are what they were, with a measure that CloudMonitor's rows of the same metric share."""
    async with simulator(a_world()) as api:
        config = settings(
            tmp_path,
            api.base_url,
            targets={"discover": ["jobs"]},
            sources={
                "cloud_metrics": {"namespaces": ["acs_pai_dlc"], "metrics": ["GPU_CORE_USAGE"], "recheck": []},
                "job_metrics": {"metric_types": ["GpuCoreUsage"], "recheck": []},
            },
        )
        await run_once(config)

        rows = await fetch(
            config,
            "SELECT DISTINCT source, metric, measure, namespace, period_seconds, statistic FROM metric_points"
            " ORDER BY source",
        )
        assert rows == [
            ["cloud_metrics", "GPU_CORE_USAGE", "GpuCoreUsage", "acs_pai_dlc", 60, "Average"],
            ["job_metrics", "GpuCoreUsage", "GpuCoreUsage", "", 0, ""],
        ]


def test_a_window_is_asked_for_exactly() -> None:
    """The range is documented, so no margin buys points of the neighbouring windows."""
    from collector.model import StreamKey
    from collector.sources.cloud_metrics import CloudMetricsSource

    source = CloudMetricsSource(["Average"])
    key = StreamKey("DescribeMetricList", "cn-test", f"{POD}/60")
    asked = source.parameters(key, Window(NOW, NOW + 300), "t")

    assert asked == {
        "Namespace": "acs_pai_dlc", "MetricName": "GPU_CORE_USAGE", "Period": "60", "Length": "1440", "NextToken": "t",
        "StartTime": str(NOW * 1000 - 1), "EndTime": str((NOW + 300) * 1000 - 1),
    }  # fmt: skip
