"""Requests between processes: errors, frames, versions, back-pressure, and what ends a request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from collector import errors, rpc
from collector.api.decode import Reason, UndecodableAnswerError
from collector.clock import SystemClock
from collector.errors import ApiError, CollectorError, ConfigError, InvalidAnswerError, OwnedElsewhere, UsageError
from collector.owner.lock import OwnerLock
from collector.rpc import Access, Method, Request, Session, decode_error, encode_error, reachable, socket_path
from collector.settings import Settings

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, CollectorError)]


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_is_the_same_on_the_other_side(kind: type[CollectorError]) -> None:
    """Its kind, text, hint and every fact."""
    error: CollectorError
    if issubclass(kind, ApiError):
        error = kind("text", operation="Op", scope_id="s", http_status=400, code="C", request_id="R", hint="h",
                     retry_after_seconds=1.5)  # fmt: skip
    else:
        error = kind(["one", "two"] if issubclass(kind, ConfigError) else "text", hint="h")
    crossed = decode_error(encode_error(error))
    assert type(crossed) is type(error)
    assert str(crossed) == str(error)
    assert vars(crossed) == vars(error)


def test_a_special_error_crosses_as_the_nearest_that_is_known() -> None:
    """So does one of a version that knows more."""
    crossed = decode_error(encode_error(UndecodableAnswerError(Reason.HTML, operation="Op")))
    assert type(crossed) is InvalidAnswerError
    assert "web page" in str(crossed)
    unknown = msgspec.msgpack.encode({"kind": "FutureError", "message": "x", "facts": {"hint": "h"}})
    assert type(decode_error(unknown)) is CollectorError
    assert (str(decode_error(unknown)), decode_error(unknown).hint) == ("x", "h")


class Count(Request, frozen=True, tag="count"):
    """Yield so many numbers."""

    n: int
    size: int = 0


class Number(msgspec.Struct, frozen=True):
    value: int
    padding: bytes = b""


class Owner:
    """An application whose handler is watched."""

    def __init__(self, path: Path, *, is_collector: bool = False) -> None:
        self.settings = SimpleNamespace(journal=SimpleNamespace(path=path), store=SimpleNamespace(url=""))
        self.journal = SimpleNamespace(path=path)
        self.is_collector = is_collector
        self.yielded = 0
        self.is_closed = asyncio.Event()
        self.fails: Exception | None = None
        self.hold: asyncio.Event | None = None

    async def count(self, request: Count) -> AsyncGenerator[Number, None]:
        try:
            for value in range(request.n):
                self.yielded += 1
                yield Number(value, bytes(request.size))
            if self.fails is not None:
                raise self.fails
            if self.hold is not None:
                await self.hold.wait()
        finally:
            self.is_closed.set()


def _count(owner: Owner, request: Count) -> AsyncGenerator[Number, None]:
    return owner.count(request)


COUNT = Method(Count, Number, _count, Access.CALLER)
COLLECT = Method(Count, Number, _count, Access.COLLECTOR)


def finding(method: Method[Any, Any, Any]) -> Callable[[str], Method[Any, Any, Any]]:
    return {method.name: method}.__getitem__


def listening(owner: Owner, method: Method[Any, Any, Any] = COUNT) -> AbstractAsyncContextManager[None]:
    return rpc.listening(cast(Any, owner), finding(method))


@asynccontextmanager
async def session(owner: Owner, method: Method[Any, Any, Any] = COUNT) -> AsyncIterator[Session]:
    """A session of another process: the journal is held."""
    lock = OwnerLock(owner.journal.path).acquire()
    settings = Settings.model_validate({"journal": {"path": str(owner.journal.path)}})
    try:
        async with rpc.reach(settings, method.access, finding(method), clock=HastyClock()) as reached:
            yield reached
    finally:
        lock.release()


class HastyClock(SystemClock):
    """Time passes a hundred times as fast for what waits."""

    def monotonic(self) -> float:
        return super().monotonic() * 100

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / 100)


@pytest.fixture
def owner(tmp_path: Path) -> Owner:
    return Owner(tmp_path / "journal.db")


async def test_events_cross_the_socket_in_order(owner: Owner) -> None:
    """Each as it was yielded; the socket is its owner's alone, and gone at the end."""
    path = socket_path(owner.journal.path)
    async with listening(owner), session(owner) as reached:
        assert path.stat().st_mode & 0o777 == 0o600
        async with aclosing(reached.stream(COUNT, Count(3, 2))) as events:
            assert [event async for event in events] == [Number(n, b"\0\0") for n in range(3)]
        assert await reached.ask(COUNT, Count(1)) == Number(0)
    assert not path.exists()


async def test_a_slow_reader_slows_the_handler_down(owner: Owner) -> None:
    """What waits for it is bounded, however long the answer is."""
    async with listening(owner), session(owner) as reached:
        async with aclosing(reached.stream(COUNT, Count(1_000, 100_000))) as events:
            await anext(events)
            await asyncio.sleep(0.3)
            assert owner.yielded < 100
        await asyncio.wait_for(owner.is_closed.wait(), 5)


