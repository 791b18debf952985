"""`pai-collector backfill`: collect an older range, beside a running service or not."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from collector.cli.calling import backfilling
from collector.cli.exits import ExitStatus
from collector.cli.options import options_of
from collector.cli.output import print_json, print_table
from collector.cli.ranges import answered, consented, followed, print_price, range_of, say_some
from collector.cli.report import Reporter
from collector.cli.running import run_to_end


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
        asked = range_of(source, start, end, scope)
        options = options_of(context)
        settings, reporter = options.settings(), options.reporter
        price = run_to_end(answered(settings, "backfill_price", asked))
        if not as_json:
            print_price(price, "backfill")
        left_out = [f"{one['scope_id']} is left out: {one['reason']}" for one in price["left_out"]]
        say_some(left_out, "{} more streams are left out", reporter)
        if not consented("Ask for it?", yes=yes, reporter=reporter):
            return ExitStatus.FAILED
        fixed = asked | {"start": price["start"], "end": price["end"]}
        report = run_to_end(followed(backfilling(settings), "backfill", fixed, "read"))[-1]["report"]
        if as_json:
            print_json({"price": price, "report": report})
        else:
            _show(report)
        return _ended(report, reporter)


def _show(report: dict[str, Any]) -> None:
    print_table(
        "",
        ["backfilled", ""],
        [
            ("streams", f"{report['streams'] - len(report['failures'])} of {report['streams']}"),
            ("rows added", f"{report['rows_added']:,}"),
            ("calls with an answer", f"{report['calls']:,}"),
        ],
    )


def _ended(report: dict[str, Any], reporter: Reporter) -> int:
    for failure in report["failures"]:
        reporter.line(failure["error"], word="failed")
    for hint in dict.fromkeys(failure["hint"] for failure in report["failures"] if failure["hint"]):
        reporter.line(hint, word="hint")
    if report["waiting"]:
        reporter.line("the store takes no rows; what was read waits in the journal", word="failed")
    if report["budget"]:
        reporter.line(report["budget"], word="failed")
        reporter.line("the same command goes on where this one ended", word="hint")
        return ExitStatus.BUDGET
    if report["is_refused"]:
        return ExitStatus.CREDENTIALS
    return ExitStatus.FAILED if report["failures"] or report["waiting"] else ExitStatus.DONE
