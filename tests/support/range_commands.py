"""Ranges of history, asked for as the commands do: without a command line, in this process or through a session."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import msgspec

from collector.cli.methods import find_method
from collector.cli.ranges import Progress
from collector.owner.gaps import gaps as missing
from collector.owner.instance import Owner
from collector.rpc import Session
from collector.settings import Settings
from collector.simulator.server import SIMULATOR_KEY


def asked(source: str | None, start: int | None, end: int | None, *scopes: str, **more: Any) -> dict[str, Any]:
    """A range as a command line names it; times in seconds."""
    return {"source": source, "start": start, "end": end, "scopes": scopes, **more}


def events(at: Owner | Session, name: str, what: dict[str, Any]) -> AsyncGenerator[Any, None]:
    """The events of a method, handled by `at`."""
    method = find_method(name)
    request = method.request(**what)
    return at.stream(method, request) if isinstance(at, Session) else method.handle(at, request)


async def work(at: Owner | Session, name: str, what: dict[str, Any]) -> list[dict[str, Any]]:
    """All events of a work but its progress, as data."""
    async with aclosing(events(at, name, what)) as told:
        return [msgspec.to_builtins(event) async for event in told if not isinstance(event, Progress)]


async def answer(at: Owner | Session, name: str, what: dict[str, Any]) -> Any:
    """The only event of a method, as data."""
    async with aclosing(events(at, name, what)) as told:
        (only,) = [event async for event in told]
    return msgspec.to_builtins(only)


async def report(
    configuration: Settings, name: str, what: dict[str, Any], *, key: str | None = SIMULATOR_KEY
) -> dict[str, Any]:
    """The report of a work by a command that is the owner."""
    async with await Owner.open(configuration, key=key) as owner:
        last = (await work(owner, name, what))[-1]["report"]
        assert isinstance(last, dict)
        return last


async def gaps(
    configuration: Settings, what: dict[str, Any] | None = None
) -> list[tuple[str, str | None, str | None, str]]:
    """(scope, from, to, reason) of what is not covered."""
    async with await Owner.open(configuration, key=SIMULATOR_KEY) as owner:
        told = await missing(owner, **(what or {}))
        return [(gap.scope_id, gap.start, gap.end, gap.reason) for gap in told.gaps]
