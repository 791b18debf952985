"""Rows and calls of another journal, taken over into this one: to be compared with the store, and so stored once.

A window of the other journal counts as covered with the acknowledgement of its rows, as one of a backfill does.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal

import msgspec

from collector.journal import ledger
from collector.journal.coverage import REPLAY, REPLAY_PART
from collector.journal.entries import Chunk
from collector.journal.journal import Journal, next_number, put_chunk, put_sealed
from collector.journal.ledger import Prices
from collector.journal.money import micro_cny
from collector.journal.recovery.salvage import Readable, Salvage
from collector.model import ShipMode, Window
from collector.sources.tables import API_CALLS

_REPLAYED = "replayed/"
"""Under this name and a journal's id stands that its calls were taken over."""


class Replay:
    """What `owner.replaying` needs of the open journal. Every method is one transaction."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    async def take_rows(
        self, stream_id: int, found: Salvage, rows: Readable, covers: Window | None, monotonic: float
    ) -> list[int]:
        """Enter rows of one window, or of none, to be compared; returns the ids of their chunks.

        `covers` is the range that is covered once they are acknowledged, None where it is not. Raises JournalCorrupt
        where they cannot be read any more.
        """
        return await self._journal.seal(
            lambda db: _take_rows(db, stream_id, rows, found.chunks(rows.chunk_ids), covers, monotonic)
        )

    async def work_left(self, chunk_ids: Sequence[int]) -> tuple[int, int]:
        """Return how many of these chunks are not acknowledged, and how many segments of all tables.

        Chunks that are sent in parts are acknowledged with the last part: until then only the segments show progress.
        """
        return await self._journal.run(lambda db: _work_left(db, chunk_ids))

    async def end(self, stream_id: int, covered: Sequence[Window], *, can_be_asked_later: bool) -> None:
        """Forget what was covered, but for snapshots that the stream has not reached: they will be no gaps."""
        await self._journal.run(lambda db: _end(db, stream_id, covered, can_be_asked_later=can_be_asked_later))

    async def take_calls(
        self, found: Salvage, chunks: Mapping[int, Chunk], prices: Prices, monotonic: float
    ) -> int | None:
        """Enter the calls that another journal had and the store may lack, once; None where that was done before.

        A segment that was sent keeps its id, so that the store tells whether it has it. `chunks` are those of
        `found.calls` that can be read.
        """
        return await self._journal.seal(lambda db: _take_calls(db, found, chunks, prices, monotonic))


def _take_rows(
    db: sqlite3.Connection, stream_id: int, rows: Readable, chunks: Iterable[Chunk], covers: Window | None,
    monotonic: float,
) -> list[int]:  # fmt: skip
    if covers is not None:
        db.execute(
            "INSERT OR IGNORE INTO backfills (stream_id, start, end, sealed_to) VALUES (?, ?, ?, ?)",
            (stream_id, covers.start, covers.end, covers.end),
        )
    return put_sealed(db, stream_id, REPLAY if rows.is_whole else REPLAY_PART, rows.window, chunks, monotonic)


def _work_left(db: sqlite3.Connection, chunk_ids: Sequence[int]) -> tuple[int, int]:
    (chunks,) = db.execute(
        "SELECT count() FROM chunks WHERE id IN (SELECT value FROM json_each(?))", (json.dumps(chunk_ids),)
    ).fetchone()
    (segments,) = db.execute("SELECT count() FROM segments").fetchone()
    return int(chunks), int(segments)


def _end(db: sqlite3.Connection, stream_id: int, covered: Sequence[Window], *, can_be_asked_later: bool) -> None:
    (sealed_to,) = db.execute("SELECT sealed_to FROM streams WHERE id = ?", (stream_id,)).fetchone()
    db.executemany(
        "DELETE FROM backfills WHERE stream_id = ? AND start = ? AND end = ? AND covered",
        [
            (stream_id, window.start, window.end)
            for window in covered
            if can_be_asked_later or window.end <= (sealed_to or 0)
        ],
    )


def _take_calls(
    db: sqlite3.Connection, found: Salvage, chunks: Mapping[int, Chunk], prices: Prices, monotonic: float
) -> int | None:
    calls = found.calls
    name = _REPLAYED + (found.id or found.path.name)
    if db.execute("SELECT 1 FROM meta WHERE key = ?", (name,)).fetchone():
        return None
    db.execute("INSERT INTO meta VALUES (?, 1)", (name,))
    count = 0
    for segment_id, (sent_at, ids) in calls.sent.items():
        sound = [chunks[chunk_id] for chunk_id in ids if chunk_id in chunks]
        if len(sound) < len(ids):
            # In part it would be another segment, and the store could have all of it.
            continue
        count += _take_segment(db, segment_id, sent_at, sound, monotonic)
    for chunk_id in calls.unsent:
        if chunk_id in chunks:
            count += _take_chunk(db, chunks[chunk_id], monotonic)[1]
    for row in calls.meter:
        ledger.add_settled(
            db, row["minute"], row["operation"], row["http_status"], row["code"], row["calls"], row["rows"],
            row["bytes"], row["cost_micro_cny"],
        )  # fmt: skip
        count += row["calls"]
    ledger.enter_unknown(
        db,
        [
            (row["operation"], row["minute"], row.get("price_micro_cny"), row.get("free_calls"))
            for row in calls.reserved
        ],
        prices,
    )
    return count + len(calls.reserved)


def _take_segment(
    db: sqlite3.Connection, segment_id: str, sent_at: int, chunks: Sequence[Chunk], monotonic: float
) -> int:
    db.execute(
        "INSERT INTO segments (id, number, table_name, partition, mode, rows, sent_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            segment_id, next_number(db, "segment_number"), API_CALLS.name, chunks[0].partition, ShipMode.APPEND,
            sum(chunk.rows for chunk in chunks), sent_at,
        ),
    )  # fmt: skip
    taken = [_take_chunk(db, chunk, monotonic) for chunk in chunks]
    db.executemany("UPDATE chunks SET segment_id = ? WHERE id = ?", [(segment_id, chunk_id) for chunk_id, _ in taken])
    return sum(count for _, count in taken)


def _take_chunk(db: sqlite3.Connection, chunk: Chunk, monotonic: float) -> tuple[int, int]:
    """Enter the rows of a chunk; returns its id, and how many calls they tell of."""
    chunk_id = put_chunk(
        db, replace(chunk, mode=ShipMode.APPEND), monotonic, seal_number=next_number(db, "seal_number")
    )
    count = 0
    for line in chunk.body.splitlines():
        row = dict(zip(API_CALLS.columns, msgspec.json.decode(line), strict=True))
        ledger.add_to_month(db, row["minute"], row["operation"], row["calls"], micro_cny(Decimal(row["cost_cny"])))
        count += row["calls"]
    return chunk_id, count
