"""The check of commit messages that the git hook runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CHECK = Path(__file__).parents[2] / ".ci" / "commit_message.py"
BODY = "\n\nIt was counted twice, since both sides did.\n"


def check(message: str, folder: Path) -> tuple[int, str]:
    """Exit status and stderr of the check of a message."""
    file = folder / "message"
    file.write_text(message)
    done = subprocess.run([sys.executable, CHECK, file], capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    "message",
    [
        f"journal: count open windows once{BODY}",
        f"journal: {'x' * 63}{BODY}",
        "docs: name the port",
        f"# Written by git\njournal: count open windows once{BODY}# On branch main\n",
        "Merge branch 'main' into x",
        "fixup! journal: count open windows once",
    ],
)
def test_a_good_message_passes(message: str, tmp_path: Path) -> None:
    """Subject with an area and a body, or an area that needs none, or a message that git made."""
    assert check(message, tmp_path) == (0, "")


@pytest.mark.parametrize(
    ("message", "mistake"),
    [
        (f"journal: {'x' * 64}{BODY}", "the subject has 73 characters; expected at most 72"),
        (f"Count open windows once{BODY}", "expected `area: what changes`"),
        ("journal: count open windows once\n", "there is no body"),
        ("journal: count open windows once\n\n# Written by git\n", "there is no body"),
        ("journal: count open windows\nonce\n\nSince both sides did.\n", "the second line has text"),
        ("", "the subject is ''"),
    ],
)
def test_a_message_that_breaks_a_rule_is_refused(message: str, mistake: str, tmp_path: Path) -> None:
    """The exit status is 1, and the rule is named together with what was seen."""
    status, reported = check(message, tmp_path)

    assert status == 1
    assert mistake in reported
