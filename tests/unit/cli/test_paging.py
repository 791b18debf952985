"""All pages of a list, as `call --all` reads them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from collector.catalogue.operations import CATALOGUE
from collector.catalogue.parameters import coerce_parameters
from collector.cli.paging import Pages
from collector.errors import CursorLoopError, TransientError, UsageError
from collector.owner.calls import CallResult

CLUSTERS, USERS = CATALOGUE["ListClusters"], CATALOGUE["GetUserViewMetrics"]
GROUP = {"ResourceGroupID": "rg1"}


class Service:
    """Answers with the pages of a script, the last one for good."""

    def __init__(self, *pages: dict[str, Any] | Exception, cost: str = "0.001 CNY") -> None:
        self.pages = list(pages)
        self.asked: list[dict[str, Any]] = []
        self.cost = cost

    async def ask(self, operation: str, parameters: Mapping[str, Any]) -> CallResult:
        self.asked.append(coerce_parameters(CATALOGUE[operation], parameters))
        page = self.pages.pop(0) if len(self.pages) > 1 else self.pages[0]
        if isinstance(page, Exception):
            raise page
        return CallResult(operation, page, 200, "", self.cost)


def clusters(*names: str, token: str | None = None) -> dict[str, Any]:
    return {"Clusters": [{"ClusterId": name} for name in names], "NextToken": token, "RequestId": "r"}


def users(*names: str, total: int | None = None) -> dict[str, Any]:
    return {"UserMetrics": [{"UserId": name} for name in names], "Total": total}


async def test_pages_by_token_become_one_answer() -> None:
    """Each token is asked once, and the answer has the records of all pages and the fields of the last."""
    service, pages = Service(clusters("a", token="t1"), clusters("b", token="t2"), clusters("c")), Pages(CLUSTERS)
    await pages.read(service.ask, {})
    assert [asked.get("NextToken") for asked in service.asked] == [None, "t1", "t2"]
    assert pages.answer == clusters("a", "b", "c")
    assert (pages.calls, pages.cost, pages.left_out) == (3, "3 x 0.001 CNY", "")


async def test_pages_by_number_go_on_until_the_total_has_come() -> None:
    """The size of a page is the operation's largest unless it is given, and stays the same."""
    service, pages = Service(users("a", "b", total=3), users("c", total=3)), Pages(USERS)
    await pages.read(service.ask, GROUP | {"PageSize": "2"})
    assert [(asked["PageNumber"], asked["PageSize"]) for asked in service.asked] == [("1", "2"), ("2", "2")]
    assert pages.answer == users("a", "b", "c", total=3)
    service, pages = Service(users("a", total=1)), Pages(USERS)
    await pages.read(service.ask, GROUP)
    assert service.asked[0]["PageSize"] == "1000"


@pytest.mark.parametrize(("total", "left_out"), [("5", "the list ended before the 5 records that it counts"), (2, "")])
async def test_a_list_by_token_that_ends_before_its_total_is_told(total: object, left_out: str) -> None:
    """In any spelling of the total."""
    last = clusters() | {"totalCount": total}
    pages = Pages(CLUSTERS)
    await pages.read(Service(clusters("a", "b", token="t1"), last).ask, {})
    assert (pages.calls, pages.left_out) == (2, left_out)


@pytest.mark.parametrize(
    ("script", "calls"),
    [
        ([clusters("a", token="t1"), clusters("b", token="t1")], 2),
        ([clusters("a", token=f"t{n}") for n in range(9)], 4),
        ([clusters(token=f"t{n}") for n in range(20)], 11),
    ],
    ids=["token", "records", "nothing"],
)
async def test_a_list_that_repeats_itself_is_left(script: list[dict[str, Any]], calls: int) -> None:
    """A token, records or nothing at all again and again: it ends as the collector's lists do, and keeps what came."""
    pages = Pages(CLUSTERS)
    with pytest.raises(CursorLoopError):
        await pages.read(Service(*script).ask, {})
    assert pages.calls == calls


async def test_pages_and_bytes_are_bounded() -> None:
    """What is left out is told, with what reads more."""
    script = [clusters(f"c{n}", token=f"t{n}") for n in range(9)]
    pages = Pages(CLUSTERS, pages_max=3)
    await pages.read(Service(*script).ask, {})
    assert (pages.calls, pages.left_out) == (3, "more than 3 pages; --pages-max N reads more")
    pages = Pages(CLUSTERS, bytes_max=30)
    await pages.read(Service(*script).ask, {})
    assert pages.calls == 2
    assert pages.left_out.startswith("more than 0 MiB")


async def test_a_stop_ends_with_the_page_that_is_read_and_an_error_keeps_the_pages_before() -> None:
    """What was paid for is shown."""
    script = [clusters("a", token="t1"), clusters("b", token="t2"), TransientError("away")]
    pages = Pages(CLUSTERS)
    with pytest.raises(TransientError):
        await pages.read(Service(*script).ask, {})
    assert [one["ClusterId"] for one in pages.answer["Clusters"]] == ["a", "b"]
    stop = asyncio.Event()
    stop.set()
    pages = Pages(CLUSTERS, stop=stop)
    await pages.read(Service(*script).ask, {})
    assert (pages.calls, pages.left_out) == (1, "interrupted")


async def test_a_page_cannot_be_named_and_an_operation_has_to_have_pages() -> None:
    """Both are refused before a call."""
    service = Service(clusters("a"))
    with pytest.raises(UsageError, match="NextToken: got 't'; expected nothing"):
        await Pages(CLUSTERS).read(service.ask, {"NextToken": "t"})
    with pytest.raises(UsageError, match="DescribeResourceLog has no pages"):
        Pages(CATALOGUE["DescribeResourceLog"])
    assert service.asked == []
