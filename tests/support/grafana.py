"""Grafana's side of a query: the dashboards, and their macros and variables as the ClickHouse plugin expands them.

By the plugin's documentation and sources, version 4.20: `$__conditionalAll` first, then variables, in the browser;
the macros of time after that, in the backend.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "contrib/grafana"
TIME_SERIES, LOGS = 0, 2


@dataclass(frozen=True, slots=True)
class View:
    """What somebody looks at: a time range, in seconds, the panel's interval, and what is chosen in the variables."""

    start: int
    end: int
    interval_seconds: int = 60
    chosen: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Values by variable; All where there are none."""


def dashboards() -> dict[str, dict[str, Any]]:
    """The dashboards as they are committed, by the name of their file."""
    return {path.stem: json.loads(path.read_text()) for path in sorted((FOLDER / "dashboards").glob("*.json"))}


def panels(dashboard: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The panels that ask something."""
    return (panel for panel in dashboard["panels"] if panel["type"] != "row")


def expand(sql: str, view: View) -> str:
    """The SQL that reaches the store. AssertionError for a macro or a variable that is left over."""
    sql = _conditions(sql, view)
    for name, values in view.chosen.items():
        quoted = ",".join("'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'" for value in values)
        sql = sql.replace(f"${{{name}:singlequote}}", quoted)
    start, end = f"toDateTime({view.start})", f"toDateTime({view.end})"
    seconds = max(view.interval_seconds, 1)
    sql = sql.replace("$__fromTime", start).replace("$__toTime", end).replace("$__interval_s", str(seconds))
    sql = _calls(sql, "$__timeFilter", lambda column: f"{column} >= {start} AND {column} <= {end}")
    sql = _calls(
        sql, "$__timeInterval", lambda column: f"toStartOfInterval(toDateTime({column}), INTERVAL {seconds} second)"
    )
    assert "$" not in sql, f"not expanded: {sql[sql.index('$') :][:40]}"
    return sql


def _conditions(sql: str, view: View) -> str:
    while found := re.search(r"\$__conditionalAll\(", sql):
        inner, end = _argument(sql, found.end())
        condition, variable = inner.rsplit(",", 1)
        chosen = view.chosen.get(variable.strip().removeprefix("$"))
        sql = sql[: found.start()] + (condition if chosen else "1=1") + sql[end:]
    return sql


def _calls(sql: str, macro: str, replacement: Any) -> str:
    while (start := sql.find(macro + "(")) >= 0:
        inner, end = _argument(sql, start + len(macro) + 1)
        sql = sql[:start] + replacement(inner) + sql[end:]
    return sql


def _argument(sql: str, start: int) -> tuple[str, int]:
    """What stands between the bracket before `start` and the one that closes it, and where it ends."""
    depth = 1
    for place in range(start, len(sql)):
        depth += {"(": 1, ")": -1}.get(sql[place], 0)
        if not depth:
            return sql[start:place], place + 1
    raise AssertionError(f"a bracket is not closed in {sql[start:]}")
