"""What time it was, as earlier runs knew it: for finding out later that a clock was ahead.

The journal keeps moments at which the service's time was read beside the machine's clocks. A later moment at which the
service's time has gone back against those shows that it was ahead then, since when, and by how much at least: what
was sealed since is suspect. A suspect period has a number that only grows; a stream takes over the number of the last
one that it was corrected for as its `generation`.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from collector.journal.coverage import GAP_CLOCK, SET_BACK, add_gaps
from collector.model import Window

LOG_KEY: Final = "clock_log"
SUSPECTS_KEY: Final = "clock_suspects"
MOMENTS_MAX: Final = 500
MOMENT_SECONDS: Final = 600
"""Between two moments that are remembered, unless the clocks have moved against each other."""
SUSPECTS_MAX: Final = 20
DRIFT_SECONDS_MAX: Final = 60
"""A smaller difference is none."""
UNKNOWN_SECONDS: Final = 86_400
"""How far a stream is set back if nothing tells since when the clock was ahead."""


@dataclass(frozen=True, slots=True)
class Moment:
    """All clocks at one moment, in seconds."""

    server: int
    wall: float
    boot: str
    """Names the boot of the machine that `monotonic` counts from; empty if unknown."""
    monotonic: float

    def is_ahead_of(self, later: Moment) -> bool:
        """Whether the service's time was ahead at this moment, if it is right at the later one."""
        served, by_wall = later.server - self.server, later.wall - self.wall
        if not self._shares_boot(later):
            return served < by_wall - DRIFT_SECONDS_MAX
        by_monotonic = later.monotonic - self.monotonic
        if served < by_monotonic - DRIFT_SECONDS_MAX:
            return True
        # The monotonic clock stands while the machine sleeps. Where the service's time agrees with it all the same, the
        # wall clock was set.
        is_carried = served <= by_monotonic + DRIFT_SECONDS_MAX
        return served < by_wall - DRIFT_SECONDS_MAX and not is_carried

    def wall_step(self, later: Moment) -> float:
        """By how much the wall clock was set since, as far as the other clocks agree that it was; else 0."""
        if not self._shares_boot(later):
            return 0.0
        by_monotonic = later.monotonic - self.monotonic
        step = later.wall - self.wall - by_monotonic
        is_carried = abs(later.server - self.server - by_monotonic) <= DRIFT_SECONDS_MAX
        return step if is_carried and abs(step) > DRIFT_SECONDS_MAX else 0.0

    def told_by(self, later: Moment) -> int:
        """What the service's time was at this moment, reckoned back from a later one that is right."""
        passed = later.wall - self.wall
        if self._shares_boot(later):
            passed = max(passed, later.monotonic - self.monotonic)
        return int(later.server - passed)

    def _shares_boot(self, other: Moment) -> bool:
        return bool(self.boot) and self.boot == other.boot


@dataclass(frozen=True, slots=True)
class Suspect:
    """A period in which the service's time was ahead."""

    number: int
    base: int | None
    """The true time when it began, None if unknown."""
    ahead_from: int
    """What the time was taken for when it began."""

    @property
    def ahead_seconds(self) -> int | None:
        return None if self.base is None else self.ahead_from - self.base


def find_suspect(log: Sequence[Moment], now: Moment) -> tuple[int | None, int] | None:
    """The true time (None if unknown) at the first moment that was ahead, and the time it was taken for. Pure."""
    for place, moment in enumerate(log):
        if moment.is_ahead_of(now):
            base = moment.told_by(now)
            return (base if base <= now.server else None), moment.server
        if moment.server > now.server + DRIFT_SECONDS_MAX:
            # All clocks were ahead together; until the moment before they were not.
            return (log[place - 1].server if place else None), moment.server
    return None


def note_moment(db: sqlite3.Connection, now: Moment) -> Suspect | None:
    """Remember a moment; returns the suspect period that it shows to have ended, if any."""
    log = read_log(db)
    if log and (step := log[-1].wall_step(now)):
        # Moments of earlier boots have no other witness than the wall clock, which was set.
        log = [m if m.boot == now.boot else replace(m, wall=m.wall + step) for m in log]
    found = find_suspect(log, now)
    suspect = None
    if found is not None:
        suspect = add_suspect(db, *found)
        log = [m for m in log if find_suspect([m], now) is None]
    has_moved = bool(log) and (
        abs((log[-1].server - log[-1].wall) - (now.server - now.wall)) > DRIFT_SECONDS_MAX
        or abs((log[-1].server - log[-1].monotonic) - (now.server - now.monotonic)) > DRIFT_SECONDS_MAX
    )
    if not log or found is not None or has_moved or now.server - log[-1].server >= MOMENT_SECONDS:
        log = [*log, now][-MOMENTS_MAX:]
        rows = [[m.server, m.wall, m.boot, m.monotonic] for m in log]
        db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (LOG_KEY, json.dumps(rows)))
    return suspect


def read_log(db: sqlite3.Connection) -> list[Moment]:
    """The moments that are remembered, oldest first."""
    return [Moment(*row) for row in _read(db, LOG_KEY)]


def read_suspects(db: sqlite3.Connection) -> list[Suspect]:
    """The suspect periods that are remembered, in the order of their numbers."""
    return [Suspect(*row) for row in _read(db, SUSPECTS_KEY)]


