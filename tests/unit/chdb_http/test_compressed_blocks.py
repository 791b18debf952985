"""ClickHouse's compressed blocks: what the engine itself writes is read, and nothing damaged or too large is."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.chdb_http.compressed_blocks import BLOCK_BYTES_MAX, BlockCompressor, decompress_blocks
from collector.chdb_http.exceptions import code_of
from collector.errors import QueryError
from collector.store.embedded import EmbeddedStore

METHODS = ["lz4", "zstd", "none"]
BYTES_MAX = 1 << 22
HEAD_BYTES = 25


def code(body: bytes, bytes_max: int = BYTES_MAX) -> int:
    with pytest.raises(QueryError) as refusal:
        decompress_blocks(body, bytes_max)
    return code_of(refusal.value)


def test_blocks_of_the_engine_are_read(tmp_path: Path) -> None:
    """A column file of ClickHouse is a sequence of such blocks: checksums, sizes and methods are the engine's own."""

    async def write() -> None:
        store = await EmbeddedStore.open(tmp_path)
        try:
            for method in METHODS:
                columns = f"number UInt64 CODEC({method.upper()})"
                await store.execute(
                    f"CREATE TABLE pai.plain_{method} ({columns}) ENGINE = MergeTree ORDER BY tuple()"
                    " SETTINGS min_bytes_for_wide_part = 0"
                )
                await store.execute(f"INSERT INTO pai.plain_{method} SELECT number FROM numbers(300000)")
        finally:
            await store.close()

    asyncio.run(write())
    files = sorted((tmp_path / "store").rglob("number.bin"))
    assert len(files) == len(METHODS)
    assert {file.read_bytes()[16] for file in files} == {0x82, 0x90, 0x02}
    for file in files:
        numbers = decompress_blocks(file.read_bytes(), BYTES_MAX)
        assert numbers == b"".join(number.to_bytes(8, "little") for number in range(300_000))


@given(pieces=st.lists(st.binary(max_size=300), max_size=5), method=st.sampled_from(METHODS))
def test_what_is_compressed_comes_back(pieces: list[bytes], method: str) -> None:
    """Pieces of any content are one body."""
    compressor = BlockCompressor(method)
    body = b"".join([*map(compressor.compress, pieces), compressor.flush()])
    assert decompress_blocks(body, BYTES_MAX) == b"".join(pieces)


@pytest.mark.parametrize("method", METHODS)
def test_blocks_are_as_small_as_readers_expect(method: str) -> None:
    """A long piece is cut into blocks of at most a mebibyte."""
    plain = bytes(range(256)) * (3 * BLOCK_BYTES_MAX // 256) + b"x"
    body = BlockCompressor(method).compress(plain)
    sizes, place = [], 0
    while place < len(body):
        sizes.append(int.from_bytes(body[place + 21 : place + HEAD_BYTES], "little"))
        place += 16 + int.from_bytes(body[place + 17 : place + 21], "little")
    assert sizes == [BLOCK_BYTES_MAX] * 3 + [1]
    assert decompress_blocks(body, len(plain)) == plain


@given(method=st.sampled_from(METHODS), at=st.integers(0, 60), bit=st.integers(0, 7))
def test_a_flipped_bit_is_an_error(method: str, at: int, bit: int) -> None:
    """Wherever it is, in checksum, head or data."""
    body = bytearray(BlockCompressor(method).compress(b"SELECT count() FROM syslogs WHERE msg LIKE '%Xid%'"))
    body[at % len(body)] ^= 1 << bit
    assert code(bytes(body)) in (40, 271, 307)


@pytest.mark.parametrize("method", METHODS)
def test_a_body_that_is_cut_off_is_an_error(method: str) -> None:
    """At any byte but the border of a block."""
    body = BlockCompressor(method).compress(b"SELECT 1")
    for end in range(1, len(body)):
        assert code(body[:end]) == 271


@given(st.binary(min_size=1, max_size=100))
def test_any_bytes_are_refused(body: bytes) -> None:
    """Bytes that were not compressed are the client's error."""
    assert code(body) in (40, 271, 307)


@pytest.mark.parametrize("method", METHODS)
def test_no_memory_is_taken_for_what_is_too_large(method: str) -> None:
    """The limit holds over all blocks, before a block is decompressed."""
    body = BlockCompressor(method).compress(b"x" * 1000) * 3
    assert decompress_blocks(body, 3000) == b"x" * 3000
    assert code(body, 2999) == 307
    # A block that names gigabytes is refused by its head, before its checksum is computed.
    assert code(body[:21] + b"\xff\xff\xff\xff" + body[25:]) == 307


def test_a_method_that_is_unknown_is_named() -> None:
    """With what would be right."""
    with pytest.raises(QueryError, match="network_compression_method: got 'brotli'; expected LZ4, ZSTD or NONE"):
        BlockCompressor("brotli")
