"""How a command reaches the facts: through the owner's socket, else by opening what it needs for its time."""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import Any, Generic, Protocol, TypeVar

import aiohttp

from collector.api.gateways import ApiKey
from collector.clock import Clock, SystemClock
from collector.errors import OwnedElsewhere, QueryError
from collector.owner.caller import Caller
from collector.owner.calls import CallResult, call
from collector.owner.check import check_all
from collector.owner.gaps import gaps
from collector.owner.instance import Owner
from collector.owner.lock import holder, lock_path
from collector.owner.reader import Reader, stored
from collector.owner.requests import ANSWERED, FOLLOWED
from collector.owner.socket import OwnerClient, listening, reachable, socket_path
from collector.owner.status import status
from collector.settings import Settings
from collector.store.base import Store
from collector.store.migrate import describe_difference

T = TypeVar("T")
S = TypeVar("S", bound="_Read")

GONE = (aiohttp.ClientError, OSError)
"""What a request meets when nobody is behind the socket, or nobody any more."""

OWNER_SECONDS_MAX = 15.0
"""So long may an owner take from its lock to its socket, or a short-lived one to its end."""
ASK_AGAIN_SECONDS = 0.1
BEGINNINGS_MAX = 3
"""Work whose owner ends is begun so often by the next one: each of them may pay for calls."""


class Querying(Protocol):
    """A history that can be queried, wherever it is."""

    @property
    def notes(self) -> Sequence[str]:
        """What a reader should know of the store, a line each, once something was asked."""

    def query(self, sql: str, format_name: str, parameters: Mapping[str, str] | None = None) -> AsyncIterator[bytes]:
        """The bytes of a result in ClickHouse's format of that name; `parameters` as `Store.query` takes them.

        Raises QueryError, and UsageError if there is no history.
        """


