"""Which store a configuration means, and how it is opened: the one place that knows both kinds."""

from __future__ import annotations

import os
from collections.abc import Mapping

from collector.memory import MemoryBounds, bounds_of, memory_limit
from collector.redaction import register_secret
from collector.settings import Settings, store_secrets
from collector.store.base import Store


def is_exclusive(settings: Settings) -> bool:
    """Whether only one process at a time can have the store: the embedded one."""
    return not settings.store.url


async def open_store(
    settings: Settings, bounds: MemoryBounds | None = None, *, environ: Mapping[str, str] = os.environ
) -> Store:
    """Open the store that the configuration names; without `bounds` by the memory of this process.

    Raises OwnedElsewhere where another process has the embedded store, ConfigError for secrets that cannot be used,
    UsageError and StoreUnavailable as the store does.
    """
    store = settings.store
    bounds = bounds or bounds_of(memory_limit())
    if not store.url:
        # An engine of hundreds of megabytes, which a server store does not need installed.
        from collector.store.embedded import EmbeddedStore
        from collector.store.engine_config import EngineLimits

        return await EmbeddedStore.open(store.path, EngineLimits.of(bounds))
    from collector.store.address import Credentials, parse_address
    from collector.store.server import ServerStore

    password, token = (secret.get_secret_value() for secret in store_secrets(environ))
    for secret in (password, token):
        if secret:
            register_secret(secret)
    return await ServerStore.open(
        parse_address(store.url),
        Credentials(password, token),
        cluster=store.cluster,
        timeout_seconds=store.timeout_seconds,
        fetch_bytes_max=bounds.fetch,
        ca_file="" if store.ca_file is None else str(store.ca_file),
    )
