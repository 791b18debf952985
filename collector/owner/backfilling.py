"""`backfill`, in the process that owns the journal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from collector.errors import JournalError, Stopping
from collector.journal.coverage import unsettled
from collector.owner.at_work import STORE_SECONDS_MAX, TOLD_SECONDS
from collector.owner.caller import Caller
from collector.owner.instance import Owner
from collector.owner.ranges import Range, asked_streams, claimed, iso, price, resolved
from collector.pipeline.backfill import Asked, Backfill, Outcome, politely


async def backfill_price(owner: Caller, asked: Mapping[str, Any]) -> dict[str, Any]:
    """What a backfill would do, in absolute times, and what it takes at least. Nothing is asked for."""
    window = await resolved(owner, Range.of(asked))
    streams, without = await asked_streams(owner, Range.of(asked), window)
    return {
        "start": window.start,
        "end": window.end,
        "from": iso(window.start),
        "to": iso(max(each.window.end for each in streams)),
        "streams": len(streams),
        "left_out": [{"scope_id": key.scope_id, "reason": reason} for key, reason in without],
        **await price(owner, streams),
    }


async def backfill(owner: Owner, asked: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
    """Run a backfill and tell from time to time how far it is; the last word is its report.

    It ends where nobody listens any more, and the next one goes on behind it.
    """
    window = await resolved(owner, Range.of(asked))
    async with owner.at_work():
        streams, without = await asked_streams(owner, Range.of(asked), window)
        await claimed(owner, streams)
        with owner.at_work.backfilling(each.state.key for each in streams):
            before = await owner.journal.counters()
            work = Backfill(politely(owner.collecting(), owner.buckets), streams)
            task = asyncio.create_task(work.run(), name="backfill")
            try:
                while not task.done():
                    yield {"seconds": work.outcome.seconds, "seconds_read": work.outcome.seconds_read}
                    await owner.clock.sleep(TOLD_SECONDS)
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                with suppress(JournalError, Stopping):
                    await work.seal()
            outcome = _outcome(task)
            with owner.haste():
                waiting = await _acknowledged(owner, streams)
            if not waiting:
                await work.end()
        after = await owner.journal.counters()
    yield {"report": _report(streams, outcome, waiting, before, after) | {"left_out": len(without)}}


def _outcome(task: asyncio.Task[Outcome]) -> Outcome:
    try:
        return task.result()
    except BaseExceptionGroup as group:
        # The workers share one fate: the first error says why.
        raise next(_leaves(group)) from None


def _leaves(group: BaseExceptionGroup[BaseException]) -> Any:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


async def _acknowledged(owner: Owner, streams: Sequence[Asked]) -> int:
    """Wait until the store has what was read; returns how many ranges still wait."""
    ids = {each.state.id for each in streams}
    until = owner.clock.monotonic() + STORE_SECONDS_MAX
    while waiting := await owner.journal.run(partial(unsettled, stream_ids=ids)):
        if owner.clock.monotonic() >= until:
            return waiting
        await owner.clock.sleep(TOLD_SECONDS)
    return 0


def _report(
    streams: Sequence[Asked], outcome: Outcome, waiting: int, before: Mapping[str, int], after: Mapping[str, int]
) -> dict[str, Any]:
    def counted(what: str) -> int:
        names = {f"backfill_{what}/{each.streams.operation.name}" for each in streams}
        return sum(after.get(name, 0) - before.get(name, 0) for name in names)

    return {
        "streams": len(streams),
        "calls": counted("calls"),
        "rows_added": counted("rows"),
        "seconds_read": outcome.seconds_read,
        "waiting": waiting,
        "budget": str(outcome.budget) if outcome.budget else None,
        "is_refused": outcome.credentials is not None,
        "failures": [
            {"scope_id": key.scope_id, "error": str(error), "hint": error.hint}
            for key, error in sorted(outcome.failures.items())
        ],
    }
