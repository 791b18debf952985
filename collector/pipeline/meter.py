"""The meter of the API client, kept in the journal."""

from __future__ import annotations

from collector.api.metering import Attempt
from collector.api.operation import Operation
from collector.clock import ServerClock
from collector.journal.journal import Journal


class JournalMeter:
    """Reserves each call in the journal before it is sent and settles the failed ones.

    Calls that succeed are settled by whoever commits their rows.
    """

    def __init__(self, journal: Journal, server_clock: ServerClock) -> None:
        self._journal = journal
        self._server_clock = server_clock

    async def reserve(self, operation: Operation) -> int:
        """Durable before it returns: a crash after it counts the call as unknown."""
        return await self._journal.reserve(operation.name, self._server_clock.now())

    async def settle(self, attempt: Attempt) -> None:
        """Enter what became of a call that brought no rows."""
        await self._journal.settle(attempt)

    async def release(self, ticket: int) -> None:
        """Take back a call that was never sent."""
        await self._journal.release(ticket)