async def test_a_handler_ends_with_its_client(owner: Owner) -> None:
    """Also while it yields nothing."""
    owner.hold = asyncio.Event()
    async with listening(owner), session(owner) as reached:
        async with aclosing(reached.stream(COUNT, Count(1))) as events:
            await anext(events)
        await asyncio.wait_for(owner.is_closed.wait(), 5)


async def test_a_request_in_progress_is_finished_when_the_owner_ends(owner: Owner) -> None:
    """Its client has the whole answer."""
    owner.hold = asyncio.Event()
    async with session(owner) as reached:
        async with listening(owner):
            events = reached.stream(COUNT, Count(1))
            first = await anext(events)
            asyncio.get_running_loop().call_later(0.1, owner.hold.set)
        assert [first, *[event async for event in events]] == [Number(0)]


async def test_an_error_after_events_is_raised_behind_them(owner: Owner) -> None:
    """As what it is; a fault of the program is told by its name only."""
    async with listening(owner), session(owner) as reached:
        for fails, kind, text in (
            (UsageError("not so", hint="thus"), UsageError, "not so"),
            (ZeroDivisionError("secret"), CollectorError, "the owner failed at this: ZeroDivisionError"),
        ):
            owner.fails = fails
            events = reached.stream(COUNT, Count(1))
            await anext(events)
            with pytest.raises(kind, match=text) as raised:
                await anext(events)
            assert "secret" not in str(raised.value)


async def test_an_event_that_is_too_large_is_an_error_and_no_memory(
    owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its size is told."""
    monkeypatch.setattr(rpc, "FRAME_BYTES_MAX", 1_000)
    async with listening(owner), session(owner) as reached:
        with pytest.raises(CollectorError, match="is too large; at most 1,000"):
            await reached.ask(COUNT, Count(1, 2_000))


async def test_an_owner_that_does_not_write_the_store_refuses_to_collect(owner: Owner) -> None:
    """It is waited for, since it ends soon; one that writes the store does it."""
    async with session(owner, COLLECT) as reached:
        async with listening(owner, COLLECT):
            with pytest.raises(OwnedElsewhere, match="does not write the store"):
                await reached.ask(COLLECT, Count(1))
        owner.is_collector = True
        async with listening(owner, COLLECT):
            assert await reached.ask(COLLECT, Count(1)) == Number(0)


async def test_a_request_or_an_answer_of_another_form_is_of_another_version(owner: Owner) -> None:
    """It is told in words, with what to do about it."""
    unknown = Method(Other, Number, _count, Access.CALLER)
    changed = Method(Changed, Number, _count, Access.CALLER)
    answered = Method(Count, Changed, _count, Access.CALLER)
    async with listening(owner), session(owner) as reached:
        asked: list[tuple[Method[Any, Any, Any], Request]] = [(unknown, Other()), (changed, Changed("many"))]
        for method, request in asked:
            with pytest.raises(CollectorError, match="does not take this request") as raised:
                await reached.ask(method, request)
            assert "restart it" in raised.value.hint
        with pytest.raises(CollectorError, match="is another version of this program"):
            await reached.ask(answered, Count(1))
    assert owner.yielded == 1


class Other(Request, frozen=True, tag="other"):
    """An owner of the other version does not know it."""


class Changed(Request, frozen=True, tag="count"):
    """The same request in another version."""

    n: str


LATER = msgspec.msgpack.encode({"protocol": 99, "program": "9.9", "more": 1})
"""The greeting of another version."""


@pytest.mark.parametrize(
    ("greeting", "text"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "is an earlier version of this program"),
        (b"h" + len(LATER).to_bytes(4) + LATER, "is version 9.9 with protocol 99"),
    ],
)
async def test_an_owner_of_another_version_is_told_in_words(owner: Owner, greeting: bytes, text: str) -> None:
    """With what to do about it, and without a wait."""

    is_closed = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        await reader.read()
        writer.close()
        await writer.wait_closed()
        is_closed.set()

    async with (
        session(owner) as reached,
        reachable(socket_path(owner.journal.path)) as address,
        await asyncio.start_unix_server(serve, address),
    ):
        with pytest.raises(CollectorError, match=text) as raised:
            await reached.ask(COUNT, Count(1))
        await asyncio.wait_for(is_closed.wait(), 5)
    assert raised.value.hint == "restart it with this version"


async def test_a_command_of_another_version_is_greeted_and_left(owner: Owner) -> None:
    """It sees the version of the owner; what is no greeting is closed without an answer."""
    async with listening(owner), reachable(socket_path(owner.journal.path)) as address:
        for sent, is_greeted in ((b"h" + len(LATER).to_bytes(4) + LATER, True), (b"GET /ping HTTP/1.1\r\n\r\n", False)):
            reader, writer = await asyncio.open_unix_connection(address)
            writer.write(sent)
            answer = await asyncio.wait_for(reader.read(), 5)
            assert (b"protocol" in answer) == is_greeted
            writer.close()
            await writer.wait_closed()


async def test_a_long_path_is_reached_too(tmp_path: Path) -> None:
    """The system's bound on the path of a socket is none for the journal's."""
    folder = tmp_path / ("f" * 120)
    folder.mkdir()
    owner = Owner(folder / "journal.db")
    async with listening(owner), session(owner) as reached:
        assert await reached.ask(COUNT, Count(1)) == Number(0)
