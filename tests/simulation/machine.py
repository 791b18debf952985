"""A service, its account and its store in one thread, so that a run is decided by its seed alone."""

from __future__ import annotations

import asyncio
import contextvars
import hashlib
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

from multidict import CIMultiDict

from collector.api.gateways import HttpRequest
from collector.api.transport import Exchange, Failure
from collector.errors import JournalUnavailable, StoreRefused, StoreTooLarge, StoreUnavailable
from collector.journal.entries import StreamState
from collector.model import StreamKey
from collector.owner.instance import Owner, bring_up_to_date
from collector.pipeline.service import Service
from collector.settings import Settings
from collector.simulator.faults import FaultKind
from collector.simulator.requests import Call
from collector.simulator.server import SIMULATOR_KEY, Simulator
from collector.store.embedded import EmbeddedStore
from tests.simulation.power import POWER, Disk, Point, Power
from tests.simulation.twin import Twin
from tests.support.virtual_clock import VirtualClock

START_AGAIN_SECONDS = 10.0
"""What starts a service that did not come up waits so long."""

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
        self.bytes_max = 1 << 40
        """Longer answers are too large to be read."""
        self.is_cut = False
        """Nobody can be reached."""
        self.rewrite: Callable[[str, bytes], bytes] = lambda path, body: body
        """What the service says instead of what the simulator answers."""
        self.asked: Callable[[Call], None] = lambda call: None
        """Told of each request that goes out."""

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
        if (power := POWER.get()) is not None:
            power.check()
        headers = dict(request.headers)
        if request.sign is not None:
            headers |= request.sign()
        body = request.body or b""

        async def read() -> bytes:
            return body

        lowered = {name.lower(): value for name, value in headers.items()}
        call = Call(request.method, urlsplit(request.url).path, urlencode(request.query), lowered, b"")
        self.asked(call._replace(body=body))
        try:
            async with asyncio.timeout(self._timeout_seconds):
                answer, told = await self._api.handler.answer(call, read)
        except TimeoutError:
            return Exchange(Failure.TIMEOUT, "the simulator took too long")
        sent = CIMultiDict({name: value for name, value in (answer.headers | told).items() if value})
        if answer.transport is not None:
            return Exchange(_FAILURES[answer.transport], "broken on purpose", answer.status, sent)
        if len(answer.body) > min(body_bytes_max, self.bytes_max):
            return Exchange(Failure.TOO_LARGE, "too large", answer.status, sent)
        if answer.headers.get("Content-Encoding") == "br":
            return Exchange(Failure.UNREADABLE, "Content-Encoding br", answer.status, sent)
        said = self.rewrite(call.path, answer.body) if answer.status == 200 else answer.body
        return Exchange(None, "", answer.status, sent, said)


