"""How late records arrive: the time between an event and its reception, learned from what is stored.

It is asked of the store, not kept while collecting: an aggregation over two columns of the last day, every ten
minutes at most, costs less than a step for each row, needs no memory that could be lost, and holds what rechecks found.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import structlog

from collector.clock import Clock, ServerClock
from collector.errors import StoreError
from collector.store.base import Store
from collector.units import DAY_SECONDS

log = structlog.get_logger(__name__)

LOOK_BACK_SECONDS: Final = DAY_SECONDS
LEARN_SECONDS: Final = 600
ROWS_MIN: Final = 200
"""A node with fewer lines in a day is judged by all nodes together."""

SETTLE_MARGIN_SECONDS: Final = 5
"""Over the quantile: a record can be received and not be listed yet."""
SETTLE_FIRST_SECONDS: Final = 60
"""As long as nothing is known."""
SETTLE_UP: Final = 2.0
SETTLE_DOWN: Final = 0.9
"""A settle grows to twice and shrinks to nine tenths at most, from one time of learning to the next."""

# All in one pass; `quantilesTiming` keeps a histogram of fixed size a node. Clocks that disagree make delays negative.
# Lines of all nodes together have no node. `grouping` would need a setting, which a server refuses to who only reads.
_SQL: Final = """
SELECT
    toString(node_id) AS node,
    count(),
    quantilesTiming(0.5, 0.99, 0.999)(delay),
    max(delay)
FROM (
    SELECT node_id, greatest(0, toInt64(toUnixTimestamp(receive_time)) - toInt64(toUnixTimestamp(time))) AS delay
    FROM syslogs
    WHERE region = {region:String} AND time >= {since:UInt32} AND receive_time IS NOT NULL AND node_id != ''
)
GROUP BY GROUPING SETS ((node_id), ())
"""


@dataclass(frozen=True, slots=True)
class Delay:
    """How late the records of one node, or of all, arrived in the last day. Seconds."""

    rows: int
    p50: float
    p99: float
    p999: float
    most: int


def wanted_settle(delay: Delay | None, bounds: tuple[int, int]) -> int:
    """The settle that lets 999 of 1,000 records arrive, within bounds. Pure."""
    if delay is None:
        return SETTLE_FIRST_SECONDS
    low, high = bounds
    return min(high, max(low, int(delay.p999) + SETTLE_MARGIN_SECONDS))


def next_settle(present: int | None, wanted: int) -> int:
    """The settle after `present` on the way to the wanted one. Pure.

    A longer one never moves a watermark back: windows go on where the last one ended, once that lies behind it.
    """
    if present is None:
        return wanted
    return max(int(present * SETTLE_DOWN), min(wanted, int(present * SETTLE_UP)))


class Lateness:
    """The delays of the nodes whose log lines are stored, and the settles that come of them."""

    def __init__(
        self, store: Store, region: str, clock: Clock, server_clock: ServerClock, bounds: tuple[int, int]
    ) -> None:
        self._store = store
        self._region = region
        self._clock = clock
        self._server_clock = server_clock
        self._bounds = bounds
        self._learned_at: float | None = None
        self._nodes: Mapping[str, Delay] = {}
        self.all: Delay | None = None
        """Of all nodes together; None while nothing is stored."""
        self.settles: dict[str, int] = {}
        """Node -> its settle. Renewed in place, so that streams go by it at once."""

    @property
    def first(self) -> int:
        """The settle of a node that is not known."""
        return wanted_settle(self.all, self._bounds)

    async def learn(self) -> None:
        """Look at the last day again, ten minutes after the last look at the earliest."""
        now = self._clock.monotonic()
        if self._learned_at is not None and now - self._learned_at < LEARN_SECONDS:
            return
        self._learned_at = now
        since = max(0, self._server_clock.now() - LOOK_BACK_SECONDS)
        try:
            rows = await self._store.fetch(_SQL, {"region": self._region, "since": since})
        except StoreError as error:
            log.warning("delays_not_learned", error=str(error))
            return
        found = {node: Delay(count, p50, p99, p999, most) for node, count, (p50, p99, p999), most in rows}
        together = found.pop("", None)
        self.all = together if together is not None and together.rows else None
        self._nodes = found
        for node, delay in found.items():
            wanted = wanted_settle(delay if delay.rows >= ROWS_MIN else self.all, self._bounds)
            self.settles[node] = next_settle(self.settles.get(node), wanted)

    async def follow(self) -> None:
        """Go on learning, until cancelled."""
        while True:
            await self.learn()
            await self._clock.sleep(LEARN_SECONDS)
