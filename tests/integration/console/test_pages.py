"""What holds for every page, whatever it shows."""

from __future__ import annotations

import csv
import io
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from collector.cli.commands.check import check_store
from collector.console.pages import PAGES
from collector.errors import QueryError
from collector.settings import Settings
from tests.support import settings
from tests.support.console_pages import Console, served, with_suffix
from tests.support.server_process import PASSWORD, url
from tests.support.sql_server import sql_server

FAILURE = "Code: 241. DB::Exception: no memory for <b>this</b>"


async def test_every_table_can_be_taken_away(console: Console) -> None:
    """The CSV of each table of each page has the rows of the JSON under the columns' names."""
    for path in await console.paths():
        tables = [
            value for value in (await console.json(path)).values() if isinstance(value, dict) and "columns" in value
        ]
        for table in tables:
            address = f"{path}?table={table['name']}"
            rows = list(csv.DictReader(io.StringIO(await console.csv(address))))
            assert len(rows) == len(table["rows"]), address
            if rows:
                assert list(rows[0])[: len(table["columns"])] == [column["name"] for column in table["columns"]]


async def test_without_any_history_every_page_says_so(configuration: Settings) -> None:
    """A store without rows gives pages that say that there is nothing, and no figure that looks like a finding."""
    async with served(configuration) as console:
        for page in PAGES:
            if "{" not in page.path:
                document = await console.html(page.path)
                assert "not known:" not in document.to_text().lower(), page.path
        tiles = {tile["title"]: tile["value"] for tile in (await console.json("/"))["tiles"]}
        assert tiles["Nodes in trouble"] is None
        assert tiles["GPUs"] is None
        assert tiles["Furthest behind"] is None


async def test_a_store_that_fails_is_told_and_never_shown_as_nothing(
    console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every table and tile that needs it says why it is not known; what status knows is there all the same."""

    async def query(*arguments: object, **options: object) -> object:
        raise QueryError(FAILURE)

    paths = await console.paths()
    monkeypatch.setattr(console.owner.store, "query", query)
    for path in paths:
        document = await console.html(path)
        assert not document.query("main b:not(figcaption b)"), path
    told = await console.json("/")
    assert {tile["title"] for tile in told["tiles"] if FAILURE in tile["failure"]} >= {"Nodes in trouble", "GPUs"}
    assert FAILURE in told["incidents"]["failure"]
    await console.csv("/?table=incidents", status=503)


async def test_a_journal_that_fails_is_told_on_every_page_that_needs_it(configuration: Settings) -> None:
    """As a page and as JSON with the status 503; never as an error of the program, and never as nothing."""
    async with served(configuration) as console:
        with closing(sqlite3.connect(console.owner.journal.path)) as journal:
            journal.execute("ALTER TABLE streams RENAME TO lost")
        failed = []
        for page in PAGES:
            if "{" in page.path:
                continue
            async with console.client.get(with_suffix(page.path, ".json")) as answer:
                assert answer.status in (200, 503), page.path
                if answer.status == 503:
                    failed.append(page.path)
                    assert "streams" in (await answer.json())["error"], page.path
                    assert "streams" in (await console.html(page.path, 503)).to_text(), page.path
        assert {"/", "/collection"} <= set(failed)
        assert "/sql" not in failed


async def test_a_server_is_read_as_its_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader's password decides what pages and `check` say; collecting does without it."""
    monkeypatch.setenv("PAI_COLLECTOR_STORE_PASSWORD", PASSWORD)
    async with sql_server(tmp_path / "server") as server:
        store = {"url": url(server.port), "reader": server.reader}
        for password, is_right in (("wrong", False), (server.reader_password, True)):
            monkeypatch.setenv("PAI_COLLECTOR_STORE_READER_PASSWORD", password)
            async with served(settings(tmp_path, "http://127.0.0.1:1", store=store)) as console:
                assert (await console.json("/"))["incidents"]["failure"].startswith(
                    "" if is_right else "store.reader: "
                )
                checked = await check_store(console.owner)
                assert (checked.ok, "store.reader" in checked.detail) == (is_right, not is_right)
                assert bool((await console.json("/"))["incidents"]["failure"]) is not is_right


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("last=5", "last: '5' is not a duration"),
        ("last=9999d", "last: got 9999d; expected 1m to 400d"),
        ("from=yesterday", "from: got 'yesterday'; expected a time such as"),
        ("from=2026-11-30T03:00&until=2026-11-30T02:00", "expected a start before the end"),
        ("until=" + "9" * 40, "until: got "),
    ],
)
async def test_a_range_that_is_none_is_refused_with_what_would_be_right(
    console: Console, query: str, expected: str
) -> None:
    """As a page and as JSON, with the status 400."""
    assert expected in (await console.json(f"/?{query}", status=400))["error"]
    document = await console.html(f"/?{query}", status=400)
    assert expected[:20] in document.to_text()


async def test_what_does_not_exist_is_not_found(console: Console) -> None:
    """Neither pages, nor tables, nor files above the folder that is served."""
    for path in ("/nowhere", "/static/x/nothing.js", "/static/x/../../server.py", "/static/x/%2e%2e/server.py"):
        async with console.client.get(path) as answer:
            assert answer.status == 404, path
    assert "table: got 'nothing'" in await console.csv("/?table=nothing", status=404)


async def test_files_that_pages_load_are_kept_by_browsers_for_ever(console: Console) -> None:
    """Their addresses change with their content, and they come packed to who takes that."""
    document = await console.html("/")
    addresses = [tag.attrs["href"] for tag in document.query("link")] + [
        tag.attrs["src"] for tag in document.query("script")
    ]
    assert len(addresses) >= 4
    for address in addresses:
        async with console.client.get(address, headers={"Accept-Encoding": "gzip"}) as answer:
            assert answer.status == 200
            assert "immutable" in answer.headers["Cache-Control"]
            assert answer.headers["Content-Encoding"] == "gzip"
            assert await answer.read()
