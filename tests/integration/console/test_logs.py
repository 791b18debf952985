"""The log page over lines that are known: searched, counted, paged, folded and read in their place."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
import pytest_asyncio
from playwright.async_api import expect

from collector.console.log_search import filtered, searched
from collector.console.pages.logs import SHOWN_MAX
from collector.console.server import RENEW_SECONDS
from collector.errors import QueryError
from collector.settings import Settings
from collector.store.assets import sql_files, sql_folder
from collector.store.named import parsed
from tests.support.browser import chromium, tab, with_chromium
from tests.support.console_pages import Console, served

START = int(datetime(2026, 11, 30, 3, tzinfo=UTC).timestamp())
RANGE = "from=2026-11-30T03:00&until=2026-11-30T09:00"
XID = "NVRM: Xid (PCI:0000:3b:00): 79, pid=1234, GPU has fallen off the bus."
COLUMNS = ("time", "region", "cluster_id", "node_id", "hostname", "severity", "syslogtag", "msg", "extra")


async def insert(console: Console, lines: Sequence[tuple[int, str, str, str]], token: str = "lines") -> None:
    """Add lines: seconds after START, node, level and message."""
    rows = [
        (START + second, "cn-hangzhou", "i1", node, f"host-{node}", level, "kernel", message, "{}")
        for second, node, level, message in lines
    ]
    body = "".join(json.dumps(row) + "\n" for row in rows)
    await console.owner.store.insert("syslogs", COLUMNS, body.encode(), token=token)


@pytest_asyncio.fixture
async def known(configuration: Settings) -> AsyncIterator[Console]:
    """A store without lines."""
    async with served(configuration) as opened:
        yield opened


@pytest_asyncio.fixture
async def few(known: Console) -> Console:
    """Lines of two nodes in three hours."""
    await insert(
        known,
        [
            (0, "a", "info", "Started session 1 of user root."),
            (60, "a", "err", XID),
            (61, "a", "info", "after the fall"),
            (3600, "b", "warning", "Link is DOWN on eth0"),
            (7200, "b", "info", "a 100% \\ 'quoted' \"value\""),
            (7201, "a", "info", "Started session 22 of user root."),
        ],
    )
    return known


async def messages(console: Console, query: str) -> list[str]:
    told = await console.json(f"/logs?{RANGE}&{query}")
    assert told["lines"]["failure"] == ""
    return [row["msg"] for row in told["lines"]["rows"]]


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("started", [7201, 0]),
        ("STARTED 22", [7201]),
        ('"session 1 of"', [0]),
        ("-started -xid", [7200, 3600, 61]),
        ("node:a", [7201, 61, 60, 0]),
        ("node:a node:b -host:host-a", [7200, 3600]),
        ("host:*-b", [7200, 3600]),
        ("class:xid", [60]),
        ("code:79 severity:err", [60]),
        ("class:*", [60]),
        ("-class:* level:info", [7201, 7200, 61, 0]),
        ("fault:fatal device:0000:3b:00", [60]),
        ("program:kernel link", [3600]),
        (r'"100% \\ \'quoted\' \"value"'.replace(r"\'", "'"), [7200]),
        ('node:"x\' OR 1 = 1 --"', []),
        ("job:train-7", []),
    ],
)
async def test_a_search_finds_what_it_says(few: Console, search: str, found: list[int]) -> None:
    """Words in any case, phrases, values, patterns, what is left out; newest first, and counted by the histogram."""
    told = await few.json(f"/logs?{RANGE}&q={quote(search)}")
    assert [second(row) for row in told["lines"]["rows"]] == found
    assert told["histogram"]["title"] == f"{len(found)} lines"
    assert sum(value for series in told["histogram"]["series"] for value in series["values"]) == len(found)


def second(row: Mapping[str, Any]) -> int:
    return int(datetime.fromisoformat(row["time"]).replace(tzinfo=UTC).timestamp()) - START


async def test_a_job_finds_the_lines_of_the_nodes_that_it_had_then(few: Console) -> None:
    """By snapshots of usage, which name nodes by id or by host name, and for ten minutes around them."""
    rows = [
        (START + 30, "cn-hangzhou", "rg", "user-1", ["train-7"], ["a"]),
        (START + 3600, "cn-hangzhou", "rg", "user-2", ["other"], ["host-b"]),
    ]
    body = "".join(json.dumps(row) + "\n" for row in rows).encode()
    columns = ("time", "region", "resource_group_id", "user_id", "gpu_job_names", "node_names")
    await few.owner.store.insert("user_metrics", columns, body, token="usage")
    assert await messages(few, "q=job:train-7") == ["after the fall", XID, "Started session 1 of user root."]
    assert await messages(few, "q=user:user-2") == ["Link is DOWN on eth0"]
    assert len(await messages(few, "q=-job:train-7")) == 3


async def test_facets_count_the_whole_range_and_lead_on(few: Console) -> None:
    """Each value has its lines, a link that takes only these and one that leaves them out; both can be taken back."""
    told = await few.json(f"/logs?{RANGE}&rows=1")
    facets = {facet["name"]: {value["value"]: value for value in facet["values"]} for facet in told["facets"]}
    assert {value: one["lines"] for value, one in facets["node"].items()} == {"a": 4, "b": 2}
    assert {value: one["lines"] for value, one in facets["class"].items()} == {"": 5, "xid": 1}
    series = {one["title"]: (sum(one["values"]), one["severity"]) for one in told["histogram"]["series"]}
    assert series == {"no fault": (5, ""), "fatal": (1, "fatal")}
    only, without = facets["node"]["a"]["include"], facets["node"]["a"]["exclude"]
    assert len((await few.json(only))["lines"]["rows"]) == 1
    chosen = await few.json(without)
    assert [row["node_id"] for row in chosen["lines"]["rows"]] == ["b"]
    (node,) = (facet for facet in chosen["facets"] if facet["name"] == "node")
    (excluded,) = (value for value in node["values"] if value["is_excluded"])
    assert excluded["lines"] is None
    assert (await few.json(excluded["exclude"]))["q"] == ""


async def test_pages_have_each_line_once_in_both_directions(known: Console) -> None:
    """Also where many lines share a second and a node, and where lines are equal."""
    lines = [(place // 7, "ab"[place // 3 % 2], "info", f"line {place // 2}") for place in range(100)]
    await insert(known, lines)
    whole = (await known.json(f"/logs?{RANGE}"))["lines"]["rows"]
    assert len(whole) == 100
    for rows in (1, 3, 8, 40):
        told = await known.json(f"/logs?{RANGE}&rows={rows}")
        seen, pages = list(told["lines"]["rows"]), [told]
        while told["older"]:
            told = await known.json(told["older"])
            pages.append(told)
            seen += told["lines"]["rows"]
        assert seen == whole, rows
        newer = [told]
        while told["newer"] and len(newer) < 300:
            told = await known.json(told["newer"])
            newer.append(told)
        back = [row for one in reversed(newer) for row in one["lines"]["rows"]]
        assert newer[-1]["lines"]["rows"] == whole[:rows]
        assert back == whole, rows


async def test_the_lines_of_a_second_stay_in_the_order_they_came_in(known: Console) -> None:
    """A trace of several lines can be read, downwards around a line and upwards in the list."""
    trace = [(10, "a", "err", f"{word} step") for word in ("zero", "one", "two", "three")]
    await insert(known, trace)
    assert await messages(known, "") == [message for *_, message in reversed(trace)]
    row = (await known.json(f"/logs?{RANGE}&q=one"))["lines"]["rows"][0]
    around = await known.json(f"/logs?around={START + 10}-{row['msg_hash']}-a")
    assert [one["msg"] for one in around["lines"]["rows"]] == [message for *_, message in trace]
    assert around["here"] == 1


async def test_lines_around_a_line_are_those_of_its_node(known: Console) -> None:
    """As many before as after, whatever is searched for; the line itself is marked and open."""
    await insert(known, [(place, "ab"[place % 2], "info", f"line {place}") for place in range(400)])
    row = (await known.json(f"/logs?{RANGE}&q=%22line+200%22"))["lines"]["rows"][0]
    line = f"{START + 200}-{row['msg_hash']}-a"
    told = await known.json(f"/logs?{RANGE}&q=nothing&around={line}")
    assert [one["msg"] for one in told["lines"]["rows"]] == [f"line {place}" for place in range(100, 301, 2)]
    document = await known.html(f"/logs?{RANGE}&around={line}&context=3")
    assert len(document.query("ol.lines > li")) == 7
    (here,) = document.query("ol.lines > li#here details[open]")
    assert "line 200" in here.to_text()
    gone = await known.json(f"/logs?around={START}-{row['msg_hash']}-a")
    assert "not in the store" in gone["lines"]["failure"]


async def test_repeats_are_folded_with_how_often_when_and_where(few: Console) -> None:
    """Lines that differ in numbers alone are one; its link finds them again."""
    told = await few.json(f"/logs?{RANGE}&fold=1")
    first = told["folds"]["rows"][0]
    assert first["pattern"] == "Started session # of user root."
    assert (first["lines"], first["nodes"], second({"time": first["first"]}), second({"time": first["last"]})) == (
        2, 1, 0, 7201,
    )  # fmt: skip
    assert len(await messages(few, f"q={quote(first['query'])}")) == 2
    document = await few.html(f"/logs?{RANGE}&fold=1")
    (link,) = document.query("#folds tbody tr:first-child th a")
    assert len((await few.json(str(link.attrs["href"])))["lines"]["rows"]) == 2


async def test_files_have_whole_lines_of_the_columns_that_are_chosen(known: Console) -> None:
    """CSV and JSON have the lines of the page; more of them up to a bound; all of a message, however long."""
    long = "x" * (1 << 20) + "end"
    await insert(known, [(place, "a", "info", f"line {place}") for place in range(150)] + [(200, "a", "info", long)])
    csv.field_size_limit(2 << 20)
    rows = list(csv.DictReader(io.StringIO(await known.csv(f"/logs?{RANGE}&columns=time,message&rows=2"))))
    assert [list(row) for row in rows] == [["time", "msg"]] * 2
    assert rows[0]["msg"] == long
    assert len(list(csv.DictReader(io.StringIO(await known.csv(f"/logs?{RANGE}&rows=50000&columns=all"))))) == 151
    document = await known.html(f"/logs?{RANGE}&rows=1")
    text = document.to_text()
    assert f"{len(long) - SHOWN_MAX:,} bytes more" in text
    assert len(text) < 3 * SHOWN_MAX
    (whole,) = document.query(".cut a")
    (row,) = (await known.json(str(whole.attrs["href"]).replace(".json", "")))["lines"]["rows"]
    assert row["msg"] == long


async def test_a_file_that_would_be_too_large_is_refused_and_not_cut_in_silence(
    few: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A CSV has no place to say that lines are missing; the JSON says it."""
    monkeypatch.setattr(sys.modules["collector.console.pages.logs"], "BYTES_MAX", 200)
    assert "choose a shorter range or fewer rows" in await few.csv(f"/logs?{RANGE}", status=503)
    assert "cut after" in (await few.json(f"/logs?{RANGE}"))["lines"]["note"]


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("q=colour:red", "there is no column 'colour' to search"),
        ("columns=colour", "columns: there is no column 'colour'"),
        ("by=colour", "by: got 'colour'; expected fault, class, level"),
        ("rows=0", "rows: got '0'; expected 1 to 50,000"),
        ("before=x", "before: got 'x'"),
        ("around=99999999999-A-b", "around: got '99999999999-A-b'"),
        ("around=1-AB-n&context=9999", "context: got '9999'; expected 0 to 500"),
    ],
)
async def test_what_cannot_be_asked_is_refused_beside_the_box(few: Console, query: str, error: str) -> None:
    """With what would be right; what was written stays in the box, and nothing is shown that was not asked for."""
    assert error in (await few.json(f"/logs?{query}", status=400))["error"]
    document = await few.html(f"/logs?{query}", status=400)
    (box,) = document.query("input[name=q]")
    assert box.attrs.get("value", "") == ("colour:red" if query.startswith("q") else "")
    assert not document.query("ol.lines")


