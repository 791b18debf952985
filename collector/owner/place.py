"""Which journals have been at one place: their ids stand in a file beside the journal.

The lock says that no other process works at the place, and this file which journals it is then known to be rid of.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Final

IDS_MAX: Final = 100


def ids_path(journal_path: Path) -> Path:
    """Return the file for a journal's place."""
    return journal_path.with_name(journal_path.name + ".ids")


def gone_from(journal_path: Path, journal_id: str) -> frozenset[str]:
    """The ids of the journals that were here before the one that is now. Enters that one."""
    path = ids_path(journal_path)
    known: list[str] = []
    with suppress(OSError, UnicodeDecodeError):
        known = path.read_text().split()
    if known[-1:] != [journal_id]:
        # Without the file a journal's successor is told by its shard, once it is silent: later, but told.
        with suppress(OSError):
            after = [one for one in known if one != journal_id][-IDS_MAX:]
            beside = path.with_name(path.name + ".new")
            beside.touch(mode=0o600)
            beside.write_text("\n".join([*after, journal_id, ""]))
            beside.replace(path)
    return frozenset(known) - {journal_id}
