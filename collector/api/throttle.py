"""A token bucket that keeps a service's quota exactly, from the service's point of view.

A request travels between some and some more milliseconds, so two that leave a second apart may
arrive within one. When travel times differ by at most J seconds, the service never counts more
than L requests in any second if at most L leave in any W = 1 s + J. Each of the L tokens
therefore comes back W after it was taken, which is the exact bound, and tokens are handed out
W / L apart, so that they do not leave all at once. At J = 25 ms that uses 97.5 % of the quota.

A token's time is the latest moment at which its request can have left: on a busy machine a process
may be held up between taking a token and writing the bytes, and that delay is travel time, too.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Final

from asyncio_throttle.throttler import Throttler

from collector.catalogue.operation import Operation
from collector.clock import Clock

PERIOD_SECONDS: Final = 1.0
"""Quotas are requests per second."""
JITTER_SECONDS_MIN: Final = 0.025
"""J of a network nothing is known about."""
JITTER_SECONDS_MAX: Final = 0.500
JITTER_STEP_SECONDS: Final = 0.005
"""A refusal raises J by this."""
JITTER_HALF_LIFE_SECONDS: Final = 600.0
"""What was learned about J loses half its weight in this time."""
CATCH_UP_SECONDS: Final = 0.050
"""So much of a delay is made good, enough for late timers; after a stall the rest is forgone."""
SLOW_DOWN_FACTOR: Final = 0.5
RATE_FLOOR_RATIO: Final = 0.05
"""The rate never falls below this part of the quota."""
CLIMB_RATIO_PER_SECOND: Final = 0.05
"""In each second of use without a refusal the rate climbs by this part of the quota."""


class _Token:
    """One request's part of the quota."""

    __slots__ = ("time",)

    def __init__(self, time: float) -> None:
        self.time = time
        """When its request left, monotonic."""


