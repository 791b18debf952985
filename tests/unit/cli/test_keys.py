"""Keys as terminals send them."""

from __future__ import annotations

import asyncio
import os
import termios

from collector.cli import keys
from collector.cli.keys import keys_in, listening_to_keys


def test_keys_have_names_whatever_a_terminal_sends() -> None:
    """Arrows in both spellings, keys without a character, several at a time; what is unknown is no key."""
    assert keys_in("\x1b[A\x1bOB\x1b[6~x/\r\x7f") == [
        keys.UP, keys.DOWN, keys.PAGE_DOWN, "x", "/", keys.ENTER, keys.BACKSPACE,
    ]  # fmt: skip
    assert keys_in("\x1b") == [keys.ESCAPE]
    assert keys_in("\x1b[200~\x01é") == ["é"]


async def test_terminal_is_as_it_was_afterwards() -> None:
    """Keys come one at a time while the body runs; then lines and echo are back, also after an error."""
    master, slave = os.openpty()
    try:
        before = termios.tcgetattr(slave)
        pressed: asyncio.Queue[str] = asyncio.Queue()
        with os.fdopen(slave, "r", closefd=False) as terminal, listening_to_keys(terminal, pressed):
            assert not termios.tcgetattr(slave)[3] & (termios.ICANON | termios.ECHO)
            os.write(master, b"q")
            assert await pressed.get() == "q"
        assert termios.tcgetattr(slave) == before
    finally:
        os.close(master)
        os.close(slave)


async def test_terminal_that_goes_is_told() -> None:
    """When its other end is closed, that is a key of its own, and is told once."""
    master, slave = os.openpty()
    pressed: asyncio.Queue[str] = asyncio.Queue()
    try:
        with os.fdopen(slave, "r", closefd=False) as terminal, listening_to_keys(terminal, pressed):
            os.close(master)
            assert await pressed.get() == keys.CLOSED
            assert pressed.empty()
    finally:
        os.close(slave)
