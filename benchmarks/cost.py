"""CPU of this process for each stored log line, beside the floor of the same work.

The floor is what nobody can leave out: fetch the same pages with aiohttp, parse them, insert the
same rows into the same table as ready-made Native blocks. The service runs in another process.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from collector.catalogue.products.eflo_controller import ListSyslogsAnswer
from collector.owner.instance import Owner
from collector.settings import Settings
from collector.simulator.process import simulator_process
from collector.simulator.server import SIMULATOR_KEY
from collector.simulator.world import World
from collector.sources.tables import SYSLOGS
from collector.store.embedded import EmbeddedStore
from collector.store.migrate import migrate

SEED = 5
NODES = 40
LINES_PER_SECOND = 2.0
LOOKBACK_SECONDS = 3600
SETTLE_SECONDS = 60
NOW = 1_760_000_000
QUOTA = 100_000
"""High enough that the throttle never waits: what is measured is work, not politeness."""


@dataclass(frozen=True, slots=True)
class CostResult:
    rows: int
    floor_fetch_us: float
    floor_insert_us: float
    collector_us: float

    @property
    def ratio(self) -> float:
        return self.collector_us / (self.floor_fetch_us + self.floor_insert_us)


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def measure() -> CostResult:
    """One round: the same pages through the floor and through the collector, each in a fresh process."""
    arguments = [
        "--seed", str(SEED), "--nodes", str(NODES), "--lines-per-second", str(LINES_PER_SECOND), "--start", str(NOW),
        "--rate", "0", "--quota", f"ListSyslogs={QUOTA}",
    ]  # fmt: skip
    async with simulator_process(*arguments) as api:
        with tempfile.TemporaryDirectory() as folder:
            # The first pass also fills the simulator's cache, for both sides alike.
            await _child("fetch", api.base_url, folder)
            fetch = await _child("fetch", api.base_url, folder)
            collect = await _child("collect", api.base_url, folder)
            insert = await _child("insert", api.base_url, folder)
    assert fetch["rows"] >= collect["rows"] == insert["rows"]
    return CostResult(
        collect["rows"],
        fetch["cpu"] / fetch["rows"] * 1e6,
        insert["cpu"] / insert["rows"] * 1e6,
        collect["cpu"] / collect["rows"] * 1e6,
    )


async def _child(what: str, base_url: str, folder: str) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.cost", what, base_url, folder, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"{what} failed")
    told: dict[str, Any] = json.loads(out.splitlines()[-1])
    return told


def _node_ids() -> list[str]:
    return World(SEED, NODES, 1).node_ids


async def _fetch(base_url: str) -> dict[str, Any]:
    """Every page of every node, 20 nodes at once, parsed and thrown away."""
    decoder = msgspec.json.Decoder(ListSyslogsAnswer)
    headers = {"Authorization": f"Bearer {SIMULATOR_KEY}", "Content-Type": "application/json"}
    url = f"{base_url}/api/eflo-controller/2022-12-15/ListSyslogs"
    rows = 0
    gate = asyncio.Semaphore(20)

    async def node(session: aiohttp.ClientSession, node_id: str) -> None:
        nonlocal rows
        asked = {
            "NodeId": node_id, "FromTime": str(NOW - LOOKBACK_SECONDS - 1), "ToTime": str(NOW - SETTLE_SECONDS + 1),
        }  # fmt: skip
        async with gate:
            while True:
                async with session.post(url, data=json.dumps(asked), headers=headers) as reply:
                    answer = decoder.decode(await reply.read())
                rows += len(answer.logs or ())
                if not answer.next_token:
                    return
                asked["NextToken"] = answer.next_token

    async with aiohttp.ClientSession() as session:
        before = cpu_seconds()
        await asyncio.gather(*(node(session, node_id) for node_id in _node_ids()))
        return {"rows": rows, "cpu": cpu_seconds() - before}


async def _collect(base_url: str, folder: Path) -> dict[str, Any]:
    """The collector as it is: journal, fsync, segments, watermarks."""
    settings = Settings(
        api={"base_url": base_url, "quotas": {"ListSyslogs": QUOTA}},
        store={"path": folder / "store"},
        journal={"path": folder / "journal.db"},
        targets={"nodes": tuple(_node_ids())},
        sources={
            "syslogs": {"initial_lookback": f"{LOOKBACK_SECONDS}s", "settle": f"{SETTLE_SECONDS}s", "recheck": []}
        },
    )
    async with await Owner.open(settings, key=SIMULATOR_KEY) as owner:
        runner = owner.once()
        before = cpu_seconds()
        report = await runner.run()
        cpu = cpu_seconds() - before
        assert not report.failures
        return {"rows": runner.shipped.rows["syslogs"], "cpu": cpu}


async def _insert(folder: Path) -> dict[str, Any]:
    """The rows that `collect` stored, once more into an empty table of the same kind, as Native blocks."""
    store = await EmbeddedStore.open(folder / "store")
    await migrate(store)
    columns = [*SYSLOGS.columns]
    names = ", ".join(columns)
    ((rows,),) = await store.fetch("SELECT count() FROM syslogs")
    await store.execute("CREATE TABLE pai.syslogs_floor AS pai.syslogs")
    blocks = []
    for offset in range(0, rows, 50_000):
        sql = f"SELECT {names} FROM syslogs ORDER BY node_id, time LIMIT 50000 OFFSET {offset}"
        async with await store.query(sql, format="Native") as answer:
            blocks.append(b"".join([piece async for piece in answer]))
    client = store._client()
    before = cpu_seconds()
    for block in blocks:
        await asyncio.to_thread(client.raw_insert, "pai.syslogs_floor", columns, block, fmt="Native")
    cpu = cpu_seconds() - before
    client.close()
    await store.close()
    return {"rows": rows, "cpu": cpu}


def main() -> None:
    what, base_url, folder = sys.argv[1:]
    path = Path(folder)
    work = {
        "fetch": lambda: _fetch(base_url),
        "collect": lambda: _collect(base_url, path),
        "insert": lambda: _insert(path),
    }
    print(json.dumps(asyncio.run(work[what]())), flush=True)
    # The engine's own threads have no part in what was measured.
    os._exit(0)


if __name__ == "__main__":
    main()
