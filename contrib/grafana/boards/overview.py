"""The first look: is anything wrong, who uses what, and can this be believed."""

from __future__ import annotations

from contrib.grafana.boards.incidents import incidents_sql
from contrib.grafana.boards.variables import CLUSTER, GROUP, GROUPS, WORKSPACE
from contrib.grafana.panels import GREEN, RED, YELLOW, Board, Heading, chosen, number, series, steps, table

LINES = f"$__timeFilter(lines.time) AND {chosen('lines.cluster_id', 'cluster')}"

BOARD = Board(
    name="overview",
    title="PAI overview",
    description="Faults of nodes, use of resource groups, and how fresh all of this is.",
    variables=(CLUSTER, GROUP, WORKSPACE),
    panels=(
        number(
            "Nodes that log",
            f"SELECT uniqExact(lines.node_id) AS nodes FROM syslogs AS lines WHERE {LINES}",
            description="Nodes with at least one line in the time range.",
        ),
        number(
            "Nodes to take out",
            f"""
            SELECT uniqExactIf(lines.node_id, lines.fault_severity = 'fatal') AS nodes
            FROM syslogs AS lines WHERE {LINES}
            """,
            colors=steps(GREEN, (1, RED)),
            description="Nodes with a fatal fault: a GPU, a link, storage or the node itself is lost.",
        ),
        number(
            "Fault lines",
            f"SELECT countIf(lines.fault_class != '') AS faults FROM syslogs AS lines WHERE {LINES}",
            colors=steps(GREEN, (1, YELLOW)),
        ),
        number(
            "GPUs asked for",
            f"""
            SELECT sum(latest.requested) / nullIf(sum(latest.total), 0) AS share
            FROM
            (
                SELECT
                    argMax(groups.request_gpu, groups.time) AS requested,
                    argMax(groups.total_gpu, groups.time) AS total
                FROM resource_group_metrics AS groups
                WHERE {GROUPS}
                GROUP BY groups.resource_group_id
            ) AS latest
            """,
            unit="percentunit",
            description="Of all GPUs of the resource groups, in the latest snapshot of each.",
        ),
        number(
            "Behind now",
            "SELECT max(dateDiff('second', marks.watermark, now())) AS behind FROM watermarks AS marks",
            unit="s",
            colors=steps(GREEN, (600, YELLOW), (3600, RED)),
            description="Of the stream that is furthest behind; the board of the collector names it.",
        ),
        number(
            "Spend this month",
            """
            SELECT toFloat64(sum(calls.cost_cny)) AS spend FROM api_calls AS calls
            WHERE calls.minute >= toDateTime(toStartOfMonth(now('Asia/Shanghai')), 'Asia/Shanghai')
            """,
            unit="currencyCNY",
            decimals=2,
            description="Price of all calls since the billing month began (UTC+8), after the free tier.",
        ),
        Heading("Faults"),
        series(
            "Fault lines by class",
            f"""
            SELECT $__timeInterval(lines.time) AS time, toString(lines.fault_class) AS class, count() AS faults
            FROM syslogs AS lines
            WHERE {LINES} AND lines.fault_class != ''
            GROUP BY time, class
            ORDER BY time, class
            """,
            by="class",
            stacked=True,
            bars=True,
        ),
        table(
            "Incidents, the worst first",
            incidents_sql(LINES, rows=20),
            links={"node": ("nodes", "node")},
            description="Lines of one device and cause with at most five minutes between them, folded into one row.",
        ),
        series(
            "Log lines by severity",
            f"""
            SELECT $__timeInterval(lines.time) AS time, toString(lines.severity) AS severity, count() AS lines_logged
            FROM syslogs AS lines
            WHERE {LINES}
            GROUP BY time, severity
            ORDER BY time, severity
            """,
            by="severity",
            stacked=True,
            bars=True,
            width=24,
        ),
        Heading("Use"),
        series(
            "GPUs asked for by resource group",
            f"""
            SELECT
                $__timeInterval(groups.time) AS time,
                toString(groups.resource_group_id) AS group_id,
                max(groups.request_gpu) AS requested
            FROM resource_group_metrics AS groups
            WHERE {GROUPS}
            GROUP BY time, group_id
            ORDER BY time, group_id
            """,
            by="group_id",
            stacked=True,
        ),
        series(
            "GPU use by resource group",
            f"""
            SELECT
                $__timeInterval(groups.time) AS time,
                toString(groups.resource_group_id) AS group_id,
                avg(groups.gpu_usage_rate) AS used
            FROM resource_group_metrics AS groups
            WHERE {GROUPS}
            GROUP BY time, group_id
            ORDER BY time, group_id
            """,
            by="group_id",
            unit="percent",
            most=100,
        ),
    ),
)
