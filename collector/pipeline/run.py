"""Catch every stream up, once: collecting and shipping side by side until nothing is due."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal

import structlog

from collector.clock import STEP_SECONDS_MAX
from collector.errors import ApiError, BudgetReached, CredentialsError, ForbiddenError
from collector.journal.entries import StreamState
from collector.journal.ledger import billing_month
from collector.model import StreamKey
from collector.pipeline.adopt import adopt_spend
from collector.pipeline.collect_windows import seal_in_part
from collector.pipeline.collecting import PATIENCE_SECONDS, Collecting
from collector.pipeline.membership import ALONE, Membership
from collector.pipeline.ship import Shipped, Shipper
from collector.pipeline.streams import Streams, catch_up
from collector.store.base import Store

log = structlog.get_logger(__name__)

ROUNDING_SECONDS = 1
"""A `Date` is cut to whole seconds, so the time carried on from it may be this much later."""
PLANS_MAX = 3
"""How often a run plans what is due, where the time turns out to be another one."""

Stage = Callable[[], Awaitable[Sequence[Streams]]]
"""Names the streams of one part of a run, when the parts before it are done."""


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
    budget: BudgetReached | None = None
    """Set when calls were not made because of the budget."""
    calls: dict[str, int] = field(default_factory=dict)
    """Calls made, by operation."""
    cost_cny: Decimal = Decimal(0)
    """What they cost after the free tier."""
    held_back: set[StreamKey] = field(default_factory=set)
    """Streams that are not caught up because the budget is reached."""
    waiting: dict[str, int] = field(default_factory=dict)
    """Source -> its streams that were not polled, since another journal may hold rows of them."""
    clock: str = ""
    """Why what time it is is in doubt, so that nothing is known to be caught up; empty where it is not."""

    @property
    def streams(self) -> int:
        return sum(progress.streams for progress in self.sources.values())

    @property
    def streams_waiting(self) -> int:
        return sum(self.waiting.values())

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
        store: Store,
        shipper: Shipper,
        collecting: Collecting,
        workers_max: int,
        stages: Sequence[Stage],
        membership: Membership = ALONE,
    ) -> None:
        """`stages` are run one after another, since what one discovers are the streams of the next."""
        self._region = region
        self._store = store
        self._journal = collecting.journal
        self._client = collecting.client
        # Or each stream would wait for its own deadline while the service is away.
        self._client.gate.patience_seconds = PATIENCE_SECONDS
        self._clock = collecting.clock
        self._server_clock = collecting.server_clock
        self._watch = collecting.watch
        self._collecting = replace(collecting, on_page=self.note)
        self._shipper = shipper
        self._workers_max = workers_max
        self._stages = stages
        self._membership = membership
        self.report = RunReport()
        self._keys: dict[str, set[StreamKey]] = {}
        """Source -> its streams."""
        self._due: dict[int, tuple[Streams, int, int]] = {}
        """Stream row -> its source, the time up to which it is collected, and what is left of it."""

    def note(self, state: StreamState, records: int) -> None:
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
        await self._watch.begin()
        await self._membership.join()
        await adopt_spend(self._journal, self._store, self._region, self._server_clock.now())
        await self._watch.settle()
        month = billing_month(self._server_clock.now())
        spent_before = await self._journal.spend(month)
        stop = asyncio.Event()
        shipping = asyncio.create_task(self._shipper.run(stop), name="ship")
        collecting = asyncio.create_task(self._collect_all(), name="collect")
        telling = asyncio.create_task(self._membership.stay(), name="heartbeat")
        try:
            await asyncio.wait({shipping, collecting, telling}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not collecting.done():
                collecting.cancel()
            if not telling.done():
                telling.cancel()
            stop.set()
            outcomes = await asyncio.gather(telling, collecting, shipping, return_exceptions=True)
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

    async def _collect_all(self) -> None:
        """Collect what is due, again where the time turns out to be another one than it was planned by."""
        for _ in range(PLANS_MAX):
            # Fixed here: a run that chased the clock would never end.
            now = self._server_clock.now()
            date = self._server_clock.date
            # The time that a response has just proved, if there is one: that of an earlier run is of no use here.
            if date is not None and date < now <= date + ROUNDING_SECONDS:
                now = date
            begun = self._clock.monotonic()
            await self._collect(now)
            self.report.clock = await self._watch.confirm()
            passed = self._clock.monotonic() - begun
            for state in (await self._journal.streams()).values():
                # No other look follows in this run, and none ever of a stream that is not asked for any more.
                due = self._due.get(state.id)
                if state.open and (due is None or due[0].can_be_asked_later):
                    await seal_in_part(self._collecting, state)
            if self.report.credentials is not None or self.report.budget is not None:
                return
            if abs(self._server_clock.now() - passed - now) <= STEP_SECONDS_MAX:
                return

    async def _collect(self, now: int) -> None:
        for stage in self._stages:
            work = await self._plan(await stage(), now)
            queue = iter(work)
            async with asyncio.TaskGroup() as group:
                for _ in range(min(self._workers_max, len(work))):
                    group.create_task(self._worker(queue, now))

    async def _plan(self, sources: Sequence[Streams], now: int) -> list[tuple[Streams, StreamState]]:
        work: list[tuple[Streams, StreamState]] = []
        for source in sources:
            all_keys = source.keys(self._region)
            keys = await self._membership.claim(all_keys)
            self.report.waiting[source.name] = self._membership.held_back(all_keys)
            await source.adopt(self._journal, self._store, keys)
            known = await self._journal.streams()
            states = [state for key in keys if (state := await self._corrected(known[key], source)) is not None]
            due = {state.id: source.due(state, now) for state in states}
            self._due |= {stream_id: (source, now, left) for stream_id, left in due.items()}
            progress = self.report.sources.setdefault(source.name, Progress())
            progress.total += sum(due.values())
            self._keys.setdefault(source.name, set()).update(keys)
            progress.streams = len(self._keys[source.name])
            progress.tables = tuple(dict.fromkeys((*progress.tables, *(table.name for table in source.tables))))
            work += [(source, state) for state in states]
        # A stable sort: what cannot be asked for later goes first.
        return sorted(work, key=lambda stream: stream[0].can_be_asked_later)

    async def _corrected(self, state: StreamState, source: Streams) -> StreamState | None:
        """The stream as it is to be collected; None if it cannot be planned because of the clock."""
        try:
            return await self._watch.corrected(state, source)
        except BudgetReached as error:
            self.report.budget = error
            self.report.held_back.add(state.key)
        except ApiError as error:
            await self._note_failure(state, error)
        return None

    async def _note_failure(self, state: StreamState, error: ApiError) -> None:
        log.error("stream_failed", stream=str(state.key), error=str(error))
        self.report.failures[state.key] = error
        await self._journal.set_error(state.id, str(error), self._server_clock.now())

    async def _worker(self, queue: Iterator[tuple[Streams, StreamState]], now: int) -> None:
        for source, state in queue:
            try:
                await catch_up(source, self._collecting, state, now)
            except CredentialsError as error:
                if self.report.credentials is None:
                    log.error("credentials_refused", operation=error.operation, code=error.code)
                self.report.credentials = error
                self.report.failures[state.key] = error
                await self._journal.set_error(state.id, str(error), self._server_clock.now())
            except BudgetReached as error:
                self.report.budget = error
                self.report.held_back.add(state.key)
            except ApiError as error:
                await self._note_failure(state, error)
            else:
                # It may have failed by an earlier plan.
                self.report.failures.pop(state.key, None)
