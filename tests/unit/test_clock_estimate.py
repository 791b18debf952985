"""What time it is: dates of every form, the estimate after each response, and what a cache is worth."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from multidict import CIMultiDict

from collector.clock import (
    AGREEING_MIN,
    DATELESS_MIN,
    Estimate,
    Observation,
    Origin,
    ServerClock,
    parse_http_date,
    read_date,
    revise,
)

START = 1_760_000_000
HOUR = 3600
DAY = 86_400


@pytest.fixture(params=["UTC", "CST-8", "America/New_York", "Asia/Kolkata"], autouse=False)
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The machine's time zone; the one before is set again."""
    parse_http_date.cache_clear()
    with monkeypatch.context() as patch:
        patch.setenv("TZ", request.param)
        time.tzset()
        yield
    time.tzset()
    parse_http_date.cache_clear()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Thu, 09 Oct 2025 08:53:20 GMT", START),
        ("Thursday, 09-Oct-25 08:53:20 GMT", START),
        ("Thu Oct  9 08:53:20 2025", START),
        ("Thu, 09 Oct 2025 08:53:20 -0000", START),
        ("Thu, 09 Oct 2025 08:53:20", START),
        ("Thu, 09 Oct 2025 16:53:20 +0800", START),
        ("Thu, 09 Oct 2025 08:53:20 UTC", START),
        ("", None),
        ("now", None),
        ("0", None),
        ("Thu, 99 Oct 2025 08:53:20 GMT", None),
    ],
)
def test_a_date_means_the_same_in_every_zone(zone: None, text: str, expected: int | None) -> None:
    """Without a zone it is UTC, whatever zone the machine is in."""
    assert parse_http_date(text) == expected


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, (START, 0, False)),
        ({"Age": "120"}, (START, 120, True)),
        ({"Age": "0", "X-Cache": "MISS"}, (START, 0, False)),
        ({"Age": "120, 60"}, (START, 120, True)),
        ({"Age": "-5"}, (START, 0, False)),
        ({"Age": "soon"}, (START, 0, False)),
        ({"X-Cache": "HIT TCP_MEM_HIT dirn:1:2"}, (START, 0, True)),
        ({"cf-cache-status": "hit"}, (START, 0, True)),
        ({"Via": "1.1 proxy"}, (START, 0, True)),
    ],
)
def test_a_cache_shows_in_the_headers(headers: dict[str, str], expected: tuple[int, int, bool]) -> None:
    """`Age` is added to `Date`; what passed through a cache weighs less."""
    assert read_date(CIMultiDict({"Date": "Thu, 09 Oct 2025 08:53:20 GMT"} | headers)) == expected


