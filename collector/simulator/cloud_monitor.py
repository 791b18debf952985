"""CloudMonitor: namespaces, their metrics, and points of all series of a metric.

A point belongs to the period `[time, time + period)` and is shown once its period has ended as of the lag of what was
measured. Its average is the value that the older operations give for the same step. Changes that a test puts in are
the only state.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from collector.catalogue.products.pai_dlc import METRIC_TYPES
from collector.simulator.drift import drift_object, object_shape
from collector.simulator.faults import NOTHING, FaultKind, Fired
from collector.simulator.paging import (
    Numbered,
    Page,
    TokenMint,
    TokenPages,
    by_number,
    disordered,
    fields_of,
    matching,
    moment,
    shown_total,
)
from collector.simulator.records import owner_id
from collector.simulator.requests import Refusal, invalid_parameter, missing_parameter, not_found
from collector.simulator.series import NODE_METRICS, Measurements, Series, series_of_group
from collector.units import DAY_SECONDS

Dimensions = Mapping[str, str]
Point = dict[str, Any]

PERIODS: Final = (60, 300, 900, 3600)
STATISTICS: Final = ("Average", "Minimum", "Maximum")
RANGE_SECONDS: Final = 3600
"""How long a range is whose start is not given."""
RANGE_SECONDS_MAX: Final = 31 * DAY_SECONDS
STORED_SECONDS: Final = {60: 31 * DAY_SECONDS}
STORED_LONG_SECONDS: Final = 91 * DAY_SECONDS
"""How long points are stored from a period of 300 seconds up."""
JOB_SECONDS_MAX: Final = 14 * DAY_SECONDS
SPREAD: Final = 0.1
"""Minimum and maximum are this part of the average below and above it."""
USAGE_FIELDS: Final = ("RequestGPU", "RequestCPU", "RequestMemory", "GPUUsageRate", "CPUUsageRate", "MemoryUsageRate")
USAGE_STEP: Final = "5m"
SERVICE_METRICS: Final = ("Qps", "GpuUtilization")
_PAGE_SIZE: Final = 30
_LISTS_KEPT: Final = 4

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric of a namespace. `source` is the older operation's word for the same measure."""

    namespace: str
    name: str
    source: str
    dimensions: tuple[str, ...]
    unit: str = "%"


def _metrics(
    namespace: str, sources: Sequence[str], dimensions: str, units: Callable[[str], str] = lambda _: "%"
) -> list[Metric]:
    names = ("userId", *dimensions.split(","))
    return [Metric(namespace, _upper(source), source, names, units(source)) for source in sources]


def _upper(name: str) -> str:
    """`GpuCoreUsage` as CloudMonitor spells names: `GPU_CORE_USAGE`."""
    words = ""
    for index, letter in enumerate(name):
        before, after = name[index - 1 : index], name[index + 1 : index + 2]
        words += "_" if letter.isupper() and index and (before.islower() or after.islower()) else ""
        words += letter.upper()
    return words


def _unit(source: str) -> str:
    if source == "Qps":
        return "1/s"
    if source.startswith("Request"):
        return {"RequestMemory": "KB"}.get(source, "count")
    return "MB/s" if source.startswith(("Disk", "Network")) else "%"


NAMESPACES: Final[Mapping[str, tuple[str, str]]] = {
    "acs_ecs_dashboard": ("Elastic Compute Service", "ECS"),
    "acs_slb_dashboard": ("Server Load Balancer", "SLB"),
    "acs_pai_dlc": ("PAI training jobs", "pai_dlc"),
    "acs_pai_dsw": ("PAI notebooks", "pai_dsw"),
    "acs_pai_eas": ("PAI services", "pai_eas"),
    "acs_pai_quota": ("PAI resource quotas, by node", "pai_quota"),
    "acs_pai_user": ("PAI resource quotas, by user", "pai_quota"),
    "acs_pai_new": ("PAI, announced", "pai_new"),
}
"""Namespace -> what it is about, and its product. The last one has no metric yet."""

