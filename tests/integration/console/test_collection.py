"""The collection: every stream with its state, the gaps, the calls, the rechecks and the journal."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from axe_playwright_python.async_playwright import Axe

from collector.console.paging import PAGE_ROWS
from collector.errors import QueryError, StoreUnavailable
from collector.model import StreamKey, Window
from collector.service.http import serving_http
from collector.settings import Settings
from collector.simulator.faults import Fault, FaultKind
from collector.simulator.world import World
from tests.support import NOW, settings
from tests.support.browser import chromium, tab, with_chromium
from tests.support.console_pages import ANY_PORT, Console, served
from tests.support.running_service import running
from tests.support.virtual_clock import ManualClock

MARKUP = "node-<script>alert(1)</script>"
REGION = "cn-hangzhou"


@asynccontextmanager
async def console_over(folder: Path, nodes: list[str], **sections: Any) -> AsyncIterator[Console]:
    """A console at NOW over streams of log lines, each collected for an hour until a minute ago."""
    made = settings(folder, "http://127.0.0.1:1", targets={"nodes": nodes}, **sections)
    async with served(made, clock=ManualClock(NOW)) as console:
        for node in nodes:
            await console.owner.journal.adopt(
                StreamKey("ListSyslogs", REGION, node),
                collected_from=NOW - 3660,
                watermark=NOW - 60,
                held=(),
                rechecks={900: NOW - 1000, 21_600: NOW - 3660},
            )
        yield console


def titled(told: Any) -> dict[str, Any]:
    return {tile["title"]: tile for tile in told["tiles"]}


def counted(choices: Any) -> dict[str, int]:
    return {choice["title"]: choice["count"] for choice in choices}


async def test_a_service_shows_each_stream_with_its_promise_and_its_error(tmp_path: Path) -> None:
    """A node that the service does not know stands first, its error under it; the others are fresh, or called late."""
    world = World(seed=5, node_count=3, group_count=1)
    gone = world.node_ids[1]
    fault = Fault(kind=FaultKind.NOT_FOUND, operation="ListSyslogs", scope_id=gone)
    async with running(tmp_path, world, faults=[fault], targets={"nodes": world.node_ids}) as run:
        await run.until(lambda: run.source("ListSyslogs").states == {"collected": 2, "stopped": 1})
        async with (
            serving_http(run.owner, listen=ANY_PORT, token="") as address,
            aiohttp.ClientSession(address) as client,
        ):
            console = Console(run.owner, address, client)
            told = await console.json("/collection")
            document = await console.html("/collection?state=stopped")
    first, *others = told["streams"]["rows"]
    assert (first["scope_id"], first["state"], first["source"]) == (gone, "stopped", "syslogs")
    assert "NotFound" in first["error"]
    assert first["next_poll"] is not None
    for row in others:
        assert row["promise_seconds"] == 30 + 60 + 2 * 0.2
        # Time passes quickly here: while the page is made, a stream may get late.
        is_late = row["freshness_seconds"] > row["promise_seconds"]
        assert (row["state"], row["error"]) == ("late" if is_late else "collected", None)
        assert row["last_poll"] > row["watermark"]
    fresh = sum(row["state"] == "collected" for row in others)
    (source,) = told["sources"]["rows"]
    assert source["fresh_text"] == f"{fresh} of 3 fresh, 1 stopped" + (f", {2 - fresh} late" if fresh < 2 else "")
    assert source["state"] == "stopped"
    assert titled(told)["Streams fresh"]["value"] == f"{fresh} of 3"
    assert titled(told)["Streams fresh"]["state"] == "bad"
    rows = document.query("#streams tbody tr")
    assert [row.attrs.get("class") for row in rows] == [None, "detail"]
    assert "NotFound" in rows[1].to_text()


async def test_streams_are_filtered_by_state_source_and_words(tmp_path: Path) -> None:
    """All filters stand in the address, the states are counted for what else is chosen, and errors are searched too."""
    async with console_over(tmp_path, ["node-a", "node-b", "other-c"]) as console:
        states = await console.owner.journal.streams()
        await console.owner.journal.set_error(
            states[StreamKey("ListSyslogs", REGION, "node-b")].id, "no such disk", NOW - 5
        )

        async def scopes(query: str) -> list[str]:
            told = await console.json(f"/collection?{query}")
            return [row["scope_id"] for row in told["streams"]["rows"]]

        assert await scopes("") == ["node-b", "node-a", "other-c"]
        assert await scopes("state=failing") == ["node-b"]
        assert await scopes("state=collected&q=NODE") == ["node-a"]
        assert await scopes("q=disk+node") == ["node-b"]
        assert await scopes("source=user_metrics") == []
        told = await console.json("/collection?q=node&state=failing")
        assert counted(told["states"]) == {"all": 2, "failing": 1, "collected": 1}
        document = await console.html("/collection?q=node&source=syslogs&state=failing")
        (search,) = document.query("form.filters input[type=search]")
        assert search.attrs["value"] == "node"
        (option,) = document.query("form.filters option[selected]")
        assert option.to_text().strip() == "syslogs"
        (hidden,) = document.query("form.filters input[name=state]")
        assert hidden.attrs["value"] == "failing"


async def test_long_lists_come_in_pages_with_the_count_of_all(tmp_path: Path) -> None:
    """At most 500 streams are on a page; the filter holds on all of them, and a page behind the last shows the last."""
    nodes = [f"node-{number:04}" for number in range(PAGE_ROWS + 20)]
    async with console_over(tmp_path, nodes) as console:
        first = await console.json("/collection?source=syslogs")
        assert len(first["streams"]["rows"]) == PAGE_ROWS
        assert (first["paging"]["count"], first["paging"]["pages"]) == (520, 2)
        assert first["paging"]["after"] == "/collection?source=syslogs&page=2"
        second = await console.json(first["paging"]["after"])
        assert [row["scope_id"] for row in second["streams"]["rows"]] == nodes[PAGE_ROWS:]
        assert second["paging"]["after"] == ""
        assert (await console.json("/collection?page=9999"))["paging"]["page"] == 2
        assert "501 to 520 of 520" in (await console.html("/collection?page=2")).to_text()


@pytest.mark.parametrize("query", ["page=0", "page=x", "page=" + "9" * 5000, "tab=nothing", "tab=gaps&what=some"])
async def test_an_address_that_means_nothing_is_refused(tmp_path: Path, query: str) -> None:
    """With what would be right, and status 400."""
    async with console_over(tmp_path, []) as console:
        assert "expected" in (await console.json(f"/collection?{query}", status=400))["error"]


async def test_gaps_are_a_table_and_a_timeline(tmp_path: Path) -> None:
    """A gap is drawn where it lies, and named in words; what was before a stream is listed only when asked for."""
    async with console_over(tmp_path, ["node-a", "node-b"]) as console:
        states = await console.owner.journal.streams()
        hole = Window(NOW - 1800, NOW - 1200)
        await console.owner.journal.add_gaps(
            states[StreamKey("ListSyslogs", REGION, "node-b")].id, [(hole, "the log service had lost it")]
        )
        told = await console.json("/collection?tab=gaps&last=2h")
        (gap,) = told["gaps"]["rows"]
        assert (gap["scope_id"], gap["seconds"], gap["reason"]) == ("node-b", 600, "the log service had lost it")
        lines = {line["label"]: line for line in told["timeline"]["lines"]}
        assert list(lines) == ["node-b", "node-a"]
        assert lines["node-a"]["told"] == "nothing missing"
        assert lines["node-b"]["told"] == "1 gap, 10m 0s missing"
        covered, missing = lines["node-b"]["spans"]
        assert (covered["kind"], missing["kind"]) == ("covered", "missing")
        assert covered["x"] == pytest.approx(1000 * (7200 - 3660) / 7200, abs=0.01)
        assert missing["x"] == pytest.approx(1000 * (7200 - 1800) / 7200, abs=0.01)
        assert missing["width"] == pytest.approx(1000 * 600 / 7200, abs=0.01)
        everything = await console.json("/collection?tab=gaps&last=2h&what=all")
        assert [row["scope_id"] for row in everything["gaps"]["rows"]] == ["node-a", "node-b", "node-b"]
        assert counted(told["kinds"]) == {"gaps": 1, "all that is missing": 3}
        rows = list(csv.DictReader(io.StringIO(await console.csv("/collection?tab=gaps&last=2h"))))
        assert [row["scope_id"] for row in rows] == ["node-b"]
        document = await console.html("/collection?tab=gaps&last=2h")
        assert len(document.query(".timeline li")) == 2
        titles = [title.to_text() for title in document.query(".timeline rect.missing title")]
        assert titles == ["missing: 2025-10-09T08:23:20Z until 2025-10-09T08:33:20Z, the log service had lost it"]
        earlier = await console.json("/collection?tab=gaps&until=2025-10-09T08:00Z&from=2025-10-09T07:55Z")
        assert earlier["gaps"]["rows"] == []


async def test_coverage_that_cannot_be_read_leaves_the_streams(
    console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the journal knows is there; what only the store knows is not known, and not zero."""

    async def query(*arguments: object, **options: object) -> object:
        raise QueryError("no memory")

    monkeypatch.setattr(console.owner.store, "query", query)
    told = await console.json("/collection")
    assert told["streams"]["note"] == "What is covered is not known: no memory"
    assert {(row["state"], row["covered_percent"], row["open_gaps"]) for row in told["streams"]["rows"]} == {
        ("collected", None, None)
    }


