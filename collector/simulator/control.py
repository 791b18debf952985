"""Control endpoints under `/_simulator/`, for tests in another process. Loopback callers only.

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

import ipaddress
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from collector.simulator.fault_words import parse_fault
from collector.simulator.faults import Fault
from collector.simulator.world import LateRows

if TYPE_CHECKING:
    from collector.simulator.server import Simulator

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ClockMove(msgspec.Struct, forbid_unknown_fields=True):
    """Body of `POST clock`. `set` comes before `advance`."""

    set: float | None = None
    advance: float | None = None
    rate: float | None = None


def routes(simulator: Simulator) -> list[web.RouteDef]:
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
