"""The embedded engine in the place of its twin: slower, and nothing about the store is taken on trust."""

from __future__ import annotations

import asyncio
import os
from functools import cache
from pathlib import Path

from collector.store.embedded import EmbeddedStore
from tests.simulation.harness import Outcome
from tests.simulation.history import History
from tests.simulation.shrink import played
from tests.simulation.twin import schema


def played_on_engine(history: History, folder: Path) -> Outcome:
    """A history on the one engine of this process, which is opened below `folder` for the first of them."""
    store = _opened(folder)
    try:
        return played(history, store)
    finally:
        # Not before: the lanes of the engine answer in the story's loop only once the story has them.
        asyncio.run(_emptied(store))


def close_engine(folder: Path) -> None:
    """Let go of it, where there is one."""
    if _opened.cache_info().currsize:
        asyncio.run(_opened(folder).close())
        _opened.cache_clear()


@cache
def _opened(folder: Path) -> EmbeddedStore:
    return asyncio.run(EmbeddedStore.open(folder / str(os.getpid())))


async def _emptied(store: EmbeddedStore) -> None:
    for table in schema():
        await store.execute(f"TRUNCATE TABLE IF EXISTS pai.{table}")
