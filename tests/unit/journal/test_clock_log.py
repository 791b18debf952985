"""The journal's account of the time: which period was ahead, and how streams are set back for it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from collector.journal.clock_log import Moment, Suspect, find_suspect, note_moment, read_log, set_back
from collector.journal.journal import Journal
from collector.model import ShipMode, StreamKey, Window

NOW = 1_760_000_000
HOUR = 3600


def moment(server: int, wall: int | None = None, *, boot: str = "a", monotonic: float | None = None) -> Moment:
    """All times less NOW; what is not given goes with the service's time."""
    wall = server if wall is None else wall
    return Moment(NOW + server, NOW + wall, boot, wall if monotonic is None else monotonic)


@pytest.mark.parametrize(
    ("log", "now", "expected"),
    [
        pytest.param([], moment(0), None, id="nothing is known"),
        pytest.param([moment(-600), moment(-300)], moment(0), None, id="all agree"),
        pytest.param([moment(-600, -600), moment(3000, -600)], moment(0), (-600, 3000), id="ahead, and back"),
        pytest.param([moment(3000, -600)], moment(7000), (-600, 3000), id="found out after it has passed"),
        pytest.param(
            [moment(-600, -600 - HOUR)], moment(0, boot="b"), (-HOUR - 600, -600), id="or the machine was behind"
        ),
        pytest.param(
            [moment(-600, -600 - HOUR, monotonic=-600)],
            moment(0),
            None,
            id="the wall clock was set: no doubt in one boot",
        ),
        pytest.param([moment(-600, HOUR - 600, monotonic=-600)], moment(0), None, id="set back likewise"),
        pytest.param(
            [moment(-8 * HOUR, monotonic=0), moment(0, monotonic=10)], moment(60, monotonic=70), None, id="a sleep"
        ),
        pytest.param(
            [moment(-HOUR), moment(9000, 9000, boot="b")],
            moment(0, boot="c"),
            (-HOUR, 9000),
            id="all were ahead together",
        ),
    ],
)
def test_a_period_that_was_ahead_is_found(log: list[Moment], now: Moment, expected: tuple[int, int] | None) -> None:
    """By the other clocks of the machine, of which one boot's monotonic clock cannot be set."""
    found = find_suspect(log, now)
    shown = None if found is None else tuple(None if time is None else time - NOW for time in found)
    assert shown == expected


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "j.db", {}, region="r", threaded=False)


async def adopted(journal: Journal, collected_from: int, watermark: int, rechecks: dict[int, int]) -> int:
    key = StreamKey("ListSyslogs", "r", "n")
    await journal.adopt(key, collected_from=collected_from, watermark=None, held=(), rechecks=rechecks)
    (state,) = (await journal.streams()).values()
    await journal.run(
        lambda db: (
            db.execute(
                "UPDATE streams SET collected_from = ?, sealed_to = ?, watermark = ?",
                (collected_from, watermark, watermark),
            )
            and None
        )
    )
    return state.id


@pytest.mark.parametrize(
    ("collected_from", "rechecks", "expected"),
    [
        pytest.param(-9 * HOUR, {}, -660, id="to settle before the true time"),
        pytest.param(HOUR, {}, -600 - 1800, id="to its lookback, if it began then"),
        pytest.param(-9 * HOUR, {900: 3000}, -660, id="a short recheck was fooled as well"),
        pytest.param(-9 * HOUR, {6 * HOUR: -400}, -400, id="a long one was not"),
    ],
)
async def test_a_stream_is_set_back_to_where_the_time_was_right(
    journal: Journal, collected_from: int, rechecks: dict[int, int], expected: int
) -> None:
    """Its range is compared when it is collected again, and its rechecks are owed again."""
    marks = {delay: NOW + to for delay, to in rechecks.items()}
    stream_id = await adopted(journal, NOW + collected_from, NOW + HOUR, marks)
    suspect = Suspect(3, NOW - 600, NOW + HOUR - 600)
    work = partial(set_back, stream_id=stream_id, suspects=[suspect], now=NOW, settle=60, lookback=1800)
    taken = await journal.run(work)
    state = await journal.stream(stream_id)
    assert taken is not None
    assert (state.sealed_to or 0) - NOW == (state.watermark or 0) - NOW == expected
    assert state.mode(Window(NOW, NOW + 1)) is ShipMode.COMPARE
    assert state.generation == 3
    assert all(to <= NOW - 600 for to in state.rechecks.values())


async def test_moments_are_few(journal: Journal) -> None:
    """One in ten minutes, unless a clock has moved."""
    for second in range(0, 3000, 60):
        assert await journal.run(partial(note_moment, now=moment(second))) is None
    assert [m.server - NOW for m in await journal.run(read_log)] == [0, 600, 1200, 1800, 2400]
    assert await journal.run(partial(note_moment, now=moment(2980, 2980 + 500, monotonic=2980))) is None
    assert len(await journal.run(read_log)) == 6
