"""`pai-collector journal`: look into the journal, beside a running collector or not."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from collector.cli.exits import ExitStatus
from collector.cli.groups import command_group
from collector.cli.options import options_of
from collector.cli.output import print_json, print_line, print_table
from collector.journal.inspect import contents, set_aside_of, verify


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = command_group("Look into the journal.")

    @group.command(name="ls")
    def ls(
        context: typer.Context,
        as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
    ) -> None:
        """Show what waits to be shipped, and windows whose last page is missing."""
        path = options_of(context).settings().journal.path
        found = contents(path)
        if as_json:
            print_json(found)
            return
        print_line(f"{path}: {found['bytes']:,} bytes, {found['calls_unsettled']} calls not settled")
        print_table(
            "Waiting for the store",
            ["table", "partition", "mode", "chunks", "rows", "bytes", "in segments", "unsealed"],
            [tuple(chunk.values()) for chunk in found["chunks"]],
        )
        print_table(
            "Open windows",
            ["operation", "scope", "recheck delay", "start", "end", "pages", "reading"],
            [tuple(window.values()) for window in found["open_windows"]],
        )
        for aside in set_aside_of(path):
            print_line(f"set aside as damaged: {aside}")

    @group.command(name="verify")
    def check(
        context: typer.Context,
        path: Annotated[Path | None, typer.Option(metavar="FILE", help="Another file, such as one set aside.")] = None,
    ) -> int:
        """Check the file, every chunk against its checksum, and that nothing refers to what is not there."""
        target = path or options_of(context).settings().journal.path
        found = verify(target)
        for line in found:
            print_line(f"{target}: {line}")
        if not found:
            print_line(f"{target}: sound")
        return ExitStatus.FAILED if found else ExitStatus.DONE

    app.add_typer(group, name="journal")
