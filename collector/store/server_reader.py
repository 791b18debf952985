"""Readers' queries on a server: gated, limited, streamed, each request on its own."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import msgspec

from collector.errors import QueryError
from collector.queries import Column, EngineQueryError, QueryAnswer, QueryLimits, hint_of
from collector.store.address import ServerAddress
from collector.store.gate import Refused, Vocabulary, check_tree
from collector.store.server_failures import FRAME_BYTES_MAX, failure_in, server_query_failure

if TYPE_CHECKING:
    from clickhouse_connect.driver.asyncclient import AsyncClient

QUERIES_MAX: Final = 4
"""Queries at once; more wait for their turn."""
CHUNK_BYTES_MAX: Final = 1 << 20
DEFAULT_FORMAT: Final = "TabSeparated"

_FORMAT = re.compile(r" FORMAT (\w+)$")
_TOO_MANY_ROWS_OR_BYTES = 396


class ServerReader:
    """Runs readers' SQL."""

    def __init__(self, client: AsyncClient, address: ServerAddress, settings: Mapping[str, int | str]) -> None:
        self._client = client
        self._address = address
        self._settings = settings
        self._turns = asyncio.Semaphore(QUERIES_MAX)
        self._answers: set[ServerAnswer] = set()
        self._starting: set[asyncio.Task[Any]] = set()
        self._vocabulary: Vocabulary | None = None
        self._closed = False

    async def query(
        self, sql: str, *, format: str | None, columns: bool, parameters: Mapping[str, str], limits: QueryLimits
    ) -> QueryAnswer:
        """See `Store.query`."""
        if format is not None and not format.isalnum():
            raise QueryError(f"{format!r} is not the name of a format")
        if not sql.strip():
            raise QueryError("there is no SQL to run")
        await self._turns.acquire()
        starting = asyncio.ensure_future(self._start(sql, format, columns, parameters, limits))
        self._starting.add(starting)
        try:
            return await starting
        except BaseException as error:
            self._turns.release()
            # Both may come at the same moment: an answer, and the end of who asked.
            if starting.done() and not starting.cancelled() and starting.exception() is None:
                starting.result().drop()
            if isinstance(error, asyncio.CancelledError) and self._closed:
                raise QueryError("the store was closed") from None
            if isinstance(error, asyncio.CancelledError):
                starting.cancel()
                raise
            if isinstance(error, Refused):
                raise QueryError(str(error)) from None
            if isinstance(error, Exception):
                raise server_query_failure(error, self._address) from None
            raise
        finally:
            self._starting.discard(starting)

    async def close(self) -> None:
        """Stop every query that runs."""
        self._closed = True
        for starting in list(self._starting):
            starting.cancel()
        for answer in list(self._answers):
            await answer.close()

    async def _start(
        self, sql: str, format: str | None, columns: bool, parameters: Mapping[str, str], limits: QueryLimits
    ) -> ServerAnswer:
        bound = {name: _Bound(value) for name, value in parameters.items()}
        settings = {**self._settings, **_settings(limits)}
        # What is judged and what runs is one text, so there is nothing that the two could read in different ways.
        statement, own_format = await self._canonical(sql)
        if format and own_format:
            raise Refused(f"leave FORMAT {own_format} out: the format is chosen beside the SQL")
        is_select = await self._judge(statement, bound, settings)
        told: tuple[Column, ...] = ()
        if columns:
            told = await (self._described if is_select else self._meta)(statement, bound, settings)
        chosen = format or own_format or DEFAULT_FORMAT
        stream = await self._client.raw_stream(statement, parameters=bound or None, settings=settings, fmt=chosen)
        answer = ServerAnswer(stream, self._address, chosen, told, limits.bytes_max, self._release)
        self._answers.add(answer)
        return answer

    async def _canonical(self, sql: str) -> tuple[str, str | None]:
        """The statement as the server writes it, without comments and semicolon, and the format that it asks for."""
        text = await self._client.raw_query(
            "SELECT formatQuerySingleLine({sql:String})", parameters={"sql": sql}, fmt="TSVRaw"
        )
        statement = text.decode(errors="replace").removesuffix("\n")
        found = _FORMAT.search(statement)
        return (statement[: found.start()], found[1]) if found else (statement, None)

    async def _judge(self, statement: str, bound: dict[str, Any], settings: dict[str, Any]) -> bool:
        """Whether it is a SELECT. Raises Refused."""
        if self._vocabulary is None:
            self._vocabulary = Vocabulary.of(
                await self._names("SELECT name FROM system.table_functions"),
                await self._names(
                    "SELECT name FROM system.functions WHERE NOT is_aggregate AND ifNull(deterministic, 0) = 0"
                ),
            )
        # Without a format, which would become part of the statement that is explained.
        tree = await self._client.raw_query(f"EXPLAIN AST {statement}", parameters=bound or None, settings=settings)
        return check_tree(tree.decode(errors="replace").splitlines(), self._vocabulary)

    async def _names(self, sql: str) -> list[str]:
        return (await self._client.raw_query(sql, fmt="TSVRaw")).decode().splitlines()

    async def _described(self, statement: str, bound: dict[str, Any], settings: dict[str, Any]) -> tuple[Column, ...]:
        """Names and types of a SELECT, without running it."""
        body = await self._client.raw_query(
            f"DESCRIBE TABLE ({statement})", parameters=bound or None, settings=settings, fmt="JSONCompactEachRow"
        )
        return tuple(Column(row[0], row[1]) for row in msgspec.json.Decoder(list[Any]).decode_lines(body))

    async def _meta(self, statement: str, bound: dict[str, Any], settings: dict[str, Any]) -> tuple[Column, ...]:
        """Names and types of SHOW, EXPLAIN and the like, which cannot be described: they are run once more."""
        body = await self._client.raw_query(statement, parameters=bound or None, settings=settings, fmt="JSONCompact")
        return tuple(Column(column["name"], column["type"]) for column in msgspec.json.decode(body)["meta"])

    def _release(self, answer: ServerAnswer) -> None:
        self._answers.discard(answer)
        self._turns.release()


