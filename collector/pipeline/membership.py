"""What a process asks before it collects: which of the streams are its own?"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol

from collector.model import StreamKey


class Membership(Protocol):
    """This process among all those that collect one account into one store."""

    async def join(self) -> None:
        """Be entered, before anything is claimed. Raises UsageError where this process must not run."""

    async def stay(self) -> None:
        """Say from time to time that this process is alive, until cancelled. Raises UsageError where it must end."""

    async def claim(self, keys: Sequence[StreamKey]) -> Sequence[StreamKey]:
        """Those of the streams that this process may collect now. Raises StoreUnavailable."""

    def held_back(self, keys: Sequence[StreamKey]) -> int:
        """How many of the streams are this process's, and could not be claimed."""


class _Alone:
    """There is nobody else."""

    async def join(self) -> None:
        return None

    async def stay(self) -> None:
        await asyncio.Event().wait()

    async def claim(self, keys: Sequence[StreamKey]) -> Sequence[StreamKey]:
        return keys

    def held_back(self, keys: Sequence[StreamKey]) -> int:
        return 0


ALONE: Final = _Alone()
