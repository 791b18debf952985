"""Statements of the migrations, as a cluster takes them. Pure.

Each table becomes two: `NAME_local`, replicated, on every machine, and `NAME`, which spreads over them. Rows go to a
shard by what they are about, never at random: a segment that is sent again falls apart into the same pieces, and
each shard knows its piece by the segment's token. Rows that a merge replaces or adds up lie on one shard for the same
reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from collector.queries import literal, quoted_name
from collector.store.base import DATABASE
from collector.store.inserts import first_words

LOCAL_SUFFIX: Final = "_local"

SHARDED_BY: Final = (
    "scope_id",
    "node_id",
    "resource_group_id",
    "object_id",
    "id",
    "operation",
    "fault_class",
    "version",
)
"""The first of these in a table's sorting key decides the shard of a row."""

_NAME = rf"{DATABASE}\.(?P<name>\w+)"
_TABLE = re.compile(rf"CREATE\s+TABLE\s+(?P<guard>IF\s+NOT\s+EXISTS\s+)?{_NAME}", re.IGNORECASE)
_VIEW = re.compile(
    rf"CREATE\s+(?:OR\s+REPLACE\s+)?(?:VIEW|DICTIONARY)\s+(?:IF\s+NOT\s+EXISTS\s+)?{_NAME}", re.IGNORECASE
)
_ALTER = re.compile(rf"ALTER\s+TABLE\s+{_NAME}", re.IGNORECASE)
_DROP = re.compile(rf"DROP\s+(?P<kind>TABLE|VIEW)\s+(?P<guard>IF\s+EXISTS\s+)?{_NAME}\s*$", re.IGNORECASE)
_OPTIMIZE = re.compile(rf"OPTIMIZE\s+TABLE\s+{_NAME}", re.IGNORECASE)
_INSERT = re.compile(rf"INSERT\s+INTO\s+{_NAME}", re.IGNORECASE)
_ENGINE = re.compile(r"(?P<family>(?:Replacing|Summing|Aggregating)?MergeTree)\b", re.IGNORECASE)

# What an ALTER's commands begin with; a piece behind a comma that begins otherwise belongs to the one before it.
_COMMAND = re.compile(
    r"(?:ADD|DROP|CLEAR|MODIFY|RENAME|COMMENT|ALTER|MATERIALIZE|DELETE|UPDATE|RESET|REMOVE|DETACH|ATTACH|FREEZE|MOVE)\b",
    re.IGNORECASE,
)
_OF_COLUMNS = re.compile(r"(?:(?:ADD|DROP|MODIFY|RENAME|COMMENT|ALTER)\s+COLUMN|MODIFY\s+COMMENT)\b", re.IGNORECASE)
"""Commands that the spreading table takes too: it has the same columns, and stores nothing."""

