"""A simulator in a process of its own, so that it shares no core time with who asks it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

START_SECONDS_MAX = 30.0
END_SECONDS_MAX = 5.0


class SimulatorProcess:
    """A running one: where it listens, and its control endpoints."""

    def __init__(self, process: asyncio.subprocess.Process, base_url: str, session: aiohttp.ClientSession) -> None:
        self.base_url = base_url
        self.pid = process.pid
        self._session = session

    async def told(self, what: str, **query: str) -> Any:
        """GET a control endpoint, such as `stats`."""
        async with self._session.get(
            f"{self.base_url}/_simulator/{what}", params=query, raise_for_status=True
        ) as reply:
            return await reply.json()

    async def tell(self, what: str, body: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> Any:
        """POST to a control endpoint, such as `clock`."""
        async with self._session.post(f"{self.base_url}/_simulator/{what}", json=body, raise_for_status=True) as reply:
            return await reply.json()

    async def replace(self, what: str, body: Sequence[Mapping[str, Any]]) -> Any:
        """PUT to a control endpoint, such as `faults`."""
        async with self._session.put(f"{self.base_url}/_simulator/{what}", json=body, raise_for_status=True) as reply:
            return await reply.json()


@asynccontextmanager
async def simulator_process(*arguments: str) -> AsyncIterator[SimulatorProcess]:
    """Start `python -m collector.simulator` with these arguments; it ends with the body."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "collector.simulator", *arguments, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), START_SECONDS_MAX)
        if not line:
            raise RuntimeError("the simulator did not start")
        async with aiohttp.ClientSession() as session:
            yield SimulatorProcess(process, json.loads(line)["base_url"], session)
    finally:
        if process.returncode is None:
            process.terminate()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), END_SECONDS_MAX)
        if process.returncode is None:
            process.kill()
            await process.wait()
