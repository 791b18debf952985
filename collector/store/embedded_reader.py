"""Readers' queries on the embedded engine: gated, limited, streamed, each on a handle of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from collector.errors import QueryError
from collector.store.base import DATABASE, Column, QueryAnswer, QueryLimits
from collector.store.embedded_answer import DEFAULT_FORMAT, EXPLAIN, EmbeddedAnswer
from collector.store.engine import connect
from collector.store.gate import Refused, Statement, check_kind, check_tree
from collector.store.priority import stand_back

QUERIES_MAX = 4
"""Queries at once; more wait for their turn."""

# The engine streams a result as one document per block. Only where such documents simply follow each
# other is that a document too; any other format is made in one piece, within `QueryLimits.bytes_max`.
_STREAMED = frozenset(
    {"csv", "tsv", "tabseparated", "tsvraw", "tabseparatedraw", "jsoneachrow", "jsoncompacteachrow", "ndjson",
     "jsonlines", "rowbinary", "native"}
)  # fmt: skip
_BLOCK_ROWS = 8_192


class Reader:
    """Runs readers' SQL."""

    def __init__(self, connection_string: str) -> None:
        self._connection_string = connection_string
        self._threads = ThreadPoolExecutor(
            max_workers=QUERIES_MAX, thread_name_prefix="store-query", initializer=stand_back
        )
        self._turns = asyncio.Semaphore(QUERIES_MAX)
        self._answers: set[EmbeddedAnswer] = set()
        self._table_functions: frozenset[str] = frozenset()

    async def query(
        self, sql: str, *, format: str | None, columns: bool, parameters: Mapping[str, str], limits: QueryLimits
    ) -> QueryAnswer:
        """See `Store.query`."""
        if format is not None and not format.isalnum():
            raise QueryError(f"{format!r} is not the name of a format")
        if not sql.strip():
            raise QueryError("there is no SQL to run")
        await self._turns.acquire()
        answer = EmbeddedAnswer(self._threads, self._kill, self._release)
        self._answers.add(answer)
        try:
            await answer.run(lambda: self._start(answer, sql, format, columns, dict(parameters), limits))
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

    def _start(
        self,
        answer: EmbeddedAnswer,
        sql: str,
        format: str | None,
        columns: bool,
        parameters: dict[str, str],
        limits: QueryLimits,
    ) -> None:
        answer.handle = handle = connect(self._connection_string)
        handle.query(f"USE {DATABASE}")
        if not self._table_functions:
            names = handle.query("SELECT name FROM system.table_functions", "TSVRaw").bytes().decode()
            self._table_functions = frozenset(names.split())
        handle.query(f"SET log_comment = '{answer.name}', {_settings(limits)}")
        statement = self._judge(handle, sql, parameters)
        if format and statement.format:
            raise Refused(f"leave FORMAT {statement.format} out: the format is chosen beside the SQL")
        answer.format = chosen = format or statement.format or DEFAULT_FORMAT
        streamed, header = chosen, b""
        if statement.is_select and chosen.lower() in ("csvwithnames", "tsvwithnames", "tabseparatedwithnames"):
            # The header comes before the first block only, so it is made here and the rest streamed without.
            names = [column.name for column in _describe(handle, sql, parameters)]
            streamed = chosen[: -len("WithNames")]
            header = _header(streamed, names)
        if columns:
            look = _describe if statement.is_select else _meta
            answer.columns = look(handle, sql, parameters)
        answer.pending = header
        answer.bytes_left = limits.bytes_max
        if statement.is_select and streamed.lower() in _STREAMED:
            answer.stream = handle.send_query(sql, streamed, params=parameters)
            # The first block is fetched here, so that wrong SQL fails before anything is given out.
            answer.pending += answer.next_block()
        else:
            answer.pending = answer.counted(handle.query(sql, chosen, params=parameters).bytes())

    def _judge(self, handle: Any, sql: str, parameters: dict[str, str]) -> Statement:
        # The engine's own parser decides what a text is; there is no public way to it.
        kind = handle._conn.classify_query(sql)
        check_kind(kind["query_class"].name, kind["statement_count"])
        tree = handle.query(f"{EXPLAIN}{sql}", "TSVRaw", params=parameters).bytes().decode(errors="replace")
        return check_tree(tree.splitlines(), self._table_functions)


def _settings(limits: QueryLimits) -> str:
    """One SET for a reader's handle. `readonly` comes last: nothing can be set after it."""
    values: dict[str, object] = {
        "max_execution_time": limits.seconds_max,
        "timeout_overflow_mode": "'throw'",
        "max_result_rows": limits.rows_max,
        "max_result_bytes": limits.bytes_max,
        "result_overflow_mode": "'throw'",
        "max_memory_usage": limits.memory_bytes_max,
        "max_threads": limits.threads_max,
        "max_block_size": _BLOCK_ROWS,
        "allow_introspection_functions": 0,
        "output_format_json_quote_64bit_integers": 0,
        # Else words that are no statement may pass as the expressions of a SELECT.
        "implicit_select": 0,
        "readonly": 1,
    }
    return ", ".join(f"{name} = {value}" for name, value in values.items())


def _canonical(handle: Any, sql: str) -> str:
    """The SELECT alone, as the engine writes it: without comments, semicolon and FORMAT."""
    quoted = sql.replace("\\", "\\\\").replace("'", "\\'")
    text: str = handle.query(f"SELECT formatQuery('{quoted}')", "TSVRaw").bytes().decode(errors="replace")
    head, separator, tail = text.rstrip("\n").rpartition("\nFORMAT ")
    return head if separator and "\n" not in tail else text


def _describe(handle: Any, sql: str, parameters: dict[str, str]) -> tuple[Column, ...]:
    """Names and types of a SELECT, without running it."""
    described = f"DESCRIBE TABLE ({_canonical(handle, sql)}\n)"
    lines = handle.query(described, "JSONCompactEachRow", params=parameters).bytes()
    return tuple(Column(row[0], row[1]) for row in msgspec.json.Decoder(list[Any]).decode_lines(lines))


def _meta(handle: Any, sql: str, parameters: dict[str, str]) -> tuple[Column, ...]:
    """Names and types of SHOW, EXPLAIN and the like, which cannot be described: they are run once more."""
    document = msgspec.json.decode(handle.query(sql, "JSONCompact", params=parameters).bytes())
    return tuple(Column(column["name"], column["type"]) for column in document["meta"])


def _header(format: str, names: list[str]) -> bytes:
    if format.lower() == "csv":
        return (",".join('"' + name.replace('"', '""') + '"' for name in names) + "\n").encode()
    escapes = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}
    return ("\t".join("".join(escapes.get(letter, letter) for letter in name) for name in names) + "\n").encode()
