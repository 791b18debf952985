"""The journal on real SQLite: what a transaction holds, what moves a watermark, what survives."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
from collections.abc import AsyncIterator, Awaitable
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest

from collector.api.metering import Attempt
from collector.catalogue.operation import Price
from collector.errors import JournalCorrupt, JournalTooNew, UsageError
from collector.journal.entries import Chunk, Compared, PageCommit, Seal, Segment, StreamState
from collector.journal.inspect import contents, rows_waiting, verify
from collector.journal.journal import Journal
from collector.journal.ledger import billing_month, month_start
from collector.journal.outgoing import Limits, Outgoing, Pending, choose_append, choose_compare, is_due
from collector.journal.reading import JournalFile, reading
from collector.journal.recovery.salvage import read_chunk
from collector.journal.recovery.set_aside import open_journal
from collector.model import ShipMode, StreamKey, Window
from collector.owner.caller import Caller
from collector.owner.instance import Owner
from collector.owner.lock import command_line
from collector.owner.reader import Reader
from collector.packing import packed
from collector.sources.tables import USER_METRICS
from tests.support import settings
from tests.support.old_journals import downgrade

KEY = StreamKey("ListSyslogs", "r", "node-1")
OTHER = StreamKey("ListSyslogs", "r", "node-2")
PRICES = {"ListSyslogs": Price(Decimal("0.01"), free_calls_per_month=2)}
LIMITS = Limits(flush_interval_seconds=5)
T = 1_760_000_000


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    opened = Journal(tmp_path / "journal.db", PRICES, region="r")
    await opened.start()
    for key in (KEY, OTHER):
        await opened.adopt(key, collected_from=None, watermark=None, held=(), rechecks={900: 0})
    yield opened
    opened.close()


async def attempt(journal: Journal) -> Attempt:
    ticket = await journal.reserve("ListSyslogs", T)
    return Attempt(ticket, "ListSyslogs", "node-1", T, 200, "", 1, 100)


def chunk(
    rows: int = 1, table: str = "syslogs", partition: str = "20251009", mode: ShipMode = ShipMode.APPEND
) -> Chunk:
    return Chunk(table, partition, rows, b"".join(b"[%d]\n" % i for i in range(rows)), mode)


def letter_of(key: StreamKey) -> Chunk:
    """A row of a stream that the store refused."""
    row = f'[{T},"{key.operation}","{key.region}","{key.scope_id}","a reason","{{}}"]\n'
    return Chunk("dead_letters", "202510", 1, row.encode(), ShipMode.COMPARE)


async def commit(
    journal: Journal,
    state: StreamState,
    start: int,
    end: int,
    *chunks: Chunk,
    sealed: bool = True,
    delay: int = 0,
    date: int | None = None,
    cursor: str | None = None,
) -> StreamState:
    here = state.open.get(delay)
    page = PageCommit(
        stream_id=state.id, delay=delay, window=Window(start, end), mode=ShipMode.APPEND,
        open_id=here.id if here else None, chunks=chunks, strays=(), cursor=cursor, cursor_used=b"", last_time=None,
        in_order=True, attempt=await attempt(journal),
        seal=Seal(end, end + 60 if date is None else date) if sealed else None,
    )  # fmt: skip
    return await journal.commit_page(state, page, monotonic=0.0)


async def stream(journal: Journal, key: StreamKey = KEY) -> StreamState:
    return (await journal.streams())[key]


async def ship_all(journal: Journal, table: str = "syslogs") -> int:
    outgoing = Outgoing(journal)
    pending = await outgoing.pending(table)
    segment = await outgoing.freeze(table, choose_append(pending, LIMITS))
    await outgoing.acknowledge(segment)
    return segment.rows


async def test_rows_of_an_open_window_are_not_shipped(journal: Journal) -> None:
    """Until its last page is in, nothing of a window leaves the journal."""
    state = await commit(journal, await stream(journal), T, T + 10, chunk(), sealed=False, cursor="next")
    assert state.open[0].cursor == "next"
    assert await Outgoing(journal).pending("syslogs") == []

    await commit(journal, state, T, T + 10, chunk())
    assert [p.rows for p in await Outgoing(journal).pending("syslogs")] == [1, 1]


async def test_the_watermark_waits_for_the_oldest_row(journal: Journal) -> None:
    """It moves only over windows before the stream's first row that is not acknowledged."""
    state = await commit(journal, await stream(journal), T, T + 10, chunk())
    state = await commit(journal, state, T + 10, T + 20)
    assert state.sealed_to == T + 20
    assert state.watermark is None

    await ship_all(journal)
    assert (await stream(journal)).watermark == T + 20


