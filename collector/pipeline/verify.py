"""Verify: ask a range again and hold every field of every record against what is stored.

A stream is read in windows, page by page. Rows that come in order of time are judged as they come, so that memory
is bounded by what one second holds, not by the range.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from random import Random
from typing import Any, Final

from collector.errors import AnswerTooLargeError, ApiError, CursorError, StoreError, StoreTooLarge
from collector.journal.entries import StreamState
from collector.model import StreamKey, Window
from collector.pipeline.collecting import READINGS_MAX, Collecting, is_cut_short
from collector.pipeline.repeats import PageWatch, loop_error, page_digest
from collector.pipeline.windows import SPAN_SECONDS_MAX
from collector.sources.page import PageRows
from collector.sources.source import WindowSource
from collector.sources.tables import Table
from collector.store.base import Store

Values = tuple[Any, ...]

JUDGED_ROWS: Final = 20_000
"""Rows in order that are gathered before they are judged."""
ROWS_MAX: Final = 200_000
"""Rows of a window that are held at once; where they come in no order, a window with more is halved."""
STORED_ROWS_MAX: Final = 1_000_000
"""A range with more stored rows than this is not read: something is wrong with it in a way that counting shows."""
SAMPLE_SECONDS: Final = 600
"""Length of a window of a sample."""
TIMES: Final = frozenset({"receive_time"})
"""Columns besides a table's own time that hold seconds."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One difference between what the service answers and what is stored."""

    kind: str
    """`missing`: answered, not stored. `extra`: stored, not answered, or more often. `different`: another field."""
    table: str
    scope_id: str
    time: int
    answered: dict[str, Any] | None
    stored: dict[str, Any] | None
    fields: tuple[str, ...] = ()
    """Columns that differ."""


@dataclass(slots=True)
class Verified:
    """What was compared, and how much of it differs."""

    records: int = 0
    """Records that the service answered."""
    stored: int = 0
    calls: int = 0
    windows: int = 0
    seconds: int = 0
    """Event time that was judged."""
    kinds: Counter[str] = field(default_factory=Counter)


