"""How a command reaches the facts: through the owner's socket, else by being the owner for its time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Protocol

import aiohttp

from collector.clock import Clock, SystemClock
from collector.errors import OwnedElsewhere, QueryError
from collector.owner.check import check_all
from collector.owner.instance import Owner
from collector.owner.socket import OwnerClient, listening, reachable, socket_path
from collector.owner.status import status
from collector.settings import Settings

GONE = (aiohttp.ClientError, OSError)
"""What a request meets when nobody is behind the socket, or nobody any more."""


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
    """Reach the owner, or become it. What is asked raises OwnedElsewhere when it neither answers nor lets go."""
    async with AsyncExitStack() as stack:
        yield _Whoever(settings, key, clock or SystemClock(), stack)


class _Whoever:
    """Asks the owner, and becomes it where there is none: also when it ends between two looks."""

    def __init__(self, settings: Settings, key: str | None, clock: Clock, stack: AsyncExitStack) -> None:
        self._settings = settings
        self._key = key
        self._clock = clock
        self._stack = stack
        self._deadline = clock.monotonic() + OWNER_SECONDS_MAX
        self._side: OwnerClient | _Local | None = None

    async def status(self) -> dict[str, Any]:
        while True:
            side = await self._reach()
            try:
                return await side.status()
            except GONE as error:
                self._lost(side, error)

    async def check(self) -> list[dict[str, Any]]:
        while True:
            side = await self._reach()
            try:
                return await side.check()
            except GONE as error:
                self._lost(side, error)

    async def query(self, sql: str, format_name: str) -> AsyncIterator[bytes]:
        started = False
        while True:
            side = await self._reach()
            try:
                async for piece in side.query(sql, format_name):
                    started = True
                    yield piece
                return
            except GONE as error:
                if started:
                    raise QueryError("the owner ended before the result was complete") from error
                self._lost(side, error)

    async def _reach(self) -> OwnerClient | _Local:
        while self._side is None:
            self._side = await self._client()
            if self._side is not None:
                break
            try:
                owner = await self._stack.enter_async_context(await Owner.open(self._settings, key=self._key))
            except OwnedElsewhere:
                # Another command is the owner, and its socket is not there yet or no more.
                if self._clock.monotonic() >= self._deadline:
                    raise
                await self._clock.sleep(ASK_AGAIN_SECONDS)
                continue
            await self._stack.enter_async_context(listening(owner))
            self._side = _Local(owner)
        return self._side

    def _lost(self, side: OwnerClient | _Local, error: Exception) -> None:
        """The owner ended under a request that it had not answered: look for the next one."""
        if isinstance(side, _Local) or self._clock.monotonic() >= self._deadline:
            raise error
        self._side = None

    async def _client(self) -> OwnerClient | None:
        """A client of the owner, None where nobody listens."""
        try:
            address = await self._stack.enter_async_context(reachable(socket_path(self._settings.journal.path)))
        except OSError:
            # Not even the journal's folder is there.
            return None
        client = OwnerClient(address)
        self._stack.push_async_callback(client.close)
        try:
            await client.status()
        except GONE:
            # A socket file without an owner behind it: what a killed one leaves.
            return None
        return client
