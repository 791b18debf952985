"""The order of the tables serves the questions that are asked: they read few of the granules that there are."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from collector.store.embedded import EmbeddedStore
from tests.support.store_template import open_migrated

pytestmark = pytest.mark.asyncio(loop_scope="module")

START = 1_759_968_000
"""2025-10-09T00:00:00Z."""
DAYS = 3
NODES = 20
LINES = 900_000

HOUR = f"time >= {START + 86_400 + 36_000} AND time < {START + 86_400 + 39_600}"
DAY = f"time >= {START + 86_400} AND time < {START + 2 * 86_400}"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def store(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedStore]:
    opened = await open_migrated(tmp_path_factory.mktemp("pruning") / "store")
    seconds = DAYS * 86_400
    await opened.execute(
        "INSERT INTO pai.syslogs (time, node_id, severity, msg)"
        f" SELECT toDateTime({START} + intDiv(number * {seconds}, {LINES}), 'UTC'),"
        f" concat('n', toString(number % {NODES})), 'info',"
        f" if(number % 100 = 0, 'invoked oom-killer', concat('line ', toString(number))) FROM numbers({LINES})"
    )
    await opened.execute(
        "INSERT INTO pai.metric_points (time, scope_id, entity_id, metric, value)"
        f" SELECT toDateTime({START} + intDiv(number, 1000) * 300, 'UTC'), concat('g', toString(number % 10)),"
        " concat('n', toString(intDiv(number, 20) % 50)), ['a', 'b'][intDiv(number, 10) % 2 + 1], number % 100"
        f" FROM numbers({1000 * seconds // 300})"
    )
    await opened.execute(
        "INSERT INTO pai.user_metrics (time, resource_group_id, user_id, request_gpu)"
        f" SELECT toDateTime({START} + intDiv(number, 100) * 60, 'UTC'), concat('g', toString(number % 10)),"
        f" toString(intDiv(number, 10) % 10), 1 FROM numbers({100 * seconds // 60})"
    )
    for table in ("syslogs", "metric_points", "user_metrics"):
        await opened.execute(f"OPTIMIZE TABLE pai.{table} FINAL")
    yield opened
    await opened.close()


async def granules(store: EmbeddedStore, sql: str, table: str) -> tuple[int, int]:
    """Read and there are, of the one table that the query reads."""
    lines = [line for (line,) in await store.fetch(f"EXPLAIN indexes = 1 {sql}")]
    counts = [found for line in lines if (found := re.search(r"Granules: (\d+)/(\d+)", line))]
    ((there,),) = await store.fetch(
        "SELECT sum(marks) FROM system.parts WHERE database = 'pai' AND table = {table:String} AND active",
        {"table": table},
    )
    assert counts, lines
    return int(counts[-1][1]), int(there)


@pytest.mark.parametrize(
    ("table", "condition", "share_max"),
    [
        ("syslogs", HOUR, 0.05),
        ("syslogs", f"{HOUR} AND node_id = 'n7'", 0.03),
        ("syslogs", f"{DAY} AND node_id = 'n7'", 0.30),
        ("syslogs", f"{DAY} AND severity = 'err'", 0.40),
        ("metric_points", f"{DAY} AND scope_id = 'g3' AND metric = 'a'", 0.05),
        ("metric_points", DAY, 0.40),
        ("user_metrics", f"{DAY} AND resource_group_id = 'g3'", 0.10),
    ],
)
@pytest.mark.slow("orders of rows")
async def test_a_question_reads_few_granules(
    store: EmbeddedStore, table: str, condition: str, share_max: float
) -> None:
    """Partitions leave out other days, the key other hours, nodes and groups."""
    read, there = await granules(store, f"SELECT * FROM {table} WHERE {condition}", table)

    assert there > 20
    assert 0 < read <= max(2, there * share_max)


@pytest.mark.parametrize(
    "sql",
    [
        f"SELECT hour, sum(lines) FROM syslogs_hourly WHERE hour >= {START + 86_400} GROUP BY hour",
        "SELECT node_id, sum(lines) FROM syslogs_hourly WHERE fault_class != '' GROUP BY node_id",
        "SELECT user_id, max(request_gpu_max) FROM user_metrics_hourly WHERE resource_group_id = 'g1' GROUP BY user_id",
        "SELECT toStartOfHour(time) AS hour, count() FROM syslogs GROUP BY hour",
    ],
)
@pytest.mark.slow("orders of rows")
async def test_hours_are_read_from_the_projection(store: EmbeddedStore, sql: str) -> None:
    """Through the view, with conditions, and where somebody asks the table itself for the same."""
    lines = [line for (line,) in await store.fetch(f"EXPLAIN indexes = 1, projections = 1 {sql}")]

    assert any("ReadFromMergeTree (hourly)" in line for line in lines), lines
    assert await store.fetch(f"{sql} ORDER BY ALL SETTINGS force_optimize_projection = 1")


@pytest.mark.parametrize("view", ["faults"])
async def test_a_view_hands_conditions_on_to_its_table(store: EmbeddedStore, view: str) -> None:
    """The last hour of faults reads the last hour of lines."""
    sql = f"SELECT * FROM {view} WHERE {HOUR} AND node_id = 'n7'"
    lines = [line for (line,) in await store.fetch(f"EXPLAIN indexes = 1 {sql}")]
    start = next(index for index, line in enumerate(lines) if "ReadFromMergeTree (pai.syslogs)" in line)
    counts = [found for line in lines[start:] if (found := re.search(r"Granules: (\d+)/(\d+)", line))]
    ((there,),) = await store.fetch("SELECT sum(marks) FROM system.parts WHERE table = 'syslogs' AND active")

    assert min(int(count[1]) for count in counts) <= max(2, there * 0.05)
