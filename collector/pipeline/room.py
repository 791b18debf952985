"""No request goes out unless the journal and its disk have room for its largest answer; what finds none waits."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import TypeVar

import structlog

from collector.catalogue.products.pai_studio import GET_USER_VIEW_METRICS
from collector.clock import Clock, wait_for
from collector.errors import JournalFull, JournalUnavailable, Stopping
from collector.journal.journal import Journal
from collector.memory import MemoryPool, bounds_of, memory_limit, page_memory

log = structlog.get_logger(__name__)

T = TypeVar("T")

SNAPSHOT_RESERVE_BYTES = 2 * GET_USER_VIEW_METRICS.answer_bytes_max
"""Kept free for what cannot be asked again, when collecting pauses for what can."""

DISK_RESERVE_BYTES = 64 << 20
"""Left on the journal's disk for the database's own needs: its log, and the segments it freezes."""

LOOK_AGAIN_SECONDS = 0.5
FULL = "the journal or its disk is full"
SIZE_AGE_SECONDS_MAX = 1.0


def disk_free_bytes(path: Path) -> int:
    """Free bytes of the disk that a file is on."""
    return shutil.disk_usage(path.parent).free


class Room:
    """Hands out the journal's room to requests before they are sent, and has the journal outlast its disk's troubles.

    A transaction that finds the disk full, or the journal locked, unreadable or read-only, did not happen, and is made
    again until it does: what it contains has been paid for. A journal has one room.
    """

    def __init__(
        self,
        journal: Journal,
        bytes_max: int,
        clock: Clock,
        *,
        free_bytes: Callable[[Path], int] = disk_free_bytes,
        threaded: bool = True,
        memory: MemoryPool | None = None,
    ) -> None:
        """`memory` is what pages under way have in common, by default as much as the process may use for them.

        `bytes_max` is the journal's. `free_bytes` tells how much is free on the disk of a path; it is called in
        a thread, or without `threaded` at once."""
        self._journal = journal
        self._bytes_max = bytes_max
        self._clock = clock
        self._free_bytes = free_bytes
        self._threaded = threaded
        self._memory = memory or MemoryPool(bounds_of(memory_limit()).pages)
        self._promised = 0
        self._journal_bytes = 0
        self._disk_free = 0
        self._looked_at = -SIZE_AGE_SECONDS_MAX
        # The first of each kind looks, so that a thousand others cost nothing.
        self._turns = {repeatable: asyncio.Lock() for repeatable in (True, False)}
        self._given_back = asyncio.Event()
        self._stopped = asyncio.Event()
        self._lacking = 0
        """Requests and transactions that find no room at present."""
        self.trouble = ""
        """Why something waits for the journal; empty if nothing does."""
        journal.outlast = self.outlast

    @property
    def is_full(self) -> bool:
        """Whether something waits for the journal; see `trouble`."""
        return self._lacking > 0

    def shut(self) -> None:
        """Nobody waits for room any more: who does, or would have to, gets Stopping."""
        self._stopped.set()
        self._give_back(0)

    @asynccontextmanager
    async def held(self, answer_bytes: int, *, repeatable: bool) -> AsyncIterator[None]:
        """Hold room for one answer until its page is committed, on disk and, for a large one, in memory.

        What can be asked again later (`repeatable`) leaves a reserve to what cannot. Raises Stopping after `shut`.
        """
        async with self._turns[repeatable]:
            with ExitStack() as lacking:
                is_told = False
                while not await self._fits(answer_bytes, repeatable):
                    self._refuse_when_shut()
                    # Where the answers under way take the room, it comes back with them.
                    if not is_told and not self._would_fit(answer_bytes, repeatable, promised=0):
                        is_told = True
                        lacking.enter_context(self._lack())
                    await wait_for(self._given_back, self._clock, LOOK_AGAIN_SECONDS)
            self._promised += answer_bytes
        try:
            with page_memory(self._memory):
                yield
        finally:
            self._give_back(answer_bytes)

    async def outlast(self, error: JournalUnavailable, again: Callable[[], Awaitable[T]]) -> T:
        """Make a transaction again that could not be made, until it succeeds.

        Raises Stopping after `shut`, and `error` in a task that was cancelled: nothing may hold up its end.
        """
        with self._lack(None if isinstance(error, JournalFull) else error):
            while True:
                self._refuse_when_shut()
                if (task := asyncio.current_task()) is not None and task.cancelling():
                    raise error
                await wait_for(self._stopped, self._clock, LOOK_AGAIN_SECONDS)
                try:
                    return await again()
                except JournalUnavailable as failed_again:
                    error = failed_again

    def _refuse_when_shut(self) -> None:
        if self._stopped.is_set():
            raise Stopping(f"{self.trouble or FULL}, and is not waited for any more, because the program is ending")

    def _give_back(self, answer_bytes: int) -> None:
        self._promised -= answer_bytes
        self._given_back.set()
        self._given_back = asyncio.Event()

    @contextmanager
    def _lack(self, error: JournalUnavailable | None = None) -> Iterator[None]:
        self._lacking += 1
        if self._lacking == 1:
            self.trouble = FULL if error is None else str(error)
            if error is None:
                log.warning(
                    "journal_filled_up", journal_bytes=self._journal_bytes, bytes_max=self._bytes_max,
                    disk_free_bytes=self._disk_free,
                )  # fmt: skip
            else:
                log.warning("journal_unavailable", error=str(error), hint=error.hint)
        try:
            yield
        finally:
            self._lacking -= 1
            if self._lacking == 0:
                self.trouble = ""
                log.info("journal_room_returned", journal_bytes=self._journal_bytes)

    async def _fits(self, answer_bytes: int, repeatable: bool) -> bool:
        if self._clock.monotonic() - self._looked_at >= SIZE_AGE_SECONDS_MAX or self._lacking:
            await self._look()
        return self._would_fit(answer_bytes, repeatable, promised=self._promised)

    def _would_fit(self, answer_bytes: int, repeatable: bool, *, promised: int) -> bool:
        wanted = promised + answer_bytes
        if wanted + DISK_RESERVE_BYTES > self._disk_free:
            return False
        limit = self._bytes_max - (SNAPSHOT_RESERVE_BYTES if repeatable else 0)
        # With nothing under way one answer may always come in while half of the journal is free.
        if promised == 0 and self._journal_bytes <= limit // 2:
            return True
        return self._journal_bytes + wanted <= limit

    async def _look(self) -> None:
        self._journal_bytes = await self._journal.used_bytes()
        path = self._journal.path
        self._disk_free = await asyncio.to_thread(self._free_bytes, path) if self._threaded else self._free_bytes(path)
        self._looked_at = self._clock.monotonic()
