"""Durations and sizes as people write them (`30s`, `2GiB`) and as the program counts them.

Every parser takes what its formatter writes. Their ValueErrors are sentences a user can act on. The
rough forms are for tables only: they drop what a person does not look for.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

DAY_SECONDS = 86_400

DURATION_UNITS: dict[str, float] = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": DAY_SECONDS}
"""Seconds of each unit, smallest first. Milliseconds are for flush intervals and the like."""

SIZE_UNITS: dict[str, int] = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
"""Bytes of each unit, smallest first."""

_DURATION = re.compile(r"([0-9]{1,18})(ms|s|m|h|d)")
_SIZE = re.compile(r"([0-9]{1,18})(B|KiB|MiB|GiB|TiB)")


def parse_duration(text: str) -> float:
    """Seconds of `30s`, `5m`, `6h`, `7d` or `250ms`.

    Raises ValueError for anything else, a bare number included: its unit would be a guess.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a duration: write a number and s, m, h or d, such as 30s")
    number, unit = int(match[1]), match[2]
    # Divided rather than multiplied by 0.001, which would make 100ms slightly more than a tenth.
    return number / 1000 if unit == "ms" else float(number * DURATION_UNITS[unit])


def format_duration(seconds: float, *, largest: str = "d") -> str:
    """The shortest exact text of `seconds` (not negative), in whole units up to `largest`.

    Parts of a millisecond are rounded away. `largest="h"` suits services that know no days.
    """
    thousandths = round(seconds * 1000)
    if thousandths < 0:
        raise ValueError(f"a duration is not negative, got {seconds} seconds")
    if thousandths == 0:
        return "0s"
    units = list(DURATION_UNITS)
    for unit in reversed(units[: units.index(largest) + 1]):
        size = round(DURATION_UNITS[unit] * 1000)
        if thousandths % size == 0:
            return f"{thousandths // size}{unit}"
    raise AssertionError("a millisecond divides every whole number of them")


def parse_size(text: str) -> int:
    """Bytes of `2GiB`, `64MiB`, `512KiB` or `100B`. Raises ValueError for anything else."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a size: write a number and B, KiB, MiB, GiB or TiB, such as 64MiB")
    return int(match[1]) * SIZE_UNITS[match[2]]


def format_size(size_bytes: int) -> str:
    """The shortest exact text of `size_bytes` (not negative), such as `2GiB`."""
    if size_bytes < 0:
        raise ValueError(f"a size is not negative, got {size_bytes} bytes")
    if size_bytes == 0:
        return "0B"
    unit = next(unit for unit in reversed(SIZE_UNITS) if size_bytes % SIZE_UNITS[unit] == 0)
    return f"{size_bytes // SIZE_UNITS[unit]}{unit}"


def rough_duration(seconds: float) -> str:
    """The two largest units of `seconds` (not negative), such as `3h 5m`; the rest is dropped."""
    left = int(seconds)
    parts: list[str] = []
    for unit in ("d", "h", "m", "s"):
        number, left = divmod(left, int(DURATION_UNITS[unit]))
        if number or parts or unit == "s":
            parts.append(f"{number}{unit}")
    return " ".join(parts[:2])


def rough_size(size_bytes: int) -> str:
    """`size_bytes` (not negative) in the largest unit that fits, such as `1.5 GiB`."""
    unit = next((unit for unit in reversed(SIZE_UNITS) if size_bytes >= SIZE_UNITS[unit]), "B")
    return f"{size_bytes} B" if unit == "B" else f"{size_bytes / SIZE_UNITS[unit]:.1f} {unit}"


def iso(time: int) -> str:
    """Return seconds since the epoch as ISO 8601 in UTC."""
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
