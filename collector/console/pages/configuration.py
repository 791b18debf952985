"""The configuration as it is in effect: every key with its value, where that comes from, and what it means."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from typing import Final

from collector.console.page import PageRequest
from collector.console.table import Choice, Column, Kind, Row, Table, View
from collector.errors import UsageError
from collector.owner.reloading import is_live
from collector.redaction import redact
from collector.settings import FILE_VARIABLE, SECRETS, effective

KEYS: Final = (
    Column("key", "key", Kind.CODE),
    Column("value", "value", Kind.CODE),
    Column("origin", "from", hint="default, the file, an environment variable or an option"),
    Column("default", "default", Kind.CODE),
    Column("unit", "unit"),
    Column("applies", "a change applies", hint="with a reload (SIGHUP), or after a restart"),
)
VARIABLES: Final = (
    Column("variable", "variable", Kind.CODE),
    Column("is_set", "set", Kind.YES_NO),
    Column("meaning", "what it is for"),
)
ORIGINS: Final = {
    "": "all",
    "set": "set",
    "file": "in the file",
    "environment": "in the environment",
    "default": "default",
}
"""Choices of `?from=`; `set` is all but defaults."""


async def configuration(asked: PageRequest) -> View:
    settings = asked.owner.settings
    words, chosen = asked.text("q").lower().split(), asked.text("from")
    if chosen not in ORIGINS:
        raise UsageError(f"from: got {chosen[:40]!r}; expected one of {', '.join(name for name in ORIGINS if name)}")
    rows: list[Row] = [
        {
            "key": one.key,
            # A secret may have come into a value that should hold none.
            "value": redact(one.value),
            "origin": one.origin,
            "default": one.default,
            "unit": one.unit,
            "applies": "with a reload" if is_live(one.key) else "after a restart",
            "meaning": one.meaning,
        }
        for one in effective(settings)
    ]
    found = [row for row in rows if _has(row, words)]
    counts = Counter(kind for row in found for kind in _kinds(row["origin"]))
    return View(
        "configuration.html",
        {
            "keys": Table(
                "keys",
                "Keys",
                KEYS,
                [row for row in found if chosen in _kinds(row["origin"])],
                "no key matches",
                detail="meaning",
            ),
            "variables": Table(
                "variables",
                "Secrets",
                VARIABLES,
                [row for row in _variables(os.environ) if _has(row, words)],
                "no variable matches",
                note="They come from the environment of the process, and are shown to nobody.",
            ),
            "file": settings.origins.file,
            "file_variable": FILE_VARIABLE,
            "origins": [
                Choice(title, asked.address(**{"from": name}), name == chosen, counts[name])
                for name, title in ORIGINS.items()
            ],
        },
    )


def _has(row: Row, words: list[str]) -> bool:
    text = " ".join(str(value) for value in row.values()).lower()
    return all(word in text for word in words)


def _kinds(origin: str) -> tuple[str, ...]:
    """The choices that an origin belongs to."""
    if origin == "default":
        return ("", "default")
    return ("", "set", origin) if origin in ("file", "--shard") else ("", "set", "environment")


def _variables(environ: Mapping[str, str]) -> list[Row]:
    return [
        {"variable": name, "is_set": bool(environ.get(name, "").strip()), "meaning": meaning}
        for name, meaning in SECRETS.items()
    ]
