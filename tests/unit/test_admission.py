"""Permits for requests: a bounded wait in order of arrival instead of a refusal."""

from __future__ import annotations

import asyncio

import pytest

from collector.admission import Admission
from collector.chdb_http.exceptions import code_of
from collector.errors import QueryError


async def hold(admission: Admission, order: list[int], number: int, end: asyncio.Event) -> None:
    async with admission.permit():
        order.append(number)
        await end.wait()


async def test_those_that_wait_come_in_order() -> None:
    """With one permit, the requests are answered as they came, and none is refused."""
    admission, order, end = Admission(1, 50), list[int](), asyncio.Event()
    end.set()
    await asyncio.gather(*(hold(admission, order, number, end) for number in range(50)))
    assert order == list(range(50))
    assert admission.waiting == 0


async def test_too_many_are_refused() -> None:
    """With ClickHouse's code, and the reason."""
    admission, order, end = Admission(1, 2, wait_seconds_max=60), list[int](), asyncio.Event()
    tasks = [asyncio.create_task(hold(admission, order, number, end)) for number in range(3)]
    while admission.waiting < 2:
        await asyncio.sleep(0)
    with pytest.raises(QueryError, match="1 run, and 2 more wait; try again later") as refusal:
        await hold(admission, order, 3, end)
    assert code_of(refusal.value) == 202
    end.set()
    await asyncio.gather(*tasks)
    assert order == [0, 1, 2]


async def test_a_wait_is_bounded_in_time() -> None:
    """A request that gets no permit is refused, and the next one finds its place free."""
    admission, order, end = Admission(1, 1, wait_seconds_max=0.01), list[int](), asyncio.Event()
    first = asyncio.create_task(hold(admission, order, 0, end))
    while not order:
        await asyncio.sleep(0)
    for _ in range(3):
        with pytest.raises(QueryError, match=r"none ended within 0\.01 s"):
            await hold(admission, order, 1, end)
    end.set()
    await first
    await hold(admission, order, 2, end)
    assert order == [0, 2]


async def test_a_waiting_client_that_goes_frees_its_place() -> None:
    """Cancelled while it waits, or in the moment it is let in: no permit is lost."""
    admission, order, end = Admission(1, 1, wait_seconds_max=60), list[int](), asyncio.Event()
    first = asyncio.create_task(hold(admission, order, 0, end))
    while not order:
        await asyncio.sleep(0)
    for let_in in (False, True):
        gone = asyncio.create_task(hold(admission, order, 1, end))
        while not admission.waiting:
            await asyncio.sleep(0)
        if let_in:
            end.set()
            await first
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        assert admission.waiting == 0
    await hold(admission, order, 2, end)
    assert order[-1] == 2
