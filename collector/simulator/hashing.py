"""Hashes that stand in for chance: the same words always give the same numbers.

A record of the world is computed each time it is read, so its randomness has to be a pure and
cheap function of where it stands. `mix` is splitmix64: a handful of integer operations.
"""

from __future__ import annotations

import math
from hashlib import blake2b

MASK_64 = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_TWO_64 = float(1 << 64)


def mix(value: int) -> int:
    """64 well-spread bits of a whole number, which may be of any size or sign (splitmix64)."""
    value = (value + _GOLDEN) & MASK_64
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & MASK_64
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & MASK_64
    return value ^ (value >> 31)


def key_of(*parts: object) -> int:
    """64 bits of a few words or numbers. Slower than `mix`; for keys that are kept."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest())


def fraction(bits: int) -> float:
    """64 bits as a number in [0, 1)."""
    # Cut to 53 bits, because a float of all 64 may round up to exactly 1.
    return (bits >> 11 << 11) / _TWO_64


def between(bits: int, low: float, high: float) -> float:
    """64 bits as a number in [low, high)."""
    return low + (high - low) * fraction(bits)


def poisson_table(mean: float, size: int = 64) -> tuple[int, ...]:
    """`size` counts whose shares follow a Poisson distribution of `mean`, in ascending order.

    A uniform index into it is a Poisson draw without a logarithm per draw.
    """
    if mean <= 0:
        return (0,) * size
    if mean > 500:
        # exp(-mean) runs out of floats; at this size the spread no longer matters to anyone.
        return (round(mean),) * size
    counts = []
    count, term = 0, math.exp(-mean)
    below = term
    for step in range(size):
        while below < (step + 0.5) / size:
            count += 1
            term *= mean / count
            below += term
        counts.append(count)
    return tuple(counts)
