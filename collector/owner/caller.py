"""A process that calls the API: it meters its calls in the journal, and reads the store."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from random import Random
from typing import TYPE_CHECKING, Self

import structlog

from collector.api.client import ApiClient, Reply, RetryPolicy
from collector.api.gateways import ApiKey, Gateway
from collector.api.throttle import buckets_for
from collector.api.transport import Exchange, Exchanging
from collector.catalogue.operation import Operation
from collector.catalogue.operations import CATALOGUE
from collector.catalogue.products.pai_llm_trace import GET_XTRACE_TOKEN, GetXtraceTokenAnswer
from collector.clock import Clock, SystemClock
from collector.errors import JournalUnavailable, Stopping
from collector.journal.journal import Journal, refuse_foreign
from collector.journal.recovery.set_aside import open_journal
from collector.memory import MemoryLimit, MemoryPool
from collector.owner.gateway import gateway_of
from collector.owner.lock import OwnerLock
from collector.owner.observing import conclude
from collector.owner.place import ids_path
from collector.owner.prices import check_prices
from collector.owner.quotas import quotas_of
from collector.owner.reader import Reader
from collector.owner.streams import operations_of
from collector.pipeline.adopt import adopt_spend
from collector.pipeline.budget import shared_prices
from collector.pipeline.clock_watch import ClockWatch
from collector.pipeline.collecting import Collecting
from collector.pipeline.meter import JournalMeter
from collector.pipeline.room import Room
from collector.pipeline.streams import ACCOUNT_SCOPE
from collector.proxies import proxy_for
from collector.settings import Settings
from collector.telemetry.metrics import Metrics
from collector.telemetry.tracing import Tracing

if TYPE_CHECKING:
    from collector.owner.recorder import Recorder

log = structlog.get_logger(__name__)


def retry_policy(settings: Settings) -> RetryPolicy:
    """Return how the configuration wants calls repeated."""
    retry = settings.api.retry
    return RetryPolicy(
        attempts_max=retry.attempts_max, base_seconds=retry.base_seconds, factor=retry.factor,
        deadline_seconds=retry.deadline_seconds,
    )  # fmt: skip


SENDS_KEY = "sends"
"""Under this name the journal keeps what went out in the last second before a clean end."""
CLEAN_END_KEY = "clean_end"


class Caller(Reader):
    """The journal, held by this process, a client, and the store opened for reading.

    Use as `async with await Caller.open(settings, key=...)`. Raises JournalOwned when another process holds the
    journal. Without a key there is no client.
    """

    is_collector = False
    """Whether this process writes the store."""

    journal: Journal
    meter: JournalMeter
    room: Room

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
        memory: MemoryLimit | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        super().__init__(settings, clock, memory)
        self._recorder = recorder
        self.random = random
        self.metrics = Metrics()
        self.client: ApiClient | None = None
        self.gateway: Gateway | None = None
        self._key = key
        self._transport = transport
        self._threaded = threaded
        self._is_service = is_service

    @classmethod
    async def open(
        cls,
        settings: Settings,
        *,
        clock: Clock | None = None,
        key: ApiKey | None = None,
        random: Random | None = None,
        transport: Exchanging | None = None,
    ) -> Self:
        """Take the journal, creating it if it is missing, and open the store as it is.

        Clock, chance and transport may be given, so that a run can be repeated.
        """
        return await cls(
            settings, clock or SystemClock(), key=key, random=random or Random(), transport=transport
        )._opened()

    async def _open(self) -> None:
        check_prices(self.settings)
        quotas = quotas_of(self.settings)
        self._check()
        refuse_foreign(self.settings.journal.path)
        lock = OwnerLock(self.settings.journal.path).acquire(is_service=self._is_service)
        self._stack.callback(lock.release)
        await self._open_journal(quotas)
        await self._open_store()
        if self._key is not None:
            self.client = await self._stack.enter_async_context(self._client(self._key))
            self.rows_received = self.client.rows_received
            if self.settings.tracing.enabled:
                tracing = Tracing(
                    self._ask_for_token, clock=self.clock, random=self.random, endpoint=self.settings.tracing.endpoint
                )
                await self._stack.enter_async_context(tracing)

    def _check(self) -> None:
        """Check what can only be checked with all of the configuration. Raises ConfigError."""

    async def _open_journal(self, quotas: Mapping[str, int]) -> None:
        settings = self.settings
        self.journal, self.journal_set_aside = open_journal(
            settings.journal.path,
            shared_prices(self.prices(), self._part),
            region=settings.api.region,
            now=self.clock.wall(),
            threaded=self._threaded,
        )
        self._stack.callback(self.journal.close)
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

    def _client(self, key: ApiKey) -> ApiClient:
        api = self.settings.api
        self.gateway = gateway_of(self.settings, key, self.clock, self.server_clock)
        for url in {self.gateway.base_url(operation) for operation in operations_of(self.settings)}:
            # An unusable one ends the start, not each call.
            proxy_for(url)
        self.meter = JournalMeter(self.journal, self.server_clock, self.budget)
        recorder, gateway = self._recorder, self.gateway

        def record(
            operation: Operation | None, parameters: Mapping[str, object], exchange: Exchange, seconds: float
        ) -> None:
            if recorder is not None:
                recorder.note(operation, parameters, exchange, seconds, gateway.redact)

        return ApiClient(
            self.gateway,
            clock=self.clock,
            server_clock=self.server_clock,
            meter=self.meter,
            buckets=self.buckets,
            policy=retry_policy(self.settings),
            random=self.random,
            concurrency_max=api.concurrency_max,
            timeout_seconds=api.timeout_seconds,
            transport=self._transport,
            observe=lambda operation, http_status, code, seconds: self.metrics.observe(
                operation.name, http_status, code, seconds
            ),
            record=record,
        )

    @property
    def is_journal_full(self) -> bool:
        """Whether something waits because the journal or its disk has no room."""
        return self.room.is_full

    @property
    def journal_trouble(self) -> str:
        """Why something waits for the journal, empty if nothing does."""
        if self.room.is_full:
            return f"{self.room.trouble}; collecting waits"
        if not self.journal.is_in_place:
            return "the journal's file was removed or replaced; a new one is begun once its rows are stored"
        return ""

    async def _ask_for_token(self) -> GetXtraceTokenAnswer:
        assert self.client is not None
        reply = await self.client.request(GET_XTRACE_TOKEN, ACCOUNT_SCOPE, {})
        await self.journal.settle(reply.attempt)
        assert isinstance(reply.answer, GetXtraceTokenAnswer)
        return reply.answer

    # The quota outlives a process: the service still counts what an earlier one sent

    async def _restore_sends(self, clean_end: int | None) -> None:
        if clean_end is None and not ids_path(self.settings.journal.path).exists():
            # The journal is new, and the first one here: nobody sent anything before.
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

    def collecting(self) -> Collecting:
        """Return the parts that collect. Raises AssertionError without a client."""
        assert self.client is not None, "without a key nothing can be collected"
        return Collecting(
            self.journal, self.client, self.clock, self.server_clock, self.room, self.watch(), self.bounds,
            second_bytes_max=self.settings.journal.bytes_max // 2,
        )  # fmt: skip

    def watch(self) -> ClockWatch:
        """Return what keeps the time right. Raises AssertionError without a client."""
        assert self.client is not None, "without a key the time cannot be asked for"
        region = self.settings.api.region
        return ClockWatch(self.journal, self.client, self.clock, self.server_clock, self.streams, region)

    async def conclude(self, operation: Operation, parameters: Mapping[str, object], reply: Reply) -> bool:
        """Settle a call that a person asked for; true when what it showed was new and is journaled."""
        return await conclude(self.collecting(), self.store, self.settings.api.region, operation, parameters, reply)

    @asynccontextmanager
    async def asking(self) -> AsyncIterator[None]:
        """While the body runs, calls may be made: the server's time and the month's spend are known."""
        if self.client is not None:
            await self.watch().begin()
        await self.start_month()
        if self.client is not None:
            await self.watch().settle()
        yield

    async def start_month(self) -> None:
        """Begin the billing month with what the store has of it, where the journal is new to it."""
        await adopt_spend(self.journal, self.store, self.settings.api.region, self.server_clock.now())
