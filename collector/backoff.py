"""How long to wait between a failure and the next try. Pure: chance is handed in."""

from __future__ import annotations

from random import Random
from typing import Final

JITTER_RATIO_MIN: Final = 0.5
"""A wait with jitter is never shorter than this part of the one without."""
DOUBLINGS_MAX: Final = 64
"""The exponent is bounded first: 2.0 ** 1100 does not fit a float."""


def backoff_seconds(
    failures: int, base_seconds: float, max_seconds: float, *, factor: float = 2.0, random: Random | None = None
) -> float:
    """Return the wait after failure number `failures` (from 1) in a row.

    It is `base_seconds` after the first failure and `factor` times as long after each further one, at most
    `max_seconds`. With `random` it is spread between half of that and all of it.
    """
    full = min(max_seconds, base_seconds * factor ** min(failures - 1, DOUBLINGS_MAX))
    return full if random is None else full * random.uniform(JITTER_RATIO_MIN, 1.0)
