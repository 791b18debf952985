"""Columns over time that are divided by name: as many parts as have colours, the smallest together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from collector.console.table import Chart, Series

SERIES_MAX: Final = 8
OTHERS: Final = "others"


def stacked(chart: Chart, amounts: Iterable[tuple[int, str, float]]) -> Chart:
    """Return a chart with a series for each name of `amounts`, which are (place in `chart.times`, name, amount).

    A place without an amount is 0. Without any amount the chart has no times, and says that there is nothing.
    """
    totals: dict[str, float] = {}
    known = [(place, name, amount) for place, name, amount in amounts if amount and 0 <= place < len(chart.times)]
    for _, name, amount in known:
        totals[name] = totals.get(name, 0.0) + amount
    names = sorted(totals, key=lambda name: (-totals[name], name))
    if len(names) > SERIES_MAX:
        names = [*names[: SERIES_MAX - 1], OTHERS]
    values = {name: [0.0] * len(chart.times) for name in names}
    for place, name, amount in known:
        values[name if name in values else OTHERS][place] += amount
    series = [Series(name, points) for name, points in values.items()]
    return replace(chart, times=list(chart.times) if series else [], series=series)
