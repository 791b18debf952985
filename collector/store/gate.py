"""What a reader's SQL may be. Pure: it judges the engine's own syntax tree of the statement.

`readonly=1` forbids writing, but some reads reach outside the store all the same: the function
`file`, `DESCRIBE TABLE url(...)` and their like. So every table function is refused but those that
touch nothing (a new version's new ones too), and every function that reads files or calls out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

TABLE_FUNCTIONS_ALLOWED = frozenset(
    {
        "numbers", "numbers_mt", "zeros", "zeros_mt", "generateseries", "generate_series", "primes",
        "values", "view", "null", "generaterandom",
    }
)  # fmt: skip
"""Table functions that make rows out of nothing or out of the query itself."""

FUNCTIONS_REFUSED = frozenset({"file", "catboostevaluate", "reversednsquery", "showcertificate", "getclienthttpheader"})
"""Functions that read files of the machine or call out. The name alone may be an argument (`arrayMap(file, ...)`)."""

SYSTEM_TABLES_REFUSED = frozenset(
    {
        # Reading it interrupts every thread of the process with a signal.
        "stack_trace",
        "jemalloc_profile_text", "symbols", "certificates", "named_collections", "remote_data_paths", "zookeeper",
    }
)  # fmt: skip

_NODE = re.compile(r"^(?P<indent> *)(?P<kind>[A-Za-z]\w*)(?: (?P<name>.*?))?(?: \(children \d+\))?$")
_ALIAS = re.compile(r" \(alias .*$")


@dataclass(frozen=True, slots=True)
class Statement:
    """What the gate has learned about SQL that it let through."""

    is_select: bool
    format: str | None
    """The format that the SQL itself asks for."""


class Refused(ValueError):
    """The SQL may not run; the text says why, for the reader."""


def check_kind(query_class: str, statement_count: int) -> None:
    """Judge the engine's classification of the whole text. Raises Refused."""
    if statement_count > 1:
        raise Refused(f"one statement at a time, got {statement_count}")
    if query_class == "UNKNOWN" or statement_count < 1:
        return  # The engine's parser says better what is wrong with it.
    if query_class != "READ_ONLY":
        raise Refused("only statements that read are taken, such as SELECT, SHOW, DESCRIBE and EXPLAIN")


def check_tree(lines: Sequence[str], table_functions: Iterable[str]) -> Statement:
    """Judge the lines of `EXPLAIN AST`, given the names of all table functions. Raises Refused."""
    denied = {name.lower() for name in table_functions} - TABLE_FUNCTIONS_ALLOWED
    root = ""
    own_format = None
    for line in lines:
        node = _NODE.match(line)
        if node is None:
            continue
        kind, name = node["kind"], _ALIAS.sub("", node["name"] or "")
        root = root or kind
        _check_node(kind, name.strip('`"').lower(), denied)
        if kind == "Identifier" and len(node["indent"]) == 1 and root == "SelectWithUnionQuery":
            own_format = name
    if not root:
        raise Refused("there is no statement")
    return Statement(is_select=root == "SelectWithUnionQuery", format=own_format)


def _check_node(kind: str, name: str, table_functions_denied: set[str]) -> None:
    if kind == "ColumnsApplyTransformer":
        # The tree does not say which function is applied, so `file` could hide here.
        raise Refused("APPLY is not taken; call the function on each column")
    if kind == "Function" and (name in table_functions_denied or name in FUNCTIONS_REFUSED or _calls_out(name)):
        raise Refused(f"the function {name} reaches outside the store")
    if kind in ("Identifier", "TableIdentifier"):
        if name in FUNCTIONS_REFUSED or _calls_out(name):
            raise Refused(f"the name {name} belongs to a function that reaches outside the store; use another name")
        database, _, rest = name.partition(".")
        if database == "system" and rest.split(".")[0] in SYSTEM_TABLES_REFUSED:
            raise Refused(f"the table {name} is not for readers")


_AI_FUNCTIONS = frozenset(
    {"aiclassify", "aiembed", "aiextract", "aifilter", "aigenerate", "airedact", "aisimilarity", "aitranslate"}
)


def _calls_out(name: str) -> bool:
    return name in _AI_FUNCTIONS or name.startswith("aigenerate")
