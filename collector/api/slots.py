"""Slots for calls that are on their way: so many in all, and some that no operation can take from another."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

RESERVED: Final = 2
"""Slots that each operation has for itself, where there are enough of them."""
RESERVED_RATIO_MAX: Final = 0.25
"""No operation has a larger part of all slots for itself."""
HELD_BACK_RATIO_MAX: Final = 0.5
"""No larger part of all slots is kept free for operations that may come."""


class Slots:
    """First come, first served within an operation; operations take turns.

    An operation is known from its first call on. It may use its reserved slots whenever one is free, and
    further ones while more are free than the others still have reserved, so that calls of one operation that
    hang leave room for all others. Nobody polls, and a waiter that is cancelled leaves the line.
    """

    def __init__(self, count: int, *, reserved: int = RESERVED) -> None:
        """`count` slots, at least 1; `reserved` of them for each operation, less where `count` is small."""
        if count < 1:
            raise ValueError(f"at least 1 slot is needed, got {count}")
        self._count = count
        self._reserved = min(reserved, max(1, int(count * RESERVED_RATIO_MAX)))
        self._held_back_max = int(count * HELD_BACK_RATIO_MAX)
        self._free = count
        self._taken: dict[str, int] = {}
        """Each known operation's slots in use."""
        self._lines: dict[str, deque[asyncio.Future[None]]] = {}
        """Operations with waiters, the next to be served first."""

    @property
    def free(self) -> int:
        """Slots that nobody uses."""
        return self._free

    @property
    def waiting(self) -> int:
        """Callers in line."""
        return sum(map(len, self._lines.values()))

    def taken(self, operation: str) -> int:
        """Slots that an operation uses."""
        return self._taken.get(operation, 0)

    async def acquire(self, operation: str) -> None:
        """Wait for a slot and take it; `release` is owed."""
        self._taken.setdefault(operation, 0)
        if operation not in self._lines and self._may_take(operation):
            self._take(operation)
            return
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lines.setdefault(operation, deque()).append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                # It was given the slot in the same moment.
                self.release(operation)
            else:
                self._leave_line(operation, place)
            raise

    def release(self, operation: str) -> None:
        """Give a slot back."""
        self._taken[operation] -= 1
        self._free += 1
        while (following := next(filter(self._may_take, self._lines), None)) is not None:
            place = self._lines[following][0]
            self._leave_line(following, place)
            if not place.done():
                self._take(following)
                place.set_result(None)
                self._go_behind(following)

    def _take(self, operation: str) -> None:
        self._taken[operation] += 1
        self._free -= 1

    def _may_take(self, operation: str) -> bool:
        if self._free == 0:
            return False
        if self._taken[operation] < self._reserved:
            return True
        unused = sum(max(0, self._reserved - taken) for taken in self._taken.values())
        return self._free > min(unused, self._held_back_max)

    def _leave_line(self, operation: str, place: asyncio.Future[None]) -> None:
        line = self._lines[operation]
        line.remove(place)
        if not line:
            del self._lines[operation]

    def _go_behind(self, operation: str) -> None:
        """Every other operation with waiters comes before this one's next."""
        if operation in self._lines:
            self._lines[operation] = self._lines.pop(operation)