async def test_gaps_that_cannot_be_read_are_not_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page says why, and draws nothing that would look like a history without gaps."""
    async with console_over(tmp_path, ["node-a"]) as console:

        async def fetch(*arguments: object) -> object:
            raise StoreUnavailable("the disk is away")

        monkeypatch.setattr(console.owner.store, "fetch", fetch)
        told = await console.json("/collection?tab=gaps")
        assert told["gaps"]["failure"] == "the store cannot be read: the disk is away"
        assert told["timeline"] is None
        document = await console.html("/collection?tab=gaps")
        assert "the disk is away" in document.to_text()
        assert not document.query(".timeline")
        await console.csv("/collection?tab=gaps", status=503)


async def test_names_and_errors_with_markup_stay_text(tmp_path: Path) -> None:
    """On each tab, and in what was searched for."""
    async with console_over(tmp_path, [MARKUP]) as console:
        states = await console.owner.journal.streams()
        (state,) = states.values()
        await console.owner.journal.set_error(state.id, "<b>boom</b>\x1b[31m", NOW)
        await console.owner.journal.add_gaps(state.id, [(Window(NOW - 900, NOW - 600), "<i>lost</i>")])
        for query in ("", "tab=gaps", "tab=calls", "tab=rechecks", "tab=journal"):
            document = await console.html(f"/collection?{query}&q=%3Cb%3E%22%27")
            assert not document.query("main script, main b:not(figcaption b), main i"), query
        document = await console.html("/collection")
        assert MARKUP in document.to_text()
        assert "<b>boom</b>␛[31m" in document.to_text()
        assert MARKUP in (await console.html("/collection?tab=gaps")).to_text()


async def test_calls_are_shown_over_time_with_the_quota_and_what_failed(configuration: Settings) -> None:
    """Every operation is a part of the columns, the smallest ones together; failures have their own table."""
    names = [f"Operation{number}" for number in range(10)]
    lines = [
        f'[{NOW // 60 * 60 - 600}, "cn-hangzhou", "{name}", 200, "", {100 - place}, 5, 500, "0.5"]\n'
        for place, name in enumerate(names)
    ]
    lines.append(f'[{NOW // 60 * 60 - 600}, "cn-hangzhou", "Operation0", 429, "Throttling.User", 7, 0, 90, "0.1"]\n')
    async with served(configuration, clock=ManualClock(NOW)) as console:
        columns = ("minute", "region", "operation", "http_status", "code", "calls", "rows", "bytes", "cost_cny")
        await console.owner.store.insert("api_call_parts", columns, "".join(lines).encode(), token="t")
        until = "from=2025-10-09T08:00Z&until=2025-10-09T09:00Z"
        told = await console.json(f"/collection?tab=calls&{until}&all=1")
        calls, failed = told["charts"]
        assert [series["title"] for series in calls["series"]] == [*names[:7], "others"]
        sums = {series["title"]: sum(series["values"]) for series in calls["series"]}
        assert (sums["Operation0"], sums["others"]) == (107, 93 + 92 + 91)
        assert [(series["title"], sum(series["values"])) for series in failed["series"]] == [("Operation0", 7)]
        place = next(place for place, value in enumerate(failed["series"][0]["values"]) if value)
        assert failed["times"][place] == NOW // 60 * 60 - 600
        (refused,) = told["refused"]["rows"]
        assert (refused["kind"], refused["calls"], refused["code"]) == ("throttled", 7, "Throttling.User")
        quotas = {row["operation"]: row for row in told["quotas"]["rows"]}
        assert (quotas["GetUserViewMetrics"]["quota_per_second"], quotas["GetUserViewMetrics"]["waiting"]) == (100, 0)
        assert (await console.json("/collection?tab=calls"))["quotas"]["rows"] == []
        assert "no call was made this month" in (await console.html("/collection?tab=calls")).to_text()


async def test_what_is_stored_of_streams_and_sources_is_shown_beside_them(console: Console) -> None:
    """How much of each stream is covered, and the rows of each source over time."""
    told = await console.json("/collection")
    syslogs = [row for row in told["streams"]["rows"] if row["operation"] == "ListSyslogs"]
    assert [(row["covered_percent"], row["open_gaps"]) for row in syslogs] == [(100, 0)] * 4
    rows = (await console.json("/collection?tab=gaps"))["rows"]
    ((lines,),) = await console.owner.store.fetch("SELECT count() FROM syslogs")
    sums = {series["title"]: sum(series["values"]) for series in rows["series"]}
    assert sums.keys() >= {"syslogs", "user_metrics"}
    assert sums["syslogs"] == lines


async def test_rechecks_tell_what_they_found(console: Console) -> None:
    """The demo's late lines are counted with the calls that found them, and how late lines arrive is known by node."""
    told = await console.json("/collection?tab=rechecks")
    finds = {row["operation"]: row for row in told["finds"]["rows"]}
    assert finds["ListSyslogs"]["rows"] == 25
    assert finds["ListSyslogs"]["calls"] > 0
    (recheck,) = (row for row in told["rechecks"]["rows"] if row["operation"] == "ListSyslogs")
    assert (recheck["delay_seconds"], recheck["streams"], recheck["source"]) == (300, 4, "syslogs")
    assert {row["node_id"] for row in told["delays"]["rows"]} <= {f"e01-cn-sim000{number}" for number in range(1, 5)}


