"""What machines, pods and notebooks measured, and how the three metric operations tell it.

A point belongs to the step `[time, time + step)`; its final value is a pure function of (seed,
scope, entity, metric, GPU type, time, step). Each entity is read as it was some seconds ago, which
is its lag: steps that had ended then are final, the one that was being filled then is provisional
(and another number), later ones are missing. Lags and corrections that a test puts in are the only
state.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

from collector.catalogue.products.pai_dlc import METRIC_TYPES, GetJobMetricsAnswer, PodMetricPoint, PodSeries
from collector.catalogue.products.pai_studio import GetNodeMetricsAnswer, NodeMetricPoint, NodeSeries
from collector.simulator.account import Account, Job
from collector.simulator.drift import drift_series, series_shape
from collector.simulator.faults import NOTHING, FaultKind, Fired
from collector.simulator.hashing import fraction, key_of, mix
from collector.simulator.inventory import ENVELOPE
from collector.simulator.paging import Page, disordered, fields_of, time_range
from collector.simulator.requests import invalid_parameter, not_found
from collector.simulator.syslogs import Bounds
from collector.simulator.usage import Group, machine_id, parse_time_step
from collector.simulator.wire import wire_record
from collector.units import DAY_SECONDS

NODE_METRICS = ("CpuUsageRate", "GpuUsageRate", "MemoryUsageRate", "DiskReadRate", "DiskWriteRate",
                "NetworkInputRate", "NetworkOutputRate")  # fmt: skip
STEP = "5m"
RANGE_SECONDS = 3600
"""How long a range is whose start is not given."""
POINTS_MAX = 400_000
"""More points than this in one answer are refused."""
LAG_SECONDS = (4, 40)
LAGGARD_SECONDS = 240
"""The lag of one machine of each group; machines of one name in two groups lag alike."""
_RANGE_SECONDS_MAX = 366 * DAY_SECONDS


class Series(NamedTuple):
    """Whose points they are. `gpu_type` is empty for what has none and for the whole of a machine."""

    entity: str
    gpu_type: str = ""


class Measurements:
    """All values of the account's metrics, final and as seen."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self._seed = account.seed
        self._laggards = {machine_id(key_of("laggard", group.key) % group.node_count) for group in account.world.groups}
        self._lag_added: dict[str, float] = {}
        self._revisions: dict[tuple[str, str, str, int], int] = {}

    def value(self, scope: str, entity: str, metric: str, gpu_type: str, time: int, step_seconds: int = 300) -> float:
        """The final value of the step that begins at `time`, UNIX seconds; two decimals, 0 to 100."""
        key = _series_key(self._seed, scope, entity, metric, gpu_type)
        revision = self._revisions.get((scope, entity, metric, time), 0)
        h = mix(key ^ mix(time * 1_000_003 + step_seconds) ^ revision)
        # A level of its own, a wave through the day and some noise: a chart of it looks like one.
        level = 15 + 60 * fraction(key)
        wave = 10 * math.sin(2 * math.pi * (time / DAY_SECONDS + fraction(mix(key))))
        return round(min(100.0, max(0.0, level + wave + 10 * fraction(h) - 5)), 2)

    def seen(
        self, scope: str, entity: str, metric: str, gpu_type: str, time: int, step_seconds: int, now: float
    ) -> float | None:
        """What the service shows of a step at `now`: its final value, a provisional one or nothing yet."""
        read = now - self.lag_seconds(entity)
        if read < time:
            return None
        final = self.value(scope, entity, metric, gpu_type, time, step_seconds)
        if read >= time + step_seconds:
            return final
        part = key_of("provisional", scope, entity, metric, gpu_type, time, int(read)) % 9
        # Never the final value, however the step goes on.
        return round(final * (part + 1) / 20, 2) if final >= 1 else round(final + part + 1, 2)

    def lag_seconds(self, entity: str) -> float:
        """How old the state is in which the service shows an entity."""
        low, high = LAG_SECONDS
        own = LAGGARD_SECONDS if entity in self._laggards else low + _series_key(self._seed, entity) % (high - low)
        return own + self._lag_added.get(entity, 0)

    def add_lag(self, entity: str, seconds: float) -> None:
        """Let an entity be read so much later from now on; less again with a negative number."""
        self._lag_added[entity] = self._lag_added.get(entity, 0) + seconds

    def revise(self, scope: str, entity: str, metric: str, time: int) -> None:
        """Change the final values of the steps that begin at `time`, of every GPU type and step."""
        key = (scope, entity, metric, time)
        self._revisions[key] = self._revisions.get(key, 0) + 1


@lru_cache(maxsize=65_536)
def _series_key(*parts: object) -> int:
    # Asked for with every point; the hash of a few words takes longer than all the rest of it.
    return key_of("series", *parts)


