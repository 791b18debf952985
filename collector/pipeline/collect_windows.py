"""Windows of event time, from the service into the journal, page by page."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final, NoReturn

import structlog

from collector.api.client import Reply
from collector.catalogue.operation import Tokens
from collector.clock import STEP_SECONDS_MAX
from collector.errors import AnswerTooLargeError, ApiError, ClockError, CursorError, CursorLoopError
from collector.journal.coverage import REASON_CHARACTERS_MAX
from collector.journal.entries import Chunk, OpenWindow, PageCommit, Rewrite, Seal, StreamState
from collector.model import ShipMode, StreamKey, Window
from collector.pipeline.chunking import chunks, cut_at, each_once, merge_readings, stray_chunks
from collector.pipeline.clock_watch import HINT
from collector.pipeline.collecting import (
    CODE_NOT_USED,
    GAP_CHANGED,
    GAP_CUT_OFF,
    GAP_LEFT,
    GAP_PARTIAL,
    GAP_TOO_LARGE,
    READINGS_MAX,
    SECONDS_TOO_LARGE_MAX,
    Collecting,
    counters,
    dead_letters,
    is_cut_short,
)
from collector.pipeline.repeats import DIGEST_BYTES, PageWatch, loop_error, page_digest
from collector.pipeline.windows import FIRST_LOOK, SPAN_SECONDS_MAX, Planned, looked_again
from collector.sources.page import PageRows
from collector.sources.source import WindowSource
from collector.sources.tables import TABLES
from collector.telemetry import tracing

log = structlog.get_logger(__name__)

PAGES_MAX: Final = 490
"""Pages of a window: with 100 records each it stays within one block of the engine."""

ROWS_MAX: Final = 49_000
"""Rows that a window is planned to have at most, where its pages can be told beforehand: one block of the engine."""

PAGES_OF_A_SECOND_MAX: Final = 10_000
"""A window of one second cannot be made smaller; beyond this it is an error."""

STALE_ANSWERS_MAX: Final = 4
"""Answers in a row that are dated before the window may end. Then the stream fails, rather than to seem collected."""

CURSOR_LOOP_ATTEMPTS_MAX: Final = 3
CODE_CURSOR_LOOP: Final = "cursor_loop"
CODE_TOO_FULL: Final = "too_full"
"""Code of a call whose answer showed that its window has to be smaller."""
CODE_PAGES_REPEAT: Final = "pages_repeat"
"""Code of a call whose answer showed that the list of its window brings nothing new any more."""


@dataclass(frozen=True, slots=True)
class _Ending:
    """What a page means for its window."""

    seal: Seal | None = None
    is_dropped: bool = False
    """The window cannot be sealed: its range is asked again as other windows."""
    is_reread: bool = False
    """The list changed while it was paged: the window is read again from its start."""


async def collect_window(
    collecting: Collecting, source: WindowSource, state: StreamState, planned: Planned, settle: int
) -> StreamState:
    """Read a window to its last page and seal it; returns the stream as it is then.

    No window is sealed past the `Date` of its last answer less `settle`. The stream's state is unchanged where
    nothing could be sealed. Raises ApiError; what was read is in the journal and the next call goes on behind it.
    """
    reader = _WindowReader(collecting, source, planned, settle)
    window = planned.window
    with tracing.span("window", stream=str(state.key), start=window.start, end=window.end, delay=planned.delay):
        is_done = False
        while not is_done:
            with tracing.span("page", stream=str(state.key)):
                state, is_done = await reader.next_page(state)
    return state


def span_max(collecting: Collecting, state: StreamState) -> int:
    """Seconds that a window of this stream may span: less after one did not fit."""
    return collecting.span_max.get(state.id, SPAN_SECONDS_MAX)


async def cut_short(collecting: Collecting, stream_id: int, end: int, error: ApiError) -> StreamState:
    """Finish a stream whose scope left at `end` and is refused since: what was not read of it is a gap.

    Rows that were read stay. Rechecks that are left are not made up for: their range was collected.
    """
    journal = collecting.journal
    state = await journal.stream(stream_id)
    now, reason = collecting.server_clock.now(), f"{GAP_LEFT}: {error}"[:REASON_CHARACTERS_MAX]
    log.warning("stream_cut_short", stream=str(state.key), window_end=end, error=str(error))
    for delay, here in [(delay, here) for delay, here in state.open.items() if delay >= FIRST_LOOK]:
        gaps = ((here.window, reason),) if delay == FIRST_LOOK else ()
        seal = Seal(here.window.end, now, _rewrite(state.key, here.pages, here.reading, None, is_complete=False), gaps)
        state = await _sealed(collecting, state, Planned(here.window, here.mode, delay), here, seal)
    if state.sealed_to is not None and state.sealed_to < end:
        window = Window(state.sealed_to, end)
        seal = Seal(end, now, gaps=((window, reason),))
        await _sealed(collecting, state, Planned(window, ShipMode.APPEND), None, seal)
    await journal.set_rechecks(stream_id, dict.fromkeys(state.rechecks, end))
    await journal.set_error(stream_id, "", now)
    return await journal.stream(stream_id)


async def seal_in_part(collecting: Collecting, state: StreamState, delays: Container[int] | None = None) -> StreamState:
    """Store what was read of the windows of a stream that do not resume soon: of `delays`, None for all but backfills.

    Each is sealed at its last whole second, and the rest is requested again. A window whose rows do not come in order,
    or are all of its first second, stays open, since its rows do not show up to when it is complete: they are shipped
    by comparison and cover nothing.
    """
    for delay, here in list(state.open.items()):
        if delay < FIRST_LOOK if delays is None else delay not in delays:
            continue
        if (seal := _whole_seconds(state.key, here)) is None:
            if collecting.released.get(here.id) != (here.reading, here.pages):
                await collecting.journal.release_rows(here.id, collecting.clock.monotonic())
                collecting.released[here.id] = (here.reading, here.pages)
                log.info("window_stored_in_part", stream=str(state.key), pages=here.pages)
                state = await collecting.journal.stream(state.id)
        else:
            log.info("window_sealed_in_part", stream=str(state.key), pages=here.pages, window_end=seal.end)
            state = await _sealed(collecting, state, Planned(here.window, here.mode, delay), here, seal)
    return state


def _whole_seconds(key: StreamKey, here: OpenWindow) -> Seal | None:
    if not here.in_order or here.last_time is None or here.last_time <= here.window.start:
        return None
    end = min(here.last_time, here.window.end)
    # Dated by what it proves itself: no recheck is spared by it.
    return Seal(end, end, _rewrite(key, here.pages, here.reading, end))


async def _sealed(
    at: Collecting, state: StreamState, planned: Planned, here: OpenWindow | None, seal: Seal
) -> StreamState:
    """Seal a window with the pages that were read of it."""
    commit = PageCommit(
        stream_id=state.id, delay=planned.delay, window=planned.window, mode=planned.mode,
        open_id=here.id if here else None, chunks=(), strays=(), cursor=None, cursor_used=b"",
        last_time=here.last_time if here else None, in_order=True, attempt=None, seal=seal,
    )  # fmt: skip
    return await at.journal.commit_page(state, commit, at.clock.monotonic())


class _WindowReader:
    """Reads one window."""

    def __init__(self, collecting: Collecting, source: WindowSource, planned: Planned, settle: int) -> None:
        self._at = collecting
        self._source = source
        self._planned = planned
        self._settle = settle
        self._watch = PageWatch()

    async def next_page(self, state: StreamState) -> tuple[StreamState, bool]:
        """Read one more page; the second value is true when the window is done with."""
        planned, source, journal = self._planned, self._source, self._at.journal
        here = state.open.get(planned.delay)
        window = here.window if here else planned.window
        cursor = here.cursor if here else None
        async with self._at.room.held(source.operation.answer_bytes_max, repeatable=True):
            try:
                reply, following = await self._ask_once(state, window, here)
            except CursorError as error:
                if here is None or cursor is None:
                    raise
                if here.reading + 1 >= READINGS_MAX:
                    # Or every later call would ask with the same dead cursor.
                    if (seal := _whole_seconds(state.key, here)) is None:
                        await journal.drop_window(state.id, here.id)
                    else:
                        await self._seal_as_it_is(state, window, here, seal)
                    raise
                log.info("cursor_died", stream=str(state.key), pages=here.pages, code=error.code)
                return await journal.restart_window(state.id, here.id), False
            except AnswerTooLargeError as error:
                return await self._ask_for_less(state, window, here, error), True
            page = source.page(state.key, window, cursor, reply.answer)
            page.is_short |= is_cut_short(source.operation, reply.answer, here.pages if here else 0)
            digest = page_digest(source, page)
            if digest and digest in _digests(here.cursors_used if here else b""):
                # A page that spans seconds and came before: its rows are in the journal.
                page = PageRows(record_count=page.record_count, has_changed=page.has_changed, is_short=page.is_short)
                log.warning("page_repeated", stream=str(state.key), page=(here.pages if here else 0) + 1)
                fault = self._watch.repeated()
            else:
                fault = ""
                if following is not None:
                    fault = self._watch.window_fault(source, reply.answer, page, here.last_time if here else None)
            if fault:
                await self._abandon(state, window, here, reply, fault)
            # A look that is late enough for the last recheck stands for it.
            if reply.date - max(state.rechecks, default=0) >= window.end:
                _take_unsure(page)
            in_order, last_time = _order(here, page)
            # Of seconds that an answer's date does not prove, it may lack records.
            in_order &= not page.times or max(page.times) < reply.date - self._settle
            rows = chunks(page.rows, planned.mode)
            size = (here.bytes if here else 0) + sum(len(chunk.body) for chunk in rows)
            ending = self._ending(state.key, window, here, page, size, reply.date, following, in_order, last_time)
            if ending.is_dropped:
                code = CODE_TOO_FULL if reply.date - self._settle > window.start else CODE_NOT_USED
                await journal.settle(replace(reply.attempt, code=code))
                return await self._give_up(state, window, here, reply.date), True
            commit = PageCommit(
                stream_id=state.id,
                delay=planned.delay,
                window=window,
                mode=planned.mode,
                open_id=here.id if here else None,
                chunks=tuple(rows) + tuple(dead_letters(state.key, source.operation, page.dead, reply)),
                strays=tuple(stray_chunks(page)),
                cursor=following,
                cursor_used=_digest(cursor) + digest,
                last_time=last_time,
                in_order=in_order,
                attempt=reply.attempt,
                seal=ending.seal,
                counters=(*counters(page, reply), *self._calls()),
            )
            if ending.seal is not None and here is None and ending.seal.rewrite is not None:
                # The only page can be cut before it is written.
                commit = replace(commit, chunks=tuple(ending.seal.rewrite([(0, c) for c in commit.chunks])))
                commit = replace(commit, seal=replace(ending.seal, rewrite=None))
            state = await journal.commit_page(state, commit, self._at.clock.monotonic())
        if ending.is_reread:
            log.info("list_changed_while_paging", stream=str(state.key), reading=(here.reading if here else 0) + 1)
            state = await journal.restart_window(state.id, state.open[planned.delay].id)
        if ending.seal is not None:
            self._at.stale.pop(state.id, None)
            self._at.seconds_too_large.pop(state.id, None)
            self._widen(state, here, page, max(size, reply.bytes))
        self._at.on_page(state, page.record_count)
        return state, ending.seal is not None

    async def _ask_once(self, state: StreamState, window: Window, here: OpenWindow | None) -> tuple[Reply, str | None]:
        """Ask for the next page, again where its answer names a cursor that was used before."""
        source = self._source
        cursor = here.cursor if here else None
        used = _digests(here.cursors_used if here else b"") | {_digest(cursor)}
        for attempt in range(1, CURSOR_LOOP_ATTEMPTS_MAX + 1):
            parameters = source.parameters(state.key, window, cursor)
            reply = await self._at.client.request(source.operation, state.key.scope_id, parameters)
            following = source.next_cursor(cursor, reply.answer)
            if following is None or _digest(following) not in used:
                return reply, following
            # The rows are not taken: asked again with a sound cursor behind them, they would come twice.
            await self._at.journal.settle(replace(reply.attempt, code=CODE_CURSOR_LOOP))
            log.warning("cursor_repeated", stream=str(state.key), page=(here.pages if here else 0) + 1, attempt=attempt)
        raise CursorLoopError(
            "the service returned a NextToken that it had returned before in this window",
            operation=source.operation.name,
            scope_id=state.key.scope_id,
            hint="the window stays open and is tried again; report it to the service when it stays so",
        )

    def _ending(
        self,
        key: StreamKey,
        window: Window,
        here: OpenWindow | None,
        page: PageRows,
        size: int,
        date: int,
        following: str | None,
        in_order: bool,
        last_time: int | None,
    ) -> _Ending:
        """Return whether the window ends with this page, and where. `size` is the bytes of its rows so far.

        A window that reached `PAGES_MAX` or the bytes that a window may have is sealed at its last whole second if
        its rows come in order. As long as they are of its first second, there is no such second yet.
        """
        end = min(window.end, date - self._settle)
        pages = (here.pages if here else 0) + 1
        reading = here.reading if here else 0
        if window.seconds > 1 and (page.is_full or self._is_too_wide(here, page)):
            return _Ending(is_dropped=True)
        if end <= window.start and (here is None or following is None):
            # Pages behind this one would hardly prove more.
            return _Ending(is_dropped=True)
        gaps: tuple[tuple[Window, str], ...] = ((window, GAP_CUT_OFF),) if page.is_full else ()
        if following is None:
            if page.is_short and here is not None and isinstance(self._source.operation.paging, Tokens):
                # The cursor ended too early: up to its last whole second the list is complete all the same.
                seal = _whole_seconds(key, here)
                if seal is not None and seal.end <= end:
                    return _Ending(seal)
            if (page.has_changed or page.is_short) and reading + 1 < READINGS_MAX:
                return _Ending(is_reread=True)
            if page.has_changed or page.is_short:
                gaps += ((Window(window.start, end), GAP_PARTIAL if page.is_short else GAP_CHANGED),)
            rewrite = _rewrite(key, pages, reading, None if end == window.end else end, is_complete=not gaps)
            return _Ending(Seal(end, date, rewrite, gaps))
        is_one_second = window.seconds == 1 or (in_order and last_time == window.start)
        if window.seconds == 1 and size >= self._at.second_bytes_max:
            rewrite = _rewrite(key, pages, reading, None, is_complete=False)
            return _Ending(Seal(end, date, rewrite, (*gaps, (window, GAP_CUT_OFF))))
        if is_one_second and size >= self._at.second_bytes_max:
            return _Ending(is_dropped=True)
        if is_one_second or (pages < PAGES_MAX and size < self._at.bounds.window):
            if pages >= PAGES_OF_A_SECOND_MAX:
                raise CursorLoopError(
                    f"one second has more than {pages} pages", hint="the service may be paging in a circle"
                )
            return _Ending()
        if in_order and last_time is not None and window.start < min(last_time, end):
            end = min(last_time, end)
            return _Ending(Seal(end, date, _rewrite(key, pages, reading, end), gaps))
        return _Ending(is_dropped=True)

    def _calls(self) -> tuple[tuple[str, int], ...]:
        """What the page's call was for, where it was no first look."""
        name = looked_again(self._planned.delay)
        return ((f"{name}_calls/{self._source.operation.name}", 1),) if name else ()

    def _is_too_wide(self, here: OpenWindow | None, page: PageRows) -> bool:
        """Whether the first page shows that all pages together would outgrow a block."""
        rows = sum(len(each) for each in page.rows.values())
        return here is None and rows * self._source.pages_of_window > ROWS_MAX

    async def _abandon(
        self, state: StreamState, window: Window, here: OpenWindow | None, reply: Reply, fault: str
    ) -> NoReturn:
        """Drop a window whose pages bring nothing new: smaller ones may end. Raises CursorLoopError."""
        await self._at.journal.settle(replace(reply.attempt, code=CODE_PAGES_REPEAT))
        self._at.span_max[state.id] = max(1, window.seconds // 2)
        if here is not None:
            await self._at.journal.drop_window(state.id, here.id)
        raise loop_error(self._source.operation.name, state.key.scope_id, fault)

    async def _ask_for_less(
        self, state: StreamState, window: Window, here: OpenWindow | None, error: AnswerTooLargeError
    ) -> StreamState:
        """Seal what was read of a window whose next page is too large, or drop it for a shorter one.

        One second cannot be made shorter: it is a gap. Raises `error` after too many of them in a row.
        """
        self._at.span_max[state.id] = max(1, window.seconds // 2)
        log.info("answer_too_large", stream=str(state.key), window_seconds=window.seconds)
        last_time = here.last_time if here is not None and here.in_order else None
        reading, pages = (here.reading, here.pages) if here else (0, 0)
        date = error.date
        if last_time is not None and window.start < (end := min(last_time, date - self._settle)):
            return await self._seal_as_it_is(
                state, window, here, Seal(end, date, _rewrite(state.key, pages, reading, end))
            )
        if window.seconds == 1 and window.end <= date - self._settle:
            seconds = self._at.seconds_too_large.get(state.id, 0) + 1
            if seconds > SECONDS_TOO_LARGE_MAX:
                raise error
            self._at.seconds_too_large[state.id] = seconds
            rewrite = _rewrite(state.key, pages, reading, None, is_complete=False)
            seal = Seal(window.end, date, rewrite, ((window, GAP_TOO_LARGE),))
            return await self._seal_as_it_is(state, window, here, seal)
        return state if here is None else await self._at.journal.drop_window(state.id, here.id)

    async def _seal_as_it_is(
        self, state: StreamState, window: Window, here: OpenWindow | None, seal: Seal
    ) -> StreamState:
        return await _sealed(self._at, state, replace(self._planned, window=window), here, seal)

    async def _give_up(self, state: StreamState, window: Window, here: OpenWindow | None, date: int) -> StreamState:
        """Drop a window that cannot be sealed; its range is planned again, smaller where it was too full."""
        if date - self._settle > window.start:
            self._at.span_max[state.id] = max(1, window.seconds // 2)
            log.info("window_overflowed", stream=str(state.key), window_seconds=window.seconds)
        else:
            log.warning(
                "server_clock_stepped_back", stream=str(state.key), window_end=window.end, server_date=date,
            )  # fmt: skip
            self._count_stale(state, window, date)
        if here is None:
            return state
        return await self._at.journal.drop_window(state.id, here.id)

    def _count_stale(self, state: StreamState, window: Window, date: int) -> None:
        """Count an answer that proves less than is due. Raises ClockError if it is one of too many."""
        seconds = self._at.server_clock.now() - date
        if seconds <= STEP_SECONDS_MAX:
            # The time was corrected meanwhile, and the window is not due yet.
            self._at.stale.pop(state.id, None)
            return
        count = self._at.stale[state.id] = self._at.stale.get(state.id, 0) + 1
        if count >= STALE_ANSWERS_MAX:
            del self._at.stale[state.id]
            raise ClockError(
                f"the service's answers are dated {seconds} s before the present time, so nothing after "
                f"{date - self._settle} can be taken for complete",
                operation=self._source.operation.name, scope_id=state.key.scope_id, hint=HINT,
            )  # fmt: skip

    def _widen(self, state: StreamState, here: OpenWindow | None, page: PageRows, size: int) -> None:
        """After a storm windows grow again, but not so fast that the next one is dropped too."""
        span = self._at.span_max.get(state.id)
        records_max = self._source.operation.records_max
        pages = (here.pages if here else 0) + 1
        is_light = size < self._at.bounds.window // 4 and (
            pages < PAGES_MAX // 4
            if self._source.operation.paging or not records_max
            else (page.record_count < records_max // 4)
        )
        if span is None or not is_light:
            return
        if 2 * span >= SPAN_SECONDS_MAX:
            del self._at.span_max[state.id]
        else:
            self._at.span_max[state.id] = 2 * span


def _take_unsure(page: PageRows) -> None:
    """No later look will see them surer."""
    for table, rows in page.unsure.items():
        page.rows.setdefault(table, []).extend(rows)


def _rewrite(key: StreamKey, pages: int, reading: int, end: int | None, *, is_complete: bool = True) -> Rewrite | None:
    """Return what the rows of a window become before they are shipped: those of `reading`, complete up to `end`."""
    # A list that shifts while it is paged brings a record on two pages; where identity is a key, it is one row.
    is_keyed = pages > 1 and any(key.operation in table.stream_columns for table in TABLES.values())
    if reading == 0 and end is None and not is_keyed:
        return None

    def rewrite(pairs: Iterable[tuple[int, Chunk]]) -> Iterator[Chunk]:
        found = merge_readings(pairs, reading if is_complete else None) if reading else (chunk for _, chunk in pairs)
        if is_keyed:
            found = each_once(found)
        return iter(found) if end is None else cut_at(end)(found)

    return rewrite


def _order(here: OpenWindow | None, page: PageRows) -> tuple[bool, int | None]:
    """Whether the rows come in order of time so far, and the newest of the window.

    Those of the margin count too: of the window itself a page may hold few rows, which are in order by chance.
    """
    times, last = page.times, here.last_time if here else None
    in_order = (here.in_order if here else True) and not page.is_disordered
    if times:
        if in_order:
            known = [*times] if last is None else [last, *times]
            in_order = known == sorted(known)
        newest = max(times)
        last = newest if last is None else max(last, newest)
    return in_order, last


def _digest(cursor: str | None) -> bytes:
    return b"" if cursor is None else hashlib.blake2b(cursor.encode(), digest_size=DIGEST_BYTES).digest()


def _digests(used: bytes) -> set[bytes]:
    return {used[i : i + DIGEST_BYTES] for i in range(0, len(used), DIGEST_BYTES)}
