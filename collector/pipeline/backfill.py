"""Backfill: ask older ranges again, window by window, beside whatever is collected meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, cast

import structlog

from collector.api.client import ApiClient, Reply
from collector.api.throttle import TokenBucket
from collector.catalogue.operation import Operation
from collector.clock import Clock
from collector.errors import ApiError, BadRequestError, BudgetReached, CredentialsError, CursorError
from collector.journal.coverage import BACKFILL, Piece
from collector.journal.entries import StreamState
from collector.model import StreamKey, Window
from collector.pipeline.collect_windows import seal_in_part
from collector.pipeline.collecting import Collecting
from collector.pipeline.streams import WindowStreams
from collector.pipeline.windows import SPAN_SECONDS_MAX

log = structlog.get_logger(__name__)

WORKERS_MAX: Final = 8
GIVE_WAY_SECONDS_MAX: Final = 5.0
"""While others always wait for the quota, a call of ours still goes out this often."""
LOOK_AGAIN_SECONDS: Final = 0.02
UNCHANGED_SECONDS: Final = 1.0
"""Pause where an answer is older than what was asked for."""


class Polite:
    """A client whose calls stand back while other calls wait for the quota of the operation."""

    def __init__(self, client: ApiClient, buckets: Mapping[str, TokenBucket], clock: Clock) -> None:
        self._client = client
        self._buckets = buckets
        self._clock = clock
        self._turn = asyncio.Lock()

    async def request(self, operation: Operation, scope_id: str, parameters: Mapping[str, Any]) -> Reply:
        """As `ApiClient.request`."""
        bucket = self._buckets[operation.name]
        async with self._turn:
            until = self._clock.monotonic() + GIVE_WAY_SECONDS_MAX
            while bucket.waiting and self._clock.monotonic() < until:
                await self._clock.sleep(LOOK_AGAIN_SECONDS)
        return await self._client.request(operation, scope_id, parameters)


def politely(collecting: Collecting, buckets: Mapping[str, TokenBucket]) -> Collecting:
    """The same parts, with a client that stands back, and window lengths of their own."""
    client = Polite(collecting.client, buckets, collecting.clock)
    return replace(collecting, client=cast(ApiClient, client), span_max={}, stale={})


@dataclass(frozen=True, slots=True)
class Asked:
    """One stream of a backfill, and the range that is asked of it."""

    streams: WindowStreams
    state: StreamState
    window: Window


def calls_at_least(streams: WindowStreams, windows: Sequence[Window]) -> int:
    """Calls that these ranges take if every window has the fewest pages that it can have."""
    spans = sum(-(-window.seconds // SPAN_SECONDS_MAX) for window in windows)
    return spans * max(1, streams.calls_per_look)


@dataclass(slots=True)
class Outcome:
    """How far a backfill is, and how it ended."""

    seconds: int = 0
    """Event time of all streams together."""
    seconds_read: int = 0
    failures: dict[StreamKey, ApiError] = field(default_factory=dict)
    credentials: CredentialsError | None = None
    budget: BudgetReached | None = None


class Backfill:
    """The ranges of some streams, asked once more and compared with the store.

    What is read is in the journal, page by page: when it is interrupted, the next backfill goes on behind it.
    """

    def __init__(self, collecting: Collecting, asked: Sequence[Asked]) -> None:
        self._at = collecting
        self._asked = asked
        self.outcome = Outcome()

    async def run(self) -> Outcome:
        """Read everything; one stream that fails does not stop the others, a refused key or the budget does."""
        work: list[tuple[Asked, list[Piece]]] = []
        for asked in self._asked:
            await self._seal_elsewhere(asked)
            pieces = await self._at.journal.begin_backfill(asked.state.id, asked.window)
            self.outcome.seconds += sum(piece.window.seconds for piece in pieces)
            work.append((asked, pieces))
        queue = iter(work)

        async def worker() -> None:
            for asked, pieces in queue:
                if self.outcome.credentials is None and self.outcome.budget is None:
                    await self._fill(asked, pieces)

        async with asyncio.TaskGroup() as group:
            for _ in range(min(WORKERS_MAX, len(work))):
                group.create_task(worker())
        return self.outcome

    async def _seal_elsewhere(self, asked: Asked) -> None:
        """Store what a backfill that was killed has read of another range: its window is given up."""
        state = await self._at.journal.stream(asked.state.id)
        here = state.open.get(BACKFILL)
        if here is not None and not here.window.overlaps(asked.window):
            await seal_in_part(self._at, state, delays=(BACKFILL,))

    async def _fill(self, asked: Asked, pieces: Sequence[Piece]) -> None:
        state = await self._at.journal.stream(asked.state.id)
        try:
            for piece in pieces:
                try:
                    state = await self._read(asked.streams, state, piece)
                except BadRequestError as error:
                    if not isinstance(error, CursorError):
                        await self._note_refusal(asked, piece, error)
                    raise
        except CredentialsError as error:
            self.outcome.credentials = error
            self.outcome.failures[state.key] = error
        except BudgetReached as error:
            self.outcome.budget = error
        except ApiError as error:
            log.warning("backfill_failed", stream=str(state.key), error=str(error))
            self.outcome.failures[state.key] = error

    async def _read(self, streams: WindowStreams, state: StreamState, piece: Piece) -> StreamState:
        spans = self._at.span_max
        while not piece.is_read:
            span = spans.get(state.id)
            state = await streams.fill(self._at, state, piece)
            sealed_to = await self._at.journal.backfill_read_to(state.id, piece.window.start)
            self.outcome.seconds_read += sealed_to - piece.sealed_to
            if sealed_to == piece.sealed_to and spans.get(state.id) == span:
                await self._at.clock.sleep(UNCHANGED_SECONDS)
            piece = replace(piece, sealed_to=sealed_to)
        return state

    async def _note_refusal(self, asked: Asked, piece: Piece, error: BadRequestError) -> None:
        reason = f"refused by the service: {error.code or f'HTTP {error.http_status}'}"
        await self._at.journal.note_backfill_refusal(asked.state.id, piece.window, reason)

    async def seal(self) -> None:
        """Store what was read of windows in whose middle the backfill ended; the next one begins behind it."""
        for asked in self._asked:
            state = await self._at.journal.stream(asked.state.id)
            await seal_in_part(self._at, state, delays=(BACKFILL,))

    async def end(self) -> None:
        """To be called once all is acknowledged: what was read is forgotten, and asked again by the next backfill."""
        if self.outcome.credentials is None and self.outcome.budget is None:
            for asked in self._asked:
                if asked.state.key not in self.outcome.failures:
                    await self._at.journal.end_backfill(asked.state.id)
