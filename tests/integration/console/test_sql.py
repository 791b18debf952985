"""The SQL page over a real store and real HTTP: what runs, what is shown, cut, refused, and taken away."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
from axe_playwright_python.async_playwright import Axe
from justhtml import JustHTML
from playwright.async_api import Page as BrowserPage

from collector.admission import Admission
from collector.console.pages.sql import ADDRESS_CHARACTERS_MAX, TABLE_ROWS_MAX
from collector.console.readers_sql import ROWS_MAX
from collector.owner.instance import Owner
from collector.service.http import serving_http
from collector.service.sql import serving_sql
from collector.store.named import named_queries
from tests.support.browser import chromium, tab, with_chromium

HOSTILE = "</textarea><script>alert(1)</script>\x1b[2J\u202e"
LINK = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
"""What a browser sends when a person follows a link of another site."""


@dataclass(frozen=True)
class Page:
    """The page, asked by a client."""

    owner: Owner
    client: aiohttp.ClientSession

    async def text(
        self, suffix: str = "", status: int = 200, headers: dict[str, str] | None = None, **query: str
    ) -> str:
        async with self.client.get(f"/sql{suffix}", params=query, headers=headers) as answer:
            text = await answer.text()
            assert answer.status == status, text
            return text

    async def html(self, status: int = 200, headers: dict[str, str] | None = None, **query: str) -> JustHTML:
        return valid(await self.text("", status, headers, **query))

    async def json(self, status: int = 200, headers: dict[str, str] | None = None, **query: str) -> Any:
        return json.loads(await self.text(".json", status, headers, **query))


def valid(text: str) -> JustHTML:
    document = JustHTML(text, collect_errors=True, sanitize=False)
    assert not document.errors, [str(error) for error in document.errors][:5]
    return document


@pytest.fixture
async def page(owner: Owner) -> AsyncIterator[Page]:
    """The page of an owner whose store has its tables and no rows."""
    async with (
        serving_http(owner, listen="127.0.0.1:0", token="") as address,
        aiohttp.ClientSession(address) as client,
    ):
        yield Page(owner, client)


def cells(document: JustHTML, table: str = "result") -> list[list[str]]:
    return [[cell.to_text().strip() for cell in row.query("th, td")] for row in document.query(f"#{table} tbody tr")]


async def test_first_view_lists_named_queries_and_the_schema(page: Page) -> None:
    """Without SQL the page has the editor, every named query with its purpose, and every column with its comment."""
    document = await page.html()
    assert len(document.query("textarea#q")) == 1
    names = {row[0]: row[1] for row in cells(document, "queries")}
    assert names == {query.name: query.purpose for query in named_queries()}
    told = await page.json()
    comments = {
        (table["name"], column["name"]): column["comment"] for table in told["schema"] for column in table["columns"]
    }
    rows = await page.owner.store.fetch("SELECT table, name, comment FROM system.columns WHERE database = 'pai'")
    assert comments == {(table, name): comment for table, name, comment in rows}
    assert told["result"] is None


async def test_own_sql_runs_and_is_shown_with_types_and_time(page: Page) -> None:
    """A result comes with its columns in order, exact numbers, what was read, and NULL as not known."""
    values = "number AS n, number AS n, toDateTime(number, 'UTC') AS t, NULL AS x, 1 / 3 AS third"
    sql = f"SELECT {values} FROM numbers(1700000000, 3)"
    told = await page.json(q=sql)
    assert [column["name"] for column in told["result"]["columns"]] == ["n", "n 2", "t", "x", "third"]
    assert told["result"]["rows"][0]["n"] == 1_700_000_000
    assert told["facts"]["rows_read"] == 3
    assert told["facts"]["seconds"] >= 0
    document = await page.html(q=sql)
    first = cells(document)[0]
    assert first == ["1700000000", "1700000000", "2023-11-14 22:13:20", "n/a", "0.3333333333333333"]
    assert document.query("textarea#q")[0].to_text() == sql
    assert "3 rows" in document.query(".told")[0].to_text()


async def test_named_query_is_a_form_that_runs(page: Page) -> None:
    """`?name=` runs a query with its defaults or the values given, and shows a field for each parameter."""
    document = await page.html(name="log_storms", p_hours="6")
    fields = {field.attrs["name"]: field.attrs["value"] for field in document.query(".parameters input")}
    assert (fields["p_hours"], fields["p_lines_min"]) == ("6", "100")
    assert document.query(".result-head")
    told = await page.json(name="spend")
    assert [column["name"] for column in told["result"]["columns"]][:2] == ["month", "operation"]


async def test_every_named_query_opens(page: Page) -> None:
    """Each one runs from its address alone; one that needs a value says which."""
    for query in named_queries():
        required = [known.name for known in query.parameters if known.default is None]
        told = await page.json(400 if required else 200, name=query.name)
        assert (f"needs a value of {required[0]}" in told["mistake"]) if required else told["result"]


async def test_parameters_of_own_sql_are_fields(page: Page) -> None:
    """`{name:Type}` makes a field; a value that is missing or of the wrong type is told, and nothing runs."""
    sql = "SELECT {hours:UInt16} + 1 AS n, {word:String} AS word"
    told = await page.json(q=sql, p_hours="2", p_word="it's\n", p_old="x")
    assert told["result"]["rows"] == [{"n": 3, "word": "it's\n"}]
    document = await page.html(400, q=sql, p_hours="many")
    mistake = document.query("#failure")[0].to_text()
    assert "hours: got 'many'" in mistake
    assert "needs a value of word" in mistake
    assert [field.attrs["id"] for field in document.query(".parameters input")] == ["p_hours", "p_word"]


async def test_form_leads_to_an_address(page: Page) -> None:
    """A form with short SQL leads to the address of its result; long SQL is answered in place, with forms to go on."""
    async with page.client.post("/sql", data={"q": "SELECT\r\n1 AS a", "p_x": ""}, allow_redirects=False) as answer:
        assert (answer.status, answer.headers["Location"]) == (303, "/sql?q=SELECT%0A1+AS+a")
    long = "SELECT 1 AS a -- " + "x" * ADDRESS_CHARACTERS_MAX
    async with page.client.post("/sql", data={"q": long, "view": "chart"}) as answer:
        document = valid(await answer.text())
        assert answer.status == 200
    assert not document.query("footer a[href='/sql.csv']")
    buttons = {button.attrs.get("formaction", "") for button in document.query(".again button")}
    assert {"/sql.csv", "/sql.parquet"} <= buttons
    async with page.client.post("/sql.csv", data={"q": long}) as answer:
        assert await answer.text() == '"a"\n1\n'


async def test_large_result_is_cut_with_a_word(page: Page) -> None:
    """A page shows the first rows and says so; its download has all of them."""
    document = await page.html(q="SELECT number FROM numbers(50000)")
    assert len(cells(document)) == TABLE_ROWS_MAX
    assert "The first 1,000 rows" in document.query(".verdict.warning")[0].to_text()
    told = await page.json(q="SELECT number FROM numbers(50000)")
    assert len(told["result"]["rows"]) == ROWS_MAX
    assert told["facts"]["cut"]
    text = await page.text(".csv", q="SELECT number FROM numbers(50000)")
    assert len(text.splitlines()) == 50_001
    exact = await page.json(q=f"SELECT number FROM numbers({ROWS_MAX})")
    assert (len(exact["result"]["rows"]), exact["facts"]["cut"]) == (ROWS_MAX, "")


async def test_huge_values_and_markup_harm_nothing(page: Page) -> None:
    """Megabyte values are cut, markup and control characters of data, names and SQL stay text."""
    document = await page.html(q="SELECT repeat('y', 1000000) AS big FROM numbers(100)")
    assert "because the result is large" in document.query(".verdict.warning")[0].to_text()
    assert max(len(cell) for row in cells(document) for cell in row) < 3_000
    one = await page.html(q="SELECT arrayStringConcat(arrayMap(x -> repeat('y', 1000000), range(20))) AS big")
    assert "too large" in one.query("#result .empty")[0].to_text()
    sql = f"SELECT {{v:String}} AS \"<b>\", unhex('ff00') AS bytes -- {HOSTILE}"
    text = await page.text(q=sql, p_v=HOSTILE)
    assert "<script>alert" not in text
    assert "\x1b" not in cells(valid(text))[0][0]


async def test_error_marks_its_line(page: Page) -> None:
    """A syntax error and an unknown name come with their line, its neighbours, and the place in it."""
    document = await page.html(400, q="SELECT count(),\n  sum(\nFROM syslogs")
    assert "Syntax error" in document.query("#failure p")[0].to_text()
    assert document.query(".excerpt .wrong b")[0].to_text().strip() == "2"
    told = await page.json(400, q="SELECT count()\nFROM syslogs\nWHERE nod_id = 'x'")
    assert (told["failure"]["line"], told["failure"]["column"]) == (3, 7)
    assert [line["at"] for line in told["failure"]["excerpt"]] == ["", "", "nod_id"]
    assert told["failure"]["hint"]


@pytest.mark.parametrize(
    ("sql", "word"),
    [
        ("INSERT INTO syslogs SELECT * FROM syslogs", "only statements that read"),
        ("SELECT * FROM file('/etc/passwd')", "reaches outside the store"),
        ("SELECT 1; SELECT 2", "one statement at a time"),
        ("SELECT 1 SETTINGS max_threads = 9", "in readonly mode"),
        ("SELECT * FROM system.processes", "not for readers"),
        ("SELECT groupArray(number) FROM numbers(100000000)", "memory"),
    ],
)
async def test_same_refusals_as_the_sql_endpoint(page: Page, sql: str, word: str) -> None:
    """What the endpoint refuses is refused here, in the page and in every download."""
    told = await page.json(400, q=sql)
    assert word in told["failure"]["text"]
    for suffix in (".csv", ".jsonl", ".parquet"):
        assert word in (await page.text(suffix, 400, q=sql))


async def test_page_waits_for_the_same_permits(page: Page) -> None:
    """With every permit taken by other readers, a query is refused in the endpoint's words."""
    page.owner.admission = Admission(1, 0, 60)
    async with page.owner.admission.permit():
        told = await page.json(400, q="SELECT 1")
        assert "Too many simultaneous queries" in told["failure"]["text"]
    assert (await page.json(q="SELECT 1"))["result"]["rows"] == [{"1": 1}]


