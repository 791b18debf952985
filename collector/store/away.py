"""A store that cannot be reached, in the place of the one that the configuration names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from collector.errors import QueryError, StoreUnavailable


class AwayStore:
    """A `Store` that says why it is none."""

    def __init__(self, location: str, error: StoreUnavailable) -> None:
        self.location = location
        self._error = error

    @property
    def reason(self) -> str:
        """Why it cannot be reached."""
        return str(self._error)

    async def insert(self, table: str, columns: Sequence[str], body: bytes, *, token: str) -> NoReturn:
        """Raises StoreUnavailable."""
        raise self._unavailable()

    async def execute(self, statement: str) -> NoReturn:
        """Raises StoreUnavailable."""
        raise self._unavailable()

    async def fetch(self, sql: str, parameters: Mapping[str, object] | None = None) -> NoReturn:
        """Raises StoreUnavailable."""
        raise self._unavailable()

    async def query(self, sql: str, **options: Any) -> NoReturn:
        """Raises QueryError."""
        raise QueryError(str(self._error), hint=self._error.hint)

    async def try_writing(self) -> NoReturn:
        """Raises StoreUnavailable."""
        raise self._unavailable()

    async def close(self) -> None:
        """There is nothing to let go of."""

    def _unavailable(self) -> StoreUnavailable:
        # A new one each time: one that is raised again would drag all its tracebacks along.
        return StoreUnavailable(str(self._error), hint=self._error.hint)
