"""How rows lie in the journal and in exported files: compressed, since log lines shrink to an eighth."""

from __future__ import annotations

import sys
import zlib

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

LEVEL = 1
"""The cheapest level: what is won beyond it costs more than it saves."""


_compressor = zstd.ZstdCompressor(LEVEL)
"""Kept, because a new one costs half of what it does for a page. It locks itself against other threads."""


def packed(body: bytes) -> bytes:
    """Rows as they are written."""
    return _compressor.compress(body, _compressor.FLUSH_FRAME)


def unpacked(stored: bytes) -> bytes:
    """Rows as they were. Raises ValueError for bytes that are damaged."""
    try:
        return zstd.decompress(stored)
    except zstd.ZstdError as error:
        raise ValueError(f"the compressed rows are damaged: {error}") from error


def checked(stored: bytes, crc: int) -> bytes:
    """Rows as they were, by their checksum. Raises ValueError for bytes that are damaged."""
    body = unpacked(stored)
    if zlib.crc32(body) != crc:
        raise ValueError("its checksum does not match its rows")
    return body
