"""A store whose answers are lost, or that is away, as a test decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from collector.errors import StoreUnavailable
from collector.store.embedded import EmbeddedStore


class Unreliable:
    """The real store, whose answers are lost or that is away, as the test says."""

    def __init__(self, store: EmbeddedStore, *, lose_answers: int = 0, away: int = 0) -> None:
        self._store = store
        self.lose_answers = lose_answers
        self.away = away
        self.inserts = 0

    async def insert(self, table: str, columns: Sequence[str], body: bytes, *, token: str) -> None:
        self.inserts += 1
        if self.away:
            self.away -= 1
            raise StoreUnavailable("away")
        await self._store.insert(table, columns, body, token=token)
        if self.lose_answers:
            self.lose_answers -= 1
            raise StoreUnavailable("stored, and the answer was lost")

    async def fetch(self, sql: str, parameters: Mapping[str, object] | None = None) -> list[list[Any]]:
        return await self._store.fetch(sql, parameters)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)
