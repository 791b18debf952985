"""One call from its arrival to its answer: counted, let in, hit by faults, checked, answered."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial

import msgspec
from aiohttp import web

from collector.catalogue.operation import Nesting, Operation
from collector.clock import Clock
from collector.simulator import breaking, sending
from collector.simulator.bending import bent_page, bent_parameters
from collector.simulator.breaking import Answer
from collector.simulator.checks import check_parameters
from collector.simulator.dates import date_headers
from collector.simulator.faults import FaultKind, FaultPlan
from collector.simulator.hashing import between, key_of
from collector.simulator.ledger import Arrival, Ledger
from collector.simulator.listing import Listing
from collector.simulator.nesting import nested
from collector.simulator.paging import fields_of
from collector.simulator.refusals import Refusal, throttled
from collector.simulator.replay import Replay
from collector.simulator.signatures import Call, Verifier
from collector.simulator.wire import Gateway, Target, parameters_of, target_of

WITHOUT_REQUEST_ID = frozenset({"GetUserViewMetrics", "GetNodeMetrics"})
"""Operations whose answer names no request; only a header does."""


class CallHandler:
    """Serves calls of either wire form; `Simulator` tells the order in which a call is looked at."""

    def __init__(
        self,
        listings: Mapping[str, Listing],
        ledger: Ledger,
        verifier: Verifier,
        *,
        seed: int,
        now: Callable[[], float],
        machine: Clock,
        latency_seconds: tuple[float, float],
        compress: bool,
        maker: Executor | None,
        replay: Replay | None = None,
        is_fast: bool = False,
    ) -> None:
        """With `replay` answers are those of a recording, as late as they were unless `is_fast`."""
        self.plan = FaultPlan((), seed)
        self._listings = listings
        self._ledger = ledger
        self._verifier = verifier
        self._seed = seed
        self._now = now
        self._machine = machine
        self._latency_seconds = latency_seconds
        self._compress = compress
        self._maker = maker
        self._replay = replay
        self._is_fast = is_fast

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """The handler of every path that is not a control's."""
        answer, headers = await self.answer(_call_of(request), request.read)
        if answer.transport is None:
            return sending.whole(answer, headers, compress=self._compress)
        return await sending.broken(request, answer, headers)

    async def answer(self, call: Call, read: Callable[[], Awaitable[bytes]]) -> tuple[Answer, dict[str, str]]:
        """What is answered to a call whose body `read` brings, and the headers that go with it."""
        try:
            target = target_of(call)
        except Refusal as refusal:
            request_id = self._request_id(call.path, 0)
            fault = self.plan.draw_date(None) if call.method == "HEAD" else None
            dates: Mapping[str, str] = date_headers(self._now(), fault)
            if self._replay is not None and call.method == "HEAD" and fault is None:
                dates = self._replay.probe() or dates
            return _refused(refusal, None, request_id), {"x-acs-request-id": request_id, **dates}
        operation = target.operation
        arrival = self._ledger.arrive(operation, self._machine.monotonic())
        self._ledger.stats[operation.name].by_gateway[target.gateway] += 1
        request_id = self._request_id(operation.name, arrival.ordinal)
        headers = {"x-acs-request-id": request_id}
        date_fault = self.plan.draw_date(operation.name)
        status, rows, sent_bytes = 0, 0, 0
        try:
            try:
                answer = await self._answer(target, call._replace(body=await read()), arrival, request_id)
            except Refusal as refusal:
                answer = _refused(refusal, operation, request_id)
            if answer.transport is None:
                status, rows, sent_bytes = answer.status, answer.rows, len(answer.body)
            elif answer.transport is not FaultKind.RESET_BEFORE:
                status, sent_bytes = answer.status, len(answer.body) // 2
            dates = date_headers(self._now(), date_fault)
            if self._replay is not None and date_fault is None:
                dates |= answer.headers
            return answer, headers | dates
        finally:
            self._ledger.leave(operation, status=status, rows=rows, sent_bytes=sent_bytes)

    async def _answer(self, target: Target, call: Call, arrival: Arrival, request_id: str) -> Answer:
        operation = target.operation
        latency = between(key_of("latency", self._seed, operation.name, arrival.ordinal), *self._latency_seconds)
        try:
            self._let_in(target.gateway, call)
            if arrival.over_quota:
                raise throttled({"Retry-After": "1"})
            parameters = parameters_of(target, call)
        except Refusal:
            await self._wait(latency)
            raise
        # Drawn before any waiting, so that faults follow the order of arrival and a run repeats.
        scope_id = operation.scope_id(parameters)
        fired = self.plan.draw(operation.name, scope_id, has_token=bool(parameters.get("NextToken")))
        self._ledger.stats[operation.name].faults.update(fired.kinds)
        if self._replay is None:
            await self._wait(latency + fired.delay_seconds)
        else:
            recorded = self._replay.next(operation, parameters, take=False)
            await self._wait((0.0 if self._is_fast else recorded.seconds) + fired.delay_seconds)
        fault = fired.breaks
        if fault is not None:
            refusal = breaking.refusal(fault, scope_id)
            if refusal is not None:
                raise refusal
            if not breaking.needs_answer(fault):
                return breaking.replacement(fault, request_id)
        if self._replay is not None:
            # Only now, so that a call which a fault refused gets this answer when it is repeated.
            recorded = self._replay.next(operation, parameters, take=True)
            good = replace(recorded.answer, headers=dict(recorded.headers))
            is_plain = fault is not None and good.status == 200 and good.transport is None
            return breaking.spoiled(fault, operation, good) if fault is not None and is_plain else good
        check_parameters(operation, parameters)
        # Read after the waiting: a slow answer holds what is visible when it leaves, as its Date says.
        now = self._now()
        wanted = bent_parameters(operation, parameters, fired)
        make = partial(self._listings[operation.name].page, wanted, now, fired, arrival.ordinal)
        page = make() if self._maker is None else await asyncio.get_running_loop().run_in_executor(self._maker, make)
        page = bent_page(operation, page, fired, arrival.ordinal)
        good = Answer(200, _body(operation, request_id, page.fields), page.rows)
        return good if fault is None else breaking.spoiled(fault, operation, good)

    def _let_in(self, gateway: Gateway, call: Call) -> None:
        if gateway is Gateway.BEARER:
            self._verifier.verify_bearer(call.headers)
        else:
            self._verifier.verify_product(call, self._now())

    async def _wait(self, seconds: float) -> None:
        if seconds > 0:
            await self._machine.sleep(seconds)

    def _request_id(self, name: str, ordinal: int) -> str:
        digits = f"{key_of('request', self._seed, name, ordinal):016X}{key_of('id', self._seed, name, ordinal):016X}"
        return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _call_of(request: web.Request) -> Call:
    path, _, query = request.raw_path.partition("?")
    headers: dict[str, str] = {}
    for name, value in request.headers.items():
        known = headers.get(name.lower())
        headers[name.lower()] = value if known is None else f"{known},{value}"
    return Call(request.method, path, query, headers, b"")


def _body(operation: Operation, request_id: str, fields: bytes) -> bytes:
    if operation.name in WITHOUT_REQUEST_ID:
        return b"{" + fields + b"}"
    if operation.nesting is not Nesting.PLAIN:
        fields = fields_of(nested(operation, msgspec.json.decode(b"{" + fields + b"}")))
    head = b'{"RequestId":"' + request_id.encode() + b'"'
    return head + (b"," if fields else b"") + fields + b"}"


def _refused(refusal: Refusal, operation: Operation | None, request_id: str) -> Answer:
    body = msgspec.json.encode(refusal.body(operation, request_id))
    return replace(Answer(refusal.status, body), headers=refusal.headers)
