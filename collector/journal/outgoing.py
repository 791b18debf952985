"""The shipping side of the journal: from sealed chunks to acknowledged segments."""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import msgspec

from collector.clock import Signal
from collector.errors import JournalCorrupt
from collector.journal import ledger
from collector.journal.coverage import REPLAY_PART
from collector.journal.entries import Chunk, ChunkSize, Compared, Comparison, Segment, Unsent
from collector.journal.journal import FOR_EVER, STRAY, Journal, add_to_counter, advance, next_number, put_chunk
from collector.journal.recovery.orphans import stream_apart
from collector.model import BLOCK_ROWS_MAX, ShipMode, StreamKey, Window
from collector.packing import checked, packed, unpacked
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

    def allow(self, rows: int, size: int) -> bool:
        """Whether N rows of `size` bytes fit in one segment."""
        return rows <= self.rows_max and size <= self.bytes_max

    def with_bytes(self, bytes_max: int) -> Limits:
        """Return these limits with a smaller size."""
        return replace(self, bytes_max=min(self.bytes_max, bytes_max))


BLOCK = Limits(flush_interval_seconds=0)
"""The largest segment that the engine stores as one block."""


@dataclass(frozen=True, slots=True)
class Pending:
    """One sealed chunk that is in no segment yet, without its rows."""

    id: int
    window_id: int | None
    stream_id: int | None
    """The first of those that may share rows, where there are several: none of their windows is compared beside
    another."""
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
    """Choose the chunks of the next segment: one partition, whole windows, within the limits.

    A window that is larger than a segment is chosen alone and whole; `freeze` divides it into parts.
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
    """Choose windows that may be compared now, each as its chunks, all of one partition.

    A window is compared only when nothing earlier of its stream waits for the store. One that is larger than a
    segment is chosen alone.
    """
    chosen: dict[int, list[int]] = {}
    seen: set[int | None] = set()
    partition: str | None = None
    rows = size = 0
    for chunk in pending:
        group = chunk.window_id if chunk.window_id is not None else -chunk.id
        if group in chosen and chunk.partition == partition:
            chosen[group].append(chunk.id)
            rows += chunk.rows
            size += chunk.bytes
            continue
        if chunk.stream_id in seen:
            continue
        seen.add(chunk.stream_id)
        if chunk.mode is not ShipMode.COMPARE or (partition is not None and chunk.partition != partition):
            continue
        if chosen and not limits.allow(rows + chunk.rows, size + chunk.bytes):
            break
        partition = chunk.partition
        chosen[group] = [chunk.id]
        rows += chunk.rows
        size += chunk.bytes
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

    async def oldest(self, table: str) -> Unsent | None:
        """Return the oldest segment of a table that is not acknowledged; one with parts is replaced by those."""
        return await self._journal.run(lambda db: _oldest_segment(db, table))

    async def segment(self, segment_id: str) -> Segment:
        """Return a segment with its rows."""
        return await self._journal.run(lambda db: _segment(db, segment_id))

    async def unsent(self, table: str) -> Segment | None:
        """Return the oldest segment of a table that is not acknowledged, with its rows."""
        oldest = await self.oldest(table)
        return None if oldest is None else await self.segment(oldest.id)

    async def pending(self, table: str) -> list[Pending]:
        """Sealed chunks of a table that are in no segment yet, in journal order."""
        return await self._journal.run(lambda db: _pending(db, table))

    async def freeze(self, table: str, chunk_ids: list[int], limits: Limits = BLOCK) -> Segment:
        """Make a segment of chunks: from here on its id and its bytes never change.

        What exceeds `limits` is divided into parts, and the first of them is returned.
        """
        return await self._journal.run(lambda db: _freeze(db, table, chunk_ids, limits))

    async def comparisons(self, groups: list[list[int]]) -> list[Comparison]:
        """The chunks of each group, without rows, with the window and the stream they belong to."""
        return await self._journal.run(lambda db: [_comparison(db, ids) for ids in groups])

    async def bodies(self, chunk_ids: Sequence[int]) -> list[bytes]:
        """Return the rows of chunks, in the order of `chunk_ids`. The caller bounds how many they are."""
        return await self._journal.run(lambda db: [_body(db, chunk_id) for chunk_id in chunk_ids])

    async def freeze_compared(self, table: str, compared: list[Compared], limits: Limits = BLOCK) -> Segment:
        """Make a segment of what comparisons left over, and count what they found.

        What exceeds `limits` is divided into parts, and the first of them is returned.
        """

        def work(db: sqlite3.Connection) -> Segment:
            for one in compared:
                add_to_counter(db, "conflicts", one.conflicts)
                add_to_counter(db, "rows_added_by_compare", len(one.missing))
                if one.counter:
                    add_to_counter(db, one.counter, len(one.missing))
            return _freeze_compared(db, table, compared, limits)

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

    async def distrust(self, root: str) -> None:
        """Have the windows of a segment compared instead of sent again: which rows the store has is not known.

        `root` is a segment's `root_id`.
        """

        def work(db: sqlite3.Connection) -> None:
            db.execute(
                "UPDATE chunks SET segment_id = NULL, part_id = NULL, mode = ? WHERE segment_id = ?",
                (ShipMode.COMPARE, root),
            )
            # Their rows will be refused again.
            db.execute("DELETE FROM chunks WHERE part_id = ? AND segment_id IS NULL", (root,))
            db.execute("DELETE FROM segments WHERE id = ? OR parent_id = ?", (root, root))

        await self._journal.seal(work)

    async def split(self, segment: Segment, halves: list[list[bytes]]) -> None:
        """Replace a refused segment by parts under new ids, each with lines of its own."""

        def work(db: sqlite3.Connection) -> None:
            root = segment.root_id
            for half in halves:
                _put_segment(db, segment.table, segment.partition, segment.mode, len(half), b"".join(half), parent=root)
            if segment.parent_id is not None:
                db.execute("DELETE FROM segments WHERE id = ?", (segment.id,))

        await self._journal.run(work)

    async def bury(self, segment: Segment, letter: Chunk, monotonic: float) -> None:
        """A refused row becomes a dead letter, and its segment is done.

        The letter takes the row's place in its stream, whose watermark waits for it too.
        """

        def work(db: sqlite3.Connection) -> None:
            stream_id = _stream_of(db, segment, letter)
            if stream_id is None:
                put_chunk(db, letter, monotonic, seal_number=next_number(db, "seal_number"))
                add_to_counter(db, "dead_letters", 1)
            else:
                chunk_id = put_chunk(db, letter, monotonic, stream_id=stream_id)
                db.execute("UPDATE chunks SET part_id = ? WHERE id = ?", (segment.root_id, chunk_id))
            _acknowledge(db, segment.id, segment.parent_id)

        await self._journal.seal(work)

    async def quarantine(self, segment: Segment, reason: str, now: int) -> None:
        """Keep a segment that the store never takes in the journal, so that its table continues without it."""

        def work(db: sqlite3.Connection) -> None:
            db.execute(
                "INSERT INTO quarantine (table_name, partition, rows, body, reason, quarantined_at)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (segment.table, segment.partition, segment.rows, packed(segment.body), reason, now),
            )
            add_to_counter(db, "quarantined_rows", segment.rows)
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

    async def moved_watermarks(self) -> list[tuple[int, StreamKey, int, int, int]]:
        """(stream row, key, collected_from, watermark, generation) of streams whose shown watermark is another one."""
        return await self._journal.run(
            lambda db: [
                (row[0], StreamKey(*row[1:4]), row[4], row[5], row[6])
                for row in db.execute(
                    "SELECT id, operation, region, scope_id, collected_from, watermark, ifnull(generation, 0)"
                    " FROM streams LEFT JOIN generations ON stream_id = id"
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
    first = _first_sharing(db, {row[2] for row in rows if row[2] is not None})
    found = [_pending_row(row, first) for row in rows]
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
    return [_pending_row(row, {}) for row in rows]


def _first_sharing(db: sqlite3.Connection, stream_ids: Collection[int]) -> dict[int, int]:
    """Return for each of the streams that may share rows with others the first of those among them."""
    first: dict[tuple[str, ...], int] = {}
    rows = db.execute(
        "SELECT s.id, s.operation, s.region, s.scope_id FROM json_each(?) j"
        " JOIN held h ON h.stream_id = j.value AND h.start = 0 AND h.end = ? JOIN streams s ON s.id = h.stream_id",
        (json.dumps(sorted(stream_ids)), FOR_EVER),
    )
    return {stream_id: first.setdefault(StreamKey(*names).row_space, stream_id) for stream_id, *names in rows}


def _pending_row(row: tuple[Any, ...], first: Mapping[int, int]) -> Pending:
    chunk_id, window_id, stream_id, partition, mode, rows, size, journaled_at = row
    stream_id = first.get(stream_id, stream_id)
    return Pending(chunk_id, window_id, stream_id, partition, ShipMode(mode), rows, size, journaled_at)


_AMONG = "IN (SELECT value FROM json_each(?))"
"""Takes a JSON array: a window may have more chunks than a statement takes parameters."""


def _sizes(db: sqlite3.Connection, chunk_ids: Sequence[int], order: str) -> list[ChunkSize]:
    rows = db.execute(
        f"SELECT id, rows, bytes FROM chunks WHERE id {_AMONG} ORDER BY {order}", (json.dumps(list(chunk_ids)),)
    )
    return [ChunkSize(*row) for row in rows]


def _freeze(db: sqlite3.Connection, table: str, chunk_ids: Sequence[int], limits: Limits) -> Segment:
    chunks = _sizes(db, chunk_ids, "seal_number, id")
    (partition,) = db.execute("SELECT partition FROM chunks WHERE id = ?", (chunks[0].id,)).fetchone()
    rows, size = sum(chunk.rows for chunk in chunks), sum(chunk.bytes for chunk in chunks)
    segment_id = _put_segment(db, table, partition, ShipMode.APPEND, rows, size=size)
    db.execute(f"UPDATE chunks SET segment_id = ? WHERE id {_AMONG}", (segment_id, json.dumps(list(chunk_ids))))
    if limits.allow(rows, size) or rows == 1:
        return _segment(db, segment_id)
    first = ""
    for part in _divide(chunks, limits):
        if len(part) == 1 and not limits.allow(part[0].rows, part[0].bytes):
            lines = _body(db, part[0].id).splitlines(keepends=True)
            parts = [
                _put_segment(db, table, partition, ShipMode.APPEND, len(some), b"".join(some), parent=segment_id)
                for some in _cut(lines, limits)
            ]
        else:
            part_rows, part_size = sum(chunk.rows for chunk in part), sum(chunk.bytes for chunk in part)
            parts = [_put_segment(db, table, partition, ShipMode.APPEND, part_rows, size=part_size, parent=segment_id)]
            ids = json.dumps([chunk.id for chunk in part])
            db.execute(f"UPDATE chunks SET part_id = ? WHERE id {_AMONG}", (parts[0], ids))
        first = first or parts[0]
    return _segment(db, first)


def _divide(chunks: Sequence[ChunkSize], limits: Limits) -> Iterator[list[ChunkSize]]:
    """Yield neighbouring chunks that fit in one segment together; a chunk that is larger than that comes alone."""
    part: list[ChunkSize] = []
    rows = size = 0
    for chunk in chunks:
        if part and not limits.allow(rows + chunk.rows, size + chunk.bytes):
            yield part
            part, rows, size = [], 0, 0
        part.append(chunk)
        rows, size = rows + chunk.rows, size + chunk.bytes
    if part:
        yield part


def _cut(lines: Iterable[bytes], limits: Limits) -> Iterator[list[bytes]]:
    """Yield neighbouring lines that fit in one segment together; a line that is larger than that comes alone."""
    part: list[bytes] = []
    size = 0
    for line in lines:
        if part and not limits.allow(len(part) + 1, size + len(line)):
            yield part
            part, size = [], 0
        part.append(line)
        size += len(line)
    if part:
        yield part


def _freeze_compared(db: sqlite3.Connection, table: str, compared: Sequence[Compared], limits: Limits) -> Segment:
    """Two parts and one chunk are in memory at a time."""
    chunk_ids = [chunk.id for one in compared for chunk in one.chunks]
    (partition,) = db.execute("SELECT partition FROM chunks WHERE id = ?", (chunk_ids[0],)).fetchone()
    rows = sum(len(one.missing) for one in compared)
    parts = _cut(_missing_lines(db, compared), limits)
    lines, more = next(parts, []), next(parts, None)
    if more is None:
        first = segment_id = _put_segment(db, table, partition, ShipMode.COMPARE, rows, b"".join(lines))
    else:
        segment_id = _put_segment(db, table, partition, ShipMode.COMPARE, rows)
        first = ""
        for part in chain((lines, more), parts):
            part_id = _put_segment(db, table, partition, ShipMode.COMPARE, len(part), b"".join(part), parent=segment_id)
            first = first or part_id
    db.execute(f"UPDATE chunks SET segment_id = ? WHERE id {_AMONG}", (segment_id, json.dumps(chunk_ids)))
    return _segment(db, first)


def _missing_lines(db: sqlite3.Connection, compared: Sequence[Compared]) -> Iterator[bytes]:
    for one in compared:
        begin, places = 0, iter(one.missing)
        place = next(places, None)
        for chunk in one.chunks:
            if place is None:
                break
            if place < begin + chunk.rows:
                lines = _body(db, chunk.id).splitlines(keepends=True)
                while place is not None and place < begin + chunk.rows:
                    yield lines[place - begin]
                    place = next(places, None)
            begin += chunk.rows


def _stream_of(db: sqlite3.Connection, segment: Segment, letter: Chunk) -> int | None:
    """Return the stream of a refused row, None if the journal does not know it."""
    row = msgspec.json.decode(letter.body)
    streams = db.execute(
        "SELECT DISTINCT s.id, s.operation, s.region, s.scope_id FROM chunks c JOIN streams s ON s.id = c.stream_id"
        " WHERE c.segment_id = ? AND s.operation = ? AND s.region = ? ORDER BY s.id",
        (segment.root_id, *row[1:3]),
    )
    # The letter has the scope of the row, which names the target alone.
    return next((int(stream_id) for stream_id, *key in streams if StreamKey(*key).target_id == row[3]), None)


def _release_letters(db: sqlite3.Connection, root: str) -> None:
    """Have the dead letters of a segment shipped, each stream's together and in the place of its refused rows.

    Letters of equal lines are equal too, and can only be counted together.
    """
    letters = db.execute(
        "SELECT stream_id, count() FROM chunks WHERE part_id = ? AND segment_id IS NULL GROUP BY 1", (root,)
    ).fetchall()
    for stream_id, count in letters:
        (number,) = db.execute(
            "SELECT min(seal_number) FROM chunks WHERE segment_id = ? AND stream_id = ?", (root, stream_id)
        ).fetchone()
        window_id = db.execute(
            "INSERT INTO windows (stream_id, delay, start, end, mode, cursors_used, pages, reading, in_order,"
            " seal_number) VALUES (?, ?, 0, 1, ?, x'', 1, 0, 1, ?)",
            (stream_id, STRAY, ShipMode.COMPARE, number),
        ).lastrowid
        db.execute(
            "UPDATE chunks SET window_id = ?, seal_number = ?, part_id = NULL"
            " WHERE part_id = ? AND segment_id IS NULL AND stream_id = ?",
            (window_id, number, root, stream_id),
        )
        add_to_counter(db, "dead_letters", count)


def _put_segment(
    db: sqlite3.Connection,
    table: str,
    partition: str,
    mode: ShipMode,
    rows: int,
    body: bytes | None = None,
    *,
    size: int = 0,
    parent: str | None = None,
) -> str:
    """Write a segment and return its id; `size` is that of its chunks where it has no body."""
    segment_id = str(uuid.uuid4())
    db.execute(
        "INSERT INTO segments (id, number, table_name, partition, mode, rows, bytes, body, parent_id)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            segment_id, next_number(db, "segment_number"), table, partition, mode, rows,
            size if body is None else len(body), None if body is None else packed(body), parent,
        ),
    )  # fmt: skip
    return segment_id


def _oldest_segment(db: sqlite3.Connection, table: str) -> Unsent | None:
    row = db.execute(
        "SELECT id, ifnull(parent_id, id), rows, bytes FROM segments s WHERE table_name = ?"
        " AND NOT EXISTS (SELECT 1 FROM segments p WHERE p.parent_id = s.id) ORDER BY number LIMIT 1",
        (table,),
    ).fetchone()
    return None if row is None else Unsent(*row)


def _segment(db: sqlite3.Connection, segment_id: str) -> Segment:
    row = db.execute(
        "SELECT table_name, partition, mode, rows, body, sent_at, parent_id FROM segments WHERE id = ?", (segment_id,)
    ).fetchone()
    table, partition, mode, rows, body, sent_at, parent_id = row
    if body is None:
        column = "segment_id" if parent_id is None else "part_id"
        chunks = db.execute(
            f"SELECT id, body, crc FROM chunks WHERE {column} = ? ORDER BY seal_number, id", (segment_id,)
        )
        body = b"".join([_sound(*chunk) for chunk in chunks])
    else:
        body = unpacked(body)
    return Segment(segment_id, table, partition, ShipMode(mode), rows, body, sent_at, parent_id)


def _comparison(db: sqlite3.Connection, chunk_ids: Sequence[int]) -> Comparison:
    window_id, stream_id = db.execute(
        "SELECT window_id, stream_id FROM chunks WHERE id = ?", (chunk_ids[0],)
    ).fetchone()
    stream = db.execute("SELECT operation, region, scope_id FROM streams WHERE id = ?", (stream_id,)).fetchone()
    if stream is None:
        stream = stream_apart(db, chunk_ids[0])
    window = db.execute("SELECT start, end, delay FROM windows WHERE id = ?", (window_id,)).fetchone()
    return Comparison(
        window_id=window_id,
        stream=StreamKey(*stream) if stream else None,
        window=Window(window[0], window[1]) if window else None,
        is_stray=window is not None and window[2] in (STRAY, REPLAY_PART),
        delay=0 if window is None else window[2],
        chunks=tuple(_sizes(db, chunk_ids, "id")),
    )


def _body(db: sqlite3.Connection, chunk_id: int) -> bytes:
    return _sound(*db.execute("SELECT id, body, crc FROM chunks WHERE id = ?", (chunk_id,)).fetchone())


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
    _release_letters(db, root)
    rows = db.execute("DELETE FROM chunks WHERE segment_id = ? RETURNING stream_id", (root,)).fetchall()
    moved = []
    for stream_id in {row[0] for row in rows if row[0] is not None}:
        watermark = advance(db, stream_id)
        if watermark is not None:
            moved.append((stream_id, watermark))
    return moved