def series_of_group(group: Group, metric: str) -> list[Series]:
    """The series of a resource group. Machines have a GPU type, none, or report as a whole beside it.

    A machine without GPUs has no series of GPU metrics.
    """
    series = []
    for index in range(group.node_count):
        kind, gpu_type = index % 4, "A100" if (group.key >> index % 60) & 1 else "V100"
        if kind != 3:
            series.append(Series(machine_id(index), gpu_type))
        if kind == 1 or (kind == 3 and not metric.startswith("Gpu")):
            series.append(Series(machine_id(index)))
    return series


@dataclass(frozen=True, slots=True)
class _Ask:
    """What a request means: the scope and metric, and the first and last times of steps."""

    scope: str
    metric: str
    first: int
    last: int
    step_seconds: int

    @property
    def times(self) -> range:
        return range(self.first, self.last + 1, self.step_seconds)


def _ask(scope: str, metric: str, parameters: Mapping[str, Any], now: float, bounds: Bounds, series_count: int) -> _Ask:
    start, end = time_range(parameters, now, RANGE_SECONDS, _RANGE_SECONDS_MAX)
    try:
        step_seconds = parse_time_step(str(parameters.get("TimeStep") or STEP))
    except ValueError as error:
        raise invalid_parameter("TimeStep", str(error)) from None
    ask = _asked(scope, metric, start, end, step_seconds, closed=bounds == "closed")
    if len(ask.times) * series_count > POINTS_MAX:
        raise invalid_parameter("StartTime", "the range holds too many points for one answer")
    return ask


def _asked(scope: str, metric: str, start: float, end: float, step_seconds: int, *, closed: bool) -> _Ask:
    first = math.ceil(start / step_seconds) * step_seconds
    last = math.floor(end / step_seconds) * step_seconds
    if not closed and last == end:
        last -= step_seconds
    return _Ask(scope, metric, first, last, step_seconds)


@dataclass(slots=True)
class _Teller:
    """What the three listings share."""

    measurements: Measurements
    bounds: Bounds = "closed"
    """Whether `EndTime` belongs to the range. The services do not say, so a client has to live with both."""
    _seed: int = field(init=False)

    def __post_init__(self) -> None:
        self._seed = self.measurements.account.seed

    def _points(self, ask: _Ask, series: Series, now: float) -> Iterator[tuple[int, float]]:
        for time in ask.times:
            seen = self.measurements.seen(ask.scope, *_key(series, ask.metric), time, ask.step_seconds, now)
            if seen is not None:
                yield time, seen

    def _final(self, ask: _Ask, series: Series) -> dict[int, float]:
        value = self.measurements.value
        return {time: value(ask.scope, *_key(series, ask.metric), time, ask.step_seconds) for time in ask.times}

    def _dressed(self, told: list[dict[str, Any]], scope: str, fired: Fired) -> list[Any]:
        """The series as a fault has them: out of order, in other shapes."""
        for one in told:
            one["Metrics"] = disordered(one["Metrics"], fired, self._seed)
        told = disordered(told, fired, self._seed)
        drift = fired.bend(FaultKind.TYPE_DRIFT)
        if drift is None:
            return told
        shapes = [series_shape(scope, one, drift.shapes, drift.share, self._seed) for one in told]
        return [drift_series(one, shape) for one, shape in zip(told, shapes, strict=True)]


def _key(series: Series, metric: str) -> tuple[str, str, str]:
    return series.entity, metric, series.gpu_type


@dataclass(slots=True)
class NodeMetricsListing(_Teller):
    """Answers `GetNodeMetrics`: values in text, times in seconds, all machines of a resource group."""

    def truth(
        self, group_id: str, metric: str, start: float, end: float, step_seconds: int = 300
    ) -> dict[Series, dict[int, float]]:
        """The final values by series and time in `start <= time < end`. KeyError for an unknown group."""
        ask = _asked(group_id, metric, start, end, step_seconds, closed=False)
        return {series: self._final(ask, series) for series in series_of_group(self._group(group_id), metric)}

    def page(self, parameters: Mapping[str, Any], now: float, fired: Fired = NOTHING, ordinal: int = 0) -> Page:
        """The whole answer at time `now`. Raises Refusal for a group or a metric that there is none."""
        group_id, metric = str(parameters.get("ResourceGroupID", "")), str(parameters.get("MetricType", ""))
        if metric not in NODE_METRICS:
            raise invalid_parameter("MetricType", f"one of {', '.join(NODE_METRICS)} is expected")
        try:
            group = self._group(group_id)
        except KeyError:
            raise not_found("ResourceGroupID", group_id) from None
        all_series: Sequence[Series] = series_of_group(group, metric)
        if gpu_type := parameters.get("GPUType"):
            all_series = [one for one in all_series if one.gpu_type.casefold() == str(gpu_type).casefold()]
        ask = _ask(group_id, metric, parameters, now, self.bounds, len(all_series))
        told: list[dict[str, Any]] = []
        for series in all_series:
            points: list[Any] = [
                wire_record(NodeMetricPoint, time=time, value=f"{value:.2f}")
                for time, value in self._points(ask, series, now)
            ]
            told.append(wire_record(NodeSeries, node_id=series.entity, gpu_type=series.gpu_type, metrics=points))
        rows = sum(len(one["Metrics"]) for one in told)
        answer = wire_record(
            GetNodeMetricsAnswer,
            resource_group_id=group_id,
            metric_type=metric,
            nodes_metrics=self._dressed(told, group_id, fired),
        )
        return Page(fields_of(answer), rows)

    def _group(self, group_id: str) -> Group:
        groups = {group.group_id: group for group in self.measurements.account.world.groups}
        return groups[group_id]


