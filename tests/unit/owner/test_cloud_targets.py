"""What is asked of CloudMonitor, held against what its lists have: what fits nothing is told with what would."""

from __future__ import annotations

from typing import Any

import pytest

from collector.owner.cloud_targets import Listed, mismatches
from collector.settings.model import CloudMetricsSettings

NAMESPACES = ("acs_ecs", "acs_pai_dlc", "acs_pai_new")
GPU = {"Periods": "60,300", "Statistics": "Average,Maximum"}
METRICS = {"acs_pai_dlc": {"GPU_UTIL": GPU, "CPU_UTIL": {"Periods": "300"}}, "acs_pai_new": {}}
SECTION = "sources.cloud_metrics"


def told(listed: Listed, **given: Any) -> list[str]:
    return mismatches(CloudMetricsSettings(**{"namespaces": ("acs_pai_*",)} | given), listed)


@pytest.mark.parametrize(
    ("given", "lines"),
    [
        ({}, []),
        ({"metrics": ("GPU*", "?PU_UTIL"), "statistics": ("Maximum",)}, []),
        (
            {"namespaces": ("acs_pia_*", "acs_*")},
            [
                f'{SECTION}.namespaces: got "acs_pia_*", which fits none of the service\'s namespaces (3); '
                "expected one of acs_pai_new, acs_pai_dlc, acs_ecs, or a pattern that fits some"
            ],
        ),
        (
            {"namespaces": ("acs_pai_new",)},
            [
                f'{SECTION}.namespaces: got "acs_pai_new", of which the service lists no metric; expected a namespace '
                "that has some: pai-collector call DescribeProjectMeta --all lists them"
            ],
        ),
        (
            {"metrics": ("gpu*", "GPU*")},
            [
                f'{SECTION}.metrics: got "gpu*", which fits none of the metrics of these namespaces (2); '
                "expected one of CPU_UTIL, GPU_UTIL, or a pattern that fits some"
            ],
        ),
        (
            {"metrics": ("GPU*",), "period_seconds": 61},
            [
                f'{SECTION}.period: got "61s", which none of the metrics that fit (1) has; expected one of 1m, 5m; '
                "they are asked with 5m"
            ],
        ),
        ({"period_seconds": 60}, []),
        (
            {"metrics": ("GPU*",), "statistics": ("Sum", "Average")},
            [
                f'{SECTION}.statistics: got "Sum", which none of the metrics that fit (1) has; expected any of '
                "Average, Maximum"
            ],
        ),
        (
            {"measures": ("acs_pai_dlc/GPU_UTIL=GpuCoreUsage", "acs_pai_dlc/GPU_UTILL=GpuCoreUsage")},
            [
                f'{SECTION}.measures: got "acs_pai_dlc/GPU_UTILL=GpuCoreUsage", whose metric is not listed; '
                "expected one of GPU_UTIL, CPU_UTIL of acs_pai_dlc"
            ],
        ),
        # CPU_UTIL tells none, so it may have any.
        ({"statistics": ("Sum",)}, []),
    ],
)  # fmt: skip
def test_what_fits_nothing_is_told_with_its_key_and_what_would(given: dict[str, Any], lines: list[str]) -> None:
    """Patterns and names, and a period or statistic that none of the metrics has."""
    assert told(Listed(NAMESPACES, METRICS), **given) == lines


def test_what_has_not_been_read_is_not_missed() -> None:
    """Before the lists are there nothing is known to be wrong, and a single list does not speak for the others."""
    wrong: dict[str, Any] = {"metrics": ("NOPE",), "period_seconds": 61, "statistics": ("Sum",)}
    assert told(Listed((), {}), **wrong) == []
    assert told(Listed(NAMESPACES, {"acs_pai_dlc": METRICS["acs_pai_dlc"]}), **wrong) == []
    assert len(told(Listed(NAMESPACES, METRICS), **wrong)) == 1
    assert told(Listed((), {}), namespaces=("acs_pai_dlc",)) == []