async def test_a_window_without_rows_moves_the_watermark_at_once(journal: Journal) -> None:
    """Nothing logged is collected, too."""
    state = await commit(journal, await stream(journal), T, T + 10)
    assert state.watermark == T + 10


async def test_rows_of_one_stream_do_not_hold_back_another(journal: Journal) -> None:
    """Streams share nothing but quotas."""
    await commit(journal, await stream(journal), T, T + 10, chunk())
    other = await commit(journal, await stream(journal, OTHER), T, T + 10)
    assert other.watermark == T + 10


async def test_rows_in_two_partitions_are_both_waited_for(journal: Journal) -> None:
    """A window over midnight is acknowledged when both of its segments are."""
    await commit(journal, await stream(journal), T, T + 10, chunk(), chunk(partition="20251010"))
    await ship_all(journal)
    assert (await stream(journal)).watermark is None
    await ship_all(journal)
    assert (await stream(journal)).watermark == T + 10


async def test_a_late_look_is_the_recheck_of_a_shorter_delay(journal: Journal) -> None:
    """What was first looked at after the delay had passed needs no second look."""
    state = await commit(journal, await stream(journal), T, T + 3600, date=T + 3660)
    assert state.rechecks == {900: T + 3660 - 900}
    state = await commit(journal, state, T + 3600, T + 3700, date=T + 3760)
    assert state.rechecks == {900: T + 2760}


async def test_a_recheck_moves_its_own_mark(journal: Journal) -> None:
    """A sealed recheck is remembered; the first look's end stays."""
    state = await commit(journal, await stream(journal), T, T + 3600, date=T + 3660)
    state = await commit(journal, state, T + 2760, T + 3300, delay=900, date=T + 4300)
    assert state.rechecks == {900: T + 3300}
    assert state.sealed_to == T + 3600


async def test_everything_survives_a_kill(tmp_path: Path) -> None:
    """A committed page is there after the process is gone: rows, cursor and the settled call."""
    path = tmp_path / "journal.db"
    first = Journal(path, PRICES, region="r")
    await first.adopt(KEY, collected_from=None, watermark=None, held=(), rechecks={})
    await commit(first, await stream(first), T, T + 10, chunk(3), sealed=False, cursor="c2")
    await first.reserve("ListSyslogs", T)
    # No close: another connection sees what a killed process leaves.
    second = Journal(path, PRICES, region="r")
    await second.start()
    open_window = (await stream(second)).open[0]
    assert (open_window.cursor, open_window.pages) == ("c2", 1)
    assert second.unknown_calls == 1
    assert await second.spend(billing_month(T)) == [("ListSyslogs", 2, Decimal(0))]
    second.close()
    first.close()


async def test_calls_are_priced_after_the_free_tier(journal: Journal) -> None:
    """Two free calls a month, then each costs its price, failed ones too."""
    for status in (200, 500, 429, 200):
        ticket = await journal.reserve("ListSyslogs", T)
        await journal.settle(Attempt(ticket, "ListSyslogs", "n", T, status, "", 0, 0))
    assert await journal.spend(billing_month(T)) == [("ListSyslogs", 4, Decimal("0.02"))]


async def test_a_call_is_settled_once(journal: Journal) -> None:
    """Settling a ticket again changes nothing."""
    one = await attempt(journal)
    await journal.settle(one)
    await journal.settle(one)
    assert (await journal.spend(billing_month(T)))[0][1] == 1


async def test_a_released_call_costs_nothing(journal: Journal) -> None:
    """A reservation that was never sent is no call."""
    await journal.release(await journal.reserve("ListSyslogs", T))
    assert await journal.spend(billing_month(T)) == []


