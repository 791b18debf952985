"""The embedded engine in the place of its twin: slower, and nothing about the store is taken on trust."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from functools import cache
from pathlib import Path

from collector.store.embedded import EmbeddedStore
from tests.simulation.harness import Outcome
from tests.simulation.history import History
from tests.simulation.shrink import played
from tests.simulation.twin import schema
from tests.support.store_template import open_migrated


def played_on_engine(history: History, folder: Path) -> Outcome:
    """A history on the one engine of this process, which is opened below `folder` for the first of them."""
    store = _opened(folder)
    try:
        return played(history, store)
    finally:
        # Not before: the lanes of the engine answer in the story's loop only once the story has them.
        asyncio.run(_emptied(store))


def played_somewhere(history: History, *, folder: Path | None, keeps_log: bool) -> Outcome:
    """A history on the engine below `folder`, or on its twin without one."""
    outcome = played(history) if folder is None else played_on_engine(history, folder)
    # What was logged is long, and handed from one process to another.
    return outcome if keeps_log else replace(outcome, log=[])


def close_engine(folder: Path) -> None:
    """Let go of it, where there is one."""
    if _opened.cache_info().currsize:
        asyncio.run(_opened(folder).close())
        _opened.cache_clear()


@cache
def _opened(folder: Path) -> EmbeddedStore:
    return asyncio.run(open_migrated(folder / str(os.getpid())))


async def _emptied(store: EmbeddedStore) -> None:
    for table in schema():
        await store.execute(f"TRUNCATE TABLE IF EXISTS pai.{table}")