class Reading(Querying, Protocol):
    """What commands ask that only read."""

    async def status(self) -> dict[str, Any]:
        """See `owner.status.status`."""

    async def gaps(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """See `owner.gaps.gaps`."""


class Access(Reading, Protocol):
    """What commands ask of an owner, wherever it runs."""

    async def check(self) -> list[dict[str, Any]]:
        """See `owner.check.check_all`."""

    async def call(self, operation: str, parameters: Mapping[str, Any]) -> CallResult:
        """See `owner.calls.call`."""

    async def answer(self, name: str, asked: Mapping[str, Any]) -> dict[str, Any]:
        """See `owner.requests.ANSWERED`."""

    def follow(self, name: str, asked: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """See `owner.requests.FOLLOWED`. Where the owner ends meanwhile, the next one begins it again."""


class _Read:
    """This process reads the files."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    @property
    def notes(self) -> Sequence[str]:
        return self._reader.notes

    async def status(self) -> dict[str, Any]:
        return await status(self._reader)

    async def gaps(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        return await gaps(self._reader, asked)

    async def query(
        self, sql: str, format_name: str, parameters: Mapping[str, str] | None = None
    ) -> AsyncIterator[bytes]:
        async for piece in _queried(self._reader.store, sql, format_name, parameters):
            yield piece


class _Local(_Read):
    """This process is the owner."""

    def __init__(self, owner: Caller) -> None:
        super().__init__(owner)
        self._owner = owner

    async def check(self) -> list[dict[str, Any]]:
        return [result.as_dict() for result in await check_all(self._owner)]

    async def call(self, operation: str, parameters: Mapping[str, Any]) -> CallResult:
        return await call(self._owner, operation, parameters)

    async def answer(self, name: str, asked: Mapping[str, Any]) -> dict[str, Any]:
        return await ANSWERED[name](self._owner, asked)

    async def follow(self, name: str, asked: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        async with aclosing(FOLLOWED[name](self._owner, asked)) as words:
            async for word in words:
                yield word


async def _queried(
    store: Store, sql: str, format_name: str, parameters: Mapping[str, str] | None
) -> AsyncIterator[bytes]:
    async with await store.query(sql, format=format_name, parameters=parameters) as answer:
        async for piece in answer:
            yield piece


class _Stored:
    """A server's store, read without its collector."""

    def __init__(self, store: Store, notes: Sequence[str]) -> None:
        self._store = store
        self.notes = notes

    def query(self, sql: str, format_name: str, parameters: Mapping[str, str] | None = None) -> AsyncIterator[bytes]:
        return _queried(self._store, sql, format_name, parameters)


Key = ApiKey | Callable[[], ApiKey | None] | None


@asynccontextmanager
async def reading(settings: Settings, *, clock: Clock | None = None) -> AsyncIterator[Reading]:
    """Reach the owner, or read what it left. Nothing is created, migrated or altered.

    What is asked raises OwnedElsewhere when another process neither answers nor ends.
    """

    async def opened(stack: AsyncExitStack) -> _Read:
        return _Read(await stack.enter_async_context(await Reader.open(settings, clock=clock)))

    async with AsyncExitStack() as stack:
        yield _Reached(settings, clock or SystemClock(), stack, opened)


@asynccontextmanager
async def querying(settings: Settings) -> AsyncIterator[Querying]:
    """Reach the history for SQL: a server's store directly, an embedded one as `reading` does."""
    if not settings.store.url:
        async with reading(settings) as reached:
            yield reached
        return
    async with stored(settings) as store:
        yield _Stored(store, [note for note in [await describe_difference(store)] if note])


@asynccontextmanager
async def access(settings: Settings, *, key: Key = None, clock: Clock | None = None) -> AsyncIterator[Access]:
    """Reach the owner, or take the journal for calls, which are metered there. The store is only read.

    What is asked raises OwnedElsewhere when another process neither answers nor lets go. Where another process is
    the owner, its key is used: a `key` that is a function is called only when this process takes the journal.
    Without one, nothing can be called.
    """

    async def opened() -> Caller:
        return await Caller.open(settings, key=_key(key), clock=clock)

    async with _reached_owner(settings, clock, opened) as reached:
        yield reached


@asynccontextmanager
async def collecting(settings: Settings, *, key: Key = None, clock: Clock | None = None) -> AsyncIterator[Access]:
    """Reach the owner, or become it and write the store. Otherwise as `access`."""

    async def opened() -> Caller:
        return await Owner.open(settings, key=_key(key), clock=clock)

    async with _reached_owner(settings, clock, opened) as reached:
        yield reached


def _key(key: Key) -> ApiKey | None:
    return key() if callable(key) else key


@asynccontextmanager
async def _reached_owner(
    settings: Settings, clock: Clock | None, opened: Callable[[], Awaitable[Caller]]
) -> AsyncIterator[Access]:
    async def side(stack: AsyncExitStack) -> _Local:
        owner = await stack.enter_async_context(await opened())
        await stack.enter_async_context(listening(owner))
        return _Local(owner)

    async with AsyncExitStack() as stack:
        yield _ReachedOwner(settings, clock or SystemClock(), stack, side)


class _Reached(Generic[S]):
    """Asks the owner, or opens what is needed if there is none; also when it ends between two requests."""

    def __init__(
        self, settings: Settings, clock: Clock, stack: AsyncExitStack, opened: Callable[[AsyncExitStack], Awaitable[S]]
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._stack = stack
        self._opened = opened
        self._side: OwnerClient | S | None = None

    @property
    def notes(self) -> Sequence[str]:
        return () if self._side is None else self._side.notes

    async def status(self) -> dict[str, Any]:
        return await self._ask(lambda side: side.status())

    async def gaps(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        return await self._ask(lambda side: side.gaps(asked))

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

    async def _ask(self, work: Callable[[OwnerClient | S], Awaitable[T]]) -> T:
        deadline = self._deadline()
        while True:
            side = await self._reach(deadline)
            try:
                return await work(side)
            except GONE as error:
                await self._look_again(side, error, deadline)
            except OwnedElsewhere as error:
                # It does not do this work, and soon ends.
                await self._look_again(side, error, deadline)

    def _deadline(self) -> float:
        return self._clock.monotonic() + OWNER_SECONDS_MAX

    async def _reach(self, deadline: float) -> OwnerClient | S:
        while self._side is None:
            self._side = await self._client()
            if self._side is not None:
                break
            try:
                self._side = await self._opened(self._stack)
            except OwnedElsewhere:
                # Another command has the journal, and its socket is not there yet or no more.
                if self._clock.monotonic() >= deadline:
                    raise
                await self._clock.sleep(ASK_AGAIN_SECONDS)
        return self._side

    async def _look_again(self, side: OwnerClient | S, error: Exception, deadline: float) -> None:
        """Look for the next owner after one that ended without an answer, or refused. Raises `error` in the end."""
        if not isinstance(side, OwnerClient):
            raise error
        if self._clock.monotonic() >= deadline:
            raise error if isinstance(error, OwnedElsewhere) else self._silent() from error
        self._side = None
        await self._clock.sleep(ASK_AGAIN_SECONDS)

    def _silent(self) -> OwnedElsewhere:
        path = self._settings.journal.path
        return OwnedElsewhere(
            f"{path} is owned by {holder(lock_path(path))}, which does not answer",
            hint="its log says what it waits for, such as a full disk; stopped, it loses nothing that was paid for",
        )

    async def _client(self) -> OwnerClient | None:
        """Return a client of the owner, None if no process listens."""
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


class _ReachedOwner(_Reached[_Local]):
    """The same for what calls and collects."""

    async def check(self) -> list[dict[str, Any]]:
        return await self._ask(lambda side: side.check())

    async def call(self, operation: str, parameters: Mapping[str, Any]) -> CallResult:
        return await self._ask(lambda side: side.call(operation, parameters))

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
