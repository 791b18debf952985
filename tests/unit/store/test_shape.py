"""What the configuration decides about tables: retention and the text index, applied where they differ."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from collector.errors import ConfigError
from collector.settings import load
from collector.settings.model import StoreSettings
from collector.simulator.world import World
from collector.sources.tables import TABLES
from collector.store.embedded import EmbeddedStore
from collector.store.migrate import load_migrations, migrate
from collector.store.shape import KEPT, TEXT_INDEX, Shape, apply_shape, plan_shape, statements
from tests.support import calls, run_once, settings, simulator

DEFAULTS = {"fault_class": "'a'", "fault_code": "0", "fault_case": "''", "fault_device": "''"}
DAY = 86_400


async def put(store: EmbeddedStore, days_ago: int, *, rows: int = 1, token: str = "", msg: str = "") -> None:
    """Log lines of a past day, by the engine's own clock, which decides about retention."""
    ((now,),) = await store.fetch("SELECT toUnixTimestamp(now())")
    body = b"".join(json.dumps([now - days_ago * DAY, "n1", msg or f"line {n}"]).encode() + b"\n" for n in range(rows))
    await store.insert("syslogs", ("time", "node_id", "msg"), body, token=token or f"{days_ago} days")


async def days_stored(store: EmbeddedStore) -> list[int]:
    rows = await store.fetch("SELECT DISTINCT dateDiff('day', time, now()) AS age FROM syslogs ORDER BY age")
    return [age for (age,) in rows]


async def until_days(store: EmbeddedStore, expected: list[int]) -> None:
    """The engine drops parts in the background; it is asked until it has."""
    async with asyncio.timeout(60):
        while await days_stored(store) != expected:
            await asyncio.sleep(0.05)


# Statements


@pytest.mark.parametrize(
    ("wanted", "found", "expected"),
    [
        (Shape(defaults=DEFAULTS), Shape(defaults=DEFAULTS), []),
        (
            Shape(defaults=DEFAULTS),
            Shape(defaults={**DEFAULTS, "fault_code": "1"}),
            ["ALTER TABLE pai.syslogs MODIFY COLUMN fault_code DEFAULT 0"],
        ),
        (
            Shape(defaults=DEFAULTS, severity="'fatal'"),
            Shape(defaults=DEFAULTS, severity="''"),
            [
                "ALTER TABLE pai.syslogs MODIFY COLUMN fault_severity Enum8('' = 0, 'info' = 1, 'corrected' = 2,"
                " 'application' = 3, 'degraded' = 4, 'fatal' = 5) ALIAS 'fatal'"
            ],
        ),
        (
            Shape(defaults=DEFAULTS, kept_seconds={"events": 5}),
            Shape(defaults=DEFAULTS),
            [
                "ALTER TABLE pai.events MODIFY SETTING ttl_only_drop_parts = 1, materialize_ttl_recalculate_only = 1",
                "ALTER TABLE pai.events MODIFY TTL time + toIntervalSecond(5)",
            ],
        ),
        (
            Shape(defaults=DEFAULTS),
            Shape(defaults=DEFAULTS, kept_seconds={"api_call_parts": 5}),
            ["ALTER TABLE pai.api_call_parts REMOVE TTL"],
        ),
        (
            Shape(defaults=DEFAULTS, text_index=True),
            Shape(defaults=DEFAULTS),
            [
                "ALTER TABLE pai.syslogs ADD INDEX IF NOT EXISTS msg_words msg"
                " TYPE text(tokenizer = 'splitByNonAlpha')",
                "ALTER TABLE pai.syslogs MATERIALIZE INDEX msg_words",
            ],
        ),
        (
            Shape(defaults=DEFAULTS),
            Shape(defaults=DEFAULTS, text_index=True),
            ["ALTER TABLE pai.syslogs DROP INDEX IF EXISTS msg_words"],
        ),
    ],
)
def test_only_what_differs_is_altered(wanted: Shape, found: Shape, expected: list[str]) -> None:
    """Each statement alters one table, with its database, and nothing is said where nothing differs."""
    assert statements(wanted, found, "") == expected


# Retention


async def test_only_old_parts_go(store: EmbeddedStore) -> None:
    """Days older than the retention are dropped whole; without one, nothing more is."""
    for age in (0, 5, 20, 40, 41):
        await put(store, age)

    await apply_shape(store, StoreSettings(retention={"syslogs": "30d"}))
    await until_days(store, [0, 5, 20])
    assert await apply_shape(store, StoreSettings(retention={"syslogs": "30d"})) == []
    await apply_shape(store, StoreSettings(retention={"syslogs": "15d"}))
    await until_days(store, [0, 5])
    await apply_shape(store, StoreSettings())

    ((engine,),) = await store.fetch("SELECT engine_full FROM system.tables WHERE name = 'syslogs'")
    assert " TTL " not in engine
    assert await days_stored(store) == [0, 5]
    assert await plan_shape(store, StoreSettings()) == []


