"""One process of several that collect an account: which streams are its own, and since when.

A stream is collected by one journal at a time. Every journal is entered in the store's table `journals` before it
takes any stream, and takes none that another entered journal may hold rows of. Whoever is entered later sees who
was there before, so of two that want a stream at the same moment at least one waits. A stream that was taken is
kept until its journal is drained of it.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from math import inf
from typing import Final

import structlog

from collector.clock import Clock, ServerClock
from collector.errors import ConfigError, StoreUnavailable, UsageError
from collector.journal.journal import Journal
from collector.journal.outgoing import Outgoing
from collector.journal.recovery.orphans import Orphans
from collector.model import StreamKey, Window
from collector.owner.journals import (
    FRESH_SECONDS,
    JournalState,
    KnownJournal,
    read_journals,
    write_journals,
)
from collector.pipeline.ship import ship_gaps
from collector.settings import Settings
from collector.shares import Share
from collector.store.base import Store

log = structlog.get_logger(__name__)

HEARTBEAT_SECONDS: Final = FRESH_SECONDS / 3
ALIVE_SECONDS: Final = FRESH_SECONDS - HEARTBEAT_SECONDS
"""Maximum age in seconds of the last heartbeat for storing rows: no other process can have taken streams over yet."""
REPLACED_SECONDS: Final = 600
"""Silence in seconds after which a journal of another number of shards is given up, if all present shards worked later
than that. Its machine may restart until then, and ship what would otherwise be requested and paid for again."""
READ_AGAIN_SECONDS: Final = 3.0
"""What the store says of other journals is used for so long."""

SEEN_KEY: Final = "journals_seen"
"""Under this name the journal keeps which states of others it had seen when it was drained at a clean end."""


def check_discovery(settings: Settings, *, is_exclusive: bool) -> None:
    """Raises ConfigError where a shard could not learn the targets that another one discovers.

    `is_exclusive`: no other process can read or write the store.
    """
    targets = settings.targets
    if settings.share.is_alone or not is_exclusive or not (targets.discover or targets.clusters):
        return
    key, seen = ("discover", targets.discover) if targets.discover else ("clusters", targets.clusters)
    raise ConfigError(
        [
            f"targets.{key}: got {', '.join(seen)} with shard {settings.share}, but one shard looks at each list, "
            "and a store of its own does not tell the others; expected targets that are named, such as targets.nodes"
        ]
    )


class JournalMembership:
    """This process among all those that collect one account into one store."""

    def __init__(
        self,
        store: Store,
        journal: Journal,
        region: str,
        share: Share,
        clock: Clock,
        server_clock: ServerClock,
        host: str,
        *,
        is_exclusive: bool = False,
        gone: Collection[str] = (),
        is_patient: bool = False,
    ) -> None:
        """`is_exclusive`: nobody else can have the store open, so no other journal can be at work. `gone` are the ids
        of journals that were in the place of this one, which its lock keeps others from working at. `is_patient`: a
        journal of the same shard that was alive a moment ago is waited for, until it is silent or was heard again.
        """
        self._store = store
        self._journal = journal
        self._outgoing = Outgoing(journal)
        self._orphans = Orphans(journal)
        self._region = region
        self._share = share
        self._clock = clock
        self._server_clock = server_clock
        self._host = host
        self._is_exclusive = is_exclusive
        self._gone = frozenset(gone)
        self._is_patient = is_patient
        self.begins_after = ""
        """The journal that is waited for before this one begins, empty where there is none."""
        self._id = ""
        self._others: list[KnownJournal] = []
        self._earlier: list[KnownJournal] = []
        """Shares that this journal worked on before, and still holds rows of."""
        self._read_at: float | None = None
        self._alive_at = (-inf, -inf)
        """Monotonic and wall time before the last heartbeat that the store took, seconds."""
        self._beating = asyncio.Lock()
        self._mine: set[StreamKey] = set()
        self._apart: set[StreamKey] = set()
        self._updated_ms = 0
        self._told: tuple[int, tuple[str, ...]] = (0, ())
        self._waiting: Counter[str] = Counter()

    @property
    def waiting(self) -> int:
        """Streams of this share that another journal may still hold rows of."""
        return sum(self._waiting.values())

    @property
    def is_exclusive(self) -> bool:
        """Whether no other process can have the store open; then no heartbeats are sent."""
        return self._is_exclusive

    @property
    def journal_id(self) -> str:
        """The id of the journal; another one than before where it came back after it was given up."""
        return self._id

    # Life

    async def join(self) -> None:
        """Enter this journal, before any stream is claimed. The server's time should be known.

        Raises UsageError where the same shard is at work with another journal, and StoreUnavailable.
        """
        self._id = str(await self._journal.meta("id"))
        known = await self._alone_in_shard()
        own = [one for one in known if one.id == self._id]
        if any(one.state is JournalState.FORGOTTEN for one in own):
            await self._come_back()
            own = []
        await self._set_back_stale(own, known)
        await self._give_up([one for one in self._others if self._is_successor_of(one)])
        self._earlier = [
            replace(one, state=JournalState.HOLDING)
            for one in own
            if (one.region, one.share) != (self._region, self._share) and one.state is not JournalState.DRAINED
        ]
        alive_at = self._times()
        await self._write(JournalState.COLLECTING, self._earlier)
        self._alive_at = alive_at
        self._mine = set(await self._journal.streams())
        self._apart = await self._orphans.keys()
        await self._tidy()
        # Who was entered meanwhile may have missed this journal, so others are looked at once more before a claim.
        self._read_at = None

    async def stay(self) -> None:
        """Send heartbeats until cancelled. Raises UsageError once the journal was given up."""
        if self._is_exclusive:
            # Nobody else can read it or give this journal up.
            await asyncio.Event().wait()
        is_away = False
        while True:
            await self._clock.sleep(HEARTBEAT_SECONDS)
            try:
                await self.beat()
                is_away = False
            except StoreUnavailable as error:
                if not is_away:
                    log.warning("heartbeat_failed", error=str(error))
                is_away = True

    async def beat(self) -> None:
        """Send one heartbeat. Raises UsageError if the journal was given up, and StoreUnavailable."""
        alive_at = self._times()
        # Written before it is read whether the journal was given up: a process that gives it up later sees it alive.
        await self._write(JournalState.COLLECTING, ())
        known = await self._read()
        if any(one.id == self._id and one.state is JournalState.FORGOTTEN for one in known):
            raise UsageError(
                f"the journal {self._id} was given up while it was at work",
                hint="start this process again: what it holds will be compared with the store",
            )
        self._alive_at = alive_at
        await self._tidy()

    async def confirm_alive(self) -> None:
        """Send a heartbeat if the last one is too old for storing rows. Raises StoreUnavailable if it fails."""
        if self._is_exclusive or not self._id:
            return
        async with self._beating:
            if max(now - then for now, then in zip(self._times(), self._alive_at, strict=True)) < ALIVE_SECONDS:
                return
            try:
                await self.beat()
            except UsageError as error:
                # The next regular heartbeat ends this process.
                raise StoreUnavailable(str(error)) from error

    def _times(self) -> tuple[float, float]:
        # Only the wall clock counts the time for which the machine was suspended.
        return self._clock.monotonic(), self._clock.wall()

    async def leave(self) -> None:
        """Say at a clean end what is left. Raises StoreUnavailable."""
        if not self._id:
            # Nothing was claimed.
            return
        await self._tidy()
        known = await self._read()
        if not await self._is_drained():
            await self._write(JournalState.HOLDING, ())
            return
        # Before it is written that others may take the streams: whoever changes after this may have taken some.
        seen = {_name(one): one.updated_ms for one in known if one.id != self._id}
        await self._journal.set_meta(**{SEEN_KEY: json.dumps(seen)})
        await self._write(JournalState.DRAINED, ())

    # Streams

    async def claim(self, keys: Sequence[StreamKey]) -> list[StreamKey]:
        """Those of the streams that this process may collect. Raises StoreUnavailable.

        What was claimed once stays. A stream of its share that another journal may hold rows of has to wait, and so
        has one of which this journal has rows itself that have to be compared first.
        """
        if self._read_at is None or self._clock.monotonic() - self._read_at >= READ_AGAIN_SECONDS:
            await self._read()
            if replaced := self._replaced():
                await self._give_up(replaced)
                await self._read()
            await self._settle_apart()
        now = self._server_clock.now()
        claimed: list[StreamKey] = []
        apart = {key.row_space for key in self._apart}
        held_by: Counter[KnownJournal] = Counter()
        for key in keys:
            if not self._share.owns(key):
                continue
            if key not in self._mine:
                holders = self._holders(key, now)
                held_by.update(holders)
                if holders or (apart and key.row_space in apart):
                    continue
                self._mine.add(key)
            claimed.append(key)
        self._tell_waiting(keys, held_by)
        return claimed

    def held_back(self, keys: Sequence[StreamKey]) -> int:
        """How many of the streams are this shard's, and wait."""
        return sum(self._share.owns(key) and key not in self._mine for key in keys)

    def _holders(self, key: StreamKey, now: int) -> list[KnownJournal]:
        if self._is_exclusive:
            return []
        return [one for one in self._others if one.may_hold(key, now) and not self._is_gone(one)]

    def _tell_waiting(self, keys: Sequence[StreamKey], held_by: Counter[KnownJournal]) -> None:
        """Say how many streams wait for which journals, whenever that has changed."""
        operations = {key.operation for key in keys}
        for operation in operations:
            self._waiting.pop(operation, None)
        for operation in operations:
            waiting = self.held_back([key for key in keys if key.operation == operation])
            if waiting:
                self._waiting[operation] = waiting
        names = tuple(sorted({one.id for one in held_by})) if held_by else (self._told[1] if self._waiting else ())
        told = (sum(self._waiting.values()), names)
        if told == self._told:
            return
        self._told = told
        if told[0]:
            log.warning("streams_held_back", streams=told[0], journals=list(told[1]))
        else:
            log.info("streams_taken_over")

    async def _settle_apart(self) -> None:
        """Let rows that were set apart be compared, where nobody can store the same ones at the same time."""
        self._apart = await self._orphans.keys()
        if not self._apart:
            return
        now, monotonic = self._server_clock.now(), self._clock.monotonic()
        free = {key for key in self._apart if self._share.owns(key) and not self._holders(key, now)}
        marks = await self._covered(self._apart - free)
        rows = 0
        for key in sorted(self._apart):
            if key in free or key in marks:
                covered = None if key in free else marks[key]
                rows += await self._orphans.bring_back(key, covered, monotonic)
        if rows:
            log.info("rows_compared_again", rows=rows)
        self._apart = await self._orphans.keys()

    async def _covered(self, keys: Collection[StreamKey]) -> dict[StreamKey, Window]:
        if not keys:
            return {}
        rows = await self._store.fetch(
            "SELECT operation, region, scope_id, toUnixTimestamp(collected_from), toUnixTimestamp(watermark)"
            " FROM watermarks WHERE scope_id IN {scopes:Array(String)}",
            {"scopes": sorted({key.scope_id for key in keys})},
        )
        found = {StreamKey(*names): Window(int(start), int(end)) for *names, start, end in rows}
        return {key: found[key] for key in keys if key in found}

    async def _shown(self) -> dict[StreamKey, tuple[int, int]]:
        """(generation, watermark) of every stream that the store knows."""
        rows = await self._store.fetch(
            "SELECT operation, region, scope_id, generation, toUnixTimestamp(watermark) FROM watermarks"
        )
        return {StreamKey(*names): (int(generation), int(watermark)) for *names, generation, watermark in rows}

    # What the store is told, and tells

    async def _read(self) -> list[KnownJournal]:
        known = await read_journals(self._store)
        self._read_at = self._clock.monotonic()
        self._others = [one for one in known if one.id != self._id]
        return known

    async def _write(self, state: JournalState, also: Sequence[KnownJournal]) -> None:
        now, stamp = self._server_clock.now(), self._stamp()
        present = KnownJournal(self._id, self._region, self._share, state, now, self._host, stamp)
        await write_journals(self._store, [present, *(replace(one, updated_ms=stamp) for one in also)])

    def _stamp(self) -> int:
        """A time for a new state that is later than that of every state before, whatever the clock does."""
        self._updated_ms = max(self._updated_ms + 1, int(self._clock.wall() * 1000))
        return self._updated_ms

    async def _alone_in_shard(self) -> list[KnownJournal]:
        """What the store knows, once nobody else works on this shard. Raises UsageError where somebody does."""
        known = await self._read()
        self._updated_ms = max((one.updated_ms for one in known), default=0)
        heard: dict[str, int] = {}
        try:
            while (one := self._second(known)) is not None:
                now = self._server_clock.now()
                if not self._is_patient or one.heartbeat > heard.setdefault(one.id, one.heartbeat):
                    raise UsageError(
                        f"shard {self._share} is at work with another journal: {one.id} on {one.host}, alive "
                        f"{one.age_seconds(now)} s ago",
                        hint=f"stop that process, or give this one another shard; {FRESH_SECONDS} s after its last "
                        "heartbeat this one may start",
                    )
                if not self.begins_after:
                    # A process that was killed and whose disk is gone looks like one at work, until it is silent.
                    log.warning("shard_waited_for", journal=one.id, seconds_max=FRESH_SECONDS)
                self.begins_after = one.id
                await self._clock.sleep(READ_AGAIN_SECONDS)
                known = await self._read()
        finally:
            self.begins_after = ""
        return known

    def _second(self, known: Sequence[KnownJournal]) -> KnownJournal | None:
        if self._is_exclusive:
            return None
        now = self._server_clock.now()
        return next(
            (one for one in known if self._is_of_this_shard(one) and one.may_be_alive(now) and not self._is_gone(one)),
            None,
        )

    def _is_of_this_shard(self, one: KnownJournal) -> bool:
        return (one.region, one.share) == (self._region, self._share) and one.id != self._id

    def _is_gone(self, one: KnownJournal) -> bool:
        """Whether a journal was in the place of this one: then nobody works with it."""
        # A folder that was copied to another machine names the journal that is at work on the first one.
        return one.id in self._gone and (one.host == self._host or not one.may_be_alive(self._server_clock.now()))

    def _is_successor_of(self, one: KnownJournal) -> bool:
        """Whether this journal stands for another one that cannot be at work.

        A shard has one journal: whoever starts it stands for those that had it before, once their processes are silent.
        """
        if self._is_exclusive and self._share.is_alone:
            return True
        if self._is_gone(one):
            return True
        return self._is_of_this_shard(one) and not one.may_be_alive(self._server_clock.now())

    def _replaced(self) -> list[KnownJournal]:
        """Return the journals of other numbers of shards that were silent for long before all present shards worked.

        Present shards that take turns (`run --once`) are never alive at the same time, so the last heartbeat of each
        counts. A journal whose process works on another share by now is not silent, and ships what it has of the
        earlier one.
        """
        if self._is_exclusive:
            return []
        now = self._server_clock.now()
        here = [one for one in self._others if one.region == self._region]
        heard: dict[str, int] = {}
        shares = {self._share.index: now}
        for one in here:
            heard[one.id] = max(one.heartbeat, heard.get(one.id, 0))
            if one.share.of == self._share.of:
                last = now if one.may_be_alive(now) else one.heartbeat
                shares[one.share.index] = max(last, shares.get(one.share.index, 0))
        if len(shares) < self._share.of:
            return []
        all_heard = min(shares.values())
        return [
            one
            for one in here
            if one.share.of != self._share.of
            and one.state in (JournalState.COLLECTING, JournalState.HOLDING)
            and all_heard - heard[one.id] >= REPLACED_SECONDS
        ]

    # What the journal lets go of

    async def _come_back(self) -> None:
        """This journal was given up: others may have its streams and may have stored what it holds."""
        await ship_gaps(self._outgoing, self._store, self._clock)
        before = self._id
        self._id, rows = await self._orphans.begin_anew()
        log.warning("journal_returned", journal=before, new_journal=self._id, rows_waiting=rows)

    async def _set_back_stale(self, own: Sequence[KnownJournal], known: Sequence[KnownJournal]) -> None:
        """Streams that another journal may have collected since this one was drained begin anew from the store.

        So do those of which the store shows something else than this journal told it: it is a copy from before, or the
        store is another one.
        """
        told = await self._journal.meta(SEEN_KEY)
        seen: dict[str, int] = json.loads(told) if told else {}
        entered = [one for one in own if one.state is not JournalState.DRAINED]
        changed = [one for one in known if one.id != self._id and seen.get(_name(one)) != one.updated_ms]
        stale = {
            key
            for key in await self._journal.streams()
            if not any(one.owns(key) for one in entered) and any(one.owns(key) for one in changed)
        }
        shown = await self._shown()
        stale |= await self._orphans.out_of_step(shown)
        if stale:
            await ship_gaps(self._outgoing, self._store, self._clock)
            rows = await self._orphans.set_apart(stale)
            log.info("streams_begun_anew", streams=len(stale), rows_waiting=rows)

    async def _give_up(self, others: Sequence[KnownJournal]) -> None:
        """Give journals up; one that ever comes back is compared."""
        left = [one for one in others if one.state in (JournalState.COLLECTING, JournalState.HOLDING)]
        if left:
            stamp = self._stamp()
            forgotten = [replace(one, state=JournalState.FORGOTTEN, updated_ms=stamp) for one in left]
            await write_journals(self._store, forgotten)
            log.info("journals_given_up", journals=sorted({one.id for one in left}))

    async def _tidy(self) -> None:
        """Drop drained streams of shares that are not worked on any more, and say so once none is left."""
        dropped, staying = await self._orphans.drop_drained(self._is_ours)
        self._mine.difference_update(dropped)
        if self._earlier and not staying:
            stamp = self._stamp()
            drained = [replace(one, state=JournalState.DRAINED, updated_ms=stamp) for one in self._earlier]
            await write_journals(self._store, drained)
            log.info("shares_drained", shares=[str(one.share) for one in self._earlier], streams=len(dropped))
            self._earlier = []

    def _is_ours(self, key: StreamKey) -> bool:
        return key.region == self._region and self._share.owns(key)

    async def _is_drained(self) -> bool:
        depth = await self._journal.depth()
        return not (
            depth.chunks
            or depth.segments
            or depth.open_windows
            or await self._outgoing.moved_watermarks()
            or await self._outgoing.changed_gaps()
        )


def _name(one: KnownJournal) -> str:
    return f"{one.id} {one.region} {one.share}"
