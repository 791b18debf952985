"""The simulated service on HTTP: a request comes in, is answered by `service`, and the answer is sent or broken.

Beside it are control endpoints under `/_simulator/`, for tests in another process. Loopback callers only.

GET  stats                                       calls by operation, as JSON
GET  world                                       node ids with profile, other ids by kind, seed, now
POST clock   {"set": T, "advance": S, "rate": R}  move the clock; each key is optional
GET  faults                                      the faults, each with its place and how often it fired
POST faults                                      adds some: `slow=2s,node=ID` (`fault_words`), one a line, or JSON
PUT  faults [{"kind": ...}, ...]                 replaces them all
DELETE faults[?place=N]                          takes one or all away
POST late    {"node_id", "start", "end", "count", "visible_at"}
GET  truth?node=&start=&end=[&served=1]          every record, one JSON a line; served: after type drift
GET  users?group=&time=[&time_step=]             a whole snapshot
POST credentials {"security_token": ..., ...}     replace what is named of `Credentials`
GET  uploads                                     span names of every upload to the traces' endpoint
"""

from __future__ import annotations

import gc
import ipaddress
import socket
import struct
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Self

import msgspec
from aiohttp import web

from collector.clock import Clock, SystemClock
from collector.simulator.account import Account
from collector.simulator.answers import Answer, date_headers
from collector.simulator.clock import SimulatorClock
from collector.simulator.credentials import SIMULATOR_KEY as SIMULATOR_KEY
from collector.simulator.credentials import Credentials
from collector.simulator.drift import drift_syslog, drift_user, syslog_shape, user_shape
from collector.simulator.fault_words import parse_fault
from collector.simulator.faults import Fault, FaultKind, FaultPlan
from collector.simulator.ledger import OperationStats
from collector.simulator.replay import Replay, check_replayable
from collector.simulator.requests import Call
from collector.simulator.service import Backend, CallHandler, SimulatorOptions
from collector.simulator.world import LateRows, Record, World

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_SHUTDOWN_SECONDS = 0.1
_BODY_BYTES_MAX = 16 << 20
SWITCH_SECONDS = 0.0005
"""The loop gets its turn this soon while a page is made beside it."""

YOUNG_OBJECTS_MAX = 50_000
"""Only young objects are collected: going through all rows kept for the next page stops every thread for
tens of milliseconds, and calls that arrive meanwhile would be counted too close together."""


