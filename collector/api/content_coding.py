"""Decompress the body of a response, by what its bytes are rather than by what its header claims."""

from __future__ import annotations

import sys
import zlib
from typing import Any, Final, Protocol

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

ACCEPTED: Final = "gzip, deflate"
"""What requests ask for. Zstandard is read too, if a proxy sends it."""

_GZIP_MAGIC: Final = b"\x1f\x8b"
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_MAGIC_BYTES: Final = 4


class UnreadableCoding(Exception):
    """The body is compressed in a way that cannot be undone; the text names it."""


class DecompressionFailed(Exception):
    """The compressed bytes are damaged."""


class Decompressor(Protocol):
    """Turns the bytes of a body into what they were before compression. Raises DecompressionFailed."""

    def feed(self, data: bytes, bytes_max: int) -> bytes:
        """Return what `data` adds to the body. After `bytes_max` bytes or more the body must not be read on."""

    def finish(self) -> bytes:
        """Return the rest at the end of the body."""


def decompressor_for(content_encoding: str) -> Decompressor:
    """Return the decompressor of a `Content-Encoding` header. Raises UnreadableCoding."""
    codings = [
        coding for part in content_encoding.split(",") if (coding := part.strip().lower()) not in ("", "identity")
    ]
    if not codings:
        return _Plain()
    if len(codings) > 1 or codings[0] not in ("gzip", "x-gzip", "deflate", "zstd"):
        raise UnreadableCoding(", ".join(codings)[:40])
    return _Detecting(codings[0])


class _Plain:
    """A body that is not compressed."""

    def feed(self, data: bytes, bytes_max: int) -> bytes:
        return data

    def finish(self) -> bytes:
        return b""


class _Detecting:
    """A body that claims to be compressed; its first bytes decide. Members in sequence are one body."""

    def __init__(self, coding: str) -> None:
        self._coding = coding
        self._head = b""
        self._rest = b""
        """What came behind the end of a member and is not known to be another one."""
        self._stream: Any = None
        self._is_plain = False

    def feed(self, data: bytes, bytes_max: int) -> bytes:
        if self._is_plain:
            return data
        if self._stream is None:
            data = self._head + data
            self._head = b""
            if len(data) < _MAGIC_BYTES:
                self._head = data
                return b""
            self._stream = _stream_of(data, self._coding)
            if self._stream is None:
                self._is_plain = True
                return data
        out = b""
        while data and len(out) < bytes_max:
            if self._stream.eof:
                data = self._rest + data
                self._rest = data[:_MAGIC_BYTES]
                if not data.startswith((_GZIP_MAGIC, _ZSTD_MAGIC)):
                    # Padding behind the end, or too little of the next member.
                    break
                self._stream, self._rest = _stream_of(data, self._coding), b""
            try:
                out += self._stream.decompress(data, bytes_max - len(out))
            except (zlib.error, zstd.ZstdError) as error:
                raise DecompressionFailed(str(error)) from None
            data = self._stream.unused_data
        return out

    def finish(self) -> bytes:
        if self._stream is not None and not self._stream.eof:
            raise DecompressionFailed("the compressed body ends too early")
        # Too short for any of the formats.
        return self._head


def _stream_of(data: bytes, coding: str) -> Any:
    """The decompressor of bytes that begin like `data`, None if they are not compressed."""
    if data.startswith(_GZIP_MAGIC):
        return zlib.decompressobj(31)
    if data.startswith(_ZSTD_MAGIC):
        return zstd.ZstdDecompressor()
    if coding != "deflate":
        # Something on the way has decompressed it and left the header.
        return None
    if data[0] & 0x0F == 8 and int.from_bytes(data[:2]) % 31 == 0:
        return zlib.decompressobj()
    # Some services leave out the header that the standard asks for.
    try:
        zlib.decompressobj(-15).decompress(data, 1024)
    except zlib.error:
        return None
    return zlib.decompressobj(-15)
