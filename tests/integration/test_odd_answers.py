"""Answers that no polite service gives: the real journal, loops and store behind a scripted client."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from collector.catalogue.answers import Answer
from collector.catalogue.products.eflo_controller import ListSyslogsAnswer, SyslogRecord
from collector.catalogue.products.pai_studio import GetUserViewMetricsAnswer, UserViewMetric
from collector.clock import SystemClock
from collector.owner.instance import Owner
from collector.pipeline import collect_windows
from collector.pipeline.streams import WindowStreams
from collector.settings import Settings
from collector.sources.syslogs import SyslogSource
from tests.support import NOW, settings
from tests.support.scripted_client import run

NODE = "node-1"
GROUP = "rg-1"


@pytest.fixture
def configuration(tmp_path: Path) -> Settings:
    return settings(
        tmp_path,
        "http://127.0.0.1:1",
        targets={"nodes": (NODE,)},
        sources={"syslogs": {"initial_lookback": "10m", "settle": "60s", "recheck": []}},
    )


def line(time: int, msg: str = "line") -> SyslogRecord:
    return SyslogRecord(time=str(time), msg=msg, node_id=NODE, tag_receive_time=str(time + 1))


def page(*records: SyslogRecord, cursor: str | None = None) -> ListSyslogsAnswer:
    return ListSyslogsAnswer(request_id="r", logs=list(records), next_token=cursor)


async def messages(owner: Owner) -> list[str]:
    return [row[0] for row in await owner.store.fetch("SELECT msg FROM syslogs ORDER BY msg")]


async def test_rows_outside_all_that_was_asked_are_stored_once(owner: Owner) -> None:
    """A node whose clock is off logs into other times: kept, counted, and not doubled when it comes again."""
    strays = [line(5, "1970"), line(NOW + 600, "future"), line(NOW + 600, "future")]
    await run(owner, lambda _: (page(line(NOW - 300, "here"), *strays), NOW))
    assert await messages(owner) == ["1970", "future", "future", "here"]
    assert (await owner.journal.counters())["strays"] == 3

    later = NOW + 700
    records = [line(NOW + 100, "next"), line(NOW + 600, "future"), line(NOW + 600, "future"), line(5, "1970")]
    await run(owner, lambda _: (page(*records), later), date=later)
    assert await messages(owner) == ["1970", "future", "future", "here", "next"]


@pytest.mark.slow("odd answers")
async def test_rows_in_the_margin_belong_to_the_neighbour(owner: Owner) -> None:
    """The range asked for is a second wider on both sides; what lies there is left to the next window."""
    end = NOW - 60
    client = await run(owner, lambda _: (page(line(end - 1, "mine"), line(end, "next"), line(end + 1, "next")), NOW))
    assert client.asked[0]["FromTime"] == str(NOW - 600 - 1)
    assert client.asked[0]["ToTime"] == str(end + 1)
    assert await messages(owner) == ["mine"]


@pytest.mark.slow("odd answers")
async def test_a_window_is_never_sealed_past_the_servers_date(owner: Owner) -> None:
    """When the clock turns out to be earlier than thought, the window ends settle before it, and no sooner is lost."""
    date = NOW - 200
    records = [line(date - 100, "sure"), line(date - 30, "too soon")]
    await run(owner, lambda _: (page(*records), date))
    assert await messages(owner) == ["sure"]
    (state,) = (await owner.journal.streams()).values()
    assert state.sealed_to == date - 60


class MachineAhead(SystemClock):
    """The clock of a machine on which it is always `NOW`."""

    def wall(self) -> float:
        return float(NOW)


async def test_a_window_in_the_servers_future_costs_one_call(owner: Owner) -> None:
    """The answer is metered and not used, and the window is planned again by the server's time."""
    earlier = NOW - 5000
    owner.clock = MachineAhead()
    client = await run(owner, lambda _: (page(line(earlier - 300)), earlier), date=None)
    assert [asked["ToTime"] for asked in client.asked] == [str(NOW - 59), str(earlier - 59)]
    assert await messages(owner) == ["line"]
    (state,) = (await owner.journal.streams()).values()
    assert state.sealed_to == earlier - 60
    rows = await owner.store.fetch("SELECT code, sum(calls) FROM api_calls GROUP BY 1 ORDER BY 1")
    assert rows == [["", 1], ["not_used", 1]]


