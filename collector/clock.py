"""Time is handed in. Nothing else in the project reads a clock or sleeps.

`Clock` is this machine; `ServerClock` is the service's time, which decides about
windows, ticks and billing months.
"""

from __future__ import annotations

import asyncio
import enum
import functools
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC
from email.utils import parsedate_to_datetime
from pathlib import Path
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
AGREEING_MIN: Final = 2
"""Answers of the API that have to agree with one another where the machine's clock contradicts them."""
DATELESS_MIN: Final = 3
"""Answers of the API without a date, and none with one, that show that the service does not tell the time."""
DISAGREED_SECONDS: Final = 600.0
"""The clock is in doubt for this long after answers that disagree."""

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


class Origin(enum.IntEnum):
    """Where a `Date` came from; a higher one outweighs a lower one."""

    PROBE = 1
    """A HEAD request, which a cache may answer."""
    CACHED = 2
    """An answer of the API that says that it passed through a cache or a proxy."""
    ANSWER = 3
    """An answer of the API itself."""


@dataclass(frozen=True, slots=True)
class Observation:
    """One response that tells the time."""

    time: int
    """What time it is by this response: its `Date` plus its `Age`, seconds since the epoch."""
    origin: Origin
    monotonic: float
    wall: float


@dataclass(frozen=True, slots=True)
class _Rival:
    """Answers say another time than the one that is carried on."""

    since: float
    """Monotonic."""
    offset: float
    """Their time less the monotonic one, at the first of them."""
    agreeing: int = 1
    differing: int = 0


@dataclass(frozen=True, slots=True)
class Estimate:
    """What time it is, and how sure that is."""

    time: int
    monotonic: float
    """The time was `time` at this moment."""
    machine: float
    """The machine's wall clock less its monotonic clock at that moment."""
    origin: Origin
    is_settled: bool
    """False while the machine's clock, the probe and the answers disagree, and nothing has decided between them."""
    agreeing: int = 1
    """Answers of this origin in a row that agree."""
    is_opposed: bool = False
    """Probe and machine agreed on another time before: only they can settle it."""
    rival: _Rival | None = None

    def at(self, monotonic: float) -> int:
        """The time carried on to a moment, in whole seconds."""
        return int(self.time + monotonic - self.monotonic)


def revise(before: Estimate | None, seen: Observation, recalled: float | None = None) -> Estimate:
    """The estimate after one more response. Pure.

    `recalled` is the service's time less the monotonic one by an earlier run, None if unknown. It and the machine's
    clock are witnesses: a time that one of them confirms is settled, and so is one on which two responses agree, one of
    the API's among them, unless the probe and the machine have agreed on another.

    A settled time is left only for one that the machine's clock confirms (by saying the same, or by having made the
    same step, as after a sleep of the machine), for an answer of a higher origin, or when the answers of a minute
    agree on another one.
    """
    machine = seen.wall - seen.monotonic
    fresh = Estimate(
        seen.time, seen.monotonic, machine, seen.origin, is_settled=_is_near(seen.time, seen.wall)
    )  # fmt: skip
    is_witnessed = fresh.is_settled or (recalled is not None and _is_near(seen.time, recalled + seen.monotonic))
    if before is None:
        return replace(fresh, is_settled=is_witnessed)
    carried = before.time + seen.monotonic - before.monotonic
    step = seen.time - carried
    if abs(step) <= STEP_SECONDS_MAX:
        rival = None if before.rival is None else _weigh(before.rival, seen, is_near=True)
        if seen.origin < before.origin:
            return replace(before, rival=rival)
        is_same = seen.origin is before.origin
        agreeing = before.agreeing + 1 if is_same else 1
        # A cache may repeat itself, but hardly agrees with the API.
        is_confirmed = (agreeing >= AGREEING_MIN or not is_same) and seen.origin > Origin.PROBE
        is_settled = before.is_settled or is_witnessed or (is_confirmed and not before.is_opposed)
        is_opposed = before.is_opposed and not is_settled
        return replace(fresh, is_settled=is_settled, agreeing=agreeing, is_opposed=is_opposed, rival=rival)
    has_machine_stepped = abs(step - (machine - before.machine)) <= STEP_SECONDS_MAX
    is_machine_right = fresh.is_settled and not _is_near(carried, seen.wall)
    if has_machine_stepped:
        return replace(fresh, is_settled=before.is_settled)
    if seen.origin > Origin.PROBE:
        if is_machine_right:
            return fresh
        if before.origin <= Origin.PROBE:
            is_opposed = before.is_settled and _is_near(carried, seen.wall)
            return replace(fresh, is_settled=is_witnessed, is_opposed=is_opposed)
    elif before.origin <= Origin.PROBE and is_machine_right:
        return fresh
    if seen.origin < before.origin:
        return before
    if not before.is_settled:
        # Of two answers that nothing confirms the earlier one is safe.
        return before if step > 0 else replace(fresh, is_settled=is_witnessed, is_opposed=before.is_opposed)
    rival = _weigh(before.rival, seen, is_near=False)
    if rival is not None and _has_won(rival, seen, step, _is_near(carried, seen.wall)):
        return replace(fresh, is_settled=True, agreeing=rival.agreeing)
    return replace(before, rival=rival)


