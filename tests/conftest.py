"""Fixtures that every test may ask for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from collector.store.embedded import EmbeddedStore
from tests.support.store_template import migrated_store
from tests.support.virtual_clock import ManualClock


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[EmbeddedStore]:
    """An embedded store with all tables and no rows, in `tmp_path / "store"`."""
    async with migrated_store(tmp_path / "store") as opened:
        yield opened


@pytest.fixture
def virtual_clock() -> ManualClock:
    """A clock that moves only when the test moves it."""
    return ManualClock()
