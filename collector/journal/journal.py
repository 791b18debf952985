"""The journal: streams, windows and the rows of their pages, on disk before anything depends on them.

One transaction holds the rows of a page, the cursor it moved and the call it settles. What is here
was paid for and is not asked again; what the store has acknowledged is here no longer.
"""

from __future__ import annotations

import asyncio
import sqlite3
import uuid
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar
from urllib.parse import quote

from collector.api.metering import Attempt
from collector.clock import Signal
from collector.errors import JournalCorrupt, JournalError, JournalForeign, JournalTooNew, JournalUnavailable
from collector.journal import clock_log, coverage, ledger, spending
from collector.journal.clock_log import Moment, SetBack, Suspect
from collector.journal.coverage import (
    BACKFILL,
    Gap,
    Piece,
    add_gaps,
    know_gaps,
    not_replayed,
    note_read,
    settle_backfills,
    told_why,
)
from collector.journal.entries import Chunk, Depth, KnownObject, OpenWindow, PageCommit, StreamState
from collector.journal.group_commit import GroupCommit
from collector.journal.ledger import Allow, Prices
from collector.journal.older_rows import complete_journal
from collector.journal.schema import DDL, FORMAT, TABLE_NAMES, UPGRADES, statements
from collector.journal.spending import MonthSpend, PotSpend
from collector.model import ShipMode, StreamKey, Window
from collector.packing import checked, packed, unpacked

T = TypeVar("T")

STRAY = -1
"""The `delay` of a window row that covers nothing: of rows outside of what was asked, or of a window that is open."""

BUSY_TIMEOUT_MS = 5_000
FOREIGN_TABLES_SHOWN: Final = 5


class Outlast(Protocol):
    """Runs a transaction that could not be made again, until it succeeds or waiting has to end."""

    async def __call__(self, error: JournalUnavailable, again: Callable[[], Awaitable[T]]) -> T: ...