def sampled(windows: Sequence[tuple[StreamKey, Window]], count: int, random: Random) -> list[tuple[StreamKey, Window]]:
    """`count` random windows of `SAMPLE_SECONDS` at most, each second as likely as any other; overlaps are left out."""
    weights = [-(-window.seconds // SAMPLE_SECONDS) for _, window in windows]
    total = sum(weights)
    chosen = sorted(random.sample(range(total), min(count, total)))
    found, begin, at = [], 0, 0
    for (key, window), weight in zip(windows, weights, strict=True):
        while at < len(chosen) and chosen[at] < begin + weight:
            start = window.start + (chosen[at] - begin) * SAMPLE_SECONDS
            found.append((key, Window(start, min(window.end, start + SAMPLE_SECONDS))))
            at += 1
        begin += weight
    return found


class Verifier:
    """Judges windows of streams. Nothing is stored, and every call is metered."""

    def __init__(self, collecting: Collecting, store: Store) -> None:
        self._at = collecting
        self._store = store
        self.verified = Verified()

    async def judge(self, source: WindowSource, state: StreamState, window: Window) -> AsyncIterator[Finding]:
        """The differences of one window. Raises ApiError and StoreError."""
        start, span = window.start, SPAN_SECONDS_MAX
        while start < window.end:
            part = Window(start, min(window.end, start + span))
            reader = _Reader(self._at, source, state, part, self.verified)
            is_whole = True
            async for upto, rows, unsure in reader.read():
                if upto is None:
                    is_whole = False
                    break
                if upto > start:
                    async for finding in self._compare(source, state, Window(start, upto), rows, unsure):
                        yield finding
                start = upto
            if not is_whole:
                span = max(1, part.seconds // 2)
            self.verified.windows += is_whole

    async def _compare(
        self, source: WindowSource, state: StreamState, window: Window, rows: _Rows, unsure: _Rows
    ) -> AsyncIterator[Finding]:
        try:
            held = {table: await _stored(self._store, table, state.key, window) for table in source.tables}
        except StoreTooLarge:
            if window.seconds == 1:
                raise
            middle = window.start + window.seconds // 2
            first, rest = _split(rows, middle)
            unsure_first, unsure_rest = _split(unsure, middle)
            async for finding in self._compare(source, state, Window(window.start, middle), first, unsure_first):
                yield finding
            async for finding in self._compare(source, state, Window(middle, window.end), rest, unsure_rest):
                yield finding
            return
        self.verified.seconds += window.seconds
        for table, stored in held.items():
            answered = rows.get(table, [])
            if state.key.filters:
                # Which of the target's other rows the service selects only it knows: none of them is too much.
                selected = {_hashable(row) for row in (*answered, *unsure.get(table, []))}
                stored = [row for row in stored if row in selected]
            self.verified.records += len(answered)
            self.verified.stored += len(stored)
            for finding in differences(table, state.key.scope_id, answered, stored, unsure.get(table, [])):
                self.verified.kinds[finding.kind] += 1
                yield finding


_Rows = dict[Table, list[Values]]


class _Reader:
    """Reads one window to its last page."""

    def __init__(
        self, at: Collecting, source: WindowSource, state: StreamState, window: Window, verified: Verified
    ) -> None:
        self._at = at
        self._source = source
        self._state = state
        self._window = window
        self._verified = verified

    async def read(self) -> AsyncIterator[tuple[int | None, _Rows, _Rows]]:
        """(up to when, the rows until then, those that may still change); None: the window is too full to be held.

        An order that breaks, a list that changes or a cursor that dies begins the rest of the window anew.
        """
        window, readings = self._window, 0
        while True:
            try:
                async for upto, rows, unsure in self._once(window):
                    yield upto, rows, unsure
                    if upto is not None and upto < window.end:
                        window = Window(upto, window.end)
                return
            except _Again as again:
                readings += 1
                if readings >= READINGS_MAX:
                    raise again.error from None

    async def _once(self, window: Window) -> AsyncIterator[tuple[int | None, _Rows, _Rows]]:
        source, state = self._source, self._state
        rows: _Rows = defaultdict(list)
        unsure: _Rows = defaultdict(list)
        used: set[str] = set()
        cursor: str | None = None
        last: int | None = None
        judged_to = window.start
        in_order, held, size, pages = True, 0, 0, 0
        watch = PageWatch()
        digests: set[bytes] = set()
        while True:
            try:
                parameters = source.parameters(state.key, window, cursor)
                reply = await self._at.client.request(source.operation, state.key.scope_id, parameters)
            except CursorError as error:
                if cursor is None:
                    raise
                raise _Again(error) from None
            except AnswerTooLargeError:
                if window.seconds == 1:
                    raise
                yield None, {}, {}
                return
            await self._at.journal.settle(reply.attempt)
            self._verified.calls += 1
            page = source.page(state.key, window, cursor, reply.answer)
            page.is_short |= is_cut_short(source.operation, reply.answer, pages)
            pages += 1
            following = source.next_cursor(cursor, reply.answer)
            if following is not None and (fault := watch.window_fault(source, reply.answer, page, last)):
                raise loop_error(source.operation.name, state.key.scope_id, fault)
            if (digest := page_digest(source, page)) in digests:
                raise _Again(_failure(source, state, "a page came twice"))
            digests |= {digest} - {b""}
            if page.times and min(page.times) < judged_to:
                raise _failure(source, state, "the records come in no order, and what they belong to is judged already")
            taken = _take(page, rows, unsure, sure=reply.date - max(state.rechecks, default=0) >= window.end)
            held += taken
            size += reply.bytes
            known = page.times if last is None else [last, *page.times]
            in_order = in_order and bool(page.times or not taken) and all(a <= b for a, b in pairwise(known))
            last = max(known, default=None)
            cursor = following
            is_large = held > ROWS_MAX or size > self._at.bounds.fetch
            if (page.is_full or (is_large and not in_order)) and window.seconds > 1:
                yield None, {}, {}
                return
            if size > self._at.bounds.pages:
                raise _failure(source, state, f"more than {self._at.bounds.pages:,} bytes in one second")
            if page.has_changed or page.is_short or cursor in used:
                raise _Again(_failure(source, state, "the list changes while it is paged"))
            if cursor is None:
                yield window.end, rows, unsure
                return
            used.add(cursor)
            is_enough = held >= JUDGED_ROWS or size >= self._at.bounds.fetch // 2
            if in_order and last is not None and is_enough and last > judged_to:
                ready, rows = _split(rows, last)
                held, size, judged_to = sum(map(len, rows.values())), 0, last
                yield last, ready, {}


class _Again(Exception):
    def __init__(self, error: ApiError) -> None:
        super().__init__()
        self.error = error


def _failure(source: WindowSource, state: StreamState, text: str) -> ApiError:
    hint = "try a smaller or an older range"
    return ApiError(text, operation=source.operation.name, scope_id=state.key.scope_id, hint=hint)


def _take(page: PageRows, rows: _Rows, unsure: _Rows, *, sure: bool) -> int:
    count = 0
    for table, page_rows in page.rows.items():
        rows[table] += [tuple(row) for row in page_rows]
        count += len(page_rows)
    for table, page_rows in page.unsure.items():
        (rows if sure else unsure)[table] += [tuple(row) for row in page_rows]
        count += len(page_rows)
    return count


def _split(rows: _Rows, time: int) -> tuple[_Rows, _Rows]:
    """Rows before `time`, and the others."""
    before: _Rows = defaultdict(list)
    rest: _Rows = defaultdict(list)
    for table, table_rows in rows.items():
        at = table.time_index
        assert at is not None
        for row in table_rows:
            (before if row[at] < time else rest)[table].append(row)
    return before, rest


async def _stored(store: Store, table: Table, key: StreamKey, window: Window) -> list[Values]:
    """The stored rows of a stream in a window, every column as it was sent."""
    assert table.time_column is not None
    columns = ", ".join(
        f"toUnixTimestamp({name})" if name == table.time_column or name in TIMES else name for name in table.columns
    )
    where = (
        f"region = {{region:String}} AND {table.stream_scope_sql(key.operation)} = {{scope:String}}"
        f" AND {table.time_column} BETWEEN {{first:UInt32}} AND {{last:UInt32}}"
    )
    parameters: dict[str, object] = {
        "region": key.region, "scope": table.scope_of(key), "first": window.start, "last": window.end - 1,
        "limit": STORED_ROWS_MAX,
    }  # fmt: skip
    if table.sources:
        where += " AND source = {source:String}"
        parameters["source"] = table.sources[key.operation]
    rows = await store.fetch(f"SELECT {columns} FROM {table.name} WHERE {where} LIMIT {{limit:UInt64}}", parameters)
    if len(rows) >= STORED_ROWS_MAX:
        raise StoreError(
            f"{table.name} holds {STORED_ROWS_MAX:,} rows or more of {key.scope_id} in {window.seconds} s",
            hint="ask for a smaller range",
        )
    return [tuple(tuple(value) if isinstance(value, list) else value for value in row) for row in rows]


def differences(
    table: Table,
    scope_id: str,
    answered: Sequence[Sequence[Any]],
    stored: Sequence[Values],
    unsure: Sequence[Sequence[Any]] = (),
) -> list[Finding]:
    """What differs between two multisets of rows, field by field. Pure.

    `unsure` are answered rows that may or may not be stored yet. A row that is missing and one that is extra are
    one `different` record where they have the table's key in common, or, where equal rows may stand side by side,
    their second and most of their fields.
    """
    wanted = Counter(map(_hashable, answered))
    there = Counter(stored)
    missing, extra = wanted - there, there - wanted
    extra -= Counter(map(_hashable, unsure))
    found: list[Finding] = []
    at = table.columns.index(table.time_column) if table.time_column else 0
    left = sorted(extra.elements(), key=repr)
    for row in sorted(missing.elements(), key=repr):
        twin = _twin(table, row, [other for other in left if other[at] == row[at]])
        if twin is None:
            found.append(Finding("missing", table.name, scope_id, row[at], _shown(table, row), None))
            continue
        left.remove(twin)
        fields = tuple(name for name, a, b in zip(table.columns, row, twin, strict=True) if a != b)
        found.append(
            Finding("different", table.name, scope_id, row[at], _shown(table, row), _shown(table, twin), fields)
        )
    found += [Finding("extra", table.name, scope_id, row[at], None, _shown(table, row)) for row in left]
    return found


def _twin(table: Table, row: Values, others: Sequence[Values]) -> Values | None:
    """The stored row that was this one, as far as can be told."""
    if not table.multiset:
        key = table.identity_indexes
        return next((other for other in others if all(other[i] == row[i] for i in key)), None)
    best = max(others, key=lambda other: _in_common(row, other), default=None)
    return best if best is not None and 2 * _in_common(row, best) > len(row) else None


def _in_common(row: Values, other: Values) -> int:
    return sum(a == b for a, b in zip(row, other, strict=True))


def _hashable(row: Sequence[Any]) -> Values:
    return tuple(tuple(value) if isinstance(value, list) else value for value in row)


def _shown(table: Table, row: Values) -> dict[str, Any]:
    return dict(zip(table.columns, row, strict=True))
