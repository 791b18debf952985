"""The command `pai-collector`: from a command line to an exit status.

`--version` pays for everything that is imported here, `--help` also for what `root` imports. What a command needs, its
own module imports.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import sys
from collections.abc import Sequence
from typing import Final

from collector import PROGRAM, __version__
from collector.cli.exits import ExitStatus, exit_status
from collector.cli.options import CommandLine, first_logging, hoist
from collector.cli.process import discard_output, repair_streams
from collector.cli.report import Reporter
from collector.errors import CollectorError, UsageError
from collector.telemetry import stderr

_OUTPUT_ERRORS: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF})
"""What writing to stdout ends with on a full disk, or on a terminal that has gone. Errors of files have their name."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line, the process's own by default, and return its exit status."""
    repair_streams()
    stderr.install()
    return _main(sys.argv[1:] if arguments is None else arguments)


def _main(arguments: Sequence[str]) -> int:
    line = hoist(arguments)
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
        if isinstance(error, OSError) and error.errno in _OUTPUT_ERRORS and error.filename is None:
            discard_output()
            error = CollectorError(f"the output cannot be written: {error.strerror}")
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
            discard_output()
            return True
    return False
