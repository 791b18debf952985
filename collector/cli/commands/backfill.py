"""`pai-collector backfill`: collect an older range, beside a running service or not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from collector.cli.calling import ask, session
from collector.cli.exits import ExitStatus
from collector.cli.options import options_of
from collector.cli.output import print_json, print_table
from collector.cli.ranges import (
    Progress,
    RangePrice,
    RangeRequest,
    consented,
    followed,
    moment_of,
    print_price,
    say_some,
    scopes_of,
)
from collector.cli.report import Reporter
from collector.cli.running import run_to_end
from collector.errors import JournalError, Stopping
from collector.rpc import Access, Method
from collector.units import iso

if TYPE_CHECKING:
    from collector.owner.caller import Caller
    from collector.owner.instance import Owner
    from collector.pipeline.backfill import Asked, Outcome
    from collector.settings import Settings


class PriceRequest(RangeRequest, frozen=True, tag="backfill.price"):
    """What would a backfill of this range do, and cost?"""


class LeftOut(msgspec.Struct, frozen=True):
    """A stream that cannot be asked."""

    scope_id: str
    reason: str


class BackfillPrice(RangePrice, frozen=True):
    """What a backfill would do."""

    left_out: list[LeftOut]


class BackfillRequest(RangeRequest, frozen=True, tag="backfill"):
    """Collect what is missing of this range."""


class Failed(msgspec.Struct, frozen=True):
    """A stream that was not read to its end."""

    scope_id: str
    error: str
    hint: str


class Report(msgspec.Struct, frozen=True):
    """What was done."""

    streams: int
    calls: int
    rows_added: int
    seconds_read: int
    waiting: int
    """Ranges that wait for the store."""
    budget: str | None
    """Why the budget ended it."""
    is_refused: bool
    """Whether the key was refused."""
    failures: list[Failed]
    left_out: int


class Finished(msgspec.Struct, frozen=True, tag=True):
    """The end of the work."""

    report: Report


async def price(owner: Caller, request: PriceRequest) -> AsyncGenerator[BackfillPrice, None]:
    """Return what a backfill would do, in absolute times, and what it takes at least. Calls nothing."""
    from collector.owner import ranges

    window = await ranges.resolved(owner, request)
    streams, without = await ranges.asked_streams(owner, request, window)
    terms = await ranges.price(owner, streams)
    yield BackfillPrice(
        start=window.start,
        end=window.end,
        from_text=iso(window.start),
        to_text=iso(max(each.window.end for each in streams)),
        streams=len(streams),
        calls_at_least=terms.calls_at_least,
        cny_at_least=terms.cny_at_least,
        unpriced=terms.unpriced,
        left_out=[LeftOut(key.scope_id, reason) for key, reason in without],
    )


async def handle(owner: Owner, request: BackfillRequest) -> AsyncGenerator[Progress | Finished, None]:
    """Run a backfill and yield its progress, and at last its report.

    It ends with its client, and the next one resumes behind it.
    """
    from collector.owner import ranges
    from collector.owner.at_work import TOLD_SECONDS
    from collector.pipeline.backfill import Backfill, politely

    window = await ranges.resolved(owner, request)
    async with owner.at_work():
        streams, without = await ranges.asked_streams(owner, request, window)
        await ranges.claimed(owner, streams)
        with owner.at_work.backfilling(each.state.key for each in streams):
            before = await owner.journal.counters()
            work = Backfill(politely(owner.collecting(), owner.buckets), streams)
            task = asyncio.create_task(work.run(), name="backfill")
            try:
                while not task.done():
                    yield Progress(work.outcome.seconds, work.outcome.seconds_read)
                    await owner.clock.sleep(TOLD_SECONDS)
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                with suppress(JournalError, Stopping):
                    await work.seal()
            outcome = _outcome(task)
            with owner.haste():
                waiting = await _acknowledged(owner, streams)
            if not waiting:
                await work.end()
        after = await owner.journal.counters()
    yield Finished(_report(streams, outcome, waiting, before, after, len(without)))


def _outcome(task: asyncio.Task[Outcome]) -> Outcome:
    try:
        return task.result()
    except BaseExceptionGroup as group:
        # The workers share one fate: the first error says why.
        raise next(_leaves(group)) from None


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


async def _acknowledged(owner: Owner, streams: Sequence[Asked]) -> int:
    """Wait until the store has what was read; return how many ranges still wait."""
    from collector.owner.at_work import STORE_SECONDS_MAX, TOLD_SECONDS

    ids = {each.state.id for each in streams}
    until = owner.clock.monotonic() + STORE_SECONDS_MAX
    while waiting := await owner.journal.unsettled_backfills(ids):
        if owner.clock.monotonic() >= until:
            return waiting
        await owner.clock.sleep(TOLD_SECONDS)
    return 0


def _report(
    streams: Sequence[Asked],
    outcome: Outcome,
    waiting: int,
    before: Mapping[str, int],
    after: Mapping[str, int],
    left_out: int,
) -> Report:
    def counted(what: str) -> int:
        names = {f"backfill_{what}/{each.streams.operation.name}" for each in streams}
        return sum(after.get(name, 0) - before.get(name, 0) for name in names)

    return Report(
        streams=len(streams),
        calls=counted("calls"),
        rows_added=counted("rows"),
        seconds_read=outcome.seconds_read,
        waiting=waiting,
        budget=str(outcome.budget) if outcome.budget else None,
        is_refused=outcome.credentials is not None,
        failures=[Failed(key.scope_id, str(error), error.hint) for key, error in sorted(outcome.failures.items())],
        left_out=left_out,
    )


PRICE = Method(PriceRequest, BackfillPrice, price, Access.CALLER)
BACKFILL = Method(BackfillRequest, Progress | Finished, handle, Access.COLLECTOR)
METHODS = (PRICE, BACKFILL)


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def backfill(
        context: typer.Context,
        source: Annotated[str, typer.Argument(metavar="SOURCE", help="Source of the configuration.")],
        start: Annotated[str, typer.Option("--from", metavar="T", help="First second.")],
        end: Annotated[str, typer.Option("--to", metavar="T", help="First second after the range.")],
        scope: Annotated[
            list[str] | None, typer.Option(metavar="ID", help="Only this node, group, job ...; may be repeated.")
        ] = None,
        yes: Annotated[bool, typer.Option("--yes", help="Agree to the price.")] = False,
        as_json: Annotated[bool, typer.Option("--json", help="Tell price and report as JSON.")] = False,
    ) -> int:
        """Ask an older range again and store what is missing, for example: backfill syslogs --from -3d --to -2d

        The price is shown first. Quotas and budget are shared with a running service, whose own calls go first.
        When interrupted, the same command goes on where it was.
        """
        first, last, scopes = moment_of("--from", start), moment_of("--to", end), scopes_of(scope)
        options = options_of(context)
        settings, reporter = options.settings(), options.reporter
        told = run_to_end(ask(settings, PRICE, PriceRequest(source, first, last, scopes)))
        if not as_json:
            print_price(told, "backfill")
        left_out = [f"{one.scope_id} is left out: {one.reason}" for one in told.left_out]
        say_some(left_out, "{} more streams are left out", reporter)
        if not consented("Ask for it?", yes=yes, reporter=reporter):
            return ExitStatus.FAILED
        report = run_to_end(_backfilled(settings, BackfillRequest(source, told.start, told.end, scopes)))
        if as_json:
            print_json(msgspec.to_builtins({"price": told, "report": report}))
        else:
            _show(report)
        return _ended(report, reporter)


async def _backfilled(settings: Settings, request: BackfillRequest) -> Report:
    async with session(settings, Access.COLLECTOR) as reached:
        events = await followed(reached, BACKFILL, request, "read")
    report: Report = events[-1].report
    return report


def _show(report: Report) -> None:
    print_table(
        "",
        ["backfilled", ""],
        [
            ("streams", f"{report.streams - len(report.failures)} of {report.streams}"),
            ("rows added", f"{report.rows_added:,}"),
            ("calls with an answer", f"{report.calls:,}"),
        ],
    )


def _ended(report: Report, reporter: Reporter) -> int:
    for failure in report.failures:
        reporter.line(failure.error, word="failed")
    for hint in dict.fromkeys(failure.hint for failure in report.failures if failure.hint):
        reporter.line(hint, word="hint")
    if report.waiting:
        reporter.line("the store takes no rows; what was read waits in the journal", word="failed")
    if report.budget:
        reporter.line(report.budget, word="failed")
        reporter.line("the same command goes on where this one ended", word="hint")
        return ExitStatus.BUDGET
    if report.is_refused:
        return ExitStatus.CREDENTIALS
    return ExitStatus.FAILED if report.failures or report.waiting else ExitStatus.DONE
