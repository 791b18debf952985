"""The lock that makes one process the owner of a journal, and names its holder."""

from __future__ import annotations

import fcntl
import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from collector.errors import OwnedElsewhere

VALUED_OPTIONS = frozenset({"--config", "--log-level", "--log-format"})
"""Options of every command that have a value behind them; they may stand before the command."""

LOCKS = Path("/proc/locks")
"""Where Linux lists all locks with their holders: a reader cannot write its name into the lock's file."""


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that holds a journal's lock."""

    pid: int
    command: str
    is_service: bool = False
    """Whether it collects until it is stopped, so that waiting for its end is in vain."""
    is_reading: bool = False
    """Whether it only reads the files, and ends soon."""

    def __str__(self) -> str:
        return f"process {self.pid} ({self.command})" if self.pid else "another process"


class JournalOwned(OwnedElsewhere):
    """Another process holds the journal's lock: `holder`."""

    def __init__(self, journal_path: Path, holder: Holder) -> None:
        super().__init__(
            f"{journal_path} is {'read' if holder.is_reading else 'owned'} by {holder}",
            hint="wait until it ends or stop it; status and query work beside it",
        )
        self.holder = holder


class OwnerLock:
    """An advisory lock on a file beside the journal, released by the system when its process dies."""

    def __init__(self, journal_path: Path) -> None:
        self.path = lock_path(journal_path)
        self._journal_path = journal_path
        self._file: int | None = None

    def acquire(self, *, is_service: bool = False) -> Self:
        """Become the owner. Raises JournalOwned."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(file)
            raise JournalOwned(self._journal_path, holder(self.path)) from None
        text = json.dumps({"pid": os.getpid(), "command": command_line(), "is_service": is_service})
        os.ftruncate(file, 0)
        os.pwrite(file, text.encode(), 0)
        self._file = file
        return self

    def release(self) -> None:
        """Stop being the owner. The file stays: removing it would let two owners lock two files of one name."""
        if self._file is not None:
            os.ftruncate(self._file, 0)
            os.close(self._file)
            self._file = None


class ReaderLock:
    """A shared lock on the same file, without changing it: while it is held no process becomes the owner."""

    def __init__(self, journal_path: Path) -> None:
        self.path = lock_path(journal_path)
        self._journal_path = journal_path
        self._file: int | None = None

    def acquire(self) -> Self:
        """Keep owners away; if the file is missing there never was one, and nothing is locked. Raises JournalOwned."""
        try:
            file = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return self
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            os.close(file)
            raise JournalOwned(self._journal_path, holder(self.path)) from None
        self._file = file
        return self

    def release(self) -> None:
        """Let owners in."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


@contextmanager
def keeping_owners_away(journal_path: Path) -> Iterator[None]:
    """Let no process become the owner while the body runs; beside one that is, run it all the same."""
    lock = ReaderLock(journal_path)
    with suppress(JournalOwned):
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def lock_path(journal_path: Path) -> Path:
    """Return the file that is locked for a journal."""
    return journal_path.with_name(journal_path.name + ".lock")


def holder(path: Path) -> Holder:
    """Return the holder of the lock at `path`: as the system lists it, else as the file names it."""
    named = _named(path)
    locked = _locked_by(path)
    if not locked or named.pid in locked:
        return named
    # The command line reads its options by this module, and help needs no store.
    from collector.store.holder import command_words

    pid = locked[0]
    return Holder(pid, command_line(_arguments(command_words(pid))), is_reading=True)


def _named(path: Path) -> Holder:
    try:
        told = json.loads(path.read_text())
        return Holder(int(told["pid"]), str(told["command"]), bool(told.get("is_service")))
    except (OSError, ValueError, KeyError, TypeError):
        return Holder(0, "")


def _locked_by(path: Path) -> list[int]:
    """Process ids of those that hold a lock on a file, empty if the system does not list them."""
    try:
        inode = path.stat().st_ino
        listed = LOCKS.read_text()
    except OSError:
        return []
    found = re.findall(rf"^\d+: FLOCK +\w+ +\w+ (\d+) \w+:\w+:{inode} ", listed, re.MULTILINE)
    return [int(pid) for pid in found]


def _arguments(words: Sequence[str]) -> Sequence[str]:
    """The arguments of a process that runs this program, whichever way it was started."""
    starts = [n for n, word in enumerate(words) if Path(word).name in ("pai-collector", "collector", "__main__.py")]
    return words[starts[0] + 1 :] if starts else ()


def command_line(arguments: Sequence[str] | None = None) -> str:
    """Return the command of this process, or of `arguments`, without what follows it: SQL may be private."""
    words = iter(sys.argv[1:] if arguments is None else arguments)
    for word in words:
        if word in VALUED_OPTIONS:
            next(words, None)
        elif not word.startswith("-"):
            return f"pai-collector {word}"
    return "pai-collector"
