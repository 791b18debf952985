"""The streams of a source: which there are, what is due, and how one is caught up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from collector.api.operation import Operation
from collector.journal.entries import StreamState
from collector.journal.journal import Journal
from collector.model import StreamKey, Window
from collector.pipeline.adopt import adopt_states, adopt_streams
from collector.pipeline.collect_snapshots import collect_snapshot
from collector.pipeline.collect_states import collect_states
from collector.pipeline.collect_windows import collect_window, span_max
from collector.pipeline.collecting import Collecting
from collector.pipeline.windows import SPAN_SECONDS_MAX, Horizon, next_window, seconds_due, tick_of
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

    def due(self, state: StreamState, now: int) -> int:
        """What a stream has to collect at server time `now`: seconds of event time, or looks."""

    def probe(self, key: StreamKey, now: int) -> dict[str, Any]:
        """Parameters of a small call that shows whether the stream can be collected."""

    async def catch_up(self, collecting: Collecting, state: StreamState, now: int) -> None:
        """Collect everything that is due at `now`. Raises ApiError; what was read stays in the journal."""


class WindowStreams:
    """One stream a scope, in windows of event time."""

    can_be_asked_later = True

    def __init__(
        self,
        name: str,
        source: WindowSource,
        scope_ids: Sequence[str],
        *,
        settle: int,
        initial_lookback: int,
        rechecks: Sequence[int],
        ends: Mapping[str, int] | None = None,
    ) -> None:
        """`settle`, `initial_lookback` and `rechecks` in seconds; `ends` are the moments after which
        there is nothing of a scope, where that is known."""
        self.name = name
        self.operation = source.operation
        self.tables = source.tables
        self._source = source
        self._scope_ids = tuple(scope_ids)
        self._settle = settle
        self._initial_lookback = initial_lookback
        self._rechecks = tuple(rechecks)
        self._ends = ends or {}

    def keys(self, region: str) -> list[StreamKey]:
        return [StreamKey(self.operation.name, region, scope_id) for scope_id in self._scope_ids]

    async def adopt(self, journal: Journal, store: Store, keys: Sequence[StreamKey]) -> None:
        await adopt_streams(journal, store, keys, self.tables, self._rechecks)

    def due(self, state: StreamState, now: int) -> int:
        return seconds_due(state, self._horizon(state), now)

    def probe(self, key: StreamKey, now: int) -> dict[str, Any]:
        end = now - self._settle
        return self._source.parameters(key, Window(end - PROBE_SECONDS, end), None)

    async def catch_up(self, collecting: Collecting, state: StreamState, now: int) -> None:
        server_clock = collecting.server_clock
        while True:
            # A server clock that stepped back must not be asked for its future again and again.
            reached = min(now, server_clock.date) if server_clock.date is not None else now
            planned = next_window(state, self._horizon(state, span_max(collecting, state)), reached)
            if planned is None:
                return
            state = await collect_window(collecting, self._source, state, planned, self._settle)

    def _horizon(self, state: StreamState, span: int = SPAN_SECONDS_MAX) -> Horizon:
        return Horizon(self._settle, self._initial_lookback, span, self._ends.get(state.key.scope_id))


class SnapshotStreams:
    """One stream a resource group, a snapshot each tick."""

    can_be_asked_later = False

    def __init__(self, name: str, source: UserMetricsSource, group_ids: Sequence[str], *, interval: int) -> None:
        self.name = name
        self.operation = source.operation
        self.tables = source.tables
        self._source = source
        self._group_ids = tuple(group_ids)
        self._interval = interval

    def keys(self, region: str) -> list[StreamKey]:
        return [StreamKey(self.operation.name, region, group_id) for group_id in self._group_ids]

    async def adopt(self, journal: Journal, store: Store, keys: Sequence[StreamKey]) -> None:
        await adopt_streams(journal, store, keys, self.tables, ())

    def due(self, state: StreamState, now: int) -> int:
        return int(state.sealed_to is None or state.sealed_to <= tick_of(now, self._interval))

    def probe(self, key: StreamKey, now: int) -> dict[str, Any]:
        return {**self._source.parameters(key, Window(now, now + 1), None), "PageSize": "1"}

    async def catch_up(self, collecting: Collecting, state: StreamState, now: int) -> None:
        await collect_snapshot(collecting, self._source, state, self._interval, now)


class StateStreams:
    """Objects that exist and change, looked at each tick."""

    can_be_asked_later = False

    def __init__(self, name: str, source: StateSource, scope_ids: Sequence[str], *, interval: int) -> None:
        self.name = name
        self.operation = source.operation
        self.tables = source.tables
        self.source = source
        self._scope_ids = tuple(scope_ids)
        self._interval = interval

    def keys(self, region: str) -> list[StreamKey]:
        return [StreamKey(self.operation.name, region, scope_id) for scope_id in self._scope_ids]

    async def adopt(self, journal: Journal, store: Store, keys: Sequence[StreamKey]) -> None:
        await adopt_states(journal, store, self.source, keys)

    def due(self, state: StreamState, now: int) -> int:
        return int(state.sealed_to is None or state.sealed_to <= tick_of(now, self._interval))

    def probe(self, key: StreamKey, now: int) -> dict[str, Any]:
        return self.source.parameters(key, None)

    async def catch_up(self, collecting: Collecting, state: StreamState, now: int) -> None:
        await collect_states(collecting, self.source, state, self._interval, now)
