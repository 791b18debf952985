"""Rows that an older version journaled, in the shape that their tables have now."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from collector.packing import checked, packed, unpacked
from collector.sources.normalise import lines
from collector.sources.tables import METRIC_POINTS, RESOURCE_GROUP_METRICS, TABLES, USER_METRICS

_METRIC: Final = METRIC_POINTS.columns.index("metric")
_GROWN: Final[Mapping[str, Callable[[list[Any]], list[Any]]]] = {
    # Namespace, period, statistic, dimensions and unit, which only CloudMonitor has, and the measure.
    METRIC_POINTS.name: lambda row: ["", 0, "", "{}", "", row[_METRIC]],
    # The workspace that was asked for: none.
    USER_METRICS.name: lambda row: [""],
    RESOURCE_GROUP_METRICS.name: lambda row: [""],
}
"""Table -> the columns that it has got since, as the rows from before have them."""


def complete_rows(table: str, body: bytes) -> bytes:
    """Return rows with the columns that their table has got since; unchanged if they have them."""
    if table not in _GROWN or not body:
        return body
    width = len(TABLES[table].columns)
    if len(msgspec.json.decode(body.split(b"\n", 1)[0])) >= width:
        return body
    rows = [msgspec.json.decode(line) for line in body.splitlines()]
    return lines([tuple([*row, *_GROWN[table](row)]) for row in rows])


def complete_journal(db: sqlite3.Connection) -> None:
    """Complete the rows of a journal of an older format. Damaged ones are left to the check that follows."""
    names = ", ".join("?" * len(_GROWN))
    ids = db.execute(f"SELECT id, table_name FROM chunks WHERE table_name IN ({names})", tuple(_GROWN)).fetchall()
    for chunk_id, table in ids:
        crc, stored = db.execute("SELECT crc, body FROM chunks WHERE id = ?", (chunk_id,)).fetchone()
        try:
            body = complete_rows(table, checked(stored, crc))
        except (ValueError, TypeError):
            continue
        db.execute(
            "UPDATE chunks SET body = ?, bytes = ?, crc = ? WHERE id = ?",
            (packed(body), len(body), zlib.crc32(body), chunk_id),
        )
    if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'set_apart'").fetchone() is None:
        return
    ids = db.execute(
        f"SELECT id, table_name FROM set_apart WHERE body IS NOT NULL AND table_name IN ({names})", tuple(_GROWN)
    ).fetchall()
    for row_id, table in ids:
        (stored,) = db.execute("SELECT body FROM set_apart WHERE id = ?", (row_id,)).fetchone()
        body = complete_rows(table, unpacked(stored))
        db.execute("UPDATE set_apart SET body = ? WHERE id = ?", (packed(body), row_id))
