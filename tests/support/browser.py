"""A real browser on the console: Debian's chromium, headless, with what it complains about kept."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, Page, async_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SWITCHES = (
    "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip

with_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed (Debian's package chromium)")


@dataclass
class Tab:
    """A page of the browser, with everything that went wrong in it."""

    page: Page
    origin: str
    troubles: list[str] = field(default_factory=list)
    """Errors of scripts, refusals by the content policy, and requests to other origins."""

    async def open(self, path: str) -> None:
        """Load a page of the console, and wait until its script has done its part."""
        await self.page.goto(self.origin + path, wait_until="load")


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """A browser with an empty profile."""
    switches = [*SWITCHES, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=switches)
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def tab(browser: Browser, origin: str, **options: Any) -> AsyncIterator[Tab]:
    """A new page, in a context of its own: no cookies, nothing remembered."""
    options.setdefault("viewport", {"width": 1280, "height": 900})
    context = await browser.new_context(**options)
    page = await context.new_page()
    opened = Tab(page, origin)
    page.on("console", lambda said: opened.troubles.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: opened.troubles.append(str(error)))
    here = urlsplit(origin).netloc

    def seen(url: str) -> None:
        if urlsplit(url).netloc not in (here, "") and not url.startswith("data:"):
            opened.troubles.append(f"request to {url}")

    page.on("request", lambda request: seen(request.url))
    try:
        yield opened
    finally:
        await context.close()
