"""`pai-collector gaps`: what is not covered, and why."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from collector.cli.calling import session
from collector.cli.exits import ExitStatus
from collector.cli.options import options_of
from collector.cli.output import print_json, print_line, print_table
from collector.cli.ranges import moment_of, scopes_of
from collector.cli.running import run_to_end
from collector.owner.answers import Gaps
from collector.rpc import Access, Method, Request
from collector.units import rough_duration

if TYPE_CHECKING:
    from collector.owner.reader import Reader
    from collector.settings import Settings

GAPS_SHOWN_MAX = 200
PART = 5_000
"""Ranges in one event."""


class GapsRequest(Request, frozen=True, tag="gaps"):
    """What is not covered? Times as `owner.gaps.gaps` takes them."""

    source: str | None = None
    start: int | None = None
    end: int | None = None
    scopes: tuple[str, ...] = ()


async def handle(owner: Reader, request: GapsRequest) -> AsyncGenerator[Gaps, None]:
    """List what is not covered. Of many ranges each event has a part."""
    from collector.owner.gaps import gaps

    found = await gaps(owner, request.source, request.start, request.end, request.scopes)
    for first in range(0, max(1, len(found.gaps)), PART):
        yield msgspec.structs.replace(found, gaps=found.gaps[first : first + PART])


GAPS = Method(GapsRequest, Gaps, handle, Access.READER)
METHODS = (GAPS,)


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
        first = None if start is None else moment_of("--from", start)
        last = None if end is None else moment_of("--to", end)
        options = options_of(context)
        told = run_to_end(_ask(options.settings(), GapsRequest(source, first, last, scopes_of(scope))))
        options.reporter.notes(told.notes)
        if as_json:
            print_json(msgspec.to_builtins(told))
        else:
            _show(told)
        return ExitStatus.FAILED if told.gaps or not told.has_history else ExitStatus.DONE


async def _ask(settings: Settings, request: GapsRequest) -> Gaps:
    async with session(settings, Access.READER) as reached, aclosing(reached.stream(GAPS, request)) as parts:
        found = [part async for part in parts]
    return msgspec.structs.replace(found[0], gaps=[each for part in found for each in part.gaps])


def _show(told: Gaps) -> None:
    found = told.gaps
    if not told.has_history and not found:
        return
    if not found:
        print_line(f"Nothing is missing in {told.streams:,} streams.")
        return
    print_table(
        f"Not covered ({len(found):,} ranges)",
        ["source", "scope", "from", "to", "length", "reason"],
        [
            (
                gap.source,
                gap.scope_id,
                gap.start,
                gap.end,
                None if gap.seconds is None else rough_duration(gap.seconds),
                gap.reason,
            )
            for gap in found[:GAPS_SHOWN_MAX]
        ],
    )
    if len(found) > GAPS_SHOWN_MAX:
        print_line(f"... {len(found) - GAPS_SHOWN_MAX:,} more: --json shows all")
