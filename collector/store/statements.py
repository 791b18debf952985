"""SQL text taken apart: statements and comments. Pure, and only as deep as migrations and named queries need."""

from __future__ import annotations

import re
from collections.abc import Mapping

_TOKEN = re.compile(
    r"""
      '(?:[^'\\]|\\.|'')*'        # a string
    | "(?:[^"\\]|\\.|"")*"        # a quoted name
    | `(?:[^`\\]|\\.|``)*`
    | \$(?P<tag>\w*)\$.*?\$(?P=tag)\$   # a heredoc
    | (?P<comment>--[^\n]*|/\*.*?\*/)
    | (?P<end>;)
    | \{\s*(?P<name>\w+)\s*:\s*(?P<type>[A-Za-z][^{}]*?)\s*\}   # a parameter
    | [^'"`$;/{-]+ | .
    """,
    re.VERBOSE | re.DOTALL,
)


def split_statements(text: str) -> tuple[str, ...]:
    """The statements of a SQL text, without comments and semicolons."""
    statements: list[str] = []
    parts: list[str] = []
    for token in _TOKEN.finditer(text):
        if token["end"]:
            statements.append("".join(parts).strip())
            parts = []
        else:
            # A comment stands for a space, as in the engine's own lexer.
            parts.append(" " if token["comment"] else token[0])
    statements.append("".join(parts).strip())
    return tuple(statement for statement in statements if statement)


def placeholders(sql: str) -> list[tuple[str, str]]:
    """Name and type of every `{name:Type}`, in order; not of those in strings and comments."""
    return [(token["name"], token["type"]) for token in _TOKEN.finditer(sql) if token["name"]]


def filled_in(sql: str, literals: Mapping[str, str]) -> str:
    """The SQL with a literal in the place of every `{name:Type}`. For people to read and paste."""
    return "".join(literals[token["name"]] if token["name"] else token[0] for token in _TOKEN.finditer(sql))


def header(text: str) -> list[tuple[str, str]]:
    """The `-- name: value` lines that a SQL text begins with; a comment line without a name goes on with the last."""
    found: list[tuple[str, str]] = []
    for line in text.splitlines():
        if not line.startswith("--"):
            break
        comment = line[2:].strip()
        named = re.match(r"(\w+):\s+(.*)", comment)
        if named:
            found.append((named[1], named[2]))
        elif found:
            found[-1] = (found[-1][0], f"{found[-1][1]} {comment}")
    return found