async def test_a_window_with_too_many_pages_is_sealed_at_its_last_whole_second(
    owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows in order: what is whole is sealed, the rest is the next window, and each row is stored once."""
    monkeypatch.setattr(collect_windows, "PAGES_MAX", 3)
    times = [NOW - 600 + 20 * i for i in range(26)]

    def script(asked: Mapping[str, Any]) -> tuple[Answer, int]:
        first, last = int(asked["FromTime"]), int(asked["ToTime"])
        within = [t for t in times if first <= t <= last]
        at = int(asked["NextToken"].split("-")[1]) if "NextToken" in asked else 0
        more = f"{first}-{at + 2}" if at + 2 < len(within) else None
        return page(*(line(t, f"{t}") for t in within[at : at + 2]), cursor=more), NOW

    await run(owner, script)
    assert await messages(owner) == [str(t) for t in times]
    ((watermark,),) = await owner.store.fetch("SELECT toUnixTimestamp(watermark) FROM watermarks")
    assert watermark == NOW - 60


async def test_a_window_too_full_and_out_of_order_is_asked_in_halves(
    owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It cannot be cut where its rows are in no order, so smaller windows are asked from the start."""
    monkeypatch.setattr(collect_windows, "PAGES_MAX", 3)
    times = [NOW - 600 + 20 * i for i in range(26)]

    def script(asked: Mapping[str, Any]) -> tuple[Answer, int]:
        first, last = int(asked["FromTime"]), int(asked["ToTime"])
        within = [t for t in times if first <= t <= last][::-1]
        at = int(asked["NextToken"].split("-")[1]) if "NextToken" in asked else 0
        more = f"{first}-{at + 2}" if at + 2 < len(within) else None
        return page(*(line(t, f"{t}") for t in within[at : at + 2]), cursor=more), NOW

    await run(owner, script)
    assert await messages(owner) == [str(t) for t in times]


@pytest.mark.slow("odd answers")
async def test_an_answer_that_changed_is_a_conflict_and_adds_nothing(owner: Owner) -> None:
    """As many rows in a second, but other ones: the event is not stored in both versions."""
    await run(owner, lambda _: (page(line(NOW - 300, "before")), NOW))
    (state,) = (await owner.journal.streams()).values()
    await owner.journal.set_rechecks(state.id, {120: NOW - 600})
    await owner.journal.run(lambda db: db.execute("UPDATE streams SET sealed_to = ?", (NOW - 60,)) and None)
    streams = WindowStreams("syslogs", SyslogSource(), [NODE], settle=60, initial_lookback=600, rechecks=[120])
    await run(owner, lambda _: (page(line(NOW - 300, "after"), line(NOW - 200, "late")), NOW), streams)
    assert await messages(owner) == ["before", "late"]
    assert (await owner.journal.counters())["conflicts"] == 1


@pytest.mark.slow("odd answers")
async def test_a_snapshot_that_outlasts_its_tick_is_stored_and_listed(tmp_path: Path) -> None:
    """Paging is resumed only within the tick: what was read is stored, and the tick is a gap, partial."""
    configuration = settings(
        tmp_path,
        "http://127.0.0.1:1",
        targets={"resource_groups": (GROUP,)},
        sources={"user_metrics": {"page_size": 2}},
    )
    tick = NOW // 60 * 60

    def script(asked: Mapping[str, Any]) -> tuple[Answer, int]:
        number = int(asked["PageNumber"])
        users = [UserViewMetric(user_id=f"u{number}{i}", job_type="J") for i in range(2)]
        summary = UserViewMetric(total_gpu=8)
        return GetUserViewMetricsAnswer(user_metrics=users, summary=summary, total=6), tick + 20 * number

    async with await Owner.open(configuration) as owner:
        await run(owner, script)
        users = await owner.store.fetch("SELECT user_id, toUnixTimestamp(time) FROM user_metrics ORDER BY 1")
        assert users == [[user, tick] for user in ("u10", "u11", "u20", "u21")]
        groups = await owner.store.fetch("SELECT user_count, total_gpu FROM resource_group_metrics")
        assert groups == [[4, 8]]
        gaps = await owner.store.fetch("SELECT toUnixTimestamp(start), toUnixTimestamp(end), reason FROM gaps")
        assert gaps == [[tick, tick + 60, "partial"]]
