"""The gate's decisions in simulated time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from collector.api.gate import FAILURES_MAX, PROBE_SECONDS_MAX, Gate, GateShut, Passage
from collector.errors import (
    ApiError,
    BadRequestError,
    CredentialsError,
    ForbiddenError,
    NotFoundError,
    ThrottledError,
    TransientError,
)
from tests.support.virtual_clock import ManualClock

OPERATION = "ListSyslogs"
FOREVER = float("inf")


@asynccontextmanager
async def accepted(clock: ManualClock) -> AsyncIterator[Gate]:
    """A gate whose key has been accepted."""
    gate = Gate(clock)
    await call(gate, None)
    yield gate


async def call(
    gate: Gate, outcome: ApiError | None, scope_id: str = "n1", operation: str = OPERATION, deadline: float = FOREVER
) -> Passage:
    """One call that ends with `outcome`."""
    async with gate.passage(operation, scope_id, deadline) as passage:
        gate.check(passage)
        gate.record(passage, outcome)
    return passage


async def fail(gate: Gate, times: int) -> None:
    for _ in range(times):
        await call(gate, TransientError("busy", http_status=503))


async def test_calls_go_alone_until_the_key_is_accepted() -> None:
    """Before a first answer proves the key, the second caller waits for the first; afterwards nobody does."""
    clock = ManualClock()
    gate = Gate(clock)
    async with gate.passage(OPERATION, "n1", FOREVER) as first:
        assert first.is_first
        second = asyncio.create_task(call(gate, None, "n2"))
        await clock.settle()
        assert not second.done()
    await second

    async with gate.passage(OPERATION, "n3", FOREVER) as third, gate.passage(OPERATION, "n4", FOREVER) as fourth:
        assert not third.is_first
        assert not fourth.is_first


@pytest.mark.parametrize(
    ("outcome", "proves"),
    [
        (None, True),
        (ForbiddenError("no"), True),
        (NotFoundError("no"), True),
        (BadRequestError("no"), True),
        (TransientError("busy"), False),
        (ThrottledError("slow"), False),
    ],
)
async def test_only_an_answer_behind_the_login_proves_the_key(outcome: ApiError | None, proves: bool) -> None:
    """An overloaded service may refuse before it has looked at the key."""
    gate = Gate(ManualClock())
    await call(gate, outcome)

    assert (await call(gate, None)).is_first is not proves


async def test_a_refused_key_stops_everything_until_reopened() -> None:
    """After a refused key no operation is called; reopened, calls go alone again."""
    async with accepted(ManualClock()) as gate:
        await call(gate, CredentialsError("refused", http_status=401, code="InvalidApiKey"))
        with pytest.raises(CredentialsError, match="refused") as caught:
            await call(gate, None, "n9", "GetUserViewMetrics")
        assert (caught.value.operation, caught.value.scope_id) == ("GetUserViewMetrics", "n9")
        assert gate.account_stopped

        gate.reopen()
        assert (await call(gate, None)).is_first


async def test_waiting_callers_hear_at_once_that_the_key_is_refused() -> None:
    """Whoever waits behind the first call is told its refusal, without passing."""
    clock = ManualClock()
    gate = Gate(clock)

    async def wait_in_vain(scope_id: str) -> None:
        async with gate.passage(OPERATION, scope_id, FOREVER):
            raise AssertionError("passed")

    async with gate.passage(OPERATION, "n1", FOREVER) as first:
        waiting = [asyncio.create_task(wait_in_vain(f"n{i}")) for i in range(5)]
        await clock.settle()
        gate.record(first, CredentialsError("refused"))
    results = await asyncio.gather(*waiting, return_exceptions=True)

    assert [type(result) for result in results] == [CredentialsError] * 5


async def test_a_call_under_way_is_checked_once_more_before_it_is_sent() -> None:
    """What was stopped after a call had passed stops it right before its bytes; an open circuit sends it back."""
    async with accepted(ManualClock()) as gate:
        async with gate.passage(OPERATION, "n1", FOREVER) as passage:
            await fail(gate, FAILURES_MAX)
            with pytest.raises(GateShut):
                gate.check(passage)
        async with gate.passage("GetUserViewMetrics", "rg1", FOREVER) as passage:
            gate.check(passage)
            await call(gate, CredentialsError("refused"), operation="GetUserViewMetrics")
            with pytest.raises(CredentialsError):
                gate.check(passage)


@pytest.mark.parametrize("refusal", [ForbiddenError, NotFoundError])
async def test_three_scopes_refused_in_a_row_stop_the_operation(refusal: type[ApiError]) -> None:
    """The third different scope stops the operation; reopened, one more refusal stops it again."""
    async with accepted(ManualClock()) as gate:
        for scope_id in ("a", "b", "b", "a"):
            await call(gate, refusal("no right", code="NoPermission"), scope_id)
        assert not gate.operation_stopped(OPERATION)
        await call(gate, refusal("no right", code="NoPermission"), "c")
        with pytest.raises(ForbiddenError, match=r"3 scopes in a row .* no right"):
            await call(gate, None)
        await call(gate, None, operation="GetUserViewMetrics")

        gate.reopen(OPERATION)
        await call(gate, refusal("no right"), "d")
        assert gate.operation_stopped(OPERATION)


async def test_a_success_forgives_refusals_and_failures() -> None:
    """Only an unbroken row of refusals or failures counts."""
    async with accepted(ManualClock()) as gate:
        for scope_id in ("a", "b"):
            await call(gate, NotFoundError("gone"), scope_id)
        await fail(gate, FAILURES_MAX - 1)
        await call(gate, None)
        await call(gate, NotFoundError("gone"), "c")
        await fail(gate, FAILURES_MAX - 1)

        assert not gate.operation_stopped(OPERATION)
        assert not gate.circuit_open(OPERATION)


async def test_throttling_does_not_open_the_circuit() -> None:
    """Being too fast is no sign that the service is broken."""
    async with accepted(ManualClock()) as gate:
        for _ in range(50):
            await call(gate, ThrottledError("slow"))

        assert not gate.circuit_open(OPERATION)


async def test_one_probe_at_a_time_goes_out_and_later_each_time() -> None:
    """With the circuit open probes go out after 1, 2, 4 ... 60 seconds, one at a time."""
    clock = ManualClock()
    async with accepted(clock) as gate:
        await fail(gate, FAILURES_MAX)
        opened = clock.monotonic()
        probes: list[float] = []

        async def keep_calling() -> None:
            while len(probes) < 9:
                async with gate.passage(OPERATION, "n1", FOREVER) as passage:
                    assert passage.is_probe
                    probes.append(clock.monotonic() - opened)
                    await asyncio.sleep(0)
                    gate.record(passage, TransientError("busy"))

        callers = [asyncio.create_task(keep_calling()) for _ in range(10)]
        while len(probes) < 9:
            await clock.advance(1.0)
        for caller in callers:
            caller.cancel()
        await asyncio.gather(*callers, return_exceptions=True)

    gaps = [later - earlier for earlier, later in zip([0.0, *probes], probes, strict=False)]
    assert gaps == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, PROBE_SECONDS_MAX, PROBE_SECONDS_MAX, PROBE_SECONDS_MAX]


async def test_a_probe_that_is_throttled_is_followed_by_another_after_a_while() -> None:
    """A throttled probe proves nothing: the circuit stays open, and the next probe waits as long as that one did."""
    clock = ManualClock()
    async with accepted(clock) as gate:
        await fail(gate, FAILURES_MAX)
        await clock.advance(1.0)
        assert (await call(gate, ThrottledError("slow"))).is_probe
        waiting = asyncio.create_task(call(gate, None))
        await clock.settle()
        await clock.advance(0.99)
        assert not waiting.done()
        await clock.advance(0.01)

        assert (await waiting).is_probe


async def test_a_probe_that_succeeds_lets_everybody_through() -> None:
    """The first success closes the circuit for all who wait, and other operations never noticed."""
    clock = ManualClock()
    async with accepted(clock) as gate:
        await fail(gate, FAILURES_MAX)
        await call(gate, None, operation="GetUserViewMetrics")
        waiting = [asyncio.create_task(call(gate, None)) for _ in range(10)]
        await clock.settle()
        await clock.advance(0.99)
        assert not any(task.done() for task in waiting)
        await clock.advance(0.01)

        passages = await asyncio.gather(*waiting)
    assert [passage.is_probe for passage in passages] == [True] + [False] * 9
    assert not gate.circuit_open(OPERATION)


async def test_a_cancelled_probe_leaves_its_place_to_the_next() -> None:
    """The place of a probe that is cancelled is free at once."""
    clock = ManualClock()
    async with accepted(clock) as gate:
        await fail(gate, FAILURES_MAX)
        inside = asyncio.Event()

        async def hang() -> None:
            async with gate.passage(OPERATION, "n1", FOREVER):
                inside.set()
                await asyncio.Event().wait()

        probe = asyncio.create_task(hang())
        await clock.settle()
        await clock.advance(1.0)
        assert inside.is_set()
        waiting = asyncio.create_task(call(gate, None))
        await clock.settle()
        await clock.advance(100.0)
        assert not waiting.done()
        probe.cancel()
        await clock.settle()

        assert waiting.done()
        assert (await waiting).is_probe


async def test_nobody_waits_past_the_deadline() -> None:
    """A caller held back by an open circuit gets the operation's last failure at its deadline."""
    clock = ManualClock()
    async with accepted(clock) as gate:
        await fail(gate, FAILURES_MAX)
        async with gate.passage("GetUserViewMetrics", "rg1", FOREVER):
            waiting = asyncio.create_task(call(gate, None, "n7", deadline=clock.monotonic() + 0.5))
            await clock.settle()
            await clock.advance(0.5)
            assert waiting.done()

    error = waiting.exception()
    assert isinstance(error, TransientError)
    assert (error.scope_id, error.http_status) == ("n7", 503)
    assert error.__context__ is None


async def test_a_deadline_without_any_failure_says_so() -> None:
    """A caller that waited in vain for the first answer is told that nothing was sent."""
    clock = ManualClock()
    gate = Gate(clock)
    async with gate.passage(OPERATION, "n1", FOREVER):
        waiting = asyncio.create_task(call(gate, None, deadline=3.0))
        await clock.settle()
        await clock.advance(3.0)
        with pytest.raises(TransientError, match="before the deadline"):
            await waiting
