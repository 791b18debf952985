"""The result of one reader's query on the embedded engine, and the handle that makes it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from types import TracebackType
from typing import Any, Self, TypeVar

from collector.errors import QueryError
from collector.queries import Column, EngineQueryError, hint_of
from collector.store.failures import query_failure
from collector.store.gate import Refused

T = TypeVar("T")

CHUNK_BYTES_MAX = 1 << 20
DEFAULT_FORMAT = "TabSeparated"
_KILL_AGAIN_SECONDS = 0.05
_TOO_MANY_ROWS_OR_BYTES = 396
_numbers = itertools.count(1)


class EmbeddedAnswer:
    """A `QueryAnswer`. Its blocking work runs in `threads`, one call at a time."""

    def __init__(
        self, threads: Executor, kill: Callable[[str], None], release: Callable[[EmbeddedAnswer], None]
    ) -> None:
        self._threads = threads
        self._kill = kill
        self._release = release
        self._running: asyncio.Future[Any] | None = None
        self._source: asyncio.StreamReader | None = None
        self._pipe: asyncio.ReadTransport | None = None
        self._closed = False
        self._ending: asyncio.Future[None] | None = None
        self.name = f"reader {next(_numbers)}"
        """Marks the engine's query, so that it can be killed from another handle."""
        self.format = DEFAULT_FORMAT
        self.columns: tuple[Column, ...] = ()
        self.handle: Any = None
        self.pending = b""
        """Bytes that are there already."""
        self.bytes_left = 0

    async def run(self, work: Callable[[], T]) -> T:
        """Run `work` in a thread. A cancelled caller gets away only when the engine has stopped."""
        running = asyncio.get_running_loop().run_in_executor(self._threads, work)
        self._running = running
        return await self._settled(running)

    async def pour(self, work: Callable[[int], object]) -> None:
        """Begin `work`, which writes into the file descriptor that it is given, and wait for its first bytes.

        A pipe holds little, so the engine goes on as fast as the bytes are taken.
        """
        loop = asyncio.get_running_loop()
        reading, writing = os.pipe()
        source = asyncio.StreamReader(limit=CHUNK_BYTES_MAX)
        self._pipe, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(source), os.fdopen(reading, "rb", buffering=0)
        )
        self._source = source
        self._running = loop.run_in_executor(self._threads, work, writing)
        # The engine opens the pipe by its number: it is ours to keep open until then, and to close at the end.
        self._running.add_done_callback(lambda _: os.close(writing))
        self.pending = await self._next()

    def counted(self, block: bytes) -> bytes:
        """`block`, unless it goes beyond the limit. The engine counts a constant column as one value only."""
        self.bytes_left -= len(block)
        if self.bytes_left < 0:
            raise EngineQueryError(
                "Limit for result exceeded: too many bytes",
                code=_TOO_MANY_ROWS_OR_BYTES,
                name="TOO_MANY_ROWS_OR_BYTES",
                hint=hint_of(_TOO_MANY_ROWS_OR_BYTES),
            )
        return block

    async def _next(self) -> bytes:
        """The next bytes, b"" at the end of the whole result. Raises where it is not whole."""
        if self._source is None:
            return b""
        block = await self._source.read(CHUNK_BYTES_MAX)
        if not block and self._running is not None:
            await self._settled(self._running)
        return self.counted(block)

    async def _settled(self, running: asyncio.Future[T]) -> T:
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            await self._stop()
            raise
        except (QueryError, Refused):
            raise
        except Exception as error:
            raise query_failure(error) from None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while not self._closed:
            block, self.pending = self.pending, b""
            if not block:
                block = await self._next()
            if not block:
                return
            for start in range(0, len(block), CHUNK_BYTES_MAX):
                yield block[start : start + CHUNK_BYTES_MAX]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """See `QueryAnswer.close`. A call that runs is stopped, and ends with an error."""
        self._closed = True
        if self._ending is None:
            self._ending = asyncio.ensure_future(self._end())
        # Also where whoever closes is cancelled: a handle that stays open keeps the whole store open.
        await asyncio.shield(self._ending)

    async def _end(self) -> None:
        try:
            await self._stop()
            await asyncio.get_running_loop().run_in_executor(self._threads, self._drop)
        finally:
            self._release(self)

    async def _stop(self) -> None:
        """Kill what runs. Again and again, because a query that is only about to start cannot be killed yet."""
        if self._pipe is not None:
            # Whoever waits for room in the pipe gets an error instead.
            self._pipe.close()
        while self._running is not None and not self._running.done():
            await asyncio.to_thread(self._kill, self.name)
            await asyncio.wait([self._running], timeout=_KILL_AGAIN_SECONDS)
        if self._running is not None and not self._running.cancelled():
            self._running.exception()

    def _drop(self) -> None:
        self.pending = b""
        with contextlib.suppress(Exception):
            if self.handle is not None:
                self.handle.close()
