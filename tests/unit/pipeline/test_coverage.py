"""What is covered: gaps, backfills, and what of a range is missing."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from collector.api.client import ApiClient
from collector.api.throttle import TokenBucket
from collector.catalogue.products.eflo_controller import LIST_SYSLOGS
from collector.cli.ranges import moment_of
from collector.errors import UsageError
from collector.journal.coverage import (
    BACKFILL,
    Gap,
    add_gaps,
    begin_backfill,
    end_backfill,
    less,
    open_gaps,
    unsettled,
)
from collector.journal.entries import Chunk, PageCommit, Seal, StreamState
from collector.journal.journal import Journal
from collector.journal.outgoing import Limits, Outgoing, choose_compare
from collector.journal.schema import FORMAT
from collector.model import ShipMode, StreamKey, Window
from collector.pipeline.backfill import GIVE_WAY_SECONDS_MAX, Polite
from collector.pipeline.coverage import ADDED_LATER, BEFORE, NOT_YET, Coverage, missing
from collector.pipeline.windows import Horizon, is_finished, next_window
from tests.support.old_journals import downgrade
from tests.support.virtual_clock import ManualClock

KEY = StreamKey("ListSyslogs", "r", "n")
LIMITS = Limits(flush_interval_seconds=5)


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    opened = Journal(tmp_path / "journal.db", {}, region="r")
    await opened.start()
    await opened.adopt(KEY, collected_from=1000, watermark=2000, held=(), rechecks={900: 1500})
    yield opened
    opened.close()


async def stream(journal: Journal) -> StreamState:
    return (await journal.streams())[KEY]


async def read(
    journal: Journal, start: int, end: int, *gaps: tuple[Window, str], rows: int = 1, sealed: bool = True
) -> StreamState:
    """Commit a page of a backfill's window."""
    state = await stream(journal)
    here = state.open.get(BACKFILL)
    chunks = (Chunk("syslogs", "20251009", rows, b"[1]\n" * rows, ShipMode.COMPARE),) if rows else ()
    page = PageCommit(
        stream_id=state.id, delay=BACKFILL, window=Window(start, end), mode=ShipMode.COMPARE,
        open_id=here.id if here else None, chunks=chunks, strays=(), cursor=None if sealed else "c", cursor_used=b"",
        last_time=None, in_order=True, attempt=None, seal=Seal(end, 9000, gaps=gaps) if sealed else None,
    )  # fmt: skip
    return await journal.commit_page(state, page, 0.0)


async def acknowledge(journal: Journal) -> None:
    outgoing = Outgoing(journal)
    while pending := await outgoing.pending("syslogs"):
        segment = await outgoing.freeze("syslogs", choose_compare(pending, LIMITS)[0])
        await outgoing.acknowledge(segment)


async def begin(journal: Journal, start: int, end: int) -> list[tuple[int, int]]:
    state = await stream(journal)
    pieces = await journal.run(partial(begin_backfill, stream_id=state.id, window=Window(start, end)))
    return [(piece.window.start, piece.window.end) for piece in pieces]


async def gaps_of(journal: Journal) -> list[tuple[int, int, str]]:
    found = (await journal.run(open_gaps)).get(KEY, [])
    return [(gap.window.start, gap.window.end, gap.reason) for gap in found]


async def test_a_range_is_covered_when_its_last_row_is_acknowledged(journal: Journal) -> None:
    """Neither sealed windows nor some of their rows are enough; watermark and rechecks are left alone."""
    state = await stream(journal)
    await journal.add_gaps(state.id, [(Window(1100, 1200), "missed")])
    assert await begin(journal, 1100, 1200) == [(1100, 1200)]
    await read(journal, 1100, 1150)
    await acknowledge(journal)
    await read(journal, 1150, 1200)
    assert await gaps_of(journal) == [(1100, 1200, "missed")]
    assert await journal.run(partial(unsettled, stream_ids=[state.id])) == 1
    await acknowledge(journal)
    assert await gaps_of(journal) == []
    after = await stream(journal)
    assert (after.collected_from, after.sealed_to, after.watermark) == (1000, 2000, 2000)
    assert after.rechecks == {900: 1500}


