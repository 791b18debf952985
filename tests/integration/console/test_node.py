"""The page of a node: one axis for all that happened, and what is not known of it."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
from playwright.async_api import expect

from collector.console.period import iso
from tests.support.browser import chromium, tab, with_chromium
from tests.support.console_pages import Console
from tests.support.fleet import BAD, CALM, END, FAULT_BEFORE, GAP, GAPPED, HOURS, JOB, RANGE, SILENT, SILENT_SECONDS

pytestmark = pytest.mark.asyncio(loop_scope="module")

START = END - HOURS * 3600


async def page(console: Console, node: str, query: str = RANGE) -> Any:
    return await console.json(f"/nodes/{node}?{query}")


async def test_all_charts_and_lanes_have_one_axis(fleet: Console) -> None:
    """The same times for every measure that exists, from the start of the range to its end."""
    told = await page(fleet, BAD)
    assert [chart["title"].partition(",")[0] for chart in told["charts"]] == [
        "GPU", "CPU and memory", "Network", "Log lines",
    ]  # fmt: skip
    assert len({tuple(chart["times"]) for chart in told["charts"]}) == 1
    times = told["charts"][0]["times"]
    assert (times[0], times[-1]) == (told["axis"]["start"], told["axis"]["end"]) == (START, END)
    gpu = told["charts"][0]
    assert gpu["unit"] == "%"
    assert gpu["series"][0]["values"][0] is not None
    assert gpu["series"][0]["values"][-2] is None, "it was measured no more once its GPU was gone"
    marks = {mark["title"] for mark in gpu["marks"]}
    assert {"fatal: xid 79 0000:3b:00", "NodeCheck: Fault", f"name of {JOB} of 1201 ends"} <= marks


async def test_charts_show_only_the_worst_of_many_incidents(fleet: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bands of all of them would hide what is measured; the lane has every one."""
    # The package has a function of the module's name.
    monkeypatch.setattr(import_module("collector.console.pages.node"), "CHART_INCIDENTS_MAX", 1)
    told = await page(fleet, BAD)
    shown = [
        mark["title"] for mark in told["charts"][0]["marks"] if mark["title"].startswith(("fatal:", "application:"))
    ]
    assert shown == ["fatal: xid 79 0000:3b:00"]
    assert len(told["lanes"][1]["marks"]) == 2


async def test_incidents_have_meaning_action_and_whom_they_hit(fleet: Console) -> None:
    """The worst first, each with a link to its lines."""
    told = await page(fleet, BAD)
    first, second = told["incidents"]["rows"]
    assert (first["fault"], first["fault_severity"], first["lines"]) == ("xid 79", "fatal", 4)
    assert "fallen off the bus" in first["meaning"]
    assert first["action"]
    assert (first["users"], first["jobs"]) == (["1201"], [JOB])
    assert second["fault"] == "oom"
    document = await fleet.html(f"/nodes/{BAD}?{RANGE}")
    (link,) = [tag.attrs["href"] for tag in document.query("#incidents td a") if tag.to_text() == "xid 79"]
    assert link.startswith(f"/logs?q=node%3A{BAD}&from=")


async def test_a_gap_is_shown_as_not_covered(fleet: Console) -> None:
    """As a part of the coverage bar, as a row with its reason, and in the chart as nothing known."""
    told = await page(fleet, GAPPED)
    gap = told["uncovered"]["rows"][0]
    first, last = END - GAP[0], END - GAP[1]
    assert (gap["what"], gap["first"], gap["last"]) == ("gap", iso(first), iso(last))
    assert gap["reason"] == "the service had dropped it"
    bar = told["lanes"][0]["marks"]
    assert [(mark["severity"], mark["time"], mark["end"]) for mark in bar] == [
        ("covered", START, first), ("missing", first, last), ("covered", last, END - 60), ("outside", END - 60, END),
    ]  # fmt: skip
    chart = told["charts"][-1]
    for time, others, faults in zip(chart["times"], *(line["values"] for line in chart["series"]), strict=True):
        assert (others is None) == (faults is None) == (first <= time < last or time == END), iso(time)


async def test_silence_is_told_from_what_is_not_covered(fleet: Console) -> None:
    """A node whose stream goes on and that logs nothing is silent; its chart shows zero there."""
    told = await page(fleet, SILENT)
    silent = told["uncovered"]["rows"][0]
    assert (silent["what"], silent["last"]) == ("silent", iso(END - 60))
    assert abs(silent["seconds"] - SILENT_SECONDS) < 120
    assert told["charts"][-1]["series"][0]["values"][-3] == 0
    assert [mark["severity"] for mark in told["lanes"][0]["marks"]] == ["covered", "quiet", "outside"]
    assert told["has_metrics"] is False
    document = await fleet.html(f"/nodes/{SILENT}?{RANGE}")
    assert "No metric of this node" in document.to_text()