def test_billing_months_are_chinas() -> None:
    """The month turns at 16:00 UTC, midnight in China."""
    last_second = 1_761_926_399  # 2025-10-31T15:59:59Z
    assert billing_month(last_second) == "2025-10"
    assert billing_month(last_second + 1) == "2025-11"
    assert month_start(last_second + 1) == last_second + 1


async def test_a_segment_keeps_its_id_and_bytes(journal: Journal) -> None:
    """What was frozen is sent again as it was, whatever has come since."""
    state = await commit(journal, await stream(journal), T, T + 10, chunk(2))
    outgoing = Outgoing(journal)
    frozen = await outgoing.freeze("syslogs", choose_append(await outgoing.pending("syslogs"), LIMITS))
    await commit(journal, state, T + 10, T + 20, chunk(5))
    again = await outgoing.unsent("syslogs")
    assert again == frozen


async def test_a_dead_letter_of_a_filtered_stream_holds_its_watermark(journal: Journal) -> None:
    """The letter names the node of its row, and belongs to the stream that asked with a query all the same."""
    key = StreamKey("ListSyslogs", "r", "node-3?Query=oom")
    await journal.adopt(key, collected_from=None, watermark=None, held=(), rechecks={})
    await commit(journal, await stream(journal, key), T, T + 10, chunk(1))
    outgoing = Outgoing(journal)
    segment = await outgoing.freeze("syslogs", choose_append(await outgoing.pending("syslogs"), LIMITS))
    await outgoing.bury(segment, letter_of(StreamKey("ListSyslogs", "r", "node-3")), 0.0)
    assert (await stream(journal, key)).watermark is None
    letter = await outgoing.freeze("dead_letters", [p.id for p in await outgoing.pending("dead_letters")])
    await outgoing.acknowledge(letter)
    assert (await stream(journal, key)).watermark == T + 10


async def test_parts_of_a_refused_segment_acknowledge_it_together(journal: Journal) -> None:
    """The watermark waits until every part is stored, or its dead letter is."""
    await commit(journal, await stream(journal), T, T + 10, chunk(2))
    outgoing = Outgoing(journal)
    whole = await outgoing.freeze("syslogs", choose_append(await outgoing.pending("syslogs"), LIMITS))
    await outgoing.split(whole, [[b"[0]\n"], [b"[1]\n"]])
    first = await outgoing.unsent("syslogs")
    assert first is not None
    assert first.parent_id == whole.id
    await outgoing.acknowledge(first)
    assert (await stream(journal)).watermark is None
    second = await outgoing.unsent("syslogs")
    assert second is not None
    await outgoing.bury(second, letter_of(KEY), 0.0)
    assert (await stream(journal)).watermark is None
    assert await outgoing.tables() == ["dead_letters"]
    letter = await outgoing.freeze("dead_letters", [p.id for p in await outgoing.pending("dead_letters")])
    await outgoing.acknowledge(letter)
    assert (await stream(journal)).watermark == T + 10


async def test_what_a_comparison_leaves_is_frozen(journal: Journal) -> None:
    """The difference is persisted before it is sent, and all compared chunks go with it."""
    await commit(journal, await stream(journal), T, T + 10, chunk(2, mode=ShipMode.COMPARE))
    outgoing = Outgoing(journal)
    (group,) = choose_compare(await outgoing.pending("syslogs"), LIMITS)
    (comparison,) = await outgoing.comparisons([group])
    assert comparison.window == Window(T, T + 10)
    segment = await outgoing.freeze_compared("syslogs", [Compared(comparison.chunks, (1,), conflicts=1)])
    assert (segment.rows, segment.body) == (1, b"[1]\n")
    await outgoing.acknowledge(segment)
    assert (await stream(journal)).watermark == T + 10
    assert await journal.counters() == {"conflicts": 1, "rows_added_by_compare": 1}


async def test_a_distrusted_segment_is_compared(journal: Journal) -> None:
    """When the store may have forgotten the token, the rows are compared instead of sent again."""
    await commit(journal, await stream(journal), T, T + 10, chunk(2))
    outgoing = Outgoing(journal)
    segment = await outgoing.freeze("syslogs", choose_append(await outgoing.pending("syslogs"), LIMITS))
    await outgoing.distrust(segment.root_id)
    assert await outgoing.unsent("syslogs") is None
    assert [p.mode for p in await outgoing.pending("syslogs")] == [ShipMode.COMPARE]


