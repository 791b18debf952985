"""What a page is made from, and how it says what it shows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final
from urllib.parse import urlencode

from aiohttp import web
from multidict import MultiDict, MultiMapping

from collector.console.period import Period, period_of
from collector.console.store import ConsoleStore
from collector.console.table import View
from collector.owner.instance import Owner

HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Of every response, unless it has its own."""


@dataclass(frozen=True, slots=True)
class PageRequest:
    """One request for a page."""

    owner: Owner
    store: ConsoleStore
    path: str
    """Without `.json` and `.csv`."""
    fields: Mapping[str, str]
    """Parts of the address, such as `node_id` of `/nodes/{node_id}`."""
    query: MultiMapping[str]
    """The form or the address's query; values are others' text."""
    now: int
    """Server time, seconds since the epoch."""
    http: web.Request

    def period(self, default: str = "1d") -> Period:
        """Return the range of time that is asked for. Raises UsageError."""
        return period_of(self.query, self.now, default)

    def text(self, name: str, default: str = "") -> str:
        return self.query.get(name, default).strip()

    def address(self, **changes: str | None) -> str:
        """Return the address of the same page with some values changed; None removes one."""
        kept = [(name, value) for name, value in self.query.items() if name not in changes]
        pairs = kept + [(name, value) for name, value in changes.items() if value]
        return self.path + (f"?{urlencode(pairs)}" if pairs else "")

    def without(self, *names: str) -> PageRequest:
        """Return the same request without some values of its address, such as the place in a list."""
        return replace(self, query=MultiDict((name, value) for name, value in self.query.items() if name not in names))


MakeView = Callable[[PageRequest], Awaitable[View]]
Download = Callable[[PageRequest], Awaitable[web.StreamResponse | None]]
"""Sends a page in another form; None where the page's own tables are all there is."""


@dataclass(frozen=True, slots=True)
class Page:
    """An address of the console."""

    path: str
    """With parts in braces, as aiohttp's router takes it."""
    title: str
    """In the navigation; empty for a page that others lead to."""
    view: MakeView
    downloads: Mapping[str, Download] = field(default_factory=dict)
    """Suffix, such as `.parquet`, and what sends that form of the page while it is being made."""
    posts: bool = False
    """Whether its form may also be sent by POST."""