async def test_what_was_found_is_shown_when_the_rest_could_not_be_searched(
    few: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest lines are there, with the moment before which nothing was searched and a link that goes on there."""
    query = few.owner.store.query

    async def fails(sql: str, **options: Any) -> Any:
        if "count()" in sql or options["parameters"].get("end", "") == "2026-11-30 08:00:00":
            raise QueryError("Timeout exceeded")
        return await query(sql, **options)

    await insert(few, [(6 * 3600 - 10, "a", "info", "the newest")], token="newest")
    monkeypatch.setattr(few.owner.store, "query", fails)
    document = await few.html(f"/logs?{RANGE}")
    text = document.to_text()
    assert "the newest" in text
    assert "Not searched before" in text
    assert text.count("Timeout exceeded") == 3
    told = await few.json(f"/logs?{RANGE}")
    monkeypatch.undo()
    assert len((await few.json(told["further"]))["lines"]["rows"]) == 6


async def test_what_is_shown_can_be_opened_as_sql(few: Console) -> None:
    """Lines, histogram and facets each lead to their query with the search in it; it runs as it is."""
    told = await few.json(f"/logs?{RANGE}&q=node:a+-started")
    for address in (told["lines"]["sql"], told["histogram"]["sql"], told["facets_sql"]):
        assert address.startswith("/sql?q=")
        sql = dict([part.split("=", 1) for part in address.partition("?")[2].split("&")])["q"]
        assert "node_id" in sql
    assert not (await few.json(f"/logs?around={START}-AB-a"))["lines"]["rows"]


HOSTILE = [
    "<script>document.title = 'taken'</script><img src=x onerror=\"document.title = 'taken'\">",
    "\x1b[31mred\x1b[0m \x1b]8;;http://evil.example\x07link\x1b]8;;\x07 \x00 \x9b31m \r\n second line",
    "\u202egnp.exe\u202c \u2066isolated \u200f right \ufeff",
    "&lt;b&gt; &#x3c; {{ 7 * 7 }} {% raw %} ${7} `x` ';--",
    "x" * (1 << 20),
    "w" * 3000 + " " + "\u0301" * 2000,
    "\U0001f600 \u05d0\u05d1\u05d2 \u0627\u0644 \ud7ff",
]


@with_chromium
@pytest.mark.parametrize("width", [1280, 390])
async def test_hostile_lines_harm_nothing(known: Console, width: int) -> None:
    """Markup is text, control characters are pictures, long lines are cut; no script runs, nothing is too wide."""
    await insert(known, [(place, "<i>a</i>", "info", message) for place, message in enumerate(HOSTILE)])
    values = (
        f"toDateTime({START + 99}, 'UTC'), 'r', 'i1', 'a', '\\xff<u>h', 'info', 'k', 'broken \\xff\\xc3 bytes', '{{}}'"
    )
    await known.owner.store.execute(f"INSERT INTO pai.syslogs ({', '.join(COLUMNS)}) SELECT {values}")
    options = {"viewport": {"width": width, "height": 900}}
    async with chromium() as browser, tab(browser, known.address, **options) as opened:
        for query in (
            "",
            "q=script",
            "fold=1",
            f"around={START}-0-x",
            'q="%1b[31m"',
            "columns=host,message&q=-%3Cb%3E",
        ):
            await opened.page.goto(f"{known.address}/logs?{RANGE}&{query}")
            for summary in await opened.page.locator("ol.lines summary").all():
                await summary.click()
            await expect(opened.page).to_have_title("Logs · pai-collector")
            assert await opened.page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, query
            assert await opened.page.locator("main script, main img, main u, main i").count() == 0
            text = await opened.page.locator("main").inner_text()
            assert not {"\x1b", "\x9b", "\x00", "\u202e", "\u2066", "\ufeff"} & set(text), query
            tall = await opened.page.evaluate(
                "Math.max(0, ...[...document.querySelectorAll('.lines summary')].map(one => one.clientHeight))"
            )
            assert tall < 160, query
        assert not opened.troubles
    rows = (await known.json(f"/logs?{RANGE}&q=broken"))["lines"]["rows"]
    assert [(row["msg"], row["hostname"]) for row in rows] == [("broken \ufffd bytes", "\ufffd<u>h")]


@with_chromium
async def test_following_shows_new_lines_and_leaves_what_is_open(known: Console) -> None:
    """A range up to now is renewed while it is watched, and a line that was opened stays open; a fixed range is not."""
    now = known.owner.server_clock.now()
    await insert(known, [(now - START - 100, "a", "info", "the first")])
    async with chromium() as browser, tab(browser, known.address) as opened:
        await opened.page.clock.install()
        await opened.page.goto(f"{known.address}/logs?last=1h")
        await opened.page.click("text=the first")
        await insert(known, [(now - START - 50, "a", "info", "the second")], token="more")
        await opened.page.clock.fast_forward(RENEW_SECONDS * 1000)
        await expect(opened.page.locator("ol.lines > li").first).to_contain_text("the second", timeout=20_000)
        assert await opened.page.locator("ol.lines details[open]").count() == 1
        await expect(opened.page.locator("#pause")).to_be_visible()
        await opened.page.goto(f"{known.address}/logs?{RANGE}")
        await expect(opened.page.locator("#pause")).to_be_hidden()


@with_chromium
async def test_dragging_over_the_histogram_chooses_the_range(few: Console) -> None:
    """The address has the range that was dragged over, and no place in the list any more."""
    async with chromium() as browser, tab(browser, few.address) as opened:
        await opened.page.goto(f"{few.address}/logs?{RANGE}&q=started&before={START + 9000}-1-b")
        box = await opened.page.locator("#histogram .u-over").bounding_box()
        assert box
        await opened.page.mouse.move(box["x"] + box["width"] / 4, box["y"] + 20)
        await opened.page.mouse.down()
        await opened.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 20, steps=4)
        await opened.page.mouse.up()
        await opened.page.wait_for_url(lambda url: "before=" not in url)
        assert "from=2026-11-30T04" in opened.page.url
        assert "q=started" in opened.page.url
        await expect(opened.page.locator("ol.lines > li")).to_have_count(1)


def composed(name: str, search: str, given: Mapping[str, str]) -> str:
    """A query of `sql/console` with a search and its values in it."""
    text = dict(sql_files(sql_folder("console")))[name]
    query, values = filtered(parsed(name, text), text, searched(search))
    return query.standing_alone({**given, **values})


MOMENTS = {
    "whole hours": ("2026-11-30 03:00:00", "2026-11-30 09:00:00"),
    "cut hours": ("2026-11-30 03:00:30", "2026-11-30 05:00:01"),
    "within an hour": ("2026-11-30 03:00:01", "2026-11-30 03:59:59"),
    "over a border": ("2026-11-30 03:59:30", "2026-11-30 04:00:30"),
}


@pytest.mark.parametrize("moments", MOMENTS)
async def test_hours_are_counted_like_their_lines(few: Console, moments: str) -> None:
    """Histogram and facets are the same from the hours, for every search that these can answer."""
    start, end = MOMENTS[moments]
    counted = 0
    for search in ("", "class:*", "-class:*", "level:info", "-node:b", "host:*-b", "fault:fatal code:79", "device:0*"):
        assert searched(search).is_of_hours
        of_histogram = [{"by": by, "step": step} for by in ("fault", "class", "level") for step in ("60", "3600")]
        for name, more in [("log_facets", {"values": "10"}), *(("log_histogram", one) for one in of_histogram)]:
            given = {"start": start, "end": end, **more}
            expected = await few.owner.store.fetch(composed(name, search, given))
            assert await few.owner.store.fetch(composed(f"{name}_hours", search, given)) == expected, (search, given)
            counted += len(expected)
    assert counted


async def test_whole_hours_are_counted_without_their_lines(few: Console) -> None:
    """A long range is counted from the projection; a search for words, or for one node, from the lines."""
    told = await few.json(f"/logs?{RANGE}&q=-level:debug")
    assert told["histogram"]["title"] == "6 lines"
    for address in (told["histogram"]["sql"], told["facets_sql"]):
        (sql,) = parse_qs(urlsplit(address).query)["q"]
        plan = [line for (line,) in await few.owner.store.fetch(f"EXPLAIN {sql}")]
        assert any("ReadFromMergeTree (hourly)" in line for line in plan), plan
    for query in (f"{RANGE}&q=session", f"{RANGE}&q=node:a", "from=2026-11-30T03:00&until=2026-11-30T04:00"):
        told = await few.json(f"/logs?{query}")
        assert "first_hour" not in told["histogram"]["sql"] + told["facets_sql"]