async def test_a_stream_begins_earlier_only_with_the_whole_piece(journal: Journal) -> None:
    """A range that adjoins moves the begin, one that does not leaves an open gap, and both are shown again."""
    state = await stream(journal)
    await Outgoing(journal).watermarks_shipped([(state.id, 1000, 2000)])
    await begin(journal, 500, 700)
    await read(journal, 500, 700, rows=0)
    assert (await stream(journal)).collected_from == 500
    assert await gaps_of(journal) == [(700, 1000, "not collected")]
    assert [row[2:4] for row in await Outgoing(journal).moved_watermarks()] == [(500, 2000)]
    await begin(journal, 800, 900)
    await read(journal, 800, 900, rows=0)
    assert await gaps_of(journal) == [(700, 800, "not collected"), (900, 1000, "not collected")]
    states = await journal.run(lambda db: db.execute("SELECT start, end, state FROM gaps ORDER BY 1, 2").fetchall())
    assert states == [(700, 800, "open"), (700, 1000, "divided"), (800, 900, "filled"), (900, 1000, "open")]


async def test_what_is_shown_meanwhile_does_not_hide_that_a_stream_has_grown(journal: Journal) -> None:
    """A begin that moved while the old one was on its way to the store is shown once more."""
    state = await stream(journal)
    await begin(journal, 500, 1000)
    await read(journal, 500, 1000, rows=0)
    await Outgoing(journal).watermarks_shipped([(state.id, 1000, 2000)])
    assert [row[2:4] for row in await Outgoing(journal).moved_watermarks()] == [(500, 2000)]


async def test_what_the_answers_left_out_stays_a_gap(journal: Journal) -> None:
    """A gap that a backfill finds is open after it, also where it was filled before."""
    state = await stream(journal)
    cut = (Window(1150, 1151), "cut off")
    await journal.add_gaps(state.id, [cut])
    await begin(journal, 1100, 1200)
    await read(journal, 1100, 1200, cut)
    await acknowledge(journal)
    assert await gaps_of(journal) == [(1150, 1151, "cut off")]


async def test_what_was_read_is_not_asked_again_until_the_backfill_is_done(journal: Journal) -> None:
    """Another range goes around it; once all is done the next backfill asks for everything."""
    state = await stream(journal)
    assert await begin(journal, 100, 900) == [(100, 900)]
    await read(journal, 100, 300)
    assert await begin(journal, 50, 900) == [(50, 100), (300, 900)]
    await read(journal, 50, 100)
    await read(journal, 300, 900)
    await acknowledge(journal)
    assert await begin(journal, 50, 900) == []
    await journal.run(partial(end_backfill, stream_id=state.id))
    assert await begin(journal, 50, 900) == [(50, 900)]


async def test_a_window_that_was_being_read_goes_on(journal: Journal) -> None:
    """Its pages are kept and it is read first, whatever begins before it; one that lies elsewhere is given up."""
    await begin(journal, 100, 900)
    await read(journal, 100, 300, sealed=False)
    assert await begin(journal, 150, 900) == [(100, 900)]
    assert await begin(journal, 50, 900) == [(100, 900), (50, 100)]
    state = await stream(journal)
    assert state.open[BACKFILL].pages == 1
    assert await begin(journal, 400, 900) == [(400, 900)]
    assert BACKFILL not in (await stream(journal)).open


async def test_a_backfills_window_is_not_the_live_streams(journal: Journal) -> None:
    """A look goes on with new time, and a stream that has ended may be finished beside it."""
    await begin(journal, 100, 900)
    state = await read(journal, 100, 300, sealed=False)
    planned = next_window(state, Horizon(settle=60, initial_lookback=900), 2200)
    assert planned is not None
    assert planned.window == Window(2000, 2140)
    assert is_finished(
        StreamState(1, KEY, 0, 2000, 2000, "", None, open=state.open), Horizon(60, 900, until=2000), 3000
    )


