"""Who holds a journal, who waits for whom, and what is written for it."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from collector.owner.lock import (
    Holder,
    JournalOwned,
    OwnerLock,
    ReaderLock,
    holder,
    keeping_owners_away,
    lock_path,
)
from collector.owner.waiting import WAIT_SECONDS_MAX, ends_soon, wait_for_journal
from tests.support.virtual_clock import ManualClock


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """The path of a journal that had an owner before."""
    path = tmp_path / "journal.db"
    OwnerLock(path).acquire().release()
    return path


def test_a_reader_creates_no_lock(tmp_path: Path) -> None:
    """Where there never was an owner, there is nothing to keep away."""
    lock = ReaderLock(tmp_path / "data" / "journal.db").acquire()
    lock.release()
    with keeping_owners_away(tmp_path / "journal.db"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_readers_share_a_journal_and_write_nothing(journal: Path) -> None:
    """Several read at the same time, and the lock's file stays as it is."""
    before = lock_path(journal).stat()
    first, second = ReaderLock(journal).acquire(), ReaderLock(journal).acquire()
    first.release()
    second.release()
    after = lock_path(journal).stat()
    assert (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)


def test_an_owner_and_a_reader_exclude_each_other(journal: Path) -> None:
    """Each is told who the other is, and whether it only reads."""
    reader = ReaderLock(journal).acquire()
    with pytest.raises(JournalOwned, match=f"is read by process {os.getpid()} ") as told:
        OwnerLock(journal).acquire()
    assert (told.value.holder.is_reading, told.value.holder.is_service) == (True, False)
    reader.release()
    for is_service in (True, False):
        owner = OwnerLock(journal).acquire(is_service=is_service)
        with pytest.raises(JournalOwned, match=f"is owned by process {os.getpid()} ") as told:
            ReaderLock(journal).acquire()
        assert (told.value.holder.is_reading, told.value.holder.is_service) == (False, is_service)
        with keeping_owners_away(journal):
            pass
        owner.release()


def test_a_name_that_a_killed_owner_left_is_not_the_readers(journal: Path) -> None:
    """The file still names it; the system lists who really holds the lock."""
    lock_path(journal).write_text(json.dumps({"pid": 1, "command": "pai-collector run", "is_service": True}))
    assert holder(lock_path(journal)).is_service
    reader = ReaderLock(journal).acquire()
    found = holder(lock_path(journal))
    assert (found.pid, found.is_service, found.is_reading) == (os.getpid(), False, True)
    reader.release()


async def test_a_start_waits_for_what_ends_by_itself(journal: Path, virtual_clock: ManualClock) -> None:
    """Until it is released, by a reader or by a command that calls."""
    for lock in (ReaderLock(journal), OwnerLock(journal)):
        held = lock.acquire()
        start = asyncio.create_task(wait_for_journal(lambda: _acquired(journal), virtual_clock, ends_soon))
        await virtual_clock.settle()
        await virtual_clock.advance(WAIT_SECONDS_MAX / 2)
        assert not start.done()
        held.release()
        await virtual_clock.advance(1.0)
        (await start).release()


async def test_a_start_is_refused_by_what_lasts(journal: Path, virtual_clock: ManualClock) -> None:
    """By a service at once, by another holder after a minute; each time with its name."""
    service = OwnerLock(journal).acquire(is_service=True)
    with pytest.raises(JournalOwned, match=f"process {os.getpid()}"):
        await wait_for_journal(lambda: _acquired(journal), virtual_clock, ends_soon)
    service.release()
    reader = ReaderLock(journal).acquire()
    start = asyncio.create_task(wait_for_journal(lambda: _acquired(journal), virtual_clock, ends_soon))
    await virtual_clock.settle()
    await virtual_clock.advance(WAIT_SECONDS_MAX + 1)
    with pytest.raises(JournalOwned, match=f"process {os.getpid()}"):
        await start
    reader.release()


async def test_a_start_that_waits_can_be_stopped(journal: Path, virtual_clock: ManualClock) -> None:
    """It does not wait any longer for a holder once it is to end."""
    reader, stop = ReaderLock(journal).acquire(), asyncio.Event()
    start = asyncio.create_task(wait_for_journal(lambda: _acquired(journal), virtual_clock, ends_soon, stop))
    await virtual_clock.settle()
    stop.set()
    with pytest.raises(JournalOwned):
        await start
    reader.release()


def test_a_holder_without_a_name_is_another_process() -> None:
    """Where the system lists no locks."""
    assert str(Holder(0, "")) == "another process"


async def _acquired(journal: Path) -> OwnerLock:
    return OwnerLock(journal).acquire()