METRICS: Final[Sequence[Metric]] = (
    Metric("acs_ecs_dashboard", "CPUUtilization", "CPUUtilization", ("userId", "instanceId")),
    *_metrics("acs_pai_dlc", METRIC_TYPES, "regionId,jobId,podId", _unit),
    *_metrics("acs_pai_dsw", METRIC_TYPES, "regionId,instanceId,podId", _unit),
    *_metrics("acs_pai_eas", SERVICE_METRICS, "regionId,service,instance", _unit),
    *_metrics("acs_pai_quota", NODE_METRICS, "regionId,quotaId,nodeId,gpuType", _unit),
    *_metrics("acs_pai_user", USAGE_FIELDS, "quotaId,subUserId,jobType", _unit),
)


@dataclass(frozen=True, slots=True)
class _Asked:
    metric: Metric
    first: int
    last: int
    """Times of the first and the last period, seconds."""
    period_seconds: int
    wanted: tuple[Dimensions, ...]
    """Only series that have one of these; all if it is empty."""


class CloudMonitor:
    """All that CloudMonitor shows of the account."""

    def __init__(self, measurements: Measurements) -> None:
        self.measurements = measurements
        self.account = measurements.account
        self.user_id = owner_id(self.account.seed)
        self.calls_max: int | None = None
        """Queries that are free, where pay-as-you-go is off; None for any number."""
        self.calls = 0
        self._metrics = {(metric.namespace, metric.name): metric for metric in METRICS}
        self._added: dict[tuple[str, str], list[Dimensions]] = {}
        self._dimensions: dict[str, dict[str, str]] = {}
        self._lists: dict[tuple[_Asked, int], list[Point]] = {}

    def metrics(self, namespace: str = "") -> list[Metric]:
        """The metrics of a namespace, of all of them if it is empty."""
        return [metric for metric in self._metrics.values() if namespace in ("", metric.namespace)]

    def metric(self, namespace: str, name: str) -> Metric:
        """One metric. KeyError if it does not exist."""
        return self._metrics[namespace, name]

    def add(self, metric: Metric) -> None:
        """Let a metric be listed that has the series of `add_series` alone."""
        self._metrics[metric.namespace, metric.name] = metric

    def remove(self, namespace: str, name: str) -> None:
        """Let a metric be no longer listed. KeyError if it does not exist."""
        del self._metrics[namespace, name]

    def add_series(self, namespace: str, name: str, dimensions: Sequence[Dimensions]) -> None:
        """Let a metric have further series, each of these dimensions."""
        self._added.setdefault((namespace, name), []).extend(dimensions)
        self._lists.clear()

    def add_dimension(self, namespace: str, name: str, value: str) -> None:
        """Let every point of a namespace have a dimension that its metrics do not list."""
        self._dimensions.setdefault(namespace, {})[name] = value
        self._lists.clear()

    def truth(self, namespace: str, name: str, start: int, end: int, period_seconds: int) -> list[Point]:
        """Every point in `start <= time < end` with its final values, by time. KeyError for an unknown metric."""
        first = math.ceil(start / period_seconds) * period_seconds
        last = math.ceil(end / period_seconds) * period_seconds - period_seconds
        asked = _Asked(self.metric(namespace, name), first, last, period_seconds, ())
        return list(self._points(asked, lambda entity, time: True))

    def page_of_points(
        self, parameters: Mapping[str, Any], start: float, end: float, now: float, **defaults: str
    ) -> tuple[_Asked, Callable[[float], list[Point]]]:
        """What a request means, and how to read its points as of a second. Times are in seconds.

        Raises Refusal for a metric that does not exist, and a range or period that it does not take.
        """
        namespace = str(parameters.get("Namespace") or defaults.get("namespace", ""))
        name = str(parameters.get("MetricName") or "")
        if not name:
            raise missing_parameter("MetricName")
        metric = self._metrics.get((namespace, name))
        if metric is None:
            raise not_found("MetricName", f"{namespace}/{name}")
        period = int(parameters.get("Period") or PERIODS[0])
        if period not in PERIODS:
            raise invalid_parameter("Period", f"one of {', '.join(map(str, PERIODS))} is expected")
        if start >= end:
            raise invalid_parameter("StartTime", "it is not before EndTime")
        if end - start > RANGE_SECONDS_MAX:
            raise invalid_parameter("StartTime", "the range is longer than 31 days")
        start = max(start, now - STORED_SECONDS.get(period, STORED_LONG_SECONDS))
        # The range is open at its start and closed at its end.
        first = (math.floor(start / period) + 1) * period
        asked = _Asked(metric, first, math.floor(end / period) * period, period, _dimensions_of(parameters))
        return asked, lambda second: self._seen(asked, second)

    def count_query(self) -> None:
        """Count a query of points. Raises Refusal where the free ones are used up."""
        self.calls += 1
        if self.calls_max is not None and self.calls > self.calls_max:
            raise Refusal(400, "Throttling.User", "user api quota limit")

    def _seen(self, asked: _Asked, second: float) -> list[Point]:
        key = (asked, int(second))
        if key not in self._lists:
            if len(self._lists) >= _LISTS_KEPT:
                self._lists.clear()

            def is_shown(entity: str, time: int) -> bool:
                return second - self.measurements.lag_seconds(entity) >= time + asked.period_seconds

            self._lists[key] = list(self._points(asked, is_shown))
        return self._lists[key]

    def _points(self, asked: _Asked, is_shown: Callable[[str, int], bool]) -> Iterator[Point]:
        metric, extra = asked.metric, self._dimensions.get(asked.metric.namespace, {})
        for time in range(asked.first, asked.last + 1, asked.period_seconds):
            for entity, dimensions, value in self._values(metric, time, asked.period_seconds):
                full = {"userId": self.user_id, **dimensions, **extra}
                if asked.wanted and not any(wanted.items() <= full.items() for wanted in asked.wanted):
                    continue
                if is_shown(entity, time):
                    low, high = round(value * (1 - SPREAD), 2), round(value * (1 + SPREAD), 2)
                    yield {
                        "timestamp": time * 1000, **full, "Average": value, "Minimum": low, "Maximum": high,
                    }  # fmt: skip

    def _values(self, metric: Metric, time: int, period: int) -> Iterator[tuple[str, Dimensions, float]]:
        """What was measured, its dimensions and the average, of every series that has a point then."""
        value = self.measurements.value
        region = {"regionId": self.account.region}
        for place, dimensions in enumerate(self._added.get((metric.namespace, metric.name), ())):
            entity = dimensions.get("podId") or f"added-{place}"
            yield entity, dimensions, value("added", entity, metric.source, "", time, period)
        match metric.namespace:
            case "acs_pai_dlc":
                for job in self.account.jobs_between(time - JOB_SECONDS_MAX, time + period):
                    if job.started // period * period <= time < job.finished:
                        for pod in job.pod_ids:
                            average = value(job.job_id, pod, metric.source, "", time, period)
                            yield pod, {**region, "jobId": job.job_id, "podId": pod}, average
            case "acs_pai_dsw":
                for instance in self.account.instances.values():
                    for pod in instance.pod_ids if instance.is_running(time) else ():
                        average = value(instance.instance_id, pod, metric.source, "", time, period)
                        yield pod, {**region, "instanceId": instance.instance_id, "podId": pod}, average
            case "acs_pai_eas":
                for service in self.account.services.values():
                    for number in range(service.instances_running(time)):
                        pod = f"{service.name}-{number}"
                        average = value(service.scope_id, pod, metric.source, "", time, period)
                        yield pod, {**region, "service": service.name, "instance": pod}, average
            case "acs_pai_quota":
                for group in self.account.world.groups:
                    for series in series_of_group(group, metric.source):
                        average = value(group.group_id, *_key(series, metric), time, period)
                        gpu = {"gpuType": series.gpu_type} if series.gpu_type else {}
                        dimensions = {**region, "quotaId": group.group_id, "nodeId": series.entity, **gpu}
                        yield series.entity, dimensions, average
            case "acs_pai_user":
                yield from self._usage(metric, time)

    def _usage(self, metric: Metric, time: int) -> Iterator[tuple[str, Dimensions, float]]:
        for group_id in self.account.group_ids:
            for user in self.account.world.snapshot(group_id, time, time_step=USAGE_STEP)["UserMetrics"]:
                dimensions = {"quotaId": group_id, "subUserId": user["UserId"], "jobType": user["JobType"]}
                yield user["UserId"], dimensions, float(user[metric.source])


