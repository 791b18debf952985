"""The API client: one call of the catalogue, made politely.

Layers, from the outside: deadline > retry > gate > line > meter > slot and throttle > send once.
Each decides in a file of its own; here they are put in order.
"""

from __future__ import annotations

import asyncio
import builtins
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from random import Random
from types import TracebackType
from typing import Any, Final, Self

import structlog

from collector.api.decode import count_records
from collector.api.gate import Gate, GateShut, Passage
from collector.api.gateways import Gateway, HttpRequest, Renew
from collector.api.interpret import interpret
from collector.api.metering import CODE_CONNECTION, CODE_UNKNOWN, Attempt, Meter, NullMeter
from collector.api.reactions import StaleSignatureError, is_expired
from collector.api.retry import GiveUp, RetryAfter, RetryPolicy, next_attempt
from collector.api.slots import Slots
from collector.api.throttle import TokenBucket
from collector.api.transport import Exchange, Exchanging, Failure, Transport
from collector.catalogue.answers import Answer
from collector.catalogue.operation import Operation
from collector.clock import Clock, Origin, ServerClock, read_date
from collector.errors import AnswerTooLargeError, ApiError, CredentialsError, ThrottledError

__all__ = ["ApiClient", "Attempt", "Meter", "NullMeter", "Reply", "RetryPolicy"]

STALE_CONNECTIONS_MAX: Final = 3
"""So many kept connections in a row may turn out to be closed before that counts as a failure."""

CLOCK_PROBE_BYTES_MAX: Final = 1 << 20
LINE_MAX: Final = 8
"""Calls of one operation that stand connected in line for a token. The others wait before they connect:
dozens of connections opened at once would delay the first calls, and calls delayed by different times
arrive closer together than they were sent."""

_log = structlog.get_logger()


Observe = Callable[[Operation, int, str, float], None]
Record = Callable[[Operation | None, Mapping[str, Any], Exchange, float], None]
"""Told of each attempt that was sent, when its outcome is known: the operation, the HTTP status (0 where no answer
came), the code as of `Attempt.code`, and the seconds from sending to the last byte or the failure."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A successful call. Whoever gets it must settle `attempt` with the meter, in the transaction
    that stores the rows: until then the call counts as reserved, and after a crash as unknown."""

    answer: Answer
    """Of the operation's answer type; records may be raw JSON values (`decode.decode_answer`)."""
    http_status: int
    bytes: int
    """Length of the body after decompression."""
    date: int
    """The service's time of the answer, seconds since the epoch: its `Date`, as far as the clock trusts it."""
    attempt: Attempt
    request_id: str = ""
    """The service's name of the call, from the body or the header."""
    body: builtins.bytes = field(default=b"", repr=False)
    """The answer as it was sent; may hold secrets, so a repr leaves it out."""


@dataclass(frozen=True, slots=True)
class _Failed:
    error: ApiError
    sent: bool = True


@dataclass(slots=True, eq=False)
class _Call:
    """What a caller asked for."""

    operation: Operation
    scope_id: str
    parameters: Mapping[str, Any]
    deadline: float
    """Monotonic."""
    signed_anew: bool = False


