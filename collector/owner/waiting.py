"""Waiting for a journal that a short-lived command holds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, TypeVar

import structlog

from collector.clock import Clock, SystemClock, wait_for
from collector.owner.lock import Holder, JournalOwned, OwnerLock
from collector.settings import Settings

T = TypeVar("T")

log = structlog.get_logger(__name__)

WAIT_SECONDS_MAX: Final = 60.0
"""Longer than any reader's query may take."""
TRY_AGAIN_SECONDS: Final = 0.1


def ends_soon(holder: Holder) -> bool:
    """Whether a holder ends without being stopped: all but a service."""
    return not holder.is_service


def only_reads(holder: Holder) -> bool:
    """Whether a holder only reads."""
    return holder.is_reading


async def wait_for_journal(
    opened: Callable[[], Awaitable[T]],
    clock: Clock,
    is_waited_for: Callable[[Holder], bool] = only_reads,
    stop: asyncio.Event | None = None,
) -> T:
    """Call `opened` again while it raises JournalOwned for a holder that is waited for, 60 s at most.

    Raises JournalOwned for any other holder, after that time, and when `stop` is set.
    """
    stop = stop or asyncio.Event()
    deadline = clock.monotonic() + WAIT_SECONDS_MAX
    is_logged = False
    while True:
        try:
            return await opened()
        except JournalOwned as error:
            if stop.is_set() or not is_waited_for(error.holder) or clock.monotonic() >= deadline:
                raise
            if not is_logged:
                log.warning("journal_waited_for", holder=str(error.holder), seconds_max=WAIT_SECONDS_MAX)
                is_logged = True
        await wait_for(stop, clock, TRY_AGAIN_SECONDS)


@asynccontextmanager
async def taken(settings: Settings, clock: Clock | None = None) -> AsyncIterator[None]:
    """Hold the journal's lock while the body runs; readers are waited for. Raises JournalOwned."""

    async def opened() -> OwnerLock:
        return OwnerLock(settings.journal.path).acquire()

    lock = await wait_for_journal(opened, clock or SystemClock())
    try:
        yield
    finally:
        lock.release()
