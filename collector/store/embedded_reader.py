"""Readers' queries on the embedded engine: judged on one handle, then run, limited and streamed, on another."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import msgspec

from collector.errors import QueryError
from collector.queries import Column, QueryAnswer, QueryLimits, literal, quoted_name
from collector.store.base import DATABASE
from collector.store.embedded_answer import DEFAULT_FORMAT, EmbeddedAnswer
from collector.store.engine import connect
from collector.store.gate import Refused, Vocabulary, check_kind, check_tree
from collector.store.priority import stand_back

QUERIES_MAX = 4
"""Queries at once; more wait for their turn."""

_BLOCK_ROWS = 8_192
_CANONICAL_BYTES_MAX = 4 << 20
"""What the engine makes of SQL that is within its own limit may be longer than that."""
_DEFAULT = "default"
_DATABASES_REFUSED = frozenset({_DEFAULT, "_temporary_and_external_tables"})
"""Every file of the machine is a table of this engine's `default`: EXISTS tells which there are."""
_FORMAT = re.compile(r" FORMAT (\w+)$")
_JUDGE_BYTES_MAX = 64 << 20
"""Maximum result of a query that judges or describes SQL."""
_QUOTED = r"'(?:[^'\\]|\\.)*'|`(?:[^`\\]|\\.)*`"
_SETTINGS_TABLE = re.compile(
    _QUOTED + r"|\b(?P<before>FROM|JOIN) system\.settings\b(?!\.)(?P<alias> AS\b)?|\b(?P<column>system\.settings\.)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a reader asks for, beside the SQL."""

    format: str | None = None
    """Of the result, where the SQL must not name one."""
    default_format: str = DEFAULT_FORMAT
    """Of the result, where the SQL may name one and does not."""
    columns: bool = False
    parameters: Mapping[str, str] = field(default_factory=dict)
    limits: QueryLimits = field(default_factory=QueryLimits)
    settings: Mapping[str, str] = field(default_factory=dict)
    """Settings of the engine that the caller has judged: each is set for the reader's query, and for no other."""
    settings_accepted: frozenset[str] = frozenset()
    """Names that `system.settings` shows as not read-only, if any: what may be given beside the SQL."""
    database: str = DATABASE


class Reader:
    """Runs readers' SQL."""

    def __init__(self, connection_string: str, *, memory_bytes_max: int) -> None:
        """`memory_bytes_max` bounds every query, whatever its own limits allow."""
        self._connection_string = connection_string
        self._memory_bytes_max = memory_bytes_max
        self._threads = ThreadPoolExecutor(
            max_workers=QUERIES_MAX, thread_name_prefix="store-query", initializer=stand_back
        )
        self._turns = asyncio.Semaphore(QUERIES_MAX)
        self._answers: set[EmbeddedAnswer] = set()
        self._vocabulary: Vocabulary | None = None

    async def query(self, sql: str, question: Question) -> QueryAnswer:
        """See `Store.query`."""
        for name in (question.format or "", question.default_format):
            if name and not (name.isascii() and name.isalnum()):
                raise QueryError(f"{name!r} is not the name of a format")
        if not sql.strip():
            raise QueryError("there is no SQL to run")
        await self._turns.acquire()
        answer = EmbeddedAnswer(self._threads, self._kill, self._release)
        self._answers.add(answer)
        try:
            pour = await answer.run(lambda: self._start(answer, sql, question))
            if pour is not None:
                # The first bytes are waited for, so that wrong SQL fails before anything is given out.
                await answer.pour(pour)
        except BaseException as error:
            await answer.close()
            if isinstance(error, Refused):
                raise QueryError(str(error)) from None
            raise
        return answer

    async def close(self) -> None:
        """Stop every open query."""
        for answer in list(self._answers):
            await answer.close()
        await asyncio.to_thread(self._threads.shutdown, wait=True)

    def _kill(self, name: str) -> None:
        handle = connect(self._connection_string)
        try:
            handle.query(f"KILL QUERY WHERE Settings['log_comment'] = '{name}' ASYNC")
        finally:
            handle.close()

    def _release(self, answer: EmbeddedAnswer) -> None:
        self._answers.discard(answer)
        self._turns.release()

    def _start(self, answer: EmbeddedAnswer, sql: str, question: Question) -> Callable[[int], object] | None:
        """Judge the SQL; gives what makes a SELECT's result, and answers anything else at once."""
        database = question.database
        if database.lower() == "system" or database in _DATABASES_REFUSED - {_DEFAULT}:
            raise Refused(f"{database} is no database to begin from; put it before the name of the table")
        # Clients that were given no database name `default`.
        use = f"USE {quoted_name(DATABASE if database == _DEFAULT else database)}"
        parameters = dict(question.parameters)
        # A reader's settings and limits must not reach the queries that judge: they change results, and fail them.
        with closing(connect(self._connection_string)) as judge:
            judge.query(use)
            if self._vocabulary is None:
                self._vocabulary = _vocabulary(judge)
            judge.query(f"SET {_assignments(_judge_settings(answer.name, self._memory_bytes_max))}")
            statement, own_format = _canonical(judge, sql, question.settings_accepted)
            if question.format and own_format:
                raise Refused(f"leave FORMAT {own_format} out: the format is chosen beside the SQL")
            tree = judge.query(f"EXPLAIN AST {statement}", "TSVRaw", params=parameters).bytes()
            is_select = check_tree(tree.decode(errors="replace").splitlines(), self._vocabulary)
            if question.columns:
                answer.columns = (_described if is_select else _meta)(judge, statement, parameters)
        answer.format = chosen = question.format or own_format or question.default_format
        answer.handle = handle = connect(self._connection_string)
        handle.query(use)
        handle.query(f"SET {_assignments(_reader_settings(answer.name, question, self._memory_bytes_max))}")
        answer.bytes_left = question.limits.bytes_max
        if not is_select:
            answer.pending = answer.counted(handle.query(statement, chosen, params=parameters).bytes())
            return None
        # The engine's own streaming gives one document a block, and a document of many formats has an end.
        return lambda pipe: handle.query(
            f"{statement} INTO OUTFILE '/dev/fd/{pipe}' APPEND FORMAT {chosen}", chosen, params=parameters
        )


def _canonical(handle: Any, sql: str, settings_accepted: frozenset[str]) -> tuple[str, str | None]:
    """Return the statement as the engine writes it, without comments and semicolon, and the format that it names.

    What is judged and what runs is this text, so there is nothing that the two could read in different ways.
    """
    # The engine's own parser decides what a text is; there is no public way to it.
    kind = handle._conn.classify_query(sql)
    check_kind(kind["query_class"].name, kind["statement_count"])
    text = handle.query(f"SELECT formatQuerySingleLine({literal(sql)})", "TSVRaw").bytes().decode(errors="replace")
    statement = _with_settings_table(text.removesuffix("\n"), settings_accepted)
    found = _FORMAT.search(statement)
    return (statement[: found.start()], found[1]) if found else (statement, None)


def _with_settings_table(statement: str, accepted: frozenset[str]) -> str:
    """Read `system.settings` with the column `readonly` as it holds for settings beside the SQL.

    Under `readonly = 1` the engine shows every setting as read-only, and drivers then refuse to send any.
    """
    if not accepted or "system.settings" not in statement or not statement.startswith(("SELECT", "WITH", "EXPLAIN")):
        return statement
    names = ", ".join(literal(name) for name in sorted(accepted))
    table = f"(SELECT * REPLACE (name NOT IN ({names}) AS readonly) FROM system.settings)"

    def place(found: re.Match[str]) -> str:
        if found["column"]:
            return "settings."
        return f"{found['before']} {table}{found['alias'] or ' AS settings'}" if found["before"] else found[0]

    return _SETTINGS_TABLE.sub(place, statement)


def _vocabulary(handle: Any) -> Vocabulary:
    def names(sql: str) -> list[str]:
        return list(handle.query(sql, "TSVRaw").bytes().decode().splitlines())

    return Vocabulary.of(
        names("SELECT name FROM system.table_functions"),
        names("SELECT name FROM system.functions WHERE NOT is_aggregate AND ifNull(deterministic, 0) = 0"),
        _DATABASES_REFUSED,
    )


# Else words that are not a statement may pass as the expressions of a SELECT. How a text is parsed must not differ
# between the two handles.
_PARSER_SETTINGS: dict[str, object] = {"max_query_size": _CANONICAL_BYTES_MAX, "implicit_select": 0}


def _judge_settings(name: str, memory_bytes_max: int) -> dict[str, object]:
    """Settings of the handle that judges SQL: the same for every reader."""
    limits = QueryLimits()
    return {
        **_PARSER_SETTINGS,
        "log_comment": name,
        "max_execution_time": limits.seconds_max,
        "max_result_bytes": _JUDGE_BYTES_MAX,
        "max_memory_usage": min(limits.memory_bytes_max, memory_bytes_max),
        "max_threads": 1,
        "allow_introspection_functions": 0,
        "readonly": 1,
    }


def _reader_settings(name: str, question: Question, memory_bytes_max: int) -> dict[str, object]:
    """Settings of the handle that runs a reader's SQL."""
    limits = question.limits
    return {
        "output_format_json_quote_64bit_integers": 0,
        **question.settings,
        **_PARSER_SETTINGS,
        "log_comment": name,
        "max_execution_time": limits.seconds_max,
        "timeout_overflow_mode": "throw",
        "max_result_rows": limits.rows_max,
        "max_result_bytes": limits.bytes_max,
        "result_overflow_mode": question.settings.get("result_overflow_mode", "throw"),
        "max_memory_usage": min(limits.memory_bytes_max, memory_bytes_max),
        "max_threads": limits.threads_max,
        "max_block_size": _BLOCK_ROWS,
        "allow_introspection_functions": 0,
        "readonly": 1,
    }


def _assignments(values: Mapping[str, object]) -> str:
    """Return what follows SET. `readonly` comes last: nothing can be set after it."""
    return ", ".join(f"{name} = {literal(str(value))}" for name, value in values.items())


def _described(handle: Any, statement: str, parameters: dict[str, str]) -> tuple[Column, ...]:
    """Names and types of a SELECT, without running it."""
    lines = handle.query(f"DESCRIBE TABLE ({statement})", "JSONCompactEachRow", params=parameters).bytes()
    return tuple(Column(row[0], row[1]) for row in msgspec.json.Decoder(list[Any]).decode_lines(lines))


def _meta(handle: Any, statement: str, parameters: dict[str, str]) -> tuple[Column, ...]:
    """Names and types of SHOW, EXPLAIN and the like, which cannot be described: they are run once more."""
    document = msgspec.json.decode(handle.query(statement, "JSONCompact", params=parameters).bytes())
    return tuple(Column(column["name"], column["type"]) for column in document["meta"])
