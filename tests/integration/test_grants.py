"""The accounts of a server: what their statements say, and what the roles may do in the engine itself."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from collector.store.base import DATABASE
from collector.store.embedded import EmbeddedStore
from collector.store.migrate import load_migrations
from tests.support.engine_roles import answers, statements

WRITER, READER = "pai_writer", "pai_reader"
MIGRATIONS = [f"CREATE DATABASE IF NOT EXISTS {DATABASE} ENGINE = Atomic"] + [
    statement for migration in load_migrations() for statement in migration.statements
]
RELATIONS = sorted({name for sql in MIGRATIONS for name in re.findall(r"^CREATE [A-Z ]*?(pai\.\w+)", sql)})
INSERT = f"INSERT INTO {DATABASE}.dead_letters SELECT now(), 'o', 'r', 's', 'why', '{{}}'"

NOT_FOR_READERS = (
    INSERT,
    f"ALTER TABLE {DATABASE}.syslogs DELETE WHERE 1",
    f"ALTER TABLE {DATABASE}.syslogs ADD COLUMN x UInt8",
    f"TRUNCATE TABLE {DATABASE}.syslogs",
    f"OPTIMIZE TABLE {DATABASE}.syslogs",
    f"DROP VIEW {DATABASE}.nodes",
    f"CREATE TABLE {DATABASE}.mine (x UInt8) ENGINE = Memory",
    "CREATE TEMPORARY TABLE mine (x UInt8)",
    "SELECT * FROM executable('x', 'CSV', 'x String')",
    f"BACKUP TABLE {DATABASE}.syslogs TO File('backup')",
)
NOT_FOR_ANYBODY = (
    f"DROP DATABASE {DATABASE}",
    "CREATE TABLE default.mine (x UInt8) ENGINE = Memory",
    "CREATE FUNCTION mine AS x -> x",
    "CREATE USER mine",
    "GRANT SELECT ON *.* TO pai_reader",
    "SELECT * FROM url('http://127.0.0.1:1/', 'CSV', 'x String')",
    "DESCRIBE TABLE url('http://127.0.0.1:1/', 'CSV')",
    "SELECT * FROM file('/etc/hostname', 'LineAsString', 'x String')",
    "INSERT INTO FUNCTION file('/tmp/x.csv', 'CSV', 'x UInt8') SELECT 1",
    "SELECT * FROM remote('127.0.0.1', system.one)",
    "SELECT * FROM s3('http://127.0.0.1:1/x.csv', 'CSV', 'x String')",
    "SELECT * FROM system.users",
    "SYSTEM FLUSH LOGS",
    "SYSTEM STOP MERGES pai.syslogs",
)


async def test_the_engine_reads_every_statement(tmp_path: Path) -> None:
    """Each is one that the engine's own parser takes, and none holds a password."""
    store = await EmbeddedStore.open(tmp_path / "store")
    for name, sql in statements():
        formatted = await store.fetch("SELECT formatQuerySingleLine({sql:String})", {"sql": sql})
        assert formatted[0][0], name
        secrets = re.findall(r"IDENTIFIED WITH (\w+) BY (\S+)", formatted[0][0])
        assert secrets == ([("sha256_hash", "{password_sha256:String}")] if "IDENTIFIED" in sql else [])
    await store.close()


async def test_the_engine_knows_every_limit_of_the_profile(tmp_path: Path) -> None:
    """A setting that the engine does not have, or not with such a value, would leave the server without the profile."""
    profile = next(sql for name, sql in statements() if "SETTINGS PROFILE OR REPLACE" in sql and name == "reader")
    limits = re.findall(r"(\w+) = ('?\w+'?)", profile)
    store = await EmbeddedStore.open(tmp_path / "store")
    for name, value in limits:
        await store.execute(f"SELECT 1 SETTINGS {name} = {value} FORMAT Null")
    await store.close()

    assert dict(limits)["readonly"] == "2"
    unbounded = [name for name, _ in limits if not re.search(rf"{name} = \S+( MIN \S+ MAX \S+| CONST)", profile)]
    # Neither can be used to get more: the first cannot be changed where it is set, the second only cuts answers short.
    assert unbounded == ["readonly", "result_overflow_mode"]


@pytest.mark.slow("roles of a server")
def test_the_roles_may_do_their_work_and_nothing_else(tmp_path: Path) -> None:
    """The writer fills its tables, the reader reads all tables and views; the rest is refused for want of rights."""
    # Twice: a later version replaces views that are there.
    allowed = [(WRITER, sql) for sql in [*MIGRATIONS, *MIGRATIONS, INSERT]]
    allowed += [(READER, f"SELECT * FROM {name} LIMIT 1") for name in RELATIONS]
    allowed += [(READER, "SELECT table, sum(rows) FROM system.parts GROUP BY table")]
    allowed += [(READER, "SELECT name FROM system.tables"), (READER, "SELECT name FROM system.columns")]
    refused = [(READER, sql) for sql in NOT_FOR_READERS]
    refused += [(role, sql) for role in (READER, WRITER) for sql in NOT_FOR_ANYBODY]

    told = answers(tmp_path, [*allowed, *refused])

    assert [asked for asked, answer in zip(allowed, told, strict=False) if answer] == []
    let_through = [
        (asked, answer)
        for asked, answer in zip(refused, told[len(allowed) :], strict=True)
        if "ACCESS_DENIED" not in answer
    ]
    assert let_through == []
