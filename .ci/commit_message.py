#!/usr/bin/env python3
"""Check the file of a commit message, given as argument: `area: what changes`, and why.

Exits with 1 if the message breaks a rule.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

SUBJECT_MAX = 72
# Areas whose changes mostly explain themselves.
NO_BODY = {"changelog", "docs", "release", "tests"}
# Made by git.
EXEMPT = ("Merge ", "Revert ", "fixup! ", "squash! ", "amend! ")


def mistakes(message: str) -> list[str]:
    """Return what is wrong with a message, one sentence for each mistake."""
    written = message.split("# ------------------------ >8")[0]
    lines = [line for line in written.splitlines() if not line.startswith("#")]
    while lines and not lines[0].strip():
        lines.pop(0)
    subject, rest = (lines[0], lines[1:]) if lines else ("", [])
    if subject.startswith(EXEMPT):
        return []
    found = []
    if len(subject) > SUBJECT_MAX:
        found.append(f"the subject has {len(subject)} characters; expected at most {SUBJECT_MAX}")
    area = re.match(r"([\w /.,-]+): \S", subject)
    if area is None:
        found.append(f"the subject is {subject!r}; expected `area: what changes`, such as `journal: count windows`")
    if rest and rest[0].strip():
        found.append("the second line has text; expected it to be empty")
    if area and area[1] not in NO_BODY and not any(line.strip() for line in rest[1:]):
        found.append("there is no body; expected the problem, the evidence, the choice and its limits")
    return found


if __name__ == "__main__":
    found = mistakes(Path(sys.argv[1]).read_text(encoding="utf-8"))
    for mistake in found:
        print(f"commit message: {mistake}", file=sys.stderr)
    sys.exit(1 if found else 0)
