"""How a command reaches the facts: through the owner's socket, else by being the owner for its time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import aiohttp

from collector.clock import Clock, SystemClock
from collector.errors import OwnedElsewhere
from collector.owner.check import check_all
from collector.owner.instance import Owner
from collector.owner.socket import OwnerClient, listening, reachable, socket_path
from collector.owner.status import status
from collector.settings import Settings


class Access(Protocol):
    """What commands ask of an owner, wherever it runs."""

    async def status(self) -> dict[str, Any]:
        """See `owner.status.status`."""

    async def check(self) -> list[dict[str, Any]]:
        """See `owner.check.check_all`."""

    def query(self, sql: str, format_name: str) -> AsyncIterator[bytes]:
        """The bytes of a result in ClickHouse's format of that name. Raises QueryError."""


class _Local:
    """This process is the owner."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner

    async def status(self) -> dict[str, Any]:
        return await status(self._owner)

    async def check(self) -> list[dict[str, Any]]:
        return [result.as_dict() for result in await check_all(self._owner)]

    async def query(self, sql: str, format_name: str) -> AsyncIterator[bytes]:
        async with await self._owner.store.query(sql, format=format_name) as answer:
            async for piece in answer:
                yield piece


OWNER_SECONDS_MAX = 15.0
"""So long may an owner take from its lock to its socket, or a short-lived one to its end."""
ASK_AGAIN_SECONDS = 0.1


@asynccontextmanager
async def access(settings: Settings, *, key: str | None = None, clock: Clock | None = None) -> AsyncIterator[Access]:
    """Reach the owner, or become it. Raises OwnedElsewhere when it neither answers nor lets go."""
    clock = clock or SystemClock()
    deadline = clock.monotonic() + OWNER_SECONDS_MAX
    async with AsyncExitStack() as stack:
        while True:
            client = await _reach(socket_path(settings.journal.path), stack)
            if client is not None:
                yield client
                return
            try:
                owner = await stack.enter_async_context(await Owner.open(settings, key=key))
            except OwnedElsewhere:
                # Another command became the owner between the two looks, and its socket is not there yet.
                if clock.monotonic() >= deadline:
                    raise
                await clock.sleep(ASK_AGAIN_SECONDS)
                continue
            await stack.enter_async_context(listening(owner))
            yield _Local(owner)
            return


async def _reach(path: Path, stack: AsyncExitStack) -> OwnerClient | None:
    """A client of the owner that listens at `path`, None where nobody does."""
    try:
        address = await stack.enter_async_context(reachable(path))
    except OSError:
        # Not even its folder is there.
        return None
    client = OwnerClient(address)
    try:
        await client.status()
    except (aiohttp.ClientError, OSError):
        # A socket file without an owner behind it: what a killed one leaves.
        await client.close()
        return None
    stack.push_async_callback(client.close)
    return client
