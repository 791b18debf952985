"""Collect for months: every stream at its time, shipping beside it, until told to stop.

Each operation has a queue and a dispatcher of its own, so that one never holds up another. A look is one
window, snapshot or list; a stream that is behind goes to the end of the queue after each of them, so that
streams that catch up do not starve the rest.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final

import structlog

from collector.backoff import backoff_seconds
from collector.clock import CLOCK_DIFFERENCE_SECONDS_MAX, Signal, wait_for
from collector.errors import (
    ApiError,
    BudgetReached,
    CredentialsError,
    ForbiddenError,
    JournalError,
    JournalUnavailable,
    NotFoundError,
    Stopping,
    StoreUnavailable,
    TransientError,
)
from collector.journal.entries import StreamState
from collector.model import StreamKey
from collector.pipeline.cadence import next_time, phase_of, ticks_missed
from collector.pipeline.collect_windows import seal_in_part
from collector.pipeline.collecting import Collecting
from collector.pipeline.facts import NEW, WAITING, Polls, ServiceFacts, SourceFacts, Stop, stream_state
from collector.pipeline.membership import ALONE, Membership
from collector.pipeline.schedule import Queue, Slot
from collector.pipeline.ship import Shipped, Shipping
from collector.pipeline.stops import ACCOUNT, BUDGET, CIRCUIT, OPERATION, Pause, Stops, pause_seconds
from collector.pipeline.streams import Streams
from collector.store.base import Store

log = structlog.get_logger(__name__)

RETRY_SECONDS_MIN: Final = 30.0
RETRY_SECONDS_MAX: Final = 900.0
"""Bounds of the pause after a look that failed and may work later; doubled from one to the next."""

REPLAN_SECONDS: Final = 1.0
"""Lists that change together lead to one new plan."""
CLAIM_SECONDS: Final = 30.0
"""Streams that another process may still hold are asked for again this often."""
STORE_RETRY_SECONDS: Final = 5.0
CLOCK_RETRY_SECONDS: Final = 30.0
CLOCK_NOTE_SECONDS: Final = 600.0
"""The journal remembers this often what time it is."""
SEAL_SECONDS: Final = 120.0
"""An open window that is not gone on with for longer is sealed at its last whole second."""
SHIP_SHARE: Final = 0.4
"""Part of the grace period that is kept for shipping."""
IN_FLIGHT_LOOK_SECONDS: Final = 0.02

Find = Callable[[], Awaitable[Sequence[Streams]]]
"""Names the streams that the configuration asks for, with what is discovered by now."""


@dataclass(slots=True, eq=False)
class _Lane:
    """The streams of one operation."""

    streams: Streams
    queue: Queue
    permits: asyncio.Semaphore
    slots: dict[int, Slot] = field(default_factory=dict)
    """Stream row -> its slot."""
    waiting: set[Slot] = field(default_factory=set)
    """Slots that failed because the whole operation does."""
    held_back: int = 0
    """Streams that another journal may hold rows of."""
    ticks_missed: int = 0
    late_until: float = float("-inf")
    """A tick that is missed before this, monotonic, is no news."""
    is_short: bool = False
    """It was told that the quota does not give the interval."""

    @property
    def operation(self) -> str:
        return self.streams.operation.name


class Service:
    """Every stream of a configuration, collected until told to stop."""

    def __init__(
        self,
        *,
        region: str,
        store: Store,
        shipper: Callable[[Callable[[int, int], None]], Shipping],
        collecting: Collecting,
        find: Find,
        capacity: Callable[[str], float],
        concurrency_max: int,
        flush_interval_seconds: float,
        grace_seconds: float,
        begin: Callable[[], Awaitable[None]],
        membership: Membership = ALONE,
        renew: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """`shipper` makes the shipper, given what is to be told of watermarks that move. `capacity` tells the calls a
        second that an operation's quota allows. `begin` is called once the time is known, before any call. `renew`
        looks for other credentials before a refused account is tried again."""
        self._region = region
        self._store = store
        self._journal = collecting.journal
        self._client = collecting.client
        self._clock = collecting.clock
        self._server_clock = collecting.server_clock
        self._watch = collecting.watch
        self._collecting = replace(collecting, on_page=self._note)
        self._shipper = shipper(self._moved)
        self._find = find
        self._capacity = capacity
        self._concurrency_max = concurrency_max
        self._flush_interval_seconds = flush_interval_seconds
        self.grace_seconds = grace_seconds
        self._begin = begin
        self._membership = membership
        self._renew = renew
        self._lanes: dict[tuple[str, str], _Lane] = {}
        self._slots: dict[int, Slot] = {}
        self._leaving: set[int] = set()
        """Streams that left while they were polled, until that poll is over."""
        self._stops = Stops(self._clock)
        self._lifted = asyncio.Event()
        self._replan = asyncio.Event()
        self._is_blocked = False
        self._is_started = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._looks: set[asyncio.Task[None]] = set()
        self._fault: asyncio.Future[BaseException] | None = None

    @property
    def shipped(self) -> Shipped:
        """What has reached the store so far."""
        return self._shipper.shipped

    @property
    def stream_count(self) -> int:
        return len(self._slots)

    @property
    def slots(self) -> Collection[Slot]:
        """The streams that are watched now."""
        return self._slots.values()

    # Life

    async def start(self) -> None:
        """Learn the time and the streams. Raises StoreUnavailable and JournalError."""
        await self._watch.begin()
        await self._membership.join()
        await self._begin()
        await self._watch.settle()
        await self._plan()
        await self._seal_left_over()
        self._is_started = True

    async def run(self, stop: asyncio.Event) -> None:
        """Collect and ship until `stop` is set, then end within the grace period.

        Raises JournalError, and what is a fault of the program.
        """
        self._fault = asyncio.get_running_loop().create_future()
        ship_stop = asyncio.Event()
        shipping = asyncio.ensure_future(self._shipper.run(ship_stop))
        shipping.add_done_callback(self._note_end)
        for lane in self._lanes.values():
            self._spawn(self._dispatch(lane), self._tasks)
        self._spawn(self._follow(), self._tasks)
        self._spawn(self._membership.stay(), self._tasks)
        self._spawn(self._watch_time(), self._tasks)
        stopping = asyncio.ensure_future(stop.wait())
        try:
            ends: list[asyncio.Future[Any]] = [stopping, self._fault]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            await self._end(shipping, ship_stop)
        if self._fault.done():
            raise self._fault.result()

    async def _watch_time(self) -> None:
        """Keep the time right, and poll again whatever was planned by another time.

        By a clock that is behind, streams seem to be ahead of now: none is due, so no response would tell the time.
        Until the time is settled it is asked for, ever more rarely.
        """
        confirmations = 0
        while True:
            pause = backoff_seconds(confirmations + 1, CLOCK_RETRY_SECONDS, RETRY_SECONDS_MAX)
            before, count = self._server_clock.now() - self._clock.monotonic(), self._server_clock.changed.count
            was_synced = self._server_clock.synced
            is_known = was_synced and self._server_clock.is_settled
            changed = asyncio.Event()
            waiting = asyncio.create_task(_relay(self._server_clock.changed, count, changed))
            await wait_for(changed, self._clock, CLOCK_NOTE_SECONDS if is_known else pause)
            waiting.cancel()
            if not self._server_clock.synced:
                await self._client.read_clock()
            elif not self._server_clock.is_settled:
                await self._confirm_time()
                confirmations += 1
            was_ahead = await self._watch.note()
            step = self._server_clock.now() - self._clock.monotonic() - before
            has_learned = not was_synced and abs(step) > CLOCK_DIFFERENCE_SECONDS_MAX
            if was_ahead or has_learned or self._server_clock.changed.count > count:
                for lane in self._lanes.values():
                    lane.queue.hasten(list(lane.slots.values()))
                self._replan.set()

    async def _confirm_time(self) -> None:
        try:
            await self._watch.confirm()
        except (Stopping, StoreUnavailable) as error:
            log.info("clock_not_told", error=str(error))

    async def _end(self, shipping: asyncio.Future[None], ship_stop: asyncio.Event) -> None:
        deadline = self._clock.monotonic() + self.grace_seconds
        await _cancelled(self._tasks)
        # What is sent is paid for: its answer is waited for. Nothing else goes out.
        self._client.shut()
        until = deadline - self.grace_seconds * SHIP_SHARE
        while self._client.in_flight and self._clock.monotonic() < until:
            await self._clock.sleep(IN_FLIGHT_LOOK_SECONDS)
        in_flight = self._client.in_flight
        # A page that finds the disk full until now is given up; it will be asked for again.
        self._collecting.room.shut()
        await _cancelled(self._looks)
        await self._seal_all()
        ship_stop.set()
        left = max(0.0, deadline - self._clock.monotonic())
        with suppress(TimeoutError, StoreUnavailable, JournalUnavailable, Stopping):
            async with asyncio.timeout(left):
                with suppress(Exception):
                    # Why it failed, where it did, is told by the fault.
                    await asyncio.shield(shipping)
                await self._shipper.drain(attempts_max=1)
        await _cancelled({shipping})
        rows_waiting = None
        with suppress(JournalUnavailable, Stopping):
            rows_waiting = (await self._journal.depth()).rows
        log.info("service_stopped", streams=len(self._slots), calls_in_flight=in_flight, rows_waiting=rows_waiting)

    async def _seal_left_over(self) -> None:
        """Store what an earlier process read of streams that are not asked for any more."""
        for state in (await self._journal.streams()).values():
            if state.open and state.id not in self._slots:
                await seal_in_part(self._collecting, state)

    async def _seal_all(self) -> None:
        """Nobody knows when the next start is: what was read until now is to be stored."""
        with suppress(JournalError, Stopping):
            for state in (await self._journal.streams()).values():
                slot = self._slots.get(state.id)
                if state.open and (slot is None or slot.streams.can_be_asked_later):
                    await seal_in_part(self._collecting, state)

    def _spawn(self, work: Coroutine[Any, Any, None], tasks: set[asyncio.Task[None]]) -> None:
        task = asyncio.create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        task.add_done_callback(self._note_end)

    def _note_end(self, task: asyncio.Future[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None and not _is_of_the_end(error):
            assert self._fault is not None
            if not self._fault.done():
                self._fault.set_result(error)

    # The plan: which streams there are

    def reload(self) -> None:
        """The configuration has changed: plan anew, and try again at once what is stopped."""
        self._stops.lift()
        self._lifted.set()
        self._lifted = asyncio.Event()
        for lane in self._lanes.values():
            lane.queue.hasten([slot for slot in lane.slots.values() if slot.is_refused])
        self._replan.set()

    async def _follow(self) -> None:
        """Plan anew whenever a list was looked at, or the configuration has changed."""
        while True:
            await wait_for(self._replan, self._clock, CLAIM_SECONDS if self._is_blocked else None)
            await self._clock.sleep(REPLAN_SECONDS)
            self._replan.clear()
            try:
                await self._plan()
            except StoreUnavailable as error:
                log.warning("store_failed", error=str(error), retry_seconds=STORE_RETRY_SECONDS)
                self._replan.set()
                await self._clock.sleep(STORE_RETRY_SECONDS)

    async def _plan(self) -> None:
        found = await self._find()
        wanted: dict[StreamKey, Streams] = {}
        # Before the streams are read: what is read of one that leaves may be of before its last page.
        leaving = set(self._leaving)
        self._is_blocked = False
        for streams in found:
            keys = streams.keys(self._region)
            mine = list(await self._membership.claim(keys))
            self._lane(streams).held_back = self._membership.held_back(keys)
            self._is_blocked = self._is_blocked or len(mine) < len(keys)
            await streams.adopt(self._journal, self._store, mine)
            wanted |= dict.fromkeys(mine, streams)
        for lane in self._lanes.values():
            if lane.streams not in found:
                lane.held_back = 0
        states = await self._journal.streams()
        added = 0
        for key, streams in wanted.items():
            state = states[key]
            lane = self._lane(streams)
            slot = self._slots.get(state.id)
            if slot is None:
                if state.id in leaving or state.id in self._leaving:
                    # Its last poll is under way, and is not to have another one beside it.
                    continue
                if not streams.is_finished(state, self._server_clock.now()):
                    self._enter(lane, streams, state)
                    added += 1
            elif streams.is_finished(state, self._server_clock.now()):
                self._leave(slot)
            elif slot.streams is not streams:
                self._adapt(slot, streams)
        ids = {states[key].id for key in wanted}
        gone = [slot for stream_id, slot in self._slots.items() if stream_id not in ids]
        for slot in gone:
            self._leave(slot)
            if not slot.is_polled:
                await self._seal(slot)
        for lane in self._lanes.values():
            lane.queue.rebuild()
        if added or gone:
            log.info("streams_changed", added=added, removed=len(gone))
        self._say_quotas()

    def _lane(self, streams: Streams) -> _Lane:
        place = (streams.name, streams.operation.name)
        lane = self._lanes.get(place)
        if lane is None:
            lane = _Lane(streams, Queue(self._clock), asyncio.Semaphore(self._concurrency_max))
            self._lanes[place] = lane
            if self._fault is not None:
                self._spawn(self._dispatch(lane), self._tasks)
        lane.streams = streams
        return lane

    def _enter(self, lane: _Lane, streams: Streams, state: StreamState) -> None:
        slot = Slot(streams, state, streams.cadence.interval, phase_of(state.key, streams.spread))
        now = self._server_clock.now()
        slot.due_at = slot.entered_at = self._clock.monotonic()
        if state.sealed_to is not None and not self._watch.is_due(state):
            # Where it would be, had this process been there all the time.
            slot.due_at += next_time(state.sealed_to + streams.settle, slot.interval, slot.phase) - now
        slot.is_refused = False
        self._slots[state.id] = lane.slots[state.id] = slot
        lane.queue.put(slot)

    def _adapt(self, slot: Slot, streams: Streams) -> None:
        """Go on with other settings."""
        now = self._server_clock.now()
        slot.streams = streams
        slot.interval = streams.cadence.nearest(slot.interval)
        slot.phase = phase_of(slot.state.key, streams.spread)
        regular = self._clock.monotonic() + next_time(now, slot.interval, slot.phase) - now
        if not slot.failures:
            slot.due_at = min(slot.due_at, regular)

    def _leave(self, slot: Slot) -> None:
        slot.is_gone = True
        self._slots.pop(slot.state.id, None)
        if slot.is_polled:
            self._leaving.add(slot.state.id)
        lane = self._lanes[slot.streams.name, slot.streams.operation.name]
        lane.slots.pop(slot.state.id, None)
        lane.waiting.discard(slot)

    def _say_quotas(self) -> None:
        for lane in self._lanes.values():
            interval, looks = lane.streams.cadence.interval, len(lane.slots) * lane.streams.calls_per_look
            capacity = self._capacity(lane.operation)
            was_short, lane.is_short = lane.is_short, looks > interval * capacity
            if lane.is_short and not was_short:
                log.warning(
                    "quota_fell_short",
                    operation=lane.operation,
                    streams=len(lane.slots),
                    interval_seconds=interval,
                    needed_per_second=round(looks / interval, 1),
                    quota_per_second=round(capacity, 1),
                    interval_possible_seconds=int(looks / capacity) + 1,
                )

    # Looks

    async def _dispatch(self, lane: _Lane) -> None:
        while True:
            await lane.permits.acquire()
            await self._open(lane)
            slot = await lane.queue.next_due()
            if self._stops.wait_seconds(lane.operation) > 0:
                lane.queue.put(slot)
                lane.permits.release()
                continue
            slot.is_polled = True
            self._spawn(self._look(lane, slot), self._looks)

    async def _open(self, lane: _Lane) -> None:
        """Wait until the operation may be asked, and try again what was stopped long enough."""
        while (seconds := self._stops.wait_seconds(lane.operation)) > 0:
            for slot in list(lane.slots.values()):
                # A poll that is under way does the same when it fails.
                if slot.state.open and not slot.is_polled:
                    await self._seal(slot)
            await wait_for(self._lifted, self._clock, seconds)
        for pause in self._stops.try_again(lane.operation):
            await self._reopen(pause)

    async def _reopen(self, pause: Pause) -> None:
        if pause.what == ACCOUNT and self._renew is not None:
            await self._renew()
        if pause.what != BUDGET:
            self._client.gate.reopen(pause.operation or None)

    async def _look(self, lane: _Lane, slot: Slot) -> None:
        before = slot.state
        slot.records, slot.polled_at = 0, self._server_clock.now()
        if slot.is_regular:
            self._count_missed(lane, slot)
        try:
            if self._watch.is_due(before):
                before = slot.state = await self._watch.corrected(before, slot.streams)
            after = await slot.streams.collect(self._collecting, before, self._server_clock.now(), slot.interval)
            self._looked(lane, slot, before, after)
        except Stopping:
            return
        except BudgetReached as error:
            await self._set_back(lane, slot, BUDGET, error)
        except CredentialsError as error:
            await self._set_back(lane, slot, ACCOUNT, error)
        except ApiError as error:
            await self._failed(lane, slot, error)
        except JournalError:
            raise
        except Exception as error:
            log.exception("look_failed_unexpectedly", stream=str(slot.state.key))
            await self._failed(lane, slot, ApiError(f"a fault of the program: {type(error).__name__}"))
        finally:
            lane.permits.release()
        if slot.is_gone:
            await self._seal(slot)
        else:
            slot.is_polled = False
            lane.queue.put(slot)

    async def _seal(self, slot: Slot) -> None:
        """Store what was read of a stream that is not polled soon, or not any more."""
        slot.is_polled = True
        slot.state = await slot.streams.seal_in_part(self._collecting, slot.state)
        slot.is_polled = False
        if slot.state.id in self._leaving:
            self._leaving.remove(slot.state.id)
            self._replan.set()

    def _looked(self, lane: _Lane, slot: Slot, before: StreamState, after: StreamState | None) -> None:
        """A look that worked: when is the next?"""
        now = self._server_clock.now()
        if after is not None:
            slot.state = self._newest(slot, after)
            self._stops.succeeded(lane.operation)
            if lane.waiting:
                self._hasten_waiting()
            if lane.streams.name == "inventory":
                self._replan.set()
            slot.interval = self._interval(slot, before, after)
        self._well(slot)
        if slot.streams.is_finished(slot.state, now):
            self._leave(slot)
            return
        if after is not None and slot.streams.is_behind(slot.state, now, slot.interval):
            slot.due_at, slot.is_regular = self._clock.monotonic(), False
        else:
            slot.due_at = self._clock.monotonic() + next_time(now, slot.interval, slot.phase) - now
            slot.is_regular = True

    def _hasten_waiting(self) -> None:
        """One operation is back; what failed with it may be, too."""
        for lane in self._lanes.values():
            lane.queue.hasten(list(lane.waiting))
            lane.waiting.clear()

    def _interval(self, slot: Slot, before: StreamState, after: StreamState) -> int:
        if before.sealed_to is None or after.sealed_to is None or after.sealed_to <= before.sealed_to:
            # A first look at a past that may be long, or a recheck: neither tells the present pace.
            return slot.interval
        return slot.streams.cadence.following(slot.interval, slot.records, after.sealed_to - before.sealed_to)

    def _well(self, slot: Slot) -> None:
        if not slot.failures:
            return
        if slot.is_told:
            failed_seconds = round(self._clock.monotonic() - slot.failed_at)
            log.info("stream_recovered", stream=str(slot.state.key), failed_seconds=failed_seconds)
        slot.failures, slot.is_refused, slot.is_told = 0, False, False

    async def _set_back(self, lane: _Lane, slot: Slot, what: str, error: Exception) -> None:
        """The stream is well, but nothing of its operation or account can be asked at present."""
        slot.state = await self._journal.stream(slot.state.id)
        slot.state = await slot.streams.seal_in_part(self._collecting, slot.state)
        # Whether the own budget has room is known without a call; the service has to be asked.
        costs_call = isinstance(error, ApiError)
        self._stops.begin(what, "" if what == ACCOUNT else lane.operation, str(error), costs_call=costs_call)
        slot.due_at, slot.is_regular = self._clock.monotonic(), False

    async def _failed(self, lane: _Lane, slot: Slot, error: ApiError) -> None:
        gate, operation = self._client.gate, lane.operation
        if gate.operation_stopped(operation):
            await self._set_back(lane, slot, OPERATION, error)
            return
        if not isinstance(error, TransientError):
            # The account at least is well, or the service would not have looked at the scope.
            self._stops.succeeded("")
        slot.state = await self._journal.stream(slot.state.id)
        slot.failures += 1
        slot.is_refused = isinstance(error, ForbiddenError | NotFoundError)
        if slot.is_refused and slot.failures == 1 and slot.state.watermark is not None:
            # One refusal of a scope that has been collected may be one server's mistake: ask soon, once.
            slot.is_refused, seconds = False, RETRY_SECONDS_MIN
        elif isinstance(error, TransientError):
            seconds = backoff_seconds(slot.failures, max(RETRY_SECONDS_MIN, slot.interval), RETRY_SECONDS_MAX)
            if gate.circuit_open(operation):
                lane.waiting.add(slot)
        else:
            seconds = pause_seconds(slot.failures)
        if seconds >= SEAL_SECONDS:
            slot.state = await slot.streams.seal_in_part(self._collecting, slot.state)
        slot.due_at, slot.is_regular = self._clock.monotonic() + seconds, False
        await self._journal.set_error(slot.state.id, str(error), self._server_clock.now())
        if slot.failures == 1:
            slot.failed_at = self._clock.monotonic()
        if not slot.is_told and not gate.circuit_open(operation):
            # An open circuit was told once, and its many streams need not say the same.
            slot.is_told = True
            log.warning(
                "stream_failed", stream=str(slot.state.key), error=str(error), next_try_seconds=round(seconds)
            )  # fmt: skip

    def _count_missed(self, lane: _Lane, slot: Slot) -> None:
        """A tick that was missed is counted, and never made up for."""
        missed = ticks_missed(round(slot.due_at), round(self._clock.monotonic()), slot.interval)
        lane.ticks_missed += missed
        if missed:
            now = self._clock.monotonic()
            if now >= lane.late_until:
                log.warning("ticks_missed", source=lane.streams.name, ticks=missed)
            lane.late_until = now + 2 * lane.streams.cadence.interval_max

    # What is told while a look is made, and by shipping

    def _note(self, state: StreamState, records: int) -> None:
        slot = self._slots.get(state.id)
        if slot is not None:
            slot.records += records
            slot.state = self._newest(slot, state)

    def _moved(self, stream_id: int, watermark: int) -> None:
        slot = self._slots.get(stream_id)
        if slot is not None:
            slot.state.watermark = max(slot.state.watermark or 0, watermark)

    @staticmethod
    def _newest(slot: Slot, state: StreamState) -> StreamState:
        """A state that was read before the last watermark moved does not take it back."""
        if slot.state.watermark is not None:
            state.watermark = max(state.watermark or 0, slot.state.watermark)
        return state

    # Facts

    def facts(self) -> ServiceFacts:
        """The service at this moment."""
        now, monotonic = self._server_clock.now(), self._clock.monotonic()
        stops = tuple(
            Stop(
                pause.what,
                pause.operation,
                pause.error,
                int(now - (monotonic - pause.since)),
                int(now + max(0.0, pause.next_try - monotonic)),
            )
            for pause in self._stops.all()
        ) + tuple(
            Stop(
                CIRCUIT,
                circuit.operation,
                str(circuit.error),
                int(now - (monotonic - circuit.since)),
                int(now + max(0.0, circuit.next_probe - monotonic)),
            )
            for circuit in self._client.gate.open_circuits()
        )
        sources = tuple(self._source_facts(lane, now) for lane in self._lanes.values())
        return ServiceFacts(sources, stops, self._is_started)

    def watched(self) -> Mapping[StreamKey, Streams]:
        """The streams that are collected at present."""
        return {slot.state.key: slot.streams for slot in self._slots.values()}

    def states(self) -> Mapping[StreamKey, str]:
        """Every stream that is watched, with its state."""
        return {slot.state.key: self._state(slot) for slot in self._slots.values()}

    def _state(self, slot: Slot) -> str:
        operation = slot.streams.operation.name
        return stream_state(
            is_stopped=slot.is_refused or self._stops.has(operation),
            is_failing=slot.failures > 0 or bool(slot.state.error) or self._client.gate.circuit_open(operation),
            watermark=slot.state.watermark,
        )

    def collected_beyond(self, time: float) -> int:
        """How many streams have a watermark later than `time`."""
        return sum((slot.state.watermark or 0) > time for slot in self._slots.values())

    def polls(self) -> Mapping[StreamKey, Polls]:
        """Return when each stream that is watched was asked for last, and when it is asked for next."""
        now, monotonic = self._server_clock.now(), self._clock.monotonic()
        return {
            slot.state.key: Polls(
                slot.polled_at, int(now + max(0.0, slot.due_at - monotonic)), is_failing=slot.failures > 0
            )
            for slot in self._slots.values()
        }

    def _source_facts(self, lane: _Lane, now: int) -> SourceFacts:
        slots = lane.slots.values()
        marks = [slot.state.watermark for slot in slots if slot.state.watermark is not None and not _is_over(slot)]
        cadence = lane.streams.cadence
        states = Counter(self._state(slot) for slot in slots)
        if lane.held_back:
            states[WAITING] = lane.held_back
        entered = [slot.entered_at for slot in slots if self._state(slot) == NEW]
        return SourceFacts(
            source=lane.streams.name,
            operation=lane.operation,
            states=states,
            freshness_seconds=float(max(0, now - min(marks))) if marks else None,
            freshness_promise_seconds=cadence.interval_max + lane.streams.settle + 2 * self._flush_interval_seconds,
            settle_seconds=lane.streams.settle,
            ticks_missed=lane.ticks_missed,
            due=lane.queue.due(),
            new_seconds=self._clock.monotonic() - min(entered) if entered else 0.0,
        )


def _is_over(slot: Slot) -> bool:
    """Whether a stream has ended and only rechecks are left of it: it cannot become fresher."""
    end = slot.streams.end(slot.state.key)
    return end is not None and (slot.state.watermark or 0) >= end


def _is_of_the_end(error: BaseException) -> bool:
    """Whether work failed only because the program is ending while the journal takes nothing."""
    if isinstance(error, BaseExceptionGroup):
        return all(_is_of_the_end(inner) for inner in error.exceptions)
    return isinstance(error, Stopping | JournalUnavailable)


async def _relay(signal: Signal, count: int, event: asyncio.Event) -> None:
    await signal.after(count)
    event.set()


async def _cancelled(tasks: set[Any]) -> None:
    """Cancel tasks and wait until they have ended."""
    for task in (waiting := list(tasks)):
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
