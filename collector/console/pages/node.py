"""A node: what was measured, what happened and what is not known of it, on one axis of time."""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final
from urllib.parse import quote, urlencode

from aiohttp import web

from collector.console.lanes import Lane
from collector.console.page import PageRequest
from collector.console.pages.nodes import ROWS_CHOICES, first_rows, row_choices, whole_number
from collector.console.pages.overview import fault_name
from collector.console.period import iso, moment
from collector.console.steps import Coverage, Steps, coverages
from collector.console.store import Answer
from collector.console.table import Chart, Column, Kind, Mark, Row, Series, Table, View
from collector.units import rough_duration

POINTS_MAX: Final = 240
SERIES_MAX: Final = 8
"""Of a chart: as many as there are colours."""
CHARTS_MAX: Final = 8
MARKS_MAX: Final = 300
CHART_INCIDENTS_MAX: Final = 3
ROWS_MAX: Final = 500
"""Incidents that are marked on the axis."""
EVENTS_MAX: Final = 200
LINES_SHOWN: Final = 30
SILENT_MINUTES: Final = 60
SEEN_DAYS: Final = 30
"""A node that no list and no stream knows has been seen if it logged or was measured so lately."""

INCIDENTS: Final = (
    Column("fault_severity", "severity", Kind.STATE),
    Column("first", "first", Kind.TIME),
    Column("last", "last", Kind.TIME),
    Column("fault", "fault", Kind.CODE, link="/logs?q={query}&from={since}&until={until}"),
    Column("device", "device", Kind.CODE),
    Column("lines", "lines", Kind.NUMBER),
    Column("meaning", "meaning"),
    Column("action", "what to do"),
    Column("users", "users", Kind.LIST),
    Column("jobs", "jobs", Kind.LIST),
)
EVENTS: Final = (
    Column("time", "time", Kind.TIME),
    Column("event_type", "type", Kind.STATE),
    Column("reason", "reason"),
    Column("entity_id", "of", Kind.CODE),
    Column("content", "what happened", Kind.CODE),
)
DIAGNOSES: Final = (
    Column("diagnostic_id", "task", Kind.CODE),
    Column("diagnostic_type", "what is diagnosed"),
    Column("state", "state", Kind.STATE),
    Column("created_at", "created", Kind.TIME),
    Column("ended_at", "ended", Kind.TIME),
    Column("findings", "findings", Kind.NUMBER),
    Column("details", "what was found"),
)
JOBS: Final = (
    Column("job", "job", Kind.CODE, link="/usage?by=job&job={job}"),
    Column("name", "name"),
    Column("state", "state", Kind.STATE),
    Column("users", "users", Kind.LIST),
    Column("resource_group_id", "resource group", Kind.CODE, link="/usage?by=user&group={resource_group_id}"),
    Column("job_type", "type"),
    Column("first", "from", Kind.TIME),
    Column("last", "until", Kind.TIME, hint="empty where it runs"),
    Column("known_by", "known by", hint="usage names a user's nodes and jobs, not which job was on which node"),
)
LINES: Final = (
    Column("time", "time", Kind.TIME),
    Column("severity", "severity"),
    Column("fault_severity", "fault", Kind.STATE),
    Column("syslogtag", "program", Kind.CODE),
    Column("msg", "message", Kind.CODE),
)
COVERAGE: Final = (
    Column("first", "from", Kind.TIME),
    Column("last", "until", Kind.TIME),
    Column("seconds", "long", Kind.DURATION),
    Column("what", "what"),
    Column("reason", "why"),
)
_FAMILIES: Final = (
    ("gpu", "GPU"),
    ("cpu", "CPU and memory"),
    ("mem", "CPU and memory"),
    ("network", "Network"),
    ("disk", "Disk"),
)


