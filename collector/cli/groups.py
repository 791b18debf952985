"""Commands with commands of their own, such as `diagnostics create`."""

from __future__ import annotations

import sys

import typer

from collector.cli.exits import ExitStatus


def command_group(help: str) -> typer.Typer:
    """A group that shows its help, with the status of wrong usage, when none of its commands is named."""
    group = typer.Typer(help=help, invoke_without_command=True)

    @group.callback()
    def show_help(context: typer.Context) -> None:
        if context.invoked_subcommand is None:
            sys.stdout.write(context.get_help() + "\n")
            raise typer.Exit(ExitStatus.USAGE)

    return group
