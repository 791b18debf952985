"""The table of nodes: what is known of each, filtered, sorted and paged by the address."""

from __future__ import annotations

from statistics import mean
from typing import Any

import pytest

from collector.errors import QueryError
from tests.support.console_pages import Console
from tests.support.fleet import (
    BAD,
    CALM,
    END,
    FAULT_BEFORE,
    GAPPED,
    GONE,
    HOUR,
    HOURS,
    NODES,
    RANGE,
    SILENT,
    STEP,
    UNLISTED,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def rows(console: Console, query: str = "") -> list[dict[str, Any]]:
    told = await console.json(f"/nodes?{RANGE}{query}")
    assert told["failures"] == []
    return list(told["nodes"]["rows"])


def ids(rows: list[dict[str, Any]]) -> list[str]:
    return [row["node_id"] for row in rows]


async def test_every_node_is_there_with_what_is_known_of_it(fleet: Console) -> None:
    """The worst first; what no list, metric or stream tells of a node is not known, and never zero."""
    told = {row["node_id"]: row for row in await rows(fleet)}

    assert list(told) == [BAD, UNLISTED, CALM, SILENT, GONE, GAPPED]
    bad = told[BAD]
    assert (bad["fault_severity"], bad["worst_fault"], bad["last_fault"]) == ("fatal", "xid 79", "oom")
    assert (bad["operating_state"], bad["machine_type"], bad["zone_id"]) == ("Using", "efg1.nvga1", "cn-hangzhou-b")
    assert (bad["resource_group_id"], bad["hostname"]) == ("rg-train", "host-e01")
    assert bad["fault_rate"] == [0, 0, 0, 0, 4, 1]
    hours = range(END - HOURS * HOUR, END - FAULT_BEFORE, HOUR)
    assert bad["gpu"][:4] == [
        round(mean(20 + second // STEP % 7 for second in range(hour, hour + HOUR, STEP)), 1) for hour in hours
    ]
    assert bad["gpu"][-1] is None
    assert {node: row["log"] for node, row in told.items() if row["log"] != "ok"} == {SILENT: "silent", GONE: "silent"}
    assert told[SILENT]["silent"] == "2h 59m"
    assert {node: row["listed"] for node, row in told.items() if row["listed"] != "present"} == {
        GONE: "gone", UNLISTED: "never",
    }  # fmt: skip
    assert told[UNLISTED]["machine_type"] is None
    assert told[SILENT]["gpu"] is None
    assert told[GAPPED]["fault_severity"] == ""


async def test_before_collecting_began_faults_are_not_known(fleet: Console) -> None:
    """The line of faults is broken there, and not zero."""
    told = await fleet.json(f"/nodes?from={END - (HOURS + 2) * 3600}&until={END}")
    rates = {row["node_id"]: row["fault_rate"] for row in told["nodes"]["rows"]}
    assert rates[BAD] == [None, None, 0, 0, 0, 0, 4, 1]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("&state=trouble", [BAD, UNLISTED]),
        ("&state=silent", [SILENT, GONE]),
        ("&state=gone", [GONE]),
        ("&state=unlisted", [UNLISTED]),
        ("&q=CALM", [CALM]),
        ("&q=host-e01", [BAD]),
        ("&q=efg1+xid", [BAD, CALM]),
        ("&q=rg-train&state=trouble", [BAD]),
        ("&q=nothing-like-it", []),
        ("&sort=name", sorted(NODES)),
        ("&sort=recent&state=trouble", [UNLISTED, BAD]),
        ("&sort=quiet&rows=2", [GONE, SILENT]),
        ("&sort=idle&rows=3", [BAD, GAPPED, CALM]),
        ("&rows=2&page=2", [CALM, SILENT]),
        ("&rows=4&page=99", [GONE, GAPPED]),
    ],
)
async def test_search_filter_order_and_page_are_in_the_address(fleet: Console, query: str, expected: list[str]) -> None:
    """Each of them chooses among all nodes, not only those of a page."""
    assert ids(await rows(fleet, query)) == expected


async def test_filters_say_how_many_they_would_show(fleet: Console) -> None:
    """Of those that the search finds; and they lead to them."""
    told = await fleet.json(f"/nodes?{RANGE}&q=host&page=3")
    counts = {choice["title"]: choice["count"] for choice in told["states"]}
    assert counts == {
        "all": 6, "in trouble": 2, "silent": 2, "log not collected": 0, "present": 4, "gone": 1, "never listed": 1,
    }  # fmt: skip
    document = await fleet.html(f"/nodes?{RANGE}&q=host&page=3")
    links = {tag.to_text().split()[0]: str(tag.attrs["href"]) for tag in document.query("nav.choices a")}
    assert "state=gone" in links["gone"]
    assert "page=" not in links["gone"]
    assert document.query("input[name=q]")[0].attrs["value"] == "host"


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("state=odd", "state: got 'odd'; expected one of trouble"),
        ("sort=odd", "sort: got 'odd'; expected"),
        ("rows=0", "rows: got '0'; expected 1 to 2,000"),
        ("rows=9999", "rows: got '9999'"),
        ("page=-1", "page: got '-1'"),
    ],
)
async def test_what_is_not_understood_is_refused(fleet: Console, query: str, expected: str) -> None:
    """With what would be right."""
    assert expected in (await fleet.json(f"/nodes?{query}", status=400))["error"]


async def test_a_read_that_fails_leaves_the_others(fleet: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its columns are not known, the reason is shown, and the nodes are there all the same."""
    real = fleet.owner.store.query

    async def query(sql: str, **options: Any) -> Any:
        if "fault_days" in sql:
            raise QueryError("Code: 241. out of memory")
        return await real(sql, **options)

    monkeypatch.setattr(fleet.owner.store, "query", query)
    told = await fleet.json(f"/nodes?from={END - 10 * 3600}&until={END}")
    assert told["failures"] == ["worst faults: Code: 241. out of memory"]
    assert [row["fault_severity"] for row in told["nodes"]["rows"]] == [None] * len(NODES)
    document = await fleet.html(f"/nodes?from={END - 10 * 3600}&until={END}")
    assert "out of memory" in document.query(".failure")[0].to_text()
