"""Choices that several boards offer, and the conditions that they make."""

from __future__ import annotations

import textwrap

from collector.store.parts import part
from contrib.grafana.panels import Variable, chosen

CLUSTER = Variable(
    "cluster",
    "Cluster",
    "SELECT DISTINCT lines.cluster_id FROM syslogs AS lines WHERE $__timeFilter(lines.time) LIMIT 1000",
)
NODE = Variable(
    "node",
    "Node",
    f"""
    SELECT DISTINCT lines.node_id FROM syslogs AS lines
    WHERE $__timeFilter(lines.time) AND {chosen("lines.cluster_id", "cluster")}
    LIMIT 5000
    """,
)
GROUP = Variable(
    "group",
    "Resource group",
    """
    SELECT DISTINCT groups.resource_group_id FROM resource_group_metrics AS groups
    WHERE $__timeFilter(groups.time) LIMIT 1000
    """,
)
WHOLE_GROUP = "whole group"
_WORKSPACE = "if({table}.workspace_id = '', '" + WHOLE_GROUP + "', toString({table}.workspace_id))"
# Figures of a workspace are part of those of its group: added up, both would count twice.
WORKSPACE = Variable(
    "workspace",
    "Workspace",
    f"""
    SELECT DISTINCT {_WORKSPACE.format(table="usage")} AS workspace FROM user_metrics AS usage
    WHERE $__timeFilter(usage.time) LIMIT 1000
    """,
    default=WHOLE_GROUP,
)
USER = Variable(
    "user",
    "User",
    f"""
    SELECT DISTINCT usage.user_id FROM user_metrics AS usage
    WHERE $__timeFilter(usage.time) AND {chosen("usage.resource_group_id", "group")}
    LIMIT 5000
    """,
)

LINES = f"$__timeFilter(lines.time) AND {chosen('lines.cluster_id', 'cluster')} AND {chosen('lines.node_id', 'node')}"
"""Of `syslogs AS lines`: the time range, and the clusters and nodes that are chosen."""
GROUPS = (
    f"$__timeFilter(groups.time) AND {chosen('groups.resource_group_id', 'group')}"
    f" AND {chosen(_WORKSPACE.format(table='groups'), 'workspace')}"
)
"""Of `resource_group_metrics AS groups`."""
USAGE = (
    f"$__timeFilter(usage.time) AND {chosen('usage.resource_group_id', 'group')} AND {chosen('usage.user_id', 'user')}"
    f" AND {chosen(_WORKSPACE.format(table='usage'), 'workspace')}"
)
"""Of `user_metrics AS usage`."""

_NODE_DIMENSION = "match(points.dimensions, '(?i)\"(node|host)_?(id|name)?\":')"
_JOB_DIMENSION = "match(points.dimensions, '(?i)\"(dlc_?)?job_?(id|name)?\":')"
NODE_POINTS = (
    "(points.source = 'node_metrics'"
    f" OR (points.source = 'cloud_metrics' AND {_NODE_DIMENSION} AND NOT {_JOB_DIMENSION}))"
)
"""Of `metric_points AS points`: series of nodes, whichever service tells them."""
JOB_POINTS = f"(points.source = 'job_metrics' OR (points.source = 'cloud_metrics' AND {_JOB_DIMENSION}))"
"""The same of jobs and their pods."""


def drawn_points(which: str) -> str:
    """SQL of the points of some series as `series`, of each hour and measure of an entity from one service."""
    points = textwrap.indent(part("drawn_points", f"$__timeFilter(points.time) AND {which}"), " " * 16)
    return f"""(
{points}
            ) AS series
            WHERE series.is_drawn"""
