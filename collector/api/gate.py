"""Who may send now: stops what cannot work, before it costs a call.

The account: until the key has been accepted once, calls go one at a time; so they do after a first refusal of the
key, until one call has succeeded. A second refusal in a row stops everything, so a wrong key costs two calls. An
operation: three scopes refused in a row stop it; when its calls keep failing, its circuit opens and one probe at a
time goes out. What was stopped can be reopened: then one call goes first, and its outcome decides for all.
"""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

import structlog

from collector.api.turnstile import NEVER, Turnstile
from collector.backoff import backoff_seconds
from collector.clock import Clock
from collector.errors import (
    ApiError,
    CredentialsError,
    ForbiddenError,
    NotFoundError,
    Stopping,
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


@dataclass(slots=True)
class _OperationState:
    circuit: Turnstile
    """Narrow while open: the word for a circuit that lets nothing through."""
    refused_scopes: set[str] = field(default_factory=set)
    stopped: ForbiddenError | None = None
    on_trial: bool = False
    """It was stopped and is reopened; its circuit is narrow until a call has succeeded."""
    failures: int = 0
    failing_since: float = NEVER
    """When its circuit opened, monotonic."""
    probes: int = 0
    """Probes that failed since its circuit opened."""
    last_failure: TransientError | None = None


@dataclass(frozen=True, slots=True)
class Passage:
    """A call on its way through the gate."""

    operation: str
    scope_id: str
    is_probe: bool
    is_first: bool
    """It goes alone because the key has not been accepted yet."""


class Stopped(NamedTuple):
    """Something that nothing is sent of any more."""

    what: Literal["account", "operation"]
    operation: str
    """Empty for the account."""
    error: ApiError


class OpenCircuit(NamedTuple):
    """An operation whose calls keep failing; single ones go out to see whether it is back. Times are monotonic."""

    operation: str
    error: ApiError
    since: float
    next_probe: float


class Gate:
    """One account's gate."""

    def __init__(self, clock: Clock, *, patience_seconds: float | None = None) -> None:
        self.patience_seconds = patience_seconds
        """A call that would have to wait fails at once where the service has been failing for longer than this;
        None: it waits until its deadline."""
        self._clock = clock
        self._account = Turnstile(clock, narrow=True)
        self._refusal: CredentialsError | None = None
        self._account_on_trial = False
        self._key_doubted = False
        self._failing_since = NEVER
        """When the first call failed after which no key has been accepted yet, monotonic."""
        self._last_failure: TransientError | None = None
        self._is_shut = False
        self._states: dict[str, _OperationState] = {}
        self._left: set[tuple[str, str]] = set()
        """Operations and scopes that have left: that they are refused says nothing about others."""

    @property
    def is_shut(self) -> bool:
        return self._is_shut

    @property
    def account_stopped(self) -> bool:
        return self._refusal is not None

    def operation_stopped(self, operation: str) -> bool:
        return self._state(operation).stopped is not None

    def circuit_open(self, operation: str) -> bool:
        return self._state(operation).circuit.is_narrow

    def stops(self) -> list[Stopped]:
        """The account and the operations that are stopped, each with the refusal that stopped it."""
        found = [] if self._refusal is None else [Stopped("account", "", self._refusal)]
        found += [Stopped("operation", name, state.stopped) for name, state in self._states.items() if state.stopped]
        return found

    def open_circuits(self) -> list[OpenCircuit]:
        """The operations whose circuit is open."""
        return [
            OpenCircuit(name, state.last_failure, state.failing_since, state.circuit.not_before)
            for name, state in self._states.items()
            if state.last_failure is not None and state.failing_since != NEVER
        ]

    def shut(self) -> None:
        """From here on nobody passes: those who wait, and those who come, get Stopping."""
        self._is_shut = True
        for turnstile in (self._account, *(state.circuit for state in self._states.values())):
            turnstile.widen()

    @asynccontextmanager
    async def passage(self, operation: str, scope_id: str, deadline: float) -> AsyncIterator[Passage]:
        """Wait until the call may go, and hold the place while it does.

        `deadline` is monotonic. Raises Stopping once the gate is shut, the error of a stopped account or
        operation at once, and the last failure at the deadline or where patience is over.
        """
        state = self._state(operation)
        self._refuse_stopped(operation, scope_id)
        is_probe = is_first = overdue = False
        try:
            try:
                # The circuit comes first: a probe that waits for its time must not hold up the account.
                is_probe = await state.circuit.enter(deadline, self._patience_until(state.failing_since))
                is_first = await self._account.enter(deadline, self._patience_until(self._failing_since))
            except TimeoutError:
                overdue = True
            if overdue:
                raise _overdue(state.last_failure or self._last_failure, operation, scope_id)
            self._refuse_stopped(operation, scope_id)
            yield Passage(operation, scope_id, is_probe, is_first)
        finally:
            if is_first:
                self._account.leave()
            if is_probe:
                state.circuit.leave()

    def doubt_key(self, passage: Passage) -> bool:
        """Let calls pass one at a time after the key was refused, until one succeeds.

        Returns False if the refusal is final: the second in a row, or one of an account that is being tried again.
        """
        if self._refusal is not None or self._account_on_trial or (self._key_doubted and passage.is_first):
            return False
        self._key_doubted = True
        self._account.narrow()
        return True

    def check(self, passage: Passage) -> None:
        """Right before sending: raises Stopping, the error of what has been stopped meanwhile, or GateShut."""
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
                    state.circuit.narrow(after_seconds=_probe_seconds(state))
            case TransientError():
                self._count_failure(state, passage, error)
            case _:
                # Any other answer proves that the key is good and the service is there.
                self._accept_account()
                if error is None:
                    state.refused_scopes.clear()
                    self._end_trial(state, passage.operation)
                elif (
                    isinstance(error, ForbiddenError | NotFoundError)
                    and (passage.operation, passage.scope_id) not in self._left
                ):
                    self._count_refusal(state, passage, error)
                if not state.on_trial:
                    self._close_circuit(state, passage.operation)

    def expect_refusal(self, operation: str, scope_id: str, *, is_expected: bool = True) -> None:
        """Do not stop an operation because a scope that has left is refused."""
        (self._left.add if is_expected else self._left.discard)((operation, scope_id))

    def reopen(self, operation: str | None = None) -> None:
        """Let one call try again what was stopped, the account or one operation; nothing where it is not stopped.

        A refusal stops it again at once, and those who wait hear it. A success lets everybody through.
        """
        if operation is None:
            if self._refusal is not None:
                self._refusal, self._account_on_trial = None, True
                self._account.narrow()
            return
        state = self._state(operation)
        if state.stopped is not None:
            state.stopped, state.on_trial = None, True
            state.failures, state.probes = 0, 0
            state.circuit.narrow()

    def _state(self, operation: str) -> _OperationState:
        if operation not in self._states:
            self._states[operation] = _OperationState(Turnstile(self._clock))
        return self._states[operation]

    def _patience_until(self, failing_since: float) -> float:
        return NEVER if self.patience_seconds is None else failing_since + self.patience_seconds

    def _refuse_stopped(self, operation: str, scope_id: str) -> None:
        if self._is_shut:
            raise Stopping(f"{operation} of {scope_id}: not sent, because the collector is ending")
        error = self._refusal or self._state(operation).stopped
        if error is not None:
            raise _about(error, operation, scope_id)

    def _stop_account(self, error: CredentialsError) -> None:
        if self._refusal is None and not self._account_on_trial:
            _log.error("account_stopped", http_status=error.http_status, code=error.code, hint=error.hint)
        self._refusal = error
        # Those who wait are let through to hear the refusal.
        self._account.widen()

    def _accept_account(self) -> None:
        if self._account_on_trial and self._refusal is None:
            self._account_on_trial = False
            _log.info("account_reopened")
        self._failing_since, self._last_failure, self._key_doubted = NEVER, None, False
        self._account.widen()

    @staticmethod
    def _end_trial(state: _OperationState, operation: str) -> None:
        if state.on_trial:
            state.on_trial = False
            _log.info("operation_reopened", operation=operation)
            state.circuit.widen()

    def _count_refusal(self, state: _OperationState, passage: Passage, error: ApiError) -> None:
        state.refused_scopes.add(passage.scope_id)
        if state.stopped is not None or not (state.on_trial or len(state.refused_scopes) >= REFUSED_SCOPES_MAX):
            return
        was_stopped, state.on_trial = state.on_trial, False
        state.stopped = ForbiddenError(
            f"stopped, because {len(state.refused_scopes)} scopes in a row were refused; the last refusal was: "
            f"{error.args[0]}",
            http_status=error.http_status,
            code=error.code,
            request_id=error.request_id,
            hint=error.hint,
        )
        if not was_stopped:
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
        if self._account.is_narrow:
            self._failing_since = min(self._failing_since, self._clock.monotonic())
            self._last_failure = error
        if passage.is_probe:
            state.probes += 1
            state.circuit.narrow(after_seconds=_probe_seconds(state))
        elif state.failures >= FAILURES_MAX and not state.circuit.is_narrow:
            state.probes = 0
            state.failing_since = self._clock.monotonic()
            state.circuit.narrow(after_seconds=_probe_seconds(state))
            _log.warning(
                "circuit_opened",
                operation=passage.operation,
                failures=state.failures,
                http_status=error.http_status,
                code=error.code,
            )

    @staticmethod
    def _close_circuit(state: _OperationState, operation: str) -> None:
        if state.circuit.is_narrow and state.stopped is None:
            _log.info("circuit_closed", operation=operation, failures=state.failures)
        state.circuit.widen()
        state.failures, state.failing_since = 0, NEVER


def _probe_seconds(state: _OperationState) -> float:
    return backoff_seconds(state.probes + 1, PROBE_SECONDS_MIN, PROBE_SECONDS_MAX)


def _overdue(last_failure: TransientError | None, operation: str, scope_id: str) -> ApiError:
    if last_failure is None:
        return TransientError("nothing could be sent before the deadline", operation=operation, scope_id=scope_id)
    return _about(last_failure, operation, scope_id)


def _about(error: ApiError, operation: str, scope_id: str) -> ApiError:
    """The same error for another call. A copy: one that is raised again and again would grow its traceback."""
    again = copy.copy(error)
    again.operation, again.scope_id = operation, scope_id
    return again
