"""ClickHouse's own compression of bodies (`compress=1`, `decompress=1`): blocks that each carry a checksum. Pure.

A block is 16 bytes of CityHash128 (version 1.0.2) over what follows, a byte for the method, the size of the compressed
data with these nine bytes, the size of the plain data (four bytes each, little-endian), and the data.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable
from typing import Any, Final

import lz4.block
from clickhouse_cityhash.cityhash import CityHash128

from collector.chdb_http.exceptions import (
    BAD_ARGUMENTS,
    CANNOT_DECOMPRESS,
    CHECKSUM_DOESNT_MATCH,
    QUERY_IS_TOO_LARGE,
    failure,
)

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

BLOCK_BYTES_MAX: Final = 1 << 20
"""Maximum plain bytes of a block that is written, as a server's default."""
_CHECKSUM: Final = struct.Struct("<QQ")
_HEADER: Final = struct.Struct("<BII")
_NONE, _LZ4, _ZSTD = 0x02, 0x82, 0x90
_WINDOW_LOG_MAX: Final = 23
"""Maximum window of a zstd frame, 8 MiB: a frame may ask for gigabytes before its first byte."""

_WRITERS: Final[dict[str, tuple[int, Callable[[bytes], bytes]]]] = {
    "none": (_NONE, bytes),
    "lz4": (_LZ4, lambda plain: bytes(lz4.block.compress(plain, store_size=False))),
    "zstd": (_ZSTD, lambda plain: bytes(zstd.compress(plain, level=1))),
}


class BlockCompressor:
    """A `Compressor` that turns each piece into blocks of `method`: lz4, zstd or none. Raises QueryError if unknown."""

    def __init__(self, method: str = "") -> None:
        name = (method or "lz4").lower()
        if name not in _WRITERS:
            raise failure(BAD_ARGUMENTS, f"network_compression_method: got {method[:64]!r}; expected LZ4, ZSTD or NONE")
        self._method, self._pack = _WRITERS[name]

    def compress(self, piece: bytes) -> bytes:
        blocks = bytearray()
        for start in range(0, len(piece), BLOCK_BYTES_MAX):
            plain = piece[start : start + BLOCK_BYTES_MAX]
            data = self._pack(plain)
            body = _HEADER.pack(self._method, len(data) + _HEADER.size, len(plain)) + data
            blocks += _checksum(body) + body
        return bytes(blocks)

    def flush(self) -> bytes:
        """Return nothing: every block is complete when it is written."""
        return b""


def decompress_blocks(body: bytes, bytes_max: int) -> bytes:
    """Return the plain bytes of a body of blocks. Raises QueryError if damaged or larger than `bytes_max`."""
    plain = bytearray()
    place = 0
    while place < len(body):
        start = place + _CHECKSUM.size
        if start + _HEADER.size > len(body):
            raise failure(CANNOT_DECOMPRESS, f"the body ends within the head of a block, at byte {len(body)}")
        method, size, plain_size = _HEADER.unpack_from(body, start)
        if size < _HEADER.size or start + size > len(body):
            raise failure(
                CANNOT_DECOMPRESS, f"the block at byte {place} names {size} bytes; the body has {len(body) - start}"
            )
        # Before anything of that size is made.
        if len(plain) + plain_size > bytes_max:
            raise failure(QUERY_IS_TOO_LARGE, f"the body has more than {bytes_max:,} bytes when decompressed")
        block = body[start : start + size]
        if _checksum(block) != body[place:start]:
            raise failure(CHECKSUM_DOESNT_MATCH, f"the checksum of the block at byte {place} is wrong")
        plain += _plain(method, block[_HEADER.size :], plain_size, place)
        place = start + size
    return bytes(plain)


def _plain(method: int, data: bytes, size: int, place: int) -> bytes:
    try:
        if method == _NONE:
            plain = data
        elif method == _LZ4:
            plain = bytes(lz4.block.decompress(data, uncompressed_size=size)) if size else b""
        elif method == _ZSTD:
            unpacking: Any = zstd.ZstdDecompressor(
                options={zstd.DecompressionParameter.window_log_max: _WINDOW_LOG_MAX}
            )
            # One byte more than promised shows that there is more.
            plain = bytes(unpacking.decompress(data, size + 1))
        else:
            raise failure(
                CANNOT_DECOMPRESS, f"the block at byte {place} has method {method:#04x}; expected LZ4, ZSTD or NONE"
            )
    except (lz4.block.LZ4BlockError, zstd.ZstdError, EOFError) as error:
        raise failure(CANNOT_DECOMPRESS, f"the block at byte {place} is damaged: {error}") from None
    if len(plain) != size:
        raise failure(CANNOT_DECOMPRESS, f"the block at byte {place} names {size} plain bytes; it holds others")
    return plain


def _checksum(block: bytes) -> bytes:
    number: int = CityHash128(block)
    # The library returns the first of the two 64-bit numbers as the upper half.
    return _CHECKSUM.pack(number >> 64, number & 0xFFFF_FFFF_FFFF_FFFF)
