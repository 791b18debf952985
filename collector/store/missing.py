"""A store that does not exist yet, in the place of the one that the configuration names."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

from collector.errors import StoreUnavailable, UsageError

NO_HISTORY: Final = "no history here yet"
BEGIN: Final = "pai-collector run"


class MissingStore:
    """A `Store` without tables and without rows."""

    def __init__(self, location: str, folder: Path | None = None) -> None:
        """`folder` is where an embedded store will be; None for a server."""
        self.location = location
        self._folder = folder

    async def insert(self, table: str, columns: Sequence[str], body: bytes, *, token: str) -> NoReturn:
        """Raises UsageError."""
        raise no_history()

    async def execute(self, statement: str) -> NoReturn:
        """Raises UsageError."""
        raise no_history()

    async def fetch(self, sql: str, parameters: Mapping[str, object] | None = None) -> list[list[Any]]:
        """Return no rows."""
        return []

    async def query(self, sql: str, **options: Any) -> NoReturn:
        """Raises UsageError."""
        raise no_history()

    async def try_writing(self) -> None:
        """Raises StoreUnavailable if the folder cannot be created."""
        if self._folder is None:
            return
        parent = next(folder for folder in (self._folder, *self._folder.parents) if folder.exists())
        if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
            raise StoreUnavailable(
                f"{self.location} cannot be created: {parent} is not a folder that can be written to"
            )

    async def close(self) -> None:
        """Do nothing: there is nothing to release."""


def no_history() -> UsageError:
    """Return the error of a command that cannot answer without history."""
    return UsageError(NO_HISTORY, hint=f"{BEGIN} begins it")
