"""Waiting for something to happen at the service: looking again and again, less and less often."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from collector.backoff import backoff_seconds
from collector.cli.output import stderr
from collector.clock import Clock
from collector.errors import TransientError
from collector.redaction import printable

T = TypeVar("T")

PAUSE_SECONDS_MIN: Final = 2.0
PAUSE_SECONDS_MAX: Final = 30.0


@dataclass(frozen=True, slots=True)
class Looked(Generic[T]):
    """What the last look showed."""

    last: T
    has_happened: bool
    """False when the time was up first."""


async def look_until(
    look: Callable[[], Awaitable[T]],
    has_happened: Callable[[T], bool],
    *,
    clock: Clock,
    timeout_seconds: float,
    on_look: Callable[[T], None],
    has_looked: bool = False,
) -> Looked[T]:
    """Look at once, then after pauses that double from 2 to 30 seconds, and last when the time is up.

    With `has_looked`, which says that somebody has just done so, a pause comes first. A look that
    failed for a passing reason (TransientError) is passed over; the last one raises.
    """
    deadline = clock.monotonic() + timeout_seconds
    pauses = 0
    while True:
        if has_looked:
            pauses += 1
            pause = backoff_seconds(pauses, PAUSE_SECONDS_MIN, PAUSE_SECONDS_MAX)
            await clock.sleep(min(pause, max(deadline - clock.monotonic(), 0.0)))
        has_looked = True
        left = deadline - clock.monotonic()
        try:
            seen = await look()
        except TransientError:
            if left <= 0:
                raise
        else:
            on_look(seen)
            if has_happened(seen):
                return Looked(seen, has_happened=True)
            if left <= 0:
                return Looked(seen, has_happened=False)


@contextmanager
def spinner(text: str) -> Iterator[Callable[[str], None]]:
    """A line on stderr that moves, with the time that has passed; nothing unless that is a terminal.

    Yields what changes its text.
    """
    console = stderr()
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as line:
        task = line.add_task(printable(text), total=None)
        yield lambda new: line.update(task, description=printable(new))
