"""The service's time: carried on, corrected by answers, and moved by no single wrong one."""

from __future__ import annotations

import pytest

from collector.clock import STEP_ANSWERS_MIN, STEP_CONFIRM_SECONDS, ServerClock

START = 1_760_000_000
DAY = 86_400


class Machine:
    """A machine whose wall clock can be set."""

    def __init__(self) -> None:
        self.passed = 0.0
        self.offset = 0.0

    def wall(self) -> float:
        return START + self.passed + self.offset

    def monotonic(self) -> float:
        return self.passed

    async def sleep(self, seconds: float) -> None:
        self.passed += seconds


def synced() -> tuple[Machine, ServerClock]:
    machine = Machine()
    clock = ServerClock(machine)
    clock.observe(START)
    return machine, clock


@pytest.mark.parametrize("step", [-DAY, DAY, -3600])
def test_a_machine_whose_clock_steps_moves_nothing(step: int) -> None:
    """The time carried on is the service's, and the difference is told."""
    machine, clock = synced()
    machine.offset, machine.passed = step, 10.0
    assert clock.now() == START + 10
    assert clock.observe(START + 11) == START + 11
    assert clock.now() == START + 11
    assert clock.machine_is_off


@pytest.mark.parametrize("step", [-DAY, DAY])
def test_one_answer_with_a_wrong_date_moves_nothing(step: int) -> None:
    """And it proves no more than the earlier of both times: nothing is taken for complete up to a time to come."""
    machine, clock = synced()
    machine.passed = 10.0
    assert clock.observe(START + 10 + step) == min(START + 10, START + 10 + step)
    assert clock.now() == START + 10
    for _ in range(100):
        machine.passed += STEP_CONFIRM_SECONDS / 10
        clock.observe(int(START + machine.passed))
        clock.observe(int(START + machine.passed + step)) if machine.passed < 30 else None
    assert clock.now() == int(START + machine.passed)


@pytest.mark.parametrize("step", [-DAY, DAY])
def test_a_date_that_all_answers_of_a_minute_agree_on_is_believed(step: int) -> None:
    """Not before the minute is over."""
    machine, clock = synced()
    answers = 2 * STEP_ANSWERS_MIN
    for number in range(answers):
        machine.passed += STEP_CONFIRM_SECONDS / answers
        clock.observe(int(START + machine.passed + step))
        if number < answers - 2:
            assert clock.now() == int(START + machine.passed)
    machine.passed += STEP_CONFIRM_SECONDS / answers
    clock.observe(int(START + machine.passed + step))
    assert abs(clock.now() - (START + machine.passed + step)) <= 1


def test_after_a_sleep_of_the_machine_the_next_answer_is_believed() -> None:
    """The monotonic clock stands while a machine sleeps; its wall clock and the service's go on together."""
    machine, clock = synced()
    machine.offset = 8 * 3600
    assert clock.observe(START + 8 * 3600) == START + 8 * 3600
    assert clock.now() == START + 8 * 3600
