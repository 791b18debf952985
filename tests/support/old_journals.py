"""Journals of older formats, made of a new one by taking back what each upgrade step added."""

from __future__ import annotations

import sqlite3
from pathlib import Path

_UNDO = {
    6: ("DROP TABLE pot_hours",),
    4: (
        "DROP INDEX chunks_of_part",
        "ALTER TABLE chunks DROP COLUMN part_id",
        "ALTER TABLE segments DROP COLUMN bytes",
        "ALTER TABLE windows DROP COLUMN bytes",
        "DROP TABLE quarantine",
    ),
    3: ("DROP TABLE backfills",),
    2: (
        "ALTER TABLE reserved DROP COLUMN price_micro_cny",
        "ALTER TABLE reserved DROP COLUMN free_calls",
        "DROP TABLE spend_hours",
    ),
}


def downgrade(path: Path, version: int) -> None:
    """Turn a closed journal into one of an older format. Rows stay as they are."""
    db = sqlite3.connect(path)
    for step in sorted((step for step in _UNDO if step >= version), reverse=True):
        for statement in _UNDO[step]:
            db.execute(statement)
    db.execute(f"PRAGMA user_version = {version}")
    db.commit()
    db.close()
