"""`pai-collector plan`: what will this configuration call, and what will it cost?"""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated

import typer

from collector.cli.options import options_of
from collector.cli.output import print_json
from collector.cli.planned import as_data, show
from collector.errors import UsageError
from collector.owner.planning import ASSUMED, demands_of
from collector.owner.prices import check_prices, prices_of
from collector.pipeline.fit import fit
from collector.pipeline.plan import plan as planned


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def plan(
        context: typer.Context,
        budget: Annotated[
            str | None, typer.Option(metavar="CNY", help="Propose intervals that fit this much a month.")
        ] = None,
        assume: Annotated[
            list[str] | None,
            typer.Option(metavar="KIND=N", help="Count N targets of a kind, such as nodes=1000. May be repeated."),
        ] = None,
        as_json: Annotated[bool, typer.Option("--json", help="Everything, for programs.")] = False,
    ) -> None:
        """Price the configuration: calls, CNY in a month of 30 days, and the freshness that the quotas allow.

        Nothing is called and nothing is opened. Targets that would have to be discovered are not counted unless
        --assume says how many there are.
        """
        cap_cny = None if budget is None else amount(budget)
        assumed = assumptions(assume or ())
        settings = options_of(context).settings()
        check_prices(settings)
        demands, prices = demands_of(settings, assumed), prices_of(settings)
        told = planned(demands, prices, settings.api.quotas, settings.store.flush_interval_seconds)
        cap_cny = cap_cny or settings.budget.monthly_cny or None
        proposal = None if cap_cny is None else fit(demands, prices, cap_cny)
        if as_json:
            print_json(as_data(told, cap_cny, proposal))
        else:
            show(told, cap_cny, proposal)


def amount(text: str) -> Decimal:
    """CNY from a command line. Raises UsageError."""
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,6})?", text) or not Decimal(text):
        raise UsageError(f"--budget: got {text}; expected CNY a month above 0, such as 5000 or 99.50")
    return Decimal(text)


def assumptions(words: Sequence[str]) -> dict[str, int]:
    """Targets by kind, as `--assume` names them. Raises UsageError."""
    found: dict[str, int] = {}
    for word in words:
        kind, _, number = word.partition("=")
        if kind not in ASSUMED or not re.fullmatch(r"[0-9]{1,7}", number):
            kinds = ", ".join(sorted(ASSUMED))
            raise UsageError(f"--assume: got {word}; expected KIND=N with one of {kinds}, such as nodes=1000")
        found[kind] = int(number)
    return found
