"""Which window is due. Pure: a stream's state and the time in, a window out."""

from __future__ import annotations

from dataclasses import dataclass

from collector.journal.coverage import BACKFILL, REPLAY, REPLAY_PART, Piece
from collector.journal.entries import StreamState
from collector.model import ShipMode, Window

FIRST_LOOK = 0
"""The `delay` of a window that is collected for the first time."""

SPAN_SECONDS_MAX = 6 * 3600
"""The longest range asked for at once. Pages bound the rows of a window, this bounds the time it
spans and so how much is read again when its cursor dies."""

RECHECK_SHARE = 3
"""A recheck waits until a third of its delay has gathered: few calls, and still found in time."""

RECHECK_LOOKS = 3
"""And until it spans so many looks, so that a stream that is looked at rarely is rechecked rarely."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A window to collect next. `delay` is 0 for the first look, else that of the recheck."""

    window: Window
    mode: ShipMode
    delay: int = FIRST_LOOK


@dataclass(frozen=True, slots=True)
class Horizon:
    """How far a windowed stream is to be collected, in seconds."""

    settle: int
    initial_lookback: int
    span_max: int = SPAN_SECONDS_MAX
    until: int | None = None
    """There is nothing to collect from here on, such as after the end of a job."""
    interval: int = 0
    """Time between two looks at present, 0 where looks are not regular."""
    since: int | None = None
    """Where a stream begins that nothing was collected of yet, instead of `initial_lookback` before now."""

    def begin(self, now: int) -> int:
        """Where a stream begins that nothing was collected of yet."""
        return now - self.initial_lookback if self.since is None else self.since

    def end(self, now: int) -> int:
        """Up to where first looks may go at server time `now`."""
        end = now - self.settle
        return end if self.until is None else min(end, self.until)


def next_window(state: StreamState, horizon: Horizon, now: int) -> Planned | None:
    """The next window of a stream at server time `now`: an open one, else new time, else a recheck."""
    for delay, open_window in state.open.items():
        # A backfill goes on with its own.
        if delay != BACKFILL:
            return Planned(open_window.window, open_window.mode, delay)
    return first_look(state, horizon, now) or next_recheck(state, horizon, now)


def first_look(state: StreamState, horizon: Horizon, now: int) -> Planned | None:
    """New time: from the end of the last window to `settle` before now."""
    start = horizon.begin(now) if state.sealed_to is None else state.sealed_to
    end = min(horizon.end(now), start + horizon.span_max)
    if end <= start:
        return None
    window = Window(max(0, start), end)
    return Planned(window, state.mode(window))


def next_recheck(state: StreamState, horizon: Horizon, now: int) -> Planned | None:
    """Closed windows whose recheck is due, in one range as wide as its delay's share at least."""
    if state.sealed_to is None:
        return None
    is_complete = horizon.until is not None and state.sealed_to >= horizon.until
    for delay, rechecked_to in sorted(state.rechecks.items()):
        end = min(state.sealed_to, now - delay)
        # What is left at the end of a stream that has ended will never gather.
        gathered = 1 if is_complete and end == state.sealed_to else gather_seconds(delay, horizon.interval)
        if end - rechecked_to >= gathered:
            window = Window(rechecked_to, min(end, rechecked_to + horizon.span_max))
            return Planned(window, ShipMode.COMPARE, delay)
    return None


def looked_again(delay: int) -> str:
    """What a window is for that is no first look, as the journal's counters name it; empty for all others."""
    if delay == BACKFILL:
        return "backfill"
    if delay in (REPLAY, REPLAY_PART):
        return "replay"
    return "recheck" if delay > FIRST_LOOK else ""


def next_backfill(state: StreamState, piece: Piece, span_max: int) -> Planned:
    """The next window of a piece of a backfill that is not read yet; all of it is compared."""
    reading = state.open.get(BACKFILL)
    if reading is not None:
        return Planned(reading.window, reading.mode, BACKFILL)
    start = piece.sealed_to
    return Planned(Window(start, min(piece.window.end, start + span_max)), ShipMode.COMPARE, BACKFILL)


def gather_seconds(delay: int, interval: int) -> int:
    """How much has to gather before a recheck of `delay` asks, where looks are `interval` apart; all in seconds."""
    return max(1, delay // RECHECK_SHARE, RECHECK_LOOKS * interval)


def is_finished(state: StreamState, horizon: Horizon, now: int) -> bool:
    """Whether a stream has ended and every look at it has been made, or it ended too long ago to be looked at."""
    if horizon.until is None or state.open.keys() - {BACKFILL}:
        return False
    if state.sealed_to is None:
        return horizon.until <= now - horizon.initial_lookback
    return state.sealed_to >= horizon.until and all(
        rechecked_to >= horizon.until for rechecked_to in state.rechecks.values()
    )


def seconds_due(state: StreamState | None, horizon: Horizon, now: int) -> int:
    """Event time still to be collected by first looks, for progress displays."""
    begin = horizon.begin(now) if state is None or state.sealed_to is None else state.sealed_to
    reading = state.open.get(FIRST_LOOK) if state is not None else None
    if reading is not None and reading.in_order and reading.last_time is not None:
        begin = max(begin, reading.last_time)
    return max(0, horizon.end(now) - begin)


def tick_of(time: int, interval: int) -> int:
    """The tick that `time` belongs to: the last multiple of the interval."""
    return time // interval * interval


def snapshot_window(tick: int) -> Window:
    """A snapshot covers its own second: everything before `tick + 1` is stored once it is."""
    return Window(tick, tick + 1)


def missed_ticks(sealed_to: int | None, tick: int, interval: int) -> Window | None:
    """The range of ticks between the last snapshot and `tick` that were never asked."""
    if sealed_to is None:
        return None
    start = tick_of(sealed_to - 1, interval) + interval
    return Window(start, tick) if start < tick else None
