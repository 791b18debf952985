"""`pai-collector journal`: look into the journal, beside a running collector or not."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from collector.cli.exits import ExitStatus
from collector.cli.groups import command_group
from collector.cli.options import options_of
from collector.cli.output import print_json, print_line, print_table
from collector.cli.running import run_to_end
from collector.clock import SystemClock
from collector.journal.inspect import contents, set_aside_of, verify
from collector.owner.journals import forget_journal
from collector.settings import Settings
from collector.store.migrate import migrate
from collector.store.opening import open_store


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

    @group.command(name="forget")
    def forget(
        context: typer.Context,
        journal_id: Annotated[str, typer.Argument(metavar="ID", help="The journal; any other word lists them.")],
        force: Annotated[
            bool, typer.Option("--force", help="Also one that was alive just now; its process ends by itself.")
        ] = False,
    ) -> None:
        """Give up a journal that will not come back: its streams go to the other shards.

        Should it come back all the same, what it holds is compared with the store, and nothing is stored twice.
        """
        shares = run_to_end(_forget(options_of(context).settings(), journal_id, force=force))
        if shares:
            print_line(f"{journal_id}: given up; others may collect the streams of shard {', '.join(shares)}")
        else:
            print_line(f"{journal_id}: was given up before")

    app.add_typer(group, name="journal")


async def _forget(settings: Settings, journal_id: str, *, force: bool) -> list[str]:
    store = await open_store(settings)
    try:
        await migrate(store)
        forgotten = await forget_journal(store, journal_id, int(SystemClock().wall()), force=force)
    finally:
        await store.close()
    return [str(one.share) for one in forgotten]
