"""Who stands for a journal that is gone, and who is waited for, with nothing but the store's word and the place."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from collector.clock import ServerClock
from collector.errors import StoreUnavailable, UsageError
from collector.journal.journal import Journal
from collector.model import StreamKey
from collector.owner.journals import FRESH_SECONDS, JournalState
from collector.owner.place import gone_from
from collector.owner.shards import HEARTBEAT_SECONDS, REPLACED_SECONDS, JournalMembership
from collector.shares import Share
from collector.store.base import Store
from tests.support.virtual_clock import ManualClock

REGION = "cn-hangzhou"
HOST = "here"


class States:
    """A store that has the table of journals and nothing else."""

    def __init__(self) -> None:
        self.rows: list[list[Any]] = []
        self.is_away = False

    def add(
        self, journal_id: str, share: str, heartbeat: float, *, state: str = "collecting", host: str = HOST
    ) -> None:
        index, of = map(int, share.split("/"))
        self.rows.append([journal_id, REGION, index, of, state, int(heartbeat), host, int(heartbeat) * 1000])

    def state(self, journal_id: str) -> str:
        return str(next(row[4] for row in reversed(self.rows) if row[0] == journal_id))

    async def fetch(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[list[Any]]:
        if self.is_away:
            raise StoreUnavailable("the store is away")
        if "FROM journals" not in sql:
            return []
        latest: dict[tuple[Any, ...], list[Any]] = {}
        for row in self.rows:
            before = latest.get(tuple(row[:4]), row)
            # As the view has it: given up for ever, and the latest heartbeat whatever the state.
            state = "forgotten" if "forgotten" in (before[4], row[4]) else row[4]
            latest[tuple(row[:4])] = [*row[:4], state, max(before[5], row[5]), *row[6:]]
        return list(latest.values())

    async def insert(self, table: str, columns: Sequence[str], body: bytes, *, token: str) -> None:
        if self.is_away:
            raise StoreUnavailable("the store is away")
        for line in body.splitlines():
            region, journal_id, index, of, state, heartbeat, host, updated = msgspec.json.decode(line)
            milliseconds = int(float(updated) * 1000)
            self.rows.append([journal_id, region, index, of, state, heartbeat, host, milliseconds])


class Moving(ManualClock):
    """A clock that passes at each sleep; whoever wants to is told."""

    def __init__(self, told: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self._told = told

    async def sleep(self, seconds: float) -> None:
        self._now += seconds
        self._told()


@asynccontextmanager
async def membership(
    folder: Path, states: States, clock: ManualClock, share: Share, *, is_patient: bool = False
) -> AsyncIterator[JournalMembership]:
    path = folder / "journal.db"
    journal = Journal(path, {}, region=REGION, threaded=False)
    gone = gone_from(path, str(await journal.meta("id")))
    yield JournalMembership(
        cast(Store, states), journal, REGION, share, clock, ServerClock(clock), HOST, gone=gone, is_patient=is_patient
    )
    journal.close()


async def lost(folder: Path, clock: ManualClock) -> str:
    """The id of a journal that was at this place, and is not there any more."""
    async with membership(folder, States(), clock, Share(0, 1)) as one:
        await one.join()
    (folder / "journal.db").unlink()
    return one.journal_id


ELSEWHERE = "journal at another place"
AT_WORK = ("collecting", 0)
MINE = next(key for number in range(99) if Share(1, 2).owns(key := StreamKey("ListSyslogs", REGION, f"node-{number}")))


@pytest.mark.parametrize(
    ("share", "host", "state", "age", "expected"),
    [
        pytest.param("0/2", HOST, "collecting", 5, "collecting", id="another shard at work"),
        pytest.param("0/2", HOST, "collecting", 5000, "collecting", id="another shard that died"),
        pytest.param("0/2", HOST, "holding", 5000, "holding", id="another shard that ended with rows"),
        pytest.param("1/2", "there", "collecting", 5000, "forgotten", id="this shard, silent, on another machine"),
        pytest.param("1/2", "there", "holding", 5, "forgotten", id="this shard, ended with rows"),
        pytest.param("1/2", "there", "drained", 5, "drained", id="this shard, with nothing left"),
        pytest.param("0/1", HOST, "collecting", 5000, "collecting", id="all streams, elsewhere"),
    ],
)
async def test_a_journal_elsewhere_is_given_up_by_its_own_shard(
    tmp_path: Path, share: str, host: str, state: str, age: int, expected: str
) -> None:
    """Only the shard that it belonged to stands for it, and only once its process is silent."""
    clock, states = ManualClock(), States()
    states.add(ELSEWHERE, share, clock.wall() - age, state=state, host=host)
    async with membership(tmp_path, states, clock, Share(1, 2)) as one:
        await one.join()
    assert states.state(ELSEWHERE) == expected


@pytest.mark.parametrize("share", ["0/1", "0/2", "1/2"])
async def test_a_journal_that_was_here_is_given_up_at_once(tmp_path: Path, share: str) -> None:
    """Whatever shard it worked on, and however short ago: the lock of its place is ours."""
    clock, states = ManualClock(), States()
    before = await lost(tmp_path, clock)
    states.add(before, share, clock.wall() - 1)
    async with membership(tmp_path, states, clock, Share(1, 2)) as one:
        await one.join()
    assert states.state(before) == JournalState.FORGOTTEN


async def test_a_folder_that_was_copied_gives_up_nobody_who_is_at_work(tmp_path: Path) -> None:
    """The ids beside a journal go with a copy; the journal on the first machine is at work all the same."""
    clock, states = ManualClock(), States()
    before = await lost(tmp_path, clock)
    states.add(before, "0/2", clock.wall() - 5, host="there")
    async with membership(tmp_path, states, clock, Share(1, 2)) as one:
        await one.join()
    assert states.state(before) == JournalState.COLLECTING


async def test_a_folder_that_was_renamed_keeps_its_journals(tmp_path: Path) -> None:
    """The place is the folder and what lies in it, not its name."""
    clock, states = ManualClock(), States()
    before = await lost(tmp_path / "old name", clock)
    states.add(before, "1/2", clock.wall() - 5)
    (tmp_path / "old name").rename(tmp_path / "new name")
    async with membership(tmp_path / "new name", states, clock, Share(1, 2)) as one:
        await one.join()
    assert states.state(before) == JournalState.FORGOTTEN


async def test_a_service_waits_for_a_journal_of_its_shard_until_it_is_silent(tmp_path: Path) -> None:
    """With the whole folder lost only silence shows that a process was killed; collecting resumes within a minute."""
    clock, states = Moving(), States()
    states.add(ELSEWHERE, "1/2", clock.wall())
    async with membership(tmp_path, states, clock, Share(1, 2)) as hasty:
        with pytest.raises(UsageError, match="shard 1/2 is at work with another journal"):
            await hasty.join()
    async with membership(tmp_path, states, clock, Share(1, 2), is_patient=True) as patient:
        await patient.join()
    assert states.state(ELSEWHERE) == JournalState.FORGOTTEN
    assert FRESH_SECONDS <= clock.monotonic() <= 45


async def test_a_service_is_refused_once_the_other_one_is_heard_again(tmp_path: Path) -> None:
    """A heartbeat that moves is of a process at work."""
    states = States()
    clock = Moving(lambda: states.add(ELSEWHERE, "1/2", clock.wall()))
    states.add(ELSEWHERE, "1/2", clock.wall() - 5)
    async with membership(tmp_path, states, clock, Share(1, 2), is_patient=True) as one:
        with pytest.raises(UsageError, match="shard 1/2 is at work with another journal"):
            await one.join()
        assert one.begins_after == ""


async def test_a_process_that_was_silent_stores_nothing_until_it_was_heard_again(tmp_path: Path) -> None:
    """While it could not reach the store another process may have taken its streams over."""
    clock, states = ManualClock(), States()
    async with membership(tmp_path, states, clock, Share(1, 2)) as one:
        await one.join()
        states.is_away = True
        await clock.advance(HEARTBEAT_SECONDS)
        # The last heartbeat is recent enough.
        await one.confirm_alive()
        await clock.advance(FRESH_SECONDS - HEARTBEAT_SECONDS)
        with pytest.raises(StoreUnavailable, match="the store is away"):
            await one.confirm_alive()
        states.is_away = False
        await one.confirm_alive()
        assert states.rows[-1][5] == int(clock.wall())


async def test_a_process_that_was_given_up_while_it_was_silent_stores_nothing(tmp_path: Path) -> None:
    """Its rows stay in its journal, to be compared; its next heartbeat ends it."""
    clock, states = ManualClock(), States()
    async with membership(tmp_path / "first", states, clock, Share(1, 2)) as first:
        await first.join()
        await clock.advance(FRESH_SECONDS)
        async with membership(tmp_path / "second", states, clock, Share(1, 2)) as second:
            await second.join()
            with pytest.raises(StoreUnavailable, match="was given up while it was at work"):
                await first.confirm_alive()
            # A stream that the second one has not claimed yet waits until the first one has had time to end.
            assert await second.claim([MINE]) == []
            await clock.advance(FRESH_SECONDS)
            assert await second.claim([MINE]) == [MINE]
        with pytest.raises(UsageError, match="was given up while it was at work"):
            await first.beat()


async def test_a_process_that_slept_with_its_machine_is_silent(tmp_path: Path) -> None:
    """The monotonic clock does not count the sleep."""
    clock, states = ManualClock(), States()
    async with membership(tmp_path, states, clock, Share(1, 2)) as one:
        await one.join()
        clock.step_wall(FRESH_SECONDS)
        states.is_away = True
        with pytest.raises(StoreUnavailable):
            await one.confirm_alive()


@pytest.mark.parametrize(
    ("share", "state", "silent_seconds", "other_shard", "expected"),
    [
        pytest.param("0/1", "collecting", REPLACED_SECONDS, AT_WORK, "forgotten", id="one became two"),
        pytest.param("1/3", "holding", REPLACED_SECONDS, AT_WORK, "forgotten", id="three became two"),
        pytest.param("0/1", "collecting", REPLACED_SECONDS - 5, AT_WORK, "collecting", id="its machine may come back"),
        pytest.param("0/1", "collecting", REPLACED_SECONDS, None, "collecting", id="a shard of the two is not there"),
        pytest.param("0/2", "holding", REPLACED_SECONDS, AT_WORK, "holding", id="its shard exists and stands for it"),
        pytest.param("1/3", "holding", 4200, ("drained", 3600), "forgotten", id="shards that take turns"),
        pytest.param("1/3", "holding", 4200, ("collecting", 3600), "forgotten", id="a turn that was cut off"),
        pytest.param("1/3", "holding", 4200, ("drained", 3605), "holding", id="the other shard's turn was too early"),
        pytest.param("1/3", "holding", 900, ("drained", 86_400), "holding", id="two of long ago, three of now"),
    ],
)
async def test_a_journal_of_another_number_of_shards_is_given_up_once_it_is_replaced(
    tmp_path: Path, share: str, state: str, silent_seconds: int, other_shard: tuple[str, int] | None, expected: str
) -> None:
    """Every shard of the present number has worked long after its machine was heard last."""
    clock, states = ManualClock(), States()
    states.add(ELSEWHERE, share, clock.wall() - silent_seconds, state=state, host="there")
    if other_shard:
        other_state, ago = other_shard
        states.add("the other shard's journal", "0/2", clock.wall() - ago, state=other_state)
    async with membership(tmp_path, states, clock, Share(1, 2)) as one:
        await one.join()
        claimed = await one.claim([MINE])
    assert states.state(ELSEWHERE) == expected
    assert claimed == ([MINE] if expected == "forgotten" or share == "0/2" else [])


async def test_a_journal_that_works_on_another_share_by_now_is_not_replaced(tmp_path: Path) -> None:
    """It still ships what it has of its earlier share."""
    clock, states = ManualClock(), States()
    states.add(ELSEWHERE, "0/1", clock.wall() - REPLACED_SECONDS, state="holding")
    states.add(ELSEWHERE, "0/2", clock.wall())
    async with membership(tmp_path, states, clock, Share(1, 2)) as one:
        await one.join()
        assert await one.claim([MINE]) == []
