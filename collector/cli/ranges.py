"""What the commands about ranges of history share: times on the command line, the price, and consent."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import typer

from collector.cli.calling import calling
from collector.cli.output import print_table
from collector.cli.report import Reporter
from collector.cli.running import showing
from collector.errors import UsageError
from collector.units import parse_duration, rough_duration

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from collector.owner.access import Access
    from collector.settings import Settings

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


def range_of(source: str, start: str, end: str, scopes: Sequence[str] | None) -> dict[str, Any]:
    """A range as an owner takes it (`owner.ranges.Range`)."""
    return {
        "source": source, "start": moment_of("--from", start), "end": moment_of("--to", end),
        "scopes": list(dict.fromkeys(scopes or ())),
    }  # fmt: skip


def print_price(told: Mapping[str, Any], what: str) -> None:
    """What will be asked for, and what it costs at least."""
    calls = ", ".join(f"{count:,} {name}" for name, count in told["calls_at_least"].items()) or "none"
    money = f"at least {told['cny_at_least']} CNY after this month's free calls"
    if told["unpriced"]:
        money += f"; {', '.join(told['unpriced'])}: no price is known"
    print_table(
        "",
        [what, ""],
        [
            ("range", f"{told['from']} to {told['to']}"),
            ("streams", told["streams"]),
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


async def answered(settings: Settings, name: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    """What the owner answers (`owner.requests.ANSWERED`), reached for this alone: consent may take its time."""
    async with calling(settings) as owner:
        return await owner.answer(name, asked)


async def followed(
    reached: AbstractAsyncContextManager[Access],
    name: str,
    asked: Mapping[str, Any],
    what: str,
    unit: str = "seconds",
    told: Callable[[int], str] = rough_duration,
) -> list[dict[str, Any]]:
    """All words of a work (`owner.requests.FOLLOWED`) but those on how far it is, which a bar shows.

    Such a word has the whole under the name of its unit and the part that is done beside it; `told` puts a number
    into words.
    """
    kept: list[dict[str, Any]] = []
    total = done = 0
    tasks: list[TaskID] = []

    def refresh(bars: Bars) -> None:
        if not tasks:
            tasks.append(bars.add_task(""))
        text = f"{what}: {told(done)} of {told(total)}"
        bars.update(tasks[0], description=text, total=max(1, total), completed=done)

    async with reached as owner, showing(refresh), aclosing(owner.follow(name, asked)) as words:
        async for word in words:
            if unit in word:
                total, done = word[unit], word[f"{unit}_read"]
            else:
                kept.append(word)
    return kept
