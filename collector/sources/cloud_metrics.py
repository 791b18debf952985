"""Series of CloudMonitor: Cms `DescribeMetricList`, one stream a metric and period, all its series in its pages.

What there is of namespaces, metrics, periods and dimensions is asked for and never assumed. A point is a row for each
statistic. What its dimensions name goes to the columns that all series have; all of them are in `dimensions`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any, Final

from collector.catalogue.answers import Answer
from collector.catalogue.products.cms import DESCRIBE_METRIC_LIST, POINTS_MAX, STATISTICS, DescribeMetricListAnswer
from collector.catalogue.products.pai_dlc import METRIC_TYPES
from collector.model import StreamKey, Window
from collector.sources.fields import ordered_json, text_of
from collector.sources.moments import read_moment
from collector.sources.normalise import EXTRA_NONE, Field, Kind, unusable, values
from collector.sources.page import PageRows
from collector.sources.tables import METRIC_POINTS, Row

_PERCENTILE: Final = re.compile(r"p\d{1,3}(?:[._]\d+)?", re.IGNORECASE)
_KNOWN_STATISTICS: Final = {name.lower() for name in STATISTICS}

MEASURES: Final = (
    *METRIC_TYPES,
    "CpuUsageRate", "GpuUsageRate", "MemoryUsageRate",
    "RequestGPU", "RequestCPU", "RequestMemory",
)  # fmt: skip
"""Words of the older operations. A metric whose name has the same letters is the same measure."""

# Names of dimensions, without case and separators, that a column is filled from: the first that a point has.
JOB: Final = ("jobid", "dlcjobid", "job", "jobname")
INSTANCE: Final = ("instanceid", "dswinstanceid", "notebookid")
SERVICE: Final = ("service", "serviceid", "servicename")
QUOTA: Final = ("quotaid", "resourcequotaid", "quota", "resourcegroupid", "resourceid")
POD: Final = ("pod", "podid", "podname", "instance", "instancename", "workerid")
NODE: Final = ("nodeid", "node", "nodename", "hostname", "host")
USER: Final = ("subuserid", "ramuserid", "submitterid", "creatorid")
GPU_TYPE: Final = ("gputype", "gpumodel")
SCOPES: Final = (*JOB, *SERVICE, *QUOTA, *INSTANCE)
ENTITIES: Final = (*POD, *NODE, *USER, *INSTANCE)

_VALUE: Sequence[Field] = (Field("", Kind.NUMBER),)


@dataclass(frozen=True, slots=True)
class Series:
    """What a stream is about, as its scope names it."""

    namespace: str
    metric: str
    period_seconds: int

    @classmethod
    def of(cls, scope_id: str) -> Series:
        """The series of a scope such as `acs_pai_dlc/GPU_UTIL/60`. Raises ValueError."""
        namespace, _, rest = scope_id.partition("/")
        metric, _, period = rest.rpartition("/")
        if not (namespace and metric and period.isdecimal()):
            raise ValueError(f"{scope_id}: expected NAMESPACE/METRIC/PERIOD such as acs_pai_dlc/GPU_UTIL/60")
        return cls(namespace, metric, int(period))

    def __str__(self) -> str:
        return f"{self.namespace}/{self.metric}/{self.period_seconds}"


def folded(name: str) -> str:
    """A name without case and separators."""
    return re.sub(r"[\W_]", "", name).lower()


_MEASURES: Final[Mapping[str, str]] = {folded(name): name for name in MEASURES}


class CloudMetricsSource:
    """What to ask for a window of a metric, and how its points become rows of `metric_points`."""

    name = "cloud_metrics"
    operation = DESCRIBE_METRIC_LIST
    tables = (METRIC_POINTS,)
    pages_of_window = 0

    def __init__(self, statistics: Sequence[str], measures: Mapping[str, str] | None = None) -> None:
        """`statistics` are stored of each point; `measures` says what a metric (`NAMESPACE/METRIC`) measures."""
        self._statistics = tuple(dict.fromkeys(statistics))
        self._measures = measures or {}
        self._units: Mapping[str, str] = {}

    def with_units(self, units: Mapping[str, str]) -> CloudMetricsSource:
        """The same source, which knows the units of metrics (`NAMESPACE/METRIC`)."""
        known = copy(self)
        known._units = units
        return known

    def parameters(self, key: StreamKey, window: Window, cursor: str | None) -> dict[str, Any]:
        """Parameters of the page at `cursor`.

        The range is exactly the window: it is documented as open at its start and closed at its end.
        """
        series = Series.of(key.scope_id)
        asked = {
            "Namespace": series.namespace,
            "MetricName": series.metric,
            "Period": str(series.period_seconds),
            "StartTime": str(window.start * 1000 - 1),
            "EndTime": str(window.end * 1000 - 1),
            "Length": str(POINTS_MAX),
        }
        return asked if cursor is None else {**asked, "NextToken": cursor}

    def next_cursor(self, cursor: str | None, answer: Answer) -> str | None:
        """Cursor of the next page, None after the last one."""
        assert isinstance(answer, DescribeMetricListAnswer)
        return answer.next_token or None

    def page(self, key: StreamKey, window: Window, cursor: str | None, answer: Answer) -> PageRows:
        """The rows of one page. A point beside the window belongs to the neighbouring one."""
        assert isinstance(answer, DescribeMetricListAnswer)
        series = Series.of(key.scope_id)
        name = f"{series.namespace}/{series.metric}"
        measure = self._measures.get(name) or _MEASURES.get(folded(series.metric), series.metric)
        filling = _Filling(key.region, window, series, self._statistics, self._units.get(name, ""), measure)
        for record in answer.datapoints or ():
            filling.add(record)
        return filling.page


@dataclass(slots=True)
class _Filling:
    """One page while it is being filled."""

    region: str
    window: Window
    series: Series
    statistics: Sequence[str]
    unit: str
    measure: str
    page: PageRows = field(default_factory=PageRows)
    known: set[tuple[object, ...]] = field(default_factory=set)

    def add(self, record: Any) -> None:
        """Take one point of the answer."""
        self.page.record_count += 1
        if not isinstance(record, dict):
            self.page.dead.append(unusable(record, "the point is not an object"))
            return
        timestamp = next((name for name in record if name.lower() == "timestamp"), None)
        try:
            time, is_exact = read_moment(None if timestamp is None else record[timestamp])
        except ValueError as error:
            is_there = timestamp is not None and record[timestamp] is not None
            self.page.dead.append((f"timestamp: {error}" if is_there else "timestamp is missing", record))
            return
        start, end, period = self.window.start, self.window.end, self.series.period_seconds
        if not start <= time < end and start - period <= time <= end + period:
            return
        found, dimensions, extra = _parts(record)
        if not is_exact:
            extra["timestamp"] = record[timestamp]
        # What the metric does not have cannot be asked for; a point is not dropped for that.
        chosen = [name for name in self.statistics if name in found] or list(found)
        if not chosen:
            self.page.dead.append(("no statistic that is a number", record))
            return
        by_name = {folded(name): value for name, value in dimensions.items()}
        for statistic in chosen:
            if (value := found[statistic]) is None:
                self.page.dead.append((f"{statistic} is not a number", record))
                continue
            self._place(time, by_name, dimensions, statistic, value, extra)

    def _place(
        self, time: int, by_name: Mapping[str, str], dimensions: Mapping[str, str], statistic: str, value: float,
        extra: Mapping[str, Any],
    ) -> None:  # fmt: skip
        scope = next((name for name in SCOPES if by_name.get(name)), "")
        entity = next((name for name in ENTITIES if by_name.get(name) and name != scope), "")
        gpu_type = next((by_name[name] for name in GPU_TYPE if by_name.get(name)), "")
        row: Row = (
            time, self.region, METRIC_POINTS.sources[DESCRIBE_METRIC_LIST.name], by_name.get(scope, ""),
            by_name.get(entity, ""), self.series.metric, gpu_type, value, ordered_json(extra) if extra else EXTRA_NONE,
            self.series.namespace, self.series.period_seconds, statistic, ordered_json(dimensions), self.unit,
            self.measure,
        )  # fmt: skip
        identity = tuple(row[index] for index in METRIC_POINTS.identity_indexes)
        if identity in self.known:
            return
        self.known.add(identity)
        if self.window.start <= time < self.window.end:
            self.page.rows.setdefault(METRIC_POINTS, []).append(row)
            self.page.times.append(time)
        else:
            self.page.strays.setdefault(METRIC_POINTS, []).append(row)


def _parts(record: Mapping[str, Any]) -> tuple[dict[str, float | None], dict[str, str], dict[str, Any]]:
    """The statistics of a point (None: not a number), its dimensions as text, and what is neither."""
    found: dict[str, float | None] = {}
    dimensions: dict[str, str] = {}
    extra: dict[str, Any] = {}
    for name, value in record.items():
        if value is None or name.lower() == "timestamp":
            continue
        if name.lower() in _KNOWN_STATISTICS or _PERCENTILE.fullmatch(name):
            (number,), _ = values({"": value}, _VALUE)
            found[_statistic(name)] = number
        elif isinstance(value, dict | list):
            extra[name] = value
        else:
            dimensions[name] = text_of(value)
    return found, dimensions, extra


def _statistic(name: str) -> str:
    return next((known for known in STATISTICS if known.lower() == name.lower()), name)
