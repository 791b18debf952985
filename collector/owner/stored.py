"""The store alone, opened for reading."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from collector.owner.lock import ReaderLock
from collector.settings import Settings
from collector.store.base import Store
from collector.store.migrate import describe_difference
from collector.store.opening import is_exclusive, reading_store


@dataclass(frozen=True, slots=True)
class Stored:
    """A store, and what a reader should know of it, a line each."""

    store: Store
    notes: list[str] = field(default_factory=list)


@asynccontextmanager
async def stored(settings: Settings) -> AsyncIterator[Stored]:
    """Open the store for reading: an embedded one while no process is its owner, a server's without a lock.

    Nothing is created, migrated or altered. Raises JournalOwned, and as `store.opening.open_for_reading` does.
    """
    lock = ReaderLock(settings.journal.path)
    if is_exclusive(settings):
        lock.acquire()
    try:
        async with reading_store(settings) as store:
            yield Stored(store, [note for note in [await describe_difference(store)] if note])
    finally:
        lock.release()
