"""Faults folded into incidents, and what they mean, as SQL for panels."""

from __future__ import annotations

import textwrap

from collector.store.parts import part

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
    """Return the query of the worst incidents among the fault `lines` that meet `condition`, the worst first."""
    worst = ("found.worst.2", "found.code", "found.worst.3")
    return f"""
            SELECT
                toString(found.worst.1) AS severity,
                toDateTime(found.spell[1].1) AS first,
                toDateTime(found.spell[-1].1) AS last,
                toString(found.node_id) AS node,
                found.spell[-1].4.1 AS host,
                toString(found.device) AS device,
                found.worst.2 AS fault,
                toUInt32(found.code) AS code,
                arraySum(found.spell.2) AS faults,
                {meaning_of(*worst)},
                {meaning_of(*worst, what="action")}
            FROM
            (
                SELECT
                    incidents.node_id AS node_id,
                    incidents.fault_code AS code,
                    incidents.device AS device,
                    incidents.spell AS spell,
                    arrayReduce('max', spell.3) AS worst
                FROM
                (
{textwrap.indent(part("incidents", condition), " " * 20)}
                ) AS incidents
            ) AS found
            ORDER BY found.worst.1 DESC, last DESC, node, fault, code, device, first
            LIMIT {rows}
            """
