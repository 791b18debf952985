"""Ship: journal entries into rows. The only writer of the store.

Each table has a loop of its own and one segment in flight, in journal order. A segment's bytes and
id never change, so sending it again after a lost acknowledgement stores nothing twice.
"""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import structlog

from collector.backoff import backoff_seconds
from collector.clock import Clock, ServerClock, wait_for
from collector.errors import StoreRefused, StoreTooLarge, StoreUnavailable
from collector.journal.entries import Chunk, Compared, Comparison, Segment
from collector.journal.outgoing import Limits, Outgoing, choose_append, choose_compare, is_due
from collector.memory import MemoryPool
from collector.model import ShipMode, Window
from collector.pipeline.chunking import decode_lines, partition_of
from collector.pipeline.compare import AnsweredRows, StoredRows, missing_rows, shorten_sql
from collector.pipeline.windows import looked_again
from collector.sources.normalise import lines
from collector.sources.tables import API_CALLS, DEAD_LETTERS, TABLES, Table
from collector.store.base import Store
from collector.telemetry import tracing
from collector.units import DAY_SECONDS

T = TypeVar("T")

log = structlog.get_logger(__name__)

TOKEN_TRUST_SECONDS = 7 * DAY_SECONDS // 2
"""Half of the time for which the store remembers tokens. A segment whose answer has been lost for
longer may be stored and forgotten: it is compared instead of sent again."""

SIZE_BYTES_MIN = 256 << 10
"""A segment that is not larger and finds no memory in the store has met a store that has none: it waits."""

ROW_ATTEMPTS_MAX = 3
"""A single row that finds no memory in the store this often becomes a dead letter."""

SEGMENTS_BEFORE_GROWTH = 16
"""Segments of a reduced size that the store takes before the next ones are twice as large."""

SLICES_MAX = 256
"""A range of the store that is too large for one read is read in at most this many slices."""

RECORD_CHARACTERS_MAX = 64 << 10
"""The dead letter of a row that the store does not take has this much of it."""

BACKOFF_SECONDS_MIN = 0.5
BACKOFF_SECONDS_MAX = 30.0

WATERMARK_COLUMNS = ("operation", "region", "scope_id", "collected_from", "watermark", "updated_at")
GAP_COLUMNS = ("operation", "region", "scope_id", "start", "end", "reason", "state", "updated_at")


@dataclass(slots=True)
class Shipped:
    """What shipping has done so far."""

    rows: dict[str, int] = field(default_factory=dict)
    segments: int = 0
    last_error: str = ""


class Haste:
    """Whether someone waits for the rows of the journal: then they are shipped without the flush interval."""

    def __init__(self) -> None:
        self._waiting = 0
        self._begun = asyncio.Event()

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Ship immediately while the body runs."""
        self._waiting += 1
        self._begun.set()
        try:
            yield
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._begun.clear()

    async def gather(self, stop: asyncio.Event, clock: Clock, seconds: float) -> None:
        """Let rows gather for `seconds`, shorter if they are waited for or at the stop."""
        waits: set[asyncio.Future[Any]] = {asyncio.ensure_future(event.wait()) for event in (self._begun, stop)}
        waits.add(asyncio.ensure_future(clock.sleep(seconds)))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()


@dataclass(slots=True)
class _Size:
    """The size of a table's segments after one was too large, and how many it has been right for since."""

    bytes_max: int
    accepted: int = 0


class Shipping(Protocol):
    """What a service asks of its shipper."""

    @property
    def shipped(self) -> Shipped:
        """What was done so far."""

    async def run(self, stop: asyncio.Event) -> None:
        """See `Shipper.run`."""

    async def drain(self, attempts_max: int = 5) -> None:
        """See `Shipper.drain`."""


