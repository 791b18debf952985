"""`gaps`, `backfill` and `verify` as a user runs them, against a simulator in another process."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from collector.settings import load
from tests.integration.test_commands import calls, command, configured, simulated, started, world
from tests.support import LOOKBACK, NOW, SETTLE, differences, stored_syslogs, true_syslogs
from tests.support.range_commands import gaps

BEGIN = NOW - LOOKBACK
START = BEGIN - 1_200
RANGE = ("--from", "2025-10-09T08:03:20Z", "--to", "2025-10-09T08:23:20Z")
"""The twenty minutes before the first window."""
PATIENCE_SECONDS = 240.0


@pytest.mark.slow("commands as processes")
async def test_a_command_line_knows_what_is_missing_and_mends_it(tmp_path: Path) -> None:
    """gaps, backfill and verify end with 1 or 0 as there is something wrong or not."""
    async with simulated() as api:
        path = configured(tmp_path, api.base_url)
        assert (await command("run", "--once", "--config", path)).status == 0
        clean = await command("gaps", "syslogs", "--config", path)
        assert (clean.status, clean.stdout) == (0, b"Nothing is missing in 3 streams.\n")
        missing = await command("gaps", "syslogs", *RANGE, "--json", "--config", path)
        assert missing.status == 1
        assert {gap["seconds"] for gap in missing.json["gaps"]} == {1200}

        before = await calls(api)
        asked = await command("backfill", "syslogs", *RANGE, "--config", path, "--log-format", "console")
        assert asked.status == 2
        assert b"at least 3 ListSyslogs" in asked.stdout
        assert asked.said("error") == ["error: nobody is there to agree to the price"]
        assert asked.said("hint") == ["hint: add --yes"]
        assert await calls(api) == before

        done = await command("backfill", "syslogs", *RANGE, "--yes", "--json", "--config", path)
        assert done.status == 0
        assert done.json["report"]["failures"] == []
        assert (await command("gaps", "syslogs", *RANGE, "--config", path)).status == 0
        good = await command("verify", "syslogs", *RANGE, "--yes", "--json", "--config", path)
        assert (good.status, good.json["findings"]) == (0, [])
        assert good.json["report"]["records"] > 7_000

    refused = await command("backfill", "user_metrics", "--from", "-6h", "--to", "now", "--config", path,
                            "--log-format", "console")  # fmt: skip
    assert refused.status != 0
    wrong = await command("verify", "syslogs", "--from", "6 hours", "--to", "now", "--config", path,
                          "--log-format", "console")  # fmt: skip
    assert wrong.status == 2
    assert wrong.said("error")[0].startswith("error: --from: got '6 hours'; expected a time such as ")


@pytest.mark.slow("commands as processes")
async def test_a_killed_backfill_goes_on_where_it_was(tmp_path: Path) -> None:
    """What was paid for is not bought again: calls are those needed and those that were on their way."""
    async with simulated("--latency", "0.02", "0.04") as api:
        path = configured(tmp_path, api.base_url)
        assert (await command("run", "--once", "--config", path)).status == 0
        before = await calls(api)
        process = await started("backfill", "syslogs", *RANGE, "--yes", "--config", path)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while await calls(api) < before + 30:
                await asyncio.sleep(0.02)
        process.kill()
        await process.communicate()
        cut = await calls(api) - before
        done = await command("backfill", "syslogs", *RANGE, "--yes", "--json", "--config", path)
        assert done.status == 0
        spent = await calls(api) - before
    truth = true_syslogs(world(), world().node_ids, START, NOW - SETTLE)
    configuration = load(path, {})
    assert not differences(truth, await stored_syslogs(configuration))
    needed = sum(-(-len(world().truth(node, START - 1, BEGIN + 2)) // 100) for node in world().node_ids)
    assert cut < needed <= spent <= needed + len(world().node_ids), (cut, needed, spent)
    assert await gaps(configuration) == []
