"""`verify`, in the process that owns the journal."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from random import Random
from typing import Any, Final

from collector.errors import (
    ApiError,
    BudgetReached,
    CollectorError,
    CredentialsError,
    Stopping,
    StoreError,
    UsageError,
)
from collector.journal.coverage import less, open_gaps
from collector.model import StreamKey, Window
from collector.owner.at_work import TOLD_SECONDS
from collector.owner.caller import Caller
from collector.owner.instance import Owner
from collector.owner.ranges import Range, asked_streams, iso, price, resolved
from collector.pipeline.backfill import Asked, politely
from collector.pipeline.verify import Finding, Verifier, sampled

WORKERS_MAX: Final = 8
JOURNAL_SECONDS_MAX: Final = 60.0
"""So long rows of the range that are in the journal are waited for."""
FINDINGS_TOLD_MAX: Final = 1_000
"""Differences that are told one by one; all are counted."""
SEED_MAX: Final = 2**31


async def verify_price(owner: Caller, asked: Mapping[str, Any]) -> dict[str, Any]:
    """What a verification would judge, in absolute times, and what it takes at least. Nothing is asked for."""
    window = await resolved(owner, Range.of(asked))
    judged, seed, uncovered = await _judged(owner, asked, window)
    if not judged:
        raise UsageError("nothing of the range is covered", hint="pai-collector gaps tells what is missing and why")
    return {
        "start": window.start,
        "end": window.end,
        "from": iso(window.start),
        "to": iso(window.end),
        "streams": len({each.state.key for each in judged}),
        "windows": len(judged),
        "seconds": sum(each.window.seconds for each in judged),
        "seconds_not_covered": uncovered,
        "seed": seed,
        **await price(owner, judged),
    }


async def verify(owner: Caller, asked: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
    """Judge a range and tell each difference and how far it is; the last word is the report."""
    window = await resolved(owner, Range.of(asked))
    async with owner.asking():
        judged, seed, uncovered = await _judged(owner, asked, window)
        waiting = await _shipped(owner, judged)
        verifier = Verifier(politely(owner.collecting(), owner.buckets), owner.store)
        failures: dict[StreamKey, str] = {}
        findings: list[Finding] = []
        task = asyncio.create_task(_judge(verifier, judged, findings, failures), name="verify")
        total, told = sum(each.window.seconds for each in judged), 0
        try:
            while True:
                is_done = task.done()
                while told < len(findings):
                    yield {"finding": asdict(findings[told])}
                    told += 1
                yield {"seconds": total, "seconds_read": verifier.verified.seconds}
                if is_done:
                    break
                await owner.clock.sleep(TOLD_SECONDS)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        task.result()
    done = verifier.verified
    yield {
        "report": {
            "from": iso(window.start),
            "to": iso(window.end),
            "streams": len({each.state.key for each in judged}),
            "windows": done.windows,
            "seconds": done.seconds,
            "seconds_not_covered": uncovered,
            "rows_waiting": waiting,
            "seed": seed,
            "calls": done.calls,
            "records": done.records,
            "stored": done.stored,
            **{kind: done.kinds.get(kind, 0) for kind in ("missing", "extra", "different")},
            "findings_told": len(findings),
            "failures": [{"scope_id": key.scope_id, "error": text} for key, text in sorted(failures.items())],
        }
    }


async def _judge(
    verifier: Verifier, judged: Sequence[Asked], findings: list[Finding], failures: dict[StreamKey, str]
) -> None:
    queue = iter(judged)
    stops: list[CollectorError] = []

    async def worker() -> None:
        for each in queue:
            if stops:
                return
            try:
                async for finding in verifier.judge(each.streams.source, each.state, each.window):
                    if len(findings) < FINDINGS_TOLD_MAX:
                        findings.append(finding)
            except (CredentialsError, BudgetReached, Stopping) as error:
                stops.append(error)
            except (ApiError, StoreError) as error:
                # What is left of the stream is not judged; the others are.
                failures[each.state.key] = str(error)

    async with asyncio.TaskGroup() as group:
        for _ in range(min(WORKERS_MAX, len(judged))):
            group.create_task(worker())
    if stops:
        raise stops[0]


async def _judged(owner: Caller, asked: Mapping[str, Any], window: Window) -> tuple[list[Asked], int | None, int]:
    """What of the range is covered and acknowledged, stream by stream; the seed of a sample; seconds not covered."""
    streams, _ = await asked_streams(owner, Range.of(asked), window)
    gaps = await owner.journal.run(open_gaps)
    by_key = {each.state.key: each for each in streams}
    covered: list[tuple[StreamKey, Window]] = []
    for key, each in by_key.items():
        start, end = max(window.start, each.state.collected_from or 0), min(window.end, each.state.watermark or 0)
        if start < end:
            covered += [(key, left) for left in less(Window(start, end), [gap.window for gap in gaps.get(key, ())])]
    missing = window.seconds * len(streams) - sum(left.seconds for _, left in covered)
    seed: int | None = None
    if count := asked.get("sample"):
        given = asked.get("seed")
        seed = owner.random.randrange(SEED_MAX) if given is None else int(given)
        covered = sampled(covered, int(count), Random(seed))
    return [Asked(by_key[key].streams, by_key[key].state, left) for key, left in covered], seed, missing


async def _shipped(owner: Caller, judged: Sequence[Asked]) -> int:
    """Wait for rows of the range that are still in the journal; returns how many stay there."""
    ranges = [(each.state.id, each.window.start, each.window.end) for each in judged]
    waiting = await owner.journal.run(partial(_rows_waiting, ranges=ranges))
    if not isinstance(owner, Owner):
        # It leaves the store alone: the next process that collects ships them.
        return waiting
    until = owner.clock.monotonic() + JOURNAL_SECONDS_MAX
    with owner.haste():
        while waiting and owner.clock.monotonic() < until:
            await owner.clock.sleep(TOLD_SECONDS)
            waiting = await owner.journal.run(partial(_rows_waiting, ranges=ranges))
    return waiting


def _rows_waiting(db: sqlite3.Connection, ranges: Sequence[tuple[int, int, int]]) -> int:
    windows = db.execute(
        "SELECT c.stream_id, w.start, w.end, sum(c.rows) FROM chunks c JOIN windows w ON w.id = c.window_id"
        " WHERE c.seal_number IS NOT NULL GROUP BY w.id"
    ).fetchall()
    if not windows:
        return 0
    of_stream: dict[int, list[tuple[int, int]]] = {}
    for stream_id, start, end in ranges:
        of_stream.setdefault(stream_id, []).append((start, end))
    return sum(
        rows
        for stream_id, start, end, rows in windows
        if any(start < last and end > first for first, last in of_stream.get(stream_id, ()))
    )
