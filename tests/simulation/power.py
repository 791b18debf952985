"""Power that fails at a given moment: between two steps of the loop, at a commit, in the midst of one, at an insert.

What runs in a machine's tasks finds its `Power` in the context. From the moment of the cut on nothing that they do
has an effect: the disk is kept as it was then, and journal, store and wire raise `PowerCut`.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

from collector.journal.group_commit import GroupCommit

SECTOR_BYTES = 512
"""What a disk writes whole."""
WAL_HEADER_BYTES = 32
PAGES_MAX = 1 << 30
"""SQLite's own limit of pages, when the disk is not full."""


class PowerCut(BaseException):
    """The machine has no power. No program can catch it."""


class Point(StrEnum):
    """Where a countdown of durable steps cuts the power."""

    BEFORE_COMMIT = "before a commit"
    TORN_COMMIT = "in a commit"
    AFTER_COMMIT = "after a commit"
    BEFORE_INSERT = "before an insert"
    AFTER_INSERT = "after an insert"


@dataclass
class Disk:
    """The files of a journal at one moment."""

    files: dict[str, bytes] = field(default_factory=dict)

    @classmethod
    def of(cls, path: Path) -> Disk:
        """What is on the disk now. The shared-memory index is not: it is memory."""
        return cls({each: read for each in ("", "-wal") if (read := _read(Path(f"{path}{each}"))) is not None})

    def restore(self, path: Path) -> None:
        """Make the files what they were."""
        for each in ("", "-wal", "-shm"):
            Path(f"{path}{each}").unlink(missing_ok=True)
        for each, body in self.files.items():
            Path(f"{path}{each}").write_bytes(body)


class Power:
    """One machine's."""

    def __init__(self, journal: Path, on_cut: Callable[[], None]) -> None:
        self.journal = journal
        self.is_out = False
        self.is_full = False
        """The journal's disk takes no more pages."""
        self.is_locked = False
        """Another program holds the journal's write lock."""
        self.disk = Disk()
        """What the disk held at the cut."""
        self.commits = 0
        self.cuts: dict[str, int] = {}
        self._on_cut = on_cut
        self._countdown: tuple[Point, int, Random] | None = None

    def cut_at(self, point: Point, count: int, random: Random) -> None:
        """Cut the power at the `count`-th of these durable steps from now. Commits that only read are none."""
        self._countdown = (point, count, random)

    def cut(self) -> None:
        """Cut it now."""
        if not self.is_out:
            self._end(Disk.of(self.journal))

    def _end(self, disk: Disk) -> None:
        self.is_out, self.disk, self._countdown = True, disk, None
        self._on_cut()

    def check(self) -> None:
        """Raises PowerCut where there is none."""
        if self.is_out:
            raise PowerCut

    def is_now(self, *points: Point) -> Point | None:
        """Count one durable step; which of the points it is at which the power fails."""
        if self._countdown is None or self._countdown[0] not in points:
            return None
        point, count, random = self._countdown
        self._countdown = (point, count - 1, random)
        return point if count <= 1 else None

    def commit(self, commit: Callable[[], None], connection: sqlite3.Connection) -> None:
        """Carry out a commit of the journal, or fail at it."""
        self.check()
        self.commits += 1
        # What would be lost is known before, whether anything is written only after.
        is_near = self._countdown is not None and self._countdown[1] <= 1
        before, written = Disk.of(self.journal) if is_near else Disk(), connection.total_changes
        if self.is_full:
            (pages,) = connection.execute("PRAGMA page_count").fetchone()
            connection.execute(f"PRAGMA max_page_count = {pages}")
        with self._other_program(connection):
            commit()
        if self.is_full:
            connection.execute(f"PRAGMA max_page_count = {PAGES_MAX}")
        if connection.total_changes == written:
            return
        random = self._countdown[2] if self._countdown else Random(0)
        point = self.is_now(Point.BEFORE_COMMIT, Point.TORN_COMMIT, Point.AFTER_COMMIT)
        if point is None:
            return
        after = Disk.of(self.journal)
        disks = {Point.BEFORE_COMMIT: before, Point.AFTER_COMMIT: after}
        self._end(disks.get(point) or torn(before, after, random))
        raise PowerCut

    @contextmanager
    def _other_program(self, connection: sqlite3.Connection) -> Iterator[None]:
        """Hold the lock for the length of one commit, where it is held for a while."""
        if not self.is_locked:
            yield
            return
        # SQLite's own wait would take the machine's time.
        (waits,) = connection.execute("PRAGMA busy_timeout").fetchone()
        connection.execute("PRAGMA busy_timeout = 0")
        other = sqlite3.connect(self.journal, isolation_level=None)
        try:
            other.execute("BEGIN IMMEDIATE")
            yield
        finally:
            other.close()
            connection.execute(f"PRAGMA busy_timeout = {waits}")

    def inserting(self) -> None:
        self.check()
        if self.is_now(Point.BEFORE_INSERT):
            self.cut()
            raise PowerCut

    def inserted(self) -> None:
        if self.is_now(Point.AFTER_INSERT):
            self.cut()
            raise PowerCut


