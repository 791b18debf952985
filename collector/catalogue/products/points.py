"""What tells points of series apart, whichever product measured them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

POINT_IDENTITY: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "metric_points": (
            "time", "region", "source", "scope_id", "entity_id", "metric", "gpu_type", "namespace", "period_seconds",
            "statistic", "dimensions",
        ),
    }
)  # fmt: skip
