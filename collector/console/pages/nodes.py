"""The nodes: all that are known from lists, logs and metrics, the worst first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from collector.console.page import PageRequest
from collector.console.pages.overview import fault_name
from collector.console.steps import Coverage, Steps, coverages
from collector.console.store import Answer
from collector.console.table import Choice, Column, Kind, Row, Table, View
from collector.errors import UsageError
from collector.units import rough_duration

NODES_MAX: Final = 20_000
ROWS_DEFAULT: Final = 100
ROWS_MAX: Final = 2_000
ROWS_CHOICES: Final = (30, 200, 1_000)
"""Of the tables of pages that have several, the first by default."""
POINTS_MAX: Final = 24
SILENT_MINUTES: Final = 60
HOUR: Final = 3600
SEVERITIES: Final = ("", "info", "corrected", "application", "degraded", "fatal")

COLUMNS: Final = (
    Column("node_id", "node", Kind.CODE, link="/nodes/{node_id}"),
    Column("fault_severity", "worst", Kind.STATE, hint="severity of the worst fault in the range"),
    Column("worst_fault", "worst fault", hint="of equally bad ones the latest"),
    Column("last_fault", "last fault"),
    Column("last_fault_at", "at", Kind.TIME),
    Column(
        "fault_rate", "faults an hour", Kind.SPARKLINE, hint="fault lines an hour; broken where logs are not covered"
    ),
    Column("gpu", "GPU", Kind.SPARKLINE, hint="GPU utilization; broken where no metric is known"),
    Column("gpu_mean", "mean", Kind.PERCENT, hint="GPU utilization over the range"),
    Column("log", "log", Kind.STATE, hint="silent: collected, and no line for an hour"),
    Column("silent", "silent for", hint="at the end of what is collected"),
    Column("last_line", "last line", Kind.TIME),
    Column("listed", "listed", Kind.STATE, hint="whether the last complete list of its cluster held it"),
    Column("operating_state", "state", Kind.STATE),
    Column("hostname", "host", Kind.CODE),
    Column("machine_type", "machine", Kind.CODE),
    Column("resource_group_id", "resource group", Kind.CODE, link="/usage?by=user&group={resource_group_id}"),
    Column("zone_id", "zone", Kind.CODE),
    Column("cluster_id", "cluster", Kind.CODE),
)

STATES: Final[Mapping[str, tuple[str, Callable[[Row], bool]]]] = {
    "": ("all", lambda row: True),
    "trouble": ("in trouble", lambda row: row["fault_severity"] in ("fatal", "degraded")),
    "silent": ("silent", lambda row: row["log"] == "silent"),
    "uncollected": ("log not collected", lambda row: row["log"] == "not collected"),
    "present": ("present", lambda row: row["listed"] == "present"),
    "gone": ("gone", lambda row: row["listed"] == "gone"),
    "unlisted": ("never listed", lambda row: row["listed"] == "never"),
}
"""What `?state=` may be: title and test."""


def _known_first(value: Any) -> tuple[bool, Any]:
    return (value is None or value == "", value or "")


_LATE: Final = {"lines": "node_hours", "GPU utilization": "node_gpus"}
"""What is read of the nodes that are shown -> own query."""
_LATE_SORTS: Final = {"quiet": "lines", "idle": "GPU utilization"}
"""Orders that go by it, so that it is read of all nodes."""
SORTS: Final[Mapping[str, tuple[str, Callable[[Row], Any]]]] = {
    "": (
        "worst",
        lambda row: (-SEVERITIES.index(row["fault_severity"] or ""), -(row["fault_lines"] or 0), row["node_id"]),
    ),
    "recent": ("last fault", lambda row: (not row["last_fault_at"], _backwards(row["last_fault_at"]), row["node_id"])),
    "quiet": ("longest without a line", lambda row: (*_known_first(row["last_line"]), row["node_id"])),
    "idle": ("least GPU use", lambda row: (*_known_first_number(row["gpu_mean"]), row["node_id"])),
    "name": ("name", lambda row: row["node_id"]),
}
"""What `?sort=` may be: title and key."""


def _known_first_number(value: float | None) -> tuple[bool, float]:
    return (value is None, value or 0.0)


def _backwards(text: str | None) -> tuple[int, ...]:
    return tuple(-ord(letter) for letter in text or "")


async def nodes(asked: PageRequest) -> View:
    period = asked.period()
    state = _choice("state", asked.text("state"), STATES)
    sort = _choice("sort", asked.text("sort"), SORTS)
    rows_max = whole_number("rows", asked.text("rows"), ROWS_DEFAULT, ROWS_MAX)
    search = asked.text("q").lower()
    steps = Steps.of(period, POINTS_MAX, HOUR)
    store = asked.store
    inventory, streams, gaps, groups, silent, worst = await asyncio.gather(
        store.own("node_inventory", {"rows": str(NODES_MAX)}),
        store.own("node_streams"),
        store.own("node_gaps", steps.range),
        store.own("node_groups", {"end": str(period.end)}),
        store.named("silent_nodes", {"minutes": str(SILENT_MINUTES)}),
        store.named("worst_nodes", period.parameters | {"rows": str(NODES_MAX)}),
    )
    reads = {
        "what is listed": inventory,
        "what is collected": streams,
        "gaps": gaps,
        "resource groups": groups,
        "silence": silent,
        "worst faults": worst,
    }
    rows = _rows(reads, coverages(streams, gaps))
    if sort in _LATE_SORTS:
        # Their order goes by what is otherwise read of those that are shown only.
        name = _LATE_SORTS[sort]
        reads[name] = await store.own(_LATE[name], steps.parameters)
        _add(rows, name, reads[name], steps)
    found = [row for row in rows if _matches(row, search)]
    chosen = sorted((row for row in found if STATES[state][1](row)), key=SORTS[sort][1])
    pages = max(1, -(-len(chosen) // rows_max))
    page = min(whole_number("page", asked.text("page"), 1, 1_000_000), pages)
    shown = chosen[(page - 1) * rows_max : page * rows_max]
    names = {name for row in shown for name in (row["node_id"], row["hostname"]) if name}
    missing = [name for name in _LATE if name not in reads] if shown else []
    answers = await asyncio.gather(
        *(store.own(_LATE[name], steps.parameters | {"nodes": "\n".join(sorted(names))}) for name in missing)
    )
    for name, answer in zip(missing, answers, strict=True):
        reads[name] = answer
        _add(shown, name, answer, steps)
    failures = [f"{what}: {answer.failure}" for what, answer in reads.items() if answer.failure]
    nothing = "no node is listed, collected or measured in this range" if not rows else "no node is like this"
    for row in rows:
        del row["coverage"]
    table = Table(
        "nodes",
        "Nodes",
        COLUMNS,
        shown,
        nothing,
        "; ".join(failures) if not rows and failures else "",
        sql=worst.sql,
        note=f"{(page - 1) * rows_max + 1:,} to {(page - 1) * rows_max + len(shown):,} of {len(chosen):,}"
        if pages > 1
        else "",
    )
    return View(
        "nodes.html",
        {
            "nodes": table,
            "failures": failures if rows else [],
            "count": len(chosen),
            "page_number": page,
            "pages_count": pages,
            "states": [
                Choice(
                    title,
                    asked.address(state=name or None, page=None),
                    name == state,
                    sum(1 for row in found if test(row)),
                )
                for name, (title, test) in STATES.items()
            ],
            "sorts": [
                Choice(title, asked.address(sort=name or None, page=None), name == sort)
                for name, (title, _) in SORTS.items()
            ],
            "page_choices": [
                Choice(str(number), asked.address(page=str(number)), number == page) for number in _around(page, pages)
            ],
        },
    )


def _rows(reads: Mapping[str, Answer], covered: Mapping[str, Coverage]) -> list[dict[str, Any]]:
    """What is known of every node without its lines and metrics, which `_add` adds."""
    listed = {row["node_id"]: row for row in reversed(reads["what is listed"].rows)}
    silent = {row["node_id"]: row for row in reads["silence"].rows}
    worst = {row["node_id"]: row for row in reads["worst faults"].rows}
    named = (*worst.values(), *silent.values(), *listed.values())
    ids_of_hosts = {row["hostname"]: row["node_id"] for row in named if row["hostname"]}
    groups = {ids_of_hosts.get(row["name"], row["name"]): row for row in reads["resource groups"].rows}
    measured = {node_id for node_id, row in groups.items() if row["is_measured"]}
    no_list, no_streams, no_worst, no_silence = (
        bool(reads[name].failure) for name in ("what is listed", "what is collected", "worst faults", "silence")
    )
    rows = []
    for node_id in sorted({*listed, *measured, *covered, *silent, *worst} - {""}):
        known, bad, quiet = listed.get(node_id), worst.get(node_id), silent.get(node_id)
        rows.append(
            {
                "node_id": node_id,
                "fault_severity": bad["fault_severity"] if bad else None if no_worst else "",
                "worst_fault": fault_name(bad) if bad else None if no_worst else "",
                "last_fault": None,
                "last_fault_at": bad["last"] if bad else None if no_worst else "",
                "fault_lines": bad["lines"] if bad else None if no_worst else 0,
                "fault_rate": None,
                "gpu": None,
                "gpu_mean": None,
                "log": "silent"
                if quiet
                else None
                if no_silence or no_streams
                else "ok"
                if node_id in covered
                else "not collected",
                "silent": rough_duration(quiet["silent_minutes"] * 60) if quiet else None if no_silence else "",
                "last_line": quiet["last_line"] if quiet else None,
                "listed": None if no_list else ("present" if known["is_present"] else "gone") if known else "never",
                "operating_state": known["operating_state"] if known else None,
                "hostname": (known or bad or quiet or {}).get("hostname"),
                "machine_type": known["machine_type"] if known else None,
                "resource_group_id": groups.get(node_id, {}).get("resource_group_id"),
                "zone_id": known["zone_id"] if known else None,
                "cluster_id": known["cluster_id"] if known else None,
                "coverage": covered.get(node_id),
            }
        )
    return rows


def _add(rows: Sequence[dict[str, Any]], what: str, answer: Answer, steps: Steps) -> None:
    """Add what lines or GPU utilization tell to the rows of nodes."""
    if what == "GPU utilization":
        measured = {row["entity_id"]: row["steps"] for row in answer.rows}
        for row in rows:
            points = measured.get(row["node_id"]) or measured.get(row["hostname"])
            if points:
                row["gpu"] = steps.spread(points)
                row["gpu_mean"] = round(sum(value for _, value in points) / len(points), 1)
        return
    logged = {row["node_id"]: row for row in answer.rows}
    for row in rows:
        lines = logged.get(row["node_id"])
        if not answer.failure:
            row["fault_rate"] = _fault_rate(steps, lines, row["coverage"])
            row["last_fault"] = ""
        if lines:
            last, fault_class, code = lines["last_fault"]
            row["last_line"] = lines["last_line"]
            row["hostname"] = row["hostname"] or lines["hostname"]
            if last:
                row["last_fault"] = fault_name({"fault_class": fault_class, "fault_code": code})


def _fault_rate(steps: Steps, lines: Row | None, coverage: Coverage | None) -> list[float | None]:
    hours = steps.step / HOUR
    counts: list[float | None] = steps.spread(lines["steps"] if lines else [], None)
    return [
        round(count / hours, 2)
        if count is not None
        else 0.0
        if coverage and coverage.seconds(time, time + steps.step)
        else None
        for time, count in zip(steps.times, counts, strict=True)
    ]


def _matches(row: Row, search: str) -> bool:
    names = (
        "node_id",
        "hostname",
        "machine_type",
        "zone_id",
        "resource_group_id",
        "cluster_id",
        "operating_state",
        "worst_fault",
    )
    text = " ".join(str(row[name] or "") for name in names).lower()
    return all(word in text for word in search.split())


def _choice(name: str, given: str, known: Mapping[str, object]) -> str:
    if given not in known:
        raise UsageError(f"{name}: got {given[:60]!r}; expected one of {', '.join(filter(None, known))}")
    return given


def whole_number(name: str, given: str, default: int, most: int) -> int:
    """Return a number of an address, from 1 to `most`. Raises UsageError."""
    if not given:
        return default
    if not (given.isascii() and given.isdigit() and len(given) < 10 and 1 <= int(given) <= most):
        raise UsageError(f"{name}: got {given[:60]!r}; expected 1 to {most:,}")
    return int(given)


def _around(page: int, pages: int) -> list[int]:
    """The pages that are offered: the first, the last, and those beside this one."""
    return sorted({1, pages, *range(max(1, page - 2), min(pages, page + 2) + 1)})


def row_choices(asked: PageRequest, rows_max: int) -> list[Choice]:
    """Return how many rows the tables of a page can have."""
    return [Choice(f"{count:,}", asked.address(rows=str(count)), count == rows_max) for count in ROWS_CHOICES]


def first_rows(table: Table, rows_max: int) -> Table:
    """Return a table with as many rows as are asked for, which says that there are more."""
    if len(table.rows) <= rows_max:
        return table
    note = f"the first {rows_max}; more by a filter, a shorter range or more rows"
    return replace(table, rows=table.rows[:rows_max], note="; ".join(filter(None, (table.note, note))))
