"""The range of a page, read from its address."""

from __future__ import annotations

import pytest
from multidict import MultiDict

from collector.console.period import Period, period_of
from collector.errors import UsageError

NOW = 1_764_471_600
"""2025-11-30T03:00:00Z"""


@pytest.mark.parametrize(
    ("query", "start", "end", "last"),
    [
        ({}, NOW - 86_400, NOW, "1d"),
        ({"last": "90m"}, NOW - 5400, NOW, "90m"),
        ({"from": "2025-11-30T02:00"}, NOW - 3600, NOW, ""),
        ({"from": "2025-11-30T02:00:30Z", "until": "2025-11-30T10:00:00+08:00"}, NOW - 3570, NOW - 3600, None),
        ({"from": "2025-11-30T01:00", "until": "2025-11-30T10:00:00+08:00"}, NOW - 7200, NOW - 3600, ""),
        ({"until": str(NOW - 60)}, NOW - 60 - 86_400, NOW - 60, ""),
    ],
)
def test_a_range_is_relative_or_absolute(query: dict[str, str], start: int, end: int, last: str | None) -> None:
    """Times without a zone are UTC; a start behind the end is refused."""
    if last is None:
        with pytest.raises(UsageError, match="expected a start before the end"):
            period_of(MultiDict(query), NOW)
    else:
        assert period_of(MultiDict(query), NOW) == Period(start, end, last)


def test_an_address_leads_to_the_same_range() -> None:
    """What a range puts into addresses is read as it was."""
    for period in (period_of(MultiDict({"last": "6h"}), NOW), Period(NOW - 500, NOW - 7)):
        assert period_of(MultiDict(period.query), NOW) == period


@pytest.mark.parametrize("seconds", [60, 3601, 86_400, 7 * 86_400, 400 * 86_400])
def test_steps_cut_a_range_into_few_enough_parts(seconds: int) -> None:
    """The shortest usual step, and at most as many points as asked for."""
    period = Period(NOW - seconds, NOW)
    assert seconds / period.step(500) <= 500 or period.step(500) == 86_400
    assert period.hours * 3600 >= seconds
