"""Pages about nodes, faults and usage over stores of their own: one process has one embedded store at a time."""

from __future__ import annotations

import json

from collector.settings import Settings
from tests.support.console_pages import served
from tests.support.fleet import BAD, END, GAPPED, GROUP, HOURS, OTHER_USER, RANGE, REGION, fill

START = END - HOURS * 3600


async def test_markup_in_what_is_shown_harms_no_page(configuration: Settings) -> None:
    """Names, messages, reasons and results of others are text on every page about nodes, faults and usage."""
    markup = '<b onclick="x">&amp;</b>"\'</script>'
    async with served(configuration) as console:
        await fill(console.owner.store, END, markup=markup)
        for path in (
            "/nodes?",
            f"/nodes/{BAD}?",
            f"/nodes/{GAPPED}?",
            "/faults?",
            "/usage?by=job&",
            "/usage?by=group&",
        ):
            document = await console.html(path + RANGE)
            assert not document.query("[onclick]"), path
        assert markup in (await console.html(f"/nodes/{BAD}?{RANGE}")).to_text()
        for path in ('/nodes?q="><b onclick=x>', '/faults?node="><b onclick=x>', '/usage?group="><b onclick=x>'):
            assert not (await console.html(path)).query("[onclick]")


async def test_workspaces_are_not_counted_twice(configuration: Settings) -> None:
    """A group that was asked for as a whole and by workspace has both as rows, and one in every sum."""
    columns = ("time", "region", "resource_group_id", "user_id", "request_gpu", "gpu_usage_rate", "workspace_id")
    body = "\n".join(
        json.dumps([second, REGION, GROUP, OTHER_USER, 8, 60.0, "ws-9"]) for second in range(START, END, 60)
    )
    async with served(configuration) as console:
        await fill(console.owner.store, END)
        before = await console.json(f"/usage?{RANGE}&by=group")
        await console.owner.store.insert("user_metrics", columns, body.encode(), token="workspace")
        span = f"from={START}&until={END + 1}"
        after = await console.json(f"/usage?{span}&by=group")
        for part in ("groups",):
            assert [row["gpu_hours"] for row in after[part]["rows"]] == [
                row["gpu_hours"] for row in before[part]["rows"]
            ]
        assert after["tiles"][0]["value"] == before["tiles"][0]["value"]
        assert after["charts"][0]["series"][0]["values"][5] == before["charts"][0]["series"][0]["values"][5] == 20
        assert [row["workspace_id"] for row in after["charge"]["rows"]].count("ws-9") == 1
        only = await console.json(f"/usage?{span}&workspace=ws-9")
        assert [row["gpu_hours"] for row in only["users"]["rows"]] == [48]


async def test_a_snapshot_stands_until_the_next_one(configuration: Settings) -> None:
    """Also where that is behind the range; before a break it stands as long as snapshots of the group usually do."""
    columns = ("time", "region", "resource_group_id", "user_id", "request_gpu", "request_cpu")
    rows = [[START + after, REGION, GROUP, OTHER_USER, 8, 96] for after in (0, 60, 120, 180, 480)]
    async with served(configuration) as console:
        body = "\n".join(json.dumps(row) for row in rows).encode()
        await console.owner.store.insert("user_metrics", columns, body, token="odd steps")
        for until, seconds in ((200, 480), (2000, 540)):
            (row,) = (await console.json(f"/usage?from={START}&until={START + until}"))["charge"]["rows"]
            assert (row["gpu_hours"], row["hours_known"]) == (round(8 * seconds / 3600, 4), round(seconds / 3600, 4))
            assert row["gpu_hours_used"] is None
