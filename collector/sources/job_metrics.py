"""Metrics of pods: pai-dlc `GetJobMetrics` and pai-dsw `GetInstanceMetrics`, one stream a job or notebook.

The same shape from two products: the first counts time in milliseconds, the second in seconds.
"""

from __future__ import annotations

from collector.catalogue.products.pai_dlc import GET_JOB_METRICS
from collector.catalogue.products.pai_dsw import GET_INSTANCE_METRICS
from collector.sources.series import SeriesSource


class JobMetricsSource(SeriesSource):
    """What to ask for a window of one job's metrics, a series a pod."""

    name = "job_metrics"
    operation = GET_JOB_METRICS
    entity_field = "PodId"


class InstanceMetricsSource(SeriesSource):
    """What to ask for a window of one notebook's metrics, a series a pod."""

    name = "dsw_metrics"
    operation = GET_INSTANCE_METRICS
    entity_field = "PodId"