class JournalReads(Protocol):
    """What can be read of a journal: by its owner, or from a file that is only read."""

    @property
    def path(self) -> Path:
        """The file, also where it does not exist yet."""

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run a piece of work on the database."""

    async def meta(self, key: str) -> Any:
        """Return a named fact, or None."""
        return await self.run(lambda db: _meta(db, key))

    async def depth(self) -> Depth:
        """Return how full the journal is."""
        return await self.run(_depth)

    async def used_bytes(self) -> int:
        """Return how many bytes of the file hold something."""
        return await self.run(used_bytes)

    async def counters(self) -> dict[str, int]:
        """Return what was counted since the journal was made."""
        return await self.run(lambda db: dict(db.execute("SELECT name, value FROM counters ORDER BY 1")))

    async def spend(self, month: str) -> list[tuple[str, int, Decimal]]:
        """Return (operation, calls, CNY) of a billing month."""
        return await self.run(lambda db: ledger.spend(db, month))

    async def month_spend(self, now: int, prices: Prices) -> MonthSpend:
        """Return what the billing month of `now` (server time, s) has cost, and how fast it costs."""
        return await self.run(lambda db: spending.month_spend(db, now, prices))

    async def pot_spends(self, pots: Iterable[str], now: int, prices: Prices) -> dict[str, PotSpend]:
        """Return, by pot, the free calls of the billing month of `now` (server time, s)."""
        return await self.run(lambda db: {pot: spending.pot_spend(db, pot, now, prices) for pot in pots})

    async def streams(self) -> dict[StreamKey, StreamState]:
        """Return every stream that the journal knows."""
        return await self.run(_streams)

    async def stream(self, stream_id: int) -> StreamState:
        """Return one stream as it is now."""
        return await self.run(lambda db: _stream(db, stream_id))

    async def known_objects(self, stream_id: int) -> dict[str, KnownObject]:
        """Return the objects of a stream of observed states, by id."""
        return await self.run(lambda db: _known_objects(db, stream_id))

    async def open_gaps(self) -> dict[StreamKey, list[Gap]]:
        """Return the gaps of every stream that are not filled, in order."""
        return await self.run(coverage.open_gaps)

    async def rows_waiting(self, ranges: Iterable[tuple[int, Window]]) -> int:
        """Return how many rows wait for the store in windows that overlap one of these (stream id, range) pairs."""
        return await self.run(lambda db: _rows_waiting(db, ranges))


class Journal(JournalReads):
    """The open journal. One process owns it; `collector.owner` sees to that."""

    def __init__(self, path: Path, prices: Prices, *, region: str, threaded: bool = True) -> None:
        """Open or create the journal at `path`.

        Raises JournalCorrupt for a damaged file, JournalTooNew for one of a newer version, and JournalForeign for a
        database of another program.
        """
        self._path = path
        self.region = region
        self._prices = prices
        self._commit = GroupCommit(lambda: _connect(path), threaded=threaded)
        self._file = _identity(path)
        self.outlast: Outlast | None = None
        """What waits until the journal takes something again. Without it JournalUnavailable is raised."""
        self.sealed = Signal()
        """Announces rows that may be shipped."""
        self.unknown_calls = 0
        """Calls that an earlier process had let out and never settled; entered by `start`."""

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    @property
    def is_in_place(self) -> bool:
        """Whether the file that is open is still the one at `path`: what is written into another one is lost."""
        return _identity(self._path) == self._file

    async def seal(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """As `run`, for work after which there may be more to ship."""
        try:
            return await self.run(work)
        finally:
            # Also when the caller is cancelled: the work happens all the same.
            self.sealed.announce()

    async def start(self) -> None:
        """Enter what a crash left unsettled. To be called once, before any call goes out."""
        self.unknown_calls = await self.run(lambda db: ledger.settle_unknown(db, self._prices))

    async def run(self, work: Callable[[sqlite3.Connection], T], *, undone: Callable[[], None] = lambda: None) -> T:
        """Run a piece of work in a transaction of its own; see `GroupCommit.run`.

        While the journal takes nothing, `outlast` decides whether and when it is run again; `undone` is called before.
        """
        try:
            return await self._commit.run(work)
        except JournalUnavailable as error:
            undone()
            if self.outlast is None:
                raise
            unavailable = error

        async def again() -> T:
            try:
                return await self._commit.run(work)
            except JournalUnavailable:
                undone()
                raise

        return await self.outlast(unavailable, again)

    def close(self) -> None:
        """Finish what is queued and close the file."""
        self._commit.close()

    # Facts about the journal itself

    async def set_meta(self, **facts: Any) -> None:
        """Remember named facts."""
        await self.run(
            lambda db: db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", list(facts.items())) and None
        )

    async def count(self, name: str, by: int = 1) -> None:
        """Add to a counter."""
        await self.run(lambda db: add_to_counter(db, name, by))

    # Calls

    def set_prices(self, prices: Prices) -> None:
        """Other prices from the next reservation on. Calls in flight keep those of their own."""
        self._prices = prices

    async def reserve(self, operation: str, now: int, allow: Allow | None = None) -> int:
        """Let one call out; returns its ticket. Raises what `allow` raises, and then nothing is reserved.

        When cancelled, nothing is reserved either.
        """
        tickets: list[int] = []
        prices = self._prices

        def let_out(db: sqlite3.Connection) -> int:
            tickets.append(ledger.reserve(db, operation, now, prices, allow))
            return tickets[0]

        def take_back(db: sqlite3.Connection) -> None:
            for ticket in tickets:
                ledger.release(db, ticket)

        try:
            return await self.run(let_out, undone=tickets.clear)
        except asyncio.CancelledError:
            # It may be done, or still wait in the queue: what is queued after it comes after it.
            await self.run(take_back)
            raise

    async def release(self, ticket: int) -> None:
        """Take back a call that was never sent."""
        await self.run(lambda db: ledger.release(db, ticket))

    async def settle(self, attempt: Attempt) -> None:
        """Enter the outcome of a call whose answer holds no rows to keep."""
        await self.run(lambda db: ledger.settle(db, attempt, self._prices))

    async def note_budget_reached(self, budget: str, now: int) -> bool:
        """Remember that `budget` was reached at `now` (server time, s); False if that is known already."""
        return await self.run(lambda db: ledger.note_budget_reached(db, budget, now))

    async def load_month(self, month: str, spent: Iterable[tuple[str, int, Decimal]]) -> None:
        """Begin a billing month with what the store has of it: (operation, calls, CNY)."""
        await self.run(lambda db: ledger.load_month(db, month, spent))

    # What time it was

    async def clock_log(self) -> list[Moment]:
        """Return the moments that are remembered, oldest first."""
        return await self.run(clock_log.read_log)

    async def clock_suspects(self) -> list[Suspect]:
        """Return the suspect periods that are remembered, in the order of their numbers."""
        return await self.run(clock_log.read_suspects)

    async def note_moment(self, now: Moment) -> Suspect | None:
        """Remember a moment; returns the suspect period that it shows to have ended, if any."""
        return await self.run(lambda db: clock_log.note_moment(db, now))

    async def add_suspect(self, base: int | None, ahead_from: int) -> Suspect:
        """Enter a suspect period, under a number that no stream has."""
        return await self.run(lambda db: clock_log.add_suspect(db, base, ahead_from))

    async def set_stream_back(
        self,
        stream_id: int,
        suspects: Sequence[Suspect],
        *,
        now: int,
        settle: int,
        lookback: int,
        tick: int = 0,
        has_gaps: bool = False,
    ) -> SetBack | None:
        """Take back what a stream sealed while the clock was ahead; see `clock_log.set_back`."""
        return await self.run(
            lambda db: clock_log.set_back(
                db, stream_id, suspects, now=now, settle=settle, lookback=lookback, tick=tick, has_gaps=has_gaps
            )
        )

    # Streams

    async def adopt(
        self,
        key: StreamKey,
        *,
        collected_from: int | None,
        watermark: int | None,
        held: Iterable[Window],
        rechecks: dict[int, int],
        gaps: Iterable[tuple[Window, str]] = (),
        generation: int = 0,
        sealed_to: int | None = None,
    ) -> None:
        """Take over a stream that is new to this journal, with what the store knows of it.

        It is collected from `sealed_to` on, from the watermark if None. `held` are the ranges of which the store may
        have rows: windows there are compared. `gaps` are the open ones that it shows. Streams of this journal that may
        share rows with it are compared from here on, and so is this one.
        """
        begin = watermark if sealed_to is None else sealed_to

        def work(db: sqlite3.Connection) -> None:
            cursor = db.execute(
                "INSERT INTO streams (operation, region, scope_id, collected_from, sealed_to, watermark)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (key.operation, key.region, key.scope_id, collected_from, begin, watermark),
            )
            stream_id = cursor.lastrowid
            if watermark is not None:
                db.execute("INSERT INTO generations VALUES (?, ?, ?)", (stream_id, generation, watermark))
            db.executemany("INSERT INTO held VALUES (?, ?, ?)", [(stream_id, w.start, w.end) for w in held])
            for other_id in _sharing_rows(db, key):
                if other_id != stream_id:
                    db.executemany(
                        "INSERT OR IGNORE INTO held VALUES (?, 0, ?)", [(stream_id, FOR_EVER), (other_id, FOR_EVER)]
                    )
            db.executemany("INSERT INTO rechecks VALUES (?, ?, ?)", [(stream_id, *item) for item in rechecks.items()])
            assert stream_id is not None
            know_gaps(db, stream_id, gaps)

        await self.run(work)

    async def set_rechecks(self, stream_id: int, rechecks: dict[int, int]) -> None:
        """Begin (or drop) recheck delays of a stream, after the configuration changed."""

        def work(db: sqlite3.Connection) -> None:
            db.execute("DELETE FROM rechecks WHERE stream_id = ?", (stream_id,))
            db.executemany("INSERT INTO rechecks VALUES (?, ?, ?)", [(stream_id, *item) for item in rechecks.items()])

        await self.run(work)

    async def set_error(self, stream_id: int, error: str, now: int) -> None:
        """Remember why a stream failed; '' when it is well again."""
        await self.run(
            lambda db: (
                db.execute("UPDATE streams SET error = ?, error_at = ? WHERE id = ?", (error, now, stream_id)) and None
            )
        )

    async def add_gaps(self, stream_id: int, gaps: Iterable[tuple[Window, str]]) -> None:
        """Enter ranges that are not covered, with the reason."""
        await self.run(lambda db: add_gaps(db, stream_id, gaps))

    # Backfills

    async def begin_backfill(self, stream_id: int, window: Window) -> list[Piece]:
        """Enter a backfill of `window`; returns its pieces that are not read yet, in the order of reading."""
        return await self.run(lambda db: coverage.begin_backfill(db, stream_id, window))

    async def backfill_read_to(self, stream_id: int, start: int) -> int:
        """Return up to where the piece that begins at `start` is read."""
        return await self.run(lambda db: coverage.read_to(db, stream_id, start))

    async def note_backfill_refusal(self, stream_id: int, piece: Window, reason: str) -> None:
        """Enter that the service refuses the rest of a piece: what of it was never covered is a gap."""
        await self.run(lambda db: coverage.note_refusal(db, stream_id, piece, reason))

    async def unsettled_backfills(self, stream_ids: Collection[int]) -> int:
        """Return how many pieces of these streams are read but not acknowledged."""
        return await self.run(lambda db: coverage.unsettled(db, stream_ids))

    async def end_backfill(self, stream_id: int) -> None:
        """Forget what a backfill has read, once all of it is done: the next one asks for it again."""
        await self.run(lambda db: coverage.end_backfill(db, stream_id))

    # Pages

    async def commit_page(self, state: StreamState, page: PageCommit, monotonic: float) -> StreamState:
        """Commit a page and, with its last page, seal the window; returns the stream as it is then.

        `state` is the stream before, `monotonic` the time from which the flush interval counts.
        """
        commit = self.run if page.seal is None and not page.strays else self.seal
        return await commit(lambda db: self._commit_page(db, state, page, monotonic))

    def _commit_page(
        self, db: sqlite3.Connection, state: StreamState, page: PageCommit, monotonic: float
    ) -> StreamState:
        if page.attempt is not None:
            ledger.settle(db, page.attempt, self._prices)
        window_id, reading = _put_window(db, page)
        for chunk in page.chunks:
            put_chunk(db, chunk, monotonic, window_id=window_id, stream_id=page.stream_id, reading=reading)
        for name, by in page.counters:
            add_to_counter(db, name, by)
        put_objects(db, page.stream_id, page.objects)
        for window, chunk in page.strays:
            put_sealed(db, page.stream_id, STRAY, window, [chunk], monotonic)
        if page.seal is None and not page.strays:
            # Most pages: what they change is known without reading it back.
            return state.with_page(page, window_id, reading)
        if page.seal is not None:
            _seal(db, page, window_id, monotonic)
        return _stream(db, page.stream_id)

    async def commit_observation(
        self,
        stream_id: int,
        chunks: Iterable[Chunk],
        objects: Iterable[KnownObject],
        attempt: Attempt,
        monotonic: float,
    ) -> None:
        """Commit what one object's own answer said: its row, what is known of it, and the call."""

        def work(db: sqlite3.Connection) -> None:
            ledger.settle(db, attempt, self._prices)
            for chunk in chunks:
                put_chunk(db, chunk, monotonic, stream_id=stream_id, seal_number=next_number(db, "seal_number"))
            put_objects(db, stream_id, objects)

        await self.seal(work)

    async def learn_objects(self, stream_id: int, objects: Iterable[KnownObject]) -> None:
        """Enter what the store knows of the objects of a stream that is new to this journal."""
        await self.run(lambda db: put_objects(db, stream_id, objects))

    async def release_rows(self, open_id: int, monotonic: float) -> None:
        """Ship what was read of an open window as well, by comparison; the window stays open and covers nothing."""
        await self.seal(lambda db: _release_rows(db, open_id, monotonic))

    async def restart_window(self, stream_id: int, open_id: int) -> StreamState:
        """Begin an open window again from its start; the rows read so far stay for the merge."""

        def work(db: sqlite3.Connection) -> StreamState:
            db.execute(
                "UPDATE windows SET cursor = NULL, cursors_used = x'', pages = 0, bytes = 0, reading = reading + 1,"
                " last_time = NULL, in_order = 1 WHERE id = ?",
                (open_id,),
            )
            return _stream(db, stream_id)

        return await self.run(work)

    async def drop_window(self, stream_id: int, open_id: int) -> StreamState:
        """Forget an open window and its rows: its range will be asked again as other windows."""

        def work(db: sqlite3.Connection) -> StreamState:
            db.execute("DELETE FROM chunks WHERE window_id = ?", (open_id,))
            db.execute("DELETE FROM windows WHERE id = ?", (open_id,))
            return _stream(db, stream_id)

        return await self.run(work)


