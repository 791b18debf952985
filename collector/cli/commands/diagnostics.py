"""`pai-collector diagnostics`: have nodes diagnosed, and see what was found."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from collector.catalogue.products.eflo_controller import CREATE_DIAGNOSTIC_TASK, DESCRIBE_DIAGNOSTIC_RESULT
from collector.cli.calling import Ask, asking, call_in, duration_of, session, text_of
from collector.cli.diagnosing import has_ended, minute_of, read_logs, tasks, watch
from collector.cli.exits import ExitStatus
from collector.cli.groups import command_group
from collector.cli.options import options_of
from collector.cli.output import print_json, print_line, print_table, stderr
from collector.cli.running import run_to_end
from collector.cli.waiting import Looked, spinner
from collector.clock import Clock, SystemClock
from collector.errors import CollectorError, ConfigError, ThrottledError, TransientError
from collector.owner.calls import checked
from collector.rpc import Access
from collector.settings import Settings

TIMEOUT = "30m"
CREATE_HELP = "pai-collector diagnostics create --help"

_JSON = Annotated[bool, typer.Option("--json", help="Print what the service answered as JSON.")]
_TIMEOUT = Annotated[str, typer.Option(metavar="DURATION", help="How long to watch at most.")]
_ID = Annotated[str, typer.Argument(metavar="ID", help="The diagnosis, diag-...")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = command_group("Have nodes diagnosed, and see what was found.")

    @group.command()
    def create(
        context: typer.Context,
        cluster: Annotated[str, typer.Option(metavar="ID", help="The cluster.")],
        node: Annotated[list[str], typer.Option(metavar="ID", help="A node; may be repeated.")],
        type_name: Annotated[
            str, typer.Option("--type", metavar="TYPE", help="What is diagnosed, such as NetDiag or CheckByAiJobLogs.")
        ],
        start: Annotated[
            str | None, typer.Option("--from", metavar="TIME", help="Start of the job: ISO 8601 or UNIX seconds.")
        ] = None,
        end: Annotated[
            str | None, typer.Option("--to", metavar="TIME", help="End of the job; whole minutes only.")
        ] = None,
        logs: Annotated[
            Path | None, typer.Option(metavar="FILE", help="Logs of the job, a JSON file (AiJobLogs).")
        ] = None,
        watched: Annotated[bool, typer.Option("--watch", help="Wait for the result and print it.")] = False,
        timeout: _TIMEOUT = TIMEOUT,
        as_json: _JSON = False,
    ) -> int:
        """Begin a diagnosis of nodes. The call is billed like any other."""
        settings = options_of(context).settings()
        seconds = duration_of("--timeout", timeout)
        parameters = task_parameters(cluster, node, type_name, start, end, logs)
        ask, clock = asking(settings), SystemClock()
        answer = run_to_end(begin(ask, parameters))
        diagnostic_id = text_of(answer, "DiagnosticId")
        if not watched:
            if as_json:
                print_json(answer)
            else:
                print_line(diagnostic_id)
                if stderr().is_terminal:
                    told = f"pai-collector diagnostics watch {diagnostic_id} waits for the result"
                    options_of(context).reporter.line(told, word="hint")
            return ExitStatus.DONE
        return _watched(ask, diagnostic_id, clock, seconds, as_json=as_json)

    @group.command()
    def show(context: typer.Context, diagnostic_id: _ID, as_json: _JSON = False) -> int:
        """Show a diagnosis as it is now, and store it."""
        ask = asking(options_of(context).settings())
        asked = checked(DESCRIBE_DIAGNOSTIC_RESULT, {"DiagnosticId": diagnostic_id})
        result = run_to_end(ask(DESCRIBE_DIAGNOSTIC_RESULT.name, asked))
        _show(result.answer, as_json=as_json)
        return ExitStatus.DONE

    @group.command(name="list")
    def listed(
        context: typer.Context,
        type_name: Annotated[str, typer.Option("--type", metavar="TYPE", help="Only diagnoses of this type.")] = "",
        limit: Annotated[int, typer.Option(min=1, metavar="N", help="At most so many.")] = 100,
        as_json: _JSON = False,
    ) -> int:
        """List the account's diagnoses. One call for each 100 of them."""
        found = run_to_end(_list(options_of(context).settings(), type_name, limit))
        if as_json:
            print_json(found)
            return ExitStatus.DONE
        fields = ("DiagId", "ClusterId", "ResourceId", "DiagContent", "Status", "DiagResult", "CreationTime",
                  "FinishedTime")  # fmt: skip
        print_table(
            "",
            ["id", "cluster", "node", "content", "status", "result", "created", "finished"],
            [[text_of(record, field) or None for field in fields] for record in found],
        )
        return ExitStatus.DONE

    @group.command(name="watch")
    def follow(context: typer.Context, diagnostic_id: _ID, timeout: _TIMEOUT = TIMEOUT, as_json: _JSON = False) -> int:
        """Look at a diagnosis until it has ended, then show it. Each look is a call, and is stored."""
        settings = options_of(context).settings()
        seconds = duration_of("--timeout", timeout)
        checked(DESCRIBE_DIAGNOSTIC_RESULT, {"DiagnosticId": diagnostic_id})
        return _watched(asking(settings), diagnostic_id, SystemClock(), seconds, as_json=as_json)

    app.add_typer(group, name="diagnostics")