class Shop:
    """A store, made to answer before the event loop goes on, and to be away, slow or mistaken for a while."""

    def __init__(self, store: EmbeddedStore | Twin) -> None:
        self.store = store
        self.is_away = False
        self.seconds = 0.0
        """What an answer takes."""
        self.refuses: Callable[[str, bytes], bool] = lambda table, line: False
        """Rows that it will never take."""
        self.bytes_max = 0
        """Larger inserts find no memory; 0: all find some."""
        self.lost_answers = 0
        """So many of the next inserts are carried out and not acknowledged."""
        self.double_inserts = 0
        """So many of the next inserts arrive twice."""
        self.inserts = 0
        self.location = "simulated"
        if isinstance(store, EmbeddedStore):
            for lane in (store._writer, store._fetcher):
                lane.run = self._inline(lane)  # type: ignore[method-assign, assignment]

    @staticmethod
    def _inline(lane: Any) -> Callable[[Any], Awaitable[Any]]:
        async def run(work: Any) -> Any:
            return lane._thread.submit(lane._work, work).result()

        return run

    async def insert(self, table: str, columns: Sequence[str], body: bytes, *, token: str) -> None:
        """As `Store.insert`."""
        await self._reach()
        power = POWER.get()
        if power is not None:
            power.inserting()
        if self.bytes_max and len(body) > self.bytes_max and body.count(b"\n") > 1:
            # A single row always fits, or what is stored would depend on when it came.
            raise StoreTooLarge(f"insert into {table}: memory limit exceeded", is_certain=len(body) % 2 == 0)
        if any(self.refuses(table, line) for line in body.splitlines()):
            raise StoreRefused(f"insert into {table}: a row that it never takes")
        self.inserts += 1
        is_double = self._takes("double_inserts")
        for _ in range(1 + is_double):
            await self.store.insert(table, columns, body, token=token)
        if power is not None:
            power.inserted()
        await self._travel()
        if self._takes("lost_answers"):
            raise StoreUnavailable("the answer was lost")

    async def execute(self, statement: str) -> None:
        """As `Store.execute`."""
        await self._reach()
        await self.store.execute(statement)

    async def fetch(self, sql: str, parameters: Mapping[str, object] | None = None) -> list[list[Any]]:
        """As `Store.fetch`."""
        await self._reach()
        found = await self.store.fetch(sql, parameters)
        await self._travel()
        return found

    async def close(self) -> None:
        """Whoever made the store closes it."""

    async def _reach(self) -> None:
        await self._travel()
        if self.is_away:
            raise StoreUnavailable("the store is away")

    async def _travel(self) -> None:
        if self.seconds:
            await asyncio.sleep(self.seconds / 2)
        if (power := POWER.get()) is not None:
            power.check()

    def _takes(self, name: str) -> bool:
        left = getattr(self, name)
        setattr(self, name, max(0, left - 1))
        return bool(left)


