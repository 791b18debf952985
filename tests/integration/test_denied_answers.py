"""Answers that contradict themselves and lists that bring nothing new are found, and never taken for complete."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from collector.catalogue.answers import Answer
from collector.catalogue.operations import CATALOGUE
from collector.catalogue.products.eas import DescribeServiceEventAnswer, ServiceEvent
from collector.catalogue.products.eflo_controller import (
    ClusterRecord,
    ListClustersAnswer,
    ListSyslogsAnswer,
    SyslogRecord,
)
from collector.catalogue.products.pai_dlc import JobRecord, ListJobsAnswer
from collector.catalogue.products.pai_studio import GetUserViewMetricsAnswer, UserViewMetric
from collector.errors import CursorLoopError
from collector.owner.instance import Owner
from collector.pipeline.collecting import READINGS_MAX
from collector.pipeline.repeats import EMPTY_PAGES_MAX, REPEATED_PAGES_MAX
from collector.pipeline.streams import ACCOUNT_SCOPE, SnapshotStreams, StateStreams, Streams, WindowStreams
from collector.simulator.faults import Fault, FaultKind
from collector.simulator.world import World
from collector.sources.events import ServiceEventSource
from collector.sources.inventory import InventorySource
from collector.sources.syslogs import SyslogSource
from collector.sources.user_metrics import UserMetricsSource
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
)  # fmt: skip
from tests.support.default_chain import use_access_key
from tests.support.scripted_client import ScriptedClient, run, runner_of

TICK = 60
NODE, GROUP, SERVICE = "node-1", "rg-1", "cn-shanghai/chat"
USERS = 250
PAGE = 100
SYSLOGS = WindowStreams("syslogs", SyslogSource(), [NODE], settle=60, initial_lookback=600, rechecks=())
EVENTS = WindowStreams("events", ServiceEventSource(), [SERVICE], settle=60, initial_lookback=600, rechecks=())
SNAPSHOTS = SnapshotStreams("user_metrics", UserMetricsSource(page_size=PAGE, time_step="5m"), [GROUP], interval=TICK)
JOBS = StateStreams("inventory", InventorySource("job"), [ACCOUNT_SCOPE], interval=TICK)
CLUSTERS = StateStreams("inventory", InventorySource("cluster"), [ACCOUNT_SCOPE], interval=TICK)


async def gaps(owner: Owner) -> list[list[Any]]:
    return await owner.store.fetch("SELECT operation, reason, toUnixTimestamp(start) FROM gaps ORDER BY start")


async def gap_ranges(owner: Owner) -> list[list[Any]]:
    return await owner.store.fetch("SELECT toUnixTimestamp(start), toUnixTimestamp(end), reason FROM gaps ORDER BY 1")


def users(first: int, count: int, total: int | None = USERS) -> GetUserViewMetricsAnswer:
    records = [UserViewMetric(user_id=f"u{i:04}", total_cpu=1) for i in range(first, first + count)]
    return GetUserViewMetricsAnswer(user_metrics=records, summary=UserViewMetric(total_cpu=USERS), total=total)


def jobs(first: int, count: int) -> ListJobsAnswer:
    return ListJobsAnswer(jobs=[JobRecord(job_id=f"dlc{i}") for i in range(first, first + count)], total_count=USERS)


def events(first: int, count: int) -> DescribeServiceEventAnswer:
    records = [
        ServiceEvent(time=f"2025-10-09 08:5{i % 2}:{i // 2 % 60:02}", message=f"event {i}")
        for i in range(first, first + count)
    ]
    return DescribeServiceEventAnswer(request_id="r", events=records, total_count=USERS)


LISTS: dict[str, tuple[Streams, Any, str, str]] = {
    "users": (SNAPSHOTS, users, "PageNumber", "SELECT count() FROM user_metrics"),
    "jobs": (JOBS, jobs, "PageNumber", "SELECT uniqExact(object_id) FROM inventory_states"),
    "events": (EVENTS, events, "PageNum", "SELECT count() FROM events"),
}


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("fault", ["second page empty", "first page empty", "first page repeats"])
@pytest.mark.slow("answers that deny themselves")
async def test_a_numbered_list_that_its_total_denies_is_read_again_and_then_a_gap(
    owner: Owner, name: str, fault: str
) -> None:
    """It is asked READINGS_MAX times, what came is stored once, and the range is a gap: never a complete list."""
    streams, made, number, stored = LISTS[name]

    def script(asked: Mapping[str, Any]) -> tuple[Answer, int]:
        page = int(asked[number])
        if fault == "first page repeats":
            return made(0, PAGE), NOW
        if fault == "first page empty" or page > 1:
            return made(0, 0), NOW
        return made(0, PAGE), NOW

    client = await run(owner, script, streams)
    assert len(client.asked) == READINGS_MAX * (1 if fault == "first page empty" else 2)
    assert [reason for _, reason, _ in await gaps(owner)] == ["partial"]
    assert await owner.store.fetch(stored) == [[0 if fault == "first page empty" else PAGE]]


@pytest.mark.parametrize("name", LISTS)
async def test_a_list_that_is_whole_at_the_second_reading_has_no_gap(owner: Owner, name: str) -> None:
    """One page that comes empty costs a reading and nothing else."""
    streams, made, number, stored = LISTS[name]
    asked_pages: list[int] = []

    def script(asked: Mapping[str, Any]) -> tuple[Answer, int]:
        page = int(asked[number])
        asked_pages.append(page)
        first = (page - 1) * PAGE
        count = 0 if len(asked_pages) == 2 else min(PAGE, USERS - first)
        return made(first, count), NOW

    await run(owner, script, streams)
    assert asked_pages == [1, 2, 1, 2, 3]
    assert await gaps(owner) == []
    assert await owner.store.fetch(stored) == [[USERS]]


async def test_an_object_that_a_short_list_lacks_is_not_gone(owner: Owner) -> None:
    """What a list did not hold that denies itself is not stored as released."""

    def script(total: int) -> Any:
        return lambda asked: (
            ListClustersAnswer(request_id="r", clusters=[ClusterRecord(cluster_id="a")], next_token=f"t{total}"),
            NOW + TICK,
        )

    whole = ListClustersAnswer(request_id="r", clusters=[ClusterRecord(cluster_id=name) for name in "ab"])
    await run(owner, lambda _: (whole, NOW), CLUSTERS)
    client = await run(owner, script(1), CLUSTERS, date=NOW + TICK)
    assert len(client.asked) == READINGS_MAX * (REPEATED_PAGES_MAX + 1)
    assert await owner.store.fetch("SELECT count() FROM inventory_states WHERE NOT is_present") == [[0]]
    assert [reason for _, reason, _ in await gaps(owner)] == ["partial"]


async def test_a_total_that_was_passed_ends_no_list(owner: Owner) -> None:
    """A total of 0 beside full pages says nothing: the pages are read to the last."""
    pages = {1: users(0, PAGE, 0), 2: users(PAGE, PAGE, 0), 3: users(2 * PAGE, 50, 0)}
    await run(owner, lambda asked: (pages[int(asked["PageNumber"])], NOW), SNAPSHOTS)
    assert await owner.store.fetch("SELECT user_count FROM resource_group_metrics") == [[USERS]]
    assert await gaps(owner) == []


def line(time: int, msg: str) -> SyslogRecord:
    return SyslogRecord(time=str(time), msg=msg, node_id=NODE, tag_receive_time=str(time + 1))


def page(records: list[SyslogRecord], cursor: str | None) -> ListSyslogsAnswer:
    return ListSyslogsAnswer(request_id="r", logs=records, next_token=cursor)


@pytest.mark.parametrize(("total", "readings"), [(PAGE, 1), (PAGE + 1, READINGS_MAX)], ids=["of what came", "of more"])
async def test_an_empty_last_page_that_counts_more_lines_is_no_end(owner: Owner, total: int, readings: int) -> None:
    """What came is complete up to its last second, and stored once; the rest is read again, then it is a gap."""
    empty = page([], None)
    empty.total_denied = total

    def script(asked: Mapping[str, Any]) -> tuple[Answer, int]:
        lines = [each for each in SPREAD if int(asked["FromTime"]) <= int(each.time) <= int(asked["ToTime"])]
        return (empty if "NextToken" in asked else page(lines, "t")), NOW

    client = await run(owner, script, SYSLOGS)
    assert len(client.asked) == (2 if readings == 1 else 2 + 2 * readings)
    last = int(SPREAD[-1].time)
    assert await gap_ranges(owner) == ([] if readings == 1 else [[last, NOW - 60, "partial"]])
    assert await owner.store.fetch("SELECT count() FROM syslogs") == [[PAGE]]


async def test_a_window_that_was_cut_short_once_has_no_gap(owner: Owner) -> None:
    """A list that ends too early in its midst is taken up to there, and asked for from there on."""
    denied = page([], None)
    denied.total_denied = 1_000_000
    count = 0

    def script(asked: Mapping[str, Any]) -> tuple[Answer, int]:
        nonlocal count
        count += 1
        lines = [each for each in SPREAD if int(asked["FromTime"]) <= int(each.time) <= int(asked["ToTime"])]
        at = int(asked.get("NextToken", 0))
        if count == 3:
            return denied, NOW
        return page(lines[at : at + 20], str(at + 20) if at + 20 < len(lines) else None), NOW

    client = await run(owner, script, SYSLOGS)
    assert await gap_ranges(owner) == []
    stored = await owner.store.fetch("SELECT msg FROM syslogs")
    assert Counter(row[0] for row in stored) == Counter(record.msg for record in SPREAD)
    # Two pages and the one that denies itself; then 61 lines are left, with the last second and the margin.
    assert len(client.asked) == 3 + 4


async def fail(owner: Owner, script: Any, streams: Streams = SYSLOGS) -> tuple[ScriptedClient, Exception]:
    """A run whose only stream fails: the client, and the error."""
    client = ScriptedClient(owner, script, NOW)
    owner.client = client  # type: ignore[assignment]
    report = await runner_of(owner, streams).run()
    (error,) = report.failures.values()
    return client, error


SPREAD = [line(NOW - 500 + i, f"line {i}") for i in range(PAGE)]
ONE_SECOND = [line(NOW - 500, f"line {i}") for i in range(3)]


@pytest.mark.parametrize(
    ("cycle", "calls_max"),
    [
        ([SPREAD], REPEATED_PAGES_MAX + 1),
        ([SPREAD[:50], SPREAD[50:]], REPEATED_PAGES_MAX + 2),
        ([SPREAD[:30], SPREAD[30:60], SPREAD[60:]], REPEATED_PAGES_MAX + 3),
        ([ONE_SECOND], REPEATED_PAGES_MAX + 2),
        ([[]], EMPTY_PAGES_MAX + 1),
        ([SPREAD, []], 2 * (REPEATED_PAGES_MAX + 1)),
        ([[SPREAD[(7 * i + shift) % PAGE] for i in range(PAGE)] for shift in range(1, 60)], REPEATED_PAGES_MAX + 2),
    ],
    ids=["one page", "two pages", "three pages", "three lines of a second", "empty", "page and empty", "shuffled"],
)
async def test_pages_that_bring_nothing_new_stop_their_window(
    owner: Owner, cycle: list[list[SyslogRecord]], calls_max: int
) -> None:
    """Each page has a new token. Noticed after a few, nothing of the window is stored, and the error names it."""
    count = 0

    def script(asked: Mapping[str, Any]) -> tuple[Answer, int]:
        nonlocal count
        count += 1
        return page(cycle[(count - 1) % len(cycle)], f"token-{count}"), NOW

    client, error = await fail(owner, script)
    assert isinstance(error, CursorLoopError)
    assert "pages in a row" in str(error)
    assert len(client.asked) <= calls_max
    assert await owner.store.fetch("SELECT count() FROM syslogs") == [[0]]
    (state,) = (await owner.journal.streams()).values()
    assert state.watermark is None
    assert "pages in a row" in state.error


async def test_a_page_that_comes_twice_is_taken_once(owner: Owner) -> None:
    """A service that repeats one page with a new token and then goes on doubles nothing."""
    pages = [SPREAD[:40], SPREAD[:40], SPREAD[40:80], SPREAD[40:80], SPREAD[80:]]

    def script(asked: Mapping[str, Any]) -> tuple[Answer, int]:
        at = int(asked.get("NextToken", 0))
        return page(pages[at], str(at + 1) if at + 1 < len(pages) else None), NOW

    await run(owner, script, SYSLOGS)
    stored = await owner.store.fetch("SELECT msg FROM syslogs")
    assert Counter(row[0] for row in stored) == Counter(record.msg for record in SPREAD)


async def test_equal_lines_of_one_second_are_no_loop(owner: Owner) -> None:
    """A storm of 3,000 equal lines, and one of 3,000 in a pattern that each page shows alike, are all stored."""
    storm = [line(NOW - 500, "link down")] * 3000 + [line(NOW - 499, f"port {i % 4}") for i in range(3000)]

    def script(asked: Mapping[str, Any]) -> tuple[Answer, int]:
        at = int(asked.get("NextToken", 0))
        return page(storm[at : at + PAGE], str(at + PAGE) if at + PAGE < len(storm) else None), NOW

    await run(owner, script, SYSLOGS)
    rows = await owner.store.fetch("SELECT countIf(msg = 'link down'), countIf(msg = 'port 1') FROM syslogs")
    assert rows == [[3000, 750]]


async def test_equal_lines_beside_a_record_without_a_time_are_no_loop(owner: Owner) -> None:
    """A dead letter on each page of a storm says nothing about other seconds: all lines are stored."""
    storm = [*[line(NOW - 500, "link down")] * (PAGE - 1), SyslogRecord(time="soon")] * 5

    def script(asked: Mapping[str, Any]) -> tuple[Answer, int]:
        at = int(asked.get("NextToken", 0))
        return page(storm[at : at + PAGE], str(at + PAGE) if at + PAGE < len(storm) else None), NOW

    await run(owner, script, SYSLOGS)
    assert await owner.store.fetch("SELECT count() FROM syslogs") == [[5 * (PAGE - 1)]]


async def test_equal_events_of_one_second_are_no_loop(owner: Owner) -> None:
    """Two full pages of one event that happened 200 times are two pages."""
    same = [ServiceEvent(time="2025-10-09 08:50:00", message="back-off")] * PAGE
    answer = DescribeServiceEventAnswer(request_id="r", events=same, total_count=2 * PAGE)
    await run(owner, lambda _: (answer, NOW), EVENTS)
    assert await owner.store.fetch("SELECT count() FROM events") == [[2 * PAGE]]
    assert await gaps(owner) == []


@pytest.mark.parametrize("gateway", ["bearer", "openapi"])
@pytest.mark.slow("answers that deny themselves")
async def test_a_denied_answer_is_asked_again_and_no_row_is_missing(
    tmp_path: Path, gateway: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever was asked, in both wire forms: rows equal the truth, each denied call is in the meter as failed."""
    use_access_key(monkeypatch, tmp_path)
    world = World(23, 2, 1, lines_per_second=0.5)
    async with simulator(world) as api:
        configuration = settings(
            tmp_path,
            api.base_url,
            api={"base_url": api.base_url, "gateway": gateway},
            targets={
                "nodes": tuple(world.node_ids),
                "discover": ("clusters", "resource_groups", "jobs", "services", "eas_resources"),
            },
        )
        # Each operation at its first call, and some later ones.
        first = [Fault(kind=FaultKind.DENIED, operation=name, arrivals=(1,)) for name in CATALOGUE]
        api.faults = [*first, Fault(kind=FaultKind.DENIED, probability=0.2)]
        report = await run_once(configuration)
        assert not report.failures
        truth = true_syslogs(world, world.node_ids, NOW - LOOKBACK, NOW - SETTLE)
        assert not differences(truth, await stored_syslogs(configuration))
        assert await fetch(configuration, "SELECT count() FROM gaps") == [[0]]
        failed = await fetch(configuration, "SELECT operation, sum(calls) FROM api_calls WHERE code = '500' GROUP BY 1")
        assert dict(failed) == {
            name: stats.faults[FaultKind.DENIED] for name, stats in api.stats.items() if stats.faults[FaultKind.DENIED]
        }
        asked = {name for name, stats in api.stats.items() if stats.calls}
        assert {name for name, _ in failed} == asked
        assert len(asked) > 6


