"""How a command reaches the facts: through the owner's socket, else by being the owner for its time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Protocol

import aiohttp

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


@asynccontextmanager
async def access(settings: Settings, *, key: str | None = None) -> AsyncIterator[Access]:
    """Reach the owner, or become it. Raises OwnedElsewhere when it neither answers nor lets go."""
    path = socket_path(settings.journal.path)
    if path.exists():
        async with reachable(path) as address:
            client = OwnerClient(address)
            try:
                await client.status()
            except (aiohttp.ClientError, OSError):
                # A socket file without an owner behind it: what a killed one leaves.
                await client.close()
            else:
                try:
                    yield client
                finally:
                    await client.close()
                return
    async with await Owner.open(settings, key=key) as owner, listening(owner):
        yield _Local(owner)
