"""Nodes: what they report, which are in trouble, which have gone silent, and the lines themselves."""

from __future__ import annotations

from contrib.grafana.boards.incidents import incidents_sql, meaning_of
from contrib.grafana.boards.variables import CLUSTER, JOB_POINTS, LINES, NODE, NODE_POINTS, drawn_points
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
    description="Incidents and faults by severity, class and number, silent nodes, node metrics, and the lines.",
    variables=(CLUSTER, NODE, FAULT),
    panels=(
        number(
            "Nodes to take out",
            f"""
            SELECT uniqExact(lines.node_id) AS nodes FROM syslogs AS lines
            WHERE {FAULTS} AND lines.fault_severity = 'fatal'
            """,
            colors=steps(GREEN, (1, RED)),
            description="Nodes with a fatal fault: a GPU, a link, storage or the node itself is lost.",
            width=6,
        ),
        number(
            "Degraded nodes",
            f"""
            SELECT uniqExact(lines.node_id) AS nodes FROM syslogs AS lines
            WHERE {FAULTS} AND lines.fault_severity = 'degraded'
            """,
            colors=steps(GREEN, (1, ORANGE)),
            description="Nodes that work on with less or at a risk.",
            width=6,
        ),
        number("Fault lines", f"SELECT count() AS faults FROM syslogs AS lines WHERE {FAULTS}", width=6),
        number(
            "Log lines",
            f"SELECT count() AS lines_logged FROM syslogs AS lines WHERE {LINES}",
            width=6,
        ),
        Heading("Faults"),
        table(
            "Incidents, the worst first",
            incidents_sql(FAULTS),
            links={"node": ("nodes", "node")},
            description="Lines of one device and cause with at most five minutes between them, folded into one row.",
            width=24,
        ),
        series(
            "Fault lines by severity",
            f"""
            SELECT $__timeInterval(lines.time) AS time, toString(lines.fault_severity) AS severity, count() AS faults
            FROM syslogs AS lines
            WHERE {FAULTS}
            GROUP BY time, severity
            ORDER BY time, severity
            """,
            by="severity",
            stacked=True,
            bars=True,
            width=24,
        ),
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
                toString(max(lines.fault_severity)) AS worst,
                uniqExact(toStartOfHour(lines.time)) AS hours_with_faults,
                countIf(lines.fault_severity = 'fatal') AS fatal,
                countIf(lines.fault_severity = 'degraded') AS degraded,
                count() AS faults,
                arrayStringConcat(arraySort(groupUniqArray(toString(lines.fault_class))), ', ') AS classes,
                min(lines.time) AS first,
                max(lines.time) AS last
            FROM syslogs AS lines
            WHERE {FAULTS}
            GROUP BY node
            ORDER BY max(lines.fault_severity) DESC, hours_with_faults DESC, faults DESC, node
            LIMIT 100
            """,
            links={"node": ("nodes", "node")},
            width=14,
        ),
        table(
            "Xid and SXid numbers",
            f"""
            SELECT
                toString(lines.fault_severity) AS severity,
                toString(lines.fault_class) AS kind,
                toUInt32(lines.fault_code) AS code,
                uniqExact(lines.node_id) AS nodes,
                uniqExact(lines.node_id, lines.fault_device) AS devices,
                count() AS faults,
                {meaning_of("toString(lines.fault_class)", "lines.fault_code", "toString(lines.fault_case)")},
                max(lines.time) AS last
            FROM syslogs AS lines
            WHERE {FAULTS} AND lines.fault_code > 0
            GROUP BY lines.fault_severity, lines.fault_class, lines.fault_code, lines.fault_case
            ORDER BY lines.fault_severity DESC, nodes DESC, faults DESC, kind, code, lines.fault_case
            LIMIT 100
            """,
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
            f"""
            SELECT $__timeInterval(series.time) AS time, toString(series.measure) AS metric, avg(series.value) AS mean
            FROM {drawn_points(NODE_POINTS)}
            GROUP BY time, metric
            ORDER BY time, metric
            """,
            by="metric",
            unit="percent",
            description="As CloudMonitor or resource groups report them, under node names of their own: all are shown.",
        ),
        series(
            "Job metrics, mean of all pods",
            f"""
            SELECT $__timeInterval(series.time) AS time, toString(series.measure) AS metric, avg(series.value) AS mean
            FROM {drawn_points(JOB_POINTS)}
            GROUP BY time, metric
            ORDER BY time, metric
            """,
            by="metric",
            unit="percent",
            description="From CloudMonitor where it has them, else from the jobs themselves.",
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
                toString(lines.fault_severity) AS fault_severity,
                toString(lines.fault_class) AS fault,
                toUInt32(lines.fault_code) AS code,
                toString(lines.fault_device) AS device,
                toString(lines.syslogtag) AS program
            FROM syslogs AS lines
            WHERE {FAULTS}
            ORDER BY timestamp DESC
            LIMIT 500
            """,
        ),
    ),
)
