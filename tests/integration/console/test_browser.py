"""Every page in a real browser: nothing foreign, nothing refused by the policy, accessible, usable without a mouse."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import aiohttp
import msgspec
import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import expect

from collector.console.pages import PAGES
from collector.console.server import RENEW_SECONDS
from collector.owner.instance import Owner
from collector.service.http import serving_http
from collector.settings import Settings
from tests.support.browser import chromium, tab, with_chromium
from tests.support.console_pages import ANY_PORT, Console, demonstrated, served

PICTURES = os.environ.get("PICTURES", "")
"""A folder that the pictures of the docs are written to."""
WIDTHS = {"desk": 1280, "phone": 390}
SERIOUS = ("serious", "critical")
HOSTILE = (
    "<img src=x onerror=\"document.title='broken'\">'\"{{7*7}}</td></table>"
    "<script>document.title='broken'</script>\x1b[2J\u202e"
)

pytestmark = with_chromium


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_page_is_clean(console: Console, width: str, scheme: str) -> None:
    """No error, no request to elsewhere, no serious finding of axe, nothing wider than the window."""
    found: dict[str, object] = {}
    options = {"viewport": {"width": WIDTHS[width], "height": 900}, "color_scheme": scheme}
    async with chromium() as browser, tab(browser, console.address, **options) as opened:
        for path in await console.paths():
            await opened.open(path)
            results = await Axe().run(opened.page)
            serious = [
                (violation["id"], [node["html"][:200] for node in violation["nodes"]][:3])
                for violation in results.response["violations"]
                if violation["impact"] in SERIOUS
            ]
            beyond = await opened.page.evaluate("document.documentElement.scrollWidth - innerWidth")
            troubles = [*serious, *opened.troubles, *([f"{beyond} px too wide"] if beyond > 0 else [])]
            opened.troubles.clear()
            if troubles:
                found[path] = troubles
    assert not found, json.dumps(found, indent=1)


async def test_every_page_is_valid_html_and_has_its_data_in_json(console: Console) -> None:
    """Each address answers as HTML that a parser has no fault with, and as JSON."""
    for path in await console.paths():
        document = await console.html(path)
        assert document.query("main h1"), path
        told = await console.json(path)
        assert (told["page"], told["now"][-1]) == (path, "Z")


async def test_every_page_can_be_read_without_javascript(console: Console) -> None:
    """The same tables are there; charts are drawn as pictures."""
    async with (
        chromium() as browser,
        tab(browser, console.address) as scripted,
        tab(browser, console.address, java_script_enabled=False) as plain,
    ):
        for path in await console.paths():
            await scripted.open(path)
            await plain.open(path)
            for parts in ("section.table", "figure.chart", "section.tile"):
                assert await plain.page.locator(parts).count() == await scripted.page.locator(parts).count(), path
            assert (
                await plain.page.locator("figure.chart svg.drawn").count()
                == await scripted.page.locator(".plot .uplot").count()
            )


async def test_every_page_is_reached_by_keyboard_alone(console: Console) -> None:
    """The first stop skips to the content; each page of the navigation opens with Enter, and the focus is seen."""
    titles = [page.title for page in PAGES if page.title]
    async with chromium() as browser, tab(browser, console.address) as opened:
        for title in titles:
            await opened.open("/")
            await opened.page.keyboard.press("Tab")
            assert await opened.page.evaluate("document.activeElement.className") == "skip"
            for _ in range(2 + len(titles)):
                await opened.page.keyboard.press("Tab")
                if await opened.page.evaluate("document.activeElement.textContent") == title:
                    break
            focused = "getComputedStyle(document.activeElement)"
            assert await opened.page.evaluate(f"{focused}.outlineStyle") == "solid"
            await opened.page.keyboard.press("Enter")
            await expect(opened.page).to_have_title(f"{title} · pai-collector")


async def test_renewing_leaves_what_a_person_did(console: Console) -> None:
    """A table stays sorted, a place scrolled to stays, and new content is there."""
    async with chromium() as browser, tab(browser, console.address) as opened:
        page = opened.page
        await page.clock.install()
        await opened.open("/")
        lines = page.locator("#incidents thead button", has_text="lines")
        await lines.click()
        before = await page.locator("#incidents tbody tr:not(.detail)").all_inner_texts()
        await page.evaluate("document.querySelector('main h1').textContent = 'old'; scrollTo(0, 200)")
        await page.clock.fast_forward(RENEW_SECONDS * 1000)
        await expect(page.locator("main h1")).not_to_have_text("old", timeout=20_000)
        assert await page.locator("#incidents thead [aria-sort=descending]").inner_text() == "lines ↓".removesuffix(
            " ↓"
        )
        assert await page.locator("#incidents tbody tr:not(.detail)").all_inner_texts() == before
        assert await page.evaluate("scrollY") == 200
        assert not opened.troubles


async def test_times_are_shown_in_utc_or_local_time(console: Console) -> None:
    """A button changes all of them, and the next page remembers it; the address keeps UTC."""
    async with chromium() as browser, tab(browser, console.address, timezone_id="Asia/Shanghai") as opened:
        page = opened.page
        await opened.open("/")
        time = page.locator("#incidents time").first
        exact = await time.get_attribute("datetime") or ""
        assert await time.inner_text() == exact[:-1].replace("T", " ")
        await page.click("#zone")
        hour = (int(exact[11:13]) + 8) % 24
        assert (await time.inner_text())[11:13] == f"{hour:02}"
        await opened.open("/")
        assert (await page.locator("#incidents time").first.inner_text())[11:13] == f"{hour:02}"


async def test_a_login_in_a_browser(configuration: Settings) -> None:
    """The page asks for the token, says when it is wrong, shows the console after it, and ends it again."""
    async with (
        served(configuration, token="a-long-token") as console,
        chromium() as browser,
        tab(browser, console.address) as opened,
    ):
        page = opened.page
        await opened.open("/?last=6h")
        assert await page.title() == "Log in · pai-collector"
        results = await Axe().run(page)
        assert not [one["id"] for one in results.response["violations"] if one["impact"] in SERIOUS]
        await page.fill("#token", "wrong")
        await page.keyboard.press("Enter")
        await page.wait_for_selector(".failure")
        opened.troubles.clear()  # The browser notes that the answer was 403.
        await page.fill("#token", "a-long-token")
        await page.keyboard.press("Enter")
        await page.wait_for_selector("main h1.verdict")
        assert page.url == f"{console.address}/?last=6h"
        await page.click("text=Log out")
        await page.wait_for_selector("#token")
        assert not opened.troubles


async def test_pictures_of_every_page(tmp_path: Path) -> None:
    """Taken of a demo that collects; `make pictures` has them written for README and docs, of a longer one."""
    folder = Path(PICTURES or tmp_path / "pictures")
    nodes, minutes = (12, 60) if PICTURES else (2, 2)
    async with (
        demonstrated(tmp_path / "demo", nodes, minutes) as address,
        aiohttp.ClientSession(address) as client,
        chromium() as browser,
    ):
        async with client.get("/nodes.json") as answer:
            (node_id, *_) = [row["node_id"] for row in (await answer.json())["nodes"]["rows"]]
        if PICTURES:
            await until_well(client)
        for scheme in ("light", "dark"):
            async with tab(browser, address, color_scheme=scheme) as opened:
                for page in PAGES:
                    await opened.open(page.path.replace("{node_id}", node_id) + "?last=1h")
                    name = page.path.strip("/").split("/{")[0] + ("-one" if "{" in page.path else "") or "overview"
                    await opened.page.screenshot(path=folder / f"{name}-{scheme}.png")
                assert not opened.troubles


async def until_well(client: aiohttp.ClientSession) -> None:
    """A demo comes out of fast motion with some sources behind, and catches up."""
    async with asyncio.timeout(300):
        while True:
            async with client.get("/.json") as answer:
                if (await answer.json())["told"]["is_well"]:
                    return
            await asyncio.sleep(1)


async def test_names_full_of_markup_harm_no_page(owner: Owner) -> None:
    """What others send is shown as text: nothing runs, the page keeps its form, and it stays valid HTML."""
    line = f"NVRM: Xid (PCI:0000:3b:00): 79, pid=1, name={HOSTILE} GPU has fallen off the bus." + "x" * (1 << 20)
    row = [int(owner.clock.wall()) - 60, "cn-hangzhou", HOSTILE, HOSTILE, line]
    body = msgspec.json.encode(row) + b"\n"
    await owner.store.insert("syslogs", ["time", "region", "node_id", "hostname", "msg"], body, token="hostile")
    async with (
        serving_http(owner, listen=ANY_PORT, token="") as address,
        aiohttp.ClientSession(address) as client,
        chromium() as browser,
        tab(browser, address) as opened,
    ):
        console = Console(owner, address, client)
        assert len((await console.json("/"))["incidents"]["rows"]) == 1
        for path in await console.paths():
            await console.html(path)
            await opened.open(path)
            assert await opened.page.title() != "broken"
            assert await opened.page.locator("main img, main script").count() == 0
            assert await opened.page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, path
        assert not opened.troubles
