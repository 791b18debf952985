"""`pai-collector run`: collect, once or until told to stop."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import structlog
import typer

from collector.api.gateways import ApiKey
from collector.cli.calling import key_for
from collector.cli.exits import ExitStatus
from collector.cli.methods import find_method, import_methods
from collector.cli.options import options_of
from collector.cli.output import print_json, print_table
from collector.cli.report import Reporter
from collector.cli.running import run_to_end, showing, source_bars
from collector.clock import SystemClock
from collector.errors import UsageError
from collector.owner.instance import Owner
from collector.owner.recorder import recording
from collector.owner.streams import lacks
from collector.owner.waiting import wait_for_journal
from collector.pipeline.clock_watch import HINT
from collector.pipeline.run import OnceRunner, RunReport
from collector.rpc import listening
from collector.service.serving import Reload, serve
from collector.settings import Settings

log = structlog.get_logger(__name__)

FAILURES_SHOWN_MAX = 20
INTERNAL_TABLES = frozenset({"api_call_parts"})


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def run(
        context: typer.Context,
        once: Annotated[bool, typer.Option("--once", help="Catch every stream up, then end.")] = False,
        source: Annotated[
            list[str] | None, typer.Option(metavar="NAME", help="Only this source; may be repeated.")
        ] = None,
        shard: Annotated[
            str | None, typer.Option(metavar="I/N", help="Collect only this part of the streams [shard].")
        ] = None,
        record: Annotated[
            Path | None, typer.Option(metavar="DIR", help="Write the API traffic to files there, without secrets.")
        ] = None,
        as_json: Annotated[bool, typer.Option("--json", help="Print what was done as JSON; with --once.")] = False,
    ) -> int:
        """Collect until told to stop; with --once, collect what is due and end.

        SIGTERM and Ctrl-C end it in good order, a second one at once. SIGHUP reads the configuration again.
        """
        options = options_of(context)

        def configured() -> Settings:
            return options.settings(shard=shard)

        settings = configured()
        names = _known(source or [], settings)
        key = key_for(settings)
        if once:
            return run_to_end(collect_once(settings, key, names, options.reporter, as_json=as_json, record=record))
        if as_json:
            raise UsageError("--json tells what one run did; it goes with --once", hint="pai-collector status --json")
        asyncio.run(_serve(settings, key, configured, names, record))
        return ExitStatus.DONE


def _known(names: list[str], settings: Settings) -> list[str]:
    known = list(type(settings.sources).model_fields)
    for name in names:
        if name not in known:
            raise UsageError(f"--source: got {name!r}; expected one of {', '.join(known)}")
    return names


async def _serve(settings: Settings, key: ApiKey, reload: Reload, only: list[str], record: Path | None) -> None:
    import_methods()
    async with recording(record) as recorder:
        await serve(settings, key, reload=reload, find=find_method, only=only, recorder=recorder)


async def collect_once(
    settings: Settings,
    key: ApiKey,
    only: list[str],
    reporter: Reporter,
    *,
    as_json: bool,
    record: Path | None = None,
) -> int:
    """One run over every stream; returns the exit status."""
    async with (
        recording(record) as recorder,
        await wait_for_journal(partial(Owner.open, settings, key=key, recorder=recorder), SystemClock()) as owner,
        listening(owner, find_method),
    ):
        runner = owner.once(only)
        async with showing(source_bars(runner)):
            report = await runner.run()
        _say_idle(settings, report, only or list(type(settings.sources).model_fields))
        notes = await owner.mismatches()
    _summary(runner, report, reporter, notes, as_json=as_json)
    if report.refused:
        return ExitStatus.CREDENTIALS
    if report.budget is not None:
        return ExitStatus.BUDGET
    return ExitStatus.FAILED if report.failures or report.clock or report.streams_waiting else ExitStatus.DONE


def _say_idle(settings: Settings, report: RunReport, names: list[str]) -> None:
    for name in names:
        if name not in report.sources:
            enabled = getattr(settings.sources, name).enabled
            log.info("source_skipped", source=name, reason=lacks(settings, name) if enabled else "it is switched off")


def _progress(report: RunReport) -> str:
    behind = report.failures.keys() | report.held_back
    collected = f"{report.streams - len(behind)} of {report.streams + report.streams_waiting}"
    return f"{collected} collected; nothing is known to be caught up" if report.clock else f"{collected} caught up"


def _summary(runner: OnceRunner, report: RunReport, reporter: Reporter, notes: list[str], *, as_json: bool) -> None:
    rows = {name: count for name, count in sorted(runner.shipped.rows.items()) if name not in INTERNAL_TABLES}
    failures = [
        {"operation": key.operation, "scope_id": key.scope_id, "error": str(error)}
        for key, error in sorted(report.failures.items())
    ]
    if as_json:
        told: dict[str, Any] = {
            "streams": report.streams,
            "streams_failed": len(failures),
            "rows_stored": rows,
            "calls": report.calls,
            "cost_cny": float(report.cost_cny),
            "streams_held_back": len(report.held_back),
            "streams_waiting": report.streams_waiting,
            "budget_reached": str(report.budget) if report.budget else None,
            "failures": failures,
            "clock": report.clock or None,
            "notes": notes,
        }
        print_json(told)
        return
    stored = ", ".join(f"{count:,} in {name}" for name, count in rows.items()) or "none: nothing new"
    calls = ", ".join(f"{count:,} {name}" for name, count in report.calls.items() if count) or "none"
    print_table(
        "",
        ["collected", ""],
        [
            ("streams", _progress(report)),
            ("rows stored", stored),
            ("calls", calls),
            ("cost", f"{report.cost_cny} CNY after the free tier"),
        ],
    )
    reporter.notes(notes)
    if report.clock:
        reporter.line(f"the clock is in doubt: {report.clock}", word="failed")
        reporter.line(HINT, word="hint")
    if report.streams_waiting:
        reporter.line(
            f"{report.streams_waiting} streams were not polled: the journal of another shard may hold rows of them",
            word="failed",
        )
        reporter.line("run that shard; if it is gone for good, pai-collector journal forget ID", word="hint")
    if report.budget is not None:
        reporter.line(str(report.budget), word="failed")
        reporter.line(report.budget.hint, word="hint")
    for failure in failures[:FAILURES_SHOWN_MAX]:
        reporter.line(failure["error"], word="failed")
    if len(failures) > FAILURES_SHOWN_MAX:
        reporter.line(f"{len(failures) - FAILURES_SHOWN_MAX} more streams failed: pai-collector status", word="hint")
    for hint in dict.fromkeys(error.hint for error in report.failures.values() if error.hint):
        reporter.line(hint, word="hint")
