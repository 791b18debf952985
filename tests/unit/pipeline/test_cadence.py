"""How often a stream is looked at."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.model import StreamKey
from collector.pipeline.cadence import Cadence, next_time, phase_of, ticks_missed

SYSLOGS = Cadence(30, 300)


def test_the_intervals_double_up_to_the_longest() -> None:
    """Between the shortest and the longest interval lie its doubles."""
    assert SYSLOGS.steps == (30, 60, 120, 240, 300)
    assert Cadence(60, 60).steps == (60,)


def test_a_quiet_stream_drifts_to_the_longest_interval_step_by_step() -> None:
    """A stream without records is looked at half as often after each look."""
    interval, seen = 30, []
    for _ in range(6):
        interval = SYSLOGS.following(interval, 0, interval)
        seen.append(interval)
    assert seen == [60, 120, 240, 300, 300, 300]


@pytest.mark.parametrize(
    ("interval", "records", "seconds", "expected"),
    [
        pytest.param(300, 2000, 300, 30, id="one that logs much comes back at once"),
        pytest.param(300, 150, 300, 120, id="as far as a look brings no more than a full answer"),
        pytest.param(30, 60, 30, 30, id="half a page in each look is no reason to wait"),
        pytest.param(30, 20, 30, 60, id="less than half a page in twice the time is"),
        pytest.param(60, 60, 60, 60, id="between the two bounds it stays, so that it does not sway"),
        pytest.param(60, 10, 0, 60, id="a look that covered no time says nothing"),
    ],
)
def test_the_pace_of_a_stream_decides(interval: int, records: int, seconds: int, expected: int) -> None:
    """What a look brings decides when the next one is made."""
    assert SYSLOGS.following(interval, records, seconds) == expected


@given(
    st.integers(1, 600),
    st.integers(1, 20),
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 900)), max_size=30),
)
def test_no_interval_leaves_the_bounds(shortest: int, factor: int, looks: list[tuple[int, int]]) -> None:
    """Whatever is found, the interval stays between the shortest and the longest."""
    cadence = Cadence(shortest, shortest * factor)
    interval = shortest
    for records, seconds in looks:
        interval = cadence.following(interval, records, seconds)
        assert cadence.interval <= interval <= cadence.interval_max


@given(st.integers(0, 2_000_000_000), st.integers(1, 86_400), st.integers(0, 86_400))
def test_the_next_time_is_on_the_grid_and_at_most_an_interval_away(after: int, interval: int, phase: int) -> None:
    """The next time is the first later one of the stream's own grid."""
    following = next_time(after, interval, phase)
    assert 0 < following - after <= interval
    assert (following - phase) % interval == 0


def test_streams_are_spread_evenly_and_always_alike() -> None:
    """A stream has the same place in the interval at each start, and no second of it is crowded."""
    keys = [StreamKey("ListSyslogs", "cn-hangzhou", f"e01-cn-{number}") for number in range(3000)]
    places = Counter(phase_of(key, 30) for key in keys)
    assert [phase_of(key, 30) for key in keys] == [phase_of(key, 30) for key in keys]
    assert set(places) == set(range(30))
    assert max(places.values()) < 150


@pytest.mark.parametrize(
    ("due", "now", "expected"), [(100, 100, 0), (100, 129, 0), (100, 130, 1), (100, 165, 2), (100, 90, 0)]
)
def test_a_tick_that_passed_while_a_look_waited_is_missed(due: int, now: int, expected: int) -> None:
    """Times of the grid that passed meanwhile are counted."""
    assert ticks_missed(due, now, 30) == expected
