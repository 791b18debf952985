"""Simulated metrics: final values are known, and what is shown of them at a moment is what a client must live with."""

from __future__ import annotations

from typing import Any

import pytest

from collector.simulator.account import Account, Job
from collector.simulator.faults import PLACEABLE, FaultKind, Shape
from collector.simulator.paging import iso
from collector.simulator.series import (
    LAG_SECONDS,
    LAGGARD_SECONDS,
    NODE_METRICS,
    InstanceMetricsListing,
    JobMetricsListing,
    Measurements,
    NodeMetricsListing,
    Series,
)
from collector.simulator.world import World
from tests.support.simulated_pages import T, bent, decoded, plain, refusal

START = T // 3600 * 3600
END = START + 3600
LATE = END + 3600
"""By now every point of `[START, END)` is final."""
ACCOUNT = Account(World(seed=7, node_count=2))
MEASURED = Measurements(ACCOUNT)
"""Shared by tests that put nothing into it."""
NODES = NodeMetricsListing(MEASURED)
GROUP = ACCOUNT.group_ids[0]
CPU = {"ResourceGroupID": GROUP, "MetricType": "CpuUsageRate"}
HOUR = {"StartTime": iso(START), "EndTime": iso(END - 1)}

Points = dict[Series, dict[int, float]]


def node_points(answer: dict[str, Any]) -> Points:
    """The answer of `GetNodeMetrics` as the truth has it."""
    return {
        Series(one["NodeID"], one["GPUType"]): {point["Time"]: float(point["Value"]) for point in one["Metrics"]}
        for one in answer["NodesMetrics"]
    }


