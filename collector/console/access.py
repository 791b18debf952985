"""Who may see pages: everybody on this machine, or who has the token, shown by header or by a cookie after a login."""

from __future__ import annotations

import hashlib
import hmac
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web

from collector.clock import Clock
from collector.proxies import is_loopback

COOKIE: Final = "pai_collector_session"
SESSION_SECONDS: Final = 12 * 3600
FAILURES_MAX: Final = 10
"""Logins with a wrong token within a minute; more are refused unread until it has passed."""
FAILURES_SECONDS: Final = 60.0


class Access:
    """The rules of one listener."""

    def __init__(self, token: str, clock: Clock, *, is_on_loopback: bool) -> None:
        self.has_token = bool(token)
        self._token = token
        self._clock = clock
        self._is_on_loopback = is_on_loopback
        # Another token makes other cookies; a restart does not.
        self._key = hashlib.sha256(b"pai-collector session\0" + token.encode()).digest()
        self._failures: list[float] = []

    def is_known(self, request: web.Request) -> bool:
        """Whether whoever asks may be told everything."""
        if self.has_token:
            given = request.headers.get("Authorization", "").encode()
            bearer = hmac.compare_digest(given, f"Bearer {self._token}".encode())
            return bearer or self._is_session(request.cookies.get(COOKIE, ""))
        # A name that was made to point here is another host, whose pages must not read this one.
        return self._is_on_loopback and is_loopback(_host_name(request.headers.get("Host", "")))

    def is_foreign(self, request: web.Request) -> bool:
        """Whether a page of another site makes the browser ask; a link that a person follows is none."""
        site = request.headers.get("Sec-Fetch-Site", "")
        if request.method in ("GET", "HEAD"):
            return site in ("cross-site", "same-site") and not is_followed_link(request)
        if site:
            return site not in ("same-origin", "none")
        origin = request.headers.get("Origin", "")
        return bool(origin) and urlsplit(origin).netloc != request.headers.get("Host", "")

    def is_locked(self) -> bool:
        """Whether too many logins failed a moment ago."""
        now = self._clock.monotonic()
        self._failures = [time for time in self._failures if time > now - FAILURES_SECONDS]
        return len(self._failures) >= FAILURES_MAX

    def log_in(self, token: str, request: web.Request, response: web.StreamResponse) -> bool:
        """Give a cookie for the right token, and tell whether it was."""
        if not hmac.compare_digest(token.encode(), self._token.encode()):
            self._failures.append(self._clock.monotonic())
            return False
        ends = str(int(self._clock.wall()) + SESSION_SECONDS)
        response.set_cookie(
            COOKIE,
            f"{ends}.{self._signed(ends)}",
            max_age=SESSION_SECONDS,
            httponly=True,
            samesite="Strict",
            secure=request.headers.get("X-Forwarded-Proto", "") == "https",
        )
        return True

    def _is_session(self, cookie: str) -> bool:
        ends, _, signature = cookie.partition(".")
        if not hmac.compare_digest(signature.encode(), self._signed(ends).encode()):
            return False
        return int(ends) > self._clock.wall()

    def _signed(self, ends: str) -> str:
        return hmac.new(self._key, ends.encode(), hashlib.sha256).hexdigest()


def is_followed_link(request: web.Request) -> bool:
    """Whether a person came from a page of another site."""
    headers = request.headers
    return (
        headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin")
        and headers.get("Sec-Fetch-Mode") == "navigate"
        and headers.get("Sec-Fetch-Dest") == "document"
    )


def _host_name(host: str) -> str:
    """The name of a Host header, without its port; of a bare IPv6 address the address."""
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host
