"""Streams that leave a journal, because another process collects them or may have collected them.

A stream that is drained is dropped, so that a later return begins with what the store knows then. Of one that
was given up, the rows that are not shipped are set apart, and come back one window at a time to be compared.
"""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Callable, Collection, Mapping
from typing import Final

import msgspec

from collector.journal.entries import Chunk
from collector.journal.journal import Journal, add_to_counter, next_number, put_chunk
from collector.journal.recovery.salvage import sound_chunk
from collector.model import ShipMode, StreamKey, Window
from collector.packing import packed, unpacked
from collector.sources.tables import EVENTS, METRIC_POINTS, SYSLOGS, TABLES, Table

ASKED_AGAIN: Final = frozenset({SYSLOGS.name, METRIC_POINTS.name, EVENTS.name})
"""Tables of windows: who goes on with a stream asks for everything behind the watermark in the store."""

# Made when it is needed: hardly any journal ever is given up.
_SET_APART: Final = """
CREATE TABLE IF NOT EXISTS set_apart (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    operation TEXT NOT NULL,
    region TEXT NOT NULL,
    scope_id TEXT NOT NULL,
    end INTEGER NOT NULL,             -- of the window; 0 for rows that belong to none
    table_name TEXT NOT NULL,
    partition TEXT NOT NULL,
    rows INTEGER NOT NULL,
    body BLOB,                        -- all rows of the window in this partition; NULL once they are a chunk again
    chunk_id INTEGER                  -- that chunk
)
"""
_STREAM_TABLES: Final = ("rechecks", "held", "windows", "observed", "gaps", "backfills", "generations")


