"""The store in memory that simulations use does what the engine does, scenario by scenario."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from collector.catalogue.products.eas import DESCRIBE_RESOURCE_LOG
from collector.errors import StoreRefused
from collector.journal.journal import Journal
from collector.model import StreamKey, Window
from collector.owner.journals import JournalState, KnownJournal, read_journals, write_journals
from collector.pipeline.adopt import _newest, _watermarks, adopt_spend, stored_objects
from collector.pipeline.compare import AnsweredRows
from collector.pipeline.ship import GAP_COLUMNS, WATERMARK_COLUMNS, stored_identities
from collector.shares import Share
from collector.sources.resource_logs import ResourceLogSource
from collector.sources.tables import API_CALLS, DEAD_LETTERS, RESOURCE_LOG_STATES, SYSLOGS, USER_METRICS, Table
from collector.store.embedded import EmbeddedStore
from collector.store.faults import COLUMNS, SEVERITY
from collector.store.migrate import migrate
from tests.simulation.twin import Twin, schema
from tests.support.store_template import migrated_store

NOW = 1_760_000_000
REGION = "cn-hangzhou"
Stores = tuple[EmbeddedStore, Twin]


@pytest.fixture
async def stores(tmp_path: Path) -> AsyncIterator[Stores]:
    """An engine and a twin, both with all tables."""
    async with migrated_store(tmp_path / "store") as engine:
        twin = Twin()
        await migrate(twin)
        yield engine, twin


def lines(rows: Sequence[Sequence[object]]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def syslog(time: int, node: str = "n1", msg: str = "hello", receive_time: int | None = NOW) -> list[object]:
    """A row of `syslogs`."""
    given = {"time": time, "receive_time": receive_time, "region": REGION, "node_id": node, "msg": msg, "extra": "{}"}
    return [given.get(column, "") for column in SYSLOGS.columns]


def usage(time: int, user: str, gpus: int | None) -> list[object]:
    """A row of `user_metrics`."""
    lists = {"cpu_job_names", "gpu_job_names", "node_names", "cpu_node_names", "gpu_node_names"}
    given = {"time": time, "region": REGION, "resource_group_id": "g1", "user_id": user, "job_type": "PyTorch",
             "request_gpu": gpus, "cpu_usage_rate": 1.5, "extra": "{}", "workspace_id": ""}  # fmt: skip
    return [given.get(column, [] if column in lists else None) for column in USER_METRICS.columns]


async def both(
    stores: Stores, table: Table | str, rows: Sequence[Sequence[object]], token: str, columns: Any = None
) -> list[str]:
    """Insert into both; what each said."""
    name, columns = (table, columns) if isinstance(table, str) else (table.name, columns or table.columns)
    said = []
    for store in stores:
        try:
            await store.insert(name, columns, lines(rows), token=token)
            said.append("taken")
        except StoreRefused:
            said.append("refused")
    return said


async def same(stores: Stores, sql: str, parameters: dict[str, object] | None = None) -> list[list[Any]]:
    """What both answer, in any order."""
    engine, twin = [sorted(await store.fetch(sql, parameters), key=repr) for store in stores]
    assert twin == engine
    return engine


ALL = "SELECT toUnixTimestamp(time), toUnixTimestamp(receive_time), node_id, msg, extra FROM syslogs"


async def test_tokens_decide_what_is_a_repeat(stores: Stores) -> None:
    """A body under a known token adds nothing, whatever it holds; each partition is known by itself."""
    day = 86_400
    for rows, token in (
        ([syslog(NOW), syslog(NOW)], "a"),
        ([syslog(NOW), syslog(NOW)], "a"),
        ([syslog(NOW, msg="other")], "a"),
        ([syslog(NOW, msg="other")], "b"),
        ([syslog(NOW), syslog(NOW + day)], "a"),
        ([syslog(NOW + day, msg="late")], "a"),
    ):
        assert set(await both(stores, SYSLOGS, rows, token)) == {"taken"}

    assert len(await same(stores, ALL)) == 4


@pytest.mark.parametrize(
    ("change", "answer"),
    [
        ({"time": None}, "refused"),
        ({"msg": None}, "refused"),
        ({"receive_time": None}, "taken"),
        ({"time": "soon"}, "refused"),
        ({"receive_time": []}, "refused"),
        ({"msg": "ü \u2028 \x00 'quoted' \\"}, "taken"),
        ({"time": str(NOW)}, "taken"),
    ],
)
async def test_the_same_rows_are_refused(stores: Stores, change: dict[str, object], answer: str) -> None:
    """A value that does not fit refuses its whole body, and the next body goes in."""
    row = [change.get(column, value) for column, value in zip(SYSLOGS.columns, syslog(NOW), strict=True)]

    assert await both(stores, SYSLOGS, [syslog(NOW), row], "a") == [answer, answer]
    assert await both(stores, SYSLOGS, [syslog(NOW, msg="good")], "b") == ["taken", "taken"]
    await same(stores, ALL)


@pytest.mark.parametrize("body", [b"", b"{}\n", b"[1,2]\n", b"not json\n"])
async def test_what_is_no_body_is_refused(stores: Stores, body: bytes) -> None:
    """Too few values, no array, no JSON: refused by both."""
    for store in stores:
        with pytest.raises(StoreRefused):
            await store.insert("syslogs", SYSLOGS.columns, body, token="a")


async def test_omitted_columns_get_their_default(stores: Stores) -> None:
    """Also where the default is not empty."""
    assert await both(stores, SYSLOGS, [[NOW, "n1"]], "a", ("time", "node_id")) == ["taken", "taken"]

    assert await same(stores, ALL) == [[NOW, None, "n1", "", "{}"]]


async def test_the_twin_knows_every_column(stores: Stores) -> None:
    """Tables and columns are those that the migrations make, in their order."""
    engine, _ = stores
    found: dict[str, list[str]] = {}
    for table, column in await engine.fetch(
        "SELECT table, name FROM system.columns WHERE database = 'pai' AND default_kind NOT IN ('ALIAS')"
        " AND table IN {tables:Array(String)} ORDER BY table, position",
        {"tables": list(schema())},
    ):
        found.setdefault(table, []).append(column)
    derived = {*COLUMNS, SEVERITY}
    assert {table: [c for c in columns if c not in derived] for table, columns in found.items()} == {
        table: [c for c in columns if c not in derived] for table, columns in schema().items()
    }


async def identities_of(
    store: Any, table: Table, rows: list[list[Any]], window: Window | None, is_stray: bool
) -> list[list[object]]:
    answered = AnsweredRows(table, rows)
    return [row async for some in stored_identities(store, table, answered, window, is_stray) for row in some]


async def test_identities_are_read_alike(stores: Stores) -> None:
    """What a comparison reads: by range, by single seconds, by key, and without a time."""
    rows = [syslog(NOW), syslog(NOW), syslog(NOW + 5, msg="b", receive_time=None), syslog(NOW, node="n2")]
    await both(stores, SYSLOGS, rows, "a")
    await both(stores, USER_METRICS, [usage(NOW, "u1", 3), usage(NOW, "u2", None)], "a")
    letter = [NOW, "ListSyslogs", REGION, "n1", "a reason", "{}"]
    await both(stores, DEAD_LETTERS, [letter, letter], "a")

    for table, asked, window, is_stray in (
        (SYSLOGS, rows[:1], Window(NOW, NOW + 10), False),
        (SYSLOGS, [rows[0], rows[2]], Window(NOW, NOW + 10), False),
        (SYSLOGS, rows[:3], None, True),
        (USER_METRICS, [usage(NOW, "u1", 3)], Window(NOW, NOW + 1), False),
        (DEAD_LETTERS, [letter], None, False),
    ):
        engine, twin = [
            sorted(await identities_of(store, table, asked, window, is_stray), key=repr) for store in stores
        ]
        assert engine == twin
        assert engine


async def test_streams_are_adopted_alike(stores: Stores) -> None:
    """Watermarks merge to the earliest start and the latest end, and the newest row of a scope is found."""
    for number, (start, end) in enumerate([(NOW - 50, NOW - 20), (NOW - 40, NOW - 30), (NOW - 60, NOW - 25)]):
        state = ["ListSyslogs", REGION, "n1", start, end, f"{NOW + number}.500"]
        await both(stores, "watermark_states", [state], f"w{number}", WATERMARK_COLUMNS)
    await both(stores, SYSLOGS, [syslog(NOW - 9), syslog(NOW - 5), syslog(NOW, node="n2")], "a")
    keys = [StreamKey("ListSyslogs", REGION, node) for node in ("n1", "n2", "n3")]

    marks = [await _watermarks(store, keys) for store in stores]
    newest = [await _newest(store, keys, (SYSLOGS,)) for store in stores]

    assert marks == [{"n1": (NOW - 60, NOW - 20)}] * 2
    assert newest == [{keys[0]: NOW - 5, keys[1]: NOW}] * 2


async def test_gaps_show_their_last_state(stores: Stores) -> None:
    """A gap that is filled is shown so, whatever order the states came in."""
    gap = ["GetUserViewMetrics", REGION, "g1", NOW, NOW + 60, "missed"]
    for state, at in (("open", 1), ("filled", 3), ("open", 2)):
        await both(stores, "gap_states", [[*gap, state, f"{NOW + at}.000"]], state + str(at), GAP_COLUMNS)

    shown = await same(stores, "SELECT scope_id, toUnixTimestamp(start), toUnixTimestamp(end), reason, state FROM gaps")
    assert shown == [["g1", NOW, NOW + 60, "missed", "filled"]]
    for state, count in (("filled", 1), ("open", 0)):
        assert len(await same(stores, f"SELECT scope_id FROM gaps WHERE state = '{state}'")) == count


async def test_journals_are_known_alike(stores: Stores) -> None:
    """The last state counts, and having been given up counts for ever."""
    states = [
        ("j1", 0, JournalState.COLLECTING, 1), ("j1", 0, JournalState.DRAINED, 5), ("j2", 1, JournalState.FORGOTTEN, 2),
        ("j2", 1, JournalState.COLLECTING, 9), ("j1", 1, JournalState.HOLDING, 3),
    ]  # fmt: skip
    for id, shard, state, at in states:
        known = KnownJournal(id, REGION, Share(shard, 2), state, NOW + at, "host", NOW * 1000 + at)
        for store in stores:
            await write_journals(store, [known])

    engine, twin = [await read_journals(store) for store in stores]
    assert engine == twin
    assert [(one.id, str(one.state)) for one in engine] == [("j1", "drained"), ("j1", "holding"), ("j2", "forgotten")]


async def test_spend_is_summed_alike(stores: Stores, tmp_path: Path) -> None:
    """Parts of a minute are added up, to the last digit of the money."""
    parts = [
        [NOW // 60 * 60, REGION, "ListSyslogs", 200, "", 3, 30, 300, "0.000300"],
        [NOW // 60 * 60, REGION, "ListSyslogs", 200, "", 2, 20, 200, "0.000200"],
        [NOW // 60 * 60, REGION, "ListSyslogs", 500, "InternalError", 1, 0, 0, "0.1"],
    ]
    await both(stores, API_CALLS, parts[:1], "a")
    await both(stores, API_CALLS, parts[1:], "b")

    spends = []
    for number, store in enumerate(stores):
        journal = Journal(tmp_path / f"{number}.db", {}, region=REGION, threaded=False)
        await adopt_spend(journal, store, REGION, NOW)
        spends.append(await journal.spend("2025-10"))
        journal.close()
    assert spends[0] == spends[1]
    assert [(name, calls) for name, calls, _ in spends[0]] == [("ListSyslogs", 6)]


async def test_observed_states_are_read_alike(stores: Stores) -> None:
    """Of each object the state that was seen last."""
    key = StreamKey(DESCRIBE_RESOURCE_LOG.name, REGION, "c1/r1")
    for at, fingerprint, status in ((1, 2**63 + 1, "Running"), (3, 7, "Stopped"), (2, 5, "Running")):
        row = [NOW + at, REGION, "c1/r1", 1, fingerprint, "c1", "r1", "p", "s", status, "", "{}"]
        await both(stores, RESOURCE_LOG_STATES, [row], str(at))

    engine, twin = [await stored_objects(store, ResourceLogSource(), key) for store in stores]
    assert engine == twin
    assert [(one.fingerprint, one.seen_at) for one in engine] == [(7, NOW + 3)]


async def test_an_unknown_read_is_an_error() -> None:
    """The twin never guesses."""
    for sql in ("SELECT max(msg) FROM syslogs", "SELECT msg FROM syslogs WHERE msg LIKE 'a%'"):
        with pytest.raises(AssertionError, match="does not know"):
            await Twin().fetch(sql)


async def test_old_tokens_are_forgotten() -> None:
    """Only so many are remembered, the oldest goes first."""
    twin = Twin(tokens_max=2)
    for token in ("a", "b", "c", "b", "a"):
        await twin.insert("syslogs", SYSLOGS.columns, lines([syslog(NOW)]), token=token)

    assert len(await twin.fetch("SELECT msg FROM syslogs")) == 4