async def test_link_from_another_site_is_shown_and_not_run(page: Page) -> None:
    """Its SQL stands in the editor, a button runs it; JSON and downloads run nothing either."""
    document = await page.html(headers=LINK, q="SELECT 42 AS answer")
    assert document.query("textarea#q")[0].to_text() == "SELECT 42 AS answer"
    assert "has not run" in document.query("[role=status]")[-1].to_text()
    assert not document.query(".result-head")
    told = await page.json(headers=LINK, name="spend")
    assert (told["is_held"], told["result"]) == (True, None)
    await page.text(".csv", 403, headers=LINK, q="SELECT 42")
    own = await page.json(headers={**LINK, "Sec-Fetch-Site": "same-origin"}, q="SELECT 42 AS answer")
    assert own["result"]["rows"] == [{"answer": 42}]


async def test_downloads_are_whole_and_typed(page: Page) -> None:
    """CSV, JSON lines and Parquet have every row, a file name and a type of their own, and the page's headers."""
    query = {"q": "SELECT number AS n, 'a,\"b' AS text FROM numbers(20000)"}
    rows = list(csv.reader(io.StringIO(await page.text(".csv", **query))))
    assert (rows[0], len(rows), rows[-1]) == (["n", "text"], 20_001, ["19999", 'a,"b'])
    lines = (await page.text(".jsonl", **query)).splitlines()
    assert json.loads(lines[-1]) == {"n": 19_999, "text": 'a,"b'}
    async with page.client.get("/sql.parquet", params=query) as answer:
        body = await answer.read()
        assert (body[:4], body[-4:]) == (b"PAR1", b"PAR1")
        assert answer.headers["Content-Disposition"] == 'attachment; filename="result.parquet"'
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert "q or name" in await page.text(".parquet", 400)
    listed = list(csv.reader(io.StringIO(await page.text(".csv"))))
    assert [row[0] for row in listed[1:]] == [query.name for query in named_queries()]


