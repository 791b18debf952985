"""The meter of the API client, kept in the journal."""

from __future__ import annotations

from decimal import Decimal

import structlog

from collector.api.metering import Attempt
from collector.catalogue.operation import Operation
from collector.clock import ServerClock
from collector.errors import BudgetReached
from collector.journal.journal import Journal
from collector.journal.ledger import Note, Prices
from collector.journal.spending import Spending
from collector.pipeline.budget import NO_BUDGET, Budget, money, refusal

log = structlog.get_logger(__name__)


class JournalMeter:
    """Reserves each call in the journal before it is sent and settles the failed ones.

    Calls that succeed are settled by whoever commits their rows. A call that would pass the budget is
    refused in the transaction that would have reserved it, so no two calls can pass it together.
    """

    def __init__(self, journal: Journal, server_clock: ServerClock, budget: Budget = NO_BUDGET) -> None:
        self._journal = journal
        self._server_clock = server_clock
        self._budget = budget
        self._told = ""
        """The month and cap of the last refusal, so that each further one costs no write."""

    @property
    def budget(self) -> Budget:
        """The budget at present."""
        return self._budget

    def change(self, *, budget: Budget | None = None, prices: Prices | None = None) -> None:
        """Another budget or other prices, from the next reservation on; calls in flight keep their price."""
        if prices is not None:
            self._journal.set_prices(prices)
        if budget is not None:
            self._budget = budget

    async def reserve(self, operation: Operation) -> int:
        """Durable before it returns: a crash after it counts the call as unknown.

        Raises BudgetReached where the call would pass the budget; free calls never do.
        """
        budget = self._budget
        cap_cny = budget.cap_cny
        now = self._server_clock.now()
        if cap_cny is None:
            return await self._journal.reserve(operation.name, now)
        passing: list[Spending] = []
        news: list[Spending] = []

        def allow(spending: Spending, note: Note) -> None:
            if not budget.is_passed_by(spending):
                return
            passing.append(spending)
            if budget.on_reached == "stop":
                raise refusal(operation.name, spending, cap_cny)
            if note(budget.told(spending.month)):
                news.append(spending)

        try:
            ticket = await self._journal.reserve(operation.name, now, allow)
        except BudgetReached:
            told = budget.told(passing[0].month)
            if self._told != told:
                # What was written with the refused reservation is undone with it.
                self._told = told
                if await self._journal.note_budget_reached(told, now):
                    _tell("budget_reached", operation, passing[0], cap_cny)
            raise
        # Nothing is awaited here: who is cancelled now would leave a ticket that nobody settles.
        for spending in news:
            _tell("budget_passed", operation, spending, cap_cny)
        return ticket

    async def settle(self, attempt: Attempt) -> None:
        """Enter what became of a call that brought no rows."""
        await self._journal.settle(attempt)

    async def release(self, ticket: int) -> None:
        """Take back a call that was never sent."""
        await self._journal.release(ticket)


def _tell(event: str, operation: Operation, spending: Spending, cap_cny: Decimal) -> None:
    log.warning(
        event,
        month=spending.month,
        operation=operation.name,
        spent_cny=money(spending.before_micro_cny),
        cap_cny=f"{cap_cny:f}",
    )
