"""What the client tells a meter about every call attempt, so that each one is counted and priced."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Protocol

from collector.catalogue.operation import Operation

CODE_TIMEOUT = "timeout"
"""Sent, and no complete answer came in time."""
CODE_CONNECTION = "connection"
"""Sent, and the connection broke before the answer was complete."""
CODE_UNKNOWN = "unknown"
"""Sent, and nobody waited for the answer: the caller was cancelled."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request that left this machine, whatever became of it. Each is billed."""

    ticket: int
    """What `Meter.reserve` gave for it."""
    operation: str
    scope_id: str
    time: int
    """When it was sent: seconds since the epoch, as the server counts them."""
    http_status: int
    """0 where no answer came."""
    code: str
    """Empty on success; else the service's code, one of the `CODE_*` above, or why the body was
    no answer (`decode.Reason`)."""
    rows: int
    """Records in the answer."""
    bytes: int
    """Length of the answer's body after decompression."""


class Meter(Protocol):
    """Where attempts are counted. An exception from `reserve` refuses the call before it is sent."""

    async def reserve(self, operation: Operation) -> int:
        """Count a call that is about to be sent; the ticket names it. May raise, such as at a budget.

        When cancelled, it must leave nothing reserved.
        """

    async def settle(self, attempt: Attempt) -> None:
        """Enter what became of a reserved call. When cancelled, the entry must still be made."""

    async def release(self, ticket: int) -> None:
        """Give a reservation back: the call was never sent."""


class NullMeter:
    """Counts nothing and keeps what it is told, for tests and for calls that nobody pays for."""

    def __init__(self) -> None:
        self.reserved: set[int] = set()
        """Tickets neither settled nor released."""
        self.settled: list[Attempt] = []
        self.released: list[int] = []
        self._tickets = itertools.count(1)

    async def reserve(self, operation: Operation) -> int:
        ticket = next(self._tickets)
        self.reserved.add(ticket)
        return ticket

    async def settle(self, attempt: Attempt) -> None:
        self.reserved.remove(attempt.ticket)
        self.settled.append(attempt)

    async def release(self, ticket: int) -> None:
        self.reserved.remove(ticket)
        self.released.append(ticket)
