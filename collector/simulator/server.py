"""The simulated service on HTTP: the bearer gateway's wire form, quotas, prices, faults."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from email.utils import formatdate
from functools import partial
from types import TracebackType
from typing import Any, Self

import msgspec
from aiohttp import web

from collector.api.operations import CATALOGUE, Operation
from collector.clock import Clock, SystemClock
from collector.simulator import breaking, control
from collector.simulator.breaking import Answer
from collector.simulator.clock import SimulatorClock
from collector.simulator.drift import drift_syslog, drift_user, syslog_shape, user_shape
from collector.simulator.faults import Fault, FaultKind, FaultPlan
from collector.simulator.hashing import between, key_of
from collector.simulator.ledger import Arrival, Ledger, OperationStats
from collector.simulator.refusals import Refusal, invalid_key, invalid_parameter, throttled
from collector.simulator.syslogs import Bounds, SyslogListing
from collector.simulator.tokens import TokenMint
from collector.simulator.user_metrics import UserMetricsListing
from collector.simulator.world import LateRows, Record, World

SIMULATOR_KEY = "sk-simulator"
"""The key that a simulator takes unless told otherwise. It opens nothing else."""

_SCOPE_PARAMETER = {"ListSyslogs": "NodeId", "GetUserViewMetrics": "ResourceGroupID"}
_SHUTDOWN_SECONDS = 0.1


class Simulator:
    """A running simulation of the service on loopback.

        async with Simulator(World(seed=1)) as simulator:
            simulator.base_url

    A call is counted and checked against its quota when it arrives; what it costs in time comes
    after. Then, in this order: the key, the quota, the faults, the parameters. Calls that the first
    two refuse are not arrivals for the faults. `quotas` are requests a second by operation, over
    the catalogue's. `now` gives the service's time of day; a `SimulatorClock` can be moved through
    `clock`. Every answer takes `latency_seconds` (least, most) longer than it must.
    """

    def __init__(
        self,
        world: World,
        *,
        key: str = SIMULATOR_KEY,
        quotas: Mapping[str, int] | None = None,
        now: Callable[[], float] | None = None,
        latency_seconds: tuple[float, float] = (0.0, 0.0),
        faults: Iterable[Fault] = (),
        bounds: Bounds = "closed",
        page_size: int = 100,
        token_seconds_max: float | None = None,
        seed: int | None = None,
        compress: bool = False,
        host: str = "127.0.0.1",
        port: int = 0,
        clock: Clock | None = None,
        threaded: bool = False,
    ) -> None:
        self.world = world
        self.seed = world.seed if seed is None else seed
        self.now: Callable[[], float] = SimulatorClock() if now is None else now
        self._key = key
        self._machine = clock or SystemClock()
        self._ledger = Ledger(quotas)
        self._latency_seconds = latency_seconds
        self._plan = FaultPlan(faults, self.seed)
        self._compress = compress
        self._listings: dict[str, SyslogListing | UserMetricsListing] = {
            "ListSyslogs": SyslogListing(world, TokenMint(self.seed, token_seconds_max), self.seed, bounds, page_size),
            "GetUserViewMetrics": UserMetricsListing(world, self.seed),
        }
        self._host = host
        self._port = port
        self._runner: web.AppRunner | None = None
        # Making a page takes milliseconds. Beside the loop, it does not delay the count of the calls
        # that arrive meanwhile; one thread, because what is made is kept for the next.
        self._maker = ThreadPoolExecutor(1, thread_name_prefix="pages") if threaded else None
        self.base_url = ""
        """Where it listens, such as `http://127.0.0.1:40123`; empty before `start`."""

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen. Raises OSError when the port is taken."""
        app = web.Application()
        app.on_response_prepare.append(self._tell_time)
        app.router.add_route("*", "/api/{product}/{version}/{operation}", self._serve)
        app.router.add_routes(control.routes(self))
        # Cancelled with their client, so that a call which hangs ends when nobody waits for it.
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=_SHUTDOWN_SECONDS)
        await runner.setup()
        try:
            await web.TCPSite(runner, self._host, self._port).start()
        except OSError:
            await runner.cleanup()
            raise
        self._runner = runner
        host, port = runner.addresses[0][:2]
        self.base_url = f"http://{host}:{port}"

    async def stop(self) -> None:
        """Stop listening; calls that still hang are cut."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        if self._maker is not None:
            self._maker.shutdown()

    @property
    def clock(self) -> SimulatorClock:
        """The clock, where it can be moved. TypeError when `now` was given as something else."""
        if not isinstance(self.now, SimulatorClock):
            raise TypeError("this simulator was given a clock that it cannot move")
        return self.now

    @property
    def faults(self) -> tuple[Fault, ...]:
        return tuple(self._plan.faults)

    @faults.setter
    def faults(self, faults: Iterable[Fault]) -> None:
        """Replace the fault list; counting of arrivals starts anew."""
        self._plan = FaultPlan(faults, self.seed)

    @property
    def stats(self) -> Mapping[str, OperationStats]:
        """Calls so far, by operation."""
        return self._ledger.stats

    def max_in_any_second(self, operation: str) -> int:
        """The most arrivals of the operation, refused ones too, in any sliding second."""
        return self._ledger.max_in_any_second(operation)

    def add_late(self, rows: LateRows) -> list[Record]:
        """Put late rows into the world, as `World.add_late`."""
        return self.world.add_late(rows)

    def served_syslogs(self, node_id: str, start: int, end: int) -> list[Any]:
        """The truth of `start <= Time < end` in the shapes that the present type drift gives it."""
        records = self.world.truth(node_id, start, end)
        drift = self._plan.drift("ListSyslogs", node_id)
        if drift is None:
            return [record.wire for record in records]
        return [drift_syslog(r.wire, syslog_shape(r, drift.shapes, drift.share, self.seed)) for r in records]

    def served_users(self, group_id: str, second: int, *, time_step: str = "5m") -> list[Any]:
        """The users of a snapshot in the shapes that the present type drift gives them."""
        users = self.world.snapshot(group_id, second, time_step=time_step)["UserMetrics"]
        drift = self._plan.drift("GetUserViewMetrics", group_id)
        if drift is None:
            return list(users)
        return [drift_user(user, user_shape(user, drift.shapes, drift.share, self.seed)) for user in users]

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        path = request.match_info
        operation = CATALOGUE.get(path["operation"])
        if operation is None or (operation.product, operation.version) != (path["product"], path["version"]):
            unknown = Refusal(404, "InvalidAction.NotFound", "The specified API is not found.")
            return self._response(_refused(unknown, None, self._request_id(request.path, 0)), "")
        arrival = self._ledger.arrive(operation, self._machine.monotonic())
        request_id = self._request_id(operation.name, arrival.ordinal)
        status, rows, sent_bytes = 0, 0, 0
        try:
            try:
                answer = await self._answer(request, operation, arrival, request_id)
            except Refusal as refusal:
                answer = _refused(refusal, operation, request_id)
            if answer.transport is None:
                status, rows, sent_bytes = answer.status, answer.rows, len(answer.body)
                return self._response(answer, request_id)
            if answer.transport is not FaultKind.RESET_BEFORE:
                status, sent_bytes = answer.status, len(answer.body) // 2
            return await self._break_connection(request, answer, request_id)
        finally:
            self._ledger.leave(operation, status=status, rows=rows, sent_bytes=sent_bytes)

    async def _answer(self, request: web.Request, operation: Operation, arrival: Arrival, request_id: str) -> Answer:
        body = await request.read()
        latency_seconds = between(key_of("latency", self.seed, operation.name, arrival.ordinal), *self._latency_seconds)
        try:
            if request.headers.get("Authorization") != f"Bearer {self._key}":
                raise invalid_key()
            if arrival.over_quota:
                raise throttled({"Retry-After": "1"})
            parameters = _parameters(request, operation, body)
        except Refusal:
            await self._wait(latency_seconds)
            raise
        # Drawn before any waiting, so that faults follow the order of arrival and a run repeats.
        scope_id = str(parameters.get(_SCOPE_PARAMETER[operation.name], ""))
        fired = self._plan.draw(operation.name, scope_id, has_token=bool(parameters.get("NextToken")))
        self._ledger.stats[operation.name].faults.update(fired.kinds)
        await self._wait(latency_seconds + fired.delay_seconds)
        fault = fired.breaks
        if fault is not None:
            refusal = breaking.refusal(fault, scope_id)
            if refusal is not None:
                raise refusal
            if not breaking.needs_answer(fault):
                return breaking.replacement(fault, request_id)
        # Read after the waiting: a slow answer holds what is visible when it leaves, as its Date says.
        now = self.now()
        make = partial(self._listings[operation.name].page, parameters, now, fired, arrival.ordinal)
        page = make() if self._maker is None else await asyncio.get_running_loop().run_in_executor(self._maker, make)
        # The user metrics' answer has no request id in its body, only in the header.
        head = b'{"RequestId":"' + request_id.encode() + b'",' if operation.name == "ListSyslogs" else b"{"
        good = Answer(200, head + page.fields + b"}", page.rows)
        return good if fault is None else breaking.spoiled(fault, operation, good)

    async def _wait(self, seconds: float) -> None:
        if seconds > 0:
            await self._machine.sleep(seconds)

    def _response(self, answer: Answer, request_id: str) -> web.Response:
        response = web.Response(
            status=answer.status,
            body=answer.body,
            content_type=answer.content_type,
            charset="utf-8",
            headers={**answer.headers, **self._headers(request_id)},
        )
        if self._compress:
            response.enable_compression()
        return response

    async def _break_connection(self, request: web.Request, answer: Answer, request_id: str) -> web.StreamResponse:
        if answer.transport is FaultKind.RESET_BEFORE:
            _reset(request)
            return web.Response()
        response = web.StreamResponse(status=answer.status, headers=self._headers(request_id))
        response.content_type = answer.content_type
        response.content_length = len(answer.body)
        await response.prepare(request)
        await response.write(answer.body[: len(answer.body) // 2])
        if answer.transport is FaultKind.RESET_DURING:
            _reset(request)
        elif request.transport is not None:
            request.transport.close()
        return response

    def _headers(self, request_id: str) -> dict[str, str]:
        return {"Date": self._date(), "x-acs-request-id": request_id}

    async def _tell_time(self, request: web.Request, response: web.StreamResponse) -> None:
        """Every answer, an unknown path's too, tells the simulator's time and not the machine's."""
        response.headers["Date"] = self._date()

    def _date(self) -> str:
        return formatdate(self.now() // 1, usegmt=True)

    def _request_id(self, name: str, ordinal: int) -> str:
        digits = f"{key_of('request', self.seed, name, ordinal):016X}{key_of('id', self.seed, name, ordinal):016X}"
        return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _parameters(request: web.Request, operation: Operation, body: bytes) -> dict[str, Any]:
    if request.method != operation.method:
        raise Refusal(405, "UnsupportedHTTPMethod", f"{operation.name} takes {operation.method} only.")
    if operation.method == "POST":
        try:
            parameters = msgspec.json.decode(body or b"{}", type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise Refusal(400, "InvalidParameter", "The body is not a JSON object.") from None
    else:
        parameters = dict(request.query)
    for name in parameters:
        # The real gateway may ignore what it does not know; here a misspelt name has to show.
        if operation.parameter(name) is None:
            raise invalid_parameter(name, f"{operation.name} has no such parameter")
    return parameters


def _refused(refusal: Refusal, operation: Operation | None, request_id: str) -> Answer:
    body = msgspec.json.encode(refusal.body(operation, request_id))
    return replace(Answer(refusal.status, body), headers=refusal.headers)


def _reset(request: web.Request) -> None:
    """Close the connection with a TCP reset, dropping whatever was not sent."""
    transport = request.transport
    if transport is None:
        return
    connection = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


async def serve(world: World, **options: Any) -> Simulator:
    """Start a simulator; `options` as of `Simulator`. The caller stops it with `stop`."""
    simulator = Simulator(world, **options)
    await simulator.start()
    return simulator
