"""The object graph of an owner, built from the settings and taken down in the reverse order."""

from __future__ import annotations

import json
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random
from typing import Any, Self

import structlog

from collector.api.client import ApiClient, Reply, RetryPolicy
from collector.api.gateways import ApiKey, Gateway
from collector.api.operation import Operation, Price
from collector.api.operations import CATALOGUE
from collector.api.products.pai_llm_trace import GET_XTRACE_TOKEN, GetXtraceTokenAnswer
from collector.api.throttle import TokenBucket, buckets_for
from collector.api.transport import Exchanging
from collector.clock import Clock, ServerClock, SystemClock
from collector.errors import ConfigError, JournalError, JournalUnavailable, Stopping, StoreUnavailable
from collector.journal.entries import KnownObject
from collector.journal.journal import Journal
from collector.journal.outgoing import Limits, Outgoing
from collector.memory import MemoryLimit, MemoryPool, bounds_of, memory_limit
from collector.model import StreamKey
from collector.owner.at_work import AtWork
from collector.owner.gateway import check_endpoints, gateway_of
from collector.owner.lock import OwnerLock
from collector.owner.observing import conclude
from collector.owner.prices import check_prices, prices_of
from collector.owner.reloading import fixed_changes
from collector.owner.set_aside import open_journal
from collector.owner.shards import JournalMembership, check_discovery, quotas_of
from collector.owner.streams import everything, operations_of, stages
from collector.pipeline.adopt import adopt_spend, stored_objects
from collector.pipeline.budget import Budget, shared_prices
from collector.pipeline.collecting import Collecting
from collector.pipeline.lateness import Lateness
from collector.pipeline.membership import Membership
from collector.pipeline.meter import JournalMeter
from collector.pipeline.room import Room
from collector.pipeline.run import OnceRunner
from collector.pipeline.service import Service
from collector.pipeline.ship import Shipper, Shipping
from collector.pipeline.streams import ACCOUNT_SCOPE, Streams
from collector.pipeline.without_store import KnownStreams, NoShipping
from collector.proxies import proxy_for
from collector.settings import SETTLE_AUTO_SECONDS, Settings
from collector.shares import Share
from collector.sources.inventory import InventorySource
from collector.store.away import AwayStore
from collector.store.base import Store
from collector.store.migrate import is_new, migrate
from collector.store.opening import is_exclusive, open_store
from collector.store.shape import apply_shape
from collector.telemetry.metrics import Metrics
from collector.telemetry.tracing import Tracing

log = structlog.get_logger(__name__)

SENDS_KEY = "sends"
"""Under this name the journal keeps what went out in the last second before a clean end."""
CLEAN_END_KEY = "clean_end"


