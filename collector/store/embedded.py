"""The store inside this process: ClickHouse as a library (chDB).

The engine runs in threads of this process and locks its directory, so one process owns a store.
It must not be forked after opening: start child processes with `spawn`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar

import msgspec

from collector.errors import CollectorError, StoreRefused, StoreUnavailable, UsageError
from collector.queries import QueryAnswer, QueryLimits, literal, quoted_name
from collector.store.base import DATABASE, WRITES_NOTHING
from collector.store.embedded_reader import Question, Reader
from collector.store.engine import CONFIG_FILE, connect, connection_string
from collector.store.engine_config import EngineLimits
from collector.store.failures import write_failure
from collector.store.holder import check_free
from collector.store.inserts import INSERT_SETTINGS, count_rows, first_words
from collector.store.priority import stand_back

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

H = TypeVar("H", bound="Handle")
T = TypeVar("T")

SPOOL_FOLDER = "spool"
TEMPORARY_FOLDER = "tmp"

# Without the second, a folder such as `env=prod` above the store would be taken for a column of every file in it.
_INSERT_SETTINGS = "deduplicate_insert_select = 'force_enable', use_hive_partitioning = 0, " + ", ".join(
    f"{name} = {value}" for name, value in INSERT_SETTINGS.items()
)
_FETCH_SETTINGS = (
    "max_execution_time = 300, max_threads = 2, output_format_json_validate_utf8 = 1, result_overflow_mode = 'throw'"
)
_WRAPPED = re.compile(r"LowCardinality\((\w+)\)|SimpleAggregateFunction\(\w+, (.*)\)$")
_ROWS = msgspec.json.Decoder(list[Any])


class EmbeddedEngine:
    """An engine that reads the tables in a directory of this machine; what is opened of it says which directory."""

    def __init__(self, path: Path, folder: Path, limits: EngineLimits) -> None:
        """`path` is the store's, `folder` the one that the engine works in."""
        self.path = path.resolve()
        self._folder = folder
        self._limits = limits
        self._connection_string = connection_string(folder)
        self._anchor: Any = None
        self._closed = False
        self._fetcher = Lane("store-fetch", self._client)
        self._reader = Reader(self._connection_string, memory_bytes_max=limits.query_bytes_max)

    async def _open(self) -> Self:
        """Start the engine in a thread."""
        # Also keeps chDB's import off the main thread, whose SIGPIPE it would block.
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="store-start", initializer=stand_back) as starter:
            starting = starter.submit(self._start)
            try:
                await asyncio.wrap_future(starting)
            except asyncio.CancelledError:
                # The start cannot be interrupted, and an engine that is not stopped would outlive its opener.
                await asyncio.to_thread(self._abandon, starting)
                raise
        return self

    @property
    def location(self) -> str:
        """See `Store.location`."""
        return str(self.path)

    async def fetch(self, sql: str, parameters: Mapping[str, object] | None = None) -> list[list[Any]]:
        """See `Store.fetch`."""
        bound = dict(parameters) if parameters else None
        body = await self._run(
            self._fetcher, "read", lambda client: client.raw_query(sql, parameters=bound, fmt="JSONCompactEachRow")
        )
        return _ROWS.decode_lines(body)

    async def query(
        self,
        sql: str,
        *,
        format: str | None = None,
        columns: bool = False,
        parameters: Mapping[str, str] | None = None,
        limits: QueryLimits | None = None,
    ) -> QueryAnswer:
        """See `Store.query`. Each call gets a handle of its own, so nothing is left for the next."""
        return await self.ask(
            sql,
            Question(format=format, columns=columns, parameters=parameters or {}, limits=limits or QueryLimits()),
        )

    async def ask(self, sql: str, question: Question) -> QueryAnswer:
        """As `query`, with all that a client of ClickHouse may say beside its SQL."""
        self._check_open()
        return await self._reader.query(sql, question)

    async def close(self) -> None:
        """See `Store.close`."""
        if self._closed:
            return
        self._closed = True
        await self._reader.close()
        await asyncio.to_thread(self._stop)

    async def _run(self, lane: Lane[H], what: str, work: Callable[[H], T]) -> T:
        self._check_open()
        try:
            return await lane.run(work)
        except CollectorError:
            raise
        except Exception as error:
            # The chain is cut: the engine's text quotes records, and a traceback would print it.
            raise write_failure(what, error) from None

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailable("the store is closed")

    def _prepare(self) -> None:
        """Make the folder ready for the engine. Raises OSError and OwnedElsewhere."""

    def _begin(self) -> None:
        """Run the first statements. Raises what the engine raises."""

    def _start(self) -> None:
        if any(letter in str(self._folder) for letter in "?*{}\\"):
            # The engine reads these as patterns of file names, and a pattern that finds nothing is no error.
            raise UsageError(f"the store's path cannot hold any of ? * {{ }} \\: {self._folder}")
        if find_spec("chdb") is None:
            raise UsageError("the embedded store needs chDB", hint="pip install 'pai-collector[embedded]'")
        try:
            self._prepare()
            (self._folder / CONFIG_FILE).write_text(self._limits.xml())
        except OSError as error:
            raise UsageError(f"the store's directory {self.path} cannot be used: {error.strerror or error}") from None
        try:
            # Handles come and go with errors; this one runs nothing and keeps the engine and its lock.
            self._anchor = connect(self._connection_string)
            self._begin()
        except Exception as error:
            if self._anchor is None:
                check_free(self.path)
            self._stop()
            if isinstance(error, CollectorError):
                raise
            raise write_failure(f"opening the store {self.path}", error) from None

    def _stop(self) -> None:
        self._fetcher.close()
        if self._anchor is not None:
            self._anchor.close()
            self._anchor = None

    def _abandon(self, starting: Future[None]) -> None:
        wait([starting])
        if not starting.cancelled() and starting.exception() is None:
            self._stop()

    def _client(self) -> Client:
        from clickhouse_connect import get_client

        client = get_client(
            interface="chdb",
            path=str(self._folder),
            database=DATABASE,
            chdb_options={"config-file": str(self._folder / CONFIG_FILE)},
        )
        client.command(
            f"SET {_FETCH_SETTINGS}, max_result_bytes = {self._limits.fetch_bytes_max},"
            f" max_memory_usage = {self._limits.query_bytes_max}"
        )
        return client