def _is_near(time: float, other: float) -> bool:
    return abs(time - other) <= STEP_SECONDS_MAX


def _weigh(rival: _Rival | None, seen: Observation, *, is_near: bool) -> _Rival | None:
    """Count a response for the other time or against it; None once the other time has lost."""
    if rival is None:
        return None if is_near else _Rival(seen.monotonic, seen.time - seen.monotonic)
    if not is_near and _is_near(seen.time, rival.offset + seen.monotonic):
        return replace(rival, agreeing=rival.agreeing + 1)
    is_over = seen.monotonic - rival.since >= STEP_CONFIRM_SECONDS
    rival = replace(rival, differing=rival.differing + 1)
    return None if is_over and rival.differing >= rival.agreeing else rival


def _has_won(rival: _Rival, seen: Observation, step: float, has_witness: bool) -> bool:
    if seen.monotonic - rival.since < STEP_CONFIRM_SECONDS or rival.agreeing < STEP_ANSWERS_MIN:
        return False
    if not _is_near(seen.time, rival.offset + seen.monotonic):
        return False
    # While answers of both kinds come, a later time would seal what the other kind has not reached.
    return rival.differing == 0 if step > 0 or has_witness else rival.agreeing > rival.differing


class ServerClock:
    """The one place that says what time it is: the service's time, carried on by the monotonic clock.

    It is fed with the `Date` of every response. A `Date` has whole seconds, so `now` is never ahead of the server by
    more than the time a response took to travel, and behind by at most a second plus that. Before the first response
    it is the machine's clock. While that disagrees with the responses, or before the first one with the account of an
    earlier run, and nothing has decided between them, it is the earlier of both: no window ends after a time that the
    service may not have reached. `revise` has the rules.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._estimate: Estimate | None = None
        self._recalled: float | None = None
        self._disagreed_at: float | None = None
        self._disagreed_seconds = 0
        self.dateless_answers = 0
        """Answers of the API without a `Date` that can be read."""
        self.changed = Signal()
        """Announces that the time is another one than was carried on, or that it is settled now."""

    @property
    def synced(self) -> bool:
        """Whether any response has told the time."""
        return self._estimate is not None

    @property
    def date(self) -> int | None:
        """The time of the last response that was believed, or None before the first."""
        return None if self._estimate is None else self._estimate.time

    @property
    def source(self) -> str:
        """What the time is taken from: `service`, `probe` or `machine`."""
        if self._estimate is None:
            return "machine"
        return "probe" if self._estimate.origin <= Origin.PROBE else "service"

    @property
    def is_settled(self) -> bool:
        """False while clocks disagree by more than a minute, and nothing has decided between them."""
        if self._estimate is None:
            return self._recalled_now is None or _is_near(self._recalled_now, self._clock.wall())
        return self._estimate.is_settled

    @property
    def _recalled_now(self) -> float | None:
        """What time it is by the account of an earlier run."""
        return None if self._recalled is None else self._recalled + self._clock.monotonic()

    @property
    def is_proven(self) -> bool:
        """Whether an answer of the API has settled the time, or has shown that the service does not tell it."""
        if self._estimate is None or self._estimate.origin <= Origin.PROBE:
            return self.is_settled and self.dateless_answers >= DATELESS_MIN
        return self._estimate.is_settled

    @property
    def difference_seconds(self) -> float:
        """Server minus machine at the last response that was believed."""
        if self._estimate is None:
            return 0.0
        return self._estimate.time - (self._estimate.machine + self._estimate.monotonic)

    @property
    def doubt(self) -> str:
        """Why the time is in doubt, for people; empty when it is not."""
        seconds = round(self.difference_seconds)
        if not self.is_settled and self._estimate is None and self._recalled_now is not None:
            seconds = round(self._recalled_now - self._clock.wall())
            return f"this machine's clock is {_off(seconds)} by the last run's account, and no response tells the time"
        if not self.is_settled:
            told = "a probe says" if self.source == "probe" else "the service says"
            return f"{told} that this machine's clock is {_off(seconds)}, and nothing confirms it"
        if abs(seconds) > STEP_SECONDS_MAX:
            return f"this machine's clock is {_off(seconds)} by the {self.source}, whose time is used"
        if self._disagreed_at is not None and self._clock.monotonic() - self._disagreed_at < DISAGREED_SECONDS:
            return f"answers of the service disagree by {abs(self._disagreed_seconds)} s"
        return ""

    def now(self) -> int:
        """Whole seconds since the epoch, as the server counts them."""
        if self._estimate is None:
            wall = self._clock.wall()
            recalled = self._recalled_now
            return int(wall if recalled is None or _is_near(recalled, wall) else min(recalled, wall))
        carried = self._estimate.at(self._clock.monotonic())
        return carried if self._estimate.is_settled else min(carried, int(self._clock.wall()))

    def recall(self, time: float) -> None:
        """Take note of what time it is by the account of an earlier run; a response that agrees is settled by it."""
        self._recalled = time - self._clock.monotonic()

    def observe(self, date: int, origin: Origin = Origin.ANSWER, *, age: int = 0) -> int:
        """Take note of the `Date` and `Age` of a response that has just arrived; returns the time that it proves.

        That is the earlier of `date` and the time carried on: nothing may be taken for complete up to a time that the
        service may not have reached when it made this response.
        """
        monotonic = self._clock.monotonic()
        before, carried, was_settled = self._estimate, self.now(), self.is_settled
        seen = Observation(date + age, origin, monotonic, self._clock.wall())
        self._estimate = revise(before, seen, self._recalled)
        step = self.now() - carried
        if origin > Origin.PROBE and abs(apart := seen.time - self._estimate.at(monotonic)) > STEP_SECONDS_MAX:
            self._disagreed_at, self._disagreed_seconds = monotonic, apart
        if abs(step) > STEP_SECONDS_MAX and before is not None:
            _log.warning("clock_stepped", seconds=step)
        if abs(step) > STEP_SECONDS_MAX or (self.is_settled and not was_settled):
            self.changed.announce()
        return min(date, self.now())

    @property
    def machine_is_off(self) -> bool:
        """True when this machine's clock differs from the server's by more than the limit."""
        # A Date is cut to whole seconds: up to one second of difference means nothing.
        return self.synced and abs(self.difference_seconds) > CLOCK_DIFFERENCE_SECONDS_MAX + 1


def _off(seconds: int) -> str:
    return f"{abs(seconds)} s {'behind' if seconds > 0 else 'ahead'}"


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


@functools.cache
def boot_id() -> str:
    """Name of the machine's present boot, from which its monotonic clock counts; empty if the system has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