async def test_the_journal_says_how_deep_it_is_and_what_waits(tmp_path: Path) -> None:
    """Rows that wait, the bound, what was counted, and a store that takes nothing."""
    async with console_over(tmp_path, ["node-a"]) as console:
        await console.owner.journal.count("dead_letters", 3)
        told = await console.json("/collection?tab=journal")
        facts = {row["what"]: row["value"] for row in told["journal"]["rows"]}
        assert (facts["rows"], facts["store"]) == ("0", "takes rows")
        assert told["counters"]["rows"] == [{"name": "records that no row could be made of", "count": 3}]


@with_chromium
@pytest.mark.parametrize("width", [1280, 390])
async def test_every_tab_is_clean_in_a_browser(console: Console, width: int) -> None:
    """No error, no serious finding of axe, nothing wider than the window, and the tabs are reached by keyboard."""
    async with chromium() as browser, tab(browser, console.address, viewport={"width": width, "height": 900}) as opened:
        for name in ("gaps", "calls", "rechecks", "journal"):
            await opened.open(f"/collection?tab={name}")
            results = await Axe().run(opened.page)
            serious = [one["id"] for one in results.response["violations"] if one["impact"] in ("serious", "critical")]
            beyond = await opened.page.evaluate("document.documentElement.scrollWidth - innerWidth")
            assert (serious, opened.troubles, max(0, beyond)) == ([], [], 0), name
        await opened.open("/collection")
        await opened.page.get_by_role("link", name="Gaps", exact=True).focus()
        await opened.page.keyboard.press("Enter")
        await opened.page.wait_for_url("**/collection?tab=gaps")
        await opened.page.locator("figure#rows canvas").wait_for()
