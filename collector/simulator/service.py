"""One call from its arrival to its answer: counted, let in, hit by faults, checked, answered by a listing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Executor
from dataclasses import replace
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
from collector.simulator.credentials import Verifier
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
        self._maker = maker
        self._replay = replay
        self._is_fast = is_fast

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
            refusal = refusal_of(fault, scope_id)
            if refusal is not None:
                raise refusal
            if not needs_answer(fault):
                return replacement(fault, request_id)
        if self._replay is not None:
            # Only now, so that a call which a fault refused gets this answer when it is repeated.
            recorded = self._replay.next(operation, parameters, take=True)
            good = replace(recorded.answer, headers=dict(recorded.headers))
            is_plain = fault is not None and good.status == 200 and good.transport is None
            return spoil(fault, operation, good) if fault is not None and is_plain else good
        check_parameters(operation, parameters)
        # Read after the waiting: a slow answer holds what is visible when it leaves, as its Date says.
        now = self._now()
        wanted = bent_parameters(operation, parameters, fired)
        make = partial(self._listings[operation.name].page, wanted, now, fired, arrival.ordinal)
        page = make() if self._maker is None else await asyncio.get_running_loop().run_in_executor(self._maker, make)
        page = bent_page(operation, page, fired, arrival.ordinal)
        good = Answer(200, _body(operation, request_id, page.fields), page.rows)
        return good if fault is None else spoil(fault, operation, good)

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
