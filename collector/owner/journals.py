"""The journals that write to one store, as the store's table `journals` shows them."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from collector.errors import UsageError
from collector.model import StreamKey
from collector.shares import Share
from collector.sources.normalise import lines
from collector.store.base import Store

FRESH_SECONDS: Final = 30
"""Age in seconds up to which a heartbeat may be of a process that is still at work; all other times of heartbeats
derive from it."""

_COLUMNS: Final = ("region", "id", "shard", "of", "state", "heartbeat", "host", "updated_at")


class JournalState(StrEnum):
    """What a journal may hold of the streams of one share."""

    COLLECTING = "collecting"
    """Its process is at work, or died at work."""
    HOLDING = "holding"
    """It ended, or works on another share by now, and has rows that are not shipped."""
    DRAINED = "drained"
    """It has nothing that is not shipped."""
    FORGOTTEN = "forgotten"
    """It was given up; if it ever comes back, what it has is compared."""


@dataclass(frozen=True, slots=True)
class KnownJournal:
    """One share that a journal works on, or has worked on."""

    id: str
    region: str
    share: Share
    state: JournalState
    heartbeat: int
    """Server time, s, at which its process was last alive."""
    host: str
    updated_ms: int
    """When the state was written, milliseconds since the epoch."""

    def age_seconds(self, now: int) -> int:
        """How long ago its process was last alive, at server time `now`."""
        return max(0, now - self.heartbeat)

    def is_fresh(self, now: int) -> bool:
        """Whether its process may still be alive."""
        return self.age_seconds(now) < FRESH_SECONDS

    def may_be_alive(self, now: int) -> bool:
        """Whether its process may be at work, as far as the store knows."""
        return self.state is JournalState.COLLECTING and self.is_fresh(now)

    def may_hold(self, key: StreamKey, now: int) -> bool:
        """Whether it may have rows of a stream that are not shipped, or may be collecting it."""
        if not self.owns(key):
            return False
        if self.state is JournalState.FORGOTTEN:
            # One that was given up while it was alive needs a heartbeat to notice, and time to end.
            return self.is_fresh(now)
        return self.state is not JournalState.DRAINED

    def owns(self, key: StreamKey) -> bool:
        """Whether the stream belongs to its share."""
        return key.region == self.region and self.share.owns(key)

    def as_dict(self, now: int) -> dict[str, Any]:
        """For people and programs: plain values, the age in seconds."""
        return {
            "id": self.id, "shard": str(self.share), "region": self.region, "state": str(self.state),
            "heartbeat_age_seconds": self.age_seconds(now), "host": self.host,
        }  # fmt: skip


async def read_journals(store: Store, region: str | None = None) -> list[KnownJournal]:
    """Every journal that the store knows, of one region or of all. Raises as `Store.fetch` does."""
    rows = await store.fetch(
        "SELECT id, region, shard, of, state, toUnixTimestamp(heartbeat), host,"
        " toUInt64(toUnixTimestamp64Milli(updated_at)) FROM journals"
        + (" WHERE region = {region:String}" if region is not None else "")
        + " ORDER BY region, of, shard, id",
        None if region is None else {"region": region},
    )
    return [
        KnownJournal(row[0], row[1], Share(row[2], row[3]), JournalState(row[4]), row[5], row[6], int(row[7]))
        for row in rows
    ]


async def write_journals(store: Store, journals: Iterable[KnownJournal]) -> None:
    """Add the states; writing them twice changes nothing. Raises as `Store.insert` does."""
    rows = [
        (
            one.region, one.id, one.share.index, one.share.of, str(one.state), one.heartbeat, one.host,
            f"{one.updated_ms // 1000}.{one.updated_ms % 1000:03d}",
        )
        for one in journals
    ]  # fmt: skip
    if rows:
        await store.insert("journal_states", _COLUMNS, lines(rows), token=str(uuid.uuid4()))


async def forget_journal(store: Store, journal_id: str, now: int, *, force: bool = False) -> list[KnownJournal]:
    """Give a journal up: its streams may go to others, and if it comes back, what it holds is compared.

    `now` is server time, s. Returns what was forgotten, nothing where it was before. Raises UsageError where the
    store does not know the journal, or where it may still be at work and `force` is not given.
    """
    known = await read_journals(store)
    its = [one for one in known if one.id == journal_id]
    if not its:
        ids = sorted({f"{one.id} (shard {one.share}, {one.state}, {one.host})" for one in known})
        raise UsageError(
            f"the store knows no journal {journal_id}",
            hint="it knows " + ("; ".join(ids) if ids else "none"),
        )
    alive = [one for one in its if one.may_be_alive(now)]
    if alive and not force:
        one = alive[0]
        raise UsageError(
            f"the journal {journal_id} of shard {one.share} on {one.host} was alive {one.age_seconds(now)} s ago",
            hint=f"stop its process and wait until {FRESH_SECONDS} s have passed; or --force, which stops that process "
            "too where it still runs",
        )
    left = [one for one in its if one.state is not JournalState.FORGOTTEN]
    forgotten = [
        KnownJournal(
            one.id, one.region, one.share, JournalState.FORGOTTEN, one.heartbeat, one.host,
            max(one.updated_ms + 1, now * 1000),
        )
        for one in left
    ]  # fmt: skip
    await write_journals(store, forgotten)
    return forgotten
