"""An empty store with its tables, made once and copied for each test that needs one.

To open a new store and apply all migrations takes several times as long as most tests; a copy of a folder does not.
The template lies in `build/`, under a name that is a digest of everything that makes it, so it is never out of date.
Tests of migrations do without it: they open `EmbeddedStore` themselves.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from importlib.metadata import version
from pathlib import Path

from collector.settings.model import StoreSettings
from collector.store.embedded import EmbeddedStore
from collector.store.migrate import migrate
from collector.store.shape import apply_shape

ROOT = Path(__file__).parents[2]
TEMPLATES = ROOT / "build" / "store-templates"
SOURCES = ("sql", "collector/settings", "collector/store", "tests/support/store_template.py")
"""What decides how a new store looks: the migrations, and the code that applies them and the shape after them."""
BUILD_SECONDS_MAX = 120


def copy_template(path: Path) -> None:
    """Put a copy of the template at `path`, unless something is there."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(template(), path, symlinks=True)


async def open_migrated(path: Path) -> EmbeddedStore:
    """Open a store with all tables in the directory `path`: a copy of the template if nothing is there."""
    copy_template(path)
    return await EmbeddedStore.open(path)


@asynccontextmanager
async def migrated_store(path: Path) -> AsyncIterator[EmbeddedStore]:
    """As `open_migrated`, closed at the end."""
    store = await open_migrated(path)
    try:
        yield store
    finally:
        await store.close()


@cache
def template() -> Path:
    """The template's folder; made if missing, by one process while others wait for it."""
    TEMPLATES.mkdir(parents=True, exist_ok=True)
    folder = TEMPLATES / _key()
    with (TEMPLATES / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            with tempfile.TemporaryDirectory(dir=TEMPLATES) as unfinished:
                # In a process of its own: an engine opens one store at a time, and this process may have one open.
                subprocess.run(
                    [sys.executable, "-m", "tests.support.store_template", f"{unfinished}/store"],
                    cwd=ROOT, check=True, timeout=BUILD_SECONDS_MAX,
                )  # fmt: skip
                Path(unfinished, "store").rename(folder)
    return folder


def _key() -> str:
    digest = hashlib.sha256(version("chdb").encode())
    for source in SOURCES:
        path = ROOT / source
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and file.suffix != ".pyc":
                digest.update(f"\0{file.relative_to(ROOT)}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:16]


async def _build(path: Path) -> None:
    store = await EmbeddedStore.open(path)
    try:
        await migrate(store)
        await apply_shape(store, StoreSettings())
    finally:
        await store.close()


if __name__ == "__main__":
    asyncio.run(_build(Path(sys.argv[1])))
