"""Time is handed in. Nothing else in the project reads a clock or sleeps.

`Clock` is this machine; `ServerClock` is the service's time, which decides about
windows, ticks and billing months.
"""

from __future__ import annotations

import asyncio
import functools
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final, Protocol

import structlog

CLOCK_DIFFERENCE_SECONDS_MAX = 5.0
"""A machine's clock further than this from the server's is reported."""

STEP_SECONDS_MAX: Final = 60
"""A `Date` further than this from the time carried on is not believed at once."""
STEP_ANSWERS_MIN: Final = 8
"""So many answers have to agree on a time that is further away ..."""
STEP_CONFIRM_SECONDS: Final = 60.0
"""... over at least this long."""

_log = structlog.get_logger(__name__)


class Clock(Protocol):
    """What the machine offers: a wall clock that may step, a monotonic one that may not."""

    def wall(self) -> float:
        """Seconds since the Unix epoch. May jump."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary point. Never goes back."""

    async def sleep(self, seconds: float) -> None:
        """Wait at least `seconds` of monotonic time."""


class SystemClock:
    """The real clock."""

    def wall(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@dataclass(slots=True)
class _Doubt:
    """Answers tell another time than the one carried on."""

    since: float
    """Monotonic."""
    offset: float
    """The told time less the monotonic one, at the first of these answers."""
    agreeing: int = 0
    differing: int = 0


class ServerClock:
    """The service's time: the `Date` of its last answer, carried on by the monotonic clock.

    A `Date` has whole seconds, so `now` is never ahead of the server by more than the time an
    answer took to travel, and behind by at most a second plus that. Before the first answer it
    is the machine's wall clock, and `synced` is false.

    One answer of a front end whose clock is wrong moves nothing: a `Date` far from the time carried on
    counts when the machine's wall clock has made the same step, as after a sleep of the machine, or when
    most answers of a minute agree on it. A machine's clock that steps moves nothing.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._date: int | None = None
        self._date_monotonic = 0.0
        self._doubt: _Doubt | None = None
        self.difference_seconds = 0.0
        """Server minus machine at the last answer that was believed."""

    @property
    def synced(self) -> bool:
        return self._date is not None

    @property
    def date(self) -> int | None:
        """The `Date` of the last answer that was believed, or None before the first."""
        return self._date

    def now(self) -> int:
        """Whole seconds since the epoch, as the server counts them."""
        if self._date is None:
            return int(self._clock.wall())
        return int(self._date + self._clock.monotonic() - self._date_monotonic)

    def observe(self, date: int) -> int:
        """Take note of the `Date` of an answer that has just arrived; returns the time that this answer proves.

        That is `date` where it is believed, and else the earlier of it and the time carried on: nothing may
        be taken for complete up to a time that the service may not have reached.
        """
        if self._date is None:
            self._take(date)
            return date
        carried = self.now()
        step = date - carried
        if self._doubt is not None:
            self._weigh(self._doubt, date, is_near=abs(step) <= STEP_SECONDS_MAX)
        if abs(step) <= STEP_SECONDS_MAX:
            self._take(date)
            return date
        if self._machine_agrees(date) or self._is_confirmed(date):
            self._doubt = None
            self._take(date)
            _log.warning("clock_stepped", seconds=step)
            return date
        return min(date, carried)

    def _take(self, date: int) -> None:
        self._date = date
        self._date_monotonic = self._clock.monotonic()
        self.difference_seconds = date - self._clock.wall()

    def _machine_agrees(self, date: int) -> bool:
        """Whether the wall clock has gone on to the same time, though the monotonic one has not."""
        return abs(date - (self._clock.wall() + self.difference_seconds)) <= STEP_SECONDS_MAX

    def _weigh(self, doubt: _Doubt, date: int, *, is_near: bool) -> None:
        """Count an answer for the other time or against it, and give the other time up when it has lost."""
        told = doubt.offset + self._clock.monotonic()
        if not is_near and abs(date - told) <= STEP_SECONDS_MAX:
            doubt.agreeing += 1
            return
        doubt.differing += 1
        is_over = self._clock.monotonic() - doubt.since >= STEP_CONFIRM_SECONDS
        if is_over and doubt.differing >= doubt.agreeing:
            self._doubt = None

    def _is_confirmed(self, date: int) -> bool:
        monotonic = self._clock.monotonic()
        if self._doubt is None:
            self._doubt = _Doubt(monotonic, date - monotonic, agreeing=1)
            return False
        doubt = self._doubt
        return (
            monotonic - doubt.since >= STEP_CONFIRM_SECONDS
            and doubt.agreeing >= STEP_ANSWERS_MIN
            and doubt.agreeing > doubt.differing
            and abs(date - (doubt.offset + monotonic)) <= STEP_SECONDS_MAX
        )

    @property
    def machine_is_off(self) -> bool:
        """True when this machine's clock differs from the server's by more than the limit."""
        # A Date is cut to whole seconds: up to one second of difference means nothing.
        return self.synced and abs(self.difference_seconds) > CLOCK_DIFFERENCE_SECONDS_MAX + 1


class Signal:
    """Something happened: whoever waits goes on, however many they are."""

    def __init__(self) -> None:
        self.count = 0
        """How often it has happened."""
        self._event = asyncio.Event()

    def announce(self) -> None:
        self.count += 1
        self._event.set()
        self._event = asyncio.Event()

    async def after(self, count: int) -> None:
        """Wait until it has happened more often than `count`."""
        while self.count <= count:
            await self._event.wait()


async def wait_for(event: asyncio.Event, clock: Clock, seconds: float | None) -> bool:
    """Wait for an event, at most so many seconds (None: for ever). True when it is set."""
    if seconds is None:
        return await event.wait()
    waits = {asyncio.ensure_future(event.wait()), asyncio.ensure_future(clock.sleep(seconds))}
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
    return event.is_set()


@functools.lru_cache(maxsize=16)  # all answers of a second say the same
def parse_http_date(value: str | None) -> int | None:
    """Seconds since the epoch of an HTTP `Date` header, or None when it has none that can be read."""
    if not value:
        return None
    try:
        return int(parsedate_to_datetime(value).timestamp())
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
