"""Clocks of simulated time: one that a test moves by hand, and one whose event loop jumps from timer to timer."""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import itertools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")

STUCK_SECONDS = 30.0
"""Of the machine: so long may everything wait for something that is no timer."""


class EndlessTurning(RuntimeError):
    """Something is done again and again without getting anywhere."""


class ManualClock:
    """A clock that moves only when told to, or when every task sleeps and `run` drives it.

    `sleep` parks the caller until `advance` has moved past its time, so a simulated day
    takes as long as the work in it.
    """

    def __init__(self, wall: float = 1_760_000_000.0) -> None:
        self._wall_offset = wall
        self._now = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._sequence = itertools.count()

    def wall(self) -> float:
        return self._wall_offset + self._now

    def monotonic(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now + seconds, next(self._sequence), future))
        await future

    def step_wall(self, seconds: float) -> None:
        """Step the wall clock, as an operator or NTP does; monotonic time does not move."""
        self._wall_offset += seconds

    @property
    def next_wake(self) -> float | None:
        """Monotonic time of the next sleeper, or None when nobody sleeps."""
        while self._sleepers and self._sleepers[0][2].done():
            heapq.heappop(self._sleepers)
        return self._sleepers[0][0] if self._sleepers else None

    async def advance(self, seconds: float) -> None:
        """Move time forward, waking sleepers in the order of their times."""
        target = self._now + seconds
        while (wake := self.next_wake) is not None and wake <= target:
            _, _, future = heapq.heappop(self._sleepers)
            self._now = max(self._now, wake)
            if not future.done():
                future.set_result(None)
            await self.settle()
        self._now = target
        await self.settle()

    @staticmethod
    async def settle(rounds: int = 20) -> None:
        """Let every task that can run, run."""
        for _ in range(rounds):
            await asyncio.sleep(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is simulated: `asyncio.timeout` and `asyncio.sleep` take no time of the machine."""

    def __init__(self, steps_max: int | None = None) -> None:
        """After `steps_max` rounds it ends with EndlessTurning."""
        self.now = 0.0
        self._steps_max = steps_max
        self.steps = 0
        """Rounds of the loop so far. Between two rounds every task stands at an await."""
        self.contexts: WeakKeyDictionary[asyncio.Task[Any], contextvars.Context] = WeakKeyDictionary()
        """Of each task. Before Python 3.12 a task does not tell it."""
        self._alarm: tuple[int, Callable[[], None]] | None = None
        super().__init__(_Jumping(self))
        self.set_task_factory(_remembering)

    def time(self) -> float:
        return self.now

    def at_step(self, step: int, what: Callable[[], None]) -> None:
        """Call `what` between two rounds, once, when so many have been made. One alarm at a time."""
        self._alarm = (step, what)

    def _note_step(self) -> None:
        self.steps += 1
        if self._steps_max is not None and self.steps > self._steps_max:
            raise EndlessTurning(f"{self.steps} rounds of the loop, at {self.now:.0f} s")
        if self._alarm is not None and self.steps >= self._alarm[0]:
            (_, what), self._alarm = self._alarm, None
            what()


def _remembering(loop: Any, work: Any, context: contextvars.Context | None = None) -> asyncio.Task[Any]:
    context = contextvars.copy_context() if context is None else context
    task: asyncio.Task[Any] = asyncio.Task(work, loop=loop, context=context)
    loop.contexts[task] = context
    return task


class _Jumping(selectors.DefaultSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self._loop._note_step()
        if self._loop._ready:  # type: ignore[attr-defined]
            timeout = 0.0
        found = super().select(0.0 if timeout is not None else STUCK_SECONDS)
        if not found and timeout is None:
            raise RuntimeError("everything waits, and no timer runs")
        if not found and timeout is not None and timeout > 0:
            self._loop.now += timeout
        return found


class VirtualClock:
    """A machine's clock in simulated time; its wall clock can be stepped."""

    def __init__(self, loop: VirtualLoop, wall: float) -> None:
        self._loop = loop
        self._offset = wall

    def wall(self) -> float:
        return self._loop.now + self._offset

    def monotonic(self) -> float:
        return self._loop.now

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))

    def step_wall(self, seconds: float) -> None:
        """Step the wall clock; monotonic time does not move."""
        self._offset += seconds


def run(main: Coroutine[Any, Any, T], loop: VirtualLoop) -> T:
    """Run to the end in simulated time."""
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(main)
