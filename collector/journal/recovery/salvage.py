"""What can still be read of a journal that nobody works with: a damaged one, or one of another machine.

Rows whose page of the file cannot be read are stepped over and counted.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import msgspec

from collector.errors import JournalCorrupt, JournalTooNew, UsageError
from collector.journal.coverage import OPEN, REPLAY_PART
from collector.journal.entries import Chunk
from collector.journal.journal import STRAY
from collector.journal.older_rows import complete_rows
from collector.journal.reading import reading
from collector.journal.recovery.known_schema import restored
from collector.journal.schema import FORMAT
from collector.model import BLOCK_ROWS_MAX, ShipMode, StreamKey, Window
from collector.packing import checked
from collector.sources.tables import API_CALLS, DEAD_LETTERS, TABLES

_ID_MAX: Final = 2**62
_MAGIC: Final = b"SQLite format 3\0"
_HEAD_BYTES: Final = 100
_FILE_BYTES_MAX: Final = 1 << 40

IN_PART: Final = (STRAY, REPLAY_PART)
"""`delay` of windows that hold only some of the rows of their range."""

_CHUNK_COLUMNS: Final = "id, window_id, stream_id, reading, table_name, rows, bytes, seal_number, segment_id"

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Sealed:
    """Rows of one window that wait for the store, or rows that belong to no window."""

    key: StreamKey | None
    """None where nothing that can be read says it; the rows do."""
    window: Window | None
    is_whole: bool
    """Whether they are all rows of their window that were not acknowledged, as far as the file tells."""
    chunk_ids: tuple[int, ...]
    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Calls:
    """What a journal has of the meter and the store may not have."""

    sent: Mapping[str, tuple[int, tuple[int, ...]]]
    """Segment id -> server time of its first try and its chunks: the store knows such a segment by its id."""
    unsent: tuple[int, ...]
    """Chunks that were in no segment that was sent."""
    meter: tuple[Row, ...]
    """Settled calls that are in no chunk yet."""
    reserved: tuple[Row, ...]
    """Calls whose answers are not known."""

    @property
    def chunk_ids(self) -> Collection[int]:
        return [*self.unsent, *(chunk_id for _, several in self.sent.values() for chunk_id in several)]


@dataclass(frozen=True, slots=True)
class Readable:
    """Rows of one window, as far as they can be read."""

    key: StreamKey
    window: Window | None
    chunk_ids: tuple[int, ...]
    rows: int
    is_whole: bool
    """Whether they are all rows of their window that were not acknowledged, as far as the file tells."""


@dataclass(slots=True)
class Salvage:
    """An overview of a journal, without its rows."""

    path: Path
    id: str
    sealed: list[Sealed] = field(default_factory=list)
    """In journal order."""
    gaps: dict[StreamKey, list[Window]] = field(default_factory=dict)
    """What the journal knew as not covered."""
    calls: Calls = Calls({}, (), (), ())
    places_lost: int = 0
    """Places of the file that cannot be read."""

    @property
    def rows(self) -> int:
        return sum(one.rows for one in self.sealed)

    def batches(self, bytes_max: int) -> Iterator[list[Sealed]]:
        """Yield the sealed rows in batches that the store can take as one, in journal order."""
        batch: list[Sealed] = []
        rows = size = 0
        for one in self.sealed:
            if batch and (rows + one.rows > BLOCK_ROWS_MAX or size + one.bytes > bytes_max):
                yield batch
                batch, rows, size = [], 0, 0
            batch.append(one)
            rows += one.rows
            size += one.bytes
        if batch:
            yield batch

    def readable(self, batch: Iterable[Sealed]) -> list[Readable]:
        """Find out what can be read of a batch, and whose it is. One chunk is in memory at a time."""
        found = []
        with reading(self.path) as db:
            for one in batch:
                ids: list[int] = []
                rows = 0
                key, window = one.key, one.window
                spanned: Window | None = None
                for chunk_id in one.chunk_ids:
                    chunk = read_chunk(db, chunk_id)
                    if chunk is None:
                        continue
                    ids.append(chunk_id)
                    rows += chunk.rows
                    key = key or _key_of(chunk)
                    if window is None and (times := _times_of(chunk)) is not None:
                        spanned = times if spanned is None else spanned.hull(times)
                # Where places of the file are lost, chunks of the window may have been in them.
                is_whole = one.is_whole and len(ids) == len(one.chunk_ids) and not self.places_lost
                if key is not None and ids:
                    found.append(Readable(key, window or spanned, tuple(ids), rows, is_whole))
        return found

    def chunks(self, chunk_ids: Iterable[int]) -> Iterator[Chunk]:
        """Yield chunks that were found readable before. Raises JournalCorrupt where one is no longer."""
        with reading(self.path) as db:
            for chunk_id in chunk_ids:
                chunk = read_chunk(db, chunk_id)
                if chunk is None:
                    raise JournalCorrupt(f"chunk {chunk_id} of {self.path} could be read a moment ago and cannot now")
                yield chunk

    def call_chunks(self) -> dict[int, Chunk]:
        """Read the chunks of `calls`, by id; a damaged one is left out."""
        with reading(self.path) as db:
            return {id: chunk for id in self.calls.chunk_ids if (chunk := read_chunk(db, id)) is not None}


def salvage(path: Path) -> Salvage:
    """Look through a journal. Raises UsageError where there is none and JournalCorrupt where nothing can be read.

    Of a file that was cut off, the missing end is filled with zeros: without all of its pages SQLite reads nothing. A
    page of SQLite's own schema that was lost is written again, as this program writes it.
    """
    if not path.is_file():
        raise UsageError(f"{path}: there is no journal", hint="journal ls lists those that were set aside")
    _fill_up(path)
    try:
        return _salvage(path)
    except JournalCorrupt:
        if not restored(path):
            raise
    return _salvage(path)


def _salvage(path: Path) -> Salvage:
    with reading(path) as db:
        version = _version(db, path)
        if version > FORMAT:
            raise JournalTooNew(f"{path} has format {version}; this version reads up to {FORMAT}")
        found = Salvage(path, _id(db))

        def lost() -> None:
            found.places_lost += 1

        # A row that was damaged may be read as one of nothing.
        keys = {row["id"]: StreamKey(row["operation"], row["region"], row["scope_id"])
                for row in _by_id(db, "streams", "id, operation, region, scope_id", lost)
                if all(isinstance(value, str) for value in row[1:])}  # fmt: skip
        windows = {row["id"]: (Window(row["start"], row["end"]), row["delay"] not in IN_PART)
                   for row in _by_id(db, "windows", "id, delay, start, end", lost) if _is_range(row)}  # fmt: skip
        chunks = [row for row in _by_id(db, "chunks", _CHUNK_COLUMNS, lost) if isinstance(row["rows"], int)]
        sealed = sorted((row for row in chunks if row["seal_number"] is not None), key=_order)
        found.sealed = _sealed([row for row in sealed if row["table_name"] != API_CALLS.name], keys, windows)
        # What was read of windows whose last page is missing. It covers nothing: whoever has the stream asks again.
        found.sealed += [
            replace(one, is_whole=False)
            for one in _sealed(_longest_readings([row for row in chunks if row["seal_number"] is None]), keys, windows)
        ]
        for row in _from_both_ends(db, "gaps", "*", "stream_id, start, end", lost):
            if row["state"] == OPEN and row["stream_id"] in keys and _is_range(row):
                found.gaps.setdefault(keys[row["stream_id"]], []).append(Window(row["start"], row["end"]))
        found.calls = _calls(db, [row for row in sealed if row["table_name"] == API_CALLS.name], lost)
    return found


def _is_range(row: sqlite3.Row) -> bool:
    return isinstance(row["start"], int) and isinstance(row["end"], int) and row["start"] < row["end"]


def _fill_up(path: Path) -> None:
    try:
        with path.open("r+b") as file:
            head = file.read(_HEAD_BYTES)
            if not head.startswith(_MAGIC) or len(head) < _HEAD_BYTES:
                return
            # A size of 1 stands for 65,536.
            size = int.from_bytes(head[16:18])
            page_bytes = 65_536 if size == 1 else size
            wanted = page_bytes * int.from_bytes(head[28:32])
            if path.stat().st_size < wanted <= _FILE_BYTES_MAX:
                file.truncate(wanted)
    except OSError:
        # It cannot be written, so it is read as it is.
        return


def _longest_readings(chunks: Sequence[sqlite3.Row]) -> list[sqlite3.Row]:
    """Of each window the chunks of one reading: two of them have the same rows."""
    rows: Counter[tuple[int, int]] = Counter()
    for row in chunks:
        rows[row["window_id"], row["reading"]] += row["rows"]
    longest: dict[int, int] = {}
    for (window_id, number), count in rows.items():
        if window_id not in longest or count > rows[window_id, longest[window_id]]:
            longest[window_id] = number
    return [row for row in chunks if longest[row["window_id"]] == row["reading"]]


def _order(row: sqlite3.Row) -> tuple[int, int]:
    return row["seal_number"], row["id"]


def _version(db: sqlite3.Connection, path: Path) -> int:
    try:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        (tables,) = db.execute("SELECT count() FROM sqlite_master WHERE name IN ('chunks', 'streams')").fetchone()
    except sqlite3.DatabaseError as error:
        raise JournalCorrupt(f"nothing can be read of {path}: {error}") from error
    if not version or tables < 2:
        raise UsageError(f"{path} is a SQLite file, but no journal")
    return int(version)


def _id(db: sqlite3.Connection) -> str:
    try:
        row = db.execute("SELECT value FROM meta WHERE key = 'id'").fetchone()
    except sqlite3.DatabaseError:
        return ""
    return "" if row is None else str(row[0])


def _sealed(
    chunks: Sequence[sqlite3.Row], keys: Mapping[int, StreamKey], windows: Mapping[int, tuple[Window, bool]]
) -> list[Sealed]:
    groups: dict[tuple[str, int], list[sqlite3.Row]] = {}
    for row in chunks:
        place = ("chunk", row["id"]) if row["window_id"] is None else ("window", row["window_id"])
        groups.setdefault(place, []).append(row)
    sealed = []
    for (kind, number), group in groups.items():
        window, is_whole = windows.get(number, (None, False)) if kind == "window" else (None, True)
        sealed.append(
            Sealed(
                keys.get(group[0]["stream_id"]), window, is_whole, tuple(row["id"] for row in group),
                sum(row["rows"] for row in group), sum(row["bytes"] for row in group),
            )
        )  # fmt: skip
    return sealed


def _calls(db: sqlite3.Connection, chunks: Sequence[sqlite3.Row], lost: Callable[[], None]) -> Calls:
    sent_at = {row["id"]: row["sent_at"] for row in _from_both_ends(db, "segments", "id, sent_at", "id", lost)}
    sent: dict[str, tuple[int, tuple[int, ...]]] = {}
    unsent: list[int] = []
    for row in chunks:
        segment = row["segment_id"]
        if sent_at.get(segment) is None:
            unsent.append(row["id"])
        else:
            sent[segment] = (sent_at[segment], (*sent.get(segment, (0, ()))[1], row["id"]))
    # Of older formats without terms.
    reserved = tuple(dict(row) for row in _by_id(db, "reserved", "*", lost, key="ticket"))
    meter = tuple(dict(row) for row in _from_both_ends(db, "meter", "*", "minute, operation, http_status, code", lost))
    return Calls(sent, tuple(unsent), meter, reserved)


def read_chunk(db: sqlite3.Connection, chunk_id: int) -> Chunk | None:
    """The rows of a chunk, to be compared with the store; None where they are damaged."""
    try:
        row = db.execute(
            "SELECT table_name, partition, rows, crc, body FROM chunks WHERE id = ?", (chunk_id,)
        ).fetchone()
        if row is None:
            return None
    except sqlite3.DatabaseError:
        return None
    return sound_chunk(*row)


def sound_chunk(table: str, partition: str, rows: int, crc: int, stored: bytes) -> Chunk | None:
    """Make a chunk that is compared of what a journal keeps of one; None where it is damaged."""
    try:
        body = complete_rows(table, checked(stored, crc))
    except (ValueError, TypeError):
        return None
    return Chunk(table, partition, rows, body, ShipMode.COMPARE) if table in TABLES else None


def _times_of(chunk: Chunk) -> Window | None:
    """Return the range of event time that rows span, None if they have no time."""
    index = TABLES[chunk.table].time_index
    times = [] if index is None else [int(msgspec.json.decode(line)[index]) for line in chunk.body.splitlines()]
    return Window(min(times), max(times) + 1) if times else None


def _key_of(chunk: Chunk) -> StreamKey:
    """The stream that a chunk's rows belong to, as they say themselves."""
    row = msgspec.json.decode(chunk.body.split(b"\n", 1)[0])
    table = TABLES[chunk.table]
    if table is DEAD_LETTERS:
        return StreamKey(*map(str, row[1:4]))
    return StreamKey(table.operation_of(row), str(row[table.columns.index("region")]), table.stream_scope(row))


