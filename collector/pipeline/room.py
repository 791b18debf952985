"""No request goes out unless the journal and its disk have room for its largest answer."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import structlog

from collector.api.products.pai_studio import GET_USER_VIEW_METRICS
from collector.clock import Clock
from collector.journal.journal import Journal, used_bytes

log = structlog.get_logger(__name__)

SNAPSHOT_RESERVE_BYTES = 2 * GET_USER_VIEW_METRICS.answer_bytes_max
"""Kept free for what cannot be asked again, when collecting pauses for what can."""

DISK_RESERVE_BYTES = 64 << 20
"""Left on the journal's disk for the database's own needs: its log, and the segments it freezes."""

LOOK_AGAIN_SECONDS = 0.5
SIZE_AGE_SECONDS_MAX = 1.0


class Room:
    """Hands out the journal's room to requests before they are sent."""

    def __init__(self, journal: Journal, bytes_max: int, clock: Clock) -> None:
        self._journal = journal
        self._bytes_max = bytes_max
        self._clock = clock
        self._promised = 0
        self._journal_bytes = 0
        self._disk_free = 0
        self._looked_at = -SIZE_AGE_SECONDS_MAX
        self._looking = asyncio.Lock()
        self._full = False

    @asynccontextmanager
    async def held(self, answer_bytes: int, *, repeatable: bool) -> AsyncIterator[None]:
        """Hold room for one answer until its page is committed.

        What can be asked again later (`repeatable`) leaves a reserve to what cannot.
        """
        while not await self._fits(answer_bytes, repeatable):
            if not self._full:
                self._full = True
                log.warning(
                    "journal_full", journal_bytes=self._journal_bytes, bytes_max=self._bytes_max,
                    disk_free_bytes=self._disk_free,
                )  # fmt: skip
            await self._clock.sleep(LOOK_AGAIN_SECONDS)
        if self._full:
            self._full = False
            log.info("journal_has_room", journal_bytes=self._journal_bytes)
        self._promised += answer_bytes
        try:
            yield
        finally:
            self._promised -= answer_bytes

    async def _fits(self, answer_bytes: int, repeatable: bool) -> bool:
        async with self._looking:
            now = self._clock.monotonic()
            if now - self._looked_at >= SIZE_AGE_SECONDS_MAX or self._full:
                self._journal_bytes = await self._journal.run(used_bytes)
                self._disk_free = await asyncio.to_thread(_free_bytes, self._journal.path)
                self._looked_at = now
        wanted = self._promised + answer_bytes
        if wanted + DISK_RESERVE_BYTES > self._disk_free:
            return False
        limit = self._bytes_max - (SNAPSHOT_RESERVE_BYTES if repeatable else 0)
        # With nothing under way one answer may always come in while half of the journal is free.
        if self._promised == 0 and self._journal_bytes <= limit // 2:
            return True
        return self._journal_bytes + wanted <= limit


def _free_bytes(path: Path) -> int:
    return shutil.disk_usage(path.parent).free
