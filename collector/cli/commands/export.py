"""`pai-collector export`: the history into files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from collector.cli.options import options_of
from collector.cli.output import print_line, print_table, progress
from collector.cli.report import Reporter
from collector.cli.running import run_to_end
from collector.journal.inspect import rows_waiting
from collector.owner.stored import stored
from collector.settings import Settings
from collector.store.exporting import export_history, prepare, stored_tables
from collector.store.history import Manifest
from collector.store.missing import MissingStore, no_history


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
    async with stored(settings) as history:
        store = history.store
        if isinstance(store, MissingStore):
            raise no_history()
        if rows := rows_waiting(settings.journal.path):
            reporter.line(
                f"{rows:,} rows that wait in the journal are not exported; the collector ships them to the store that "
                "it has then", word="note",
            )  # fmt: skip
        prepare(folder)
        tables = await stored_tables(store)
        with progress() as bars:
            tasks = {table.name: bars.add_task(table.name, total=max(table.rows, 1)) for table in tables if table.rows}
            return await export_history(store, tables, folder, lambda table, rows: bars.advance(tasks[table], rows))
