"""A place that everybody passes, or one at a time."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

from collector.clock import Clock

NEVER = float("inf")


@dataclass(slots=True, eq=False)
class _Waiter:
    deadline: float
    turn: asyncio.Future[bool]
    """True: it goes alone. False: it has to look again."""


class Turnstile:
    """Wide, everybody passes. Narrow, one at a time does, in the order they came, and nobody before a given time.

    However many wait, there is one timer, and a change wakes only those whom it lets through.
    """

    def __init__(self, clock: Clock, *, narrow: bool = False) -> None:
        self.is_narrow = narrow
        self._clock = clock
        self._not_before = -NEVER
        self._inside = False
        self._waiters: deque[_Waiter] = deque()
        self._timer: asyncio.Task[None] | None = None
        self._timer_due = NEVER

    @property
    def not_before(self) -> float:
        """Where it is narrow: nobody passes before this, monotonic."""
        return self._not_before

    @property
    def waiting(self) -> int:
        """Callers in line."""
        return len(self._waiters)

    async def enter(self, deadline: float, patience_until: float = NEVER) -> bool:
        """Wait to pass; True when alone, and then `leave` is owed.

        Raises TimeoutError at the deadline, and from `patience_until` on where it would have to wait; both
        are monotonic times.
        """
        while self.is_narrow:
            now = self._clock.monotonic()
            if now >= deadline:
                raise TimeoutError
            if self._is_free(now) and not self._waiters:
                self._inside = True
                return True
            until = min(deadline, patience_until)
            if now >= until:
                raise TimeoutError
            waiter = _Waiter(until, asyncio.get_running_loop().create_future())
            self._waiters.append(waiter)
            self._arrange()
            try:
                if await waiter.turn:
                    return True
            except BaseException:
                self._drop(waiter)
                raise
        return False

    def leave(self) -> None:
        self._inside = False
        self._admit()

    def widen(self) -> None:
        self.is_narrow = False
        while self._waiters:
            self._wake(self._waiters.popleft(), alone=False)
        self._arrange()

    def narrow(self, *, after_seconds: float = 0.0) -> None:
        """Let one at a time pass, the first after so many seconds."""
        self.is_narrow = True
        self._not_before = self._clock.monotonic() + after_seconds
        self._admit()

    def _is_free(self, now: float) -> bool:
        return not self._inside and now >= self._not_before

    def _admit(self) -> None:
        """Let the first in line pass if it may, and those go whose time is over."""
        now = self._clock.monotonic()
        if self.is_narrow and self._is_free(now):
            while self._waiters:
                waiter = self._waiters.popleft()
                if waiter.deadline > now and not waiter.turn.done():
                    self._inside = True
                    self._wake(waiter, alone=True)
                    break
                self._expire(waiter)
        if any(waiter.deadline <= now for waiter in self._waiters):
            for waiter in self._waiters:
                if waiter.deadline <= now:
                    self._expire(waiter)
            self._waiters = deque(waiter for waiter in self._waiters if waiter.deadline > now)
        self._arrange()

    @staticmethod
    def _wake(waiter: _Waiter, *, alone: bool) -> None:
        if not waiter.turn.done():
            waiter.turn.set_result(alone)

    @staticmethod
    def _expire(waiter: _Waiter) -> None:
        if not waiter.turn.done():
            waiter.turn.set_exception(TimeoutError())

    def _drop(self, waiter: _Waiter) -> None:
        """Its wait is over without its having been let in."""
        if waiter in self._waiters:
            self._waiters.remove(waiter)
            self._arrange()
        elif _was_let_in(waiter.turn):
            # It was, in the same moment.
            self.leave()

    def _arrange(self) -> None:
        """Set the timer for the next moment at which time alone changes something."""
        due = min((waiter.deadline for waiter in self._waiters), default=NEVER)
        if self._waiters and not self._inside:
            due = min(due, self._not_before)
        if due == self._timer_due:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_due, self._timer = due, None
        if due < NEVER:
            self._timer = asyncio.create_task(self._ring(due))

    async def _ring(self, due: float) -> None:
        await self._clock.sleep(max(0.0, due - self._clock.monotonic()))
        self._timer_due, self._timer = NEVER, None
        self._admit()


def _was_let_in(turn: asyncio.Future[bool]) -> bool:
    return turn.done() and not turn.cancelled() and turn.exception() is None and turn.result()