async def test_a_window_that_is_larger_than_a_segment_is_divided_into_parts(journal: Journal) -> None:
    """Whole chunks where they fit, lines of one where they do not; every line is in one part, in order."""
    bodies = [[b"[0]\n", b"[1]\n"], [b"[2]\n"], [b"[3]\n"], [b"[4]\n", b"[5]\n", b"[6]\n", b"[7]\n", b"[8]\n"]]
    chunks = [Chunk("syslogs", "20251009", len(some), b"".join(some)) for some in bodies]
    await commit(journal, await stream(journal), T, T + 10, *chunks)
    outgoing = Outgoing(journal)
    part: Segment | None = await outgoing.freeze(
        "syslogs", choose_append(await outgoing.pending("syslogs"), LIMITS), LIMITS.with_bytes(12)
    )
    sent = []
    while part is not None:
        sent.append(part.body.split())
        assert (await stream(journal)).watermark is None
        await outgoing.acknowledge(part)
        part = await outgoing.unsent("syslogs")
    assert sent == [[b"[0]", b"[1]", b"[2]"], [b"[3]"], [b"[4]", b"[5]", b"[6]"], [b"[7]", b"[8]"]]
    assert (await stream(journal)).watermark == T + 10
    assert (await journal.depth()).chunks == 0


async def test_a_part_that_is_distrusted_has_its_whole_window_compared(journal: Journal) -> None:
    """Equal lines of one second can only be counted together, in whatever parts they were sent."""
    await commit(journal, await stream(journal), T, T + 10, chunk(1), chunk(1), chunk(1))
    outgoing = Outgoing(journal)
    limits = LIMITS.with_bytes(len(chunk(1).body))
    first = await outgoing.freeze("syslogs", choose_append(await outgoing.pending("syslogs"), LIMITS), limits)
    await outgoing.acknowledge(first)
    second = await outgoing.unsent("syslogs")
    assert second is not None
    assert second.root_id == first.root_id != second.id
    await outgoing.distrust(second.root_id)
    assert await outgoing.unsent("syslogs") is None
    (group,) = choose_compare(await outgoing.pending("syslogs"), LIMITS)
    (comparison,) = await outgoing.comparisons([group])
    assert len(comparison.chunks) == 3
    left = await outgoing.freeze_compared("syslogs", [Compared(comparison.chunks, (1, 2))], limits)
    assert left.rows == 1
    await outgoing.acknowledge(left)
    assert (await stream(journal)).watermark is None
    last = await outgoing.unsent("syslogs")
    assert last is not None
    await outgoing.acknowledge(last)
    assert (await stream(journal)).watermark == T + 10


async def test_a_window_with_more_chunks_than_a_statement_has_parameters_is_frozen(journal: Journal) -> None:
    """A second of a storm may have tens of thousands of pages."""
    await commit(journal, await stream(journal), T, T + 1, chunk(1))
    columns = "window_id, stream_id, reading, table_name, partition, mode, rows, bytes, crc, body, seal_number"
    await journal.run(
        lambda db: db.execute(
            f"INSERT INTO chunks ({columns}, journaled_at) WITH RECURSIVE more (n) AS"
            f" (SELECT 1 UNION ALL SELECT n + 1 FROM more WHERE n < 32999) SELECT {columns}, 0 FROM chunks, more"
        )
    )
    outgoing = Outgoing(journal)
    segment = await outgoing.freeze("syslogs", choose_append(await outgoing.pending("syslogs"), LIMITS), LIMITS)
    assert segment.rows == 33_000


async def test_what_is_quarantined_holds_nothing_up(journal: Journal) -> None:
    """Its table continues, its watermark moves, and the rows stay in the journal with the reason."""
    await commit(journal, await stream(journal), T, T + 10, chunk(1))
    outgoing = Outgoing(journal)
    segment = await outgoing.freeze("syslogs", choose_append(await outgoing.pending("syslogs"), LIMITS))
    await outgoing.quarantine(segment, "never taken", T)
    assert await outgoing.tables() == []
    assert (await stream(journal)).watermark == T + 10
    assert await journal.counters() == {"quarantined_rows": 1}
    kept = await journal.run(lambda db: db.execute("SELECT table_name, rows, reason FROM quarantine").fetchall())
    assert kept == [("syslogs", 1, "never taken")]


