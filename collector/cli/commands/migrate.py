"""`pai-collector migrate`: bring the store's tables up to date."""

from __future__ import annotations

from typing import Annotated

import typer

from collector.cli.options import options_of
from collector.cli.output import print_line, print_table
from collector.cli.running import run_to_end
from collector.clock import SystemClock
from collector.owner.instance import Owner
from collector.settings import Settings
from collector.store.fault_rules import fault_rules
from collector.store.migrate import is_new, migrate, plan
from collector.store.reclassify import DayClassified, reclassify
from collector.store.shape import apply_shape, plan_shape


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
        settings = options_of(context).settings()
        clock = SystemClock()
        began = clock.monotonic()
        done, days = run_to_end(_migrate(settings, dry_run=dry_run, anew=anew))
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


async def _migrate(settings: Settings, *, dry_run: bool, anew: bool) -> tuple[list[str], list[DayClassified]]:
    async with await Owner.open(settings, migrated=False) as owner:
        store = owner.store
        migrations = await (plan if dry_run else migrate)(store)
        done = [str(migration) for migration in migrations]
        if done and dry_run:
            # Which settings the tables lack is known once there are tables.
            return done, []
        altered = await (plan_shape if dry_run else apply_shape)(store, settings.store)
        if not is_new(migrations):
            done += altered
        rules = fault_rules(settings.store.fault_rules)
        return done, [day async for day in reclassify(store, rules, dry_run=dry_run)] if anew else []
