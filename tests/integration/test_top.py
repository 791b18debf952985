"""`top` in a terminal: it draws, renews, takes keys, and leaves the terminal as it was."""

from __future__ import annotations

import asyncio
import io
import os
import pty
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from rich.console import Console

from collector.cli.commands.top import IDLE_SECONDS, RENEW_SECONDS, watch
from collector.errors import OwnedElsewhere
from collector.owner.answers import Status
from collector.owner.instance import Owner
from collector.owner.status import status
from tests.support.virtual_clock import ManualClock


class Watching:
    """A view that is watched, by a clock that the test moves."""

    def __init__(self, owner: Owner, **more: Any) -> None:
        self.clock = ManualClock()
        self.looks = 0
        self.error: Exception | None = None
        self._owner = owner
        self._more = more
        self._shown = io.StringIO()
        self.console = Console(file=self._shown, force_terminal=True, width=100, height=24, color_system=None)

    async def ask(self) -> Status:
        self.looks += 1
        if self.error is not None:
            raise self.error
        return replace(await status(self._owner), headline=f"Look {self.looks}.", **self._more)

    async def until(self, text: str) -> None:
        """Wait until the screen says so."""
        while text not in self._shown.getvalue():
            await asyncio.sleep(0.005)
        self._shown.seek(0)
        self._shown.truncate()


@contextmanager
def a_terminal() -> Iterator[tuple[int, Any]]:
    """The end that types, and the terminal as a file."""
    master, slave = pty.openpty()
    try:
        with os.fdopen(slave, "r") as keyboard:
            yield master, keyboard
    finally:
        os.close(master)


@pytest.mark.parametrize(("collecting", "seconds"), [(True, RENEW_SECONDS), (False, IDLE_SECONDS)])
async def test_renews_takes_keys_and_ends(owner: Owner, collecting: bool, seconds: float) -> None:
    """It looks again after two seconds, or ten without a service; a pause holds it; q ends it."""
    view = Watching(owner, collecting=collecting)
    with a_terminal() as (typing, keyboard):
        watching = asyncio.create_task(watch(view.ask, view.clock, view.console, keyboard))
        await view.until("Look 1.")
        await view.clock.advance(seconds - 0.1)
        assert view.looks == 1
        await view.clock.advance(0.2)
        await view.until("Look 2.")
        os.write(typing, b"p")
        await view.until("PAUSED")
        await view.clock.advance(60)
        assert view.looks == 2
        os.write(typing, b"q")
        await watching


async def test_look_that_fails_is_told_and_made_again(owner: Owner) -> None:
    """An owner that does not answer makes what is shown old, and ends nothing; the first look must succeed."""
    view = Watching(owner, collecting=True)
    with a_terminal() as (_, keyboard):
        watching = asyncio.create_task(watch(view.ask, view.clock, view.console, keyboard))
        await view.until("Look 1.")
        view.error = OwnedElsewhere("it does not answer")
        await view.clock.advance(RENEW_SECONDS + 0.1)
        await view.until("NOT FRESH: ")
        view.error = None
        await view.clock.advance(RENEW_SECONDS + 0.1)
        await view.until("Look 3.")
        os.kill(os.getpid(), signal.SIGINT)
        await watching
        view.error = OwnedElsewhere("it does not answer")
        with pytest.raises(OwnedElsewhere):
            await watch(view.ask, view.clock, view.console, keyboard)


@pytest.mark.parametrize(("key", "name"), [(b"q", "a key"), (b"\x03", "Ctrl-C")], ids=["q", "ctrl-c"])
def test_process_leaves_the_terminal_as_it_was(tmp_path: Path, key: bytes, name: str) -> None:
    """The command draws on the other screen, ends with 0 by either key, and gives screen, cursor and echo back."""
    (tmp_path / "collector.toml").write_text(
        f'[store]\npath = "{tmp_path}/store"\n[journal]\npath = "{tmp_path}/journal.db"\n'
    )
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    command = [sys.executable, "-m", "collector", "--config", str(tmp_path / "collector.toml"), "top"]
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"}
    with subprocess.Popen(
        command, stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True,
        preexec_fn=lambda: _be_controlled(slave),
    ) as process:  # fmt: skip
        shown = b""
        while b"q quit" not in shown:
            shown += os.read(master, 4096)
        os.write(master, key)
        while process.poll() is None:
            # What is not read of a terminal holds the process up.
            if os.get_blocking(master):
                os.set_blocking(master, False)
            try:
                shown += os.read(master, 4096)
            except BlockingIOError:
                continue
        assert process.returncode == 0, (name, shown)
        assert termios.tcgetattr(slave) == before
        assert b"\x1b[?1049h" in shown
        with suppress(BlockingIOError):
            shown += os.read(master, 65536)
        assert b"\x1b[?1049l" in shown
        assert b"\x1b[?25h" in shown
    os.close(master)
    os.close(slave)
    assert not (tmp_path / "journal.db").exists()


def _be_controlled(terminal: int) -> None:
    import fcntl

    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)


def test_without_a_terminal_one_look_is_printed(tmp_path: Path) -> None:
    """Into a pipe goes plain text, once, without escapes."""
    (tmp_path / "collector.toml").write_text(
        f'[store]\npath = "{tmp_path}/store"\n[journal]\npath = "{tmp_path}/journal.db"\n'
    )
    command = [sys.executable, "-m", "collector", "top", "--config", str(tmp_path / "collector.toml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    assert "No service runs" in done.stdout
    assert "Streams" in done.stdout
