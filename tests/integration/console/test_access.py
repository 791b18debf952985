"""Who sees the console, and what a browser can be made to do with it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from collector.console.access import COOKIE, FAILURES_MAX, SESSION_SECONDS
from collector.console.server import BODY_BYTES_MAX
from collector.settings import Settings
from tests.support.console_pages import served
from tests.support.virtual_clock import ManualClock

TOKEN = "a-long-token"
EVERYWHERE = "0.0.0.0:0"


async def said(client: aiohttp.ClientSession, path: str, method: str = "GET", **options: Any) -> tuple[int, str]:
    async with client.request(method, path, allow_redirects=False, **options) as answer:
        return answer.status, answer.headers.get("Location", "") or await answer.text()


def page_asked(**headers: str) -> dict[str, str]:
    return {"Accept": "text/html,*/*"} | {name.replace("_", "-"): value for name, value in headers.items()}


async def test_on_loopback_without_a_token_nobody_has_to_log_in(configuration: Settings) -> None:
    """The pages are there at once, and there is no login."""
    async with served(configuration) as console:
        assert (await said(console.client, "/", headers=page_asked()))[0] == 200
        assert (await said(console.client, "/login", headers=page_asked()))[0] == 404


async def test_a_browser_is_led_to_the_login_and_back(configuration: Settings) -> None:
    """With a token every page leads to the login, which leads to the page that was asked for; a program gets 401."""
    async with served(configuration, token=TOKEN) as console:
        client = console.client
        assert await said(client, "/?last=6h", headers=page_asked()) == (303, "/login?next=%2F%3Flast%3D6h")
        assert (await said(client, "/.json"))[0] == 401
        status, form = await said(client, "/login?next=%2F%3Flast%3D6h")
        assert status == 200
        assert 'name="next" value="/?last=6h"' in form
        status, text = await said(client, "/login", "POST", data={"token": "wrong", "next": "/"})
        assert status == 403
        assert "wrong" not in text
        status, target = await said(client, "/login", "POST", data={"token": TOKEN, "next": "/?last=6h"})
        assert (status, target) == (303, "/?last=6h")
        assert (await said(client, target, headers=page_asked()))[0] == 200
        assert await said(client, "/logout", "POST") == (303, "/login")
        assert (await said(client, "/", headers=page_asked()))[0] == 303


async def test_the_cookie_of_a_login_says_nothing_and_goes_nowhere(configuration: Settings) -> None:
    """Scripts cannot read it, other sites cannot send it, it has no token in it, and it ends after a day's work."""
    clock = ManualClock()
    async with served(configuration, token=TOKEN, clock=clock) as console:
        async with console.client.post("/login", data={"token": TOKEN}, allow_redirects=False) as answer:
            cookie = answer.headers["Set-Cookie"]
        value = re.match(rf"{COOKIE}=([^;]+);", cookie)
        assert value is not None
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert TOKEN not in cookie
        ends, _, signature = value[1].partition(".")
        async with aiohttp.ClientSession(console.address) as other:

            async def status(cookie: str) -> int:
                return (await said(other, "/.json", headers={"Cookie": f"{COOKIE}={cookie}"}))[0]

            assert await status(value[1]) == 200
            assert await status(f"{int(ends) + 9}.{signature}") == 401
            assert await status(f"{ends}.") == 401
            assert await status("") == 401
            await clock.advance(SESSION_SECONDS + 1)
            assert await status(value[1]) == 401


async def test_a_cookie_of_another_token_is_worth_nothing(tmp_path: Path, configuration: Settings) -> None:
    """Whoever changes the token has logged everybody out."""
    async with served(configuration, token="the-old-token") as console:
        answer = await console.client.post("/login", data={"token": "the-old-token"}, allow_redirects=False)
        cookie = answer.cookies[COOKIE].value
    async with served(configuration, token=TOKEN) as console:
        assert (await said(console.client, "/.json", headers={"Cookie": f"{COOKIE}={cookie}"}))[0] == 401


async def test_tokens_cannot_be_guessed_quickly(configuration: Settings) -> None:
    """After ten wrong ones even the right one waits for a minute."""
    clock = ManualClock()
    async with served(configuration, token=TOKEN, clock=clock) as console:
        for _ in range(FAILURES_MAX):
            assert (await said(console.client, "/login", "POST", data={"token": "guess"}))[0] == 403
        assert (await said(console.client, "/login", "POST", data={"token": TOKEN}))[0] == 429
        await clock.advance(61)
        assert (await said(console.client, "/login", "POST", data={"token": TOKEN}))[0] == 303


@pytest.mark.parametrize(
    "target", ["//evil.example", "https://evil.example/", "/\\evil.example", "javascript:alert(1)", "a"]
)
async def test_a_login_leads_to_no_other_site(configuration: Settings, target: str) -> None:
    """What a link says about the page after the login is taken only for a page of this console."""
    async with served(configuration, token=TOKEN) as console:
        answer = await said(console.client, "/login", "POST", data={"token": TOKEN, "next": target})
        assert answer == (303, "/")


@pytest.mark.parametrize("token", ["", TOKEN])
async def test_pages_of_other_sites_make_the_browser_do_nothing(configuration: Settings, token: str) -> None:
    """Neither a form, nor a picture or a script of another site gets an answer; a link that a person follows does."""
    async with served(configuration, token=token) as console:
        known = {"Authorization": f"Bearer {TOKEN}"} if token else {}

        async def status(method: str, path: str, **headers: str) -> int:
            return (await said(console.client, path, method, headers=page_asked(**headers) | known))[0]

        for site in ("cross-site", "same-site"):
            assert (
                await status("GET", "/", Sec_Fetch_Site=site, Sec_Fetch_Mode="no-cors", Sec_Fetch_Dest="image") == 403
            )
            assert await status("GET", "/metrics", Sec_Fetch_Site=site, Sec_Fetch_Mode="cors") == 403
            followed = {"Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}
            assert await status("GET", "/", Sec_Fetch_Site=site, **followed) == 200
            framed = {"Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "iframe"}
            assert await status("GET", "/", Sec_Fetch_Site=site, **framed) == 403
            if token:
                assert await status("POST", "/logout", Sec_Fetch_Site=site, **followed) == 403
        if token:
            assert await status("POST", "/logout", Origin="http://evil.example") == 403
            assert await status("POST", "/logout", Origin="null") == 403
            assert await status("POST", "/logout", Origin=console.address) == 303


async def test_every_answer_forbids_what_a_page_could_load(configuration: Settings) -> None:
    """Pages, files, refusals and errors carry the same policy."""
    async with served(configuration) as console:
        for path in ("/", "/.json", "/nowhere", "/metrics", "/?last=wrong"):
            async with console.client.get(path) as answer:
                policy = answer.headers["Content-Security-Policy"]
                assert policy.startswith("default-src 'none'; script-src 'self';")
                assert "unsafe" not in policy
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
        async with console.client.get("/", headers={"Host": "evil.example"}) as answer:
            assert answer.status == 403
            assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")


async def test_a_form_that_is_too_large_is_refused(configuration: Settings) -> None:
    """It is not read to its end."""
    async with served(configuration, token=TOKEN) as console:
        status, _ = await said(console.client, "/login", "POST", data={"token": "x" * (BODY_BYTES_MAX + 1)})
        assert status == 413
