"""`pai-collector resource-log`: ship the logs of a serving resource group to Log Service, or no longer."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

import typer

from collector.catalogue.products.eas import CREATE_RESOURCE_LOG, DESCRIBE_RESOURCE_LOG
from collector.cli.calling import asking, duration_of
from collector.cli.exits import ExitStatus
from collector.cli.groups import command_group
from collector.cli.log_shipping import LogShipping, Outcome, Shipping, require_reached
from collector.cli.options import options_of
from collector.cli.output import print_json, print_line, print_table, stderr
from collector.cli.running import run_to_end
from collector.cli.waiting import spinner
from collector.clock import SystemClock
from collector.errors import UsageError
from collector.owner.calls import checked
from collector.settings import Settings

TIMEOUT = "5m"

_GROUP = Annotated[
    str, typer.Argument(metavar="CLUSTER/RESOURCE", help="The resource group, such as cn-shanghai/eas-r-1a2b3c.")
]
_JSON = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
_NO_WAIT = Annotated[bool, typer.Option("--no-wait", help="Only ask for it.")]
_TIMEOUT = Annotated[str, typer.Option(metavar="DURATION", help="How long to wait at most.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = command_group("Ship the logs of a resource group to Log Service, or no longer.")

    @group.command()
    def enable(
        context: typer.Context,
        name: _GROUP,
        project: Annotated[str, typer.Option(metavar="NAME", help="The Log Service project.")],
        logstore: Annotated[str, typer.Option(metavar="NAME", help="The Logstore in the project.")],
        no_wait: _NO_WAIT = False,
        timeout: _TIMEOUT = TIMEOUT,
        as_json: _JSON = False,
    ) -> int:
        """Ship the logs, and wait until that is in place. What is in place already is left alone."""
        settings = options_of(context).settings()
        seconds = 0.0 if no_wait else duration_of("--timeout", timeout)
        cluster_id, resource_id = _ids(name)
        checked(
            CREATE_RESOURCE_LOG,
            {"ClusterId": cluster_id, "ResourceId": resource_id, "ProjectName": project, "LogStore": logstore},
        )

        async def change(shipping: LogShipping) -> Outcome:
            return await shipping.enable(project, logstore, timeout_seconds=seconds)

        outcome = run_to_end(_changed(settings, name, change))
        target = f"{project}/{logstore}"
        _tell(name, outcome, as_json=as_json, done=f"go to {target}", already=f"go to {target} already")
        require_reached(outcome, "enabled", seconds)
        return ExitStatus.DONE

    @group.command()
    def show(context: typer.Context, name: _GROUP, as_json: _JSON = False) -> int:
        """Show where the logs are shipped, and store it."""
        settings = options_of(context).settings()
        cluster_id, resource_id = _ids(name)
        shipping = run_to_end(LogShipping(asking(settings), SystemClock(), cluster_id, resource_id).look())
        if as_json:
            print_json(_as_json(name, shipping))
            return ExitStatus.DONE
        print_table(
            "",
            ["logs of", name],
            [
                ("shipped", shipping.is_configured),
                ("project", shipping.project_name or None),
                ("Logstore", shipping.log_store or None),
                ("status", shipping.status or None),
                ("message", shipping.message or None),
            ],
        )
        return ExitStatus.DONE

    @group.command()
    def disable(
        context: typer.Context,
        name: _GROUP,
        yes: Annotated[bool, typer.Option("--yes", help="Do not ask whether that is meant.")] = False,
        no_wait: _NO_WAIT = False,
        timeout: _TIMEOUT = TIMEOUT,
        as_json: _JSON = False,
    ) -> int:
        """Ship the logs no longer, and wait until that has come about. What was shipped stays in Log Service."""
        settings = options_of(context).settings()
        seconds = 0.0 if no_wait else duration_of("--timeout", timeout)
        _ids(name)
        if not yes and not _agreed(f"Ship the logs of {name} no longer?"):
            print_line("nothing was changed")
            return ExitStatus.FAILED

        async def change(shipping: LogShipping) -> Outcome:
            return await shipping.disable(timeout_seconds=seconds)

        outcome = run_to_end(_changed(settings, name, change))
        _tell(name, outcome, as_json=as_json, done="are shipped no longer", already="are not shipped")
        require_reached(outcome, "disabled", seconds)
        return ExitStatus.DONE

    app.add_typer(group, name="resource-log")


async def _changed(
    settings: Settings, name: str, change: Callable[[LogShipping], Coroutine[Any, Any, Outcome]]
) -> Outcome:
    with spinner(f"{name}: asking") as tell:
        shipping = LogShipping(
            asking(settings),
            SystemClock(),
            *_ids(name),
            on_look=lambda seen: tell(f"{name}: {seen.status or 'no status'}"),
        )
        return await change(shipping)


def _ids(name: str) -> tuple[str, str]:
    """Cluster and resource group of `CLUSTER/RESOURCE`. Raises UsageError."""
    cluster_id, slash, resource_id = name.partition("/")
    if not slash or not cluster_id or not resource_id or "/" in resource_id:
        raise UsageError(
            f"CLUSTER/RESOURCE: expected a cluster and a resource group such as cn-shanghai/eas-r-1a2b3c, got {name!r}"
        )
    checked(DESCRIBE_RESOURCE_LOG, {"ClusterId": cluster_id, "ResourceId": resource_id})
    return cluster_id, resource_id


def _agreed(question: str) -> bool:
    """Ask the person at the terminal. Raises UsageError where there is none."""
    if not (sys.stdin.isatty() and stderr().is_terminal):
        raise UsageError("disable asks before it does it, and there is no terminal to ask on", hint="--yes says yes")
    return typer.confirm(question, err=True)


def _tell(name: str, outcome: Outcome, *, as_json: bool, done: str, already: str) -> None:
    if as_json:
        print_json(_as_json(name, outcome.shipping) | {"changed": outcome.has_changed, "reached": outcome.is_reached})
    elif outcome.is_reached:
        print_line(f"the logs of {name} {done if outcome.has_changed else already}")
    else:
        print_line(f"asked for: the logs of {name} {done}; status {outcome.shipping.status or 'none'}")


def _as_json(name: str, shipping: Shipping) -> dict[str, object]:
    cluster_id, _, resource_id = name.partition("/")
    return {
        "cluster_id": cluster_id,
        "resource_id": resource_id,
        "project_name": shipping.project_name,
        "log_store": shipping.log_store,
        "status": shipping.status,
        "message": shipping.message,
    }
