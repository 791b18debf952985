"""A large embedded store, and what the pages that people look at cost over it.

Twenty million lines of a thousand nodes in ninety hours, three or four in a hundred of them a fault, with the series,
usage, nodes and streams that belong to them. An hour of lines is simulated; the engine multiplies them into the past.
The store is kept in a folder and made only if that is missing. Ranges end where its history ends, whenever it was made.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import statistics
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from benchmarks.store import COLUMNS, DIGITS, SEED, SEGMENT_ROWS, Bench, cpu_seconds, report
from collector.settings.model import StoreSettings
from collector.simulator.world import World
from collector.store.embedded import EmbeddedStore
from collector.store.migrate import migrate
from collector.store.named import NamedQuery, named_queries
from collector.store.shape import apply_shape
from tests.support import as_row

POOL_SECONDS: Final = 3600
FAULTS_KEPT: Final = 25
"""Of the simulated lines that are a fault, about every second, one in so many is kept."""
STEP_SECONDS: Final = 300
USERS: Final = 60
RUNS: Final = 5
PAGE_MS_MAX: Final = 300
NAMED: Final = (
    "log_storms", "silent_nodes", "worst_nodes", "xids", "faults", "incidents", "nodes", "utilization", "idle_gpus",
    "faults_over_time",
)  # fmt: skip
"""Named queries behind pages of the console."""


def pool_bodies(nodes: int, lines_per_second: float, end: int) -> Iterator[bytes]:
    """Yield POOL_SECONDS of lines before `end` as bodies of inserts, node by node."""
    world = World(SEED, nodes, 1, lines_per_second=lines_per_second / nodes)
    records = (
        (node_id, record) for node_id in world.node_ids for record in world.truth(node_id, end - POOL_SECONDS, end)
    )
    while some := list(itertools.islice(records, SEGMENT_ROWS)):
        rows = (as_row(record.wire, node_id) for node_id, record in some)
        yield b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


async def fill(store: EmbeddedStore, nodes: int, hours: int, rows: int, end: int, faults_kept: int) -> None:
    """Insert a history that ends at `end`, seconds since the epoch."""
    await store.execute("CREATE TABLE pai.pool AS pai.syslogs")
    await store.execute("ALTER TABLE pai.pool DROP PROJECTION IF EXISTS hourly")
    for number, body in enumerate(pool_bodies(nodes, rows / (hours * 3600), end)):
        await store.insert("pool", COLUMNS, body, token=f"pool {number}")
    kept = f"(fault_class = '' OR cityHash64(node_id, time, msg) % {faults_kept} = 0)"
    ((pooled,),) = await store.fetch(f"SELECT count() FROM pai.pool WHERE {kept}")
    pools = max(1, hours * 3600 // POOL_SECONDS)
    # Bursts are lines beyond the rate, faults that are left out are missing from it.
    times = rows / pools / pooled
    for copy in range(pools):
        values = {
            "time": f"time - {copy * POOL_SECONDS}",
            "receive_time": f"receive_time - {copy * POOL_SECONDS}",
            "msg": "if(match(msg, 'Xid|EDAC|Bank'), msg,"
            f" translate(msg, '{DIGITS}', '{DIGITS[copy % 10 :] + DIGITS[: copy % 10]}'))",
        }
        selected = ", ".join(values.get(name, name) for name in COLUMNS)
        share = f"(cityHash64(msg, time, {copy}) % 1000) / 1000 < {times % 1}"
        await store.execute(
            f"INSERT INTO pai.syslogs ({', '.join(COLUMNS)}) SELECT {selected} FROM pai.pool"
            f" ARRAY JOIN range({int(times)} + ({share})) AS twin WHERE {kept} SETTINGS max_threads = 1"
        )
    await store.execute("DROP TABLE pai.pool SYNC")
    for statement in _beside(nodes, hours, end):
        await store.execute(statement)
    for table in ("syslogs", "metric_points", "user_metrics"):
        await store.execute(f"OPTIMIZE TABLE pai.{table} FINAL")


def _beside(nodes: int, hours: int, end: int) -> list[str]:
    """What belongs to the lines: points of two metrics, usage of users who have sixteen nodes each, nodes, streams."""
    steps, minutes = hours * 3600 // STEP_SECONDS, hours * 60
    named = (
        "node_id AS node, any(cluster_id) AS cluster, any(hostname) AS host, row_number() OVER (ORDER BY node_id) AS n"
    )
    node = f"(SELECT {named} FROM pai.syslogs WHERE time >= {end - POOL_SECONDS} GROUP BY node_id)"
    names = "(SELECT groupArray(DISTINCT hostname) FROM pai.syslogs WHERE time >= " + str(end - POOL_SECONDS) + ")"
    return [
        "INSERT INTO pai.metric_points (time, region, source, scope_id, entity_id, metric, gpu_type, value)"
        f" SELECT toDateTime({end - end % STEP_SECONDS} - step * {STEP_SECONDS}, 'UTC'), 'cn-hangzhou',"
        " 'node_metrics', concat('rg-', toString(n % 8)), node, metric, if(metric = 'GpuUsageRate', 'A100', ''),"
        " round(50 + 40 * sin(step / 40 + n) + (cityHash64(step, n, metric) % 1000) / 100, 2)"
        f" FROM {node} AS known CROSS JOIN (SELECT number AS step FROM numbers({steps})) AS steps"
        " ARRAY JOIN ['CpuUsageRate', 'GpuUsageRate'] AS metric SETTINGS max_threads = 1",
        "INSERT INTO pai.user_metrics (time, region, resource_group_id, user_id, job_type, total_gpu, request_gpu,"
        " gpu_usage_rate, request_cpu, cpu_usage_rate, request_memory, memory_usage_rate, gpu_job_names, node_names,"
        f" gpu_node_names) WITH {names} AS hosts, number % {USERS} AS user,"
        f" arraySlice(hosts, 1 + user * 16 % {nodes}, 16) AS used"
        f" SELECT toDateTime({end - end % 60} - intDiv(number, {USERS}) * 60, 'UTC'), 'cn-hangzhou',"
        " concat('rg-', toString(user % 2)), concat('user-', toString(user)), 'PyTorch', 128, 128,"
        " if(intDiv(number, 6000) % 9 = user % 9, 1, cityHash64(number) % 10000 / 100), 8,"
        " cityHash64(number, 1) % 10000 / 100, 1000, 40, [concat('dlc', toString(user))], used, used"
        f" FROM numbers({minutes * USERS}) SETTINGS max_threads = 1",
        "INSERT INTO pai.inventory_states (observed_at, region, object_id, is_present, fingerprint, kind, parent_id,"
        " name, state, attributes)"
        f" SELECT toDateTime({end - hours * 3600}, 'UTC'), 'cn-hangzhou', node, 1, n, 'node', cluster, host, 'Using',"
        f' \'{{"MachineType":"efg1.nvga1","ZoneId":"cn-hangzhou-b"}}\' FROM {node} AS known',
        "INSERT INTO pai.watermark_states (operation, region, scope_id, collected_from, watermark, updated_at)"
        f" SELECT 'ListSyslogs', 'cn-hangzhou', node, toDateTime({end - hours * 3600}, 'UTC'),"
        f" toDateTime({end}, 'UTC') + if(n % 100 = 0, 7200, 0), toDateTime64({end}, 3, 'UTC') FROM {node} AS known",
    ]


def milliseconds(bench: Bench, sql: str) -> tuple[float, float, int]:
    """Return the medians of wall and CPU time of RUNS warm runs, in ms, and the rows of the answer."""
    rows = len(bench.rows(sql))
    walls, cpus = [], []
    for _ in range(RUNS):
        began, cpu = time.perf_counter(), cpu_seconds()
        bench.handle.query(sql, "Native").bytes()
        walls.append((time.perf_counter() - began) * 1e3)
        cpus.append((cpu_seconds() - cpu) * 1e3)
    return statistics.median(walls), statistics.median(cpus), rows


def standing(query: NamedQuery, end: int, given: Mapping[str, str]) -> str:
    """The SQL of a query whose range ends with the history."""
    until = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(end))
    ends = {known.name: until for known in query.parameters if known.name == "until"}
    return query.standing_alone(ends | dict(given))


async def measure(folder: Path, *, nodes: int, hours: int, rows: int, faults_kept: int) -> None:
    """Make the store if it is missing, and print what each query costs with its defaults and over all of it."""
    is_new = not await asyncio.to_thread(folder.exists)
    store = await EmbeddedStore.open(folder)
    try:
        await migrate(store)
        await apply_shape(store, StoreSettings())
        if is_new:
            began = time.perf_counter()
            await fill(store, nodes, hours, rows, int(time.time()) - 60, faults_kept)
            print(f"made in {time.perf_counter() - began:.0f} s")
        bench = Bench(store, folder)
        ((lines, faults, known, first, end),) = bench.rows(
            "SELECT count(), countIf(fault_class != ''), uniqExact(node_id), toUnixTimestamp(min(time)),"
            " 1 + toUnixTimestamp(max(time)) FROM syslogs"
        )
        print(f"{lines:,} lines, {faults:,} of them faults, of {known:,} nodes in {(end - first) / 3600:.1f} hours")
        found = [("query", "defaults", "CPU", "rows", "all hours", "CPU", "rows")]
        queries = {query.name: query for query in named_queries()}
        for name in NAMED:
            cells = []
            for given in ({}, {"hours": str(hours)}):
                wall, cpu, answered = milliseconds(bench, standing(queries[name], end, given))
                cells += [f"{wall:.0f}", f"{cpu:.0f}", f"{answered:,}"]
            found.append((name, *cells))
        report(f"Named queries, ms, medians of {RUNS} warm runs; {PAGE_MS_MAX} are wanted:", found)
    finally:
        await store.close()
