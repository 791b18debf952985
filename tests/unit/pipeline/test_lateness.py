"""Delays learned from what is stored, and the settle that comes of them."""

from __future__ import annotations

import uuid

import pytest

from collector.clock import ServerClock
from collector.journal.entries import StreamState
from collector.model import StreamKey, Window
from collector.pipeline.lateness import (
    LEARN_SECONDS,
    ROWS_MIN,
    SETTLE_MARGIN_SECONDS,
    Delay,
    Lateness,
    next_settle,
    wanted_settle,
)
from collector.pipeline.streams import WindowStreams
from collector.pipeline.windows import Horizon, next_window
from collector.sources.normalise import lines
from collector.sources.syslogs import SyslogSource
from collector.store.embedded import EmbeddedStore
from tests.support.virtual_clock import ManualClock

NOW = 1_760_000_000
BOUNDS = (15, 300)
COLUMNS = ("time", "receive_time", "region", "node_id", "msg")


def delay(p999: float) -> Delay:
    return Delay(1000, 1, 2, p999, 9_999)


def test_a_settle_is_a_quantile_within_its_bounds() -> None:
    """999 of 1,000 records have arrived by then, and neither a fast nor a hopeless node leaves the bounds."""
    assert wanted_settle(None, BOUNDS) == 60
    assert wanted_settle(delay(40.0), BOUNDS) == 40 + SETTLE_MARGIN_SECONDS
    assert wanted_settle(delay(1.0), BOUNDS) == 15
    assert wanted_settle(delay(7_000.0), BOUNDS) == 300


def test_a_settle_changes_slowly() -> None:
    """At most to twice and at least to nine tenths from one time of learning to the next."""
    assert next_settle(None, 200) == 200
    assert next_settle(60, 300) == 120
    assert next_settle(60, 80) == 80
    assert next_settle(100, 15) == 90
    assert next_settle(16, 15) == 15


def test_a_longer_settle_never_asks_for_what_is_sealed_again() -> None:
    """The next window begins where the last one ended, and waits until that lies behind the settle."""
    state = StreamState(1, StreamKey("o", "r", "n"), NOW - 900, NOW - 60, NOW - 60, "", None)
    assert next_window(state, Horizon(settle=300, initial_lookback=900), NOW) is None
    planned = next_window(state, Horizon(settle=300, initial_lookback=900), NOW + 250)
    assert planned is not None
    assert planned.window == Window(NOW - 60, NOW - 50)


@pytest.mark.slow("late rows")
async def test_each_node_settles_by_its_own_delays(store: EmbeddedStore) -> None:
    """A slow node waits longer, a quiet one goes by all nodes, and what is older than a day is forgotten."""
    rows: list[tuple[int, int | None, str, str, str]] = []
    rows += [(NOW - number, NOW - number + 8, "r", "fast", "m") for number in range(1_000)]
    rows += [(NOW - number, NOW - number + 120, "r", "slow", "m") for number in range(1_000)]
    rows += [(NOW - number, NOW - number + 2, "r", "quiet", "m") for number in range(ROWS_MIN // 2)]
    rows += [(NOW - 90_000 - number, NOW, "r", "fast", "m") for number in range(1_000)]
    rows += [(NOW, NOW - 7, "r", "ahead", "m"), (NOW, None, "r", "unsaid", "m")]
    await store.insert("syslogs", COLUMNS, lines(rows), token=str(uuid.uuid4()))
    clock = ManualClock()
    server_clock = ServerClock(clock)
    server_clock.observe(NOW)
    lateness = Lateness(store, "r", clock, server_clock, BOUNDS)
    await lateness.learn()
    assert lateness.all is not None
    assert (lateness.all.rows, lateness.all.most) == (2_000 + ROWS_MIN // 2 + 1, 120)
    assert lateness.settles == {"fast": 15, "slow": 125, "quiet": 125, "ahead": 125}
    assert lateness.first == 125

    streams = WindowStreams(
        "syslogs", SyslogSource(), ["fast", "slow", "new"], settle=lateness.first, initial_lookback=600, rechecks=(),
        settles=lateness.settles,
    )  # fmt: skip
    assert streams.settle == 125
    fresh = StreamState(1, StreamKey("ListSyslogs", "r", "fast"), None, None, None, "", None)
    assert streams.due(fresh, NOW) == 600 - 15


@pytest.mark.slow("late rows")
async def test_learning_is_not_repeated_within_ten_minutes(store: EmbeddedStore) -> None:
    """Whoever asks, the store is read once in that time."""
    clock = ManualClock()
    server_clock = ServerClock(clock)
    server_clock.observe(NOW)
    lateness = Lateness(store, "r", clock, server_clock, BOUNDS)
    await lateness.learn()
    await store.insert("syslogs", COLUMNS, lines([(NOW, NOW + 9, "r", "n", "m")]), token=str(uuid.uuid4()))
    await lateness.learn()
    assert lateness.all is None
    await clock.advance(LEARN_SECONDS)
    await lateness.learn()
    assert lateness.all is not None
