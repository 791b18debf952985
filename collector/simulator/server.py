"""The simulated service on HTTP: both wire forms, quotas, prices, faults."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from collector.clock import Clock, SystemClock
from collector.simulator import control
from collector.simulator.account import Account
from collector.simulator.backend import Backend
from collector.simulator.clock import SimulatorClock
from collector.simulator.credentials import ACCESS_KEY_ID, ACCESS_KEY_SECRET, Credentials
from collector.simulator.credentials import SIMULATOR_KEY as SIMULATOR_KEY
from collector.simulator.dates import date_headers
from collector.simulator.drift import drift_syslog, drift_user, syslog_shape, user_shape
from collector.simulator.faults import Fault, FaultPlan
from collector.simulator.handler import CallHandler
from collector.simulator.ledger import Ledger, OperationStats
from collector.simulator.replay import Replay, check_replayable
from collector.simulator.signatures import Verifier
from collector.simulator.syslogs import Bounds
from collector.simulator.world import LateRows, Record, World

_SHUTDOWN_SECONDS = 0.1
_BODY_BYTES_MAX = 16 << 20


class Simulator:
    """A running simulation of the service on loopback.

        async with Simulator(World(seed=1)) as simulator:
            simulator.base_url

    It serves every operation of the catalogue in both wire forms: the bearer gateway's, opened by
    `key`, and the product endpoints' (all of them at this one address), opened by the access key's
    signature, with `security_token` when there is one. A call is counted and checked against its
    quota when it arrives; what it costs in time comes after. Then, in this order: who calls, the
    quota, the faults, the parameters. Calls that the first two refuse are not arrivals for the
    faults.

    What is behind the answers is `backend`, with the `account` around the world: one of the world's
    seed unless another is given. `quotas` are requests a second by operation, over the catalogue's.
    `now` gives the service's time of day; a `SimulatorClock` can be moved through `clock`. Every
    answer takes `latency_seconds` (least, most) longer than it must. With a `replay` the answers are those of
    a recording, as late as they were unless `is_fast`.
    """

    def __init__(
        self,
        world: World,
        *,
        account: Account | None = None,
        key: str = SIMULATOR_KEY,
        access_key_id: str = ACCESS_KEY_ID,
        access_key_secret: str = ACCESS_KEY_SECRET,
        security_token: str | None = None,
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
        replay: Replay | None = None,
        is_fast: bool = False,
    ) -> None:
        self.world = world
        self.seed = world.seed if seed is None else seed
        self.now: Callable[[], float] = SimulatorClock() if now is None else now
        self.backend = Backend(
            Account(world) if account is None else account,
            self.seed,
            self.now,
            bounds=bounds,
            page_size=page_size,
            token_seconds_max=token_seconds_max,
        )
        self._verifier = Verifier(
            Credentials(
                key=key,
                access_key_id=access_key_id,
                access_key_secret=access_key_secret,
                security_token=security_token,
            )
        )
        self._ledger = Ledger(quotas)
        # Making a page takes milliseconds. Beside the loop, it does not delay the count of the calls
        # that arrive meanwhile; one thread, because what is made is kept for the next.
        self._maker = ThreadPoolExecutor(1, thread_name_prefix="pages") if threaded else None
        self._handler = CallHandler(
            self.backend.listings,
            self._ledger,
            self._verifier,
            seed=self.seed,
            now=self.now,
            machine=clock or SystemClock(),
            latency_seconds=latency_seconds,
            compress=compress,
            maker=self._maker,
            replay=replay,
            is_fast=is_fast,
        )
        self.is_replay = replay is not None
        """Whether the answers are a recording's, whose ids are not those of the world."""
        self.faults = faults
        self._host = host
        self._port = port
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
        app.router.add_routes(control.routes(self))
        app.router.add_post("/adapt_{token}/api/otlp/traces", self._receive_spans)
        app.router.add_route("*", "/{path:.*}", self._handler.serve)
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
            await web.TCPSite(runner, self._host, self._port).start()
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
        if self._maker is not None:
            self._maker.shutdown()

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
        return self._verifier.credentials

    @credentials.setter
    def credentials(self, credentials: Credentials) -> None:
        self._verifier.credentials = credentials

    @property
    def faults(self) -> tuple[Fault, ...]:
        return tuple(self._handler.plan.faults)

    @faults.setter
    def faults(self, faults: Iterable[Fault]) -> None:
        """Replace the fault list; counting of arrivals starts anew. Raises ValueError if a replay cannot honour it."""
        faults = tuple(faults)
        self._check(faults)
        self._handler.plan = FaultPlan(faults, self.seed)

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
        drift = self._handler.plan.drift("ListSyslogs", node_id)
        if drift is None:
            return [record.wire for record in records]
        return [drift_syslog(r.wire, syslog_shape(r, drift.shapes, drift.share, self.seed)) for r in records]

    def served_users(self, group_id: str, second: int, *, time_step: str = "5m") -> list[Any]:
        """The users of a snapshot in the shapes that the present type drift gives them."""
        users = self.world.snapshot(group_id, second, time_step=time_step)["UserMetrics"]
        drift = self._handler.plan.drift("GetUserViewMetrics", group_id)
        if drift is None:
            return list(users)
        return [drift_user(user, user_shape(user, drift.shapes, drift.share, self.seed)) for user in users]

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


async def serve(world: World, **options: Any) -> Simulator:
    """Start a simulator; `options` as of `Simulator`. The caller stops it with `stop`."""
    simulator = Simulator(world, **options)
    await simulator.start()
    return simulator