class ServerAnswer:
    """A `QueryAnswer`. Leaving it closes the connection, and the server then stops the query."""

    def __init__(
        self,
        stream: Any,
        address: ServerAddress,
        format: str,
        columns: tuple[Column, ...],
        bytes_max: int,
        release: Any,
    ) -> None:
        self._stream = stream
        self._address = address
        self._bytes_left = bytes_max
        self._release = release
        self._closed = False
        self.format = format
        self.columns = columns

    async def __aiter__(self) -> AsyncIterator[bytes]:
        # An error on the way comes behind the bytes before it, so as much as one may take is held back.
        held = bytearray()
        async for piece in self._pieces():
            held += piece
            self._count(len(piece))
            while len(held) > CHUNK_BYTES_MAX + FRAME_BYTES_MAX:
                yield bytes(held[:CHUNK_BYTES_MAX])
                del held[:CHUNK_BYTES_MAX]
        if self._closed:
            return
        tail, error = failure_in(bytes(held))
        for start in range(0, len(tail), CHUNK_BYTES_MAX):
            yield tail[start : start + CHUNK_BYTES_MAX]
        if error is not None:
            raise error

    async def _pieces(self) -> AsyncIterator[bytes]:
        if self._closed:
            return
        try:
            async with self._stream as pieces:
                async for piece in pieces:
                    if self._closed:
                        return
                    yield piece
        except Exception as error:
            if not self._closed:
                raise server_query_failure(error, self._address) from None

    def _count(self, size: int) -> None:
        """The engine counts a constant column as one value only, so what comes is counted here too."""
        self._bytes_left -= size
        if self._bytes_left < 0:
            raise EngineQueryError(
                "Limit for result exceeded: too many bytes",
                code=_TOO_MANY_ROWS_OR_BYTES,
                name="TOO_MANY_ROWS_OR_BYTES",
                hint=hint_of(_TOO_MANY_ROWS_OR_BYTES),
            )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """See `QueryAnswer.close`."""
        if not self._closed:
            self.drop()
            self._release(self)

    def drop(self) -> None:
        """Close the connection, and nothing else."""
        self._closed = True
        self._stream.source.close()


class _Bound:
    """A value as the server takes it. The client would escape a `str`, and with it NULL and the quotes of a list."""

    def __init__(self, value: str) -> None:
        self._value = value

    def __str__(self) -> str:
        return self._value


def _settings(limits: QueryLimits) -> dict[str, Any]:
    return {
        "max_execution_time": limits.seconds_max,
        "max_result_rows": limits.rows_max,
        "max_result_bytes": limits.bytes_max,
        "result_overflow_mode": "throw",
        "max_memory_usage": limits.memory_bytes_max,
        "max_threads": limits.threads_max,
        "output_format_json_quote_64bit_integers": 0,
    }
