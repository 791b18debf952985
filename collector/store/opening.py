"""Which store a configuration means, and how it is opened: the one place that knows both kinds."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from collector.memory import MemoryBounds, bounds_of, memory_limit
from collector.redaction import register_secret
from collector.settings import Settings, store_reader_password, store_secrets
from collector.store.base import DATABASE, Store
from collector.store.migrate import is_made
from collector.store.missing import MissingStore

if TYPE_CHECKING:
    from collector.store.server import ServerStore


def is_exclusive(settings: Settings) -> bool:
    """Whether only one process at a time can have the store: the embedded one."""
    return not settings.store.url


async def open_store(
    settings: Settings, bounds: MemoryBounds | None = None, *, environ: Mapping[str, str] = os.environ
) -> Store:
    """Open the store that the configuration names for writing, and create it if it is missing.

    Without `bounds` they follow from the memory of this process.

    Raises OwnedElsewhere where another process has the embedded store, ConfigError for secrets that cannot be used,
    UsageError and StoreUnavailable as the store does.
    """
    bounds = bounds or bounds_of(memory_limit())
    if not settings.store.url:
        # An engine of hundreds of megabytes, which a server store does not need installed.
        from collector.store.embedded import EmbeddedStore
        from collector.store.engine_config import EngineLimits

        return await EmbeddedStore.open(settings.store.path, EngineLimits.of(bounds))
    server = await _open_server(settings, bounds, environ)
    try:
        await server.make_database()
    except BaseException:
        await server.close()
        raise
    return server


async def open_for_reading(
    settings: Settings, bounds: MemoryBounds | None = None, *, environ: Mapping[str, str] = os.environ
) -> Store:
    """Open the store that the configuration names for reading; a MissingStore if it does not exist.

    Nothing is created or changed. Raises as `open_store` does.
    """
    path = settings.store.path
    bounds = bounds or bounds_of(memory_limit())
    if not settings.store.url:
        if not is_store(path):
            return MissingStore(str(path.resolve()), path.resolve())
        from collector.store.embedded_snapshot import EmbeddedSnapshot
        from collector.store.engine_config import EngineLimits

        return await EmbeddedSnapshot.open(path, EngineLimits.of(bounds))
    server = await _open_server(settings, bounds, environ)
    try:
        # A database without tables is one that an administrator made for the collector.
        if await server.has_database() and await is_made(server):
            return server
    except BaseException:
        await server.close()
        raise
    await server.close()
    return MissingStore(server.location)


@asynccontextmanager
async def writing_store(settings: Settings) -> AsyncIterator[Store]:
    """Open the store as `open_store` does, and close it at the end."""
    store = await open_store(settings)
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def reading_store(settings: Settings, bounds: MemoryBounds | None = None) -> AsyncIterator[Store]:
    """Open the store as `open_for_reading` does, and close it at the end."""
    store = await open_for_reading(settings, bounds)
    try:
        yield store
    finally:
        await store.close()


def is_store(path: Path) -> bool:
    """Whether an embedded store was ever opened in the directory `path`."""
    return (path / "metadata" / f"{DATABASE}.sql").exists()


async def _open_server(settings: Settings, bounds: MemoryBounds, environ: Mapping[str, str]) -> ServerStore:
    from collector.store.address import Credentials, parse_address
    from collector.store.server import ServerStore

    store = settings.store
    password, token = (secret.get_secret_value() for secret in store_secrets(environ))
    for secret in (password, token):
        if secret:
            register_secret(secret)
    address = parse_address(store.url)
    reader_password = store_reader_password(environ).get_secret_value()
    register_secret(reader_password)
    return await ServerStore.open(
        address,
        Credentials(password, token),
        reader=(replace(address, user=store.reader), Credentials(reader_password)) if store.reader else None,
        cluster=store.cluster,
        timeout_seconds=store.timeout_seconds,
        fetch_bytes_max=bounds.fetch,
        ca_file="" if store.ca_file is None else str(store.ca_file),
    )
