"""Rules for the tests that no other tool checks."""

from __future__ import annotations

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
PRODUCT = TESTS.parent / "collector"


def test_every_test_says_what_it_shows() -> None:
    """Each test function has a docstring that states the behaviour."""
    silent = [
        f"{path.relative_to(TESTS)}:{node.lineno}: {node.name}"
        for path in sorted(TESTS.rglob("test_*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and not ast.get_docstring(node)
    ]

    assert silent == []


def test_a_test_is_skipped_only_for_a_tool_that_is_missing() -> None:
    """And then the reason names the tool."""
    skip = re.compile(
        r"pytest\.(skip|mark\.skip|mark\.skipif|mark\.xfail|importorskip)\b"
        r"(?!\((PROMTOOL|CHROMIUM|COMPOSE|CURL|NODE|UNSHARE) is None, reason=\"|\(f\"(npm|pip) cannot install )"
    )
    found = [
        str(path.relative_to(TESTS))
        for path in sorted(TESTS.rglob("*.py"))
        if path != Path(__file__) and skip.search(path.read_text(encoding="utf-8"))
    ]

    assert found == []


def test_only_the_journal_knows_its_database() -> None:
    """SQLite is imported, and work handed to the journal's thread, only in the journal's own package."""
    outside = [path for path in sorted(PRODUCT.rglob("*.py")) if PRODUCT / "journal" not in path.parents]
    found = [
        str(path.relative_to(PRODUCT))
        for path in outside
        if re.search(
            r"^\s*(import|from) sqlite3\b|journal\.(run|seal)\(", path.read_text(encoding="utf-8"), re.MULTILINE
        )
    ]

    assert outside
    assert found == []
