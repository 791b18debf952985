"""Registered secrets and the texts that must not show them."""

from __future__ import annotations

import json
from urllib.parse import quote

HIDDEN = "***"

_spellings: set[str] = set()


def register_secret(value: str) -> None:
    """From now on `value` is hidden in everything that is logged or reported; a blank one is ignored."""
    if not value.strip():
        return
    # A secret also travels inside texts that others have quoted: URLs, JSON, the repr of a dict.
    escaped = json.dumps(value)[1:-1]
    _spellings.update({value, repr(value)[1:-1], escaped, json.dumps(escaped)[1:-1], quote(value, safe="")})


def forget_secrets() -> None:
    """Forget every registered secret."""
    _spellings.clear()


def redact(text: str) -> str:
    """`text` with every registered secret replaced by `***`."""
    # Longest first, so that a secret that begins with another one leaves no rest behind.
    for spelling in sorted(_spellings, key=len, reverse=True):
        text = text.replace(spelling, HIDDEN)
    return text


def printable(text: str, *, lines: bool = False) -> str:
    """`text` without control characters, which could move a terminal's cursor or forge a line.

    `lines` keeps line breaks and tabs.
    """
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or (lines and c in "\n\t") else c.encode("unicode_escape", "backslashreplace").decode()
        for c in text
    )
