"""`pai-collector call`: one call of any operation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from collector.api.operation import Operation
from collector.api.operations import CATALOGUE
from collector.api.parameters import read_parameters
from collector.cli.calling import asking
from collector.cli.exits import ExitStatus
from collector.cli.manual import LISTED, listing, listing_json, manual, operation_of
from collector.cli.masking import hide, masked
from collector.cli.options import options_of
from collector.cli.output import print_json, print_line, print_table, stderr
from collector.cli.running import run_to_end
from collector.errors import ConfigError, UsageError
from collector.owner.calls import CallResult, checked


def register(app: typer.Typer) -> None:
    """Add the command."""

    # `--help` behind an operation is about that operation.
    @app.command(context_settings={"help_option_names": []})
    def call(
        context: typer.Context,
        operation: Annotated[str | None, typer.Argument(metavar="OPERATION", help="Its name: see --list.")] = None,
        param: Annotated[
            list[str] | None,
            typer.Option(metavar="NAME=VALUE", help="A parameter; may be repeated. Lists with commas or as JSON."),
        ] = None,
        reveal: Annotated[bool, typer.Option("--reveal", help="Print secrets of the answer as they are.")] = False,
        listed: Annotated[bool, typer.Option("--list", help="List the operations.")] = False,
        as_json: Annotated[
            bool, typer.Option("--json", help="The list as JSON. An answer is JSON in any case.")
        ] = False,
        wants_help: Annotated[
            bool, typer.Option("--help", help="Show this, or with OPERATION what the operation takes.")
        ] = False,
    ) -> int:
        """Call an operation and print its answer, for example:
        call ListClusterNodes --param ClusterId=i110000000000000000001

        The call is throttled, repeated, metered and billed like any other.
        """
        if wants_help:
            print_text(manual(operation_of(operation)) if operation else context.get_help())
            return ExitStatus.DONE
        if listed:
            if as_json:
                print_json(listing_json(CATALOGUE.values()))
            else:
                print_table("", LISTED, listing(CATALOGUE.values()))
            return ExitStatus.DONE
        if operation is None:
            raise UsageError("call needs an operation", hint="pai-collector call --list shows all")
        row = operation_of(operation)
        parameters = checked(row, read_parameters(row, _split(row, param or [])))
        settings = options_of(context).settings()
        result = run_to_end(asking(settings)(row.name, parameters))
        _show(row, result, reveal=reveal)
        return ExitStatus.DONE


def print_text(text: str) -> None:
    """Print lines of a result."""
    for line in text.splitlines():
        print_line(line)


def _split(row: Operation, words: Sequence[str]) -> dict[str, str]:
    """`NAME=VALUE` words. Raises ConfigError with one line per mistake."""
    values: dict[str, str] = {}
    mistakes = []
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name:
            mistakes.append(f"--param: expected NAME=VALUE, got {word!r}")
        elif name in values:
            mistakes.append(f"{name}: given twice")
        values[name] = text
    if mistakes:
        raise ConfigError(mistakes, hint=f"pai-collector call {row.name} --help")
    return values


def _show(row: Operation, result: CallResult, *, reveal: bool) -> None:
    hide(result.answer, row.secret_fields)
    print_json(result.answer if reveal else masked(result.answer, row.secret_fields))
    console = stderr()
    if console.is_terminal:
        request = f", request {result.request_id}" if result.request_id else ""
        console.print(f"HTTP {result.http_status}{request}; {result.cost}", style="dim", soft_wrap=True)
