"""When which stream is looked at: a queue by time for each operation, so that none holds up another."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from dataclasses import dataclass

from collector.clock import Clock, wait_for
from collector.journal.entries import StreamState
from collector.pipeline.streams import Streams


@dataclass(slots=True, eq=False)
class Slot:
    """One stream in the schedule."""

    streams: Streams
    state: StreamState
    interval: int
    """Seconds between two regular looks at present."""
    phase: int
    due_at: float = 0.0
    """Monotonic seconds."""
    entered_at: float = 0.0
    """Monotonic seconds."""
    is_regular: bool = True
    """False when it is due outside of its grid, to catch up or to try again."""
    is_polled: bool = False
    polled_at: int | None = None
    """Server time at which the last look began, seconds since the epoch."""
    records: int = 0
    """Records of the look that is being made."""
    is_gone: bool = False
    """No longer asked for by the configuration, or ended."""
    # What fails
    failures: int = 0
    failed_at: float = 0.0
    """Monotonic time of the first failure in a row."""
    is_told: bool = False
    """The log has its failure."""
    is_refused: bool = False
    """The service refuses this scope, or does not know it (403, 404)."""


class Queue:
    """The slots of one operation, ordered by when they are due."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._heap: list[tuple[float, int, Slot]] = []
        self._numbers = itertools.count()
        self._changed = asyncio.Event()

    def put(self, slot: Slot) -> None:
        """Enter a slot that is in no queue, due at its time."""
        heapq.heappush(self._heap, (slot.due_at, next(self._numbers), slot))
        if self._heap[0][2] is slot:
            self._changed.set()

    def hasten(self, chosen: list[Slot]) -> None:
        """Make slots due now. They may or may not be in the queue."""
        wanted = {id(slot) for slot in chosen}
        now = self._clock.monotonic()
        for _, _, slot in self._heap:
            if id(slot) in wanted:
                slot.due_at, slot.is_regular = now, False
        self.rebuild()

    def rebuild(self) -> None:
        """Bring the order up to date after due times were changed, and drop what is gone."""
        self._heap = [(slot.due_at, number, slot) for _, number, slot in self._heap if not slot.is_gone]
        heapq.heapify(self._heap)
        self._changed.set()

    def due(self) -> int:
        """How many slots are due now."""
        now = self._clock.monotonic()
        return sum(due_at <= now for due_at, _, _ in self._heap)

    async def next_due(self) -> Slot:
        """Wait for the first slot that is due, and take it out."""
        while True:
            while self._heap and self._heap[0][2].is_gone:
                heapq.heappop(self._heap)
            wait = self._heap[0][0] - self._clock.monotonic() if self._heap else None
            if wait is not None and wait <= 0:
                return heapq.heappop(self._heap)[2]
            self._changed.clear()
            await wait_for(self._changed, self._clock, wait)
