"""The store on a ClickHouse server, through its HTTP interface.

Whoever reads what it has just written must see it, and what was acknowledged must outlive a machine: on a cluster
an insert therefore waits for most replicas, and replicas are asked in one fixed order.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec

from collector.errors import QueryError, StoreUnavailable, UsageError
from collector.packing import packed
from collector.proxies import exempt_host, proxy_for
from collector.queries import QueryAnswer, QueryLimits
from collector.store.address import Credentials, ServerAddress, url_host
from collector.store.base import DATABASE, WRITES_NOTHING
from collector.store.cluster import clustered, on_cluster
from collector.store.inserts import INSERT_SETTINGS, count_rows, first_words
from collector.store.server_failures import server_failure
from collector.store.server_reader import ServerReader

if TYPE_CHECKING:
    from clickhouse_connect.driver.asyncclient import AsyncClient

VERSION_MIN: Final = (26, 3)
"""The tables use what older servers do not have."""
CONNECTIONS_MAX: Final = 16
CONNECT_SECONDS_MAX: Final = 10.0
FETCH_SECONDS_MAX: Final = 300
FETCH_BYTES_MAX: Final = 256 << 20
"""Result of one of the program's own reads, unless the memory of the process sets less."""
ERROR_CHARACTERS_MAX: Final = 4_000

_SETTINGS_OF_INSERTS: Final[Mapping[str, int | str]] = {
    **INSERT_SETTINGS,
    "deduplicate_insert": "enable",
    "deduplicate_blocks_in_dependent_materialized_views": 1,
    "distributed_foreground_insert": 1,
    # As in the embedded store: a time that is no number is refused, not guessed at.
    "date_time_input_format": "basic",
}
_SETTINGS_OF_FETCHES: Final[Mapping[str, int | str]] = {
    "max_execution_time": FETCH_SECONDS_MAX,
    "max_threads": 2,
    "result_overflow_mode": "throw",
    "output_format_json_validate_utf8": 1,
    "output_format_json_quote_64bit_integers": 0,
    "readonly": 1,
}
_SETTINGS_OF_CLUSTER_INSERTS: Final[Mapping[str, int | str]] = {"insert_quorum": "auto", "load_balancing": "in_order"}
_SETTINGS_OF_CLUSTER_READS: Final[Mapping[str, int | str]] = {"load_balancing": "in_order"}
_NEWER: Final = frozenset({"deduplicate_insert", "max_insert_block_size_bytes", "use_strict_insert_block_limits"})
"""Settings that only newer servers know; without them they do what is wanted by themselves."""
_ROWS = msgspec.json.Decoder(list[Any])


