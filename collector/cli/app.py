"""The command `pai-collector`: from a command line to an exit status.

`--version` pays for everything that is imported here, `--help` also for what `root` imports. What a command needs, its
own module imports.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
from collections.abc import Sequence

from collector import PROGRAM, __version__
from collector.cli.exits import ExitStatus, exit_status
from collector.cli.options import CommandLine, first_logging, hoist
from collector.cli.report import Reporter
from collector.errors import UsageError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line, the process's own by default, and return its exit status."""
    line = hoist(sys.argv[1:] if arguments is None else arguments)
    reporter = Reporter(*first_logging(line.options, os.environ), debug="--debug" in line.options)
    try:
        return _finished(_run(line, reporter))
    except KeyboardInterrupt:
        reporter.line("interrupted", word="stopped")
        return ExitStatus.INTERRUPTED
    except BaseException as error:
        if isinstance(error, SystemExit | GeneratorExit):
            raise
        if isinstance(error, BrokenPipeError) and _reader_is_gone():
            return ExitStatus.DONE
        reporter.failed(error)
        return exit_status(error)


def _run(line: CommandLine, reporter: Reporter) -> object:
    """Run the command and return its result."""
    if line.incomplete:
        raise UsageError(f"option {line.incomplete} needs a value", hint=f"{PROGRAM} --help")
    if line.rest[:1] == ("--version",):
        sys.stdout.write(f"{PROGRAM} {__version__}\n")
        return ExitStatus.DONE

    from collector.cli import root

    return root.run(line, reporter)


def _finished(result: object) -> int:
    """A command's status, once its output has really gone out."""
    sys.stdout.flush()
    return result if isinstance(result, int) else ExitStatus.DONE


def _reader_is_gone() -> bool:
    """Whether nobody reads stdout any more (`| head`). If so, what is still buffered goes nowhere."""
    with contextlib.suppress(OSError, ValueError):
        poll = select.poll()
        # A pipe without a reader reports that unasked.
        poll.register(sys.stdout.fileno(), 0)
        if poll.poll(0):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return True
    return False
