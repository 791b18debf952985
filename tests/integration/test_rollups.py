"""The hourly views always equal the rows, whatever dies, is repeated, compared or dropped."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from collector.simulator.world import World
from collector.store.embedded import EmbeddedStore
from collector.store.migrate import load_migrations, migrate
from tests.support import run_once, settings, simulator
from tests.support.rollup_writer import ROLLUPS, disagreements, insert, resend, segment

KILLS = (3, 15)
SEED = 41


async def ship(store: EmbeddedStore, *numbers: int, token: str = "segment") -> None:
    for number in numbers:
        await insert(store, number, f"{token} {number}")


async def counted(store: EmbeddedStore) -> dict[str, int]:
    return {table: (await store.fetch(f"SELECT count() FROM {table}"))[0][0] for table in ROLLUPS}


@pytest.mark.parametrize("kills", [KILLS[0], pytest.param(KILLS[1], marks=pytest.mark.slow("kills", cases=KILLS[1]))])
@pytest.mark.slow("kills")
async def test_rollups_equal_the_rows_after_every_kill(tmp_path: Path, kills: int) -> None:
    """SIGKILL amid inserts: hours and rows agree before the repeat and after it, and no row is lost or doubled."""
    random = Random(SEED)
    for _ in range(kills):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.support.rollup_writer", str(tmp_path),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2],
        )  # fmt: skip
        assert process.stdout is not None
        ready = await process.stdout.readline()
        for _ in range(random.randint(1, 8)):
            await process.stdout.readline()
        # Somewhere within the insert that follows.
        await asyncio.sleep(random.uniform(0.0, 0.05))
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        _, errors = await process.communicate()
        assert ready == b"ready\n", errors.decode()[-2000:]
        assert process.returncode == -signal.SIGKILL, errors.decode()[-2000:]

    acknowledged = len((tmp_path / "acknowledged").read_bytes())
    assert acknowledged > kills
    store = await EmbeddedStore.open(tmp_path / "store")
    try:
        assert not await disagreements(store)
        await resend(store, acknowledged)
        assert not await disagreements(store)
        expected: Counter[str] = Counter()
        for number in range(acknowledged + 1):
            table, _, rows = segment(number)
            expected[table] += len(rows)
        assert await counted(store) == dict(expected)
    finally:
        await store.close()


@pytest.mark.slow("kills")
async def test_rollups_equal_the_rows_after_a_repeat_a_merge_and_a_dropped_day(store: EmbeddedStore) -> None:
    """A segment that is sent twice counts once, merged parts keep their sums, and a day takes its hours with it."""
    await ship(store, *range(9))
    await ship(store, *range(9))
    assert not await disagreements(store)

    for table in ROLLUPS:
        await store.execute(f"OPTIMIZE TABLE pai.{table} FINAL")
    assert not await disagreements(store)

    before = await counted(store)
    for table in ("syslogs", "metric_points"):
        ((day,),) = await store.fetch(f"SELECT toYYYYMMDD(min(time)) FROM {table}")
        await store.execute(f"ALTER TABLE pai.{table} DROP PARTITION ID '{day}'")
    assert not await disagreements(store)
    after = await counted(store)
    assert all(0 < after[table] < before[table] for table in ("syslogs", "metric_points"))


@pytest.mark.slow("kills")
async def test_rows_from_before_the_rollups_are_counted_too(tmp_path: Path) -> None:
    """A store that is older than the projections answers from rows and projections together."""
    store = await EmbeddedStore.open(tmp_path / "store")
    try:
        migrations = load_migrations()
        await migrate(store, migrations[:11])
        await ship(store, 0, 1, 2)
        await migrate(store, migrations[:21])
        await ship(store, 3, 4, 5)
        await migrate(store, migrations)
        await ship(store, 6, 7, 8)

        assert not await disagreements(store)
        projected = await store.fetch("SELECT count() FROM system.projection_parts WHERE database = 'pai' AND active")
        assert projected[0][0] > 0
    finally:
        await store.close()


@pytest.mark.slow("kills")
async def test_rollups_equal_the_rows_after_a_comparison(tmp_path: Path) -> None:
    """With the journal lost everything is asked for again and compared; the hours do not count it twice."""
    world = World(SEED, 3, 1, lines_per_second=0.5)
    async with simulator(world) as api:
        configuration = settings(tmp_path, api.base_url, targets={"nodes": tuple(world.node_ids)})
        assert not (await run_once(configuration)).failures
        for part in tmp_path.glob("journal.db*"):
            part.unlink()
        assert not (await run_once(configuration)).failures

    store = await EmbeddedStore.open(tmp_path / "store")
    try:
        assert not await disagreements(store)
        assert (await counted(store))["syslogs"] > 1000
    finally:
        await store.close()
