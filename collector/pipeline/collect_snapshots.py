"""Snapshots of present usage, from the service into the journal, page by page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import structlog

from collector.errors import AnswerTooLargeError, BadRequestError
from collector.journal.coverage import GAP_MISSED
from collector.journal.entries import Chunk, OpenWindow, PageCommit, Rewrite, Seal, StreamState
from collector.model import ShipMode, Window
from collector.pipeline.chunking import by_partition, chunks, decode_lines
from collector.pipeline.collecting import (
    CODE_NOT_USED,
    GAP_CHANGED,
    GAP_PARTIAL,
    GAP_TOO_LARGE,
    READINGS_MAX,
    Collecting,
    counters,
    dead_letters,
    sized,
    smaller_page,
    widen_pages,
)
from collector.pipeline.windows import FIRST_LOOK, missed_ticks, snapshot_window, tick_of
from collector.sources.normalise import lines
from collector.sources.tables import TABLES, Table
from collector.sources.user_metrics import UserMetricsSource
from collector.telemetry import tracing

log = structlog.get_logger(__name__)


async def collect_snapshot(
    collecting: Collecting, source: UserMetricsSource, state: StreamState, interval: int, now: int
) -> StreamState:
    """Take the snapshot of the tick that `now` lies in, unless it is stored already.

    The tick is the one in which the first page is answered. Where paging outlasts it, what was
    read is stored and the tick is a gap.
    """
    here = state.open.get(FIRST_LOOK)
    if here is not None and here.window.start != tick_of(now, interval):
        state = await _seal_partial(collecting, state, here, here.window, interval)
        here = None
    if here is None and state.sealed_to is not None and state.sealed_to > tick_of(now, interval):
        return state
    with tracing.span("window", stream=str(state.key), start=tick_of(now, interval)):
        is_sealed = False
        while not is_sealed:
            with tracing.span("page", stream=str(state.key)):
                state, is_sealed = await _next_page(collecting, source, state, interval)
    return state


async def end_snapshots(collecting: Collecting, state: StreamState, end: int, interval: int) -> StreamState:
    """Finish a stream whose scope left at `end`: ticks before it that were not taken are a gap."""
    state = await seal_partial(collecting, state, interval)
    if state.sealed_to is None or state.sealed_to >= end:
        return state
    commit = PageCommit(
        stream_id=state.id, delay=FIRST_LOOK, window=Window(state.sealed_to, end), mode=ShipMode.APPEND, open_id=None,
        chunks=(), strays=(), cursor=None, cursor_used=b"", last_time=None, in_order=True, attempt=None,
        seal=Seal(end, end, gaps=_gaps(state, tick_of(end, interval), interval, "")),
    )  # fmt: skip
    return await collecting.journal.commit_page(state, commit, collecting.clock.monotonic())


async def seal_partial(collecting: Collecting, state: StreamState, interval: int) -> StreamState:
    """Store what was read of a snapshot that does not resume within its tick, which is a gap; without one nothing."""
    here = state.open.get(FIRST_LOOK)
    return state if here is None else await _seal_partial(collecting, state, here, here.window, interval)


async def _next_page(
    at: Collecting, source: UserMetricsSource, state: StreamState, interval: int
) -> tuple[StreamState, bool]:
    here = state.open.get(FIRST_LOOK)
    cursor = here.cursor if here else None
    window = here.window if here else snapshot_window(tick_of(at.server_clock.now(), interval))
    configured = source.page_size
    source = sized(source.unsorted() if state.id in at.unsorted else source, at.page_sizes.get(state.id))
    async with at.room.held(source.operation.answer_bytes_max, repeatable=False):
        parameters = source.parameters(state.key, window, cursor)
        try:
            reply = await at.client.request(source.operation, state.key.scope_id, parameters)
        except AnswerTooLargeError:
            return await _ask_for_less(at, state, source, here, window, interval, int(parameters["PageSize"]))
        except BadRequestError as error:
            if not source.sort_by or cursor is not None:
                raise
            log.warning("sort_refused", stream=str(state.key), sort_by=source.sort_by, error=str(error))
            at.unsorted.add(state.id)
            return state, False
        tick = tick_of(reply.date, interval)
        if here is not None and tick != here.window.start:
            await at.journal.settle(replace(reply.attempt, code=CODE_NOT_USED))
            return await _seal_partial(at, state, here, here.window, interval), True
        if here is None:
            window = snapshot_window(tick)
            if state.sealed_to is not None and state.sealed_to > tick:
                await at.journal.settle(replace(reply.attempt, code=CODE_NOT_USED))
                return state, True
        page = source.page(state.key, window, cursor, reply.answer)
        following = source.next_cursor(cursor, reply.answer)
        changed = following is None and source.total_changed(cursor, reply.answer)
        is_short = source.is_short(cursor, reply.answer)
        reading = here.reading if here else 0
        again = (changed or is_short) and reading + 1 < READINGS_MAX
        reason = GAP_PARTIAL if is_short else GAP_CHANGED if changed else ""
        if reason and not again:
            log.warning("snapshot_incomplete", stream=str(state.key), tick=tick, reason=reason)
        gaps = _gaps(state, tick, interval, "" if again else reason)
        several = here is not None and (here.pages > 0 or reading > 0)
        seal = Seal(window.end, reply.date, _whole(source) if several else None, gaps)
        commit = PageCommit(
            stream_id=state.id,
            delay=FIRST_LOOK,
            window=window,
            mode=state.mode(window),
            open_id=here.id if here else None,
            chunks=tuple(chunks(page.rows, state.mode(window)))
            + tuple(dead_letters(state.key, source.operation, page.dead, reply)),
            strays=(),
            cursor=str(following) if following else None,
            cursor_used=b"",
            last_time=None,
            in_order=True,
            attempt=reply.attempt,
            seal=seal if following is None and not again else None,
            counters=counters(page, reply),
        )
        state = await at.journal.commit_page(state, commit, at.clock.monotonic())
    if again:
        # Users may have moved from a page that was not read yet to one that was.
        log.info("list_changed_while_paging", stream=str(state.key), reading=reading + 1)
        state = await at.journal.restart_window(state.id, state.open[FIRST_LOOK].id)
    is_last = commit.seal is not None
    widen_pages(at, state.id, source.operation, configured, reply.bytes, is_last=is_last)
    at.on_page(state, page.record_count)
    return state, is_last


async def _ask_for_less(
    at: Collecting,
    state: StreamState,
    source: UserMetricsSource,
    here: OpenWindow | None,
    window: Window,
    interval: int,
    page_size: int,
) -> tuple[StreamState, bool]:
    """Begin again with smaller pages after an answer that was too large; if there are none, the tick is a gap."""
    smaller = smaller_page(source.operation, page_size)
    log.info("answer_too_large", stream=str(state.key), page_size=page_size)
    if smaller is None:
        return await _seal_partial(at, state, here, window, interval, GAP_TOO_LARGE), True
    at.page_sizes[state.id] = smaller
    return (state if here is None else await at.journal.restart_window(state.id, here.id)), False


async def _seal_partial(
    at: Collecting,
    state: StreamState,
    here: OpenWindow | None,
    window: Window,
    interval: int,
    reason: str = GAP_PARTIAL,
) -> StreamState:
    """Store what was read of a tick that cannot be read to its end, and enter the tick as a gap."""
    tick = window.start
    gaps = _gaps(state, tick, interval, reason)
    log.warning("snapshot_cut_off", stream=str(state.key), tick=tick, pages=here.pages if here else 0)
    commit = PageCommit(
        stream_id=state.id, delay=FIRST_LOOK, window=window, mode=here.mode if here else state.mode(window),
        open_id=here.id if here else None, chunks=(),
        strays=(), cursor=None, cursor_used=b"", last_time=None, in_order=True, attempt=None,
        seal=Seal(window.end, tick, _whole_of_user_metrics, gaps),
    )  # fmt: skip
    return await at.journal.commit_page(state, commit, at.clock.monotonic())


def _whole(source: UserMetricsSource) -> Rewrite:
    def rewrite(pairs: Iterable[tuple[int, Chunk]]) -> list[Chunk]:
        rows: dict[Table, list[Sequence[Any]]] = {}
        kept: list[Chunk] = []
        mode = ShipMode.APPEND
        # All readings together, in the order in which they were read.
        for _, chunk in sorted(pairs, key=lambda pair: pair[0]):
            table = TABLES[chunk.table]
            if table in source.tables:
                rows.setdefault(table, []).extend(decode_lines(chunk.body))
                mode = chunk.mode
            else:
                kept.append(chunk)
        for table, whole in source.whole(rows).items():
            kept += [
                Chunk(table.name, partition, len(part), lines(part), mode)
                for partition, part in by_partition(table, [tuple(row) for row in whole]).items()
            ]
        return kept

    return rewrite


_whole_of_user_metrics = _whole(UserMetricsSource(page_size=1, time_step=""))


def _gaps(state: StreamState, tick: int, interval: int, reason: str) -> tuple[tuple[Window, str], ...]:
    """The ticks before this one that were missed, and this one if there is a `reason`."""
    missed = missed_ticks(state.sealed_to, tick, interval)
    gaps: tuple[tuple[Window, str], ...] = () if missed is None else ((missed, GAP_MISSED),)
    return (*gaps, (Window(tick, tick + interval), reason)) if reason else gaps
