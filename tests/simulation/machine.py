"""A service, its account and its store in one thread, so that a run is decided by its seed alone."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

from aiohttp import hdrs
from multidict import CIMultiDict

from collector.api.gateways import HttpRequest
from collector.api.transport import Exchange, Failure
from collector.errors import StoreUnavailable
from collector.owner.instance import Owner
from collector.pipeline.service import Service
from collector.settings import Settings
from collector.simulator.faults import FaultKind
from collector.simulator.server import SIMULATOR_KEY, Simulator
from collector.simulator.signatures import Call
from collector.store.embedded import EmbeddedStore
from tests.simulation.virtual import VirtualClock

_FAILURES = {
    FaultKind.RESET_BEFORE: Failure.BROKEN,
    FaultKind.RESET_DURING: Failure.TRUNCATED,
    FaultKind.TRUNCATED: Failure.TRUNCATED,
    FaultKind.CUT_SHORT: Failure.TRUNCATED,
}


class Wire:
    """Carries requests to a simulator in this process."""

    def __init__(self, api: Simulator, timeout_seconds: float) -> None:
        self._api = api
        self._timeout_seconds = timeout_seconds
        self.is_cut = False
        """Nobody can be reached."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        return None

    async def exchange(
        self, request: HttpRequest, *, depart: Callable[[], Awaitable[None]], body_bytes_max: int
    ) -> Exchange:
        """As `Transport.exchange`."""
        if self.is_cut:
            return Exchange(Failure.NO_CONNECTION, "the wire is cut")
        await depart()
        headers = dict(request.headers)
        if request.sign is not None:
            headers |= request.sign()
        body = request.body or b""

        async def read() -> bytes:
            return body

        lowered = {name.lower(): value for name, value in headers.items()}
        call = Call(request.method, urlsplit(request.url).path, urlencode(request.query), lowered, b"")
        try:
            async with asyncio.timeout(self._timeout_seconds):
                answer, told = await self._api.handler.answer(call, read)
        except TimeoutError:
            return Exchange(Failure.TIMEOUT, "the simulator took too long")
        date = {hdrs.DATE: formatdate(self._api.now() // 1, usegmt=True)}
        if answer.transport is not None:
            return Exchange(_FAILURES[answer.transport], "broken on purpose", answer.status, CIMultiDict(date))
        if len(answer.body) > body_bytes_max:
            return Exchange(Failure.TOO_LARGE, "too large", answer.status, CIMultiDict(date))
        return Exchange(None, "", answer.status, CIMultiDict(answer.headers | told | date), answer.body)


class Shop:
    """The embedded engine, made to answer before the event loop goes on, and to be away for a while."""

    def __init__(self, store: EmbeddedStore) -> None:
        self.store = store
        self.is_away = False
        for lane in (store._writer, store._fetcher):
            lane.run = self._inline(lane)  # type: ignore[method-assign]

    def _inline(self, lane: Any) -> Callable[[Any], Awaitable[Any]]:
        async def run(work: Any) -> Any:
            if self.is_away:
                raise StoreUnavailable("the store is away")
            return lane._thread.submit(lane._work, work).result()

        return run


class Machine:
    """What runs a service, loses power, and starts it again."""

    def __init__(self, folder: Path, api: Simulator, shop: Shop, clock: VirtualClock, seed: int) -> None:
        self.folder = folder
        self.api = api
        self.shop = shop
        self.clock = clock
        self.random = Random(seed)
        self.wire = Wire(api, 30.0)
        self.owner: Owner
        self.service: Service
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self, settings: Settings) -> None:
        """Start the service, as often as it takes until what it needs answers."""
        while True:
            self.owner = await Owner.open(
                settings, key=SIMULATOR_KEY, clock=self.clock, random=self.random, transport=self.wire,
                store=self.shop.store, threaded=False,
            )  # fmt: skip
            # The engine is this machine's alone.
            self.owner.membership._is_exclusive = True
            self.service = self.owner.service()
            try:
                await self.service.start()
            except StoreUnavailable:
                await self.owner.close()
                await asyncio.sleep(10)
                continue
            break
        self._stop = asyncio.Event()
        self._task = asyncio.create_task(self.service.run(self._stop))

    async def end(self) -> None:
        """End the service in good order."""
        assert self._task is not None
        self._stop.set()
        await self._task
        await self.owner.close()
        self._task = None

    async def lose_power(self) -> None:
        """Nothing is finished, nothing is told: what is on the disk is what there is."""
        assert self._task is not None
        journal, stack = self.owner.journal, self.owner._stack.pop_all()
        # Whatever its tasks would still write in their last step does not reach the disk.
        journal.close()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:  # type: ignore[arg-type]
            if task.get_name() != "story":
                task.cancel()
        await asyncio.sleep(0)
        for _, callback in stack._exit_callbacks:
            wrapped = getattr(callback, "__wrapped__", None)
            if getattr(wrapped, "__name__", "") == "release":
                wrapped()
        self._task = None

    @property
    def failed(self) -> BaseException | None:
        """Why the service ended, where it did by itself."""
        if self._task is None or not self._task.done():
            return None
        return self._task.exception()


def digest_of(api: Simulator, rows: list[list[Any]]) -> str:
    """What the service counted and what is stored, in few letters."""
    summary = hashlib.blake2b(digest_size=16)
    for name, stats in sorted(api.stats.items()):
        summary.update(f"{name} {stats.calls} {dict(sorted(stats.by_status.items()))}".encode())
        summary.update(stats.arrivals.tobytes())
    for row in rows:
        summary.update(repr(row).encode())
    return summary.hexdigest()


def counted(rows: list[list[Any]]) -> Counter[tuple[Any, ...]]:
    """Rows as a multiset."""
    return Counter(tuple(row) for row in rows)
