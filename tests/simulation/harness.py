"""Lives through the history of a seed, and looks whether every promise was kept."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import heapq
import itertools
import traceback
import uuid
import zlib
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

import structlog
from msgspec import structs

from collector.errors import StoreUnavailable, UsageError
from collector.memory import MIB, MemoryBounds, MemoryLimit, bounds_of
from collector.owner import reader
from collector.owner.journals import FRESH_SECONDS, JournalState, forget_journal, read_journals
from collector.pipeline import ship
from collector.settings import Settings
from collector.simulator.credentials import Credentials
from collector.simulator.faults import UNREADABLE, Fault, FaultKind
from collector.simulator.server import Simulator
from collector.simulator.service import SimulatorOptions
from collector.simulator.world import LateRows, LongLines, World
from collector.sources.tables import TABLES
from collector.store.embedded import EmbeddedStore
from tests.simulation import promises
from tests.simulation.history import CRASHES, History, Incident, Kind
from tests.simulation.machine import Machine, Shop, digest_of
from tests.simulation.power import Disk, Point, wired
from tests.simulation.promises import Broken, Facts
from tests.simulation.twin import Twin
from tests.support import configuration
from tests.support.virtual_clock import EndlessTurning, VirtualClock, VirtualLoop, run

QUOTAS = {"ListSyslogs": 6, "GetUserViewMetrics": 4}
KEY = "sk-canary-0c9e1f7a"
"""Must never be seen in anything that is written."""
TICK_SECONDS = 60
FILLED = ("syslogs", "user_metrics", "resource_group_metrics", "dead_letters", "api_call_parts")
TAIL_SECONDS_MAX = 4 * 3600
"""After the last incident every stream has to be caught up within so much time."""
LOOK_SECONDS = 30.0
NOTHING_SECONDS = 1e-6
"""Less than a loop's timer can tell."""
STEPS_MAX = 100_000
"""Rounds of the loop in one history; most have a hundredth of them."""
TRUST_SECONDS = 60
"""For how long a token is trusted where the store forgets it after twice as long."""
SWITCH_SECONDS_MIN = 1.5
"""Between the end of one set of processes and the start of the next: they do not know of each other's last second."""

_CUTS = {
    Kind.CRASH_BEFORE_COMMIT: Point.BEFORE_COMMIT, Kind.CRASH_AFTER_COMMIT: Point.AFTER_COMMIT,
    Kind.TORN_TAIL: Point.TORN_COMMIT, Kind.CRASH_BEFORE_INSERT: Point.BEFORE_INSERT,
    Kind.CRASH_AFTER_INSERT: Point.AFTER_INSERT,
}  # fmt: skip
_POINTS = tuple(Point)
_ERRORS = (
    FaultKind.ERROR_500, FaultKind.ERROR_503, FaultKind.HTML_200, FaultKind.INVALID_JSON, FaultKind.EMPTY_BODY,
    FaultKind.TRUNCATED, FaultKind.CODE_IN_200, FaultKind.RESET_BEFORE, FaultKind.RESET_DURING, FaultKind.THROTTLE_429,
    FaultKind.CHANGING_TOTAL, FaultKind.BROTLI, FaultKind.NO_CONTENT, FaultKind.PLAIN_AS_GZIP,
)  # fmt: skip
_SIGNS: tuple[dict[str, Any], ...] = (
    {"Success": False, "HttpStatusCode": 500, "Code": "", "Message": "The backend timed out."},
    {"HttpStatusCode": "429"}, {"errorCode": "InternalError"}, {"Message": "Request timed out"},
    {"TotalCount": 1_000_000},
)  # fmt: skip


@dataclass(slots=True)
class Outcome:
    """What came of a history."""

    history: History
    broken: str = ""
    """The promise that was broken, and how; empty where all were kept."""
    digest: str = ""
    """Of every call, every row and everything that was logged, with its time."""
    hits: Counter[Kind] = field(default_factory=Counter)
    """How often each kind of incident did happen."""
    log: list[str] = field(default_factory=list)
    """Everything that was logged."""


class Crash:
    """What is to become of a machine after its next power cut."""

    def __init__(self) -> None:
        self.down_seconds = 5.0
        self.loses_journal = False
        self.keeps_old = False
        self.put_back: Disk | None = None


