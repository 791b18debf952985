"""A console over what a demo collected."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support import settings
from tests.support.console_pages import Console, demo_folder, served, settings_of
from tests.support.fleet import END, fill


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 18 minutes of four nodes; read it, and change nothing."""
    return demo_folder(tmp_path_factory)


@pytest_asyncio.fixture
async def console(demo: Path) -> AsyncIterator[Console]:
    """The console over the demo's history, which collects nothing at present."""
    async with served(settings_of(demo)) as opened:
        yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fleet(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Console]:
    """The console over the history of `tests.support.fleet`, up to its END; read it, and change nothing."""
    async with served(settings(tmp_path_factory.mktemp("fleet"), "http://127.0.0.1:9")) as opened:
        await fill(opened.owner.store, END)
        yield opened
