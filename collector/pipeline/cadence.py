"""How often a stream is looked at: often where much happens, rarely where little does. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from collector.model import StreamKey

RECORDS_WANTED = 50
"""A look may bring so many records and still be made less often: half a page of the log service."""
RECORDS_FULL = 100
"""A look that brings more is made more often: a call cannot bring more than this anyway."""


@dataclass(frozen=True, slots=True)
class Cadence:
    """The intervals between two looks that a source allows, in seconds."""

    interval: int
    interval_max: int
    steps: tuple[int, ...] = field(init=False)
    """The intervals in use, ascending: each twice the one before, so that the times of a longer one are
    also times of the shorter ones and a change costs no extra look."""

    def __post_init__(self) -> None:
        steps = [self.interval]
        while steps[-1] * 2 < self.interval_max:
            steps.append(steps[-1] * 2)
        if steps[-1] < self.interval_max:
            steps.append(self.interval_max)
        object.__setattr__(self, "steps", tuple(steps))

    def following(self, interval: int, records: int, seconds: int) -> int:
        """The interval after a look that found `records` in `seconds` of event time, `interval` after the last.

        Up by one step at a time, down at once to where a look brings no more than a full answer.
        """
        if seconds <= 0:
            return self.nearest(interval)
        at = self.steps.index(self.nearest(interval))
        while at > 0 and records * self.steps[at] > RECORDS_FULL * seconds:
            at -= 1
        above = self.steps[min(at + 1, len(self.steps) - 1)]
        return above if records * above <= RECORDS_WANTED * seconds else self.steps[at]

    def nearest(self, interval: int) -> int:
        """The longest interval in use that is not longer than `interval`."""
        return max((step for step in self.steps if step <= interval), default=self.steps[0])


def phase_of(key: StreamKey, spread: int) -> int:
    """When within `spread` seconds a stream is looked at: always the same, and even over many streams."""
    digest = hashlib.blake2b(f"{key.operation}\0{key.region}\0{key.scope_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % max(1, spread)


def look_spread(interval: int) -> int:
    """Looks of ticks `interval` seconds apart are spread over so many: an answer is there before its tick ends."""
    return max(1, interval // 2)


def next_time(after: int, interval: int, phase: int) -> int:
    """The first time later than `after` that lies `phase` behind a multiple of `interval`; all in seconds."""
    return after + interval - (after - phase) % interval


def ticks_missed(due: int, now: int, interval: int) -> int:
    """Times of the grid that passed while a look that was due at `due` waited until `now`."""
    return max(0, now - due) // interval
