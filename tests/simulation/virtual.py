"""Time that stands still while anything is done, and jumps to the next timer when all wait."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

STUCK_SECONDS = 30.0
"""Of the machine: so long may everything wait for something that is no timer."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is simulated: `asyncio.timeout` and `asyncio.sleep` take no time of the machine."""

    def __init__(self) -> None:
        self.now = 0.0
        super().__init__(_Jumping(self))

    def time(self) -> float:
        return self.now


class _Jumping(selectors.DefaultSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
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
