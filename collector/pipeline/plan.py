"""What a configuration will call and cost. Pure arithmetic on a month of 30 days.

Calls are a lower bound: each look is one page, and nothing is repeated. Where looks adapt to the data there are
two ends: `least` is every stream quiet (`interval_max`), `most` is every stream busy (`interval`).
"""

from __future__ import annotations

import enum
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Generic, TypeVar

from collector.catalogue.operation import Operation, Price, known_cny
from collector.pipeline.cadence import look_spread
from collector.pipeline.windows import SPAN_SECONDS_MAX, gather_seconds
from collector.units import DAY_SECONDS

MONTH_DAYS = 30

QUOTA_USED = Fraction(98, 100)
"""What the throttle gets out of a quota while there is work."""

N = TypeVar("N", int, float, Decimal)


class Asking(enum.StrEnum):
    """What the calls of a line are for."""

    LOOKS = "first looks"
    RECHECKS = "rechecks"
    SNAPSHOTS = "snapshots"
    LISTS = "lists"
    DETAILS = "details of what changed"
    TOKENS = "tokens"


@dataclass(frozen=True, slots=True)
class Demand:
    """What one source asks of one operation. Times are seconds."""

    source: str
    """As the configuration names it."""
    operation: Operation
    asking: Asking
    streams: int
    is_at_least: bool
    """More streams may be discovered."""
    interval: int
    interval_max: int
    """Equal to `interval` where looks do not adapt."""
    calls_per_look: int = 1
    rechecks: tuple[int, ...] = ()
    """Delays, as the configuration gives them."""
    step: int = 0
    """Added to each delay and to `settle` by sources that average over a span."""
    settle: int = 0
    points_per_second: Fraction = Fraction(0)
    """Records that each stream has in a second of event time, where that is known: it decides how many pages."""

    def calls_of(self, seconds: int) -> int:
        """Calls that take one stream's window of so many seconds."""
        records_max = self.operation.records_max or 1
        return max(self.calls_per_look, math.ceil(self.points_per_second * seconds / records_max))

    @property
    def is_window(self) -> bool:
        return self.asking is Asking.LOOKS

    def looks_per_second(self, interval: int) -> Fraction:
        """Calls a second for new data, at this interval."""
        windows = -(-interval // SPAN_SECONDS_MAX) if self.is_window else 1
        calls = self.calls_of(min(interval, SPAN_SECONDS_MAX))
        return Fraction(self.streams * calls * windows, interval)

    def rechecks_per_second(self, interval: int) -> Fraction:
        """Calls a second for late data, at this interval of looks."""
        spans = [min(SPAN_SECONDS_MAX, gather_seconds(delay + self.step, interval)) for delay in self.rechecks]
        return sum((Fraction(self.streams * self.calls_of(span), span) for span in spans), start=Fraction(0))


@dataclass(frozen=True, slots=True)
class Ends(Generic[N]):
    """The two ends of a figure."""

    least: N
    most: N


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the plan."""

    demand: Demand
    asking: Asking
    calls_per_day: Ends[int]
    calls_per_month: Ends[int]
    price: Price | None
    cny_per_month: Ends[Decimal] | None
    """After the free calls, which the operation's lines take in order; None where what others cost is not known."""


@dataclass(frozen=True, slots=True)
class QuotaUse:
    """What one source needs of an operation's quota, and what that allows."""

    demand: Demand
    per_second: int
    documented: bool
    needed_per_second: Ends[float]
    """Rechecks included."""
    interval_allowed: int
    """Least interval in seconds, not under the configured one, at which every stream can be looked at."""
    freshness_seconds: Ends[float]
    """How far the history is behind, at most, right before the next look is stored."""

    @property
    def gives_interval(self) -> bool:
        """Whether the quota gives the configured interval to all streams at once."""
        return self.interval_allowed <= self.demand.interval


@dataclass(frozen=True, slots=True)
class PotUse:
    """What is taken in a month out of free calls that several operations share."""

    pot: str
    calls_per_month: Ends[int]
    free_calls_per_month: int
    is_at_least: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """All lines, and what they come to."""

    lines: tuple[Line, ...]
    quotas: tuple[QuotaUse, ...]
    cny_per_month: Ends[Decimal]
    """Of the lines that have a price."""
    unpriced: tuple[str, ...]
    """Operations that are called and have none."""
    is_at_least: bool
    pots: tuple[PotUse, ...] = ()


def plan(
    demands: Sequence[Demand],
    prices: Mapping[str, Price | None],
    quotas: Mapping[str, int],
    flush_interval_seconds: float = 0.0,
) -> Plan:
    """Price the demands. `quotas` are requests a second by operation, over the catalogue's."""
    lines = price_lines(demands, prices)
    return Plan(
        lines=lines,
        quotas=tuple(
            _quota_use(demand, quotas.get(demand.operation.name, demand.operation.quota.per_second),
                       demand.operation.name in quotas, flush_interval_seconds)
            for demand in demands
            if demand.asking is not Asking.DETAILS
        ),
        cny_per_month=_sum(line.cny_per_month for line in lines),
        unpriced=tuple(dict.fromkeys(line.demand.operation.name for line in lines if line.cny_per_month is None)),
        is_at_least=any(demand.is_at_least for demand in demands),
        pots=_pot_uses(lines),
    )  # fmt: skip


def price_lines(demands: Iterable[Demand], prices: Mapping[str, Price | None]) -> tuple[Line, ...]:
    """A line for the looks of each demand and one for its rechecks."""
    before: dict[str, Ends[int]] = defaultdict(lambda: Ends(0, 0))
    lines: list[Line] = []
    for demand in demands:
        parts = [(demand.asking, demand.looks_per_second)]
        parts += [(Asking.RECHECKS, demand.rechecks_per_second)] if demand.rechecks else []
        price = prices[demand.operation.name]
        for asking, rate in parts:
            slow, fast = rate(demand.interval_max), rate(demand.interval)
            calls = Ends(_calls(slow, MONTH_DAYS), _calls(fast, MONTH_DAYS))
            name = price.pot if price is not None and price.pot else demand.operation.name
            earlier, before[name] = before[name], _added(before[name], calls)
            # How many details are asked for is not known beforehand.
            most = 2**62 if asking is Asking.DETAILS else before[name].most
            lines.append(
                Line(
                    demand=demand,
                    asking=asking,
                    calls_per_day=Ends(_calls(slow, 1), _calls(fast, 1)),
                    calls_per_month=calls,
                    price=price,
                    cny_per_month=_cost_between(price, earlier, before[name])
                    if price is not None and is_priced(price, most)
                    else None,
                )
            )
    return tuple(lines)


def _pot_uses(lines: Iterable[Line]) -> tuple[PotUse, ...]:
    found: dict[str, PotUse] = {}
    for line in lines:
        if (price := line.price) is None or not price.pot:
            continue
        before = found.get(price.pot)
        calls = line.calls_per_month if before is None else _added(before.calls_per_month, line.calls_per_month)
        is_at_least = line.demand.is_at_least or (before is not None and before.is_at_least)
        found[price.pot] = PotUse(price.pot, calls, price.free_calls_per_month, is_at_least)
    return tuple(found.values())


def cost(price: Price, calls: int) -> Decimal:
    """CNY of so many calls in a month, as far as their price is known."""
    return price.counted_cny * max(0, calls - price.free_calls_per_month)


def is_priced(price: Price | None, calls: int) -> bool:
    """Whether it is known what so many calls in a month cost."""
    return known_cny(price) is not None or (price is not None and calls <= price.free_calls_per_month)


def _calls(per_second: Fraction, days: int) -> int:
    return math.floor(per_second * DAY_SECONDS * days)


def _added(one: Ends[int], other: Ends[int]) -> Ends[int]:
    return Ends(one.least + other.least, one.most + other.most)


def _cost_between(price: Price, before: Ends[int], after: Ends[int]) -> Ends[Decimal]:
    return Ends(
        cost(price, after.least) - cost(price, before.least), cost(price, after.most) - cost(price, before.most)
    )


def _sum(ends: Iterable[Ends[Decimal] | None]) -> Ends[Decimal]:
    known = [each for each in ends if each is not None]
    return Ends(sum((e.least for e in known), start=Decimal(0)), sum((e.most for e in known), start=Decimal(0)))


def _quota_use(demand: Demand, per_second: int, is_set: bool, flush_interval_seconds: float) -> QuotaUse:
    def needed(interval: int) -> Fraction:
        return demand.looks_per_second(interval) + demand.rechecks_per_second(interval)

    allowed = demand.interval
    usable = per_second * QUOTA_USED
    if needed(allowed) > usable:
        # Longer intervals never need more, up to the longest window that is asked at once.
        low, high = allowed, max(allowed, SPAN_SECONDS_MAX)
        while needed(high) > usable and not demand.is_window:
            high *= 2
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if needed(middle) <= usable else (middle, high)
        allowed = high

    def behind(interval: int) -> float:
        late = 0 if demand.is_window else look_spread(interval)
        return interval + late + demand.settle + demand.step + 2 * flush_interval_seconds

    return QuotaUse(
        demand=demand,
        per_second=per_second,
        documented=is_set or demand.operation.quota.documented,
        needed_per_second=Ends(float(needed(demand.interval_max)), float(needed(demand.interval))),
        interval_allowed=allowed,
        freshness_seconds=Ends(behind(allowed), behind(max(allowed, demand.interval_max))),
    )