@pytest.mark.parametrize("date", ["", "x", "Thu, 01 Jan 1970 00:00:00 GMT", "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_a_date_that_cannot_be_is_none(date: str) -> None:
    """Neither the epoch nor the end of time is the present."""
    assert read_date(CIMultiDict({"Date": date})) is None


def after(*seen: tuple[Origin, int], machine: int = 0, recalled: int | None = None) -> Estimate:
    """The estimate after responses, a second apart: where from, and by how much its date is off."""
    estimate: Estimate | None = None
    for second, (origin, off) in enumerate(seen):
        observation = Observation(START + second + off, origin, float(second), START + second + machine)
        estimate = revise(estimate, observation, None if recalled is None else START + recalled)
    assert estimate is not None
    return estimate


def off(estimate: Estimate) -> int:
    return estimate.time - START - round(estimate.monotonic)


PROBE, CACHED, ANSWER = Origin.PROBE, Origin.CACHED, Origin.ANSWER


@pytest.mark.parametrize(
    ("seen", "machine", "expected"),
    [
        pytest.param([(PROBE, 0)], 0, (0, True), id="probe and machine agree"),
        pytest.param([(PROBE, -2 * HOUR)], 0, (-2 * HOUR, False), id="they disagree"),
        pytest.param([(PROBE, -2 * HOUR), (ANSWER, 0)], 0, (0, True), id="the API sides with the machine"),
        pytest.param([(PROBE, HOUR), (ANSWER, 0)], 0, (0, True), id="also against a probe ahead"),
        pytest.param([(PROBE, 0), (ANSWER, 0)], DAY, (0, True), id="or with the probe"),
        pytest.param([(PROBE, 5 * HOUR), (ANSWER, 0)], DAY, (0, False), id="three times, all different"),
        pytest.param([(PROBE, 5 * HOUR), *[(ANSWER, 0)] * AGREEING_MIN], DAY, (0, True), id="answers agree then"),
        pytest.param([(PROBE, 0), *[(ANSWER, HOUR)] * 9], 0, (HOUR, False), id="the API against probe and machine"),
        pytest.param([(ANSWER, HOUR), (ANSWER, 0)], 0, (0, True), id="two backends, the machine knows"),
        pytest.param([(ANSWER, HOUR), (ANSWER, 0)], DAY, (0, False), id="two backends, the earlier is safe"),
        pytest.param([(ANSWER, 0), (ANSWER, HOUR), (ANSWER, 0)], DAY, (0, True), id="and is settled when it repeats"),
        pytest.param([(ANSWER, 0), *[(CACHED, -HOUR)] * 99], 0, (0, True), id="a cache moves no answer"),
        pytest.param([(ANSWER, 0), *[(PROBE, -HOUR)] * 99], 0, (0, True), id="nor does a probe"),
        pytest.param([(CACHED, -HOUR), (ANSWER, 0)], 0, (0, True), id="an answer moves a cache"),
    ],
)
def test_the_api_goes_first_and_the_probe_last(
    seen: list[tuple[Origin, int]], machine: int, expected: tuple[int, bool]
) -> None:
    """A time is settled once two clocks that do not depend on each other agree on it."""
    estimate = after(*seen, machine=machine)
    assert (off(estimate), estimate.is_settled) == expected


def test_what_an_earlier_run_knew_settles_what_agrees_with_it() -> None:
    """A machine that is a day off need not be found out by another call in every run."""
    assert after((PROBE, 0), machine=DAY, recalled=0).is_settled
    assert not after((PROBE, HOUR), machine=DAY, recalled=0).is_settled


@pytest.mark.parametrize("ahead", [HOUR, -HOUR])
def test_answers_of_two_backends_move_no_settled_time(ahead: int) -> None:
    """However long they alternate: the one that the machine confirms is kept."""
    seen = [(ANSWER, ahead if second % 2 else 0) for second in range(600)]
    assert off(after(*seen)) == 0


class Machine:
    """A machine whose wall clock and monotonic clock can be moved apart."""

    def __init__(self, offset: float = 0.0) -> None:
        self.passed, self.offset = 0.0, offset

    def wall(self) -> float:
        return START + self.passed + self.offset

    def monotonic(self) -> float:
        return self.passed

    async def sleep(self, seconds: float) -> None:
        self.passed += seconds


@pytest.mark.parametrize("step", [HOUR, -HOUR])
def test_in_doubt_nothing_is_proven_past_the_earlier_clock(step: int) -> None:
    """A window sealed by it is safe whichever of them is right."""
    clock = ServerClock(Machine())
    clock.observe(START + step, Origin.PROBE)
    assert clock.now() == START + min(0, step)
    assert not clock.is_settled
    assert "probe" in clock.doubt
    assert clock.observe(START) == START
    assert (clock.now(), clock.is_settled, clock.doubt) == (START, True, "")


def test_an_answer_out_of_a_cache_proves_what_was_when_it_was_made() -> None:
    """What time it is is its `Date` plus its `Age`; its records are as old as its `Date`."""
    clock = ServerClock(Machine())
    assert clock.observe(START - HOUR, Origin.CACHED, age=HOUR) == START - HOUR
    assert clock.now() == START


def test_a_change_of_time_is_announced() -> None:
    """Who planned by the time before can plan again."""
    machine = Machine(offset=DAY)
    clock = ServerClock(machine)
    clock.observe(START)
    assert clock.changed.count == 1
    clock.observe(START)
    assert clock.is_settled
    assert clock.changed.count == 2
    assert "86400 s ahead" in clock.doubt


def test_a_sleep_of_the_machine_is_no_disagreement() -> None:
    """The monotonic clock stands meanwhile; wall clock and service go on together."""
    machine = Machine()
    clock = ServerClock(machine)
    clock.observe(START)
    machine.offset = 8 * HOUR
    assert clock.observe(START + 8 * HOUR) == START + 8 * HOUR
    assert clock.doubt == ""


@pytest.mark.parametrize("machine", [-DAY, DAY])
def test_a_machine_that_contradicts_the_last_run_is_in_doubt(machine: int) -> None:
    """Without any date nothing decides, and now is the earlier of both."""
    clock = ServerClock(Machine(offset=machine))
    clock.recall(START)
    assert clock.now() == START + min(0, machine)
    assert not clock.is_settled
    assert "last run" in clock.doubt
    clock.dateless_answers = DATELESS_MIN
    assert not clock.is_proven
    clock.observe(START)
    assert (clock.now(), clock.is_settled) == (START, True)


def test_a_service_without_dates_leaves_the_machines_clock() -> None:
    """Some answers have to show that it never tells the time."""
    clock = ServerClock(Machine())
    assert not clock.is_proven
    clock.dateless_answers = DATELESS_MIN
    assert (clock.is_settled, clock.is_proven, clock.source) == (True, True, "machine")
