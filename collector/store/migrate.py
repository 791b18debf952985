"""Bring a store's tables to this version: numbered files, each applied once, in order.

A crash in the middle is cured by running again, because every statement may be repeated. A file
that was applied is never edited: the store remembers its checksum.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources.abc import Traversable

from collector.errors import UsageError
from collector.store.assets import sql_files, sql_folder
from collector.store.base import DATABASE, Store
from collector.store.missing import BEGIN, NO_HISTORY
from collector.store.statements import split_statements

TABLE = "migrations"

_FILE = re.compile(r"(?P<version>\d{4})_(?P<name>[a-z]+(?:_[a-z0-9]+)+)")
_CREATE_TABLE = f"""
CREATE TABLE IF NOT EXISTS {DATABASE}.{TABLE}
(
    version UInt32 COMMENT 'Number of the migration',
    name String COMMENT 'What it does',
    checksum String COMMENT 'SHA-256 of its statements, hexadecimal',
    applied_at DateTime('UTC') DEFAULT now('UTC') COMMENT 'When it was applied, seconds, UTC'
)
ENGINE = MergeTree
ORDER BY version
SETTINGS
    non_replicated_deduplication_window = 100000,
    replicated_deduplication_window = 100000,
    replicated_deduplication_window_seconds = 604800,
    fsync_after_insert = 1,
    fsync_part_directory = 1
COMMENT 'Migrations that this store has had, one row each'
"""


class SchemaMismatch(UsageError):
    """The store's tables and this version's migrations do not belong together."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file of `sql/migrations`."""

    version: int
    name: str
    statements: tuple[str, ...]

    @property
    def checksum(self) -> str:
        """Of the statements only, so that a comment in the file can be put right later."""
        return hashlib.sha256("\0".join(self.statements).encode()).hexdigest()

    def __str__(self) -> str:
        return f"{self.version:04d}_{self.name}"


@dataclass(frozen=True, slots=True)
class Applied:
    """A migration that the store remembers."""

    version: int
    name: str
    checksum: str


def load_migrations(folder: Traversable | None = None) -> tuple[Migration, ...]:
    """The migrations of this version, in order. Raises ValueError for a file that breaks the rules."""
    migrations = []
    for stem, text in sql_files(folder or sql_folder("migrations")):
        named = _FILE.fullmatch(stem)
        if named is None:
            raise ValueError(f"{stem}.sql: a migration is named NNNN_verb_noun.sql")
        statements = split_statements(text)
        if not statements:
            raise ValueError(f"{stem}.sql: holds no statement")
        migrations.append(Migration(int(named["version"]), named["name"], statements))
    numbers = [migration.version for migration in migrations]
    if numbers != list(range(1, len(numbers) + 1)):
        raise ValueError(f"migrations are numbered 1, 2, 3 ..., got {numbers}")
    return tuple(migrations)


def pending(migrations: Sequence[Migration], applied: Sequence[Applied]) -> tuple[Migration, ...]:
    """What has still to be applied. Pure. Raises SchemaMismatch."""
    known = {migration.version: migration for migration in migrations}
    for row in applied:
        ours = known.get(row.version)
        if ours is None:
            newest = f"{migrations[-1].version:04d}" if migrations else "none"
            raise SchemaMismatch(
                f"the store has migration {row.version:04d}_{row.name}, this version knows up to {newest}",
                hint="use the newer pai-collector that made it, or another store",
            )
        if ours.checksum != row.checksum:
            raise SchemaMismatch(
                f"the store was made with another {row.version:04d}_{row.name} than this version has",
                hint="a migration must not be edited once applied: restore the file, and put the change into a new one",
            )
    done = {row.version for row in applied}
    missing = [migration for migration in migrations if migration.version not in done]
    if missing and done and missing[0].version < max(done):
        raise SchemaMismatch(
            f"the store has migration {max(done):04d} but not {missing[0]}",
            hint="its table of migrations is damaged; restore the store from a backup",
        )
    return tuple(missing)


def is_new(applied: Sequence[Migration]) -> bool:
    """Whether what was applied has made all tables."""
    return any(migration.version == 1 for migration in applied)


async def describe_difference(store: Store) -> str:
    """Return in one line how the store's tables differ from this program's; '' if they do not. Changes nothing."""
    applied = await _applied(store)
    ours, theirs = (max((one.version for one in several), default=0) for several in (load_migrations(), applied))
    if not theirs:
        return f"{NO_HISTORY}: {BEGIN}"
    if theirs == ours:
        return ""
    if theirs < ours:
        return f"the tables are those of version {theirs}, this program's are {ours}: pai-collector migrate"
    return f"the tables are those of version {theirs}, newer than this program's {ours}: upgrade pai-collector"


async def plan(store: Store, migrations: Sequence[Migration] | None = None) -> tuple[Migration, ...]:
    """What `migrate` would apply. Changes nothing. Raises as `migrate` does."""
    migrations = load_migrations() if migrations is None else migrations
    return pending(migrations, await _applied(store))


async def migrate(store: Store, migrations: Sequence[Migration] | None = None) -> tuple[Migration, ...]:
    """Apply what is missing, in order, and return it.

    Raises SchemaMismatch when the store is newer than this program or was made with other files,
    StoreUnavailable and StoreRefused as the store does; what was applied until then stays.
    """
    missing = await plan(store, migrations)
    if missing:
        await store.execute(_CREATE_TABLE)
    done: list[Migration] = []
    try:
        for migration in missing:
            for statement in migration.statements:
                await store.execute(statement)
            done.append(migration)
    finally:
        # All at once: an insert costs more than most statements. What a crash keeps from being entered is repeated.
        if done:
            await _enter(store, done)
    return missing


async def _enter(store: Store, migrations: Sequence[Migration]) -> None:
    rows = [json.dumps([migration.version, migration.name, migration.checksum]) for migration in migrations]
    body = "".join(f"{row}\n" for row in rows).encode()
    token = f"migrations {hashlib.sha256(body).hexdigest()}"
    await store.insert(TABLE, ("version", "name", "checksum"), body, token=token)


async def is_made(store: Store) -> bool:
    """Whether the store has tables of any version."""
    return bool(
        await store.fetch(
            "SELECT name FROM system.tables WHERE database = {database:String} AND name = {name:String}",
            {"database": DATABASE, "name": TABLE},
        )
    )


async def _applied(store: Store) -> list[Applied]:
    if not await is_made(store):
        return []
    rows = await store.fetch(f"SELECT version, name, checksum FROM {DATABASE}.{TABLE} ORDER BY version")
    return [Applied(*row) for row in rows]
