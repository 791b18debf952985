"""Requests of commands to the process that has the journal: over its Unix socket, or in the command's own process.

A method is a typed request, the typed events that answer it, and the handler that yields them; the handler is the
same in both places. On the socket (beside the journal, mode 0600) a connection carries one request:

    client: HELLO, REQUEST        server: HELLO, then EVENT ..., then END or ERROR; ALIVE while it works

A frame is one letter, the length, and a body in MessagePack. HELLO keeps its form in every version of the protocol.
"""

from __future__ import annotations

import asyncio
import enum
import os
import struct
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast

import msgspec
import structlog

from collector import __version__, errors
from collector.clock import Clock, SystemClock
from collector.errors import CollectorError, OwnedElsewhere
from collector.owner.lock import Holder, command_line, holder, lock_path

if TYPE_CHECKING:
    from collector.api.gateways import ApiKey
    from collector.owner.caller import Caller
    from collector.settings import Settings

    Key = ApiKey | Callable[[], ApiKey | None] | None

log = structlog.get_logger(__name__)

PROTOCOL: Final = 1
"""Version of everything below, but for HELLO."""

FRAME_BYTES_MAX: Final = 64 << 20
"""A request or an event is larger than this only by mistake, and then refused."""
PATH_BYTES_MAX: Final = 100
"""The system takes about 107 bytes as the path of a socket."""
ALIVE_SECONDS: Final = 10.0
"""Interval of ALIVE frames."""
SILENT_SECONDS_MAX: Final = 120.0
"""A server that sends no frame for this long does not run any more."""
REQUEST_SECONDS_MAX: Final = 30.0
"""A client sends its request within this time."""
END_SECONDS_MAX: Final = 60.0
"""At its end a server waits this long for requests in progress."""
OWNER_SECONDS_MAX: Final = 15.0
"""An owner takes at most this long from its lock to its socket, or a short-lived one to its end."""
RETRY_SECONDS: Final = 0.1
ATTEMPTS_MAX: Final = 3
"""Times that a request is sent if owners end during it: each of them may pay for calls."""

_FRAME: Final = struct.Struct(">cI")
_HELLO, _REQUEST, _EVENT, _ALIVE, _END, _ERROR = b"h", b"r", b"e", b"a", b".", b"!"

A = TypeVar("A")
E = TypeVar("E")
Q = TypeVar("Q", bound="Request")


class Access(enum.Enum):
    """What a process has to open to handle a request. Each one includes those before it."""

    STORE = "store"
    """The store, for reading."""
    READER = "reader"
    """Store and journal, for reading (`owner.reader.Reader`)."""
    CALLER = "caller"
    """The journal for writing, and a client (`owner.caller.Caller`)."""
    COLLECTOR = "collector"
    """The store for writing too (`owner.instance.Owner`)."""


class Request(msgspec.Struct, frozen=True):
    """Base of requests. The tag of a subclass is the name of its method."""


def _repeat(request: Any, events: int) -> CollectorError | None:
    return None


@dataclass(frozen=True, slots=True)
class Method(Generic[A, Q, E]):
    """A request, the events that answer it, and the handler."""

    request: type[Q]
    event: Any
    """Type of the events: a Struct, or a union of tagged ones."""
    handle: Callable[[A, Q], AsyncGenerator[E, None]]
    access: Access
    lost: Callable[[Q, int], CollectorError | None] = _repeat
    """Error if the owner ends after that many events; None if the request may be sent again."""

    @property
    def name(self) -> str:
        """The name on the socket."""
        return str(self.request.__struct_config__.tag)


Find = Callable[[str], Method[Any, Any, Any]]
"""Returns the method of a name. Raises LookupError if it does not exist."""


# Errors


class _Failure(msgspec.Struct):
    """An error of ours."""

    kind: str
    message: str
    facts: dict[str, Any]


_KINDS: Final[Mapping[str, type[CollectorError]]] = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, CollectorError) and kind.__name__ == name
}


