"""The simulated account: what stands beside the world's nodes and groups, and how it all hangs together.

Nodes belong to clusters, jobs and notebooks to resource groups, services to serving resources. All
of it is a pure function of (seed, second), so the truth of any moment is known without having been
written down. Only absences are state: they are put in by a test.

A job slot has one job in each period, always at the same phase, so a trailing period holds exactly
one job of each slot. Even slots hold long jobs, which run for most of their period, odd ones short
jobs. Both last differently long each time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from collector.simulator.hashing import key_of
from collector.simulator.nodes import Node
from collector.simulator.world import World
from collector.units import DAY_SECONDS

QUEUE_SECONDS = (20, 180)
"""How long a job waits between its creation and its start."""
SHORT_SECONDS = (1200, 6 * 3600)
LONG_SHARE = (0.4, 0.95)
"""Long jobs run for this part of their period."""
_CREATING_SECONDS = 5
_OUTCOMES = ("Succeeded",) * 7 + ("Failed",) * 2 + ("Stopped",)
_TYPES = ("PyTorchJob", "TFJob", "MPIJob")


@dataclass(frozen=True, slots=True)
class Job:
    """One job. Its times are UNIX seconds and known beforehand; who asks earlier does not see them."""

    job_id: str
    key: int
    slot: int
    created: int
    started: int
    """It runs in `[started, finished)`."""
    finished: int
    outcome: str
    job_type: str
    pod_count: int

    @property
    def pod_ids(self) -> tuple[str, ...]:
        return tuple(f"{self.job_id}-worker-{place}" for place in range(self.pod_count))

    def status(self, now: float) -> str:
        """As the service shows it at `now`."""
        if now >= self.finished:
            return self.outcome
        if now >= self.started:
            return "Running"
        return "Queuing" if now >= self.created + _CREATING_SECONDS else "Creating"


@dataclass(frozen=True, slots=True)
class Schedule:
    """The jobs of an account: `slot_count` in each `period_seconds`, since the epoch and for ever."""

    seed: int
    slot_count: int
    period_seconds: int

    def __post_init__(self) -> None:
        if not 0 <= self.slot_count <= 256:
            raise ValueError(f"job_count: expected 0 to 256, got {self.slot_count}")
        if self.period_seconds < 3600:
            raise ValueError(f"job_period_seconds: expected at least 3600, got {self.period_seconds}")

    def between(self, start: float, end: float) -> list[Job]:
        """The jobs created in `start <= created < end`, oldest first."""
        jobs = [job for slot in range(self.slot_count) for job in self._of_slot(slot, start, end)]
        return sorted(jobs, key=lambda job: (job.created, job.slot))

    def job(self, job_id: str) -> Job:
        """The job of an id, whenever it is created. KeyError for an id that is none."""
        try:
            slot, cycle = int(job_id[3:5], 16), int(job_id[5:11], 16)
        except ValueError:
            raise KeyError(job_id) from None
        job = self._make(slot, cycle)
        if slot >= self.slot_count or job.job_id != job_id:
            raise KeyError(job_id)
        return job

    def _of_slot(self, slot: int, start: float, end: float) -> Iterator[Job]:
        cycle = max(0, int(start // self.period_seconds) - 1)
        while (job := self._make(slot, cycle)).created < end:
            if job.created >= start:
                yield job
            cycle += 1

    def _make(self, slot: int, cycle: int) -> Job:
        slots = max(1, self.slot_count)
        spacing = self.period_seconds // slots
        phase = slot * spacing + key_of("phase", self.seed, slot) % max(1, spacing // 2)
        h = key_of("job", self.seed, slot, cycle)
        created = cycle * self.period_seconds + phase
        low, high = QUEUE_SECONDS
        started = created + low + h % (high - low)
        low, high = SHORT_SECONDS if slot % 2 else (int(part * self.period_seconds) for part in LONG_SHARE)
        seconds = min(low + (h >> 8) % (high - low), int(0.95 * self.period_seconds) - QUEUE_SECONDS[1])
        return Job(
            job_id=f"dlc{slot:02x}{cycle:06x}{h >> 40:06x}",
            key=h,
            slot=slot,
            created=created,
            started=started,
            finished=started + seconds,
            outcome=_OUTCOMES[(h >> 24) % len(_OUTCOMES)],
            job_type=_TYPES[(h >> 28) % len(_TYPES)],
            pod_count=1 + (h >> 32) % 4,
        )


CANARY = "sim-canary"
"""Part of every secret that a listing shows, so that a test can search for it where it must not be."""

JOBS_SHOWN_SECONDS = 7 * DAY_SECONDS
"""Jobs created this long ago are listed unless a range is given."""

REPAIR_PERIOD_SECONDS = 4 * 3600
REPAIR_SECONDS = 600
_REPAIRED_ONE_IN = 5
_WORKING_HOURS = range(1, 13)
"""UTC, of the notebooks that stand still at night."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """A Lingjun cluster. Its nodes are in two node groups."""

    cluster_id: str
    key: int
    nodes: tuple[Node, ...]

    @property
    def resource_group_id(self) -> str:
        return f"rg-acf{self.key % 16**8:08x}"

    @property
    def node_group_ids(self) -> tuple[str, str]:
        return f"ng-{self.key % 16**6:06x}a", f"ng-{self.key % 16**6:06x}b"

    def node_group_id(self, node: Node) -> str:
        return self.node_group_ids[node.key & 1]


@dataclass(frozen=True, slots=True)
class Instance:
    """A notebook; one that is not always on stands still at night."""

    instance_id: str
    key: int
    name: str
    always_on: bool

    @property
    def pod_ids(self) -> tuple[str, ...]:
        return (f"{self.instance_id}-0",)

    def is_running(self, second: float) -> bool:
        return self.always_on or int(second) // 3600 % 24 in _WORKING_HOURS


@dataclass(frozen=True, slots=True)
class ServingResource:
    """A group of serving machines. Its cluster is the region."""

    cluster_id: str
    resource_id: str
    key: int
    name: str

    @property
    def scope_id(self) -> str:
        return f"{self.cluster_id}/{self.resource_id}"


@dataclass(frozen=True, slots=True)
class Service:
    """A service. Its cluster is the region."""

    cluster_id: str
    name: str
    key: int
    resource_id: str
    """Empty for one on public machines."""

    @property
    def scope_id(self) -> str:
        return f"{self.cluster_id}/{self.name}"

    def instances_running(self, second: float) -> int:
        """It is scaled every six hours."""
        return 1 + key_of("scale", self.key, int(second) // 21_600) % 3


class Account:
    """One account around a world. `seed` is the world's unless told otherwise.

    `job_count` is how many jobs there are in each `job_period_seconds`; with the period of seven
    days exactly so many are listed at any time.
    """

    def __init__(
        self,
        world: World,
        seed: int | None = None,
        job_count: int = 6,
        instance_count: int = 2,
        resource_count: int = 2,
        service_count: int = 3,
        *,
        region: str = "cn-hangzhou",
        job_period_seconds: int = JOBS_SHOWN_SECONDS,
    ) -> None:
        self.world = world
        self.seed = world.seed if seed is None else seed
        self.region = region
        self.clusters = {cluster.cluster_id: cluster for cluster in _clusters(world.nodes, self.seed)}
        self.instances = {made.instance_id: made for made in _instances(self.seed, instance_count)}
        self.resources = {made.scope_id: made for made in _resources(self.seed, region, resource_count)}
        self.services = {
            made.scope_id: made for made in _services(self.seed, region, service_count, list(self.resources.values()))
        }
        self._schedule = Schedule(self.seed, job_count, job_period_seconds)
        # Counted per cluster, so that a cluster of a few nodes has one that is repaired, too.
        self._repaired = {
            node.node_id
            for cluster in self.clusters.values()
            for place, node in enumerate(cluster.nodes)
            if place % _REPAIRED_ONE_IN == 1
        }
        self._absences: dict[str, list[tuple[float, float]]] = {}

    @property
    def cluster_ids(self) -> list[str]:
        return list(self.clusters)

    @property
    def group_ids(self) -> list[str]:
        return self.world.group_ids

    @property
    def instance_ids(self) -> list[str]:
        return list(self.instances)

    @property
    def eas_resource_ids(self) -> list[str]:
        """`cluster_id/resource_id` each."""
        return list(self.resources)

    @property
    def service_ids(self) -> list[str]:
        """`cluster_id/service_name` each."""
        return list(self.services)

    def jobs(self, now: float) -> list[Job]:
        """The jobs created within the last seven days, oldest first."""
        return self._schedule.between(int(now) - JOBS_SHOWN_SECONDS + 1, int(now) + 1)

    def job_ids(self, now: float) -> list[str]:
        return [job.job_id for job in self.jobs(now)]

    def jobs_between(self, start: float, end: float) -> list[Job]:
        """The jobs created in `start <= created < end`, oldest first."""
        return self._schedule.between(start, end)

    def job(self, job_id: str) -> Job:
        """KeyError for an id that is none; a job that is yet to come has one already."""
        return self._schedule.job(job_id)

    def nodes_of(self, cluster_id: str) -> list[str]:
        """KeyError for a cluster that does not exist."""
        return [node.node_id for node in self.clusters[cluster_id].nodes]

    def node_state(self, node_id: str, second: float) -> str:
        """`Using`; of five nodes one is out of use for ten minutes every four hours."""
        if node_id in self._repaired:
            offset = key_of("repair", self.seed, node_id)
            cycle, into = divmod(int(second) + offset % REPAIR_PERIOD_SECONDS, REPAIR_PERIOD_SECONDS)
            if into < REPAIR_SECONDS:
                return "ClusterNodeStopped" if (cycle + offset) & 1 else "Operating"
        return "Using"

    def is_listed(self, node_id: str, second: float) -> bool:
        return not any(start <= second < end for start, end in self._absences.get(node_id, ()))

    def leave(self, node_id: str, start: float, end: float) -> None:
        """Let a node be no part of its cluster in `[start, end)`. KeyError for a node that does not exist."""
        self.world.profile(node_id)
        self._absences.setdefault(node_id, []).append((start, end))

    def secret(self, *parts: object) -> str:
        """A secret of an object of the account, with the canary in it."""
        return f"{CANARY}-{key_of('secret', self.seed, *parts):016x}"


def _clusters(nodes: list[Node], seed: int) -> list[Cluster]:
    members: dict[str, list[Node]] = {}
    for node in nodes:
        members.setdefault(node.cluster_id, []).append(node)
    return [Cluster(name, key_of("cluster", seed, name), tuple(of_it)) for name, of_it in members.items()]


def _instances(seed: int, count: int) -> list[Instance]:
    keys = [key_of("instance", seed, index) for index in range(count)]
    return [
        Instance(f"dsw-sim{index + 1:04d}{key % 16**8:08x}", key, f"notebook-{index + 1}", index % 2 == 0)
        for index, key in enumerate(keys)
    ]


def _resources(seed: int, region: str, count: int) -> list[ServingResource]:
    return [
        ServingResource(
            region, f"eas-r-sim{index + 1:04d}", key_of("eas-resource", seed, index), f"serving-{index + 1}"
        )
        for index in range(count)
    ]


def _services(seed: int, region: str, count: int, resources: list[ServingResource]) -> list[Service]:
    kinds = ("chat", "embed", "rerank")
    return [
        Service(
            region,
            f"sim_{kinds[index % len(kinds)]}_{index + 1:04d}",
            key_of("service", seed, index),
            # The last of them runs on public machines.
            resources[index % len(resources)].resource_id if resources and index < count - 1 else "",
        )
        for index in range(count)
    ]
