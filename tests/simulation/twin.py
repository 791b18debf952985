"""A store in memory that does what the embedded one does for the program itself, a hundred times as fast.

Inserts are taken, refused and recognised by their token as the engine does it; of reads it knows the program's own,
each by its text. Anything else is an error: a twin that guesses would prove nothing. `tests/contract/test_twin.py`
runs one list of scenarios on both.
"""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from functools import cache
from typing import Any, NoReturn

import msgspec

from collector.errors import StoreRefused
from collector.sources.tables import TABLES
from collector.store.migrate import load_migrations

TOKENS_MAX = 100_000
"""Blocks of a table whose tokens are remembered, as the migrations set it."""

DAY = 86_400

Relation = tuple[Sequence[str], Iterable[Sequence[Any]]]
Condition = Callable[[Any], bool]

_decode = msgspec.json.Decoder(list[Any]).decode
_COLUMN = re.compile(r"^    (?P<name>\w+) (?P<type>\w+(?:\((?:[^()]|\([^()]*\))*\))?)(?: DEFAULT (?P<default>'\{\}'))?")
_ADDED = re.compile(r"ADD COLUMN IF NOT EXISTS (?P<name>\w+) (?P<type>\w+(?:\([^()]*\))?)(?P<alias> ALIAS)?")
_WRAPPED = re.compile(r"LowCardinality\((.+)\)$|SimpleAggregateFunction\(\w+, (.+)\)$")


class Twin:
    """A `Store` for the program's own inserts and reads. It never waits."""

    def __init__(self, *, tokens_max: int = TOKENS_MAX) -> None:
        self.tables: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
        self._tokens: dict[str, OrderedDict[tuple[str, str], None]] = defaultdict(OrderedDict)
        self._tokens_max = tokens_max
        self._is_migrated = False

    async def insert(self, table: str, columns: Sequence[str], body: bytes, *, token: str) -> None:
        """As `Store.insert`."""
        if not token:
            raise ValueError(f"insert into {table}: an insert needs a token")
        lines = body.splitlines()
        if not lines or not all(line.startswith(b"[") for line in lines):
            raise StoreRefused(f"insert into {table}: the body is not one array a line")
        if table == "migrations":
            self._is_migrated = True
            return
        if table not in schema():
            raise StoreRefused(f"insert into {table}: there is no such table")
        types = schema()[table]
        if unknown := [column for column in columns if column not in types]:
            raise StoreRefused(f"insert into {table}: it has no column {', '.join(unknown)}")
        takers = [types[column].take for column in columns]
        places = [columns.index(name) if name in columns else None for name in types]
        defaults = [column.default for column in types.values()]
        blocks: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
        partition_of = _partition(table)
        for line in lines:
            values = _values(table, line, takers)
            row = tuple(
                default if place is None else values[place] for place, default in zip(places, defaults, strict=True)
            )
            blocks[partition_of(row)].append(row)
        known = self._tokens[table]
        for partition, rows in blocks.items():
            if (partition, token) in known:
                continue
            known[partition, token] = None
            while len(known) > self._tokens_max:
                known.popitem(last=False)
            self.tables[table] += rows

    async def execute(self, statement: str) -> None:
        """Tables are there from the beginning."""

    async def fetch(self, sql: str, parameters: Mapping[str, object] | None = None) -> list[list[Any]]:
        """As `Store.fetch`, for the reads that the program makes."""
        text = " ".join(sql.split())
        for pattern, answer in _READS:
            if (found := pattern.fullmatch(text)) is not None:
                return answer(self, found.groupdict(), dict(parameters or {}))
        raise AssertionError(f"the twin does not know this read: {text}")

    def forget_tokens(self) -> None:
        """So much time has passed that no token is remembered."""
        self._tokens.clear()

    async def query(self, sql: str, **options: object) -> NoReturn:
        """Nobody reads here but the program."""
        raise AssertionError(f"the twin answers no readers: {sql}")

    async def close(self) -> None:
        """What it holds is kept, so that it can be opened again."""

    # Relations: tables as they are, and the views over them

    def relation(self, name: str) -> Relation:
        """Columns and rows of a table or view."""
        if name in _VIEWS:
            return _VIEWS[name](self)
        return tuple(schema()[name]), self.tables[name]

    def _migrations(self, found: dict[str, Any], parameters: dict[str, Any]) -> list[list[Any]]:
        return [[one.version, one.name, one.checksum] for one in load_migrations()] if self._is_migrated else []

    def _is_there(self, found: dict[str, Any], parameters: dict[str, Any]) -> list[list[Any]]:
        assert parameters["name"] == "migrations"
        return [["migrations"]] if self._is_migrated else []

    def _plain(self, found: dict[str, Any], parameters: dict[str, Any]) -> list[list[Any]]:
        columns, rows = self._chosen(found, parameters)
        if found.get("order"):
            keys = [columns.index(name) for name in found["order"].split(", ")]
            rows = sorted(rows, key=lambda row: [row[key] for key in keys])
        shown = [_shown(columns, text) for text in found["columns"].split(", ")]
        return [[show(row) for show in shown] for row in rows]

    def _newest(self, found: dict[str, Any], parameters: dict[str, Any]) -> list[list[Any]]:
        columns, rows = self._chosen(found, parameters)
        scope, time = columns.index(found["scope"]), columns.index(found["time"])
        newest: dict[str, int] = {}
        for row in rows:
            newest[row[scope]] = max(newest.get(row[scope], 0), row[time])
        return [list(item) for item in newest.items()]

    def _spend(self, found: dict[str, Any], parameters: dict[str, Any]) -> list[list[Any]]:
        columns, rows = self._chosen(found, parameters)
        operation, calls, cost = (columns.index(name) for name in ("operation", "calls", "cost_cny"))
        sums: dict[str, tuple[int, Decimal]] = {}
        for row in rows:
            before = sums.get(row[operation], (0, Decimal(0)))
            sums[row[operation]] = before[0] + row[calls], before[1] + row[cost]
        return [[name, count, f"{cny.normalize():f}"] for name, (count, cny) in sums.items()]

    def _last_states(self, found: dict[str, Any], parameters: dict[str, Any]) -> list[list[Any]]:
        columns, rows = self._chosen(found, parameters)
        key, time = columns.index("object_id"), columns.index("observed_at")
        last: dict[str, Sequence[Any]] = {}
        for row in rows:
            if row[key] not in last or row[time] > last[row[key]][time]:
                last[row[key]] = row
        shown = [_shown(columns, text) for text in found["columns"].split(", ")]
        return [[show(last[name]) for show in shown] for name in sorted(last)]

    def _chosen(self, found: dict[str, Any], parameters: dict[str, Any]) -> tuple[Sequence[str], list[Sequence[Any]]]:
        columns, rows = self.relation(found["table"])
        where = _conditions(found.get("where") or "", parameters)
        tests = [(columns.index(name), test) for name, test in where]
        return columns, [row for row in rows if all(test(row[place]) for place, test in tests)]


