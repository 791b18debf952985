"""How a command reaches the facts: through the owner's socket, else by being the owner for its time."""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import Any, Protocol, TypeVar

import aiohttp

from collector.api.gateways import ApiKey
from collector.clock import Clock, SystemClock
from collector.errors import OwnedElsewhere, QueryError
from collector.owner.calls import CallResult, call, ship_calls
from collector.owner.check import check_all
from collector.owner.instance import Owner
from collector.owner.lock import OwnerLock, holder
from collector.owner.requests import ANSWERED, FOLLOWED
from collector.owner.socket import OwnerClient, listening, reachable, socket_path
from collector.owner.status import status
from collector.settings import Settings

T = TypeVar("T")

GONE = (aiohttp.ClientError, OSError)
"""What a request meets when nobody is behind the socket, or nobody any more."""

OWNER_SECONDS_MAX = 15.0
"""So long may an owner take from its lock to its socket, or a short-lived one to its end."""
ASK_AGAIN_SECONDS = 0.1
BEGINNINGS_MAX = 3
"""Work whose owner ends is begun so often by the next one: each of them may pay for calls."""


class Access(Protocol):
    """What commands ask of an owner, wherever it runs."""

    async def status(self) -> dict[str, Any]:
        """See `owner.status.status`."""

    async def check(self) -> list[dict[str, Any]]:
        """See `owner.check.check_all`."""

    async def call(self, operation: str, parameters: Mapping[str, Any]) -> CallResult:
        """See `owner.calls.call`."""

    def query(self, sql: str, format_name: str, parameters: Mapping[str, str] | None = None) -> AsyncIterator[bytes]:
        """The bytes of a result in ClickHouse's format of that name; `parameters` as `Store.query` takes them.

        Raises QueryError.
        """

    async def answer(self, name: str, asked: Mapping[str, Any]) -> dict[str, Any]:
        """See `owner.requests.ANSWERED`."""

    def follow(self, name: str, asked: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """See `owner.requests.FOLLOWED`. Where the owner ends meanwhile, the next one begins it again."""


class _Local:
    """This process is the owner."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner

    async def status(self) -> dict[str, Any]:
        return await status(self._owner)

    async def check(self) -> list[dict[str, Any]]:
        return [result.as_dict() for result in await check_all(self._owner)]

    async def call(self, operation: str, parameters: Mapping[str, Any]) -> CallResult:
        return await call(self._owner, operation, parameters)

    async def query(
        self, sql: str, format_name: str, parameters: Mapping[str, str] | None = None
    ) -> AsyncIterator[bytes]:
        async with await self._owner.store.query(sql, format=format_name, parameters=parameters) as answer:
            async for piece in answer:
                yield piece

    async def answer(self, name: str, asked: Mapping[str, Any]) -> dict[str, Any]:
        return await ANSWERED[name](self._owner, asked)

    async def follow(self, name: str, asked: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        async with aclosing(FOLLOWED[name](self._owner, asked)) as words:
            async for word in words:
                yield word


_Side = OwnerClient | _Local


@asynccontextmanager
async def access(
    settings: Settings, *, key: ApiKey | Callable[[], ApiKey | None] | None = None, clock: Clock | None = None
) -> AsyncIterator[Access]:
    """Reach the owner, or become it. What is asked raises OwnedElsewhere when it neither answers nor lets go.

    Where another process is the owner, its key is used: a `key` that is a function is asked only
    when this process becomes the owner. Without one, nothing can be called.
    """
    async with AsyncExitStack() as stack:
        yield _Whoever(settings, key, clock or SystemClock(), stack)


class _Whoever:
    """Asks the owner, and becomes it where there is none: also when it ends between two looks."""

    def __init__(
        self, settings: Settings, key: ApiKey | Callable[[], ApiKey | None] | None, clock: Clock, stack: AsyncExitStack
    ) -> None:
        self._settings = settings
        self._key = key
        self._clock = clock
        self._stack = stack
        self._side: _Side | None = None

    async def status(self) -> dict[str, Any]:
        return await self._ask(lambda side: side.status())

    async def check(self) -> list[dict[str, Any]]:
        return await self._ask(lambda side: side.check())

    async def call(self, operation: str, parameters: Mapping[str, Any]) -> CallResult:
        return await self._ask(lambda side: side.call(operation, parameters))

    async def query(
        self, sql: str, format_name: str, parameters: Mapping[str, str] | None = None
    ) -> AsyncIterator[bytes]:
        deadline = self._deadline()
        started = False
        while True:
            side = await self._reach(deadline)
            try:
                async for piece in side.query(sql, format_name, parameters):
                    started = True
                    yield piece
                return
            except GONE as error:
                if started:
                    raise QueryError("the owner ended before the result was complete") from error
                await self._look_again(side, error, deadline)

    async def answer(self, name: str, asked: Mapping[str, Any]) -> dict[str, Any]:
        return await self._ask(lambda side: side.answer(name, asked))

    async def follow(self, name: str, asked: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        deadline = self._deadline()
        for beginning in itertools.count(1):
            side = await self._reach(deadline)
            try:
                async with aclosing(side.follow(name, asked)) as words:
                    async for word in words:
                        deadline = self._deadline()
                        yield word
                return
            except GONE as error:
                if beginning >= BEGINNINGS_MAX:
                    raise self._silent() from error
                await self._look_again(side, error, deadline)
            except OwnedElsewhere as error:
                await self._look_again(side, error, deadline)

    async def _ask(self, work: Callable[[_Side], Awaitable[T]]) -> T:
        deadline = self._deadline()
        while True:
            side = await self._reach(deadline)
            try:
                return await work(side)
            except GONE as error:
                await self._look_again(side, error, deadline)
            except OwnedElsewhere as error:
                # It only reads, so it soon ends.
                await self._look_again(side, error, deadline)

    def _deadline(self) -> float:
        return self._clock.monotonic() + OWNER_SECONDS_MAX

    async def _reach(self, deadline: float) -> _Side:
        while self._side is None:
            self._side = await self._client()
            if self._side is not None:
                break
            key = self._key() if callable(self._key) else self._key
            try:
                owner = await self._stack.enter_async_context(await Owner.open(self._settings, key=key))
            except OwnedElsewhere:
                # Another command is the owner, and its socket is not there yet or no more.
                if self._clock.monotonic() >= deadline:
                    raise
                await self._clock.sleep(ASK_AGAIN_SECONDS)
                continue
            if owner.client is not None:
                # After the socket is closed: calls of other commands are shipped as well.
                self._stack.push_async_callback(ship_calls, owner)
            await self._stack.enter_async_context(listening(owner))
            self._side = _Local(owner)
        return self._side

    async def _look_again(self, side: _Side, error: Exception, deadline: float) -> None:
        """The owner ended under a request that it had not answered, or refused it: look for the next one."""
        if isinstance(side, _Local):
            raise error
        if self._clock.monotonic() >= deadline:
            raise error if isinstance(error, OwnedElsewhere) else self._silent() from error
        self._side = None
        await self._clock.sleep(ASK_AGAIN_SECONDS)

    def _silent(self) -> OwnedElsewhere:
        path = self._settings.journal.path
        return OwnedElsewhere(
            f"{path} is owned by {holder(OwnerLock(path).path)}, which does not answer",
            hint="its log says what it waits for, such as a full disk; stopped, it loses nothing that was paid for",
        )

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
            await client.ping()
        except GONE:
            # A socket file without an owner behind it: what a killed one leaves.
            return None
        return client
