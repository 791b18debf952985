"""Readers' queries of ClickHouse in words: what one may cost, its result, its error, and how SQL quotes text."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from collector.errors import QueryError

_MIB = 1 << 20
_HINTS = {
    159: "ask for a shorter range of time, or aggregate",
    160: "ask for a shorter range of time, or aggregate",
    241: "ask for a shorter range of time or fewer columns",
    307: "ask for a shorter range of time, or aggregate",
    396: "add a LIMIT, or aggregate",
    60: "SHOW TABLES lists what there is",
    47: "DESCRIBE TABLE shows a table's columns",
    164: "queries are read-only and take no SETTINGS",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryLimits:
    """What one reader's query may cost. Beyond any of them it ends with a QueryError."""

    seconds_max: float = 30.0
    rows_max: int = 10_000_000
    """Rows of the result."""
    bytes_max: int = 512 * _MIB
    """Bytes of the result, uncompressed, as the engine counts them."""
    memory_bytes_max: int = 512 * _MIB
    threads_max: int = 2


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a result: its name and its ClickHouse type."""

    name: str
    type: str


class QueryAnswer(Protocol):
    """The result of a reader's query: an asynchronous context manager to be left when done.

    Iterating gives the bytes in order, each chunk at most 1 MiB, and raises QueryError when the query
    fails on the way: what was given until then is not the whole result.
    """

    @property
    def format(self) -> str:
        """ClickHouse's name of the format that the bytes are in."""

    @property
    def columns(self) -> tuple[Column, ...]:
        """Names and types, when they were asked for; else empty."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    async def close(self) -> None:
        """Stop the query and give back what it holds. May be called twice."""


class EngineQueryError(QueryError):
    """A reader's query that the engine refused or stopped; `code` and `name` are ClickHouse's own."""

    def __init__(self, message: str, *, code: int = 0, name: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.code = code
        self.name = name


def hint_of(code: int) -> str:
    """What a reader can do about an error, '' where nothing general can be said."""
    return _HINTS.get(code, "")


def quoted_name(identifier: str) -> str:
    """An identifier as SQL takes it, whatever it holds."""
    return "`" + identifier.replace("\\", "\\\\").replace("`", "\\`") + "`"


def literal(text: str) -> str:
    """A string as SQL takes it, whatever it holds."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
