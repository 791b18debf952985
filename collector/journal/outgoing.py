"""The shipping side of the journal: from sealed chunks to acknowledged segments."""

from __future__ import annotations

import sqlite3
import uuid
from dataclasses import dataclass
from typing import Any

import msgspec

from collector.clock import Signal
from collector.errors import JournalCorrupt
from collector.journal import ledger
from collector.journal.coverage import REPLAY_PART
from collector.journal.entries import Chunk, Compared, Comparison, Segment
from collector.journal.journal import STRAY, Journal, add_to_counter, advance, next_number, put_chunk
from collector.journal.packing import checked, packed, unpacked
from collector.model import BLOCK_ROWS_MAX, ShipMode, StreamKey, Window
from collector.sources.normalise import lines

BLOCK_BYTES_MAX = 64 << 20
"""Maximum bytes of a segment, for the same reason as BLOCK_ROWS_MAX."""

PENDING_MAX = 5_000
"""Chunks looked at for one shipment: bounds the work, not the segment."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How large a segment may be and how long rows wait for it to fill."""

    flush_interval_seconds: float
    rows_max: int = BLOCK_ROWS_MAX
    bytes_max: int = BLOCK_BYTES_MAX


@dataclass(frozen=True, slots=True)
class Pending:
    """One sealed chunk that is in no segment yet, without its rows."""

    id: int
    window_id: int | None
    stream_id: int | None
    partition: str
    mode: ShipMode
    rows: int
    bytes: int
    journaled_at: float


def is_due(pending: list[Pending], limits: Limits, monotonic: float) -> bool:
    """True when the rows fill a segment or the oldest of them has waited long enough."""
    if not pending:
        return False
    if sum(p.rows for p in pending) >= limits.rows_max or sum(p.bytes for p in pending) >= limits.bytes_max:
        return True
    # Another boot began its monotonic clock anew: what seems to come from the future is old.
    age = monotonic - min(p.journaled_at for p in pending)
    return age < 0 or age >= limits.flush_interval_seconds


def choose_append(pending: list[Pending], limits: Limits) -> list[int]:
    """Chunks of the next segment: one partition, whole windows, within the limits.

    A window that is larger than a segment goes alone and whole.
    """
    partition = next((p.partition for p in pending if p.mode is ShipMode.APPEND), None)
    groups: dict[int, list[Pending]] = {}
    for chunk in pending:
        if chunk.mode is ShipMode.APPEND and chunk.partition == partition:
            groups.setdefault(chunk.window_id if chunk.window_id is not None else -chunk.id, []).append(chunk)
    chosen: list[int] = []
    rows = size = 0
    for group in groups.values():
        rows += sum(p.rows for p in group)
        size += sum(p.bytes for p in group)
        if chosen and (rows > limits.rows_max or size > limits.bytes_max):
            break
        chosen += [p.id for p in group]
    return chosen


def choose_compare(pending: list[Pending], limits: Limits) -> list[list[int]]:
    """Windows that may be compared now, each as its chunks, all of one partition.

    A window is compared only when nothing earlier of its stream waits for the store.
    """
    chosen: dict[int, list[int]] = {}
    seen: set[int | None] = set()
    partition: str | None = None
    rows = 0
    for chunk in pending:
        group = chunk.window_id if chunk.window_id is not None else -chunk.id
        if group in chosen and chunk.partition == partition:
            chosen[group].append(chunk.id)
            rows += chunk.rows
            continue
        if chunk.stream_id in seen:
            continue
        seen.add(chunk.stream_id)
        if chunk.mode is not ShipMode.COMPARE or (partition is not None and chunk.partition != partition):
            continue
        if chosen and rows + chunk.rows > limits.rows_max:
            break
        partition = chunk.partition
        chosen[group] = [chunk.id]
        rows += chunk.rows
    return list(chosen.values())


