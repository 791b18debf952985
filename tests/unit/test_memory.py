"""Bounds in bytes: what the process may use, and what follows from it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from collector.memory import (
    BODY_EXPANSION,
    CURRENT_PAGE,
    MIB,
    MemoryLimit,
    MemoryPool,
    bounds_of,
    memory_limit,
    page_memory,
)


@pytest.mark.parametrize("size", [1 << 26, 1 << 29, 1 << 30, 1 << 31, 1 << 32, 1 << 38])
def test_bounds_follow_from_the_limit_and_never_shrink_as_it_grows(size: int) -> None:
    """Each bound of a larger limit is at least that of a smaller one, and a window fits in a segment."""
    bounds, larger = bounds_of(MemoryLimit(size, "test")), bounds_of(MemoryLimit(2 * size, "test"))
    for name in ("engine", "query", "segment", "window", "shipping", "pages", "fetch"):
        assert 0 < getattr(bounds, name) <= getattr(larger, name)
    assert bounds.window <= bounds.segment <= bounds.shipping
    assert bounds.query < bounds.engine


def test_of_one_gibibyte_nothing_takes_more_than_there_is() -> None:
    """Shipping with its copies, pages, and a read together leave the engine what it needs for one insert."""
    bounds = bounds_of(MemoryLimit(1024 * MIB, "test"))
    assert bounds.segment == 16 * MIB
    assert bounds.engine == 768 * MIB
    assert bounds.pages + 3 * bounds.shipping + 3 * bounds.fetch <= bounds.limit.bytes - 512 * MIB


def cgroups(folder: Path, lines: str, limits: dict[str, str]) -> tuple[Path, Path]:
    listing, root = folder / "cgroup", folder / "fs"
    listing.write_text(lines)
    for name, text in limits.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")
    return listing, root


@pytest.mark.parametrize(
    ("lines", "limits", "expected"),
    [
        ("0::/a/b\n", {"a/b/memory.max": "max", "a/memory.max": "1048576"}, MemoryLimit(MIB, "cgroup v2")),
        ("0::/\n", {"memory.max": "2097152"}, MemoryLimit(2 * MIB, "cgroup v2")),
        ("0::/host/only\n", {"memory.max": "2097152"}, MemoryLimit(2 * MIB, "cgroup v2")),
        ("4:memory:/x\n0::/\n", {"memory/x/memory.limit_in_bytes": "3145728"}, MemoryLimit(3 * MIB, "cgroup v1")),
        ("4:cpu,memory:/x\n", {"memory/memory.limit_in_bytes": "4194304"}, MemoryLimit(4 * MIB, "cgroup v1")),
    ],
    ids=["above", "root", "container", "v1", "v1 container"],
)
def test_the_smallest_limit_of_the_cgroups_counts(
    tmp_path: Path, lines: str, limits: dict[str, str], expected: MemoryLimit
) -> None:
    """Version 2 and version 1, of the process's own group and of those above it."""
    assert memory_limit(*cgroups(tmp_path, lines, limits)) == expected


@pytest.mark.parametrize(
    ("lines", "limits"),
    [
        ("0::/a\n", {"a/memory.max": "max"}),
        ("4:memory:/\n", {"memory/memory.limit_in_bytes": "9223372036854771712"}),
        ("no cgroups at all", {}),
    ],
    ids=["v2", "v1", "none"],
)
def test_without_a_limit_it_is_the_machine(tmp_path: Path, lines: str, limits: dict[str, str]) -> None:
    """Neither `max` nor the number that version 1 shows for none is a limit."""
    found = memory_limit(*cgroups(tmp_path, lines, limits))
    assert found.source == "machine"
    assert found.bytes > 64 * MIB


async def test_a_pool_serves_in_order_and_what_exceeds_it_is_alone() -> None:
    """A large holder waits until the pool is empty, and a small one behind it waits too."""
    pool = MemoryPool(10)
    order: list[str] = []

    async def hold(name: str, size: int) -> None:
        async with pool.hold(size):
            order.append(name)
            await asyncio.sleep(0)

    async with pool.hold(4):
        tasks = [asyncio.create_task(hold("large", 100)), asyncio.create_task(hold("small", 1))]
        await asyncio.sleep(0)
        assert order == []
    await asyncio.gather(*tasks)
    assert order == ["large", "small"]


async def test_a_waiter_that_is_cancelled_takes_nothing() -> None:
    """Neither while it waits nor at the moment in which its turn comes."""
    pool = MemoryPool(10)
    await pool.take(10)
    waiting = asyncio.create_task(pool.take(5))
    chosen = asyncio.create_task(pool.take(10))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.sleep(0)
    pool.give_back(10)
    chosen.cancel()
    await asyncio.gather(waiting, chosen, return_exceptions=True)
    assert await asyncio.wait_for(pool.take(10), 1) == 10


async def test_large_bodies_share_the_memory_for_pages() -> None:
    """A large body waits until another is committed; a small one never waits; what was too much is given back."""
    size = MIB
    pool = MemoryPool(size * BODY_EXPANSION)
    read: list[str] = []

    async def page(name: str, expected: int, until: asyncio.Event) -> None:
        with page_memory(pool):
            current = CURRENT_PAGE.get()
            assert current is not None
            await current.expect(expected)
            read.append(name)
            await until.wait()

    done = asyncio.Event()
    first = asyncio.create_task(page("first", size, done))
    await asyncio.sleep(0)
    second = asyncio.create_task(page("second", size, done))
    small = asyncio.create_task(page("small", 1000, done))
    await asyncio.sleep(0)
    assert read == ["first", "small"]
    done.set()
    await asyncio.gather(first, second, small)
    assert read == ["first", "small", "second"]
    assert CURRENT_PAGE.get() is None

    with page_memory(pool):
        current = CURRENT_PAGE.get()
        assert current is not None
        await current.expect(size)
        current.measure(size // 2)
        assert await asyncio.wait_for(pool.take(size * BODY_EXPANSION // 2), 1) == size * BODY_EXPANSION // 2
