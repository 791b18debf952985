"""Intervals that make a configuration fit a budget. Pure.

Freshness is given up before completeness: looks become rarer first, the dearest source's first, and rechecks
are dropped only when that is not enough. What is proposed fits even if every stream is busy.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from collector.catalogue.operation import Price
from collector.pipeline.plan import Asking, Demand, price_lines
from collector.pipeline.windows import SPAN_SECONDS_MAX
from collector.units import DAY_SECONDS

_STEPS = ((120, 1), (600, 5), (3600, 30), (DAY_SECONDS, 300))
"""Up to so many seconds intervals are multiples of the second figure: fine enough to use a budget up."""


@dataclass(frozen=True, slots=True)
class Fit:
    """What the sources would have to be set to."""

    demands: tuple[Demand, ...]
    """The same demands under the new settings."""
    cny_per_month: Decimal
    """What they cost if every stream is busy."""
    fits: bool
    """False: nothing does, and this is the least that can be had."""
    changed: tuple[str, ...]
    """The sources whose settings differ, in the order of the demands."""


def fit(demands: Sequence[Demand], prices: Mapping[str, Price | None], cap_cny: Decimal) -> Fit:
    """The shortest intervals, none shorter than configured, with which a month costs at most `cap_cny`."""
    without_rechecks = [replace(demand, rechecks=()) if _costs(demand, prices) else demand for demand in demands]
    for start in (list(demands), without_rechecks):
        stretched, total = _stretched(start, prices, cap_cny)
        if total <= cap_cny:
            break
    changed = [after.source for before, after in zip(demands, stretched, strict=True) if before != after]
    return Fit(tuple(stretched), total, total <= cap_cny, tuple(dict.fromkeys(changed)))


def longer(demand: Demand) -> int | None:
    """The next longer interval that makes sense, None where there is none."""
    if demand.asking in (Asking.DETAILS, Asking.TOKENS):
        return None
    longest = SPAN_SECONDS_MAX if demand.is_window else DAY_SECONDS
    interval = demand.interval
    while interval < longest:
        step = next(step for limit, step in _STEPS if interval < limit)
        interval = (interval // step + 1) * step
        # Ticks divide a day, so that they fall on the same times every day.
        if demand.is_window or DAY_SECONDS % interval == 0:
            return interval
    return None


def _costs(demand: Demand, prices: Mapping[str, Price | None]) -> bool:
    price = prices[demand.operation.name]
    return price is not None and price.counted_cny > 0


def _stretched(
    demands: list[Demand], prices: Mapping[str, Price | None], cap_cny: Decimal
) -> tuple[list[Demand], Decimal]:
    """Make the dearest source's looks rarer, again and again, until the cap is kept or nothing can be longer."""
    while True:
        spent: dict[str, Decimal] = defaultdict(Decimal)
        for line in price_lines(demands, prices):
            if line.cny_per_month is not None:
                spent[line.demand.source] += line.cny_per_month.most
        total = sum(spent.values(), start=Decimal(0))
        if total <= cap_cny:
            return demands, total
        for source in sorted(spent, key=lambda name: spent[name], reverse=True):
            interval = next((longer(demand) for demand in demands if demand.source == source), None)
            if spent[source] > 0 and interval is not None:
                break
        else:
            return demands, total
        demands = [_at(demand, interval) if demand.source == source else demand for demand in demands]


def _at(demand: Demand, interval: int) -> Demand:
    if demand.asking in (Asking.DETAILS, Asking.TOKENS):
        return demand
    return replace(demand, interval=interval, interval_max=max(interval, demand.interval_max))
