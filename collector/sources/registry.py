"""All sources: what each needs to be asked, and how it is looked at. A new source is one line here."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from collector.model import filtered_scope
from collector.sources.cloud_metrics import CloudMetricsSource
from collector.sources.diagnostics import DiagnosticsSource
from collector.sources.events import JobEventSource, ServiceEventSource
from collector.sources.job_metrics import InstanceMetricsSource, JobMetricsSource
from collector.sources.node_metrics import NodeMetricsSource
from collector.sources.resource_logs import ResourceLogSource
from collector.sources.syslogs import SyslogSource
from collector.sources.user_metrics import UserMetricsSource
from collector.units import format_duration


class Look(enum.Enum):
    """How a source is looked at."""

    WINDOW = "window"
    """Records have a time of their own: windows of event time, rechecked."""
    SNAPSHOT = "snapshot"
    """What is used at a tick: it cannot be asked for later."""
    STATE = "state"
    """Things that exist and change: stored when they differ from what was seen last."""


@dataclass(frozen=True, slots=True)
class Spec:
    """One source, or one of the operations that fill it."""

    name: str
    """The source, as the configuration names it in `[sources.NAME]`."""
    target: str
    """Kind of the scopes that are asked for: `node`, `resource_group`, `job` ...; empty for one look at the account."""
    look: Look
    make: Callable[[Any], Any]
    """The source out of its settings: a WindowSource, a UserMetricsSource or a StateSource, as `look` says."""
    needs: str = ""
    """Kind of target without which a look at the account makes no sense."""
    filters: Callable[[Any], Sequence[Mapping[str, str]]] = lambda section: ({},)
    """What each target is asked with, out of the settings: a stream for each of these."""

    def scopes(self, section: Any, target_ids: Iterable[str]) -> list[str]:
        """Return the scopes of these targets, with the filters of the settings."""
        filters = self.filters(section)
        return [filtered_scope(target_id, each) for target_id in target_ids for each in filters]


def step_seconds(section: Any) -> int:
    """Return the span that each point of a source covers, in seconds, out of its settings; 0 for other sources."""
    return int(getattr(section, "time_step_seconds", 0) or getattr(section, "period_seconds", 0))


def _usage_filters(section: Any) -> Sequence[Mapping[str, str]]:
    workspaces: list[dict[str, str]] = [{"WorkspaceId": each} for each in section.workspaces] or [{}]
    users: list[dict[str, str]] = [{"UserId": each} for each in section.user_ids] or [{}]
    return [workspace | user for workspace in workspaces for user in users]


SPECS: Final = (
    Spec(
        "syslogs",
        "node",
        Look.WINDOW,
        lambda section: SyslogSource(),
        filters=lambda section: ({"Query": section.query} if section.query else {},),
    ),
    Spec(
        "user_metrics",
        "resource_group",
        Look.SNAPSHOT,
        lambda section: UserMetricsSource(
            page_size=section.page_size,
            time_step=format_duration(section.time_step_seconds, largest="h"),
            sort_by=section.sort_by,
            order=section.order,
        ),
        filters=_usage_filters,
    ),
    Spec(
        "node_metrics",
        "resource_group",
        Look.WINDOW,
        lambda section: NodeMetricsSource(section.metric_types, section.time_step_seconds),
    ),
    Spec(
        "job_metrics",
        "job",
        Look.WINDOW,
        lambda section: JobMetricsSource(section.metric_types, section.time_step_seconds),
    ),
    Spec(
        "job_metrics",
        "instance",
        Look.WINDOW,
        lambda section: InstanceMetricsSource(section.metric_types, section.time_step_seconds),
    ),
    Spec(
        "cloud_metrics",
        "cloud_metric",
        Look.WINDOW,
        lambda section: CloudMetricsSource(
            section.statistics,
            {name: measure for name, _, measure in (word.partition("=") for word in section.measures)},
        ),
    ),
    Spec("events", "service", Look.WINDOW, lambda section: ServiceEventSource()),
    Spec("events", "job", Look.WINDOW, lambda section: JobEventSource()),
    Spec("diagnostics", "", Look.STATE, lambda section: DiagnosticsSource(), needs="cluster"),
    Spec("resource_logs", "eas_resource", Look.STATE, lambda section: ResourceLogSource()),
)
"""In the order of the configuration. The inventory is not here: its lists name the targets of all others."""
