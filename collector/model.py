"""Words of the domain. No IO, no third-party imports.

Times are whole seconds since the Unix epoch, UTC, unless a name says otherwise.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote

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


FILTERS: Final = ("WorkspaceId", "UserId", "Query")
"""Parameters of the service that can be part of a scope, in the order in which the scope has them."""

_FILTERED = re.compile(rf"\?(?=(?:{'|'.join(FILTERS)})=[^?]*\Z)")
_RESERVED = re.compile(r"[%&?\x00-\x1f\x7f]")


def filtered_scope(target_id: str, filters: Mapping[str, str]) -> str:
    """Return the scope of a target that is asked for with filters, such as `node-1?Query=oom killer`.

    Of a value only what separates filters, and control characters, are percent-encoded.
    """
    parts = [f"{name}={_RESERVED.sub(lambda m: quote(m[0]), filters[name])}" for name in FILTERS if name in filters]
    return f"{target_id}?{'&'.join(parts)}" if parts else target_id


@dataclass(frozen=True, slots=True, order=True)
class StreamKey:
    """One ordered flow of records: an operation and the scope it is asked for.

    A scope is a target, and behind `?` the filters it is asked with: what is collected of a node with a query is
    another stream than all of its lines.
    """

    operation: str
    region: str
    scope_id: str

    def __str__(self) -> str:
        return f"{self.operation}/{self.scope_id}"

    @property
    def target_id(self) -> str:
        """The node, resource group or other target, without filters."""
        return _FILTERED.split(self.scope_id, maxsplit=1)[0]

    @property
    def filters(self) -> dict[str, str]:
        """Values of the filters by parameter; empty if everything is asked for."""
        parts = _FILTERED.split(self.scope_id, maxsplit=1)[1:]
        pairs = (part.partition("=") for text in parts for part in text.split("&"))
        return {name: unquote(value) for name, _, value in pairs}

    def is_about(self, scope: str) -> bool:
        """Return whether a person who names `scope` means this stream: by its target, or with its filters."""
        return scope in (self.scope_id, self.target_id)

    @property
    def row_space(self) -> tuple[str, str, str, str]:
        """What two streams have in common if a row may be of both.

        What two queries or users have in common only the service knows. A workspace has figures of its own, also of
        the same user.
        """
        return self.operation, self.region, self.target_id, self.filters.get("WorkspaceId", "")


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
