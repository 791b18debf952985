"""The page of faults: incidents, the heat map, kinds and Xids, all by the same filters."""

from __future__ import annotations

from typing import Any

import pytest

from collector.console.period import iso
from tests.support.console_pages import Console
from tests.support.fleet import BAD, CALM, END, FAULT_BEFORE, HOURS, JOB, RANGE, UNLISTED

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def page(console: Console, query: str = "") -> Any:
    return await console.json(f"/faults?{RANGE}{query}")


async def test_incidents_come_worst_first_with_what_to_do(fleet: Console) -> None:
    """With meaning, action, users and jobs; the chart and the choices count their lines."""
    told = await page(fleet)
    rows = told["incidents"]["rows"]
    assert [(row["node_id"], row["fault"], row["fault_severity"]) for row in rows] == [
        (BAD, "xid 79", "fatal"),
        (UNLISTED, "oom", "degraded"),
        (BAD, "oom", "degraded"),
        (CALM, "xid 63", "corrected"),
    ]  # fmt: skip
    assert (rows[0]["users"], rows[0]["jobs"], rows[0]["lasted"]) == (["1201"], [JOB], 90)
    assert all(row["meaning"] and row["action"] for row in rows)
    sums = {line["title"]: sum(line["values"]) for line in told["over_time"]["series"]}
    assert sums == {"info": 0, "fatal": 4, "corrected": 1, "application": 0, "degraded": 2}
    assert {choice["title"]: choice["count"] for choice in told["classes"]} == {"all classes": None, "xid": 5, "oom": 2}
    assert [(choice["title"], choice["count"]) for choice in told["severities"]][:3] == [
        ("all", None), ("fatal", 4), ("degraded and worse", 6),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("query", "nodes"),
    [
        ("&class=xid", {BAD, CALM}),
        ("&severity=degraded", {BAD, UNLISTED}),
        ("&class=xid&severity=fatal", {BAD}),
        (f"&node={CALM}", {CALM}),
        ("&class=nothing", set()),
    ],
)
async def test_filters_hold_for_every_part(fleet: Console, query: str, nodes: set[str]) -> None:
    """Incidents, heat map, kinds and Xids have no other node or class."""
    told = await page(fleet, query)
    assert {row["node_id"] for row in told["incidents"]["rows"]} == nodes
    assert {row["node_id"] for row in told["heatmap"]["rows"] if row["lines"]} == nodes
    assert {row["node_id"] for row in told["xids"]["rows"]} <= nodes
    assert sum(row["nodes"] for row in told["kinds"]["rows"]) >= len(nodes)
    assert sum(sum(line["values"]) for line in told["over_time"]["series"]) == sum(
        row["lines"] for row in told["kinds"]["rows"]
    )
    chosen = [choice["title"] for choice in told["classes"] if choice["is_chosen"]]
    assert chosen == ([query.split("class=")[1].split("&")[0]] if "class" in query else ["all classes"])


async def test_the_heat_map_leads_to_the_node_at_that_hour(fleet: Console) -> None:
    """Each cell has its lines, its severity as a colour and in words, and the time in its link."""
    document = await fleet.html(f"/faults?{RANGE}&node={BAD}")
    (row,) = document.query("table.heat tbody tr")
    cells = [cell for cell in row.query("td") if cell.query("a")]
    assert [(cell.attrs["class"], cell.to_text()) for cell in cells] == [
        ("heat fatal", "4"), ("heat degraded", "1"),
    ]  # fmt: skip
    link = cells[0].query("a")[0].attrs
    moment = iso(END - FAULT_BEFORE)[:16].replace("T", " ")
    assert link["aria-label"] == f"{BAD}, {moment} UTC: fatal, 4 lines"
    assert link["href"].startswith(f"/nodes/{BAD}?from=")
    told = await page(fleet, f"&node={BAD}")
    assert [(row["fault_severity"], row["lines"]) for row in told["heatmap"]["rows"]] == [
        ("fatal", 4), ("degraded", 1),
    ]  # fmt: skip
    heads = document.query("table.heat thead th")
    spans = [int(str(head.attrs.get("colspan", 1))) for head in heads]
    assert sum(spans) == 1 + len(row.query("td"))


async def test_steps_that_are_not_covered_are_not_free_of_faults(fleet: Console) -> None:
    """Before collecting began a cell says so, in the map and in its rows."""
    query = f"from={END - (HOURS + 2) * 3600}&until={END}&node={BAD}"
    told = await fleet.json(f"/faults?{query}")
    unknown = [row for row in told["heatmap"]["rows"] if row["lines"] is None]
    assert unknown
    assert all(row["covered_seconds"] == 0 and row["time"] < iso(END - HOURS * 3600) for row in unknown)
    document = await fleet.html(f"/faults?{query}")
    cells = document.query("table.heat td.unknown")
    assert len(cells) == len(unknown)
    assert cells[0].to_text() == "not covered"


async def test_kinds_and_xids_say_what_they_mean(fleet: Console) -> None:
    """Kinds fold nodes and devices, the worst first; Xids name device, process and number."""
    told = await page(fleet)
    kinds = [(row["fault"], row["incidents"], row["lines"], row["nodes"]) for row in told["kinds"]["rows"]]
    assert kinds == [("xid 79", 1, 4, 1), ("oom", 2, 2, 2), ("xid 63", 1, 1, 1)]
    xids = told["xids"]["rows"]
    assert [row["code"] for row in xids] == [79, 79, 79, 79, 63]
    assert (xids[0]["device"], xids[0]["process"], xids[0]["pid"]) == ("0000:3b:00", "python3", "4711")
    assert all(row["meaning"] and row["action"] for row in xids)
    worst = told["worst_nodes"]["rows"]
    assert [(row["node_id"], row["fatal"], row["degraded"]) for row in worst] == [
        (BAD, 1, 1),
        (UNLISTED, 0, 1),
        (CALM, 0, 0),
    ]


async def test_a_severity_that_is_none_is_refused(fleet: Console) -> None:
    """With those that there are."""
    told = await fleet.json("/faults?severity=odd", status=400)
    assert told["error"] == "severity: got 'odd'; expected one of info, corrected, application, degraded, fatal"


async def test_a_range_without_faults_says_so(fleet: Console) -> None:
    """Every part has its sentence, and the heat map no rows."""
    document = await fleet.html(f"/faults?from={END - 4 * 3600}&until={END - 3 * 3600}&node={BAD}")
    assert "no incident like this in this range" in document.to_text()
    assert not document.query("table.heat")
