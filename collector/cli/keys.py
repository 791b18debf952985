"""Keys of a terminal, one at a time, while an event loop runs."""

from __future__ import annotations

import asyncio
import os
import re
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final, TextIO

UP: Final = "up"
DOWN: Final = "down"
PAGE_UP: Final = "page up"
PAGE_DOWN: Final = "page down"
HOME: Final = "home"
END: Final = "end"
ESCAPE: Final = "escape"
ENTER: Final = "enter"
BACKSPACE: Final = "backspace"
CLEAR: Final = "clear"
"""Ctrl-U: remove what was typed."""
CLOSED: Final = "closed"
"""The terminal has gone."""

_SEQUENCES: Final = {
    "[A": UP, "[B": DOWN, "OA": UP, "OB": DOWN, "[5~": PAGE_UP, "[6~": PAGE_DOWN, "[H": HOME, "[F": END, "OH": HOME,
    "OF": END, "[1~": HOME, "[4~": END,
}  # fmt: skip
_CONTROLS: Final = {"\r": ENTER, "\n": ENTER, "\x7f": BACKSPACE, "\x08": BACKSPACE, "\x15": CLEAR, "\x1b": ESCAPE}
_KEY: Final = re.compile(r"\x1b(?P<sequence>\[[0-9;]*[A-Za-z~]|O[A-Z])|(?P<single>.)", re.DOTALL)


def keys_in(text: str) -> list[str]:
    """Return the keys in what a terminal sent: characters, and names of those that have none."""
    found: list[str] = []
    for key in _KEY.finditer(text):
        if key["sequence"] is not None:
            if (name := _SEQUENCES.get(key["sequence"])) is not None:
                found.append(name)
        elif key["single"] in _CONTROLS:
            found.append(_CONTROLS[key["single"]])
        elif key["single"].isprintable():
            found.append(key["single"])
    return found


@contextmanager
def listening_to_keys(terminal: TextIO, keys: asyncio.Queue[str]) -> Iterator[None]:
    """Put keys into a queue while the body runs; without a terminal there are none."""
    if not terminal.isatty():
        yield
        return
    number = terminal.fileno()
    before = termios.tcgetattr(number)
    loop = asyncio.get_running_loop()

    def read() -> None:
        try:
            sent = os.read(number, 1024)
        except OSError:
            sent = b""
        if not sent:
            loop.remove_reader(number)
        for key in keys_in(sent.decode(errors="ignore")) if sent else [CLOSED]:
            keys.put_nowait(key)

    # Signals such as Ctrl-C stay what they are.
    tty.setcbreak(number)
    loop.add_reader(number, read)
    try:
        yield
    finally:
        loop.remove_reader(number)
        # A terminal that has gone needs no manners.
        with suppress(termios.error):
            termios.tcsetattr(number, termios.TCSADRAIN, before)