def add_suspect(db: sqlite3.Connection, base: int | None, ahead_from: int) -> Suspect:
    """Enter a suspect period, under a number that no stream has."""
    known = read_suspects(db)
    (latest,) = db.execute("SELECT ifnull(max(generation), 0) FROM generations").fetchone()
    suspect = Suspect(max([latest, *(one.number for one in known)]) + 1, base, ahead_from)
    rows = [[one.number, one.base, one.ahead_from] for one in [*known, suspect][-SUSPECTS_MAX:]]
    db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (SUSPECTS_KEY, json.dumps(rows)))
    return suspect


def _read(db: sqlite3.Connection, key: str) -> list[list[Any]]:
    row = db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return [] if row is None else list(json.loads(row[0]))


@dataclass(frozen=True, slots=True)
class SetBack:
    """How a stream was corrected."""

    sealed_to: int
    """Up to where it was collected by its own account."""
    now_sealed_to: int


def set_back(
    db: sqlite3.Connection,
    stream_id: int,
    suspects: Sequence[Suspect],
    *,
    now: int,
    settle: int,
    lookback: int,
    tick: int = 0,
    has_gaps: bool = False,
) -> SetBack | None:
    """Take back what a stream sealed while the clock was ahead, so that it is collected again by comparison.

    `now` is the time that is known now; `settle` and `lookback` are the stream's, in seconds. A stream with a `tick`
    shows only the present: just what is dated in the future is taken back, since nothing else can be asked again; with
    `has_gaps` the ticks that were dated wrongly are a gap. Returns None if nothing had to be taken back.
    """
    number = max(suspect.number for suspect in suspects)
    db.execute(
        "INSERT INTO generations VALUES (?, ?, NULL) ON CONFLICT DO UPDATE SET generation = excluded.generation",
        (stream_id, number),
    )
    db.execute("UPDATE streams SET watermark_shipped = NULL WHERE id = ?", (stream_id,))
    collected_from, sealed_to = db.execute(
        "SELECT collected_from, sealed_to FROM streams WHERE id = ?", (stream_id,)
    ).fetchone()
    if sealed_to is None:
        return None
    is_known = all(one.base is not None for one in suspects)
    base = min(now - UNKNOWN_SECONDS if one.base is None else one.base for one in suspects)
    (adopted_to,) = db.execute("SELECT adopted_to FROM generations WHERE stream_id = ?", (stream_id,)).fetchone()
    if is_known and adopted_to is not None and adopted_to > base - UNKNOWN_SECONDS:
        # Another process sealed it shortly before, perhaps with the same dates, and since when is not known here.
        is_known, base = False, base - UNKNOWN_SECONDS
    # A stream that began in the suspect period would have begun here. One that is older did so before.
    begun = max(0, (base if is_known else now) - lookback)
    if tick:
        wrong = min(one.ahead_from for one in suspects) // tick * tick
        if has_gaps and wrong < sealed_to:
            add_gaps(db, stream_id, [(Window(wrong, sealed_to), GAP_CLOCK)])
        if sealed_to <= now + DRIFT_SECONDS_MAX:
            return None
        limit = (base if is_known else now) // tick * tick
        begun = limit
    else:
        limit = _trusted_to(db, stream_id, suspects, base, settle, is_known=is_known)
    if collected_from is None or collected_from > begun:
        collected_from = limit = begun
    limit = max(limit, collected_from)
    if limit >= sealed_to:
        return None
    db.execute("INSERT OR IGNORE INTO held VALUES (?, ?, ?)", (stream_id, limit, sealed_to))
    for (window_id,) in db.execute(
        "SELECT id FROM windows WHERE stream_id = ? AND seal_number IS NULL AND delay >= 0 AND end > ?",
        (stream_id, limit),
    ).fetchall():
        db.execute("DELETE FROM chunks WHERE window_id = ?", (window_id,))
        db.execute("DELETE FROM windows WHERE id = ?", (window_id,))
    # Their rows are shipped as they are, but do not move the watermark any more.
    db.execute(
        "UPDATE windows SET delay = ? WHERE stream_id = ? AND seal_number IS NOT NULL AND delay = 0 AND end > ?",
        (SET_BACK, stream_id, limit),
    )
    db.execute(
        "UPDATE streams SET collected_from = ?, sealed_to = ?, watermark = min(watermark, ?) WHERE id = ?",
        (collected_from, limit, limit, stream_id),
    )
    db.execute(
        "UPDATE rechecks SET rechecked_to = min(rechecked_to, max(?, min(?, ? - delay))) WHERE stream_id = ?",
        (collected_from, limit, base, stream_id),
    )
    return SetBack(sealed_to, limit)


def _trusted_to(
    db: sqlite3.Connection, stream_id: int, suspects: Sequence[Suspect], base: int, settle: int, *, is_known: bool
) -> int:
    """Up to where a stream is complete all the same."""
    limit = base - settle
    ahead = [one.ahead_seconds for one in suspects if one.ahead_seconds is not None]
    if not is_known:
        return limit
    # A recheck whose delay is longer than the clock was ahead has seen what the first look could not.
    (rechecked_to,) = db.execute(
        "SELECT ifnull(max(rechecked_to), 0) FROM rechecks WHERE stream_id = ? AND delay >= ?",
        (stream_id, max(ahead) + settle),
    ).fetchone()
    return max(limit, int(rechecked_to))
