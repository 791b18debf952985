"""The object graph of an owner, built from the settings and taken down in the reverse order."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random
from typing import Self

import structlog

from collector.api.client import ApiClient, RetryPolicy
from collector.api.gateways import BearerGateway
from collector.api.operations import CATALOGUE, Price
from collector.api.throttle import TokenBucket, buckets_for
from collector.clock import Clock, ServerClock, SystemClock
from collector.journal.journal import Journal
from collector.journal.outgoing import Limits, Outgoing
from collector.owner.lock import OwnerLock
from collector.owner.set_aside import open_journal
from collector.pipeline.meter import JournalMeter
from collector.pipeline.room import Room
from collector.pipeline.run import OnceRunner
from collector.pipeline.ship import Shipper
from collector.pipeline.streams import SnapshotStreams, Streams, SyslogStreams
from collector.settings import Settings
from collector.sources.syslogs import SyslogSource
from collector.sources.user_metrics import UserMetricsSource
from collector.store.embedded import EmbeddedStore
from collector.store.migrate import migrate
from collector.units import format_duration

log = structlog.get_logger(__name__)

SENDS_KEY = "sends"
"""Under this name the journal keeps what went out in the last second before a clean end."""
CLEAN_END_KEY = "clean_end"


class Owner:
    """Journal, store and client of one configuration, held by this process.

    Use as `async with await Owner.open(settings)`. Raises OwnedElsewhere when another process is
    the owner. Without a key there is no client: enough for reading.
    """

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.settings = settings
        self.clock = clock
        self.server_clock = ServerClock(clock)
        self.journal_set_aside: Path | None = None
        """Where a damaged journal was moved to at this start."""
        self.runner: OnceRunner | None = None
        self.client: ApiClient | None = None
        self.journal: Journal
        self.store: EmbeddedStore
        self.outgoing: Outgoing
        self.buckets: dict[str, TokenBucket] = {}
        self._stack = AsyncExitStack()

    @classmethod
    async def open(
        cls, settings: Settings, *, key: str | None = None, clock: Clock | None = None, migrated: bool = True
    ) -> Self:
        """Become the owner, open everything and, with `migrated`, bring the store's tables up to date."""
        owner = cls(settings, clock or SystemClock())
        try:
            await owner._open(key, migrated)
        except BaseException:
            await owner._stack.aclose()
            raise
        return owner

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    async def close(self) -> None:
        """End cleanly: what went out last is remembered, then everything is let go of."""
        await self._stack.aclose()

    async def _open(self, key: str | None, migrated: bool) -> None:
        settings = self.settings
        lock = OwnerLock(settings.journal.path).acquire()
        self._stack.callback(lock.release)
        self.journal, self.journal_set_aside = open_journal(
            settings.journal.path, self.prices(), region=settings.api.region, now=self.clock.wall()
        )
        self._stack.callback(self.journal.close)
        clean_end = await self.journal.meta(CLEAN_END_KEY)
        await self.journal.start()
        if self.journal.unknown_calls:
            log.warning("calls_unsettled", calls=self.journal.unknown_calls)
        self.buckets = buckets_for(CATALOGUE.values(), self.clock, settings.api.quotas)
        await self._restore_sends(clean_end)
        await self.journal.set_meta(**{CLEAN_END_KEY: 0})
        self._stack.push_async_callback(self._remember_sends)
        self.store = await EmbeddedStore.open(settings.store.path)
        self._stack.push_async_callback(self.store.close)
        if migrated:
            await migrate(self.store)
        self.outgoing = Outgoing(self.journal)
        if key is not None:
            self.client = await self._stack.enter_async_context(self._client(key))

    def prices(self) -> dict[str, Price | None]:
        """Price of each operation: the catalogue's, or the configuration's over it."""
        overrides = self.settings.api.prices
        return {
            name: Price(overrides[name].cny, overrides[name].free_calls_per_month) if name in overrides else row.price
            for name, row in CATALOGUE.items()
        }

    def _client(self, key: str) -> ApiClient:
        api = self.settings.api
        return ApiClient(
            BearerGateway(key, site=api.site, base_url=api.base_url),
            clock=self.clock,
            server_clock=self.server_clock,
            meter=JournalMeter(self.journal, self.server_clock),
            buckets=self.buckets,
            policy=RetryPolicy(),
            random=Random(),
            concurrency_max=api.concurrency_max,
            timeout_seconds=api.timeout_seconds,
        )

    @property
    def shipping_error(self) -> str | None:
        """Why the last segment could not be shipped, None while the store takes them."""
        return (self.runner.shipped.last_error if self.runner else "") or None

    # The quota outlives a process: the service still counts what an earlier one sent

    async def _restore_sends(self, clean_end: int | None) -> None:
        if clean_end is None:
            # The journal is new: nobody sent anything before.
            return
        if not clean_end:
            for bucket in self.buckets.values():
                bucket.assume_spent()
            return
        told = json.loads(await self.journal.meta(SENDS_KEY))
        # A wall clock that stepped must not make the past look longer ago than it is.
        passed = max(0.0, self.clock.wall() - told["at"]) if self.clock.wall() >= told["at"] else 0.0
        for name, seconds_ago in told["sends"].items():
            if name in self.buckets:
                self.buckets[name].restore([ago + passed for ago in seconds_ago])

    async def _remember_sends(self) -> None:
        sends = {name: bucket.snapshot() for name, bucket in self.buckets.items()}
        told = json.dumps({"at": self.clock.wall(), "sends": sends})
        await self.journal.set_meta(**{SENDS_KEY: told, CLEAN_END_KEY: 1})

    # Work

    def sources(self, only: Sequence[str] = ()) -> list[Streams]:
        """The enabled sources that have targets; `only` narrows them by name."""
        settings = self.settings
        found: list[Streams] = []
        syslogs = settings.sources.syslogs
        if syslogs.enabled and settings.targets.nodes:
            found.append(
                SyslogStreams(
                    SyslogSource(),
                    settings.targets.nodes,
                    settle=syslogs.settle_seconds,
                    initial_lookback=syslogs.initial_lookback_seconds,
                    rechecks=syslogs.recheck_seconds,
                )
            )
        usage = settings.sources.user_metrics
        if usage.enabled and settings.targets.resource_groups:
            source = UserMetricsSource(
                page_size=usage.page_size, time_step=format_duration(usage.time_step_seconds, largest="h")
            )
            found.append(SnapshotStreams(source, settings.targets.resource_groups, interval=usage.interval_seconds))
        return [source for source in found if not only or source.name in only]

    def once(self, only: Sequence[str] = ()) -> OnceRunner:
        """A run that catches every stream up."""
        assert self.client is not None, "an owner without a key cannot collect"
        api = self.settings.api
        limits = Limits(flush_interval_seconds=self.settings.store.flush_interval_seconds)
        self.runner = OnceRunner(
            region=api.region,
            journal=self.journal,
            store=self.store,
            client=self.client,
            server_clock=self.server_clock,
            shipper=Shipper(self.outgoing, self.store, self.clock, self.server_clock, limits),
            room=Room(self.journal, self.settings.journal.bytes_max, self.clock),
            clock=self.clock,
            workers_max=api.concurrency_max,
            sources=self.sources(only),
        )
        return self.runner