def torn(before: Disk, after: Disk, random: Random) -> Disk:
    """A disk that lost power in a commit: what was not synced yet is there in part, or as rubbish.

    The log is synced at the end of a commit, so before that any of its new sectors may be missing. The file itself is
    written to after the log was synced.
    """
    old, new = before.files.get("-wal", b""), after.files.get("-wal", b"")
    size = random.randint(len(old), max(len(old), len(new)))
    wal = bytearray(new[:size].ljust(size, b"\0"))
    # What was synced before stays, also where a sector is written to behind it: SQLite counts on that.
    is_same_log = old[:WAL_HEADER_BYTES] == new[:WAL_HEADER_BYTES]
    synced = _common(old, new) if is_same_log else 0
    for start in range(synced // SECTOR_BYTES * SECTOR_BYTES, size, SECTOR_BYTES):
        sector = slice(max(start, synced), min(start + SECTOR_BYTES, size))
        if old[sector] == new[sector]:
            continue
        fate = random.random()
        if fate < 0.4:
            wal[sector] = old[sector].ljust(sector.stop - sector.start, b"\0")
        elif fate < 0.6:
            wal[sector] = random.randbytes(sector.stop - sector.start)
    if not is_same_log:
        # A log that begins anew has its header synced before anything is written behind it.
        wal[:WAL_HEADER_BYTES] = new[: min(size, WAL_HEADER_BYTES)]
    return Disk({**before.files, "-wal": bytes(wal)})


def _common(old: bytes, new: bytes) -> int:
    """How many bytes both begin with."""
    for start in range(0, len(old), SECTOR_BYTES):
        one, other = old[start : start + SECTOR_BYTES], new[start : start + SECTOR_BYTES]
        if one != other:
            return start + next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), len(other))
    return len(old)


POWER: ContextVar[Power | None] = ContextVar("power", default=None)


@contextmanager
def wired() -> Iterator[None]:
    """Within it every journal is on the power of the machine whose task opened or uses it."""
    run, commit = GroupCommit.run, GroupCommit._commit

    async def powered_run(self: GroupCommit, work: Any) -> Any:
        power = POWER.get()
        if power is not None:
            power.check()
            if self._connection is None:
                # Closed at the end of a process: a task that still goes on belongs to nobody.
                raise asyncio.CancelledError
        return await run(self, work)

    def powered_commit(self: GroupCommit, connection: sqlite3.Connection, batch: list[Any]) -> None:
        power = POWER.get()
        if power is None:
            commit(self, connection, batch)
        else:
            power.commit(lambda: commit(self, connection, batch), connection)

    with mock.patch.object(GroupCommit, "run", powered_run), mock.patch.object(GroupCommit, "_commit", powered_commit):
        yield


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