async def test_segments_of_an_older_format_are_compared(tmp_path: Path) -> None:
    """They may be of any size, and sent; those of the meter, which has nothing to be compared by, keep their ids."""
    path = tmp_path / "old.db"
    old = Journal(path, PRICES, region="r")
    await old.adopt(KEY, collected_from=None, watermark=None, held=(), rechecks={})
    await commit(old, await stream(old), T, T + 10, chunk(2))
    outgoing = Outgoing(old)
    await outgoing.freeze("syslogs", choose_append(await outgoing.pending("syslogs"), LIMITS))
    await outgoing.flush_meter(None, 0.0)
    ids = [pending.id for pending in await outgoing.pending("api_call_parts")]
    meter = await outgoing.freeze("api_call_parts", ids)
    old.close()
    downgrade(path, 4)
    new = Journal(path, PRICES, region="r")
    outgoing = Outgoing(new)
    assert await outgoing.unsent("syslogs") is None
    assert [pending.mode for pending in await outgoing.pending("syslogs")] == [ShipMode.COMPARE]
    kept = await outgoing.unsent("api_call_parts")
    assert kept is not None
    assert (kept.id, kept.body) == (meter.id, meter.body)
    new.close()


async def test_points_of_an_older_format_get_the_columns_that_they_lack(tmp_path: Path) -> None:
    """Those that were frozen are compared; a journal that is only read opens, too."""
    path = tmp_path / "old.db"
    old = Journal(path, PRICES, region="r")
    key = StreamKey("GetJobMetrics", "r", "dlc1")
    await old.adopt(key, collected_from=None, watermark=None, held=(), rechecks={})
    row = [T, "r", "job_metrics", "dlc1", "p", "GpuCoreUsage", "", 1.5, "{}"]
    rows = Chunk("metric_points", "20251009", 1, json.dumps(row).encode() + b"\n")
    for start in (T, T + 60):
        await commit(old, await stream(old, key), start, start + 1, rows)
    outgoing = Outgoing(old)
    await outgoing.freeze("metric_points", [(await outgoing.pending("metric_points"))[0].id])
    old.close()
    downgrade(path, 6)
    with JournalFile.open(path) as read:
        assert len(await read.streams()) == 1

    new = Journal(path, PRICES, region="r")
    outgoing = Outgoing(new)
    pending = await outgoing.pending("metric_points")
    assert [one.mode for one in pending] == [ShipMode.COMPARE, ShipMode.APPEND]
    bodies = await outgoing.bodies([one.id for one in pending])
    wider = [*row, "", 0, "", "{}", "", "GpuCoreUsage"]
    assert [json.loads(line) for line in b"".join(bodies).splitlines()] == 2 * [wider]
    new.close()


def pending(number: int, window: int, rows: int, **facts: object) -> Pending:
    values: dict[str, object] = {
        "id": number, "window_id": window, "stream_id": window, "partition": "a", "mode": ShipMode.APPEND,
        "rows": rows, "bytes": rows, "journaled_at": 0.0,
    } | facts  # fmt: skip
    return Pending(**values)


def test_a_segment_holds_whole_windows_of_one_partition() -> None:
    """A window is never split, and one larger than a segment goes alone."""
    limits = Limits(5, rows_max=10)
    chunks = [pending(1, 1, 6), pending(2, 2, 3), pending(3, 2, 3), pending(4, 3, 1)]
    assert choose_append(chunks, limits) == [1]
    assert choose_append(chunks[1:], limits) == [2, 3, 4]
    assert choose_append([pending(1, 1, 50), pending(2, 1, 50), pending(3, 2, 1)], limits) == [1, 2]
    assert choose_append([pending(1, 1, 1), pending(2, 2, 1, partition="b"), pending(3, 3, 1)], limits) == [1, 3]


def test_only_the_first_of_a_stream_is_compared() -> None:
    """A window is compared when nothing earlier of its stream waits for the store."""
    compare = {"mode": ShipMode.COMPARE}
    chunks = [
        pending(1, 1, 1, **compare),
        pending(2, 2, 1, stream_id=1, **compare),
        pending(3, 3, 1),
        pending(4, 4, 1, stream_id=3, **compare),
        pending(5, 5, 1, **compare),
    ]
    assert choose_compare(chunks, LIMITS) == [[1], [5]]


