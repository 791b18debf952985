"""The commands, one file each. Every file has `register(app)`, which adds its command."""

from __future__ import annotations

import typer

from collector.cli.commands import check, demo, init, journal, migrate, query, run, simulate, status

# The order in which `--help` lists them.
COMMANDS = (demo, init, check, run, status, query, migrate, journal, simulate)


def register_all(app: typer.Typer) -> None:
    """Add every command to the application."""
    for command in COMMANDS:
        command.register(app)
