"""The lock that makes one process the owner, and says who it is."""

from __future__ import annotations

import fcntl
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from collector.errors import OwnedElsewhere

VALUED_OPTIONS = frozenset({"--config", "--log-level", "--log-format"})
"""Options of every command that have a value behind them; they may stand before the command."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who owns a journal."""

    pid: int
    command: str

    def __str__(self) -> str:
        return f"process {self.pid} ({self.command})" if self.pid else "another process"


class OwnerLock:
    """An advisory lock on a file beside the journal, released by the system when its process dies."""

    def __init__(self, journal_path: Path) -> None:
        self.path = journal_path.with_name(journal_path.name + ".lock")
        self._journal_path = journal_path
        self._file: int | None = None

    def acquire(self) -> Self:
        """Become the owner. Raises OwnedElsewhere, which names the holder."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(file)
            raise OwnedElsewhere(
                f"{self._journal_path} is owned by {holder(self.path)}",
                hint="wait until it ends or stop it; status and query work beside it",
            ) from None
        text = json.dumps({"pid": os.getpid(), "command": command_line()})
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


def holder(lock_path: Path) -> Holder:
    """Who holds a lock, as its file tells."""
    try:
        told = json.loads(lock_path.read_text())
        return Holder(int(told["pid"]), str(told["command"]))
    except (OSError, ValueError, KeyError, TypeError):
        return Holder(0, "")


def command_line(arguments: Sequence[str] | None = None) -> str:
    """The command that this process runs, and nothing that stands behind it: a query's SQL is nobody else's."""
    words = iter(sys.argv[1:] if arguments is None else arguments)
    for word in words:
        if word in VALUED_OPTIONS:
            next(words, None)
        elif not word.startswith("-"):
            return f"pai-collector {word}"
    return "pai-collector"
