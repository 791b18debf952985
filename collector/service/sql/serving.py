"""The SQL endpoint of a service that runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import structlog

from collector.errors import UsageError
from collector.owner.instance import Owner
from collector.service.http import check_listener, split_address
from collector.service.sql.accounts import Account, Accounts
from collector.service.sql.reading import ReadingExecutor
from collector.service.sql.server import SqlEndpoint, endpoint
from collector.store.admission import LIMITS
from collector.store.embedded import EmbeddedStore

log = structlog.get_logger(__name__)

KEY: Final = "service.sql_listen"


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
        accounts, version=version, timezone=timezone, is_guarded=bool(token), admission=owner.admission
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
