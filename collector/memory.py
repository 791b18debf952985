"""How much memory the process may use, and the bounds in bytes that follow from it.

Every bound on what is held in memory at one time is a field of `MemoryBounds`, so that they add up to less than the
limit. Reading the limit is apart from working out the bounds, which is pure.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MIB: Final = 1 << 20

SMALL_BODY_BYTES: Final = 256 << 10
BODY_EXPANSION: Final = 6
"""Bytes in memory for each byte of a large body: as received, decoded, as rows, and as lines on their way to disk."""

CGROUP_ROOT: Final = Path("/sys/fs/cgroup")
PROCESS_CGROUPS: Final = Path("/proc/self/cgroup")
_NO_LIMIT: Final = 1 << 60
"""cgroup v1 reports a number near 2**63 where no limit is set."""


@dataclass(frozen=True, slots=True)
class MemoryLimit:
    """Bytes that the process may use, and what sets them: `cgroup v2`, `cgroup v1` or `machine`."""

    bytes: int
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryBounds:
    """Maximum bytes of what the process holds in memory at one time."""

    limit: MemoryLimit
    engine: int
    """Of the process as the embedded engine counts it; beyond it the engine refuses work with code 241."""
    query: int
    """That one query or one insert may take of the engine."""
    segment: int
    """Rows of one insert. A window with more is inserted in parts."""
    window: int
    """Rows of one window, as long as it spans more than one second: at this size it is sealed."""
    shipping: int
    """Rows of segments that are sent or compared side by side."""
    pages: int
    """Responses larger than usual that are read, decoded and committed side by side, with what they become."""
    fetch: int
    """Result of one of the program's own reads."""


def bounds_of(limit: MemoryLimit) -> MemoryBounds:
    """Work out the bounds for a limit. From 4 GiB on, all but `pages` and `fetch` have their largest values."""
    size = limit.bytes
    engine = _clamp(size * 3 // 4, 384 * MIB, 1536 * MIB)
    segment = _clamp(size // 64, MIB, 64 * MIB)
    return MemoryBounds(
        limit=limit,
        engine=engine,
        query=_clamp(engine // 3, 64 * MIB, 512 * MIB),
        segment=segment,
        window=segment,
        shipping=2 * segment,
        pages=_clamp(size // 8, 32 * MIB, 1024 * MIB),
        fetch=_clamp(size // 32, 4 * MIB, 256 * MIB),
    )


class MemoryPool:
    """A number of bytes that tasks hold parts of, first come, first served."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._held = 0
        self._waiting: deque[tuple[asyncio.Future[None], int]] = deque()

    @asynccontextmanager
    async def hold(self, size: int) -> AsyncIterator[None]:
        """Hold `size` bytes; what exceeds the pool holds all of it, and so is alone."""
        size = await self.take(size)
        try:
            yield
        finally:
            self.give_back(size)

    def give_back(self, size: int) -> None:
        """Return bytes that `take` has taken."""
        self._held -= size
        self._hand_out()

    async def take(self, size: int) -> int:
        """Wait for `size` bytes, at most all of the pool, and take them; return how many they are."""
        size = min(size, self.size)
        if not self._waiting and self._held + size <= self.size:
            self._held += size
            return size
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((turn, size))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._held -= size
            else:
                self._waiting.remove((turn, size))
            self._hand_out()
            raise
        return size

    def _hand_out(self) -> None:
        while self._waiting and self._held + self._waiting[0][1] <= self.size:
            turn, size = self._waiting.popleft()
            if not turn.done():
                self._held += size
                turn.set_result(None)


class PageMemory:
    """What one response, and what is made of it, holds of a pool until its page is committed.

    Small responses hold nothing: as many as may be under way take less than one large response.
    """

    def __init__(self, pool: MemoryPool) -> None:
        self._pool = pool
        self._held = 0

    @property
    def is_held(self) -> bool:
        """Whether memory is held for a large body already."""
        return self._held > 0

    async def expect(self, size: int) -> None:
        """Wait until a body of `size` bytes may be read."""
        if size > SMALL_BODY_BYTES and not self._held:
            self._held = await self._pool.take(size * BODY_EXPANSION)

    def measure(self, size: int) -> None:
        """Give back what was held for more than the `size` bytes that the body turned out to have."""
        excess = self._held - size * BODY_EXPANSION
        if excess > 0:
            self._pool.give_back(excess)
            self._held -= excess

    def release(self) -> None:
        """Give everything back."""
        self._pool.give_back(self._held)
        self._held = 0


CURRENT_PAGE: ContextVar[PageMemory | None] = ContextVar("CURRENT_PAGE", default=None)
"""The page that a task asks for at present; the transport, which reads the body, waits for its memory."""


@contextmanager
def page_memory(pool: MemoryPool) -> Iterator[None]:
    """Bound what the response that is asked for inside holds of `pool`."""
    page = PageMemory(pool)
    token = CURRENT_PAGE.set(page)
    try:
        yield
    finally:
        CURRENT_PAGE.reset(token)
        page.release()


def memory_limit(cgroups: Path = PROCESS_CGROUPS, root: Path = CGROUP_ROOT) -> MemoryLimit:
    """Return the smallest limit that the process's cgroups or the machine set."""
    machine = MemoryLimit(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), "machine")
    return min([machine, *_cgroup_limits(cgroups, root)], key=lambda limit: limit.bytes)


def _cgroup_limits(cgroups: Path, root: Path) -> list[MemoryLimit]:
    """Read the limits of the process's cgroup and of every one above it."""
    try:
        lines = cgroups.read_text().splitlines()
    except OSError:
        # Not Linux, or no /proc.
        return []
    found = []
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            source, base, name = "cgroup v2", root, "memory.max"
        elif "memory" in controllers.split(","):
            source, base, name = "cgroup v1", root / "memory", "memory.limit_in_bytes"
        else:
            continue
        folder = base / path.strip("/")
        # In a container the path may be the host's, and what is mounted at the root is the container's own.
        for place in {base, folder, *(above for above in folder.parents if above.is_relative_to(base))}:
            if (size := _read_limit(place / name)) is not None:
                found.append(MemoryLimit(size, source))
    return found


def _read_limit(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() and 0 < int(text) < _NO_LIMIT else None


def _clamp(size: int, low: int, high: int) -> int:
    return max(low, min(size, high))
