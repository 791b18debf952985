"""The embedded store of a stopped collector, read without changing a byte of it.

The engine has no way to open a directory and leave it alone: even a connection that may only read finishes mutations,
drops what has expired, removes what a kill left behind and sets broken parts aside. So it gets a directory of its own,
in which every file of a table is a link to the stored one. It replaces files, it does not write into them, so whatever
it does happens to the links. A merge would be wasted there, and is switched off.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp
from typing import Final, NoReturn, Self

from collector.errors import StoreRefused, StoreUnavailable, UsageError
from collector.store.embedded import EmbeddedEngine
from collector.store.engine_config import EngineLimits
from collector.store.holder import check_free

FOLDERS: Final = ("metadata", "data", "store")
"""Of a store's directory: definitions of the tables, and their files."""

_LEFT_OUT: Final = ("tmp_", "delete_tmp_", "deduplication_logs", "detached", "mutation_")
"""Beginnings of names that no read needs: what was cut off, logs that are written into, and work to be continued."""


class EmbeddedSnapshot(EmbeddedEngine):
    """A `Store` that is only read. Make it with `open`."""

    @classmethod
    async def open(cls, path: Path, limits: EngineLimits | None = None) -> Self:
        """Open the store in the directory `path`, which must exist and be closed.

        Raises OwnedElsewhere when a process has it open, UsageError when chDB is not installed or there is no
        temporary folder, StoreUnavailable when the engine does not start.
        """
        try:
            folder = Path(mkdtemp(prefix="pai-collector-"))
        except OSError as error:
            raise UsageError(
                f"reading the store {path} needs a temporary folder: {error.strerror or error}", hint="set TMPDIR"
            ) from None
        try:
            return await cls(path, folder, replace(limits or EngineLimits(), is_merging=False))._open()
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    async def insert(self, table: str, columns: Sequence[str], body: bytes, *, token: str) -> NoReturn:
        """Raises StoreRefused."""
        raise StoreRefused(f"insert into {table}: the store is open for reading")

    async def execute(self, statement: str) -> NoReturn:
        """Raises StoreRefused."""
        raise StoreRefused(f"{statement.split(maxsplit=1)[0]}: the store is open for reading")

    async def try_writing(self) -> None:
        """Raises StoreUnavailable if the directory cannot be written to."""
        for folder in (self.path, *(self.path / name for name in FOLDERS)):
            if not os.access(folder, os.W_OK | os.X_OK):
                raise StoreUnavailable(f"{folder} cannot be written to")

    def _prepare(self) -> None:
        check_free(self.path)
        for name in FOLDERS:
            if (self.path / name).is_dir():
                _link(self.path / name, self._folder / name)

    def _stop(self) -> None:
        super()._stop()
        shutil.rmtree(self._folder, ignore_errors=True)


def _link(source: Path, target: Path) -> None:
    """Make a folder whose files are links to those of another one."""
    target.mkdir()
    with os.scandir(source) as entries:
        for entry in entries:
            if entry.name.startswith(_LEFT_OUT):
                continue
            stored, beside = Path(entry.path), target / entry.name
            if entry.is_symlink():
                # The engine's own: relative, so it leads to the same place here.
                beside.symlink_to(stored.readlink())
            elif entry.is_dir(follow_symlinks=False):
                _link(stored, beside)
            elif entry.name.endswith(".sql"):
                # A link would be taken for a database that is elsewhere.
                shutil.copyfile(stored, beside)
            else:
                beside.symlink_to(stored)