def pod_points(answer: dict[str, Any], unit: int) -> Points:
    """The answer for a job or a notebook as the truth has it; `unit` is its ticks a second."""
    return {
        Series(one["PodId"]): {point["Time"] // unit: point["Value"] for point in one["Metrics"]}
        for one in answer["PodMetrics"]
    }


def running_job(account: Account = ACCOUNT) -> Job:
    return next(job for job in account.jobs(T) if job.status(START) == job.status(LATE) == "Running")


@pytest.mark.parametrize("metric", NODE_METRICS)
def test_a_past_hour_of_machines_is_the_truth(metric: str) -> None:
    """Every machine of the group, by GPU type, with its final values in text, at multiples of the step."""
    page = NODES.page(CPU | HOUR | {"MetricType": metric}, LATE)
    decoded("GetNodeMetrics", page)
    points = node_points(plain(page))

    truth = NODES.truth(GROUP, metric, START, END)
    assert points == truth
    assert page.rows == sum(map(len, truth.values())) == 12 * len(truth)
    assert set(next(iter(points.values()))) == set(range(START, END, 300))
    assert {series.gpu_type for series in truth} >= {"A100", "V100", ""}


def test_some_machines_report_under_two_gpu_types() -> None:
    """A machine may have a series of its GPUs and one of the whole; those without GPUs have no GPU metric."""
    usage, gpu = (NODES.truth(GROUP, metric, START, END) for metric in ("CpuUsageRate", "GpuUsageRate"))

    entities = [series.entity for series in usage]
    twice = {entity for entity in entities if entities.count(entity) == 2}
    assert twice
    assert len(set(entities)) == ACCOUNT.world.groups[0].node_count
    without = set(entities) - {series.entity for series in gpu}
    assert without
    assert all(Series(entity) in usage for entity in without)
    only = plain(NODES.page(CPU | HOUR | {"GPUType": "a100"}, LATE))
    assert {series.gpu_type for series in node_points(only)} == {"A100"}


def test_values_are_pure_and_differ_by_all_that_names_them() -> None:
    """The same in another account of the seed; another scope, metric, GPU type, step or seed has another value."""
    other = Measurements(Account(World(seed=7, node_count=2)))
    name = (GROUP, "lrn0001", "CpuUsageRate", "A100", START)
    value = MEASURED.value(*name)

    assert other.value(*name) == value
    assert 0 <= value <= 100
    others = [
        MEASURED.value(ACCOUNT.group_ids[1], *name[1:]),
        MEASURED.value(GROUP, "lrn0002", *name[2:]),
        MEASURED.value(GROUP, "lrn0001", "GpuUsageRate", "A100", START),
        MEASURED.value(GROUP, "lrn0001", "CpuUsageRate", "", START),
        MEASURED.value(*name, step_seconds=60),
        Measurements(Account(World(seed=8))).value(*name),
    ]
    assert value not in others


def test_a_step_is_provisional_then_final_after_the_lag() -> None:
    """Nothing before its lag, another number while the step is filled, the final one from the lag behind its end."""
    series = Series("lrn0000", NODES_TYPE)
    lag = int(MEASURED.lag_seconds("lrn0000"))
    final = NODES.truth(GROUP, "CpuUsageRate", START, END)[series][START]

    def shown(now: int) -> float | None:
        return node_points(plain(NODES.page(CPU | HOUR, now)))[series].get(START)

    assert shown(START + lag - 1) is None
    provisional = {shown(second) for second in range(START + lag, START + lag + 300, 7)}
    assert None not in provisional
    assert final not in provisional
    assert len(provisional) > 1
    assert shown(START + lag + 300) == shown(LATE) == final


NODES_TYPE = next(series.gpu_type for series in NODES.truth(GROUP, "CpuUsageRate", START, END))


def test_machines_lag_differently_and_one_by_minutes() -> None:
    """Shortly after a step most machines show it; the laggard of the group shows none for four minutes."""
    lags = {series.entity: MEASURED.lag_seconds(series.entity) for series in NODES.truth(GROUP, "CpuUsageRate", 0, 1)}
    laggards = [entity for entity, lag in lags.items() if lag == LAGGARD_SECONDS]

    assert 1 <= len(laggards) <= 2
    assert len(set(lags.values())) > 3
    assert all(lag < LAG_SECONDS[1] for entity, lag in lags.items() if entity not in laggards)
    now = END + LAG_SECONDS[1]
    points = node_points(plain(NODES.page(CPU | {"StartTime": iso(END), "EndTime": iso(END)}, now)))
    assert {series.entity for series, values in points.items() if not values} == set(laggards)


def test_more_lag_makes_points_late() -> None:
    """Points of an entity whose lag grew come later, with the same final values."""
    measured = Measurements(ACCOUNT)
    nodes = NodeMetricsListing(measured)
    measured.add_lag("lrn0000", 3000)

    points = node_points(plain(nodes.page(CPU | HOUR, END + 100)))
    delayed, other = (next(v for s, v in points.items() if s.entity == entity) for entity in ("lrn0000", "lrn0002"))

    assert len(delayed) < 4
    assert len(other) >= 11
    assert node_points(plain(nodes.page(CPU | HOUR, END + 4000))) == NODES.truth(GROUP, "CpuUsageRate", START, END)


def test_a_revised_value_is_another_for_good() -> None:
    """After a correction both the truth and the answer show a new value for that step, and for no other."""
    measured = Measurements(ACCOUNT)
    nodes = NodeMetricsListing(measured)
    before = nodes.truth(GROUP, "CpuUsageRate", START, END)

    measured.revise(GROUP, "lrn0000", "CpuUsageRate", START + 600)

    after = nodes.truth(GROUP, "CpuUsageRate", START, END)
    changed = {
        (series.entity, time) for series, values in after.items() for time in values
        if values[time] != before[series][time]
    }  # fmt: skip
    assert changed == {("lrn0000", START + 600)}
    assert node_points(plain(nodes.page(CPU | HOUR, LATE))) == after


def test_the_range_is_closed_or_half_open_and_the_last_hour_by_default() -> None:
    """Both ends belong to it unless the bounds say otherwise; without times the last hour is told."""
    exact = {"StartTime": iso(START), "EndTime": iso(END)}
    half_open = NodeMetricsListing(MEASURED, bounds="half_open")

    def times(listing: NodeMetricsListing, parameters: dict[str, Any], now: float = LATE) -> list[int]:
        return list(next(iter(node_points(plain(listing.page(CPU | parameters, now))).values())))

    assert times(NODES, exact) == list(range(START, END + 1, 300))
    assert times(half_open, exact) == list(range(START, END, 300))
    assert times(NODES, {"StartTime": f"{iso(START)[:-1]}.001Z", "EndTime": iso(END)}) == times(NODES, exact)[1:]
    assert times(NODES, {"TimeStep": "30m"}, LATE) == [END, END + 1800]
    assert times(NODES, {}, LATE + 299)[0] == END + 300
    assert times(NODES, exact | {"TimeStep": "600"}) == list(range(START, END + 1, 600))


def test_what_cannot_be_asked_is_refused() -> None:
    """Unknown metrics, groups, jobs and notebooks, ranges that end first, and answers beyond all bounds."""
    bad_request = (400, "InvalidParameter")
    usage, jobs = {"MetricType": "GpuCoreUsage"}, JobMetricsListing(MEASURED)

    assert refusal(NODES, CPU | {"MetricType": "Nonsense"}) == bad_request
    assert refusal(NODES, CPU | {"ResourceGroupID": "rgnone"}) == (404, "InvalidResourceGroupID.NotFound")
    assert refusal(NODES, CPU | {"StartTime": iso(END), "EndTime": iso(START)}) == bad_request
    assert refusal(NODES, CPU | {"StartTime": iso(T - 86_400 * 300), "TimeStep": "1s"}) == bad_request
    assert refusal(jobs, usage | {"JobId": "dlcnone"}) == (404, "InvalidJobId.NotFound")
    coming = ACCOUNT.jobs_between(T + 1, T + 86_400 * 7)[0].job_id
    assert refusal(jobs, usage | {"JobId": coming}) == (404, "InvalidJobId.NotFound")
    assert refusal(jobs, {"JobId": running_job().job_id, "MetricType": "CpuUsageRate"}) == bad_request
    instances = InstanceMetricsListing(MEASURED)
    assert refusal(instances, usage | {"InstanceId": "dsw-none"}) == (404, "InvalidInstanceId.NotFound")


def test_a_running_job_is_told_in_milliseconds() -> None:
    """Each pod's values as numbers, at times in milliseconds."""
    job, jobs = running_job(), JobMetricsListing(MEASURED)
    page = jobs.page({"JobId": job.job_id, "MetricType": "GpuCoreUsage"} | HOUR, LATE)

    answer = decoded("GetJobMetrics", page)
    assert answer.job_id == job.job_id
    assert answer.pod_metrics[0].metrics[0].time == START * 1000
    points = pod_points(plain(page), 1000)
    assert points == jobs.truth(job.job_id, "GpuCoreUsage", START, END)
    assert [series.entity for series in points] == list(job.pod_ids)


def test_a_job_has_points_only_while_it_runs() -> None:
    """The first step is the one in which it starts, the last the one in which it ends; before and after, none."""
    jobs = JobMetricsListing(MEASURED)
    job = next(job for job in ACCOUNT.jobs(T) if job.finished < T and job.slot % 2)
    asked = {
        "JobId": job.job_id, "MetricType": "MemoryUsage",
        "StartTime": iso(job.created - 3600), "EndTime": iso(job.finished + 3600),
    }  # fmt: skip

    points = pod_points(plain(jobs.page(asked, T)), 1000)

    assert points == jobs.truth(job.job_id, "MemoryUsage", job.created - 3600, job.finished + 3600)
    times = list(points[Series(job.pod_ids[0])])
    assert times == list(range(job.started // 300 * 300, job.finished, 300))
    queued = pod_points(plain(jobs.page({**asked, "EndTime": iso(job.created)}, job.created)), 1000)
    assert queued == {Series(pod): {} for pod in job.pod_ids}


def test_a_notebook_is_told_in_seconds_and_in_an_envelope() -> None:
    """Values as numbers at times in seconds while it runs; code, status and success around them."""
    instances = InstanceMetricsListing(MEASURED)
    always, by_day = ACCOUNT.instance_ids
    midnight = START // 86_400 * 86_400
    asked = {"MetricType": "cpucoreusage", "StartTime": iso(midnight - 7200), "EndTime": iso(midnight + 7200)}

    answer = decoded("GetInstanceMetrics", instances.page(asked | {"InstanceId": always}, midnight + 9000))
    assert (answer.http_status_code, answer.success, answer.code) == (200, True, "")
    assert answer.pod_metrics[0].metrics[0].time == midnight - 7200
    night = pod_points(plain(instances.page(asked | {"InstanceId": by_day}, midnight + 9000)), 1)
    assert list(night[Series(f"{by_day}-0")]) == list(range(midnight + 3600, midnight + 7201, 300))
    assert night == instances.truth(by_day, "CpuCoreUsage", midnight - 7200, midnight + 7201)


def test_series_come_out_of_order_when_a_fault_says_so() -> None:
    """The same points, in another order of machines and of times."""
    ordered, shuffled = (plain(NODES.page(CPU | HOUR, LATE, fired)) for fired in (bent(), bent(FaultKind.DISORDER)))

    assert shuffled != ordered
    assert node_points(shuffled) == node_points(ordered)
    first = shuffled["NodesMetrics"][0]["Metrics"]
    assert [point["Time"] for point in first] != sorted(point["Time"] for point in first)


@pytest.mark.parametrize(
    ("shape", "time", "value"),
    [
        (Shape.TIME_INT, START, "text"),
        (Shape.TIME_MS, str(START * 1000), "text"),
        (Shape.TIME_MS_INT, START * 1000, "text"),
        (Shape.TIME_ISO, iso(START), "text"),
        (Shape.TIME_GARBAGE, "garbage", "text"),
        (Shape.TIME_ABSENT, None, "text"),
        (Shape.NUMBERS, START, "number"),
        (Shape.STRINGS, str(START), "text"),
    ],
)
def test_points_drift_into_other_shapes(shape: Shape, time: Any, value: str) -> None:
    """Times in other units and forms, values as numbers or as text, as the drift's table says."""
    job = running_job()
    fired = bent(FaultKind.TYPE_DRIFT, shapes=(shape,))
    final = NODES.truth(GROUP, "CpuUsageRate", START, END)[Series("lrn0000", NODES_TYPE)][START]

    node = plain(NODES.page(CPU | HOUR, LATE, fired))["NodesMetrics"][0]["Metrics"][0]
    pods = JobMetricsListing(MEASURED).page({"JobId": job.job_id, "MetricType": "CpuCoreUsage"} | HOUR, LATE, fired)
    pod = plain(pods)["PodMetrics"][0]["Metrics"][0]

    assert node.get("Time") == time
    assert node["Value"] == (final if value == "number" else f"{final:.2f}")
    in_milliseconds = {Shape.NUMBERS: START * 1000, Shape.STRINGS: str(START * 1000)}
    assert pod.get("Time") == in_milliseconds.get(shape, time)


def test_series_drift_into_other_shapes() -> None:
    """Unknown fields on both levels, a GPU type that is missing or null, a series that is but a name."""

    def told(shape: Shape) -> list[Any]:
        page = NODES.page(CPU | HOUR, LATE, bent(FaultKind.TYPE_DRIFT, shapes=(shape,)))
        series: list[Any] = plain(page)["NodesMetrics"]
        return series

    odd = told(Shape.UNKNOWN_FIELDS)[0]
    assert {"Rack", "Labels"} <= odd.keys()
    assert odd["Metrics"][0]["Unit"] == "%"
    truth = NODES.truth(GROUP, "CpuUsageRate", START, END)
    assert [one.get("GPUType", "") for one in told(Shape.MISSING_FIELDS)] == [series.gpu_type for series in truth]
    assert all(one.get("GPUType") != "" for one in told(Shape.MISSING_FIELDS))
    assert [one["GPUType"] for one in told(Shape.NULL_FIELDS)] == [series.gpu_type or None for series in truth]
    assert told(Shape.NOT_AN_OBJECT) == [series.entity for series in truth]
    shapes = bent(FaultKind.TYPE_DRIFT, shapes=PLACEABLE, share=0.5)
    mixed = [plain(NODES.page(CPU | HOUR, LATE, shapes)) for _ in range(2)]
    assert mixed[0] == mixed[1] != plain(NODES.page(CPU | HOUR, LATE))
