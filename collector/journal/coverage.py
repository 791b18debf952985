"""What is covered: from `collected_from` to the watermark, less the open gaps.

A backfill asks a range again in pieces. A piece is covered once the store has acknowledged all of its windows, in
the transaction of the last acknowledgement, so that a range never counts before its rows are stored.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from collector.model import StreamKey, Window

BACKFILL: Final = -2
"""The `delay` of a window of a backfill: it moves neither the watermark nor a recheck's mark."""
REPLAY: Final = -3
"""The `delay` of a window out of another journal, with all the rows that it had there."""
REPLAY_PART: Final = -4
"""The same where some of the rows cannot be read any more."""

SET_BACK: Final = -5
"""The `delay` of a first look whose range is collected again, because the clock was ahead: it moves no watermark."""

OPEN: Final = "open"
FILLED: Final = "filled"
DIVIDED: Final = "divided"
"""State of a gap in whose place stand smaller ones, some of them filled."""

GAP_MISSED: Final = "missed"
GAP_BUDGET: Final = "budget"
GAP_CLOCK: Final = "dated by a clock that was ahead"
REASON_CHARACTERS_MAX: Final = 300
BUDGET_REACHED_KEY: Final = "budget_reached_at"
"""Under this name the journal keeps when (server time, s) the budget was reached last."""

GAP_BETWEEN: Final = "not collected"
"""Reason of what lies between a range that was backfilled and the one that was collected already."""


@dataclass(frozen=True, slots=True)
class Gap:
    """A range of a stream that is not covered, or was not once."""

    window: Window
    reason: str
    state: str = OPEN


@dataclass(frozen=True, slots=True)
class Piece:
    """A range that a backfill reads in one go."""

    window: Window
    sealed_to: int

    @property
    def is_read(self) -> bool:
        return self.sealed_to >= self.window.end


def less(window: Window, taken: Iterable[Window]) -> list[Window]:
    """What is left of a window without the others, in order. Pure."""
    left, start = [], window.start
    for other in sorted(taken):
        if other.end <= start or other.start >= window.end:
            continue
        if other.start > start:
            left.append(Window(start, other.start))
        start = max(start, other.end)
    if start < window.end:
        left.append(Window(start, window.end))
    return left


# Gaps


def not_replayed(
    db: sqlite3.Connection, stream_id: int, gaps: Iterable[tuple[Window, str]]
) -> list[tuple[Window, str]]:
    """Gaps of a window that is being sealed, less what the store has out of another journal."""
    covered = db.execute("SELECT start, end FROM backfills WHERE stream_id = ? AND covered", (stream_id,)).fetchall()
    taken = [Window(start, end) for start, end in covered]
    return [(part, reason) for window, reason in gaps for part in less(window, taken)]


def add_gaps(db: sqlite3.Connection, stream_id: int, gaps: Iterable[tuple[Window, str]]) -> None:
    """Enter ranges that are not covered. One that was filled and is missing again is open again."""
    _put(db, stream_id, [Gap(window, reason) for window, reason in gaps])


def _put(db: sqlite3.Connection, stream_id: int, gaps: Iterable[Gap]) -> None:
    db.executemany(
        "INSERT INTO gaps (stream_id, start, end, reason, state) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT DO UPDATE SET reason = excluded.reason, state = excluded.state, shipped = 0"
        " WHERE state != excluded.state",
        [(stream_id, gap.window.start, gap.window.end, gap.reason, gap.state) for gap in gaps],
    )


def told_why(db: sqlite3.Connection, stream_id: int, gaps: Iterable[tuple[Window, str]]) -> list[tuple[Window, str]]:
    """The gaps of a window that is being sealed; of ticks that were missed with what was in the way."""
    return [(window, _why(db, stream_id, window) if reason == GAP_MISSED else reason) for window, reason in gaps]


