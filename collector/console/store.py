"""Reads of pages: bounded in time, rows and bytes, few at once, and shared by those who ask at the same moment."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Final
from urllib.parse import urlencode

import msgspec

from collector.clock import Clock
from collector.console.table import Row
from collector.errors import CollectorError, QueryError
from collector.queries import Column, QueryLimits
from collector.store.assets import sql_files, sql_folder
from collector.store.base import Store
from collector.store.named import NamedQuery, named_queries, parsed

LIMITS: Final = QueryLimits(
    seconds_max=10.0, rows_max=200_000, bytes_max=32 << 20, memory_bytes_max=256 << 20, threads_max=2
)
READS_MAX: Final = 2
"""Reads of pages that run at the same time; collecting goes on beside them."""
SHARED_SECONDS: Final = 4.0
"""An answer serves everybody who asks the same for so long."""
ADDRESS_MAX: Final = 6_000
"""Characters of an address with a query in it."""
FORMAT: Final = "JSONCompactEachRowWithNamesAndTypes"


@dataclass(frozen=True, slots=True)
class Answer:
    """The rows of a read, or why there are none."""

    rows: Sequence[Row] = ()
    columns: Sequence[Column] = ()
    failure: str = ""
    is_cut: bool = False
    """Whether there would be more rows."""
    seconds: float = 0.0
    sql: str = ""
    """Address of the SQL page with this query; empty where it is not one for people."""

    @property
    def first(self) -> Row:
        """The only row of a query that always has one; empty where it failed."""
        return self.rows[0] if self.rows else {}


class ConsoleStore:
    """A store as pages read it. No method raises for a store that fails: the answer says so."""

    def __init__(self, store: Store, clock: Clock, limits: QueryLimits = LIMITS) -> None:
        self._store = store
        self._clock = clock
        self._limits = limits
        self._reads = asyncio.Semaphore(READS_MAX)
        self._shared: dict[tuple[str, str], tuple[float, asyncio.Task[Answer]]] = {}
        """Reads that run or ran until a moment ago, with when they began."""

    async def named(self, name: str, parameters: Mapping[str, str] | None = None) -> Answer:
        """Run a query of `sql/queries`. Raises UsageError for parameters that it does not take."""
        return await self._known(_queries()[name], parameters or {}, sql_address(name, parameters))

    async def own(self, name: str, parameters: Mapping[str, str] | None = None) -> Answer:
        """Run a query of `sql/console`. Raises UsageError for parameters that it does not take."""
        query = _own_queries()[name]
        return await self.query(query, parameters or {})

    async def query(
        self,
        query: NamedQuery,
        given: Mapping[str, str],
        *,
        seconds_max: float | None = None,
        bytes_max: int | None = None,
    ) -> Answer:
        """Run a query that a page has put together. Raises UsageError for parameters that it does not take."""
        limits = self._limits if seconds_max is None else replace(self._limits, seconds_max=seconds_max)
        return await self._known(query, given, own_sql_address(query, given), limits, bytes_max)

    async def _known(
        self,
        query: NamedQuery,
        given: Mapping[str, str],
        address: str,
        limits: QueryLimits | None = None,
        bytes_max: int | None = None,
    ) -> Answer:
        bound = query.bind(given)
        key = (query.sql, repr((sorted(bound.items()), bytes_max)))
        now = self._clock.monotonic()
        begun, reading = self._shared.get(key, (0.0, None))
        if reading is None or (reading.done() and begun + SHARED_SECONDS <= now):
            for old, (then, one) in list(self._shared.items()):
                if one.done() and then + SHARED_SECONDS <= now:
                    del self._shared[old]
            reading = asyncio.create_task(
                self.run(query.sql, bound, limits=limits, bytes_max=bytes_max, address=address)
            )
            self._shared[key] = (now, reading)
        # Who goes away takes the answer from nobody else.
        return await asyncio.shield(reading)

    async def close(self) -> None:
        """Give up what is being read."""
        tasks = [reading for _, reading in self._shared.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def run(
        self,
        sql: str,
        parameters: Mapping[str, str],
        *,
        limits: QueryLimits | None = None,
        rows_max: int | None = None,
        bytes_max: int | None = None,
        address: str = "",
    ) -> Answer:
        """Run a reader's SQL. With `rows_max` and `bytes_max` a larger result is cut instead of refused."""
        begun = self._clock.monotonic()
        try:
            async with self._reads:
                columns, rows, is_cut = await self._read(sql, parameters, limits or self._limits, rows_max, bytes_max)
        except CollectorError as error:
            return Answer(failure=failure_of(error), seconds=self._clock.monotonic() - begun, sql=address)
        return Answer(rows, columns, is_cut=is_cut, seconds=self._clock.monotonic() - begun, sql=address)

    async def _read(
        self,
        sql: str,
        parameters: Mapping[str, str],
        limits: QueryLimits,
        rows_max: int | None,
        bytes_max: int | None,
    ) -> tuple[list[Column], list[Row], bool]:
        lines: list[bytes] = []
        left, size, is_cut = b"", 0, False
        running = self._store.query(sql, format=FORMAT, parameters=parameters, limits=limits)
        async with await running as answer:
            async for piece in answer:
                *whole, left = (left + piece).split(b"\n")
                lines += whole
                size += len(piece)
                if (rows_max is not None and len(lines) > rows_max + 2) or (bytes_max is not None and size > bytes_max):
                    is_cut = True
                    break
        if left and not is_cut:
            lines.append(left)
        if len(lines) < 2:
            return [], [], is_cut
        names, types, *rows = [_decoded(line) for line in lines]
        is_cut = is_cut or (rows_max is not None and len(rows) > rows_max)
        # Names may occur twice in a reader's own SQL.
        keys = [name if names.index(name) == place else f"{name} {place + 1}" for place, name in enumerate(names)]
        columns = [Column(name, type) for name, type in zip(keys, types, strict=True)]
        return columns, [dict(zip(keys, row, strict=True)) for row in rows[:rows_max]], is_cut


def _decoded(line: bytes) -> Any:
    try:
        return msgspec.json.decode(line)
    except UnicodeDecodeError:
        # Bytes that are no text, as a store may have them from elsewhere.
        return msgspec.json.decode(line.decode("utf-8", "replace"))


def failure_of(error: CollectorError) -> str:
    """Say why a read failed in one sentence that names no secret."""
    text = str(error).strip().splitlines()[0][:500] if str(error).strip() else type(error).__name__
    return text if isinstance(error, QueryError) else f"the store cannot be read: {text}"


def own_sql_address(query: NamedQuery, given: Mapping[str, str]) -> str:
    """Return the address of the SQL page with a query and its values in it; empty where it is too long for one."""
    address = "/sql?" + urlencode({"q": query.standing_alone(given)})
    return address if len(address) <= ADDRESS_MAX else ""


def sql_address(name: str, parameters: Mapping[str, str] | None = None) -> str:
    """Return the address of the SQL page with a named query and its values."""
    return "/sql?" + urlencode({"name": name} | {f"p_{key}": value for key, value in (parameters or {}).items()})


@cache
def _queries() -> Mapping[str, NamedQuery]:
    return {query.name: query for query in named_queries()}


@cache
def _own_queries() -> Mapping[str, NamedQuery]:
    return {name: parsed(name, text) for name, text in sql_files(sql_folder("console"))}
