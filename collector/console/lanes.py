"""Lanes: what happened, as spans on the axis of the charts above and below them, drawn as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from collector.console.drawing import plain, state_class
from collector.console.table import Mark

HEIGHT = 14
GAP = 3
ROWS_MAX = 6


@dataclass(frozen=True, slots=True)
class Lane:
    """One kind of what happened."""

    title: str
    marks: Sequence[Mark]
    failure: str = ""
    """Why it is not known what happened."""
    empty: str = "none"


def lane_svg(lane: Lane, start: int, end: int) -> Markup:
    """Return a lane's spans from `start` to `end`, seconds; those at the same time stand below one another."""
    rows: list[int] = []
    parts = []
    for mark in sorted(lane.marks, key=lambda mark: mark.time):
        until = mark.end if mark.end is not None else mark.time
        if until < start or mark.time > end:
            continue
        left, right = ((min(max(at, start), end) - start) / (end - start) * 100 for at in (mark.time, until))
        place = next((row for row, busy in enumerate(rows) if busy <= mark.time), len(rows))
        if place < ROWS_MAX:
            rows[place : place + 1] = [max(until, mark.time + 1)]
        else:
            place = ROWS_MAX - 1
        parts.append(
            Markup(
                '<rect class="{}" x="{:.2f}%" y="{}" width="{:.2f}%" height="{}" rx="1"><title>{}</title></rect>'
            ).format(
                "mark " + (mark.severity if mark.severity in _OWN else state_class(mark.severity) or "calm"),
                min(left, 99.6),
                place * (HEIGHT + GAP),
                max(right - left, 0.4),
                HEIGHT,
                plain(mark.title),
            )
        )
    height = max(1, len(rows)) * (HEIGHT + GAP) - GAP
    count = len(parts)
    label = f"{lane.title}: {f'{count} in this range, in the tables below' if count else lane.empty}"
    return Markup('<svg class="lane" height="{}" role="img" aria-label="{}">{}</svg>').format(
        height, label, Markup("").join(parts)
    )


_OWN = ("covered", "missing", "quiet", "outside")
"""States of coverage, which have colours of their own."""
