"""Prometheus metrics: what happened is counted as it happens, how things are is read when somebody asks.

Labels hold names of the catalogue, the configuration and this program only, so their number is bounded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector

TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"

SECONDS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Bounds of the histogram of answer times."""


@dataclass(frozen=True, slots=True)
class Gauge:
    """One value that is read when somebody asks, with its labels."""

    name: str
    """Without `pai_collector_`."""
    value: float
    labels: Mapping[str, str] = field(default_factory=dict)


GAUGES: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "freshness_seconds": ("Now less the watermark, of the stream of the source that is furthest behind.", ("source",)),
    "freshness_promise_seconds": ("What freshness should stay below.", ("source",)),
    "streams": ("Streams by state: new, collected, failing, stopped, waiting.", ("source", "state")),
    "well": ("1 where nothing is wrong, as status says.", ()),
    "ready": ("1 where streams are collected and what they bring is stored, as /readyz says.", ()),
    "unwell": (
        "1 for each reason that status gives; subject is the operation or the source, if it is about one.",
        ("reason", "subject"),
    ),
    "due_streams": ("Streams that wait for their turn.", ("source",)),
    "quota_used_ratio": ("Part of the operation's quota that was used in the last second.", ("operation",)),
    "rate_per_second": ("Requests a second that the operation is asked with at most at present.", ("operation",)),
    "journal_bytes": ("Bytes of the journal that hold something.", ()),
    "journal_bytes_max": ("Collecting pauses at so many bytes of the journal.", ()),
    "journal_full": ("1 while collecting waits because the journal or its disk is full, or takes nothing.", ()),
    "journal_rows": ("Rows in the journal that the store does not have yet.", ()),
    "spend_month_cny": ("CNY that this billing month (UTC+8) has cost so far, calls in flight included.", ()),
    "forecast_month_cny": ("CNY that the month will have cost at the pace of the last 24 hours.", ()),
    "budget_cny": ("What the month may cost; absent without a budget.", ()),
    "pot_calls": ("Calls of this billing month that came out of free calls which operations share.", ("pot",)),
    "pot_forecast_calls": ("Calls that the month will have taken of them at the pace of the last 24 hours.", ("pot",)),
    "pot_free_calls": ("Calls of a month that are free of them, for the whole account.", ("pot",)),
    "stopped": (
        "1 for what is stopped: account, operation, budget; circuit: it keeps failing and is probed.",
        ("what", "operation"),
    ),
    "store_up": ("1 while the store takes rows, 0 since the last try failed.", ()),
    "arrival_delay_seconds": (
        "Within this time such a fraction of the last day's records has arrived.",
        ("source", "fraction"),
    ),
    "settle_seconds": ("How far behind now windows end, of the stream that stays back furthest.", ("source",)),
    "clock_offset_seconds": ("The service's time less this machine's clock, at the last answer that was believed.", ()),
    "clock_in_doubt": (
        "1 while the service's answers and this machine's clock differ by more than a minute, or answers do.",
        (),
    ),
    "build_info": ("1, with the version.", ("version",)),
}
"""Name -> what it says, and its labels."""

COUNTERS: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "rows": ("Rows that the store has taken.", ("table",)),
    "ticks_missed": ("Looks that were not made because their time had passed.", ("source",)),
    "dead_letters": ("Records that could not be placed or stored, since the journal was made.", ()),
    "replaced_bytes": ("Pieces of answers that were not UTF-8 and became U+FFFD, since the journal was made.", ()),
    "quarantined_rows": ("Rows that the journal keeps because the store takes neither them nor a dead letter.", ()),
    "recheck_calls": ("Answers to looks for late records, since the journal was made.", ("operation",)),
    "late_rows": ("Rows that rechecks have found, since the journal was made.", ("operation",)),
    "log_lines_dropped": ("Log lines that were not written because stderr took none.", ()),
    "cost_cny": ("CNY that calls of this billing month have cost after the free ones.", ("operation",)),
}
"""Name without `_total` -> what it says, and its labels."""

REQUESTS: Final = ("requests", "Requests that were sent, by what became of them.", ("operation", "outcome"))
REQUEST_SECONDS: Final = ("request_seconds", "Time from sending to the last byte of the answer.", ("operation",))
PREFIX: Final = "pai_collector_"


def outcome_of(http_status: int, code: str) -> str:
    """What became of an attempt: ok, throttled, refused, failed, timeout, connection or unusable."""
    if http_status == 429 or code.startswith("Throttling"):
        return "throttled"
    if code in ("timeout", "connection"):
        return code
    if http_status >= 500:
        return "failed"
    if http_status >= 400:
        return "refused"
    return "unusable" if code else "ok"


class Metrics:
    """The metrics of one service."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        name, text, labels = REQUESTS
        self._requests = Counter(PREFIX + name, text, labels, registry=self._registry)
        self._seconds = Histogram(
            PREFIX + REQUEST_SECONDS[0], *REQUEST_SECONDS[1:], buckets=SECONDS, registry=self._registry
        )
        self._present = _Present()
        self._registry.register(self._present)

    def observe(self, operation: str, http_status: int, code: str, seconds: float) -> None:
        """Count an attempt that was sent. `code` as of `metering.Attempt.code`."""
        self._requests.labels(operation, outcome_of(http_status, code)).inc()
        self._seconds.labels(operation).observe(seconds)

    def exposition(self, values: Sequence[Gauge], *, openmetrics: bool = False) -> bytes:
        """Everything, with these values for what is read now."""
        self._present.values = values
        return generate_openmetrics(self._registry) if openmetrics else generate_latest(self._registry)  # type: ignore[no-untyped-call]


class _Present(Collector):
    """Hands the values of this moment to the registry."""

    def __init__(self) -> None:
        self.values: Sequence[Gauge] = ()

    def collect(self) -> Iterator[Metric]:
        for name, (text, labels) in GAUGES.items():
            yield from _family(GaugeMetricFamily(PREFIX + name, text, labels=labels), name, labels, self.values)
        for name, (text, labels) in COUNTERS.items():
            yield from _family(CounterMetricFamily(PREFIX + name, text, labels=labels), name, labels, self.values)


def _family(
    family: GaugeMetricFamily | CounterMetricFamily, name: str, labels: Sequence[str], values: Iterable[Gauge]
) -> Iterator[Metric]:
    found = [value for value in values if value.name == name]
    for value in found:
        family.add_metric([value.labels[label] for label in labels], value.value)
    if found:
        yield family
