"""Readers' queries on the embedded engine: gated, limited, streamed, each on a handle of its own."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import msgspec

from collector.errors import QueryError
from collector.store.base import DATABASE, Column, QueryAnswer, QueryLimits
from collector.store.embedded_answer import DEFAULT_FORMAT, EmbeddedAnswer
from collector.store.engine import connect
from collector.store.gate import Refused, Vocabulary, check_kind, check_tree
from collector.store.inserts import literal, quoted_name
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
    """Settings of the engine that somebody has judged: what stands here is set."""
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
        answer.handle = handle = connect(self._connection_string)
        database = question.database
        if database.lower() == "system" or database in _DATABASES_REFUSED - {_DEFAULT}:
            raise Refused(f"{database} is no database to begin from; put it before the name of the table")
        # Clients name `default` when they were told none.
        handle.query(f"USE {quoted_name(DATABASE if database == _DEFAULT else database)}")
        if self._vocabulary is None:
            self._vocabulary = _vocabulary(handle)
        handle.query(f"SET {_settings(answer.name, question, self._memory_bytes_max)}")
        statement, own_format = _canonical(handle, sql)
        if question.format and own_format:
            raise Refused(f"leave FORMAT {own_format} out: the format is chosen beside the SQL")
        parameters = dict(question.parameters)
        tree = handle.query(f"EXPLAIN AST {statement}", "TSVRaw", params=parameters).bytes().decode(errors="replace")
        is_select = check_tree(tree.splitlines(), self._vocabulary)
        answer.format = chosen = question.format or own_format or question.default_format
        if question.columns:
            answer.columns = (_described if is_select else _meta)(handle, statement, parameters)
        answer.bytes_left = question.limits.bytes_max
        if not is_select:
            answer.pending = answer.counted(handle.query(statement, chosen, params=parameters).bytes())
            return None
        # The engine's own streaming gives one document a block, and a document of many formats has an end.
        return lambda pipe: handle.query(
            f"{statement} INTO OUTFILE '/dev/fd/{pipe}' APPEND FORMAT {chosen}", chosen, params=parameters
        )


def _canonical(handle: Any, sql: str) -> tuple[str, str | None]:
    """The statement as the engine writes it, without comments and semicolon, and the format that it asks for.

    What is judged and what runs is this text, so there is nothing that the two could read in different ways.
    """
    # The engine's own parser decides what a text is; there is no public way to it.
    kind = handle._conn.classify_query(sql)
    check_kind(kind["query_class"].name, kind["statement_count"])
    text = handle.query(f"SELECT formatQuerySingleLine({literal(sql)})", "TSVRaw").bytes().decode(errors="replace")
    statement = text.removesuffix("\n")
    found = _FORMAT.search(statement)
    return (statement[: found.start()], found[1]) if found else (statement, None)


def _vocabulary(handle: Any) -> Vocabulary:
    def names(sql: str) -> list[str]:
        return list(handle.query(sql, "TSVRaw").bytes().decode().splitlines())

    return Vocabulary.of(
        names("SELECT name FROM system.table_functions"),
        names("SELECT name FROM system.functions WHERE NOT is_aggregate AND ifNull(deterministic, 0) = 0"),
        _DATABASES_REFUSED,
    )


def _settings(name: str, question: Question, memory_bytes_max: int) -> str:
    """One SET for a reader's handle. `readonly` comes last: nothing can be set after it."""
    limits = question.limits
    values: dict[str, object] = {
        "output_format_json_quote_64bit_integers": 0,
        **question.settings,
        "log_comment": name,
        "max_execution_time": limits.seconds_max,
        "timeout_overflow_mode": "throw",
        "max_result_rows": limits.rows_max,
        "max_result_bytes": limits.bytes_max,
        "result_overflow_mode": question.settings.get("result_overflow_mode", "throw"),
        "max_memory_usage": min(limits.memory_bytes_max, memory_bytes_max),
        "max_threads": limits.threads_max,
        "max_block_size": _BLOCK_ROWS,
        "max_query_size": _CANONICAL_BYTES_MAX,
        "allow_introspection_functions": 0,
        # Else words that are no statement may pass as the expressions of a SELECT.
        "implicit_select": 0,
        "readonly": 1,
    }
    return ", ".join(f"{name} = {literal(str(value))}" for name, value in values.items())


def _described(handle: Any, statement: str, parameters: dict[str, str]) -> tuple[Column, ...]:
    """Names and types of a SELECT, without running it."""
    lines = handle.query(f"DESCRIBE TABLE ({statement})", "JSONCompactEachRow", params=parameters).bytes()
    return tuple(Column(row[0], row[1]) for row in msgspec.json.Decoder(list[Any]).decode_lines(lines))


def _meta(handle: Any, statement: str, parameters: dict[str, str]) -> tuple[Column, ...]:
    """Names and types of SHOW, EXPLAIN and the like, which cannot be described: they are run once more."""
    document = msgspec.json.decode(handle.query(statement, "JSONCompact", params=parameters).bytes())
    return tuple(Column(column["name"], column["type"]) for column in document["meta"])
