"""Room in the journal, handed out before a request is sent, and waited for when the disk is full."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
import structlog

from collector.api.metering import Attempt
from collector.errors import JournalFull, Stopping
from collector.journal.journal import Journal
from collector.pipeline.room import DISK_RESERVE_BYTES, LOOK_AGAIN_SECONDS, SNAPSHOT_RESERVE_BYTES, Room
from tests.support.virtual_clock import ManualClock

MIB = 1 << 20
LIMIT = SNAPSHOT_RESERVE_BYTES + 20 * MIB
FULL_AT_BYTES = 200_000


class Disk:
    """What a disk says of itself."""

    def __init__(self, free: int = 1 << 40) -> None:
        self.free = free
        self.looks = 0

    def __call__(self, path: Path) -> int:
        self.looks += 1
        return self.free


def journal(folder: Path) -> Journal:
    return Journal(folder / "journal.db", {}, region="r", threaded=False)


def room(of: Journal, clock: ManualClock, disk: Disk | None = None, *, bytes_max: int = LIMIT) -> Room:
    return Room(of, bytes_max, clock, free_bytes=disk or Disk(), threaded=False)


async def pages_max(of: Journal, pages: int) -> None:
    """Have the database refuse to grow beyond so many pages, as a full disk would."""

    def work(db: sqlite3.Connection) -> None:
        db.execute(f"PRAGMA max_page_count = {pages}")

    await of.run(work)


async def fill(of: Journal) -> None:
    """Let the database be as large as it may be already."""
    await pages_max(of, 1)


async def make_room(of: Journal) -> None:
    await pages_max(of, 100_000)


async def hold(limit: Room, answer_bytes: int, *, repeatable: bool = True) -> None:
    async with limit.held(answer_bytes, repeatable=repeatable):
        return


async def big_write(of: Journal) -> int:
    def work(db: sqlite3.Connection) -> int:
        db.execute("INSERT OR REPLACE INTO meta VALUES ('big', zeroblob(?))", (FULL_AT_BYTES,))
        return 7

    return await of.run(work)


async def test_requests_under_way_share_the_room(tmp_path: Path) -> None:
    """What is promised to one answer is not promised to another, which goes on as soon as it comes back."""
    clock = ManualClock()
    limit = room(journal(tmp_path), clock)
    async with limit.held(15 * MIB, repeatable=True):
        waiting = asyncio.create_task(hold(limit, 15 * MIB))
        await clock.settle()
        assert not waiting.done()
        assert not limit.is_full, "the room comes back by itself"
    await clock.settle()
    assert waiting.done()
    assert clock.monotonic() == 0.0


async def test_what_cannot_be_asked_again_has_a_reserve(tmp_path: Path) -> None:
    """Near the limit collecting pauses for what can be asked again, and goes on for snapshots."""
    clock = ManualClock()
    limit = room(journal(tmp_path), clock)
    async with limit.held(19 * MIB, repeatable=True):
        waiting = asyncio.create_task(hold(limit, 32 * MIB))
        await clock.settle()
        await hold(limit, 32 * MIB, repeatable=False)
        assert not waiting.done()
    await waiting


async def test_a_full_disk_stops_requests_before_they_are_sent(tmp_path: Path) -> None:
    """An answer that cannot be written is not asked for until the disk has room, which is told once each way."""
    clock, disk = ManualClock(), Disk(DISK_RESERVE_BYTES)
    limit = room(journal(tmp_path), clock, disk, bytes_max=1 << 30)
    with structlog.testing.capture_logs() as logs:
        waiting = [asyncio.create_task(hold(limit, MIB, repeatable=False)) for _ in range(10)]
        await clock.settle()
        await clock.advance(10 * LOOK_AGAIN_SECONDS)
        assert limit.is_full
        assert not any(task.done() for task in waiting)
        disk.free += 100 * MIB
        await clock.advance(LOOK_AGAIN_SECONDS)
        await asyncio.gather(*waiting)

    assert not limit.is_full
    assert [log["event"] for log in logs] == ["journal_filled_up", "journal_room_returned"]


async def test_a_thousand_requests_that_wait_cost_no_more_than_one(tmp_path: Path) -> None:
    """Only the first of those who wait for room looks again."""
    clock, disk = ManualClock(), Disk(0)
    limit = room(journal(tmp_path), clock, disk)
    waiting = [asyncio.create_task(hold(limit, MIB)) for _ in range(1000)]
    await clock.settle()
    looks = disk.looks
    await clock.advance(10 * LOOK_AGAIN_SECONDS)
    assert disk.looks - looks <= 10
    disk.free = 1 << 40
    await clock.advance(LOOK_AGAIN_SECONDS)
    await asyncio.gather(*waiting)


async def test_shut_ends_every_wait_for_room(tmp_path: Path) -> None:
    """When the program ends, whoever waits for room gets Stopping at once."""
    clock = ManualClock()
    limit = room(journal(tmp_path), clock, Disk(0))
    waiting = [asyncio.create_task(hold(limit, MIB)) for _ in range(3)]
    await clock.settle()
    limit.shut()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(result) for result in results] == [Stopping] * 3
    assert not limit.is_full


async def test_a_transaction_that_meets_a_full_disk_is_made_again(tmp_path: Path) -> None:
    """What was paid for is not lost: the transaction waits for room and then happens, once."""
    clock, of = ManualClock(), journal(tmp_path)
    limit = room(of, clock)
    await fill(of)
    with structlog.testing.capture_logs() as logs:
        writing = asyncio.create_task(big_write(of))
        await clock.settle()
        await clock.advance(100.0)
        assert not writing.done()
        assert limit.is_full
        assert await of.meta("big") is None
        await make_room(of)
        await clock.advance(LOOK_AGAIN_SECONDS)

    assert await writing == 7
    assert len(await of.meta("big")) == FULL_AT_BYTES
    assert not limit.is_full
    assert [log["event"] for log in logs] == ["journal_filled_up", "journal_room_returned"]


async def test_a_reservation_that_waited_is_the_one_that_is_settled(tmp_path: Path) -> None:
    """A ticket that was undone with a full disk is not handed out, and cancelling its call releases no other's."""
    clock, of = ManualClock(), journal(tmp_path)
    room(of, clock)
    failing = Failing(of)
    waiting = asyncio.create_task(of.reserve("ListSyslogs", 1_760_000_000))
    await clock.settle()
    assert not waiting.done()
    failing.stop()
    other = await of.reserve("ListSyslogs", 1_760_000_000)
    failing.start()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    failing.stop()
    # Settling raises for a ticket that is not open.
    await of.settle(Attempt(other, "ListSyslogs", "n1", 1_760_000_000, 200, "", 0, 0))
    assert [row[1:2] for row in await of.spend("2025-10")] == [(1,)]


