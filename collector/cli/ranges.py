"""What the commands about ranges of history share: times on the command line, the price, and consent."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import typer

from collector.cli.output import print_table
from collector.cli.report import Reporter
from collector.cli.running import showing
from collector.errors import UsageError
from collector.rpc import Method, Request, Session
from collector.units import parse_duration, rough_duration

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

Q = TypeVar("Q", bound=Request)

LEFT_OUT_SHOWN_MAX = 5

_RELATIVE = re.compile(r"-([0-9]+[smhd])")
_RIGHT = "a time such as 2026-07-01T00:00:00Z or 2026-07-01, or one counted back from now, such as -6h"


def moment_of(option: str, text: str) -> int:
    """Seconds since the epoch; 0 or below counts back from the service's time. Raises UsageError."""
    text = text.strip()
    if text == "now":
        return 0
    if relative := _RELATIVE.fullmatch(text):
        return -int(parse_duration(relative[1]))
    try:
        moment = datetime.fromisoformat(text)
        seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise UsageError(f"{option}: got {text!r}; expected {_RIGHT}") from None
    if not 0 < seconds < 2**32 or seconds != int(seconds):
        raise UsageError(f"{option}: got {text!r}; expected whole seconds after 1970, and {_RIGHT}")
    return int(seconds)


class RangeRequest(Request, frozen=True):
    """A range as a handler takes it (`owner.ranges.Range`)."""

    source: str
    start: int
    end: int
    scopes: tuple[str, ...] = ()


def scopes_of(words: Sequence[str] | None) -> tuple[str, ...]:
    """Return the scopes of a command line, each once."""
    return tuple(dict.fromkeys(words or ()))


class RangePrice(msgspec.Struct, frozen=True):
    """What a work on a range would do, in absolute times, and what it takes at least; see `owner.ranges.Price`."""

    start: int
    end: int
    from_text: str = msgspec.field(name="from")
    to_text: str = msgspec.field(name="to")
    streams: int
    calls_at_least: dict[str, int]
    cny_at_least: str
    unpriced: list[str]


class Progress(msgspec.Struct, frozen=True, tag=True):
    """How far a work is, in a unit of its own."""

    total: int
    done: int


def print_price(price: RangePrice, what: str) -> None:
    """Print what will be asked for, and what it costs at least."""
    calls = ", ".join(f"{count:,} {name}" for name, count in price.calls_at_least.items()) or "none"
    money = f"at least {price.cny_at_least} CNY after this month's free calls"
    if price.unpriced:
        money += f"; {', '.join(price.unpriced)}: no price is known"
    print_table(
        "",
        [what, ""],
        [
            ("range", f"{price.from_text} to {price.to_text}"),
            ("streams", price.streams),
            ("calls", f"at least {calls}; busy ranges take more"),
            ("cost", money),
        ],
    )


def say_some(lines: Sequence[str], more: str, reporter: Reporter) -> None:
    """Tell what was left out: the first few, and `more` about how many others there are."""
    for line in lines[:LEFT_OUT_SHOWN_MAX]:
        reporter.line(line, word="hint")
    if len(lines) > LEFT_OUT_SHOWN_MAX:
        reporter.line(more.format(len(lines) - LEFT_OUT_SHOWN_MAX), word="hint")


def consented(question: str, *, yes: bool, reporter: Reporter) -> bool:
    """Whether calls that cost may be made: --yes, or a yes on the terminal. Raises UsageError where nobody can say."""
    if yes:
        return True
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("nobody is there to agree to the price", hint="add --yes")
    if typer.confirm(question, default=False):
        return True
    reporter.line("nothing was asked", word="stopped")
    return False


async def followed(
    session: Session,
    method: Method[Any, Q, Any],
    request: Q,
    what: str,
    shown: Callable[[int], str] = rough_duration,
) -> list[Any]:
    """Return all events of a work but those on its progress, which a bar shows; `shown` puts its numbers into words."""
    kept: list[Any] = []
    progress = Progress(0, 0)
    tasks: list[TaskID] = []

    def refresh(bars: Bars) -> None:
        if not tasks:
            tasks.append(bars.add_task(""))
        text = f"{what}: {shown(progress.done)} of {shown(progress.total)}"
        bars.update(tasks[0], description=text, total=max(1, progress.total), completed=progress.done)

    async with showing(refresh), aclosing(session.stream(method, request)) as events:
        async for event in events:
            if isinstance(event, Progress):
                progress = event
            else:
                kept.append(event)
    return kept
