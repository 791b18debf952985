"""What readers over a network may take: how much a query, and how many requests run or wait at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from collector.queries import EngineQueryError, QueryLimits

LIMITS: Final = QueryLimits(memory_bytes_max=256 << 20)
"""As many as run at once leave the engine a third of its memory, for inserts and merges."""
REQUEST_SECONDS_MAX: Final = 120.0
"""From the first byte of a request to the last of its answer, however slowly a client takes it."""
REQUESTS_MAX: Final = 64
"""Maximum requests that are read, run or sent at the same time."""
WAITING_MAX: Final = 256
"""Maximum requests that wait for a permit; their bodies have not been read."""
WAIT_SECONDS_MAX: Final = 10.0
"""Maximum wait for a permit."""


class Admission:
    """Permits for requests, given in the order of arrival."""

    def __init__(
        self,
        requests_max: int = REQUESTS_MAX,
        waiting_max: int = WAITING_MAX,
        wait_seconds_max: float = WAIT_SECONDS_MAX,
    ) -> None:
        self._requests_max = requests_max
        self._waiting_max = waiting_max
        self._wait_seconds_max = wait_seconds_max
        self._permits = asyncio.Semaphore(requests_max)
        self.waiting = 0
        """Requests that wait now."""

    @asynccontextmanager
    async def permit(self) -> AsyncIterator[None]:
        """Hold a permit. Raises QueryError with code 202 if too many wait, or none is free in time."""
        if self._permits.locked() and self.waiting >= self._waiting_max:
            raise self._refusal(f"{self.waiting} more wait")
        self.waiting += 1
        try:
            async with asyncio.timeout(self._wait_seconds_max):
                await self._permits.acquire()
        except TimeoutError:
            raise self._refusal(f"none ended within {self._wait_seconds_max:g} s") from None
        finally:
            self.waiting -= 1
        try:
            yield
        finally:
            self._permits.release()

    def _refusal(self, reason: str) -> Exception:
        text = f"Too many simultaneous queries: {self._requests_max} run, and {reason}; try again later"
        return EngineQueryError(text, code=202, name="TOO_MANY_SIMULTANEOUS_QUERIES")