class Orphans:
    """What `owner.shards` needs of the journal. Every method is one transaction."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    async def drop_drained(self, is_ours: Callable[[StreamKey], bool]) -> tuple[list[StreamKey], int]:
        """Drop the streams that are not ours and have nothing left to ship or to show; returns them, and how many stay.

        A window of theirs whose last page is missing is given up: whoever has the stream asks for it.
        """
        return await self._journal.run(lambda db: _drop_drained(db, is_ours))

    async def set_apart(self, keys: Collection[StreamKey]) -> int:
        """Make streams unknown to the journal and set apart what it has of them; returns how many rows.

        Segments that may have been sent are taken to pieces: which of their rows the store has is for a comparison to
        say. Calls stay as they are, since nobody else enters them.
        """
        return await self._journal.run(lambda db: _set_apart(db, keys))

    async def out_of_step(self, shown: Mapping[StreamKey, tuple[int, int]]) -> set[StreamKey]:
        """Return the streams of which the store shows what this file cannot have told it last.

        `shown` is (generation, watermark) by stream. Where the store is ahead, the file is a copy from before; where
        the store lacks what it was told, it is another one, or an older copy itself.
        """
        return await self._journal.run(lambda db: _out_of_step(db, shown))

    async def begin_anew(self) -> tuple[str, int]:
        """Set everything apart and take a new id, after the journal was given up; returns that and how many rows."""
        return await self._journal.run(_begin_anew)

    async def keys(self) -> set[StreamKey]:
        """Return the streams of which rows are set apart, or came back and are not shipped yet."""
        return await self._journal.run(_keys)

    async def bring_back(self, key: StreamKey, covered: Window | None, monotonic: float) -> int:
        """Let rows of a stream that were set apart be compared and shipped; returns how many.

        None as `covered`: nobody else has the stream, and all of them come back. Otherwise another process collects
        it and has stored that range, and only windows that end in it are settled: rows that it has asked for again
        are let go of here; those from before its time come back, and so do those of snapshots and states, which nobody
        can ask for again.
        """
        return await self._journal.seal(lambda db: _bring_back(db, key, covered, monotonic))


def _drop_drained(db: sqlite3.Connection, is_ours: Callable[[StreamKey], bool]) -> tuple[list[StreamKey], int]:
    dropped: list[StreamKey] = []
    staying = 0
    rows = db.execute(
        "SELECT id, operation, region, scope_id, watermark IS NOT watermark_shipped AND collected_from IS NOT NULL"
        " FROM streams"
    ).fetchall()
    for stream_id, operation, region, scope_id, has_news in rows:
        key = StreamKey(operation, region, scope_id)
        if is_ours(key):
            continue
        _drop_open(db, stream_id)
        if has_news or _has_chunks(db, stream_id) or _has_gaps(db, stream_id):
            staying += 1
            continue
        _forget_stream(db, stream_id)
        dropped.append(key)
    return dropped, staying


def _set_apart(db: sqlite3.Connection, keys: Collection[StreamKey] | None) -> int:
    """As `Orphans.set_apart`; None means all streams."""
    db.execute(_SET_APART)
    # Rows that are set apart could be those of another stream of the same target, so they go together.
    spaces = None if keys is None else {key.row_space for key in keys}
    rows = db.execute("SELECT id, operation, region, scope_id FROM streams").fetchall()
    count = 0
    for stream_id, *names in rows:
        key = StreamKey(*names)
        if spaces is not None and key.row_space not in spaces:
            continue
        _drop_open(db, stream_id)
        _take_apart_segments(db, stream_id)
        count += _set_rows_apart(db, stream_id, key)
        _forget_stream(db, stream_id)
    return count


def _out_of_step(db: sqlite3.Connection, shown: Mapping[StreamKey, tuple[int, int]]) -> set[StreamKey]:
    found: set[StreamKey] = set()
    rows = db.execute(
        "SELECT operation, region, scope_id, watermark, watermark_shipped, ifnull(generation, 0) FROM streams"
        " LEFT JOIN generations ON stream_id = id"
    )
    for *names, watermark, told, generation in rows:
        key = StreamKey(*names)
        if (there := shown.get(key)) is None:
            is_other = told is not None
        elif there[0] == generation:
            is_other = there[1] > (watermark or 0) or there[1] < (told or 0)
        else:
            is_other = there[0] > generation
        if is_other:
            found.add(key)
    return found


def _begin_anew(db: sqlite3.Connection) -> tuple[str, int]:
    rows = _set_apart(db, None)
    journal_id = str(uuid.uuid4())
    db.execute("INSERT OR REPLACE INTO meta VALUES ('id', ?)", (journal_id,))
    return journal_id, rows


def _keys(db: sqlite3.Connection) -> set[StreamKey]:
    if not _is_there(db):
        return set()
    db.execute("DELETE FROM set_apart WHERE chunk_id IS NOT NULL AND chunk_id NOT IN (SELECT id FROM chunks)")
    return {StreamKey(*row) for row in db.execute("SELECT DISTINCT operation, region, scope_id FROM set_apart")}


def stream_apart(db: sqlite3.Connection, chunk_id: int) -> tuple[str, str, str] | None:
    """Return operation, region and scope of rows that came back as a chunk; None for other chunks."""
    if not _is_there(db):
        return None
    sql = "SELECT operation, region, scope_id FROM set_apart WHERE chunk_id = ?"
    found: tuple[str, str, str] | None = db.execute(sql, (chunk_id,)).fetchone()
    return found


def _bring_back(db: sqlite3.Connection, key: StreamKey, covered: Window | None, monotonic: float) -> int:
    if not _is_there(db):
        return 0
    found = db.execute(
        "SELECT id, table_name, partition, rows, body FROM set_apart WHERE operation = ? AND region = ?"
        " AND scope_id = ? AND chunk_id IS NULL AND end <= ? ORDER BY id",
        (key.operation, key.region, key.scope_id, 2**62 if covered is None else covered.end),
    ).fetchall()
    count = 0
    for row_id, table, partition, rows, body in found:
        body, left = unpacked(body), rows
        if covered is not None and table in ASKED_AGAIN:
            body, left = _before(TABLES[table], body, covered.start)
            add_to_counter(db, "rows_asked_again", rows - left)
        if not left:
            db.execute("DELETE FROM set_apart WHERE id = ?", (row_id,))
            continue
        chunk = Chunk(table, partition, left, body, ShipMode.COMPARE)
        put_chunk(db, chunk, monotonic, seal_number=next_number(db, "seal_number"))
        db.execute("UPDATE set_apart SET body = NULL, chunk_id = last_insert_rowid() WHERE id = ?", (row_id,))
        count += left
    return count


def _before(table: Table, body: bytes, time: int) -> tuple[bytes, int]:
    """The lines of rows from before `time`, and how many they are."""
    column = table.time_index
    assert column is not None
    kept = [line for line in body.splitlines(keepends=True) if msgspec.json.decode(line)[column] < time]
    return b"".join(kept), len(kept)


def _is_there(db: sqlite3.Connection) -> bool:
    return db.execute("SELECT 1 FROM sqlite_master WHERE name = 'set_apart'").fetchone() is not None


def _drop_open(db: sqlite3.Connection, stream_id: int) -> None:
    db.execute(
        "DELETE FROM chunks WHERE window_id IN (SELECT id FROM windows WHERE stream_id = ? AND seal_number IS NULL)",
        (stream_id,),
    )
    db.execute("DELETE FROM windows WHERE stream_id = ? AND seal_number IS NULL", (stream_id,))


def _has_chunks(db: sqlite3.Connection, stream_id: int) -> bool:
    return db.execute("SELECT 1 FROM chunks WHERE stream_id = ? LIMIT 1", (stream_id,)).fetchone() is not None


def _has_gaps(db: sqlite3.Connection, stream_id: int) -> bool:
    row = db.execute("SELECT 1 FROM gaps WHERE stream_id = ? AND NOT shipped LIMIT 1", (stream_id,)).fetchone()
    return row is not None


def _forget_stream(db: sqlite3.Connection, stream_id: int) -> None:
    for table in _STREAM_TABLES:
        db.execute(f"DELETE FROM {table} WHERE stream_id = ?", (stream_id,))
    db.execute("DELETE FROM streams WHERE id = ?", (stream_id,))


def _take_apart_segments(db: sqlite3.Connection, stream_id: int) -> None:
    segments = db.execute(
        "SELECT DISTINCT segment_id FROM chunks WHERE stream_id = ? AND segment_id IS NOT NULL", (stream_id,)
    ).fetchall()
    for (segment_id,) in segments:
        # Rows of other streams in it are compared as well, in their order.
        db.execute(
            "UPDATE chunks SET segment_id = NULL, part_id = NULL, mode = ? WHERE segment_id = ?",
            (ShipMode.COMPARE, segment_id),
        )
        # Dead letters that wait for their segment: the rows will be refused again.
        db.execute("DELETE FROM chunks WHERE part_id = ? AND segment_id IS NULL", (segment_id,))
        db.execute("DELETE FROM segments WHERE id = ? OR parent_id = ?", (segment_id, segment_id))


def _set_rows_apart(db: sqlite3.Connection, stream_id: int, key: StreamKey) -> int:
    """A row for each window and partition: equal lines on two pages can only be counted together."""
    chunks = db.execute(
        "SELECT c.id, c.window_id, ifnull(w.end, 0), c.table_name, c.partition FROM chunks c"
        " LEFT JOIN windows w ON w.id = c.window_id WHERE c.stream_id = ? ORDER BY c.seal_number, c.id",
        (stream_id,),
    ).fetchall()
    groups: dict[tuple[int, str, str], tuple[int, list[int]]] = {}
    for chunk_id, window_id, end, table, partition in chunks:
        place = (-chunk_id if window_id is None else window_id, table, partition)
        groups.setdefault(place, (end, []))[1].append(chunk_id)
    count = 0
    for (_, table, partition), (end, ids) in groups.items():
        # One window in memory at a time, however long the stream has waited for the store.
        parts = [chunk for chunk_id in ids if (chunk := _sound(db, chunk_id)) is not None]
        rows = sum(part.rows for part in parts)
        count += rows
        if not parts:
            continue
        db.execute(
            "INSERT INTO set_apart (operation, region, scope_id, end, table_name, partition, rows, body)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                key.operation, key.region, key.scope_id, end, table, partition, rows,
                packed(b"".join(part.body for part in parts)),
            ),
        )  # fmt: skip
    db.execute("DELETE FROM chunks WHERE stream_id = ?", (stream_id,))
    return count


def _sound(db: sqlite3.Connection, chunk_id: int) -> Chunk | None:
    # Damage is found when the journal is opened; what came since is not carried on as if it were sound.
    row = db.execute("SELECT table_name, partition, rows, crc, body FROM chunks WHERE id = ?", (chunk_id,)).fetchone()
    return sound_chunk(*row)