class ServerStore:
    """A `Store` on a server. Make it with `open`. Several processes may share one."""

    def __init__(
        self,
        address: ServerAddress,
        client: AsyncClient,
        cluster: str,
        fetch_bytes_max: int = FETCH_BYTES_MAX,
        connect_reader: Callable[[], Awaitable[AsyncClient]] | None = None,
    ) -> None:
        self._address = address
        self._client = client
        self._connect_reader = connect_reader
        self._reader_client: AsyncClient | None = None
        self._connecting = asyncio.Lock()
        self._cluster = cluster
        self._closed = False
        known = client.server_settings
        self._insert_settings = {
            **{name: value for name, value in _SETTINGS_OF_INSERTS.items() if name in known or name not in _NEWER},
            **(_SETTINGS_OF_CLUSTER_INSERTS if cluster else {}),
        }
        self._fetch_settings = {
            **(_SETTINGS_OF_CLUSTER_READS if cluster else {}),
            **_SETTINGS_OF_FETCHES,
            "max_result_bytes": fetch_bytes_max,
        }
        self._query_settings = _SETTINGS_OF_CLUSTER_READS if cluster else {}
        self._reader = ServerReader(client, address, {**self._query_settings, "readonly": 1})

    @classmethod
    async def open(
        cls,
        address: ServerAddress,
        credentials: Credentials,
        *,
        cluster: str = "",
        timeout_seconds: float = 60.0,
        ca_file: str = "",
        fetch_bytes_max: int = FETCH_BYTES_MAX,
        reader: tuple[ServerAddress, Credentials] | None = None,
    ) -> ServerStore:
        """Connect. The database must exist for everything but `make_database` and `has_database`.

        Readers' SQL runs as the user of `reader`, else as the same user as everything, with `readonly`. An answer that
        brings nothing for `timeout_seconds` is given up. Raises StoreUnavailable where the server cannot be reached or
        refuses the user, UsageError where it is too old.
        """
        connect = partial(_connect, timeout_seconds=timeout_seconds, ca_file=ca_file)
        client = await connect(address, credentials)
        try:
            check_version(str(client.server_version), address)
        except BaseException:
            await client.close()
            raise
        return cls(address, client, cluster, fetch_bytes_max, None if reader is None else partial(connect, *reader))

    @property
    def location(self) -> str:
        """See `Store.location`."""
        return f"{self._address}, cluster {self._cluster}" if self._cluster else str(self._address)

    async def insert(self, table: str, columns: Sequence[str], body: bytes, *, token: str) -> None:
        """See `Store.insert`. However often it is sent, also by the client itself, the token keeps it one."""
        if not token:
            raise ValueError(f"insert into {table}: an insert needs a token")
        self._check_open()
        count_rows(table, body)
        small = await asyncio.to_thread(packed, body)
        try:
            await self._client.raw_insert(
                f"{DATABASE}.{table}",
                list(columns),
                small,
                settings={**self._insert_settings, "insert_deduplication_token": token},
                fmt="JSONCompactEachRow",
                compression="zstd",
            )
        except Exception as error:
            raise server_failure(f"insert into {table}", error, self._address) from None

    async def execute(self, statement: str) -> None:
        """See `Store.execute`. With a cluster, the statement is made one or several for all its machines."""
        for one in clustered(statement, self._cluster) if self._cluster else (statement,):
            await self._command(one)

    async def fetch(self, sql: str, parameters: Mapping[str, object] | None = None) -> list[list[Any]]:
        """See `Store.fetch`."""
        self._check_open()
        try:
            body = await self._client.raw_query(
                sql,
                parameters=dict(parameters) if parameters else None,
                settings=dict(self._fetch_settings),
                fmt="JSONCompactEachRow",
            )
        except Exception as error:
            raise server_failure("read", error, self._address) from None
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
        """See `Store.query`. Each request stands alone, so nothing is left for the next."""
        self._check_open()
        if self._connect_reader is not None and self._reader_client is None:
            await self._become_reader(self._connect_reader)
        return await self._reader.query(
            sql, format=format, columns=columns, parameters=parameters or {}, limits=limits or QueryLimits()
        )

    async def _become_reader(self, connect: Callable[[], Awaitable[AsyncClient]]) -> None:
        """Connect as the reader, when the first of them asks: collecting does without. Raises QueryError."""
        async with self._connecting:
            if self._reader_client is not None:
                return
            try:
                client = await connect()
            except StoreUnavailable as error:
                raise QueryError(f"store.reader: {error}", hint=error.hint) from None
            client.database = DATABASE
            # What the account may not do, its profile says, and refuses to be told again.
            self._reader = ServerReader(client, self._address, self._query_settings)
            self._reader_client = client

    async def try_writing(self) -> None:
        """See `Store.try_writing`."""
        await self.execute(WRITES_NOTHING)

    async def close(self) -> None:
        """See `Store.close`."""
        if self._closed:
            return
        self._closed = True
        await self._reader.close()
        if self._reader_client is not None:
            await self._reader_client.close()
        await self._client.close()

    async def has_database(self) -> bool:
        """Whether the database exists; then it is used. Raises as `fetch` does."""
        there = await self.fetch("SELECT count() FROM system.databases WHERE name = {name:String}", {"name": DATABASE})
        if there[0][0]:
            self._client.database = DATABASE
        return bool(there[0][0])

    async def make_database(self) -> None:
        """Create the database if it is missing. Raises as `execute` does."""
        # Checked first: a user that may not create databases can be given one.
        if not await self.has_database():
            await self._command(f"CREATE DATABASE IF NOT EXISTS {DATABASE}{on_cluster(self._cluster)}")
            self._client.database = DATABASE

    async def _command(self, statement: str) -> None:
        self._check_open()
        try:
            await self._client.command(statement)
        except Exception as error:
            raise server_failure(first_words(statement), error, self._address) from None

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailable("the store is closed")


async def _connect(
    address: ServerAddress, credentials: Credentials, *, timeout_seconds: float, ca_file: str
) -> AsyncClient:
    """Connect as one user. Raises as `ServerStore.open` does."""
    from clickhouse_connect import common, get_async_client

    # What the server says, not the first 240 characters of it.
    common.set_setting("max_error_size", ERROR_CHARACTERS_MAX)
    proxy = proxy_for(f"{address.scheme}://{url_host(address.host)}:{address.port}")
    if proxy is None:
        # Without one the driver would read the environment by a rule of its own, and send the password there.
        exempt_host(address.host)
    try:
        return await get_async_client(
            interface=address.scheme,
            host=address.host,
            port=address.port,
            username=None if credentials.token else address.user,
            password=credentials.password,
            access_token=credentials.token or None,
            ca_cert=ca_file or None,
            connect_timeout=CONNECT_SECONDS_MAX,
            send_receive_timeout=timeout_seconds,
            connector_limit=CONNECTIONS_MAX,
            connector_limit_per_host=CONNECTIONS_MAX,
            client_name="pai-collector",
            compress=False,
            autogenerate_session_id=False,
            # Lists of scopes and times are longer than an address may be.
            form_encode_query_params=True,
            show_clickhouse_errors=True,
            http_proxy=proxy.url if proxy is not None and address.scheme == "http" else None,
            https_proxy=proxy.url if proxy is not None and address.scheme == "https" else None,
        )
    except Exception as error:
        through = "" if proxy is None else f" through the proxy {proxy}"
        raise server_failure(f"opening the store {address}{through}", error, address) from None


def check_version(version: str, address: ServerAddress) -> None:
    """Raises UsageError where a server is too old for the tables."""
    found = re.match(r"(\d+)\.(\d+)", version)
    if found is None or (int(found[1]), int(found[2])) < VERSION_MIN:
        least = ".".join(map(str, VERSION_MIN))
        raise UsageError(
            f"the server {address} is ClickHouse {version}; expected {least} or later",
            hint="upgrade it, or leave store.url empty for the embedded store",
        )
