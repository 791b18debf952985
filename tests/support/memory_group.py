"""A cgroup with a limit on memory, where the machine lets a test make one."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")


@contextmanager
def memory_group(limit: int) -> Iterator[Path | None]:
    """The folder of a new cgroup with `limit` bytes, None where none can be made. Nothing is left in it at the end."""
    folder = _make(ROOT / "memory", "memory.limit_in_bytes", limit) or _make(ROOT, "memory.max", limit)
    try:
        yield folder
    finally:
        for _ in range(50 if folder else 0):
            with suppress(OSError):
                folder.rmdir()
                break
            time.sleep(0.1)


def _make(base: Path, name: str, limit: int) -> Path | None:
    folder = base / f"pai-collector-test-{os.getpid()}"
    try:
        folder.mkdir()
    except OSError:
        return None
    try:
        (folder / name).write_text(str(limit))
    except OSError:
        folder.rmdir()
        return None
    return folder
