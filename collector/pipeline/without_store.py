"""What a service does without while no store has answered since its start: rows gather in the journal.

Only streams that the journal knows are collected, as if this process had never ended. Nothing is shipped before it
has been entered among those that write to the store, which is when it starts anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence

from collector.errors import StoreUnavailable
from collector.model import StreamKey
from collector.pipeline.ship import Shipped


class KnownStreams:
    """The `Membership` of a process that can ask nobody: it goes on with what it had."""

    def __init__(self, known: Collection[StreamKey]) -> None:
        self._known = frozenset(known)

    async def join(self) -> None:
        """Nobody can be told."""

    async def stay(self) -> None:
        """Nobody can be told."""
        await asyncio.Event().wait()

    async def claim(self, keys: Sequence[StreamKey]) -> Sequence[StreamKey]:
        """Those that are known."""
        return [key for key in keys if key in self._known]

    def held_back(self, keys: Sequence[StreamKey]) -> int:
        """None: whose the others are is for the store to say."""
        return 0


class NoShipping:
    """A `Shipping` that leaves everything in the journal."""

    def __init__(self, error: StoreUnavailable) -> None:
        self.shipped = Shipped(last_error=str(error))

    async def run(self, stop: asyncio.Event) -> None:
        """Wait for the end."""
        await stop.wait()

    async def drain(self, attempts_max: int = 5) -> None:
        """Nothing can be shipped."""
