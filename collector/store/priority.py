"""The engine's threads stand back behind the loop that sends calls and keeps the quota."""

from __future__ import annotations

import contextlib
import os
import sys
import threading

NICENESS = 10


def stand_back() -> None:
    """Lower the priority of this thread and of every thread that the engine starts from it.

    An insert may keep all cores busy for some milliseconds; a call that waits that long between its token
    and the wire arrives closer to the next one than it was sent.
    """
    if sys.platform == "linux":
        # On Linux a thread's number names the thread alone, and new threads take over its priority.
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