def encode_error(error: CollectorError) -> bytes:
    """Return an error with its class and its fields; a class outside `errors` as its nearest base there."""
    kind = next(each.__name__ for each in type(error).__mro__ if _KINDS.get(each.__name__) is each)
    facts = {name: value for name, value in vars(error).items() if isinstance(value, str | int | float | list | None)}
    return msgspec.msgpack.encode(_Failure(kind, str(error.args[0]) if error.args else "", facts))


def decode_error(data: bytes) -> CollectorError:
    """Return the error that `encode_error` encoded; one of an unknown class as a CollectorError."""
    failure = msgspec.msgpack.decode(data, type=_Failure)
    kind = _KINDS.get(failure.kind, CollectorError)
    error = kind.__new__(kind)
    error.args = (failure.message,)
    vars(error).update(failure.facts)
    return error


# Frames


class _Hello(msgspec.Struct):
    protocol: int
    program: str = ""


class _Named(msgspec.Struct):
    type: str


class _Foreign(Exception):
    """What came is no frame."""


class _Lost(Exception):
    """The connection ended, or the other side is silent."""


def _frame(kind: bytes, value: Any = None) -> bytes:
    body = value if isinstance(value, bytes) else b"" if value is None else msgspec.msgpack.encode(value)
    if len(body) > FRAME_BYTES_MAX:
        raise CollectorError(f"a message of {len(body):,} bytes is too large; at most {FRAME_BYTES_MAX:,} are sent")
    return _FRAME.pack(kind, len(body)) + body


async def _read_frame(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    kind, size = _FRAME.unpack(await reader.readexactly(_FRAME.size))
    if size > FRAME_BYTES_MAX:
        raise _Foreign
    return kind, await reader.readexactly(size)


async def _read_hello(reader: asyncio.StreamReader) -> _Hello:
    kind, body = await _read_frame(reader)
    if kind != _HELLO:
        raise _Foreign
    try:
        return msgspec.msgpack.decode(body, type=_Hello)
    except msgspec.MsgspecError:
        raise _Foreign from None


_OWN_HELLO: Final = _frame(_HELLO, _Hello(PROTOCOL, __version__))


def socket_path(journal_path: Path) -> Path:
    """Return where the owner of a journal listens."""
    return journal_path.with_name(journal_path.name + ".sock")


@asynccontextmanager
async def reachable(path: Path) -> AsyncIterator[str]:
    """Yield `path` in a form that fits into a socket address: a long one goes through its open directory."""
    if len(os.fsencode(path)) <= PATH_BYTES_MAX:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


# The server


@asynccontextmanager
async def listening(app: Caller, find: Find) -> AsyncIterator[None]:
    """Handle the requests of other commands while the body runs; finish those in progress at the end."""
    path = socket_path(app.settings.journal.path)
    path.unlink(missing_ok=True)
    connections: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = cast("asyncio.Task[None]", asyncio.current_task())
        connections.add(task)
        try:
            await _serve(app, find, reader, writer)
        finally:
            connections.discard(task)
            writer.close()

    async with reachable(path) as address:
        # Made with the right mode at once: between bind and chmod anybody could connect.
        mask = os.umask(0o177)
        try:
            server = await asyncio.start_unix_server(serve, address)
        finally:
            os.umask(mask)
    try:
        yield
    finally:
        server.close()
        path.unlink(missing_ok=True)
        if connections:
            await asyncio.wait(connections, timeout=END_SECONDS_MAX)
        for task in list(connections):
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)


