"""What named queries read from sums that are made with each insert equals what the lines themselves say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from collector.queries import QueryLimits
from collector.settings.model import StoreSettings
from collector.simulator.world import LateRows, World
from collector.sources.tables import SYSLOGS
from collector.store.embedded import EmbeddedStore
from collector.store.fault_rules import fault_rules
from collector.store.migrate import load_migrations, migrate
from collector.store.named import NamedQuery, named_query, parsed
from collector.store.reclassify import reclassify
from collector.store.shape import apply_shape
from tests.support import NOW, as_row

BY_LINE = Path(__file__).parents[1] / "testdata" / "line_queries"
"""The same questions, asked of the lines."""
NAMES = tuple(sorted(file.stem for file in BY_LINE.glob("*.sql")))
SEED = 43
NODES = 3
LATER = 1_200
HOUR_START = NOW - NOW % 3600
WITH_PREPARED = 23
"""The migration that keeps faults by the second."""
OWN_RULES = """
[[rule]]
class = "site"
severity = "fatal"
patterns = ["session opened", "Accepted publickey", "Started "]
[[rule]]
class = "nic"
patterns = []
"""
"""A class of the site's own, and one of the program's switched off."""


def world() -> World:
    return World(SEED, NODES, 1, lines_per_second=0.2)


def variants(query: NamedQuery, node: str) -> list[dict[str, str]]:
    """Return values of the parameters: ranges within hours and over borders of them, and each filter."""
    names = {known.name for known in query.parameters}
    made: list[dict[str, str]] = [{"hours": "60000"}]
    if "until" in names:
        made = [{"hours": "1", "until": f"{HOUR_START + 1}"}, {"hours": "24", "until": f"{NOW + LATER}"}]
    filters = {
        "node": node, "class": "xid", "code": "79", "rows": "3", "severity": "degraded", "minutes": "7",
        "days_min": "2",
    }  # fmt: skip
    made += [made[-1] | {name: value} for name, value in filters.items() if name in names]
    if "factor" in names:
        made += [{"until": f"{NOW + LATER}", "lines_min": "5", "factor": "1.5", "rows": "10000"}]
    return made


async def answer(store: EmbeddedStore, query: NamedQuery, given: dict[str, str]) -> list[bytes]:
    # Both are asked of the same moment.
    sql = query.sql.replace("now('UTC')", f"toDateTime({NOW + LATER}, 'UTC')")
    limits = QueryLimits(seconds_max=300.0)
    async with await store.query(
        sql, format="JSONCompactEachRowWithNamesAndTypes", parameters=query.bind(given), limits=limits
    ) as answered:
        return b"".join([piece async for piece in answered]).splitlines()


async def differing(store: EmbeddedStore) -> list[tuple[str, dict[str, str]]]:
    """Return the queries whose answers are not those of the lines; each of them has rows for some parameters."""
    ((node,),) = await store.fetch("SELECT argMax(node_id, fault_class = 'xid') FROM syslogs")
    found, answered = [], set()
    for name in NAMES:
        query = named_query(name)
        by_line = parsed(name, (BY_LINE / f"{name}.sql").read_text(encoding="utf-8"))
        for given in variants(query, node):
            expected = await answer(store, by_line, given)
            if await answer(store, query, given) != expected:
                found.append((name, given))
            if len(expected) > 2:
                answered.add(name)
    assert answered == set(NAMES)
    return found


async def rows_read(store: EmbeddedStore, query: NamedQuery, given: dict[str, str]) -> int:
    """Return the rows that the engine reads for an answer."""
    limits = QueryLimits(seconds_max=300.0)
    async with await store.query(
        query.sql, format="JSONStringsEachRowWithProgress", parameters=query.bind(given), limits=limits
    ) as answered:
        lines = map(json.loads, b"".join([piece async for piece in answered]).splitlines())
        return max(int(line["progress"]["read_rows"]) for line in lines if "progress" in line)


async def insert(store: EmbeddedStore, world: World, start: int, end: int, token: str) -> None:
    """Insert what all nodes logged in [start, end), in segments that hold a quarter of an hour of a node."""
    for node_id in world.node_ids:
        for begin in range(start, end, 900):
            rows = [as_row(record.wire, node_id) for record in world.truth(node_id, begin, min(begin + 900, end))]
            body = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
            if body:
                await store.insert("syslogs", SYSLOGS.columns[:-1], body, token=f"{token} {node_id} {begin}")


async def put_usage(store: EmbeddedStore) -> None:
    """Put users on the nodes, and make the streams and nodes known."""
    for statement in (
        "INSERT INTO pai.user_metrics (time, region, resource_group_id, user_id, gpu_job_names, node_names)"
        " SELECT toDateTime(start + number * 60, 'UTC'), 'cn-hangzhou', 'g', concat('u', toString(number % 3)), ['j'],"
        " groupArray(DISTINCT hostname) OVER () FROM numbers(400) AS steps CROSS JOIN (SELECT hostname,"
        f" {NOW - 10_000} AS start FROM pai.syslogs GROUP BY hostname) AS hosts",
        "INSERT INTO pai.inventory_states (observed_at, region, object_id, is_present, kind, name)"
        f" SELECT toDateTime({NOW}, 'UTC'), region, node_id, 1, 'node', any(hostname) FROM pai.syslogs"
        " GROUP BY region, node_id",
        "INSERT INTO pai.watermark_states (operation, region, scope_id, collected_from, watermark)"
        " SELECT 'ListSyslogs', region, node_id, min(time), max(time) + toIntervalHour(3) FROM pai.syslogs"
        " GROUP BY region, node_id",
    ):
        await store.execute(statement)


@pytest.mark.slow("orders of rows")
async def test_prepared_answers_hold_for_late_repeated_rewritten_and_dropped_lines(
    store: EmbeddedStore, tmp_path: Path
) -> None:
    """Lines that come late, again, of another class or not any more change both answers alike."""
    made = world()
    await insert(store, made, NOW - 7_000, NOW, "lines")
    await put_usage(store)
    assert not await differing(store)

    await insert(store, made, NOW - 7_000, NOW, "lines")
    made.add_late(LateRows(made.node_ids[1], NOW - 5_000, NOW - 10, 500, NOW + 1))
    late = World(SEED + 1, NODES, 1, lines_per_second=0.05)
    await insert(store, late, NOW - 90_000, NOW - 80_000, "late")
    await insert(store, late, NOW - 7_000, NOW + LATER, "late")
    assert not await differing(store)

    rules = tmp_path / "faults.toml"
    rules.write_text(OWN_RULES, encoding="utf-8")
    await apply_shape(store, StoreSettings(fault_rules=rules))
    assert not await differing(store)
    assert sum([day.changed async for day in reclassify(store, fault_rules(rules))]) > 0
    assert not await differing(store)

    await store.execute("OPTIMIZE TABLE pai.syslogs FINAL")
    assert not await differing(store)
    ((day,),) = await store.fetch("SELECT toYYYYMMDD(min(time)) FROM syslogs")
    await store.execute(f"ALTER TABLE pai.syslogs DROP PARTITION ID '{day}'")
    assert not await differing(store)


@pytest.mark.slow("orders of rows")
async def test_a_store_from_before_answers_the_same_while_its_hours_are_made_again(tmp_path: Path) -> None:
    """Lines from before the migration count before and after the work in the background, and the hours are read."""
    store = await EmbeddedStore.open(tmp_path / "store")
    try:
        migrations = load_migrations()
        made = world()
        await migrate(store, migrations[: WITH_PREPARED - 1])
        await insert(store, made, NOW - 7_000, NOW - 3_500, "before")
        await migrate(store, migrations)
        await insert(store, made, NOW - 3_500, NOW + LATER, "after")
        await put_usage(store)
        assert not await differing(store)

        await store.execute("ALTER TABLE pai.syslogs MATERIALIZE PROJECTION hourly SETTINGS mutations_sync = 2")
        assert not await differing(store)
        for name in ("faults", "faults_over_time", "nodes", "rows_by_source", "silent_nodes", "worst_nodes"):
            query = named_query(name)
            given = {"hours": "60000"} if name == "silent_nodes" else {"hours": "24", "until": f"{NOW + LATER}"}
            plan = await store.fetch(f"EXPLAIN {query.standing_alone(given)}")
            assert any("ReadFromMergeTree (hourly)" in line for (line,) in plan), (name, plan)
        # What it finds first is in no plan.
        ((lines, others),) = await store.fetch(
            "SELECT (SELECT count() FROM syslogs),"
            " (SELECT count() FROM user_metrics) + (SELECT count() FROM fault_codes)"
        )
        given = {"hours": "24", "until": f"{NOW + LATER}", "class": "xid"}
        assert await rows_read(store, named_query("incidents"), given) < lines + others
    finally:
        await store.close()
