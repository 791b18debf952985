"""`pai-collector migrate`: bring the store's tables up to date."""

from __future__ import annotations

from typing import Annotated

import typer

from collector.cli.options import options_of
from collector.cli.output import print_line, print_table
from collector.cli.running import run_to_end
from collector.owner.instance import Owner
from collector.settings import Settings
from collector.store.migrate import Migration, migrate, plan


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command(name="migrate")
    def command(
        context: typer.Context,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be applied.")] = False,
    ) -> None:
        """Apply the migrations that the store does not have yet. `run` does it by itself."""
        settings = options_of(context).settings()
        found = run_to_end(_migrate(settings, dry_run=dry_run))
        if not found:
            print_line("the store is up to date")
            return
        print_table("", ["migration", "state"], [(str(m), "to be applied" if dry_run else "applied") for m in found])


async def _migrate(settings: Settings, *, dry_run: bool) -> tuple[Migration, ...]:
    async with await Owner.open(settings, migrated=False) as owner:
        return await (plan if dry_run else migrate)(owner.store)
