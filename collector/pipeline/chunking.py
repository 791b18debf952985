"""Rows to journal chunks and back. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from collector.journal.entries import Chunk
from collector.model import ShipMode, StreamKey, Window
from collector.sources.normalise import TIME_MAX, as_json, lines
from collector.sources.page import PageRows
from collector.sources.tables import DEAD_LETTERS, TABLES, Row, Table
from collector.units import DAY_SECONDS

RECORD_CHARACTERS_MAX = 1 << 20
"""A dead letter keeps at most this much of its record."""

Identity = tuple[Any, ...]


def partition_of(table: Table, time: int) -> str:
    """The partition of a row, as the table's `PARTITION BY` has it: a day, or a month for small tables."""
    return datetime.fromtimestamp(time, UTC).strftime("%Y%m" if table.monthly else "%Y%m%d")


def chunks(rows: dict[Table, list[Row]], mode: ShipMode) -> list[Chunk]:
    """Rows as chunks, one for each table and partition."""
    found = []
    for table, table_rows in rows.items():
        table_mode = ShipMode.COMPARE if table.always_compare else mode
        for partition, part in by_partition(table, table_rows).items():
            found.append(Chunk(table.name, partition, len(part), lines(part), table_mode))
    return found


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
        (now, key.operation, key.region, key.scope_id, reason, as_json(record)[:RECORD_CHARACTERS_MAX])
        for reason, record in dead
    ]
    return chunks({DEAD_LETTERS: rows}, ShipMode.COMPARE) if rows else []


def decode_lines(body: bytes) -> list[list[Any]]:
    """The rows of a chunk's body."""
    return _lines_decoder.decode_lines(body)


def identities(table: Table, rows: Iterable[Sequence[Any]]) -> list[Identity]:
    """What makes each row the row it is; NULL and the empty text are the same."""
    indexes = table.identity_indexes
    return [tuple(row[i] for i in indexes) for row in rows]


def merge_readings(pairs: Sequence[tuple[int, Chunk]]) -> list[Chunk]:
    """One multiset out of several readings of the same window.

    A window whose cursor died is read again from its start. Of equal rows the largest number seen
    in one reading is kept: less would lose a record that was returned, more would double one.
    """
    bodies: dict[tuple[str, str, ShipMode], dict[int, list[list[Any]]]] = {}
    for reading, chunk in pairs:
        group = bodies.setdefault((chunk.table, chunk.partition, chunk.mode), {})
        group.setdefault(reading, []).extend(decode_lines(chunk.body))
    merged = []
    for (name, partition, mode), readings in bodies.items():
        table = TABLES[name]
        kept: list[list[Any]] = []
        have: Counter[Identity] = Counter()
        for _, rows in sorted(readings.items(), reverse=True):
            here: Counter[Identity] = Counter()
            for row, identity in zip(rows, identities(table, rows), strict=True):
                here[identity] += 1
                if here[identity] > have[identity]:
                    have[identity] += 1
                    kept.append(row)
        merged.append(Chunk(name, partition, len(kept), lines([tuple(row) for row in kept]), mode))
    return merged


def cut_at(end: int) -> Callable[[Sequence[Chunk]], list[Chunk]]:
    """Keeps the rows before `end`, for a window that is sealed earlier than planned."""

    def cut(given: Sequence[Chunk]) -> list[Chunk]:
        kept = []
        for chunk in given:
            index = TABLES[chunk.table].time_index
            if index is None:
                kept.append(chunk)
                continue
            rows = [row for row in decode_lines(chunk.body) if row[index] < end]
            if rows:
                kept.append(Chunk(chunk.table, chunk.partition, len(rows), lines([tuple(r) for r in rows]), chunk.mode))
        return kept

    return cut


_lines_decoder: msgspec.json.Decoder[list[Any]] = msgspec.json.Decoder(list)
