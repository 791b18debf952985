"""The object graph of an owner, built from the settings and taken down in the reverse order."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Self

import structlog

from collector.admission import Admission
from collector.api.gateways import ApiKey
from collector.api.transport import Exchanging
from collector.clock import Clock, SystemClock
from collector.errors import ConfigError, JournalError, Stopping, StoreUnavailable
from collector.journal.outgoing import Limits, Outgoing
from collector.memory import MemoryLimit, MemoryPool
from collector.owner.at_work import AtWork
from collector.owner.caller import Caller, retry_policy
from collector.owner.gateway import check_endpoints
from collector.owner.place import gone_from
from collector.owner.prices import check_prices
from collector.owner.quotas import quotas_of
from collector.owner.recorder import Recorder
from collector.owner.reloading import fixed_changes
from collector.owner.shards import JournalMembership, check_discovery
from collector.owner.streams import stages
from collector.pipeline.budget import shared_prices
from collector.pipeline.membership import Membership
from collector.pipeline.run import OnceRunner
from collector.pipeline.service import Service
from collector.pipeline.ship import Haste, Shipper, Shipping
from collector.pipeline.streams import Streams
from collector.pipeline.without_store import KnownStreams, NoShipping
from collector.settings import Settings
from collector.store.base import Store
from collector.store.migrate import is_new, migrate
from collector.store.opening import is_exclusive, open_store
from collector.store.shape import apply_shape

log = structlog.get_logger(__name__)


class Owner(Caller):
    """A process that collects: it writes the store, and creates and migrates its tables.

    Use as `async with await Owner.open(settings, key=...)`. Raises JournalOwned when another process holds the
    journal. Without a key there is no client.
    """

    is_collector = True

    outgoing: Outgoing
    membership: JournalMembership

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        *,
        key: ApiKey | None,
        random: Random,
        transport: Exchanging | None = None,
        threaded: bool = True,
        is_service: bool = False,
        store: Store | None = None,
        memory: MemoryLimit | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        super().__init__(
            settings, clock, key=key, random=random, transport=transport, threaded=threaded, is_service=is_service,
            memory=memory, recorder=recorder,
        )  # fmt: skip
        self._given_store = store
        self.admission = Admission()
        """Permits for readers' requests, whichever listener they come to."""
        self.haste = Haste()
        """Entered by what waits for rows of the journal to reach the store."""
        self.at_work = AtWork(self)
        """What commands that collect work in."""

    @classmethod
    async def open(
        cls,
        settings: Settings,
        *,
        clock: Clock | None = None,
        key: ApiKey | None = None,
        random: Random | None = None,
        transport: Exchanging | None = None,
        threaded: bool = True,
        is_service: bool = False,
        store: Store | None = None,
        memory: MemoryLimit | None = None,
        recorder: Recorder | None = None,
    ) -> Self:
        """Take journal and store, creating what is missing, and bring the store's tables up to date.

        A store that is given is used as it is and stays open at the end. Clock, chance and transport may be given
        too, so that a run can be repeated. Without `threaded` the journal works in the caller's thread. `memory` is
        read from the system unless it is given.
        """
        return await cls(
            settings, clock or SystemClock(), key=key, random=random or Random(), transport=transport,
            threaded=threaded, is_service=is_service, store=store, memory=memory, recorder=recorder,
        )._opened()  # fmt: skip

    def _check(self) -> None:
        check_discovery(self.settings, is_exclusive=self._is_exclusive)

    async def _open_store(self) -> None:
        self.outgoing = Outgoing(self.journal)
        if self._given_store is None:
            self.store = await open_store(self.settings, self.bounds)
            self._stack.push_async_callback(self.store.close)
            await bring_up_to_date(self.store, self.settings)
        else:
            self.store = self._given_store
        self.lateness = self._lateness()
        self.membership = JournalMembership(
            self.store,
            self.journal,
            self.settings.api.region,
            self.settings.share,
            self.clock,
            self.server_clock,
            socket.gethostname(),
            is_exclusive=self._is_exclusive,
            gone=gone_from(self.journal.path, str(await self.journal.meta("id"))),
            is_patient=self._is_service,
        )
        self._stack.push_async_callback(self._leave)

    @property
    def _is_exclusive(self) -> bool:
        """Whether no other process can have the store open."""
        return self._given_store is None and is_exclusive(self.settings)

    @asynccontextmanager
    async def asking(self) -> AsyncIterator[None]:
        """See `Caller.asking`; what is journaled is shipped meanwhile."""
        async with self.at_work():
            yield

    @property
    def not_begun(self) -> str:
        """Why this process, which is to collect, has not begun; empty if it has, or is not to."""
        if not self._is_service or (self.service_running is not None and self.service_running.facts().is_started):
            return ""
        waited_for = self.membership.begins_after
        return f"the journal {waited_for} of this shard was alive a moment ago" if waited_for else "it starts"

    async def _leave(self) -> None:
        """Tell the others at the end what this journal still holds."""
        try:
            await self.membership.leave()
        except (StoreUnavailable, JournalError, Stopping) as error:
            # The others then go on waiting for its streams until it has come back.
            log.warning("leave_failed", error=str(error))

    @property
    def shipping_error(self) -> str | None:
        """Why the last segment could not be shipped, None while the store takes them."""
        collecting = self.service_running or self.runner
        return (collecting.shipped.last_error if collecting else "") or None

    # Work

    def shipper(self, on_watermark: Callable[[int, int], None] = lambda stream_id, watermark: None) -> Shipper:
        """What brings the journal's rows to the store."""
        limits = Limits(
            flush_interval_seconds=self.settings.store.flush_interval_seconds, bytes_max=self.bounds.segment
        )
        return Shipper(
            self.outgoing, self.store, self.clock, self.server_clock, limits, on_watermark,
            memory=MemoryPool(self.bounds.shipping), haste=self.haste, confirm_alive=self.membership.confirm_alive,
        )  # fmt: skip

    def once(self, only: Sequence[str] = ()) -> OnceRunner:
        """A run that catches every stream up; `only` narrows the sources by name."""
        self.runner = OnceRunner(
            region=self.settings.api.region,
            store=self.store,
            shipper=self.shipper(),
            collecting=self.collecting(),
            workers_max=self.settings.api.concurrency_max,
            stages=stages(self.settings, self.journal, only, self._elsewhere, self.lateness),
            membership=self.membership,
        )
        return self.runner

    def service(self, only: Sequence[str] = ()) -> Service:
        """What collects until it is told to stop; `only` narrows the sources by name."""
        return self._service(only, self.shipper, self.membership, self.start_month)

    async def service_without_store(self, error: StoreUnavailable, only: Sequence[str] = ()) -> Service:
        """What collects the streams that the journal knows into it, and ships nothing."""

        async def begin() -> None:
            # The journal has the month's spend, unless the month is new, and then there is none.
            return None

        known = KnownStreams(await self.journal.streams())
        return self._service(only, lambda on_watermark: NoShipping(error), known, begin)

    def _service(
        self,
        only: Sequence[str],
        shipper: Callable[[Callable[[int, int], None]], Shipping],
        membership: Membership,
        begin: Callable[[], Awaitable[None]],
    ) -> Service:
        async def find() -> list[Streams]:
            return [streams for streams in await self.streams() if not only or streams.name in (*only, "inventory")]

        self.service_running = Service(
            region=self.settings.api.region,
            store=self.store,
            shipper=shipper,
            collecting=self.collecting(),
            find=find,
            capacity=self._capacity,
            concurrency_max=self.settings.api.concurrency_max,
            flush_interval_seconds=self.settings.store.flush_interval_seconds,
            grace_seconds=self.settings.service.grace_seconds,
            begin=begin,
            membership=membership,
            renew=self.renew,
        )
        return self.service_running

    async def renew(self) -> None:
        """Look for other credentials. Raises ApiError and ConfigError where there are none that could be used."""
        assert self.gateway is not None
        await self.gateway.reload()

    def _capacity(self, operation: str) -> float:
        bucket = self.buckets[operation]
        return bucket.rate_limit / bucket.window_seconds

    def reconfigure(self, settings: Settings) -> None:
        """Go on with another configuration. Raises ConfigError, and then nothing has changed.

        What decides which files, accounts and endpoints this process works with cannot change while it runs.
        """
        mistakes = [f"{key}: changed; restart to apply it" for key in fixed_changes(self.settings, settings)]
        if mistakes:
            raise ConfigError(mistakes)
        check_endpoints(settings)
        check_prices(settings)
        check_discovery(settings, is_exclusive=self._is_exclusive)
        quotas = quotas_of(settings)
        self.settings = settings
        for name, bucket in self.buckets.items():
            bucket.change_limit(quotas[name])
        self.meter.change(budget=self.budget, prices=shared_prices(self.prices(), self._part))
        if self.client is not None:
            self.client.policy = retry_policy(settings)
        if self.service_running is not None:
            self.service_running.grace_seconds = settings.service.grace_seconds
            self.service_running.reload()


async def bring_up_to_date(store: Store, settings: Settings) -> None:
    """Apply to a store what its tables lack: migrations, and what the configuration decides about tables."""
    applied = await migrate(store)
    altered = await apply_shape(store, settings.store)
    # A store that is new is altered as a matter of course.
    for statement in () if is_new(applied) else altered:
        log.info("table_altered", statement=statement)
