"""`journal replay` and `journal repair`, in the process that owns the journal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import structlog

from collector.errors import JournalCorrupt, StoreUnavailable, UsageError
from collector.journal.entries import StreamState
from collector.journal.recovery.replay import Replay
from collector.journal.recovery.salvage import Readable, Salvage, salvage
from collector.journal.recovery.set_aside import mark_replayed, set_aside_of
from collector.model import StreamKey, Window
from collector.owner.at_work import STORE_SECONDS_MAX, TOLD_SECONDS
from collector.owner.instance import Owner
from collector.owner.lock import OwnerLock
from collector.pipeline.streams import Streams
from collector.shares import Share

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Report:
    """What came of one journal."""

    path: str
    rows: int = 0
    """Read from it and compared."""
    rows_added: int = 0
    rows_damaged: int = 0
    places_lost: int = 0
    calls: int = 0
    """Entered in the meter."""
    calls_left: str = ""
    """Why none were entered, where that is so."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Stream -> why its rows were left out."""
    moved_to: str | None = None
    error: str = ""
    """Why nothing can be read of it."""


async def repair(owner: Owner, asked: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
    """Replay every journal that was set aside beside this one as damaged; see `replay`.

    The report of one of which nothing can be read says so; the others are replayed all the same.
    """
    for path in set_aside_of(owner.journal.path):
        try:
            async for word in replay(owner, {"path": str(path)}):
                yield word
        except JournalCorrupt as error:
            yield _told(_Report(str(path), error=str(error)))


async def replay(owner: Owner, asked: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
    """Bring what another journal holds to the store: rows that it lacks, and calls that nobody has entered.

    Tells from time to time how far it is, and at last its report. The file is then renamed, so that nobody goes on
    with it. Interrupted, the same command finds what is stored already. Raises UsageError for a file that is no
    journal or in use, JournalCorrupt where nothing can be read of it, and StoreUnavailable.
    """
    path = Path(str(asked["path"]))
    _refuse_own(owner, path)
    with _unused(path):
        found = await asyncio.to_thread(salvage, path)
        report = _Report(str(path), places_lost=found.places_lost)
        async with owner.at_work():
            # What another journal holds is there as a whole: nothing has to gather.
            with owner.haste():
                async for done in _rows(owner, found, report):
                    yield {"rows": found.rows, "rows_read": done}
            await _calls(owner, found, report)
        if not report.left_out:
            report.moved_to = str(mark_replayed(path))
    log.info("journal_replayed", path=str(path), rows=report.rows, rows_added=report.rows_added, calls=report.calls)
    yield _told(report)


def _told(report: _Report) -> dict[str, Any]:
    left_out = [{"stream": stream, "reason": reason} for stream, reason in sorted(report.left_out.items())]
    return {"report": asdict(report) | {"left_out": left_out}}


def _refuse_own(owner: Owner, path: Path) -> None:
    if path.exists() and path.samefile(owner.journal.path):
        raise UsageError(f"{path} is the journal in use: what it holds is shipped as a matter of course")


@contextmanager
def _unused(path: Path) -> Iterator[None]:
    """Keep other processes from working with a journal. Raises OwnedElsewhere where one does."""
    lock = OwnerLock(path)
    if not lock.path.exists():
        yield
        return
    lock.acquire()
    try:
        yield
    finally:
        lock.release()


async def _rows(owner: Owner, found: Salvage, report: _Report) -> AsyncGenerator[int, None]:
    """Take the rows over in batches that the store can take as one, and wait for each; yields how many are done."""
    streams = {each.operation.name: each for each in await owner.streams()}
    replay = Replay(owner.journal)
    before = await owner.journal.counters()
    done = 0
    for batch in found.batches(owner.bounds.segment):
        read = await asyncio.to_thread(found.readable, batch)
        report.rows_damaged += sum(one.rows for one in batch) - sum(one.rows for one in read)
        mine = await _known(owner, {one.key for one in read}, streams, report)
        with owner.at_work.backfilling(mine):
            ids: list[int] = []
            covered: dict[StreamKey, list[Window]] = {}
            for one in read:
                if one.key not in mine:
                    continue
                covers = _covers(one, streams[one.key.operation], found)
                if covers is not None:
                    covered.setdefault(one.key, []).append(covers)
                ids += await replay.take_rows(mine[one.key].id, found, one, covers, owner.clock.monotonic())
                report.rows += one.rows
            async for waiting in _acknowledged(owner, replay, ids):
                yield done + sum(one.rows for one in batch) * (len(ids) - waiting) // max(1, len(ids))
            for key, windows in covered.items():
                later = streams[key.operation].can_be_asked_later
                await replay.end(mine[key].id, windows, can_be_asked_later=later)
        done += sum(one.rows for one in batch)
        yield done
    after = await owner.journal.counters()
    report.rows_added = sum(
        count - before.get(name, 0) for name, count in after.items() if name.startswith("replay_rows/")
    )


async def _known(
    owner: Owner, keys: set[StreamKey], streams: Mapping[str, Streams], report: _Report
) -> dict[StreamKey, StreamState]:
    """The streams that rows may be taken over of, each as this journal knows it."""
    wanted: dict[str, list[StreamKey]] = {}
    for key in sorted(keys):
        if (reason := _refusal(owner.settings.api.region, owner.settings.share, key, streams)) is not None:
            report.left_out[str(key)] = reason
        else:
            wanted.setdefault(key.operation, []).append(key)
    for operation, several in wanted.items():
        claimed = list(await owner.membership.claim(several))
        await streams[operation].adopt(owner.journal, owner.store, claimed)
        for key in set(several) - set(claimed):
            report.left_out[str(key)] = "another journal may hold rows of it"
    states = await owner.journal.streams()
    return {key: states[key] for several in wanted.values() for key in several if str(key) not in report.left_out}


def _refusal(region: str, share: Share, key: StreamKey, streams: Mapping[str, Streams]) -> str | None:
    if key.region != region:
        return f"it is of region {key.region}"
    if not share.owns(key):
        return "another shard collects it"
    if key.operation not in streams:
        return "its source is switched off"
    return None


def _covers(one: Readable, streams: Streams, found: Salvage) -> Window | None:
    """The range that the rows of a window cover, None where some may be missing."""
    if one.window is None or not one.is_whole:
        return None
    covers = one.window
    if not streams.can_be_asked_later:
        # A snapshot stands for all of its tick.
        covers = Window(covers.start, max(covers.end, covers.start + streams.cadence.interval))
    return None if any(gap.overlaps(covers) for gap in found.gaps.get(one.key, ())) else covers


async def _acknowledged(owner: Owner, replay: Replay, ids: Sequence[int]) -> AsyncGenerator[int, None]:
    """Wait until the store has all of these chunks; yield how many still wait."""
    until = owner.clock.monotonic() + STORE_SECONDS_MAX
    before = (len(ids), 0)
    while (left := await replay.work_left(ids))[0]:
        yield left[0]
        if left != before:
            before, until = left, owner.clock.monotonic() + STORE_SECONDS_MAX
        elif owner.clock.monotonic() >= until:
            why = owner.shipping_error or "it does not say why"
            raise StoreUnavailable(
                f"the store has taken none of the rows for {STORE_SECONDS_MAX:.0f} s: {why}",
                hint="what was read waits in the journal; when the store is well, the same command goes on",
            )
        await owner.clock.sleep(TOLD_SECONDS)


async def _calls(owner: Owner, found: Salvage, report: _Report) -> None:
    if found.id == owner.membership.journal_id:
        report.calls_left = "it is a copy of the journal in use, which has them"
        return
    if owner.settings.share.index:
        # Each shard replays the file for its own streams.
        report.calls_left = "shard 0 enters them"
        return
    chunks = await asyncio.to_thread(found.call_chunks)
    entered = await Replay(owner.journal).take_calls(found, chunks, owner.prices(), owner.clock.monotonic())
    report.calls, report.calls_left = entered or 0, "" if entered is not None else "they were entered before"