def _why(db: sqlite3.Connection, stream_id: int, window: Window) -> str:
    error, sealed_to = db.execute("SELECT error, sealed_to FROM streams WHERE id = ?", (stream_id,)).fetchone()
    reached = db.execute("SELECT value FROM meta WHERE key = ?", (BUDGET_REACHED_KEY,)).fetchone()
    if reached is not None and (sealed_to or 0) - 1 <= reached[0] < window.end:
        return GAP_BUDGET
    return f"{GAP_MISSED}: {error}"[:REASON_CHARACTERS_MAX] if error else GAP_MISSED


def know_gaps(db: sqlite3.Connection, stream_id: int, gaps: Iterable[tuple[Window, str]]) -> None:
    """Enter open gaps that the store shows already, of a stream that is new to this journal."""
    db.executemany(
        "INSERT OR IGNORE INTO gaps (stream_id, start, end, reason, state, shipped) VALUES (?, ?, ?, ?, 'open', 1)",
        [(stream_id, window.start, window.end, reason) for window, reason in gaps],
    )


def open_gaps(db: sqlite3.Connection) -> dict[StreamKey, list[Gap]]:
    """The gaps of every stream that are not filled, in order."""
    found: dict[StreamKey, list[Gap]] = {}
    for operation, region, scope_id, start, end, reason in db.execute(
        "SELECT s.operation, s.region, s.scope_id, g.start, g.end, g.reason FROM gaps g"
        " JOIN streams s ON s.id = g.stream_id WHERE g.state = 'open' ORDER BY 1, 2, 3, 4, 5"
    ):
        found.setdefault(StreamKey(operation, region, scope_id), []).append(Gap(Window(start, end), reason))
    return found


# Backfills


def begin_backfill(db: sqlite3.Connection, stream_id: int, window: Window) -> list[Piece]:
    """Enter a backfill of `window`; returns its pieces that are not read yet, in the order of reading.

    What an unfinished backfill has read is not asked again, whatever range it was for. A window that it was in the
    middle of is read to its end first, also where it reaches out of this range.
    """
    rows = db.execute("SELECT start, end, sealed_to FROM backfills WHERE stream_id = ?", (stream_id,)).fetchall()
    for start, end, sealed_to in rows:
        if sealed_to == start:
            db.execute("DELETE FROM backfills WHERE stream_id = ? AND start = ?", (stream_id, start))
        elif sealed_to < end:
            db.execute("UPDATE backfills SET end = sealed_to WHERE stream_id = ? AND start = ?", (stream_id, start))
    read = [Window(start, sealed_to) for start, _, sealed_to in rows if sealed_to > start]
    reading = _open_window(db, stream_id, window)
    first: list[Window] = []
    if reading is not None:
        begin = min(window.start, reading.start)
        first = less(Window(reading.start, max(window.end, reading.end)), read)[:1]
        window = Window(begin, max(window.end, reading.end))
    pieces = first + less(window, [*read, *first])
    db.executemany(
        "INSERT INTO backfills (stream_id, start, end, sealed_to) VALUES (?, ?, ?, ?)",
        [(stream_id, piece.start, piece.end, piece.start) for piece in pieces],
    )
    settle_backfills(db, stream_id)
    return [Piece(piece, piece.start) for piece in pieces]


def _open_window(db: sqlite3.Connection, stream_id: int, wanted: Window) -> Window | None:
    """The window that an earlier backfill was in the middle of; one that lies elsewhere is given up."""
    row = db.execute(
        "SELECT id, start, end FROM windows WHERE stream_id = ? AND delay = ? AND seal_number IS NULL",
        (stream_id, BACKFILL),
    ).fetchone()
    if row is None:
        return None
    window_id, window = row[0], Window(row[1], row[2])
    if window.overlaps(wanted):
        return window
    db.execute("DELETE FROM chunks WHERE window_id = ?", (window_id,))
    db.execute("DELETE FROM windows WHERE id = ?", (window_id,))
    return None


