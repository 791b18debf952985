"""The streams of a source: which there are, what is due, and how one is caught up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from collector.catalogue.operation import Operation
from collector.errors import ForbiddenError, NotFoundError
from collector.journal.coverage import BACKFILL, Piece
from collector.journal.entries import StreamState
from collector.journal.journal import Journal
from collector.model import StreamKey, Window
from collector.pipeline.adopt import adopt_states, adopt_streams
from collector.pipeline.cadence import Cadence, look_spread
from collector.pipeline.collect_snapshots import collect_snapshot, end_snapshots, seal_partial
from collector.pipeline.collect_states import collect_states, seal_list
from collector.pipeline.collect_windows import collect_window, cut_short, seal_in_part, span_max
from collector.pipeline.collecting import Collecting
from collector.pipeline.windows import (
    SPAN_SECONDS_MAX,
    Horizon,
    is_finished,
    next_backfill,
    next_recheck,
    next_window,
    seconds_due,
    tick_of,
)
from collector.sources.source import StateSource, WindowSource
from collector.sources.tables import Table
from collector.sources.user_metrics import UserMetricsSource
from collector.store.base import Store

ACCOUNT_SCOPE = "account"
"""Scope of a stream that is about all that the account has."""
PROBE_SECONDS = 1


class Streams(Protocol):
    """The streams of one operation."""

    @property
    def name(self) -> str:
        """The source, as the configuration names it."""

    @property
    def operation(self) -> Operation: ...

    @property
    def tables(self) -> Sequence[Table]:
        """Tables that the source fills."""

    @property
    def can_be_asked_later(self) -> bool:
        """False where what is not asked now is lost."""

    def keys(self, region: str) -> list[StreamKey]:
        """The streams, in the order of the configuration."""

    async def adopt(self, journal: Journal, store: Store, keys: Sequence[StreamKey]) -> None:
        """Enter the streams that the journal does not know, with what the store knows of them."""

    @property
    def cadence(self) -> Cadence:
        """The intervals at which a service looks at a stream."""

    @property
    def calls_per_look(self) -> int:
        """Calls that a look at a stream takes at least."""

    @property
    def settle(self) -> int:
        """Seconds that the watermark stays behind now."""

    @property
    def spread(self) -> int:
        """Streams are looked at spread over so many seconds."""

    @property
    def lookback(self) -> int:
        """Seconds before now at which a new stream begins."""

    @property
    def tick(self) -> int:
        """Seconds between two polls of what shows only the present; 0 for windows of event time."""

    @property
    def has_gaps(self) -> bool:
        """Whether a tick without a poll is a gap."""

    def due(self, state: StreamState, now: int) -> int:
        """What a stream has to collect at server time `now`: seconds of event time, or looks."""

    def is_behind(self, state: StreamState, now: int, interval: int) -> bool:
        """Whether a stream has something to collect at once, before its next regular look."""

    def end(self, key: StreamKey) -> int | None:
        """When there is nothing of a stream any more, seconds since the epoch; None while it lasts."""

    def is_finished(self, state: StreamState, now: int) -> bool:
        """Whether there will never be anything to collect any more, as of server time `now`."""

    def probe(self, key: StreamKey, now: int) -> dict[str, Any]:
        """Parameters of a small call that shows whether the stream can be collected."""

    async def collect(
        self, collecting: Collecting, state: StreamState, now: int, interval: int = 0
    ) -> StreamState | None:
        """Collect the next window, snapshot or list that is due at `now`; None when nothing is.

        `interval` is the time between two looks at present, 0 where they are not regular. Raises ApiError; what
        was read stays in the journal, and the next call goes on behind it.
        """

    async def seal_in_part(self, collecting: Collecting, state: StreamState) -> StreamState:
        """Store what was read of a window, snapshot or list that does not resume soon."""


async def catch_up(streams: Streams, collecting: Collecting, state: StreamState, now: int) -> None:
    """Collect everything that is due at `now`. Raises ApiError."""
    after: StreamState | None = state
    while after is not None:
        after = await streams.collect(collecting, after, now)


class WindowStreams:
    """One stream a scope, in windows of event time."""

    can_be_asked_later = True
    tick = 0
    has_gaps = False

    def __init__(
        self,
        name: str,
        source: WindowSource,
        scope_ids: Sequence[str],
        *,
        settle: int,
        initial_lookback: int,
        rechecks: Sequence[int],
        interval: int = 60,
        interval_max: int | None = None,
        ends: Mapping[str, int] | None = None,
        settles: Mapping[str, int] | None = None,
        begins: Mapping[str, int] | None = None,
    ) -> None:
        """All times in seconds. The interval is fixed without `interval_max`; `ends` are the moments
        after which there is nothing of a scope, where that is known; `settles` those of scopes that have their own;
        `begins` where scopes begin that go on where another one ended."""
        self.name = name
        self.operation = source.operation
        self.tables = source.tables
        self.source = source
        self._scope_ids = tuple(scope_ids)
        self._settle = settle
        self._settles = settles if settles is not None else {}
        self.cadence = Cadence(interval, interval_max or interval)
        self.spread = interval
        self.calls_per_look = source.pages_of_window
        self.lookback = initial_lookback
        self._rechecks = tuple(rechecks)
        self._ends = ends or {}
        self._begins = begins or {}

    @property
    def settle(self) -> int:
        if not self._settles:
            return self._settle
        settles = (self._settles.get(key.target_id, self._settle) for key in self.keys(""))
        return max(settles, default=self._settle)

    def keys(self, region: str) -> list[StreamKey]:
        return [StreamKey(self.operation.name, region, scope_id) for scope_id in self._scope_ids]

    async def adopt(self, journal: Journal, store: Store, keys: Sequence[StreamKey]) -> None:
        await adopt_streams(journal, store, keys, self.tables, self._rechecks, self.cadence.interval_max, self.settle)

    def due(self, state: StreamState, now: int) -> int:
        return seconds_due(state, self._horizon(state), now)

    def probe(self, key: StreamKey, now: int) -> dict[str, Any]:
        end = now - self.settle
        return self.source.parameters(key, Window(end - PROBE_SECONDS, end), None)

    def is_behind(self, state: StreamState, now: int, interval: int) -> bool:
        horizon = self._horizon(state, interval=interval)
        if state.open.keys() - {BACKFILL} or state.sealed_to is None or horizon.end(now) - state.sealed_to >= interval:
            return next_window(state, horizon, now) is not None
        return next_recheck(state, horizon, now) is not None

    def end(self, key: StreamKey) -> int | None:
        return self._ends.get(key.target_id)

    def is_finished(self, state: StreamState, now: int) -> bool:
        return is_finished(state, self._horizon(state), now)

    async def collect(
        self, collecting: Collecting, state: StreamState, now: int, interval: int = 0
    ) -> StreamState | None:
        # A server clock that stepped back must not be asked for its future again and again.
        reached = min(now, collecting.server_clock.now())
        span = span_max(collecting, state)
        planned = next_window(state, self._horizon(state, span, interval), reached)
        if planned is None:
            return None
        gate, end = collecting.client.gate, self.end(state.key)
        has_left = end is not None and end <= reached
        gate.expect_refusal(self.operation.name, state.key.scope_id, is_expected=has_left)
        try:
            after = await collect_window(collecting, self.source, state, planned, self._settle_of(state))
        except (ForbiddenError, NotFoundError) as error:
            is_about_scope = not gate.operation_stopped(self.operation.name)
            if end is None or not has_left or state.sealed_to is None or not is_about_scope:
                raise
            return await cut_short(collecting, state.id, end, error)
        finally:
            gate.expect_refusal(self.operation.name, state.key.scope_id, is_expected=False)
        # Nothing of it could be sealed yet, and asking again would bring the same, unless the answer has shown that it
        # is earlier than was thought (by more than the second that a Date is cut to), or was older than the present.
        is_earlier = collecting.server_clock.now() < reached - 1
        is_unchanged = after == state and span_max(collecting, state) == span
        return None if is_unchanged and not is_earlier and state.id not in collecting.stale else after

    async def fill(self, collecting: Collecting, state: StreamState, piece: Piece) -> StreamState:
        """Read the next window of a piece of a backfill; the stream is unchanged where nothing could be sealed yet.

        Raises ApiError; what was read stays in the journal.
        """
        planned = next_backfill(state, piece, span_max(collecting, state))
        return await collect_window(collecting, self.source, state, planned, self._settle_of(state))

    async def seal_in_part(self, collecting: Collecting, state: StreamState) -> StreamState:
        return await seal_in_part(collecting, state)

    def _settle_of(self, state: StreamState) -> int:
        return self._settles.get(state.key.target_id, self._settle)

    def _horizon(self, state: StreamState, span: int = SPAN_SECONDS_MAX, interval: int = 0) -> Horizon:
        since = self._begins.get(state.key.scope_id)
        return Horizon(self._settle_of(state), self.lookback, span, self.end(state.key), interval, since)


class _Looks:
    """What streams have in common that are looked at once in each tick."""

    lookback = 0
    has_gaps = False

    def __init__(self, interval: int, ends: Mapping[str, int] | None) -> None:
        self._ends = ends or {}
        self.cadence = Cadence(interval, interval)
        self.spread = look_spread(interval)
        # Up to so long after its tick a stream is looked at.
        self.settle = self.spread
        self.calls_per_look = 1
        self.tick = interval
        self._interval = interval

    def end(self, key: StreamKey) -> int | None:
        return self._ends.get(key.target_id)

    def has_ended(self, state: StreamState, now: int) -> bool:
        """Whether there is nothing to be looked at any more at server time `now`."""
        end = self.end(state.key)
        return end is not None and end <= now

    def due(self, state: StreamState, now: int) -> int:
        if self.has_ended(state, now):
            return int(not self.is_finished(state, now))
        return int(state.sealed_to is None or state.sealed_to <= tick_of(now, self._interval))

    def is_behind(self, state: StreamState, now: int, interval: int) -> bool:
        # What was missed is past; only a stream without any look yet cannot wait for its time.
        return state.sealed_to is None

    def is_finished(self, state: StreamState, now: int) -> bool:
        return self.has_ended(state, now)


class SnapshotStreams(_Looks):
    """One stream a resource group, a snapshot each tick."""

    can_be_asked_later = False
    has_gaps = True

    def __init__(
        self,
        name: str,
        source: UserMetricsSource,
        group_ids: Sequence[str],
        *,
        interval: int,
        ends: Mapping[str, int] | None = None,
    ) -> None:
        self.name = name
        self.operation = source.operation
        self.tables = source.tables
        self.source = source
        self._group_ids = tuple(group_ids)
        super().__init__(interval, ends)

    def keys(self, region: str) -> list[StreamKey]:
        return [StreamKey(self.operation.name, region, group_id) for group_id in self._group_ids]

    async def adopt(self, journal: Journal, store: Store, keys: Sequence[StreamKey]) -> None:
        await adopt_streams(journal, store, keys, self.tables, ())

    def is_finished(self, state: StreamState, now: int) -> bool:
        end = self.end(state.key)
        return end is not None and end <= now and (state.sealed_to is None or state.sealed_to >= end)

    def probe(self, key: StreamKey, now: int) -> dict[str, Any]:
        return {**self.source.parameters(key, Window(now, now + 1), None), "PageSize": "1"}

    async def collect(
        self, collecting: Collecting, state: StreamState, now: int, interval: int = 0
    ) -> StreamState | None:
        if not self.due(state, now):
            return None
        if (end := self.end(state.key)) is not None and end <= now:
            return await end_snapshots(collecting, state, end, self._interval)
        return await collect_snapshot(collecting, self.source, state, self._interval, now)

    async def seal_in_part(self, collecting: Collecting, state: StreamState) -> StreamState:
        return await seal_partial(collecting, state, self._interval)


class StateStreams(_Looks):
    """Objects that exist and change, looked at each tick."""

    can_be_asked_later = False

    def __init__(
        self,
        name: str,
        source: StateSource,
        scope_ids: Sequence[str],
        *,
        interval: int,
        ends: Mapping[str, int] | None = None,
    ) -> None:
        self.name = name
        self.operation = source.operation
        self.tables = source.tables
        self.source = source
        self._scope_ids = tuple(scope_ids)
        super().__init__(interval, ends)

    def keys(self, region: str) -> list[StreamKey]:
        return [StreamKey(self.operation.name, region, scope_id) for scope_id in self._scope_ids]

    async def adopt(self, journal: Journal, store: Store, keys: Sequence[StreamKey]) -> None:
        await adopt_states(journal, store, self.source, keys)

    def probe(self, key: StreamKey, now: int) -> dict[str, Any]:
        return self.source.parameters(key, None)

    async def collect(
        self, collecting: Collecting, state: StreamState, now: int, interval: int = 0
    ) -> StreamState | None:
        if self.has_ended(state, now) or (not self.due(state, now) and not state.open):
            return None
        return await collect_states(collecting, self.source, state, self._interval, now)

    async def seal_in_part(self, collecting: Collecting, state: StreamState) -> StreamState:
        return await seal_list(collecting, state, self._interval)
