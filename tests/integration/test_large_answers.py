"""Answers with more bytes than may be read: asked for in parts, and only what fits in no part is a gap."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from collector.catalogue.answers import Answer
from collector.catalogue.products.eflo_controller import (
    ClusterRecord,
    ListClustersAnswer,
    ListSyslogsAnswer,
    SyslogRecord,
)
from collector.catalogue.products.pai_dlc import JobRecord, ListJobsAnswer
from collector.catalogue.products.pai_studio import GetUserViewMetricsAnswer, UserViewMetric
from collector.clock import ServerClock
from collector.errors import AnswerTooLargeError
from collector.owner.instance import Owner
from collector.pipeline.collecting import SECONDS_TOO_LARGE_MAX
from collector.pipeline.streams import ACCOUNT_SCOPE, SnapshotStreams, StateStreams, Streams, WindowStreams
from collector.simulator.server import SIMULATOR_KEY
from collector.simulator.world import LongLines, World
from collector.sources.inventory import InventorySource
from collector.sources.syslogs import SyslogSource
from collector.sources.user_metrics import UserMetricsSource
from tests.support import NOW, differences, settings, simulator, stored_columns, true_syslogs
from tests.support.scripted_client import ScriptedClient, run, runner_of

NODE, GROUP = "node-1", "rg-1"
SECONDS = 64
SYSLOGS = WindowStreams("syslogs", SyslogSource(), [NODE], settle=60, initial_lookback=60 + SECONDS, rechecks=())
SNAPSHOTS = SnapshotStreams("user_metrics", UserMetricsSource(page_size=100, time_step="5m"), [GROUP], interval=60)
JOBS = StateStreams("inventory", InventorySource("job"), [ACCOUNT_SCOPE], interval=60)
CLUSTERS = StateStreams("inventory", InventorySource("cluster"), [ACCOUNT_SCOPE], interval=60)
TOO_LARGE = AnswerTooLargeError("the answer has more than 8388608 bytes", operation="ListSyslogs", scope_id=NODE)
TOO_LARGE.date = NOW
BEGIN, END = NOW - 60 - SECONDS, NOW - 60
OBJECTS = 60


def lines_asked(asked: Mapping[str, Any]) -> list[int]:
    """A line in each second of the range; its time is its message."""
    return list(range(int(asked["FromTime"]), int(asked["ToTime"]) + 1))


def answered(seconds: list[int]) -> tuple[Answer, int]:
    records = [SyslogRecord(time=str(second), msg=str(second), node_id=NODE) for second in seconds]
    return ListSyslogsAnswer(request_id="r", logs=records), NOW


async def stored(owner: Owner) -> list[int]:
    return [int(row[0]) for row in await owner.store.fetch("SELECT msg FROM syslogs ORDER BY msg")]


async def gaps(owner: Owner) -> list[list[Any]]:
    return await owner.store.fetch("SELECT toUnixTimestamp(start), toUnixTimestamp(end), reason FROM gaps ORDER BY 1")


async def test_a_window_that_is_too_large_is_asked_for_in_parts(owner: Owner) -> None:
    """Every line is stored once; windows stay as short as they must be."""

    def script(asked: Mapping[str, Any]) -> tuple[Answer, int]:
        seconds = lines_asked(asked)
        if len(seconds) > 12:
            raise TOO_LARGE
        return answered(seconds)

    client = await run(owner, script, SYSLOGS)
    assert await stored(owner) == list(range(BEGIN, END))
    assert await gaps(owner) == []
    assert len(client.asked) < 2 * SECONDS / 8 + 8


async def test_a_page_that_is_too_large_keeps_the_pages_before_it(owner: Owner) -> None:
    """What was paid for is sealed up to its last second and not asked for again."""
    firsts: list[int] = []

    def script(asked: Mapping[str, Any]) -> tuple[Answer, int]:
        seconds = lines_asked(asked)
        if "NextToken" in asked:
            raise TOO_LARGE
        firsts.append(seconds[0])
        answer, date = answered(seconds[:20])
        if len(seconds) > 20:
            answer.next_token = "more"  # type: ignore[attr-defined]
        return answer, date

    await run(owner, script, SYSLOGS)
    assert await stored(owner) == list(range(BEGIN, END))
    assert await gaps(owner) == []
    assert firsts == sorted({*firsts})


async def test_only_a_second_that_is_too_large_alone_is_a_gap(owner: Owner) -> None:
    """With its neighbours, which are asked for with a second of margin; all other lines are stored."""
    heavy = BEGIN + 37

    def script(asked: Mapping[str, Any]) -> tuple[Answer, int]:
        seconds = lines_asked(asked)
        if heavy in seconds:
            raise TOO_LARGE
        return answered(seconds)

    client = await run(owner, script, SYSLOGS)
    missing = [heavy - 2, heavy - 1, heavy, heavy + 1]
    assert await stored(owner) == sorted({*range(BEGIN, END)} - {*missing})
    assert await gaps(owner) == [[second, second + 1, "answer too large"] for second in missing]
    assert len(client.asked) < 50


async def fail(owner: Owner, script: Callable[[Mapping[str, Any]], Any], streams: Streams) -> ScriptedClient:
    client = ScriptedClient(owner, script, NOW)
    owner.client = client  # type: ignore[assignment]
    (error,) = (await runner_of(owner, streams).run()).failures.values()
    assert isinstance(error, AnswerTooLargeError)
    return client


def always(asked: Mapping[str, Any]) -> Any:
    raise TOO_LARGE


async def test_answers_that_are_too_large_whatever_is_asked_stop_their_stream(owner: Owner) -> None:
    """After some seconds it fails with the reason, and does not pay for every second of the past."""
    client = await fail(owner, always, SYSLOGS)
    assert len(client.asked) <= SECONDS_TOO_LARGE_MAX + 10


def users(asked: Mapping[str, Any], most: int) -> tuple[Answer, int]:
    number, size = int(asked["PageNumber"]), int(asked["PageSize"])
    if size > most:
        raise TOO_LARGE
    records = [UserViewMetric(user_id=f"u{i}") for i in range(OBJECTS)][(number - 1) * size : number * size]
    return GetUserViewMetricsAnswer(user_metrics=records, total=OBJECTS), NOW


def jobs(asked: Mapping[str, Any], most: int) -> tuple[Answer, int]:
    number, size = asked["PageNumber"], asked["PageSize"]
    if size > most:
        raise TOO_LARGE
    records = [JobRecord(job_id=f"j{i}") for i in range(OBJECTS)][(number - 1) * size : number * size]
    return ListJobsAnswer(jobs=records, total_count=OBJECTS), NOW


def clusters(asked: Mapping[str, Any], most: int) -> tuple[Answer, int]:
    first, size = int(asked.get("NextToken", 0)), asked["MaxResults"]
    if size > most:
        raise TOO_LARGE
    records = [ClusterRecord(cluster_id=f"c{i}") for i in range(OBJECTS)][first : first + size]
    following = str(first + size) if first + size < OBJECTS else None
    return ListClustersAnswer(request_id="r", clusters=records, next_token=following), NOW


LISTS: dict[str, tuple[Streams, Any, str]] = {
    "users": (SNAPSHOTS, users, "SELECT uniqExact(user_id), count() FROM user_metrics"),
    "jobs": (JOBS, jobs, "SELECT uniqExact(object_id), count() FROM inventory_states"),
    "clusters": (CLUSTERS, clusters, "SELECT uniqExact(object_id), count() FROM inventory_states"),
}


@pytest.mark.parametrize("name", LISTS)
async def test_a_list_that_is_too_large_is_asked_for_in_smaller_pages(owner: Owner, name: str) -> None:
    """Every object is stored once; the list is whole."""
    streams, answer, sql = LISTS[name]
    client = await run(owner, lambda asked: answer(asked, 30), streams)
    assert await owner.store.fetch(sql) == [[OBJECTS, OBJECTS]]
    assert await gaps(owner) == []
    assert len(client.asked) == 2 + 3


@pytest.mark.parametrize("name", LISTS)
async def test_records_that_fit_only_one_by_one_are_all_stored(owner: Owner, name: str) -> None:
    """Of a list whose records are each nearly as large as an answer may be."""
    streams, answer, sql = LISTS[name]
    await run(owner, lambda asked: answer(asked, 1), streams)
    assert await owner.store.fetch(sql) == [[OBJECTS, OBJECTS]]
    assert await gaps(owner) == []


@pytest.mark.parametrize("name", LISTS)
async def test_pages_grow_again_once_answers_are_small(owner: Owner, name: str) -> None:
    """Nobody pays for small pages for ever: list by list they are twice as large, until they are as configured."""
    streams, answer, _ = LISTS[name]
    most, tick = 7, 0
    sizes: list[int] = []

    def script(asked: Mapping[str, Any]) -> tuple[Answer, int]:
        sizes.append(int(asked.get("PageSize") or asked["MaxResults"]))
        return answer(asked, most)[0], NOW + 60 * tick

    known: dict[int, int] = {}
    for tick in range(8):
        most = 7 if tick == 0 else 1000
        owner.server_clock = ServerClock(owner.clock)
        owner.client = ScriptedClient(owner, script, NOW + 60 * tick)  # type: ignore[assignment]
        # As in a service, which goes on with what it knows.
        collecting = replace(owner.collecting(), page_sizes=known)
        assert not (await runner_of(owner, streams, collecting).run()).failures
    assert sizes[0] == sizes[-1] == 100
    assert sizes[-3:] == [100] * 3
    assert min(sizes) == 6


async def test_a_page_of_a_list_that_is_too_large_begins_it_again_with_smaller_pages(owner: Owner) -> None:
    """Numbers of pages mean nothing with another size: no user is skipped or counted twice."""

    def script(asked: Mapping[str, Any]) -> tuple[Answer, int]:
        return users(asked, 25 if int(asked["PageNumber"]) > 1 else 50)

    await run(owner, script, SNAPSHOTS)
    assert await owner.store.fetch(LISTS["users"][2]) == [[OBJECTS, OBJECTS]]


async def test_a_snapshot_whose_smallest_page_is_too_large_is_a_gap(owner: Owner) -> None:
    """The tick is not whole, and no later one waits for it."""
    client = await run(owner, always, SNAPSHOTS)
    assert [reason for _, _, reason in await gaps(owner)] == ["answer too large"]
    assert int(client.asked[-1]["PageSize"]) == 1
    assert len(client.asked) < 10


@pytest.mark.parametrize("streams", [JOBS, CLUSTERS])
async def test_a_list_whose_smallest_page_is_too_large_fails_its_stream(owner: Owner, streams: Streams) -> None:
    """With the reason, after a few calls."""
    assert len((await fail(owner, always, streams)).asked) < 10


@pytest.mark.slow("long lines")
async def test_messages_of_100_kb_and_one_of_10_mb(tmp_path: Path) -> None:
    """A hundred long lines are all stored; one that no answer can hold is a gap of its second and those beside it."""
    start = NOW - 300
    node = World(23, 1, 1).node_ids[0]
    long = [LongLines(node, start, start + 10, 10, 100_000), LongLines(node, start + 60, start + 61, 1, 10_000_000)]
    world = World(23, 1, 1, lines_per_second=0.3, bursts=False, long=long)
    async with simulator(world) as api:
        configuration = settings(
            tmp_path,
            api.base_url,
            targets={"nodes": (node,)},
            sources={"syslogs": {"initial_lookback": "6m", "settle": "60s", "recheck": []}},
        )
        async with await Owner.open(configuration, key=SIMULATOR_KEY) as owner:
            assert not (await owner.once().run()).failures
            seconds = range(start + 58, start + 62)
            assert await gaps(owner) == [[second, second + 1, "answer too large"] for second in seconds]
            rows = await owner.store.fetch(f"SELECT {stored_columns()} FROM syslogs")
        truth = true_syslogs(world, [node], NOW - 360, start + 58) + true_syslogs(world, [node], start + 62, NOW - 60)
        assert not differences(truth, type(truth)(map(tuple, rows)))
