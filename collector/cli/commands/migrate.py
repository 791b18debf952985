"""`pai-collector migrate`: bring the store's tables up to date."""

from __future__ import annotations

from typing import Annotated

import typer

from collector.cli.options import options_of
from collector.cli.output import print_line, print_table
from collector.cli.running import run_to_end
from collector.clock import SystemClock
from collector.owner.stored import stored
from collector.owner.waiting import taken
from collector.settings import Settings
from collector.store.base import Store
from collector.store.fault_rules import fault_rules
from collector.store.migrate import is_new, migrate, plan
from collector.store.opening import writing_store
from collector.store.reclassify import DayClassified, reclassify
from collector.store.shape import apply_shape, plan_shape

_Done = tuple[list[str], list[DayClassified], list[str]]
"""Migrations and settings, days classified, and notes."""


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command(name="migrate")
    def command(
        context: typer.Context,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")] = False,
        anew: Annotated[
            bool, typer.Option("--reclassify", help="Classify the stored log lines again, by the present fault rules.")
        ] = False,
    ) -> None:
        """Apply the migrations and settings that the tables do not have yet. `run` does it by itself."""
        options = options_of(context)
        settings = options.settings()
        clock = SystemClock()
        began = clock.monotonic()
        done, days, notes = run_to_end((_plan if dry_run else _migrate)(settings, anew=anew))
        options.reporter.notes(notes)
        if done:
            state = "to be applied" if dry_run else "applied"
            print_table("", ["migration or setting", "state"], [(what, state) for what in done])
        else:
            print_line("the store is up to date")
        if anew:
            title = "changed" if not dry_run else "to be changed"
            print_table("", ["day", "lines", title], [(day.day, f"{day.lines:,}", f"{day.changed:,}") for day in days])
            lines, changed = sum(day.lines for day in days), sum(day.changed for day in days)
            verb = "read" if dry_run else "classified again"
            print_line(f"{lines:,} lines {verb} in {clock.monotonic() - began:.1f} s, {changed:,} of them {title}")


async def _plan(settings: Settings, *, anew: bool) -> _Done:
    """Return what `_migrate` would do. Changes nothing."""
    async with stored(settings) as history:
        store = history.store
        done = [str(migration) for migration in await plan(store)]
        if done:
            # Which settings the tables lack is known once there are tables.
            return done, [], history.notes
        return await plan_shape(store, settings.store), await _classified(store, settings, anew, dry_run=True), []


async def _migrate(settings: Settings, *, anew: bool) -> _Done:
    async with taken(settings), writing_store(settings) as store:
        migrations = await migrate(store)
        done = [str(migration) for migration in migrations]
        altered = await apply_shape(store, settings.store)
        if not is_new(migrations):
            done += altered
        return done, await _classified(store, settings, anew, dry_run=False), []


async def _classified(store: Store, settings: Settings, anew: bool, *, dry_run: bool) -> list[DayClassified]:
    if not anew:
        return []
    return [day async for day in reclassify(store, fault_rules(settings.store.fault_rules), dry_run=dry_run)]
