"""What the service counted: every arrival, what became of it, and what it costs."""

from __future__ import annotations

from array import array
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple

from collector.catalogue.operation import Operation, Price
from collector.catalogue.operations import CATALOGUE


class Arrival(NamedTuple):
    """One request as counted. `ordinal` is 1 for the operation's first."""

    ordinal: int
    over_quota: bool


class BusiestSecond:
    """The most of ascending times that any half-open span of one second held.

    Kept as they come: looking through a long history when asked would hold up the calls that arrive meanwhile.
    """

    __slots__ = ("_recent", "most")

    def __init__(self) -> None:
        self.most = 0
        self._recent: deque[float] = deque()

    def add(self, at: float) -> None:
        """Count a time, monotonic seconds, never before the last."""
        self._recent.append(at)
        while at - self._recent[0] >= 1.0:
            self._recent.popleft()
        self.most = max(self.most, len(self._recent))


@dataclass(slots=True)
class OperationStats:
    """The calls of one operation so far. A refused call is a call: it is counted and priced."""

    price: Price | None
    calls: int = 0
    refused: int = 0
    """Calls over the quota."""
    rows: int = 0
    bytes: int = 0
    """Body bytes sent, before compression."""
    by_status: Counter[int] = field(default_factory=Counter)
    """Calls by HTTP status; 0 is a call whose connection was broken without one."""
    by_gateway: Counter[str] = field(default_factory=Counter)
    """Calls by wire form: `bearer` or `openapi`."""
    faults: Counter[str] = field(default_factory=Counter)
    """Faults shown, by kind."""
    in_flight: int = 0
    in_flight_max: int = 0
    arrivals: array[float] = field(default_factory=lambda: array("d"))
    """Monotonic seconds of every arrival, ascending."""
    busiest: BusiestSecond = field(default_factory=BusiestSecond)

    @property
    def cost_cny(self) -> Decimal | None:
        """CNY after the free tier of one month; None where its calls have no price."""
        paid = max(0, self.calls - self.price.free_calls_per_month) if self.price is not None else self.calls
        if self.price is None or (self.price.cny is None and paid):
            return None
        return self.price.counted_cny * paid

    def as_dict(self) -> dict[str, Any]:
        return {
            "calls": self.calls,
            "refused": self.refused,
            "rows": self.rows,
            "bytes": self.bytes,
            "by_status": {str(status): count for status, count in sorted(self.by_status.items())},
            "by_gateway": dict(sorted(self.by_gateway.items())),
            "faults": dict(sorted(self.faults.items())),
            "cost_cny": None if self.cost_cny is None else str(self.cost_cny),
            "in_flight": self.in_flight,
            "in_flight_max": self.in_flight_max,
            "max_in_any_second": self.busiest.most,
        }


class Ledger:
    """Counts calls the moment they arrive and holds each operation to its quota.

    A quota of L means: the call that finds L others in the second before it is refused. Refused
    calls count too, so a client that keeps hammering stays refused.
    """

    def __init__(self, quotas: Mapping[str, int] | None = None) -> None:
        given = dict(quotas or {})
        if unknown := given.keys() - CATALOGUE.keys():
            raise ValueError(f"no such operations: {', '.join(sorted(unknown))}")
        self.stats = {name: OperationStats(row.price) for name, row in CATALOGUE.items()}
        self._last: dict[str, deque[float]] = {
            name: deque(maxlen=given.get(name, row.quota.per_second)) for name, row in CATALOGUE.items()
        }

    def arrive(self, operation: Operation, at: float) -> Arrival:
        """Count a request that arrived at `at` (monotonic seconds, never before the last)."""
        stats = self.stats[operation.name]
        stats.calls += 1
        stats.arrivals.append(at)
        stats.busiest.add(at)
        stats.in_flight += 1
        stats.in_flight_max = max(stats.in_flight_max, stats.in_flight)
        last = self._last[operation.name]
        over = len(last) == last.maxlen and (not last or at - last[0] < 1.0)
        last.append(at)
        stats.refused += over
        return Arrival(stats.calls, over)

    def leave(self, operation: Operation, *, status: int, rows: int, sent_bytes: int) -> None:
        """The request is over; `status` 0 when it got no answer."""
        stats = self.stats[operation.name]
        stats.in_flight -= 1
        stats.by_status[status] += 1
        stats.rows += rows
        stats.bytes += sent_bytes

    def max_in_any_second(self, operation: str) -> int:
        """The most arrivals of the operation in any sliding second `[t, t + 1)`."""
        return self.stats[operation].busiest.most
