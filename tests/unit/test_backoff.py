"""How long is waited between a failure and the next try."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.backoff import backoff_seconds


@pytest.mark.parametrize(
    ("factor", "expected"),
    [(1, [1, 1, 1, 1]), (2, [1, 2, 4, 8]), (3, [1, 3, 9, 10])],
)
def test_each_wait_is_the_factor_times_the_one_before(factor: int, expected: list[float]) -> None:
    """Without chance the waits are exact, up to the maximum."""
    assert [backoff_seconds(failures, 1.0, 10.0, factor=factor) for failures in range(1, 5)] == expected


@given(failures=st.integers(1, 100_000), seed=st.integers(), factor=st.integers(1, 10))
def test_chance_takes_at_most_half(failures: int, seed: int, factor: int) -> None:
    """With chance a wait lies between half of the one without and all of it, however many failures there were."""
    full = backoff_seconds(failures, 1.0, 60.0, factor=factor)
    assert 1.0 <= full <= 60.0
    assert full / 2 <= backoff_seconds(failures, 1.0, 60.0, factor=factor, random=Random(seed)) <= full
