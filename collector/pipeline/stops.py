"""What is not asked for a while because asking cannot work, and when it is tried again.

The account after its key was refused, an operation after three scopes in a row were, a scope that is
refused or unknown, and operations whose next call would pass the budget. The pause before a try
doubles from 5 minutes to an hour.
"""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from collector.backoff import backoff_seconds
from collector.clock import Clock

log = structlog.get_logger(__name__)

PAUSE_SECONDS_MIN = 300.0
PAUSE_SECONDS_MAX = 3600.0
BUDGET_PAUSE_SECONDS = 60.0
"""A budget is looked at this often: it costs no call, and a new month or cap lets calls go again."""

ACCOUNT = "account"
OPERATION = "operation"
BUDGET = "budget"
CIRCUIT = "circuit"


def pause_seconds(tries: int) -> float:
    """How long to pause before try number `tries` (from 1)."""
    return backoff_seconds(tries, PAUSE_SECONDS_MIN, PAUSE_SECONDS_MAX)


@dataclass(slots=True)
class Pause:
    """One thing that is stopped. Times are monotonic seconds."""

    what: str
    operation: str
    error: str
    since: float
    next_try: float
    tries: int = 1
    is_trying: bool = False
    """The pause is over and a call is on its way to see."""


class Stops:
    """Keeps the account's pause and each operation's."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._pauses: dict[tuple[str, str], Pause] = {}

    def all(self) -> list[Pause]:
        """Everything that is stopped."""
        return list(self._pauses.values())

    def has(self, operation: str) -> bool:
        """Whether the operation or its account is stopped."""
        return bool(self._of(operation))

    def begin(self, what: str, operation: str, error: str, *, costs_call: bool = False) -> None:
        """Stop something, or let it stay stopped for longer after it was tried in vain.

        `costs_call`: to try a reached budget again is a call, so its pause grows as that of all else does.
        """
        now = self._clock.monotonic()
        pause = self._pauses.get((what, operation))
        if pause is not None and not pause.is_trying:
            # Heard by another call that was on its way.
            return
        tries = pause.tries + 1 if pause is not None else 1
        seconds = BUDGET_PAUSE_SECONDS if what == BUDGET and not costs_call else pause_seconds(tries)
        if pause is None:
            self._pauses[what, operation] = Pause(what, operation, error, now, now + seconds)
            log.warning("stop_began", what=what, operation=operation, error=error, next_try_seconds=round(seconds))
            return
        pause.error, pause.next_try, pause.tries, pause.is_trying = error, now + seconds, tries, False

    def succeeded(self, operation: str) -> None:
        """A call went through: the account is well, and so is its operation."""
        if not self._pauses:
            return
        for place in ((ACCOUNT, ""), (OPERATION, operation), (BUDGET, operation)):
            if (pause := self._pauses.pop(place, None)) is not None:
                stopped_seconds = round(self._clock.monotonic() - pause.since)
                log.info("stop_ended", what=pause.what, operation=pause.operation, seconds=stopped_seconds)

    def lift(self) -> None:
        """Try everything at once: the configuration or the credentials have changed."""
        for pause in self._pauses.values():
            pause.next_try = self._clock.monotonic()
            pause.tries = 0

    def wait_seconds(self, operation: str) -> float:
        """How long nothing of the operation is asked, 0 when it may be."""
        now = self._clock.monotonic()
        return max((pause.next_try - now for pause in self._of(operation) if not pause.is_trying), default=0.0)

    def try_again(self, operation: str) -> list[Pause]:
        """The pauses of an operation that are over and not being tried yet: they are from here on."""
        over = [p for p in self._of(operation) if not p.is_trying and p.next_try <= self._clock.monotonic()]
        for pause in over:
            pause.is_trying = True
        return over

    def _of(self, operation: str) -> list[Pause]:
        if not self._pauses:
            return []
        places = ((ACCOUNT, ""), (OPERATION, operation), (BUDGET, operation))
        return [self._pauses[place] for place in places if place in self._pauses]
