"""Readers' own SQL: run within the limits of the SQL endpoint, and shown in part or sent as a whole."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from collector.admission import LIMITS, REQUEST_SECONDS_MAX, Admission
from collector.clock import Clock
from collector.console.table import Row
from collector.errors import CollectorError, QueryError
from collector.queries import Column, EngineQueryError, QueryAnswer, QueryLimits
from collector.redaction import redact
from collector.store.base import Store

ROWS_MAX: Final = 10_000
"""Maximum rows of a result that is shown."""
BYTES_MAX: Final = 8 << 20
"""Maximum bytes of a result that is shown, as JSON."""
FORMAT: Final = "JSONCompactEachRowWithProgress"
TIMED_OUT: Final = frozenset({159, 160})
_POSITION: Final = re.compile(r"\(line (\d+), col (\d+)\)")
_NAMED: Final = re.compile(r"(?i:identifier|name|substitution|column|function|string) [`'\"]([^`'\"]+)[`'\"]")


@dataclass(frozen=True, slots=True)
class Spot:
    """A place in SQL: line and column, from 1, and how many characters are meant."""

    line: int
    column: int
    length: int = 1


@dataclass(frozen=True, slots=True)
class Result:
    """The rows of a query, or why there are none."""

    columns: Sequence[Column] = ()
    rows: Sequence[Row] = ()
    seconds: float = 0.0
    cut: str = ""
    """What ended it before its end: `rows` or `bytes`; empty for a whole result."""
    rows_read: int | None = None
    bytes_read: int | None = None
    """What the engine read for it; None if it did not report."""
    error: CollectorError | None = None


async def run(
    store: Store,
    admission: Admission,
    clock: Clock,
    sql: str,
    parameters: Mapping[str, str],
    *,
    limits: QueryLimits = LIMITS,
    rows_max: int = ROWS_MAX,
    bytes_max: int = BYTES_MAX,
) -> Result:
    """Run SQL and keep the beginning of its result; then the query is stopped."""
    begun = clock.monotonic()
    kept = _Kept(rows_max, bytes_max)
    error: CollectorError | None = None
    try:
        async with answering(store, admission, sql, parameters, FORMAT, limits) as answer:
            async for piece in answer:
                if kept.add(piece):
                    break
    except CollectorError as failed:
        error = failed
    seconds = clock.monotonic() - begun
    if error is not None:
        return Result(seconds=seconds, error=error)
    return Result(kept.columns, kept.rows, seconds, kept.cut, kept.rows_read, kept.bytes_read)


@asynccontextmanager
async def answering(
    store: Store,
    admission: Admission,
    sql: str,
    parameters: Mapping[str, str],
    format_name: str,
    limits: QueryLimits = LIMITS,
) -> AsyncIterator[QueryAnswer]:
    """Begin to answer SQL, as the SQL endpoint would. Raises StoreError."""
    try:
        async with asyncio.timeout(REQUEST_SECONDS_MAX), admission.permit():
            running = store.query(sql, format=format_name, parameters=parameters, limits=limits)
            async with await running as answer:
                yield answer
    except TimeoutError:
        text = f"the request took longer than {REQUEST_SECONDS_MAX:g} s"
        raise EngineQueryError(text, code=159, name="TIMEOUT_EXCEEDED") from None


class _Kept:
    """The beginning of a result in `FORMAT`."""

    def __init__(self, rows_max: int, bytes_max: int) -> None:
        self._rows_max = rows_max
        self._bytes_left = bytes_max
        self._parts: list[bytes] = []
        self._names: list[str] = []
        self.columns: list[Column] = []
        self.rows: list[Row] = []
        self.cut = ""
        self.rows_read: int | None = None
        self.bytes_read: int | None = None

    def add(self, piece: bytes) -> bool:
        """Take the next bytes, and tell whether no more are wanted."""
        self._bytes_left -= len(piece)
        self._parts.append(piece)
        if b"\n" in piece:
            *lines, left = b"".join(self._parts).split(b"\n")
            self._parts = [left]
            for line in lines:
                if self._add_line(line):
                    self.cut = "rows"
                    return True
        if self._bytes_left < 0:
            self.cut = "bytes"
        return bool(self.cut)

    def _add_line(self, line: bytes) -> bool:
        told = _decoded(line)
        if "row" in told:
            if len(self.rows) >= self._rows_max:
                self.rows_read = self.bytes_read = None
                return True
            self.rows.append(dict(zip(self._names, told["row"], strict=True)))
        elif "meta" in told:
            self._names = distinct([column["name"] for column in told["meta"]])
            self.columns = [
                Column(name, column["type"]) for name, column in zip(self._names, told["meta"], strict=True)
            ]
        elif "progress" in told:
            self.rows_read = int(told["progress"]["read_rows"])
            self.bytes_read = int(told["progress"]["read_bytes"])
        return False


def _decoded(line: bytes) -> dict[str, Any]:
    if not line:
        return {}
    try:
        return msgspec.json.decode(line, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError):
        # The engine passes on bytes that are no UTF-8.
        return msgspec.json.decode(line.decode(errors="replace"), type=dict[str, Any])


def distinct(names: Sequence[str]) -> list[str]:
    """Return the names of columns, told apart if a query gives one twice."""
    taken: set[str] = set()
    told: list[str] = []
    for place, name in enumerate(names):
        number = place + 1
        shown = name
        while shown in taken or (shown != name and shown in names):
            shown = f"{name} {number}"
            number += 1
        taken.add(shown)
        told.append(shown)
    return told


def explained(error: CollectorError, limits: QueryLimits = LIMITS) -> str:
    """Say why a query failed, in words that name no secret."""
    text = redact(" ".join(str(error).split())) or type(error).__name__
    if isinstance(error, EngineQueryError) and error.code in TIMED_OUT:
        text = f"The query ran too long and was stopped; {limits.seconds_max:g} s are allowed. {text}"
    return text if isinstance(error, QueryError) else f"the store cannot be read: {text}"


def spot_of(sql: str, error: CollectorError) -> Spot | None:
    """Return the place that an error is about, None if it names none."""
    text = str(error)
    if places := _POSITION.findall(text):
        # Where a bracket is never closed, the first place is only the end of the text.
        line, column = places[-1 if "Unmatched parentheses" in text else 0]
        return _within(sql, Spot(int(line), int(column)))
    named = _NAMED.search(text)
    if named is None:
        return None
    word = re.search(rf"(?<!\w){re.escape(named[1])}(?!\w)", sql)
    if word is None:
        return None
    before = sql[: word.start()]
    return Spot(before.count("\n") + 1, word.start() - before.rfind("\n"), len(named[1]))


def _within(sql: str, spot: Spot) -> Spot | None:
    return spot if 1 <= spot.line <= sql.count("\n") + 1 else None