# The program's reads, each by its text

_NAME = r"\w+"
_SHORT = rf"length\({_NAME}\) > 256 \? hex\(SHA256\({_NAME}\)\) : {_NAME}"
_SHOWN = rf"(?:{_NAME}|{_SHORT}|toUnixTimestamp\({_NAME}\)|toUInt64\(toUnixTimestamp64Milli\({_NAME}\)\))"
_SHOWN_LIST = rf"(?P<columns>{_SHOWN}(?:, {_SHOWN})*)"
_WHERE = r"(?P<where>.+?)"
_READS: tuple[tuple[re.Pattern[str], Callable[[Twin, dict[str, Any], dict[str, Any]], list[list[Any]]]], ...] = (
    (
        re.compile(
            r"SELECT name FROM system\.tables WHERE database = \{database:String\} AND name = \{name:String\}"
        ),
        Twin._is_there,
    ),
    # How late records arrive is learned, and nothing here depends on it.
    (re.compile("SELECT 1"), lambda twin, found, parameters: [[1]]),
    (re.compile(r"SELECT toString\(node_id\) AS node, count\(\), quantiles.+"), lambda twin, found, parameters: []),
    (re.compile(r"SELECT version, name, checksum FROM pai\.migrations ORDER BY version"), Twin._migrations),
    (
        re.compile(
            rf"SELECT (?P<scope>{_NAME}), toUnixTimestamp\(max\((?P<time>{_NAME})\)\) FROM (?P<table>{_NAME})"
            rf" WHERE {_WHERE} GROUP BY 1"
        ),
        Twin._newest,
    ),
    (
        re.compile(
            r"SELECT operation, sum\(calls\), toString\(sum\(cost_cny\)\) FROM (?P<table>api_calls)"
            rf" WHERE {_WHERE} GROUP BY operation"
        ),
        Twin._spend,
    ),
    (
        re.compile(
            rf"SELECT {_SHOWN_LIST} FROM (?P<table>{_NAME}) WHERE {_WHERE}"
            r" ORDER BY object_id, observed_at DESC LIMIT 1 BY object_id"
        ),
        Twin._last_states,
    ),
    (
        re.compile(
            rf"SELECT {_SHOWN_LIST} FROM (?P<table>{_NAME})(?: WHERE {_WHERE})?"
            rf"(?: ORDER BY (?P<order>{_NAME}(?:, {_NAME})*))?"
        ),
        Twin._plain,
    ),
)  # fmt: skip

