"""Telling systemd how the service is (`Type=notify`, `WatchdogSec`), where it was started by it.

Written by hand because the protocol is one datagram of text, and the packages for it need a compiler.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress

from collector.clock import Clock


class Notifier:
    """Sends states to the socket that systemd names; without one it does nothing."""

    def __init__(self, environ: Mapping[str, str], clock: Clock) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        self._clock = clock
        is_ours = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        microseconds = environ.get("WATCHDOG_USEC", "") if is_ours and self._address else ""
        self.watchdog_seconds = int(microseconds) / 1e6 if microseconds.isdecimal() else None
        """Without a word for so long systemd restarts the process; None where it does not watch."""

    def ready(self, status: str) -> None:
        """The service works; also after a reload."""
        self._send(f"READY=1\nSTATUS={status}")

    def reloading(self) -> None:
        """The configuration is being read again."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={int(self._clock.monotonic() * 1e6)}")

    def stopping(self) -> None:
        """The service ends."""
        self._send("STOPPING=1")

    def alive(self, status: str) -> None:
        """A sign of life for the watchdog, with one line for `systemctl status`."""
        self._send(f"WATCHDOG=1\nSTATUS={status}")

    def _send(self, text: str) -> None:
        if not self._address:
            return
        # An address that begins with @ has no file.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        # Whoever cannot be told is no reason to stop collecting.
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sending:
            sending.setblocking(False)
            sending.sendto(text.encode(), address)