FOR_EVER: Final = 2**62
"""End of a range that never ends: windows of two streams that may share rows are always compared."""


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        told = path.stat()
    except OSError:
        return None
    return told.st_dev, told.st_ino


def put_chunk(
    db: sqlite3.Connection,
    chunk: Chunk,
    monotonic: float,
    *,
    window_id: int | None = None,
    stream_id: int | None = None,
    reading: int = 0,
    seal_number: int | None = None,
) -> int:
    """Write one chunk and return its id; without a seal number it is not shipped yet."""
    cursor = db.execute(
        "INSERT INTO chunks (window_id, stream_id, reading, table_name, partition, mode, rows, bytes, crc, body,"
        " seal_number, journaled_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            window_id, stream_id, reading, chunk.table, chunk.partition, chunk.mode, chunk.rows, len(chunk.body),
            chunk.crc, packed(chunk.body), seal_number, monotonic,
        ),
    )  # fmt: skip
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def put_objects(db: sqlite3.Connection, stream_id: int, objects: Iterable[KnownObject]) -> None:
    """Enter what is known of objects, over what was known before."""
    db.executemany(
        "INSERT OR REPLACE INTO observed VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (stream_id, o.object_id, o.listed, o.fingerprint, o.is_present, o.ended_at, o.seen_at, o.state)
            for o in objects
        ],
    )