_CONDITION = re.compile(
    rf"(?P<name>{_NAME}) (?:"
    r"IN \{(?P<among>\w+):Array\(String\)\}"
    r"|IN \(SELECT arrayJoin\(\{(?P<times>\w+):Array\(UInt32\)\}\)::DateTime\('UTC'\)\)"
    r"|= \{(?P<equal>\w+):String\}"
    r"|= '(?P<literal>\w+)'"
    r"|>= \{(?P<least>\w+):UInt32\}"
    r"|BETWEEN \{(?P<first>\w+):UInt32\} AND \{(?P<last>\w+):UInt32\}"
    r")(?: AND |$)"
)


def _conditions(text: str, parameters: Mapping[str, Any]) -> list[tuple[str, Condition]]:
    found: list[tuple[str, Condition]] = []
    place = 0
    while place < len(text):
        match = _CONDITION.match(text, place)
        if match is None:
            raise AssertionError(f"the twin does not know this condition: {text[place:]}")
        found.append((match["name"], _test(match, parameters)))
        place = match.end()
    return found


def _test(match: re.Match[str], parameters: Mapping[str, Any]) -> Condition:
    if several := match["among"] or match["times"]:
        return frozenset(parameters[several]).__contains__
    if match["equal"] or match["literal"]:
        value = parameters[match["equal"]] if match["equal"] else match["literal"]
        return lambda seen: seen == value
    low = parameters[match["least"] or match["first"]]
    high = parameters[match["last"]] if match["last"] else 2**63
    return lambda seen: low <= seen <= high


def _shown(columns: Sequence[str], text: str) -> Callable[[Sequence[Any]], Any]:
    if " ? " in text:
        place = columns.index(text.rpartition(" : ")[2])
        return lambda row: _short(row[place])
    name = re.sub(r"\w+\(|\)", "", text)
    place = columns.index(name)
    if "Milli(" in text:
        return lambda row: round(row[place] * 1000)
    if "(" in text:
        return lambda row: None if row[place] is None else int(row[place])
    return lambda row: float(row[place]) if isinstance(row[place], Decimal) else row[place]


def _short(text: str) -> str:
    """A long text as its digest."""
    size = len(text.encode())
    return hashlib.sha256(text.encode()).hexdigest().upper() if size > 256 else text


# Views


