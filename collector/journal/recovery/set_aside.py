"""A damaged journal never blocks the start in silence: it is moved away, whole, and reported."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import structlog

from collector.errors import JournalCorrupt, UsageError
from collector.journal.journal import Journal
from collector.journal.ledger import Prices
from collector.journal.reading import COMPANIONS

DAMAGED: Final = ".damaged-"
"""In the name of a journal that was set aside, before the time."""
REPLAYED: Final = ".replayed"
"""In the name of a journal whose rows and calls were taken over."""

log = structlog.get_logger(__name__)


def open_journal(
    path: Path, prices: Prices, *, region: str, now: float, threaded: bool = True
) -> tuple[Journal, Path | None]:
    """Open the journal; a damaged one is set aside and a new one begun. Returns the old one's new path.

    What the old one held and the store lacks is asked again, from the watermarks in the store on;
    snapshots among it show as gaps until `journal repair` brings them back. Raises UsageError for a folder that holds
    something.
    """
    if path.is_dir():
        # What mounts a file that is missing makes a folder of its name.
        try:
            path.rmdir()
        except OSError as error:
            raise UsageError(
                f'journal.path: got "{path}", a folder ({error.strerror}); expected a file, or a path that is free'
            ) from None
    try:
        return Journal(path, prices, region=region, threaded=threaded), None
    except JournalCorrupt as error:
        aside = set_aside(path, now)
        log.error("journal_set_aside", reason=str(error), path=str(aside))
        return Journal(path, prices, region=region, threaded=threaded), aside


def set_aside(path: Path, now: float) -> Path:
    """Move a journal and what belongs to it out of the way; returns where it is."""
    return _renamed(path, DAMAGED + datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ"))


def set_aside_of(path: Path) -> list[Path]:
    """Return the damaged journals that were set aside beside `path` and not taken over yet."""
    found = path.parent.glob(f"{path.name}{DAMAGED}*")
    return sorted(one for one in found if not one.name.endswith(COMPANIONS) and REPLAYED not in one.name)


def mark_replayed(path: Path) -> Path:
    """Rename a journal whose rows and calls were taken over, so that nobody goes on with it; returns its new path."""
    return _renamed(path, REPLAYED)


def _renamed(path: Path, suffix: str) -> Path:
    """Rename a journal that is not open, with what belongs to it, to one whose name goes on so; returns that."""
    target = path.with_name(path.name + suffix)
    number = 1
    while target.exists():
        number += 1
        target = path.with_name(f"{path.name}{suffix}-{number}")
    path.rename(target)
    for companion in COMPANIONS:
        beside = path.with_name(path.name + companion)
        if beside.exists():
            beside.rename(target.with_name(target.name + companion))
    return target