def _known_objects(db: sqlite3.Connection, stream_id: int) -> dict[str, KnownObject]:
    rows = db.execute(
        "SELECT object_id, listed, fingerprint, is_present, ended_at, seen_at, state FROM observed"
        " WHERE stream_id = ? ORDER BY object_id",
        (stream_id,),
    )
    return {
        object_id: KnownObject(object_id, listed, fingerprint, bool(is_present), ended_at, seen_at, state)
        for object_id, listed, fingerprint, is_present, ended_at, seen_at, state in rows
    }


def next_number(db: sqlite3.Connection, name: str) -> int:
    """The next of a named sequence, 1 first."""
    row = db.execute(
        "INSERT INTO meta VALUES (?, 1) ON CONFLICT DO UPDATE SET value = value + 1 RETURNING value", (name,)
    ).fetchone()
    return int(row[0])


def add_to_counter(db: sqlite3.Connection, name: str, by: int) -> None:
    if by:
        db.execute(
            "INSERT INTO counters VALUES (?, ?) ON CONFLICT DO UPDATE SET value = value + excluded.value", (name, by)
        )


def advance(db: sqlite3.Connection, stream_id: int) -> int | None:
    """Move the watermark over every window before the stream's oldest row that is not acknowledged.

    Returns the watermark where it may have moved.
    """
    (oldest,) = db.execute(
        "SELECT min(seal_number) FROM chunks WHERE stream_id = ? AND seal_number IS NOT NULL", (stream_id,)
    ).fetchone()
    before = oldest if oldest is not None else 2**62
    (done,) = db.execute(
        "SELECT max(end) FROM windows WHERE stream_id = ? AND delay = 0 AND seal_number < ?", (stream_id, before)
    ).fetchone()
    watermark: int | None = None
    if done is not None:
        (watermark,) = db.execute(
            "UPDATE streams SET watermark = max(ifnull(watermark, 0), ?) WHERE id = ? RETURNING watermark",
            (done, stream_id),
        ).fetchone()
    db.execute("DELETE FROM windows WHERE stream_id = ? AND seal_number < ?", (stream_id, before))
    settle_backfills(db, stream_id)
    return watermark


