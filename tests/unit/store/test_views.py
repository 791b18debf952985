"""The views for analysts give known answers, and the reference of tables is what a store says of itself."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from collector.store.embedded import EmbeddedStore
from tools import tables

ROOT = Path(__file__).parents[3]
MARKS = ("operation", "region", "scope_id", "collected_from", "watermark", "updated_at")
HOLES = ("operation", "region", "scope_id", "start", "end", "reason", "state", "updated_at")
METER = ("minute", "region", "operation", "http_status", "code", "calls", "rows", "bytes", "cost_cny")


async def put(store: EmbeddedStore, table: str, columns: Sequence[str], *rows: Sequence[object]) -> None:
    body = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    await store.insert(table, columns, body, token=f"{table} {hash(body)}")


async def ranges(store: EmbeddedStore, scope: str) -> list[tuple[int, int, int]]:
    rows = await store.fetch(
        "SELECT toUnixTimestamp(start), toUnixTimestamp(end), seconds FROM coverage WHERE scope_id = {scope:String}"
        " ORDER BY start",
        {"scope": scope},
    )
    return [(start, end, seconds) for start, end, seconds in rows]


@pytest.mark.parametrize(
    ("holes", "expected"),
    [
        ([], [(100, 1000)]),
        ([(200, 300)], [(100, 200), (300, 1000)]),
        ([(100, 300), (900, 1000)], [(300, 900)]),
        ([(200, 300), (300, 400)], [(100, 200), (400, 1000)]),
        ([(200, 500), (300, 400), (450, 600)], [(100, 200), (600, 1000)]),
        ([(50, 150), (950, 1200)], [(150, 950)]),
        ([(100, 1000)], []),
        ([(1100, 1200)], [(100, 1000)]),
    ],
)
async def test_what_is_covered_is_the_stream_less_its_gaps(
    store: EmbeddedStore, holes: list[tuple[int, int]], expected: list[tuple[int, int]]
) -> None:
    """Gaps that touch, overlap or reach over an end are left out once; filled ones and others' do not count."""
    await put(
        store,
        "watermark_states",
        MARKS,
        ["O", "r", "s", 100, 1000, "1760000005.000"],
        ["O", "r", "t", 0, 10, "1760000005.000"],
    )
    rows = [["O", "r", "s", start, end, "missed", "open", "1760000005.000"] for start, end in holes]
    rows += [
        ["O", "r", "s", 600, 700, "missed", "filled", "1760000005.000"],
        ["O", "r", "u", 1, 2, "missed", "open", "1760000005.000"],
    ]
    await put(store, "gap_states", HOLES, *rows)

    assert await ranges(store, "s") == [(start, end, end - start) for start, end in expected]
    assert await ranges(store, "t") == [(0, 10, 10)]
    assert await ranges(store, "u") == []


async def test_freshness_is_a_row_a_stream(store: EmbeddedStore) -> None:
    """How far behind now, and how much is missing; a stream without gaps has none."""
    ((now,),) = await store.fetch("SELECT toUnixTimestamp(now())")
    await put(
        store,
        "watermark_states",
        MARKS,
        ["O", "r", "s", 100, now - 100, "1760000005.000"],
        ["O", "r", "t", 0, 10, "1760000005.000"],
    )
    await put(
        store, "gap_states", HOLES,
        ["O", "r", "s", 200, 260, "missed", "open", "1760000005.000"],
        ["O", "r", "s", 300, 340, "partial", "open", "1760000005.000"],
    )  # fmt: skip

    found = await store.fetch(
        "SELECT scope_id, intDiv(behind_seconds, 60) = 1, open_gaps, gap_seconds FROM freshness ORDER BY scope_id"
    )

    assert found == [["s", 1, 2, 100], ["t", 0, 0, 0]]


async def test_a_day_of_spend_is_the_days_of_the_bill(store: EmbeddedStore) -> None:
    """Days turn in UTC+8; failed calls are counted and cost the same."""
    midnight = 1_760_025_600  # 2025-10-09T16:00:00Z, midnight in UTC+8
    await put(
        store, "api_call_parts", METER,
        [midnight - 60, "r", "O", 200, "", 5, 50, 500, 0.0005], [midnight, "r", "O", 200, "", 2, 20, 200, 0.0002],
        [midnight, "r", "O", 429, "Throttling", 1, 0, 10, 0.0001],
        [midnight + 60, "r", "O", 200, "X", 1, 0, 10, 0.0001],
    )  # fmt: skip

    found = await store.fetch(
        "SELECT toString(day), calls, failed_calls, rows, bytes, toString(cost_cny) FROM spend_daily ORDER BY day"
    )

    assert found == [["2025-10-09", 5, 0, 50, 500, "0.0005"], ["2025-10-10", 4, 2, 20, 220, "0.0004"]]


async def test_a_fault_is_one_row_with_its_meaning(store: EmbeddedStore) -> None:
    """Equal lines stay two rows, lines without a fault are none, and every class has a meaning."""
    lines = ["NVRM: Xid (PCI:0000:3b:00): 79, pid=1, x"] * 2 + ["invoked oom-killer", "well"]
    await put(store, "syslogs", ("time", "node_id", "msg"), *([1_760_000_000, "n", line] for line in lines))

    found = await store.fetch("SELECT fault_class, fault_code, meaning != '', action != '' FROM faults ORDER BY ALL")

    assert found == [["oom", 0, 1, 1], ["xid", 79, 1, 1], ["xid", 79, 1, 1]]


async def test_the_reference_of_tables_is_made_from_a_store(store: EmbeddedStore) -> None:
    """Make it anew with `make reference`."""
    assert (ROOT / "docs/reference/tables.md").read_text() == await tables.document(store)


async def test_every_view_gives_plain_types(store: EmbeddedStore) -> None:
    """No client has to know states of aggregate functions."""
    views = await store.fetch("SELECT name FROM system.tables WHERE database = 'pai' AND engine = 'View'")
    assert len(views) > 10
    for (view,) in views:
        columns = await store.fetch(f"DESCRIBE TABLE (SELECT * FROM {view})")
        assert [(view, *column[:2]) for column in columns if "AggregateFunction" in column[1]] == []
