"""`pai-collector call`: one call of any operation."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from collector.catalogue.operation import Operation
from collector.catalogue.operations import CATALOGUE
from collector.catalogue.parameters import read_parameters
from collector.cli.calling import CALL, Ask, asking
from collector.cli.exits import ExitStatus
from collector.cli.manual import LISTED, listing, listing_json, manual, operation_of
from collector.cli.masking import hide, masked
from collector.cli.options import options_of
from collector.cli.output import print_json, print_line, print_table, stderr
from collector.cli.paging import PAGES_MAX, Pages
from collector.cli.running import run_to_end
from collector.errors import ConfigError, UsageError
from collector.owner.calls import CallResult, checked

METHODS = (CALL,)


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
        every_page: Annotated[
            bool, typer.Option("--all", help="Ask for all pages of a list, and print one answer with all records.")
        ] = False,
        pages_max: Annotated[int, typer.Option(min=1, metavar="N", help="With --all, pages at most.")] = PAGES_MAX,
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

        The call is throttled, repeated, metered and billed like any other. With --all each page is a call; Ctrl-C ends
        with the page that is being read, and what was read is printed. Status 1 says that there may be more.
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
        given = read_parameters(row, _split(row, param or []))
        # What says which page is asked for is filled in with each call.
        parameters = given if every_page else checked(row, given)
        settings = options_of(context).settings()
        if every_page:
            return _call_all(Pages(row, pages_max=pages_max), asking(settings), parameters, reveal=reveal)
        result = run_to_end(asking(settings)(row.name, parameters))
        _show(row, result, reveal=reveal)
        return ExitStatus.DONE


def _call_all(pages: Pages, ask: Ask, parameters: Mapping[str, Any], *, reveal: bool) -> ExitStatus:
    async def read() -> None:
        loop = asyncio.get_running_loop()

        def end() -> None:
            pages.stop.set()
            # Whoever insists ends at once.
            loop.remove_signal_handler(signal.SIGINT)
            signal.signal(signal.SIGINT, signal.default_int_handler)

        loop.add_signal_handler(signal.SIGINT, end)
        await pages.read(ask, parameters)

    try:
        run_to_end(read())
    finally:
        if pages.calls:
            answer, secrets = pages.answer, pages.row.secret_fields
            hide(answer, secrets)
            print_json(answer if reveal else masked(answer, secrets))
            note = f"{pages.calls:,} {'call' if pages.calls == 1 else 'calls'}: {pages.cost}"
            note += f"; not all: {pages.left_out}" if pages.left_out else ""
            stderr().print(note, soft_wrap=True, markup=False)
    if pages.stop.is_set():
        return ExitStatus.INTERRUPTED
    return ExitStatus.FAILED if pages.left_out else ExitStatus.DONE


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
