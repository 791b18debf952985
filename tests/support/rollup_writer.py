"""A process that ships segments into a store until it is killed: `python -m tests.support.rollup_writer FOLDER`.

Segment N always holds the same rows under the same token, and is noted once it is acknowledged. The next process sends
the one again that was under way and compares it, as the shipper does. Before that it checks that hours and rows agree.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import uuid
from pathlib import Path
from random import Random
from typing import Any

from collector.sources.tables import TABLES
from collector.store.embedded import EmbeddedStore
from collector.store.migrate import migrate

START = 1_760_000_000
LAST_WITHOUT_WORKSPACE = 5
TABLE_NAMES = ("syslogs", "metric_points", "user_metrics")
MESSAGES = (
    "NVRM: Xid (PCI:0000:3b:00): 79, pid=1, GPU has fallen off the bus.",
    "Out of memory: Killed process 12 (python3)",
    "session opened",
)
ROLLUPS = {
    "syslogs": (
        "SELECT toString(hour), region, cluster_id, node_id, hostname, severity, fault_class, fault_code, lines,"
        " toString(first), toString(last) FROM syslogs_hourly ORDER BY ALL",
        "SELECT toString(toStartOfHour(time)), region, cluster_id, node_id, hostname, severity, fault_class,"
        " fault_code, count(), toString(min(time)), toString(max(time)) FROM syslogs GROUP BY toStartOfHour(time),"
        " region,"
        " cluster_id, node_id, hostname, severity, fault_class, fault_code ORDER BY ALL",
    ),
    "metric_points": (
        "SELECT toString(hour), region, source, scope_id, entity_id, metric, gpu_type, points, value_sum, value_min,"
        " value_max FROM metric_points_hourly ORDER BY ALL",
        "SELECT toString(toStartOfHour(time)), region, source, scope_id, entity_id, metric, gpu_type, count(),"
        " sum(value), min(value), max(value) FROM metric_points GROUP BY toStartOfHour(time), region, source, scope_id,"
        " entity_id, metric, gpu_type ORDER BY ALL",
    ),
    "user_metrics": (
        "SELECT toString(hour), region, resource_group_id, workspace_id, user_id, job_type, snapshots, request_gpu_avg,"
        " request_gpu_max, gpu_usage_rate_max FROM user_metrics_hourly ORDER BY ALL",
        "SELECT toString(toStartOfHour(time)), region, resource_group_id, workspace_id, user_id, job_type, count(),"
        " avg(request_gpu), max(request_gpu), max(gpu_usage_rate) FROM user_metrics GROUP BY toStartOfHour(time),"
        " region, resource_group_id, workspace_id, user_id, job_type ORDER BY ALL",
    ),
}
"""Of each table: its hours from the view, and from the rows."""


def segment(number: int) -> tuple[str, tuple[str, ...], list[list[Any]]]:
    """Table, columns and rows of a segment; numbers are whole, so that sums do not depend on an order."""
    random = Random(number)
    name = TABLE_NAMES[number % len(TABLE_NAMES)]
    rows = random.randint(1, 3000)
    day = START + 86_400 * random.randrange(3)
    times = [day + random.randrange(20_000) for _ in range(rows)]
    if name == "syslogs":
        columns: tuple[str, ...] = ("time", "region", "cluster_id", "node_id", "hostname", "severity", "msg")
        return (
            name,
            columns,
            [
                [
                    time,
                    "r",
                    "c",
                    f"n{random.randrange(5)}",
                    "h",
                    random.choice(["err", "info"]),
                    random.choice(MESSAGES),
                ]
                for time in times
            ],
        )
    if name == "metric_points":
        # Those that the oldest stores have.
        columns = TABLES[name].columns[:9]
        return (
            name,
            columns,
            [
                [time, "r", "node_metrics", "g", f"n{random.randrange(5)}", "m", "A100", random.randrange(100), "{}"]
                for time in times
            ],
        )
    columns = ("time", "region", "resource_group_id", "user_id", "job_type", "request_gpu", "gpu_usage_rate")
    # The first segments are written to stores that do not have workspaces yet.
    columns, workspaces = ((*columns, "workspace_id"), ["", "w1"]) if number > LAST_WITHOUT_WORKSPACE else (columns, [])
    return (
        name,
        columns,
        [
            [time, "r", "g", f"u{random.randrange(5)}", "PyTorch", random.choice([None, 4, 8]), random.randrange(100)]
            + ([random.choice(workspaces)] if workspaces else [])
            for time in times
        ],
    )


PROJECTED = ("syslogs", "user_metrics")


async def disagreements(store: EmbeddedStore) -> list[str]:
    """Tables whose hours differ from their rows. Where there is a projection, it has to answer the view."""
    found = []
    for table, (view, base) in ROLLUPS.items():
        ((rows,),) = await store.fetch(f"SELECT count() FROM {table}")
        forced = " SETTINGS force_optimize_projection = 1" if rows and table in PROJECTED else ""
        told = await store.fetch(view + forced)
        if told != await store.fetch(base + " SETTINGS optimize_use_projections = 0"):
            found.append(table)
    return found


async def insert(store: EmbeddedStore, number: int, token: str) -> None:
    table, columns, rows = segment(number)
    body = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    await store.insert(table, columns, body, token=token)


async def resend(store: EmbeddedStore, number: int) -> None:
    """Insert a segment that a killed process may have inserted.

    Killed between the two, the engine has its token and none of its rows, and takes what follows for a repeat.
    """
    await insert(store, number, f"segment {number}")
    table, _, rows = segment(number)
    wanted = sum(len(segment(before)[2]) for before in range(number % len(TABLE_NAMES), number + 1, len(TABLE_NAMES)))
    ((stored,),) = await store.fetch(f"SELECT count() FROM {table}")
    if stored == wanted - len(rows):
        await insert(store, number, f"segment {number} {uuid.uuid4()}")


async def write(folder: Path) -> None:
    store = await EmbeddedStore.open(folder / "store")
    await migrate(store)
    assert not await disagreements(store), "before the repeat"
    notes = folder / "acknowledged"
    number = first = len(notes.read_bytes()) if notes.exists() else 0
    with notes.open("ab", buffering=0) as noted:
        print("ready", flush=True)
        while True:
            await (resend(store, number) if number == first else insert(store, number, f"segment {number}"))
            noted.write(b".")
            os.fsync(noted.fileno())
            print(number, flush=True)
            number += 1


if __name__ == "__main__":
    asyncio.run(write(Path(sys.argv[1])))