async def test_a_part_with_a_row_that_is_kept_is_kept_whole(store: EmbeddedStore) -> None:
    """No part is written anew only because some of its rows are old: what an old row shares its month with holds it."""
    columns = TABLES["events"].columns
    ((now,),) = await store.fetch("SELECT toUnixTimestamp(now())")
    month = await store.fetch(f"SELECT toUnixTimestamp(toStartOfMonth(toDateTime({now} - 100 * 86400))) + 3600")
    early, late = month[0][0], month[0][0] + 20 * DAY
    rows = [[time, "r", "eas", "c/s", "s", "", "", "", "", text, "{}"] for time, text in ((early, "a"), (late, "b"))]
    await store.insert("events", columns, b"".join(json.dumps(row).encode() + b"\n" for row in rows), token="e")

    age_days = (now - early) // DAY - 5
    await apply_shape(store, StoreSettings(retention={"events": f"{age_days}d"}))
    async with asyncio.timeout(60):
        while await building(store):
            await asyncio.sleep(0.05)

    assert await store.fetch("SELECT content FROM events ORDER BY time") == [["a"], ["b"]]


async def test_every_table_of_the_keys_can_be_kept_for_a_time(store: EmbeddedStore) -> None:
    """Each key of store.retention names a table of rows, none of them a table of states."""
    retention = {name: "50d" for name in KEPT}

    await apply_shape(store, StoreSettings(retention=retention))

    with_ttl = await store.fetch("SELECT name FROM system.tables WHERE database = 'pai' AND engine_full LIKE '% TTL %'")
    assert {name for (name,) in with_ttl} == {table for table, _ in KEPT.values()}
    assert not [name for (name,) in with_ttl if name.endswith("_states")]
    assert await apply_shape(store, StoreSettings(retention=retention)) == []


async def test_a_lifetime_that_nobody_configured_is_put_right(store: EmbeddedStore) -> None:
    """A crash between the setting and the lifetime, or a hand at the table, is cured by the next start."""
    await store.execute("ALTER TABLE pai.syslogs MODIFY TTL time + INTERVAL 1 YEAR")

    assert await apply_shape(store, StoreSettings()) == ["ALTER TABLE pai.syslogs REMOVE TTL"]
    await store.execute("ALTER TABLE pai.syslogs MODIFY SETTING ttl_only_drop_parts = 1")
    assert len(await apply_shape(store, StoreSettings(retention={"syslogs": "9d"}))) == 2


@pytest.mark.slow("shapes of tables")
async def test_windows_that_are_kept_no_more_are_collected_once_and_no_more(tmp_path: Path) -> None:
    """A range older than the retention, asked for and compared again, ends like any other: no row stays, none loops."""
    world = World(3, 2, 1, lines_per_second=0.5)
    async with simulator(world) as api:
        # The simulator stands in the past, so that all it tells is older than a day by the engine's clock.
        configuration = settings(
            tmp_path, api.base_url, targets={"nodes": tuple(world.node_ids)}, store={"retention": {"syslogs": "1d"}}
        )
        assert not (await run_once(configuration)).failures
        asked = calls(api, "ListSyslogs")
        for part in tmp_path.glob("journal.db*"):
            part.unlink()
        report = await run_once(configuration)

        assert not report.failures
        assert calls(api, "ListSyslogs") <= 2 * asked
        assert not (await run_once(configuration)).failures
        assert calls(api, "ListSyslogs") <= 2 * asked


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ('event = "30d"', "store.retention.event: no such key; did you mean events?"),
        ('inventory_states = "30d"', "store.retention.inventory_states: no such key; there are syslogs, metric_points"),
        ('syslogs = "1h"', 'store.retention.syslogs: got "1h"; expected a duration from 1d to 36500d'),
        ("syslogs = 90", "store.retention.syslogs: got 90; expected a duration from 1d"),
        ('api_calls = "31d"', 'store.retention.api_calls: got "31d"; expected at least 32d'),
        (
            'events = "2d"\n[sources.events]\nrecheck = ["15m", "3d"]',
            'store.retention.events: got "2d"; expected longer than 74h, for which sources.events looks back',
        ),
    ],
)
def test_a_retention_that_cannot_be_is_refused(tmp_path: Path, text: str, mistake: str) -> None:
    """The key, what was seen and what would be right; an unknown table is answered with those that there are."""
    path = tmp_path / "collector.toml"
    path.write_text(f"[store.retention]\n{text}\n")

    with pytest.raises(ConfigError) as refusal:
        load(path, {})

    assert mistake in str(refusal.value)


