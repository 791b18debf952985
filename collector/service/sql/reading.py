"""Runs readers' requests on the embedded store."""

from __future__ import annotations

from typing import Final

from collector.service.sql.exceptions import BAD_ARGUMENTS, failure
from collector.service.sql.protocol import SQL_BYTES_MAX, SqlRequest
from collector.service.sql.settings import ACCEPTED, apply_settings, check_names
from collector.store.base import DATABASE, QueryAnswer, QueryLimits
from collector.store.embedded import EmbeddedStore
from collector.store.embedded_answer import DEFAULT_FORMAT
from collector.store.embedded_reader import Question


class ReadingExecutor:
    """An `Executor` that changes nothing and reaches nothing outside the store."""

    body_bytes_max: Final = SQL_BYTES_MAX

    def __init__(self, store: EmbeddedStore, limits: QueryLimits) -> None:
        self._store = store
        self._limits = limits
        self._known: frozenset[str] | None = None
        """Names of the engine's settings."""

    async def run(self, request: SqlRequest) -> QueryAnswer:
        """See `Executor.run`."""
        try:
            sql = request.sql.decode()
        except UnicodeDecodeError as error:
            raise failure(BAD_ARGUMENTS, f"the SQL is not UTF-8: byte {error.start + 1} of it") from None
        if not request.settings.keys() <= ACCEPTED:
            if self._known is None:
                self._known = frozenset(name for [name] in await self._store.fetch("SELECT name FROM system.settings"))
            check_names(request.settings, self._known)
        limits, settings = apply_settings(request.settings, self._limits)
        question = Question(
            default_format=request.default_format or DEFAULT_FORMAT,
            parameters=request.parameters,
            limits=limits,
            settings=settings,
            settings_accepted=ACCEPTED,
            database=request.database or DATABASE,
        )
        return await self._store.ask(sql, question)
