"""Nodes: what they report, which are in trouble, which have gone silent, and the lines themselves."""

from __future__ import annotations

from contrib.grafana.boards.variables import CLUSTER, LINES, NODE
from contrib.grafana.panels import (
    GREEN,
    ORANGE,
    RED,
    YELLOW,
    Board,
    Heading,
    Variable,
    chosen,
    number,
    series,
    steps,
    table,
)
from contrib.grafana.panels import lines as log_lines

FAULT = Variable(
    "fault",
    "Fault",
    f"SELECT DISTINCT lines.fault_class FROM syslogs AS lines WHERE {LINES} AND lines.fault_class != '' LIMIT 1000",
)
FAULTS = f"{LINES} AND lines.fault_class != '' AND {chosen('lines.fault_class', 'fault')}"

BOARD = Board(
    name="nodes",
    title="PAI nodes and faults",
    description="Faults of nodes by class and code, silent nodes, node metrics, and the lines themselves.",
    variables=(CLUSTER, NODE, FAULT),
    panels=(
        number("Fault lines", f"SELECT count() AS faults FROM syslogs AS lines WHERE {FAULTS}", width=6),
        number(
            "Nodes with faults",
            f"SELECT uniqExact(lines.node_id) AS nodes FROM syslogs AS lines WHERE {FAULTS}",
            colors=steps(GREEN, (1, ORANGE)),
            width=6,
        ),
        number(
            "Nodes with an Xid",
            f"""
            SELECT uniqExact(lines.node_id) AS nodes FROM syslogs AS lines
            WHERE {FAULTS} AND lines.fault_class = 'xid'
            """,
            colors=steps(GREEN, (1, RED)),
            description="Nodes whose NVIDIA driver reports an error of a GPU.",
            width=6,
        ),
        number(
            "Log lines",
            f"SELECT count() AS lines_logged FROM syslogs AS lines WHERE {LINES}",
            width=6,
        ),
        Heading("Faults"),
        series(
            "Fault lines by class",
            f"""
            SELECT $__timeInterval(lines.time) AS time, toString(lines.fault_class) AS class, count() AS faults
            FROM syslogs AS lines
            WHERE {FAULTS}
            GROUP BY time, class
            ORDER BY time, class
            """,
            by="class",
            stacked=True,
            bars=True,
        ),
        series(
            "Fault lines by node, the ten with most",
            f"""
            SELECT $__timeInterval(lines.time) AS time, toString(lines.node_id) AS node, count() AS faults
            FROM syslogs AS lines
            WHERE {FAULTS} AND lines.node_id IN
            (
                SELECT lines.node_id FROM syslogs AS lines
                WHERE {FAULTS}
                GROUP BY lines.node_id ORDER BY count() DESC, lines.node_id LIMIT 10
            )
            GROUP BY time, node
            ORDER BY time, node
            """,
            by="node",
            stacked=True,
            bars=True,
        ),
        table(
            "Nodes in trouble",
            f"""
            SELECT
                toString(lines.node_id) AS node,
                any(toString(lines.hostname)) AS host,
                any(toString(lines.ip)) AS address,
                uniqExact(toStartOfHour(lines.time)) AS hours_with_faults,
                count() AS faults,
                arrayStringConcat(arraySort(groupUniqArray(toString(lines.fault_class))), ', ') AS classes,
                min(lines.time) AS first,
                max(lines.time) AS last
            FROM syslogs AS lines
            WHERE {FAULTS}
            GROUP BY node
            ORDER BY hours_with_faults DESC, faults DESC, node
            LIMIT 100
            """,
            links={"node": ("nodes", "node")},
            width=14,
        ),
        table(
            "Xid and SXid numbers",
            f"""
            SELECT
                toString(lines.fault_class) AS kind,
                toUInt32(lines.fault_code) AS code,
                uniqExact(lines.node_id) AS nodes,
                count() AS faults,
                max(lines.time) AS last
            FROM syslogs AS lines
            WHERE {FAULTS} AND lines.fault_code > 0
            GROUP BY kind, code
            ORDER BY nodes DESC, faults DESC, kind, code
            LIMIT 100
            """,
            description="NVIDIA's catalogue of Xid errors tells what each number means.",
            width=10,
        ),
        Heading("Nodes"),
        table(
            "Longest silent",
            f"""
            SELECT
                toString(lines.node_id) AS node,
                any(toString(lines.hostname)) AS host,
                max(lines.time) AS last_line,
                dateDiff('second', max(lines.time), $__toTime) AS silent,
                count() AS lines_logged
            FROM syslogs AS lines
            WHERE {LINES}
            GROUP BY node
            ORDER BY silent DESC, node
            LIMIT 50
            """,
            units={"silent": "s"},
            colors={"silent": steps(GREEN, (900, YELLOW), (3600, RED))},
            links={"node": ("nodes", "node")},
            description="From a node's last line to the end of the time range, for nodes that logged in it.",
        ),
        series(
            "Node metrics, mean of all nodes",
            """
            SELECT $__timeInterval(points.time) AS time, toString(points.metric) AS metric, avg(points.value) AS mean
            FROM metric_points AS points
            WHERE $__timeFilter(points.time) AND points.source = 'node_metrics'
            GROUP BY time, metric
            ORDER BY time, metric
            """,
            by="metric",
            unit="percent",
            description="As resource groups report them, under node names of their own: all are shown.",
        ),
        Heading("Lines"),
        log_lines(
            "Lines that report a fault, the latest 500",
            f"""
            SELECT
                lines.time AS timestamp,
                lines.msg AS body,
                toString(lines.severity) AS level,
                toString(lines.node_id) AS node,
                toString(lines.fault_class) AS fault,
                toString(lines.syslogtag) AS program
            FROM syslogs AS lines
            WHERE {FAULTS}
            ORDER BY timestamp DESC
            LIMIT 500
            """,
        ),
    ),
)
