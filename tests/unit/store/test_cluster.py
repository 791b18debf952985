"""Statements of the migrations on a cluster: what becomes of each kind, and that the engine can read them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from collector.queries import literal
from collector.store.cluster import clustered, sharding_column
from collector.store.engine import connect
from collector.store.inserts import INSERT_SETTINGS
from collector.store.migrate import _CREATE_TABLE, load_migrations

STATEMENTS = [_CREATE_TABLE.strip(), *(one for migration in load_migrations() for one in migration.statements)]
LATER = [
    "ALTER TABLE pai.syslogs ADD PROJECTION IF NOT EXISTS hourly (SELECT node_id, count(), max(time) GROUP BY node_id)",
    "ALTER TABLE pai.syslogs MODIFY TTL time + toIntervalSecond(86400)",
    "ALTER TABLE pai.syslogs REMOVE TTL",
    "ALTER TABLE pai.syslogs ADD INDEX IF NOT EXISTS words msg TYPE text(tokenizer = 'splitByNonAlpha')",
    "ALTER TABLE pai.syslogs MATERIALIZE INDEX words IN PARTITION ID '20251009'",
    "ALTER TABLE pai.syslogs MODIFY SETTING ttl_only_drop_parts = 1, merge_with_ttl_timeout = 3600",
    "ALTER TABLE pai.syslogs MODIFY COLUMN fault_code DEFAULT if(msg = 'a, b (', 1, 2)",
    "ALTER TABLE pai.syslogs UPDATE fault_code = 1, fault_class = 'xid' WHERE msg = 'x, y'",
    "OPTIMIZE TABLE pai.syslogs PARTITION ID '20251009' FINAL",
    "DROP TABLE IF EXISTS pai.syslogs",
    "DROP VIEW IF EXISTS pai.gaps",
    "INSERT INTO pai.syslogs SELECT * FROM pai.syslogs WHERE 0",
]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    handle = connect(str(tmp_path_factory.mktemp("engine") / "store"))
    yield handle
    handle.close()


@pytest.mark.parametrize("statement", STATEMENTS + LATER, ids=lambda text: " ".join(text.split()[:7])[:60])
def test_the_engine_reads_what_becomes_of_every_statement(engine: Any, statement: str) -> None:
    """Every statement made for a cluster is one that the engine's own parser takes, whatever the cluster is called."""
    for one in clustered(statement, "main-1.a"):
        assert engine.query(f"SELECT formatQuery({literal(one)})", "TSVRaw").bytes()
        assert one.startswith("INSERT") or " ON CLUSTER `main-1.a`" in one


def test_a_table_becomes_a_replicated_one_and_one_that_spreads() -> None:
    """Engine with its arguments, Keeper's path, settings and comment stand where they belong."""
    table = (
        "CREATE TABLE IF NOT EXISTS pai.gap_states (scope_id String COMMENT 'ENGINE = Null, ORDER BY x', end UInt8)\n"
        "ENGINE = ReplacingMergeTree(end)\nORDER BY (operation, scope_id)\n"
        "SETTINGS replicated_deduplication_window = 100000\nCOMMENT 'what it is'"
    )

    local, spread = clustered(table, "main")

    assert local == (
        "CREATE TABLE IF NOT EXISTS pai.gap_states_local ON CLUSTER `main` "
        "(scope_id String COMMENT 'ENGINE = Null, ORDER BY x', end UInt8)\n"
        "ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/main/{shard}/pai/gap_states', '{replica}', end)\n"
        "ORDER BY (operation, scope_id)\nSETTINGS replicated_deduplication_window = 100000\nCOMMENT 'what it is'"
    )
    assert spread == (
        "CREATE TABLE IF NOT EXISTS pai.gap_states ON CLUSTER `main` AS pai.gap_states_local\n"
        "ENGINE = Distributed('main', 'pai', 'gap_states_local', cityHash64(scope_id))\nCOMMENT 'what it is'"
    )


def test_columns_change_in_both_tables_and_storage_in_the_local_one() -> None:
    """The spreading table gets the commands of an ALTER that are of columns; commas inside them are no borders."""
    alter = (
        "ALTER TABLE pai.syslogs ADD COLUMN IF NOT EXISTS more String DEFAULT 'a, b' CODEC(Delta, ZSTD(1)),"
        " MODIFY SETTING a = 1, b = 2, ADD INDEX ix more TYPE set(3), DROP COLUMN old"
    )

    local, spread = clustered(alter, "main")

    assert local == alter.replace("pai.syslogs", "pai.syslogs_local ON CLUSTER `main`")
    assert spread == (
        "ALTER TABLE pai.syslogs ON CLUSTER `main` ADD COLUMN IF NOT EXISTS more String DEFAULT 'a, b'"
        " CODEC(Delta, ZSTD(1)), DROP COLUMN old"
    )


