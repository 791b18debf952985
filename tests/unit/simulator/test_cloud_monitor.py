"""Simulated CloudMonitor: its points are those of the older operations, paged over all series of a metric."""

from __future__ import annotations

from typing import Any

import pytest

from collector.simulator.account import Account
from collector.simulator.faults import Fired
from collector.simulator.paging import iso
from collector.simulator.requests import Refusal
from collector.simulator.service import Backend
from collector.simulator.world import World
from tests.support.simulated_pages import T, all_by_token, plain, refusal

START = T // 3600 * 3600
END = START + 3600
LATE = END + 3600
"""By now every point of `[START, END)` is shown."""
ACCOUNT = Account(World(seed=7, node_count=2))


def backend(**options: Any) -> Backend:
    return Backend(ACCOUNT, 7, lambda: float(T), **options)


def asked(namespace: str, metric: str, start: int = START, end: int = END, period: int = 300) -> dict[str, Any]:
    """The request for `start < time <= end`, seconds."""
    times = {"StartTime": str(start * 1000), "EndTime": str(end * 1000)}
    return {"Namespace": namespace, "MetricName": metric, "Period": str(period), **times}


def points(made: Backend, parameters: dict[str, Any], now: float = LATE) -> list[Any]:
    """The points of all pages."""
    return all_by_token(made.listings["DescribeMetricList"], "Datapoints", parameters, lambda: now)


