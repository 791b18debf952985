"""The program broken on purpose, in the places that its promises hang on: the simulation has to notice each.

`make simulate-breakages` lives through seeds with one breakage after another until a promise is broken.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest import mock

from collector.journal.entries import PageCommit, Segment, StreamState
from collector.journal.journal import Journal
from collector.journal.outgoing import Outgoing
from collector.model import Window
from collector.pipeline import ship
from collector.sources.syslogs import SyslogSource
from tests.simulation.history import draw
from tests.simulation.shrink import played

SEEDS_MAX = 200


@contextmanager
def two_commits() -> Iterator[None]:
    """The rows of a page and its cursor in two commits."""
    commit_page = Journal.commit_page

    async def broken(self: Journal, state: StreamState, page: PageCommit, monotonic: float) -> StreamState:
        here = state.open.get(page.delay)
        cursor = here.cursor if here else None
        # With its digest a page that is asked for again would be known, and taken once.
        rows = replace(page, cursor=cursor, cursor_used=b"", seal=None, attempt=None, strays=())
        state = await commit_page(self, state, rows, monotonic)
        rest = replace(page, open_id=state.open[page.delay].id, chunks=(), counters=(), objects=())
        return await commit_page(self, state, rest, monotonic)

    with mock.patch.object(Journal, "commit_page", broken):
        yield


@contextmanager
def new_token() -> Iterator[None]:
    """A new token for each try of a segment."""
    send = ship.Shipper._send

    async def broken(self: Any, segment: Segment) -> None:
        insert = self._store.insert

        async def with_new_token(table: str, columns: Any, body: bytes, *, token: str) -> None:
            await insert(table, columns, body, token=str(uuid.uuid4()))

        original, self._store = self._store, mock.Mock(wraps=self._store, insert=with_new_token)
        try:
            await send(self, segment)
        finally:
            self._store = original

    with mock.patch.object(ship.Shipper, "_send", broken):
        yield


@contextmanager
def early_watermark() -> Iterator[None]:
    """The watermark moves when a window is sealed, before the store has its rows."""
    from collector.journal import journal

    seal = journal._seal

    def broken(db: Any, page: PageCommit, window_id: int, monotonic: float) -> None:
        seal(db, page, window_id, monotonic)
        if page.delay == 0 and page.seal is not None:
            db.execute(
                "UPDATE streams SET watermark = max(ifnull(watermark, 0), ?) WHERE id = ?",
                (page.seal.end, page.stream_id),
            )

    with mock.patch.object(journal, "_seal", broken):
        yield


@contextmanager
def window_bounds() -> Iterator[None]:
    """A window ends one second early: the row of its last second is taken for the neighbour's."""
    page_of = SyslogSource.page

    def broken(self: SyslogSource, key: Any, window: Window, cursor: str | None, answer: Any) -> Any:
        shorter = Window(window.start, window.end - 1) if window.seconds > 1 else window
        return page_of(self, key, shorter, cursor, answer)

    with mock.patch.object(SyslogSource, "page", broken):
        yield


@contextmanager
def no_difference() -> Iterator[None]:
    """A window that is looked at again is appended, not compared."""

    def broken(table: Any, answered: Any, stored: Any, *, whole_seconds: bool) -> tuple[list[int], int]:
        return list(range(len(answered))), 0

    with mock.patch.object(ship, "missing_rows", broken):
        yield


@contextmanager
def acknowledged_first() -> Iterator[None]:
    """A segment leaves the journal before the store has it."""
    mark_sent = Outgoing.mark_sent

    async def broken(self: Outgoing, segment_id: str, now: int) -> None:
        await mark_sent(self, segment_id, now)

        def forget(db: Any) -> None:
            db.execute("DELETE FROM chunks WHERE segment_id = ?", (segment_id,))
            db.execute("DELETE FROM segments WHERE id = ?", (segment_id,))

        await self._journal.run(forget)

    with mock.patch.object(Outgoing, "mark_sent", broken):
        yield


@contextmanager
def first_part_for_all() -> Iterator[None]:
    """A window that is sent in parts leaves the journal with the first of them."""
    from collector.journal import outgoing

    acknowledge = outgoing._acknowledge

    def broken(db: Any, segment_id: str, parent_id: str | None) -> list[tuple[int, int]]:
        if parent_id is not None:
            db.execute("DELETE FROM segments WHERE parent_id = ? AND id != ?", (parent_id, segment_id))
        return acknowledge(db, segment_id, parent_id)

    with mock.patch.object(outgoing, "_acknowledge", broken):
        yield


@contextmanager
def needless_set_back() -> Iterator[None]:
    """Moments that agree are taken for a clock that was ahead, so that streams are set back for nothing."""
    from collector.journal import clock_log

    with mock.patch.object(clock_log, "DRIFT_SECONDS_MAX", -2):
        yield


BREAKAGES: dict[str, Callable[[], Any]] = {
    "journal transaction": two_commits,
    "token": new_token,
    "watermark order": early_watermark,
    "window bounds": window_bounds,
    "recheck difference": no_difference,
    "acknowledgement order": acknowledged_first,
    "parts of a window": first_part_for_all,
    "set back": needless_set_back,
}


def first_failure(name: str, seeds: int, first: int = 0) -> tuple[int, str] | None:
    """The first seed at which a breakage is noticed, and how; None where it is not."""
    with BREAKAGES[name]():
        for seed in range(first, first + seeds):
            if broken := played(draw(seed)).broken:
                return seed, broken
    return None


def _told(name: str) -> str:
    found = first_failure(name, SEEDS_MAX)
    if found is None:
        return f"{name:22} NOT noticed in {SEEDS_MAX} seeds"
    return f"{name:22} seed {found[0]:3}: {found[1].splitlines()[-1][:150]}"


def main() -> int:
    """Exit status 1 where a breakage is not noticed."""
    parser = argparse.ArgumentParser(prog="make simulate-breakages", description=__doc__)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    jobs = parser.parse_args().jobs
    missed = 0
    # The breakages are looked up by name in a module that a new process imports.
    from tests.simulation import breakages

    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        for line in pool.imap_unordered(breakages._told, BREAKAGES):
            print(line, flush=True)
            missed += "NOT noticed" in line
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