async def test_a_journal_of_the_format_before_learns_of_backfills(tmp_path: Path) -> None:
    """It keeps what it has, and can begin one."""
    path = tmp_path / "journal.db"
    first = Journal(path, {}, region="r")
    await first.adopt(KEY, collected_from=1000, watermark=2000, held=(), rechecks={})
    first.close()
    downgrade(path, 3)
    again = Journal(path, {}, region="r")
    assert (await stream(again)).watermark == 2000
    assert await begin(again, 100, 900) == [(100, 900)]
    again.close()
    (version,) = sqlite3.connect(path).execute("PRAGMA user_version").fetchone()
    assert version == FORMAT


async def test_a_stray_of_a_backfill_is_compared_by_the_window_it_lies_in(journal: Journal) -> None:
    """A window that was planned before is compared all the same, or the row would be stored twice."""
    state = await stream(journal)
    stray = (Window(2050, 2051), Chunk("syslogs", "20251009", 1, b"[1]\n", ShipMode.COMPARE))
    await begin(journal, 100, 900)
    page = PageCommit(
        stream_id=state.id, delay=BACKFILL, window=Window(100, 900), mode=ShipMode.COMPARE, open_id=None, chunks=(),
        strays=(stray,), cursor=None, cursor_used=b"", last_time=None, in_order=True, attempt=None,
        seal=Seal(900, 9000),
    )  # fmt: skip
    await journal.commit_page(state, page, 0.0)
    live = PageCommit(
        stream_id=state.id, delay=0, window=Window(2000, 2100), mode=ShipMode.APPEND, open_id=None,
        chunks=(Chunk("syslogs", "20251009", 1, b"[2]\n"),), strays=(), cursor=None, cursor_used=b"", last_time=None,
        in_order=True, attempt=None, seal=Seal(2100, 2160),
    )  # fmt: skip
    await journal.commit_page(state, live, 0.0)
    assert [chunk.mode for chunk in await Outgoing(journal).pending("syslogs")] == [ShipMode.COMPARE] * 2


# Pure


def test_a_window_less_others() -> None:
    """What is left is in order and does not overlap, whatever is taken out."""
    whole = Window(10, 20)
    assert less(whole, []) == [whole]
    assert less(whole, [Window(0, 30)]) == []
    assert less(whole, [Window(15, 16), Window(5, 12)]) == [Window(12, 15), Window(16, 20)]
    assert less(whole, [Window(12, 15), Window(13, 14), Window(18, 25)]) == [Window(10, 12), Window(15, 18)]


def test_every_second_of_a_range_is_covered_or_missing_for_one_reason() -> None:
    """Gaps keep their reason, what lies before and after the stream has its own."""
    one = Coverage(KEY, 100, 200, (Gap(Window(120, 130), "missed"), Gap(Window(60, 70), "refused")))
    assert [(m.window, m.reason) for m in missing(one, 50, 220, None)] == [
        (Window(50, 60), BEFORE), (Window(60, 70), "refused"), (Window(70, 100), BEFORE),
        (Window(120, 130), "missed"), (Window(200, 220), NOT_YET),
    ]  # fmt: skip
    assert [m.reason for m in missing(one, 90, 110, 10)] == [ADDED_LATER]
    assert [m.window for m in missing(one, None, None, None)] == [Window(120, 130)]
    assert missing(one, 130, 200, None) == []
    (never,) = missing(Coverage(KEY, None, None), None, None, None)
    assert (never.window, never.reason) == (None, NOT_YET)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2025-10-09T08:53:20Z", 1_760_000_000),
        ("2025-10-09T08:53:20", 1_760_000_000),
        ("2025-10-09T10:53:20+02:00", 1_760_000_000),
        ("2025-10-09", 1_759_968_000),
        ("-6h", -21_600),
        ("now", 0),
    ],
)
def test_a_time_is_utc_or_counted_back(text: str, moment: int) -> None:
    """ISO 8601 with or without a zone, a day, a duration before now."""
    assert moment_of("--from", text) == moment