class Shipper:
    """Moves sealed chunks to the store until told to stop."""

    def __init__(
        self,
        outgoing: Outgoing,
        store: Store,
        clock: Clock,
        server_clock: ServerClock,
        limits: Limits,
        on_watermark: Callable[[int, int], None] = lambda stream_id, watermark: None,
        memory: MemoryPool | None = None,
        haste: Haste | None = None,
        confirm_alive: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """`on_watermark` is called with (stream row, watermark) of each stream whose watermark has moved.

        `confirm_alive` is awaited before anything is stored; it raises StoreUnavailable if nothing may be.

        `memory` is what segments of all tables have in common; without it they have twice the largest segment.
        """
        self._on_watermark = on_watermark
        self._haste = haste or Haste()
        self._confirm_alive = confirm_alive or _do_nothing
        self._outgoing = outgoing
        self._store = store
        self._clock = clock
        self._server_clock = server_clock
        self._limits = limits
        self._memory = memory or MemoryPool(2 * limits.bytes_max)
        self._sizes: dict[str, _Size] = {}
        """Of tables of which a segment was too large for the store."""
        self._row_attempts: dict[str, int] = {}
        """Attempts of single rows that found no memory in the store, by segment."""
        self.shipped = Shipped()

    async def run(self, stop: asyncio.Event) -> None:
        """Ship whatever is due, table beside table, until `stop` is set. Outages are waited out."""
        async with asyncio.TaskGroup() as group:
            for table in TABLES:
                group.create_task(self._serve(table, stop), name=f"ship {table}")
            group.create_task(self._serve_state(stop), name="ship state")

    async def drain(self, attempts_max: int = 5) -> None:
        """Ship everything the journal holds. Raises StoreUnavailable when the store stays away."""
        await self._outgoing.flush_meter(None, self._clock.monotonic())
        # Refused rows become dead letters, which are shipped last in TABLES' order but one: two rounds.
        while tables := await self._outgoing.tables():
            for table in sorted(tables, key=list(TABLES).index):
                while await self._persist(table, attempts_max):
                    pass
        await self._with_attempts(self._ship_state, attempts_max)

    async def _persist(self, table: str, attempts_max: int) -> bool:
        return await self._with_attempts(lambda: self.ship_one(table, draining=True), attempts_max)

    async def _with_attempts(self, work: Callable[[], Awaitable[T]], attempts_max: int) -> T:
        for attempt in range(1, attempts_max):
            try:
                return await work()
            except StoreUnavailable as error:
                self.shipped.last_error = str(error)
                seconds = backoff_seconds(attempt, BACKOFF_SECONDS_MIN, BACKOFF_SECONDS_MAX)
                log.warning("store_failed", error=str(error), retry_seconds=seconds)
                await self._clock.sleep(seconds)
        return await work()

    async def _serve(self, table: str, stop: asyncio.Event) -> None:
        failures = 0
        # What stood in the journal at the start, and later what has waited for the interval, goes as it is.
        draining = True
        while not stop.is_set():
            sealed = self._outgoing.sealed.count
            try:
                moved = await self.ship_one(table, draining=draining)
                if failures:
                    log.info("store_recovered", table=table)
                    self.shipped.last_error = ""
                failures, draining = 0, False
                if not moved:
                    if not await self._outgoing.pending(table):
                        await self._something_sealed(sealed, stop)
                    await self._haste.gather(stop, self._clock, self._limits.flush_interval_seconds)
                    draining = True
            except StoreUnavailable as error:
                if not failures:
                    log.warning("store_failed", table=table, error=str(error))
                self.shipped.last_error = str(error)
                failures += 1
                await wait_for(stop, self._clock, backoff_seconds(failures, BACKOFF_SECONDS_MIN, BACKOFF_SECONDS_MAX))

    async def _something_sealed(self, count: int, stop: asyncio.Event) -> None:
        """Return when the journal has rows to ship that it did not have, or at the stop."""
        waits = {asyncio.ensure_future(self._outgoing.sealed.after(count)), asyncio.ensure_future(stop.wait())}
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _serve_state(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            minute = self._server_clock.now() // 60 * 60
            await self._outgoing.flush_meter(minute, self._clock.monotonic())
            try:
                await self._ship_state()
            except StoreUnavailable as error:
                self.shipped.last_error = str(error)
            await wait_for(stop, self._clock, self._limits.flush_interval_seconds)

    # One segment

    async def ship_one(self, table: str, *, draining: bool = False) -> bool:
        """Send the next segment of a table, if one is due; true when something moved."""
        limits = self._limits_of(table)
        unsent = await self._outgoing.oldest(table)
        if unsent is not None:
            if unsent.bytes > 2 * self._limits.bytes_max and unsent.rows > 1 and TABLES[table].identity:
                # Made while the process had more memory.
                await self._outgoing.distrust(unsent.root_id)
                return True
            async with self._memory.hold(unsent.bytes):
                await self._send(await self._outgoing.segment(unsent.id))
            return True
        pending = await self._outgoing.pending(table)
        if not pending or not (draining or is_due(pending, limits, self._clock.monotonic())):
            return False
        sizes = {chunk.id: chunk.bytes for chunk in pending}
        if pending[0].mode is ShipMode.APPEND:
            chosen = choose_append(pending, limits)
            async with self._memory.hold(min(limits.bytes_max, sum(sizes[chunk_id] for chunk_id in chosen))):
                await self._send(await self._outgoing.freeze(table, chosen, limits))
            return True
        groups = choose_compare(pending, limits)
        size = sum(sizes[chunk_id] for group in groups for chunk_id in group)
        async with self._memory.hold(min(limits.bytes_max, size)):
            await self._send(await self._compare(table, groups, limits))
        return True

    def _limits_of(self, table: str) -> Limits:
        size = self._sizes.get(table)
        return self._limits if size is None else self._limits.with_bytes(size.bytes_max)

    async def _send(self, segment: Segment) -> None:
        now = self._server_clock.now()
        # Parts of the meter have nothing to be compared by: their token is trusted for as long as it takes.
        is_comparable = bool(TABLES[segment.table].identity)
        # A time that lies ahead was read while the clock was wrong, and says nothing.
        if is_comparable and segment.sent_at is not None and abs(now - segment.sent_at) > TOKEN_TRUST_SECONDS:
            log.warning("segment_too_old_to_send_again", segment=segment.id, table=segment.table)
            await self._outgoing.distrust(segment.root_id)
            return
        was_sent = segment.sent_at is not None
        if segment.rows:
            await self._confirm_alive()
            if not was_sent:
                await self._outgoing.mark_sent(segment.id, now)
            try:
                with tracing.span("segment", table=segment.table, rows=segment.rows, bytes=len(segment.body)):
                    await self._store.insert(
                        segment.table, TABLES[segment.table].columns, segment.body, token=segment.id
                    )
            except StoreTooLarge as error:
                await self._reduce(segment, error)
                return
            except StoreRefused as error:
                await self._divide(segment, error)
                return
        self.shipped.segments += 1
        self.shipped.rows[segment.table] = self.shipped.rows.get(segment.table, 0) + segment.rows
        self._row_attempts.pop(segment.id, None)
        self._grow(segment.table)
        if was_sent and is_comparable:
            # The engine notes a token before it names the part: where it was killed in between, it takes the
            # second try for a repeat of rows that it does not have.
            await self._outgoing.distrust(segment.root_id)
            return
        for stream_id, watermark in await self._outgoing.acknowledge(segment):
            self._on_watermark(stream_id, watermark)
        log.debug("segment_shipped", table=segment.table, rows=segment.rows, segment=segment.id)

    async def _divide(self, segment: Segment, error: StoreRefused) -> None:
        """Halve a refused segment until the row that cannot be stored stands alone, and bury that."""
        rows = segment.body.splitlines(keepends=True)
        if len(rows) > 1:
            middle = len(rows) // 2
            await self._outgoing.split(segment, [rows[:middle], rows[middle:]])
            return
        await self._set_aside(segment, f"refused by the store: {str(error)[:500]}")

    async def _set_aside(self, segment: Segment, reason: str) -> None:
        """Make a dead letter of a row that the store never takes, or keep it in the journal if it takes none."""
        table, now = TABLES[segment.table], self._server_clock.now()
        if table in (DEAD_LETTERS, API_CALLS):
            log.error("row_quarantined", table=segment.table, reason=reason)
            await self._outgoing.quarantine(segment, reason, now)
            return
        log.error("row_refused", table=segment.table, error=reason)
        letter = dead_letter_of(table, segment.body, reason, now, segment.mode)
        await self._outgoing.bury(segment, letter, self._clock.monotonic())

    async def _reduce(self, segment: Segment, error: StoreTooLarge) -> None:
        """Send less at a time after a segment was too large; a single row becomes a dead letter.

        What the store has of the segment is not known on a cluster, where each machine takes its rows by itself, so
        they are compared. Raises `error` if the size of the segment cannot be the reason.
        """
        size = len(segment.body)
        if size <= SIZE_BYTES_MIN and not error.is_certain:
            raise error
        if segment.rows == 1:
            attempts = self._row_attempts[segment.id] = self._row_attempts.get(segment.id, 0) + 1
            if attempts < ROW_ATTEMPTS_MAX and not error.is_certain:
                raise error
            del self._row_attempts[segment.id]
            log.error("row_too_large", table=segment.table, bytes=size, error=str(error))
            # The same at every attempt, and another one for another row with the same beginning.
            digest = hashlib.sha256(segment.body).hexdigest()
            await self._set_aside(segment, f"too large for the store: {size} bytes, SHA-256 {digest}")
            return
        self._sizes[segment.table] = _Size(size // 2)
        log.warning(
            "segment_too_large", table=segment.table, segment=segment.id, rows=segment.rows, bytes=size,
            next_bytes=size // 2, error=str(error),
        )  # fmt: skip
        if TABLES[segment.table].identity:
            await self._outgoing.distrust(segment.root_id)
        else:
            rows = segment.body.splitlines(keepends=True)
            await self._outgoing.split(segment, [rows[: len(rows) // 2], rows[len(rows) // 2 :]])

    def _grow(self, table: str) -> None:
        """Let segments grow again after the store has taken several of a reduced size."""
        size = self._sizes.get(table)
        if size is None:
            return
        size.accepted += 1
        if size.accepted == SEGMENTS_BEFORE_GROWTH:
            size.bytes_max, size.accepted = 2 * size.bytes_max, 0
        if size.bytes_max >= self._limits.bytes_max:
            del self._sizes[table]

    # Compare

    async def _compare(self, table_name: str, groups: list[list[int]], limits: Limits) -> Segment:
        table = TABLES[table_name]
        comparisons = await self._outgoing.comparisons(groups)
        # What fits in a segment is read together, so that many small windows cost one transaction.
        rows = sum(chunk.rows for one in comparisons for chunk in one.chunks)
        size = sum(chunk.bytes for one in comparisons for chunk in one.chunks)
        bodies: dict[int, bytes] = {}
        if limits.allow(rows, size):
            ids = [chunk.id for one in comparisons for chunk in one.chunks]
            bodies = dict(zip(ids, await self._outgoing.bodies(ids), strict=True))
        compared = [await self._compare_one(table, one, bodies) for one in comparisons]
        return await self._outgoing.freeze_compared(table_name, compared, limits)

    async def _compare_one(self, table: Table, comparison: Comparison, bodies: dict[int, bytes]) -> Compared:
        """Compare the rows of one window with the store; chunks that are not in `bodies` are read one at a time."""
        answered = AnsweredRows(table)
        for chunk in comparison.chunks:
            body = bodies[chunk.id] if chunk.id in bodies else (await self._outgoing.bodies([chunk.id]))[0]
            answered.add(decode_lines(body))
        stored = StoredRows(table)
        async for some in stored_identities(self._store, table, answered, comparison.window, comparison.is_stray):
            stored.add(some)
        # What was asked with a query is not all that a second has, and others of its rows may be stored.
        is_whole = not comparison.is_stray and not (comparison.stream is not None and comparison.stream.filters)
        found, conflicts = missing_rows(table, answered, stored, whole_seconds=is_whole)
        if conflicts:
            log.warning("answer_changed", table=table.name, stream=str(comparison.stream), conflicts=conflicts)
        name = looked_again(comparison.delay)
        counter = f"{name}_rows/{comparison.stream.operation}" if name and comparison.stream is not None else ""
        return Compared(comparison.chunks, tuple(found), conflicts, counter)

    # State

    async def _ship_state(self) -> None:
        """Show the watermarks and gaps as they are now; sending them twice changes nothing."""
        await self._confirm_alive()
        updated_at = f"{self._clock.wall():.3f}"
        moved = await self._outgoing.moved_watermarks()
        # Read after the watermarks and shown before them, so that no watermark is seen without the gaps behind it.
        await ship_gaps(self._outgoing, self._store, self._clock)
        if moved:
            rows = [
                (key.operation, key.region, key.scope_id, collected_from, watermark, updated_at, generation)
                for _, key, collected_from, watermark, generation in moved
            ]
            columns = (*WATERMARK_COLUMNS, "generation")
            await self._store.insert("watermark_states", columns, lines(rows), token=str(uuid.uuid4()))
            await self._outgoing.watermarks_shipped([(row[0], row[2], row[3]) for row in moved])


async def _do_nothing() -> None:
    return None


async def ship_gaps(outgoing: Outgoing, store: Store, clock: Clock) -> None:
    """Show the gaps that the store does not know as they are; sending them twice changes nothing."""
    changed = await outgoing.changed_gaps()
    if not changed:
        return
    updated_at = f"{clock.wall():.3f}"
    rows = [
        (key.operation, key.region, key.scope_id, window.start, window.end, reason, state, updated_at)
        for _, key, window, reason, state in changed
    ]
    await store.insert("gap_states", GAP_COLUMNS, lines(rows), token=str(uuid.uuid4()))
    await outgoing.gaps_shipped([(row[0], row[2], row[4]) for row in changed])


async def stored_identities(
    store: Store, table: Table, answered: AnsweredRows, window: Window | None, is_stray: bool
) -> AsyncIterator[list[list[object]]]:
    """Yield what the store holds where `answered` belongs: identities and value columns, long texts as digests.

    What is too large for one read is read in slices. Raises StoreError.
    """
    parameters: dict[str, object] = {"scopes": sorted(answered.scopes)}
    where = f"{table.stream_scope_sql(answered.operation)} IN {{scopes:Array(String)}}"
    if table.time_column is not None:
        if is_stray or window is None:
            # Strays may be anywhere: only their own seconds are read.
            where += f" AND {table.time_column} IN (SELECT arrayJoin({{times:Array(UInt32)}})::DateTime('UTC'))"
            parameters["times"] = sorted(set(answered.times))
        else:
            where += f" AND {table.time_column} BETWEEN {{first:UInt32}} AND {{last:UInt32}}"
            parameters |= {"first": min(answered.times), "last": max(answered.times)}
    if "region" in table.identity:
        where += " AND region = {region:String}"
        parameters["region"] = answered.region
    columns = ", ".join(_as_compared(table, column) for column in (*table.identity, *table.value_columns))
    sql = f"SELECT {columns} FROM {table.name} WHERE {where}"
    # The hash of NULL is NULL, which is in no slice.
    hashed = [column for column in table.identity if column != "receive_time"]
    slices = [(1, 0)]
    while slices:
        count, number = slices.pop()
        part = f" AND cityHash64({', '.join(hashed)}) % {count} = {number}" if count > 1 else ""
        try:
            rows = await store.fetch(sql + part, parameters)
        except StoreTooLarge:
            if count >= SLICES_MAX:
                raise
            slices += [(4 * count, number + quarter * count) for quarter in range(4)]
            continue
        yield rows


def _as_compared(table: Table, column: str) -> str:
    """A column as `compare` takes it: times as seconds, long texts as digests."""
    if column in (table.time_column, "receive_time"):
        return f"toUnixTimestamp({column})"
    return shorten_sql(column) if table.multiset else column


def dead_letter_of(table: Table, line: bytes, reason: str, now: int, mode: ShipMode) -> Chunk:
    """A row that the store refuses, as a chunk of `dead_letters`.

    A row that a comparison found missing may have been refused before; one of an appended segment is new,
    also where an equal one stands beside it.
    """
    (row,) = decode_lines(line)
    region = str(row[table.columns.index("region")])
    record = line.decode("utf-8").strip()[:RECORD_CHARACTERS_MAX]
    letter = (now, table.operation_of(row), region, table.stream_scope(row), reason, record)
    return Chunk(DEAD_LETTERS.name, partition_of(DEAD_LETTERS, now), 1, lines([letter]), mode)