def _key(series: Series, metric: Metric) -> tuple[str, str, str]:
    return series.entity, metric.source, series.gpu_type


def _dimensions_of(parameters: Mapping[str, Any]) -> tuple[Dimensions, ...]:
    text = str(parameters.get("Dimensions") or "")
    if not text:
        return ()
    try:
        given = msgspec.json.decode(text)
    except msgspec.DecodeError:
        raise invalid_parameter("Dimensions", "JSON is expected") from None
    wanted = given if isinstance(given, list) else [given]
    if not all(isinstance(one, dict) and all(isinstance(v, str) for v in one.values()) for one in wanted):
        raise invalid_parameter("Dimensions", "objects whose values are texts are expected")
    return tuple(_Frozen(one) for one in wanted)


class _Frozen(dict[str, str]):
    def __hash__(self) -> int:  # type: ignore[override]
        return hash(tuple(sorted(self.items())))


def _milliseconds(parameters: Mapping[str, Any], name: str) -> float | None:
    text = str(parameters.get(name) or "")
    if not text:
        return None
    if text.isdecimal():
        return int(text) / 1000
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


_ENVELOPE: Final = {"Code": "200", "Success": True, "Message": ""}


@dataclass(slots=True)
class _Points:
    """What the three listings of points share."""

    cloud: CloudMonitor
    mint: TokenMint
    key: str
    """Under which the points are in the answer."""
    _pages: TokenPages = field(init=False)

    def __post_init__(self) -> None:
        self._pages = TokenPages(self.mint, self.key)

    def _page(
        self, parameters: Mapping[str, Any], asked: _Asked, read: Callable[[float], list[Point]], size: int,
        now: float, fired: Fired, ordinal: int,
    ) -> Page:  # fmt: skip
        seed = self.cloud.account.seed

        def dressed(second: float) -> list[Any]:
            points: list[Any] = read(second)
            if (drift := fired.bend(FaultKind.TYPE_DRIFT)) is None:
                return points
            shapes = [object_shape(f"{_encode(point)!r}", drift.shapes, drift.share, seed) for point in points]
            return [drift_object(point, "timestamp", shape) for point, shape in zip(points, shapes, strict=True)]

        beside = {**_ENVELOPE, "Period": str(asked.period_seconds)}
        return self._pages.page(dressed, size, parameters, now, fired, ordinal, **beside)


