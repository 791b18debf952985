"""Native blocks for drivers of newer revisions, against answers of the engine itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from collector.chdb_http.native import BLOCK_INFO, NativeBlocks, UnknownType
from collector.store.embedded import EmbeddedStore

GO = 54460
"""What the driver for Go names."""
EXPRESSIONS = (
    "number", "toUInt8(number)", "toInt16(-number)", "toFloat32(number / 3)", "number % 3 = 0",
    "repeat('x', number * 7)", "toLowCardinality(toString(number % 5))", "toNullable(number)",
    "if(number % 2, NULL, repeat('long ', number * 3))", "NULL", "toDate('2026-01-01') + number",
    "toDateTime(number, 'Asia/Shanghai')", "toDateTime64(number, 3)", "toDecimal32(number, 2)",
    "toDecimal128(number, 6)", "toUUID('61f0c404-5cb3-11e7-907b-a6006ad3dba0')", "toFixedString('abc', 5)",
    "CAST(number % 2, 'Enum8(\\'a(,\\' = 0, \\'b\\' = 1)')", "toIPv4('1.2.3.4')", "range(number % 4)",
    "arrayMap(x -> toLowCardinality(toString(x)), range(number % 3))",
    "toLowCardinality(if(number % 2, NULL, toString(number)))",
    "arrayMap(x -> toLowCardinality(toString(x)), range(number - number))",
    "map(toLowCardinality('k'), (toLowCardinality('v'), number))",
    "toLowCardinality(repeat('y', number * 9))", "[[number, 1], []]",
    "tuple(number, 'a', [NULL, 1])",
    "CAST((number, 'x'), 'Tuple(a UInt64, `b c` String)')", "map('k', number, toString(number), 2)",
    "CAST(number, 'SimpleAggregateFunction(max, UInt64)')", "toIntervalDay(number)", "[]", "toInt256(number)",
)  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def store(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedStore]:
    opened = await EmbeddedStore.open(Path(tmp_path_factory.mktemp("native")) / "store")
    yield opened
    await opened.close()


async def native(store: EmbeddedStore, columns: list[str], rows: int) -> bytes:
    listed = ", ".join(f"{sql} AS c{n}" for n, sql in enumerate(columns))
    async with await store.query(f"SELECT {listed} FROM numbers({rows})", format="Native") as answer:
        return b"".join([piece async for piece in answer])


def in_pieces(data: bytes, size: int, revision: int = GO) -> bytes:
    blocks = NativeBlocks(revision)
    given = b"".join(blocks.feed(data[at : at + size]) for at in range(0, len(data), size))
    assert blocks.is_between_blocks
    return given


def column_of(block: bytes) -> tuple[bytes, bytes]:
    """Name and type of the one column of a block of fewer than 128 rows, and its values."""
    end = 2
    for _ in range(2):
        size = block[end]
        assert size < 128
        end += 1 + size
    return block[2:end], block[end:]


@pytest.mark.asyncio(loop_scope="module")
async def test_every_column_gets_its_flag_and_nothing_else_changes(store: EmbeddedStore) -> None:
    """A block of all types is that of each column alone, with information in front and a flag after each type."""
    rows = 100
    parts = []
    for number, expression in enumerate(EXPRESSIONS):
        name, values = column_of(await native(store, [expression], rows))
        own = f"c{number}".encode()
        parts.append(bytes([len(own)]) + own + name[3:] + b"\0" + values)
    expected = BLOCK_INFO + bytes([len(EXPRESSIONS), rows]) + b"".join(parts)
    together = await native(store, list(EXPRESSIONS), rows)

    for size in (1, 7, 1000, len(together)):
        assert in_pieces(together, size) == expected


@pytest.mark.asyncio(loop_scope="module")
async def test_an_older_revision_has_no_flags(store: EmbeddedStore) -> None:
    """Before 54454 each block gets its information, and that is all; so do several blocks, and one without rows."""
    one = await native(store, ["number", "toString(number)"], 100)

    assert in_pieces(one * 3, 11, 54405) == (BLOCK_INFO + one) * 3
    none = await native(store, ["number"], 0)
    assert in_pieces(none, 5, 54405) == (BLOCK_INFO + none if none else b"")


@pytest.mark.asyncio(loop_scope="module")
async def test_an_answer_of_many_blocks_is_taken_block_by_block(store: EmbeddedStore) -> None:
    """Each block of the engine's own gets its information, and its columns their flags."""
    whole = await native(store, ["toLowCardinality(toString(number % 1000))", "repeat('z', number % 50)"], 200_000)

    given = in_pieces(whole, 1 << 16)

    blocks = given.count(BLOCK_INFO)
    assert blocks > 1
    assert len(given) == len(whole) + blocks * (len(BLOCK_INFO) + 2)


@pytest.mark.asyncio(loop_scope="module")
async def test_a_cut_answer_is_known_as_one_and_an_unknown_type_is_refused(store: EmbeddedStore) -> None:
    """What ends within a block does not pass for whole; a type without a known length says what to do."""
    whole = await native(store, ["toString(number)"], 100)
    blocks = NativeBlocks(GO)
    blocks.feed(whole[:-1])
    assert not blocks.is_between_blocks
    odd = await native(store, ["sumState(number)"], 1)
    with pytest.raises(UnknownType, match=r"AggregateFunction\(sum, UInt64\).*toString"):
        NativeBlocks(GO).feed(odd)
