"""A plan, as people read it and as programs do."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from collector.cli.output import print_line, print_sentence, print_table
from collector.pipeline.fit import Fit
from collector.pipeline.plan import MONTH_DAYS, Asking, Demand, Ends, Line, Plan, QuotaUse
from collector.units import format_duration, rough_duration

UNPRICED = "unpriced"
COLUMNS = ("operation", "what", "streams", "interval", "calls/day", "calls/month", "free", "CNY/month")
QUOTA_COLUMNS = ("operation", "quota/s", "needed/s", "interval", "allowed", "freshness")


def show(plan: Plan, cap_cny: Decimal | None, proposal: Fit | None) -> None:
    """Print the plan for a person; with a cap whether it fits, and what would."""
    if not plan.lines:
        print_line("nothing is asked: the configuration names no targets")
        print_line("name some in [targets], or try numbers: pai-collector plan --assume nodes=1000")
        return
    print_table(
        f"A month of {MONTH_DAYS} days, one page a look",
        COLUMNS,
        [_row(line) for line in plan.lines],
        right=COLUMNS[2:],
    )
    print_sentence(f"total: {_total(plan)}")
    if any(line.calls_per_month.least != line.calls_per_month.most for line in plan.lines):
        print_sentence("from .. to: every stream quiet (interval_max) .. every stream busy (interval)")
    for pot in plan.pots:
        left = "" if pot.calls_per_month.most <= pot.free_calls_per_month else ": more than are free"
        print_sentence(
            f"pot {pot.pot}: {_between(pot.calls_per_month, _whole)}{'+' if pot.is_at_least else ''} of "
            f"{pot.free_calls_per_month:,} free calls a month{left}"
        )
    print_sentence("A lower bound: looks that need more than one page, and repeated calls, come on top.")
    if plan.is_at_least:
        print_sentence(
            f"+: at least; what is discovered cannot be counted here: {_assumption(plan)} says how many there are."
        )
    print_line()
    print_table(
        "What the quotas allow",
        QUOTA_COLUMNS,
        [_quota_row(quota) for quota in plan.quotas],
        right=QUOTA_COLUMNS[2:],
    )
    for quota in plan.quotas:
        if not quota.gives_interval:
            print_sentence(_shortage(quota))
    if cap_cny is not None and proposal is not None:
        _show_fit(plan, cap_cny, proposal)


def _assumption(plan: Plan) -> str:
    """What to try where the number of something is not known."""
    is_cloud = any(line.demand.source == "cloud_metrics" and line.demand.is_at_least for line in plan.lines)
    return "--assume cloud_metrics=20 --assume cloud_series=1000" if is_cloud else "--assume nodes=1000"


def _row(line: Line) -> list[str]:
    demand = line.demand
    is_counted = line.asking is not Asking.DETAILS
    money = UNPRICED if line.cny_per_month is None else _between(line.cny_per_month, cny_text)
    free = "-" if line.price is None else f"{line.price.free_calls_per_month:,}"
    return [
        demand.operation.name,
        line.asking.value,
        _streams(demand) if is_counted else "-",
        _interval(line),
        _between(line.calls_per_day, _whole) if is_counted else "not counted",
        _between(line.calls_per_month, _whole) if is_counted else "not counted",
        free,
        money if is_counted or line.price is None else "not counted",
    ]


def _interval(line: Line) -> str:
    demand = line.demand
    if line.asking is Asking.DETAILS:
        return "-"
    if line.asking is Asking.RECHECKS:
        return "after " + ", ".join(format_duration(delay) for delay in demand.rechecks)
    return _between(Ends(demand.interval, demand.interval_max), format_duration)


def _quota_row(quota: QuotaUse) -> list[str]:
    demand = quota.demand
    needed = Ends(round(quota.needed_per_second.least, 2), round(quota.needed_per_second.most, 2))
    return [
        demand.operation.name,
        f"{quota.per_second}" + ("" if quota.documented else " (assumed)"),
        _between(needed, lambda value: f"{value:,.2f}") + ("+" if demand.is_at_least else ""),
        _between(Ends(demand.interval, demand.interval_max), format_duration),
        f"{format_duration(quota.interval_allowed)}" + ("" if quota.gives_interval else " (!)"),
        _between(quota.freshness_seconds, rough_duration),
    ]


def _shortage(quota: QuotaUse) -> str:
    demand = quota.demand
    return (
        f"(!) {demand.operation.name}: {quota.needed_per_second.most:,.1f} calls a second are needed at "
        f"{format_duration(demand.interval)}, the quota is {quota.per_second}: if all streams are busy, each is looked "
        f"at every {format_duration(quota.interval_allowed)}"
    )


def _show_fit(plan: Plan, cap_cny: Decimal, proposal: Fit) -> None:
    most = plan.cny_per_month.most
    if most <= cap_cny:
        print_sentence(f"budget {cny_text(cap_cny)} CNY: fits, at most {cny_text(most)} CNY are needed")
    elif not proposal.fits:
        print_sentence(
            f"budget {cny_text(cap_cny)} CNY: nothing fits; the least is {cny_text(proposal.cny_per_month)} CNY, with"
        )
        _print_settings(proposal)
        print_sentence("for less, name fewer targets or switch a source off (enabled = false)")
    else:
        print_sentence(
            f"budget {cny_text(cap_cny)} CNY: this configuration needs up to {cny_text(most)} CNY;"
            f" with these lines at most {cny_text(proposal.cny_per_month)} CNY:"
        )
        _print_settings(proposal)
    if plan.unpriced:
        print_sentence(f"not in the budget, because unpriced: {', '.join(plan.unpriced)}")


def _print_settings(proposal: Fit) -> None:
    for name, values in settings_of(proposal).items():
        print_line()
        print_line(f"[sources.{name}]")
        for key, value in values.items():
            text = f'"{value}"' if isinstance(value, str) else "[" + ", ".join(f'"{each}"' for each in value) + "]"
            print_line(f"{key} = {text}")
    print_line()


def settings_of(proposal: Fit) -> dict[str, dict[str, str | list[str]]]:
    """Source -> the keys that have to be set, as a configuration spells them."""
    found: dict[str, dict[str, str | list[str]]] = {}
    for name in proposal.changed:
        demand = next(demand for demand in proposal.demands if demand.source == name)
        values: dict[str, str | list[str]] = {"interval": format_duration(demand.interval)}
        if name == "syslogs":
            values["interval_max"] = format_duration(demand.interval_max)
        if demand.is_window:
            values["recheck"] = [format_duration(delay) for delay in demand.rechecks]
        found[name] = values
    return found


def as_data(plan: Plan, cap_cny: Decimal | None, proposal: Fit | None) -> dict[str, Any]:
    """The plan as plain data. Money is CNY in text, null where there is no price; durations are seconds."""
    told: dict[str, Any] = {
        "month_days": MONTH_DAYS,
        "is_at_least": plan.is_at_least,
        "lines": [_line_data(line) for line in plan.lines],
        "quotas": [_quota_data(quota) for quota in plan.quotas],
        "cny_per_month": _money(plan.cny_per_month),
        "unpriced": list(plan.unpriced),
        "pots": [
            {
                "pot": pot.pot,
                "calls_per_month": _pair(pot.calls_per_month),
                "free_calls_per_month": pot.free_calls_per_month,
                "is_at_least": pot.is_at_least,
            }
            for pot in plan.pots
        ],
        "budget": None,
    }
    if cap_cny is not None and proposal is not None:
        told["budget"] = {
            "cny": plain_cny(cap_cny),
            "fits": plan.cny_per_month.most <= cap_cny,
            "proposal": None if not proposal.fits else _proposal(proposal),
            "least": None if proposal.fits else _proposal(proposal),
        }
    return told


def _proposal(proposal: Fit) -> dict[str, Any]:
    return {"cny_per_month": plain_cny(proposal.cny_per_month), "sources": settings_of(proposal)}


def _line_data(line: Line) -> dict[str, Any]:
    demand, price = line.demand, line.price
    return {
        "source": demand.source,
        "operation": demand.operation.name,
        "what": line.asking.value,
        "streams": demand.streams,
        "is_at_least": demand.is_at_least,
        "interval_seconds": demand.interval,
        "interval_max_seconds": demand.interval_max,
        "recheck_seconds": list(demand.rechecks) if line.asking is Asking.RECHECKS else [],
        "calls_per_look": demand.calls_per_look,
        "calls_per_day": _pair(line.calls_per_day),
        "calls_per_month": _pair(line.calls_per_month),
        "price_cny": None if price is None or price.cny is None else plain_cny(price.cny),
        "free_calls_per_month": None if price is None else price.free_calls_per_month,
        "cny_per_month": None if line.cny_per_month is None else _money(line.cny_per_month),
    }


def _quota_data(quota: QuotaUse) -> dict[str, Any]:
    return {
        "source": quota.demand.source,
        "operation": quota.demand.operation.name,
        "quota_per_second": quota.per_second,
        "quota_documented": quota.documented,
        "needed_per_second": _pair(quota.needed_per_second),
        "is_at_least": quota.demand.is_at_least,
        "interval_seconds": quota.demand.interval,
        "interval_allowed_seconds": quota.interval_allowed,
        "gives_interval": quota.gives_interval,
        "freshness_seconds": _pair(quota.freshness_seconds),
    }


def _pair(ends: Ends[Any]) -> dict[str, Any]:
    return {"least": ends.least, "most": ends.most}


def _money(ends: Ends[Decimal]) -> dict[str, str]:
    return {"least": plain_cny(ends.least), "most": plain_cny(ends.most)}


def plain_cny(value: Decimal) -> str:
    """CNY, exact, with two decimals at least: `4319.90`."""
    cents = value.quantize(Decimal("0.01"))
    return f"{cents if cents == value else value.normalize():f}"


def cny_text(value: Decimal) -> str:
    """CNY, exact, as people read it: `4,319.90`."""
    whole, _, decimals = plain_cny(value).partition(".")
    return f"{int(whole):,}.{decimals}"


def _total(plan: Plan) -> str:
    text = f"{_between(plan.cny_per_month, cny_text)} CNY a month"
    text += " at least" if plan.is_at_least else ""
    if plan.unpriced:
        text += f"; without what has no price: {', '.join(plan.unpriced)}"
    return text


def _whole(number: int) -> str:
    return f"{number:,}"


def _streams(demand: Demand) -> str:
    return f"{demand.streams:,}" + ("+" if demand.is_at_least else "")


def _between(ends: Ends[Any], text: Any) -> str:
    least, most = text(ends.least), text(ends.most)
    return least if least == most else f"{least} .. {most}"
