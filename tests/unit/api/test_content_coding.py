"""Bodies that are compressed, that only claim to be, and that are damaged."""

from __future__ import annotations

import gzip
import sys
import zlib
from random import Random

import pytest

from collector.api.content_coding import DecompressionFailed, UnreadableCoding, decompressor_for

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

BODY = b'{"Logs": [' + b'{"Msg": "link up"},' * 2000 + b"{}]}"


def bare_deflate(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(body) + packer.flush()


def unpacked(coding: str, body: bytes, pieces: int, bytes_max: int = 1 << 30) -> bytes:
    decompressor = decompressor_for(coding)
    out = b""
    for start in range(0, len(body), pieces):
        out += decompressor.feed(body[start : start + pieces], bytes_max)
        if len(out) >= bytes_max:
            return out
    return out + decompressor.finish()


PACKED = {
    "gzip": gzip.compress(BODY), "x-gzip": gzip.compress(BODY), "GZIP, identity": gzip.compress(BODY),
    "deflate": zlib.compress(BODY), "zstd": zstd.compress(BODY), "": BODY, "identity": BODY,
}  # fmt: skip


@pytest.mark.parametrize("pieces", [1, 7, 4096, 1 << 20])
@pytest.mark.parametrize(
    ("coding", "body"),
    [
        *PACKED.items(),
        ("deflate", bare_deflate(BODY)),
        ("gzip", gzip.compress(BODY[:100]) + gzip.compress(BODY[100:])),
        ("gzip", gzip.compress(BODY) + b"\0" * 8),
        ("gzip", BODY),
        ("deflate", BODY),
        ("zstd", BODY),
        ("gzip", zstd.compress(BODY)),
        ("zstd", gzip.compress(BODY)),
        ("deflate", gzip.compress(BODY)),
    ],
)
def test_a_body_is_read_as_what_it_is(coding: str, body: bytes, pieces: int) -> None:
    """Announced rightly or wrongly, in one piece or byte by byte, in several members, with padding."""
    if coding == "deflate" and body == BODY:
        # Four bytes of JSON cannot be told from a bare stream.
        pieces = max(pieces, 64)
    assert unpacked(coding, body, pieces) == BODY


@pytest.mark.parametrize("body", [b"", b"{}", b"[1]"])
@pytest.mark.parametrize("coding", ["", "gzip", "deflate", "zstd"])
def test_a_body_that_is_too_short_to_be_compressed_is_read(coding: str, body: bytes) -> None:
    """Nothing stays behind."""
    assert unpacked(coding, body, 1) == body


@pytest.mark.parametrize("coding", ["br", "compress", "gzip, gzip", "aws-chunked"])
def test_a_coding_that_cannot_be_undone_is_named(coding: str) -> None:
    """The reason is what the header says."""
    with pytest.raises(UnreadableCoding, match=coding):
        decompressor_for(coding)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "zstd"])
def test_a_body_that_ends_early_or_is_damaged_is_never_an_answer(coding: str) -> None:
    """Every cut and a flipped byte at a random place are noticed, or change nothing."""
    packed = PACKED[coding]
    for end in range(4, len(packed)):
        with pytest.raises(DecompressionFailed):
            unpacked(coding, packed[:end], 4096)
    random = Random(5)
    for _ in range(200):
        place = random.randrange(8, len(packed))
        damaged = packed[:place] + bytes([packed[place] ^ 1 << random.randrange(8)]) + packed[place + 1 :]
        try:
            assert len(unpacked(coding, damaged, 4096, bytes_max=1 << 20)) <= 1 << 21
        except DecompressionFailed:
            continue


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress, zstd.compress])
def test_a_bomb_is_not_unpacked_beyond_the_limit(pack: object) -> None:
    """A small body that unpacks to a large one stops at the limit."""
    bomb = pack(b"\0" * (64 << 20))  # type: ignore[operator]
    out = unpacked("gzip" if pack is not zlib.compress else "deflate", bomb, len(bomb), bytes_max=1 << 16)

    assert len(out) == 1 << 16