@pytest.mark.slow("answers that deny themselves")
async def test_a_key_that_is_refused_inside_of_a_success_stops_the_run(tmp_path: Path) -> None:
    """The status in the body counts: no call after the first is made, and the run ends as with a 401."""
    world = World(23, 3, 1, lines_per_second=0.5)
    signs = {"Success": False, "HttpStatusCode": 401, "Code": "", "Message": "invalid key"}
    async with simulator(world, faults=[Fault(kind=FaultKind.DENIED, signs=signs)]) as api:
        configuration = settings(tmp_path, api.base_url, targets={"nodes": tuple(world.node_ids)})
        report = await run_once(configuration)
        assert report.credentials is not None
        assert calls(api, "ListSyslogs") <= len(world.node_ids)
        assert await fetch(configuration, "SELECT count() FROM watermarks WHERE watermark > 0") == [[0]]


@pytest.mark.parametrize("kind", [FaultKind.REPEATED_PAGE, FaultKind.EMPTY_PAGES])
@pytest.mark.slow("answers that deny themselves")
async def test_a_stream_recovers_when_its_list_ends_again(tmp_path: Path, kind: FaultKind) -> None:
    """While the service pages in a circle each node costs a few calls; afterwards every line is stored once."""
    world = World(23, 2, 1, lines_per_second=1.0)
    async with simulator(world, faults=[Fault(kind=kind)]) as api:
        configuration = settings(tmp_path, api.base_url, targets={"nodes": tuple(world.node_ids)})
        report = await run_once(configuration)
        assert {type(error) for error in report.failures.values()} == {CursorLoopError}
        assert calls(api, "ListSyslogs") <= 2 * (EMPTY_PAGES_MAX + 1)
        assert not await stored_syslogs(configuration)

        api.faults = []
        assert not (await run_once(configuration)).failures
        truth = true_syslogs(world, world.node_ids, NOW - LOOKBACK, NOW - SETTLE)
        assert not differences(truth, await stored_syslogs(configuration))
