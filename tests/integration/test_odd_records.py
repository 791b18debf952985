"""Records that strict parsers refuse, in every operation and both wire forms: no other record of their page is lost."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from collector.owner.instance import Owner
from collector.settings import Settings
from collector.simulator.faults import UNREADABLE, Fault, FaultKind
from collector.simulator.server import SIMULATOR_KEY, Simulator
from collector.simulator.world import World
from tests.support import (
    LOOKBACK,
    NOW,
    SETTLE,
    as_row,
    differences,
    settings,
    simulator,
    stored_columns,
    true_syslogs,
)
from tests.support.default_chain import use_access_key

ALL = ("clusters", "resource_groups", "jobs", "services", "eas_resources")
TABLES = ("syslogs", "user_metrics", "resource_group_metrics", "metric_points", "events", "inventory_states")
ODD = ',"Odd":'


@pytest.fixture(autouse=True)
def access_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_access_key(monkeypatch, tmp_path)


def configured(folder: Path, api: Simulator, world: World, gateway: str) -> Settings:
    return settings(
        folder,
        api.base_url,
        api={"base_url": api.base_url, "gateway": gateway},
        targets={"nodes": tuple(world.node_ids), "discover": ALL},
        sources={"node_metrics": {"enabled": True}},
    )


async def collected(configuration: Settings, sql: str = "") -> tuple[dict[str, int], Counter[Any], list[list[Any]]]:
    """Rows of each table after a run, the stored log lines, and the answer to `sql`."""
    async with await Owner.open(configuration, key=SIMULATOR_KEY) as owner:
        assert not (await owner.once().run()).failures
        counts = " UNION ALL ".join(f"SELECT '{table}', count() FROM {table}" for table in TABLES)
        lines = await owner.store.fetch(f"SELECT {stored_columns()} FROM syslogs")
        found = await owner.store.fetch(sql) if sql else []
        return dict(await owner.store.fetch(counts)), Counter(map(tuple, lines)), found


@pytest.mark.parametrize("gateway", ["bearer", "openapi"])
@pytest.mark.slow("odd records")
async def test_what_can_be_read_is_stored(tmp_path: Path, gateway: str) -> None:
    """Bad bytes, control characters, bad escapes, NaN: every record has its row, and none is a dead letter."""
    world = World(23, 2, 1, lines_per_second=0.2)
    async with simulator(world) as api:
        api.faults = [Fault(kind=FaultKind.ODD_RECORDS, share=0.4)]
        sql = "SELECT count() > 0, (SELECT count() FROM dead_letters) FROM syslogs WHERE extra LIKE '%\ufffd%'"
        rows, lines, seen = await collected(configured(tmp_path, api, world, gateway), sql)
        truth = true_syslogs(world, world.node_ids, NOW - LOOKBACK, NOW - SETTLE)
        assert not differences(truth, lines)
        assert min(rows.values()) > 0
        assert seen == [[1, 0]]


@pytest.mark.slow("odd records")
async def test_what_cannot_be_read_is_a_dead_letter_and_its_neighbours_are_stored(tmp_path: Path) -> None:
    """Each record is in its table or in dead_letters with a reason; no secret of an inventory is in one."""
    world = World(23, 2, 1, lines_per_second=0.2)
    async with simulator(world) as api:
        api.faults = [Fault(kind=FaultKind.ODD_RECORDS, oddities=UNREADABLE, share=0.2)]
        sql = "SELECT operation, reason, record FROM dead_letters"
        after, stored, letters = await collected(configured(tmp_path, api, world, "bearer"), sql)
    dead: set[Any] = set()
    for operation, reason, record in letters:
        assert "not JSON" in reason or "nested" in reason
        if operation == "ListSyslogs":
            wire = msgspec.json.decode(record[: record.index(ODD)] + "}")
            dead.add(as_row(wire, wire["NodeId"]))
        elif operation.startswith("List") and operation != "ListDiagnosticResults":
            assert set(msgspec.json.decode(record)) == {"id", "characters"}
    truth = true_syslogs(world, world.node_ids, NOW - LOOKBACK, NOW - SETTLE)
    assert not differences(Counter({row: count for row, count in truth.items() if row not in dead}), stored)
    assert {operation for operation, _, _ in letters} >= {"ListSyslogs", "GetUserViewMetrics", "ListJobs"}
    assert min(after.values()) > 0