def note_read(db: sqlite3.Connection, stream_id: int, window: Window, gaps: Sequence[tuple[Window, str]]) -> None:
    """A window of a backfill is sealed. `gaps` are what it could not cover."""
    row = db.execute(
        "UPDATE backfills SET sealed_to = ? WHERE stream_id = ? AND sealed_to = ? AND end >= ? RETURNING start, found",
        (window.end, stream_id, window.start, window.end),
    ).fetchone()
    if row is not None and gaps:
        found = [*json.loads(row[1]), *((gap.start, gap.end, reason) for gap, reason in gaps)]
        db.execute(
            "UPDATE backfills SET found = ? WHERE stream_id = ? AND start = ?", (json.dumps(found), stream_id, row[0])
        )


def read_to(db: sqlite3.Connection, stream_id: int, start: int) -> int:
    """Up to where the piece that begins at `start` is read."""
    (sealed_to,) = db.execute(
        "SELECT sealed_to FROM backfills WHERE stream_id = ? AND start = ?", (stream_id, start)
    ).fetchone()
    return int(sealed_to)


def note_refusal(db: sqlite3.Connection, stream_id: int, piece: Window, reason: str) -> None:
    """The service refuses the rest of a piece: what of it was never covered is a gap with that reason."""
    (collected_from,) = db.execute("SELECT collected_from FROM streams WHERE id = ?", (stream_id,)).fetchone()
    start = read_to(db, stream_id, piece.start)
    end = min(piece.end, collected_from)
    if start < end:
        add_gaps(db, stream_id, [(Window(start, end), reason)])


def settle_backfills(db: sqlite3.Connection, stream_id: int) -> None:
    """Cover the pieces that are read and whose windows are all acknowledged."""
    for start, end, found in db.execute(
        "SELECT start, end, found FROM backfills b WHERE stream_id = ? AND sealed_to = end AND NOT covered"
        " AND NOT EXISTS (SELECT 1 FROM windows w WHERE w.stream_id = b.stream_id AND w.delay IN (?, ?)"
        " AND w.start >= b.start AND w.end <= b.end)",
        (stream_id, BACKFILL, REPLAY),
    ).fetchall():
        gaps = [(Window(first, last), reason) for first, last, reason in json.loads(found)]
        _cover(db, stream_id, Window(start, end), gaps)
        db.execute("UPDATE backfills SET covered = 1 WHERE stream_id = ? AND start = ?", (stream_id, start))


def unsettled(db: sqlite3.Connection, stream_ids: Iterable[int]) -> int:
    """How many pieces of these streams are read but not acknowledged."""
    pieces = db.execute("SELECT stream_id FROM backfills WHERE sealed_to = end AND NOT covered").fetchall()
    return sum(row[0] in set(stream_ids) for row in pieces)


def end_backfill(db: sqlite3.Connection, stream_id: int) -> None:
    """Forget what a backfill has read, once all of it is done: the next one asks for it again."""
    db.execute("DELETE FROM backfills WHERE stream_id = ? AND covered", (stream_id,))


def _cover(db: sqlite3.Connection, stream_id: int, window: Window, found: Sequence[tuple[Window, str]]) -> None:
    (collected_from,) = db.execute("SELECT collected_from FROM streams WHERE id = ?", (stream_id,)).fetchone()
    if collected_from is not None and window.start < collected_from:
        # Shown again by `watermark_shipped`.
        db.execute(
            "UPDATE streams SET collected_from = ?, watermark_shipped = NULL WHERE id = ?", (window.start, stream_id)
        )
        if window.end < collected_from:
            add_gaps(db, stream_id, [(Window(window.end, collected_from), GAP_BETWEEN)])
    for start, end, reason in db.execute(
        "SELECT start, end, reason FROM gaps WHERE stream_id = ? AND state = 'open' AND start < ? AND end > ?",
        (stream_id, window.end, window.start),
    ).fetchall():
        gap = Window(start, end)
        left = less(gap, [window])
        state = DIVIDED if left else FILLED
        parts = [Gap(part, reason) for part in left]
        parts += [Gap(part, reason, FILLED) for part in less(gap, left)] if left else []
        _put(db, stream_id, [Gap(gap, reason, state), *parts])
    add_gaps(db, stream_id, found)
