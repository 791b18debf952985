"""Room in the journal, handed out before a request is sent."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from collector.clock import ManualClock
from collector.journal.journal import Journal
from collector.pipeline import room
from collector.pipeline.room import SNAPSHOT_RESERVE_BYTES, Room

MIB = 1 << 20


def journal(folder: Path) -> Journal:
    return Journal(folder / "journal.db", {}, region="r", threaded=False)


async def waits(limit: Room, answer_bytes: int, clock: ManualClock, *, repeatable: bool) -> bool:
    """Whether a request has to wait for room."""

    async def ask() -> None:
        async with limit.held(answer_bytes, repeatable=repeatable):
            return

    asking = asyncio.ensure_future(ask())
    for _ in range(200):
        await asyncio.sleep(0.001)
        if asking.done():
            return False
    asking.cancel()
    return True


async def test_requests_under_way_share_the_room(tmp_path: Path) -> None:
    """What is promised to one answer is not promised to another."""
    clock = ManualClock()
    limit = Room(journal(tmp_path), SNAPSHOT_RESERVE_BYTES + 20 * MIB, clock)
    async with limit.held(15 * MIB, repeatable=True):
        assert await waits(limit, 15 * MIB, clock, repeatable=True)
    assert not await waits(limit, 15 * MIB, clock, repeatable=True)


async def test_what_cannot_be_asked_again_has_a_reserve(tmp_path: Path) -> None:
    """Near the limit collecting pauses for what can be asked again, and goes on for snapshots."""
    clock = ManualClock()
    limit = Room(journal(tmp_path), SNAPSHOT_RESERVE_BYTES + 20 * MIB, clock)
    async with limit.held(19 * MIB, repeatable=True):
        assert await waits(limit, 32 * MIB, clock, repeatable=True)
        assert not await waits(limit, 32 * MIB, clock, repeatable=False)


async def test_a_full_disk_stops_requests_before_they_are_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that cannot be written is not asked for."""
    monkeypatch.setattr(room, "_free_bytes", lambda path: 10 * MIB)
    clock = ManualClock()
    limit = Room(journal(tmp_path), 1 << 30, clock)
    assert await waits(limit, MIB, clock, repeatable=False)
