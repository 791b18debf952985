"""`pai-collector verify`: is a range stored whole, once, and as the service tells it?"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from random import Random
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import typer

from collector.cli.calling import ask, session
from collector.cli.exits import ExitStatus
from collector.cli.options import options_of
from collector.cli.output import print_json, print_line, print_table
from collector.cli.ranges import (
    Progress,
    RangePrice,
    RangeRequest,
    consented,
    followed,
    moment_of,
    print_price,
    scopes_of,
)
from collector.cli.report import Reporter
from collector.cli.running import run_to_end
from collector.errors import (
    ApiError,
    BudgetReached,
    CollectorError,
    CredentialsError,
    Stopping,
    StoreError,
    UsageError,
)
from collector.model import Window
from collector.rpc import Access, Method
from collector.units import iso, rough_duration

if TYPE_CHECKING:
    from collector.model import StreamKey
    from collector.owner.caller import Caller
    from collector.pipeline import verify as comparing
    from collector.pipeline.backfill import Asked
    from collector.settings import Settings

WORKERS_MAX: Final = 8
JOURNAL_SECONDS_MAX: Final = 60.0
"""Rows of the range that are in the journal are waited for this long."""
FINDINGS_TOLD_MAX: Final = 1_000
"""Differences that are reported one by one; all are counted."""
SEED_MAX: Final = 2**31

FINDINGS_SHOWN_MAX = 20
KINDS = ("missing", "extra", "different")


class VerifyRequest(RangeRequest, frozen=True, tag="verify"):
    """Compare this range with the service."""

    sample: int | None = None
    """Windows that are chosen at random; None for all of the range."""
    seed: int | None = None


class PriceRequest(VerifyRequest, frozen=True, tag="verify.price"):
    """What would be compared, and what would that cost?"""


class VerifyPrice(RangePrice, frozen=True):
    """What a verification would compare."""

    windows: int
    seconds: int
    seconds_not_covered: int
    seed: int | None


class Finding(msgspec.Struct, frozen=True):
    """One difference; see `pipeline.verify.Finding`."""

    kind: str
    table: str
    scope_id: str
    time: int
    answered: dict[str, Any] | None
    stored: dict[str, Any] | None
    fields: tuple[str, ...]


class Found(msgspec.Struct, frozen=True, tag=True):
    """A difference was found."""

    finding: Finding


class Failed(msgspec.Struct, frozen=True):
    """A stream that was not compared to its end."""

    scope_id: str
    error: str


class Report(msgspec.Struct, frozen=True):
    """What was compared."""

    from_text: str = msgspec.field(name="from")
    to_text: str = msgspec.field(name="to")
    streams: int
    windows: int
    seconds: int
    seconds_not_covered: int
    rows_waiting: int
    """Rows of the range that are still in the journal."""
    seed: int | None
    calls: int
    records: int
    stored: int
    missing: int
    extra: int
    different: int
    findings_told: int
    failures: list[Failed]

    @property
    def differences(self) -> int:
        return self.missing + self.extra + self.different


class Finished(msgspec.Struct, frozen=True, tag=True):
    """The end of the work."""

    report: Report


async def price(owner: Caller, request: PriceRequest) -> AsyncGenerator[VerifyPrice, None]:
    """Return what a verification would compare, in absolute times, and what it takes at least. Calls nothing."""
    from collector.owner import ranges

    window = await ranges.resolved(owner, request)
    judged, seed, uncovered = await _judged(owner, request, window)
    if not judged:
        raise UsageError("nothing of the range is covered", hint="pai-collector gaps tells what is missing and why")
    terms = await ranges.price(owner, judged)
    yield VerifyPrice(
        start=window.start,
        end=window.end,
        from_text=iso(window.start),
        to_text=iso(window.end),
        streams=len({each.state.key for each in judged}),
        calls_at_least=terms.calls_at_least,
        cny_at_least=terms.cny_at_least,
        unpriced=terms.unpriced,
        windows=len(judged),
        seconds=sum(each.window.seconds for each in judged),
        seconds_not_covered=uncovered,
        seed=seed,
    )


async def handle(owner: Caller, request: VerifyRequest) -> AsyncGenerator[Progress | Found | Finished, None]:
    """Compare a range and yield each difference and the progress, and at last the report."""
    from collector.owner import ranges
    from collector.owner.at_work import TOLD_SECONDS
    from collector.pipeline.backfill import politely
    from collector.pipeline.verify import Verifier

    window = await ranges.resolved(owner, request)
    async with owner.asking():
        judged, seed, uncovered = await _judged(owner, request, window)
        waiting = await _shipped(owner, judged)
        verifier = Verifier(politely(owner.collecting(), owner.buckets), owner.store)
        failures: dict[StreamKey, str] = {}
        findings: list[comparing.Finding] = []
        task = asyncio.create_task(_judge(verifier, judged, findings, failures), name="verify")
        total, told = sum(each.window.seconds for each in judged), 0
        try:
            while True:
                is_done = task.done()
                while told < len(findings):
                    yield Found(_finding(findings[told]))
                    told += 1
                yield Progress(total, verifier.verified.seconds)
                if is_done:
                    break
                await owner.clock.sleep(TOLD_SECONDS)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        task.result()
    done = verifier.verified
    yield Finished(
        Report(
            from_text=iso(window.start),
            to_text=iso(window.end),
            streams=len({each.state.key for each in judged}),
            windows=done.windows,
            seconds=done.seconds,
            seconds_not_covered=uncovered,
            rows_waiting=waiting,
            seed=seed,
            calls=done.calls,
            records=done.records,
            stored=done.stored,
            missing=done.kinds["missing"],
            extra=done.kinds["extra"],
            different=done.kinds["different"],
            findings_told=len(findings),
            failures=[Failed(key.scope_id, text) for key, text in sorted(failures.items())],
        )
    )


def _finding(found: comparing.Finding) -> Finding:
    return Finding(
        found.kind, found.table, found.scope_id, found.time, found.answered, found.stored, tuple(found.fields)
    )


async def _judge(
    verifier: comparing.Verifier,
    judged: Sequence[Asked],
    findings: list[comparing.Finding],
    failures: dict[StreamKey, str],
) -> None:
    queue = iter(judged)
    stops: list[CollectorError] = []

    async def worker() -> None:
        for each in queue:
            if stops:
                return
            try:
                async for finding in verifier.judge(each.streams.source, each.state, each.window):
                    if len(findings) < FINDINGS_TOLD_MAX:
                        findings.append(finding)
            except (CredentialsError, BudgetReached, Stopping) as error:
                stops.append(error)
            except (ApiError, StoreError) as error:
                # What is left of the stream is not judged; the others are.
                failures[each.state.key] = str(error)

    async with asyncio.TaskGroup() as group:
        for _ in range(min(WORKERS_MAX, len(judged))):
            group.create_task(worker())
    if stops:
        raise stops[0]


async def _judged(owner: Caller, request: VerifyRequest, window: Window) -> tuple[list[Asked], int | None, int]:
    """Return what of the range is covered and acknowledged, by stream; the seed of a sample; seconds not covered."""
    from collector.journal.coverage import less
    from collector.owner.ranges import asked_streams
    from collector.pipeline.backfill import Asked
    from collector.pipeline.verify import sampled

    streams, _ = await asked_streams(owner, request, window)
    gaps = await owner.journal.open_gaps()
    by_key = {each.state.key: each for each in streams}
    covered: list[tuple[StreamKey, Window]] = []
    for key, each in by_key.items():
        start, end = max(window.start, each.state.collected_from or 0), min(window.end, each.state.watermark or 0)
        if start < end:
            covered += [(key, left) for left in less(Window(start, end), [gap.window for gap in gaps.get(key, ())])]
    missing = window.seconds * len(streams) - sum(left.seconds for _, left in covered)
    seed: int | None = None
    if request.sample:
        seed = owner.random.randrange(SEED_MAX) if request.seed is None else request.seed
        covered = sampled(covered, request.sample, Random(seed))
    return [Asked(by_key[key].streams, by_key[key].state, left) for key, left in covered], seed, missing


async def _shipped(owner: Caller, judged: Sequence[Asked]) -> int:
    """Wait for rows of the range that are still in the journal; return how many stay there."""
    from collector.owner.at_work import TOLD_SECONDS

    ranges = [(each.state.id, each.window) for each in judged]
    waiting = await owner.journal.rows_waiting(ranges)
    if not waiting:
        return 0
    from collector.owner.instance import Owner

    if not isinstance(owner, Owner):
        # It leaves the store alone: the next process that collects ships them.
        return waiting
    until = owner.clock.monotonic() + JOURNAL_SECONDS_MAX
    with owner.haste():
        while waiting and owner.clock.monotonic() < until:
            await owner.clock.sleep(TOLD_SECONDS)
            waiting = await owner.journal.rows_waiting(ranges)
    return waiting


PRICE = Method(PriceRequest, VerifyPrice, price, Access.CALLER)
VERIFY = Method(VerifyRequest, Progress | Found | Finished, handle, Access.CALLER)
METHODS = (PRICE, VERIFY)


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def verify(
        context: typer.Context,
        source: Annotated[str, typer.Argument(metavar="SOURCE", help="Source of the configuration.")],
        start: Annotated[str, typer.Option("--from", metavar="T", help="First second.")],
        end: Annotated[str, typer.Option("--to", metavar="T", help="First second after the range.")],
        scope: Annotated[
            list[str] | None, typer.Option(metavar="ID", help="Only this node, group, job ...; may be repeated.")
        ] = None,
        sample: Annotated[
            int | None, typer.Option(metavar="N", min=1, help="Only N random windows of ten minutes.")
        ] = None,
        seed: Annotated[
            int | None, typer.Option(metavar="S", min=0, help="The windows that were chosen with this seed.")
        ] = None,
        yes: Annotated[bool, typer.Option("--yes", help="Agree to the price.")] = False,
        as_json: Annotated[bool, typer.Option("--json", help="Tell everything as JSON.")] = False,
    ) -> int:
        """Ask a range again and hold every field of every record against the store; changes nothing.

        Ends with 1 where a record is missing, stored more often than the service has it, or differs. Only what is
        covered is judged: pai-collector gaps tells the rest. The price is shown first.
        """
        if seed is not None and sample is None:
            raise UsageError("--seed chooses the windows of a sample", hint="add --sample N")
        first, last, scopes = moment_of("--from", start), moment_of("--to", end), scopes_of(scope)
        options = options_of(context)
        settings, reporter = options.settings(), options.reporter
        told = run_to_end(ask(settings, PRICE, PriceRequest(source, first, last, scopes, sample, seed)))
        if not as_json:
            print_price(told, "verify")
            if told.seed is not None:
                print_line(f"{told.windows:,} random windows, --seed {told.seed}")
        if not consented("Ask for it?", yes=yes, reporter=reporter):
            return ExitStatus.FAILED
        request = VerifyRequest(source, told.start, told.end, scopes, sample, told.seed)
        findings, report = run_to_end(_verified(settings, request))
        if as_json:
            print_json(msgspec.to_builtins({"price": told, "findings": findings, "report": report}))
        else:
            _show(report, findings)
        return _ended(report, reporter)


async def _verified(settings: Settings, request: VerifyRequest) -> tuple[list[Finding], Report]:
    async with session(settings, Access.CALLER) as reached:
        *found, finished = await followed(reached, VERIFY, request, "verified")
    return [event.finding for event in found], finished.report


def _ended(report: Report, reporter: Reporter) -> int:
    for failure in report.failures:
        reporter.line(f"not judged to the end: {failure.error}", word="failed")
    if report.rows_waiting:
        reporter.line(f"{report.rows_waiting:,} rows of the range are still in the journal", word="hint")
    return ExitStatus.FAILED if report.differences or report.failures else ExitStatus.DONE


def _show(report: Report, findings: list[Finding]) -> None:
    if findings:
        print_table(
            "Differences",
            ["kind", "table", "scope", "time", "field", "stored", "answered"],
            [row for finding in findings[:FINDINGS_SHOWN_MAX] for row in _rows(finding)],
        )
        if (total := report.differences) > FINDINGS_SHOWN_MAX:
            print_line(f"... {total - FINDINGS_SHOWN_MAX:,} more: --json shows the first {report.findings_told:,}")
    print_table(
        "",
        ["verified", ""],
        [
            ("records answered", f"{report.records:,}"),
            ("rows stored", f"{report.stored:,}"),
            *((kind, f"{getattr(report, kind):,}") for kind in KINDS),
            ("judged", f"{rough_duration(report.seconds)} of {report.streams:,} streams together"),
            ("not covered", rough_duration(report.seconds_not_covered)),
            ("calls with an answer", f"{report.calls:,}"),
        ],
    )


def _rows(finding: Finding) -> list[tuple[Any, ...]]:
    head = (finding.kind, finding.table, finding.scope_id, iso(finding.time))
    stored, answered = finding.stored, finding.answered
    if finding.kind == "different" and stored is not None and answered is not None:
        return [(*head, name, stored[name], answered[name]) for name in finding.fields]
    return [(*head, None, _brief(stored), _brief(answered))]


def _brief(record: dict[str, Any] | None) -> str | None:
    """What a person knows a record by."""
    if record is None:
        return None
    for name in ("msg", "content", "value"):
        if record.get(name) not in (None, ""):
            return f"{name}: {record[name]}"
    return "a record"
