"""`pai-collector check`: will this configuration work?"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from collector.cli.calling import calling
from collector.cli.exits import ExitStatus
from collector.cli.options import options_of
from collector.cli.output import print_json, print_line, print_table
from collector.cli.running import run_to_end
from collector.owner.gateway import check_endpoints
from collector.owner.streams import described
from collector.settings import Settings


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def check(
        context: typer.Context,
        offline: Annotated[bool, typer.Option("--offline", help="Read the configuration only.")] = False,
        as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
    ) -> int:
        """Validate the configuration; unless offline, try the key, each operation once, and the store.

        The calls are billed like any other. No row is stored.
        """
        settings = options_of(context).settings()
        if offline:
            _say(settings)
            return ExitStatus.DONE
        results = run_to_end(_ask(settings))
        if as_json:
            print_json(results)
        else:
            rows = [(r["what"], "ok" if r["ok"] else "FAILED", r["detail"]) for r in results]
            print_table("", ["what", "result", "detail"], rows)
        if any(r["is_credentials"] for r in results):
            return ExitStatus.CREDENTIALS
        return ExitStatus.DONE if all(r["ok"] for r in results) else ExitStatus.FAILED


async def _ask(settings: Settings) -> list[dict[str, Any]]:
    async with calling(settings) as owner:
        return await owner.check()


def _say(settings: Settings) -> None:
    check_endpoints(settings)
    print_line("the configuration is valid")
    print_table("", ["source", "what is watched"], described(settings))
