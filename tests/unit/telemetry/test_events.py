"""The catalogue of events and the code agree: each event is told somewhere, with its fields and no others."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from collector.telemetry.events import EVENTS, FIELDS
from tools.events import reference
from tools.metrics import reference as metrics_reference

ROOT = Path(__file__).parents[3]
METHODS = {"debug", "info", "warning", "error", "exception"}
INDIRECT: dict[str, set[str]] = {
    # By way of a function that is given the name.
    "budget_reached": {"month", "operation", "spent_cny", "cap_cny"},
    "budget_passed": {"month", "operation", "spent_cny", "cap_cny"},
    "command_failed": {"message", "error_type"},
    "hint": {"message"},
    "log_lines_dropped": {"lines"},
    "traceback": {"exc_info"},
}


def told() -> Iterator[tuple[str, set[str], str]]:
    """Event, fields and place of every line of code that logs."""
    for path in sorted((ROOT / "collector").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            target: Any = node.func.value
            if node.func.attr in METHODS and isinstance(target, ast.Name) and target.id in ("log", "_log"):
                place = f"{path.relative_to(ROOT)}:{node.lineno}"
                name = node.args[0].value if isinstance(node.args[0], ast.Constant) else ""
                fields = {str(keyword.arg) for keyword in node.keywords if keyword.arg}
                yield str(name), fields | ({"exc_info"} if node.func.attr == "exception" else set()), place


def test_every_line_that_logs_is_in_the_catalogue() -> None:
    """With its name and no field that the catalogue does not know; names given indirectly are listed above."""
    unknown = [
        f"{place}: {name} {sorted(fields)}"
        for name, fields, place in told()
        if name and not (name in EVENTS and fields <= set(EVENTS[name][1]))
    ]
    assert unknown == []


def test_every_event_of_the_catalogue_is_told_with_all_its_fields() -> None:
    """No entry, field or explanation is left over from code that is gone."""
    found: dict[str, set[str]] = defaultdict(set)
    for name, fields, _ in told():
        found[name] |= fields
    for name, fields in INDIRECT.items():
        found[name] |= fields
    assert {name: set(fields) for name, (_, fields) in EVENTS.items()} == {n: f for n, f in found.items() if n}
    assert {field for _, fields in EVENTS.values() for field in fields} == set(FIELDS)


def test_the_pages_of_events_and_metrics_are_those_of_the_code() -> None:
    """Make them anew with `make reference`."""
    assert (ROOT / "docs/reference/events.md").read_text() == reference()
    assert (ROOT / "docs/reference/metrics.md").read_text() == metrics_reference()
