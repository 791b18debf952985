"""Planning of windows and ticks: pure tables."""

from __future__ import annotations

import pytest

from collector.journal.entries import OpenWindow, StreamState
from collector.model import ShipMode, StreamKey, Window
from collector.pipeline.windows import Horizon, Planned, missed_ticks, next_window, seconds_due, tick_of

HORIZON = Horizon(settle=60, initial_lookback=3600, span_max=7200)
NOW = 1_760_000_000


def stream(**facts: object) -> StreamState:
    state = StreamState(1, StreamKey("ListSyslogs", "r", "n"), None, None, None, "", None)
    for name, value in facts.items():
        setattr(state, name, value)
    return state


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        pytest.param(stream(), Planned(Window(NOW - 3600, NOW - 60), ShipMode.APPEND), id="a new stream looks back"),
        pytest.param(
            stream(sealed_to=NOW - 100),
            Planned(Window(NOW - 100, NOW - 60), ShipMode.APPEND),
            id="goes on behind the last",
        ),
        pytest.param(stream(sealed_to=NOW - 60), None, id="nothing is due before settle has passed"),
        pytest.param(stream(sealed_to=NOW - 10), None, id="a clock that stepped back asks nothing"),
        pytest.param(
            stream(sealed_to=NOW - 9000),
            Planned(Window(NOW - 9000, NOW - 1800), ShipMode.APPEND),
            id="a long outage is caught up in spans",
        ),
        pytest.param(
            stream(sealed_to=NOW - 100, held=[Window(0, NOW - 99)]),
            Planned(Window(NOW - 100, NOW - 60), ShipMode.COMPARE),
            id="where the store may hold rows, it is compared",
        ),
        pytest.param(
            stream(sealed_to=NOW - 100, held=[Window(NOW - 60, NOW - 59)]),
            Planned(Window(NOW - 100, NOW - 60), ShipMode.APPEND),
            id="a held range that only touches the window does not matter",
        ),
        pytest.param(
            stream(sealed_to=NOW - 60, rechecks={900: NOW - 1200}),
            Planned(Window(NOW - 1200, NOW - 900), ShipMode.COMPARE, 900),
            id="a recheck is due when a third of its delay has gathered",
        ),
        pytest.param(stream(sealed_to=NOW - 60, rechecks={900: NOW - 1199}), None, id="and not a second earlier"),
        pytest.param(
            stream(sealed_to=NOW - 100, rechecks={900: NOW - 5000}),
            Planned(Window(NOW - 100, NOW - 60), ShipMode.APPEND),
            id="new time comes before rechecks",
        ),
        pytest.param(
            stream(sealed_to=NOW - 2000, rechecks={900: NOW - 2000}),
            Planned(Window(NOW - 2000, NOW - 60), ShipMode.APPEND),
            id="a recheck never passes what was collected",
        ),
        pytest.param(
            stream(
                sealed_to=NOW - 100,
                open={900: OpenWindow(7, Window(5, 9), ShipMode.COMPARE, "c", b"", 1, 0, None, True)},
            ),
            Planned(Window(5, 9), ShipMode.COMPARE, 900),
            id="an open window comes first, as it was planned",
        ),
    ],
)
def test_the_next_window_of_a_stream(state: StreamState, expected: Planned | None) -> None:
    """What is open comes first, then new time up to settle before now, then rechecks."""
    assert next_window(state, HORIZON, NOW) == expected


@pytest.mark.parametrize(
    ("sealed_to", "tick", "expected"),
    [
        (None, 600, None),
        (541, 600, None),
        (481, 600, Window(540, 600)),
        (1, 600, Window(60, 600)),
        (601, 600, None),
    ],
)
def test_ticks_that_were_never_asked_are_a_range(sealed_to: int | None, tick: int, expected: Window | None) -> None:
    """Between the last snapshot and this one lie the missed ticks."""
    assert missed_ticks(sealed_to, tick, 60) == expected


def test_a_tick_is_a_multiple_of_the_interval() -> None:
    """A snapshot's time is the last multiple of its interval."""
    assert [tick_of(t, 60) for t in (0, 59, 60, 119)] == [0, 0, 60, 60]


def test_what_is_due_counts_seconds_up_to_settle() -> None:
    """Progress displays count the event time that first looks still have to collect."""
    assert seconds_due(stream(sealed_to=NOW - 100), HORIZON, NOW) == 40
    assert seconds_due(None, HORIZON, NOW) == 3540
    assert seconds_due(stream(sealed_to=NOW), HORIZON, NOW) == 0
