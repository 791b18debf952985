"""SQL text taken apart: statements and comments. Pure, and only as deep as migrations and named queries need."""

from __future__ import annotations

import re

_TOKEN = re.compile(
    r"""
      '(?:[^'\\]|\\.|'')*'        # a string
    | "(?:[^"\\]|\\.|"")*"        # a quoted name
    | `(?:[^`\\]|\\.|``)*`
    | \$(?P<tag>\w*)\$.*?\$(?P=tag)\$   # a heredoc
    | (?P<comment>--[^\n]*|/\*.*?\*/)
    | (?P<end>;)
    | [^'"`$;/-]+ | .
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


def header(text: str) -> dict[str, str]:
    """The `-- name: value` lines that a SQL text begins with; a comment line without a name goes on with the last."""
    found: dict[str, str] = {}
    last = ""
    for line in text.splitlines():
        if not line.startswith("--"):
            break
        comment = line[2:].strip()
        named = re.match(r"(\w+):\s+(.*)", comment)
        if named:
            last = named[1]
            found[last] = named[2]
        elif last:
            found[last] += " " + comment
    return found
