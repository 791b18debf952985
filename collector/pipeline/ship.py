"""Ship: journal entries into rows. The only writer of the store.

Each table has a loop of its own and one segment in flight, in journal order. A segment's bytes and
id never change, so sending it again after a lost acknowledgement stores nothing twice.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import structlog

from collector.clock import Clock, ServerClock, wait_for
from collector.errors import StoreRefused, StoreUnavailable
from collector.journal.entries import Chunk, Compared, Comparison, Segment
from collector.journal.outgoing import Limits, Outgoing, choose_append, choose_compare, is_due
from collector.model import ShipMode, Window
from collector.pipeline.chunking import decode_lines, partition_of
from collector.pipeline.compare import missing_rows
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
    ) -> None:
        """`on_watermark` is told (stream row, watermark) of each stream whose watermark has moved."""
        self._on_watermark = on_watermark
        self._outgoing = outgoing
        self._store = store
        self._clock = clock
        self._server_clock = server_clock
        self._limits = limits
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
        backoff = BACKOFF_SECONDS_MIN
        for _ in range(attempts_max - 1):
            try:
                return await work()
            except StoreUnavailable as error:
                self.shipped.last_error = str(error)
                log.warning("store_failed", error=str(error), retry_seconds=backoff)
                await self._clock.sleep(backoff)
                backoff = min(backoff * 2, BACKOFF_SECONDS_MAX)
        return await work()

    async def _serve(self, table: str, stop: asyncio.Event) -> None:
        backoff = 0.0
        # What stood in the journal at the start, and later what has waited for the interval, goes as it is.
        draining = True
        while not stop.is_set():
            sealed = self._outgoing.sealed.count
            try:
                moved = await self.ship_one(table, draining=draining)
                if backoff:
                    log.info("store_recovered", table=table)
                    self.shipped.last_error = ""
                backoff, draining = 0.0, False
                if not moved:
                    await self._something_sealed(sealed, stop)
                    await wait_for(stop, self._clock, self._limits.flush_interval_seconds)
                    draining = True
            except StoreUnavailable as error:
                if not backoff:
                    log.warning("store_failed", table=table, error=str(error))
                self.shipped.last_error = str(error)
                backoff = min(max(backoff * 2, BACKOFF_SECONDS_MIN), BACKOFF_SECONDS_MAX)
                await wait_for(stop, self._clock, backoff)

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
        segment = await self._outgoing.unsent(table)
        if segment is None:
            pending = await self._outgoing.pending(table)
            if not pending or not (draining or is_due(pending, self._limits, self._clock.monotonic())):
                return False
            if pending[0].mode is ShipMode.APPEND:
                segment = await self._outgoing.freeze(table, choose_append(pending, self._limits))
            else:
                segment = await self._compare(table, choose_compare(pending, self._limits))
        await self._send(segment)
        return True

    async def _send(self, segment: Segment) -> None:
        now = self._server_clock.now()
        # Parts of the meter have nothing to be compared by: their token is trusted for as long as it takes.
        is_comparable = bool(TABLES[segment.table].identity)
        if is_comparable and segment.sent_at is not None and now - segment.sent_at > TOKEN_TRUST_SECONDS:
            log.warning("segment_too_old_to_send_again", segment=segment.id, table=segment.table)
            await self._outgoing.distrust(segment)
            return
        was_sent = segment.sent_at is not None
        if segment.rows:
            if not was_sent:
                await self._outgoing.mark_sent(segment.id, now)
            try:
                with tracing.span("segment", table=segment.table, rows=segment.rows, bytes=len(segment.body)):
                    await self._store.insert(
                        segment.table, TABLES[segment.table].columns, segment.body, token=segment.id
                    )
            except StoreRefused as error:
                await self._divide(segment, error)
                return
        self.shipped.segments += 1
        self.shipped.rows[segment.table] = self.shipped.rows.get(segment.table, 0) + segment.rows
        if was_sent and is_comparable and segment.parent_id is None:
            # The engine notes a token before it names the part: where it was killed in between, it takes the
            # second try for a repeat of rows that it does not have.
            await self._outgoing.distrust(segment)
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
        table = TABLES[segment.table]
        reason = f"refused by the store: {str(error)[:500]}"
        log.error("row_refused", table=segment.table, error=str(error))
        if table in (DEAD_LETTERS, API_CALLS):
            # Nothing can be said of a dead letter that is refused itself: the journal keeps it.
            raise StoreUnavailable(f"the store refuses rows of {segment.table}: {error}") from error
        letter = dead_letter_of(table, rows[0], reason, self._server_clock.now(), segment.mode)
        await self._outgoing.bury(segment, letter, self._clock.monotonic())

    # Compare

    async def _compare(self, table_name: str, groups: list[list[int]]) -> Segment:
        table = TABLES[table_name]
        compared = [
            await self._compare_one(table, comparison) for comparison in await self._outgoing.comparisons(groups)
        ]
        return await self._outgoing.freeze_compared(table_name, compared)

    async def _compare_one(self, table: Table, comparison: Comparison) -> Compared:
        rows = decode_lines(comparison.body)
        stored = await stored_identities(self._store, table, rows, comparison.window, comparison.is_stray)
        found, conflicts = missing_rows(table, rows, stored, whole_seconds=not comparison.is_stray)
        if conflicts:
            log.warning("answer_changed", table=table.name, stream=str(comparison.stream), conflicts=conflicts)
        bodies = comparison.body.splitlines(keepends=True)
        name = looked_again(comparison.delay)
        counter = f"{name}_rows/{comparison.stream.operation}" if name and comparison.stream is not None else ""
        return Compared(comparison.chunk_ids, tuple(bodies[index] for index in found), conflicts, counter)

    # State

    async def _ship_state(self) -> None:
        """Show the watermarks and gaps as they are now; sending them twice changes nothing."""
        updated_at = f"{self._clock.wall():.3f}"
        moved = await self._outgoing.moved_watermarks()
        if moved:
            rows = [
                (key.operation, key.region, key.scope_id, collected_from, watermark, updated_at)
                for _, key, collected_from, watermark in moved
            ]
            await self._store.insert("watermark_states", WATERMARK_COLUMNS, lines(rows), token=str(uuid.uuid4()))
            await self._outgoing.watermarks_shipped([(row[0], row[2], row[3]) for row in moved])
        await ship_gaps(self._outgoing, self._store, self._clock)


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
    store: Store, table: Table, rows: Sequence[Sequence[object]], window: Window | None, is_stray: bool
) -> list[tuple[object, ...]]:
    """What the store holds where `rows` belong: identities and value columns of the same scopes and times."""
    scope = table.scope_index
    parameters: dict[str, object] = {"scopes": sorted({str(row[scope]) for row in rows})}
    where = f"{table.scope_column} IN {{scopes:Array(String)}}"
    if table.time_column is not None:
        time = table.time_index
        assert time is not None
        times = [int(row[time]) for row in rows]  # type: ignore[call-overload]
        if is_stray or window is None:
            # Strays may lie anywhere: only their own seconds are read.
            where += f" AND {table.time_column} IN (SELECT arrayJoin({{times:Array(UInt32)}})::DateTime('UTC'))"
            parameters["times"] = sorted(set(times))
        else:
            where += f" AND {table.time_column} BETWEEN {{first:UInt32}} AND {{last:UInt32}}"
            parameters |= {"first": min(times), "last": max(times)}
    if "region" in table.identity:
        where += " AND region = {region:String}"
        parameters["region"] = str(rows[0][table.columns.index("region")])
    columns = ", ".join(_as_sent(table, column) for column in (*table.identity, *table.value_columns))
    return [tuple(row) for row in await store.fetch(f"SELECT {columns} FROM {table.name} WHERE {where}", parameters)]


def _as_sent(table: Table, column: str) -> str:
    """A column as the journal's lines have it: times as seconds."""
    return f"toUnixTimestamp({column})" if column in (table.time_column, "receive_time") else column


def dead_letter_of(table: Table, line: bytes, reason: str, now: int, mode: ShipMode) -> Chunk:
    """A row that the store refuses, as a chunk of `dead_letters`.

    A row that a comparison found missing may have been refused before; one of an appended segment is new,
    also where an equal one stands beside it.
    """
    (row,) = decode_lines(line)
    region = str(row[table.columns.index("region")])
    letter = (now, table.operation_of(row), region, str(row[table.scope_index]), reason, line.decode("utf-8").strip())
    return Chunk(DEAD_LETTERS.name, partition_of(DEAD_LETTERS, now), 1, lines([letter]), mode)
