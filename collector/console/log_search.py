"""What people write into the search box of the log page, as terms and as conditions of SQL. Pure.

Words are looked for in the message, whatever their case, and all of them must be in it: `nccl "link is down"`.
`column:value` takes lines with that value; several values of one column take any of them, `*` stands for any text.
A minus in front takes the lines without: `-sshd -level:info`. Values reach SQL as bound parameters only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from collector.errors import UsageError
from collector.store.named import NamedQuery, QueryParameter
from collector.store.parts import with_parts

TEXT_MAX: Final = 4_000
"""Characters of a search."""
TERMS_MAX: Final = 50
FAULT_SEVERITIES: Final = ("fatal", "degraded", "application", "corrected", "info")

_TERM: Final = re.compile(
    r'(?P<minus>-)?(?:(?P<column>[A-Za-z_]\w*):(?=\S))?(?:"(?P<quoted>(?:[^"\\]|\\.)*)(?:"|$)|(?P<bare>\S+))'
)
_NAMED: Final = re.compile(r"[A-Za-z_]\w*:\S")
_MARKER: Final = re.compile(r"[ \t]*-- filters[ \t]*\n")
_ESCAPES: Final = str.maketrans({"\\": "\\\\", "'": "\\'", "\t": "\\t", "\n": "\\n", "\r": "\\r", "\0": "\\0"})


@dataclass(frozen=True, slots=True)
class Field:
    """A column of lines that can be searched and shown."""

    name: str
    """In the search box."""
    column: str
    """In the rows; of `syslogs` where the line has it."""
    meaning: str
    expression: str = ""
    """SQL of its value as text; empty is the column itself."""
    is_number: bool = False
    is_searched: bool = True
    is_shown: bool = True

    @property
    def sql(self) -> str:
        return self.expression or f"lines.{self.column}"


FIELDS: Final = (
    Field("time", "time", "when the line was logged", is_searched=False),
    Field("node", "node_id", "id of the node"),
    Field("host", "hostname", "host name in the line"),
    Field("level", "severity", "syslog severity, such as err or info"),
    Field("program", "program", "program that logged it, without its process id",
          "extract(lines.syslogtag, '^[^\\\\[:]*')", is_shown=False),
    Field("tag", "syslogtag", "program that logged it, with its process id"),
    Field("fault", "fault_severity", "what a fault asks for: fatal, degraded, application, corrected, info",
          "toString(lines.fault_severity)"),
    Field("class", "fault_class", "kind of fault, such as xid or nic"),
    Field("code", "fault_code", "number of the fault, such as that of an Xid", is_number=True),
    Field("case", "fault_case", "case of the fault"),
    Field("device", "fault_device", "what the fault is about, such as a PCI address"),
    Field("facility", "facility", "syslog facility, such as kern"),
    Field("cluster", "cluster_id", "cluster of the node"),
    Field("region", "region", "region of the collector"),
    Field("ip", "ip", "address of the node"),
    Field("sn", "sn", "serial number of the machine"),
    Field("source", "source", "host that sent the line"),
    Field("domain", "domain", "domain that the service files the line under"),
    Field("topic", "topic", "way that the line took"),
    Field("path", "tag_path", "file that the log shipper read"),
    Field("shipper", "tag_hostname", "host name in the tag of the log shipper"),
    Field("group", "tag_user_defined_id", "group of machines in the log shipper"),
    Field("pack", "tag_pack_id", "pack of lines that the log shipper sent together"),
    Field("received", "receive_time", "when the log service received the line", is_searched=False),
    Field("job", "", "job that had the node then", is_shown=False),
    Field("user", "", "user who had the node then", is_shown=False),
    Field("extra", "extra", "fields that are not known, as JSON", is_searched=False),
    Field("message", "msg", "the message", is_searched=False),
)  # fmt: skip
SEARCHED: Final = tuple(field for field in FIELDS if field.is_searched)
SHOWN: Final = tuple(field for field in FIELDS if field.is_shown)
OF_HOURS: Final = frozenset(("node", "host", "level", "fault", "class", "code", "case", "device", "cluster", "region"))
"""Fields whose values the hours of `syslogs` hold (its projection `hourly`)."""
_BY_NAME: Final = {field.column: field for field in reversed(FIELDS) if field.column} | {
    field.name: field for field in FIELDS
}
# Nodes are known by id or by host name in snapshots of usage; a snapshot is good for ten minutes.
_USED: Final = """(
        SELECT
            arrayJoin(arrayConcat(usage.node_names, usage.gpu_node_names, usage.cpu_node_names)),
            toStartOfTenMinutes(usage.time)
        FROM user_metrics AS usage
        WHERE usage.time >= toStartOfTenMinutes({start:DateTime('UTC')}) AND usage.time < {end:DateTime('UTC')}
            AND %s
    )"""
_USAGE: Final = {
    "job": "hasAny(arrayConcat(usage.gpu_job_names, usage.cpu_job_names), {%s:Array(String)})",
    "user": "usage.user_id IN {%s:Array(String)}",
}


@dataclass(frozen=True, slots=True)
class Term:
    """A part of a search."""

    text: str
    """A word, a phrase or a value."""
    field: str = ""
    """Name of a field; empty is the message."""
    is_excluded: bool = False

    def __str__(self) -> str:
        """As it is written in the box."""
        is_bare = self.text and not re.search(r'[\s"]', self.text) and not self.text.startswith("-")
        if not self.field and is_bare:
            is_bare = not _NAMED.match(self.text)
        escaped = self.text.replace("\\", "\\\\").replace('"', '\\"')
        shown = self.text if is_bare else f'"{escaped}"'
        return ("-" if self.is_excluded else "") + (f"{self.field}:" if self.field else "") + shown


@dataclass(frozen=True, slots=True)
class Search:
    """All parts of a search; all must hold, but of the values of one field any."""

    terms: tuple[Term, ...] = ()

    def __str__(self) -> str:
        return " ".join(map(str, self.terms))

    @property
    def words(self) -> list[str]:
        """What lines must have in their message."""
        return [term.text for term in self.terms if not term.field and not term.is_excluded]

    @property
    def is_of_hours(self) -> bool:
        """Whether it can be counted from the hours of `syslogs`, and is so more cheaply than from its lines."""
        # The lines of a node lie together, and are found more quickly than its hours.
        nodes = any(term.field == "node" and not term.is_excluded for term in self.terms)
        return not nodes and all(term.field in OF_HOURS for term in self.terms)

    def has(self, term: Term) -> bool:
        return term in self.terms

    def without(self, term: Term) -> Search:
        return Search(tuple(one for one in self.terms if one != term))

    def plus(self, term: Term) -> Search:
        """Return it with a term more, which replaces its opposite."""
        rest = self.without(term).without(replace(term, is_excluded=not term.is_excluded))
        return Search((*rest.terms, term))


def searched(text: str) -> Search:
    """Read a search box. Raises UsageError, which lists the columns, for one that is not known."""
    if len(text) > TEXT_MAX:
        raise UsageError(f"q: got {len(text):,} characters; expected at most {TEXT_MAX:,}")
    terms = []
    for found in _TERM.finditer(text):
        quoted, column = found["quoted"], found["column"]
        value = found["bare"] if quoted is None else re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL)
        name = _field(column, found[0]).name if column else ""
        if not value and not name:
            continue
        if value == "-" and not name:
            continue
        term = Term(value, name, bool(found["minus"]))
        _check(term)
        if term not in terms:
            terms.append(term)
    if len(terms) > TERMS_MAX:
        raise UsageError(f"q: got {len(terms)} parts; expected at most {TERMS_MAX}")
    return Search(tuple(terms))


def shown_fields(names: Iterable[str], default: Sequence[str]) -> list[Field]:
    """Return the fields of `?columns=`, which may have several in one with commas. Raises UsageError."""
    wanted = [part.strip() for text in names for part in text.split(",") if part.strip()]
    if wanted == ["all"]:
        return list(SHOWN)
    chosen = []
    for name in wanted or default:
        known = _BY_NAME.get(name)
        if known is None or not known.is_shown:
            raise UsageError(
                f"columns: there is no column {name[:60]!r}", hint="there are: " + ", ".join(one.name for one in SHOWN)
            )
        if known not in chosen:
            chosen.append(known)
    return chosen


def filtered(query: NamedQuery, text: str, search: Search) -> tuple[NamedQuery, dict[str, str]]:
    """Return a query of `sql/console` with the conditions of a search, and the values that they take.

    `text` is that of its file, in which a line `-- filters` becomes the conditions.
    """
    parameters: dict[str, QueryParameter] = {known.name: known for known in query.parameters}
    values: dict[str, str] = {}

    made = _conditions(search)
    for _, bound in made:
        for name, type, value in bound:
            parameters[name] = QueryParameter(name, type)
            values[name] = value
    conditions = "".join(f"    AND {sql}\n" for sql, _ in made)
    sql = _MARKER.sub(
        lambda _: conditions,
        "\n".join(line for line in with_parts(text).splitlines() if not line.startswith("-- ")) + "\n",
    )
    return NamedQuery(query.name, query.purpose, tuple(parameters.values()), sql.strip()), values


_Bound = tuple[str, str, str]


def _conditions(search: Search) -> list[tuple[str, list[_Bound]]]:
    """SQL of each condition, with name, type and value of its parameters."""
    made: list[tuple[str, list[_Bound]]] = []
    for field in SEARCHED:
        for is_excluded in (False, True):
            values = [
                term.text for term in search.terms if term.field == field.name and term.is_excluded is is_excluded
            ]
            if values:
                made.append(_condition(field, values, is_excluded=is_excluded))
    for number, term in enumerate(term for term in search.terms if not term.field):
        # The engine's comparison without case of bytes is the faster one.
        function = "positionCaseInsensitive" if term.text.isascii() else "positionCaseInsensitiveUTF8"
        name = f"word_{number + 1}"
        sql = f"{function}(lines.msg, {{{name}:String}}) {'=' if term.is_excluded else '>'} 0"
        made.append((sql, [(name, "String", term.text)]))
    return made


def _condition(field: Field, values: Sequence[str], *, is_excluded: bool) -> tuple[str, list[_Bound]]:
    name = ("not_" if is_excluded else "") + field.name
    if field.name in _USAGE:
        used = _USED % (_USAGE[field.name] % name)
        moment = "toStartOfTenMinutes(lines.time)"
        either = f"(lines.node_id, {moment}) GLOBAL IN {used} OR (lines.hostname, {moment}) GLOBAL IN {used}"
        return f"{'NOT ' if is_excluded else ''}({either})", [(name, "Array(String)", _array(values))]
    exact = [value for value in values if "*" not in value]
    globs = [value for value in values if "*" in value]
    parts: list[str] = []
    bound: list[_Bound] = []
    if exact:
        type = "Array(UInt16)" if field.is_number else "Array(String)"
        text = f"[{', '.join(str(int(value)) for value in exact)}]" if field.is_number else _array(exact)
        parts.append(f"{field.sql} {'NOT IN' if is_excluded else 'IN'} {{{name}:{type}}}")
        bound.append((name, type, text))
    if globs and all(set(value) == {"*"} for value in globs):
        nothing = "0" if field.is_number else "''"
        parts.append(f"{field.sql} {'=' if is_excluded else '!='} {nothing}")
    elif globs:
        pattern = "^(?:" + "|".join(".*".join(map(re.escape, value.split("*"))) for value in globs) + ")$"
        text = f"toString({field.sql})" if field.is_number else field.sql
        parts.append(f"{'NOT ' if is_excluded else ''}match({text}, {{{name}_like:String}})")
        bound.append((f"{name}_like", "String", pattern))
    joined = (" AND " if is_excluded else " OR ").join(parts)
    return f"({joined})" if len(parts) > 1 else joined, bound


def _field(column: str, written: str) -> Field:
    known = _BY_NAME.get(column.lower())
    if known is not None and known.is_searched:
        return known
    phrase = written.replace('"', "")
    raise UsageError(
        f"there is no column {column[:60]!r} to search",
        hint=f"there are: {', '.join(one.name for one in SEARCHED)}; for these characters in the message, write"
        f' "{phrase[:60]}"',
    )


def _check(term: Term) -> None:
    if term.field == "code" and "*" not in term.text and not re.fullmatch(r"\d{1,5}", term.text, re.ASCII):
        raise UsageError(f"code: got {term.text[:60]!r}; expected a number, such as code:79")
    if term.field == "level" and term.text in FAULT_SEVERITIES[:4]:
        raise UsageError(
            f"level: got {term.text!r}, which is no level of syslog", hint=f"what a fault asks for is fault:{term.text}"
        )
    if "\0" in term.text:
        raise UsageError("q: has a null character")


def _array(values: Sequence[str]) -> str:
    return "[" + ", ".join("'" + value.translate(_ESCAPES) + "'" for value in values) + "]"
