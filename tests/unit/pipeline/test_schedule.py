"""Queues of streams by time, and what is stopped for a while."""

from __future__ import annotations

import asyncio
from typing import Any

from collector.journal.entries import StreamState
from collector.model import StreamKey
from collector.pipeline.schedule import Queue, Slot
from collector.pipeline.stops import ACCOUNT, BUDGET, BUDGET_PAUSE_SECONDS, OPERATION, Stops
from tests.support.virtual_clock import ManualClock


def slot(name: str, due_at: float) -> Slot:
    state = StreamState(1, StreamKey("ListSyslogs", "r", name), None, None, None, "", None)
    streams: Any = None
    return Slot(streams, state, 30, 0, due_at)


async def taken(queue: Queue, clock: ManualClock, count: int, seconds: float) -> list[tuple[str, float]]:
    """The names of the next slots, each with the time at which it came, within `seconds`."""
    found: list[tuple[str, float]] = []

    async def take() -> None:
        for _ in range(count):
            due = await queue.next_due()
            found.append((due.state.key.scope_id, clock.monotonic()))

    task = asyncio.create_task(take())
    await clock.settle()
    await clock.advance(seconds)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return found


async def test_streams_come_in_the_order_of_their_times_and_never_early() -> None:
    """A slot is handed out when it is due, the earliest first."""
    clock = ManualClock()
    queue = Queue(clock)
    for name, due_at in (("b", 20.0), ("a", 10.0), ("c", 20.0)):
        queue.put(slot(name, due_at))
    assert await taken(queue, clock, 3, 30) == [("a", 10.0), ("b", 20.0), ("c", 20.0)]


async def test_an_earlier_stream_that_comes_later_is_not_waited_over() -> None:
    """Who waits for a later slot wakes for one that is due before."""
    clock = ManualClock()
    queue = Queue(clock)
    queue.put(slot("late", 100.0))
    waiting = asyncio.create_task(queue.next_due())
    await clock.settle()
    queue.put(slot("soon", 5.0))
    await clock.advance(5)
    assert (await waiting).state.key.scope_id == "soon"


async def test_what_is_gone_is_never_handed_out() -> None:
    """A slot that left the configuration is dropped from the queue."""
    clock = ManualClock()
    queue = Queue(clock)
    gone = slot("gone", 1.0)
    queue.put(gone)
    queue.put(slot("here", 2.0))
    gone.is_gone = True
    assert await taken(queue, clock, 1, 5) == [("here", 2.0)]


async def test_a_stream_that_is_hastened_is_due_at_once() -> None:
    """Slots may be made due before their time."""
    clock = ManualClock()
    queue = Queue(clock)
    chosen = slot("chosen", 500.0)
    queue.put(chosen)
    queue.put(slot("other", 100.0))
    queue.hasten([chosen])
    assert await taken(queue, clock, 1, 0) == [("chosen", 0.0)]


async def test_twenty_thousand_waiting_streams_have_one_timer() -> None:
    """However many streams wait, only the first of them is waited for."""
    clock = ManualClock()
    queue = Queue(clock)
    for number in range(20_000):
        queue.put(slot(str(number), 1000.0 + number))
    waiting = asyncio.create_task(queue.next_due())
    await clock.settle()
    assert len(clock._sleepers) == 1
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)


def test_a_stopped_account_is_tried_after_five_minutes_and_then_ever_later_up_to_an_hour() -> None:
    """Each try in vain doubles the pause; what others hear of the same stop changes nothing."""
    clock = ManualClock()
    stops = Stops(clock)
    waits = []
    for _ in range(6):
        stops.begin(ACCOUNT, "", "refused")
        stops.begin(ACCOUNT, "", "heard by another")
        waits.append(stops.wait_seconds("ListSyslogs"))
        clock._now += waits[-1]
        assert [pause.what for pause in stops.try_again("ListSyslogs")] == [ACCOUNT]
        assert stops.wait_seconds("ListSyslogs") == 0
        assert stops.try_again("GetUserViewMetrics") == []
    assert waits == [300, 600, 1200, 2400, 3600, 3600]


def test_a_success_ends_the_stops_that_it_disproves() -> None:
    """A call that works ends the account's stop and its own operation's, no other."""
    stops = Stops(ManualClock())
    stops.begin(ACCOUNT, "", "refused")
    stops.begin(OPERATION, "ListSyslogs", "refused")
    stops.begin(OPERATION, "ListJobs", "refused")
    stops.begin(BUDGET, "ListSyslogs", "reached")
    stops.succeeded("ListSyslogs")
    assert [(pause.what, pause.operation) for pause in stops.all()] == [(OPERATION, "ListJobs")]


def test_a_budget_is_looked_at_each_minute_and_stops_its_operation_only() -> None:
    """A stop by the budget leaves the other operations alone."""
    stops = Stops(ManualClock())
    stops.begin(BUDGET, "ListSyslogs", "reached")
    assert stops.wait_seconds("ListSyslogs") == BUDGET_PAUSE_SECONDS
    assert stops.wait_seconds("ListJobs") == 0


def test_a_budget_that_only_the_service_knows_is_looked_at_ever_later() -> None:
    """To ask whether free calls are left is a call, so the pauses are those of what was refused."""
    clock = ManualClock()
    stops = Stops(clock)
    waits = []
    for _ in range(3):
        stops.begin(BUDGET, "DescribeMetricList", "used up", costs_call=True)
        waits.append(stops.wait_seconds("DescribeMetricList"))
        clock._now += waits[-1]
        assert [pause.what for pause in stops.try_again("DescribeMetricList")] == [BUDGET]
    assert waits == [300, 600, 1200]


def test_a_new_configuration_tries_everything_at_once() -> None:
    """After a reload nothing waits for its time any more."""
    stops = Stops(ManualClock())
    stops.begin(ACCOUNT, "", "refused")
    stops.lift()
    assert stops.wait_seconds("ListSyslogs") == 0
