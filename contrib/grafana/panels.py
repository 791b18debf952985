"""What a dashboard is made of, and how it is written for Grafana. Pure.

A board is a title, its variables and its panels. Panels flow from left to right into a grid 24 wide.
SQL is that of the official ClickHouse plugin: `$__timeFilter(column)` and its like, and `$name` for a variable.
Columns stand behind the alias of their table (`lines.time`), so that a result's `time` never takes their place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from textwrap import dedent
from typing import Any

GRID = 24
PLUGIN = "grafana-clickhouse-datasource"
PLUGIN_VERSION = "4.20.0"
DATASOURCE = {"type": PLUGIN, "uid": "${datasource}"}
SCHEMA_VERSION = 41
_FORMATS = {"timeseries": 0, "table": 1, "logs": 2}

GREEN, YELLOW, ORANGE, RED, BLUE = "semi-dark-green", "semi-dark-yellow", "semi-dark-orange", "semi-dark-red", "blue"


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One panel and its query."""

    title: str
    kind: str
    """Grafana's name of the visualisation."""
    sql: str
    description: str = ""
    width: int = 12
    height: int = 8
    format: str = "timeseries"
    """What the plugin makes of the rows: timeseries, table or logs."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    overrides: Sequence[Mapping[str, Any]] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Heading:
    """A line across the board, above the panels that follow."""

    title: str


@dataclass(frozen=True, slots=True)
class Variable:
    """A choice at the top of the board; All takes every value, whether it is listed or not."""

    name: str
    label: str
    sql: str
    """One column, the values. May use variables that stand before it."""
    default: str = ""
    """Then one value is chosen at a time, this one at first, and there is no All."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """One dashboard."""

    name: str
    """Part of its address, pai-NAME, and the name of its file."""
    title: str
    description: str
    variables: Sequence[Variable]
    panels: Sequence[Panel | Heading]
    since: str = "now-6h"
    refresh: str = "1m"


def chosen(column: str, variable: str) -> str:
    """The condition that `column` is among what is chosen in `variable`; none while All is."""
    return f"$__conditionalAll({column} IN (${{{variable}:singlequote}}), ${variable})"


def steps(base: str, *above: tuple[float, str]) -> dict[str, Any]:
    """Thresholds: the colour from nothing on, then from each value on."""
    return {
        "mode": "absolute",
        "steps": [{"color": base, "value": None}, *({"color": color, "value": value} for value, color in above)],
    }


def number(
    title: str,
    sql: str,
    *,
    unit: str = "short",
    colors: Mapping[str, Any] | None = None,
    decimals: int | None = None,
    description: str = "",
    width: int = 4,
) -> Panel:
    """The one number that the query returns, large."""
    defaults: dict[str, Any] = {"unit": unit, "color": {"mode": "thresholds"}, "thresholds": colors or steps(BLUE)}
    if decimals is not None:
        defaults["decimals"] = decimals
    return Panel(
        title=title, kind="stat", sql=sql, description=description, width=width, height=4, format="table",
        defaults=defaults,
        options={
            "colorMode": "value", "graphMode": "none", "justifyMode": "center", "textMode": "value",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        },
    )  # fmt: skip


def series(
    title: str,
    sql: str,
    *,
    by: str = "",
    unit: str = "short",
    stacked: bool = False,
    bars: bool = False,
    most: float | None = None,
    description: str = "",
    width: int = 12,
) -> Panel:
    """Numbers over time: `time`, then a label column named `by` when there is one, then numbers, ordered by time."""
    custom = {
        "drawStyle": "bars" if bars else "line", "fillOpacity": 80 if bars else 10, "lineWidth": 0 if bars else 1,
        "showPoints": "never", "spanNulls": False, "stacking": {"group": "A", "mode": "normal" if stacked else "none"},
    }  # fmt: skip
    defaults: dict[str, Any] = {"unit": unit, "min": 0, "color": {"mode": "palette-classic"}, "custom": custom}
    if most is not None:
        defaults["max"] = most
    if by:
        defaults["displayName"] = f"${{__field.labels.{by}}}"
    return Panel(
        title=title, kind="timeseries", sql=sql, description=description, width=width, defaults=defaults,
        options={
            "legend": {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
    )  # fmt: skip


def table(
    title: str,
    sql: str,
    *,
    units: Mapping[str, str] | None = None,
    links: Mapping[str, tuple[str, str]] | None = None,
    colors: Mapping[str, Mapping[str, Any]] | None = None,
    description: str = "",
    width: int = 12,
    height: int = 8,
) -> Panel:
    """Rows as they are. `links` maps a column to the board and the variable that a click on its value leads to."""
    properties: dict[str, list[dict[str, Any]]] = {}
    for column, unit in (units or {}).items():
        properties.setdefault(column, []).append({"id": "unit", "value": unit})
    for column, (board, variable) in (links or {}).items():
        url = f"/d/pai-{board}?var-{variable}=${{__value.raw:percentencode}}&${{__url_time_range}}"
        properties.setdefault(column, []).append({"id": "links", "value": [{"title": f"Show in {board}", "url": url}]})
    for column, scale in (colors or {}).items():
        properties.setdefault(column, []).extend(
            [
                {"id": "color", "value": {"mode": "thresholds"}},
                {"id": "thresholds", "value": scale},
                {"id": "custom.cellOptions", "value": {"type": "color-text"}},
            ]
        )
    overrides = [
        {"matcher": {"id": "byName", "options": column}, "properties": found} for column, found in properties.items()
    ]
    return Panel(
        title=title, kind="table", sql=sql, description=description, width=width, height=height, format="table",
        overrides=overrides, options={"showHeader": True, "cellHeight": "sm"},
    )  # fmt: skip


def lines(title: str, sql: str, *, description: str = "", height: int = 12) -> Panel:
    """Log lines: `timestamp`, `body`, `level`, then labels."""
    return Panel(
        title=title, kind="logs", sql=sql, description=description, width=GRID, height=height, format="logs",
        options={"showTime": True, "wrapLogMessage": True, "enableLogDetails": True, "sortOrder": "Descending"},
    )  # fmt: skip


def dashboard(board: Board) -> dict[str, Any]:
    """The board as Grafana's own JSON."""
    return {
        "uid": f"pai-{board.name}",
        "title": board.title,
        "description": board.description,
        "tags": ["pai"],
        "schemaVersion": SCHEMA_VERSION,
        "editable": True,
        "graphTooltip": 1,
        "refresh": board.refresh,
        "time": {"from": board.since, "to": "now"},
        "timezone": "browser",
        "links": [
            {
                "type": "dashboards", "title": "PAI", "tags": ["pai"], "asDropdown": False, "keepTime": True,
                "includeVars": True, "icon": "external link", "targetBlank": False,
            }
        ],
        "annotations": {"list": []},
        "templating": {"list": [_datasource(), *map(_variable, board.variables)]},
        "panels": list(_placed(board.panels)),
    }  # fmt: skip


