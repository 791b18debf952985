"""What a service tells about itself. Plain data, the same for status, metrics and the status page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """The streams of one operation."""

    source: str
    """As the configuration names it."""
    operation: str
    states: Mapping[str, int]
    """`new`, `collected`, `failing` or `stopped` -> streams."""
    freshness_seconds: float | None
    """Now less the watermark, of the stream furthest behind; None where no stream has a watermark."""
    freshness_promise_seconds: float
    """What it should stay below: `interval_max + settle + 2 x flush_interval`."""
    settle_seconds: int
    """How far behind now windows end, of the stream that stays back furthest."""
    ticks_missed: int
    """Since the start."""
    due: int
    """Streams that wait for their turn now."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Something that is not asked at present, because asking cannot work."""

    what: str
    """`account`, `operation`, `budget`, or `circuit` for an operation that keeps failing and is probed."""
    operation: str
    """Empty for the account."""
    error: str
    since: int
    """Server time, seconds since the epoch."""
    next_try: int | None
    """Server time, seconds since the epoch; None where nothing is tried by itself."""


def told(stop: Stop) -> str:
    """A stop in few words."""
    if stop.what == "circuit":
        return f"{stop.operation} keeps failing"
    return f"{stop.what} {stop.operation}".rstrip() + " stopped"


@dataclass(frozen=True, slots=True)
class ServiceFacts:
    """Everything at one moment."""

    sources: tuple[SourceFacts, ...]
    stops: tuple[Stop, ...]
