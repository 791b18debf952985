"""Catch every stream up, once: collecting and shipping side by side until nothing is due."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

import structlog

from collector.api.client import ApiClient
from collector.clock import Clock, ServerClock
from collector.errors import ApiError, CredentialsError, ForbiddenError
from collector.journal.entries import StreamState
from collector.journal.journal import Journal
from collector.journal.ledger import billing_month
from collector.model import StreamKey
from collector.pipeline.adopt import adopt_spend, adopt_streams
from collector.pipeline.collect import Collector
from collector.pipeline.room import Room
from collector.pipeline.ship import Shipped, Shipper
from collector.pipeline.streams import Streams
from collector.store.base import Store

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Progress:
    """How far one source is: seconds of event time for windows, ticks for snapshots."""

    total: int = 0
    done: int = 0
    streams: int = 0
    tables: tuple[str, ...] = ()
    """The tables that the source fills."""


@dataclass(slots=True)
class RunReport:
    """What a run did, for its displays and its exit status."""

    sources: dict[str, Progress] = field(default_factory=dict)
    failures: dict[StreamKey, ApiError] = field(default_factory=dict)
    """Streams that are not caught up, with the reason."""
    credentials: CredentialsError | None = None
    """Set when the key was refused: nothing more could be asked."""
    calls: dict[str, int] = field(default_factory=dict)
    """Calls made, by operation."""
    cost_cny: Decimal = Decimal(0)
    """What they cost after the free tier."""

    @property
    def streams(self) -> int:
        return sum(progress.streams for progress in self.sources.values())

    @property
    def refused(self) -> bool:
        """True when credentials are the reason why nothing was collected (401, or 403 everywhere)."""
        forbidden = sum(isinstance(error, ForbiddenError) for error in self.failures.values())
        return self.credentials is not None or 0 < self.streams == forbidden


class OnceRunner:
    """One run over every stream of the given sources."""

    def __init__(
        self,
        *,
        region: str,
        journal: Journal,
        store: Store,
        client: ApiClient,
        server_clock: ServerClock,
        shipper: Shipper,
        room: Room,
        clock: Clock,
        workers_max: int,
        sources: Sequence[Streams],
    ) -> None:
        self._region = region
        self._journal = journal
        self._store = store
        self._client = client
        self._server_clock = server_clock
        self._collector = Collector(journal, client, clock, server_clock, room, on_page=self.note)
        self._shipper = shipper
        self._workers_max = workers_max
        self._sources = sources
        self.report = RunReport()
        self._due: dict[int, tuple[Streams, int, int]] = {}
        """Stream row -> its source, the time up to which it is collected, and what is left of it."""

    def note(self, state: StreamState) -> None:
        """Take note of a page that was committed, for displays."""
        source, now, before = self._due[state.id]
        left = source.due(state, now)
        self.report.sources[source.name].done += max(0, before - left)
        self._due[state.id] = (source, now, left)

    @property
    def shipped(self) -> Shipped:
        """What has reached the store so far."""
        return self._shipper.shipped

    async def run(self) -> RunReport:
        """Collect all that is due now, and ship it.

        A stream that fails does not stop the others; a refused key does. Raises StoreUnavailable
        when rows cannot be shipped: they stay in the journal.
        """
        await self._client.read_clock()
        if self._server_clock.machine_is_off:
            log.warning("clock_differs", difference_seconds=round(self._server_clock.difference_seconds, 1))
        # Fixed here: a run that chased the clock would never end.
        now = self._server_clock.date if self._server_clock.date is not None else self._server_clock.now()
        await adopt_spend(self._journal, self._store, self._region, now)
        month = billing_month(now)
        spent_before = await self._journal.spend(month)
        work = await self._plan(now)
        stop = asyncio.Event()
        shipping = asyncio.create_task(self._shipper.run(stop), name="ship")
        collecting = asyncio.create_task(self._collect(work, now), name="collect")
        try:
            await asyncio.wait({shipping, collecting}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not collecting.done():
                collecting.cancel()
            stop.set()
            outcomes = await asyncio.gather(collecting, shipping, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome
        await self._shipper.drain()
        self._account(spent_before, await self._journal.spend(month))
        return self.report

    def _account(self, before: list[tuple[str, int, Decimal]], after: list[tuple[str, int, Decimal]]) -> None:
        earlier = {operation: (calls, cost) for operation, calls, cost in before}
        for operation, calls, cost in after:
            calls_before, cost_before = earlier.get(operation, (0, Decimal(0)))
            self.report.calls[operation] = calls - calls_before
            self.report.cost_cny += cost - cost_before

    async def _plan(self, now: int) -> list[tuple[Streams, StreamState]]:
        by_source: list[list[tuple[Streams, StreamState]]] = []
        for source in self._sources:
            keys = source.keys(self._region)
            await adopt_streams(self._journal, self._store, keys, source.tables, source.rechecks)
            states = await self._journal.streams()
            due = {states[key].id: source.due(states[key], now) for key in keys}
            self._due |= {stream_id: (source, now, left) for stream_id, left in due.items()}
            self.report.sources[source.name] = Progress(
                total=sum(due.values()),
                streams=len(keys),
                tables=tuple(table.name for table in source.tables),
            )
            by_source.append([(source, states[key]) for key in keys])
        # Snapshots first: they cannot be asked for later, windows can.
        by_source.sort(key=lambda streams: bool(streams and streams[0][0].rechecks))
        return [stream for streams in by_source for stream in streams]

    async def _collect(self, work: Sequence[tuple[Streams, StreamState]], now: int) -> None:
        queue = iter(work)
        async with asyncio.TaskGroup() as group:
            for _ in range(min(self._workers_max, len(work))):
                group.create_task(self._worker(queue, now))

    async def _worker(self, queue: Iterator[tuple[Streams, StreamState]], now: int) -> None:
        for source, state in queue:
            try:
                await source.catch_up(self._collector, state, now, self._server_clock)
            except CredentialsError as error:
                if self.report.credentials is None:
                    log.error("credentials_refused", operation=error.operation, code=error.code)
                self.report.credentials = error
                self.report.failures[state.key] = error
                await self._journal.set_error(state.id, str(error), self._server_clock.now())
            except ApiError as error:
                log.error("stream_failed", stream=str(state.key), error=str(error))
                self.report.failures[state.key] = error
                await self._journal.set_error(state.id, str(error), self._server_clock.now())
