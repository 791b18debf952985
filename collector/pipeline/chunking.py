"""Rows to journal chunks and back. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import msgspec

from collector.catalogue.answers import UnreadableRecord
from collector.journal.entries import Chunk
from collector.model import ShipMode, StreamKey, Window
from collector.pipeline.compare import Identity, digest_identity
from collector.sources.normalise import TIME_MAX, as_json, lines
from collector.sources.page import PageRows
from collector.sources.tables import DEAD_LETTERS, TABLES, Row, Table
from collector.units import DAY_SECONDS

RECORD_CHARACTERS_MAX = 1 << 20
"""A dead letter keeps at most this much of its record."""
CHUNK_BYTES_MAX = 1 << 20
"""Rows of a page that are larger than this become several chunks: a chunk is what is read from the journal at once."""


def partition_of(table: Table, time: int) -> str:
    """The partition of a row, as the table's `PARTITION BY` has it: a day, or a month for small tables."""
    return datetime.fromtimestamp(time, UTC).strftime("%Y%m" if table.monthly else "%Y%m%d")


def chunks(rows: dict[Table, list[Row]], mode: ShipMode, bytes_max: int = CHUNK_BYTES_MAX) -> list[Chunk]:
    """Turn rows into chunks: one for each table and partition, several where one would exceed `bytes_max`."""
    found: list[Chunk] = []
    for table, table_rows in rows.items():
        table_mode = ShipMode.COMPARE if table.always_compare else mode
        for partition, part in by_partition(table, table_rows).items():
            found += _sized(Chunk(table.name, partition, len(part), lines(part), table_mode), bytes_max)
    return found


def _sized(chunk: Chunk, bytes_max: int) -> Iterator[Chunk]:
    """Yield the rows of a chunk in chunks of at most `bytes_max`; a row that is larger comes alone."""
    if len(chunk.body) <= bytes_max or chunk.rows == 1:
        yield chunk
        return
    part: list[bytes] = []
    size = 0
    for line in chunk.body.splitlines(keepends=True):
        if part and size + len(line) > bytes_max:
            yield replace(chunk, rows=len(part), body=b"".join(part))
            part, size = [], 0
        part.append(line)
        size += len(line)
    yield replace(chunk, rows=len(part), body=b"".join(part))


def by_partition(table: Table, rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows grouped by partition, in order."""
    index = table.partition_index
    times = [row[index] for row in rows]
    if times and min(times) // DAY_SECONDS == max(times) // DAY_SECONDS:  # type: ignore[operator,type-var]
        return {partition_of(table, times[0]): list(rows)}  # type: ignore[arg-type]
    grouped: dict[int, list[Row]] = {}
    for row in rows:
        grouped.setdefault(row[index] // DAY_SECONDS, []).append(row)  # type: ignore[operator]
    named: dict[str, list[Row]] = {}
    for day, part in grouped.items():
        named.setdefault(partition_of(table, day * DAY_SECONDS), []).extend(part)
    return named


def stray_chunks(page: PageRows) -> list[tuple[Window, Chunk]]:
    """Stray rows as chunks, each with the range of event time it spans."""
    found = []
    for table, rows in page.strays.items():
        for partition, part in by_partition(table, rows).items():
            times = [int(row[table.time_index]) for row in part]  # type: ignore[index,call-overload]
            window = Window(min(times), min(max(times) + 1, TIME_MAX + 1))
            found.append((window, Chunk(table.name, partition, len(part), lines(part), ShipMode.COMPARE)))
    return found


def dead_letter_chunks(key: StreamKey, dead: Iterable[tuple[str, object]], now: int) -> list[Chunk]:
    """Records that no row can be made of, as rows of `dead_letters`."""
    rows: list[Row] = [
        (now, key.operation, key.region, key.scope_id, reason, _shown(record)[:RECORD_CHARACTERS_MAX])
        for reason, record in dead
    ]
    return chunks({DEAD_LETTERS: rows}, ShipMode.COMPARE) if rows else []


def _shown(record: object) -> str:
    return record.text if isinstance(record, UnreadableRecord) else as_json(record)


def decode_lines(body: bytes) -> list[list[Any]]:
    """The rows of a chunk's body."""
    return _lines_decoder.decode_lines(body)


def identities(table: Table, rows: Iterable[Sequence[Any]]) -> list[Identity]:
    """What makes each row the row it is; NULL and the empty text are the same."""
    indexes = table.identity_indexes
    return [tuple(row[i] for i in indexes) for row in rows]


def merge_readings(pairs: Iterable[tuple[int, Chunk]], complete: int | None) -> Iterator[Chunk]:
    """Merge several readings of the same window, the last one first, into one multiset.

    A window whose cursor died is read again from its start. `complete` is the number of the last reading if it reached
    the end of its range: it tells how often each of its rows occurs, since an earlier one may have returned a page
    twice. Of all other rows the largest number seen in one reading is kept: less would lose a record that was
    returned, more would double one. One chunk and a digest of each row are in memory at a time.
    """
    kept: Counter[tuple[str, str, bytes]] = Counter()
    seen: Counter[tuple[str, str, bytes]] = Counter()
    counted: frozenset[tuple[str, str, bytes]] = frozenset()
    current: int | None = None
    for reading, chunk in pairs:
        if reading != current:
            if current is not None and current == complete:
                counted = frozenset(kept)
            current = reading
            seen.clear()
        read = decode_lines(chunk.body)
        rows = []
        for row, identity in zip(read, identities(TABLES[chunk.table], read), strict=True):
            key = (chunk.table, chunk.partition, digest_identity(identity))
            seen[key] += 1
            if seen[key] > kept[key] and key not in counted:
                kept[key] += 1
                rows.append(tuple(row))
        yield from _with_rows(chunk, rows)


def each_once(given: Iterable[Chunk]) -> Iterator[Chunk]:
    """Keep the first row of each identity, of tables in which identity is a key."""
    seen: set[tuple[str, bytes]] = set()
    for chunk in given:
        table = TABLES[chunk.table]
        if table.multiset or not table.identity:
            yield chunk
            continue
        rows = []
        read = decode_lines(chunk.body)
        for row, identity in zip(read, identities(table, read), strict=True):
            if (key := (chunk.table, digest_identity(identity))) not in seen:
                seen.add(key)
                rows.append(tuple(row))
        yield from _with_rows(chunk, rows)


def cut_at(end: int) -> Callable[[Iterable[Chunk]], Iterator[Chunk]]:
    """Return what keeps the rows before `end`, for a window that is sealed earlier than planned."""

    def cut(given: Iterable[Chunk]) -> Iterator[Chunk]:
        for chunk in given:
            index = TABLES[chunk.table].time_index
            if index is None:
                yield chunk
            else:
                yield from _with_rows(chunk, [tuple(row) for row in decode_lines(chunk.body) if row[index] < end])

    return cut


def _with_rows(chunk: Chunk, kept: list[tuple[Any, ...]]) -> Iterator[Chunk]:
    """Yield a chunk with those of its rows that are kept: itself if all are, nothing if none is."""
    if len(kept) == chunk.rows:
        yield chunk
    elif kept:
        yield Chunk(chunk.table, chunk.partition, len(kept), lines(kept), chunk.mode)


_lines_decoder: msgspec.json.Decoder[list[Any]] = msgspec.json.Decoder(list)
