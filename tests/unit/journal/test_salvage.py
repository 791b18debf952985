"""A journal that was damaged anywhere: told, set aside, or read as it was written; never rows that nobody wrote."""

from __future__ import annotations

import contextlib
import sqlite3
import uuid
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import pytest

from collector.catalogue.operation import Price
from collector.errors import CollectorError, JournalCorrupt, JournalUnavailable
from collector.journal.entries import Chunk, PageCommit, Seal
from collector.journal.inspect import contents, verify
from collector.journal.journal import Journal
from collector.journal.outgoing import Limits, Outgoing, choose_append
from collector.journal.reading import reading
from collector.journal.recovery.known_schema import _schema_pages
from collector.journal.recovery.replay import Replay
from collector.journal.recovery.salvage import read_chunk, salvage
from collector.journal.recovery.set_aside import open_journal
from collector.journal.schema import _GENERATIONS, DDL, FORMAT, statements
from collector.model import ShipMode, StreamKey, Window

T = 1_760_000_000
PRICES = {"ListSyslogs": Price(Decimal("0.01"), free_calls_per_month=2)}
LIMITS = Limits(flush_interval_seconds=5)
STREAMS, PAGES = 3, 8
SEEDS = 120
PAGE_BYTES = 4096


def lines(stream: int, page: int) -> bytes:
    """Rows that tell apart every row of every page."""
    return b"".join(b'[%d,"%d of page %d of stream %d %s"]\n' % (T + i, i, page, stream, b"x" * 40) for i in range(60))


WRITTEN = {line for stream in range(STREAMS) for page in range(PAGES) for line in lines(stream, page).splitlines()}


async def written(path: Path) -> bytes:
    """The bytes of a journal with sealed windows, open ones, a segment, and calls that are not settled."""
    journal = Journal(path, PRICES, region="r", threaded=False)
    await journal.start()
    for stream in range(STREAMS):
        key = StreamKey("ListSyslogs", "r", f"node-{stream}")
        await journal.adopt(key, collected_from=None, watermark=None, held=(), rechecks={900: 0})
        for page in range(PAGES):
            state = (await journal.streams())[key]
            start, last = T + page * 100, page == PAGES - 1
            await journal.commit_page(
                state,
                PageCommit(
                    stream_id=state.id, delay=0, window=Window(start, start + 100), mode=ShipMode.APPEND, open_id=None,
                    chunks=(Chunk("syslogs", "20251009", 60, lines(stream, page)),), strays=(),
                    cursor="next" if last else None, cursor_used=b"", last_time=None, in_order=True, attempt=None,
                    seal=None if last else Seal(start + 100, start + 200),
                ),
                monotonic=0.0,
            )  # fmt: skip
    outgoing = Outgoing(journal)
    await outgoing.freeze("syslogs", choose_append((await outgoing.pending("syslogs"))[:4], LIMITS))
    await journal.reserve("ListSyslogs", T)
    journal.close()
    with sqlite3.connect(path) as db:
        # All in one file, so that it can be damaged there.
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    return path.read_bytes()


