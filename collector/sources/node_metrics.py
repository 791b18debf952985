"""Node metrics: PaiStudio `GetNodeMetrics`, one stream a resource group, series of its nodes by GPU type."""

from __future__ import annotations

from collector.catalogue.products.pai_studio import GET_NODE_METRICS
from collector.sources.series import SeriesSource


class NodeMetricsSource(SeriesSource):
    """What to ask for a window of one resource group's node metrics; values are numbers in strings."""

    name = "node_metrics"
    operation = GET_NODE_METRICS
    entity_field = "NodeID"
    gpu_type_field = "GPUType"