@pytest.mark.parametrize(
    "statement",
    [
        "RENAME TABLE pai.a TO pai.b",
        "CREATE MATERIALIZED VIEW pai.a TO pai.b AS SELECT 1",
        "CREATE TABLE pai.a (x UInt8) ENGINE = Null",
        "CREATE TABLE pai.a (x UInt8) ENGINE = MergeTree ORDER BY x",
    ],
)
def test_a_statement_that_a_cluster_would_do_otherwise_is_an_error(statement: str) -> None:
    """What nobody has thought about for a cluster is not sent to one."""
    with pytest.raises(ValueError, match=r"cluster|MergeTree|spread rows by"):
        clustered(statement, "main")


def test_rows_that_merge_lie_on_one_shard() -> None:
    """The column that decides the shard stands in the key by which rows are replaced or added up."""
    for statement in STATEMENTS:
        engine = re.search(r"\nENGINE = (\w+)", statement)
        if engine and engine[1] != "MergeTree":
            key = re.search(r"\nORDER BY (.*)\n", statement)
            assert key
            assert sharding_column("t", key[1]) in key[1]


# Executed: one machine that is a cluster of one shard. What needs Keeper is left out: the replication.


def on_one_machine(statement: str) -> list[str]:
    made = []
    for one in clustered(statement, "one"):
        plain = one.replace(" ON CLUSTER `one`", "")
        made.append(re.sub(r"Replicated(\w*MergeTree)\('[^']*', '\{replica\}'(?:, )?(.*)\)\n", r"\1(\2)\n", plain))
    return made


CONFIG = """<clickhouse>
<tcp_port>9000</tcp_port>
<remote_servers><one><shard><internal_replication>true</internal_replication>
<replica><host>localhost</host><port>9000</port></replica></shard></one></remote_servers>
</clickhouse>"""


@pytest.fixture
def one_shard(engine: Any, tmp_path: Path) -> Iterator[Any]:
    # The engine of this process keeps one folder; the other fixture's has to be closed first.
    engine.close()
    (tmp_path / "one.xml").write_text(CONFIG)
    handle = connect(f"{tmp_path / 'store'}?config-file={tmp_path / 'one.xml'}")
    handle.query("CREATE DATABASE pai ENGINE = Atomic")
    yield handle
    handle.close()


def test_segments_and_views_work_through_the_spreading_tables(one_shard: Any) -> None:
    """Every migration runs; a segment sent twice to a spreading table is stored once; views read through it."""
    for statement in STATEMENTS:
        for one in on_one_machine(statement):
            one_shard.query(one)
    settings = ", ".join(f"{name} = {value}" for name, value in INSERT_SETTINGS.items())
    for _ in range(2):
        one_shard.query(
            "INSERT INTO pai.watermark_states (operation, region, scope_id, collected_from, watermark, updated_at)"
            f" SETTINGS {settings}, distributed_foreground_insert = 1, insert_deduplication_token = 'a'"
            ' FORMAT JSONCompactEachRow\n["ListSyslogs","r","a",10,20,"30.5"]\n["ListSyslogs","r","b",10,25,"30.5"]\n'
        )
        one_shard.query(
            "INSERT INTO pai.syslogs (time, node_id, msg)"
            f" SETTINGS {settings}, distributed_foreground_insert = 1, insert_deduplication_token = 'b'"
            ' FORMAT JSONCompactEachRow\n[10,"a","NVRM: Xid (PCI:0000:01:00): 79, GPU has fallen off the bus."]\n'
        )

    assert one_shard.query("SELECT count() FROM pai.watermark_states_local", "TSV").bytes() == b"2\n"
    assert one_shard.query(
        "SELECT scope_id, toUnixTimestamp(watermark) FROM pai.watermarks ORDER BY 1", "TSV"
    ).bytes() == (b"a\t20\nb\t25\n")
    stored = "SELECT node_id, fault_class, fault_code FROM pai.syslogs"
    assert one_shard.query(stored, "TSV").bytes() == b"a\txid\t79\n"