class Simulator:
    """A running simulation of the service on loopback.

        async with Simulator(World(seed=1)) as simulator:
            simulator.base_url

    It serves every operation of the catalogue in both wire forms: the bearer gateway's, opened by the bearer key, and
    the product endpoints' (all of them at this one address), opened by the access key's signature.

    What is behind the answers is `backend`, with the `account` around the world: one of the world's seed unless another
    is given. `now` gives the service's time of day; a `SimulatorClock` can be moved through `clock`. Waiting is done by
    the machine's `clock`. With a `replay` the answers are those of a recording.
    """

    def __init__(
        self,
        world: World,
        options: SimulatorOptions | None = None,
        *,
        account: Account | None = None,
        now: Callable[[], float] | None = None,
        clock: Clock | None = None,
        faults: Iterable[Fault] = (),
        replay: Replay | None = None,
    ) -> None:
        options = options or SimulatorOptions()
        self.world = world
        self.now: Callable[[], float] = now or SimulatorClock()
        self._handler = CallHandler(
            account or Account(world), options, now=self.now, clock=clock or SystemClock(), replay=replay
        )
        self.is_replay = replay is not None
        """Whether the answers are a recording's, whose ids are not those of the world."""
        self.faults = faults
        self._compress = options.compress
        self._port = options.port
        self._runner: web.AppRunner | None = None
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
        app = web.Application(client_max_size=_BODY_BYTES_MAX)
        app.on_response_prepare.append(self._tell_time)
        app.router.add_routes(_control_routes(self))
        app.router.add_post("/adapt_{token}/api/otlp/traces", self._receive_spans)
        app.router.add_route("*", "/{path:.*}", self._serve)
        runner = web.AppRunner(
            app,
            access_log=None,
            # Cancelled with their client, so that a call which hangs ends when nobody waits for it.
            handler_cancellation=True,
            # A signature is over the body as it was sent.
            auto_decompress=False,
            shutdown_timeout=_SHUTDOWN_SECONDS,
        )
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", self._port).start()
        except OSError:
            await runner.cleanup()
            raise
        self._runner = runner
        host, port = runner.addresses[0][:2]
        self.base_url = self.backend.traces.base_url = f"http://{host}:{port}"

    async def stop(self) -> None:
        """Stop listening; calls that still hang are cut."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        self._handler.close()

    @property
    def backend(self) -> Backend:
        """What is behind the answers. Tests read the truth here, and change it."""
        return self._handler.backend

    @property
    def handler(self) -> CallHandler:
        """What answers the calls, for a client in the same process that does without a connection."""
        return self._handler

    @property
    def clock(self) -> SimulatorClock:
        """The clock, where it can be moved. TypeError when `now` was given as something else."""
        if not isinstance(self.now, SimulatorClock):
            raise TypeError("this simulator was given a clock that it cannot move")
        return self.now

    @property
    def credentials(self) -> Credentials:
        """What opens it. Set others to rotate a key or to let a security token expire."""
        return self._handler.verifier.credentials

    @credentials.setter
    def credentials(self, credentials: Credentials) -> None:
        self._handler.verifier.credentials = credentials

    @property
    def faults(self) -> tuple[Fault, ...]:
        return tuple(self._handler.plan.faults)

    @faults.setter
    def faults(self, faults: Iterable[Fault]) -> None:
        """Replace the fault list; counting of arrivals starts anew. Raises ValueError if a replay cannot honour it."""
        faults = tuple(faults)
        self._check(faults)
        self._handler.plan = FaultPlan(faults, self._handler.seed)

    def add_faults(self, more: Iterable[Fault]) -> None:
        """Add faults behind the others, which count on. Raises ValueError if a replay cannot honour them."""
        more = tuple(more)
        self._check(more)
        self._handler.plan = self._handler.plan.changed(more=more)

    def _check(self, faults: Iterable[Fault]) -> None:
        if self.is_replay:
            check_replayable(faults)

    @property
    def stats(self) -> Mapping[str, OperationStats]:
        """Calls so far, by operation."""
        return self._handler.ledger.stats

    def max_in_any_second(self, operation: str) -> int:
        """The most arrivals of the operation, refused ones too, in any sliding second."""
        return self._handler.ledger.max_in_any_second(operation)

    def add_late(self, rows: LateRows) -> list[Record]:
        """Put late rows into the world, as `World.add_late`."""
        return self.world.add_late(rows)

    def served_syslogs(self, node_id: str, start: int, end: int) -> list[Any]:
        """The truth of `start <= Time < end` in the shapes that the present type drift gives it."""
        records = self.world.truth(node_id, start, end)
        drift = self._handler.plan.drift("ListSyslogs", node_id)
        if drift is None:
            return [record.wire for record in records]
        return [drift_syslog(r.wire, syslog_shape(r, drift.shapes, drift.share, self._handler.seed)) for r in records]

    def served_users(self, group_id: str, second: int, *, time_step: str = "5m") -> list[Any]:
        """The users of a snapshot in the shapes that the present type drift gives them."""
        users = self.world.snapshot(group_id, second, time_step=time_step)["UserMetrics"]
        drift = self._handler.plan.drift("GetUserViewMetrics", group_id)
        if drift is None:
            return list(users)
        return [drift_user(user, user_shape(user, drift.shapes, drift.share, self._handler.seed)) for user in users]

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        """Answer a request of any path that is not a control's."""
        answer, headers = await self._handler.answer(_call_of(request), request.read)
        if answer.transport is not None:
            return await _send_broken(request, answer, headers)
        response = web.Response(
            status=answer.status,
            body=answer.body,
            content_type=answer.content_type,
            charset="utf-8",
            headers={**answer.headers, **headers},
        )
        if self._compress:
            response.enable_compression()
        return response

    async def _receive_spans(self, request: web.Request) -> web.Response:
        path = request.raw_path.partition("?")[0]
        status = self.backend.traces.receive(path, request.headers, await request.read())
        return web.Response(status=status, content_type="application/x-protobuf")

    async def _tell_time(self, request: web.Request, response: web.StreamResponse) -> None:
        """Every response has the simulator's time instead of the machine's, or the `Date` that a fault gives it."""
        if "x-acs-request-id" not in response.headers:
            response.headers.update(date_headers(self.now()))
        elif not response.headers["Date"]:
            del response.headers["Date"]


