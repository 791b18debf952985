"""`NextToken`: opaque outside, and inside all that is needed to go on where a page ended."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from hashlib import blake2b

import msgspec

from collector.simulator.refusals import invalid_token

_CHECKSUM_BYTES = 6


class Position(msgspec.Struct, frozen=True, array_like=True):
    """Where a listing stands. It is bound to what was asked and to the moment of its first page."""

    node_id: str
    first: int
    last: int
    query: str
    order: str
    as_of: int
    """Rows that became visible later are not part of this listing, so that pages stay as they are."""
    issued_at: float
    second: int
    """Event time of the last record given."""
    sequence: int
    """Its sequence; in a shuffled listing the number of records given so far."""


@dataclass(frozen=True, slots=True)
class TokenMint:
    """Makes and reads tokens. `seconds_max` is how long one lives, None for ever."""

    seed: int
    seconds_max: float | None = None

    def issue(self, position: Position) -> str:
        body = msgspec.json.encode(position)
        return base64.urlsafe_b64encode(self._checksum(body) + body).decode()

    def read(self, token: str, now: float) -> Position:
        """The position in a token. Raises Refusal (400) for one that is forged or too old."""
        try:
            raw = base64.b64decode(token.encode(), altchars=b"-_", validate=True)
            checksum, body = raw[:_CHECKSUM_BYTES], raw[_CHECKSUM_BYTES:]
            if checksum != self._checksum(body):
                raise invalid_token("is not valid")
            position = msgspec.json.decode(body, type=Position)
        except (binascii.Error, UnicodeEncodeError, msgspec.DecodeError):
            raise invalid_token("is not valid") from None
        if self.seconds_max is not None and now - position.issued_at > self.seconds_max:
            raise invalid_token("is expired")
        return position

    def _checksum(self, body: bytes) -> bytes:
        return blake2b(body, digest_size=_CHECKSUM_BYTES, key=str(self.seed).encode()).digest()