def test_an_average_is_the_value_of_the_older_operations() -> None:
    """Node by node and step by step, with a lowest and a highest value around it."""
    made = backend()
    older = made.listings["GetNodeMetrics"].truth(ACCOUNT.group_ids[0], "GpuUsageRate", START, END)  # type: ignore[attr-defined]
    found = {
        (point["nodeId"], point.get("gpuType", ""), point["timestamp"] // 1000): point
        for point in points(made, asked("acs_pai_quota", "GPU_USAGE_RATE", START - 1, END - 1))
        if point["quotaId"] == ACCOUNT.group_ids[0]
    }

    assert {key: point["Average"] for key, point in found.items()} == {
        (series.entity, series.gpu_type, time): value
        for series, values in older.items()
        for time, value in values.items()
    }
    assert all(point["Minimum"] <= point["Average"] <= point["Maximum"] for point in found.values())


def test_a_range_is_open_at_its_start_and_closed_at_its_end() -> None:
    """The point of the start's second is not part of it, that of the end's is."""
    found = points(backend(), asked("acs_pai_user", "REQUEST_GPU"))

    times = {point["timestamp"] // 1000 for point in found}
    assert (min(times), max(times)) == (START + 300, END)


def test_a_period_is_shown_once_it_has_ended_for_what_was_measured() -> None:
    """What lags is missing, never half of a value, and comes when the lag is over."""
    made = backend()
    parameters = asked("acs_pai_dlc", "GPU_CORE_USAGE", START - 1, END - 1)
    whole = points(made, parameters)
    pod = whole[-1]["podId"]
    made.measurements.add_lag(pod, 1800)

    seen = points(made, parameters, END + 300)
    assert [point for point in whole if point["podId"] != pod] == [point for point in seen if point["podId"] != pod]
    assert 0 < sum(point["podId"] == pod for point in seen) < sum(point["podId"] == pod for point in whole)
    assert all(point in whole for point in seen)
    made.measurements.add_lag(pod, -1800)
    assert points(made, parameters) == whole == made.cloud.truth("acs_pai_dlc", "GPU_CORE_USAGE", START, END, 300)


def test_five_thousand_series_come_in_pages() -> None:
    """Each page has the length that was asked for, and all pages hold each point once."""
    made = backend()
    made.cloud.add_series("acs_pai_dlc", "GPU_CORE_USAGE", [{"jobId": "dlcbig", "podId": f"p{i}"} for i in range(5000)])
    parameters = asked("acs_pai_dlc", "GPU_CORE_USAGE", START - 1, START)
    first = plain(made.listings["DescribeMetricList"].page(parameters, LATE, Fired(), 1))
    assert len(first["Datapoints"]) == 1440

    found = [point["podId"] for point in points(made, parameters) if point["jobId"] == "dlcbig"]
    assert sorted(found) == sorted(f"p{i}" for i in range(5000))


def test_series_are_chosen_by_their_dimensions() -> None:
    """Dimensions name one series or several; the products' own operations name their job or notebook."""
    made = backend()
    whole = points(made, asked("acs_pai_dsw", "CPU_CORE_USAGE"))
    instances = sorted({point["instanceId"] for point in whole})
    one = f'[{{"instanceId":"{instances[0]}"}}]'

    found = points(made, asked("acs_pai_dsw", "CPU_CORE_USAGE") | {"Dimensions": one})
    assert found == [point for point in whole if point["instanceId"] == instances[0]]
    moments = {"StartTime": iso(START), "EndTime": iso(END), "Period": "300"}
    wanted = {"InstanceId": instances[0], "MetricName": "CPU_CORE_USAGE", **moments}
    assert plain(made.listings["DswGetMetrics"].page(wanted, LATE, Fired(), 1))["Datapoints"] == found


def test_an_added_dimension_is_in_every_point_and_in_no_list() -> None:
    """The service may measure by more than it lists."""
    made = backend()
    made.cloud.add_dimension("acs_pai_dlc", "rack", "r7")

    assert {point["rack"] for point in points(made, asked("acs_pai_dlc", "MEMORY_USAGE"))} == {"r7"}
    listed = plain(made.listings["DescribeMetricMetaList"].page({"Namespace": "acs_pai_dlc"}, T, Fired(), 1))
    assert all("rack" not in metric["Dimensions"] for metric in listed["Resources"])


def test_metrics_are_listed_by_namespace_and_may_go() -> None:
    """A namespace without metrics has an empty list; a metric that was removed is neither listed nor answered."""
    made = backend()
    listing = made.listings["DescribeMetricMetaList"]
    assert plain(listing.page({"Namespace": "acs_pai_new"}, T, Fired(), 1))["Resources"] == []
    made.cloud.remove("acs_pai_eas", "QPS")

    listed = plain(listing.page({"Namespace": "acs_pai_eas"}, T, Fired(), 1))
    assert ([metric["MetricName"] for metric in listed["Resources"]], listed["TotalCount"]) == (
        ["GPU_UTILIZATION"],
        "1",
    )
    wanted = asked("acs_pai_eas", "QPS")
    assert refusal(made.listings["DescribeMetricList"], wanted) == (404, "InvalidMetricName.NotFound")


@pytest.mark.parametrize(
    "wrong",
    [
        {"Period": "7"},
        {"StartTime": str(END * 1000), "EndTime": str(START * 1000)},
        {"StartTime": str((END - 32 * 86_400) * 1000)},
        {"Dimensions": "[1]"},
        {"Dimensions": "{"},
    ],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, str]) -> None:
    """A period that there is none, a range that is empty or too long, dimensions that are none."""
    parameters = asked("acs_pai_dlc", "GPU_CORE_USAGE") | wrong

    assert refusal(backend().listings["DescribeMetricList"], parameters) == (400, "InvalidParameter")


def test_a_pot_that_is_used_up_refuses_queries() -> None:
    """Without pay-as-you-go the service answers so many queries, and says why it refuses the next."""
    made = backend()
    made.cloud.calls_max = 2
    listing = made.listings["DescribeMetricList"]
    for _ in range(2):
        listing.page(asked("acs_pai_dlc", "GPU_CORE_USAGE"), LATE, Fired(), 1)

    with pytest.raises(Refusal, match="user api quota limit"):
        listing.page(asked("acs_pai_dlc", "GPU_CORE_USAGE"), LATE, Fired(), 1)


def test_points_are_stored_by_their_period() -> None:
    """A minute's for 31 days, longer ones for 91."""
    made, late = backend(), END + 40 * 86_400
    assert points(made, asked("acs_pai_dlc", "GPU_CORE_USAGE", period=60), late) == []
    assert points(made, asked("acs_pai_dlc", "GPU_CORE_USAGE", period=300), late)
