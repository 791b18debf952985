"""`pai-collector top`: sources and streams, live in a terminal."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Final, TextIO

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from collector.cli.calling import ask
from collector.cli.commands.status import STATUS, StatusRequest
from collector.cli.keys import listening_to_keys
from collector.cli.live_status import (
    SOURCES,
    STREAMS,
    Sample,
    Screen,
    drawn,
    header,
    recent,
    source_rows,
)
from collector.cli.options import options_of
from collector.cli.output import print_line, print_table, stdout
from collector.cli.running import run_to_end
from collector.clock import Clock, SystemClock
from collector.errors import CollectorError
from collector.owner.answers import Status

if TYPE_CHECKING:
    from collector.settings import Settings

Ask = Callable[[], Awaitable[Status]]

RENEW_SECONDS: Final = 2.0
IDLE_SECONDS: Final = 10.0
"""Where no service runs, reading opens journal and store for each look, and keeps owners away meanwhile."""
ROWS_PRINTED_MAX: Final = 40


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def top(
        context: typer.Context,
        once: Annotated[bool, typer.Option("--once", help="Print one look and end, as without a terminal.")] = False,
    ) -> None:
        """Watch how well things are, sources and streams, renewed every 2 seconds. ? shows the keys, q quits.

        It asks the service that runs, as status does; nothing is called and nothing is changed.
        """
        settings = options_of(context).settings()
        run_to_end(_top(settings, once=once or not sys.stdout.isatty()))


async def _top(settings: Settings, *, once: bool) -> None:
    async def look() -> Status:
        # Each time anew: the owner may have ended or begun, and what is held open keeps one from beginning.
        return await ask(settings, STATUS, StatusRequest())

    if once:
        _print(await look())
    else:
        await watch(look, SystemClock(), stdout(), sys.stdin)


async def watch(ask: Ask, clock: Clock, console: Console, keyboard: TextIO) -> None:
    """Show what `ask` returns until a key or a signal ends it. Raises what the first look raises."""
    samples = [Sample(await ask(), clock.monotonic())]
    pressed: asyncio.Queue[str] = asyncio.Queue()
    screen, trouble = Screen(), ""
    loop = asyncio.get_running_loop()
    # As a key: the usual way out of such a program is no failure. A new size is drawn like any change.
    loop.add_signal_handler(signal.SIGINT, pressed.put_nowait, "q")
    loop.add_signal_handler(signal.SIGWINCH, pressed.put_nowait, "")
    asking: asyncio.Task[Status] | None = None
    with (
        listening_to_keys(keyboard, pressed),
        Live(console=console, screen=True, auto_refresh=False, vertical_overflow="crop") as live,
    ):
        key = asyncio.create_task(pressed.get())
        renewing = asyncio.create_task(clock.sleep(_wait(samples)))
        try:
            while not screen.is_over:
                size = console.size
                lines, screen = drawn(samples, screen, size.width, size.height, trouble=trouble)
                live.update(Group(*lines), refresh=True)
                waited = [task for task in (key, renewing, asking) if task is not None]
                await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
                if key.done():
                    screen = screen.pressed(key.result())
                    key = asyncio.create_task(pressed.get())
                if asking is not None and asking.done():
                    trouble = await _taken(asking, samples, clock)
                    asking = None
                    renewing = asyncio.create_task(clock.sleep(_wait(samples)))
                elif asking is None and renewing.done():
                    if screen.is_paused:
                        renewing = asyncio.create_task(clock.sleep(RENEW_SECONDS))
                    else:
                        asking = asyncio.create_task(_asked(ask))
        finally:
            tasks = [task for task in (key, renewing, asking) if task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            loop.remove_signal_handler(signal.SIGINT)
            loop.remove_signal_handler(signal.SIGWINCH)


async def _asked(ask: Ask) -> Status:
    return await ask()


def _wait(samples: list[Sample]) -> float:
    return RENEW_SECONDS if samples[-1].told.collecting else IDLE_SECONDS


async def _taken(asking: asyncio.Task[Status], samples: list[Sample], clock: Clock) -> str:
    """Add what was asked for to the samples; returns why it cannot be had, or an empty text."""
    try:
        samples.append(Sample(await asking, clock.monotonic()))
    except CollectorError as error:
        return f"{samples[-1].told.now}: {error}"
    samples[:] = recent(samples)
    return ""


def _print(told: Status) -> None:
    for line in header(told, stdout().width):
        _print_text(line)
    print_line()
    if told.sources:
        rows = source_rows(told, {})
        names = [name for name in SOURCES if not name.endswith("/s")]
        print_table("Sources", names, [[row[name] for name in names] for row in rows], right=names[3:])
    else:
        print_line("No service runs: nothing is collected at present.")
        print_line()
    streams = Screen().streams(told)
    more = f", {ROWS_PRINTED_MAX} of {len(streams):,}" if len(streams) > ROWS_PRINTED_MAX else ""
    names = [column.title for column in STREAMS]
    shown = [[column.text(stream) for column in STREAMS] for stream in streams[:ROWS_PRINTED_MAX]]
    print_table(f"Streams{more}", names, shown, right=("behind", "pages"), below=("next try", "error"))


def _print_text(text: Text) -> None:
    console = stdout()
    if console.is_terminal:
        console.print(text, soft_wrap=True)
    else:
        print_line(text.plain.strip())