class ApiClient:
    """Calls operations through one gateway with one key. Use as `async with`; safe for many tasks."""

    def __init__(
        self,
        gateway: Gateway,
        *,
        clock: Clock,
        server_clock: ServerClock,
        meter: Meter,
        buckets: Mapping[str, TokenBucket],
        policy: RetryPolicy,
        random: Random,
        concurrency_max: int,
        timeout_seconds: float,
        transport: Exchanging | None = None,
        observe: Observe = lambda operation, http_status, code, seconds: None,
        record: Record = lambda operation, parameters, exchange, seconds: None,
    ) -> None:
        """`buckets` by operation name (`throttle.buckets_for`). `concurrency_max` calls are on their
        way at once (`Slots`). `timeout_seconds` runs from sending to the last byte; waiting for a token
        does not count. `transport` stands in for HTTP; the client enters and leaves it. `observe` and
        `record` are called in the midst of a call and must neither wait nor raise; `record` sees every exchange that
        was sent, and the clock's probe without an operation."""
        self.gate = Gate(clock)
        self.rows_received: Counter[str] = Counter()
        """Operation -> records of its responses since the start, before any is found to be known."""
        self._gateway = gateway
        self._clock = clock
        self._server_clock = server_clock
        self._meter = meter
        self._buckets = buckets
        self.policy = policy
        """May be replaced while calls are made; it applies from their next failure."""
        self._random = random
        self._slots = Slots(concurrency_max)
        self._lines = {name: asyncio.Semaphore(LINE_MAX) for name in buckets}
        # Only the next of an operation holds a slot while it waits for its token.
        self._turns = {name: asyncio.Lock() for name in buckets}
        self._transport: Exchanging = transport or Transport(timeout_seconds=timeout_seconds)
        self._observe = observe
        self._record = record
        self._sent: set[_Call] = set()

    async def __aenter__(self) -> Self:
        await self._transport.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._transport.__aexit__(kind, error, traceback)

    @property
    def in_flight(self) -> int:
        """Calls that were sent and whose outcome their callers do not have yet.

        A call leaves this number in the same step of the event loop in which its outcome reaches the caller
        that awaits `request` directly. So whoever reads 0 after `shut` knows that every caller is either unsent
        for good or already at work on its answer.
        """
        return len(self._sent)

    def shut(self) -> None:
        """Send nothing any more.

        Calls in flight end as they would, without a repeat. Whoever waits or comes gets Stopping: at the gate at
        once, in a line or a backoff when its turn comes, in any case before a byte leaves.
        """
        self.gate.shut()

    async def read_clock(self) -> None:
        """Probe the service's time before any call, without one that is billed.

        The gateway's root is asked for its headers, without the key, past caches as far as they obey. It weighs least
        of all that tells the time (`clock.Origin`). Without a response the server's clock stays as it is.
        """
        if self.gate.is_shut:
            return

        async def depart() -> None:
            return None

        probe = replace(self._gateway.clock_probe(), headers={"Cache-Control": "no-cache", "Pragma": "no-cache"})
        begun = self._clock.monotonic()
        exchange = await self._transport.exchange(probe, depart=depart, body_bytes_max=CLOCK_PROBE_BYTES_MAX)
        self._record(None, {}, exchange, self._clock.monotonic() - begun)
        told = read_date(exchange.headers)
        if told is not None:
            date, age, _ = told
            self._server_clock.observe(date, Origin.PROBE, age=age)

    async def request(self, operation: Operation, scope_id: str, parameters: Mapping[str, Any]) -> Reply:
        """Call `operation` for `scope_id`, repeating it as the policy allows.

        `parameters` are as `operations.coerce_parameters` returns them. Every attempt that failed
        has been settled; the one in the reply is the caller's to settle. Raises an ApiError of the
        kind that `reactions.react` names, whatever the meter raises to refuse a call, and Stopping
        where it was not sent, or would be repeated, after `shut`.
        """
        started = self._clock.monotonic()
        call = _Call(operation, scope_id, parameters, started + self.policy.deadline_seconds)
        attempt = 1
        while True:
            try:
                outcome = await self._attempt(call)
            except GateShut:
                # Nothing was sent, so this was no attempt.
                continue
            finally:
                # Nothing is awaited from here to the caller's next step: see `in_flight`.
                self._sent.discard(call)
            if isinstance(outcome, Reply):
                return outcome
            elapsed_seconds = self._clock.monotonic() - started
            decision = next_attempt(
                outcome.error,
                attempt,
                elapsed_seconds,
                self.policy,
                self._random,
                repeatable=operation.repeatable,
                sent=outcome.sent,
                signed_anew=call.signed_anew,
            )
            _log_failure(outcome.error, attempt, elapsed_seconds, decision)
            if isinstance(decision, GiveUp):
                raise outcome.error
            call.signed_anew = call.signed_anew or isinstance(outcome.error, StaleSignatureError)
            if not self.gate.is_shut:
                await self._clock.sleep(decision.seconds)
            attempt += 1

    async def _attempt(self, call: _Call) -> Reply | _Failed:
        operation, scope_id = call.operation, call.scope_id
        pause_seconds = self._buckets[operation.name].paused_seconds()
        if self._clock.monotonic() + pause_seconds > call.deadline and not self.gate.is_shut:
            error = ThrottledError(
                "the service demands a longer pause than this call can wait",
                operation=operation.name,
                scope_id=scope_id,
                retry_after_seconds=pause_seconds,
            )
            return _Failed(error, sent=False)
        async with self.gate.passage(operation.name, scope_id, call.deadline) as passage:
            outcome = await self._send(call, passage)
            failure = None if isinstance(outcome, Reply) else outcome.error
            # What the next signature is expected to mend says nothing about the service. A clock or a
            # token that all calls share would open the circuit.
            if call.signed_anew or not isinstance(failure, StaleSignatureError):
                self.gate.record(passage, failure)
        return outcome

    async def _send(self, call: _Call, passage: Passage) -> Reply | _Failed:
        """Send once, as far as it is in our hands: a repeat by aiohttp is a metered attempt of its own."""
        try:
            request = await self._gateway.prepare(call.operation, call.parameters)
        except ApiError as error:
            return _Failed(_of_call(error, call), sent=False)
        outcome = await self._exchange(request, call, passage)
        if isinstance(outcome, Reply) or not outcome.sent:
            return outcome
        if request.renew and not call.signed_anew:
            self._sent.discard(call)
            outcome = await _renewed(outcome, request.renew, call)
        # One server of many that refuses a good key must not stop the account.
        refusal = outcome.error
        is_doubtful = isinstance(refusal, CredentialsError) and not is_expired(refusal.code)
        if is_doubtful and self.gate.doubt_key(passage):
            _log.warning(
                "key_refused_once",
                operation=refusal.operation,
                scope_id=refusal.scope_id,
                http_status=refusal.http_status,
                code=refusal.code,
            )
            return _once_more(refusal, call, refusal.hint)
        return outcome

    async def _exchange(self, request: HttpRequest, call: _Call, passage: Passage) -> Reply | _Failed:
        departure = _Departure(self, call, passage)
        try:
            await departure.line_up()
            for _ in range(STALE_CONNECTIONS_MAX):
                exchange = await self._transport.exchange(
                    request, depart=departure.depart, body_bytes_max=call.operation.answer_bytes_max
                )
                if exchange.failure is not Failure.STALE_CONNECTION:
                    break
                departure.was_not_sent()
            departure.ended()
            if departure.sent:
                self._record(call.operation, call.parameters, exchange, departure.seconds)
            return await self._conclude(exchange, departure, had_cursor=bool(call.parameters.get("NextToken")))
        except _BrokenSend:
            return await self._conclude(Exchange(Failure.BROKEN), departure, had_cursor=False)
        finally:
            await departure.close()

    async def _conclude(self, exchange: Exchange, departure: _Departure, *, had_cursor: bool) -> Reply | _Failed:
        """Turn the exchange into a reply, or into an error whose attempt is settled."""
        operation, scope_id = departure.call.operation, departure.call.scope_id
        date = self._observe_time(exchange, departure)
        result = interpret(
            exchange,
            operation,
            scope_id,
            had_cursor=had_cursor,
            server_now=self._server_clock.now(),
            redact=self._gateway.redact,
        )
        if isinstance(result, ApiError):
            if isinstance(result, AnswerTooLargeError):
                result.date = date
            if isinstance(result, ThrottledError):
                self._slow_down(result)
            if not departure.sent:
                return _Failed(result, sent=False)
            await departure.settle(exchange.http_status, result.code or str(exchange.http_status), len(exchange.body))
            return _Failed(result)
        return Reply(
            answer=result,
            http_status=exchange.http_status,
            bytes=len(exchange.body),
            date=date,
            attempt=departure.hand_over(exchange.http_status, count_records(operation, result), len(exchange.body)),
            request_id=result.request_id or exchange.headers.get("x-acs-request-id", ""),
            body=exchange.body,
        )

    def _observe_time(self, exchange: Exchange, departure: _Departure) -> int:
        """Take the time from a response; returns what it proves."""
        clock = self._server_clock
        told = read_date(exchange.headers)
        if told is None:
            clock.dateless_answers += exchange.http_status > 0
            return clock.now()
        date, age, is_cached = told
        if not (clock.synced and clock.is_settled):
            departure.time = date
        return clock.observe(date, Origin.CACHED if is_cached else Origin.ANSWER, age=age)

    def _slow_down(self, error: ThrottledError) -> None:
        bucket = self._buckets[error.operation]
        if bucket.slow_down(error.retry_after_seconds):
            _log.info(
                "request_throttled",
                operation=error.operation,
                http_status=error.http_status,
                code=error.code,
                retry_after_seconds=error.retry_after_seconds,
                rate_per_second=round(bucket.rate, 2),
            )