# Reading around damage


def _by_id(
    db: sqlite3.Connection, table: str, columns: str, lost: Callable[[], None], key: str = "id"
) -> Iterator[sqlite3.Row]:
    """The rows of a table that can be reached, in the order of their id."""
    after = -1
    while True:
        try:
            for row in _asked(db, f"SELECT {columns} FROM {table} WHERE {key} > ? ORDER BY {key}", after):
                after = row[key]
                yield row
            return
        except sqlite3.DatabaseError:
            lost()
        step = _next_step(db, table, key, after)
        if step is None:
            return
        after += step


def _next_step(db: sqlite3.Connection, table: str, key: str, after: int) -> int | None:
    """By how much the id has to grow until a row can be read again; None where there is no more."""

    def is_readable(step: int) -> bool:
        try:
            db.execute(f"SELECT * FROM {table} WHERE {key} > ? ORDER BY {key} LIMIT 1", (after + step,)).fetchone()
        except sqlite3.DatabaseError:
            return False
        return True

    good = 1
    while not is_readable(good):
        good *= 2
        if after + good > _ID_MAX:
            return None
    bad = good // 2
    while good - bad > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if is_readable(middle) else (good, middle)
    return good


def _from_both_ends(
    db: sqlite3.Connection, table: str, columns: str, key: str, lost: Callable[[], None]
) -> Iterator[sqlite3.Row]:
    """The rows of a small table that can be reached from its first and from its last."""
    names = key.split(", ")
    seen: set[tuple[Any, ...]] = set()
    for direction in ("", " DESC"):
        order = ", ".join(name + direction for name in names)
        try:
            for row in _asked(db, f"SELECT {columns} FROM {table} ORDER BY {order}"):
                place = tuple(row[name] for name in names)
                if place not in seen:
                    seen.add(place)
                    yield row
            return
        except sqlite3.DatabaseError:
            if not direction:
                lost()


def _asked(db: sqlite3.Connection, sql: str, *parameters: int) -> Iterator[sqlite3.Row]:
    cursor = db.cursor()
    cursor.row_factory = sqlite3.Row
    yield from cursor.execute(sql, parameters)
