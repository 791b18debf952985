"""Training jobs: when each is created, runs and ends, as a function of its place in a schedule.

A job slot has one job in each period, always at the same phase, so a trailing period holds exactly
one job of each slot. Even slots hold long jobs, which run for most of their period, odd ones short
jobs. Both last differently long each time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from collector.simulator.hashing import key_of

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
