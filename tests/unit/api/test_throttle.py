"""The token bucket keeps its bound, its order and its pace, whatever arrives and however late timers are."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from random import Random

import pytest
from asyncio_throttle.throttler import Throttler
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.api.throttle import (
    CATCH_UP_SECONDS,
    JITTER_HALF_LIFE_SECONDS,
    JITTER_SECONDS_MIN,
    RATE_FLOOR_RATIO,
    TokenBucket,
    buckets_for,
)
from collector.catalogue.operations import CATALOGUE
from collector.catalogue.products.eflo_controller import LIST_SYSLOGS
from collector.catalogue.products.pai_studio import GET_USER_VIEW_METRICS
from tests.support.virtual_clock import ManualClock

WINDOW_SECONDS = 1.0 + JITTER_SECONDS_MIN
ROUNDING = 1e-9


class LateClock(ManualClock):
    """A clock whose timers are late, each by the next of the given amounts."""

    def __init__(self, overshoots_seconds: Sequence[float]) -> None:
        super().__init__()
        self._overshoots = deque(overshoots_seconds)

    async def sleep(self, seconds: float) -> None:
        self._overshoots.rotate(-1)
        await super().sleep(seconds + self._overshoots[-1])


class Arrivals:
    """Callers of one bucket, and when each got its token."""

    def __init__(self, bucket: TokenBucket, clock: ManualClock) -> None:
        self.bucket = bucket
        self.clock = clock
        self.taken: list[float] = []
        self.order: list[int] = []
        self.tasks: list[asyncio.Task[None]] = []

    async def arrive(self, count: int = 1) -> None:
        for _ in range(count):
            self.tasks.append(asyncio.create_task(self._call(len(self.tasks))))
        await self.clock.settle()

    async def _call(self, number: int) -> None:
        await self.bucket.acquire()
        self.taken.append(self.clock.monotonic())
        self.order.append(number)

    async def finish(self) -> None:
        while self.bucket.waiting:
            wake = self.clock.next_wake
            assert wake is not None, "callers wait and nobody has a timer"
            await self.clock.advance(wake - self.clock.monotonic())
        await asyncio.gather(*self.tasks)


def most_in_any(window_seconds: float, times: Sequence[float]) -> int:
    """The most times in any half-open window of the given length."""
    most, first = 0, 0
    for last, time in enumerate(times):
        while time - times[first] >= window_seconds - ROUNDING:
            first += 1
        most = max(most, last - first + 1)
    return most


def start(rate_limit: int, overshoots_seconds: Sequence[float] = (0.0,)) -> Arrivals:
    clock = LateClock(overshoots_seconds)
    return Arrivals(TokenBucket(rate_limit, clock=clock), clock)


@given(
    rate_limit=st.sampled_from([1, 2, 3, 7, 10, 40]),
    gaps=st.lists(st.tuples(st.floats(0, 2.5), st.integers(1, 25)), min_size=1, max_size=8),
    overshoots=st.lists(st.floats(0, 0.4), min_size=1, max_size=6),
)
@settings(max_examples=60, deadline=None)
async def test_no_window_holds_more_than_the_limit_and_order_holds(
    rate_limit: int, gaps: list[tuple[float, int]], overshoots: list[float]
) -> None:
    """Whenever callers come and however late timers are: never more than L in W, first come first served."""
    arrivals = start(rate_limit, overshoots)
    for gap_seconds, count in gaps:
        await arrivals.arrive(count)
        await arrivals.clock.advance(gap_seconds)
    await arrivals.finish()

    assert most_in_any(WINDOW_SECONDS, arrivals.taken) <= rate_limit
    assert arrivals.order == list(range(len(arrivals.tasks)))


@pytest.mark.parametrize("rate_limit", [1, 10, 100])
@pytest.mark.parametrize("late_seconds", [0.0, 0.001, 0.005])
async def test_constant_demand_uses_the_quota(rate_limit: int, late_seconds: float) -> None:
    """While there is work at least 97 % of the quota is used, with timers 5 ms late on average."""
    random = Random(3)
    arrivals = start(rate_limit, [random.uniform(0, 2 * late_seconds) for _ in range(97)])
    await arrivals.arrive(rate_limit * 8 + 1)
    await arrivals.finish()

    rate = (len(arrivals.taken) - 1) / (arrivals.taken[-1] - arrivals.taken[0])
    assert rate >= 0.97 * rate_limit
    assert rate <= rate_limit / WINDOW_SECONDS + ROUNDING


async def test_a_server_behind_jitter_never_counts_more_than_the_limit() -> None:
    """With travel times that differ by up to J, no second at the server holds more than the limit."""
    random = Random(11)
    arrivals = start(100, [random.uniform(0, 0.004) for _ in range(50)])
    await arrivals.arrive(500)
    await arrivals.finish()

    for _ in range(20):
        seen = sorted(time + random.uniform(0.030, 0.030 + JITTER_SECONDS_MIN) for time in arrivals.taken)
        assert most_in_any(1.0, seen) <= 100


async def test_a_quota_does_not_leave_in_one_burst() -> None:
    """After idling, tokens come paced: only the small allowance leaves at once."""
    arrivals = start(100)
    await arrivals.clock.advance(60)
    await arrivals.arrive(100)
    await arrivals.finish()

    assert most_in_any(0.010, arrivals.taken) <= CATCH_UP_SECONDS * 100 + 2


async def test_a_stall_is_not_made_good() -> None:
    """A pause of the process for half a second is forgone, but for the small allowance."""
    arrivals = start(100)
    await arrivals.arrive(200)
    await arrivals.clock.advance(0.5)
    before = len(arrivals.taken)
    # Nobody runs while time passes: the head's timer is late by the length of the stall.
    arrivals.clock._now += 0.5
    await arrivals.clock.advance(0.0)
    caught_up = len(arrivals.taken) - before
    await arrivals.finish()

    assert 1 <= caught_up <= CATCH_UP_SECONDS * 100 + 2
    assert most_in_any(WINDOW_SECONDS, arrivals.taken) <= 100


async def test_only_the_first_in_line_has_a_timer() -> None:
    """A thousand waiters have one timer between them."""
    arrivals = start(10)
    sleeps = 0
    sleep = arrivals.clock.sleep

    async def counted(seconds: float) -> None:
        nonlocal sleeps
        sleeps += 1
        await sleep(seconds)

    arrivals.clock.sleep = counted  # type: ignore[method-assign]
    await arrivals.arrive(1000)
    await arrivals.clock.advance(5.0)

    assert arrivals.bucket.waiting == 1000 - len(arrivals.taken)
    assert sleeps <= len(arrivals.taken) + 1
    for task in arrivals.tasks:
        task.cancel()
    await asyncio.gather(*arrivals.tasks, return_exceptions=True)
    assert arrivals.bucket.waiting == 0


@given(
    cancelled=st.sets(st.integers(0, 29), max_size=25), at_seconds=st.floats(0, 2), rate_limit=st.sampled_from([1, 10])
)
@settings(max_examples=40, deadline=None)
async def test_a_cancelled_waiter_takes_no_token(cancelled: set[int], at_seconds: float, rate_limit: int) -> None:
    """Whoever is cancelled leaves the line; the others are served as if it had not been there."""
    arrivals = start(rate_limit)
    await arrivals.arrive(30)
    await arrivals.clock.advance(at_seconds)
    served = len(arrivals.taken)
    for number in cancelled:
        arrivals.tasks[number].cancel()
    await arrivals.clock.settle()
    remaining = [number for number in range(30) if number < served or number not in cancelled]
    while arrivals.bucket.waiting:
        wake = arrivals.clock.next_wake
        assert wake is not None
        await arrivals.clock.advance(wake - arrivals.clock.monotonic())
    await asyncio.gather(*arrivals.tasks, return_exceptions=True)

    alone = start(rate_limit)
    await alone.arrive(len(remaining))
    await alone.finish()
    assert arrivals.order == remaining
    assert arrivals.taken[-1] <= max(alone.taken[-1], at_seconds) + ROUNDING


async def test_a_refusal_halves_the_rate_and_the_rate_climbs_back() -> None:
    """After a refusal half the quota is used; each second of clean use gives a twentieth back."""
    arrivals = start(100)
    assert arrivals.bucket.slow_down() is True
    assert arrivals.bucket.rate == 50.0
    await arrivals.arrive(1200)
    await arrivals.clock.advance(2.0)
    assert 80 <= len(arrivals.taken) <= 115
    assert 59 <= arrivals.bucket.rate <= 61
    await arrivals.finish()

    assert arrivals.bucket.rate == 100.0


async def test_idling_does_not_restore_the_rate() -> None:
    """A slowed bucket that nobody uses for an hour is still slow: only use without refusals proves something."""
    arrivals = start(100)
    arrivals.bucket.slow_down()
    await arrivals.clock.advance(3600)
    await arrivals.arrive()

    assert arrivals.bucket.rate <= 56


async def test_nothing_leaves_before_a_pause_ends() -> None:
    """A demanded pause holds even the caller whose timer was running already."""
    arrivals = start(1)
    await arrivals.arrive(3)
    await arrivals.clock.advance(0.5)
    arrivals.bucket.slow_down(7.0)
    arrivals.bucket.slow_down(2.0)
    assert arrivals.bucket.paused_seconds() == pytest.approx(7.0)
    await arrivals.finish()

    assert arrivals.taken[0] == 0.0
    assert arrivals.taken[1] >= 7.5
    assert arrivals.bucket.paused_seconds() == 0.0


async def test_refusals_of_one_moment_count_once() -> None:
    """Requests refused together halve the rate once; later ones again, down to the floor."""
    arrivals = start(100)
    assert [arrivals.bucket.slow_down() for _ in range(5)] == [True, False, False, False, False]
    assert arrivals.bucket.rate == 50.0
    for _ in range(20):
        await arrivals.clock.advance(2.0)
        arrivals.bucket.slow_down()

    assert 100 * RATE_FLOOR_RATIO <= arrivals.bucket.rate <= 100 * RATE_FLOOR_RATIO + 10


async def test_jitter_is_learned_from_refusals_and_forgotten() -> None:
    """A refusal although the bound was kept widens W; without further ones half of that goes in ten minutes."""
    arrivals = start(10)
    for _ in range(4):
        arrivals.bucket.slow_down()
        await arrivals.clock.advance(5.0)
    learned = arrivals.bucket.jitter_seconds - JITTER_SECONDS_MIN
    assert learned == pytest.approx(0.020, rel=0.05)
    assert arrivals.bucket.window_seconds == pytest.approx(WINDOW_SECONDS + 0.020, abs=0.002)

    await arrivals.clock.advance(JITTER_HALF_LIFE_SECONDS)
    await arrivals.arrive()
    await arrivals.finish()
    assert arrivals.bucket.jitter_seconds - JITTER_SECONDS_MIN == pytest.approx(learned / 2, rel=0.05)


async def test_endless_refusals_leave_a_bucket_that_still_works() -> None:
    """However often the service refuses, the window stays bounded and tokens keep coming."""
    arrivals = start(10)
    for _ in range(500):
        arrivals.bucket.slow_down()
        await arrivals.clock.advance(2.0)
    assert arrivals.bucket.window_seconds <= 1.5
    await arrivals.arrive(5)
    await arrivals.finish()

    assert len(arrivals.taken) == 5


async def test_a_restarted_process_honours_what_was_sent_before() -> None:
    """Tokens that an earlier process took still count against the same second."""
    first = start(10)
    await first.arrive(10)
    await first.clock.advance(1.0)
    ages = first.bucket.snapshot()
    assert ages == sorted(ages, reverse=True)

    down_seconds = 0.1
    second = start(10)
    second.bucket.restore(age + down_seconds for age in ages)
    await second.arrive(20)
    await second.finish()

    start_of_second = first.clock.monotonic() + down_seconds
    times = first.taken + [start_of_second + time for time in second.taken]
    assert most_in_any(WINDOW_SECONDS, times) <= 10


async def test_a_snapshot_forgets_what_no_longer_counts() -> None:
    """Tokens older than W are not carried over; ages from a clock that stepped back count as now."""
    arrivals = start(10)
    await arrivals.arrive(3)
    await arrivals.clock.advance(30.0)
    assert arrivals.bucket.snapshot() == []

    arrivals.bucket.restore([-5.0])
    assert arrivals.bucket.snapshot() == [0.0]


async def test_an_unknown_past_counts_as_spent() -> None:
    """When nothing is known about the last second, nothing leaves for W, and then it is paced."""
    arrivals = start(100)
    arrivals.bucket.assume_spent()
    await arrivals.arrive(100)
    await arrivals.finish()

    assert arrivals.taken[0] >= WINDOW_SECONDS - ROUNDING
    assert most_in_any(0.010, arrivals.taken) <= CATCH_UP_SECONDS * 100 + 2


async def test_used_ratio_is_the_part_taken_in_the_last_second() -> None:
    """The used part follows the last second only."""
    arrivals = start(10)
    assert arrivals.bucket.used_ratio(arrivals.clock.monotonic()) == 0.0
    await arrivals.arrive(5)
    await arrivals.finish()

    now = arrivals.clock.monotonic()
    assert arrivals.bucket.used_ratio(now) == 0.5
    assert arrivals.bucket.used_ratio(now + 5) == 0.0


async def test_it_is_a_throttler() -> None:
    """It stands wherever an asyncio-throttle Throttler does, as a context manager too."""
    bucket = TokenBucket(5, clock=ManualClock())
    assert isinstance(bucket, Throttler)
    async with bucket:
        assert bucket.waiting == 0
    assert len(bucket.snapshot()) == 1


def test_a_quota_below_one_is_refused() -> None:
    """A bucket that could never give a token cannot be made."""
    with pytest.raises(ValueError, match="at least 1"):
        TokenBucket(0, clock=ManualClock())


def test_each_operation_has_its_own_bucket() -> None:
    """Buckets take the catalogue's quota unless the configuration gives another."""
    buckets = buckets_for(CATALOGUE.values(), ManualClock(), {"ListSyslogs": 7})

    assert buckets[LIST_SYSLOGS.name].rate_limit == 7
    assert buckets[GET_USER_VIEW_METRICS.name].rate_limit == 100
    assert set(buckets) == set(CATALOGUE)


async def test_a_caller_held_up_before_its_bytes_left_counts_from_when_they_did() -> None:
    """A process that stands still between token and bytes brings no more than the limit into the server's second."""
    clock = ManualClock()
    bucket = TokenBucket(4, clock=clock)
    left: list[float] = []
    held_up_seconds = deque([0.2, *[0.0] * 6, 0.1, *[0.0] * 4])

    async def send() -> None:
        await bucket.acquire()
        # The machine runs something else for a while.
        clock._now += held_up_seconds.popleft()
        left.append(clock.monotonic())

    tasks = [asyncio.create_task(send()) for _ in range(12)]
    await clock.settle()
    while (wake := clock.next_wake) is not None:
        await clock.advance(max(0.0, wake - clock.monotonic()))
    await asyncio.gather(*tasks)

    assert most_in_any(bucket.window_seconds, left) <= 4