async def _renewed(failed: _Failed, renew: Renew, call: _Call) -> _Failed:
    """The failure of a call, as it is to be taken now that other credentials were looked for."""
    try:
        if not await renew(failed.error):
            return failed
    except ApiError as error:
        return _Failed(_of_call(error, call))
    return _once_more(failed.error, call, "Newer credentials were found, and the call is repeated with them.")


def _once_more(refusal: ApiError, call: _Call, hint: str) -> _Failed:
    """Turn a refusal into a failure after which the call is signed again and repeated once."""
    return _Failed(
        StaleSignatureError(
            refusal.args[0],
            operation=refusal.operation,
            scope_id=call.scope_id,
            http_status=refusal.http_status,
            code=refusal.code,
            request_id=refusal.request_id,
            hint=hint,
        )
    )


def _of_call(error: ApiError, call: _Call) -> ApiError:
    """The same error, which knew of no call."""
    error.operation, error.scope_id = call.operation.name, call.scope_id
    return error


class _BrokenSend(Exception):
    """aiohttp would send a call again that must not be repeated."""


class _Departure:
    """The ticket of one send, from its reservation until it is settled, handed over or released."""

    def __init__(self, client: ApiClient, call: _Call, passage: Passage) -> None:
        self.call = call
        self.sent = False
        self.time = 0
        """When it was sent, seconds since the epoch as the server counts them."""
        self._sent_at = 0.0
        self._ended_at: float | None = None
        self._client = client
        self._passage = passage
        self._name = call.operation.name
        self._ticket: int | None = None
        self._in_line = self._has_slot = False

    async def line_up(self) -> None:
        """Wait until few enough others stand connected in line."""
        await self._client._lines[self._name].acquire()
        self._in_line = True
        self._client.gate.check(self._passage)

    async def depart(self) -> None:
        """Reserve, then wait for a slot and a token. Nothing is awaited between the token and the bytes."""
        client, operation = self._client, self.call.operation
        if self.sent:
            # A kept connection broke under the request, and aiohttp is about to send it once more.
            if not operation.repeatable:
                raise _BrokenSend
            await self.settle(0, CODE_CONNECTION, 0)
        # Whoever held a slot while others of its operation wait for theirs could wait for them in turn.
        self.was_not_sent()
        client.gate.check(self._passage)
        if self._ticket is None:
            self._ticket = await client._meter.reserve(operation)
        async with client._turns[self._name]:
            await client._slots.acquire(self._name)
            self._has_slot = True
            client.gate.check(self._passage)
            await client._buckets[self._name].acquire()
        client.gate.check(self._passage)
        self._leave_line()
        self.sent = True
        client._sent.add(self.call)
        self.time = client._server_clock.now()
        self._sent_at, self._ended_at = client._clock.monotonic(), None

    def was_not_sent(self) -> None:
        """The call is, or is again, one that waits to be sent."""
        self.sent = False
        self._client._sent.discard(self.call)
        self._leave_slot()

    def ended(self) -> None:
        """The last byte is in, or none will come."""
        self._ended_at = self._client._clock.monotonic()
        self._leave_slot()

    @property
    def seconds(self) -> float:
        """From the first byte sent to the end, or until now."""
        return (self._client._clock.monotonic() if self._ended_at is None else self._ended_at) - self._sent_at

    async def settle(self, http_status: int, code: str, body_bytes: int) -> None:
        """Enter a failed attempt."""
        attempt = self._outcome(http_status, code, 0, body_bytes)
        # The meter has it from here, even if this is cancelled.
        self._ticket, self.sent = None, False
        await self._client._meter.settle(attempt)

    def hand_over(self, http_status: int, rows: int, body_bytes: int) -> Attempt:
        """The successful attempt, which is the caller's to settle from now on."""
        attempt = self._outcome(http_status, "", rows, body_bytes)
        self._client.rows_received[self._name] += rows
        self._ticket = None
        return attempt

    async def close(self) -> None:
        """Account for a call that was cancelled or refused on its way."""
        self._leave_line()
        self._leave_slot()
        if self._ticket is None:
            return
        if self.sent:
            await self.settle(0, CODE_UNKNOWN, 0)
        else:
            ticket, self._ticket = self._ticket, None
            await self._client._meter.release(ticket)

    def _leave_line(self) -> None:
        if self._in_line:
            self._in_line = False
            self._client._lines[self._name].release()

    def _leave_slot(self) -> None:
        if self._has_slot:
            self._has_slot = False
            self._client._slots.release(self._name)

    def _outcome(self, http_status: int, code: str, rows: int, body_bytes: int) -> Attempt:
        assert self._ticket is not None
        self._client._observe(self.call.operation, http_status, code, self.seconds)
        scope_id = self.call.scope_id
        return Attempt(self._ticket, self._name, scope_id, self.time, http_status, code, rows, body_bytes)


def _log_failure(error: ApiError, attempt: int, elapsed_seconds: float, decision: RetryAfter | GiveUp) -> None:
    _log.debug(
        "request_failed",
        operation=error.operation,
        scope_id=error.scope_id,
        error_type=type(error).__name__,
        http_status=error.http_status,
        code=error.code,
        request_id=error.request_id,
        attempt=attempt,
        elapsed_seconds=round(elapsed_seconds, 3),
        retry_after_seconds=round(decision.seconds, 3) if isinstance(decision, RetryAfter) else None,
        gave_up=decision.reason.value if isinstance(decision, GiveUp) else None,
    )
