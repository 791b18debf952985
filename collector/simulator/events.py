"""What happened to services and jobs, and how the two event operations tell it.

The events of a service in a minute, and all events of a job, are pure functions of (seed, scope,
time). Only storms are state: they are put in by a test.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from collector.catalogue.products.eas import DescribeServiceEventAnswer, ServiceEvent
from collector.catalogue.products.pai_dlc import GetJobEventsAnswer
from collector.simulator.account import Account, Job, Service
from collector.simulator.drift import drift_event, drift_event_text, event_shape
from collector.simulator.faults import NOTHING, FaultKind, Fired
from collector.simulator.hashing import key_of, mix
from collector.simulator.paging import Page, by_number, civil, disordered, fields_of, shown_total, time_range
from collector.simulator.requests import not_found
from collector.simulator.syslogs import Bounds
from collector.simulator.wire import wire_record
from collector.units import DAY_SECONDS

RANGE_SECONDS = 7 * DAY_SECONDS
"""How long a range is whose start is not given."""
RANGE_SECONDS_MAX = 92 * DAY_SECONDS
DELAY_SECONDS = (1, 9)
"""An event can be read this long after it happened."""
JOB_EVENTS_DEFAULT = 2000
"""Events that `GetJobEvents` gives where it is not told how many."""
_SERVICE_MINUTES = 10
"""Of so many minutes of a service one has an event."""
_JOB_BEAT_SECONDS = 600
"""So often a pod of a running job says something."""
_STORM_SEQUENCE = 1_000_000
"""Events of a storm stand behind all others of their second."""

_SERVICE_EVENTS = (
    ("Normal", "InstanceScheduled", "Instance {instance} is assigned to a machine"),
    ("Normal", "InstancePulled", "Container image is present on the machine"),
    ("Normal", "InstanceStarted", "Started container worker"),
    ("Normal", "ServiceScaled", 'Scaled to {number} instances by policy "qps"'),
    ("Warning", "InstanceUnhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 503"),
    ("Warning", "InstanceBackOff", "Back-off restarting failed container, 第{number}次"),
    ("Warning", "FailedScheduling", "0/{number} machines are available: Insufficient nvidia.com/gpu."),
)
_POD_EVENTS = (
    "Checkpoint saved by {pod}: /mnt/ckpt/step-{number}",
    "Liveness of {pod} confirmed",
    "NCCL watchdog of {pod}: collective took {number} ms",
    'Restarted container "main" of {pod} (exit code {number})',
)


class Event(NamedTuple):
    """One event. `(time, sequence)` is unique in its scope."""

    time: int
    """UNIX seconds."""
    sequence: int
    visible_at: int
    """The second from which the service returns it."""
    instance: str
    """The instance of a service that it is about, empty for an event of a job."""
    wire: Any
    """An object for a service, a text for a job."""


class EventLog:
    """All events of the account's services and jobs."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self._storms: dict[str, dict[int, int]] = {}
        # A long job is asked for again and again, and its past can never change.
        self._of_job = lru_cache(maxsize=64)(_job_events)

    def service_events(self, service_id: str, start: float, end: float) -> list[Event]:
        """Those with `start <= time < end`, oldest first. KeyError for a service that does not exist."""
        service = self.account.services[service_id]
        events = [
            event
            for minute in range(math.floor(start) // 60, math.floor(end) // 60 + 1)
            for event in _service_minute(service, minute)
        ]
        return self._with_storms(service_id, events, start, end)

    def job_events(self, job_id: str, start: float, end: float) -> list[Event]:
        """Those with `start <= time < end`, oldest first. KeyError for an id that is none."""
        return self._with_storms(job_id, self._of_job(self.account.job(job_id)), start, end)

    def storm(self, scope_id: str, second: int, count: int) -> None:
        """Let `count` more events happen to a service or job in one second; of eight, two are equal.

        KeyError for a service or job that does not exist.
        """
        if scope_id not in self.account.services:
            self.account.job(scope_id)
        storms = self._storms.setdefault(scope_id, {})
        storms[second] = storms.get(second, 0) + count

    def told(self, scope_id: str, event: Event, fired: Fired) -> Any:
        """An event as it is sent: in another shape where a fault says so."""
        drift = fired.bend(FaultKind.TYPE_DRIFT)
        if drift is None:
            return event.wire
        is_text = isinstance(event.wire, str)
        shape = event_shape(
            scope_id, event.time, event.sequence, drift.shapes, drift.share, self.account.seed, is_text=is_text
        )
        return drift_event_text(event.wire, shape) if is_text else drift_event(event.wire, shape)

    def _with_storms(self, scope_id: str, events: list[Event], start: float, end: float) -> list[Event]:
        found = [event for event in events if start <= event.time < end]
        for second, count in self._storms.get(scope_id, {}).items():
            if start <= second < end:
                found += self._storm(scope_id, second, count)
        return sorted(found, key=lambda event: event[:2])

    def _storm(self, scope_id: str, second: int, count: int) -> Iterator[Event]:
        service = self.account.services.get(scope_id)
        visible_at = second + DELAY_SECONDS[0] + key_of("storm", scope_id, second) % DELAY_SECONDS[1]
        for place in range(count):
            # The eighth of a row is the seventh once more.
            text = f"Back-off {place - (place % 8 == 7)} restarting failed container"
            if service is None:
                wire: Any = f"{civil(second)} {text}"
            else:
                wire = _service_wire(second, "Warning", "InstanceBackOff", text, "")
            yield Event(second, _STORM_SEQUENCE + place, visible_at, "", wire)


def _after(end: float, bounds: Bounds) -> int:
    """The first second behind a range."""
    return math.floor(end) + 1 if bounds == "closed" else math.ceil(end)


def _visible(events: list[Event], now: float) -> list[Event]:
    return [event for event in events if event.visible_at <= now]


def _service_minute(service: Service, minute: int) -> Iterator[Event]:
    h = key_of("event", service.key, minute)
    if h % _SERVICE_MINUTES:
        return
    second = minute * 60 + (h >> 8) % 60
    visible_at = second + DELAY_SECONDS[0] + (h >> 16) % DELAY_SECONDS[1]
    # One in four is said twice: a second event of the same words in the same second is a second event.
    for sequence in range(2 if h >> 20 & 3 == 0 else 1):
        kind, reason, text = _SERVICE_EVENTS[(h >> 24) % len(_SERVICE_EVENTS)]
        instance = f"{service.name}-{service.key % 16**6:06x}-{(h >> 32) % 3}"
        text = text.format(instance=instance, number=2 + (h >> 40) % 30)
        yield Event(second, sequence, visible_at, instance, _service_wire(second, kind, reason, text, instance))


def _service_wire(second: int, kind: str, reason: str, text: str, instance: str) -> dict[str, str]:
    message = msgspec.json.encode({"Instance": instance, "Text": text}).decode()
    return wire_record(
        ServiceEvent,
        type=kind,
        reason=reason,
        message=message,
        time=civil(second),
    )


def _job_events(job: Job) -> list[Event]:
    said: list[tuple[int, str]] = [(job.created, f"Job {job.job_id} is created"), (job.created + 1, "Job is queued")]
    for pod in job.pod_ids:
        said += [
            (job.started, f"Created pod: {pod}"),
            (job.started + 1, f"Successfully assigned {pod} to a node"),
            # Two containers of one image: the same words twice in one second.
            (job.started + 2, f'{pod}: Pulling image "registry/pytorch:2.6"'),
            (job.started + 2, f'{pod}: Pulling image "registry/pytorch:2.6"'),
            (job.started + 5, f"{pod}: Started container"),
        ]
    for beat in range(1, (job.finished - job.started) // _JOB_BEAT_SECONDS):
        h = mix(job.key + beat)
        pod = job.pod_ids[h % job.pod_count]
        text = _POD_EVENTS[(h >> 8) % len(_POD_EVENTS)].format(pod=pod, number=(h >> 16) % 9000)
        said.append((job.started + beat * _JOB_BEAT_SECONDS + (h >> 32) % 300, text))
    said += [(job.finished, f"Deleted pod: {pod}") for pod in job.pod_ids]
    said.append((job.finished + 1, f"Job {job.job_id} is {job.outcome.lower()}"))
    said.sort(key=lambda one: one[0])
    return [_job_event(job, place, second, text) for place, (second, text) in enumerate(said)]


def _job_event(job: Job, place: int, second: int, text: str) -> Event:
    # The same delay for all of a second: the service reads them together.
    visible_at = second + DELAY_SECONDS[0] + key_of("delay", job.key, second) % DELAY_SECONDS[1]
    return Event(second, place, visible_at, "", f"{civil(second)} {text}")


@dataclass(slots=True)
class ServiceEventListing:
    """Answers `DescribeServiceEvent`: newest first."""

    log: EventLog
    bounds: Bounds = "closed"
    """Whether `EndTime` belongs to the range. The services do not say, so a client has to live with both."""

    def page(self, parameters: Mapping[str, Any], now: float, fired: Fired = NOTHING, ordinal: int = 0) -> Page:
        """One page at time `now`. Raises Refusal for a service that does not exist."""
        service_id = f"{parameters.get('ClusterId', '')}/{parameters.get('ServiceName', '')}"
        if service_id not in self.log.account.services:
            raise not_found("ServiceName", str(parameters.get("ServiceName", "")))
        start, end = time_range(parameters, now, RANGE_SECONDS, RANGE_SECONDS_MAX)
        events = _visible(self.log.service_events(service_id, start, _after(end, self.bounds)), now)
        if kind := parameters.get("EventType"):
            events = [event for event in events if event.wire["Type"].casefold() == str(kind).casefold()]
        if instance := parameters.get("InstanceName"):
            events = [event for event in events if event.instance == instance]
        seed = self.log.account.seed
        numbered = by_number(disordered(events[::-1], fired, seed), parameters, 100, "PageNum")
        wires = [self.log.told(service_id, event, fired) for event in numbered.records]
        answer = wire_record(
            DescribeServiceEventAnswer,
            events=wires,
            page_num=numbered.number,
            total_count=shown_total(numbered.total, fired, ordinal, numbered.passed),
            total_page_num=numbered.page_count,
        )
        return Page(fields_of(answer), len(wires))


@dataclass(slots=True)
class JobEventListing:
    """Answers `GetJobEvents`: oldest first; what is too much is left out at the newer end."""

    log: EventLog
    bounds: Bounds = "closed"
    """As of `ServiceEventListing`."""

    def page(self, parameters: Mapping[str, Any], now: float, fired: Fired = NOTHING, ordinal: int = 0) -> Page:
        """The whole answer at time `now`. Raises Refusal for a job that does not exist, or not yet."""
        job_id = str(parameters.get("JobId", ""))
        try:
            job = self.log.account.job(job_id)
        except KeyError:
            raise not_found("JobId", job_id) from None
        if job.created > now:
            raise not_found("JobId", job_id)
        start, end = time_range(parameters, now, RANGE_SECONDS, RANGE_SECONDS_MAX)
        events = _visible(self.log.job_events(job_id, start, _after(end, self.bounds)), now)
        seed = self.log.account.seed
        events = disordered(events[: int(parameters.get("MaxEventsNum") or JOB_EVENTS_DEFAULT)], fired, seed)
        texts = [self.log.told(job_id, event, fired) for event in events]
        return Page(
            fields_of(
                wire_record(
                    GetJobEventsAnswer,
                    job_id=job_id,
                    events=texts,
                )
            ),
            len(texts),
        )
