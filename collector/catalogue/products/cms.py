"""Cms (CloudMonitor) 2019-01-01, RPC: which metrics there are of every product, and their points."""

from __future__ import annotations

from typing import Any

import msgspec

from collector.catalogue.answers import Answer
from collector.catalogue.operation import (
    Form,
    Nesting,
    Numbers,
    Operation,
    Parameter,
    Place,
    Price,
    Product,
    Quota,
    Style,
    Tokens,
)
from collector.catalogue.products.points import POINT_IDENTITY

POINTS_MAX = 1440
"""Points of one answer at most."""

STATISTICS = ("Average", "Minimum", "Maximum", "Sum", "Value", "Count", "SampleCount")
"""Fields of a point that are values, beside percentiles such as P99; all other plain fields are dimensions."""

METRIC_CALLS = Price(None, free_calls_per_month=1_000_000, pot="CloudMonitor queries")
"""`DescribeMetricLast`, `DescribeMetricList`, `DescribeMetricData` and `DescribeMetricTop` share these free calls. The
service publishes no price for calls beyond them, and refuses them unless pay-as-you-go is switched on."""


class DescribeMetricListAnswer(Answer, rename="pascal"):
    """`DescribeMetricList`: one page of the points of a metric. `Datapoints` is a list as JSON text."""

    datapoints: list[dict[str, Any]] | None = None
    next_token: str | None = None
    period: str | None = None
    success: bool | None = None


class MetricRecord(msgspec.Struct, rename="pascal", forbid_unknown_fields=True, omit_defaults=True):
    """`DescribeMetricMetaList` `Resources.Resource[]`. Lists are texts with commas; `Labels` is JSON text."""

    description: str | None = None
    dimensions: str | None = None
    labels: str | None = None
    metric_name: str | None = None
    namespace: str | None = None
    periods: str | None = None
    statistics: str | None = None
    unit: str | None = None


class DescribeMetricMetaListAnswer(Answer, rename="pascal"):
    """`DescribeMetricMetaList`: one page of metrics. The total is a text."""

    resources: list[MetricRecord] | None = None
    success: bool | None = None
    total_count: str | int | None = None


class NamespaceRecord(msgspec.Struct, rename="pascal", forbid_unknown_fields=True, omit_defaults=True):
    """`DescribeProjectMeta` `Resources.Resource[]`."""

    description: str | None = None
    labels: str | None = None
    namespace: str | None = None


class DescribeProjectMetaAnswer(Answer, rename="pascal"):
    """`DescribeProjectMeta`: one page of products with their namespaces. The numbers are texts."""

    page_number: str | int | None = None
    page_size: str | int | None = None
    resources: list[NamespaceRecord] | None = None
    success: bool | None = None
    total: str | int | None = None


def _rpc(name: str, summary: str, parameters: tuple[Parameter, ...], answer: type[Answer], **rest: Any) -> Operation:
    return Operation(name, Product.CMS, "2019-01-01", Style.RPC, "POST", "/", summary, parameters, answer, **rest)


_LABELS = Parameter("Labels", Place.QUERY, 'Only what has these labels: JSON such as [{"name":"product","value":"x"}].')
_PAGE_NUMBER = Parameter("PageNumber", Place.QUERY, "1-based page.", type=int, least=1)

DESCRIBE_METRIC_LIST = _rpc(
    "DescribeMetricList",
    "Points of one metric in a time range, of all its series unless Dimensions names some.",
    (
        Parameter("Namespace", Place.QUERY, "Namespace of the metric, such as acs_pai_dlc.", required=True),
        Parameter("MetricName", Place.QUERY, "The metric.", required=True),
        Parameter("Dimensions", Place.QUERY, 'Only these series, at most 50: JSON such as [{"jobId":"dlc1abc"}].'),
        Parameter(
            "StartTime", Place.QUERY, "Start of the range, UNIX milliseconds; it is no part of it.",
            form=Form.MILLISECONDS,
        ),
        Parameter(
            "EndTime", Place.QUERY, "End of the range, UNIX milliseconds; it is part of it.", form=Form.MILLISECONDS
        ),
        Parameter("Period", Place.QUERY, "Seconds that a point covers, one of the metric's periods.", form=Form.COUNT),
        Parameter(
            "Length", Place.QUERY, f"Points a page, at most {POINTS_MAX}.", form=Form.COUNT, least=1, most=POINTS_MAX
        ),
        Parameter("NextToken", Place.QUERY, "Cursor of the next page."),
        Parameter("Express", Place.QUERY, 'Grouping by the service: JSON such as {"groupby":["userId"]}.'),
    ),
    DescribeMetricListAnswer,
    records_field="datapoints",
    records_max=POINTS_MAX,
    nesting=Nesting.TEXT,
    paging=Tokens("Length"),
    quota=Quota(50),
    price=METRIC_CALLS,
    scope="MetricName",
    identity=POINT_IDENTITY,
    ram_name="QueryMetricList",
)  # fmt: skip

DESCRIBE_METRIC_META_LIST = _rpc(
    "DescribeMetricMetaList",
    "The metrics that there are, with their units, periods, statistics and dimensions.",
    (
        Parameter("Namespace", Place.QUERY, "Only metrics of this namespace, such as acs_pai_dlc."),
        Parameter("MetricName", Place.QUERY, "Only metrics of this name."),
        _LABELS,
        _PAGE_NUMBER,
        Parameter("PageSize", Place.QUERY, "Metrics a page, 30 unless it is given.", type=int, least=1, most=10_000),
    ),
    DescribeMetricMetaListAnswer,
    records_field="resources",
    records_max=100,
    nesting=Nesting.RESOURCE,
    paging=Numbers(),
    scope="Namespace",
)

DESCRIBE_PROJECT_META = _rpc(
    "DescribeProjectMeta",
    "The namespaces that there are, one or more for each product.",
    (
        _LABELS,
        Parameter("PageNumber", Place.QUERY, "1-based page, at most 100.", type=int, least=1, most=100),
        Parameter("PageSize", Place.QUERY, "Namespaces a page, at most 10000.", type=int, least=1, most=10_000),
    ),
    DescribeProjectMetaAnswer,
    records_field="resources",
    records_max=100,
    nesting=Nesting.RESOURCE,
    paging=Numbers(total="total"),
)

ROWS = (DESCRIBE_METRIC_LIST, DESCRIBE_METRIC_META_LIST, DESCRIBE_PROJECT_META)
