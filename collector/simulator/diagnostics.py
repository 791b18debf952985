"""Diagnoses of nodes: begun by one operation, over some time later, read by two others under other names.

A task that is created is the only state; how long it takes and what it finds are functions of its
id. Beside those there are tasks of the past, which are functions of the seed alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from collector.catalogue.products.eflo_controller import DescribeDiagnosticResultAnswer, DiagnosticRecord
from collector.simulator.account import Account
from collector.simulator.faults import NOTHING, Fired
from collector.simulator.hashing import key_of
from collector.simulator.inventory import drifted
from collector.simulator.paging import Page, TokenMint, TokenPages, iso, one
from collector.simulator.requests import invalid_parameter, not_found
from collector.simulator.wire import wire_record
from collector.units import DAY_SECONDS

CREATED_SECONDS = 2
"""How long a task is `Created` before it is `Running`."""
RUN_SECONDS = (20, 90)
"""How long it takes in all."""
PAST_TASKS = 24
PAGE_SIZES = (20, 100)
_PAST_SINCE = 1_735_689_600
_PAST_SECONDS = 200 * DAY_SECONDS
_TYPES = ("CheckByAiJobLogs", "NetDiag", "NodeCheck")
_ITEMS = ("GpuXid", "GpuEcc", "NicLink", "PcieBandwidth", "DiskHealth")


@dataclass(frozen=True, slots=True)
class Task:
    """One diagnosis. `created` and `ended` are UNIX seconds; who asks before the end does not see it."""

    task_id: str
    cluster_id: str
    kind: str
    node_ids: tuple[str, ...]
    created: int
    ended: int
    faulty: bool
    """Whether it finds something."""

    def state(self, now: float) -> str:
        """`Created`, `Running`, then `Succeed` or `Fault`."""
        if now >= self.ended:
            return "Fault" if self.faulty else "Succeed"
        return "Running" if now >= self.created + CREATED_SECONDS else "Created"

    def findings(self) -> list[dict[str, str]]:
        """One result for each node and item."""
        found = []
        for place, node_id in enumerate(self.node_ids):
            for number, item in enumerate(_ITEMS):
                bad = self.faulty and place == 0 and number == key_of("bad", self.task_id) % len(_ITEMS)
                detail = f"{item} of {node_id} is outside of its limits" if bad else ""
                found.append({"NodeId": node_id, "Item": item, "Result": "Fault" if bad else "Pass", "Detail": detail})
        return found


@dataclass(slots=True)
class DiagnosticDesk:
    """All diagnoses of the account."""

    account: Account
    mint: TokenMint
    _created: list[Task] = field(default_factory=list)
    _past: list[Task] = field(init=False)

    def __post_init__(self) -> None:
        self._past = _past_tasks(self.account)

    def tasks(self, now: float) -> list[Task]:
        """All that have begun, newest first."""
        begun = [task for task in self._past + self._created if task.created <= now]
        return sorted(begun, key=lambda task: task.created, reverse=True)

    def create(self, cluster_id: str, node_ids: tuple[str, ...], kind: str, now: float) -> Task:
        """Begin a task at `now`."""
        task_id = f"diag-i15{self.account.seed % 1000:03d}{len(self._created) + 1:016d}"
        h = key_of("diagnosis", self.account.seed, task_id)
        low, high = RUN_SECONDS
        task = Task(task_id, cluster_id, kind, node_ids, int(now), int(now) + low + h % (high - low), bool(h >> 32 & 1))
        self._created.append(task)
        return task


def _past_tasks(account: Account) -> list[Task]:
    tasks = []
    clusters = list(account.clusters.values())
    for number in range(PAST_TASKS if clusters else 0):
        h = key_of("past diagnosis", account.seed, number)
        cluster = clusters[h % len(clusters)]
        node = cluster.nodes[(h >> 8) % len(cluster.nodes)]
        created = _PAST_SINCE + (h >> 16) % _PAST_SECONDS
        kind, seconds = _TYPES[(h >> 40) % len(_TYPES)], 30 + (h >> 44) % 600
        task_id = f"diag-i14{account.seed % 1000:03d}{number + 1:016d}"
        tasks.append(Task(task_id, cluster.cluster_id, kind, (node.node_id,), created, created + seconds, not h & 3))
    return tasks


@dataclass(slots=True)
class CreateTaskListing:
    """Answers `CreateDiagnosticTask`."""

    desk: DiagnosticDesk

    def page(self, parameters: Mapping[str, Any], now: float, fired: Fired = NOTHING, ordinal: int = 0) -> Page:
        """Begin a task. Raises Refusal for a cluster or a node that does not exist or is not in the cluster."""
        account = self.desk.account
        cluster_id = str(parameters.get("ClusterId") or "")
        if cluster_id and cluster_id not in account.clusters:
            raise not_found("ClusterId", cluster_id)
        node_ids = tuple(parameters.get("NodeIds") or ())
        for node_id in node_ids:
            if not account.world.has_node(node_id):
                raise not_found("NodeId", node_id)
            if cluster_id and node_id not in account.nodes_of(cluster_id):
                raise invalid_parameter("NodeIds", f"{node_id} is not in {cluster_id}")
        kind = str(parameters.get("DiagnosticType") or _TYPES[0])
        return one(
            wire_record(
                DescribeDiagnosticResultAnswer,
                diagnostic_id=self.desk.create(cluster_id, node_ids, kind, now).task_id,
            )
        )


@dataclass(slots=True)
class DescribeTaskListing:
    """Answers `DescribeDiagnosticResult`. Its times have no zone."""

    desk: DiagnosticDesk

    def page(self, parameters: Mapping[str, Any], now: float, fired: Fired = NOTHING, ordinal: int = 0) -> Page:
        """A task and, once it has ended, what it found. Raises Refusal for an id that is none."""
        task_id = str(parameters.get("DiagnosticId", ""))
        task = next((task for task in self.desk.tasks(now) if task.task_id == task_id), None)
        if task is None:
            raise not_found("DiagnosticId", task_id)
        is_over = now >= task.ended
        answer = wire_record(
            DescribeDiagnosticResultAnswer,
            diagnostic_id=task.task_id,
            cluster_id=task.cluster_id,
            diagnostic_type=task.kind,
            diagnostic_state=task.state(now),
            created_time=iso(task.created).removesuffix("Z"),
            end_time=iso(task.ended).removesuffix("Z") if is_over else "",
            node_ids=list(task.node_ids),
            diagnostic_results=task.findings() if is_over else [],
        )
        return one(answer)


@dataclass(slots=True)
class TaskListing:
    """Answers `ListDiagnosticResults`: newest first, under other names, with a zone in its times."""

    desk: DiagnosticDesk
    _pages: TokenPages = field(init=False)

    def __post_init__(self) -> None:
        self._pages = TokenPages(self.desk.mint, "DiagnosticResults")

    def page(self, parameters: Mapping[str, Any], now: float, fired: Fired = NOTHING, ordinal: int = 0) -> Page:
        """One page at time `now`. Raises Refusal for a token that is none."""
        clusters = self.desk.account.clusters

        def read(second: float) -> list[Any]:
            found = self.desk.tasks(second)
            if kind := parameters.get("DiagType"):
                found = [task for task in found if task.kind == kind]
            if task_id := parameters.get("DiagnosticId"):
                found = [task for task in found if task.task_id == task_id]
            if group_id := parameters.get("ResourceGroupId"):
                within = {one.cluster_id for one in clusters.values() if one.resource_group_id == group_id}
                found = [task for task in found if task.cluster_id in within]
            records = [_record(task, second) for task in found]
            return drifted(records, "DiagId", fired, self.desk.account.seed)

        low, high = PAGE_SIZES
        size = min(high, max(low, int(parameters.get("MaxResults") or low)))
        return self._pages.page(read, size, parameters, now, fired, ordinal, MaxResults=size)


def _record(task: Task, now: float) -> dict[str, str]:
    is_over = now >= task.ended
    finished = iso(task.ended) if is_over else ""
    if is_over and key_of("minute", task.task_id) % 8 == 0:
        # The service's own samples leave the seconds out now and then.
        finished = finished[:16] + "Z"
    return wire_record(
        DiagnosticRecord,
        diag_id=task.task_id,
        cluster_id=task.cluster_id,
        cluster_name=f"lingjun-{task.cluster_id[-2:]}" if task.cluster_id else "",
        resource_id=",".join(task.node_ids),
        server_name="",
        diag_content=task.kind,
        diag_result=("Fault" if task.faulty else "Success") if is_over else "",
        status=task.state(now).lower(),
        creation_time=iso(task.created),
        finished_time=finished,
    )
