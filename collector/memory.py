"""How much memory the process may use, and the bounds in bytes that follow from it.

Every bound on what is held in memory at one time is a field of `MemoryBounds`, so that they add up to less than the
limit. Reading the limit is apart from working out the bounds, which is pure.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MIB: Final = 1 << 20

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
        size = min(size, self.size)
        await self._take(size)
        try:
            yield
        finally:
            self._held -= size
            self._hand_out()

    async def _take(self, size: int) -> None:
        if not self._waiting and self._held + size <= self.size:
            self._held += size
            return
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

    def _hand_out(self) -> None:
        while self._waiting and self._held + self._waiting[0][1] <= self.size:
            turn, size = self._waiting.popleft()
            if not turn.done():
                self._held += size
                turn.set_result(None)


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
