"""The command `pai-collector`: from a command line to an exit status."""

from __future__ import annotations

import contextlib
import os
import select
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from typer.exceptions import TyperException

from collector import __version__
from collector.cli import commands
from collector.cli.exits import ExitStatus, exit_status
from collector.cli.options import CommandLine, GlobalOptions, first_logging, hoist
from collector.cli.output import PROGRAM
from collector.cli.report import Reporter
from collector.errors import UsageError
from collector.telemetry import log


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line, the process's own by default, and return its exit status."""
    line = hoist(sys.argv[1:] if arguments is None else arguments)
    reporter = Reporter(debug="--debug" in line.options)
    reporter.configure(*first_logging(line.options, os.environ))
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
    """What the command returns. The library's own runner would print errors and end the process in its own way."""
    if line.incomplete:
        raise UsageError(f"option {line.incomplete} needs a value", hint=f"{PROGRAM} --help")
    first = line.rest[0] if line.rest else ""
    command = typer.main.get_command(build(reporter, first))
    try:
        with command.make_context(PROGRAM, [*line.options, *line.rest]) as context:
            return command.invoke(context)
    except typer.Exit as end:
        return end.exit_code
    except typer.Abort:
        raise KeyboardInterrupt from None
    except TyperException as error:
        at = getattr(error, "ctx", None)
        message = error.format_message().replace("Value error, ", "")
        raise UsageError(message, hint=f"{at.command_path if at else PROGRAM} --help") from error


def build(reporter: Reporter, first: str = "") -> typer.Typer:
    """The application with all its commands, or with the only one that `first`, the line's first word, asks for."""
    app = typer.Typer(
        name=PROGRAM,
        add_completion=False,
        pretty_exceptions_enable=False,
        # Panels are for terminals; elsewhere help is plain text.
        rich_markup_mode="rich" if sys.stdout.isatty() else None,
        help="Collects Alibaba Cloud PAI monitoring into history in ClickHouse.",
        epilog="The options above may also stand after the command.",
        invoke_without_command=True,
    )

    @app.callback()
    def options(
        context: typer.Context,
        config: Annotated[
            Path | None,
            typer.Option(metavar="FILE", help="Configuration [$PAI_COLLECTOR_CONFIG, else ./collector.toml]."),
        ] = None,
        debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
        log_level: Annotated[log.Level | None, typer.Option(help="Least severe log level shown.")] = None,
        log_format: Annotated[log.Format | None, typer.Option(help="Form of logs and errors.")] = None,
        version: Annotated[bool, typer.Option("--version", is_eager=True, help="Show the version.")] = False,
    ) -> None:
        if version:
            sys.stdout.write(f"{PROGRAM} {__version__}\n")
            raise typer.Exit
        if context.invoked_subcommand is None:
            sys.stdout.write(context.get_help() + "\n")
            raise typer.Exit(ExitStatus.USAGE)
        context.obj = GlobalOptions(reporter, config, log_level, log_format)

    if first != "--version":
        commands.register_all(app, first)
    return app


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
