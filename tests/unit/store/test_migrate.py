"""Migrations: taken apart safely, applied once and in order, refused where store and program do not match."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from collector.errors import UsageError
from collector.sources.normalise import lines
from collector.sources.source import Observed
from collector.sources.tables import TABLES, Row
from collector.store.embedded import EmbeddedStore
from collector.store.faults import COLUMNS, SEVERITY
from collector.store.migrate import Applied, Migration, SchemaMismatch, load_migrations, migrate, pending, plan
from collector.store.statements import header, split_statements

# Text


@pytest.mark.parametrize(
    ("text", "statements"),
    [
        ("", ()),
        (" ; ;\n", ()),
        ("-- only a comment; with a semicolon\n", ()),
        ("A; B", ("A", "B")),
        ("A;\n-- c; d\nB;", ("A", "B")),
        ("A -- c\nB", ("A  \nB",)),
        ("A /* ; */ B", ("A   B",)),
        ("SELECT ';' ; B", ("SELECT ';'", "B")),
        ("SELECT 'it''s;' ; B", ("SELECT 'it''s;'", "B")),
        ("SELECT 'a\\';--' ; B", ("SELECT 'a\\';--'", "B")),
        ('SELECT ";" , `;` ; B', ('SELECT ";" , `;`', "B")),
        ("SELECT $$;$$, $x$ $$ ; $x$ ; B", ("SELECT $$;$$, $x$ $$ ; $x$", "B")),
        ("SELECT 3 - 2 / 1; B", ("SELECT 3 - 2 / 1", "B")),
    ],
)
def test_statements_are_split_where_the_engine_would(text: str, statements: tuple[str, ...]) -> None:
    """A semicolon ends a statement unless it stands in a string, a name, a heredoc or a comment."""
    assert split_statements(text) == statements


def test_a_header_names_what_a_file_is_for() -> None:
    """The comment lines at the top are read as names with values; a line without a name goes on with the last."""
    text = "-- purpose: one\n--   and more\n-- note: two\nSELECT 1 -- purpose: not this\n"

    assert header(text) == [("purpose", "one and more"), ("note", "two")]


# Plan

FIRST = Migration(1, "create_a", ("CREATE TABLE IF NOT EXISTS pai.a (x UInt8) ENGINE = MergeTree ORDER BY x",))
SECOND = Migration(2, "create_b", ("CREATE TABLE IF NOT EXISTS pai.b (x UInt8) ENGINE = MergeTree ORDER BY x",))


def applied(*migrations: Migration) -> list[Applied]:
    return [Applied(migration.version, migration.name, migration.checksum) for migration in migrations]


def test_what_is_missing_is_pending_in_order() -> None:
    """Applied migrations are left out, the others follow by number."""
    assert pending([FIRST, SECOND], []) == (FIRST, SECOND)
    assert pending([FIRST, SECOND], applied(FIRST)) == (SECOND,)
    assert pending([FIRST, SECOND], applied(FIRST, SECOND)) == ()


@pytest.mark.parametrize(
    ("had", "message"),
    [
        ([Applied(1, "create_a", FIRST.checksum), Applied(3, "create_c", "x")], "0003_create_c.*up to 0002"),
        ([Applied(1, "create_a", "other")], "another 0001_create_a"),
        ([Applied(2, "create_b", SECOND.checksum)], "0002 but not 0001_create_a"),
    ],
)
def test_a_store_of_another_history_is_refused(had: list[Applied], message: str) -> None:
    """A newer store, an edited migration and a hole are mistakes to be told, with what to do."""
    with pytest.raises(SchemaMismatch, match=message) as refusal:
        pending([FIRST, SECOND], had)

    assert isinstance(refusal.value, UsageError)
    assert refusal.value.hint


def test_a_checksum_follows_the_statements_only() -> None:
    """Comments and blank lines may be put right later, statements may not."""
    text = "CREATE TABLE x (y UInt8);"

    def checksum(sql: str) -> str:
        return Migration(1, "create_x", split_statements(sql)).checksum

    assert checksum(text) == checksum(f"-- why\n\n{text}\n")
    assert checksum(text) != checksum(text.replace("y", "z"))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"1_create_a.sql": "A"}, "NNNN_verb_noun"),
        ({"0001_a.sql": "A"}, "NNNN_verb_noun"),
        ({"0001_create_a.sql": "-- nothing"}, "no statement"),
        ({"0001_create_a.sql": "A", "0003_create_c.sql": "C"}, "numbered"),
        ({"0001_create_a.sql": "A", "0001_create_b.sql": "B"}, "numbered"),
    ],
)
def test_files_that_break_the_rules_are_refused(tmp_path: Path, files: dict[str, str], message: str) -> None:
    """Names, numbers and contents of migration files are checked before any is applied."""
    for name, text in files.items():
        (tmp_path / name).write_text(text)

    with pytest.raises(ValueError, match=message):
        load_migrations(tmp_path)


def test_every_statement_may_be_repeated() -> None:
    """A crash between two statements is cured by running all of them again."""
    repeatable = re.compile(r"CREATE (TABLE|VIEW) IF NOT EXISTS pai\.|CREATE OR REPLACE VIEW pai\.|ALTER TABLE .* IF ")
    for migration in load_migrations():
        for statement in migration.statements:
            assert repeatable.match(statement), statement


# A real store


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[EmbeddedStore]:
    opened = await EmbeddedStore.open(tmp_path / "store")
    yield opened
    await opened.close()


async def test_migrations_are_applied_once_and_remembered(store: EmbeddedStore) -> None:
    """The plan shows what will be done and does nothing; afterwards nothing is left to do."""
    everything = load_migrations()

    assert await plan(store) == everything
    assert await store.fetch("SHOW TABLES") == []
    assert await migrate(store) == everything
    assert await plan(store) == ()
    assert await migrate(store) == ()
    remembered = await store.fetch("SELECT version, name, checksum FROM migrations ORDER BY version")
    assert remembered == [[m.version, m.name, m.checksum] for m in everything]


async def test_a_migration_cut_off_in_the_middle_is_finished_by_the_next_run(store: EmbeddedStore) -> None:
    """Statements that went through before a crash do not stop the file from being applied again."""
    everything = load_migrations()
    states = everything[3]
    for statement in states.statements[:2]:
        await store.execute(statement)
    broken = Migration(states.version, states.name, (*states.statements[:3], "CREATE NONSENSE"))
    with pytest.raises(Exception, match="CREATE NONSENSE"):
        await migrate(store, (*everything[:3], broken))

    assert await plan(store) == everything[3:]
    assert await migrate(store) == everything[3:]


async def test_every_table_and_column_says_what_it_holds(store: EmbeddedStore) -> None:
    """Tables, views and columns carry comments, so that SQL tools can show them."""
    await migrate(store)

    assert await store.fetch("SELECT name FROM system.tables WHERE database = 'pai' AND comment = ''") == []
    assert await store.fetch("SELECT table, name FROM system.columns WHERE database = 'pai' AND comment = ''") == []


async def test_tables_have_the_columns_that_are_written(store: EmbeddedStore) -> None:
    """Every table that is shipped to has its columns, in that order, then only derived ones."""
    await migrate(store)

    for table in TABLES.values():
        found = await store.fetch(
            "SELECT name FROM system.columns WHERE database = 'pai' AND table = {table:String} ORDER BY position",
            {"table": table.name},
        )
        names = [name for (name,) in found]
        assert names[: len(table.columns)] == list(table.columns), table.name
        assert set(names) - set(table.columns) <= {*COLUMNS, SEVERITY}, table.name


SYSLOG_FAULTS = [
    ("NVRM: Xid (PCI:0000:3b:00): 31, pid=9, Ch 00000008, intr 00000000. MMU Fault", "xid", 31),
    ("NVRM: Xid (0000:03:00): 13, Graphics Exception", "xid", 13),
    ("[12.5] NVRM: Xid (PCI:0000:3b:00): 79, pid=1, GPU has fallen off the bus.", "xid", 79),
    ("NVRM: Xid (PCI:0000:3b:00): 48, DBE (double bit error) ECC Error: physical address 0x1", "xid", 48),
    ("NVRM: Xid (PCI:0000:3b:00): 99999999, unheard of", "xid", 0),
    ("nvidia-nvswitch3: SXid (PCI:0000:c3:00.0): 12028, Non-fatal, Link 5 LTSSM Fault Up", "sxid", 12028),
    ("NVRM: GPU 0000:3b:00.0: GPU has fallen off the bus.", "gpu_fallen_off_bus", 0),
    ("GPU 0000:3b: 3 uncorrectable ECC errors (volatile); row remapping pending, reset the GPU", "ecc", 0),
    ("EDAC MC0: 1 CE memory read error on CPU_SrcID#0", "ecc", 0),
    ("NVLink: fatal error detected on link 3", "nvlink", 0),
    ("bond0: (slave eth0): link status definitely down, disabling slave", "nic", 0),
    ("mlx5_core 0000:3b:00.0 eth1: Link down", "nic", 0),
    ("igb 0000:01:00.0 eno1: igb: eno1 NIC Link is Down", "nic", 0),
    ("gpu-1:5:6 [0] NCCL WARN NET/IB : Got completion from peer 10.0.0.1", "nccl", 0),
    ("Watchdog caught collective operation timeout: WorkNCCL(SeqNum=1)\nmore", "nccl", 0),
    ("torch.distributed.DistBackendError: NCCL error in: ncclSystemError", "nccl", 0),
    ("Out of memory: Killed process 12 (python3) total-vm:1kB", "oom", 0),
    ("Memory cgroup out of memory: Killed process 12 (python3)", "oom", 0),
    ("python3 invoked oom-killer: gfp_mask=0x1", "oom", 0),
    ("mce: [Hardware Error]: CPU 3: Machine Check: 0 Bank 5", "mce", 0),
    ("EXT4-fs error (device sda): ext4_find_entry:1463", "filesystem", 0),
    ("blk_update_request: I/O error, dev nvme0n1, sector 5", "filesystem", 0),
    ("nfs: server cpfs-1.aliyuncs.com not responding, timed out", "filesystem", 0),
    ("watchdog: BUG: soft lockup - CPU#3 stuck for 22s! [java:5]", "soft_lockup", 0),
    ("INFO: task java:7 blocked for more than 120 seconds.", "soft_lockup", 0),
    ("", "", 0),
    ("mlx5_core 0000:3b:00.0 eth1: Link up", "", 0),
    ("user asked whether an oom or an xid (79) had happened", "", 0),
    ("Started Session 5 of User root.", "", 0),
    ("数据 🚀 C:\\Xid\\file", "", 0),
]


async def test_the_engine_tells_faults_from_ordinary_lines(store: EmbeddedStore) -> None:
    """Class and number of a fault are columns of the stored line, without having been sent."""
    await migrate(store)
    body = b"".join(
        json.dumps([60, f"{number:02d}", message]).encode() + b"\n"
        for number, (message, _, _) in enumerate(SYSLOG_FAULTS)
    )

    await store.insert("syslogs", ("time", "node_id", "msg"), body, token="a")

    found = await store.fetch("SELECT msg, fault_class, fault_code FROM syslogs ORDER BY node_id")
    assert [tuple(row) for row in found] == SYSLOG_FAULTS


# Views


async def test_a_watermark_never_goes_back(store: EmbeddedStore) -> None:
    """A stream is one row, with the earliest start and the latest watermark, in whatever order states arrive."""
    await migrate(store)
    columns = ("operation", "region", "scope_id", "collected_from", "watermark", "updated_at")
    for number, (start, watermark) in enumerate([(100, 200), (50, 300), (100, 250)]):
        row = json.dumps(["O", "r", "s", start, watermark, f"{1_760_000_000 - number}.500"]).encode()
        await store.insert("watermark_states", columns, row + b"\n", token=str(number))

    shown = "SELECT toUnixTimestamp(collected_from), toUnixTimestamp(watermark), toString(updated_at) FROM watermarks"
    assert await store.fetch(shown) == [[50, 300, "2025-10-09 08:53:20.500"]]
    await store.execute("OPTIMIZE TABLE pai.watermark_states FINAL")
    assert await store.fetch(shown) == [[50, 300, "2025-10-09 08:53:20.500"]]


async def test_a_gap_shows_its_latest_state(store: EmbeddedStore) -> None:
    """A range that was filled is no longer open, and stays one row."""
    await migrate(store)
    columns = ("operation", "region", "scope_id", "start", "end", "reason", "state", "updated_at")
    rows = [
        ["O", "r", "s", 60, 120, "missed", "filled", "1760000002.000"],
        ["O", "r", "s", 60, 120, "missed", "open", "1760000001.000"],
        ["O", "r", "s", 120, 180, "partial", "open", "1760000001.000"],
        ["O", "r", "s", 180, 240, "missed", "open", "1760000001.000"],
        ["O", "r", "s", 180, 240, "missed", "filled", "1760000001.001"],
    ]
    for number, row in enumerate(rows):
        await store.insert("gap_states", columns, json.dumps(row).encode() + b"\n", token=str(number))

    shown = "SELECT toUnixTimestamp(start), toUnixTimestamp(end), reason, state FROM gaps ORDER BY start"
    expected = [[60, 120, "missed", "filled"], [120, 180, "partial", "open"], [180, 240, "missed", "filled"]]
    assert await store.fetch(shown) == expected
    await store.execute("OPTIMIZE TABLE pai.gap_states FINAL")
    assert await store.fetch(shown) == expected


async def test_parts_of_a_minute_add_up(store: EmbeddedStore) -> None:
    """Calls and money of one minute and outcome are one row, merged or not, exact to a millionth."""
    await migrate(store)
    columns = TABLES["api_call_parts"].columns
    for number, (status, calls, cost) in enumerate([(200, 2, "0.0002"), (200, 1, 0.000001), (429, 1, "0.0001")]):
        row = json.dumps([60, "r", "O", status, "", calls, 10, 100, cost]).encode()
        await store.insert("api_call_parts", columns, row + b"\n", token=str(number))

    shown = "SELECT http_status, calls, rows, bytes, toString(cost_cny) FROM api_calls ORDER BY http_status"
    expected = [[200, 3, 20, 200, "0.000201"], [429, 1, 10, 100, "0.0001"]]
    assert await store.fetch(shown) == expected
    await store.execute("OPTIMIZE TABLE pai.api_call_parts FINAL")
    assert await store.fetch(shown) == expected


async def put(store: EmbeddedStore, table: str, *rows: Sequence[object], token: str = "a") -> None:
    """Insert rows as the journal keeps them."""
    await store.insert(table, TABLES[table].columns, lines([tuple(row) for row in rows]), token=token)


POINTS = [
    [
        1_760_000_100,
        "r",
        "node_metrics",
        "rg-1",
        "lrn-1",
        "GpuUsageRate",
        "A100",
        37.25,
        "{}",
        "",
        0,
        "",
        "{}",
        "",
        "GpuUsageRate",
    ],
    [
        1_760_000_100,
        "r",
        "job_metrics",
        "dlc1",
        "dlc1-worker-0",
        "GpuCoreUsage",
        "",
        0.1,
        '{"Unit":"%"}',
        "",
        0,
        "",
        "{}",
        "",
        "m",
    ],
    [
        1_760_086_500,
        "r",
        "dsw_metrics",
        "dsw-1",
        "dsw-1-0",
        "CpuCoreUsage",
        "",
        -1e-300,
        "{}",
        "acs_pai_dsw",
        60,
        "Average",
        '{"podId":"dsw-1-0"}',
        "%",
        "CpuCoreUsage",
    ],
]
EVENT_ROWS = [
    [1_760_000_000, "r", "dlc", "dlc1", "dlc1", "", "", "", "", "Created pod: \u2028 '\"x\\", "{}"],
    [1_760_000_000, "r", "eas", "c/s", "s", "", "Warning", "Back", "", '{"a":1}', '{"Count":3}'],
    [1_760_000_000, "r", "eas", "c/s", "s", "", "Warning", "Back", "", '{"a":1}', '{"Count":3}'],
]


@pytest.mark.parametrize(("table", "rows"), [("metric_points", POINTS), ("events", EVENT_ROWS)])
async def test_rows_of_series_and_events_come_back_as_they_were_sent(
    store: EmbeddedStore, table: str, rows: list[list[object]]
) -> None:
    """Numbers keep every bit, texts every character, and equal events both rows."""
    await migrate(store)

    await put(store, table, *rows)

    columns = ", ".join(TABLES[table].columns).replace("time", "toUnixTimestamp(time)", 1)
    stored = await store.fetch(f"SELECT {columns} FROM {table}")
    assert sorted(stored, key=str) == sorted(rows, key=str)


@pytest.mark.parametrize("name", sorted(set(TABLES) - {"migrations"}))
async def test_a_table_is_partitioned_as_the_writer_thinks(store: EmbeddedStore, name: str) -> None:
    """A segment is one partition, so journal and table must cut time at the same places."""
    await migrate(store)

    ((key,),) = await store.fetch(
        "SELECT partition_key FROM system.tables WHERE database = 'pai' AND name = {name:String}", {"name": name}
    )

    time = TABLES[name].columns[TABLES[name].partition_index]
    assert key == (f"toYYYYMM({time})" if TABLES[name].monthly else f"toYYYYMMDD({time})")


def diagnostic(observed_at: int, object_id: str, state: str, ended_at: int | None, results: str = "[]") -> Row:
    """A row of diagnostic_states."""
    values = ("c1", ["n1", "n2"], "CheckByAiJobLogs", state, 1_760_000_000, ended_at, results, "{}")
    return Observed(object_id, values).row(observed_at, "r")


async def test_a_diagnostic_task_is_shown_once_as_last_seen(store: EmbeddedStore) -> None:
    """Whatever order states arrive in and whether parts are merged, the last one counts, its NULLs too."""
    await migrate(store)
    await put(store, "diagnostic_states", diagnostic(200, "d1", "Fault", 150, '[{"Node":"n1"}]'), token="1")
    await put(store, "diagnostic_states", diagnostic(100, "d1", "Running", None), token="2")
    await put(store, "diagnostic_states", diagnostic(300, "d2", "Fault", 250), token="3")
    await put(store, "diagnostic_states", diagnostic(400, "d2", "Running", None), token="4")

    shown = (
        "SELECT diagnostic_id, state, toUnixTimestamp(ended_at), results, toUnixTimestamp(observed_at), node_ids"
        " FROM diagnostics ORDER BY diagnostic_id"
    )
    nodes = ["n1", "n2"]
    expected = [["d1", "Fault", 150, '[{"Node":"n1"}]', 200, nodes], ["d2", "Running", None, "[]", 400, nodes]]
    assert await store.fetch(shown) == expected
    await store.execute("OPTIMIZE TABLE pai.diagnostic_states FINAL")
    assert await store.fetch(shown) == expected
    assert await store.fetch("SELECT count() FROM diagnostics") == [[2]]
    assert await store.fetch("SELECT count() FROM diagnostics WHERE state = 'Running'") == [[1]]


async def test_every_state_of_a_log_shipper_is_shown(store: EmbeddedStore) -> None:
    """Enabled, failing, disabled: each is a row of the history."""
    await migrate(store)
    states = [(100, "", "", "ResourceReady"), (200, "sls", "access_log", "Creating"), (300, "", "", "ResourceReady")]
    for number, (observed_at, project, log_store, status) in enumerate(states):
        seen = Observed("c/eas-r-1", ("c", "eas-r-1", project, log_store, status, "m", "{}"))
        await put(store, "resource_log_states", seen.row(observed_at, "r"), token=str(number))

    shown = "SELECT toUnixTimestamp(observed_at), project_name, log_store, status FROM resource_logs ORDER BY 1"
    assert await store.fetch(shown) == [list(state) for state in states]
    assert await store.fetch("SELECT count() FROM resource_logs") == [[3]]


def thing(kind: str, object_id: str, parent_id: str, state: str, observed_at: int, *, is_present: bool = True) -> Row:
    """A row of inventory_states."""
    attributes = '{"MachineType":"efg1","ZoneId":"z1"}'
    seen = Observed(object_id, (kind, parent_id, f"name-{object_id}", state, attributes))
    return seen.row(observed_at, "r", is_present=is_present)


async def test_an_object_is_shown_once_as_last_seen(store: EmbeddedStore) -> None:
    """An object that is gone stays as one row that says so; one that has a new parent is one row too."""
    await migrate(store)
    await put(
        store,
        "inventory_states",
        thing("job", "j1", "w1", "Running", 100),
        thing("job", "j1", "w2", "Succeeded", 200),
        thing("instance", "j1", "w1", "Running", 100),
        thing("instance", "j1", "w1", "Running", 150, is_present=False),
        thing("instance", "i2", "w1", "Running", 100),
        thing("instance", "i2", "w2", "Running", 120),
        thing("instance", "i2", "w2", "Running", 150, is_present=False),
    )

    shown = (
        "SELECT kind, object_id, parent_id, state, is_present, toUnixTimestamp(observed_at) FROM inventory"
        " ORDER BY kind, object_id"
    )
    assert await store.fetch(shown) == [
        ["instance", "i2", "w2", "Running", 0, 150],
        ["instance", "j1", "w1", "Running", 0, 150],
        ["job", "j1", "w2", "Succeeded", 1, 200],
    ]
    assert await store.fetch("SELECT count() FROM inventory") == [[3]]
    assert await store.fetch("SELECT count() FROM nodes") == [[0]]


@pytest.mark.parametrize("seen_gone_at", [190, 200, 210])
async def test_a_node_that_moved_is_in_its_new_cluster(store: EmbeddedStore, seen_gone_at: int) -> None:
    """Clusters are listed one by one, so the old one may tell last that the node is gone from it."""
    await migrate(store)
    await put(
        store,
        "inventory_states",
        thing("node", "n1", "c1", "Using", 100),
        thing("node", "n1", "c2", "Extending", 200),
        thing("node", "n1", "c1", "Using", seen_gone_at, is_present=False),
        thing("node", "n2", "c1", "Using", 100),
        thing("node", "n2", "c1", "Unused", 110, is_present=False),
    )

    shown = (
        "SELECT node_id, region, cluster_id, hostname, machine_type, operating_state, zone_id, is_present,"
        " toUnixTimestamp(observed_at) FROM nodes ORDER BY node_id"
    )
    assert await store.fetch(shown) == [
        ["n1", "r", "c2", "name-n1", "efg1", "Extending", "z1", 1, 200],
        ["n2", "r", "c1", "name-n2", "efg1", "Unused", "z1", 0, 110],
    ]
    assert await store.fetch("SELECT count() FROM nodes") == [[2]]
