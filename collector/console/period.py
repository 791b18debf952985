"""The range of time that a page shows: `?last=6h` up to now, or `?from=...&until=...`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from collector.errors import UsageError
from collector.units import format_duration, parse_duration

LAST_DEFAULT: Final = "1d"
LAST_CHOICES: Final = ("15m", "1h", "6h", "1d", "3d", "7d", "30d")
SECONDS_MAX: Final = 400 * 86_400
_STEPS: Final = (1, 5, 10, 30, 60, 300, 600, 1800, 3600, 3 * 3600, 6 * 3600, 86_400)


@dataclass(frozen=True, slots=True)
class Period:
    """From `start` until before `end`, seconds since the epoch."""

    start: int
    end: int
    last: str = ""
    """Such as `6h` where the end is now; else empty."""

    @property
    def seconds(self) -> int:
        return self.end - self.start

    @property
    def hours(self) -> int:
        """Whole hours that cover it, at least one."""
        return max(1, -(-self.seconds // 3600))

    @property
    def query(self) -> dict[str, str]:
        """What stands in addresses for it."""
        return {"last": self.last} if self.last else {"from": iso(self.start), "until": iso(self.end)}

    @property
    def parameters(self) -> dict[str, str]:
        """`hours` and `until` of the named queries."""
        return {"hours": str(self.hours)} | ({} if self.last else {"until": sql_time(self.end)})

    def step(self, points_max: int) -> int:
        """Return the shortest usual step, seconds, that cuts it into at most `points_max` parts."""
        return next((step for step in _STEPS if self.seconds <= step * points_max), _STEPS[-1])


def period_of(query: Mapping[str, str], now: int, default: str = LAST_DEFAULT) -> Period:
    """Read the range from an address. Raises UsageError."""
    given_from, given_until, last = (query.get(name, "").strip() for name in ("from", "until", "last"))
    if given_from or given_until:
        end = _time("until", given_until) if given_until else now
        start = _time("from", given_from) if given_from else end - int(parse_duration(default))
        if not 0 < end - start <= SECONDS_MAX:
            raise UsageError(
                f"from, until: got {iso(start)} and {iso(end)}; expected a start before the end, at most 400 days apart"
            )
        return Period(start, end)
    try:
        seconds = int(parse_duration(last or default))
    except ValueError as error:
        raise UsageError(f"last: {error}") from None
    if not 60 <= seconds <= SECONDS_MAX:
        raise UsageError(f"last: got {last}; expected 1m to 400d")
    return Period(now - seconds, now, last=format_duration(seconds))


def iso(time: int) -> str:
    """Return a time, seconds since the epoch, as ISO 8601 UTC."""
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def sql_time(time: int) -> str:
    """Return a time, seconds since the epoch, as the engine reads it, UTC."""
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M:%S")


def moment(text: str) -> int:
    """Return seconds since the epoch of a time as the engine writes it, `YYYY-MM-DD hh:mm:ss` in UTC."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def _time(name: str, text: str) -> int:
    """Seconds since the epoch of `2026-11-30T03:00`, with or without seconds and zone; without one it is UTC."""
    try:
        if text.isascii() and text.isdigit() and len(text) <= 10:
            return int(text)
        time = datetime.fromisoformat(text)
        return int((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError):
        raise UsageError(f"{name}: got {text[:60]!r}; expected a time such as 2026-11-30T03:00Z") from None
