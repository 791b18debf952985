"""`pai-collector status`: what is collected up to when, what it costs, and what fails."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from collector.cli.calling import ask
from collector.cli.exits import ExitStatus
from collector.cli.options import options_of
from collector.cli.output import print_json, print_line, print_sentence, print_table
from collector.cli.running import run_to_end
from collector.model import ENDED
from collector.owner.answers import Status
from collector.rpc import Access, Method, Request
from collector.units import rough_duration, rough_size

if TYPE_CHECKING:
    from collector.owner.reader import Reader

STREAMS_SHOWN_MAX = 40
DELAYS = ("half within", "99 % within", "99.9 % within", "latest")
ENDS = {"account": ExitStatus.CREDENTIALS, "budget": ExitStatus.BUDGET}
"""Kinds of reasons with an exit status of their own."""


class StatusRequest(Request, frozen=True, tag="status"):
    """How well are things?"""


async def handle(owner: Reader, request: StatusRequest) -> AsyncGenerator[Status, None]:
    """Return the status; see `owner.status.status`."""
    from collector.owner.status import status

    yield await status(owner)


STATUS = Method(StatusRequest, Status, handle, Access.READER)
METHODS = (STATUS,)


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def status(
        context: typer.Context,
        as_json: Annotated[bool, typer.Option("--json", help="Everything, for programs.")] = False,
    ) -> int:
        """Show how well things are, streams with watermark and freshness, quota use, spend of the month, the journal.

        Ends with 0 where all is well, 3 where the key is refused, 4 where the budget is reached, else with 1.
        """
        options = options_of(context)
        told = run_to_end(ask(options.settings(), STATUS, StatusRequest()))
        options.reporter.notes(told.notes)
        if as_json:
            print_json(msgspec.to_builtins(told))
        else:
            _show(told)
        kinds = {reason.kind for reason in told.reasons}
        return next((status for kind, status in ENDS.items() if kind in kinds), ExitStatus(not told.is_well))


def _show(told: Status) -> None:
    print_sentence(told.headline)
    for reason in told.reasons:
        print_sentence(f"  {reason.text}{': ' if reason.detail else ''}{reason.detail} -> {reason.action}")
    if doubt := told.clock.doubt:
        print_sentence(f"Clock: {doubt}; it is taken to be {told.now}.")
    print_line()
    if told.stops:
        print_table(
            "Stopped",
            ["what", "operation", "since", "next try", "why"],
            [(s.what, s.operation, s.since, s.next_try, s.error) for s in told.stops],
            below=("why",),
        )
    if told.sources:
        print_table(
            "Sources",
            ["source", "operation", "streams", "behind", "promised", "waiting", "ticks missed"],
            [
                (
                    s.source,
                    s.operation,
                    ", ".join(f"{count:,} {state}" for state, count in s.states.items()),
                    _ago(s.freshness_seconds),
                    _ago(s.freshness_promise_seconds),
                    s.due,
                    s.ticks_missed,
                )
                for s in told.sources
            ],
            right=("behind", "promised"),
        )
    if told.delays:
        print_table(
            "Arrival of records in the last day",
            ["source", *DELAYS],
            [
                (source, *(_ago(getattr(delay, name)) for name in ("p50", "p99", "p999", "most")))
                for source, delay in told.delays.items()
            ],
            right=DELAYS,
        )
    # What fails comes first, then what is furthest behind: that is what a person looks for.
    streams = sorted(
        (s for s in told.streams if s.state != ENDED),
        key=lambda s: (s.error is None, -(s.freshness_seconds or 0)),
    )
    ended = told.states.get(ENDED, 0)
    print_table(
        f"Streams ({told.stream_count - ended}" + (f", and {ended} that ended)" if ended else ")"),
        ["operation", "scope", "state", "watermark", "freshness", "next try", "error"],
        [
            (
                s.operation,
                s.scope_id,
                s.state,
                s.watermark,
                _ago(s.freshness_seconds),
                s.next_try,
                s.error,
            )
            for s in streams[:STREAMS_SHOWN_MAX]
        ],
        right=("freshness",),
        below=("next try", "error"),
    )
    if len(streams) > STREAMS_SHOWN_MAX:
        print_line(f"... {told.stream_count - ended - STREAMS_SHOWN_MAX} more: --json shows all")
    print_table(
        f"Calls in {told.month} (billing month, UTC+8)",
        ["operation", "calls", "free", "price CNY", "spend CNY", "quota /s", "used now"],
        [
            (
                o.operation,
                o.calls_this_month,
                o.free_calls_per_month,
                o.price_cny or "unpriced",
                o.spend_cny,
                f"{o.quota_per_second}" + ("" if o.quota_documented else " (assumed)"),
                f"{o.quota_used_ratio:.0%}",
            )
            for o in told.operations
            # What is never asked would only hide the rest; --json has all of the catalogue.
            if o.calls_this_month
        ],
        right=("price CNY", "spend CNY", "used now"),
    )
    money = told.budget
    cap = "none" if money.cap_cny is None else f"{money.cap_cny} CNY"
    print_sentence(f"Spent {money.spent_cny} CNY, forecast {money.forecast_cny} CNY, budget {cap}")
    for pot in told.pots:
        print_sentence(f"{pot.pot}: {pot.told}")
    print_line()
    journal, counters = told.journal, told.counters
    print_table(
        "Journal",
        ["what", "value"],
        [
            ("path", journal.path),
            ("size", f"{rough_size(journal.bytes)} of {rough_size(journal.bytes_max)}"),
            ("rows not shipped yet", f"{journal.rows:,}"),
            ("open windows", journal.open_windows),
            ("memory", f"{rough_size(told.memory.bytes_max)} ({told.memory.set_by})"),
            *([("damaged one set aside", journal.set_aside)] if journal.set_aside else []),
            *([("store", f"fails: {told.store_error}")] if told.store_error else []),
            *([("SQL, for ClickHouse's clients", told.sql_address)] if told.sql_address else []),
            *([("log lines dropped", f"{told.log_lines_dropped:,}")] if told.log_lines_dropped else []),
            *((name.replace("_", " "), f"{value:,}") for name, value in counters.items()),
        ],
    )


def _ago(seconds: float | None) -> str | None:
    return None if seconds is None else rough_duration(int(seconds))