def _put_window(db: sqlite3.Connection, page: PageCommit) -> tuple[int, int]:
    """Insert or move on the window of a page; returns its row and its reading."""
    if page.open_id is None:
        cursor = db.execute(
            "INSERT INTO windows (stream_id, delay, start, end, mode, cursor, cursors_used, pages, bytes, reading,"
            " last_time, in_order) VALUES (?, ?, ?, ?, ?, ?, ?, 1, ?, 0, ?, ?)",
            (
                page.stream_id, page.delay, page.window.start, page.window.end, page.mode, page.cursor,
                page.cursor_used, page.bytes, page.last_time, page.in_order,
            ),
        )  # fmt: skip
        assert cursor.lastrowid is not None
        return cursor.lastrowid, 0
    row = db.execute(
        "UPDATE windows SET cursor = ?, cursors_used = CAST(cursors_used || ? AS BLOB), pages = pages + 1,"
        " bytes = bytes + ?, last_time = ?, in_order = ? WHERE id = ? AND seal_number IS NULL RETURNING reading",
        (page.cursor, page.cursor_used, page.bytes, page.last_time, page.in_order, page.open_id),
    ).fetchone()
    if row is None:
        raise JournalCorrupt(f"the open window {page.open_id} is not in the journal")
    return page.open_id, row[0]


def put_sealed(
    db: sqlite3.Connection, stream_id: int, delay: int, window: Window | None, chunks: Iterable[Chunk], monotonic: float
) -> list[int]:
    """Write a window that is sealed at once and compared, with its rows; returns their chunks.

    Without a `window` the rows belong to no time.
    """
    window_id, number = _put_sealed_window(db, stream_id, delay, window)
    return [
        put_chunk(db, chunk, monotonic, window_id=window_id, stream_id=stream_id, seal_number=number)
        for chunk in chunks
    ]


def _put_sealed_window(db: sqlite3.Connection, stream_id: int, delay: int, window: Window | None) -> tuple[int, int]:
    """Write a window that is sealed and compared; returns its row and its seal number."""
    number = next_number(db, "seal_number")
    start, end = (window.start, window.end) if window is not None else (0, 1)
    window_id = db.execute(
        "INSERT INTO windows (stream_id, delay, start, end, mode, cursors_used, pages, reading, in_order, seal_number)"
        " VALUES (?, ?, ?, ?, ?, x'', 1, 0, 1, ?)",
        (stream_id, delay, start, end, ShipMode.COMPARE, number),
    ).lastrowid
    if window is not None:
        # A later window may be asked for the seconds of these rows and get them again.
        db.execute("INSERT OR IGNORE INTO held VALUES (?, ?, ?)", (stream_id, start, end))
    assert window_id is not None
    return window_id, number