_TOKEN = re.compile(
    r"""
      '(?:[^'\\]|\\.|'')*' | "(?:[^"\\]|\\.|"")*" | `(?:[^`\\]|\\.|``)*`
    | \w+ | \s+ | .
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    start: int
    depth: int
    """Parentheses that are open around it."""


def on_cluster(cluster: str) -> str:
    """What makes a statement one for all machines; nothing without a cluster."""
    return f" ON CLUSTER {quoted_name(cluster)}" if cluster else ""


def clustered(statement: str, cluster: str) -> tuple[str, ...]:
    """The statements that do on a cluster what `statement` does on one machine. Each may be repeated if it may.

    Raises ValueError for a statement of a kind that no migration has had.
    """
    everywhere = on_cluster(cluster)
    if found := _TABLE.match(statement):
        return _tables(statement, found, cluster)
    if found := _VIEW.match(statement):
        return (statement[: found.end()] + everywhere + statement[found.end() :],)
    if found := _ALTER.match(statement):
        return tuple(_alters(found["name"], statement[found.end() :], everywhere))
    if found := _DROP.match(statement):
        names = [found["name"]] if found["kind"].upper() == "VIEW" else [found["name"], found["name"] + LOCAL_SUFFIX]
        guard = found["guard"] or ""
        # At once, so that a table of the same name can be made again.
        return tuple(f"DROP {found['kind']} {guard}{DATABASE}.{name}{everywhere} SYNC" for name in names)
    if found := _OPTIMIZE.match(statement):
        return (f"OPTIMIZE TABLE {DATABASE}.{found['name']}{LOCAL_SUFFIX}{everywhere}{statement[found.end() :]}",)
    if _INSERT.match(statement):
        return (statement,)
    raise ValueError(f"{first_words(statement)} ...: not known how a cluster would do that")


def sharding_column(name: str, sorting_key: str) -> str:
    """The column whose value decides a row's shard. Raises ValueError where the key holds none that could."""
    plain = {part.strip("` ") for part in _split(sorting_key.strip().removeprefix("(").removesuffix(")"))}
    for column in SHARDED_BY:
        if column in plain:
            return column
    raise ValueError(f"{name}: its ORDER BY {sorting_key} has none of {', '.join(SHARDED_BY)}, to spread rows by")


def _tables(statement: str, head: re.Match[str], cluster: str) -> tuple[str, ...]:
    name, guard = head["name"], head["guard"] or ""
    everywhere = on_cluster(cluster)
    local = f"{DATABASE}.{name}{LOCAL_SUFFIX}"
    engine_at, engine_end = _clause(statement, "ENGINE")
    engine = statement[engine_at:engine_end].lstrip(" =\n")
    family = _ENGINE.match(engine)
    if family is None:
        raise ValueError(f"{name}: an engine of the MergeTree family was expected, got {engine.strip()}")
    arguments = engine[family.end() :].strip()
    inside = arguments[1:-1].strip() if arguments.startswith("(") else ""
    keeper = literal(f"/clickhouse/tables/{cluster}/{{shard}}/{DATABASE}/{name}")
    replicated = f"= Replicated{family['family']}({keeper}, '{{replica}}'{f', {inside}' if inside else ''})\n"
    column = sharding_column(name, statement[slice(*_clause(statement, "ORDER", "BY"))])
    comment = statement[slice(*_clause(statement, "COMMENT"))].strip()
    return (
        f"CREATE TABLE {guard}{local}{everywhere}"
        + statement[head.end() : engine_at] + " " + replicated + statement[engine_end:],
        f"CREATE TABLE {guard}{DATABASE}.{name}{everywhere} AS {local}\n"
        f"ENGINE = Distributed({literal(cluster)}, {literal(DATABASE)}, {literal(name + LOCAL_SUFFIX)}, "
        f"cityHash64({column}))" + (f"\nCOMMENT {comment}" if comment else ""),
    )  # fmt: skip


def _alters(name: str, commands: str, everywhere: str) -> Iterator[str]:
    parts: list[str] = []
    for part in _split(commands):
        if parts and not _COMMAND.match(part.strip()):
            parts[-1] += "," + part
        else:
            parts.append(part)
    yield f"ALTER TABLE {DATABASE}.{name}{LOCAL_SUFFIX}{everywhere}{commands}"
    columns = [part.strip() for part in parts if _OF_COLUMNS.match(part.strip())]
    if columns:
        yield f"ALTER TABLE {DATABASE}.{name}{everywhere} {', '.join(columns)}"


_CLAUSES = ("ENGINE", "PARTITION", "PRIMARY", "ORDER", "SAMPLE", "TTL", "SETTINGS", "COMMENT")


def _clause(statement: str, *words: str) -> tuple[int, int]:
    """Where the text behind a clause's words begins and ends; (0, 0) where there is no such clause."""
    tokens = [token for token in _tokens(statement) if not token.depth and not token.text.isspace()]
    start = -1
    for index, token in enumerate(tokens):
        if start >= 0 and token.text.upper() in _CLAUSES:
            return start, token.start
        if start < 0 and tuple(other.text.upper() for other in tokens[index : index + len(words)]) == words:
            last = tokens[index + len(words) - 1]
            start = last.start + len(last.text)
    return (start, len(statement)) if start >= 0 else (0, 0)


def _split(text: str) -> list[str]:
    """The parts between commas that stand in no parentheses and no strings."""
    parts = [""]
    for token in _tokens(text):
        if token.text == "," and not token.depth:
            parts.append("")
        else:
            parts[-1] += token.text
    return parts


def _tokens(text: str) -> Iterator[_Token]:
    depth = 0
    for found in _TOKEN.finditer(text):
        if found[0] == ")":
            depth -= 1
        yield _Token(found[0], found.start(), depth)
        if found[0] == "(":
            depth += 1
