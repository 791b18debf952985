"""Looking into a journal without owning it: read-only, beside a running collector or not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from collector.errors import JournalCorrupt
from collector.journal.journal import check_format, damages, used_bytes
from collector.journal.reading import reading


def contents(path: Path) -> dict[str, Any]:
    """What waits in a journal: rows by table and partition, open windows, segments, size in bytes.

    Raises as `reading` and `check_format` do.
    """
    with reading(path) as db:
        check_format(db, path)
        waiting = db.execute(
            "SELECT table_name, partition, mode, count(), sum(rows), sum(bytes), sum(segment_id IS NOT NULL),"
            " sum(seal_number IS NULL) FROM chunks GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
        ).fetchall()
        names = ("table", "partition", "mode", "chunks", "rows", "bytes", "in_segments", "unsealed")
        open_windows = db.execute(
            "SELECT s.operation, s.scope_id, w.delay, w.start, w.end, w.pages, w.reading FROM windows w"
            " JOIN streams s ON s.id = w.stream_id WHERE w.seal_number IS NULL ORDER BY 1, 2"
        ).fetchall()
        window_names = ("operation", "scope_id", "delay", "start", "end", "pages", "reading")
        journal_id = db.execute("SELECT value FROM meta WHERE key = 'id'").fetchone()
        # Journals of older formats have no such counter, and none of them has quarantined a row.
        quarantined = db.execute("SELECT value FROM counters WHERE name = 'quarantined_rows'").fetchone()
        (reserved,) = db.execute("SELECT count() FROM reserved").fetchone()
        return {
            "id": "" if journal_id is None else journal_id[0],
            "bytes": used_bytes(db),
            "calls_unsettled": reserved,
            "quarantined_rows": 0 if quarantined is None else quarantined[0],
            "chunks": [dict(zip(names, row, strict=True)) for row in waiting],
            "open_windows": [dict(zip(window_names, row, strict=True)) for row in open_windows],
        }


def rows_waiting(path: Path) -> int:
    """Return how many rows of a journal are not acknowledged by the store; 0 without a journal."""
    if not path.exists():
        return 0
    with reading(path) as db:
        check_format(db, path)
        return int(db.execute("SELECT ifnull(sum(rows), 0) FROM chunks").fetchone()[0])


def verify(path: Path) -> list[str]:
    """What is wrong with a journal; empty when nothing is. Raises JournalTooNew, JournalForeign and UsageError."""
    try:
        with reading(path) as db:
            check_format(db, path)
            return damages(db)
    except JournalCorrupt as error:
        return [str(error)]