def _merged(rows: Iterable[Sequence[Any]], width: int, merge: Callable[[list[Sequence[Any]]], Sequence[Any]]) -> Any:
    """Rows grouped by their first columns, each group merged to what follows these."""
    groups: dict[tuple[Any, ...], list[Sequence[Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[:width]), []).append(row)
    return [(*key, *merge(group)) for key, group in groups.items()]


def _latest(group: list[Sequence[Any]]) -> Sequence[Any]:
    return max(group, key=lambda row: row[-1])


def _watermarks(twin: Twin) -> Relation:
    rows = _merged(
        twin.tables["watermark_states"],
        3,
        lambda group: (
            min(r[3] for r in group),
            max((r[6], r[4]) for r in group)[1],
            max(r[5] for r in group),
            max(r[6] for r in group),
        ),
    )
    return ("operation", "region", "scope_id", "collected_from", "watermark", "updated_at", "generation"), rows


def _gaps(twin: Twin) -> Relation:
    rows = _merged(twin.tables["gap_states"], 5, lambda group: _latest(group)[5:])
    return ("operation", "region", "scope_id", "start", "end", "reason", "state", "updated_at"), rows


def _journals(twin: Twin) -> Relation:
    def merge(group: list[Sequence[Any]]) -> Sequence[Any]:
        is_forgotten = any(row[4] == "forgotten" for row in group)
        last = _latest(group)
        return "forgotten" if is_forgotten else last[4], max(row[5] for row in group), last[6], last[7]

    rows = _merged(twin.tables["journal_states"], 4, merge)
    return ("region", "id", "shard", "of", "state", "heartbeat", "host", "updated_at"), rows


def _api_calls(twin: Twin) -> Relation:
    rows = _merged(twin.tables["api_call_parts"], 5, lambda group: [sum(r[i] for r in group) for i in range(5, 9)])
    return TABLES["api_call_parts"].columns, rows


_VIEWS = {"watermarks": _watermarks, "gaps": _gaps, "journals": _journals, "api_calls": _api_calls}


# Columns, as the migrations make them


class _Column:
    """What a column takes, what it makes of it, and what it holds where nothing was given."""

    def __init__(self, type: str, default: str | None) -> None:
        while (wrapped := _WRAPPED.match(type)) is not None:
            type = wrapped[1] or wrapped[2]
        nullable = re.match(r"Nullable\((.+)\)$", type)
        self.is_nullable = nullable is not None
        self.kind = nullable[1] if nullable else type
        family = self.kind.partition("(")[0]
        self._take = _TAKERS[family]
        empty: dict[str, Any] = {"String": "", "Array": [], "Decimal": Decimal(0)}
        self.default = default.strip("'") if default else None if nullable else empty.get(family, 0)

    def take(self, value: Any) -> Any:
        """The value as it is stored. ValueError where the engine refuses it."""
        if value is None:
            if self.is_nullable:
                return None
            raise ValueError("NULL")
        return self._take(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("no text")
    return value


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError("no whole number")
    return int(value)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("no number")
    return float(value)


def _decimal(value: Any) -> Decimal:
    try:
        return Decimal(str(value))
    except InvalidOperation as error:
        raise ValueError("no decimal") from error


def _texts(value: Any) -> list[str]:
    if not isinstance(value, list):
        raise ValueError("no list")
    return [_text(each) for each in value]


_TAKERS: Mapping[str, Callable[[Any], Any]] = {
    "String": _text, "Array": _texts, "Decimal": _decimal, "Float64": _number, "DateTime": _whole,
    "DateTime64": _number, "UInt8": _whole, "UInt16": _whole, "UInt32": _whole, "UInt64": _whole, "Int64": _whole,
    "Bool": _whole,
}  # fmt: skip


@cache
def schema() -> dict[str, dict[str, _Column]]:
    """Table -> column -> what it takes."""
    found: dict[str, dict[str, _Column]] = {}
    for migration in load_migrations():
        for statement in migration.statements:
            if (altered := re.match(r"ALTER TABLE pai\.(\w+)", statement)) is not None:
                columns = found[altered[1]]
                for added in _ADDED.finditer(statement):
                    if not added["alias"]:
                        columns[added["name"]] = _Column(added["type"], None)
            head = re.match(r"CREATE TABLE IF NOT EXISTS pai\.(\w+)", statement)
            if head is None:
                continue
            columns = found.setdefault(head[1], {})
            for line in statement.splitlines():
                if line.startswith(")"):
                    break
                if (column := _COLUMN.match(line)) is not None:
                    columns[column["name"]] = _Column(column["type"], column["default"])
    return found


def _values(table: str, line: bytes, takers: Sequence[Callable[[Any], Any]]) -> list[Any]:
    try:
        given = _decode(line)
        return [take(value) for take, value in zip(takers, given, strict=True)]
    except (ValueError, msgspec.DecodeError) as error:
        raise StoreRefused(f"insert into {table}: {error}") from None


@cache
def _partition(table: str) -> Callable[[Sequence[Any]], str]:
    known = TABLES.get(table)
    if known is None:
        return lambda row: ""
    place = list(schema()[table]).index(known.columns[known.partition_index])
    form = "%Y%m" if known.monthly else "%Y%m%d"

    @cache
    def named(day: int) -> str:
        return datetime.fromtimestamp(day * DAY, UTC).strftime(form)

    return lambda row: named(row[place] // DAY)
