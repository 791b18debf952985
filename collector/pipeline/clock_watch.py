"""Keeps the service's time right for the streams: settles it before they are planned, and corrects them after it.

What time it is, `clock.ServerClock` says. Where the machine, the probe, the API and the journal disagree, this asks the
API again, a few times at most. Streams that were sealed while the clock was ahead are set back and collected again by
comparison.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import structlog

from collector.api.client import ApiClient
from collector.clock import STEP_SECONDS_MAX, Clock, ServerClock, boot_id
from collector.errors import ApiError, BudgetReached, ClockError
from collector.journal.clock_log import Moment, Suspect, find_suspect
from collector.journal.entries import StreamState
from collector.journal.journal import Journal

if TYPE_CHECKING:
    from collector.pipeline.streams import Streams

ANSWERS_MAX: Final = 4
"""Calls that are made at most to settle what time it is."""
ASK_AGAIN_SECONDS: Final = 20.0
"""Many streams may wait for the time; calls that did not settle it are not repeated for each."""
CACHE_SECONDS_MAX: Final = 7 * 86_400
"""A probe that is older than this by the machine's clock was not answered by a cache."""
CODE_CLOCK: Final = "clock"
"""Code of a call that was made to settle what time it is; its records are not used."""
HINT: Final = "compare this machine's clock (NTP) with the service's Date; a proxy or cache on the way may change it"

log = structlog.get_logger(__name__)

Find = Callable[[], Awaitable[Sequence["Streams"]]]


class ClockWatch:
    """The time of one process and its journal."""

    def __init__(
        self, journal: Journal, client: ApiClient, clock: Clock, server_clock: ServerClock, find: Find, region: str
    ) -> None:
        """`find` names streams whose operations may be called to learn the time."""
        self._journal = journal
        self._client = client
        self._clock = clock
        self._server_clock = server_clock
        self._find = find
        self._region = region
        self._suspects: list[Suspect] = []
        self._asked_in_vain_at = float("-inf")

    async def begin(self) -> None:
        """Take the time from the journal's account and from a probe. Makes no call that is billed."""
        log_before = await self._journal.clock_log()
        self._suspects = await self._journal.clock_suspects()
        if log_before:
            self._server_clock.recall(carry_on(log_before[-1], self._moment()))
        await self._client.read_clock()
        self._report()

    async def settle(self) -> None:
        """Before streams are planned: ask the API what time it is if probe and machine disagree.

        A probe from long before the machine's time is safe to plan by, and the first answers settle it: no cache is as
        old as that.
        """
        if not self._server_clock.is_settled and self._server_clock.difference_seconds > -CACHE_SECONDS_MAX:
            await self._ask()
        elif not self._server_clock.is_proven and find_suspect(await self._journal.clock_log(), self._moment()):
            # The journal disagrees with the probe, or with the machine.
            await self._ask()
        await self.note()

    async def confirm(self) -> str:
        """After streams were collected: ask if no answer has settled the time; returns why it is in doubt, or ''."""
        if not self._server_clock.is_settled:
            await self._ask()
        await self.note()
        return "" if self._server_clock.is_settled else self._server_clock.doubt

    async def prove(self) -> str:
        """As `confirm`, and also if nothing has told the time yet."""
        if not self._server_clock.synced:
            await self._ask()
        return await self.confirm()

    async def note(self) -> bool:
        """Remember what time it is; true if that shows that the clock was ahead before."""
        if not (self._server_clock.synced and self._server_clock.is_settled):
            return False
        if not self._server_clock.is_proven and find_suspect(await self._journal.clock_log(), self._moment()):
            return False
        suspect = await self._journal.note_moment(self._moment())
        if suspect is None:
            return False
        self._suspects.append(suspect)
        log.warning("clock_was_ahead", seconds=suspect.ahead_seconds)
        return True

    def is_due(self, state: StreamState) -> bool:
        """Whether a stream has to be corrected."""
        return state.generation < self._latest or self._seconds_ahead(state) > STEP_SECONDS_MAX

    async def corrected(self, state: StreamState, streams: Streams) -> StreamState:
        """The stream, set back where it was sealed while the clock was ahead.

        Raises ClockError if it is ahead of a time that is in doubt, and what the meter and the client raise.
        """
        pending = [one for one in self._suspects if one.number > state.generation]
        seconds = self._seconds_ahead(state)
        if not pending and seconds <= STEP_SECONDS_MAX:
            return state
        if not pending:
            if not self._server_clock.is_proven:
                await self._ask(streams)
            seconds = self._seconds_ahead(state)
            if seconds <= STEP_SECONDS_MAX:
                return state
            if not self._server_clock.is_proven:
                raise ClockError(
                    f"it is collected up to {seconds} s after the present time, and what time it is is in doubt: "
                    f"{self._server_clock.doubt or 'no answer of the API tells it'}",
                    operation=state.key.operation, scope_id=state.key.scope_id, hint=HINT,
                )  # fmt: skip
            await self.note()
            pending = [one for one in self._suspects if one.number > state.generation]
        now = self._server_clock.now()
        if not pending:
            self._suspects.append(await self._journal.add_suspect(None, now))
            pending = self._suspects[-1:]
        taken = await self._journal.set_stream_back(
            state.id, pending, now=now, settle=streams.settle, lookback=streams.lookback, tick=streams.tick,
            has_gaps=streams.has_gaps,
        )  # fmt: skip
        if taken is not None:
            log.warning(
                "stream_set_back", stream=str(state.key), sealed_to=taken.sealed_to, set_back_to=taken.now_sealed_to
            )
        return await self._journal.stream(state.id)

    async def _ask(self, streams: Streams | None = None) -> None:
        """Call the API for its time, until that is settled: by small calls that are metered, at most `ANSWERS_MAX`."""
        if self._clock.monotonic() - self._asked_in_vain_at < ASK_AGAIN_SECONDS:
            return
        found = [streams] if streams is not None else list(await self._find())
        scopes = [(each, key) for each in found for key in each.keys(self._region)[:ANSWERS_MAX]]
        for number in range(ANSWERS_MAX if scopes else 0):
            each, key = scopes[number % len(scopes)]
            try:
                reply = await self._client.request(
                    each.operation, key.scope_id, each.probe(key, self._server_clock.now())
                )
            except BudgetReached:
                return
            except ApiError as error:
                # A refusal tells the time as well as any other response.
                log.info("clock_not_told", operation=each.operation.name, error=str(error))
                if not error.http_status:
                    break
            else:
                await self._journal.settle(replace(reply.attempt, code=CODE_CLOCK))
            if self._server_clock.is_proven:
                return
        self._asked_in_vain_at = self._clock.monotonic()

    @property
    def _latest(self) -> int:
        return self._suspects[-1].number if self._suspects else 0

    def _seconds_ahead(self, state: StreamState) -> int:
        return 0 if state.sealed_to is None else state.sealed_to - self._server_clock.now()

    def _moment(self) -> Moment:
        clock = self._clock
        return Moment(self._server_clock.now(), clock.wall(), boot_id(), clock.monotonic())

    def _report(self) -> None:
        if self._server_clock.machine_is_off:
            log.warning("clock_difference_noticed", difference_seconds=round(self._server_clock.difference_seconds, 1))


def carry_on(last: Moment, now: Moment) -> float:
    """The service's time at `now`, by what was known at `last`. Pure."""
    is_same_boot = last.boot and last.boot == now.boot
    return last.server + (now.monotonic - last.monotonic if is_same_boot else now.wall - last.wall)