async def test_download_that_fails_on_the_way_is_no_whole_file(page: Page) -> None:
    """An error behind the first rows breaks the connection, so that no client takes the part for the whole."""
    sql = "SELECT number, throwIf(number = 3000000) FROM numbers(4000000)"
    with pytest.raises(aiohttp.ClientError):
        await page.text(".csv", q=sql)


async def test_query_ends_with_the_browser(page: Page) -> None:
    """When a browser goes away, its query is stopped, and its place is free."""
    page.owner.admission = Admission(1, 1, 60)
    sql = "SELECT sum(sipHash64(number)) FROM numbers(100000000000)"
    asking = asyncio.create_task(page.text(q=sql))
    while not await page.owner.store.fetch(
        "SELECT 1 FROM system.processes WHERE query LIKE '%sum(sipHash64%' AND query NOT LIKE '%processes%'"
    ):
        await asyncio.sleep(0.01)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    assert (await page.json(q="SELECT 1 AS a"))["result"]["rows"] == [{"a": 1}]


async def test_chart_of_a_result(page: Page) -> None:
    """`?view=chart` draws numbers, or the values of a text column, over the first time column, or says why not."""
    time = "toDateTime('2025-10-09 00:00:00', 'UTC') + number * 60 AS t"
    sql = f"SELECT {time}, number AS a, number * 2 AS b FROM numbers(3)"
    chart = (await page.json(q=sql, view="chart"))["chart"]
    assert chart["times"] == [1_759_968_000, 1_759_968_060, 1_759_968_120]
    assert [(series["title"], series["values"]) for series in chart["series"]] == [("a", [0, 1, 2]), ("b", [0, 2, 4])]
    document = await page.html(q=sql, view="chart")
    assert document.query("figure#chart .plot")
    assert not document.query("#result")
    none = await page.html(q="SELECT 1 AS a", view="chart")
    assert "A chart needs a column of times" in none.query(".empty")[0].to_text()


