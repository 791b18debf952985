"""The page of usage: hours that were asked for and used, idle stretches, jobs, and what is charged."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest

from collector.console.period import iso
from tests.support.console_pages import Console
from tests.support.fleet import (
    BAD,
    BUSY_USER,
    END,
    GROUP,
    HOURS,
    IDLE_USER,
    JOB,
    OTHER_GROUP,
    OTHER_JOB,
    OTHER_USER,
    RANGE,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

START = END - HOURS * 3600
BUSY_SNAPSHOTS = 243
"""One a minute until two minutes after the fault, both ends included."""


async def page(console: Console, query: str = "", span: str = RANGE) -> Any:
    return await console.json(f"/usage?{span}{query}")


async def test_hours_of_users_are_exact(fleet: Console) -> None:
    """Each snapshot stands until the next; shares are of what was measured; those with the most unused come first."""
    rows = {row["user_id"]: row for row in (await page(fleet))["users"]["rows"]}
    assert list(rows) == [IDLE_USER, OTHER_USER, BUSY_USER]
    told = {user: (row["gpu_hours"], row["gpu_hours_used"], row["gpu_percent"]) for user, row in rows.items()}
    busy = round(8 * BUSY_SNAPSHOTS / 60, 4)
    assert told == {
        IDLE_USER: (24, 0.24, 1), OTHER_USER: (48, 28.8, 60), BUSY_USER: (busy, round(busy * 0.8, 4), 80),
    }  # fmt: skip
    assert rows[OTHER_USER]["cpu_hours"] == 48 * 12
    assert rows[OTHER_USER]["cpu_percent"] == 30


async def test_what_is_charged_is_a_file(fleet: Console) -> None:
    """A row for each user, group and workspace with the range, and how much of it is known."""
    rows = list(csv.DictReader(io.StringIO(await fleet.csv(f"/usage?{RANGE}&table=charge"))))
    assert [(row["resource_group_id"], row["user_id"], row["gpu_hours"], row["cpu_hours"]) for row in rows] == [
        (OTHER_GROUP, IDLE_USER, "24", "288"), (GROUP, OTHER_USER, "48", "576"), (GROUP, BUSY_USER, "32.4", "388.8"),
    ]  # fmt: skip
    assert {(row["range_from"], row["range_until"]) for row in rows} == {(iso(START), iso(END))}
    assert {(row["hours_known"], row["hours_in_range"]) for row in rows} == {("6", "6.0")}
    document = await fleet.html(f"/usage?{RANGE}")
    (link,) = [tag.attrs["href"] for tag in document.query("#charge a") if "table=charge" in str(tag.attrs["href"])]
    assert str(link).startswith("/usage.csv?from=")


async def test_ranges_beside_one_another_charge_the_same_as_one(fleet: Console) -> None:
    """Nothing is charged twice or not at all where they meet."""
    whole, *parts = [
        {row["user_id"]: row["gpu_hours"] for row in (await page(fleet, span=span))["charge"]["rows"]}
        for span in (RANGE, f"from={START}&until={START + 5000}", f"from={START + 5000}&until={END}")
    ]
    assert {user: round(sum(part[user] for part in parts), 3) for user in whole} == whole


async def test_hours_without_snapshots_are_not_charged(fleet: Console) -> None:
    """They are told apart: known hours are fewer than those in the range."""
    told = await page(fleet, span=f"from={START - 7200}&until={END}")
    assert {(row["hours_known"], row["hours_in_range"]) for row in told["charge"]["rows"]} == {(6, 8)}
    assert told["charts"][0]["series"][0]["values"][0] is None


async def test_groups_are_held_against_what_they_have(fleet: Console) -> None:
    """Hours asked for, of all GPUs of the group in the hours that are known."""
    rows = {row["resource_group_id"]: row for row in (await page(fleet, "&by=group"))["groups"]["rows"]}
    assert (rows[GROUP]["gpu_hours"], rows[GROUP]["total_gpu"], rows[GROUP]["users"]) == (80.4, 64, 2)
    assert rows[GROUP]["asked_percent"] == round(80.4 / (64 * 6) * 100, 1)
    assert rows[OTHER_GROUP]["gpu_percent"] == 1


async def test_what_is_held_idle_is_listed(fleet: Console) -> None:
    """With user, how long and how many GPU hours, under an anchor that the overview leads to."""
    told = await page(fleet)
    (stretch,) = told["idle"]["rows"]
    assert (stretch["user_id"], stretch["gpus"], stretch["gpu_hours"]) == (IDLE_USER, 4, 23.93)
    assert (await fleet.html(f"/usage?{RANGE}")).query("#idle table")
    assert next(tile for tile in told["tiles"] if "idle" in tile["title"])["value"] == "23.9"


async def test_filters_choose_in_every_part(fleet: Console) -> None:
    """A user's page has figures of no other user, also in the chart over time."""
    told = await page(fleet, f"&user={BUSY_USER}")
    for name in ("users", "charge"):
        assert {row["user_id"] for row in told[name]["rows"]} == {BUSY_USER}
    assert told["idle"]["rows"] == told["now_table"]["rows"] == []
    requested, used = (line["values"] for line in told["charts"][0]["series"])
    assert (requested[3], used[3]) == (8, 6.4)
    assert requested[-1] == 0, "in later snapshots of the group the user has nothing"
    assert {row["resource_group_id"] for row in (await page(fleet, f"&group={OTHER_GROUP}"))["users"]["rows"]} == {
        OTHER_GROUP
    }


async def test_jobs_and_why_one_failed(fleet: Console) -> None:
    """The list of jobs tells what a job asked for, usage names others; a job shows what its nodes reported."""
    rows = {row["job"]: row for row in (await page(fleet, "&by=job"))["jobs"]["rows"]}
    assert set(rows) == {JOB, OTHER_JOB, "dlc-forgotten"}
    assert (rows[JOB]["state"], rows[JOB]["gpus"], rows[JOB]["nodes"]) == ("Failed", 8, [BAD])
    assert rows[JOB]["gpu_hours"] == round(8 * (3 * 3600 + 120) / 3600, 4)
    assert rows[OTHER_JOB]["gpu_hours"] == 40
    assert rows["dlc-forgotten"]["gpu_hours"] is None
    told = await page(fleet, f"&by=job&job={JOB}")
    assert [row["job"] for row in told["jobs"]["rows"]] == [JOB]
    (fault,) = told["job_faults"]["rows"]
    assert (fault["node"], fault["fault"], fault["fault_severity"]) == (BAD, "xid 79", "fatal")
    assert fault["seconds_before"] == 120


async def test_a_tab_that_is_none_is_refused(fleet: Console) -> None:
    """With those that there are."""
    assert "expected one of group, user, job" in (await fleet.json("/usage?by=odd", status=400))["error"]


async def test_without_usage_no_figure_is_shown(fleet: Console) -> None:
    """Tiles of a range without snapshots are not known, and not zero."""
    told = await page(fleet, span=f"from={START - 9000}&until={START - 3600}")
    assert [tile["value"] for tile in told["tiles"]] == [None] * 5
    assert (
        "no snapshot of usage in this range"
        in (await fleet.html(f"/usage?from={START - 9000}&until={START - 3600}")).to_text()
    )
