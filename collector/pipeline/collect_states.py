"""Things that exist and change, from the service into the journal: a row for each state that was seen.

What was seen last stands in the journal, so a list that is as it was costs its calls and no row. A list
that was interrupted goes on where it stood.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import structlog

from collector.api.client import Reply
from collector.catalogue.answers import Answer
from collector.errors import AnswerTooLargeError, ApiError, CursorError, InvalidAnswerError, NotFoundError
from collector.journal.entries import KnownObject, OpenWindow, PageCommit, Seal, StreamState
from collector.model import ShipMode, Window
from collector.pipeline.chunking import chunks
from collector.pipeline.collecting import (
    GAP_PARTIAL,
    READINGS_MAX,
    Collecting,
    dead_letters,
    is_cut_short,
    sized,
    smaller_page,
    widen_pages,
)
from collector.pipeline.repeats import PageWatch
from collector.pipeline.windows import FIRST_LOOK, snapshot_window, tick_of
from collector.sources.normalise import as_json
from collector.sources.source import DetailedSource, Observed, Seen, StateSource
from collector.sources.tables import Row
from collector.telemetry import tracing

log = structlog.get_logger(__name__)


async def collect_states(
    collecting: Collecting, source: StateSource, state: StreamState, interval: int, now: int
) -> StreamState:
    """Look at a list of objects in the tick that `now` lies in, unless that was done already.

    Raises ApiError; what was read is in the journal and the next call goes on behind it.
    """
    if FIRST_LOOK not in state.open and state.sealed_to is not None and state.sealed_to > tick_of(now, interval):
        return state
    looking = _Looking(collecting, source, await collecting.journal.known_objects(state.id), interval)
    with tracing.span("window", stream=str(state.key), start=tick_of(now, interval)):
        is_sealed = False
        while not is_sealed:
            with tracing.span("page", stream=str(state.key)):
                state, is_sealed = await looking.next_page(state)
        await looking.look_closer(state)
    return state


async def seal_list(collecting: Collecting, state: StreamState, interval: int) -> StreamState:
    """Store what was read of a list that does not resume soon, as a list in part; without one nothing."""
    here = state.open.get(FIRST_LOOK)
    if here is None:
        return state
    window = here.window
    commit = PageCommit(
        stream_id=state.id, delay=FIRST_LOOK, window=window, mode=here.mode, open_id=here.id, chunks=(), strays=(),
        cursor=None, cursor_used=b"", last_time=None, in_order=True, attempt=None,
        seal=Seal(window.end, window.start, gaps=((Window(window.start, window.start + interval), GAP_PARTIAL),)),
    )  # fmt: skip
    return await collecting.journal.commit_page(state, commit, collecting.clock.monotonic())


async def note_object(collecting: Collecting, source: StateSource, state: StreamState, reply: Reply) -> bool:
    """Store the object of a call that was made outside of a list, if its state is new; settles the call."""
    known = await collecting.journal.known_objects(state.id)
    looking = _Looking(collecting, source, known, interval=1)
    return await looking.note(state, None, reply)


class _Looking:
    """One look at a list."""

    def __init__(
        self, collecting: Collecting, source: StateSource, known: dict[str, KnownObject], interval: int
    ) -> None:
        self._at = collecting
        self._source = source
        self._known = known
        self._interval = interval
        self._closer: dict[str, Observed] = {}
        """Objects that the list says have changed, where that takes a call of its own."""
        self._watch = PageWatch()

    @property
    def _detailed(self) -> DetailedSource | None:
        return self._source if hasattr(self._source, "detail_operation") else None  # type: ignore[return-value]

    async def next_page(self, state: StreamState) -> tuple[StreamState, bool]:
        at, source = self._at, sized(self._source, self._at.page_sizes.get(state.id))
        here = state.open.get(FIRST_LOOK)
        cursor = here.cursor if here else None
        async with at.room.held(source.operation.answer_bytes_max, repeatable=True):
            try:
                reply = await at.client.request(
                    source.operation, state.key.scope_id, source.parameters(state.key, cursor)
                )
            except CursorError as error:
                if here is None or cursor is None:
                    raise
                if here.reading + 1 >= READINGS_MAX:
                    # Or every later call would ask with the same dead cursor.
                    await at.journal.drop_window(state.id, here.id)
                    raise
                log.info("cursor_died", stream=str(state.key), pages=here.pages, code=error.code)
                return await at.journal.restart_window(state.id, here.id), False
            except AnswerTooLargeError as error:
                return await self._ask_for_less(state, source, here, error)
            seen = source.page(state.key, cursor, reply.answer)
            seen.is_short |= is_cut_short(source.operation, reply.answer, here.pages if here else 0)
            following = source.next_cursor(cursor, reply.answer)
            fault = self._watch.fault(each.object_id for each in seen.objects) if following is not None else ""
            if fault:
                log.warning("list_does_not_end", stream=str(state.key), problem=fault)
                following, seen.is_short = None, True
            window = here.window if here else snapshot_window(tick_of(reply.date, self._interval))
            reading = here.reading if here else 0
            is_incomplete = seen.has_changed or seen.is_short
            is_reread = following is None and is_incomplete and reading + 1 < READINGS_MAX
            is_last = following is None and not is_reread
            rows, objects = self._compare(seen, reply.date, window.start, state.key.region)
            self._learn(objects)
            if is_last and source.lists_all and not is_incomplete:
                gone = [known for known in self._known.values() if known.is_present and known.seen_at != window.start]
                rows += [_gone_row(known, reply.date, state.key.region) for known in gone]
                objects += [replace(known, is_present=False, listed=None, seen_at=reply.date) for known in gone]
                self._learn(objects)
            commit = PageCommit(
                stream_id=state.id,
                delay=FIRST_LOOK,
                window=window,
                mode=ShipMode.APPEND,
                open_id=here.id if here else None,
                chunks=tuple(chunks({source.tables[0]: rows}, ShipMode.APPEND)) if rows else (),
                strays=(),
                cursor=following,
                cursor_used=b"",
                last_time=None,
                in_order=True,
                attempt=reply.attempt,
                seal=Seal(window.end, reply.date, gaps=self._gaps(seen, window.start)) if is_last else None,
                counters=(
                    ("dead_letters", len(seen.dead)),
                    ("replaced_bytes", reply.answer.replaced_bytes),
                ),
                objects=tuple(objects),
            )
            letters = tuple(dead_letters(state.key, source.operation, seen.dead, reply))
            state = await at.journal.commit_page(
                state, replace(commit, chunks=commit.chunks + letters), at.clock.monotonic()
            )
        if is_reread:
            log.info("list_changed_while_paging", stream=str(state.key), reading=reading + 1)
            state = await at.journal.restart_window(state.id, state.open[FIRST_LOOK].id)
            self._watch = PageWatch()
        widen_pages(at, state.id, source.operation, self._source.page_size, reply.bytes, is_last=is_last)
        at.on_page(state, len(seen.objects))
        return state, is_last

    async def _ask_for_less(
        self, state: StreamState, source: StateSource, here: OpenWindow | None, error: AnswerTooLargeError
    ) -> tuple[StreamState, bool]:
        """Begin the list again with smaller pages; raises `error` if they cannot be smaller."""
        smaller = smaller_page(source.operation, source.page_size)
        log.info("answer_too_large", stream=str(state.key), page_size=source.page_size)
        if smaller is None:
            if here is not None:
                await self._at.journal.drop_window(state.id, here.id)
            raise error
        self._at.page_sizes[state.id] = smaller
        return (state if here is None else await self._at.journal.restart_window(state.id, here.id)), False

    def _gaps(self, seen: Seen, tick: int) -> tuple[tuple[Window, str], ...]:
        return ((Window(tick, tick + self._interval), GAP_PARTIAL),) if seen.is_short else ()

    def _compare(self, seen: Seen, now: int, tick: int, region: str) -> tuple[list[Row], list[KnownObject]]:
        """The rows of objects whose state is new, and what is known of all of the page from here on."""
        rows: list[Row] = []
        objects: dict[str, KnownObject] = {}
        for observed in seen.objects:
            known = objects.get(observed.object_id) or self._known.get(observed.object_id)
            if self._detailed is not None:
                if known is None or known.listed != observed.fingerprint:
                    self._closer[observed.object_id] = observed
                if known is not None:
                    objects[known.object_id] = replace(known, seen_at=tick, is_present=True)
                continue
            if known is None or known.fingerprint != observed.fingerprint or not known.is_present:
                rows.append(observed.row(now, region))
            objects[observed.object_id] = _known(observed, observed.fingerprint, tick)
        return rows, list(objects.values())

    async def look_closer(self, state: StreamState) -> None:
        """Ask for each object that the list said has changed.

        Raises InvalidAnswerError if the answer about one cannot be read, when all others were asked for.
        """
        source = self._detailed
        unreadable: ApiError | None = None
        for object_id, listed in list(self._closer.items()):
            assert source is not None
            async with self._at.room.held(source.detail_operation.answer_bytes_max, repeatable=True):
                try:
                    reply = await self._at.client.request(
                        source.detail_operation, object_id, source.detail_parameters(object_id)
                    )
                except NotFoundError:
                    # It ended between the two calls; the next list tells.
                    continue
                except (AnswerTooLargeError, InvalidAnswerError) as error:
                    unreadable = unreadable or error
                    continue
                try:
                    await self.note(state, listed, reply)
                except RecursionError:
                    await self._at.journal.settle(reply.attempt)
                    too_deep = InvalidAnswerError("the answer is nested too deeply", operation=reply.attempt.operation)
                    unreadable = unreadable or too_deep
        if unreadable is not None:
            raise unreadable

    async def note(self, state: StreamState, listed: Observed | None, reply: Reply) -> bool:
        """Take the object out of its own answer, and store its state if that is new."""
        observed = self._observed(state, listed, reply.answer)
        if observed is None:
            await self._at.journal.settle(reply.attempt)
            return False
        known = self._known.get(observed.object_id)
        is_new = known is None or known.fingerprint != observed.fingerprint or not known.is_present
        rows: dict[Any, list[Row]] = {self._source.tables[0]: [observed.row(reply.date, state.key.region)]}
        told = listed.fingerprint if listed is not None else known.listed if known is not None else None
        now_known = _known(observed, told, known.seen_at if known is not None else reply.date)
        await self._at.journal.commit_observation(
            state.id,
            chunks(rows, ShipMode.APPEND) if is_new else (),
            [now_known],
            reply.attempt,
            self._at.clock.monotonic(),
        )
        self._learn([now_known])
        return is_new

    def _observed(self, state: StreamState, listed: Observed | None, answer: Answer) -> Observed | None:
        if self._detailed is not None:
            return self._detailed.detailed(listed, answer)
        objects = self._source.page(state.key, None, answer).objects
        return objects[0] if objects else None

    def _learn(self, objects: Iterable[KnownObject]) -> None:
        self._known |= {known.object_id: known for known in objects}


def _known(observed: Observed, listed: int | None, seen_at: int) -> KnownObject:
    return KnownObject(
        object_id=observed.object_id,
        listed=listed,
        fingerprint=observed.fingerprint,
        is_present=True,
        ended_at=observed.ended_at,
        seen_at=seen_at,
        state=as_json(list(observed.values)),
    )


def _gone_row(known: KnownObject, now: int, region: str) -> Row:
    """The row that says that an object is gone: its last state, not present."""
    values: Sequence[Any] = msgspec.json.decode(known.state)
    return (now, region, known.object_id, 0, known.fingerprint, *values)
