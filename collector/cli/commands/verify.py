"""`pai-collector verify`: is a range stored whole, once, and as the service tells it?"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from collector.cli.calling import calling
from collector.cli.exits import ExitStatus
from collector.cli.options import options_of
from collector.cli.output import print_json, print_line, print_table
from collector.cli.ranges import answered, consented, followed, print_price, range_of
from collector.cli.report import Reporter
from collector.cli.running import run_to_end
from collector.errors import UsageError
from collector.owner.ranges import iso
from collector.units import rough_duration

FINDINGS_SHOWN_MAX = 20
KINDS = ("missing", "extra", "different")


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
        asked = range_of(source, start, end, scope) | {"sample": sample, "seed": seed}
        options = options_of(context)
        settings, reporter = options.settings(), options.reporter
        price = run_to_end(answered(settings, "verify_price", asked))
        if not as_json:
            print_price(price, "verify")
            if price["seed"] is not None:
                print_line(f"{price['windows']:,} random windows, --seed {price['seed']}")
        if not consented("Ask for it?", yes=yes, reporter=reporter):
            return ExitStatus.FAILED
        fixed = asked | {name: price[name] for name in ("start", "end", "seed")}
        words = run_to_end(followed(calling(settings), "verify", fixed, "verified"))
        findings = [word["finding"] for word in words if "finding" in word]
        return _told(price, findings, words[-1]["report"], reporter, as_json=as_json)


def _told(
    price: dict[str, Any], findings: list[dict[str, Any]], report: dict[str, Any], reporter: Reporter, *, as_json: bool
) -> int:
    if as_json:
        print_json({"price": price, "findings": findings, "report": report})
    else:
        _show(report, findings)
    for failure in report["failures"]:
        reporter.line(f"not judged to the end: {failure['error']}", word="failed")
    if report["rows_waiting"]:
        reporter.line(f"{report['rows_waiting']:,} rows of the range are still in the journal", word="hint")
    is_clean = not any(report[kind] for kind in KINDS)
    return ExitStatus.DONE if is_clean and not report["failures"] else ExitStatus.FAILED


def _show(report: dict[str, Any], findings: list[dict[str, Any]]) -> None:
    if findings:
        print_table(
            "Differences",
            ["kind", "table", "scope", "time", "field", "stored", "answered"],
            [row for finding in findings[:FINDINGS_SHOWN_MAX] for row in _rows(finding)],
        )
        total = sum(report[kind] for kind in KINDS)
        if total > FINDINGS_SHOWN_MAX:
            print_line(f"... {total - FINDINGS_SHOWN_MAX:,} more: --json shows the first {report['findings_told']:,}")
    print_table(
        "",
        ["verified", ""],
        [
            ("records answered", f"{report['records']:,}"),
            ("rows stored", f"{report['stored']:,}"),
            *((kind, f"{report[kind]:,}") for kind in KINDS),
            ("judged", f"{rough_duration(report['seconds'])} of {report['streams']:,} streams together"),
            ("not covered", rough_duration(report["seconds_not_covered"])),
            ("calls with an answer", f"{report['calls']:,}"),
        ],
    )


def _rows(finding: dict[str, Any]) -> list[tuple[Any, ...]]:
    head = (finding["kind"], finding["table"], finding["scope_id"], iso(finding["time"]))
    stored, answered = finding["stored"], finding["answered"]
    if finding["kind"] == "different":
        return [(*head, name, stored[name], answered[name]) for name in finding["fields"]]
    return [(*head, None, _brief(stored), _brief(answered))]


def _brief(record: dict[str, Any] | None) -> str | None:
    """What a person knows a record by."""
    if record is None:
        return None
    for name in ("msg", "content", "value"):
        if record.get(name) not in (None, ""):
            return f"{name}: {record[name]}"
    return "a record"
