"""The machines of the world: who they are and how much they log."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from collector.simulator.hashing import key_of, mix


class Profile(enum.StrEnum):
    """How talkative a node is."""

    QUIET = "quiet"
    """A line every few minutes."""
    NORMAL = "normal"
    """A line every few seconds."""
    BUSY = "busy"
    """Several lines a second."""


_DECK = (Profile.QUIET,) * 6 + (Profile.NORMAL,) * 3 + (Profile.BUSY,)


@dataclass(frozen=True, slots=True)
class Node:
    """One machine. `key` is the hash that all its records grow from."""

    node_id: str
    key: int
    profile: Profile
    cluster_id: str
    hostname: str
    ip: str
    sn: str
    domain: str
    user_defined_id: str
    topic: str
    pack_prefix: str


def make_nodes(seed: int, count: int, per_cluster: int = 500) -> tuple[Node, ...]:
    """`count` nodes: of each ten in a row six are quiet, three normal and one busy."""
    return tuple(_make_node(seed, index, per_cluster) for index in range(count))


def _make_node(seed: int, index: int, per_cluster: int) -> Node:
    key = key_of("node", seed, index)
    # The optional fields are empty on some machines, as on real ones.
    return Node(
        node_id=f"e01-cn-sim{index + 1:04d}",
        key=key,
        profile=_profile(seed, index),
        cluster_id=f"i1100000000000000{seed % 1000:03d}{index // per_cluster + 1:02d}",
        hostname=f"gpu-{index + 1:04d}",
        ip=f"10.{index >> 16 & 0xFF}.{index >> 8 & 0xFF}.{index & 0xFF}",
        sn=f"21A4{key & 0xFFFFFF:06X}" if key >> 24 & 7 else "",
        domain="ALIYUN_PUBLIC" if key >> 28 & 3 else "",
        user_defined_id=f"application_{'abcd'[key >> 32 & 3]}" if key >> 36 & 3 else "",
        topic="logserver" if key >> 40 & 1 else "log2sls",
        pack_prefix=f"{mix(key):016X}",
    )


def _profile(seed: int, index: int) -> Profile:
    # Dealt from a shuffled deck rather than thrown, so that a small world has every kind too.
    deck, place = divmod(index, len(_DECK))
    cards = sorted(range(len(_DECK)), key=lambda card: key_of("profile", seed, deck, card))
    return _DECK[cards[place]]
