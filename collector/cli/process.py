"""What a process needs before anything else is imported: its signals and its standard streams."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from types import FrameType
from typing import Any

SIGNAL_STATUS = 128
"""The exit status of a process that a signal ended is this plus the signal's number."""


def handle_signals() -> None:
    """End at SIGTERM from the first instant on, also as PID 1, for which the system's default is to ignore it.

    Commands replace the handler once there is something to end in good order. SIGINT has one from Python.
    """
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _end)


def _end(number: int, frame: FrameType | None) -> None:
    # No file, socket or lock of the program is open yet. What started this process sees that the signal ended it.
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    # PID 1 is still here.
    os._exit(SIGNAL_STATUS + number)


def repair_streams() -> None:
    """Open standard streams that are closed, and let them show any text.

    A file that is opened later would take the number of a closed stream, and what a library writes to stderr would go
    into it: a journal, for example.
    """
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            # The lowest free number is this one.
            os.open(os.devnull, os.O_RDWR)
    sys.stdin = sys.stdin or open(0, closefd=False, encoding="utf-8")  # noqa: SIM115
    sys.stdout = sys.stdout or open(1, "w", closefd=False, encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False, encoding="utf-8")  # noqa: SIM115
    stdout: Any = sys.stdout
    if stdout.errors == "strict":
        # An id or a message may hold characters that a terminal's encoding does not have.
        with contextlib.suppress(AttributeError):
            stdout.reconfigure(errors="replace")


def discard_output() -> None:
    """Let what stdout still buffers go nowhere, so that the interpreter's end does not fail over it."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
