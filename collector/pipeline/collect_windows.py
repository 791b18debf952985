"""Collect: windows and snapshots from the service into the journal, page by page.

Nothing here writes to the store. A page is committed with the cursor it moved and the call it
settles before the next one is asked; an error leaves the window open, never empty.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import structlog

from collector.api.client import ApiClient, Reply
from collector.clock import Clock, ServerClock
from collector.errors import CursorError, CursorLoopError
from collector.journal.entries import Chunk, OpenWindow, PageCommit, Seal, StreamState
from collector.journal.journal import Journal
from collector.model import ShipMode, Window
from collector.pipeline.chunking import (
    by_partition,
    chunks,
    cut_at,
    dead_letter_chunks,
    decode_lines,
    merge_readings,
    stray_chunks,
)
from collector.pipeline.room import Room
from collector.pipeline.windows import FIRST_LOOK, SPAN_SECONDS_MAX, Planned, missed_ticks, snapshot_window, tick_of
from collector.sources.normalise import lines
from collector.sources.page import PageRows
from collector.sources.syslogs import SyslogSource
from collector.sources.tables import TABLES, Table
from collector.sources.user_metrics import UserMetricsSource

log = structlog.get_logger(__name__)

PAGES_MAX = 490
"""Pages of a window: with 100 records each it stays within one block of the engine."""

PAGES_OF_A_SECOND_MAX = 10_000
"""A window of one second cannot be made smaller; beyond this it is an error."""

READINGS_MAX = 3
"""A window (or a snapshot whose list changes) is read again from its start at most this often."""

CURSOR_LOOP_ATTEMPTS_MAX = 3
CODE_CURSOR_LOOP = "cursor_loop"
CODE_NOT_USED = "not_used"
"""Code of a call whose answer came too late to be used."""

DIGEST_BYTES = 8


@dataclass(slots=True)
class Progress:
    """What collecting has done so far, for displays and reports."""

    pages: int = 0
    rows: int = 0
    windows: int = 0
    snapshots: int = 0
    rechecks: int = 0


class Collector:
    """Reads one window or one snapshot of a stream at a time."""

    def __init__(
        self,
        journal: Journal,
        client: ApiClient,
        clock: Clock,
        server_clock: ServerClock,
        room: Room,
        *,
        on_page: Callable[[StreamState], None] = lambda state: None,
    ) -> None:
        self._journal = journal
        self._client = client
        self._clock = clock
        self._server_clock = server_clock
        self._room = room
        self._on_page = on_page
        self.progress = Progress()
        self._span_max: dict[int, int] = {}

    def span_max(self, state: StreamState) -> int:
        """Seconds that a window of this stream may span: less after one did not fit a block."""
        return self._span_max.get(state.id, SPAN_SECONDS_MAX)

    # Windows of event time

    async def collect_window(
        self, source: SyslogSource, state: StreamState, planned: Planned, settle: int
    ) -> StreamState:
        """Read a window to its last page and seal it; returns the stream as it is then.

        The stream's state is unchanged where nothing could be sealed. Raises ApiError; what was read
        is in the journal and the next call goes on behind it.
        """
        while True:
            state, sealed = await self._next_page(source, state, planned, settle)
            if sealed:
                return state

    async def _next_page(
        self, source: SyslogSource, state: StreamState, planned: Planned, settle: int
    ) -> tuple[StreamState, bool]:
        here = state.open.get(planned.delay)
        window = here.window if here else planned.window
        cursor = here.cursor if here else None
        async with self._room.held(source.operation.answer_bytes_max, repeatable=True):
            try:
                reply, following = await self._ask_once(source, state, window, here)
            except CursorError as error:
                if here is None or cursor is None or here.reading + 1 >= READINGS_MAX:
                    raise
                log.info("cursor_died", stream=str(state.key), pages=here.pages, code=error.code)
                return await self._journal.restart_window(state.id, here.id), False
            page = source.page(state.key, window, reply.answer)
            in_order, last_time = _order(here, page.times)
            pages = (here.pages if here else 0) + 1
            seal, drop = _seal(
                window, reply.date, settle, following is None, pages, in_order, last_time, here.reading if here else 0
            )
            if drop:
                await self._journal.settle(replace(reply.attempt, code=CODE_NOT_USED))
                return await self._give_up(state, window, here, reply.date, settle), True
            commit = PageCommit(
                stream_id=state.id,
                delay=planned.delay,
                window=window,
                mode=planned.mode,
                open_id=here.id if here else None,
                chunks=tuple(chunks(page.rows, planned.mode))
                + tuple(dead_letter_chunks(state.key, page.dead, reply.date)),
                strays=tuple(stray_chunks(page)),
                cursor=following,
                cursor_used=_digest(cursor),
                last_time=last_time,
                in_order=in_order,
                attempt=reply.attempt,
                seal=seal,
                counters=_counters(page),
            )
            if seal is not None and pages == 1 and seal.rewrite is not None:
                # The only page can be cut before it is written.
                commit = replace(commit, chunks=tuple(seal.rewrite([(0, c) for c in commit.chunks])))
                commit = replace(commit, seal=replace(seal, rewrite=None))
            state = await self._journal.commit_page(state, commit, self._clock.monotonic())
        self._note(state, page, sealed=seal is not None, delay=planned.delay)
        return state, seal is not None

    async def _ask_once(
        self, source: SyslogSource, state: StreamState, window: Window, here: OpenWindow | None
    ) -> tuple[Reply, str | None]:
        """Ask for the next page, again where its answer names a cursor that was used before."""
        cursor = here.cursor if here else None
        used = _digests(here.cursors_used if here else b"") | {_digest(cursor)}
        for attempt in range(1, CURSOR_LOOP_ATTEMPTS_MAX + 1):
            parameters = source.parameters(state.key, window, cursor)
            reply = await self._client.request(source.operation, state.key.scope_id, parameters)
            following = source.next_cursor(reply.answer)
            if following is None or _digest(following) not in used:
                return reply, following
            # The rows are not taken: asked again with a sound cursor behind them, they would come twice.
            await self._journal.settle(replace(reply.attempt, code=CODE_CURSOR_LOOP))
            log.warning("cursor_repeated", stream=str(state.key), page=(here.pages if here else 0) + 1, attempt=attempt)
        raise CursorLoopError(
            "the service returned a NextToken that it had returned before in this window",
            operation=source.operation.name,
            scope_id=state.key.scope_id,
            hint="the window stays open and is tried again; report it to the service when it stays so",
        )

    async def _give_up(
        self, state: StreamState, window: Window, here: OpenWindow | None, date: int, settle: int
    ) -> StreamState:
        """Drop a window that cannot be sealed; its range is planned again, smaller where it was too full."""
        if date - settle > window.start:
            self._span_max[state.id] = max(1, window.seconds // 2)
            log.info("window_too_full", stream=str(state.key), window_seconds=window.seconds)
        else:
            log.warning(
                "server_clock_stepped_back", stream=str(state.key), window_end=window.end, server_date=date,
            )  # fmt: skip
        if here is None:
            return state
        return await self._journal.drop_window(state.id, here.id)

    # Snapshots

    async def collect_snapshot(
        self, source: UserMetricsSource, state: StreamState, interval: int, now: int
    ) -> StreamState:
        """Take the snapshot of the tick that `now` lies in, unless it is stored already.

        The tick is the one in which the first page is answered. Where paging outlasts it, what was
        read is stored and the tick is a gap.
        """
        here = state.open.get(FIRST_LOOK)
        if here is not None and here.window.start != tick_of(now, interval):
            state = await self._seal_partial(state, here, interval)
            here = None
        if here is None and state.sealed_to is not None and state.sealed_to > tick_of(now, interval):
            return state
        sealed = False
        while not sealed:
            state, sealed = await self._next_snapshot_page(source, state, interval)
        return state

    async def _next_snapshot_page(
        self, source: UserMetricsSource, state: StreamState, interval: int
    ) -> tuple[StreamState, bool]:
        here = state.open.get(FIRST_LOOK)
        cursor = here.cursor if here else None
        window = here.window if here else snapshot_window(tick_of(self._server_clock.now(), interval))
        async with self._room.held(source.operation.answer_bytes_max, repeatable=False):
            parameters = source.parameters(state.key, window, cursor)
            reply = await self._client.request(source.operation, state.key.scope_id, parameters)
            tick = tick_of(reply.date, interval)
            if here is not None and tick != here.window.start:
                await self._journal.settle(replace(reply.attempt, code=CODE_NOT_USED))
                return await self._seal_partial(state, here, interval), True
            if here is None:
                window = snapshot_window(tick)
                if state.sealed_to is not None and state.sealed_to > tick:
                    await self._journal.settle(replace(reply.attempt, code=CODE_NOT_USED))
                    return state, True
            page = source.page(state.key, window, cursor, reply.answer)
            following = source.next_cursor(cursor, reply.answer)
            changed = following is None and source.total_changed(cursor, reply.answer)
            reading = here.reading if here else 0
            again = changed and reading + 1 < READINGS_MAX
            gaps = _snapshot_gaps(state, tick, interval, changed and not again)
            several = here is not None and (here.pages > 0 or reading > 0)
            seal = Seal(window.end, reply.date, _whole(source) if several else None, gaps)
            commit = PageCommit(
                stream_id=state.id,
                delay=FIRST_LOOK,
                window=window,
                mode=state.mode(window),
                open_id=here.id if here else None,
                chunks=tuple(chunks(page.rows, state.mode(window)))
                + tuple(dead_letter_chunks(state.key, page.dead, reply.date)),
                strays=(),
                cursor=str(following) if following else None,
                cursor_used=b"",
                last_time=None,
                in_order=True,
                attempt=reply.attempt,
                seal=seal if following is None and not again else None,
                counters=_counters(page),
            )
            state = await self._journal.commit_page(state, commit, self._clock.monotonic())
        if again:
            # Users may have moved from a page that was not read yet to one that was.
            log.info("snapshot_changed_while_paging", stream=str(state.key), reading=reading + 1)
            state = await self._journal.restart_window(state.id, state.open[FIRST_LOOK].id)
        self._note(state, page, sealed=commit.seal is not None, delay=FIRST_LOOK, snapshot=True)
        return state, commit.seal is not None

    async def _seal_partial(self, state: StreamState, here: OpenWindow, interval: int) -> StreamState:
        """A tick is over before its last page: what was read is stored, and the tick is a gap."""
        tick = here.window.start
        gaps = (*_snapshot_gaps(state, tick, interval, False), (Window(tick, tick + interval), "partial"))
        log.warning("snapshot_cut_off", stream=str(state.key), tick=tick, pages=here.pages)
        commit = PageCommit(
            stream_id=state.id, delay=FIRST_LOOK, window=here.window, mode=here.mode, open_id=here.id, chunks=(),
            strays=(), cursor=None, cursor_used=b"", last_time=None, in_order=True, attempt=None,
            seal=Seal(here.window.end, tick, _whole_of_user_metrics, gaps),
        )  # fmt: skip
        return await self._journal.commit_page(state, commit, self._clock.monotonic())

    def _note(self, state: StreamState, page: PageRows, *, sealed: bool, delay: int, snapshot: bool = False) -> None:
        self.progress.pages += 1
        self.progress.rows += sum(len(rows) for rows in page.rows.values())
        if sealed and snapshot:
            self.progress.snapshots += 1
        elif sealed and delay:
            self.progress.rechecks += 1
        elif sealed:
            self.progress.windows += 1
        self._on_page(state)


def _seal(
    window: Window,
    date: int,
    settle: int,
    is_last: bool,
    pages: int,
    in_order: bool,
    last_time: int | None,
    reading: int,
) -> tuple[Seal | None, bool]:
    """Whether the window ends with this page, and where; the second value is true when it must be dropped.

    No window is sealed past the `Date` of its last answer less settle. A window that reached
    `PAGES_MAX` is sealed at its last whole second when its rows come in order.
    """
    end = min(window.end, date - settle)
    if is_last:
        if end <= window.start:
            return None, True
        return Seal(end, date, _rewrite(reading, None if end == window.end else end)), False
    if pages < PAGES_MAX or window.seconds == 1:
        if pages >= PAGES_OF_A_SECOND_MAX:
            raise CursorLoopError(
                f"one second has more than {pages} pages", hint="the service may be paging in a circle"
            )
        return None, False
    if in_order and last_time is not None and window.start < min(last_time, end):
        end = min(last_time, end)
        return Seal(end, date, _rewrite(reading, end)), False
    return None, True


def _rewrite(reading: int, end: int | None) -> Callable[[Sequence[tuple[int, Chunk]]], list[Chunk]] | None:
    if reading == 0 and end is None:
        return None

    def rewrite(pairs: Sequence[tuple[int, Chunk]]) -> list[Chunk]:
        found = merge_readings(pairs) if reading else [chunk for _, chunk in pairs]
        return found if end is None else cut_at(end)(found)

    return rewrite


def _whole(source: UserMetricsSource) -> Callable[[Sequence[tuple[int, Chunk]]], list[Chunk]]:
    def rewrite(pairs: Sequence[tuple[int, Chunk]]) -> list[Chunk]:
        rows: dict[Table, list[Sequence[Any]]] = {}
        kept: list[Chunk] = []
        mode = ShipMode.APPEND
        for _, chunk in pairs:
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


def _snapshot_gaps(state: StreamState, tick: int, interval: int, changed: bool) -> tuple[tuple[Window, str], ...]:
    missed = missed_ticks(state.sealed_to, tick, interval)
    gaps: tuple[tuple[Window, str], ...] = () if missed is None else ((missed, "missed"),)
    return (*gaps, (Window(tick, tick + interval), "changed while paging")) if changed else gaps


def _order(here: OpenWindow | None, times: Sequence[int]) -> tuple[bool, int | None]:
    """Whether the window's rows come in order of time so far, and the newest of them."""
    last = here.last_time if here else None
    in_order = here.in_order if here else True
    if times:
        if in_order:
            known = times if last is None else [last, *times]
            in_order = all(a <= b for a, b in pairwise(known))
        newest = max(times)
        last = newest if last is None else max(last, newest)
    return in_order, last


def _counters(page: PageRows) -> tuple[tuple[str, int], ...]:
    strays = sum(len(rows) for rows in page.strays.values())
    return (("strays", strays), ("dead_letters", len(page.dead)))


def _digest(cursor: str | None) -> bytes:
    return b"" if cursor is None else hashlib.blake2b(cursor.encode(), digest_size=DIGEST_BYTES).digest()


def _digests(used: bytes) -> set[bytes]:
    return {used[i : i + DIGEST_BYTES] for i in range(0, len(used), DIGEST_BYTES)}
