"""Ranges of history, asked for as the commands do: without a command line, in this process."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

from collector.owner.instance import Owner
from collector.owner.requests import ANSWERED, FOLLOWED
from collector.settings import Settings
from collector.simulator.server import SIMULATOR_KEY


def asked(source: str | None, start: int | None, end: int | None, *scopes: str, **more: Any) -> dict[str, Any]:
    """A range as a command line names it; times in seconds."""
    return {"source": source, "start": start, "end": end, "scopes": list(scopes), **more}


async def work(owner: Owner, name: str, what: dict[str, Any]) -> list[dict[str, Any]]:
    """All words of a backfill or a verification but those on how far it is."""
    async with aclosing(FOLLOWED[name](owner, what)) as words:
        return [word async for word in words if not word.keys() & {"seconds_read", "rows_read"}]


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
        told = await ANSWERED["gaps"](owner, what or asked(None, None, None))
        return [(gap["scope_id"], gap["from"], gap["to"], gap["reason"]) for gap in told["gaps"]]
