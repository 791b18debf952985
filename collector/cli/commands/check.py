"""`pai-collector check`: will this configuration work?"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from collector.cli.calling import ask
from collector.cli.exits import ExitStatus
from collector.cli.options import options_of
from collector.cli.output import print_json, print_line, print_table
from collector.cli.running import run_to_end
from collector.rpc import Access, Method, Request

if TYPE_CHECKING:
    from collector.owner.caller import Caller
    from collector.settings import Settings


class CheckRequest(Request, frozen=True, tag="check"):
    """Try clock, credentials, each operation once, and the store."""


class Result(msgspec.Struct, frozen=True):
    """One thing that was tried; see `owner.check.CheckResult`."""

    what: str
    ok: bool
    detail: str
    is_credentials: bool


async def handle(owner: Caller, request: CheckRequest) -> AsyncGenerator[list[Result], None]:
    """Try everything; see `owner.check.check_all`. Raises OwnedElsewhere if this process has no key."""
    from collector.owner.calls import refusal_to_call
    from collector.owner.check import check_all

    if owner.client is None:
        raise refusal_to_call(owner)
    yield [Result(**result.as_dict()) for result in await check_all(owner)]


CHECK = Method(CheckRequest, list[Result], handle, Access.CALLER)
METHODS = (CHECK,)


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
        results = run_to_end(ask(settings, CHECK, CheckRequest()))
        if as_json:
            print_json(msgspec.to_builtins(results))
        else:
            rows = [(r.what, "ok" if r.ok else "FAILED", r.detail) for r in results]
            print_table("", ["what", "result", "detail"], rows)
        if any(r.is_credentials for r in results):
            return ExitStatus.CREDENTIALS
        return ExitStatus.DONE if all(r.ok for r in results) else ExitStatus.FAILED


def _say(settings: Settings) -> None:
    from collector.owner.gateway import check_endpoints
    from collector.owner.streams import described

    check_endpoints(settings)
    print_line("the configuration is valid")
    print_table("", ["source", "what is watched"], described(settings))
