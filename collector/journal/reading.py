"""Reading a journal without owning it: nothing of its files changes, not even beside them.

SQLite itself is not that careful. A connection that may only read makes the files of its log where they are missing,
and rebuilds the log's index after a kill. So a journal that was closed in good order is opened as one that cannot
change, and one with a log is read without writing the log's index.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Self, TypeVar
from urllib.parse import quote

from collector.errors import JournalCorrupt, JournalError, UsageError
from collector.journal.journal import JournalReads, check_format
from collector.journal.schema import DDL, FORMAT, UPGRADES, statements

T = TypeVar("T")

COMPANIONS: Final = ("-wal", "-shm")
"""Ends of the names of the files that SQLite keeps beside a journal."""


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """Connect to a journal for reading.

    Raises UsageError if the file is missing, JournalCorrupt if it is damaged or not a journal.
    """
    if not path.exists():
        raise UsageError(f"{path}: there is no journal", hint="run pai-collector run --once first")
    with _errors(path), _connected(path) as db:
        yield db


class JournalFile(JournalReads):
    """A journal that is only read. Without a file it is read as an empty one."""

    def __init__(self, path: Path, db: sqlite3.Connection) -> None:
        self._path = path
        self._db = db

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator[Self]:
        """Open the journal at `path`, one of an older format too. Raises as `check_format` does."""
        if not path.exists():
            db = sqlite3.connect(":memory:", isolation_level=None)
            try:
                for statement in statements(DDL):
                    db.execute(statement)
                yield cls(path, db)
            finally:
                db.close()
            return
        with reading(path) as db:
            _complete(db, check_format(db, path))
            yield cls(path, db)

    @property
    def path(self) -> Path:
        """The file, also if it does not exist."""
        return self._path

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run a piece of work that reads."""
        with _errors(self._path):
            return work(self._db)


def _complete(db: sqlite3.Connection, version: int) -> None:
    """Make what an older format lacks, in memory: temporary tables go before the file's own."""
    db.execute("PRAGMA temp_store = MEMORY")
    for step in range(version, FORMAT):
        for statement in statements(UPGRADES[step]):
            words = statement.split()
            if words[0] == "ALTER":
                db.execute(f"CREATE TEMP TABLE IF NOT EXISTS {words[2]} AS SELECT * FROM main.{words[2]}")
                db.execute(statement)
            elif words[0] == "CREATE" or _is_copied(db, words):
                db.execute(statement.replace("CREATE TABLE", "CREATE TEMP TABLE", 1))


def _is_copied(db: sqlite3.Connection, words: Sequence[str]) -> bool:
    """Whether the table that a statement changes is in memory; the file's own cannot be changed, nor need be."""
    name = words[2] if words[0] == "DELETE" else words[1]
    return db.execute("SELECT 1 FROM sqlite_temp_master WHERE name = ?", (name,)).fetchone() is not None


@contextmanager
def _connected(path: Path) -> Iterator[sqlite3.Connection]:
    log, index = (path.with_name(path.name + end) for end in COMPANIONS)
    if log.exists() and not index.exists():
        # A copy that was taken of a journal in use. Its log can be read with an index only.
        with TemporaryDirectory(prefix="pai-collector-") as folder:
            copy = Path(folder) / path.name
            for file in (path, log):
                shutil.copyfile(file, copy.with_name(file.name))
            yield from _connection(copy, "mode=ro")
        return
    yield from _connection(path, "mode=ro&readonly_shm=1" if log.exists() else "mode=ro&immutable=1")


def _connection(path: Path, options: str) -> Iterator[sqlite3.Connection]:
    db = sqlite3.connect(f"file:{quote(str(path))}?{options}", uri=True, isolation_level=None)
    try:
        yield db
    finally:
        db.close()


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        raise JournalError(f"{path} cannot be read: {error}") from error
    except sqlite3.DatabaseError as error:
        raise JournalCorrupt(f"{path} is damaged: {error}") from error
