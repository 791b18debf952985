"""Typed answers that commands, the console and JSON show. They are data: no import of what makes them."""

from __future__ import annotations

import msgspec


class MissingRange(msgspec.Struct, frozen=True):
    """A range of a stream that is not covered; times in ISO 8601 UTC, None if nothing of the stream is covered."""

    source: str
    operation: str
    scope_id: str
    start: str | None = msgspec.field(name="from")
    end: str | None = msgspec.field(name="to")
    seconds: int | None
    reason: str


class Gaps(msgspec.Struct, frozen=True):
    """What is not covered of a number of streams."""

    streams: int
    notes: list[str]
    has_history: bool
    gaps: list[MissingRange]