def _placed(panels: Sequence[Panel | Heading]) -> Iterator[dict[str, Any]]:
    left = top = height = 0
    for number, panel in enumerate(panels, 1):
        width = GRID if isinstance(panel, Heading) else panel.width
        if left + width > GRID:
            left, top, height = 0, top + height, 0
        own_height = 1 if isinstance(panel, Heading) else panel.height
        position = {"x": left, "y": top, "w": width, "h": own_height}
        left, height = left + width, max(height, own_height)
        if isinstance(panel, Heading):
            yield {
                "id": number,
                "type": "row",
                "title": panel.title,
                "collapsed": False,
                "gridPos": position,
                "panels": [],
            }
        else:
            yield {"id": number, "gridPos": position} | _panel(panel)


def _panel(panel: Panel) -> dict[str, Any]:
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": DATASOURCE,
        "fieldConfig": {"defaults": panel.defaults, "overrides": panel.overrides},
        "options": panel.options,
        "targets": [
            {
                "refId": "A", "datasource": DATASOURCE, "editorType": "sql", "queryType": panel.format,
                "format": _FORMATS[panel.format], "pluginVersion": PLUGIN_VERSION, "rawSql": dedent(panel.sql).strip(),
            }
        ],
    }  # fmt: skip


def _datasource() -> dict[str, Any]:
    return {
        "name": "datasource", "label": "Data source", "type": "datasource", "query": PLUGIN, "refresh": 1,
        "current": {}, "hide": 0, "includeAll": False, "multi": False, "regex": "",
    }  # fmt: skip


def _variable(variable: Variable) -> dict[str, Any]:
    sql, is_multi = dedent(variable.sql).strip(), not variable.default
    current: dict[str, Any] = {"selected": True, "text": variable.default, "value": variable.default}
    if is_multi:
        current |= {"text": ["All"], "value": ["$__all"]}
    return {
        "name": variable.name, "label": variable.label, "type": "query", "datasource": DATASOURCE,
        "query": sql, "definition": sql, "refresh": 2, "sort": 1, "includeAll": is_multi, "multi": is_multi,
        "hide": 0, "regex": "", "current": current,
    }  # fmt: skip