class EmbeddedStore(EmbeddedEngine):
    """A `Store` in a directory of this machine. Make it with `open`."""

    def __init__(self, path: Path, limits: EngineLimits) -> None:
        super().__init__(path, path.resolve(), limits)
        self._spool = self.path / SPOOL_FOLDER
        self._types: dict[str, dict[str, str]] = {}
        self._insert_settings = f"{_INSERT_SETTINGS}, max_memory_usage = {limits.query_bytes_max}"
        # The writer's handle is chDB's own: clickhouse-connect does not pass on how many rows a statement read.
        self._writer = Lane("store-write", lambda: connect(self._connection_string))

    @classmethod
    async def open(cls, path: Path, limits: EngineLimits | None = None) -> Self:
        """Open the store in the directory `path`, making it if it is missing.

        Raises OwnedElsewhere when a process has it open, UsageError when chDB is not installed or the
        directory cannot be used, StoreUnavailable when the engine does not start.
        """
        return await cls(path, limits or EngineLimits())._open()

    async def insert(self, table: str, columns: Sequence[str], body: bytes, *, token: str) -> None:
        """See `Store.insert`."""
        if not token:
            raise ValueError(f"insert into {table}: an insert needs a token")
        rows = count_rows(table, body)
        await self._run(
            self._writer,
            f"insert into {table}",
            lambda handle: self._insert(handle, table, columns, body, rows, token),
        )

    async def execute(self, statement: str) -> None:
        """See `Store.execute`."""
        await self._run(self._writer, first_words(statement), lambda handle: self._execute(handle, statement))

    async def try_writing(self) -> None:
        """See `Store.try_writing`."""
        await self.execute(WRITES_NOTHING)

    def _insert(self, handle: Any, table: str, columns: Sequence[str], body: bytes, rows: int, token: str) -> None:
        spooled = self._spool / "insert.jsonl"
        spooled.write_bytes(body)
        names = ", ".join(map(quoted_name, columns))
        try:
            # Selecting from the file, not INSERT ... FROM INFILE, because dictionary-encoded columns are
            # then filled by the block: value by value, as a parser does it, costs more than all the rest.
            result = handle.query(
                f"INSERT INTO {quoted_name(DATABASE)}.{quoted_name(table)} ({names})"
                f" SETTINGS {self._insert_settings}, insert_deduplication_token = {literal(token)}"
                f" SELECT {names} FROM file({literal(str(spooled))}, 'JSONCompactEachRow',"
                f" {literal(self._structure(handle, table, columns))})",
                "TabSeparated",
            )
        finally:
            spooled.unlink(missing_ok=True)
        # What was read from the file; the same when the token makes the insert a repeat.
        taken = result.storage_rows_read()
        if taken != rows:
            raise StoreUnavailable(f"insert into {table}: the engine took {taken} of {rows} rows")

    def _structure(self, handle: Any, table: str, columns: Sequence[str]) -> str:
        """Columns of the file as the engine is told them: the table's, without their dictionaries."""
        types = self._types.get(table)
        if types is None:
            found = handle.query(
                "SELECT name, type FROM system.columns"
                f" WHERE database = {literal(DATABASE)} AND table = {literal(table)}",
                "JSONCompactEachRow",
            )
            types = {name: _WRAPPED.sub(r"\1\2", type) for name, type in _ROWS.decode_lines(found.bytes())}
            if not types:
                raise StoreRefused(f"insert into {table}: there is no such table")
            self._types[table] = types
        unknown = [column for column in columns if column not in types]
        if unknown:
            raise StoreRefused(f"insert into {table}: it has no column {', '.join(unknown)}")
        return ", ".join(f"{quoted_name(column)} {types[column]}" for column in columns)

    def _execute(self, handle: Any, statement: str) -> None:
        self._types.clear()
        handle.query(statement, "TabSeparated")

    def _prepare(self) -> None:
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_free(self.path)
        _provide_temporary(self.path / TEMPORARY_FOLDER)
        self._spool.mkdir(mode=0o700, exist_ok=True)
        for left_over in self._spool.iterdir():
            left_over.unlink()

    def _begin(self) -> None:
        self._anchor.query(f"CREATE DATABASE IF NOT EXISTS {quoted_name(DATABASE)} ENGINE = Atomic")

    def _stop(self) -> None:
        self._writer.close()
        super()._stop()


