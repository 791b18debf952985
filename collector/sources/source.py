"""What the pipeline asks of a source. Sources are pure: no IO, no clock."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from collector.catalogue.answers import Answer
from collector.catalogue.operation import Operation
from collector.model import StreamKey, Window
from collector.sources.normalise import as_json
from collector.sources.page import PageRows
from collector.sources.tables import Row, Table


class Source(Protocol):
    """An operation whose answers become rows."""

    @property
    def operation(self) -> Operation: ...

    @property
    def tables(self) -> Sequence[Table]:
        """Tables that the source fills."""


class WindowSource(Source, Protocol):
    """A source whose records have a time of their own: it is asked for windows of event time."""

    @property
    def pages_of_window(self) -> int:
        """Pages that every window has, whatever it holds; 0 where that depends on its records."""

    def parameters(self, key: StreamKey, window: Window, cursor: str | None) -> dict[str, Any]:
        """Parameters of the page at `cursor`, None for the first; the range asked for is wider by a margin."""

    def next_cursor(self, cursor: str | None, answer: Answer) -> str | None:
        """Cursor of the page after the one that `cursor` gave, None after the last one."""

    def page(self, key: StreamKey, window: Window, cursor: str | None, answer: Answer) -> PageRows:
        """The rows of one page."""


@dataclass(frozen=True, slots=True)
class Observed:
    """An object as it was seen: what identifies it, and its columns after `fingerprint`."""

    object_id: str
    values: Row
    ended_at: int | None = None
    """When the object ended, as the service tells it: then it needs no look after that time."""

    @property
    def fingerprint(self) -> int:
        """Digest of the values, 63 bits: equal for equal states, on every machine."""
        digest = hashlib.blake2b(as_json(list(self.values)).encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") >> 1

    def row(self, observed_at: int, region: str, *, is_present: bool = True) -> Row:
        """The object's row of a state table."""
        return (observed_at, region, self.object_id, int(is_present), self.fingerprint, *self.values)


@dataclass(slots=True)
class Seen:
    """The objects of one page, and the records that name none."""

    objects: list[Observed] = field(default_factory=list)
    dead: list[tuple[str, object]] = field(default_factory=list)
    """Records without an id, or that are no object: reason and the record as it came."""
    record_count: int = 0
    has_changed: bool = False
    """True where the list changed while it was paged, so that an object may have slipped between two pages."""
    is_short: bool = False
    """True if the list ended before it had as many objects as it counts, or began to repeat its pages."""


class StateSource(Source, Protocol):
    """A source of things that exist and change: what is seen is stored when it differs from what was seen last."""

    lists_all: bool
    """True where an object that a complete answer does not hold any more is gone."""
    page_size: int
    """Objects that are asked for a page."""

    def parameters(self, key: StreamKey, cursor: str | None) -> dict[str, Any]:
        """Parameters of the page at `cursor`, None for the first."""

    def next_cursor(self, cursor: str | None, answer: Answer) -> str | None:
        """Cursor of the page after the one that `cursor` gave, None after the last one."""

    def held(self, key: StreamKey) -> dict[str, str]:
        """Columns (beside the region) and their values that tell the rows of this stream from the table's others."""

    def page(self, key: StreamKey, cursor: str | None, answer: Answer) -> Seen:
        """The objects of one page."""


class DetailedSource(StateSource, Protocol):
    """A source whose list only tells that an object changed: what is stored comes from a call of its own."""

    detail_operation: Operation

    def detail_parameters(self, object_id: str) -> dict[str, Any]:
        """Parameters that ask for one object."""

    def detailed(self, listed: Observed | None, answer: Answer) -> Observed | None:
        """The object out of its own answer, and what the list said of it; None where the answer names none."""
