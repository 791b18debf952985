"""A node with hundreds of megabytes of long lines, in a process that may use 1 GiB."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.memory import MIB, MemoryLimit
from collector.owner.instance import Owner
from collector.simulator.server import SIMULATOR_KEY
from collector.simulator.world import LongLines, World
from collector.store.embedded import EmbeddedStore
from tests.support import NOW, SETTLE, settings
from tests.support.memory_group import memory_group

SEED = 11
SECONDS = 60
LIMIT = 1024 * MIB
BUILD = Path(__file__).parents[2] / "build"
PAGE_BYTES_MAX = 7 * MIB
"""The operation's responses have at most 8 MiB."""


def world_of(per_second: int, size: int) -> World:
    world = World(SEED, 2, 1, lines_per_second=0.5, bursts=False)
    if per_second:
        world.add_long(LongLines(world.node_ids[0], 0, 1 << 32, per_second, size))
    return world


async def collect(folder: Path, base_url: str, limit: MemoryLimit | None = None) -> None:
    """What the process with little memory does."""
    configuration = settings(
        folder,
        base_url,
        targets={"nodes": tuple(world_of(0, 0).node_ids)},
        sources={"syslogs": {"initial_lookback": f"{SECONDS + SETTLE}s", "settle": f"{SETTLE}s", "recheck": []}},
    )
    async with await Owner.open(configuration, key=SIMULATOR_KEY, memory=limit) as owner:
        assert owner.bounds.limit.bytes == LIMIT, owner.bounds
        assert not (await owner.once().run()).failures


@pytest.fixture
def disk() -> Iterator[Path]:
    """A folder that is not in memory, as `tmp_path` may be: its files would count against the process's limit."""
    BUILD.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BUILD) as folder:
        yield Path(folder)


@pytest.mark.slow("a node with long lines and 1 GiB of memory")
@pytest.mark.parametrize(("per_second", "size"), [(667, 15_000), (667, 8_000), (17, 100_000)])
async def test_long_lines_arrive_whole_in_one_gibibyte(disk: Path, per_second: int, size: int) -> None:
    """40,000 lines of 15 KB (and of 8 KB, and 1,000 of 100 KB) of one node in one minute, with a calm node's beside."""
    simulator = subprocess.Popen(  # noqa: ASYNC220
        [
            sys.executable, "-m", "collector.simulator", "--seed", str(SEED), "--nodes", "2", "--groups", "1",
            "--lines-per-second", "0.5", "--no-bursts", "--start", str(NOW), "--rate", "0", "--long-lines",
            str(per_second), str(size), "--page-size", str(min(100, PAGE_BYTES_MAX // size)),
            "--quota", "ListSyslogs=1000",
        ],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert simulator.stdout is not None
        base_url = json.loads(simulator.stdout.readline())["base_url"]
        with memory_group(LIMIT) as group:
            join = f"echo $$ > {group}/cgroup.procs && " if group else ""
            code = (
                "import asyncio, resource, sys; from pathlib import Path;"
                "from collector.memory import MemoryLimit;"
                "from tests.integration.test_memory_limit import LIMIT, collect;"
                f"limit = {None if group else 'MemoryLimit(LIMIT, chr(116))'};"
                "asyncio.run(collect(Path(sys.argv[1]), sys.argv[2], limit));"
                "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10)"
            )
            process = await asyncio.create_subprocess_exec(
                "sh", "-c", f'{join}exec "$@"', "sh", sys.executable, "-c", code, str(disk), base_url,
                stdout=subprocess.PIPE, cwd=Path(__file__).parents[2],
            )  # fmt: skip
            output, _ = await process.communicate()
        assert process.returncode == 0
        peak = int(output.split()[-1])
        print(f"peak of {peak / MIB:.0f} MiB, {'with' if group else 'without'} a cgroup")
        # With a cgroup the kernel kills a process that takes more. Its peak also has pages of the engine's library that
        # others have read, which are not charged to it, so it may well be above the limit.
        assert group or peak < LIMIT, f"peak of {peak / MIB:.0f} MiB"
    finally:
        simulator.terminate()
        simulator.communicate()
    store = await EmbeddedStore.open(disk / "store")
    try:
        rows = await store.fetch("SELECT node_id, count(), sum(length(msg)) FROM syslogs GROUP BY 1 ORDER BY 1")
        (distinct,) = await store.fetch(
            "SELECT uniqExact(cityHash64(msg)) FROM syslogs WHERE length(msg) = {size:UInt32}", {"size": size}
        )
    finally:
        await store.close()
    calm, short = world_of(0, 0), {}
    for node_id in calm.node_ids:
        records = calm.truth(node_id, NOW - SETTLE - SECONDS, NOW - SETTLE)
        short[node_id] = (len(records), sum(len(record.wire["Msg"].encode()) for record in records))
    noisy, other = calm.node_ids
    lines = SECONDS * per_second
    assert rows == [
        [node_id, short[node_id][0] + (lines if node_id == noisy else 0),
         short[node_id][1] + (lines * size if node_id == noisy else 0)]
        for node_id in sorted((noisy, other))
    ]  # fmt: skip
    assert distinct == [lines]
