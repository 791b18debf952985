"""Billing months and money as it is counted: in millionths of a CNY, whole numbers."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from decimal import Decimal
from functools import lru_cache

from collector.units import DAY_SECONDS

BILLING_ZONE = timezone(timedelta(hours=8))
"""Billing months are calendar months of China's time."""

_MICRO = Decimal(1_000_000)
_HOUR_SECONDS = 3600


@lru_cache(maxsize=64)
def _month(hour: int) -> tuple[str, int]:
    """Name and first second of the month of an hour since the epoch: months begin with a whole hour of UTC."""
    local = datetime.fromtimestamp(hour * _HOUR_SECONDS, BILLING_ZONE)
    start = local.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return start.strftime("%Y-%m"), int(start.timestamp())


def billing_month(time: int) -> str:
    """The billing month of a moment, such as `2026-11`."""
    return _month(time // _HOUR_SECONDS)[0]


def month_start(time: int) -> int:
    """The first second of the billing month of a moment."""
    return _month(time // _HOUR_SECONDS)[1]


def month_end(time: int) -> int:
    """The first second after the billing month of a moment."""
    # Every month is longer than 27 days and none begins more than 32 days after the last one.
    return month_start(month_start(time) + 32 * DAY_SECONDS)


def micro_cny(cny: Decimal) -> int:
    """Millionths of a CNY; parts of one are dropped."""
    return int(cny * _MICRO)


def cny(micro: int) -> Decimal:
    """CNY of so many millionths."""
    return Decimal(micro) / _MICRO
