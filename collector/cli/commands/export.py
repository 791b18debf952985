"""`pai-collector export`: the history into files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from collector.cli.options import options_of
from collector.cli.output import print_line, print_table, progress
from collector.cli.report import Reporter
from collector.cli.running import run_to_end
from collector.owner.instance import Owner
from collector.settings import Settings
from collector.store.exporting import export_history, prepare, stored_tables
from collector.store.history import Manifest


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command(name="export")
    def command(
        context: typer.Context,
        folder: Annotated[Path, typer.Argument(metavar="DIR", help="An empty or a new folder.")],
    ) -> None:
        """Write the whole history of the store to files, for `import` into another store."""
        options = options_of(context)
        manifest = run_to_end(_export(options.settings(), folder, options.reporter))
        print_table(
            "", ["table", "rows", "files"],
            [(table.name, table.rows, sum(len(p.files) for p in table.partitions)) for table in manifest.tables],
        )  # fmt: skip
        print_line(
            f"{folder}: {manifest.rows:,} rows; next: pai-collector import {folder} with the other store's settings"
        )


async def _export(settings: Settings, folder: Path, reporter: Reporter) -> Manifest:
    prepare(folder)
    async with await Owner.open(settings) as owner:
        # What waits in the journal belongs to the history as well.
        await owner.shipper().drain()
        depth = await owner.journal.depth()
        if depth.rows:
            reporter.line(
                f"{depth.rows:,} rows of windows that are not complete stay in the journal; the collector goes on with "
                "them at the store that it has then", word="note",
            )  # fmt: skip
        tables = await stored_tables(owner.store)
        with progress() as bars:
            tasks = {table.name: bars.add_task(table.name, total=max(table.rows, 1)) for table in tables if table.rows}
            return await export_history(
                owner.store, tables, folder, lambda table, rows: bars.advance(tasks[table], rows)
            )