class Machine:
    """What runs a service, loses power, and starts it again."""

    def __init__(
        self, folder: Path, api: Simulator, shop: Shop, clock: VirtualClock, seed: int, *, key: str = SIMULATOR_KEY,
        is_alone: bool = True,
    ) -> None:  # fmt: skip
        """`is_alone`: nobody else can have the store open."""
        self.folder = folder
        self.api = api
        self.shop = shop
        self.clock = clock
        self.random = Random(seed)
        self.wire = Wire(api, 30.0)
        self.owner: Owner | None = None
        self.service: Service
        self.power = Power(folder / "journal.db", lambda: None)
        self.unknown_calls = 0
        """Calls that starts have entered as unknown so far."""
        self.found: dict[StreamKey, StreamState] = {}
        """The streams as the last start found them."""
        self.at_end: dict[StreamKey, StreamState] = {}
        """The streams as the last end in good order left them."""
        self.changed = asyncio.Event()
        """Set when the power fails or the service ends by itself."""
        self._key = key
        self._is_alone = is_alone
        self._stop = asyncio.Event()
        self._up = asyncio.Event()
        self._life: asyncio.Task[None] | None = None
        self._is_full = self._is_locked = False
        self._cut: tuple[Point, int, Random] | None = None

    # Life

    async def start(self, settings: Settings) -> None:
        """Start the service, as often as it takes until what it needs answers, or the power fails."""
        self.begin(settings)
        assert self._life is not None
        up = asyncio.ensure_future(self._up.wait())
        down = asyncio.ensure_future(self.changed.wait())
        await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
        up.cancel()
        down.cancel()

    def begin(self, settings: Settings) -> None:
        """Begin to start the service."""
        assert self._life is None
        self._stop, self._up = asyncio.Event(), asyncio.Event()
        self.changed.clear()
        self.power = Power(settings.journal.path, self.changed.set)
        self.power.is_full, self.power.is_locked = self._is_full, self._is_locked
        if self._cut is not None:
            self.power.cut_at(*self._cut)
            self._cut = None
        context = contextvars.copy_context()
        context.run(POWER.set, self.power)
        self._life = asyncio.get_running_loop().create_task(self._live(settings), context=context)
        self._life.add_done_callback(lambda task: self.changed.set())

    async def _live(self, settings: Settings) -> None:
        while True:
            try:
                if isinstance(self.shop.store, EmbeddedStore):
                    await bring_up_to_date(self.shop, settings)
                self.owner = await Owner.open(
                    settings, key=self._key, clock=self.clock, random=self.random, transport=self.wire,
                    store=self.shop, threaded=False,
                )  # fmt: skip
            except (StoreUnavailable, JournalUnavailable):
                await asyncio.sleep(START_AGAIN_SECONDS)
                continue
            self.unknown_calls += self.owner.journal.unknown_calls
            self.owner.membership._is_exclusive = self._is_alone
            self.service = self.owner.service()
            try:
                await self.service.start()
                self.found = await self.owner.journal.streams()
            except (StoreUnavailable, JournalUnavailable):
                await self.owner.close()
                await asyncio.sleep(START_AGAIN_SECONDS)
                continue
            except asyncio.CancelledError:
                # It was told to end while it started: it lets go of what it has, unless its power is out.
                if not self.power.is_out:
                    await self.owner.close()
                raise
            break
        self._up.set()
        try:
            await self.service.run(self._stop)
        finally:
            if not self.power.is_out:
                # What a test wants to know does not wait for the other program.
                self.power.is_locked = False
                self.at_end = await self.owner.journal.streams()
                self.power.is_locked = self._is_locked
                await self.owner.close()

    @property
    def is_on(self) -> bool:
        """Whether it was begun, and neither ended nor was seen to after a power cut."""
        return self._life is not None

    @property
    def is_up(self) -> bool:
        """Whether the service has started."""
        return self._life is not None and self._up.is_set() and not self.power.is_out

    async def end(self) -> None:
        """End the service in good order. Where the power fails meanwhile, that is still to be seen to."""
        assert self._life is not None
        self._stop.set()
        if not self._up.is_set():
            # Told to end while it starts: it does not wait for what it needs.
            self._life.cancel()
        await self.changed.wait()
        if self.power.is_out:
            return
        life, self._life = self._life, None
        if not life.cancelled() and (error := life.exception()) is not None:
            raise error

    async def lose_power(self) -> Disk:
        """Nothing is finished, nothing is told: what is on the disk is what there is. Returns that."""
        assert self._life is not None
        self.power.cut()
        ours = [task for task in asyncio.all_tasks() if _power_of(task) is self.power]
        while ours:
            for task in ours:
                task.cancel()
            await asyncio.sleep(0)
            ours = [task for task in ours if not task.done()]
        await asyncio.gather(self._life, return_exceptions=True)
        self._let_go()
        self._life = None
        self.power.disk.restore(self.power.journal)
        return self.power.disk

    def _let_go(self) -> None:
        """The files that the dead process had open."""
        if self.owner is None:
            return
        for _, callback in vars(self.owner._stack.pop_all())["_exit_callbacks"]:
            wrapped = getattr(callback, "__wrapped__", None)
            if getattr(wrapped, "__name__", "") in ("release", "close"):
                wrapped()  # type: ignore[misc]

    @property
    def failed(self) -> BaseException | None:
        """Why the service ended, where it did by itself."""
        if self._life is None or not self._life.done() or self.power.is_out or self._life.cancelled():
            return None
        return self._life.exception()

    # What goes wrong

    def cut(self) -> None:
        """Cut the power now, where there is a process that it would matter to."""
        if self._life is not None:
            self.power.cut()

    def cut_at(self, point: Point, count: int, random: Random, *, at_next_start: bool = False) -> None:
        """Cut the power at a durable step, from now or from the next start."""
        if at_next_start or self._life is None or self.power.is_out:
            self._cut = (point, count, random)
        else:
            self.power.cut_at(point, count, random)

    def fill_disk(self, is_full: bool) -> None:
        """The journal's disk has no room, or has room again."""
        self._is_full = self.power.is_full = is_full

    def lock_journal(self, is_locked: bool) -> None:
        """Another program takes the journal's write lock, or gives it back."""
        self._is_locked = self.power.is_locked = is_locked


def _power_of(task: asyncio.Task[Any]) -> Power | None:
    context = task.get_loop().contexts.get(task)  # type: ignore[attr-defined]
    return None if context is None else context.get(POWER)


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
