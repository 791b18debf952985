"""What a service tells about itself. Plain data, the same for status, metrics and the status page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

NEW: Final = "new"
"""Nothing of it is stored yet."""
COLLECTED: Final = "collected"
FAILING: Final = "failing"
"""Its last look failed, or its operation keeps failing."""
STOPPED: Final = "stopped"
"""It is not asked at present: its scope, operation or account is refused, or the budget is reached."""
WAITING: Final = "waiting"
"""Another journal may hold rows of it."""


def stream_state(*, is_stopped: bool, is_failing: bool, watermark: int | None) -> str:
    """The state of a stream that is watched and does not wait."""
    if is_stopped:
        return STOPPED
    if is_failing:
        return FAILING
    return COLLECTED if watermark is not None else NEW


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """The streams of one operation."""

    source: str
    """As the configuration names it."""
    operation: str
    states: Mapping[str, int]
    """State -> streams that are in it."""
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
    new_seconds: float = 0.0
    """For how long the stream that is new for longest has been watched."""


@dataclass(frozen=True, slots=True)
class Polls:
    """When a stream is asked for. Times are server time in seconds since the epoch."""

    last: int | None
    """Begin of the last poll; None before the first one of this process."""
    next: int
    is_failing: bool
    """Whether the last poll failed."""


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


@dataclass(frozen=True, slots=True)
class ServiceFacts:
    """Everything at one moment."""

    sources: tuple[SourceFacts, ...]
    stops: tuple[Stop, ...]
    is_started: bool = True
    """Whether it knows its streams."""


NOTHING: Final = ServiceFacts((), ())
"""Of a process that is no service."""
