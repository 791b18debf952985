"""What every store offers, whichever engine stands behind it.

The writer inserts finished bytes under a token, the program reads with `fetch`, and readers'
own SQL goes through `query`, which can change nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from collector.queries import QueryAnswer, QueryLimits

DATABASE = "pai"
"""The database that holds every table and view of the project."""

WRITES_NOTHING = f"INSERT INTO {DATABASE}.migrations SELECT * FROM {DATABASE}.migrations WHERE 0"
"""Needs every right that writing needs, and writes nothing."""


class Store(Protocol):
    """One ClickHouse, seen from the program."""

    @property
    def location(self) -> str:
        """Where it is, for people: a folder, or an address without credentials."""

    async def insert(self, table: str, columns: Sequence[str], body: bytes, *, token: str) -> None:
        """Add rows to `table`, exactly once for a given `token`, however often it is called.

        `body` holds one JSON array a line (JSONCompactEachRow), values in the order of `columns`:
        times as whole seconds since the epoch, NULL only where the column takes it. Returns when the
        rows are durable. Up to BLOCK_ROWS_MAX rows of one partition appear all at once or not at all;
        of a larger body some blocks may stand after a crash, and a repeat adds the others.

        Raises StoreUnavailable when the same bytes may work later, StoreRefused when they never can.
        """

    async def execute(self, statement: str) -> None:
        """Run one statement that changes tables and returns nothing. Raises as `insert` does."""

    async def fetch(self, sql: str, parameters: Mapping[str, object] | None = None) -> list[list[Any]]:
        """The rows of one of the program's own reads; `{name:Type}` in it takes `parameters`.

        Values are what JSON makes of them: ask for times as integers. Raises as `insert` does.
        """

    async def query(
        self,
        sql: str,
        *,
        format: str | None = None,
        columns: bool = False,
        parameters: Mapping[str, str] | None = None,
        limits: QueryLimits | None = None,
    ) -> QueryAnswer:
        """Run a reader's SQL, which can change nothing and reach nothing outside the store.

        `format` is ClickHouse's name of an output format, such as `JSONEachRow`; None takes the one that the SQL
        itself asks for, else TabSeparated. `columns` asks for names and types too. `parameters` are
        values of `{name:Type}`, escaped as in TabSeparated. Raises QueryError.
        """

    async def try_writing(self) -> None:
        """Raise what writing would raise, as far as that can be found out without writing."""

    async def close(self) -> None:
        """Wait for what runs, then let go of the store. May be called twice."""
