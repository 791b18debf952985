"""The budget on the real journal: never passed, used to its last call, whatever dies or turns in between."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from collector.api.metering import Attempt
from collector.catalogue.operation import Price
from collector.catalogue.operations import CATALOGUE
from collector.clock import ServerClock
from collector.errors import BudgetReached
from collector.journal.journal import Journal
from collector.journal.money import billing_month, month_end
from collector.journal.spending import HourSpend
from collector.pipeline.budget import NO_BUDGET, Budget, budget_facts, forecast, pot_facts, shared_prices
from collector.pipeline.meter import JournalMeter
from tests.support.old_journals import downgrade
from tests.support.virtual_clock import ManualClock

T = 1_760_000_000
LAST_SECOND = month_end(T) - 1
LOGS, USERS = CATALOGUE["ListSyslogs"], CATALOGUE["GetUserViewMetrics"]
FREE, UNPRICED = CATALOGUE["GetXtraceToken"], CATALOGUE["ListJobs"]
CENT = Decimal("0.01")


def prices(logs: str = "0.01", free: int = 0, users: str = "0.03") -> dict[str, Price | None]:
    return {
        LOGS.name: Price(Decimal(logs), free),
        USERS.name: Price(Decimal(users)),
        FREE.name: Price(Decimal(0)),
        UNPRICED.name: None,
    }


POT = {LOGS.name: Price(CENT, 3, "queries"), USERS.name: Price(CENT, 3, "queries"), FREE.name: Price(CENT, 1)}


async def test_operations_of_a_pot_share_its_free_calls(tmp_path: Path) -> None:
    """Three calls are free, whichever of the operations makes them; calls in flight count, and no other operation."""
    bench = Bench(tmp_path / "j.db", Budget(CENT * 2), POT)
    await bench.call(LOGS)
    await bench.call(USERS)
    in_flight = await bench.reserve(LOGS)
    assert await bench.spent() == 0
    assert await bench.calls_that_fit(USERS) == 2
    assert await bench.calls_that_fit(LOGS) == 0
    await bench.settle(in_flight, LOGS)
    assert await bench.spent() == CENT * 2
    assert await bench.calls_that_fit(FREE) == 1
    bench.journal.close()


async def test_a_pot_is_told_with_where_the_month_ends(tmp_path: Path) -> None:
    """Calls of all its operations, and as many as come at the pace of the last day."""
    bench = Bench(tmp_path / "j.db", NO_BUDGET, POT)
    for _ in range(12):
        await bench.call(LOGS)
        await bench.call(USERS)
        await bench.clock.advance(3600)
    (facts,) = await pot_facts(bench.journal, bench.now, bench.prices)

    assert (facts.pot, facts.operations, facts.calls) == ("queries", (LOGS.name, USERS.name), 24)
    assert facts.free_calls_per_month == 3
    hours_left = (month_end(bench.now) - bench.now) / 3600
    assert facts.forecast_calls == pytest.approx(24 + 2 * hours_left, rel=0.01)
    bench.journal.close()


def test_a_shard_has_its_part_of_a_pot() -> None:
    """As of free calls that one operation has for itself."""
    assert shared_prices(POT, Half(0))[LOGS.name] == Price(CENT, 1, "queries")


@dataclass(frozen=True)
class Half:
    """One of two shards."""

    index: int

    def part(self, total: int) -> int:
        return total * (self.index + 1) // 2 - total * self.index // 2


class Bench:
    """A journal with its meter, before a clock that is set by hand."""

    def __init__(self, path: Path, budget: Budget, told: dict[str, Price | None], now: int = T) -> None:
        self.path, self.prices = path, told
        self.clock = ManualClock(float(now))
        self.open(budget)

    def open(self, budget: Budget) -> None:
        """Open the file; what an earlier process left reserved is entered as unknown."""
        self.journal = Journal(self.path, self.prices, region="r", threaded=False)
        self.meter = JournalMeter(self.journal, ServerClock(self.clock), budget)

    @property
    def now(self) -> int:
        return int(self.clock.wall())

    async def restart(self) -> None:
        budget = self.meter.budget
        self.journal.close()
        self.open(budget)
        await self.journal.start()

    async def reserve(self, operation=LOGS) -> int:  # type: ignore[no-untyped-def]
        return await self.meter.reserve(operation)

    async def settle(self, ticket: int, operation=LOGS, time: int | None = None) -> None:  # type: ignore[no-untyped-def]
        sent_at = self.now if time is None else time
        await self.meter.settle(Attempt(ticket, operation.name, "n", sent_at, 200, "", 1, 10))

    async def call(self, operation=LOGS) -> None:  # type: ignore[no-untyped-def]
        await self.settle(await self.reserve(operation), operation)

    async def calls_that_fit(self, operation=LOGS, most: int = 100) -> int:  # type: ignore[no-untyped-def]
        for made in range(most):
            try:
                await self.call(operation)
            except BudgetReached:
                return made
        return most

    async def spent(self, time: int = T) -> Decimal:
        return sum((cost for _, _, cost in await self.journal.spend(billing_month(time))), start=Decimal(0))


@pytest.mark.parametrize(
    ("cap", "free", "fit"),
    [("0.01", 0, 1), ("0.05", 0, 5), ("0.059999", 0, 5), ("0.009999", 0, 0), ("0.02", 3, 5), ("0.000001", 7, 7)],
)
async def test_the_last_call_that_fits_goes_out_and_the_next_does_not(
    tmp_path: Path, cap: str, free: int, fit: int
) -> None:
    """Free calls are made, then as many as the cap pays for, and not one more."""
    bench = Bench(tmp_path / "j.db", Budget(Decimal(cap)), prices(free=free))
    assert await bench.calls_that_fit() == fit
    assert await bench.spent() == CENT * (fit - free if fit > free else 0)
    bench.journal.close()


@dataclass
class Service:
    """What the service has counted and would bill."""

    calls: dict[str, int] = field(default_factory=dict)

    def cost(self, month: str, price: Price) -> Decimal:
        return price.counted_cny * max(0, self.calls.get(month, 0) - price.free_calls_per_month)


STEP = st.sampled_from(["reserve", "reserve", "reserve", "settle", "settle", "release", "crash", "turn"])


@given(
    steps=st.lists(STEP, min_size=5, max_size=60),
    cap=st.integers(1, 200),
    price=st.integers(1, 40),
    free=st.integers(0, 10),
    picks=st.randoms(use_true_random=False),
)
@hypothesis_settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_no_month_costs_more_than_the_cap(steps: list[str], cap: int, price: int, free: int, picks: object) -> None:
    """Reserve, settle, release, die, turn the month, in any order: the meter equals the bill, which fits the cap."""

    async def play(folder: Path) -> None:
        cost = Price(Decimal(price) / 1_000_000, free)
        budget = Budget(Decimal(cap) / 1_000_000)
        bench = Bench(folder / "j.db", budget, {LOGS.name: cost}, LAST_SECOND - 3)
        service, tickets = Service(), []

        def serve(time: int) -> None:
            month = billing_month(time)
            service.calls[month] = service.calls.get(month, 0) + 1

        for step in steps:
            if step == "reserve":
                try:
                    tickets.append((await bench.reserve(), bench.now))
                except BudgetReached:
                    fits = service.calls.get(billing_month(bench.now), 0) + len(tickets) + 1
                    assert cost.cny * max(0, fits - free) > budget.cap_cny  # type: ignore[operator]
            elif step == "turn":
                bench.clock.step_wall(2)
            elif step == "crash":
                for _, reserved_at in tickets:
                    serve(reserved_at)
                tickets.clear()
                await bench.restart()
            elif tickets:
                ticket, _ = tickets.pop(picks.randrange(len(tickets)))  # type: ignore[attr-defined]
                if step == "release":
                    await bench.meter.release(ticket)
                else:
                    serve(bench.now)
                    await bench.settle(ticket)
        for ticket, _ in tickets:
            serve(bench.now)
            await bench.settle(ticket)
        for month, calls in service.calls.items():
            assert service.cost(month, cost) <= budget.cap_cny  # type: ignore[operator]
            assert await bench.journal.spend(month) == [(LOGS.name, calls, service.cost(month, cost))]
        bench.journal.close()

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(play(Path(folder)))


async def test_calls_in_flight_count(tmp_path: Path) -> None:
    """A reserved call takes its place in the budget, and gives it back when it was never sent."""
    bench = Bench(tmp_path / "j.db", Budget(CENT * 2), prices())
    first, _ = await bench.reserve(), await bench.reserve()
    with pytest.raises(BudgetReached):
        await bench.reserve()
    await bench.meter.release(first)
    assert await bench.calls_that_fit() == 1
    bench.journal.close()


@pytest.mark.parametrize("left", [0, 1, 3])
async def test_what_a_crash_left_reserved_stays_spent(tmp_path: Path, left: int) -> None:
    """After a restart the calls whose answers never came have their price, and the rest of the cap is left."""
    bench = Bench(tmp_path / "j.db", Budget(CENT * 5), prices())
    await bench.call()
    for _ in range(left):
        await bench.reserve()
    await bench.restart()
    assert await bench.spent() == CENT * (1 + left)
    assert await bench.calls_that_fit() == 4 - left
    assert await bench.spent() == CENT * 5
    bench.journal.close()


async def test_many_at_once_do_not_pass_the_cap_together(tmp_path: Path) -> None:
    """A hundred calls that ask in the same moment: exactly those that fit are let out."""
    journal = Journal(tmp_path / "j.db", prices(), region="r")
    meter = JournalMeter(journal, ServerClock(ManualClock(float(T))), Budget(CENT * 7))
    outcomes = await asyncio.gather(*(meter.reserve(LOGS) for _ in range(100)), return_exceptions=True)
    assert sum(isinstance(outcome, int) for outcome in outcomes) == 7
    assert sum(isinstance(outcome, BudgetReached) for outcome in outcomes) == 93
    journal.close()


async def test_a_caller_that_is_cancelled_leaves_nothing_reserved(tmp_path: Path) -> None:
    """Whether it is cancelled before or after the journal has worked: the place in the budget is free again."""
    journal = Journal(tmp_path / "j.db", prices(), region="r")
    meter = JournalMeter(journal, ServerClock(ManualClock(float(T))), Budget(CENT * 7))
    callers = [asyncio.create_task(meter.reserve(LOGS)) for _ in range(7)]
    await asyncio.sleep(0)
    for caller in callers:
        caller.cancel()
    await asyncio.gather(*callers, return_exceptions=True)
    assert await journal.run(lambda db: db.execute("SELECT count() FROM reserved").fetchone()) == (0,)
    journal.close()


@pytest.mark.parametrize("cap", ["0.01", "0.03", "0.07", "0.000001", "1"])
async def test_two_shards_keep_the_cap_and_the_free_calls_together(tmp_path: Path, cap: str) -> None:
    """Each of two journals takes its part; both together never pass the whole, and use the free calls once."""
    whole, free = Decimal(cap), 5
    spent, made = Decimal(0), 0
    for index in (0, 1):
        share = Half(index)
        budget = Budget.of(whole, "stop", share)
        bench = Bench(tmp_path / f"{index}.db", budget, shared_prices(prices(free=free), share))
        made += await bench.calls_that_fit()
        spent += await bench.spent()
        bench.journal.close()
    assert spent <= whole
    assert made - spent / CENT == free
    assert sum(micro(Budget.of(whole, "stop", Half(index))) for index in (0, 1)) == whole * 1_000_000


def micro(budget: Budget) -> Decimal:
    assert budget.cap_cny is not None
    return budget.cap_cny * 1_000_000


async def test_the_cap_begins_anew_with_the_billing_month(tmp_path: Path) -> None:
    """At midnight in China the whole cap is there again, and the month before keeps what it cost."""
    bench = Bench(tmp_path / "j.db", Budget(CENT * 3), prices(), LAST_SECOND)
    assert await bench.calls_that_fit() == 3
    bench.clock.step_wall(1)
    assert await bench.calls_that_fit() == 3
    assert await bench.spent(LAST_SECOND) == await bench.spent(LAST_SECOND + 1) == CENT * 3
    bench.journal.close()


async def test_a_call_over_the_turn_of_the_month_counts_where_it_was_sent(tmp_path: Path) -> None:
    """Reserved in one month and sent in the next: the next one pays, and was held free for it."""
    bench = Bench(tmp_path / "j.db", Budget(CENT * 3), prices(), LAST_SECOND)
    ticket = await bench.reserve()
    bench.clock.step_wall(1)
    assert await bench.calls_that_fit() == 2
    await bench.settle(ticket)
    assert await bench.spent(LAST_SECOND) == 0
    assert await bench.spent(LAST_SECOND + 1) == CENT * 3
    bench.journal.close()


async def test_what_costs_nothing_is_never_stopped(tmp_path: Path) -> None:
    """With the budget used up, free and unpriced operations go on, and so does one inside its free calls."""
    bench = Bench(tmp_path / "j.db", Budget(CENT * 3), prices(free=3))
    await bench.call(USERS)
    with pytest.raises(
        BudgetReached, match=r"GetUserViewMetrics.*2025-10.*0\.03 of 0\.03 CNY.*costs 0\.03 CNY"
    ) as told:
        await bench.reserve(USERS)
    assert "budget.monthly_cny" in told.value.hint
    for operation in (FREE, UNPRICED, FREE, UNPRICED):
        await bench.call(operation)
    assert await bench.calls_that_fit(LOGS) == 3
    bench.journal.close()


async def test_a_cheap_call_fits_where_a_dear_one_does_not(tmp_path: Path) -> None:
    """Each call is judged by its own price."""
    bench = Bench(tmp_path / "j.db", Budget(CENT * 4), prices())
    await bench.call(LOGS)
    await bench.call(LOGS)
    with pytest.raises(BudgetReached):
        await bench.reserve(USERS)
    assert await bench.calls_that_fit(LOGS) == 2
    bench.journal.close()


@pytest.mark.parametrize("on_reached", ["stop", "warn"])
async def test_it_is_told_once_a_month(tmp_path: Path, on_reached: Literal["stop", "warn"]) -> None:
    """However often it is hit, and over a restart, there is one line; a raised cap and the next month have theirs."""
    event = {"stop": "budget_reached", "warn": "budget_passed"}[on_reached]
    bench = Bench(tmp_path / "j.db", Budget(CENT, on_reached), prices())
    allowed = {"stop": 1, "warn": 5}[on_reached]
    with capture_logs() as lines:
        assert await bench.calls_that_fit(most=5) == allowed
        await bench.restart()
        assert (await budget_facts(bench.journal, bench.now, bench.meter.budget, {})).is_reached
        await bench.calls_that_fit(most=2)
        assert [(line["event"], line["cap_cny"]) for line in lines] == [(event, "0.01")]
        bench.meter.change(budget=Budget(CENT * 2, on_reached))
        assert not (await budget_facts(bench.journal, bench.now, bench.meter.budget, {})).is_reached
        await bench.calls_that_fit(most=2)
        bench.clock.step_wall(31 * 86_400)
        await bench.calls_that_fit(most=4)
    assert [(line["event"], line["cap_cny"], line["month"]) for line in lines] == [
        (event, "0.01", "2025-10"),
        (event, "0.02", "2025-10"),
        (event, "0.02", "2025-11"),
    ]
    bench.journal.close()


async def test_cap_and_prices_change_while_calls_are_in_flight(tmp_path: Path) -> None:
    """A raised cap lets calls out at once; a raised price counts from the next call on, and the cap still holds."""
    bench = Bench(tmp_path / "j.db", Budget(CENT * 2), prices())
    tickets = [await bench.reserve(), await bench.reserve()]
    with pytest.raises(BudgetReached):
        await bench.reserve()
    bench.meter.change(budget=Budget(CENT * 9), prices=prices(logs="0.02"))
    tickets += [await bench.reserve(), await bench.reserve(), await bench.reserve()]
    with pytest.raises(BudgetReached):
        await bench.reserve()
    for ticket in tickets:
        await bench.settle(ticket)
    assert await bench.spent() == CENT * 8
    assert await bench.calls_that_fit() == 0
    bench.meter.change(budget=NO_BUDGET)
    assert await bench.calls_that_fit(most=9) == 9
    bench.journal.close()


async def test_a_price_that_changes_at_the_edge_of_the_free_calls(tmp_path: Path) -> None:
    """Of a cheap and a dear call in flight the service may count either as the free one: the dear one is held."""
    bench = Bench(tmp_path / "j.db", Budget(CENT), prices(free=1))
    await bench.reserve()
    bench.meter.change(prices=prices(logs="0.02", free=1))
    with pytest.raises(BudgetReached):
        await bench.reserve()
    bench.meter.change(budget=Budget(CENT * 2))
    await bench.reserve()
    bench.journal.close()


async def test_free_calls_that_are_raised_do_not_make_earlier_calls_free(tmp_path: Path) -> None:
    """A call that went out before the free calls were raised keeps its price, so it still fills the budget."""
    bench = Bench(tmp_path / "j.db", Budget(CENT), prices(free=0))
    first = await bench.reserve()
    bench.meter.change(prices=prices(free=5))
    later = [await bench.reserve() for _ in range(4)]
    with pytest.raises(BudgetReached):
        await bench.reserve()
    for ticket in [first, *later]:
        await bench.settle(ticket)
    assert await bench.spent() == CENT
    bench.journal.close()


async def test_facts_of_the_month(tmp_path: Path) -> None:
    """Spent with what is in flight, and the part of the cap."""
    bench = Bench(tmp_path / "j.db", Budget(CENT * 8), prices())
    await bench.call()
    await bench.reserve()
    facts = await budget_facts(bench.journal, bench.now + 3600, bench.meter.budget, {})
    assert (facts.month, facts.spent_cny, facts.cap_cny, facts.is_reached) == ("2025-10", CENT * 2, CENT * 8, False)
    assert facts.share == Decimal("0.25")
    without = await budget_facts(bench.journal, bench.now, NO_BUDGET, {})
    assert (without.cap_cny, without.share, without.is_reached) == (None, None, False)
    bench.journal.close()


def test_the_forecast_is_the_pace_of_the_last_day() -> None:
    """A steady day goes on as it is; a collector that has just begun is not taken for one that rested."""
    hour = 3600
    now = month_end(T) - 10 * 86_400
    steady = [HourSpend(now - back * hour, now - back * hour, 1_000_000) for back in range(48, 0, -1)]
    assert forecast(5_000_000, steady, now) == Decimal(5 + 240)
    begun = [HourSpend(now - hour, now - 600, 1_000_000)]
    assert forecast(1_000_000, begun, now) == Decimal(1 + 1440)
    rested = [HourSpend(now - 40 * hour, now - 40 * hour, 7_000_000)]
    assert forecast(7_000_000, rested, now) == Decimal(7)
    assert forecast(0, [], now) == 0


async def test_a_journal_of_the_format_before_prices_its_calls(tmp_path: Path) -> None:
    """Tickets that were reserved without a price are entered at today's, when the journal is upgraded."""
    bench = Bench(tmp_path / "j.db", NO_BUDGET, prices())
    await bench.reserve()
    bench.journal.close()
    downgrade(bench.path, 2)
    bench.open(Budget(CENT * 2))
    await bench.journal.start()
    assert await bench.spent() == CENT
    assert await bench.calls_that_fit() == 1
    bench.journal.close()