class TokenBucket(Throttler):
    """The quota of one operation: `await acquire()`, or `async with`, right before sending.

    First come, first served. Only the first in line has a timer; the others wait for their turn,
    so a thousand of them cost nothing. A waiter that is cancelled leaves the line and takes no
    token. The time that counts is read after the wait, when the caller really goes on.
    """

    def __init__(self, rate_limit: int, *, clock: Clock, jitter_seconds: float = JITTER_SECONDS_MIN) -> None:
        """`rate_limit` is the quota in requests per second, at least 1."""
        if rate_limit < 1:
            raise ValueError(f"a quota is at least 1 request per second, got {rate_limit}")
        super().__init__(rate_limit, period=PERIOD_SECONDS)
        self._clock = clock
        self._jitter_min = max(jitter_seconds, JITTER_SECONDS_MIN)
        self._learned_jitter = 0.0
        self._taken: deque[_Token] = deque(maxlen=rate_limit)
        self._rate = float(rate_limit)
        self._paced = -float("inf")
        """Earliest time of the next token by pace alone."""
        self._paused_until = -float("inf")
        self._slowed_at = -float("inf")
        self._adjusted_at = clock.monotonic()
        self._turn = asyncio.Lock()
        self._waiting = 0

    @property
    def waiting(self) -> int:
        """Callers in line."""
        return self._waiting

    @property
    def rate(self) -> float:
        """Requests per second that the bucket gives at present; the quota unless slowed down."""
        return self._rate

    @property
    def jitter_seconds(self) -> float:
        """J as far as it is known."""
        return self._jitter_min + self._learned_jitter

    @property
    def window_seconds(self) -> float:
        """W: no more than `rate_limit` tokens are taken in any span of this length."""
        return PERIOD_SECONDS + self.jitter_seconds

    def paused_seconds(self) -> float:
        """How long nothing will be given, 0 when not paused."""
        return max(0.0, self._paused_until - self._clock.monotonic())

    def used_ratio(self, now: float) -> float:
        """Part of the quota taken in the second before `now` (monotonic)."""
        return sum(token.time > now - PERIOD_SECONDS for token in self._taken) / self.rate_limit

    async def acquire(self) -> None:
        """Wait for a token and take it. Send in this step of the event loop or the next: the time then counts."""
        self._waiting += 1
        try:
            # The lock wakes its waiters in the order they came, and lets nobody past them.
            async with self._turn:
                while (wait := self._due() - self._clock.monotonic()) > 0:
                    await self._clock.sleep(wait)
                self._take()
        finally:
            self._waiting -= 1

    def slow_down(self, retry_after_seconds: float | None = None) -> bool:
        """Take note of a refusal: pause as demanded, halve the rate, learn about J.

        Requests already on their way are often refused together, so the rate is cut at most once
        in W. Returns whether it was.
        """
        now = self._clock.monotonic()
        self._paused_until = max(self._paused_until, now + (retry_after_seconds or 0.0))
        if now - self._slowed_at < self.window_seconds:
            return False
        self._adjust(now)
        self._slowed_at = now
        self._rate = max(self._rate * SLOW_DOWN_FACTOR, self.rate_limit * RATE_FLOOR_RATIO)
        # The bound was kept and still it was too fast, so travel times differ by more than was known.
        room = JITTER_SECONDS_MAX - self._jitter_min
        self._learned_jitter = min(self._learned_jitter + JITTER_STEP_SECONDS, max(room, 0.0))
        return True

    def change_limit(self, rate_limit: int) -> None:
        """Go on with another quota, in requests per second; tokens that were taken still count."""
        if rate_limit == self.rate_limit:
            return
        is_slowed = self._rate < self.rate_limit
        self._rate = min(self._rate, float(rate_limit)) if is_slowed else float(rate_limit)
        self.rate_limit = rate_limit
        self._taken = deque(self._taken, maxlen=rate_limit)

    def snapshot(self) -> list[float]:
        """How many seconds ago each token that still counts was taken, oldest first."""
        now = self._clock.monotonic()
        return [now - token.time for token in self._taken if now - token.time < self.window_seconds]

    def restore(self, seconds_ago: Iterable[float]) -> None:
        """Honour what an earlier process took: ages as `snapshot` gave them plus the time since."""
        now = self._clock.monotonic()
        # A negative age, from a clock that stepped back, counts as just now.
        restored = (_Token(now - max(age, 0.0)) for age in seconds_ago)
        self._taken = deque(sorted([*self._taken, *restored], key=lambda token: token.time), maxlen=self.rate_limit)

    def assume_spent(self) -> None:
        """Nothing is known about the last second: act as if every token had just been taken."""
        self.restore([0.0] * self.rate_limit)

    def _due(self) -> float:
        """Monotonic time at which the next token may be taken."""
        due = max(self._paced, self._paused_until)
        if len(self._taken) == self.rate_limit:
            due = max(due, self._taken[0].time + self.window_seconds)
        return due

    def _take(self) -> None:
        now = self._clock.monotonic()
        self._adjust(now)
        token = _Token(now)
        self._taken.append(token)
        self._paced = max(self._paced, now - CATCH_UP_SECONDS) + self._spacing()
        loop = asyncio.get_running_loop()
        # What runs two rounds later was queued after the caller's next step, so the bytes are out by then.
        loop.call_soon(loop.call_soon, self._left, token)

    def _left(self, token: _Token) -> None:
        token.time = self._clock.monotonic()

    def _spacing(self) -> float:
        return self.window_seconds / self._rate

    def _adjust(self, now: float) -> None:
        """Climb back and forget, for the time since this was last done."""
        elapsed = now - self._adjusted_at
        self._adjusted_at = now
        self._learned_jitter *= 0.5 ** (elapsed / JITTER_HALF_LIFE_SECONDS)
        # A pause without use proves nothing, however long it was.
        used = min(elapsed, self.window_seconds)
        self._rate = min(self._rate + self.rate_limit * CLIMB_RATIO_PER_SECOND * used, float(self.rate_limit))


def buckets_for(
    operations: Iterable[Operation], clock: Clock, quotas: Mapping[str, int] | None = None
) -> dict[str, TokenBucket]:
    """One bucket per operation, by its name; `quotas` (requests per second) beat the catalogue's."""
    given = quotas or {}
    return {
        operation.name: TokenBucket(given.get(operation.name, operation.quota.per_second), clock=clock)
        for operation in operations
    }
