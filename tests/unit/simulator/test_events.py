"""Simulated events: all that happened is known, and each operation tells it in its own way."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import pytest

from collector.simulator.account import Account
from collector.simulator.events import DELAY_SECONDS, Event, EventLog, JobEventListing, ServiceEventListing
from collector.simulator.faults import FaultKind, Shape
from collector.simulator.paging import civil, iso
from collector.simulator.world import World
from collector.units import DAY_SECONDS
from tests.support.simulated_pages import T, bent, decoded, plain, refusal

ACCOUNT = Account(World(seed=7, node_count=2))
LOG = EventLog(ACCOUNT)
"""Shared by tests that put nothing into it."""
SERVICES = ServiceEventListing(LOG)
JOBS = JobEventListing(LOG)
SERVICE_ID = ACCOUNT.service_ids[0]
SERVICE = {"ClusterId": "cn-hangzhou", "ServiceName": SERVICE_ID.partition("/")[2]}
DAY = {"StartTime": civil(T - DAY_SECONDS), "EndTime": civil(T)}
LATE = T + 60
"""By now every event up to T can be seen."""
ENDED = next(job for job in ACCOUNT.jobs(T) if job.finished < T and job.slot % 2)
RUNNING = next(job for job in ACCOUNT.jobs(T) if job.status(T) == "Running")


def wires(events: list[Event]) -> list[Any]:
    return [event.wire for event in events]


def service_page(parameters: dict[str, Any], now: float = LATE, *faults: FaultKind, **values: Any) -> dict[str, Any]:
    page = SERVICES.page(SERVICE | parameters, now, bent(*faults, **values))
    return plain(page)


def test_events_of_a_service_are_the_truth_newest_first() -> None:
    """A page decodes into the documented types and holds the newest events, both ends of the range among them."""
    truth = LOG.service_events(SERVICE_ID, T - DAY_SECONDS, T + 1)
    page = SERVICES.page(SERVICE | DAY, LATE)
    answer = decoded("DescribeServiceEvent", page)

    assert len(truth) > 100
    assert plain(page)["Events"] == wires(truth)[::-1][:100]
    assert page.rows == 100
    assert (answer.page_num, answer.total_count, answer.total_page_num) == (1, len(truth), -(-len(truth) // 100))
    first, last = truth[0], truth[-1]
    exact = service_page({"StartTime": civil(first.time), "EndTime": civil(last.time), "PageSize": "1"})
    assert exact["TotalCount"] == len(LOG.service_events(SERVICE_ID, first.time, last.time + 1))
    assert isinstance(msgspec.json.decode(answer.events[0].message), dict)


def test_pages_of_a_past_range_hold_every_event_once() -> None:
    """Pages of thirty, read to the end, are the whole range; one past the end is empty."""
    pages = [service_page(DAY | {"PageNum": str(number), "PageSize": "30"}) for number in range(1, 9)]

    truth = LOG.service_events(SERVICE_ID, T - DAY_SECONDS, T + 1)
    assert [event for page in pages for event in page["Events"]] == wires(truth)[::-1]
    assert pages[-1]["Events"] == []
    assert {page["TotalPageNum"] for page in pages} == {-(-len(truth) // 30)}


def test_equal_events_of_one_second_are_two_events() -> None:
    """Now and then a service and a job say the same twice in a second; both are told."""
    of_service = Counter(map(str, wires(LOG.service_events(SERVICE_ID, T - DAY_SECONDS, T))))
    of_job = Counter(plain(JOBS.page({"JobId": ENDED.job_id}, T))["Events"])

    assert of_service.most_common(1)[0][1] > 1
    assert of_job.most_common(1)[0][1] > 1


def test_events_are_pure() -> None:
    """Another log of the same seed has the same events; another service, job or seed has others."""
    other = EventLog(Account(World(seed=7, node_count=2)))
    span = (T - DAY_SECONDS, T)

    assert other.service_events(SERVICE_ID, *span) == LOG.service_events(SERVICE_ID, *span)
    assert other.job_events(ENDED.job_id, 0, T) == LOG.job_events(ENDED.job_id, 0, T)
    cut = [e for start in range(*span, 3600) for e in LOG.service_events(SERVICE_ID, start, start + 3600)]
    assert cut == LOG.service_events(SERVICE_ID, *span)
    assert LOG.service_events(ACCOUNT.service_ids[1], *span) != cut
    assert EventLog(Account(World(seed=8))).service_events(SERVICE_ID, *span) != cut


def test_an_event_is_seen_some_seconds_after_it_happened() -> None:
    """Neither operation tells an event before its moment, and both do from then on."""
    event = LOG.service_events(SERVICE_ID, T - DAY_SECONDS, T)[40]
    assert DELAY_SECONDS[0] <= event.visible_at - event.time <= sum(DELAY_SECONDS)
    assert event.wire not in service_page({}, event.visible_at - 1)["Events"]
    assert event.wire in service_page({}, event.visible_at)["Events"]

    started = LOG.job_events(ENDED.job_id, 0, T)[2]
    assert started.wire not in plain(JOBS.page({"JobId": ENDED.job_id}, started.visible_at - 1))["Events"]
    assert started.wire in plain(JOBS.page({"JobId": ENDED.job_id}, started.visible_at))["Events"]


def test_events_of_a_service_are_found_by_type_and_instance() -> None:
    """The type, in any case, and the instance narrow the list."""
    warnings = service_page(DAY | {"EventType": "warning"})
    assert {event["Type"] for event in warnings["Events"]} == {"Warning"}
    instance = LOG.service_events(SERVICE_ID, T - DAY_SECONDS, T)[0].instance
    of_it = service_page(DAY | {"InstanceName": instance})
    assert all(msgspec.json.decode(event["Message"])["Instance"] == instance for event in of_it["Events"])
    assert 0 < of_it["TotalCount"] < service_page(DAY)["TotalCount"]


def test_without_a_range_the_last_seven_days_are_told() -> None:
    """Both operations look back a week where no start is given."""
    week = [event for event in LOG.service_events(SERVICE_ID, T - 7 * DAY_SECONDS, T + 1) if event.visible_at <= T]
    assert service_page({}, T)["TotalCount"] == len(week)

    later = ENDED.created + 7 * DAY_SECONDS + 1
    told = plain(JOBS.page({"JobId": ENDED.job_id}, later))["Events"]
    assert told == wires(LOG.job_events(ENDED.job_id, ENDED.created + 1, later))


def test_what_happened_to_a_job_is_told_oldest_first() -> None:
    """From its creation over its pods to its end, as texts that begin with a time in UTC."""
    answer = decoded("GetJobEvents", JOBS.page({"JobId": ENDED.job_id}, T))

    assert answer.events == wires(LOG.job_events(ENDED.job_id, 0, T))
    assert answer.events == sorted(answer.events, key=lambda text: text[:19])
    assert answer.events[0] == f"{civil(ENDED.created)} Job {ENDED.job_id} is created"
    assert answer.events[-1] == f"{civil(ENDED.finished + 1)} Job {ENDED.job_id} is {ENDED.outcome.lower()}"
    assert f"{civil(ENDED.started)} Created pod: {ENDED.pod_ids[0]}" in answer.events
    ranged = {"StartTime": iso(ENDED.started), "EndTime": iso(ENDED.started + 2)}
    part = plain(JOBS.page({"JobId": ENDED.job_id} | ranged, T))["Events"]
    assert part == wires(LOG.job_events(ENDED.job_id, ENDED.started, ENDED.started + 3))


def test_too_many_events_of_a_job_are_cut_at_the_newer_end() -> None:
    """Only the oldest are told, as many as asked for, two thousand unless told otherwise."""
    log = EventLog(ACCOUNT)
    log.storm(RUNNING.job_id, RUNNING.started + 100, 2500)
    jobs = JobEventListing(log)
    truth = wires(log.job_events(RUNNING.job_id, 0, T - 60))

    assert plain(jobs.page({"JobId": RUNNING.job_id, "MaxEventsNum": 7}, T))["Events"] == truth[:7]
    assert plain(jobs.page({"JobId": RUNNING.job_id}, T))["Events"] == truth[:2000]
    assert len(plain(jobs.page({"JobId": RUNNING.job_id, "MaxEventsNum": 10_000}, T))["Events"]) > 2500


@pytest.mark.parametrize("scope_id", [SERVICE_ID, ENDED.job_id])
def test_a_storm_puts_many_events_into_one_second(scope_id: str) -> None:
    """As many more events as were asked for, all in that second, some of them equal."""
    log = EventLog(ACCOUNT)
    listed = log.service_events if "/" in scope_id else log.job_events
    second = ENDED.started + 100
    before = len(listed(scope_id, second, second + 1))

    log.storm(scope_id, second, 300)

    events = listed(scope_id, second, second + 1)
    assert len(events) == before + 300
    assert {event.time for event in events} == {second}
    assert len({(event.time, event.sequence) for event in events}) == len(events)
    assert len(set(map(str, wires(events)))) < len(events)
    assert len(listed(scope_id, second + 1, T)) == len(
        (LOG.service_events if "/" in scope_id else LOG.job_events)(scope_id, second + 1, T)
    )
    with pytest.raises(KeyError):
        log.storm("dlcnone", T, 1)


def test_the_end_of_a_range_belongs_to_it_or_not() -> None:
    """Events in the very second of the end are told unless the bounds say otherwise."""
    event = LOG.service_events(SERVICE_ID, T - 36_000, T)[-1]
    asked = {"StartTime": civil(event.time - 1), "EndTime": civil(event.time)}
    job = {"JobId": ENDED.job_id, "StartTime": iso(ENDED.started - 1), "EndTime": iso(ENDED.started)}

    assert service_page(asked)["TotalCount"] > 0
    assert plain(ServiceEventListing(LOG, "half_open").page(SERVICE | asked, LATE))["TotalCount"] == 0
    assert len(plain(JOBS.page(job, T))["Events"]) == ENDED.pod_count
    assert plain(JobEventListing(LOG, "half_open").page(job, T))["Events"] == []


def test_what_does_not_exist_is_refused() -> None:
    """Unknown services, other clusters, unknown jobs and ranges that end first."""
    assert refusal(SERVICES, SERVICE | {"ServiceName": "none"}) == (404, "InvalidServiceName.NotFound")
    assert refusal(SERVICES, SERVICE | {"ClusterId": "cn-beijing"}) == (404, "InvalidServiceName.NotFound")
    assert refusal(JOBS, {"JobId": "dlcnone"}) == (404, "InvalidJobId.NotFound")
    assert refusal(JOBS, {"JobId": ENDED.job_id}, ENDED.created - 1) == (404, "InvalidJobId.NotFound")
    backwards = {"StartTime": civil(T), "EndTime": civil(T - 1)}
    assert refusal(SERVICES, SERVICE | backwards) == (400, "InvalidParameter")


def test_events_come_out_of_order_and_with_other_totals_when_faults_say_so() -> None:
    """The same events in another order; a total that is off by one, or text."""
    asked = {"StartTime": civil(T - 36_000), "EndTime": civil(T)}
    ordered, shuffled = service_page(asked), service_page(asked, LATE, FaultKind.DISORDER)

    assert ordered["Events"] != shuffled["Events"]
    assert sorted(map(str, ordered["Events"])) == sorted(map(str, shuffled["Events"]))
    assert service_page(asked, LATE, FaultKind.TOTAL_TEXT)["TotalCount"] == str(ordered["TotalCount"])
    changing = service_page(asked, LATE, FaultKind.CHANGING_TOTAL)["TotalCount"]
    assert abs(changing - ordered["TotalCount"]) == 1
    texts = plain(JOBS.page({"JobId": ENDED.job_id}, T, bent(FaultKind.DISORDER)))["Events"]
    assert texts != wires(LOG.job_events(ENDED.job_id, 0, T))
    assert sorted(texts) == sorted(wires(LOG.job_events(ENDED.job_id, 0, T)))


@pytest.mark.parametrize("shape", list(Shape))
def test_events_drift_into_other_shapes(shape: Shape) -> None:
    """Each event takes the form that the drift's table says, or stays where the table has none for it."""
    event = LOG.service_events(SERVICE_ID, T - 36_000, T)[-1]
    asked = {"StartTime": civil(event.time), "EndTime": civil(event.time), "PageSize": "1"}
    drifted = service_page(asked, LATE, FaultKind.TYPE_DRIFT, shapes=(shape,))["Events"][0]
    fired = bent(FaultKind.TYPE_DRIFT, shapes=(shape,))
    text = plain(JOBS.page({"JobId": ENDED.job_id}, T, fired))["Events"][0]

    times = {
        Shape.TIME_INT: event.time, Shape.TIME_MS: str(event.time * 1000), Shape.TIME_MS_INT: event.time * 1000,
        Shape.TIME_ISO: iso(event.time), Shape.TIME_GARBAGE: "garbage", Shape.TIME_ABSENT: None,
    }  # fmt: skip
    if shape is Shape.NOT_AN_OBJECT:
        assert drifted == event.wire["Message"]
    else:
        assert drifted.get("Time") == times.get(shape, event.wire["Time"])
        assert ("Rack" in drifted) == (shape is Shape.UNKNOWN_FIELDS)
        kept = shape not in (Shape.MISSING_FIELDS, Shape.NULL_FIELDS)
        assert drifted.get("Reason") == (event.wire["Reason"] if kept else None)
        assert ("Reason" in drifted) == (shape is not Shape.MISSING_FIELDS)
    said = f"Job {ENDED.job_id} is created"
    beginnings = {
        Shape.TIME_ISO: f"{iso(ENDED.created)} ", Shape.TIME_GARBAGE: "garbage ", Shape.TIME_ABSENT: "",
    }  # fmt: skip
    assert text == beginnings.get(shape, f"{civil(ENDED.created)} ") + said
