"""Running a command's work: the event loop, its end by a signal, and progress bars meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from collector.cli.output import progress
from collector.clock import SystemClock

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from collector.pipeline.run import OnceRunner

T = TypeVar("T")

REFRESH_SECONDS = 0.1
UNITS = {
    "syslogs": "seconds of log time", "user_metrics": "snapshots", "node_metrics": "seconds of series",
    "job_metrics": "seconds of series", "events": "seconds of events",
}  # fmt: skip
"""What a source's progress counts; lists are counted in looks."""


def run_to_end(main: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run`, with SIGTERM taken as Ctrl-C: what was paid for is in the journal either way."""

    async def guarded() -> T:
        task = asyncio.current_task()
        assert task is not None
        stopped = False

        def stop() -> None:
            nonlocal stopped
            stopped = True
            task.cancel()

        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop)
        try:
            return await main
        except asyncio.CancelledError:
            if stopped:
                raise KeyboardInterrupt from None
            raise

    return asyncio.run(guarded())


@contextlib.asynccontextmanager
async def showing(refresh: Callable[[Bars], None]) -> AsyncIterator[None]:
    """Progress bars on a terminal while the body runs; `refresh` brings them up to date."""
    with progress() as bars:

        async def paint() -> None:
            while True:
                refresh(bars)
                await SystemClock().sleep(REFRESH_SECONDS)

        painting = asyncio.create_task(paint())
        try:
            yield
        finally:
            painting.cancel()
            # Waited for in a way that a Ctrl-C of this moment ends the command, and not only the painting.
            await asyncio.gather(painting, return_exceptions=True)
            refresh(bars)


def source_bars(runner: OnceRunner) -> Callable[[Bars], None]:
    """A bar for each source of a run, with the rows that the store has."""
    tasks: dict[str, TaskID] = {}

    def refresh(bars: Bars) -> None:
        for name, state in runner.report.sources.items():
            if name not in tasks:
                tasks[name] = bars.add_task("")
            rows = sum(runner.shipped.rows.get(table, 0) for table in state.tables)
            text = f"{name}, {UNITS.get(name, 'looks')}; {rows:,} rows stored"
            bars.update(tasks[name], description=text, total=max(state.total, state.done, 1), completed=state.done)

    return refresh