@pytest.mark.parametrize("text", ["6h", "yesterday", "-6", "2025-10-09T08:53:20.5Z", "1760000000", "1969-01-01", ""])
def test_another_time_is_refused_with_what_is_right(text: str) -> None:
    """The option, what was seen, and an example."""
    with pytest.raises(UsageError, match=r"--from: got .*expected .*such as 2026-07-01T00:00:00Z"):
        moment_of("--from", text)


# Beside others


class Line:
    """A client whose calls take a token as the real one does, and note who got it."""

    def __init__(self, bucket: TokenBucket) -> None:
        self.bucket = bucket
        self.sent: list[str] = []

    async def request(self, operation: Any, scope_id: str, parameters: Mapping[str, Any]) -> None:
        await self.bucket.acquire()
        self.sent.append(scope_id)


async def test_a_backfill_stands_back_while_others_wait_for_the_quota() -> None:
    """Who waits goes first; while somebody always waits, a backfill gets one call in five seconds, and never none."""
    clock = ManualClock()
    bucket = TokenBucket(1, clock=clock)
    line = Line(bucket)
    polite = Polite(cast(ApiClient, line), {LIST_SYSLOGS.name: bucket}, clock)

    async def live() -> None:
        while True:
            await line.request(LIST_SYSLOGS, "live", {})

    async def backfill() -> None:
        while True:
            await polite.request(LIST_SYSLOGS, "backfill", {})

    tasks = [asyncio.create_task(work()) for work in (live, live, live, backfill, backfill, backfill)]
    for _ in range(1_000):
        await clock.advance(0.1)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    ours = line.sent.count("backfill")
    assert len(line.sent) > 90
    assert 10 <= ours <= 100 / GIVE_WAY_SECONDS_MAX + 1, ours


async def test_a_gap_that_is_found_again_is_open_again(journal: Journal) -> None:
    """The state goes back to open, and the store is told."""
    state = await stream(journal)
    gap = Window(1100, 1200)
    await journal.add_gaps(state.id, [(gap, "missed")])
    await begin(journal, 1100, 1200)
    await read(journal, 1100, 1200, rows=0)
    assert await gaps_of(journal) == []
    await journal.run(lambda db: add_gaps(db, state.id, [(gap, "cut off")]))
    assert await gaps_of(journal) == [(1100, 1200, "cut off")]
    assert [row[4] for row in await Outgoing(journal).changed_gaps()] == ["open"]


@pytest.mark.parametrize(
    ("error", "reached_at", "reason"),
    [
        ("", None, "missed"),
        ("HTTP 503", None, "missed: HTTP 503"),
        ("", 2_030, "budget"),
        ("", 1_500, "missed"),
        ("", 2_600, "missed"),
    ],
)
async def test_a_missed_tick_tells_what_was_in_the_way(
    journal: Journal, error: str, reached_at: int | None, reason: str
) -> None:
    """The last error, or the budget where it was reached after the last tick and before the end of the gap."""
    state = await stream(journal)
    if error:
        await journal.set_error(state.id, error, 2_100)
    if reached_at is not None:
        await journal.set_meta(budget_reached_at=reached_at)
    page = PageCommit(
        stream_id=state.id, delay=0, window=Window(2_400, 2_401), mode=ShipMode.APPEND, open_id=None, chunks=(),
        strays=(), cursor=None, cursor_used=b"", last_time=None, in_order=True, attempt=None,
        seal=Seal(2_401, 2_401, gaps=((Window(2_060, 2_400), "missed"),)),
    )  # fmt: skip
    await journal.commit_page(state, page, 0.0)
    assert await gaps_of(journal) == [(2_060, 2_400, reason)]
    assert (await stream(journal)).error == ""
