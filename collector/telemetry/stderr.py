"""A stderr that its writers never wait for: lines are queued, and a thread writes them.

A pipe that nothing reads is full after 64 KiB, and a terminal stops at Ctrl-S. Without the queue the next line would
stop the event loop, and with it every stream. Lines that find the queue full are dropped and counted.
"""

from __future__ import annotations

import atexit
import io
import os
import select
import sys
import threading
from collections import deque
from typing import Final

BYTES_MAX: Final = 1 << 20
"""Maximum of bytes that wait to be written."""
DRAIN_SECONDS: Final = 2.0
"""At the end of the process, queued lines are waited for as long as some leave within this time."""


class QueuedStderr(io.TextIOBase):
    """Takes the place of `sys.stderr`; `write` returns immediately."""

    def __init__(self, fd: int, encoding: str = "utf-8", *, bytes_max: int = BYTES_MAX) -> None:
        self._fd = fd
        self._encoding = encoding
        self._bytes_max = bytes_max
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._written = 0
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._unreported = 0
        self.dropped = 0
        """Lines that were not written, because the queue was full or the file took none."""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Decides what consoles may draw."""
        return self._encoding

    def write(self, text: str) -> int:
        """Queue `text`, or drop it if the queue is full."""
        data = text.encode(self._encoding, "backslashreplace")
        with self._changed:
            if self._queued_bytes + len(data) > self._bytes_max:
                self._drop()
            elif data:
                self._queue.append(data)
                self._queued_bytes += len(data)
                if self._thread is None:
                    self._thread = threading.Thread(target=self._serve, name="stderr", daemon=True)
                    self._thread.start()
                self._changed.notify_all()
        return len(text)

    def flush(self) -> None:
        """Return immediately; see `drain`."""

    def isatty(self) -> bool:
        return os.isatty(self._fd)

    def fileno(self) -> int:
        return self._fd

    def drain(self, seconds: float = DRAIN_SECONDS) -> None:
        """Wait until all lines are written, as long as some are within `seconds`."""
        with self._changed:
            while self._queued_bytes:
                before = self._written
                if not self._changed.wait_for(lambda before=before: self._written > before, seconds):  # type: ignore[misc]
                    return

    def dropped_since(self) -> int:
        """Return how many lines were dropped since the last call; 0 while the queue is still more than half full."""
        with self._changed:
            if self._queued_bytes > self._bytes_max // 2:
                return 0
            count, self._unreported = self._unreported, 0
            return count

    def _drop(self) -> None:
        self.dropped += 1
        self._unreported += 1

    def _serve(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._queue))
                data = self._queue[0]
            is_written = self._write_all(data)
            with self._changed:
                self._queue.popleft()
                self._queued_bytes -= len(data)
                self._written += len(data)
                if not is_written:
                    self._drop()
                self._changed.notify_all()

    def _write_all(self, data: bytes) -> bool:
        """Write past Python's own buffer: its lock, held by a thread that waits, would abort the end of the process."""
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._fd, rest) :]
            except BlockingIOError:
                # Another process has made the terminal or pipe that it shares with this one non-blocking.
                select.select([], [self._fd], [], 1.0)
            except OSError:
                # The reader has gone, or the disk of a file is full.
                return False
        return True


_installed: QueuedStderr | None = None


def install() -> None:
    """Make `sys.stderr` one that is never waited for, unless something else has replaced it."""
    global _installed
    if sys.stderr is not sys.__stderr__ or sys.stderr is None:
        return
    sys.stderr.flush()
    _installed = QueuedStderr(sys.stderr.fileno(), sys.stderr.encoding)
    sys.stderr = _installed
    atexit.register(_installed.drain)


def drain(seconds: float = DRAIN_SECONDS) -> None:
    """Wait until queued lines are written; see `QueuedStderr.drain`."""
    if _installed is not None:
        _installed.drain(seconds)


def dropped() -> int:
    """Return how many lines of this process were not written."""
    return 0 if _installed is None else _installed.dropped


def dropped_since() -> int:
    """Return how many lines were dropped since the last call; see `QueuedStderr.dropped_since`."""
    return 0 if _installed is None else _installed.dropped_since()