def test_a_retention_comes_from_the_environment_too(tmp_path: Path) -> None:
    """As every key; paths of rules are taken from the file's folder."""
    path = tmp_path / "collector.toml"
    path.write_text('[store]\nfault_rules = "mine.toml"\n')

    loaded = load(path, {"PAI_COLLECTOR__STORE__RETENTION__SYSLOGS": "90d"}).store

    assert loaded.retention.syslogs_seconds == 90 * DAY
    assert loaded.fault_rules == tmp_path / "mine.toml"


# Hours


@pytest.mark.slow("shapes of tables")
async def test_hours_that_a_power_cut_has_torn_are_made_again(tmp_path: Path) -> None:
    """The rows are read in their place meanwhile, and the next start puts them right."""
    store = await EmbeddedStore.open(tmp_path / "store")
    await migrate(store)
    await apply_shape(store, StoreSettings())
    await put(store, 0, rows=100)
    await store.close()
    torn = list((tmp_path / "store").glob("store/*/*/*/hourly.proj/*"))
    assert torn
    for file in torn:
        file.write_bytes(b"")

    store = await EmbeddedStore.open(tmp_path / "store")
    try:
        assert await store.fetch("SELECT sum(lines) FROM syslogs_hourly") == [[100]]
        assert await apply_shape(store, StoreSettings()) == ["ALTER TABLE pai.syslogs MATERIALIZE PROJECTION hourly"]
        async with asyncio.timeout(60):
            while await plan_shape(store, StoreSettings()) or await building(store):
                await asyncio.sleep(0.05)
        forced = "SELECT sum(lines) FROM syslogs_hourly SETTINGS force_optimize_projection = 1"
        assert await store.fetch(forced) == [[100]]
    finally:
        await store.close()


@pytest.mark.slow("shapes of tables")
async def test_hours_of_lines_from_before_an_upgrade_are_made_by_the_rules_of_now(tmp_path: Path) -> None:
    """Not by the expressions that a new column has while the tables are brought up to date."""
    store = await EmbeddedStore.open(tmp_path / "store")
    try:
        await migrate(store, load_migrations()[:17])
        await put(
            store, 0, rows=100, msg="NVRM: Xid (PCI:0000:3b:00): 149, NETIR_BER_EVENT Nonfatal XC0 i0 Link 03 (0x0)"
        )
        await migrate(store)
        assert "ALTER TABLE pai.syslogs MATERIALIZE PROJECTION hourly" in await apply_shape(store, StoreSettings())
        async with asyncio.timeout(60):
            while await plan_shape(store, StoreSettings()) or await building(store):
                await asyncio.sleep(0.05)
        hours = "SELECT fault_case, device, sum(lines) FROM fault_seconds GROUP BY ALL"
        assert await store.fetch(f"{hours} SETTINGS force_optimize_projection = 1") == [["nonfatal", "0000:3b:00", 100]]
    finally:
        await store.close()


# The text index


async def test_the_text_index_comes_and_goes_with_its_setting(store: EmbeddedStore) -> None:
    """Old days get it in the background and new rows at once; without it the same lines are found."""
    search = "SELECT count() FROM syslogs WHERE hasToken(msg, '7')"
    await put(store, 1, rows=3000)
    await apply_shape(store, StoreSettings(text_index=True))
    async with asyncio.timeout(60):
        while await plan_shape(store, StoreSettings(text_index=True)) or await building(store):
            await asyncio.sleep(0.05)
    await put(store, 0, rows=3000)

    explained = await store.fetch(f"EXPLAIN indexes = 1 {search}")
    assert any(TEXT_INDEX in line for (line,) in explained)
    assert await store.fetch(search) == [[2]]
    assert await plan_shape(store, StoreSettings(text_index=True)) == []
    await apply_shape(store, StoreSettings())

    assert not [line for (line,) in await store.fetch(f"EXPLAIN indexes = 1 {search}") if TEXT_INDEX in line]
    assert await store.fetch(search) == [[2]]


async def building(store: EmbeddedStore) -> int:
    ((left,),) = await store.fetch("SELECT count() FROM system.mutations WHERE NOT is_done")
    return int(left)
