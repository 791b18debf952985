"""`pai-collector import`: exported history into the store."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from collector.cli.options import options_of
from collector.cli.output import print_line, progress
from collector.cli.report import Reporter
from collector.cli.running import run_to_end
from collector.clock import SystemClock
from collector.owner.instance import Owner
from collector.owner.waiting import wait_for_journal
from collector.settings import Settings
from collector.store.history import Manifest
from collector.store.importing import import_history, read_manifest


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command(name="import")
    def command(
        context: typer.Context,
        folder: Annotated[Path, typer.Argument(metavar="DIR", help="What `export` has written.")],
        add: Annotated[
            bool, typer.Option("--add", help="Also where the store has other rows of the same days or months.")
        ] = False,
    ) -> None:
        """Bring exported history into the store that the configuration names; run it again to go on after a break."""
        options = options_of(context)
        manifest = read_manifest(folder)
        run_to_end(_import(options.settings(), folder, manifest, options.reporter, is_added=add))
        print_line(f"{manifest.rows:,} rows of {len(manifest.tables)} tables are in the store, each once")


async def _import(settings: Settings, folder: Path, manifest: Manifest, reporter: Reporter, *, is_added: bool) -> None:
    async with await wait_for_journal(partial(Owner.open, settings), SystemClock()) as owner:
        depth = await owner.journal.depth()
        if depth.rows:
            reporter.line(
                f"{depth.rows:,} rows wait in the journal; the next run ships them to this store", word="note"
            )
        with progress() as bars:
            task = bars.add_task("rows", total=max(manifest.rows, 1))
            await import_history(
                owner.store,
                folder,
                manifest,
                SystemClock(),
                is_added=is_added,
                on_file=lambda file: bars.advance(task, file.rows),
            )
