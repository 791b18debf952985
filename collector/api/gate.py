"""Who may send now: stops what cannot work, before it costs a call.

The account: until the key has been accepted once, calls go one at a time, so that a wrong key
costs one call; a refused key stops everything. An operation: three scopes refused in a row stop
it; when its calls keep failing, its circuit opens and one probe at a time goes out.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import structlog

from collector.clock import Clock
from collector.errors import (
    ApiError,
    CredentialsError,
    ForbiddenError,
    NotFoundError,
    ThrottledError,
    TransientError,
)

REFUSED_SCOPES_MAX: Final = 3
"""So many different scopes refused in a row, without a success between, stop the operation."""
FAILURES_MAX: Final = 8
"""So many failures in a row open the circuit."""
PROBE_SECONDS_MIN: Final = 1.0
PROBE_SECONDS_MAX: Final = 60.0

_log = structlog.get_logger()


class GateShut(Exception):
    """What let a call through no longer holds; it has to come again."""


class Turnstile:
    """Wide, everybody passes. Narrow, one at a time does, and nobody before a given time."""

    def __init__(self, clock: Clock, *, narrow: bool = False) -> None:
        self.is_narrow = narrow
        self._clock = clock
        self._not_before = -float("inf")
        self._inside = False
        self._changed = asyncio.Event()

    async def enter(self, deadline: float) -> bool:
        """Wait to pass; True when alone, and then `leave` is owed. TimeoutError at the deadline (monotonic)."""
        while self.is_narrow:
            now = self._clock.monotonic()
            if now >= deadline:
                raise TimeoutError
            if not self._inside and now >= self._not_before:
                self._inside = True
                return True
            until = deadline if self._inside else min(deadline, self._not_before)
            await self._change(until - now)
        return False

    def leave(self) -> None:
        self._inside = False
        self._announce()

    def widen(self) -> None:
        self.is_narrow = False
        self._announce()

    def narrow(self, *, after_seconds: float = 0.0) -> None:
        """Let one at a time pass, the first after so many seconds."""
        self.is_narrow = True
        self._not_before = self._clock.monotonic() + after_seconds
        self._announce()

    def _announce(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _change(self, seconds: float) -> None:
        """Return at the next change, or after so many seconds."""
        waits = [asyncio.ensure_future(self._changed.wait()), asyncio.ensure_future(self._clock.sleep(seconds))]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()


@dataclass(slots=True)
class _OperationState:
    circuit: Turnstile
    """Narrow while open: the word for a circuit that lets nothing through."""
    refused_scopes: set[str] = field(default_factory=set)
    stopped: ForbiddenError | None = None
    failures: int = 0
    probe_seconds: float = PROBE_SECONDS_MIN
    last_failure: TransientError | None = None


@dataclass(frozen=True, slots=True)
class Passage:
    """A call on its way through the gate."""

    operation: str
    scope_id: str
    is_probe: bool
    is_first: bool
    """It goes alone because the key has not been accepted yet."""


class Gate:
    """One account's gate."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._account = Turnstile(clock, narrow=True)
        self._refusal: CredentialsError | None = None
        self._states: dict[str, _OperationState] = {}

    @property
    def account_stopped(self) -> bool:
        return self._refusal is not None

    def operation_stopped(self, operation: str) -> bool:
        return self._state(operation).stopped is not None

    def circuit_open(self, operation: str) -> bool:
        return self._state(operation).circuit.is_narrow

    @asynccontextmanager
    async def passage(self, operation: str, scope_id: str, deadline: float) -> AsyncIterator[Passage]:
        """Wait until the call may go, and hold the place while it does.

        `deadline` is monotonic. Raises the error of a stopped account or operation at once, and
        the operation's last failure at the deadline.
        """
        state = self._state(operation)
        self._refuse_stopped(operation, scope_id)
        is_probe = is_first = overdue = False
        try:
            try:
                # The circuit comes first: a probe that waits for its time must not hold up the account.
                is_probe = await state.circuit.enter(deadline)
                is_first = await self._account.enter(deadline)
            except TimeoutError:
                overdue = True
            if overdue:
                raise _overdue(state.last_failure, operation, scope_id)
            self._refuse_stopped(operation, scope_id)
            yield Passage(operation, scope_id, is_probe, is_first)
        finally:
            if is_first:
                self._account.leave()
            if is_probe:
                state.circuit.leave()

    def check(self, passage: Passage) -> None:
        """Right before sending: raises the error of what has been stopped meanwhile, or GateShut."""
        self._refuse_stopped(passage.operation, passage.scope_id)
        held_by_circuit = self.circuit_open(passage.operation) and not passage.is_probe
        if held_by_circuit or (self._account.is_narrow and not passage.is_first):
            raise GateShut

    def record(self, passage: Passage, error: ApiError | None) -> None:
        """Learn from an attempt; `error` is None for a success."""
        state = self._state(passage.operation)
        match error:
            case CredentialsError():
                self._stop_account(error)
            case ThrottledError():
                if passage.is_probe:
                    state.circuit.narrow(after_seconds=state.probe_seconds)
            case TransientError():
                self._count_failure(state, passage, error)
            case _:
                # Any other answer proves that the key is good and the service is there.
                self._account.widen()
                self._close_circuit(state, passage.operation)
                if error is None:
                    state.refused_scopes.clear()
                elif isinstance(error, ForbiddenError | NotFoundError):
                    self._count_refusal(state, passage, error)

    def reopen(self, operation: str | None = None) -> None:
        """Let one call try again what was stopped: the account, or one operation."""
        if operation is None:
            self._refusal = None
            self._account.narrow()
            return
        state = self._state(operation)
        state.stopped = None
        # One more refusal is enough to stop it again.
        while len(state.refused_scopes) >= REFUSED_SCOPES_MAX:
            state.refused_scopes.pop()

    def _state(self, operation: str) -> _OperationState:
        if operation not in self._states:
            self._states[operation] = _OperationState(Turnstile(self._clock))
        return self._states[operation]

    def _refuse_stopped(self, operation: str, scope_id: str) -> None:
        error = self._refusal or self._state(operation).stopped
        if error is not None:
            raise _about(error, operation, scope_id)

    def _stop_account(self, error: CredentialsError) -> None:
        if self._refusal is None:
            _log.error("account_stopped", http_status=error.http_status, code=error.code, hint=error.hint)
        self._refusal = error
        # Those who wait are let through to hear the refusal.
        self._account.widen()

    def _count_refusal(self, state: _OperationState, passage: Passage, error: ApiError) -> None:
        state.refused_scopes.add(passage.scope_id)
        if len(state.refused_scopes) < REFUSED_SCOPES_MAX or state.stopped is not None:
            return
        state.stopped = ForbiddenError(
            f"stopped, because {len(state.refused_scopes)} scopes in a row were refused; the last refusal was: "
            f"{error.args[0]}",
            http_status=error.http_status,
            code=error.code,
            request_id=error.request_id,
            hint=error.hint,
        )
        _log.warning(
            "operation_stopped",
            operation=passage.operation,
            scopes=sorted(state.refused_scopes),
            http_status=error.http_status,
            code=error.code,
        )

    def _count_failure(self, state: _OperationState, passage: Passage, error: TransientError) -> None:
        state.failures += 1
        state.last_failure = error
        if passage.is_probe:
            state.probe_seconds = min(state.probe_seconds * 2, PROBE_SECONDS_MAX)
            state.circuit.narrow(after_seconds=state.probe_seconds)
        elif state.failures >= FAILURES_MAX and not state.circuit.is_narrow:
            state.probe_seconds = PROBE_SECONDS_MIN
            state.circuit.narrow(after_seconds=state.probe_seconds)
            _log.warning(
                "circuit_opened",
                operation=passage.operation,
                failures=state.failures,
                http_status=error.http_status,
                code=error.code,
            )

    @staticmethod
    def _close_circuit(state: _OperationState, operation: str) -> None:
        if state.circuit.is_narrow:
            _log.info("circuit_closed", operation=operation, failures=state.failures)
            state.circuit.widen()
        state.failures = 0


def _overdue(last_failure: TransientError | None, operation: str, scope_id: str) -> ApiError:
    if last_failure is None:
        return TransientError("nothing could be sent before the deadline", operation=operation, scope_id=scope_id)
    return _about(last_failure, operation, scope_id)


def _about(error: ApiError, operation: str, scope_id: str) -> ApiError:
    """The same error for another call. A copy: one that is raised again and again would grow its traceback."""
    again = copy.copy(error)
    again.operation, again.scope_id = operation, scope_id
    return again
