"""What a command needs that collects beside a service, or where none runs: the time, its share, and shipping."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Final

from collector.errors import OwnedElsewhere, UsageError
from collector.model import StreamKey

if TYPE_CHECKING:
    from collector.owner.instance import Owner

TOLD_SECONDS: Final = 0.25
"""Between two words on how far a work is."""
STORE_SECONDS_MAX: Final = 60.0
"""So long a work waits for a store that takes nothing; the rows are safe in the journal."""


class AtWork:
    """Shared by all commands that an owner serves at once: the store has one writer."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._users = 0
        self._stop = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._beginning = asyncio.Lock()
        self._backfilled: set[StreamKey] = set()

    @contextmanager
    def backfilling(self, keys: Iterable[StreamKey]) -> Iterator[None]:
        """Keep other backfills away from these streams. Raises UsageError where one is at work already."""
        wanted = set(keys)
        if taken := sorted(wanted & self._backfilled):
            raise UsageError(
                f"a backfill of {taken[0]} is under way", hint="wait until it ends, or name other streams with --scope"
            )
        self._backfilled |= wanted
        try:
            yield
        finally:
            self._backfilled -= wanted

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[None]:
        """While the body runs, what is journaled is shipped, by the service or here.

        Raises StoreUnavailable, UsageError where this process must not collect, and OwnedElsewhere beside a run
        that will end by itself.
        """
        if self._owner.service_running is not None:
            yield
            return
        if self._owner.runner is not None:
            raise OwnedElsewhere(
                f"{self._owner.settings.journal.path} is at work with run --once", hint="wait until it ends"
            )
        async with self._beginning:
            if not self._users:
                await self._begin()
            self._users += 1
        try:
            yield
        finally:
            self._users -= 1
            if not self._users:
                await self._end()

    async def _begin(self) -> None:
        owner = self._owner
        if owner.client is not None:
            await owner.watch().begin()
        if not owner.membership.journal_id:
            await owner.membership.join()
        await owner.start_month()
        if owner.client is not None:
            await owner.watch().settle()
        self._stop = asyncio.Event()
        self._tasks = [
            asyncio.create_task(owner.shipper().run(self._stop), name="ship"),
            asyncio.create_task(owner.membership.stay(), name="heartbeat"),
        ]

    async def _end(self) -> None:
        shipping, telling = self._tasks
        telling.cancel()
        self._stop.set()
        await asyncio.gather(shipping, telling, return_exceptions=True)
        await self._owner.shipper().drain(attempts_max=1)