_TIMES_SENT_MIN: Final = 1_000_000_000
_TIMES_SENT_END: Final = 1 << 32
"""A date from before 2001, or one that the store cannot hold, is the sender's fault."""


@functools.lru_cache(maxsize=16)  # all answers of a second say the same
def parse_http_date(value: str | None) -> int | None:
    """Seconds since the epoch of an HTTP date, or None if it cannot be read.

    All three forms of RFC 9110 are taken; without a zone, or with an unknown one (`-0000`), a date is UTC.
    """
    if not value:
        return None
    try:
        date = parsedate_to_datetime(value)
        return int((date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp())
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def read_date(headers: Mapping[str, str]) -> tuple[int, int, bool] | None:
    """`Date` (s since the epoch), `Age` (s) and whether a cache was on the way; None without a readable `Date`.

    `headers` must look names up without case.
    """
    date = parse_http_date(headers.get("Date"))
    if date is None or not _TIMES_SENT_MIN <= date < _TIMES_SENT_END:
        return None
    text = (headers.get("Age") or "").split(",")[0].strip()
    age = int(text) if text.isascii() and text.isdigit() and len(text) <= 9 else 0
    hits = " ".join(headers.get(name) or "" for name in _CACHE_HEADERS).upper()
    return date, age, age > 0 or "HIT" in hits or bool(headers.get("Via"))


_CACHE_HEADERS: Final = ("X-Cache", "X-Cache-Lookup", "X-Cache-Status", "CF-Cache-Status", "Cache-Status")
