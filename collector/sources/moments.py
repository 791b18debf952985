"""Moments as the services write and read them."""

from __future__ import annotations

from datetime import UTC, datetime

from collector.sources.normalise import time_seconds

_UNITS = (1, 1_000, 1_000_000, 10**9)


def iso_text(seconds: int) -> str:
    """`2025-10-09T08:00:00Z`; moments before the epoch become the epoch."""
    return datetime.fromtimestamp(max(0, seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def civil_text(seconds: int) -> str:
    """`2025-10-09 08:00:00`, UTC; moments before the epoch become the epoch."""
    return datetime.fromtimestamp(max(0, seconds), UTC).strftime("%Y-%m-%d %H:%M:%S")


def read_moment(value: object) -> tuple[int, bool]:
    """Whole seconds since the epoch of what `time_seconds` takes, and whether that is all it says.

    Of a moment between two seconds the rest is lost. Raises ValueError.
    """
    seconds = time_seconds(value)
    if isinstance(value, str):
        text = value.strip()
        try:
            value = float(text) if "." in text or "e" in text.lower() else int(text)
        except ValueError:
            return seconds, datetime.fromisoformat(text).microsecond == 0
    return seconds, any(value == seconds * unit for unit in _UNITS)