def longest_reading(db: sqlite3.Connection, window_id: int) -> int | None:
    """Return the reading of a window that has most rows, None without any: two readings have the same rows."""
    row = db.execute(
        "SELECT reading FROM chunks WHERE window_id = ? GROUP BY reading ORDER BY sum(rows) DESC, reading LIMIT 1",
        (window_id,),
    ).fetchone()
    return None if row is None else int(row[0])


def _release_rows(db: sqlite3.Connection, open_id: int, monotonic: float) -> None:
    reading = longest_reading(db, open_id)
    row = db.execute("SELECT stream_id, start, end FROM windows WHERE id = ?", (open_id,)).fetchone()
    if reading is None or row is None:
        return
    stream_id, start, end = row
    # The window itself is compared from now on, since its range is held.
    window_id, number = _put_sealed_window(db, stream_id, STRAY, Window(start, end))
    db.execute(
        "INSERT INTO chunks (window_id, stream_id, table_name, partition, mode, rows, bytes, crc, body, seal_number,"
        " journaled_at) SELECT ?, stream_id, table_name, partition, ?, rows, bytes, crc, body, ?, ? FROM chunks"
        " WHERE window_id = ? AND reading = ?",
        (window_id, ShipMode.COMPARE, number, monotonic, open_id, reading),
    )


def _sharing_rows(db: sqlite3.Connection, key: StreamKey) -> list[int]:
    """Return the streams that rows of `key` may be of too, itself included if it is known."""
    # Filters follow the target behind "?", and "@" is the character after it. Two searches of the index: one that
    # joins them by OR would read all streams of the operation.
    target = key.target_id
    select = "SELECT id, operation, region, scope_id FROM streams WHERE operation = ?1 AND region = ?2"
    rows = db.execute(
        f"{select} AND scope_id = ?3 UNION ALL {select} AND scope_id > ?4 AND scope_id < ?5",
        (key.operation, key.region, target, f"{target}?", f"{target}@"),
    )
    return [stream_id for stream_id, *names in rows if StreamKey(*names).row_space == key.row_space]


def _seal(db: sqlite3.Connection, page: PageCommit, window_id: int, monotonic: float) -> None:
    seal = page.seal
    assert seal is not None
    stream_id, start = page.stream_id, page.window.start
    gaps = told_why(db, stream_id, seal.gaps)
    if seal.rewrite is not None:
        for chunk in seal.rewrite(_take_chunks(db, window_id)):
            put_chunk(db, chunk, monotonic, window_id=window_id, stream_id=stream_id)
    number = next_number(db, "seal_number")
    db.execute("UPDATE windows SET end = ?, cursor = NULL, seal_number = ? WHERE id = ?", (seal.end, number, window_id))
    db.execute("UPDATE chunks SET seal_number = ? WHERE window_id = ?", (number, window_id))
    # A stray of another look may have come to lie in this window since it was planned.
    db.execute(
        "UPDATE chunks SET mode = ? WHERE window_id = ? AND mode = ?"
        " AND EXISTS (SELECT 1 FROM held WHERE stream_id = ? AND start < ? AND end > ?)",
        (ShipMode.COMPARE, window_id, ShipMode.APPEND, stream_id, seal.end, start),
    )
    if page.delay == 0:
        db.execute(
            "UPDATE streams SET collected_from = ifnull(collected_from, ?), sealed_to = ? WHERE id = ?",
            (start, seal.end, stream_id),
        )
        db.execute("DELETE FROM held WHERE stream_id = ? AND end <= ?", (stream_id, seal.end))
        # A stream that begins has nothing to look at again before its first window.
        db.execute(
            "UPDATE rechecks SET rechecked_to = (SELECT collected_from FROM streams WHERE id = stream_id)"
            " WHERE stream_id = ? AND rechecked_to < (SELECT collected_from FROM streams WHERE id = stream_id)",
            (stream_id,),
        )
    else:
        db.execute(
            "UPDATE rechecks SET rechecked_to = ? WHERE stream_id = ? AND delay = ?", (seal.end, stream_id, page.delay)
        )
    # A look that was late enough for a longer delay is that recheck too.
    db.execute(
        "UPDATE rechecks SET rechecked_to = max(rechecked_to, min(?, ? - delay))"
        " WHERE stream_id = ? AND rechecked_to >= ? AND rechecked_to < ?",
        (seal.end, seal.date, stream_id, start, seal.end),
    )
    if page.delay == BACKFILL:
        # What it found missing counts once the rest of it is covered.
        note_read(db, stream_id, Window(start, seal.end), gaps)
    else:
        db.execute("UPDATE streams SET error = '', error_at = NULL WHERE id = ? AND error != ''", (stream_id,))
        add_gaps(db, stream_id, not_replayed(db, stream_id, gaps))
    advance(db, stream_id)