async def test_query_for_other_programs_works(page: Page) -> None:
    """curl's, Python's and ClickHouse's own text name the endpoint, carry the values, and no secret."""
    query = {"q": "SELECT {n:UInt8} AS n, 'it''s' AS word", "p_n": "7"}
    assert "sql_listen is empty" in await page.text(**query)
    async with serving_sql(page.owner, listen="127.0.0.1:0", token="") as address:
        told = {known["title"]: known["text"] for known in page_snippets(await page.html(**query))}
        python = (
            told["Python (clickhouse-connect)"].replace("print(", "found.append(", 1).replace("rows.column_names, ", "")
        )
        found: list[Any] = []
        await asyncio.to_thread(exec, python, {"found": found})
        assert [tuple(row) for row in found[0]] == [(7, "it's")]
        process = await asyncio.create_subprocess_shell(
            told["curl"].replace("PrettyCompact", "CSV"), stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate()
        assert out == b'7,"it\'s"\n'
        assert address in told["clickhouse-client"]


def page_snippets(document: JustHTML) -> list[dict[str, str]]:
    return [
        {"title": title.to_text(), "text": text.to_text(separator="", strip=False)}
        for title, text in zip(document.query(".elsewhere h3"), document.query(".elsewhere pre"), strict=True)
    ]


async def test_wrong_addresses_say_what_is_right(page: Page) -> None:
    """A query that is none and a view that is none are told with what there is."""
    assert "there is no query named" in await page.text(status=400, name="log_storm")
    assert "expected one of: table, chart" in await page.text(status=400, q="SELECT 1", view="pie")


async def test_failing_store_says_so(page: Page) -> None:
    """A store that is closed is told as such, with the status of a service that is not there."""
    await page.owner.store.close()
    document = await page.html(503, q="SELECT 1")
    assert "the store cannot be read" in document.query("#failure")[0].to_text()
    await page.text(".parquet", 503, q="SELECT 1")


@with_chromium
async def test_page_in_a_browser(page: Page) -> None:
    """Ctrl-Enter runs, results and failures pass axe, the schema is searched, and the last queries are remembered."""
    origin = str(page.client._base_url).rstrip("/")
    async with chromium() as browser, tab(browser, origin) as opened:
        await opened.open("/sql")
        found = opened.page
        await found.fill("#q", "SELECT {n:UInt8} AS n, toDateTime(number, 'UTC') AS t FROM numbers(3)")
        await found.press("#q", "Control+Enter")
        await found.wait_for_selector("#p_n")
        opened.troubles.clear()  # The browser reports the status of the answer: a value was missing.
        await found.fill("#p_n", "7")
        await found.press("#p_n", "Enter")
        await found.wait_for_selector("#result tbody tr")
        assert "p_n=7" in found.url
        await found.click("text=The same query for other programs")
        await found.fill("#find-column", "fault_severity")
        shown = await found.locator(".table-of-schema:visible > summary > code").all_text_contents()
        assert {"syslogs", "faults"} <= set(shown)
        assert "api_calls" not in shown
        for address in (found.url, found.url + "&view=chart"):
            await found.goto(address)
            await found.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
            assert not await serious_findings(found)
        assert not opened.troubles
        await opened.open("/sql?q=SELECT+a%0AFROM+nothing")
        assert not await serious_findings(found)
        await opened.open("/sql")
        remembered = await found.locator("#history a").all_text_contents()
        assert remembered == ["SELECT {n:UInt8} AS n, toDateTime(number, 'UTC') AS t FROM numbers(3)"]
        await found.click("text=Forget them")
        await found.reload()
        assert await found.locator("#history").is_hidden()


async def serious_findings(found: BrowserPage) -> list[str]:
    results = await Axe().run(found)
    return [
        f"{each['id']}: {each['nodes'][0]['html'][:200]}"
        for each in results.response["violations"]
        if each["impact"] in ("serious", "critical")
    ]