async def node(asked: PageRequest) -> View:
    period = asked.period()
    node_id = asked.fields["node_id"]
    rows_max = whole_number("rows", asked.text("rows"), ROWS_CHOICES[0], ROWS_CHOICES[-1])
    steps = Steps.of(period, POINTS_MAX, 60)
    store = asked.store
    one = {"node": node_id}
    lately = {"start": str(asked.now // 3600 * 3600 - SEEN_DAYS * 86_400), "end": str(asked.now + 60)}
    listed, streams, seen = await asyncio.gather(
        store.own("node_inventory", one),
        store.own("node_streams", one),
        store.own("node_seen", one | lately),
    )
    points = Answer()
    if not (listed.rows or streams.rows or seen.rows):
        points = await store.own("node_measured", one | lately)
    if other := _of_host(asked, node_id, listed, seen):
        return other
    known = _known(node_id, listed, streams, seen, points)
    host = str(known["hostname"] or "")
    names = one | {"host": host}
    incidents, gaps, metrics, lines, silences, jobs, pods, diagnoses = await asyncio.gather(
        store.named("incidents", one | period.parameters | {"rows": str(ROWS_MAX)}),
        store.own("node_gaps", one | steps.range),
        store.own("node_metrics", names | steps.parameters),
        store.own("node_lines", one | steps.parameters),
        store.own("node_silences", one | steps.range | {"minutes": str(SILENT_MINUTES)}),
        store.own("node_jobs", names | steps.range),
        store.own("node_pods", names),
        store.own("node_diagnoses", one),
    )
    # The named query counts in whole hours.
    incidents = replace(incidents, rows=[row for row in incidents.rows if moment(row["last"]) >= steps.start])
    of_node = _jobs(jobs, pods, steps)
    pod_jobs = "\n".join(sorted({row["job"] for row in pods.rows}))
    events, tail = await asyncio.gather(
        store.own("node_events", names | steps.range | {"jobs": pod_jobs, "rows": str(EVENTS_MAX)}),
        store.own("node_tail", one | _newest(steps, lines) | {"rows": str(LINES_SHOWN)}),
    )
    coverage = coverages(streams, gaps).get(node_id)
    stretches = _stretches(steps, coverage, silences, min(period.end, asked.now))
    coverage_failure = streams.failure or gaps.failure or silences.failure
    happened = _lanes(steps, incidents, events, diagnoses, of_node, jobs.failure or pods.failure)
    marks = _marks(happened, stretches)
    charts = [
        *_metric_charts(steps, metrics, marks),
        _line_chart(steps, lines, coverage, marks, asked.now),
    ]
    query = f"node:{_word(node_id)}"
    tables = [
        _incidents(incidents, query),
        Table(
            "uncovered",
            "Not covered and silent",
            COVERAGE,
            [row for row in stretches if row["what"] != "covered"],
            "all of this range is covered, and no time without lines is longer than an hour",
            coverage_failure,
            gaps.sql,
        ),
        Table(
            "jobs",
            "Jobs and users",
            JOBS,
            of_node,
            "neither usage nor the list of jobs names this node in this range",
            jobs.failure or pods.failure,
            jobs.sql,
        ),
        Table(
            "events",
            "Events",
            EVENTS,
            events.rows,
            "no event names this node or belongs to a job that the list of jobs has on it",
            events.failure,
            events.sql,
        ),
        Table(
            "diagnoses",
            "Diagnoses",
            DIAGNOSES,
            diagnoses.rows,
            "no diagnostic task of this node is known",
            diagnoses.failure,
            diagnoses.sql,
        ),
        Table("lines", "Newest lines", LINES, tail.rows, "no line in this range", tail.failure, tail.sql),
    ]
    return View(
        "node.html",
        {
            "node_id": node_id,
            "facts": known,
            "logs_href": "/logs?" + urlencode({"q": query} | period.query),
            "axis": {"start": steps.start, "end": steps.end},
            "charts": charts,
            "has_metrics": bool(metrics.rows or metrics.failure),
            "lanes": [_coverage_lane(stretches, coverage_failure, coverage), *happened],
            "row_choices": row_choices(asked, rows_max),
            **{table.name: first_rows(table, rows_max) for table in tables},
        },
        title=node_id,
    )


def _newest(steps: Steps, lines: Answer) -> dict[str, str]:
    """The last steps that have as many lines as are shown."""
    counts = {row["place"]: row["lines"] for row in lines.rows}
    start, count = steps.start, 0
    for place in sorted(counts, reverse=True):
        count += counts[place]
        if count >= LINES_SHOWN:
            start = steps.start + place * steps.step
            break
    return {"start": str(start), "end": str(steps.end)}


def _of_host(asked: PageRequest, name: str, listed: Answer, seen: Answer) -> View | None:
    """Lead from a host name, by which usage names nodes, to the node."""
    if not listed.rows or any(row["node_id"] == name for row in listed.rows) or seen.rows:
        return None
    node_id = listed.rows[0]["node_id"]
    suffix = ".json" if asked.http.path.endswith(".json") else ""
    query = f"?{asked.http.query_string}" if asked.http.query_string else ""
    href = f"/nodes/{quote(node_id, safe='')}{suffix}{query}"
    told = {"error": f"{name} is the host name of {node_id}", "hint": ""}
    return View("error.html", told, name, 302, renews=False, headers={"Location": href})


def _known(node_id: str, listed: Answer, streams: Answer, seen: Answer, points: Answer) -> dict[str, Any]:
    """What is known of a node. Raises HTTPNotFound if nothing is."""
    row = next((row for row in listed.rows if row["node_id"] == node_id), None)
    is_known = row is not None or bool(streams.rows or seen.rows or points.first.get("points"))
    failures = {answer.failure for answer in (listed, streams, seen, points) if answer.failure}
    if not is_known and not failures:
        raise web.HTTPNotFound(
            text=f"There is no node {node_id}: no list names it, no stream collects it, "
            f"and no line or metric of it is from the last {SEEN_DAYS} days."
        )
    stream = streams.first
    return {
        "hostname": row["hostname"] if row else seen.first.get("hostname") or None,
        "cluster": row["cluster_id"] if row else None,
        "machine": (row["machine_type"] or None) if row else None,
        "state": row["operating_state"] if row else None,
        "zone": (row["zone_id"] or None) if row else None,
        "listed": None if listed.failure else ("present" if row["is_present"] else "gone") if row else "never",
        "last_line": seen.first.get("last_line"),
        "collected_from": iso(stream["collected_from"]) if stream else None,
        "collected_until": iso(stream["watermark"]) if stream else None,
        "query": stream.get("query", ""),
        "failures": sorted(failures),
    }


def _stretches(steps: Steps, coverage: Coverage | None, silences: Answer, now: int) -> list[dict[str, Any]]:
    """The range in parts: what is covered, what is not and why, and silence within what is covered."""
    start, end = steps.start, min(steps.end, now)
    if coverage is None:
        return [_stretch(start, end, "not collected", "no stream collects the log of this node")]
    found = []
    if start < coverage.collected_from:
        found.append(_stretch(start, min(end, coverage.collected_from), "not collected", "before collecting began"))
    if coverage.watermark < end:
        found.append(_stretch(max(start, coverage.watermark), end, "not yet", "later than what is collected so far"))
    for hole in coverage.holes:
        found.append(_stretch(max(start, hole.start), min(end, hole.end), "gap", hole.reason))
    covered = _covered(coverage, start, end)
    for first, last in covered:
        found.append(_stretch(first, last, "covered", ""))
    for first, last in _silent(silences, covered) if not silences.failure else ():
        found.append(_stretch(first, last, "silent", "collected, and the node logged nothing"))
    return sorted((row for row in found if row["seconds"] > 0), key=lambda row: (row["start"], row["end"]))


def _covered(coverage: Coverage, start: int, end: int) -> list[tuple[int, int]]:
    found, reached = [], max(start, coverage.collected_from)
    last = min(end, coverage.watermark)
    for hole in sorted(coverage.holes, key=lambda hole: hole.start):
        if hole.start > reached:
            found.append((reached, min(hole.start, last)))
        reached = max(reached, hole.end)
    return [*found, (reached, last)] if reached < last else found


def _silent(silences: Answer, covered: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Times without a line in what is covered; what is not covered is not silent."""
    row = silences.first
    for first, last in covered:
        if not row:
            quiet = [(first, last)]
        else:
            quiet = [
                (first, row["first"]),
                *((before, after) for before, after in row["silences"]),
                (row["last"], last),
            ]
        for before, after in quiet:
            begun, ended = max(first, before), min(last, after)
            if ended - begun >= SILENT_MINUTES * 60:
                yield begun, ended


def _stretch(start: int, end: int, what: str, reason: str) -> dict[str, Any]:
    return {
        "first": iso(start),
        "last": iso(end),
        "seconds": end - start,
        "what": what,
        "reason": reason,
        "start": start,
        "end": end,
    }


_COVERAGE_STATES: Final = {
    "covered": "covered",
    "silent": "quiet",
    "gap": "missing",
    "not collected": "missing",
    "not yet": "outside",
}


def _coverage_lane(stretches: Sequence[Row], failure: str, coverage: Coverage | None) -> Lane:
    marks = [
        Mark(
            row["start"],
            f"{row['what']}, {rough_duration(row['seconds'])}" + (f": {row['reason']}" if row["reason"] else ""),
            _COVERAGE_STATES[row["what"]],
            row["end"],
        )
        # What is silent lies within what is covered, and is shown over it: in the same row, so it is cut out of it.
        for row in _parted(stretches)
    ]
    return Lane("Log", marks, failure, "not collected" if coverage is None else "none")


def _parted(stretches: Sequence[Row]) -> list[Row]:
    quiet = [row for row in stretches if row["what"] == "silent"]
    found: list[Row] = [row for row in stretches if row["what"] != "covered"]
    for row in stretches:
        if row["what"] != "covered":
            continue
        reached = row["start"]
        for hush in quiet:
            if row["start"] <= hush["start"] < row["end"]:
                found.append(_stretch(reached, hush["start"], "covered", ""))
                reached = hush["end"]
        found.append(_stretch(reached, row["end"], "covered", ""))
    return sorted((row for row in found if row["end"] > row["start"]), key=lambda row: row["start"])


def _lanes(
    steps: Steps, incidents: Answer, events: Answer, diagnoses: Answer, jobs: Sequence[Row], jobs_failure: str
) -> list[Lane]:
    return [
        Lane(
            "Incidents",
            [
                Mark(
                    moment(row["first"]),
                    f"{row['fault_severity']}: {fault_name(row)} {row['device']}".strip(),
                    row["fault_severity"],
                    moment(row["last"]),
                    "#incidents",
                )
                for row in incidents.rows
            ],
            incidents.failure,
        ),
        Lane(
            "Events",
            [
                Mark(
                    moment(row["time"]),
                    f"{row['reason']} {row['content']}"[:200].strip(),
                    row["event_type"],
                    None,
                    "#events",
                )
                for row in events.rows
            ],
            events.failure,
        ),
        Lane(
            "Diagnoses",
            [
                Mark(
                    row["began"],
                    f"{row['diagnostic_type']}: {row['state']}",
                    {"Fault": "degraded"}.get(row["state"], ""),
                    row["ended"] or steps.end,
                    "#diagnoses",
                )
                for row in diagnoses.rows
                if row["began"] and row["began"] < steps.end and (row["ended"] or steps.end) >= steps.start
            ],
            diagnoses.failure,
        ),
        Lane(
            "Jobs",
            [
                Mark(
                    row["began"],
                    f"{row['name'] or row['job'] or 'no job'} of {', '.join(row['users'])}",
                    "",
                    row["ended"],
                    "#jobs",
                )
                for row in jobs[:MARKS_MAX]
            ],
            jobs_failure,
        ),
    ]


def _marks(lanes: Sequence[Lane], stretches: Sequence[Row]) -> list[Mark]:
    """Return what every chart shows: the worst incidents, gaps, warnings, diagnoses, begins and ends of jobs."""
    incidents, events, diagnoses, jobs = (lane.marks for lane in lanes)
    # The lane has all of them; as bands over a chart, dozens would hide it.
    marks = [
        *incidents[:CHART_INCIDENTS_MAX],
        *diagnoses,
        *(mark for mark in events if mark.severity.lower() != "normal"),
    ]
    marks += [
        Mark(row["start"], f"log {row['what']}: {row['reason']}", "", row["end"])
        for row in stretches
        if row["what"] in ("gap", "silent", "not collected")
    ]
    for job in jobs:
        marks.append(Mark(job.time, f"{job.title} begins", "", None, job.href))
        if job.end is not None:
            marks.append(Mark(job.end, f"{job.title} ends", "", None, job.href))
    return marks[:MARKS_MAX]


def _jobs(shown: Answer, pods: Answer, steps: Steps) -> list[dict[str, Any]]:
    """Jobs from the list of jobs, which says where their pods are, and those that usage names beside them."""
    found: dict[str, dict[str, Any]] = {}
    for row in pods.rows:
        ended = row["ended"]
        if not row["began"] or row["began"] > steps.end or (ended and ended < steps.start):
            continue
        found[row["job"]] = {
            "job": row["job"],
            "name": row["name"],
            "state": row["state"],
            "users": [row["user_id"]],
            "resource_group_id": row["resource_group_id"],
            "job_type": row["job_type"],
            "first": iso(row["began"]),
            "last": iso(ended) if ended else "",
            "known_by": "list of jobs",
            "began": row["began"],
            "ended": ended or steps.end,
        }
    for row in shown.rows:
        if row["job"] in found:
            found[row["job"]]["known_by"] = "list of jobs, usage"
            continue
        found[row["job"]] = {
            **row,
            "name": row["name"] or None,
            "state": row["state"] or None,
            "known_by": "usage",
            "began": moment(row["first"]),
            "ended": moment(row["last"]),
        }
    return sorted(found.values(), key=lambda row: (-row["began"], row["job"]))


def _incidents(answer: Answer, query: str) -> Table:
    rows = [
        {
            **row,
            "fault": fault_name(row),
            "query": query,
            "since": iso(moment(row["first"]) - 60),
            "until": iso(moment(row["last"]) + 61),
        }
        for row in answer.rows
    ]
    return Table(
        "incidents",
        "Incidents",
        INCIDENTS,
        rows,
        "no fault in this range, as far as its log is covered",
        answer.failure,
        answer.sql,
    )


def _metric_charts(steps: Steps, answer: Answer, marks: Sequence[Mark]) -> list[Chart]:
    if answer.failure:
        return [Chart("metrics", "Metrics", [], [], failure=answer.failure, sql=answer.sql)]
    values: Mapping[tuple[str, str], dict[tuple[str, str], list[tuple[int, float]]]] = defaultdict(dict)
    for row in answer.rows:
        family = next((title for word, title in _FAMILIES if word in row["measure"].lower()), row["measure"])
        unit = "%" if family in ("GPU", "CPU and memory") and row["measure"].lower().endswith(("rate", "usage")) else ""
        values[family, unit].setdefault((row["measure"], row["gpu_type"]), []).append((row["place"], row["value"]))
    order = [title for _, title in _FAMILIES]
    charts: list[Chart] = []
    for (family, unit), series in sorted(
        values.items(), key=lambda item: (order.index(item[0][0]) if item[0][0] in order else len(order), item[0])
    )[:CHARTS_MAX]:
        several = len({gpu for _, gpu in series}) > 1
        charts.append(
            Chart(
                f"metric-{len(charts)}",
                family,
                _axis(steps),
                [
                    Series(f"{measure} {gpu}".strip() if several else measure, [*_held(steps.spread(pairs)), None])
                    for (measure, gpu), pairs in sorted(series.items())[:SERIES_MAX]
                ],
                unit,
                marks=marks,
                sql=answer.sql if not charts else "",
            )
        )
    return charts


def _line_chart(steps: Steps, answer: Answer, coverage: Coverage | None, marks: Sequence[Mark], now: int) -> Chart:
    faults = steps.spread([(row["place"], row["fault_lines"]) for row in answer.rows])
    others = steps.spread([(row["place"], row["lines"] - row["fault_lines"]) for row in answer.rows])
    for place, time in enumerate(steps.times):
        if faults[place] is None and coverage and coverage.seconds(time, min(time + steps.step, now)):
            faults[place] = others[place] = 0
    return Chart(
        "line-rate",
        f"Log lines, each {rough_duration(steps.step)}",
        _axis(steps),
        [Series("without a fault", [*others, None]), Series("with a fault", [*faults, None])],
        "lines",
        is_stacked_bars=True,
        marks=marks,
        failure=answer.failure,
        sql=answer.sql,
    )


def _axis(steps: Steps) -> list[int]:
    """Times of every chart of the page, so that all have one axis: the steps, and the end of the last."""
    return [*steps.times, steps.end]


def _held(values: Sequence[float | None]) -> list[float | None]:
    """Let each mean hold for the time that it is the mean of: until the next one, as they usually follow."""
    places = [place for place, value in enumerate(values) if value is not None]
    usual = min((after - before for before, after in itertools.pairwise(places)), default=1)
    held = list(values)
    for place in places:
        for later in range(place + 1, min(place + usual, len(held))):
            if held[later] is None:
                held[later] = values[place]
    return held


def _word(text: str) -> str:
    """A value in the words of the logs page, quoted where it must be."""
    return f'"{text}"' if any(letter.isspace() or letter in '":' for letter in text) else text