async def test_streams_that_may_share_rows_are_compared_one_after_the_other(journal: Journal) -> None:
    """Also what was sealed before the second one came, and in one segment only one of them; others are free."""
    filtered, elsewhere = (StreamKey("ListSyslogs", "r", f"{node}?Query=oom") for node in ("node-1", "node-10"))
    begun = await stream(journal)
    for key in (filtered, elsewhere):
        await journal.adopt(key, collected_from=None, watermark=None, held=(), rechecks={})
    await commit(journal, begun, T, T + 10, chunk(1))
    for key in (filtered, OTHER, elsewhere):
        await commit(journal, await stream(journal, key), T, T + 10, chunk(1))

    pending = await Outgoing(journal).pending("syslogs")
    assert [one.mode for one in pending] == [ShipMode.COMPARE, ShipMode.COMPARE, ShipMode.APPEND, ShipMode.APPEND]
    assert choose_compare(pending, LIMITS) == [[pending[0].id]]


@pytest.mark.parametrize("filters", ["", "?Query=oom"], ids=["all lines", "a query"])
async def test_streams_that_share_rows_are_found_without_reading_all_others(journal: Journal, filters: str) -> None:
    """What a journal of a thousand streams does for one more, and for what waits of a few, is what a small one does."""

    async def steps(work: Awaitable[object]) -> int:
        done = 0

        def step() -> int:
            nonlocal done
            done += 1
            return 0

        await journal.run(lambda db: db.set_progress_handler(step, 1))
        await work
        await journal.run(lambda db: db.set_progress_handler(None, 0))
        return done

    async def adopt(number: int, filters: str) -> StreamKey:
        key = StreamKey("ListSyslogs", "r", f"n{number:04d}{filters}")
        await journal.adopt(key, collected_from=None, watermark=None, held=(), rechecks={})
        return key

    async def look(number: int) -> tuple[int, int]:
        return await steps(adopt(number, "?Query=new")), await steps(Outgoing(journal).pending("syslogs"))

    for filters_of_shared in ("", "?Query=oom"):
        key = await adopt(0, filters_of_shared)
        await commit(journal, await stream(journal, key), T, T + 10, chunk(1))
    alone = await look(0)
    await asyncio.gather(*(adopt(number, each) for number in range(1, 500) for each in (filters, "?Query=other")))
    among_many = await look(1)

    assert all(after <= 2 * before for before, after in zip(alone, among_many, strict=True)), (alone, among_many)


async def test_rows_of_usage_in_an_older_format_get_the_column_that_they_lack(tmp_path: Path) -> None:
    """Those that were frozen are compared; a journal that is only read gives the same rows."""
    path = tmp_path / "old.db"
    old = Journal(path, PRICES, region="r")
    key = StreamKey("GetUserViewMetrics", "r", "rg")
    await old.adopt(key, collected_from=None, watermark=None, held=(), rechecks={})
    width = len(USER_METRICS.columns) - 1
    row = [T, "r", "rg", "u", "", *[None] * (width - 6), "{}"]
    body = b"".join(json.dumps(each).encode() + b"\n" for each in (row, row))
    rows = Chunk("user_metrics", "202510", 2, body)
    for start in (T, T + 60):
        await commit(old, await stream(old, key), start, start + 1, rows)
    outgoing = Outgoing(old)
    await outgoing.freeze("user_metrics", [(await outgoing.pending("user_metrics"))[0].id])
    old.close()
    downgrade(path, 7)
    with reading(path) as db:
        read = [read_chunk(db, chunk_id) for (chunk_id,) in db.execute("SELECT id FROM chunks").fetchall()]

    new = Journal(path, PRICES, region="r")
    outgoing = Outgoing(new)
    pending = await outgoing.pending("user_metrics")
    assert [one.mode for one in pending] == [ShipMode.COMPARE, ShipMode.APPEND]
    bodies = await outgoing.bodies([one.id for one in pending])
    assert [json.loads(line) for line in b"".join(bodies).splitlines()] == 4 * [[*row, ""]]
    assert [each.body for each in read if each is not None] == bodies
    new.close()