@dataclass(slots=True)
class MetricListListing(_Points):
    """Answers `DescribeMetricList`."""

    def page(self, parameters: Mapping[str, Any], now: float, fired: Fired = NOTHING, ordinal: int = 0) -> Page:
        """One page at time `now`. Raises Refusal for an unknown metric, a wrong range, and a pot that is used up."""
        self.cloud.count_query()
        end = _milliseconds(parameters, "EndTime")
        end = now if end is None else end
        start = _milliseconds(parameters, "StartTime")
        start = end - RANGE_SECONDS if start is None else start
        asked, read = self.cloud.page_of_points(parameters, start, end, now)
        size = int(parameters.get("Length") or 1440)
        return self._page(parameters, asked, read, size, now, fired, ordinal)


@dataclass(slots=True)
class ProductMetricsListing(_Points):
    """Answers `GetMetrics` of pai-dlc and pai-dsw: the points of one job or notebook."""

    namespace: str = ""
    scope: str = ""
    """Parameter that names the job or notebook."""
    dimension: str = ""
    """Dimension that holds it."""

    def page(self, parameters: Mapping[str, Any], now: float, fired: Fired = NOTHING, ordinal: int = 0) -> Page:
        """One page at time `now`. Raises Refusal for an unknown metric and a wrong range."""
        end = moment(parameters, "EndTime")
        end = now if end is None else end
        start = moment(parameters, "StartTime")
        start = end - RANGE_SECONDS if start is None else start
        if scope_id := parameters.get(self.scope):
            dimensions = [{**one, self.dimension: str(scope_id)} for one in _dimensions_of(parameters) or ({},)]
            parameters = {**parameters, "Dimensions": _encode(dimensions).decode()}
        asked, read = self.cloud.page_of_points(parameters, start, end, now, namespace=self.namespace)
        size = int(parameters.get("Length") or 1000)
        return self._page(parameters, asked, read, size, now, fired, ordinal)


