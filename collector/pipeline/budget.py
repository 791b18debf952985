"""The month's money: whether one more call fits, and where the month will end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Literal, Protocol

from collector.catalogue.operation import Price
from collector.errors import BudgetReached
from collector.journal.journal import JournalReads
from collector.journal.money import billing_month, cny, micro_cny, month_end
from collector.journal.spending import (
    HourSpend,
    Prices,
    Spending,
    pace_micro_cny,
    pot_members,
)


class Parted(Protocol):
    """What a process may take of something that all shards share."""

    def part(self, total: int) -> int:
        """This process's part; the parts of all shards add up to `total`."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What the calls of a billing month may cost, and what happens before the call that would pass it."""

    cap_cny: Decimal | None = None
    """None: no cap. 0 is a cap: nothing that costs is called."""
    on_reached: Literal["stop", "warn"] = "stop"

    @classmethod
    def of(cls, monthly_cny: Decimal, on_reached: Literal["stop", "warn"], share: Parted | None = None) -> Budget:
        """The budget that the configuration names, or a shard's part of it; 0 means no cap."""
        if not monthly_cny:
            return cls(None, on_reached)
        total = micro_cny(monthly_cny)
        return cls(cny(total if share is None else share.part(total)), on_reached)

    def is_passed_by(self, spending: Spending) -> bool:
        """Whether the month would cost more than the cap with one more call."""
        return self.cap_cny is not None and spending.after_micro_cny > micro_cny(self.cap_cny)

    def told(self, month: str) -> str:
        """What the journal keeps once this budget was reached in `month`."""
        return f"{month} {self.cap_cny} {self.on_reached}"


NO_BUDGET = Budget()


def refusal(operation: str, spending: Spending, cap_cny: Decimal) -> BudgetReached:
    """The error of a call that does not fit any more."""
    return BudgetReached(
        f"{operation}: the budget of {spending.month} is reached: {money(spending.before_micro_cny)} of {cap_cny:f} CNY"
        f" are spent, and this call costs {money(spending.call_micro_cny)} CNY",
        hint="raise budget.monthly_cny, or wait for the next billing month; pai-collector plan shows what costs",
    )


def money(micro: int) -> str:
    """CNY as people read it, exact."""
    return f"{cny(micro):f}"


def shared_prices(prices: Mapping[str, Price | None], share: Parted | None) -> dict[str, Price | None]:
    """The prices with a shard's part of the free calls, which are the account's."""
    if share is None:
        return dict(prices)
    return {
        name: None if price is None else replace(price, free_calls_per_month=share.part(price.free_calls_per_month))
        for name, price in prices.items()
    }


@dataclass(frozen=True, slots=True)
class BudgetFacts:
    """The money of the present billing month, as `status` and the metrics show it."""

    month: str
    spent_cny: Decimal
    """Calls in flight included."""
    forecast_cny: Decimal
    """Where the month ends at the pace of the last 24 hours, whatever the cap."""
    cap_cny: Decimal | None
    """This process's part where there are shards; None without a cap."""
    is_reached: bool
    """A call of this month did not fit under this cap: it was refused, or told of."""
    share: Decimal | None
    """Spent as a part of the cap: 0 to 1, more after a cap was passed or lowered; None without a cap."""


async def budget_facts(journal: JournalReads, now: int, budget: Budget, prices: Prices) -> BudgetFacts:
    """The money of the billing month of `now` (server time, s)."""
    spend = await journal.month_spend(now, prices)
    month = billing_month(now)
    return BudgetFacts(
        month=month,
        spent_cny=cny(spend.micro_cny),
        forecast_cny=forecast(spend.micro_cny, spend.hours, now),
        cap_cny=budget.cap_cny,
        is_reached=spend.budget_reached == budget.told(month),
        share=share_of(cny(spend.micro_cny), budget.cap_cny),
    )


@dataclass(frozen=True, slots=True)
class PotFacts:
    """Free calls that several operations share, in the present billing month."""

    pot: str
    operations: tuple[str, ...]
    calls: int
    """Settled ones."""
    free_calls_per_month: int
    """Of the whole account."""
    forecast_calls: int
    """Where the month ends at the pace of the last 24 hours."""

    @property
    def told(self) -> str:
        """As people read it."""
        more = ": more than are free" if self.forecast_calls > self.free_calls_per_month else ""
        free = f"{self.calls:,} of {self.free_calls_per_month:,} free calls this month"
        return f"{free}, forecast {self.forecast_calls:,}{more}"


async def pot_facts(journal: JournalReads, now: int, prices: Prices) -> list[PotFacts]:
    """The pots of the billing month of `now` (server time, s) that a call has come out of, or may."""
    names = dict.fromkeys(price.pot for price in prices.values() if price is not None and price.pot)
    found = []
    for pot, spend in (await journal.pot_spends(names, now, prices)).items():
        members = pot_members(pot, prices)
        coming = round(pace_micro_cny(spend.hours, now) * (month_end(now) - now))
        free = min(price.free_calls_per_month for name in members if (price := prices[name]) is not None)
        found.append(PotFacts(pot, members, spend.calls, free, spend.calls + coming))
    return found


def forecast(spent_micro_cny: int, hours: Iterable[HourSpend], now: int) -> Decimal:
    """CNY that the billing month of `now` will have cost at its end, if the pace stays."""
    coming = pace_micro_cny(hours, now) * (month_end(now) - now)
    return cny(spent_micro_cny + round(coming))


def share_of(spent_cny: Decimal, cap_cny: Decimal | None) -> Decimal | None:
    """Spent as a part of the cap, with four decimals."""
    if cap_cny is None:
        return None
    if not cap_cny:
        return Decimal(1)
    return (spent_cny / cap_cny).quantize(Decimal("0.0001"))
