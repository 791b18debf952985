"""The root of the commands: global options, and the command that a line names."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from typer.exceptions import TyperException

from collector import PROGRAM
from collector.cli import commands
from collector.cli.exits import ExitStatus
from collector.cli.options import CommandLine, GlobalOptions
from collector.cli.report import Reporter
from collector.errors import UsageError
from collector.telemetry import log


def run(line: CommandLine, reporter: Reporter) -> object:
    """Run the command and return its result. Raises UsageError if the line is wrong.

    The library's own runner would print errors and end the process in its own way.
    """
    name = next((word for word in line.rest if word != "--"), "")
    command = typer.main.get_command(build(reporter, name))
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


def build(reporter: Reporter, name: str) -> typer.Typer:
    """Return the application with the command of that name, or with the list of all if none has it."""
    app = typer.Typer(
        name=PROGRAM,
        add_completion=False,
        pretty_exceptions_enable=False,
        # Panels are for terminals; elsewhere help is plain text.
        rich_markup_mode="rich" if sys.stdout.isatty() else None,
        help="Collects Alibaba Cloud PAI monitoring into history in ClickHouse.",
        epilog="The options above may also follow the command.",
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
        # Answered before the command line gets here; this is its line in the help.
        version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
    ) -> None:
        if context.invoked_subcommand is None:
            sys.stdout.write(context.get_help() + "\n")
            raise typer.Exit(ExitStatus.USAGE)
        reporter.configure()
        context.obj = GlobalOptions(reporter, config, log_level, log_format)

    commands.register(app, name)
    return app
