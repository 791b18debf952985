"""The decisions: numbered, with a status and a date, and all in the index."""

from __future__ import annotations

import re
from pathlib import Path

DECISIONS = Path(__file__).parents[2] / "docs" / "decisions"
INDEX = DECISIONS / "README.md"
STATUS = re.compile(r"Status: (accepted|superseded by (?P<by>\d{4})), \d{4}-\d\d-\d\d")


def files() -> list[Path]:
    return sorted(path for path in DECISIONS.glob("*.md") if path != INDEX)


def head_of(path: Path) -> tuple[str, str]:
    """Title and status of a decision; empty if a line is not in its form."""
    title, blank, status, *_ = path.read_text(encoding="utf-8").splitlines()
    is_title = title.startswith(f"# {path.name[:4]}: ") and not blank
    return (title.partition(": ")[2] if is_title else "", status if STATUS.fullmatch(status) else "")


def test_every_decision_has_number_title_status_and_date() -> None:
    """`# 0001: Title`, an empty line, `Status: accepted, 2026-11-29` or `Status: superseded by 0002, 2026-11-29`."""
    assert [path.name for path in files() if not all(head_of(path))] == []


def test_numbers_of_decisions_are_unique_and_lead_somewhere() -> None:
    """No number is used twice, and what supersedes a decision exists."""
    numbers = [path.name[:4] for path in files()]
    successors = {found["by"] for path in files() if (found := STATUS.fullmatch(head_of(path)[1])) and found["by"]}

    assert sorted(set(numbers)) == numbers
    assert successors <= set(numbers)


def test_the_index_lists_every_decision() -> None:
    """One row for each file, in order, with its title, status and date."""
    rows = [line for line in INDEX.read_text(encoding="utf-8").splitlines() if line.startswith("| [")]
    expected = []
    for path in files():
        title, status = head_of(path)
        state, _, date = status.removeprefix("Status: ").partition(", ")
        expected.append(f"| [{path.name[:4]}]({path.name}) | {title} | {state} | {date} |")

    assert rows == expected