class Outgoing:
    """What `pipeline.ship` needs of the journal. Every method is one transaction."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    @property
    def sealed(self) -> Signal:
        """Announces rows that may be shipped."""
        return self._journal.sealed

    async def tables(self) -> list[str]:
        """Tables that have something to ship."""
        return await self._journal.run(
            lambda db: [
                row[0]
                for row in db.execute(
                    "SELECT table_name FROM chunks WHERE seal_number IS NOT NULL AND segment_id IS NULL"
                    " UNION SELECT table_name FROM segments"
                )
            ]
        )

    async def unsent(self, table: str) -> Segment | None:
        """The oldest segment of a table that is not acknowledged; a refused one's parts come in its place."""
        return await self._journal.run(lambda db: _oldest_segment(db, table))

    async def pending(self, table: str) -> list[Pending]:
        """Sealed chunks of a table that are in no segment yet, in journal order."""
        return await self._journal.run(lambda db: _pending(db, table))

    async def freeze(self, table: str, chunk_ids: list[int]) -> Segment:
        """Make a segment of chunks: from here on its id and its bytes never change."""
        return await self._journal.run(lambda db: _freeze(db, table, chunk_ids, None))

    async def comparisons(self, groups: list[list[int]]) -> list[Comparison]:
        """The chunks of each group with the window and the stream they belong to."""
        return await self._journal.run(lambda db: [_comparison(db, ids) for ids in groups])

    async def freeze_compared(self, table: str, compared: list[Compared]) -> Segment:
        """Make a segment of what comparisons left over, and count what they found."""

        def work(db: sqlite3.Connection) -> Segment:
            for one in compared:
                add_to_counter(db, "conflicts", one.conflicts)
                add_to_counter(db, "rows_added_by_compare", len(one.missing))
                if one.counter:
                    add_to_counter(db, one.counter, len(one.missing))
            chunk_ids = [chunk_id for one in compared for chunk_id in one.chunk_ids]
            return _freeze(db, table, chunk_ids, [line for one in compared for line in one.missing])

        return await self._journal.run(work)

    async def mark_sent(self, segment_id: str, now: int) -> None:
        """Remember when a segment was first handed to the store."""
        await self._journal.run(
            lambda db: (
                db.execute("UPDATE segments SET sent_at = ? WHERE id = ? AND sent_at IS NULL", (now, segment_id))
                and None
            )
        )

    async def acknowledge(self, segment: Segment) -> list[tuple[int, int]]:
        """The store has the segment: its rows leave the journal and the watermarks due move with them.

        Returns (stream row, watermark) of the streams that it held rows of.
        """
        return await self._journal.run(lambda db: _acknowledge(db, segment.id, segment.parent_id))

    async def distrust(self, segment: Segment) -> None:
        """The store may have forgotten the token of a segment it may have: its windows are compared instead."""

        def work(db: sqlite3.Connection) -> None:
            root = segment.parent_id or segment.id
            db.execute("UPDATE chunks SET segment_id = NULL, mode = ? WHERE segment_id = ?", (ShipMode.COMPARE, root))
            db.execute("DELETE FROM segments WHERE id = ? OR parent_id = ?", (root, root))

        await self._journal.seal(work)

    async def split(self, segment: Segment, halves: list[list[bytes]]) -> None:
        """Replace a refused segment by parts under new ids, each with lines of its own."""

        def work(db: sqlite3.Connection) -> None:
            root = segment.parent_id or segment.id
            for half in halves:
                body = packed(b"".join(half))
                _put_segment(db, segment.table, segment.partition, segment.mode, body, len(half), root)
            if segment.parent_id is not None:
                db.execute("DELETE FROM segments WHERE id = ?", (segment.id,))

        await self._journal.run(work)

    async def bury(self, segment: Segment, letter: Chunk, monotonic: float) -> None:
        """A refused row becomes a dead letter, and its segment is done.

        The letter takes the row's place in its stream, whose watermark waits for it too.
        """

        def work(db: sqlite3.Connection) -> None:
            stream_id, number = _place(db, segment, letter)
            put_chunk(db, letter, monotonic, stream_id=stream_id, seal_number=number)
            add_to_counter(db, "dead_letters", 1)
            _acknowledge(db, segment.id, segment.parent_id)

        await self._journal.seal(work)

    async def flush_meter(self, before_minute: int | None, monotonic: float) -> None:
        """Move settled calls of closed minutes (all of them for None) into chunks for `api_call_parts`."""

        def work(db: sqlite3.Connection) -> bool:
            by_partition: dict[str, list[tuple[object, ...]]] = {}
            for partition, row in ledger.take_meter(db, before_minute, self._journal.region):
                by_partition.setdefault(partition, []).append(row)
            for partition, rows in by_partition.items():
                chunk = Chunk("api_call_parts", partition, len(rows), lines(rows))
                put_chunk(db, chunk, monotonic, seal_number=next_number(db, "seal_number"))
            return bool(by_partition)

        if await self._journal.run(work):
            self.sealed.announce()

    # State that the store shows but that only the journal decides: sent as it is now, any number of times

    async def moved_watermarks(self) -> list[tuple[int, StreamKey, int, int]]:
        """(stream row, key, collected_from, watermark) of streams whose shown watermark is behind."""
        return await self._journal.run(
            lambda db: [
                (row[0], StreamKey(*row[1:4]), row[4], row[5])
                for row in db.execute(
                    "SELECT id, operation, region, scope_id, collected_from, watermark FROM streams"
                    " WHERE watermark IS NOT NULL AND collected_from IS NOT NULL"
                    " AND ifnull(watermark_shipped, -1) != watermark"
                )
            ]
        )

    async def watermarks_shipped(self, shown: list[tuple[int, int, int]]) -> None:
        """The store shows these (stream row, collected_from, watermark) now."""
        await self._journal.run(
            lambda db: (
                db.executemany(
                    # One whose range has grown meanwhile is shown once more.
                    "UPDATE streams SET watermark_shipped = ? WHERE id = ? AND collected_from = ?",
                    [(watermark, stream_id, collected_from) for stream_id, collected_from, watermark in shown],
                )
                and None
            )
        )

    async def changed_gaps(self) -> list[tuple[int, StreamKey, Window, str, str]]:
        """(stream row, key, range, reason, state) of gaps that the store does not show yet."""
        return await self._journal.run(
            lambda db: [
                (row[0], StreamKey(*row[1:4]), Window(row[4], row[5]), row[6], row[7])
                for row in db.execute(
                    "SELECT s.id, s.operation, s.region, s.scope_id, g.start, g.end, g.reason, g.state"
                    " FROM gaps g JOIN streams s ON s.id = g.stream_id WHERE NOT g.shipped"
                )
            ]
        )

    async def gaps_shipped(self, shown: list[tuple[int, Window, str]]) -> None:
        """The store shows these (stream row, range, state) now."""
        await self._journal.run(
            lambda db: (
                db.executemany(
                    "UPDATE gaps SET shipped = 1 WHERE stream_id = ? AND start = ? AND end = ? AND state = ?",
                    [(stream_id, window.start, window.end, state) for stream_id, window, state in shown],
                )
                and None
            )
        )


