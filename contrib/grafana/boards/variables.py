"""Choices that several boards offer, and the conditions that they make."""

from __future__ import annotations

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
GROUPS = f"$__timeFilter(groups.time) AND {chosen('groups.resource_group_id', 'group')}"
"""Of `resource_group_metrics AS groups`."""
USAGE = (
    f"$__timeFilter(usage.time) AND {chosen('usage.resource_group_id', 'group')} AND {chosen('usage.user_id', 'user')}"
)
"""Of `user_metrics AS usage`."""