class Run:
    """One history on its way."""

    def __init__(self, history: History, folder: Path, store: EmbeddedStore | Twin, loop: VirtualLoop) -> None:
        self.history = history
        self.loop = loop
        self.random = Random(f"run {history.seed}")
        self.world = World(
            history.seed, history.nodes, history.groups, lines_per_second=history.lines_per_second, bursts=False,
            users_per_group=3 + history.seed % 5,
        )  # fmt: skip
        for stretch in history.long_lines:
            start = history.begins + stretch.at
            node_id = self.world.node_ids[stretch.node % history.nodes]
            self.world.add_long(
                LongLines(node_id, start, start + stretch.seconds, stretch.per_second, stretch.bytes, stretch.is_equal)
            )
        options = SimulatorOptions(
            credentials=Credentials(key=KEY),
            quotas=QUOTAS,
            seed=history.seed,
            latency_seconds=(0.005, 0.02),
            page_size=history.page_size,
        )
        self.api = Simulator(self.world, options, now=self.now, clock=VirtualClock(loop, history.begins))
        self.shop = Shop(store)
        count = 2 if history.has_shards else 1
        self.machines = [
            Machine(
                folder / str(i), self.api, self.shop, VirtualClock(loop, history.begins), history.seed + i, key=KEY,
                is_alone=not history.has_shards,
            )
            for i in range(count)
        ]  # fmt: skip
        self.crashes = [Crash() for _ in self.machines]
        self.shares = ["0/2", "1/2"] if history.has_shards else ["0/1"]
        self.hits: Counter[Kind] = Counter()
        self.facts = Facts(self.world, self.api, history, QUOTAS, TICK_SECONDS)
        self._timeline: list[tuple[float, int, Callable[[], Awaitable[None]]]] = []
        self._places = itertools.count()
        self._faults: dict[int, tuple[Fault, ...]] = {}
        self._away: set[int] = set()
        self._slow: dict[int, float] = {}
        self._full: set[int] = set()
        self._locked: set[int] = set()
        self._small: dict[int, int] = {}
        if any(one.kind is Kind.POISON for one in history.incidents):
            modulus = self.random.choice((7, 30))
            self.shop.refuses = lambda table, line: table == "syslogs" and zlib.crc32(line) % modulus == 0
        for machine in self.machines:
            machine.wire.asked = self.facts.asked_by(machine)
            machine.wire.rewrite = self.facts.rewritten

    def now(self) -> float:
        """The service's time of day."""
        return self.history.begins + self.loop.now

    def settings_of(self, index: int) -> Settings:
        """The configuration of one process."""
        history = self.history
        base = _base()
        syslogs = base.sources.syslogs.model_copy(
            update={
                "interval_seconds": history.interval, "interval_max_seconds": history.interval,
                "settle_seconds": history.settle, "recheck_seconds": history.rechecks, "initial_lookback_seconds": 150,
            }
        )  # fmt: skip
        usage = base.sources.user_metrics.model_copy(
            update={"interval_seconds": TICK_SECONDS, "page_size": history.users_page_size}
        )
        return base.model_copy(
            update={
                "shard": self.shares[index],
                "api": base.api.model_copy(update={"quotas": QUOTAS}),
                "targets": base.targets.model_copy(
                    update={"nodes": tuple(self.world.node_ids), "resource_groups": tuple(self.world.group_ids)}
                ),
                "store": base.store.model_copy(update={"flush_interval_seconds": history.flush_seconds}),
                "journal": base.journal.model_copy(update={"path": self.machines[index].folder / "journal.db"}),
                "sources": base.sources.model_copy(update={"syslogs": syslogs, "user_metrics": usage}),
            }
        )

    # The course of things

    async def live(self) -> None:
        """From the first start to the last check. Raises Broken."""
        for index in range(len(self.machines)):
            await self._begin(index)
        for incident in self.history.incidents:
            self._at(incident.at, lambda incident=incident: self._happen(incident))  # type: ignore[misc]
        await self._until(self.history.seconds)
        while self._timeline:
            await self._until(self._timeline[0][0])
        for machine in self.machines:
            machine.cut_at(Point.AFTER_COMMIT, 1 << 40, self.random)
        self.loop.at_step(1 << 60, lambda: None)
        await self._catch_up()
        for index, machine in enumerate(self.machines):
            if machine.is_on:
                await machine.end()
                self._see_to(index)
        await promises.check(self.facts, self.shop, self.machines, is_final=True)

    def _at(self, time: float, what: Callable[[], Awaitable[None]]) -> None:
        heapq.heappush(self._timeline, (time, next(self._places), what))

    def _in(self, seconds: float, what: Callable[[], Awaitable[None]]) -> None:
        self._at(self.loop.now + seconds, what)

    async def _until(self, time: float) -> None:
        """Let time pass, with what is due in it."""
        while self._timeline and self._timeline[0][0] <= time:
            due, _, what = heapq.heappop(self._timeline)
            await self._pass(due)
            await what()
        await self._pass(time)

    async def _pass(self, time: float) -> None:
        while True:
            for index, machine in enumerate(self.machines):
                if machine.is_on and machine.changed.is_set():
                    await self._see_to_cut(index)
            left = time - self.loop.now
            if left <= NOTHING_SECONDS:
                return
            waits = [asyncio.ensure_future(machine.changed.wait()) for machine in self.machines if machine.is_on]
            if not waits:
                await asyncio.sleep(left)
                continue
            await asyncio.wait(waits, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()

    def _see_to(self, index: int) -> None:
        error = self.machines[index].failed
        if error is not None:
            text = "".join(traceback.format_exception(error))
            raise Broken(f"the service ended by itself: {text}") from error

    async def _see_to_cut(self, index: int) -> None:
        machine, crash = self.machines[index], self.crashes[index]
        self._see_to(index)
        if not machine.power.is_out:
            return
        disk = await machine.lose_power()
        self.crashes[index] = Crash()
        if crash.keeps_old:
            # A new machine takes over; later the old one's disk is put in its place.
            self._in(crash.down_seconds + 150, lambda: self._put_back(index, disk))
        if crash.loses_journal or crash.keeps_old:
            Disk().restore(machine.power.journal)
            self.facts.is_journal_lost = True
        if crash.put_back is not None:
            crash.put_back.restore(machine.power.journal)
            self.facts.is_journal_lost = True
        await promises.check(self.facts, self.shop, self.machines, is_final=False)
        self._in(crash.down_seconds, lambda: self._begin(index))

    async def _begin(self, index: int) -> None:
        if index and self.shares[0] == "0/1":
            # It crashed before one process took the place of two.
            return
        if not self.machines[index].is_on:
            self.machines[index].begin(self.settings_of(index))

    async def _put_back(self, index: int, disk: Disk) -> None:
        machine = self.machines[index]
        if machine.is_on:
            self.crashes[index].put_back = disk
            machine.power.cut()
        else:
            disk.restore(machine.power.journal)

    async def _catch_up(self) -> None:
        """Every stream gets to where the incidents were over, and its rechecks too."""
        until = self.now()
        begun = self.loop.now
        while True:
            await self._pass(self.loop.now + LOOK_SECONDS)
            if self.history.is_ever_ahead:
                await promises.check_wellness(self.facts, self.machines)
            behind = await promises.behind(self.facts, self.shop, self.machines, until)
            if not behind:
                return
            if self.loop.now - begun > TAIL_SECONDS_MAX:
                raise Broken(f"{TAIL_SECONDS_MAX} s after the last incident not caught up: {behind}")

    # What goes wrong

    async def _happen(self, incident: Incident) -> None:
        if self.history.is_ever_ahead:
            await promises.check_wellness(self.facts, self.machines)
        kind = incident.kind
        index = incident.machine % len(self.machines)
        machine = self.machines[index]
        random = Random(f"{self.history.seed} {incident.number}")
        over: Callable[[], Awaitable[None]] | None = None
        if kind in CRASHES:
            if not machine.is_on or machine.power.is_out:
                return
            self._crash(incident, index, random)
        elif kind is Kind.RESTART:
            if machine.is_on:
                await machine.end()
                if not machine.power.is_out:
                    self._in(incident.seconds, lambda: self._begin(index))
        elif kind is Kind.SHARDS:
            await self._change_shards(incident)
        elif kind in (Kind.STORE_AWAY, Kind.TOKENS_FORGOTTEN):
            over = self._lose_store(incident)
        elif kind is Kind.STORE_SLOW:
            self._slow[incident.number] = random.choice((0.1, 2.0, 20.0))
            over = self._give_back(self._slow.pop, incident.number)
        elif kind is Kind.LOST_ANSWER:
            self.shop.lost_answers += incident.count
        elif kind is Kind.DOUBLE_DELIVERY:
            self.shop.double_inserts += incident.count
        elif kind is Kind.POISON:
            # What is refused is refused from the beginning, or a row could be stored and refused.
            pass
        elif kind is Kind.DISK_FULL:
            self._full.add(incident.number)
            over = self._give_back(self._full.discard, incident.number)
        elif kind is Kind.JOURNAL_LOCKED:
            self._locked.add(incident.number)
            over = self._give_back(self._locked.discard, incident.number)
        elif kind is Kind.TOO_LARGE:
            self._small[incident.number] = random.choice((1_500, 4_000, 12_000))
            over = self._give_back(self._small.pop, incident.number)
        elif kind is Kind.LATE_ROWS:
            self._add_late(incident, random)
        elif kind is Kind.ANSWER_CHANGED:
            self.facts.change_answer(int(self.now()), random)
        elif kind is Kind.QUOTA_CUT:
            self._set_quotas({name: 1 for name in QUOTAS})
            over = self._give_back(self._set_quotas, QUOTAS)
            self.facts.is_quota_cut = True
        elif kind is Kind.KEY_REVOKED:
            good, self.api.credentials = self.api.credentials, self.api.credentials.changed({"key": "sk-another"})
            good = good.changed({"key": KEY})
            over = self._give_back(lambda given: setattr(self.api, "credentials", given), good)
        elif kind is Kind.CLOCK_STEP:
            step = random.choice((-86_400.0, -90.0, -3.0, 4.0, 300.0, 86_400.0))
            machine.clock.step_wall(step)
            if random.random() < 0.5:
                over = self._give_back(machine.clock.step_wall, -step)
        elif kind is Kind.ANSWERS_TOO_LARGE:
            self._limit_answers(random.choice((1_500, 4_000, 9_000)))
            over = self._give_back(self._limit_answers, 1 << 40)
        elif kind is Kind.API_AWAY:
            self._cut_wires(True)
            over = self._give_back(self._cut_wires, False)
        else:
            self._faults[incident.number] = _faults_of(kind, random)
            over = self._give_back(self._faults.pop, incident.number)
        self.hits[kind] += 1
        self._apply()
        if over is not None:
            self._in(incident.seconds, over)

    def _limit_answers(self, bytes_max: int) -> None:
        for one in self.machines:
            one.wire.bytes_max = bytes_max

    def _apply(self) -> None:
        self.api.faults = [fault for faults in self._faults.values() for fault in faults]
        self.shop.is_away = bool(self._away)
        self.shop.bytes_max = min(self._small.values(), default=0)
        self.shop.seconds = max(self._slow.values(), default=0.0)
        for machine in self.machines:
            machine.fill_disk(bool(self._full))
            machine.lock_journal(bool(self._locked))

    def _cut_wires(self, is_cut: bool) -> None:
        for one in self.machines:
            one.wire.is_cut = is_cut

    def _give_back(self, how: Callable[[Any], object], what: Any) -> Callable[[], Awaitable[None]]:
        async def over() -> None:
            how(what)
            self._apply()

        return over

    def _crash(self, incident: Incident, index: int, random: Random) -> None:
        machine, crash = self.machines[index], self.crashes[index]
        crash.down_seconds = incident.seconds
        kind = incident.kind
        crash.loses_journal = kind is Kind.JOURNAL_LOST
        crash.keeps_old = kind is Kind.OLD_JOURNAL
        if kind is Kind.CRASH_AT_START:
            machine.power.cut()
            machine.cut_at(random.choice(_POINTS), incident.count, random, at_next_start=True)
        elif kind in _CUTS:
            machine.cut_at(_CUTS[kind], incident.count, random)
        elif kind is Kind.CRASH_AT_AWAIT or random.random() < 0.5:
            self.loop.at_step(self.loop.steps + random.randint(1, 400), machine.cut)
        else:
            machine.cut_at(random.choice(_POINTS), incident.count, random)

    def _lose_store(self, incident: Incident) -> Callable[[], Awaitable[None]]:
        self._away.add(incident.number)
        if incident.kind is Kind.STORE_AWAY:
            return self._give_back(self._away.discard, incident.number)
        # The next segment is stored, and its answer lost for longer than its token is remembered.
        self._away.discard(incident.number)
        self.shop.lost_answers += 1

        async def away() -> None:
            self._away.add(incident.number)
            self._apply()
            self._in(3 * TRUST_SECONDS, back)

        async def back() -> None:
            if isinstance(self.shop.store, Twin):
                self.shop.store.forget_tokens()
            self._away.discard(incident.number)
            self._apply()

        return away

    def _add_late(self, incident: Incident, random: Random) -> None:
        now = int(self.now())
        end = now - random.randint(0, max(self.history.rechecks, default=60))
        rows = LateRows(
            random.choice(self.world.node_ids), end - random.randint(1, 60), end, incident.count,
            now + random.randint(1, 20),
        )  # fmt: skip
        self.facts.add_late(rows)

    def _set_quotas(self, quotas: dict[str, int]) -> None:
        last = self.api.handler.ledger._last
        for name, limit in quotas.items():
            last[name] = deque(last[name], maxlen=limit)

    async def _change_shards(self, incident: Incident) -> None:
        """Two processes become one, or one becomes two again."""
        second = self.machines[1]
        pause = max(SWITCH_SECONDS_MIN, incident.seconds)
        is_two = self.shares[0] == "0/2"
        if is_two and not second.is_up:
            # It crashed before, and is given up with the calls that it has not shipped.
            self.facts.is_journal_lost = True
        for machine in self.machines:
            if machine.is_on and not machine.power.is_out:
                if is_two and machine is second and incident.count % 2:
                    machine.power.cut()
                    # Given up with the calls that it has not shipped.
                    self.facts.is_journal_lost = True
                else:
                    await machine.end()
        for index, machine in enumerate(self.machines):
            if machine.is_on and machine.power.is_out:
                await machine.lose_power()
                self.crashes[index] = Crash()
        self.shares = ["0/1", "1/2"] if is_two else ["0/2", "1/2"]
        self._in(pause, lambda: self._begin(0))
        if is_two:
            identity = getattr(getattr(second, "owner", None), "membership", None)
            if identity is not None and identity.journal_id:
                self._in(FRESH_SECONDS + 60, lambda: self._forget(identity.journal_id))
        else:
            self._in(pause, lambda: self._begin(1))

    async def _forget(self, journal_id: str) -> None:
        """What a person does with the journal of a process that will not come back soon."""
        if self.shares[0] != "0/1":
            return
        holding = (JournalState.COLLECTING, JournalState.HOLDING)
        try:
            known = await read_journals(self.shop)
            await forget_journal(self.shop, journal_id, int(self.now()))
            if any(one.id == journal_id and one.state in holding for one in known):
                # It ended while the store was away: the calls that it had not shipped are given up with it.
                self.facts.is_journal_lost = True
        except StoreUnavailable:
            self._in(20, lambda: self._forget(journal_id))
        except UsageError:
            # It had not entered itself yet.
            return


def _faults_of(kind: Kind, random: Random) -> tuple[Fault, ...]:
    match kind:
        case Kind.DATES_AHEAD:
            seconds = random.choice((90.0, 600.0, 3600.0))
            return (Fault(kind=FaultKind.DATE_SKEWED, skew_seconds=seconds),)
        case Kind.DATES_MIXED:
            seconds = random.choice((-7200.0, -90.0, 90.0, 3600.0))
            return (Fault(kind=FaultKind.DATE_SKEWED, skew_seconds=seconds, probability=0.5),)
        case Kind.DATES_STALE:
            stale = random.choice((FaultKind.DATE_SKEWED, FaultKind.DATE_CACHED))
            share = random.choice((0.3, 1.0))
            return (
                Fault(kind=stale, skew_seconds=-7200.0, answers="probe"),
                Fault(kind=stale, skew_seconds=-600.0, answers="calls", probability=share),
            )
        case Kind.DATES_ODD:
            form = random.choice(("asctime", "rfc850", "minus_zero"))
            return (
                Fault(kind=random.choice((FaultKind.DATE_MISSING, FaultKind.DATE_GARBLED)), probability=0.5),
                Fault(kind=FaultKind.DATE_ODD, form=form),
            )
        case Kind.API_SLOW:
            return (Fault(kind=FaultKind.LATENCY, probability=0.7, seconds_max=random.choice((1.0, 10.0, 45.0))),)
        case Kind.CURSOR_EXPIRED:
            return (Fault(kind=FaultKind.EXPIRED_TOKEN, probability=0.5),)
        case Kind.CURSOR_REPEATED:
            return (Fault(kind=FaultKind.REPEATED_TOKEN, probability=0.5),)
        case Kind.DISORDER:
            return (Fault(kind=FaultKind.DISORDER),)
        case Kind.KEY_REFUSED_ONCE:
            return (Fault(kind=FaultKind.UNAUTHORIZED, times_max=1),)
        case Kind.ANSWERS_DENIED:
            short = Fault(kind=FaultKind.EMPTY_PAGE, operation="GetUserViewMetrics", probability=0.3)
            return (Fault(kind=FaultKind.DENIED, signs=random.choice(_SIGNS), probability=0.3), short)
        case Kind.ODD_RECORDS:
            odd = Fault(kind=FaultKind.ODD_RECORDS, share=random.choice((0.2, 1.0)))
            lost = structs.replace(odd, operation="ListSyslogs", oddities=UNREADABLE, share=0.3)
            return (odd, lost)
        case Kind.PAGES_REPEAT:
            kinds = (FaultKind.REPEATED_PAGE, FaultKind.EMPTY_PAGES)
            return (Fault(kind=random.choice(kinds), probability=random.choice((0.2, 0.6, 1.0))),)
        case _:
            chosen = random.sample(_ERRORS, 3)
            return tuple(Fault(kind=each, probability=0.3) for each in chosen)


_BASE: list[Settings] = []


def _base() -> Settings:
    if not _BASE:
        _BASE.append(
            configuration(Path("/nonexistent"), "http://127.0.0.1:1", store={"flush_interval": "1s"}, api={"retry": {}})
        )
    return _BASE[0]


class Log:
    """Everything that is logged, in order, with its moment."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self.lines: list[str] = []

    def __call__(self, logger: Any, method: str, event: MutableMapping[str, Any]) -> Any:
        error = event.pop("exc_info", None)
        self.lines.append(f"{self._loop.now:.3f} {method} {event}")
        if error:
            self.lines.append(traceback.format_exc())
        raise structlog.DropEvent


@contextmanager
def one_world(history: History, log: Log) -> Iterator[None]:
    """Chance comes from the seed, what is logged is kept, and every journal has a power that can fail."""
    random = Random(f"ids {history.seed}")

    def new_id() -> uuid.UUID:
        return uuid.UUID(int=random.getrandbits(128), version=4)

    before = structlog.get_config()
    structlog.configure(processors=[log], cache_logger_on_first_use=False)
    forgets = any(one.kind is Kind.TOKENS_FORGOTTEN for one in history.incidents)
    trust = TRUST_SECONDS if forgets else ship.TOKEN_TRUST_SECONDS
    try:
        with (
            mock.patch("uuid.uuid4", new_id),
            mock.patch.object(ship, "TOKEN_TRUST_SECONDS", trust),
            mock.patch.object(ship, "SIZE_BYTES_MIN", 1_000),
            mock.patch.object(reader, "bounds_of", return_value=_bounds(history)),
            # The loops of tables that nothing is collected for would only look into the journal.
            mock.patch.object(ship, "TABLES", {name: TABLES[name] for name in FILLED}),
            wired(),
        ):
            yield
    finally:
        structlog.configure(**before)


def _bounds(history: History) -> MemoryBounds:
    """The same on every machine."""
    bounds = bounds_of(MemoryLimit(4096 * MIB, "simulated"))
    size = history.segment_bytes
    return replace(bounds, segment=size, window=size, shipping=2 * size) if size else bounds


def play(history: History, folder: Path, store: EmbeddedStore | Twin | None = None) -> Outcome:
    """Live through a history in an empty folder, with a twin of the store unless one is given."""
    outcome = Outcome(history)
    loop = VirtualLoop(STEPS_MAX)
    loop.set_exception_handler(lambda loop, context: None)
    log = Log(loop)
    store = store or Twin(tokens_max=history.tokens_max)
    story = Run(history, folder, store, loop)

    async def live() -> None:
        try:
            await story.live()
        finally:
            for machine in story.machines:
                if machine.is_on:
                    await machine.lose_power()

    with one_world(history, log):
        gc.disable()
        try:
            run(live(), loop)
            promises.check_written(log.lines, folder, store, KEY)
        except (Broken, EndlessTurning) as broken:
            outcome.broken = str(broken)
        finally:
            gc.enable()
    outcome.hits = story.hits
    summary = hashlib.blake2b(digest_size=16)
    summary.update(digest_of(story.api, promises.everything(store)).encode())
    for line in log.lines:
        summary.update(line.encode())
    outcome.digest = summary.hexdigest()
    outcome.log = log.lines
    return outcome