def _pending(db: sqlite3.Connection, table: str) -> list[Pending]:
    rows = db.execute(
        "SELECT id, window_id, stream_id, partition, mode, rows, bytes, journaled_at FROM chunks"
        " WHERE table_name = ? AND seal_number IS NOT NULL AND segment_id IS NULL"
        " ORDER BY seal_number, id LIMIT ?",
        (table, PENDING_MAX + 1),
    ).fetchall()
    found = [_pending_row(row) for row in rows]
    if len(found) > PENDING_MAX:
        # The last window may be cut by the limit; it waits for its turn, unless it is all there is.
        last = found[-1].window_id
        whole = [p for p in found if p.window_id != last or last is None]
        return whole or _pending_of_window(db, table, last)
    return found


def _pending_of_window(db: sqlite3.Connection, table: str, window_id: int | None) -> list[Pending]:
    rows = db.execute(
        "SELECT id, window_id, stream_id, partition, mode, rows, bytes, journaled_at FROM chunks"
        " WHERE table_name = ? AND window_id = ? AND segment_id IS NULL ORDER BY id",
        (table, window_id),
    )
    return [_pending_row(row) for row in rows]


def _pending_row(row: tuple[Any, ...]) -> Pending:
    chunk_id, window_id, stream_id, partition, mode, rows, size, journaled_at = row
    return Pending(chunk_id, window_id, stream_id, partition, ShipMode(mode), rows, size, journaled_at)


def _marks(count: int) -> str:
    return ",".join("?" * count)


def _freeze(db: sqlite3.Connection, table: str, chunk_ids: list[int], left: list[bytes] | None) -> Segment:
    partition, rows = db.execute(
        f"SELECT min(partition), sum(rows) FROM chunks WHERE id IN ({_marks(len(chunk_ids))})", chunk_ids
    ).fetchone()
    body = None if left is None else packed(b"".join(left))
    mode = ShipMode.APPEND if left is None else ShipMode.COMPARE
    segment_id = _put_segment(db, table, partition, mode, body, rows if left is None else len(left), None)
    db.execute(f"UPDATE chunks SET segment_id = ? WHERE id IN ({_marks(len(chunk_ids))})", [segment_id, *chunk_ids])
    return _segment(db, segment_id)


