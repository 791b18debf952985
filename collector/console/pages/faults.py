"""Faults: incidents with what they mean and what to do, when which node had some, and Xids."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlencode

from collector.console.page import PageRequest
from collector.console.pages.nodes import HOUR, ROWS_CHOICES, SEVERITIES, first_rows, row_choices, whole_number
from collector.console.pages.overview import fault_name
from collector.console.period import iso, moment
from collector.console.steps import Coverage, Steps, coverages
from collector.console.store import Answer
from collector.console.table import Chart, Choice, Column, Kind, Row, Series, Table, View
from collector.errors import UsageError
from collector.units import rough_duration

NODES_MAX: Final = 50
STEPS_MAX: Final = 48
KINDS_ROWS_MAX: Final = 10_000
"""Rows of the named query `faults`, one a device and node, that are folded into kinds."""

INCIDENTS: Final = (
    Column("fault_severity", "severity", Kind.STATE),
    Column("last", "last line", Kind.TIME),
    Column("lasted", "lasted", Kind.DURATION, hint="from its first to its last line"),
    Column("node_id", "node", Kind.CODE, link="/nodes/{node_id}?from={since}&until={until}"),
    Column("fault", "fault", Kind.CODE, link="/logs?q=node:{node_id}&from={since}&until={until}"),
    Column("device", "device", Kind.CODE),
    Column("lines", "lines", Kind.NUMBER),
    Column("meaning", "meaning"),
    Column("action", "what to do"),
    Column("users", "users", Kind.LIST),
    Column("jobs", "jobs", Kind.LIST),
)
KINDS: Final = (
    Column("fault", "fault", Kind.CODE),
    Column("fault_severity", "severity", Kind.STATE),
    Column("incidents", "incidents", Kind.NUMBER),
    Column("lines", "lines", Kind.NUMBER),
    Column("nodes", "nodes", Kind.NUMBER),
    Column("devices", "devices", Kind.NUMBER),
    Column("last", "last line", Kind.TIME),
    Column("meaning", "meaning"),
    Column("action", "what to do"),
)
XIDS: Final = (
    Column("code", "Xid", Kind.NUMBER),
    Column("fault_severity", "severity", Kind.STATE),
    Column("time", "time", Kind.TIME, link="/logs?q=node:{node_id}&from={since}&until={until}"),
    Column("node_id", "node", Kind.CODE, link="/nodes/{node_id}?from={since}&until={until}"),
    Column("device", "device", Kind.CODE),
    Column("process", "process", Kind.CODE),
    Column("pid", "pid", Kind.CODE, hint="of the process"),
    Column("meaning", "meaning"),
    Column("action", "what to do"),
)
NODES: Final = (
    Column("node_id", "node", Kind.CODE, link="/nodes/{node_id}"),
    Column("fatal", "fatal", Kind.NUMBER),
    Column("degraded", "degraded", Kind.NUMBER),
    Column("application", "application", Kind.NUMBER),
    Column("fault_hours", "hours", Kind.NUMBER, hint="hours with a fault"),
    Column("fault_days", "days", Kind.NUMBER, hint="days with a fault, UTC"),
    Column("lines", "lines", Kind.NUMBER),
    Column("fault", "worst", Kind.CODE),
    Column("meaning", "meaning"),
    Column("action", "what to do"),
    Column("last", "last line", Kind.TIME),
)
HEAT: Final = (
    Column("node_id", "node", Kind.CODE, link="/nodes/{node_id}"),
    Column("time", "from", Kind.TIME),
    Column("fault_severity", "worst", Kind.STATE),
    Column("lines", "lines", Kind.NUMBER),
    Column("covered_seconds", "covered", Kind.DURATION, hint="of the step, as far as the log is collected"),
)
_BAR_ORDER: Final = ("info", "fatal", "corrected", "application", "degraded")
"""So that the colours of the chart, which go by place, suit what they mean."""
_NAMES: Final = ("fatal", "degraded", "application", "corrected", "info")


@dataclass(frozen=True, slots=True)
class HeatCell:
    """A node in one step of the heat map."""

    severity: str
    """Of the worst fault; `unknown` if nothing of the step is covered, empty if there is no fault."""
    text: str
    """Number of lines, as short as it can be said."""
    label: str
    """In words."""
    href: str


@dataclass(frozen=True, slots=True)
class HeatRow:
    """A node in the heat map."""

    node_id: str
    href: str
    cells: Sequence[HeatCell]


async def faults(asked: PageRequest) -> View:
    period = asked.period()
    node, fault_class, severity = asked.text("node"), asked.text("class"), asked.text("severity")
    if severity not in SEVERITIES:
        raise UsageError(f"severity: got {severity[:60]!r}; expected one of {', '.join(SEVERITIES[1:])}")
    rows_max = whole_number("rows", asked.text("rows"), ROWS_CHOICES[0], ROWS_CHOICES[-1])
    steps = Steps.of(period, STEPS_MAX, 300)
    store = asked.store
    of_node = {"node": node}
    exact = steps.parameters | {"since": str(period.start), "end": str(period.end)}
    filters = {"node": node, "class": fault_class}
    counts, incidents, cells, kinds, worst, xids, streams, gaps = await asyncio.gather(
        store.own("fault_counts", exact | of_node),
        store.named("incidents", period.parameters | filters | {"severity": severity, "rows": str(rows_max + 1)}),
        store.own("fault_heatmap", exact | filters | {"severity": severity, "rows": str(NODES_MAX)}),
        store.named("faults", period.parameters | filters | {"rows": str(KINDS_ROWS_MAX)}),
        # These two take fewer filters than the page has: the others choose among all rows.
        store.named(
            "worst_nodes",
            period.parameters | {"class": fault_class, "rows": str(KINDS_ROWS_MAX if node else rows_max + 1)},
        ),
        store.named(
            "xids", period.parameters | of_node | {"rows": str(KINDS_ROWS_MAX if fault_class else rows_max + 1)}
        ),
        store.own("node_streams", of_node),
        store.own("node_gaps", steps.range | of_node),
    )
    # The named queries behind these count in whole hours.
    hours = f"in the {period.hours} hour{'s' * (period.hours != 1)} until its end" if period.seconds % HOUR else ""
    heat, rows = _heat(steps, cells, coverages(streams, gaps), (period.start, min(period.end, asked.now)))
    return View(
        "faults.html",
        {
            "incidents": first_rows(_incidents(incidents, period.start), rows_max),
            "severities": _severities(asked, counts, severity),
            "classes": _classes(asked, counts, fault_class, severity),
            "row_choices": row_choices(asked, rows_max),
            "over_time": _over_time(steps, counts, fault_class, severity),
            "heat": heat,
            "heat_heads": _heads(steps),
            "step": rough_duration(steps.step),
            "heatmap": Table(
                "heatmap",
                "Nodes by time",
                HEAT,
                rows,
                "no fault like this in this range",
                cells.failure or streams.failure or gaps.failure,
                cells.sql,
                f"the worst {NODES_MAX} nodes" if len(heat) >= NODES_MAX else "",
            ),
            "kinds": first_rows(_kinds(kinds, severity, hours), rows_max),
            "xids": first_rows(_xids(xids, fault_class, severity, period.start), rows_max),
            "worst_nodes": first_rows(_worst(worst, node, hours), rows_max),
        },
    )


def _is_as_bad(row: Row, severity: str) -> bool:
    return SEVERITIES.index(row["fault_severity"]) >= SEVERITIES.index(severity)


def _severities(asked: PageRequest, counts: Answer, chosen: str) -> list[Choice]:
    fault_class = asked.text("class")
    lines = Counter[str]()
    for row in counts.rows:
        if not fault_class or row["fault_class"] == fault_class:
            lines[row["fault_severity"]] += row["lines"]
    choices = [Choice("all", asked.address(severity=None), not chosen)]
    for name in _NAMES:
        least = SEVERITIES.index(name)
        count = sum(number for other, number in lines.items() if SEVERITIES.index(other) >= least)
        title = name if name == "fatal" else f"{name} and worse"
        known = None if counts.failure else count
        choices.append(Choice(title, asked.address(severity=name), name == chosen, known))
    return choices


def _classes(asked: PageRequest, counts: Answer, chosen: str, severity: str) -> list[Choice]:
    lines = Counter[str]()
    for row in counts.rows:
        if _is_as_bad(row, severity):
            lines[row["fault_class"]] += row["lines"]
    names = {name: count for name, count in lines.most_common()}
    if chosen and chosen not in names:
        names[chosen] = 0
    all_of_them = Choice("all classes", asked.address(**{"class": None}), not chosen)
    return [
        all_of_them,
        *(Choice(name, asked.address(**{"class": name}), name == chosen, count) for name, count in names.items()),
    ]


def _over_time(steps: Steps, counts: Answer, fault_class: str, severity: str) -> Chart:
    lines: dict[str, list[int]] = {name: [0] * len(steps.times) for name in _BAR_ORDER}
    for row in counts.rows:
        if (not fault_class or row["fault_class"] == fault_class) and _is_as_bad(row, severity):
            lines[row["fault_severity"]][row["place"]] += row["lines"]
    shown = [Series(name, values, name) for name, values in lines.items()] if any(map(any, lines.values())) else []
    return Chart(
        "over-time",
        f"Fault lines, each {rough_duration(steps.step)}",
        list(steps.times) if shown else [],
        shown,
        "lines",
        is_stacked_bars=True,
        failure=counts.failure,
        sql=counts.sql,
    )


def _heat(
    steps: Steps, answer: Answer, covered: Mapping[str, Coverage], span: tuple[int, int]
) -> tuple[list[HeatRow], list[dict[str, Any]]]:
    """The heat map as it is drawn, and the rows that say the same: steps with a fault, or not covered as a whole."""
    drawn, rows = [], []
    for row in answer.rows:
        node_id = row["node_id"]
        found = {place: (severity, lines) for place, severity, lines in row["steps"]}
        coverage = covered.get(node_id)
        cells = []
        for place, time in enumerate(steps.times):
            severity, lines = found.get(place, ("", 0))
            start, end = max(time, span[0]), min(time + steps.step, span[1])
            seconds = coverage.seconds(start, end) if coverage else 0
            is_part = seconds < end - start
            if not lines and not seconds:
                severity = "unknown"
            elif lines == 0 and not is_part:
                cells.append(HeatCell("", "", "", ""))
                continue
            told = f"{severity}, {lines:,} line{'' if lines == 1 else 's'}" if lines else "no fault"
            if severity == "unknown":
                told = "not covered"
            elif is_part:
                told += ", partly not covered"
            cells.append(
                HeatCell(
                    severity,
                    _short(lines),
                    f"{node_id}, {iso(time)[:16].replace('T', ' ')} UTC: {told}",
                    _around(node_id, time, time + steps.step) if lines else "",
                )
            )
            if lines or severity == "unknown":
                rows.append(
                    {
                        "node_id": node_id,
                        "time": iso(time),
                        "fault_severity": severity if lines else None,
                        "lines": lines if lines else None,
                        "covered_seconds": seconds,
                    }
                )
        drawn.append(HeatRow(node_id, f"/nodes/{quote(node_id, safe='')}", cells))
    return drawn, rows


def _short(number: int) -> str:
    return "" if not number else str(number) if number < 1000 else f"{number // 1000}k" if number < 1_000_000 else "M"


def _around(node_id: str, start: int, end: int) -> str:
    """The address of a node at a time, with at least an hour around it."""
    margin = max(0, HOUR - (end - start)) // 2
    query = urlencode({"from": iso(start - margin), "until": iso(end + margin)})
    return f"/nodes/{quote(node_id, safe='')}?{query}"


def _heads(steps: Steps) -> list[tuple[str, int]]:
    """Titles of the heat map's columns, each over some of them: as many as fit beside one another."""
    each = max(1, -(-len(steps.times) // 12))
    heads = []
    for place in range(0, len(steps.times), each):
        text = iso(steps.times[place])
        is_day = steps.step >= 86_400 or place == 0 or text[11:16] == "00:00"
        title = text[5:10] if steps.step >= 86_400 else f"{text[5:10]} {text[11:16]}" if is_day else text[11:16]
        heads.append((title, min(each, len(steps.times) - place)))
    return heads


def _spread(row: Row, first: str, last: str) -> dict[str, str]:
    return {"since": iso(moment(row[first]) - 1800), "until": iso(moment(row[last]) + 1800)}


def _incidents(answer: Answer, start: int) -> Table:
    rows = [
        {
            **row,
            "fault": fault_name(row),
            "lasted": moment(row["last"]) - moment(row["first"]),
            **_spread(row, "first", "last"),
        }
        for row in answer.rows
        # The named queries count in whole hours.
        if moment(row["last"]) >= start
    ]
    return Table(
        "incidents",
        "Incidents, worst first",
        INCIDENTS,
        rows,
        "no incident like this in this range",
        answer.failure,
        answer.sql,
    )


def _kinds(answer: Answer, severity: str, hours: str) -> Table:
    folded: dict[tuple[str, str], dict[str, Any]] = {}
    for row in answer.rows:
        if not _is_as_bad(row, severity):
            continue
        kind = folded.setdefault(
            (fault_name(row), row["fault_severity"]),
            {
                "fault": fault_name(row),
                "fault_severity": row["fault_severity"],
                "incidents": 0,
                "lines": 0,
                "of": set(),
                "on": set(),
                "last": "",
                "meaning": row["meaning"],
                "action": row["action"],
            },
        )
        kind["incidents"] += row["incidents"]
        kind["lines"] += row["lines"]
        kind["of"].add((row["node_id"], row["device"]))
        kind["on"].add(row["node_id"])
        kind["last"] = max(kind["last"], row["last"])
    rows = [
        {name: value for name, value in kind.items() if name not in ("of", "on")}
        | {"nodes": len(kind["on"]), "devices": len([device for _, device in kind["of"] if device])}
        for kind in folded.values()
    ]
    rows.sort(key=lambda kind: (-SEVERITIES.index(kind["fault_severity"]), -kind["lines"], kind["fault"]))
    many = f"of the first {KINDS_ROWS_MAX:,} devices and nodes only" if len(answer.rows) >= KINDS_ROWS_MAX else ""
    cut = "; ".join(filter(None, (hours, many)))
    return Table("kinds", "By kind", KINDS, rows, "no fault like this in this range", answer.failure, answer.sql, cut)


def _xids(answer: Answer, fault_class: str, severity: str, start: int) -> Table:
    rows = [
        {**row, "pid": str(row["pid"] or ""), **_spread(row, "time", "time")}
        for row in answer.rows
        if _is_as_bad(row, severity)
        and (not fault_class or row["fault_class"] == fault_class)
        and moment(row["time"]) >= start
    ]
    return Table("xids", "Xid and SXid lines", XIDS, rows, "no Xid like this in this range", answer.failure, answer.sql)


def _worst(answer: Answer, node: str, hours: str) -> Table:
    rows = [{**row, "fault": fault_name(row)} for row in answer.rows if not node or row["node_id"] == node]
    return Table(
        "worst_nodes",
        "Worst nodes",
        NODES,
        rows,
        "no node with a fault like this in this range",
        answer.failure,
        answer.sql,
        hours,
    )
