"""Slots for calls on their way: fair between operations, first come first served within one, nothing lost."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from collector.api.slots import Slots


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_no_more_calls_than_slots_are_on_their_way() -> None:
    """Each slot that comes back goes to the caller who has waited longest."""
    slots = Slots(3, reserved=0)
    calls = [asyncio.create_task(slots.acquire("a")) for _ in range(5)]
    await settle()
    assert [call.done() for call in calls] == [True, True, True, False, False]
    slots.release("a")
    await settle()
    assert [call.done() for call in calls] == [True, True, True, True, False]
    slots.release("a")
    await asyncio.gather(*calls)
    assert (slots.taken("a"), slots.free, slots.waiting) == (3, 0, 0)


async def test_an_operation_whose_calls_hang_leaves_room_for_the_others() -> None:
    """However many calls of one operation hang, another that is known gets its reserved slots at once."""
    slots = Slots(16, reserved=2)
    await slots.acquire("well")
    slots.release("well")
    hanging = [asyncio.create_task(slots.acquire("hangs")) for _ in range(100)]
    await settle()
    assert slots.taken("hangs") == 14
    await asyncio.wait_for(slots.acquire("well"), 1)
    await asyncio.wait_for(slots.acquire("well"), 1)
    assert slots.free == 0
    for call in hanging:
        call.cancel()


async def test_operations_take_turns() -> None:
    """A thousand callers of one operation do not keep another waiting for longer than one call."""
    slots = Slots(1, reserved=0)
    await slots.acquire("many")
    order: list[str] = []

    async def call(operation: str) -> None:
        await slots.acquire(operation)
        order.append(operation)
        slots.release(operation)

    calls = [asyncio.create_task(call("many")) for _ in range(10)]
    await settle()
    calls.append(asyncio.create_task(call("few")))
    await settle()
    slots.release("many")
    await asyncio.gather(*calls)
    assert "few" in order[:2]
    assert slots.free == 1


@pytest.mark.parametrize("seed", range(20))
async def test_no_slot_is_lost_whoever_is_cancelled(seed: int) -> None:
    """Callers that are cancelled at any moment, also the one in which they get their slot, leave every slot free."""
    random, slots = Random(seed), Slots(4)

    async def call(operation: str) -> None:
        await slots.acquire(operation)
        try:
            assert slots.free >= 0
            for _ in range(random.randrange(4)):
                await asyncio.sleep(0)
        finally:
            slots.release(operation)

    calls = []
    for _ in range(200):
        calls.append(asyncio.create_task(call(random.choice("abc"))))
        if random.random() < 0.5:
            random.choice(calls).cancel()
        if random.random() < 0.3:
            await asyncio.sleep(0)
    await asyncio.gather(*calls, return_exceptions=True)
    assert (slots.free, slots.waiting) == (4, 0)
    assert [slots.taken(operation) for operation in "abc"] == [0, 0, 0]


def test_without_a_slot_nothing_could_ever_be_called() -> None:
    """The mistake is named at once."""
    with pytest.raises(ValueError, match="at least 1 slot"):
        Slots(0)