async def _serve(app: Caller, find: Find, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Handle the one request of a connection."""
    try:
        async with asyncio.timeout(REQUEST_SECONDS_MAX):
            hello = await _read_hello(reader)
            writer.write(_OWN_HELLO)
            if hello.protocol != PROTOCOL:
                await writer.drain()
                return
            kind, body = await _read_frame(reader)
            if kind != _REQUEST:
                return
    except (OSError, EOFError, _Foreign):
        return
    work = asyncio.create_task(_answer(app, find, body, writer), name="request")
    gone = asyncio.create_task(reader.read(1))
    alive = asyncio.create_task(_stay_alive(writer))
    try:
        # A client sends nothing after its request: what can be read is its end.
        await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (work, gone, alive):
            task.cancel()
        await asyncio.gather(work, gone, alive, return_exceptions=True)


async def _answer(app: Caller, find: Find, body: bytes, writer: asyncio.StreamWriter) -> None:
    name = ""
    try:
        try:
            try:
                name = msgspec.msgpack.decode(body, type=_Named).type
                method = find(name)
                request = msgspec.msgpack.decode(body, type=method.request)
            except (LookupError, msgspec.MsgspecError) as error:
                raise CollectorError(
                    f"the running process, version {__version__}, does not take this request: {error}",
                    hint="restart it with the version of the command",
                ) from None
            if method.access is Access.COLLECTOR and not app.is_collector:
                raise OwnedElsewhere(
                    f"{app.journal.path} is owned by {Holder(os.getpid(), command_line())}, which does not write the "
                    "store",
                    hint="wait until it ends, then try again",
                )
            async with aclosing(method.handle(app, request)) as events:
                async for event in events:
                    writer.write(_frame(_EVENT, event))
                    # A client that reads slowly slows the handler down.
                    await writer.drain()
            last = _frame(_END)
        except CollectorError as error:
            last = _frame(_ERROR, encode_error(error))
        except ConnectionError:
            return
        except Exception as error:
            log.exception("request_of_a_command_failed", path=f"/{name}")
            last = _frame(_ERROR, encode_error(_fault(error)))
        writer.write(last)
        await writer.drain()
    except ConnectionError:
        return


async def _stay_alive(writer: asyncio.StreamWriter) -> None:
    clock = SystemClock()
    while True:
        await clock.sleep(ALIVE_SECONDS)
        if not writer.transport.get_write_buffer_size():
            writer.write(_frame(_ALIVE))


def _fault(error: Exception) -> CollectorError:
    return CollectorError(
        f"the owner failed at this: {type(error).__name__}", hint="a fault of the program; the owner's log has more"
    )


# The client


class Session:
    """Sends requests to the owner, or handles them in this process if there is none."""

    def __init__(
        self, settings: Settings, access: Access, find: Find, key: Key, clock: Clock, stack: AsyncExitStack
    ) -> None:
        self._settings = settings
        self._access = access
        self._find = find
        self._key = key
        self._clock = clock
        self._stack = stack
        self._app: Any = None

    async def ask(self, method: Method[Any, Q, E], request: Q) -> E:
        """Return the only event of an answer; raises as `stream` does."""
        async with aclosing(self.stream(method, request)) as events:
            answer = [event async for event in events]
        return answer[-1]

    async def stream(self, method: Method[Any, Q, E], request: Q) -> AsyncGenerator[E, None]:
        """Yield the events of an answer. If the owner ends meanwhile, the next one begins the request again.

        Raises what the handler raises, OwnedElsewhere if another process neither answers nor ends, and
        CollectorError if it is of another version.
        """
        attempts = received = 0
        deadline = self._deadline()
        while True:
            connection = await self._reach(deadline)
            if connection is None:
                async with aclosing(method.handle(self._app, request)) as own:
                    async for event in own:
                        yield event
                return
            try:
                async with aclosing(connection.stream(method, request)) as events:
                    async for event in events:
                        received += 1
                        deadline = self._deadline()
                        yield event
                return
            except _Lost as error:
                attempts += 1
                if (loss := method.lost(request, received)) is not None:
                    raise loss from error
                if attempts >= ATTEMPTS_MAX or self._clock.monotonic() >= deadline:
                    raise self._silent() from error
            except OwnedElsewhere:
                # It does not do this work, and may soon end.
                if received or self._clock.monotonic() >= deadline:
                    raise
            await self._clock.sleep(RETRY_SECONDS)

    def _deadline(self) -> float:
        return self._clock.monotonic() + OWNER_SECONDS_MAX

    async def _reach(self, deadline: float) -> _Connection | None:
        """Connect to the owner, or open what is needed in this process and return None."""
        # A server's store is open to every reader.
        is_open = self._access is Access.STORE and bool(self._settings.store.url)
        while self._app is None:
            if not is_open and (connection := await _connect(socket_path(self._settings.journal.path))) is not None:
                return connection
            try:
                self._app = await self._stack.enter_async_context(self._opened())
            except OwnedElsewhere:
                # Another command has the journal, and its socket is not there yet or no more.
                if self._clock.monotonic() >= deadline:
                    raise
                await self._clock.sleep(RETRY_SECONDS)
        return None

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[Any]:
        if self._access in (Access.STORE, Access.READER):
            async with _opened_for_reading(self._settings, self._access, self._clock) as app:
                yield app
            return
        key = self._key() if callable(self._key) else self._key
        if self._access is Access.COLLECTOR:
            from collector.owner.instance import Owner

            opened: Caller = await Owner.open(self._settings, key=key, clock=self._clock)
        else:
            from collector.owner.caller import Caller as Calling

            opened = await Calling.open(self._settings, key=key, clock=self._clock)
        async with opened, listening(opened, self._find):
            yield opened

    def _silent(self) -> OwnedElsewhere:
        path = self._settings.journal.path
        return OwnedElsewhere(
            f"{path} is owned by {holder(lock_path(path))}, which does not answer",
            hint="its log says what it waits for, such as a full disk; stopped, it loses nothing that was paid for",
        )


def _opened_for_reading(settings: Settings, access: Access, clock: Clock) -> AbstractAsyncContextManager[Any]:
    if access is Access.STORE:
        from collector.owner.stored import stored

        return stored(settings)
    from collector.owner.reader import Reader

    @asynccontextmanager
    async def opened() -> AsyncIterator[Reader]:
        async with await Reader.open(settings, clock=clock) as reader:
            yield reader

    return opened()


@asynccontextmanager
async def reach(
    settings: Settings, access: Access, find: Find, *, key: Key = None, clock: Clock | None = None
) -> AsyncIterator[Session]:
    """Yield a session with the owner. Without one, `access` is opened here for the first request.

    A `key` that is a function is called only then; without a key nothing can be called. For `Access.STORE` and
    `Access.READER` nothing is created, migrated or altered; a server's store is read without its owner.
    """
    async with AsyncExitStack() as stack:
        yield Session(settings, access, find, key, clock or SystemClock(), stack)


class _Connection:
    """A connection to an owner of this version."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def stream(self, method: Method[Any, Q, E], request: Q) -> AsyncGenerator[E, None]:
        """Send the request and yield the events. Raises _Lost, and what the handler raised."""
        decode = msgspec.msgpack.Decoder(method.event).decode
        try:
            try:
                self._writer.write(_frame(_REQUEST, request))
                await self._writer.drain()
            except OSError as error:
                raise _Lost from error
            while True:
                try:
                    async with asyncio.timeout(SILENT_SECONDS_MAX):
                        kind, body = await _read_frame(self._reader)
                except (OSError, EOFError) as error:
                    raise _Lost from error
                if kind == _END:
                    return
                if kind == _ERROR:
                    raise decode_error(body)
                if kind == _EVENT:
                    try:
                        event = decode(body)
                    except msgspec.MsgspecError:
                        raise _another_version("another version") from None
                    yield event
        finally:
            self.close()

    def close(self) -> None:
        self._writer.close()


async def _connect(path: Path) -> _Connection | None:
    """Connect to an owner; None if no process listens. Raises CollectorError if it is of another version."""
    with suppress(OSError, EOFError):
        async with reachable(path) as address:
            reader, writer = await asyncio.open_unix_connection(address)
        try:
            writer.write(_OWN_HELLO)
            async with asyncio.timeout(SILENT_SECONDS_MAX):
                hello = await _read_hello(reader)
            if hello.protocol != PROTOCOL:
                raise _another_version(f"version {hello.program} with protocol {hello.protocol}")
        except _Foreign:
            writer.close()
            raise _another_version("an earlier version") from None
        except BaseException:
            writer.close()
            raise
        return _Connection(reader, writer)
    # A socket file without an owner behind it is what a killed one leaves.
    return None


def _another_version(which: str) -> CollectorError:
    return CollectorError(
        f"the running process is {which} of this program; this is version {__version__} with protocol {PROTOCOL}",
        hint="restart it with this version",
    )