class Owner:
    """Journal, store and client of one configuration, held by this process.

    Use as `async with await Owner.open(settings)`. Raises OwnedElsewhere when another process is
    the owner. Without a key there is no client: enough for reading.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        *,
        random: Random,
        transport: Exchanging | None = None,
        store: Store | None = None,
        threaded: bool = True,
        memory: MemoryLimit | None = None,
    ) -> None:
        self.settings = settings
        self.bounds = bounds_of(memory or memory_limit())
        self.clock = clock
        self.random = random
        self._transport = transport
        self._given_store = store
        self._threaded = threaded
        self.server_clock = ServerClock(clock)
        self.journal_set_aside: Path | None = None
        """Where a damaged journal was moved to at this start."""
        self.runner: OnceRunner | None = None
        self.service_running: Service | None = None
        self.sql_address = ""
        """Where ClickHouse's clients are answered; empty where they are not."""
        self.meter: JournalMeter
        self.at_work = AtWork(self)
        """What commands that collect work in."""
        self.metrics = Metrics()
        self.client: ApiClient | None = None
        self.gateway: Gateway | None = None
        self.journal: Journal
        self.lateness: Lateness
        self.store: Store
        self.outgoing: Outgoing
        self.room: Room
        self.buckets: dict[str, TokenBucket] = {}
        self._stack = AsyncExitStack()

    @classmethod
    async def open(
        cls,
        settings: Settings,
        *,
        key: ApiKey | None = None,
        clock: Clock | None = None,
        random: Random | None = None,
        transport: Exchanging | None = None,
        store: Store | None = None,
        threaded: bool = True,
        migrated: bool = True,
        memory: MemoryLimit | None = None,
    ) -> Self:
        """Become the owner, open everything and, with `migrated`, bring the store's tables up to date.

        Clock, chance and transport may be given, so that a run can be repeated; a store that is given stays open
        at the end. Without `threaded` the journal works in the caller's thread. `memory` is read from the system
        unless it is given.
        """
        owner = cls(
            settings, clock or SystemClock(), random=random or Random(), transport=transport, store=store,
            threaded=threaded, memory=memory,
        )  # fmt: skip
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

    async def _open(self, key: ApiKey | None, migrated: bool) -> None:
        settings = self.settings
        check_prices(settings)
        quotas = quotas_of(settings)
        check_discovery(settings, is_exclusive=self._is_exclusive)
        lock = OwnerLock(settings.journal.path).acquire()
        self._stack.callback(lock.release)
        self.journal, self.journal_set_aside = open_journal(
            settings.journal.path,
            shared_prices(self.prices(), self._part),
            region=settings.api.region,
            now=self.clock.wall(),
            threaded=self._threaded,
        )
        self._stack.callback(self.journal.close)
        self.outgoing = Outgoing(self.journal)
        # Before all that can fail from here on: it is shut at the end, however far the opening came.
        self.room = Room(
            self.journal, settings.journal.bytes_max, self.clock, threaded=self._threaded,
            memory=MemoryPool(self.bounds.pages),
        )  # fmt: skip
        clean_end = await self.journal.meta(CLEAN_END_KEY)
        await self.journal.start()
        if self.journal.unknown_calls:
            log.warning("calls_unsettled", calls=self.journal.unknown_calls)
        self.buckets = buckets_for(CATALOGUE.values(), self.clock, quotas)
        await self._restore_sends(clean_end)
        await self.journal.set_meta(**{CLEAN_END_KEY: 0})
        self._stack.push_async_callback(self._remember_sends)
        if self._given_store is None:
            self.store = await open_store(settings, self.bounds)
            self._stack.push_async_callback(self.store.close)
        else:
            self.store = self._given_store
        if migrated:
            applied = await migrate(self.store)
            altered = await apply_shape(self.store, settings.store)
            # A store that is new is altered as a matter of course.
            for statement in () if is_new(applied) else altered:
                log.info("table_altered", statement=statement)
        self.lateness = Lateness(self.store, settings.api.region, self.clock, self.server_clock, SETTLE_AUTO_SECONDS)
        self.membership = JournalMembership(
            self.store,
            self.journal,
            settings.api.region,
            settings.share,
            self.clock,
            self.server_clock,
            socket.gethostname(),
            is_exclusive=self._is_exclusive,
        )
        self._stack.push_async_callback(self._leave)
        if key is not None:
            self.client = await self._stack.enter_async_context(self._client(key))
            if self.settings.tracing.enabled:
                tracing = Tracing(
                    self._ask_for_token, clock=self.clock, random=self.random, endpoint=self.settings.tracing.endpoint
                )
                await self._stack.enter_async_context(tracing)

    def prices(self) -> dict[str, Price | None]:
        """Price of each operation: the catalogue's, or the configuration's over it."""
        return prices_of(self.settings)

    def _client(self, key: ApiKey) -> ApiClient:
        api = self.settings.api
        self.gateway = gateway_of(self.settings, key, self.clock, self.server_clock)
        for url in {self.gateway.base_url(operation) for operation in operations_of(self.settings)}:
            # An unusable one ends the start, not each call.
            proxy_for(url)
        self.meter = JournalMeter(self.journal, self.server_clock, self.budget)
        return ApiClient(
            self.gateway,
            clock=self.clock,
            server_clock=self.server_clock,
            meter=self.meter,
            buckets=self.buckets,
            policy=RetryPolicy(),
            random=self.random,
            concurrency_max=api.concurrency_max,
            timeout_seconds=api.timeout_seconds,
            transport=self._transport,
            observe=lambda operation, http_status, code, seconds: self.metrics.observe(
                operation.name, http_status, code, seconds
            ),
        )

    @property
    def budget(self) -> Budget:
        """What the calls of this process may cost in a billing month."""
        budget = self.settings.budget
        return Budget.of(budget.monthly_cny, budget.on_reached, self._part)

    @property
    def _is_exclusive(self) -> bool:
        """Whether no other process can have the store open."""
        return self._given_store is None and is_exclusive(self.settings)

    @property
    def _part(self) -> Share | None:
        """This process's part of what the shards divide, None where it is alone."""
        share = self.settings.share
        return None if share.is_alone else share

    async def _leave(self) -> None:
        """Tell the others at the end what this journal still holds."""
        try:
            await self.membership.leave()
        except (StoreUnavailable, JournalError, Stopping) as error:
            # The others then go on waiting for its streams until it has come back.
            log.warning("leave_failed", error=str(error))

    async def _ask_for_token(self) -> GetXtraceTokenAnswer:
        assert self.client is not None
        reply = await self.client.request(GET_XTRACE_TOKEN, ACCOUNT_SCOPE, {})
        await self.journal.settle(reply.attempt)
        assert isinstance(reply.answer, GetXtraceTokenAnswer)
        return reply.answer

    @property
    def shipping_error(self) -> str | None:
        """Why the last segment could not be shipped, None while the store takes them."""
        collecting = self.service_running or self.runner
        return (collecting.shipped.last_error if collecting else "") or None

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
        self.room.shut()
        try:
            await self.journal.set_meta(**{SENDS_KEY: told, CLEAN_END_KEY: 1})
        except (JournalUnavailable, Stopping) as error:
            # The next start then takes the last second's quota for spent, as after a crash.
            log.warning("sends_forgotten", error=str(error))

    # Work

    async def streams(self) -> list[Streams]:
        """Every stream of the configuration, with what is discovered so far."""
        return await everything(self.settings, self.journal, self._elsewhere, self.lateness)

    async def _elsewhere(self, source: InventorySource, key: StreamKey) -> list[KnownObject] | None:
        if self.settings.share.owns(key):
            return None
        # What another shard discovers is only known to the store.
        return [] if isinstance(self.store, AwayStore) else await stored_objects(self.store, source, key)

    def collecting(self) -> Collecting:
        """The parts that collect. Raises AssertionError in an owner without a client."""
        assert self.client is not None, "an owner without a key cannot collect"
        return Collecting(
            self.journal, self.client, self.clock, self.server_clock, self.room, self.bounds,
            second_bytes_max=self.settings.journal.bytes_max // 2,
        )  # fmt: skip

    async def conclude(self, operation: Operation, parameters: Mapping[str, Any], reply: Reply) -> bool:
        """Settle a call that a person asked for; true when what it showed was new and is stored."""
        return await conclude(self.collecting(), self.store, self.settings.api.region, operation, parameters, reply)

    def shipper(self, on_watermark: Callable[[int, int], None] = lambda stream_id, watermark: None) -> Shipper:
        """What brings the journal's rows to the store."""
        limits = Limits(
            flush_interval_seconds=self.settings.store.flush_interval_seconds, bytes_max=self.bounds.segment
        )
        return Shipper(
            self.outgoing, self.store, self.clock, self.server_clock, limits, on_watermark,
            memory=MemoryPool(self.bounds.shipping),
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

    async def start_month(self) -> None:
        """Begin the billing month with what the store has of it, where the journal is new to it."""
        await adopt_spend(self.journal, self.store, self.settings.api.region, self.server_clock.now())

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
        if self.service_running is not None:
            self.service_running.grace_seconds = settings.service.grace_seconds
            self.service_running.reload()