def _place(db: sqlite3.Connection, segment: Segment, letter: Chunk) -> tuple[int | None, int]:
    """Stream and seal number of the first rows in a refused segment that are of the letter's stream."""
    row = msgspec.json.decode(letter.body)
    place = db.execute(
        "SELECT s.id, min(c.seal_number) FROM chunks c JOIN streams s ON s.id = c.stream_id"
        " WHERE c.segment_id = ? AND s.operation = ? AND s.region = ? AND s.scope_id = ? GROUP BY s.id",
        (segment.parent_id or segment.id, *row[1:4]),
    ).fetchone()
    return (None, next_number(db, "seal_number")) if place is None else (place[0], place[1])


def _put_segment(
    db: sqlite3.Connection,
    table: str,
    partition: str,
    mode: ShipMode,
    body: bytes | None,
    rows: int,
    parent_id: str | None,
) -> str:
    segment_id = str(uuid.uuid4())
    db.execute(
        "INSERT INTO segments (id, number, table_name, partition, mode, rows, body, parent_id)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (segment_id, next_number(db, "segment_number"), table, partition, mode, rows, body, parent_id),
    )
    return segment_id


def _oldest_segment(db: sqlite3.Connection, table: str) -> Segment | None:
    row = db.execute(
        "SELECT id FROM segments s WHERE table_name = ?"
        " AND NOT EXISTS (SELECT 1 FROM segments p WHERE p.parent_id = s.id) ORDER BY number LIMIT 1",
        (table,),
    ).fetchone()
    return None if row is None else _segment(db, row[0])


def _segment(db: sqlite3.Connection, segment_id: str) -> Segment:
    row = db.execute(
        "SELECT table_name, partition, mode, rows, body, sent_at, parent_id FROM segments WHERE id = ?", (segment_id,)
    ).fetchone()
    table, partition, mode, rows, body, sent_at, parent_id = row
    if body is None:
        chunks = db.execute(
            "SELECT id, body, crc FROM chunks WHERE segment_id = ? ORDER BY seal_number, id", (segment_id,)
        ).fetchall()
        body = b"".join(_sound(*chunk) for chunk in chunks)
    else:
        body = unpacked(body)
    return Segment(segment_id, table, partition, ShipMode(mode), rows, body, sent_at, parent_id)


def _comparison(db: sqlite3.Connection, chunk_ids: list[int]) -> Comparison:
    chunks = db.execute(
        f"SELECT window_id, stream_id, id, body, crc FROM chunks WHERE id IN ({_marks(len(chunk_ids))}) ORDER BY id",
        chunk_ids,
    ).fetchall()
    window_id, stream_id = chunks[0][:2]
    stream = db.execute("SELECT operation, region, scope_id FROM streams WHERE id = ?", (stream_id,)).fetchone()
    window = db.execute("SELECT start, end, delay FROM windows WHERE id = ?", (window_id,)).fetchone()
    return Comparison(
        window_id=window_id,
        stream=StreamKey(*stream) if stream else None,
        window=Window(window[0], window[1]) if window else None,
        is_stray=window is not None and window[2] in (STRAY, REPLAY_PART),
        delay=0 if window is None else window[2],
        chunk_ids=tuple(chunk_ids),
        body=b"".join(_sound(*chunk[2:]) for chunk in chunks),
    )


def _sound(chunk_id: int, stored: bytes, crc: int) -> bytes:
    """The rows of a chunk. Raises JournalCorrupt when they are not what was written."""
    try:
        return checked(stored, crc)
    except ValueError:
        raise JournalCorrupt(
            f"chunk {chunk_id} of the journal is damaged", hint="run pai-collector journal verify"
        ) from None


def _acknowledge(db: sqlite3.Connection, segment_id: str, parent_id: str | None) -> list[tuple[int, int]]:
    db.execute("DELETE FROM segments WHERE id = ?", (segment_id,))
    root = parent_id or segment_id
    if parent_id is not None:
        if db.execute("SELECT 1 FROM segments WHERE parent_id = ?", (parent_id,)).fetchone():
            return []
        db.execute("DELETE FROM segments WHERE id = ?", (parent_id,))
    rows = db.execute("DELETE FROM chunks WHERE segment_id = ? RETURNING stream_id", (root,)).fetchall()
    moved = []
    for stream_id in {row[0] for row in rows if row[0] is not None}:
        watermark = advance(db, stream_id)
        if watermark is not None:
            moved.append((stream_id, watermark))
    return moved