def damaged(sound: bytes, random: Random) -> bytes:
    """The file after something happened to it."""
    data = bytearray(sound)
    place = random.randrange(len(data))
    match random.randrange(6):
        case 0:
            data[place] ^= 1 << random.randrange(8)
        case 1:
            length = random.randrange(1, 5000)
            data[place : place + length] = random.randbytes(min(length, len(data) - place))
        case 2:
            data[place // 4096 * 4096 : place // 4096 * 4096 + 4096] = bytes(4096)
        case 3:
            del data[place:]
        case 4:
            page, other = place // 4096 * 4096, random.randrange(len(data)) // 4096 * 4096
            data[page : page + 4096] = data[other : other + 4096]
        case 5:
            data += random.randbytes(random.randrange(1, 9000))
    return bytes(data)


async def rows_of(journal: Journal) -> set[bytes]:
    """Every row that would be shipped."""
    outgoing, rows = Outgoing(journal), set()
    for table in await outgoing.tables():
        while (segment := await outgoing.unsent(table)) is not None:
            rows |= set(segment.body.splitlines())
            await outgoing.acknowledge(segment)
        while pending := await outgoing.pending(table):
            segment = await outgoing.freeze(table, choose_append(pending, LIMITS))
            rows |= set(segment.body.splitlines())
            await outgoing.acknowledge(segment)
    return rows


async def test_no_damage_makes_rows_that_nobody_wrote(tmp_path: Path) -> None:
    """Each seed damages the file in another way; what can be read is what was written, the rest is told."""
    sound = await written(tmp_path / "sound.db")
    outcomes = {"set aside": 0, "corrupt": 0, "read": 0}
    for seed in range(SEEDS):
        path = tmp_path / f"{seed}.db"
        path.write_bytes(damaged(sound, Random(seed)))
        with contextlib.suppress(CollectorError):
            contents(path)
        assert isinstance(verify(path), list)
        journal, aside = open_journal(path, PRICES, region="r", now=T, threaded=False)
        try:
            rows = await rows_of(journal)
            assert rows <= WRITTEN, seed
            outcomes["read" if aside is None else "set aside"] += 1
        except JournalCorrupt:
            outcomes["corrupt"] += 1
        finally:
            journal.close()
    # The damage is real, and not all of it is.
    assert outcomes["set aside"] > SEEDS // 4, outcomes
    assert outcomes["read"] > 0, outcomes


async def test_an_undamaged_journal_gives_every_sealed_row(tmp_path: Path) -> None:
    """The same reading, of the file as it was: all rows of the sealed windows, and nothing set aside."""
    path = tmp_path / "journal.db"
    await written(path)
    assert verify(path) == []
    journal, aside = open_journal(path, PRICES, region="r", now=T, threaded=False)
    rows = await rows_of(journal)
    journal.close()
    assert aside is None
    assert rows == {line for s in range(STREAMS) for p in range(PAGES - 1) for line in lines(s, p).splitlines()}


@pytest.mark.parametrize("content", [b"", b"\0" * 8192, b"SQLite format 3\0" + b"\xff" * 5000])
async def test_what_never_was_a_journal_is_no_journal(tmp_path: Path, content: bytes) -> None:
    """An empty file is a new journal; anything else is set aside whole."""
    path = tmp_path / "journal.db"
    path.write_bytes(content)
    journal, aside = open_journal(path, PRICES, region="r", now=T, threaded=False)
    journal.close()
    assert (aside is None) == (content == b"")
    assert aside is None or aside.read_bytes() == content


async def test_whatever_can_be_read_of_a_damaged_journal_is_salvaged(tmp_path: Path) -> None:
    """All of a sound one; of a damaged one only rows that were written, and most of them."""
    sound = await written(tmp_path / "sound.db")
    all_rows = STREAMS * PAGES * 60
    found = salvage(tmp_path / "sound.db")
    assert (found.rows, found.places_lost) == (all_rows, 0)
    assert {one.key for one in found.sealed} == {
        StreamKey("ListSyslogs", "r", f"node-{stream}") for stream in range(STREAMS)
    }
    assert all(one.window is not None for one in found.sealed)
    # Of a window that is open nobody knows whether all of it is there.
    assert sum(not one.is_whole for one in found.sealed) == STREAMS
    assert [row["operation"] for row in found.calls.reserved] == ["ListSyslogs"]
    kept = []
    for seed in range(SEEDS):
        path = tmp_path / f"{seed}.db"
        path.write_bytes(damaged(sound, Random(seed)))
        rows = salvaged_rows(path)
        assert rows <= WRITTEN, seed
        kept.append(len(rows) / all_rows)
    assert sum(ratio > 0.9 for ratio in kept) > SEEDS * 0.6
    # Without the pages that say where its tables are, nothing can be read.
    assert sum(ratio == 0 for ratio in kept) < SEEDS * 0.3


def salvaged_rows(path: Path) -> set[bytes]:
    """Every row that would be replayed."""
    try:
        found = salvage(path)
    except CollectorError:
        return set()
    with reading(path) as db:
        chunks = [read_chunk(db, chunk_id) for one in found.sealed for chunk_id in one.chunk_ids]
    return {line for chunk in chunks if chunk is not None for line in chunk.body.splitlines()}


@pytest.mark.parametrize("how", ["zeros", "rubbish"])
async def test_a_journal_that_lost_a_page_of_the_schema_is_read_by_the_known_one(tmp_path: Path, how: str) -> None:
    """Whichever page it is, everything is there, and open windows with it."""
    sound = await written(tmp_path / "journal.db")
    pages = _schema_pages(sound, PAGE_BYTES)
    assert len(pages) > 2
    for page in pages:
        spoilt = bytearray(sound)
        start = (page - 1) * PAGE_BYTES
        spoilt[start : start + PAGE_BYTES] = bytes(PAGE_BYTES) if how == "zeros" else Random(page).randbytes(PAGE_BYTES)
        (path := tmp_path / f"{page}.db").write_bytes(spoilt)
        assert salvaged_rows(path) == WRITTEN, page
        assert salvage(path).calls == salvage(tmp_path / "journal.db").calls


def without_schema(sound: bytes, path: Path, *, head: bool = True) -> bytes:
    """Write a journal without any page of its schema; with the head of the file or without."""
    spoilt = bytearray(sound)
    for page in _schema_pages(sound, PAGE_BYTES):
        start = 100 if page == 1 and head else (page - 1) * PAGE_BYTES
        spoilt[start : page * PAGE_BYTES] = bytes(page * PAGE_BYTES - start)
    path.write_bytes(spoilt)
    return bytes(spoilt)


async def test_a_journal_that_lost_its_whole_schema_is_read_by_the_known_one(tmp_path: Path) -> None:
    """The head of the file says which schema it had."""
    sound = await written(tmp_path / "journal.db")
    without_schema(sound, path := tmp_path / "spoilt.db")
    assert salvaged_rows(path) == WRITTEN
    assert salvage(path).calls == salvage(tmp_path / "journal.db").calls


def later_table(path: Path) -> None:
    """Add a table that a journal has which came back after it was given up."""
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE later (id INTEGER)")
    db.close()


def upgraded(path: Path) -> None:
    """Make the journal one of the format before that was upgraded: as many statements, in another order."""
    path.unlink()
    db = sqlite3.connect(path, isolation_level=None)
    for statement in [*statements(DDL.replace(_GENERATIONS, "")), *statements(_GENERATIONS)]:
        db.execute(statement)
    db.execute(f"PRAGMA user_version = {FORMAT}")
    db.execute("INSERT INTO meta VALUES ('id', ?)", (str(uuid.uuid4()),))
    db.close()


@pytest.mark.parametrize("how", ["a table that came later", "another order", "no head of the file"])
async def test_a_schema_that_is_not_the_known_one_is_not_replaced(tmp_path: Path, how: str) -> None:
    """What could be taken for something else is left as it is."""
    await written(whole := tmp_path / "journal.db")
    if how == "a table that came later":
        later_table(whole)
    if how == "another order":
        upgraded(whole)
    spoilt = without_schema(whole.read_bytes(), path := tmp_path / "spoilt.db", head=how != "no head of the file")
    with pytest.raises(JournalCorrupt, match="nothing can be read"):
        salvage(path)
    assert path.read_bytes() == spoilt


async def test_a_replay_that_the_disk_interrupts_takes_all_rows_when_it_is_made_again(tmp_path: Path) -> None:
    """The transaction is made again from the other journal's rows, not from what the first try left of them."""
    await written(tmp_path / "other.db")
    found = salvage(tmp_path / "other.db")
    journal = Journal(tmp_path / "journal.db", PRICES, region="r", threaded=False)
    for stream in range(STREAMS):
        key = StreamKey("ListSyslogs", "r", f"node-{stream}")
        await journal.adopt(key, collected_from=None, watermark=None, held=(), rechecks={})
    states = await journal.streams()
    tries = 0
    commit = journal._commit.run

    async def failing(work: Callable[[sqlite3.Connection], Any]) -> Any:
        def interrupted(db: sqlite3.Connection) -> Any:
            nonlocal tries
            tries += 1
            done = work(db)
            if tries % 2:
                error = sqlite3.OperationalError("disk I/O error")
                error.sqlite_errorname = "SQLITE_IOERR_WRITE"
                raise error
            return done

        return await commit(interrupted)

    async def outlast(error: JournalUnavailable, again: Callable[[], Awaitable[Any]]) -> Any:
        return await again()

    journal.outlast = outlast
    rows = found.readable(found.sealed)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(journal._commit, "run", failing)
        for one in rows:
            assert await Replay(journal).take_rows(states[one.key].id, found, one, one.window, 0.0)

    assert tries == 2 * len(rows) > 0
    assert (await journal.depth()).rows == sum(one.rows for one in rows) == found.rows
    journal.close()
