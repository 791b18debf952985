"""Command lines in processes that are forked from one that has imported everything but the engine.

A start of `python -m collector` spends most of its time on imports. What a command does is the same in a fork: it has
its own process, environment, folder, output, signals and exit status.
"""

from __future__ import annotations

import asyncio
import atexit
import multiprocessing
import os
import pkgutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import NamedTuple

import collector.__main__ as program
from collector.cli import commands

# Not the engine: its threads do not survive a fork.
PRELOADED = ("collector.service.serving", "collector.store.embedded", "clickhouse_connect", "pytest", __name__)


class Ran(NamedTuple):
    """How a command line ended."""

    status: int
    stdout: bytes
    stderr: str


async def run_command(
    arguments: Sequence[str], environ: Mapping[str, str], folder: Path | None, seconds_max: float
) -> Ran:
    """Run a command line to its end in `folder`. TimeoutError if it takes longer than `seconds_max`."""
    with tempfile.TemporaryDirectory() as output:
        process = _server().Process(
            target=_run, args=(list(arguments), dict(environ), str(folder or Path.cwd()), output), daemon=True
        )
        process.start()
        try:
            await asyncio.to_thread(process.join, seconds_max)
            if process.exitcode is None:
                raise TimeoutError(f"pai-collector {' '.join(arguments)}: not ended after {seconds_max:g} s")
            stdout, stderr = (Path(output, name).read_bytes() for name in ("stdout", "stderr"))
            return Ran(process.exitcode, stdout, stderr.decode())
        finally:
            process.kill()
            process.join()
            process.close()


def _server() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    modules = (f"{commands.__name__}.{found.name}" for found in pkgutil.iter_modules(commands.__path__))
    context.set_forkserver_preload([*PRELOADED, *modules])
    return context


def _run(arguments: list[str], environ: dict[str, str], folder: str, output: str) -> None:
    os.environ.clear()
    os.environ.update(environ)
    os.chdir(folder)
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        os.dup2(os.open(Path(output, name), os.O_WRONLY | os.O_CREAT), descriptor)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.argv = [str(program.__file__), *arguments]
    try:
        # What multiprocessing does with a status is what `python -m collector` does with it.
        raise SystemExit(program.main())
    finally:
        # Which multiprocessing leaves out: the last lines of stderr are written there.
        atexit._run_exitfuncs()
