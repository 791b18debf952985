"""HTTP's compression of bodies: requests are bounded while they grow, responses are compressed piece by piece."""

from __future__ import annotations

import sys
import zlib
from typing import Any, Protocol

import lz4.frame as lz4

from collector.chdb_http.exceptions import CANNOT_DECOMPRESS, NOT_IMPLEMENTED, QUERY_IS_TOO_LARGE, failure

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PREFERRED = ("zstd", "lz4", "gzip", "deflate")
"""Encodings of a response; the first that the client accepts is used."""
_WINDOW_LOG_MAX = 23
"""8 MiB, the most that any usual level writes: a frame may ask for a window of gigabytes before its first byte."""


class Compressor(Protocol):
    """Makes a compressed body piece by piece."""

    def compress(self, piece: bytes) -> bytes:
        """What is ready after `piece`, perhaps nothing yet."""

    def flush(self) -> bytes:
        """The rest, and the end."""


class _Lz4:
    def __init__(self) -> None:
        self._made: Any = lz4.LZ4FrameCompressor()
        self._begun = False

    def compress(self, piece: bytes) -> bytes:
        head = self._begin()
        return head + bytes(self._made.compress(piece))

    def flush(self) -> bytes:
        return self._begin() + bytes(self._made.flush())

    def _begin(self) -> bytes:
        if self._begun:
            return b""
        self._begun = True
        return bytes(self._made.begin())


def compressor(encoding: str) -> Compressor:
    """One of PREFERRED."""
    if encoding == "zstd":
        return zstd.ZstdCompressor(level=1)
    if encoding == "lz4":
        return _Lz4()
    return zlib.compressobj(1, wbits=31 if encoding == "gzip" else 15)


def chosen(accepted: str) -> str:
    """The encoding for an answer, given the header Accept-Encoding; "" for none."""
    offers: dict[str, float] = {}
    for offer in accepted.lower().split(","):
        name, _, weight = offer.partition(";q=")
        try:
            offers[name.strip()] = float(weight or 1)
        except ValueError:
            continue
    liked = [(offers.get(name, 0.0), -place, name) for place, name in enumerate(PREFERRED)]
    best, _, preferred = max(liked)
    return preferred if best > 0 else ""


def decompress(body: bytes, encoding: str, bytes_max: int) -> bytes:
    """A request's body. Raises QueryError where it is broken, or larger than `bytes_max`."""
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return body
    try:
        made, is_whole = _decompressed(body, encoding, bytes_max)
    except (zlib.error, zstd.ZstdError, RuntimeError, EOFError) as error:
        raise failure(CANNOT_DECOMPRESS, f"the body is not {encoding}: {error}") from None
    if len(made) > bytes_max:
        raise failure(QUERY_IS_TOO_LARGE, f"the body has more than {bytes_max:,} bytes when decompressed")
    if not is_whole:
        raise failure(CANNOT_DECOMPRESS, f"the body is not whole {encoding}: it is cut off, or more follows it")
    return made


def _decompressed(body: bytes, encoding: str, bytes_max: int) -> tuple[bytes, bool]:
    """At most a byte more than `bytes_max`, and whether the body ended there."""
    most = bytes_max + 1
    if encoding in ("gzip", "deflate"):
        inflating = zlib.decompressobj(47 if encoding == "gzip" else 15)
        return inflating.decompress(body, most), inflating.eof and not inflating.unused_data
    if encoding == "zstd":
        unpacking: Any = zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _WINDOW_LOG_MAX})
    elif encoding == "lz4":
        unpacking = lz4.LZ4FrameDecompressor()
    else:
        raise failure(NOT_IMPLEMENTED, f"got Content-Encoding: {encoding}; expected one of {', '.join(PREFERRED)}")
    made = bytes(unpacking.decompress(body, most))
    return made, bool(unpacking.eof) and not unpacking.unused_data
