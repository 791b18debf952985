"""What is missing of a range of a stream, and why. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from collector.journal.coverage import Gap, less
from collector.model import StreamKey, Window

NOT_YET = "not collected yet"
BEFORE = "before the stream was collected"
ADDED_LATER = "the stream was added later than others"


@dataclass(frozen=True, slots=True)
class Coverage:
    """A stream as the journal or the store knows it."""

    key: StreamKey
    collected_from: int | None
    watermark: int | None
    gaps: tuple[Gap, ...] = ()
    has_ended: bool = False
    """Nothing more is expected of it than what was collected; of one that never began, nothing at all."""


@dataclass(frozen=True, slots=True)
class Missing:
    """A range of a stream that is not covered; without a range nothing of it is."""

    key: StreamKey
    window: Window | None
    reason: str


def missing(stream: Coverage, start: int | None, end: int | None, earliest: int | None) -> list[Missing]:
    """What of `[start, end)` is not covered. Where an end is None, it is the stream's own.

    `earliest` is the first second that any stream of the operation is collected from.
    """
    if stream.collected_from is None or stream.watermark is None:
        if stream.has_ended:
            return []
        window = Window(start, end) if start is not None and end is not None else None
        return [Missing(stream.key, window, NOT_YET)]
    first = stream.collected_from if start is None else start
    last = stream.watermark if end is None or stream.has_ended else end
    if first >= last:
        return []
    asked = Window(first, last)
    found = [(part, gap.reason) for gap in stream.gaps for part in _cut(asked, gap.window)]
    gaps = [window for window, _ in found]
    later = earliest is not None and earliest < stream.collected_from
    found += [(part, ADDED_LATER if later else BEFORE) for part in _rest(asked, 0, stream.collected_from, gaps)]
    found += [(part, NOT_YET) for part in _rest(asked, stream.watermark, asked.end, gaps)]
    return [Missing(stream.key, window, reason) for window, reason in sorted(found)]


def _cut(window: Window, other: Window) -> list[Window]:
    start, end = max(window.start, other.start), min(window.end, other.end)
    return [Window(start, end)] if start < end else []


def _rest(asked: Window, start: int, end: int, gaps: Sequence[Window]) -> list[Window]:
    """What of `[start, end)` is asked and is no gap already."""
    return [left for part in (_cut(asked, Window(start, end)) if start < end else []) for left in less(part, gaps)]
