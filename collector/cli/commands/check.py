"""`pai-collector check`: will this configuration work?"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from collector.cli.exits import ExitStatus
from collector.cli.options import key_of, options_of
from collector.cli.output import print_json, print_line, print_table
from collector.cli.running import run_to_end
from collector.owner.access import access
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
        key = key_of()
        results = run_to_end(_ask(settings, key))
        if as_json:
            print_json(results)
        else:
            rows = [(r["what"], "ok" if r["ok"] else "FAILED", r["detail"]) for r in results]
            print_table("", ["what", "result", "detail"], rows)
        if any(r["is_credentials"] for r in results):
            return ExitStatus.CREDENTIALS
        return ExitStatus.DONE if all(r["ok"] for r in results) else ExitStatus.FAILED


async def _ask(settings: Settings, key: str) -> list[dict[str, Any]]:
    async with access(settings, key=key) as owner:
        return await owner.check()


def _say(settings: Settings) -> None:
    targets = settings.targets
    print_line("the configuration is valid")
    print_table(
        "",
        ["source", "targets"],
        [
            ("syslogs", f"{len(targets.nodes)} nodes"),
            ("user_metrics", f"{len(targets.resource_groups)} resource groups"),
        ],
    )
