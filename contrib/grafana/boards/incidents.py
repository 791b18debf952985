"""Faults folded into incidents, and what they mean, as SQL for panels."""

from __future__ import annotations

_KNOWN = """(
                SELECT tuple(
                    groupArray(concat(codes.fault_class, ' ', toString(codes.fault_code), ' ', codes.fault_case)),
                    groupArray(codes.meaning), groupArray(codes.action)
                )
                FROM fault_codes AS codes
            )"""
_COLUMN = {"meaning": 2, "action": 3}


def meaning_of(fault_class: str, code: str, case: str, what: str = "meaning") -> str:
    """Return the column `meaning` or `action` of a fault, from expressions of its class, number and case."""
    known, column = _KNOWN, _COLUMN[what]
    return (
        f"transform(concat({fault_class}, ' ', toString({code}), ' ', {case}), {known}.1, {known}.{column},"
        f" transform(concat({fault_class}, ' 0 ', {case}), {known}.1, {known}.{column}, '')) AS {what}"
    )


def incidents_sql(condition: str, rows: int = 100) -> str:
    """Return the query of the worst incidents among the `lines` of `syslogs` that meet `condition`, the worst first."""
    worst = ("found.worst.2", "found.code", "found.worst.3")
    return f"""
            SELECT
                toString(found.worst.1) AS severity,
                toDateTime(found.spell[1].1) AS first,
                toDateTime(found.spell[-1].1) AS last,
                toString(found.node_id) AS node,
                found.spell[-1].4 AS host,
                toString(found.device) AS device,
                found.worst.2 AS fault,
                toUInt32(found.code) AS code,
                arraySum(found.spell.2) AS faults,
                {meaning_of(*worst)},
                {meaning_of(*worst, what="action")}
            FROM
            (
                SELECT
                    folded.node_id AS node_id,
                    folded.code AS code,
                    folded.device AS device,
                    arrayJoin(
                        arraySplit((line, gap) -> gap > 300, folded.seen, arrayDifference(folded.seen.1))
                    ) AS spell,
                    arrayReduce('max', spell.3) AS worst
                FROM
                (
                    SELECT
                        seconds.node_id AS node_id, seconds.cause AS cause, seconds.code AS code,
                        seconds.device AS device,
                        arraySort(groupArray(tuple(seconds.moment, seconds.lines, seconds.worst, seconds.host))) AS seen
                    FROM
                    (
                        SELECT
                            lines.node_id AS node_id,
                            if(lines.fault_class = 'gpu_fallen_off_bus', 'xid', toString(lines.fault_class)) AS cause,
                            lines.fault_code AS code,
                            lines.fault_device AS device,
                            toUnixTimestamp(lines.time) AS moment,
                            count() AS lines,
                            max(
                                tuple(lines.fault_severity, toString(lines.fault_class), toString(lines.fault_case))
                            ) AS worst,
                            max(toString(lines.hostname)) AS host
                        FROM syslogs AS lines
                        WHERE {condition}
                        GROUP BY node_id, cause, code, device, moment
                    ) AS seconds
                    GROUP BY node_id, cause, code, device
                ) AS folded
            ) AS found
            ORDER BY found.worst.1 DESC, last DESC, node, fault, code, device, first
            LIMIT {rows}
            """
