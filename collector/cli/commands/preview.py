"""`pai-collector preview`: what a source would store, without storing it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from collector.cli.calling import calling, duration_of
from collector.cli.options import options_of
from collector.cli.output import print_json, print_line, print_table
from collector.cli.running import run_to_end

if TYPE_CHECKING:
    from collector.settings import Settings

EMPTY: tuple[object, ...] = ("", None, [], "{}")


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def preview(
        context: typer.Context,
        source: Annotated[str, typer.Argument(metavar="SOURCE", help="A source, as in [sources.SOURCE].")],
        scope: Annotated[str, typer.Option(metavar="ID", help="This node, group, job ... [its first one].")] = "",
        last: Annotated[str, typer.Option(metavar="DURATION", help="How far back, at most 6h.")] = "1h",
        as_json: Annotated[bool, typer.Option("--json", help="All columns and rows, for programs.")] = False,
    ) -> None:
        """Ask for one page of a source and show its rows as they would be stored. Stores nothing.

        The call is throttled, metered and billed like any other. The source may be switched off.
        """
        asked = {"source": source, "scope": scope, "seconds": max(1, int(duration_of("--last", last)))}
        told = run_to_end(_ask(options_of(context).settings(), asked))
        if as_json:
            tables = {table["table"]: _records(table) for table in told["tables"]}
            print_json({**told, "tables": tables})
        else:
            _show(told)


async def _ask(settings: Settings, asked: Mapping[str, Any]) -> dict[str, Any]:
    async with calling(settings) as owner:
        return await owner.answer("preview", asked)


def _show(told: Mapping[str, Any]) -> None:
    for table in told["tables"]:
        records = _records(table)
        # A page of log lines has columns that no service fills.
        filled = [name for name in table["columns"] if any(record[name] not in EMPTY for record in records)]
        empty = [name for name in table["columns"] if name not in filled]
        title = f"{table['table']}: {len(records)} rows" + (f"; empty: {', '.join(empty)}" if records and empty else "")
        if records:
            print_table(title, filled, ([record[name] for name in filled] for record in records))
        else:
            print_line(title)
        print_line()
    if not told["tables"]:
        print_line("the answer holds no rows")
    range_text = f", {told['from']} to {told['to']}" if told["from"] else ""
    more = "; there are more pages" if told["has_more"] else ""
    outside = f"; {told['outside']} rows outside the range are not shown" if told["outside"] else ""
    print_line(f"{told['source']} of {told['scope_id']}{range_text}{more}{outside}")
    print_line(f"nothing is stored; one call of {told['operation']}: {told['cost']}")


def _records(table: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {name: _value(name, value) for name, value in zip(table["columns"], row, strict=True)} for row in table["rows"]
    ]


def _value(column: str, value: Any) -> Any:
    is_time = column == "time" or column.endswith(("_time", "_at"))
    return datetime.fromtimestamp(value, UTC) if is_time and isinstance(value, int) else value