def _provide_temporary(folder: Path) -> None:
    """Have the engine use `folder` if the machine has no directory for temporary files.

    It does not start without one, and a container with a read-only root often has none.
    """
    if os.access(os.environ.get("TMPDIR") or "/tmp", os.W_OK | os.X_OK):
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    os.environ["TMPDIR"] = str(folder)


class Handle(Protocol):
    """What both ways to the engine have in common."""

    def close(self) -> None: ...


class Lane(Generic[H]):
    """One engine handle and the one thread that uses it.

    After any error the handle is thrown away: what a failed query had put out so far stays in its
    handle and would come out in front of the next result.
    """

    def __init__(self, name: str, connect: Callable[[], H]) -> None:
        self._connect = connect
        self._handle: H | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name, initializer=stand_back)

    async def run(self, work: Callable[[H], T]) -> T:
        """Run `work` after what is already waiting. It runs to its end even when the caller is cancelled."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._work, work)

    def close(self) -> None:
        """Wait for what runs and waits, then close the handle."""
        self._thread.shutdown(wait=True)
        self._discard()

    def _work(self, work: Callable[[H], T]) -> T:
        try:
            if self._handle is None:
                self._handle = self._connect()
            return work(self._handle)
        except BaseException:
            self._discard()
            raise

    def _discard(self) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            with contextlib.suppress(Exception):
                handle.close()
