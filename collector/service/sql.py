"""The SQL endpoint of a service that runs: ClickHouse's HTTP interface to the embedded store, for readers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import structlog

from collector.admission import LIMITS
from collector.chdb_http.accounts import Account, Accounts
from collector.chdb_http.exceptions import BAD_ARGUMENTS, failure
from collector.chdb_http.protocol import SQL_BYTES_MAX, SqlRequest
from collector.chdb_http.server import SqlEndpoint, endpoint
from collector.chdb_http.settings import ACCEPTED, apply_settings, check_names
from collector.errors import UsageError
from collector.owner.instance import Owner
from collector.queries import QueryAnswer, QueryLimits
from collector.service.http import check_listener, split_address
from collector.store.base import DATABASE
from collector.store.embedded import EmbeddedStore
from collector.store.embedded_answer import DEFAULT_FORMAT
from collector.store.embedded_reader import Question

log = structlog.get_logger(__name__)

KEY: Final = "service.sql_listen"
SERVER_NAME: Final = "pai-collector"
"""What the endpoint calls itself to clients."""


class ReadingExecutor:
    """An `Executor` that changes nothing and reaches nothing outside the store."""

    body_bytes_max: Final = SQL_BYTES_MAX

    def __init__(self, store: EmbeddedStore, limits: QueryLimits) -> None:
        self._store = store
        self._limits = limits
        self._known: frozenset[str] | None = None
        """Names of the engine's settings."""

    async def run(self, request: SqlRequest) -> QueryAnswer:
        """See `Executor.run`."""
        try:
            sql = request.sql.decode()
        except UnicodeDecodeError as error:
            raise failure(BAD_ARGUMENTS, f"the SQL is not UTF-8: byte {error.start + 1} of it") from None
        if not request.settings.keys() <= ACCEPTED:
            if self._known is None:
                self._known = frozenset(name for [name] in await self._store.fetch("SELECT name FROM system.settings"))
            check_names(request.settings, self._known)
        limits, settings = apply_settings(request.settings, self._limits)
        question = Question(
            default_format=request.default_format or DEFAULT_FORMAT,
            parameters=request.parameters,
            limits=limits,
            settings=settings,
            settings_accepted=ACCEPTED,
            database=request.database or DATABASE,
        )
        return await self._store.ask(sql, question)


@asynccontextmanager
async def serving_sql(owner: Owner, *, listen: str, token: str) -> AsyncIterator[str]:
    """Answer ClickHouse's clients at `listen` while the body runs; gives the address.

    It is "" where `listen` is empty, and where the store is a server, which answers them itself. Raises ConfigError
    as `check_listener` does, UsageError when the address cannot be had.
    """
    check_listener(listen, token, KEY)
    if not listen or not isinstance(owner.store, EmbeddedStore):
        yield ""
        return
    [[version, timezone]] = await owner.store.fetch("SELECT version(), timezone()")
    # The only account that a configuration can open is one that reads.
    accounts = Accounts(Account(ReadingExecutor(owner.store, LIMITS), token))
    answering = SqlEndpoint(
        accounts,
        name=SERVER_NAME,
        version=version,
        timezone=timezone,
        is_guarded=bool(token),
        admission=owner.admission,
    )
    async with AsyncExitStack() as stack:
        try:
            address = await stack.enter_async_context(endpoint(answering, *split_address(listen)))
        except OSError as error:
            raise UsageError(
                f'{KEY}: got "{listen}"; it cannot be listened at: {error.strerror or error}',
                hint='choose another port under [service], or sql_listen = "" for none',
            ) from None
        log.info("sql_endpoint_started", address=address)
        owner.sql_address = address
        try:
            yield address
        finally:
            owner.sql_address = ""