def _take_chunks(db: sqlite3.Connection, window_id: int) -> Iterator[tuple[int, Chunk]]:
    """Yield the (reading, chunk) pairs of a window, the last reading first; each is deleted before the next one."""
    ids = db.execute("SELECT id FROM chunks WHERE window_id = ? ORDER BY reading DESC, id", (window_id,)).fetchall()
    for (chunk_id,) in ids:
        reading, table, partition, rows, body, mode = db.execute(
            "DELETE FROM chunks WHERE id = ? RETURNING reading, table_name, partition, rows, body, mode", (chunk_id,)
        ).fetchone()
        yield reading, Chunk(table, partition, rows, unpacked(body), ShipMode(mode))


def _streams(db: sqlite3.Connection, only: int | None = None) -> dict[StreamKey, StreamState]:
    """States of all streams, or of one."""
    one, which = (" AND stream_id = ?", (only,)) if only is not None else ("", ())
    states: dict[int, StreamState] = {}
    for row in db.execute(
        "SELECT id, operation, region, scope_id, collected_from, sealed_to, watermark, error, error_at FROM streams"
        f" WHERE true{one.replace('stream_id', 'id')}",
        which,
    ):
        states[row[0]] = StreamState(row[0], StreamKey(*row[1:4]), *row[4:])
    for stream_id, generation in db.execute(f"SELECT stream_id, generation FROM generations WHERE true{one}", which):
        states[stream_id].generation = generation
    for stream_id, delay, rechecked_to in db.execute(f"SELECT * FROM rechecks WHERE true{one} ORDER BY delay", which):
        states[stream_id].rechecks[delay] = rechecked_to
    for stream_id, start, end in db.execute(f"SELECT stream_id, start, end FROM held WHERE true{one}", which):
        states[stream_id].held.append(Window(start, end))
    for row in db.execute(
        "SELECT stream_id, delay, id, start, end, mode, cursor, cursors_used, pages, reading, last_time, in_order,"
        f" bytes FROM windows WHERE seal_number IS NULL{one}",
        which,
    ):
        stream_id, delay, window_id, start, end, mode, cursor, used, pages, reading, last_time, in_order, size = row
        states[stream_id].open[delay] = OpenWindow(
            window_id, Window(start, end), ShipMode(mode), cursor, used, pages, reading, last_time, bool(in_order), size
        )
    return {state.key: state for state in states.values()}


def _stream(db: sqlite3.Connection, stream_id: int) -> StreamState:
    (state,) = _streams(db, stream_id).values()
    return state


def _depth(db: sqlite3.Connection) -> Depth:
    rows, chunks = db.execute("SELECT ifnull(sum(rows), 0), count() FROM chunks").fetchone()
    (segments,) = db.execute("SELECT count() FROM segments").fetchone()
    (open_windows,) = db.execute("SELECT count() FROM windows WHERE seal_number IS NULL").fetchone()
    return Depth(used_bytes(db), rows, chunks, segments, open_windows)


def _rows_waiting(db: sqlite3.Connection, ranges: Iterable[tuple[int, Window]]) -> int:
    sealed = db.execute(
        "SELECT c.stream_id, w.start, w.end, sum(c.rows) FROM chunks c JOIN windows w ON w.id = c.window_id"
        " WHERE c.seal_number IS NOT NULL GROUP BY w.id"
    ).fetchall()
    of_stream: dict[int, list[Window]] = {}
    for stream_id, window in ranges:
        of_stream.setdefault(stream_id, []).append(window)
    return sum(
        rows
        for stream_id, start, end, rows in sealed
        if any(window.overlaps(Window(start, end)) for window in of_stream.get(stream_id, ()))
    )


def used_bytes(db: sqlite3.Connection) -> int:
    """Bytes of the file that hold something."""
    (pages,) = db.execute("PRAGMA page_count").fetchone()
    (free,) = db.execute("PRAGMA freelist_count").fetchone()
    (size,) = db.execute("PRAGMA page_size").fetchone()
    return int((pages - free) * size)


