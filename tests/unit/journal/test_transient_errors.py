"""The journal while its file takes nothing: locked by another program, read-only, failing, and what is lost by it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import structlog

from collector.errors import JournalError, JournalFull, JournalUnavailable, Stopping
from collector.journal import journal as journal_module
from collector.journal.group_commit import translated
from collector.journal.journal import Journal
from collector.pipeline.room import LOOK_AGAIN_SECONDS, Room
from tests.support.virtual_clock import ManualClock


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite itself waits for locks no longer than a test wants to."""
    monkeypatch.setattr(journal_module, "BUSY_TIMEOUT_MS", 20)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal.db", {}, region="cn-hangzhou", threaded=False)


def lock(journal: Journal) -> Callable[[], None]:
    """Take SQLite's write lock as another program does; returns what gives it back."""
    other = sqlite3.connect(journal.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    return other.close


def make_read_only(journal: Journal) -> Callable[[], None]:
    connection = journal._commit._connection
    assert connection is not None
    connection.execute("PRAGMA query_only = 1")

    def give_back() -> None:
        connection.execute("PRAGMA query_only = 0")

    return give_back


@pytest.mark.parametrize(("trouble", "words"), [(lock, "locked (SQLITE_BUSY)"), (make_read_only, "SQLITE_READONLY")])
async def test_what_takes_nothing_for_a_while_is_outlasted_and_reported(
    trouble: Callable[[Journal], Callable[[], None]], words: str, journal: Journal
) -> None:
    """The transaction is made again until it succeeds, and is made once; the reason is known meanwhile."""
    clock = ManualClock()
    room = Room(journal, 1 << 30, clock)
    with structlog.testing.capture_logs() as logs:
        end = trouble(journal)
        counting = asyncio.create_task(journal.count("probe"))
        await clock.settle()
        for _ in range(60):
            await clock.advance(LOOK_AGAIN_SECONDS)
        assert not counting.done()
        assert room.is_full
        assert words in room.trouble
        end()
        await clock.advance(LOOK_AGAIN_SECONDS)
        await counting

    assert await journal.counters() == {"probe": 1}
    assert not room.trouble
    assert [(entry["event"], entry["log_level"]) for entry in logs] == [
        ("journal_unavailable", "warning"), ("journal_room_returned", "info"),
    ]  # fmt: skip
    assert words in logs[0]["error"]


async def test_the_end_does_not_wait_for_a_lock(journal: Journal) -> None:
    """What waits is told that the program is ending, and why it waited."""
    clock = ManualClock()
    room = Room(journal, 1 << 30, clock)
    with closing(sqlite3.connect(journal.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        counting = asyncio.create_task(journal.count("probe"))
        await clock.settle()
        room.shut()
        await clock.settle()
        await clock.advance(0.0)
        with pytest.raises(Stopping, match="database is locked"):
            await counting


async def test_without_a_room_a_lock_is_an_error(journal: Journal) -> None:
    """A command that reads says why it cannot, and that it may work later."""
    with closing(sqlite3.connect(journal.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(JournalUnavailable, match="database is locked"):
            await journal.count("probe")

    await journal.count("probe")


def failure(name: str) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorname = name
    return error


async def test_a_disk_that_ends_the_transaction_fails_all_of_its_pieces_for_now(tmp_path: Path) -> None:
    """SQLite may roll back everything: the neighbours of the piece that met it fail for the same reason."""
    journal = Journal(tmp_path / "journal.db", {}, region="cn-hangzhou")

    def broken(db: sqlite3.Connection) -> None:
        db.execute("ROLLBACK")
        raise failure("SQLITE_IOERR_WRITE")

    results = await asyncio.gather(
        journal.count("before"), journal.run(broken), journal.count("after"), return_exceptions=True
    )
    try:
        assert [type(result) for result in results] == [JournalUnavailable] * 3
        await journal.count("probe")
        assert await journal.counters() == {"probe": 1}
    finally:
        journal.close()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("SQLITE_BUSY", JournalUnavailable), ("SQLITE_BUSY_SNAPSHOT", JournalUnavailable),
        ("SQLITE_LOCKED", JournalUnavailable), ("SQLITE_IOERR_FSYNC", JournalUnavailable),
        ("SQLITE_IOERR_SHMMAP", JournalUnavailable), ("SQLITE_READONLY_DIRECTORY", JournalUnavailable),
        ("SQLITE_CANTOPEN", JournalUnavailable), ("SQLITE_NOMEM", JournalUnavailable), ("SQLITE_FULL", JournalFull),
        ("SQLITE_CORRUPT", JournalError), ("SQLITE_CONSTRAINT_UNIQUE", JournalError), ("SQLITE_ERROR", JournalError),
    ],
)  # fmt: skip
def test_each_error_of_sqlite_has_one_kind(name: str, kind: type[JournalError]) -> None:
    """What passes is told from what does not; the name of the error stays in the text."""
    error = translated(failure(name))

    assert type(error) is kind
    assert name in str(error) or kind is JournalFull