def _call_of(request: web.Request) -> Call:
    path, _, query = request.raw_path.partition("?")
    headers: dict[str, str] = {}
    for name, value in request.headers.items():
        known = headers.get(name.lower())
        headers[name.lower()] = value if known is None else f"{known},{value}"
    return Call(request.method, path, query, headers, b"")


async def _send_broken(request: web.Request, answer: Answer, headers: Mapping[str, str]) -> web.StreamResponse:
    """Break the connection as the answer's `transport` says: before any byte, or after half of the body."""
    if answer.transport is FaultKind.RESET_BEFORE:
        _reset(request)
        return web.Response()
    response = web.StreamResponse(status=answer.status, headers=headers)
    response.content_type = answer.content_type
    response.content_length = len(answer.body)
    await response.prepare(request)
    await response.write(answer.body[: len(answer.body) // 2])
    if answer.transport is FaultKind.RESET_DURING:
        _reset(request)
    elif request.transport is not None:
        request.transport.close()
    return response


def _reset(request: web.Request) -> None:
    """Close the connection with a TCP reset, dropping whatever was not sent."""
    transport = request.transport
    if transport is None:
        return
    connection = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def count_promptly() -> None:
    """To be called once by a process that does nothing but simulate."""
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.set_threshold(YOUNG_OBJECTS_MAX, 20, 1_000_000)


class ClockMove(msgspec.Struct, forbid_unknown_fields=True):
    """Body of `POST clock`. `set` comes before `advance`."""

    set: float | None = None
    advance: float | None = None
    rate: float | None = None


def _control_routes(simulator: Simulator) -> list[web.RouteDef]:
    """The control endpoints of one simulator."""
    controls = _Controls(simulator)
    gets: dict[str, Handler] = {
        "stats": controls.stats,
        "world": controls.world,
        "faults": controls.faults,
        "truth": controls.truth,
        "users": controls.users,
        "uploads": controls.uploads,
    }
    posts: dict[str, Handler] = {
        "clock": controls.move_clock,
        "faults": controls.add_faults,
        "late": controls.add_late,
        "credentials": controls.change_credentials,
    }
    return [
        *(web.get(f"/_simulator/{name}", _guarded(handler)) for name, handler in gets.items()),
        *(web.post(f"/_simulator/{name}", _guarded(handler)) for name, handler in posts.items()),
        web.put("/_simulator/faults", _guarded(controls.replace_faults)),
        web.delete("/_simulator/faults", _guarded(controls.remove_faults)),
    ]


def _guarded(handler: Handler) -> Handler:
    async def guarded(request: web.Request) -> web.StreamResponse:
        if not ipaddress.ip_address(request.remote or "0.0.0.0").is_loopback:
            raise web.HTTPForbidden(text="the controls answer on loopback only\n")
        try:
            return await handler(request)
        except KeyError as error:
            raise web.HTTPNotFound(text=f"missing or unknown: {error}\n") from None
        except (ValueError, TypeError, msgspec.DecodeError) as error:
            raise web.HTTPBadRequest(text=f"{error}\n") from None

    return guarded


class _Controls:
    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator

    async def stats(self, request: web.Request) -> web.Response:
        return _json({name: stats.as_dict() for name, stats in self._simulator.stats.items()})

    async def world(self, request: web.Request) -> web.Response:
        world = self._simulator.world
        account, now = self._simulator.backend.account, self._simulator.now()
        told = {
            "seed": world.seed,
            "now": now,
            "nodes": {node_id: world.profile(node_id) for node_id in world.node_ids},
            "groups": world.group_ids,
            "clusters": account.cluster_ids,
            "jobs": account.job_ids(now),
            "instances": account.instance_ids,
            "eas_resources": account.eas_resource_ids,
            "services": account.service_ids,
        }
        return _json(told)

    async def move_clock(self, request: web.Request) -> web.Response:
        move = msgspec.json.decode(await request.read(), type=ClockMove)
        clock = self._simulator.clock
        clock.set(clock.now() if move.set is None else move.set, rate=move.rate)
        if move.advance is not None:
            clock.advance(move.advance)
        return _json({"now": clock.now(), "rate": clock.rate})

    async def faults(self, request: web.Request) -> web.Response:
        return _json(self._simulator.handler.plan.told())

    async def add_faults(self, request: web.Request) -> web.Response:
        body = (await request.read()).strip()
        if body.startswith((b"[", b"{")):
            found = msgspec.json.decode(body, type=tuple[Fault, ...] | Fault)
            more = found if isinstance(found, tuple) else (found,)
        else:
            world = self._simulator.world
            scope_ids = None if self._simulator.is_replay else [*world.node_ids, *world.group_ids]
            more = tuple(parse_fault(line, scope_ids) for line in body.decode().splitlines() if line.strip())
        self._simulator.add_faults(more)
        return _json({"faults": len(self._simulator.faults)})

    async def replace_faults(self, request: web.Request) -> web.Response:
        self._simulator.faults = msgspec.json.decode(await request.read(), type=tuple[Fault, ...])
        return _json({"faults": len(self._simulator.faults)})

    async def remove_faults(self, request: web.Request) -> web.Response:
        place = request.query.get("place")
        if place is None:
            self._simulator.faults = ()
        elif not place.isdecimal() or int(place) >= len(self._simulator.faults):
            raise ValueError(f"place: got {place!r}; expected the place of a fault, as GET lists them")
        else:
            handler = self._simulator.handler
            handler.plan = handler.plan.changed(without=int(place))
        return _json({"faults": len(self._simulator.faults)})

    async def add_late(self, request: web.Request) -> web.Response:
        records = self._simulator.add_late(msgspec.json.decode(await request.read(), type=LateRows))
        return _json({"added": len(records)})

    async def truth(self, request: web.Request) -> web.Response:
        query = request.query
        node_id, start, end = query["node"], int(query["start"]), int(query["end"])
        if query.get("served"):
            wires = self._simulator.served_syslogs(node_id, start, end)
        else:
            wires = [record.wire for record in self._simulator.world.truth(node_id, start, end)]
        body = b"".join(msgspec.json.encode(wire) + b"\n" for wire in wires)
        return web.Response(body=body, content_type="application/x-ndjson")

    async def users(self, request: web.Request) -> web.Response:
        query = request.query
        step = query.get("time_step", "5m")
        return _json(self._simulator.world.snapshot(query["group"], int(query["time"]), time_step=step))

    async def change_credentials(self, request: web.Request) -> web.Response:
        changes = msgspec.json.decode(await request.read(), type=dict[str, Any])
        self._simulator.credentials = self._simulator.credentials.changed(changes)
        return _json({"changed": sorted(changes)})

    async def uploads(self, request: web.Request) -> web.Response:
        return _json([upload.span_names for upload in self._simulator.backend.traces.received])


def _json(value: Any) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")
