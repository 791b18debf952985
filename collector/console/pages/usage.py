"""Usage: what groups, users and jobs asked for against what they used, what was held idle, and hours to be charged."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlencode

from collector.console.drawing import number
from collector.console.page import PageRequest
from collector.console.pages.nodes import ROWS_CHOICES, first_rows, row_choices, whole_number
from collector.console.pages.overview import fault_name
from collector.console.period import Period, iso, moment
from collector.console.steps import Steps
from collector.console.store import Answer
from collector.console.table import Chart, Choice, Column, Kind, Row, Series, Table, Tile, View
from collector.errors import UsageError

POINTS_MAX: Final = 240
HOUR: Final = 3600
TABS: Final = ("group", "user", "job")

_HOURS: Final = (
    Column("gpu_hours", "GPU hours", Kind.NUMBER, hint="asked for"),
    Column("gpu_hours_used", "used", Kind.NUMBER, hint="GPU hours times utilization"),
    Column("gpu_percent", "used %", Kind.PERCENT, hint="of those whose utilization is known"),
    Column("gpu_hours_unused", "unused", Kind.NUMBER, hint="GPU hours that were asked for, measured and not used"),
)
_CPU_HOURS: Final = (
    Column("cpu_hours", "CPU hours", Kind.NUMBER, hint="asked for"),
    Column("cpu_percent", "used %", Kind.PERCENT, hint="of those whose utilization is known"),
)
GROUPS: Final = (
    Column(
        "resource_group_id",
        "resource group",
        Kind.CODE,
        link="/usage?by=user&group={resource_group_id}&from={since}&until={until}",
    ),
    *_HOURS,
    Column("total_gpu", "GPUs", Kind.NUMBER, hint="that the group may use, by its latest snapshot"),
    Column("asked_percent", "asked of all", Kind.PERCENT, hint="GPU hours asked for, of all that the group has"),
    *_CPU_HOURS,
    Column("users", "users", Kind.NUMBER),
    Column("hours_known", "hours known", Kind.NUMBER, hint="of the range, in which snapshots are there"),
)
USERS: Final = (
    Column("user_id", "user", Kind.CODE, link="/usage?by=job&user={user_id}&from={since}&until={until}"),
    Column("resource_group_id", "resource group", Kind.CODE),
    Column("workspace_id", "workspace", Kind.CODE),
    *_HOURS,
    Column("gpus_most", "most GPUs", Kind.NUMBER, hint="in a snapshot"),
    *_CPU_HOURS,
    Column("job_types", "types", Kind.LIST),
    Column("last", "last seen", Kind.TIME),
)
JOBS: Final = (
    Column("job", "job", Kind.CODE, link="/usage?by=job&job={job}&from={since}&until={until}"),
    Column("name", "name"),
    Column("state", "state", Kind.STATE),
    Column("users", "users", Kind.LIST),
    Column("resource_group_id", "resource group", Kind.CODE),
    Column("job_type", "type"),
    Column("gpus", "GPUs", Kind.NUMBER, hint="asked for, by the list of jobs"),
    Column("gpu_hours", "GPU hours", Kind.NUMBER, hint="asked for while it ran in this range"),
    Column("gpu_percent", "used %", Kind.PERCENT, hint="mean of its metrics"),
    Column("first", "from", Kind.TIME),
    Column("last", "until", Kind.TIME, hint="empty where it runs"),
    Column("nodes", "nodes", Kind.LIST, hint="of its user while it ran, by usage"),
)
IDLE: Final = (
    Column("user_id", "user", Kind.CODE, link="/usage?by=job&user={user_id}&from={since}&until={until}"),
    Column("resource_group_id", "resource group", Kind.CODE),
    Column("workspace_id", "workspace", Kind.CODE),
    Column("job_type", "type"),
    Column("first", "from", Kind.TIME),
    Column("last", "until", Kind.TIME),
    Column("seconds", "long", Kind.DURATION),
    Column("gpus", "most GPUs", Kind.NUMBER),
    Column("mean_rate", "mean use", Kind.PERCENT),
    Column("gpu_hours", "GPU hours", Kind.NUMBER, hint="held and hardly used"),
)
NOW: Final = (
    Column("user_id", "user", Kind.CODE, link="/usage?by=job&user={user_id}"),
    Column("resource_group_id", "resource group", Kind.CODE),
    Column("workspace_id", "workspace", Kind.CODE),
    Column("job_type", "type"),
    Column("request_gpu", "GPUs", Kind.NUMBER),
    Column("gpu_usage_rate", "GPU", Kind.PERCENT),
    Column("request_cpu", "CPUs", Kind.NUMBER),
    Column("cpu_usage_rate", "CPU", Kind.PERCENT),
    Column("memory_usage_rate", "memory", Kind.PERCENT),
    Column("nodes", "nodes", Kind.NUMBER),
    Column("time", "snapshot", Kind.TIME),
)
CHARGE: Final = (
    Column("resource_group_id", "resource group", Kind.CODE),
    Column("workspace_id", "workspace", Kind.CODE),
    Column("user_id", "user", Kind.CODE),
    Column("range_from", "from", Kind.TIME),
    Column("range_until", "until", Kind.TIME),
    Column("gpu_hours", "GPU hours", Kind.NUMBER),
    Column("gpu_hours_used", "GPU hours used", Kind.NUMBER),
    Column("cpu_hours", "CPU hours", Kind.NUMBER),
    Column("cpu_hours_used", "CPU hours used", Kind.NUMBER),
    Column("hours_known", "hours known", Kind.NUMBER, hint="of the range, in which snapshots of the group are there"),
    Column("hours_in_range", "hours in range", Kind.NUMBER),
)
JOB_FAULTS: Final = (
    Column("node", "node", Kind.CODE, link="/nodes/{node}?from={since}&until={until}"),
    Column("fault_severity", "severity", Kind.STATE),
    Column("fault", "fault", Kind.CODE),
    Column("device", "device", Kind.CODE),
    Column("first_fault", "first", Kind.TIME),
    Column("seconds_before", "before its end", Kind.DURATION),
    Column("incidents", "incidents", Kind.NUMBER),
    Column("fault_lines", "lines", Kind.NUMBER),
    Column("meaning", "meaning"),
    Column("action", "what to do"),
)


async def usage(asked: PageRequest) -> View:
    period = asked.period()
    by = asked.text("by", "user")
    if by not in TABS:
        raise UsageError(f"by: got {by[:60]!r}; expected one of {', '.join(TABS)}")
    rows_max = whole_number("rows", asked.text("rows"), ROWS_CHOICES[0], ROWS_CHOICES[-1])
    steps = Steps.of(period, POINTS_MAX, 60)
    store = asked.store
    filters = {
        name: asked.text(given)
        for name, given in (("resource_group", "group"), ("workspace", "workspace"), ("user", "user"))
    }
    group = {"resource_group": filters["resource_group"]}
    span = {"start": str(period.start), "end": str(period.end)}
    charge, over_time, idle, capacity = await asyncio.gather(
        store.own("usage_charge", span | filters),
        store.own("usage_by_time", steps.parameters | filters),
        store.named("idle_gpus", period.parameters | filters | {"rows": str(10_000)}),
        store.own("usage_capacity", span | group),
    )
    query = urlencode(period.query)
    idle_table = _idle(idle, period)
    tables: dict[str, Table] = {}
    if by == "group":
        tables["groups"] = _groups(charge, capacity, period)
    elif by == "user":
        tables["users"] = _users(charge, period)
    else:
        tables |= await _by_job(asked, period, span, filters)
    latest = await store.named("usage", group | {"workspace": filters["workspace"]}) if by != "job" else None
    if latest is not None:
        rows = [row for row in latest.rows if not filters["user"] or row["user_id"] == filters["user"]]
        tables["now_table"] = Table(
            "now",
            "In the latest snapshot",
            NOW,
            rows,
            "no snapshot of the last day has such a user",
            latest.failure,
            latest.sql,
        )
    return View(
        "usage.html",
        {
            **{name: first_rows(table, rows_max) for name, table in tables.items()},
            "idle": first_rows(idle_table, rows_max),
            "row_choices": row_choices(asked, rows_max),
            "charge": _charge(charge, period),
            "by": by,
            "tabs": [Choice(f"by {name}", asked.address(by=name, job=None), name == by) for name in TABS],
            "chosen": [
                Choice(f"{name} {value}", asked.address(**{name: None}), True)
                for name in ("group", "workspace", "user", "job")
                if (value := asked.text(name))
            ],
            "tiles": _tiles(charge, idle, f"?{query}"),
            "charts": _charts(steps, over_time),
            "shown": list(tables),
        },
    )


def _span(period: Period) -> dict[str, str]:
    """Return the fields of a row that its links need."""
    return {"since": iso(period.start), "until": iso(period.end)}


def _whole(rows: Sequence[Row]) -> list[Row]:
    """Rows that can be summed: of whole resource groups, and of workspaces only where there is no whole."""
    with_whole = {row["resource_group_id"] for row in rows if not row["workspace_id"]}
    return [row for row in rows if not row["workspace_id"] or row["resource_group_id"] not in with_whole]


def _sum(rows: Iterable[Row], name: str) -> float | None:
    known = [float(row[name]) for row in rows if row[name] is not None]
    return round(sum(known), 4) if known else None


def _shares(row: Mapping[str, Any]) -> dict[str, Any]:
    """Shares of a row with hours asked for, measured and used; None where nothing was measured."""
    shares: dict[str, Any] = {}
    for name in ("gpu", "cpu"):
        measured, used = row[f"{name}_hours_measured"], row[f"{name}_hours_used"]
        shares[f"{name}_percent"] = round(used / measured * 100, 1) if measured and used is not None else None
    measured, used = row["gpu_hours_measured"], row["gpu_hours_used"]
    shares["gpu_hours_unused"] = round(measured - used, 4) if measured is not None and used is not None else None
    return shares


_SUMMED: Final = (
    "gpu_hours",
    "gpu_hours_used",
    "gpu_hours_measured",
    "cpu_hours",
    "cpu_hours_used",
    "cpu_hours_measured",
)


def _groups(charge: Answer, capacity: Answer, period: Period) -> Table:
    known = {row["resource_group_id"]: row for row in capacity.rows}
    users: dict[str, list[Row]] = {name: [] for name in known}
    for row in _whole(charge.rows):
        users.setdefault(row["resource_group_id"], []).append(row)
    rows = []
    for name, of_group in users.items():
        sums: dict[str, Any] = {key: _sum(of_group, key) for key in _SUMMED}
        total = known.get(name, {}).get("total_gpu")
        hours = max((row["hours_known"] for row in of_group), default=None)
        asked = sums["gpu_hours"]
        rows.append(
            {
                "resource_group_id": name,
                **sums,
                **_shares(sums),
                "total_gpu": total,
                "hours_known": hours,
                "asked_percent": round(asked / (total * hours) * 100, 1)
                if total and hours and asked is not None
                else None,
                "users": len({row["user_id"] for row in of_group}),
                **_span(period),
            }
        )
    rows.sort(key=lambda row: (-(row["gpu_hours"] or 0), row["resource_group_id"]))
    return Table(
        "groups",
        "Resource groups",
        GROUPS,
        rows,
        "no snapshot of usage in this range",
        charge.failure or capacity.failure,
        charge.sql,
    )


def _users(charge: Answer, period: Period) -> Table:
    rows = [{**row, **_shares(row), **_span(period)} for row in charge.rows]
    rows.sort(key=lambda row: (-(row["gpu_hours_unused"] or 0), -(row["gpu_hours"] or 0), row["user_id"]))
    return Table(
        "users",
        "Users, most unused first",
        USERS,
        rows,
        "no snapshot of usage in this range",
        charge.failure,
        charge.sql,
    )


async def _by_job(
    asked: PageRequest, period: Period, span: Mapping[str, str], filters: Mapping[str, str]
) -> dict[str, Table]:
    store, job = asked.store, asked.text("job")
    given = {**span, **filters, "job": job}
    named, listed, gpus = await asyncio.gather(
        store.own("usage_job_names", given), store.own("usage_jobs", given), store.own("usage_job_gpus", span)
    )
    tables = {"jobs": _jobs(named, listed, gpus, period, asked.now)}
    if job:
        faults = await store.named("job_faults", {"job": job})
        rows = [
            {
                **row,
                "fault": fault_name(row) if row["fault_class"] else None,
                "since": iso(moment(row["first_fault"]) - HOUR) if row["first_fault"] else iso(period.start),
                "until": iso(moment(row["job_ended"]) + HOUR) if row["job_ended"] else iso(period.end),
            }
            for row in faults.rows
        ]
        tables["job_faults"] = Table(
            "job_faults",
            f"What the nodes of {job} reported before its end",
            JOB_FAULTS,
            rows,
            "neither usage nor the list of jobs names nodes of this job",
            faults.failure,
            faults.sql,
        )
    return tables


def _jobs(named: Answer, listed: Answer, gpus: Answer, period: Period, now: int) -> Table:
    shares = {row["job"]: row["gpu_percent"] for row in gpus.rows}
    seen = {row["job"]: row for row in named.rows}
    rows = []
    for row in listed.rows:
        usage = seen.pop(row["job"], None)
        began, ended, count = row["began"], row["ended"], row["gpus"]
        until = ended or (now if row["is_present"] else None)
        seconds = max(0, min(until, period.end) - max(began, period.start)) if began and until else None
        rows.append(
            {
                "job": row["job"],
                "name": row["name"],
                "state": row["state"],
                "users": [row["user_id"]],
                "resource_group_id": row["resource_group_id"],
                "job_type": row["job_type"],
                "gpus": count,
                "gpu_hours": round(count * seconds / HOUR, 4) if count is not None and seconds is not None else None,
                "gpu_percent": shares.get(row["job"]),
                "first": iso(began) if began else None,
                "last": iso(ended) if ended else "" if began else None,
                "nodes": usage["nodes"] if usage else None,
                **_span(period),
            }
        )
    rows += [
        {
            "job": row["job"],
            "name": None,
            "state": None,
            "users": row["users"],
            "resource_group_id": row["resource_group_id"],
            "job_type": row["job_type"],
            "gpus": None,
            "gpu_hours": None,
            "gpu_percent": shares.get(row["job"]),
            "first": row["first"],
            "last": row["last"],
            "nodes": row["nodes"],
            **_span(period),
        }
        for row in seen.values()
    ]
    rows.sort(key=lambda row: (-(row["gpu_hours"] or 0), row["job"]))
    return Table(
        "jobs",
        "Jobs, most GPU hours first",
        JOBS,
        rows,
        "neither usage nor the list of jobs names a job in this range",
        named.failure or listed.failure,
        named.sql,
    )


def _idle(answer: Answer, period: Period) -> Table:
    rows = [{**row, "seconds": row["minutes"] * 60, **_span(period)} for row in answer.rows]
    return Table(
        "idle",
        "Held but idle",
        IDLE,
        rows,
        "no user held GPUs for half an hour with less than 5 % of them used, as far as it was measured",
        answer.failure,
        answer.sql,
        "GPUs of which less than 5 % were used for at least half an hour" if rows else "",
    )


def _charge(charge: Answer, period: Period) -> Table:
    hours = round(period.seconds / HOUR, 4)
    rows = [
        {
            **{column.name: row.get(column.name) for column in CHARGE},
            "range_from": iso(period.start),
            "range_until": iso(period.end),
            "hours_in_range": hours,
        }
        for row in charge.rows
    ]
    return Table(
        "charge", "Hours to be charged", CHARGE, rows, "no snapshot of usage in this range", charge.failure, charge.sql
    )


def _tiles(charge: Answer, idle: Answer, query: str) -> list[Tile]:
    rows = _whole(charge.rows)
    sums = {name: _sum(rows, name) for name in _SUMMED}
    nothing = "no snapshot of usage in this range" if not rows else ""
    tiles = []
    for name, title in (("gpu", "GPU hours"), ("cpu", "CPU hours")):
        asked, used, measured = (sums[f"{name}_hours{end}"] for end in ("", "_used", "_measured"))
        share = (
            f"{number(round(used / measured * 100, 1))} % of those measured" if used is not None and measured else ""
        )
        tiles.append(
            Tile(
                f"{title} asked for",
                None if asked is None else number(round(asked, 1)),
                nothing,
                failure=charge.failure,
                sql=charge.sql,
            )
        )
        tiles.append(
            Tile(
                f"{title} used",
                None if used is None else number(round(used, 1)),
                nothing or share,
                failure=charge.failure,
                sql=charge.sql,
            )
        )
    wasted = sum(row["gpu_hours"] or 0 for row in idle.rows)
    held = number(round(wasted, 1)) if rows or idle.rows else None
    tiles.insert(
        2,
        Tile(
            "GPU hours held idle",
            held,
            nothing or f"{len(idle.rows):,} stretch{'es' * (len(idle.rows) != 1)} of half an hour or more",
            "warning" if wasted else "good" if rows else "",
            f"/usage{query}#idle",
            failure=idle.failure,
            sql=idle.sql,
        ),
    )
    return tiles


def _charts(steps: Steps, answer: Answer) -> list[Chart]:
    charts = []
    for name, title in (("gpus", "GPUs"), ("cpus", "CPUs")):
        series = [
            Series(word, steps.spread([(row["place"], row[f"{name}_{word}"]) for row in answer.rows]))
            for word in ("requested", "used")
        ]
        known = any(value is not None for line in series for value in line.values)
        charts.append(
            Chart(
                name,
                f"{title} requested and used",
                list(steps.times) if known else [],
                series,
                title,
                failure=answer.failure,
                sql=answer.sql,
            )
        )
    return charts