@dataclass(slots=True)
class MetricMetaListing:
    """Answers `DescribeMetricMetaList`. The total is a text."""

    cloud: CloudMonitor

    def records(self, namespace: str = "") -> list[dict[str, Any]]:
        """The metrics of a namespace, of all of them if it is empty."""
        return [
            {
                "Namespace": metric.namespace,
                "MetricName": metric.name,
                "Description": metric.name.lower().replace("_", " "),
                "Unit": metric.unit,
                "Periods": ",".join(map(str, PERIODS)),
                "Statistics": ",".join(STATISTICS),
                "Dimensions": ",".join(metric.dimensions),
                "Labels": '[{"name":"metricCategory","value":"instance"}]',
            }
            for metric in self.cloud.metrics(namespace)
        ]

    def page(self, parameters: Mapping[str, Any], now: float, fired: Fired = NOTHING, ordinal: int = 0) -> Page:
        """One page; a namespace that has no metric, or that does not exist, has an empty one."""
        found = matching(self.records(), parameters, Namespace="Namespace", MetricName="MetricName")
        seed = self.cloud.account.seed
        numbered = by_number(disordered(found, fired, seed), parameters, _PAGE_SIZE)
        total = {"TotalCount": str(shown_total(numbered.total, fired, ordinal, numbered.passed))}
        return _numbered(numbered, "MetricName", fired, seed, total)


@dataclass(slots=True)
class NamespaceListing:
    """Answers `DescribeProjectMeta`. All numbers are texts."""

    cloud: CloudMonitor

    def records(self) -> list[dict[str, Any]]:
        """Every namespace."""
        return [
            {
                "Namespace": namespace,
                "Description": description,
                "Labels": f'[{{"name":"product","value":"{product}"}}]',
            }
            for namespace, (description, product) in NAMESPACES.items()
        ]

    def page(self, parameters: Mapping[str, Any], now: float, fired: Fired = NOTHING, ordinal: int = 0) -> Page:
        """One page."""
        seed = self.cloud.account.seed
        numbered = by_number(disordered(self.records(), fired, seed), parameters, _PAGE_SIZE)
        beside = {
            "PageNumber": str(numbered.number),
            "PageSize": str(numbered.size),
            "Total": str(shown_total(numbered.total, fired, ordinal, numbered.passed)),
        }
        return _numbered(numbered, "Namespace", fired, seed, beside)


def _numbered(numbered: Numbered, id_field: str, fired: Fired, seed: int, beside: Mapping[str, str]) -> Page:
    records: list[Any] = numbered.records
    if (drift := fired.bend(FaultKind.TYPE_DRIFT)) is not None:
        shaped = [(one, object_shape(one[id_field], drift.shapes, drift.share, seed)) for one in records]
        records = [drift_object(one, id_field, shape) for one, shape in shaped]
    return Page(fields_of({**_ENVELOPE, "Resources": records, **beside}), len(records))
