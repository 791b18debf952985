"""Moments as the services write and read them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from collector.simulator.refusals import invalid_parameter


def iso(second: float) -> str:
    """`2025-10-09T08:00:00Z`."""
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def civil(second: float) -> str:
    """`2025-10-09 08:00:00`, UTC without saying so."""
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%d %H:%M:%S")


def civil_seconds(text: str) -> int:
    """UNIX seconds of what `civil` wrote."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def moment(parameters: Mapping[str, Any], name: str) -> float | None:
    """A parameter in either form as UNIX seconds, None where it is absent. Raises Refusal (400)."""
    text = parameters.get(name)
    if not text:
        return None
    try:
        parsed = datetime.fromisoformat(str(text))
    except ValueError:
        raise invalid_parameter(name, "a moment in UTC is expected") from None
    return parsed.replace(tzinfo=UTC).timestamp()


def time_range(
    parameters: Mapping[str, Any], now: float, default_seconds: float, most_seconds: float
) -> tuple[float, float]:
    """`StartTime` and `EndTime` as UNIX seconds; the range ends now and is `default_seconds` long unless told.

    Raises Refusal (400) for one that ends before it starts or is longer than `most_seconds`.
    """
    end = moment(parameters, "EndTime")
    end = now if end is None else end
    start = moment(parameters, "StartTime")
    start = end - default_seconds if start is None else start
    if start > end:
        raise invalid_parameter("EndTime", "it is before StartTime")
    if end - start > most_seconds:
        raise invalid_parameter("StartTime", "the range is too long")
    return start, end