def task_parameters(
    cluster: str, nodes: list[str], type_name: str, start: str | None, end: str | None, logs: Path | None
) -> dict[str, Any]:
    """Parameters of a new task. Raises ConfigError with one line per mistake."""
    mistakes = [f"{option}: expected text, got none" for option, value in
                (("--cluster", cluster), ("--type", type_name), *(("--node", node) for node in nodes))
                if not value.strip()]  # fmt: skip
    parameters: dict[str, Any] = {"ClusterId": cluster, "NodeIds": nodes, "DiagnosticType": type_name}
    if (start is None) != (end is None):
        mistakes.append("--from and --to: expected both or none")
    if start is not None:
        parameters["StartTime"] = minute_of("--from", start, mistakes)
    if end is not None:
        parameters["EndTime"] = minute_of("--to", end, mistakes)
    if not mistakes and start is not None and int(parameters["StartTime"]) > int(parameters["EndTime"]):
        mistakes.append(f"--to: expected a moment not before --from {start!r}, got {end!r}")
    if logs is not None:
        parameters["AiJobLogs"] = read_logs(logs, mistakes)
    if mistakes:
        raise ConfigError(mistakes, hint=CREATE_HELP)
    return checked(CREATE_DIAGNOSTIC_TASK, parameters)


async def begin(ask: Ask, parameters: dict[str, Any]) -> Any:
    """Begin a task; its answer. A call whose answer was lost is not repeated: it may have begun one."""
    try:
        return (await ask(CREATE_DIAGNOSTIC_TASK.name, parameters)).answer
    except TransientError as error:
        if not isinstance(error, ThrottledError):
            error.hint = "It may have begun all the same: pai-collector diagnostics list shows it before you try again."
        raise


def _watched(ask: Ask, diagnostic_id: str, clock: Clock, timeout_seconds: float, *, as_json: bool) -> int:
    looked = run_to_end(_watch(ask, diagnostic_id, clock, timeout_seconds))
    _show(looked.last, as_json=as_json)
    if not looked.has_happened:
        state = text_of(looked.last, "DiagnosticState") or "without a state"
        raise CollectorError(
            f"{diagnostic_id} has not ended in {timeout_seconds:g} s: it is {state}",
            hint=f"pai-collector diagnostics watch {diagnostic_id} goes on watching",
        )
    return ExitStatus.DONE


async def _watch(ask: Ask, diagnostic_id: str, clock: Clock, timeout_seconds: float) -> Looked[Any]:
    if not diagnostic_id:
        raise CollectorError("the service told no id of the diagnosis", hint="pai-collector diagnostics list")
    with spinner(f"{diagnostic_id}: asking") as tell:
        return await watch(
            ask,
            diagnostic_id,
            clock=clock,
            timeout_seconds=timeout_seconds,
            on_look=lambda answer: tell(f"{diagnostic_id}: {text_of(answer, 'DiagnosticState') or 'no state yet'}"),
        )


async def _list(settings: Settings, type_name: str, limit: int) -> list[Any]:
    async with session(settings, Access.CALLER) as reached:
        return await tasks(partial(call_in, reached), type_name=type_name, limit=limit)


def _show(answer: Any, *, as_json: bool) -> None:
    if as_json:
        print_json(answer)
        return
    nodes = answer.get("NodeIds") if isinstance(answer, dict) else None
    results = answer.get("DiagnosticResults") if isinstance(answer, dict) else None
    ended = text_of(answer, "EndTime") or (None if has_ended(answer) else "not yet")
    print_table(
        "",
        ["diagnosis", text_of(answer, "DiagnosticId")],
        [
            ("state", text_of(answer, "DiagnosticState") or None),
            ("type", text_of(answer, "DiagnosticType") or None),
            ("cluster", text_of(answer, "ClusterId") or None),
            ("nodes", ", ".join(map(str, nodes)) if isinstance(nodes, list) else None),
            ("created", text_of(answer, "CreatedTime") or None),
            ("ended", ended),
            ("results", "none" if not results else str(len(results)) if isinstance(results, list) else "1"),
        ],
    )
    for result in results if isinstance(results, list) else [results] if results else []:
        print_line(result if isinstance(result, str) else json.dumps(result, ensure_ascii=False))