@pytest.mark.parametrize(
    ("rows", "age", "due"), [(1, 4.9, False), (1, 5.0, True), (50_000, 0.0, True), (1, -100.0, True)]
)
def test_rows_wait_at_most_the_flush_interval(rows: int, age: float, due: bool) -> None:
    """A full segment goes at once, another after the interval, and one from another boot too."""
    assert is_due([pending(1, 1, rows, journaled_at=1000.0)], LIMITS, 1000.0 + age) is due


async def test_one_piece_that_fails_does_not_undo_the_others(journal: Journal) -> None:
    """Work that shares a commit stays atomic by itself."""

    def broken(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO counters VALUES ('broken', 1)")
        raise ValueError("no")

    import asyncio

    results = await asyncio.gather(
        journal.count("kept"), journal.run(broken), journal.count("kept"), return_exceptions=True
    )
    assert isinstance(results[1], ValueError)
    assert await journal.counters() == {"kept": 2}


def damage(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at : at + 64] = b"\x5a" * 64
    path.write_bytes(bytes(data))


async def test_a_damaged_journal_is_set_aside_whole(tmp_path: Path) -> None:
    """It is moved away with its path told, and a new one begun."""
    path = tmp_path / "journal.db"
    path.write_bytes(b"not a database, but something that somebody may want to look at" * 100)
    journal, aside = open_journal(path, PRICES, region="r", now=T)
    journal.close()
    assert aside is not None
    assert aside.read_bytes().startswith(b"not a database")
    assert aside.parent == path.parent


async def test_rows_that_changed_on_disk_are_noticed_at_the_next_start(tmp_path: Path) -> None:
    """Every chunk is checked against its checksum after an unclean end."""
    path = tmp_path / "journal.db"
    journal = Journal(path, PRICES, region="r")
    await journal.adopt(KEY, collected_from=None, watermark=None, held=(), rechecks={})
    await commit(journal, await stream(journal), T, T + 10, chunk(3))
    other = packed(b"[0]\n[7]\n[2]\n")
    await journal.run(lambda db: db.execute("UPDATE chunks SET body = ?", (other,)) and None)
    journal.close()
    with pytest.raises(JournalCorrupt, match="checksum"):
        Journal(path, PRICES, region="r")


@pytest.mark.parametrize("statement", ["CREATE TABLE meta (key, value)", "PRAGMA application_id = 7"])
@pytest.mark.parametrize("version", [0, 3, 99])
async def test_a_database_of_another_program_is_refused_and_left_alone(
    tmp_path: Path, statement: str, version: int
) -> None:
    """Whatever version it says it has; the error names the key, the file, what is in it and what would be right."""
    path = tmp_path / "albums 100%?.db"
    with closing(sqlite3.connect(path)) as db:
        for one in (statement, f"PRAGMA user_version = {version}"):
            db.execute(one)
    before = path.read_bytes()
    config = settings(tmp_path, "http://127.0.0.1:1", journal={"path": path})
    opened: list[Awaitable[object]] = [Owner.open(config), Reader.open(config), Caller.open(config)]
    for opening in opened:
        with pytest.raises(UsageError, match=re.escape(f'journal.path: got "{path}", a SQLite database of another')):
            await opening
    for look in (contents, rows_waiting, verify):
        with pytest.raises(UsageError, match="expected a journal of pai-collector, or a path that is free"):
            look(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith("albums")] == [path.name]


async def test_a_journal_of_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    """Another version's file is no damaged one."""
    path = tmp_path / "journal.db"
    Journal(path, PRICES, region="r").close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(JournalTooNew, match="format 99"):
        open_journal(path, PRICES, region="r", now=T)
    assert path.exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["run", "--once"], "pai-collector run"),
        (["--config", "c.toml", "--debug", "query", "SELECT 1"], "pai-collector query"),
        (["--log-format=json", "status"], "pai-collector status"),
        ([], "pai-collector"),
    ],
)
def test_a_holder_tells_its_command_and_nothing_behind_it(arguments: list[str], told: str) -> None:
    """Who owns the journal is shown to others; what is asked of it is not."""
    assert command_line(arguments) == told
