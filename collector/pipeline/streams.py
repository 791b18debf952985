"""The streams of a source: which there are, what is due, and how one is caught up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from collector.clock import ServerClock
from collector.journal.entries import StreamState
from collector.model import StreamKey
from collector.pipeline.collect import Collector
from collector.pipeline.windows import Horizon, next_window, seconds_due, tick_of
from collector.sources.syslogs import SyslogSource
from collector.sources.tables import Table
from collector.sources.user_metrics import UserMetricsSource


class Streams(Protocol):
    """All streams of one source."""

    @property
    def name(self) -> str:
        """The source, as the configuration names it."""

    @property
    def tables(self) -> Sequence[Table]:
        """Tables that the source fills."""

    @property
    def rechecks(self) -> Sequence[int]:
        """Delays after which closed windows are looked at again, in seconds."""

    def keys(self, region: str) -> list[StreamKey]:
        """The streams, in the order of the configuration."""

    def due(self, state: StreamState, now: int) -> int:
        """What a stream has to collect at server time `now`: seconds of event time, or snapshots."""

    async def catch_up(self, collector: Collector, state: StreamState, now: int, server_clock: ServerClock) -> None:
        """Collect everything that is due at `now`. Raises ApiError; what was read stays in the journal."""


class SyslogStreams:
    """One stream a node, in windows of event time."""

    name = "syslogs"

    def __init__(
        self,
        source: SyslogSource,
        node_ids: Sequence[str],
        *,
        settle: int,
        initial_lookback: int,
        rechecks: Sequence[int],
    ) -> None:
        self._source = source
        self._node_ids = tuple(node_ids)
        self._settle = settle
        self._initial_lookback = initial_lookback
        self.rechecks = tuple(rechecks)
        self.tables = source.tables

    def keys(self, region: str) -> list[StreamKey]:
        return [StreamKey(self._source.operation.name, region, node_id) for node_id in self._node_ids]

    def due(self, state: StreamState, now: int) -> int:
        return seconds_due(state, self._horizon(), now)

    async def catch_up(self, collector: Collector, state: StreamState, now: int, server_clock: ServerClock) -> None:
        while True:
            # A server clock that stepped back must not be asked for its future again and again.
            reached = min(now, server_clock.date) if server_clock.date is not None else now
            horizon = self._horizon(collector.span_max(state))
            planned = next_window(state, horizon, reached)
            if planned is None:
                return
            state = await collector.collect_window(self._source, state, planned, self._settle)

    def _horizon(self, span_max: int | None = None) -> Horizon:
        known = Horizon(self._settle, self._initial_lookback)
        return known if span_max is None else Horizon(self._settle, self._initial_lookback, span_max)


class SnapshotStreams:
    """One stream a resource group, a snapshot each tick."""

    name = "user_metrics"
    rechecks: Sequence[int] = ()

    def __init__(self, source: UserMetricsSource, group_ids: Sequence[str], *, interval: int) -> None:
        self._source = source
        self._group_ids = tuple(group_ids)
        self._interval = interval
        self.tables = source.tables

    def keys(self, region: str) -> list[StreamKey]:
        return [StreamKey(self._source.operation.name, region, group_id) for group_id in self._group_ids]

    def due(self, state: StreamState, now: int) -> int:
        return int(state.sealed_to is None or state.sealed_to <= tick_of(now, self._interval))

    async def catch_up(self, collector: Collector, state: StreamState, now: int, server_clock: ServerClock) -> None:
        await collector.collect_snapshot(self._source, state, self._interval, now)