def _meta(db: sqlite3.Connection, key: str) -> Any:
    row = db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return None if row is None else row[0]


def refuse_foreign(path: Path) -> None:
    """Raises JournalForeign for a database of another program, of which nothing is changed, not even its lock."""
    if not path.is_file() or not path.stat().st_size:
        return
    with suppress(sqlite3.Error):
        # Of a damaged file nothing is known here; what is in its log is left out.
        db = sqlite3.connect(f"file:{quote(str(path))}?mode=ro&immutable=1", uri=True)
        with closing(db):
            _refuse_foreign(db, path)


def _refuse_foreign(db: sqlite3.Connection, path: Path) -> None:
    names = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    (mark,) = db.execute("PRAGMA application_id").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    # A journal of the first format has two thirds of the tables.
    if 2 * len(names & TABLE_NAMES) >= len(TABLE_NAMES) or not (names or mark or version):
        return
    shown = ", ".join(sorted(names)[:FOREIGN_TABLES_SHOWN]) or "none"
    more = len(names) - FOREIGN_TABLES_SHOWN
    raise JournalForeign(
        f'journal.path: got "{path}", a SQLite database of another program (tables: {shown}'
        f"{f' and {more} more' if more > 0 else ''}); expected a journal of pai-collector, or a path that is free"
    )


def _connect(path: Path) -> sqlite3.Connection:
    """Open the file, make or upgrade its tables, and check it after an unclean end."""
    refuse_foreign(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=BUSY_TIMEOUT_MS / 1000)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        # An answer that was paid for must survive a power cut, not only a crash of this process.
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA journal_size_limit = 67108864")
        _prepare(db, path)
    except sqlite3.Error as error:
        db.close()
        if error.sqlite_errorname.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            raise JournalCorrupt(f"{path} is damaged: {error}") from error
        # Nothing says that the file is at fault: it stays where it is.
        raise JournalError(f"{path} cannot be opened: {error} ({error.sqlite_errorname})") from error
    except BaseException:
        db.close()
        raise
    return db


def _prepare(db: sqlite3.Connection, path: Path) -> None:
    _refuse_foreign(db, path)
    (tables,) = db.execute("SELECT count() FROM sqlite_master").fetchone()
    if tables == 0:
        db.execute("BEGIN IMMEDIATE")
        for statement in [*statements(DDL), f"PRAGMA user_version = {FORMAT}"]:
            db.execute(statement)
        db.execute("INSERT INTO meta VALUES ('id', ?)", (str(uuid.uuid4()),))
        db.execute("COMMIT")
        return
    for step in range(check_format(db, path), FORMAT):
        db.execute("BEGIN IMMEDIATE")
        for statement in statements(UPGRADES[step]):
            db.execute(statement)
        if step >= 6:
            complete_journal(db)
        db.execute(f"PRAGMA user_version = {step + 1}")
        db.execute("COMMIT")
    if not _meta(db, "clean_end") and (damage := damages(db)):
        raise JournalCorrupt(f"{path} is damaged: {damage[0]}")


def check_format(db: sqlite3.Connection, path: Path) -> int:
    """Return the format of a journal's file. Raises JournalTooNew, JournalForeign and JournalCorrupt."""
    _refuse_foreign(db, path)
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > FORMAT:
        raise JournalTooNew(
            f"{path} has format {version}; this version reads up to {FORMAT}",
            hint="run the version that wrote it, or upgrade",
        )
    if version == 0:
        raise JournalCorrupt(f"{path} is a SQLite file, but no journal")
    return int(version)


def damages(db: sqlite3.Connection) -> list[str]:
    """What is wrong with the file: SQLite's own check, then every chunk against its checksum."""
    # Not the quick check: a damaged index passes it, and would end every start at the first look through it.
    found = [row[0] for row in db.execute("PRAGMA integrity_check(10)") if row[0] != "ok"]
    if found:
        return found
    for chunk_id, rows, crc, stored in db.execute("SELECT id, rows, crc, body FROM chunks"):
        try:
            body = checked(stored, crc)
        except (ValueError, TypeError) as error:
            found.append(f"chunk {chunk_id}: {error}")
            continue
        if (lines := body.count(b"\n")) != rows:
            found.append(f"chunk {chunk_id}: {rows} rows expected, {lines} found")
    known = db.execute(
        "SELECT segment_id FROM chunks WHERE segment_id IS NOT NULL AND segment_id NOT IN (SELECT id FROM segments)"
    )
    found += [f"segment {row[0]} is missing" for row in known]
    return found