async def test_before_collecting_began_is_not_silence(fleet: Console) -> None:
    """It is a part of its own with its reason."""
    told = await page(fleet, CALM, f"from={START - 7200}&until={END}")
    first = told["uncovered"]["rows"][0]
    assert (first["what"], first["reason"], first["seconds"]) == ("not collected", "before collecting began", 7200)


async def test_jobs_events_and_diagnoses_are_those_of_the_node(fleet: Console) -> None:
    """Jobs by the list of jobs and by usage once each; events of them, and none of elsewhere."""
    told = await page(fleet, BAD)
    (job,) = told["jobs"]["rows"]
    assert (job["job"], job["state"], job["users"], job["known_by"]) == (JOB, "Failed", ["1201"], "list of jobs, usage")
    assert job["last"] == iso(END - FAULT_BEFORE + 120)
    assert [row["reason"] for row in told["events"]["rows"]] == ["PodFailed", "Started"]
    (task,) = told["diagnoses"]["rows"]
    assert (task["state"], task["findings"], task["details"]) == ("Fault", 1, "GpuXid: outside")
    assert {lane["title"]: len(lane["marks"]) for lane in told["lanes"][1:]} == {
        "Incidents": 2, "Events": 2, "Diagnoses": 1, "Jobs": 1,
    }  # fmt: skip
    assert len(told["lines"]["rows"]) == 30
    assert told["lines"]["rows"][0]["time"] > told["lines"]["rows"][-1]["time"]


async def test_lanes_are_drawn_on_the_server(fleet: Console) -> None:
    """Each span has its words, and each lane says how many it has."""
    document = await fleet.html(f"/nodes/{BAD}?{RANGE}")
    lanes = document.query("svg.lane")
    assert [lane.attrs["aria-label"].partition(":")[0] for lane in lanes] == [
        "Log", "Incidents", "Events", "Diagnoses", "Jobs",
    ]  # fmt: skip
    titles = [tag.to_text() for tag in document.query("svg.lane rect title")]
    assert "fatal: xid 79 0000:3b:00" in titles
    assert not document.query("[style]")


async def test_a_node_that_is_not_known_is_not_found(fleet: Console) -> None:
    """With the status 404 and a sentence, whatever stands in the address."""
    for name in ("e99-none", "%3Cb%3E%22%3F", "a%20b", "..%2f..%2fetc"):
        told = await fleet.json(f"/nodes/{name}", status=404)
        assert "There is no node" in told["error"]
        document = await fleet.html(f"/nodes/{name}", status=404)
        assert "There is no node" in document.query(".failure")[0].to_text()
        assert not document.query("main b")


async def test_a_host_name_leads_to_its_node(fleet: Console) -> None:
    """By it usage names nodes; the range stays."""
    told = await page(fleet, "host-e01")
    assert (told["page"], told["axis"]["end"]) == (f"/nodes/{BAD}", END)


async def test_tables_have_as_many_rows_as_are_asked_for(fleet: Console) -> None:
    """They say that there are more."""
    told = await page(fleet, BAD, f"{RANGE}&rows=1")
    assert [len(told[name]["rows"]) for name in ("incidents", "events")] == [1, 1]
    assert "the first 1; more by" in told["incidents"]["note"]
    assert "rows: got '0'" in (await fleet.json(f"/nodes/{BAD}?rows=0", status=400))["error"]


@with_chromium
async def test_the_lanes_follow_the_cursor_of_the_charts(fleet: Console) -> None:
    """All lanes have a line at the place that the pointer is at in a chart, and none once it has left."""
    async with chromium() as browser, tab(browser, fleet.address) as opened:
        await opened.open(f"/nodes/{BAD}?{RANGE}")
        lines = opened.page.locator("svg.lane line")
        assert await lines.count() == 0
        area = await opened.page.locator(".u-over").first.bounding_box()
        lane = await opened.page.locator("svg.lane").first.bounding_box()
        assert area
        assert lane
        assert abs(area["x"] - lane["x"]) < 2, "one axis"
        assert abs(area["width"] - lane["width"]) < 3, "one axis"
        await opened.page.mouse.move(area["x"] + area["width"] / 4, area["y"] + 20)
        await expect(lines).to_have_count(5)
        assert 24 < float((await lines.first.get_attribute("x1") or "").rstrip("%")) < 26
        await opened.page.mouse.move(2, 2)
        await opened.page.mouse.move(area["x"], area["y"] - 40)
        await expect(lines).to_have_count(0)
        assert not opened.troubles
