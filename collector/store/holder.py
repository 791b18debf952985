"""Who holds an embedded store. The engine's own refusal of a second process names nobody."""

from __future__ import annotations

import fcntl
import os
import re
from pathlib import Path

from collector.errors import OwnedElsewhere

STATUS_FILE = "status"
"""The engine keeps a `flock` on this file, and writes its process id into it."""


def holder_pid(path: Path) -> int | None:
    """Process id of whoever has the store at `path` open, 0 when it cannot be told, None when nobody has."""
    try:
        descriptor = os.open(path / STATUS_FILE, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        found = re.search(rb"PID:\s*(\d+)", os.read(descriptor, 4096))
        return int(found[1]) if found else 0
    else:
        return None
    finally:
        os.close(descriptor)


def command_words(pid: int) -> list[str]:
    """Return the words of a process's command line, none if the system does not list them."""
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return []
    return [part.decode(errors="replace") for part in raw.split(b"\0") if part]


def owned_elsewhere(path: Path, pid: int) -> OwnedElsewhere:
    """The refusal, with the holder's name."""
    if pid == os.getpid():
        return OwnedElsewhere(f"the store {path} is already open in this process", hint="close it first")
    command = " ".join(command_words(pid)) if pid else ""
    who = f"process {pid}" if pid else "another process"
    named = f" ({command})" if command else ""
    return OwnedElsewhere(
        f"the store {path} is held by {who}{named}", hint="stop that process, or let it do the work through its socket"
    )


def check_free(path: Path) -> None:
    """Raise OwnedElsewhere when a process has the store at `path` open."""
    pid = holder_pid(path)
    if pid is not None:
        raise owned_elsewhere(path, pid)
