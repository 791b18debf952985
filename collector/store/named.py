"""Named queries: the files of `sql/queries`, each one SELECT with lines that say what it is for and what it takes.

    -- purpose: faults by class, code and node, most first
    -- param: hours UInt16 = 24  length of the range, hours
    -- param: job String  id of the job

A parameter has a name, a ClickHouse type without blanks, a default unless it must be given, and after
two blanks its meaning. In the SQL it is `{hours:UInt16}`, and the engine puts the value in.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from collector.errors import UsageError
from collector.store.assets import sql_files, sql_folder
from collector.store.parts import with_parts
from collector.store.statements import filled_in, header, placeholders, split_statements
from collector.store.values import NULL, bound, literal, read_value

_PARAMETER = re.compile(r"(?P<name>\w+) (?P<type>\S+)(?: = (?P<default>'[^']*'|\S+))?  +(?P<meaning>\S.*)")


@dataclass(frozen=True, slots=True)
class QueryParameter:
    """A `{name:Type}` of a query."""

    name: str
    type: str
    default: str | None = None
    """Its text, None where a value must be given."""
    meaning: str = ""

    def shown(self) -> str:
        """As lists show it, such as `hours=24`."""
        if self.default is None:
            return f"{self.name} (required)"
        return f"{self.name}={self.default or repr('')}"

    def explained(self) -> str:
        """With its type and its meaning."""
        default = "" if self.default is None else f" = {self.default or repr('')}"
        return f"{self.name} {self.type}{default}" + (f": {self.meaning}" if self.meaning else "")


@dataclass(frozen=True, slots=True)
class NamedQuery:
    """One file of `sql/queries`; the file is named after it."""

    name: str
    purpose: str
    """What it answers, from its `-- purpose:` line."""
    parameters: tuple[QueryParameter, ...]
    sql: str

    def bind(self, given: Mapping[str, str] | None = None) -> dict[str, str]:
        """Values for all parameters, as `Store.query` takes them. Raises UsageError."""
        values = self._values(given or {})
        return {known.name: bound(known.type, values[known.name]) for known in self.parameters}

    def standing_alone(self, given: Mapping[str, str] | None = None) -> str:
        """The SQL with the values in it and its purpose above, to be pasted elsewhere. Raises UsageError."""
        values = self._values(given or {})
        literals = {known.name: literal(known.type, values[known.name]) for known in self.parameters}
        return f"-- {self.name}: {self.purpose}\n{filled_in(self.sql, literals)}"

    def _values(self, given: Mapping[str, str]) -> dict[str, str | None]:
        return _read(self.parameters, given, f"the query {self.name}")


def named_queries() -> tuple[NamedQuery, ...]:
    """Every named query, by name. Raises ValueError for a file whose header or SQL is wrong."""
    return tuple(parsed(name, text) for name, text in sql_files(sql_folder("queries")))


def named_query(name: str) -> NamedQuery:
    """The named query `name`. Raises UsageError, with what there is."""
    queries = {query.name: query for query in named_queries()}
    try:
        return queries[name]
    except KeyError:
        raise UsageError(
            f"there is no query named {name!r}", hint=f"{_guess(name, queries)}there are: {', '.join(queries)}"
        ) from None


def bind_own(sql: str, given: Mapping[str, str]) -> dict[str, str]:
    """Values for the parameters of a reader's own SQL, as `Store.query` takes them. Raises UsageError."""
    parameters = [QueryParameter(name, type) for name, type in dict(placeholders(sql)).items()]
    values = _read(parameters, given, "the SQL")
    return {known.name: bound(known.type, values[known.name]) for known in parameters}


def parsed(name: str, text: str) -> NamedQuery:
    """The text of a file of `sql/queries`. Raises ValueError for one whose header or SQL is wrong."""
    file = f"sql/queries/{name}.sql"
    try:
        text = with_parts(text)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
    lines = header(text)
    purposes = [value for key, value in lines if key == "purpose"]
    statements = split_statements(text)
    if len(purposes) != 1 or len(statements) != 1:
        raise ValueError(f"{file}: needs one `-- purpose:` line and exactly one statement")
    parameters = tuple(_parameter(file, value) for key, value in lines if key == "param")
    declared = {known.name: known.type for known in parameters}
    if len(declared) != len(parameters):
        raise ValueError(f"{file}: a parameter is declared twice")
    used = placeholders(statements[0])
    if dict(used) != declared or any(declared[key] != type for key, type in used):
        raise ValueError(f"{file}: declares the parameters {declared} and uses {sorted(set(used))}")
    return NamedQuery(name, purposes[0], parameters, statements[0])


def _parameter(file: str, line: str) -> QueryParameter:
    found = _PARAMETER.fullmatch(line)
    if found is None:
        raise ValueError(f"{file}: `-- param: {line}` is not `name Type = default  meaning`")
    default = found["default"]
    if default is not None and default.startswith("'"):
        default = default[1:-1]
    known = QueryParameter(found["name"], found["type"], default, found["meaning"])
    if default is not None:
        try:
            read_value(known.type, default)
        except ValueError as error:
            raise ValueError(f"{file}: the default of {known.name} is {default!r}, expected {error}") from None
    return known


def _read(parameters: Sequence[QueryParameter], given: Mapping[str, str], whose: str) -> dict[str, str | None]:
    """The values of all parameters; None is NULL. Raises UsageError with every mistake."""
    names = [known.name for known in parameters]
    mistakes = [
        f"{whose} has no parameter {name!r}, which was given as {text!r}"
        for name, text in given.items()
        if name not in names
    ]
    values: dict[str, str | None] = {}
    for known in parameters:
        text = given.get(known.name, known.default)
        if text is None:
            mistakes.append(f"{whose} needs a value of {known.name}, {known.type}")
            continue
        try:
            values[known.name] = read_value(known.type, text)
        except ValueError as error:
            also = f" or {NULL}" if known.type.startswith("Nullable(") else ""
            mistakes.append(f"{known.name}: got {text!r}, expected {error}{also}")
    if mistakes:
        unknown = next((name for name in given if name not in names), "")
        listed = "; ".join(known.explained() for known in parameters)
        raise UsageError("; ".join(mistakes), hint=f"{_guess(unknown, names)}it takes {listed or 'no parameters'}")
    return values


def _guess(name: str, known: Mapping[str, object] | Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}? " if close else ""