class Failing:
    """Has the journal find its disk full, after the work was done and before it lasts."""

    def __init__(self, of: Journal) -> None:
        self._commit = of._commit
        self._run = of._commit.run
        self.start()

    def start(self) -> None:
        async def run(work: Callable[[sqlite3.Connection], object]) -> object:
            def undone(db: sqlite3.Connection) -> None:
                work(db)
                raise JournalFull("full")

            return await self._run(undone)

        self._commit.run = run  # type: ignore[assignment,method-assign]

    def stop(self) -> None:
        self._commit.run = self._run  # type: ignore[method-assign]


@pytest.mark.parametrize("ending", ["shut", "cancelled"])
async def test_no_transaction_waits_for_a_full_disk_past_the_end(tmp_path: Path, ending: str) -> None:
    """The end of the program ends the wait, and so does the end of a task, in what it does while it ends too."""
    clock, of = ManualClock(), journal(tmp_path)
    limit = room(of, clock)
    await fill(of)

    async def write_at_last() -> None:
        try:
            await big_write(of)
        finally:
            with pytest.raises((JournalFull, Stopping)):
                await big_write(of)

    writing = asyncio.create_task(write_at_last())
    await clock.settle()
    if ending == "shut":
        limit.shut()
        await clock.settle()
        await clock.advance(0.0)
    else:
        writing.cancel()
    await clock.settle()
    assert writing.done()
    (result,) = await asyncio.gather(writing, return_exceptions=True)
    assert isinstance(result, Stopping if ending == "shut" else asyncio.CancelledError)


async def test_without_a_room_a_full_disk_is_an_error(tmp_path: Path) -> None:
    """A journal that nobody collects into says at once that its disk is full."""
    of = journal(tmp_path)
    await fill(of)
    with pytest.raises(JournalFull):
        await big_write(of)