@dataclass(slots=True)
class JobMetricsListing(_Teller):
    """Answers `GetJobMetrics`: numbers, times in milliseconds, all pods of a job while it runs."""

    def truth(
        self, job_id: str, metric: str, start: float, end: float, step_seconds: int = 300
    ) -> dict[Series, dict[int, float]]:
        """The final values by series and time, in seconds, in `start <= time < end`. KeyError for an unknown job."""
        job = self.measurements.account.job(job_id)
        ask = _while_running(job, _asked(job_id, metric, start, end, step_seconds, closed=False))
        return {series: self._final(ask, series) for series in map(Series, job.pod_ids)}

    def page(self, parameters: Mapping[str, Any], now: float, fired: Fired = NOTHING, ordinal: int = 0) -> Page:
        """The whole answer at time `now`. Raises Refusal for a job or a metric that there is none."""
        job_id = str(parameters.get("JobId", ""))
        metric = _metric(parameters)
        try:
            job = self.measurements.account.job(job_id)
        except KeyError:
            raise not_found("JobId", job_id) from None
        if job.created > now:
            raise not_found("JobId", job_id)
        ask = _while_running(job, _ask(job_id, metric, parameters, now, self.bounds, job.pod_count))
        told: list[dict[str, Any]] = []
        for series in map(Series, job.pod_ids):
            points: list[Any] = [
                wire_record(PodMetricPoint, time=time * 1000, value=value)
                for time, value in self._points(ask, series, now)
            ]
            told.append(wire_record(PodSeries, pod_id=series.entity, metrics=points))
        rows = sum(len(one["Metrics"]) for one in told)
        return Page(
            fields_of(
                wire_record(
                    GetJobMetricsAnswer,
                    job_id=job_id,
                    pod_metrics=self._dressed(told, job_id, fired),
                )
            ),
            rows,
        )


@dataclass(slots=True)
class InstanceMetricsListing(_Teller):
    """Answers `GetInstanceMetrics`: numbers, times in seconds, while the notebook runs."""

    def truth(
        self, instance_id: str, metric: str, start: float, end: float, step_seconds: int = 300
    ) -> dict[Series, dict[int, float]]:
        """The final values by series and time in `start <= time < end`. KeyError for an unknown notebook."""
        instance = self.measurements.account.instances[instance_id]
        ask = _asked(instance_id, metric, start, end, step_seconds, closed=False)
        return {
            series: {time: value for time, value in self._final(ask, series).items() if instance.is_running(time)}
            for series in map(Series, instance.pod_ids)
        }

    def page(self, parameters: Mapping[str, Any], now: float, fired: Fired = NOTHING, ordinal: int = 0) -> Page:
        """The whole answer at time `now`. Raises Refusal for a notebook or a metric that there is none."""
        instance_id = str(parameters.get("InstanceId", ""))
        metric = _metric(parameters)
        instance = self.measurements.account.instances.get(instance_id)
        if instance is None:
            raise not_found("InstanceId", instance_id)
        ask = _ask(instance_id, metric, parameters, now, self.bounds, 1)
        told: list[dict[str, Any]] = []
        for series in map(Series, instance.pod_ids):
            points: list[Any] = [
                wire_record(PodMetricPoint, time=time, value=value)
                for time, value in self._points(ask, series, now)
                if instance.is_running(time)
            ]
            told.append(wire_record(PodSeries, pod_id=series.entity, metrics=points))
        rows = sum(len(one["Metrics"]) for one in told)
        answer = {**ENVELOPE, "InstanceId": instance_id, "PodMetrics": self._dressed(told, instance_id, fired)}
        return Page(fields_of(answer), rows)


def _metric(parameters: Mapping[str, Any]) -> str:
    given = str(parameters.get("MetricType", ""))
    known = {metric.casefold(): metric for metric in METRIC_TYPES}
    if given.casefold() not in known:
        raise invalid_parameter("MetricType", f"one of {', '.join(METRIC_TYPES)} is expected")
    return known[given.casefold()]


def _while_running(job: Job, ask: _Ask) -> _Ask:
    """The steps of which at least a part lies within the job's run."""
    step_seconds = ask.step_seconds
    first = max(ask.first, job.started // step_seconds * step_seconds)
    last = min(ask.last, (job.finished - 1) // step_seconds * step_seconds)
    return _Ask(ask.scope, ask.metric, first, last, step_seconds)
