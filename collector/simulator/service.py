"""One call from its arrival to its answer: counted, let in, hit by faults, checked, answered by a listing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial

import msgspec

from collector.catalogue.operation import Nesting, Operation
from collector.clock import Clock
from collector.simulator.account import Account
from collector.simulator.answers import (
    Answer,
    bent_page,
    bent_parameters,
    date_headers,
    needs_answer,
    nested,
    refusal_of,
    replacement,
    spoil,
)
from collector.simulator.cloud_monitor import (
    CloudMonitor,
    MetricListListing,
    MetricMetaListing,
    NamespaceListing,
    ProductMetricsListing,
)
from collector.simulator.credentials import Credentials, Verifier
from collector.simulator.diagnostics import CreateTaskListing, DescribeTaskListing, DiagnosticDesk, TaskListing
from collector.simulator.events import EventLog, JobEventListing, ServiceEventListing
from collector.simulator.faults import FaultKind, FaultPlan
from collector.simulator.hashing import between, key_of
from collector.simulator.inventory import (
    ClusterListing,
    ClusterNodeListing,
    InstanceListing,
    JobListing,
    ResourceGroupListing,
    ResourceListing,
    ServiceListing,
)
from collector.simulator.ledger import Arrival, Ledger
from collector.simulator.paging import Listing, TokenMint, fields_of
from collector.simulator.replay import Replay
from collector.simulator.requests import (
    Call,
    Gateway,
    Refusal,
    Target,
    check_parameters,
    parameters_of,
    target_of,
    throttled,
)
from collector.simulator.resource_logs import CreateLogListing, DeleteLogListing, DescribeLogListing, ResourceLogDesk
from collector.simulator.series import InstanceMetricsListing, JobMetricsListing, Measurements, NodeMetricsListing
from collector.simulator.syslogs import Bounds, SyslogListing
from collector.simulator.traces import TraceDesk
from collector.simulator.user_metrics import UserMetricsListing


class Backend:
    """One account as its services know it. Tests read the truth here, and change it.

    `bounds` says of every operation with a range whether its end belongs to it, `page_size` is that
    of `ListSyslogs`, `token_seconds_max` how long a cursor lives.
    """

    def __init__(
        self,
        account: Account,
        seed: int,
        now: Callable[[], float],
        *,
        bounds: Bounds = "closed",
        page_size: int = 100,
        token_seconds_max: float | None = None,
    ) -> None:
        mint = TokenMint(seed, token_seconds_max)
        self.account = account
        self.measurements = Measurements(account)
        self.cloud = CloudMonitor(self.measurements)
        self.events = EventLog(account)
        self.diagnostics = DiagnosticDesk(account, mint)
        self.resource_logs = ResourceLogDesk(account)
        self.traces = TraceDesk(seed, now)
        self.listings: dict[str, Listing] = {
            "ListSyslogs": SyslogListing(account.world, mint, seed, bounds, page_size),
            "CreateDiagnosticTask": CreateTaskListing(self.diagnostics),
            "DescribeDiagnosticResult": DescribeTaskListing(self.diagnostics),
            "ListDiagnosticResults": TaskListing(self.diagnostics),
            "ListClusters": ClusterListing(account, mint),
            "ListClusterNodes": ClusterNodeListing(account, mint),
            "GetUserViewMetrics": UserMetricsListing(account.world, seed),
            "GetNodeMetrics": NodeMetricsListing(self.measurements, bounds),
            "ListResourceGroups": ResourceGroupListing(account),
            "GetJobMetrics": JobMetricsListing(self.measurements, bounds),
            "GetJobEvents": JobEventListing(self.events),
            "ListJobs": JobListing(account),
            "GetInstanceMetrics": InstanceMetricsListing(self.measurements, bounds),
            "ListInstances": InstanceListing(account),
            "CreateResourceLog": CreateLogListing(self.resource_logs),
            "DescribeResourceLog": DescribeLogListing(self.resource_logs),
            "DeleteResourceLog": DeleteLogListing(self.resource_logs),
            "DescribeServiceEvent": ServiceEventListing(self.events),
            "ListResources": ResourceListing(account),
            "ListServices": ServiceListing(account),
            "GetXtraceToken": self.traces,
            "DlcGetMetrics": ProductMetricsListing(self.cloud, mint, "DataPoints", "acs_pai_dlc", "JobId", "jobId"),
            "DswGetMetrics": ProductMetricsListing(
                self.cloud, mint, "Datapoints", "acs_pai_dsw", "InstanceId", "instanceId"
            ),
            "DescribeMetricList": MetricListListing(self.cloud, mint, "Datapoints"),
            "DescribeMetricMetaList": MetricMetaListing(self.cloud),
            "DescribeProjectMeta": NamespaceListing(self.cloud),
        }
        """By the operation's name in the catalogue."""


