"""Diagnoses of nodes: begun, watched until they have ended, listed. No terminal, no options."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from collector.catalogue.products.eflo_controller import DESCRIBE_DIAGNOSTIC_RESULT, LIST_DIAGNOSTIC_RESULTS
from collector.cli.calling import Ask, text_of
from collector.cli.waiting import Looked, look_until
from collector.clock import Clock
from collector.errors import CursorLoopError
from collector.pipeline.repeats import PageWatch, loop_error
from collector.sources.diagnostics import UNFINISHED_STATES

PAGE_MIN, PAGE_MAX = 20, 100
"""Records a page that `ListDiagnosticResults` gives at least and at most."""


def has_ended(answer: Any) -> bool:
    """Whether a task of `DescribeDiagnosticResult` has ended, well or not: it has an end time, or a word for an end."""
    state = "".join(letter for letter in text_of(answer, "DiagnosticState").casefold() if letter.isalnum())
    return bool(text_of(answer, "EndTime").strip()) or state not in UNFINISHED_STATES


async def watch(
    ask: Ask, diagnostic_id: str, *, clock: Clock, timeout_seconds: float, on_look: Callable[[Any], None]
) -> Looked[Any]:
    """Look at a task until it has ended. Each look is a call, and is stored like any other."""

    async def look() -> Any:
        return (await ask(DESCRIBE_DIAGNOSTIC_RESULT.name, {"DiagnosticId": diagnostic_id})).answer

    return await look_until(look, has_ended, clock=clock, timeout_seconds=timeout_seconds, on_look=on_look)


async def tasks(ask: Ask, *, type_name: str, limit: int) -> list[Any]:
    """The account's tasks as listed, at most `limit`, of one type unless that is empty.

    Raises CursorLoopError when the pages go in a circle.
    """
    wanted: dict[str, Any] = {"MaxResults": min(max(limit, PAGE_MIN), PAGE_MAX)}
    if type_name:
        wanted["DiagType"] = type_name
    found: list[Any] = []
    cursors: set[str] = set()
    pages = PageWatch()
    while True:
        answer = (await ask(LIST_DIAGNOSTIC_RESULTS.name, wanted)).answer
        records = answer.get("DiagnosticResults") if isinstance(answer, dict) else None
        found += records if isinstance(records, list) else []
        cursor = text_of(answer, "NextToken")
        if len(found) >= limit or not cursor:
            return found[:limit]
        if cursor in cursors:
            raise CursorLoopError(
                "the list of diagnoses goes in a circle: a page's token came twice",
                operation=LIST_DIAGNOSTIC_RESULTS.name,
            )
        names = [text_of(record, "DiagId") for record in records] if isinstance(records, list) else []
        if fault := pages.fault(names):
            raise loop_error(LIST_DIAGNOSTIC_RESULTS.name, "", fault)
        cursors.add(cursor)
        wanted["NextToken"] = cursor


def minute_of(option: str, text: str, mistakes: list[str]) -> str:
    """UNIX seconds of a moment given so, or as ISO 8601 (UTC unless it says otherwise); whole minutes only.

    What is wrong is added to `mistakes`.
    """
    seconds = _seconds_of(text.strip())
    if seconds is None:
        mistakes.append(
            f"{option}: expected a moment such as 2025-10-09T08:00Z or 1760000400 (UNIX seconds), got {text!r}"
        )
        return ""
    if seconds % 60:
        before = _iso(int(seconds) // 60 * 60)
        mistakes.append(f"{option}: expected a whole minute such as {before}, got {text!r}")
        return ""
    return str(int(seconds))


def read_logs(path: Path, mistakes: list[str]) -> list[Any]:
    """Logs of a job out of a JSON file. What is wrong is added to `mistakes`."""
    right = (
        'a JSON list such as [{"AiInstance": "...", "NodeId": "...", "Logs": [{"Datetime": ..., "LogContent": ...}]}]'
    )
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        mistakes.append(f"--logs: cannot read {path}: {error.strerror or error}")
    except (ValueError, RecursionError) as error:
        mistakes.append(f"--logs: {path} is not JSON: {error}")
    else:
        if isinstance(value, list) and value and all(isinstance(part, dict) for part in value):
            return value
        mistakes.append(f"--logs: {path}: expected {right}")
    return []


def _seconds_of(text: str) -> float | None:
    # A date alone, or one without dashes, is more likely a slip than a moment.
    if re.fullmatch(r"[0-9]{9,10}", text, re.ASCII):
        return float(text)
    if not re.match(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d", text, re.ASCII):
        return None
    try:
        moment = datetime.fromisoformat(text)
        seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
    return seconds if seconds >= 0 else None


def _iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%MZ")
