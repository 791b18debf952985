"""Journal and store of one configuration, opened for reading."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Self

from collector.api.throttle import TokenBucket, buckets_for
from collector.catalogue.operation import Price
from collector.catalogue.operations import CATALOGUE
from collector.clock import Clock, ServerClock, SystemClock
from collector.journal.entries import KnownObject
from collector.journal.journal import JournalReads
from collector.journal.reading import JournalFile
from collector.memory import MemoryLimit, bounds_of, memory_limit
from collector.model import StreamKey
from collector.owner.cloud_targets import Listed, mismatches, watches_cloud_metrics
from collector.owner.lock import ReaderLock
from collector.owner.prices import check_prices, prices_of
from collector.owner.quotas import quotas_of
from collector.owner.streams import discovered, everything
from collector.pipeline.adopt import stored_objects
from collector.pipeline.budget import Budget
from collector.pipeline.lateness import Lateness
from collector.pipeline.streams import Streams
from collector.settings import SETTLE_AUTO_SECONDS, Settings
from collector.shares import Share
from collector.sources.inventory import InventorySource
from collector.store.away import AwayStore
from collector.store.base import Store
from collector.store.migrate import describe_difference
from collector.store.opening import reading_store

if TYPE_CHECKING:
    from pathlib import Path

    from collector.pipeline.run import OnceRunner
    from collector.pipeline.service import Service


class Reader:
    """What can be read of a collector's history and state; nothing is created, migrated or altered.

    Use as `async with await Reader.open(settings)`. Raises JournalOwned while a process collects or calls.
    """

    runner: OnceRunner | None = None
    service_running: Service | None = None
    rows_received: Mapping[str, int] | None = None
    """Operation -> records received since the start; None where this process calls nothing."""
    sql_address: str = ""
    """Where ClickHouse's clients are answered; empty where they are not."""
    journal_set_aside: Path | None = None
    """Where a damaged journal was moved to at this start."""

    journal: JournalReads
    store: Store
    lateness: Lateness

    def __init__(self, settings: Settings, clock: Clock, memory: MemoryLimit | None = None) -> None:
        self.settings = settings
        self.bounds = bounds_of(memory or memory_limit())
        self.clock = clock
        self.server_clock = ServerClock(clock)
        self.buckets: dict[str, TokenBucket] = {}
        self.notes: list[str] = []
        """What a reader should know of the store, a line each."""
        self._stack = AsyncExitStack()

    @classmethod
    async def open(cls, settings: Settings, *, clock: Clock | None = None) -> Self:
        """Open journal and store. What does not exist is read as empty."""
        return await cls(settings, clock or SystemClock())._opened()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Release everything, in the reverse order."""
        await self._stack.aclose()

    async def _opened(self) -> Self:
        try:
            await self._open()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def _open(self) -> None:
        check_prices(self.settings)
        self.buckets = buckets_for(CATALOGUE.values(), self.clock, quotas_of(self.settings))
        lock = ReaderLock(self.settings.journal.path).acquire()
        self._stack.callback(lock.release)
        self.journal = self._stack.enter_context(JournalFile.open(self.settings.journal.path))
        await self._open_store()

    async def _open_store(self) -> None:
        """Open the store, and note how its tables differ from this program's."""
        self.store = await self._stack.enter_async_context(reading_store(self.settings, self.bounds))
        self.notes += filter(None, [await describe_difference(self.store)])
        self.lateness = self._lateness()

    def _lateness(self) -> Lateness:
        region = self.settings.api.region
        return Lateness(self.store, region, self.clock, self.server_clock, SETTLE_AUTO_SECONDS)

    def prices(self) -> dict[str, Price | None]:
        """Return the price of each operation: the configuration's, else the catalogue's."""
        return prices_of(self.settings)

    @property
    def budget(self) -> Budget:
        """What the calls of this process may cost in a billing month."""
        budget = self.settings.budget
        return Budget.of(budget.monthly_cny, budget.on_reached, self._part)

    @property
    def not_begun(self) -> str:
        """Why this process, which is to collect, has not begun; empty if it has, or is not to."""
        return ""

    @property
    def is_journal_full(self) -> bool:
        """Whether something waits because the journal or its disk has no room."""
        return False

    @property
    def journal_trouble(self) -> str:
        """Why something waits for the journal, empty if nothing does."""
        return ""

    @property
    def shipping_error(self) -> str | None:
        """Why the last segment could not be shipped, None while the store takes them."""
        return None

    async def streams(self, settings: Settings | None = None) -> list[Streams]:
        """Return every stream of the configuration, or of other settings, with what is discovered so far."""
        return await everything(settings or self.settings, self.journal, self._elsewhere, self.lateness)

    async def mismatches(self) -> list[str]:
        """Return what the configuration asks CloudMonitor for and its lists, as far as they are read, do not have."""
        if not watches_cloud_metrics(self.settings):
            return []
        return mismatches(self.settings.sources.cloud_metrics, await self.listed())

    async def listed(self) -> Listed:
        """Return what CloudMonitor's lists have shown."""
        return (await discovered(self.settings, self.journal, self._elsewhere)).listed

    async def _elsewhere(self, source: InventorySource, key: StreamKey) -> list[KnownObject] | None:
        if self.settings.share.owns(key):
            return None
        # What another shard discovers is only known to the store.
        return [] if isinstance(self.store, AwayStore) else await stored_objects(self.store, source, key)

    @property
    def _part(self) -> Share | None:
        """This process's part of what the shards divide, None where it is alone."""
        share = self.settings.share
        return None if share.is_alone else share
