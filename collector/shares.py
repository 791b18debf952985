"""Which part of the work is whose, where several processes collect one account. Pure.

Streams go to shards by rendezvous hashing: each shard has a weight for each stream, and the highest wins. So
every stream is one shard's, and one shard more takes streams from the others without moving any between them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

from collector.errors import ConfigError
from collector.model import StreamKey

AUTO: Final = "auto"
"""In the place of an index: the number at the end of the host name, as a StatefulSet gives it."""

_WEIGHT_BYTES: Final = 8


@dataclass(frozen=True, slots=True, order=True)
class Share:
    """One of `of` equal parts, numbered from 0."""

    index: int
    of: int

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.of:
            raise ValueError(f"a share is one of 0/{self.of} to {self.of - 1}/{self.of}, got {self.index}/{self.of}")

    def __str__(self) -> str:
        return f"{self.index}/{self.of}"

    @property
    def is_alone(self) -> bool:
        """Whether there is no other part."""
        return self.of == 1

    def part(self, total: int) -> int:
        """This part of something countable; the parts of all shards add up to `total`."""
        return total * (self.index + 1) // self.of - total * self.index // self.of

    def owns(self, key: StreamKey) -> bool:
        """Whether the stream is this shard's."""
        return self.is_alone or owner_index(key, self.of) == self.index


ALONE: Final = Share(0, 1)


def owner_index(key: StreamKey, of: int) -> int:
    """The shard, of so many, that a stream belongs to."""
    # Streams of one target may have rows in common, which one journal has to tell apart.
    name = "\0".join((key.operation, key.region, key.target_id)).encode()
    # The weight of a shard does not depend on how many there are: that is what keeps streams where they are.
    return max(range(of), key=lambda index: blake2b(name, digest_size=_WEIGHT_BYTES, salt=index.to_bytes(8)).digest())


def parse_share(text: str, hostname: str) -> Share:
    """The share that `I/N`, `auto/N` or "" (alone) names; `auto` is the number at the end of `hostname`.

    Raises ValueError, whose text says what is wrong and what would be right.
    """
    if not text:
        return ALONE
    match = re.fullmatch(r"(\d{1,4}|auto)/(\d{1,4})", text)
    if match is None or int(match[2]) < 1:
        raise ValueError(f'got "{text}"; expected a part such as "0/3" (the first of three) or "auto/3", or ""')
    of = int(match[2])
    index = _ordinal(hostname, text) if match[1] == AUTO else int(match[1])
    if index >= of:
        where = f" (from the host name {hostname})" if match[1] == AUTO else ""
        raise ValueError(f'got "{text}" with the number {index}{where}; {of} shards are numbered 0 to {of - 1}')
    return Share(index, of)


def _ordinal(hostname: str, text: str) -> int:
    match = re.search(r"-(\d{1,4})$", hostname.split(".")[0])
    if match is None:
        raise ValueError(
            f'got "{text}" on the host {hostname!r}; expected a host name with a number at its end, such as '
            'collector-0, or the shard itself, such as "0/3"'
        )
    return int(match[1])


def quota_parts(share: Share, quotas: Mapping[str, int], needed: Collection[str]) -> dict[str, int]:
    """A shard's part of each quota (calls a second, by operation); the parts of all shards add up to the quotas.

    Raises ConfigError where the quota of an operation that is `needed` does not reach for so many shards: a shard
    without any part could never call. Of another operation, which only a person's commands ask for, there is
    always one call a second.
    """
    mistakes = [
        f"shard: got {share}, but {operation} allows {quotas[operation]} calls a second; expected at most "
        f"{quotas[operation]} shards, or a higher api.quotas.{operation}"
        for operation in sorted(needed)
        if quotas[operation] < share.of
    ]
    if mistakes:
        raise ConfigError(mistakes)
    return {operation: max(1, share.part(quota)) for operation, quota in quotas.items()}
