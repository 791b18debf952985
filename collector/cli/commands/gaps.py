"""`pai-collector gaps`: what is not covered, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from collector.cli.exits import ExitStatus
from collector.cli.options import options_of
from collector.cli.output import print_json, print_line, print_table
from collector.cli.ranges import moment_of
from collector.cli.running import run_to_end
from collector.units import rough_duration

if TYPE_CHECKING:
    from collector.settings import Settings

GAPS_SHOWN_MAX = 200


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def gaps(
        context: typer.Context,
        source: Annotated[str | None, typer.Argument(metavar="SOURCE", help="Only this source.")] = None,
        start: Annotated[
            str | None, typer.Option("--from", metavar="T", help="Look from here on [where a stream begins].")
        ] = None,
        end: Annotated[str | None, typer.Option("--to", metavar="T", help="Look up to here [its watermark].")] = None,
        scope: Annotated[
            list[str] | None, typer.Option(metavar="ID", help="Only this node, group, job ...; may be repeated.")
        ] = None,
        as_json: Annotated[bool, typer.Option("--json", help="All of them, for programs.")] = False,
    ) -> int:
        """List the ranges that are not covered, and why. Ends with 1 where there are any.

        Covered is what lies between the first second collected and the watermark, less the gaps between them.
        Times are UTC: 2026-07-01T00:00:00Z, or counted back from now: -6h.
        """
        asked: dict[str, Any] = {
            "source": source,
            "start": None if start is None else moment_of("--from", start),
            "end": None if end is None else moment_of("--to", end),
            "scopes": scope or [],
        }
        options = options_of(context)
        told = run_to_end(_ask(options.settings(), asked))
        options.reporter.notes(told["notes"])
        if as_json:
            print_json(told)
        else:
            _show(told)
        return ExitStatus.FAILED if told["gaps"] or not told["has_history"] else ExitStatus.DONE


async def _ask(settings: Settings, asked: dict[str, Any]) -> dict[str, Any]:
    from collector.owner.access import reading

    async with reading(settings) as reached:
        return await reached.gaps(asked)


def _show(told: dict[str, Any]) -> None:
    found = told["gaps"]
    if not told["has_history"] and not found:
        return
    if not found:
        print_line(f"Nothing is missing in {told['streams']:,} streams.")
        return
    print_table(
        f"Not covered ({len(found):,} ranges)",
        ["source", "scope", "from", "to", "length", "reason"],
        [
            (
                gap["source"],
                gap["scope_id"],
                gap["from"],
                gap["to"],
                None if gap["seconds"] is None else rough_duration(gap["seconds"]),
                gap["reason"],
            )
            for gap in found[:GAPS_SHOWN_MAX]
        ],
    )
    if len(found) > GAPS_SHOWN_MAX:
        print_line(f"... {len(found) - GAPS_SHOWN_MAX:,} more: --json shows all")