WITHOUT_REQUEST_ID = frozenset({"GetUserViewMetrics", "GetNodeMetrics"})
"""Operations whose answer names no request; only a header does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatorOptions:
    """How a simulator answers, and where it listens."""

    credentials: Credentials = field(default_factory=Credentials)
    """What opens it."""
    quotas: Mapping[str, int] = field(default_factory=dict)
    """Requests a second by operation, over the catalogue's."""
    latency_seconds: tuple[float, float] = (0.0, 0.0)
    """Every answer takes so much longer than it must: least and most."""
    bounds: Bounds = "closed"
    """Whether the end of a range belongs to it."""
    page_size: int = 100
    """Records of a page of `ListSyslogs`."""
    token_seconds_max: float | None = None
    """How long a `NextToken` lives, None for ever."""
    seed: int | None = None
    """Of faults, latencies and tokens; the world's without it."""
    compress: bool = False
    """Compress answers for clients that take it."""
    port: int = 0
    """On loopback; 0 takes a free one."""
    threaded: bool = False
    """Make pages beside the loop, so that they do not delay the count of the calls that arrive meanwhile."""


class CallHandler:
    """Serves calls of either wire form.

    A call is counted and checked against its quota when it arrives; what it costs in time comes after. Then, in this
    order: who calls, the quota, the faults, the parameters. Calls that the first two refuse are not arrivals for the
    faults.
    """

    def __init__(
        self,
        account: Account,
        options: SimulatorOptions,
        *,
        now: Callable[[], float],
        clock: Clock,
        replay: Replay | None = None,
    ) -> None:
        """`now` is the service's time of day, `clock` the machine's. With `replay` answers are a recording's."""
        self.seed = account.world.seed if options.seed is None else options.seed
        self.backend = Backend(
            account,
            self.seed,
            now,
            bounds=options.bounds,
            page_size=options.page_size,
            token_seconds_max=options.token_seconds_max,
        )
        self.plan = FaultPlan((), self.seed)
        self.ledger = Ledger(options.quotas)
        self.verifier = Verifier(options.credentials)
        self.now = now
        self.replay = replay
        self._clock = clock
        self._latency_seconds = options.latency_seconds
        # One thread, because what is made is kept for the next page.
        self._maker = ThreadPoolExecutor(1, thread_name_prefix="pages") if options.threaded else None

    def close(self) -> None:
        """End the thread that makes pages."""
        if self._maker is not None:
            self._maker.shutdown()

    async def answer(self, call: Call, read: Callable[[], Awaitable[bytes]]) -> tuple[Answer, dict[str, str]]:
        """What is answered to a call whose body `read` brings, and the headers that go with it."""
        try:
            target = target_of(call)
        except Refusal as refusal:
            request_id = self._request_id(call.path, 0)
            fault = self.plan.draw_date(None) if call.method == "HEAD" else None
            dates: Mapping[str, str] = date_headers(self.now(), fault)
            if self.replay is not None and call.method == "HEAD" and fault is None:
                dates = self.replay.probe() or dates
            return _refused(refusal, None, request_id), {"x-acs-request-id": request_id, **dates}
        operation = target.operation
        arrival = self.ledger.arrive(operation, self._clock.monotonic())
        self.ledger.stats[operation.name].by_gateway[target.gateway] += 1
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
            dates = date_headers(self.now(), date_fault)
            if self.replay is not None and date_fault is None:
                dates |= answer.headers
            return answer, headers | dates
        finally:
            self.ledger.leave(operation, status=status, rows=rows, sent_bytes=sent_bytes)

    async def _answer(self, target: Target, call: Call, arrival: Arrival, request_id: str) -> Answer:
        operation = target.operation
        latency = between(key_of("latency", self.seed, operation.name, arrival.ordinal), *self._latency_seconds)
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
        self.ledger.stats[operation.name].faults.update(fired.kinds)
        if self.replay is None:
            await self._wait(latency + fired.delay_seconds)
        else:
            recorded = self.replay.next(operation, parameters, take=False)
            await self._wait((0.0 if self.replay.is_fast else recorded.seconds) + fired.delay_seconds)
        fault = fired.breaks
        if fault is not None:
            refusal = refusal_of(fault, scope_id)
            if refusal is not None:
                raise refusal
            if not needs_answer(fault):
                return replacement(fault, request_id)
        if self.replay is not None:
            # Only now, so that a call which a fault refused gets this answer when it is repeated.
            recorded = self.replay.next(operation, parameters, take=True)
            good = replace(recorded.answer, headers=dict(recorded.headers))
            is_plain = fault is not None and good.status == 200 and good.transport is None
            return spoil(fault, operation, good) if fault is not None and is_plain else good
        check_parameters(operation, parameters)
        # Read after the waiting: a slow answer holds what is visible when it leaves, as its Date says.
        now = self.now()
        wanted = bent_parameters(operation, parameters, fired)
        make = partial(self.backend.listings[operation.name].page, wanted, now, fired, arrival.ordinal)
        page = make() if self._maker is None else await asyncio.get_running_loop().run_in_executor(self._maker, make)
        page = bent_page(operation, page, fired, arrival.ordinal)
        good = Answer(200, _body(operation, request_id, page.fields), page.rows)
        return good if fault is None else spoil(fault, operation, good)

    def _let_in(self, gateway: Gateway, call: Call) -> None:
        if gateway is Gateway.BEARER:
            self.verifier.verify_bearer(call.headers)
        else:
            self.verifier.verify_product(call, self.now())

    async def _wait(self, seconds: float) -> None:
        if seconds > 0:
            await self._clock.sleep(seconds)

    def _request_id(self, name: str, ordinal: int) -> str:
        digits = f"{key_of('request', self.seed, name, ordinal):016X}{key_of('id', self.seed, name, ordinal):016X}"
        return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


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
