"""A range of time in equal steps, and which of them a node's log stream covers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from collector.console.period import Period
from collector.console.store import Answer


@dataclass(frozen=True, slots=True)
class Steps:
    """Steps of a usual length from `start` until before `end`, seconds since the epoch, multiples of `step`."""

    start: int
    end: int
    step: int

    @classmethod
    def of(cls, period: Period, count_max: int, least: int = 1) -> Steps:
        """Return the shortest usual steps, of at least `least` seconds, that cover a period."""
        step = max(period.step(count_max), least)
        return cls(period.start // step * step, -(-period.end // step) * step, step)

    @property
    def times(self) -> range:
        """Start of each step."""
        return range(self.start, self.end, self.step)

    @property
    def parameters(self) -> dict[str, str]:
        """`start`, `end` and `step` of the console's own queries."""
        return {"start": str(self.start), "end": str(self.end), "step": str(self.step)}

    @property
    def range(self) -> dict[str, str]:
        """`start` and `end` of the console's own queries."""
        return {"start": str(self.start), "end": str(self.end)}

    def spread(self, pairs: Iterable[Sequence[Any]], nothing: Any = None) -> list[Any]:
        """Return a value for each step from pairs of a place and its value; `nothing` where there is no pair."""
        values = [nothing] * len(self.times)
        for place, value in pairs:
            if 0 <= place < len(values):
                values[place] = value
        return values


@dataclass(frozen=True, slots=True)
class Hole:
    """A range of a stream that is not covered, seconds since the epoch."""

    start: int
    end: int
    reason: str


@dataclass(frozen=True, slots=True)
class Coverage:
    """What of a node's log is collected."""

    collected_from: int
    watermark: int
    """Everything before it is stored, but what lies in the holes."""
    query: str = ""
    """Only lines that it selects are collected; empty collects all."""
    holes: Sequence[Hole] = ()

    def seconds(self, start: int, end: int) -> int:
        """Return how many seconds of a range are covered."""
        start, end = max(start, self.collected_from), min(end, self.watermark)
        reached, missing = start, 0
        for hole in sorted(self.holes, key=lambda hole: hole.start):
            first = max(hole.start, reached)
            reached = max(reached, min(hole.end, end))
            missing += max(0, reached - first)
        return max(0, end - start - missing)


def coverages(streams: Answer, gaps: Answer) -> Mapping[str, Coverage]:
    """Return the coverage of each node from the answers of `node_streams` and `node_gaps`."""
    holes: dict[str, list[Hole]] = {}
    for row in gaps.rows:
        holes.setdefault(row["node_id"], []).append(Hole(row["first_second"], row["end_second"], row["reason"]))
    return {
        row["node_id"]: Coverage(row["collected_from"], row["watermark"], row["query"], holes.get(row["node_id"], ()))
        for row in streams.rows
    }
