"""Words of the domain. No IO, no third-party imports.

Times are whole seconds since the Unix epoch, UTC, unless a name says otherwise.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

BLOCK_ROWS_MAX = 50_000
"""Maximum rows of a segment: ClickHouse makes them one block, hence one atomic part per partition."""

ENDED = "ended"
"""State of a stream that is not configured any more, or that brings no more records."""


class ShipMode(enum.StrEnum):
    """How the rows of a window reach the store."""

    APPEND = "append"
    """The store holds nothing of the window: its rows are inserted as they are."""
    COMPARE = "compare"
    """The store may hold some of it: only what is missing is inserted."""


@dataclass(frozen=True, slots=True, order=True)
class StreamKey:
    """One ordered flow of records: an operation and the scope it is asked for."""

    operation: str
    region: str
    scope_id: str

    def __str__(self) -> str:
        return f"{self.operation}/{self.scope_id}"


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """A half-open range of event time, `[start, end)`."""

    start: int
    end: int

    def __post_init__(self) -> None:
        if self.start >= self.end:
            raise ValueError(f"a window needs start < end, got [{self.start}, {self.end})")

    @property
    def seconds(self) -> int:
        return self.end - self.start

    def hull(self, other: Window) -> Window:
        """Return the smallest window that contains both."""
        return Window(min(self.start, other.start), max(self.end, other.end))

    def overlaps(self, other: Window) -> bool:
        return self.start < other.end and other.start < self.end
