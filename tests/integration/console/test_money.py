"""Money: what calls cost by day and by operation, in any month, and where the present one ends."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from collector.api.metering import Attempt
from collector.errors import QueryError
from collector.journal.money import month_end, month_start
from collector.settings import Settings
from tests.support import NOW, settings
from tests.support.console_pages import Console, served
from tests.support.virtual_clock import ManualClock

DAY = 86_400
COLUMNS = ("minute", "region", "operation", "http_status", "code", "calls", "rows", "bytes", "cost_cny")
PRICES = {
    "ListSyslogs": {"cny": Decimal("0.001"), "free": 100},
    "GetNodeMetrics": {"cny": Decimal("0.01"), "free": 1000},
}
FAILURE = "Code: 241. DB::Exception: no memory"
Call = tuple[int, str, int, str, int, int, str]
"""Minute, operation, HTTP status, code, calls, records, cost."""

MONTH: Sequence[Call] = (
    (NOW - 2 * DAY, "ListSyslogs", 200, "", 500, 40_000, "0.4"),
    (NOW - 3600, "ListSyslogs", 200, "", 240, 10_000, "0.24"),
    (NOW - 3600, "ListSyslogs", 429, "Throttling", 60, 0, "0.06"),
    (NOW - 3600, "GetNodeMetrics", 200, "", 24, 240, "0"),
    (NOW - 3600, "ListClusterNodes", 200, "", 7, 70, "0"),
)
EARLIER: Sequence[Call] = ((NOW - 40 * DAY, "ListSyslogs", 200, "", 1000, 2000, "0.9"),)


async def meter(console: Console, calls: Sequence[Call]) -> None:
    body = "".join(
        f'[{minute // 60 * 60}, "cn-hangzhou", "{operation}", {status}, "{code}", {count}, {rows}, {rows}, "{cost}"]\n'
        for minute, operation, status, code, count, rows, cost in calls
    )
    await console.owner.store.insert("api_call_parts", COLUMNS, body.encode(), token=body)


@pytest.fixture
def priced(tmp_path: Path) -> Settings:
    return settings(tmp_path, "http://127.0.0.1:1", api={"base_url": "http://127.0.0.1:1", "prices": PRICES})


def titled(told: Any) -> dict[str, Any]:
    return {tile["title"]: tile for tile in told["tiles"]}


async def test_a_month_is_added_up_by_operation_and_by_day(priced: Settings) -> None:
    """Calls, failed ones and what they cost, free calls used, and the price of a million records."""
    async with served(priced, clock=ManualClock(NOW)) as console:
        await meter(console, [*MONTH, *EARLIER])
        told = await console.json("/money")
        rows = {row["operation"]: row for row in told["operations"]["rows"]}
        syslogs = rows["ListSyslogs"]
        assert (syslogs["calls"], syslogs["failed"], syslogs["records"]) == (800, 60, 50_000)
        assert syslogs["cost_cny"] == pytest.approx(0.7)
        assert syslogs["cost_failed_cny"] == pytest.approx(0.06)
        assert syslogs["cny_per_million_records"] == pytest.approx(14)
        assert (syslogs["free_text"], syslogs["price_text"]) == ("100 of 100", "0.001 CNY")
        assert rows["GetNodeMetrics"]["free_text"] == "24 of 1,000"
        assert [(day["day"], day["calls"]) for day in told["days"]["rows"]] == [
            ("2025-10-09", 331),
            ("2025-10-07", 500),
        ]
        cost, calls = told["charts"]
        assert [series["title"] for series in cost["series"]] == ["ListSyslogs"]
        # One value for each day of the month until today, the ninth.
        assert cost["series"][0]["values"] == pytest.approx([0] * 6 + [0.4, 0, 0.3])
        assert sum(sum(series["values"]) for series in calls["series"]) == 831
        assert titled(told)["Paid for failed calls"]["value"] == "0.0600 CNY"
        assert titled(told)["Paid for failed calls"]["detail"] == "60 of 831 calls failed"
        rows_of_csv = list(csv.DictReader(io.StringIO(await console.csv("/money"))))
        assert [row["operation"] for row in rows_of_csv] == ["ListSyslogs", "GetNodeMetrics", "ListClusterNodes"]


async def test_what_has_no_price_is_unpriced_and_not_free(priced: Settings) -> None:
    """Its cost is not known, stands in no sum, and the page names it."""
    async with served(priced, clock=ManualClock(NOW)) as console:
        await meter(console, MONTH)
        told = await console.json("/money")
        (row,) = (row for row in told["operations"]["rows"] if row["operation"] == "ListClusterNodes")
        assert (row["price_text"], row["price_cny"], row["cost_cny"], row["forecast_cny"]) == (
            "unpriced",
            None,
            None,
            None,
        )
        assert "Unpriced: ListClusterNodes." in told["operations"]["note"]
        (shown,) = (
            row for row in (await console.html("/money")).query("#operations tbody tr") if "unpriced" in row.to_text()
        )
        assert "n/a" in shown.to_text()
        assert "0.00 CNY" not in shown.to_text()


async def test_the_end_of_the_month_is_forecast_for_each_operation(priced: Settings) -> None:
    """At the pace of the last day, with the free calls that are left taken off."""
    async with served(priced, clock=ManualClock(NOW)) as console:
        await meter(console, MONTH)
        told = await console.json("/money")
        rows = {row["operation"]: row for row in told["operations"]["rows"]}
        # All calls of the last day were made in one hour, the first of which something is known.
        began = (NOW - 3600) // 3600 * 3600
        hours = (month_end(NOW) - NOW) / (NOW - began)
        syslogs = 300 * hours
        assert rows["ListSyslogs"]["forecast_calls"] == round(800 + syslogs)
        assert rows["ListSyslogs"]["forecast_cny"] == pytest.approx(0.7 + 0.001 * syslogs)
        nodes = 24 * hours
        assert rows["GetNodeMetrics"]["forecast_calls"] == round(24 + nodes)
        assert rows["GetNodeMetrics"]["forecast_cny"] == pytest.approx(0.01 * (nodes - 976))


async def test_earlier_months_are_there_too(priced: Settings) -> None:
    """Without a forecast and without what is only known of the present; months are those that something is known of."""
    async with served(priced, clock=ManualClock(NOW)) as console:
        await meter(console, [*MONTH, *EARLIER])
        told = await console.json("/money?month=2025-08")
        (row,) = told["operations"]["rows"]
        assert (row["operation"], row["calls"], row["cost_cny"], row["forecast_cny"]) == (
            "ListSyslogs",
            1000,
            0.9,
            None,
        )
        assert [choice["title"] for choice in told["months"]] == ["2025-10", "2025-08"]
        assert [tile["title"] for tile in told["tiles"]] == ["Spent in 2025-08", "Paid for failed calls"]
        assert (told["starts_at"], told["ends_at"]) == ("2025-07-31T16:00:00Z", "2025-08-31T16:00:00Z")
        assert month_start(NOW) > NOW - 40 * DAY
        nothing = await console.json("/money?month=2024-02")
        assert nothing["operations"]["rows"] == []
        assert "no call was made in 2024-02" in (await console.html("/money?month=2024-02")).to_text()


@pytest.mark.parametrize("month", ["2025-13", "now", "1999-01", "2025-1", "<b>"])
async def test_a_month_that_is_none_is_refused(priced: Settings, month: str) -> None:
    """With what would be right."""
    async with served(priced, clock=ManualClock(NOW)) as console:
        told = await console.json(f"/money?month={month}", status=400)
        assert "expected a month such as 2026-11" in told["error"]


async def test_spent_budget_and_forecast_are_those_of_status(tmp_path: Path) -> None:
    """From the journal, calls in flight included, with what happens when the budget is reached."""
    made = settings(
        tmp_path,
        "http://127.0.0.1:1",
        api={"base_url": "http://127.0.0.1:1", "prices": {"ListSyslogs": {"cny": 1, "free": 0}}},
        budget={"monthly_cny": 10},
    )
    async with served(made, clock=ManualClock(NOW)) as console:
        journal = console.owner.journal
        for _ in range(4):
            ticket = await journal.reserve("ListSyslogs", NOW)
            await journal.settle(Attempt(ticket, "ListSyslogs", "node", NOW, 200, "", 1, 100))
        told = await console.json("/money")
        tiles = titled(told)
        assert tiles["Spent this billing month"]["value"] == "4.00 CNY"
        assert tiles["Budget"]["value"] == "10.00 CNY"
        assert tiles["Budget"]["detail"] == "40 % spent; when it is reached, calls that cost are not made"
        assert tiles["Forecast"]["state"] == "bad"
        assert told["budget"]["cap_cny"] == "10"


async def test_calls_that_are_not_stored_yet_are_counted(priced: Settings) -> None:
    """Calls and cost of an operation are never below what the journal has."""
    async with served(priced, clock=ManualClock(NOW)) as console:
        await meter(console, [(NOW - 600, "GetNodeMetrics", 200, "", 3, 30, "0.03")])
        journal = console.owner.journal
        for _ in range(5):
            ticket = await journal.reserve("GetNodeMetrics", NOW)
            await journal.settle(Attempt(ticket, "GetNodeMetrics", "group", NOW, 200, "", 1, 100))
        (row,) = (await console.json("/money"))["operations"]["rows"]
        assert (row["calls"], row["records"], row["cost_cny"]) == (5, 30, 0.03)
        (row,) = (await console.json("/money"))["days"]["rows"]
        assert row["calls"] == 3


async def test_a_store_that_fails_leaves_what_the_journal_knows(
    priced: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls and cost of the month are those of this process; what failed is not known, and not zero."""
    async with served(priced, clock=ManualClock(NOW)) as console:
        journal = console.owner.journal
        ticket = await journal.reserve("ListSyslogs", NOW)
        await journal.settle(Attempt(ticket, "ListSyslogs", "node", NOW, 200, "", 1, 100))

        async def query(*arguments: object, **options: object) -> object:
            raise QueryError(FAILURE)

        monkeypatch.setattr(console.owner.store, "query", query)
        told = await console.json("/money")
        (row,) = told["operations"]["rows"]
        assert (row["operation"], row["calls"], row["failed"], row["records"]) == ("ListSyslogs", 1, None, None)
        assert FAILURE in told["operations"]["note"]
        assert FAILURE in told["days"]["failure"]
        assert all(FAILURE in chart["failure"] for chart in told["charts"])
        assert titled(told)["Paid for failed calls"]["failure"] == FAILURE
        await console.html("/money")
