"""When a failed call is tried again."""

from __future__ import annotations

from email.utils import formatdate
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from collector.api.decode import Reason, UndecodableAnswerError
from collector.api.retry import (
    RETRY_AFTER_SECONDS_MAX,
    GiveUp,
    GiveUpReason,
    RetryAfter,
    RetryPolicy,
    next_attempt,
    retry_after_seconds,
)
from collector.errors import (
    AnswerTooLargeError,
    ApiError,
    BadRequestError,
    CredentialsError,
    CursorError,
    ForbiddenError,
    NotFoundError,
    ThrottledError,
    TransientError,
)

POLICY = RetryPolicy(attempts_max=6, base_seconds=1.0, cap_seconds=30.0, deadline_seconds=180.0)
NOW = 1_760_000_000


@pytest.mark.parametrize("error_type", [BadRequestError, CursorError, CredentialsError, ForbiddenError, NotFoundError])
def test_a_permanent_error_is_not_repeated(error_type: type[ApiError]) -> None:
    """What asking again cannot help is given up at the first attempt, even when told to wait."""
    decision = next_attempt(error_type("no", retry_after_seconds=1.0), 1, 0.0, POLICY, Random(1))

    assert decision == GiveUp(GiveUpReason.PERMANENT)


@pytest.mark.parametrize(
    ("error", "repeatable", "sent", "repeated"),
    [
        (TransientError("lost"), True, True, True),
        (TransientError("lost"), False, True, False),
        (TransientError("refused"), False, False, True),
        (ThrottledError("slow"), False, True, True),
        (UndecodableAnswerError(Reason.HTML), True, True, True),
        (UndecodableAnswerError(Reason.HTML), False, True, False),
        (AnswerTooLargeError("large"), True, True, False),
    ],
)
def test_a_call_that_may_have_taken_effect_is_repeated_only_when_harmless(
    error: ApiError, repeatable: bool, sent: bool, repeated: bool
) -> None:
    """A harmful repeat needs proof that the first had no effect: never sent, or refused for its pace."""
    decision = next_attempt(error, 1, 0.0, POLICY, Random(1), repeatable=repeatable, sent=sent)

    assert isinstance(decision, RetryAfter) is repeated


def test_the_last_attempt_is_the_last() -> None:
    """Attempt number `attempts_max` is followed by no other."""
    assert isinstance(next_attempt(TransientError("x"), 5, 0.0, POLICY, Random(1)), RetryAfter)
    assert next_attempt(TransientError("x"), 6, 0.0, POLICY, Random(1)) == GiveUp(GiveUpReason.ATTEMPTS)


def test_a_demanded_wait_beats_the_backoff() -> None:
    """The service's own figure is waited exactly, longer or shorter than the backoff, but for half of the base."""
    for seconds in (0.5, 2.0, 100.0):
        error = ThrottledError("slow", retry_after_seconds=seconds)
        assert next_attempt(error, 5, 0.0, POLICY, Random(1)) == RetryAfter(seconds)
    error = ThrottledError("slow", retry_after_seconds=0.001)
    assert next_attempt(error, 5, 0.0, POLICY, Random(1)) == RetryAfter(0.5)


def test_a_wait_past_the_deadline_is_not_begun() -> None:
    """When the wait would end at or after the deadline, the call is given up now."""
    error = ThrottledError("slow", retry_after_seconds=60.0)

    assert next_attempt(error, 1, 119.9, POLICY, Random(1)) == RetryAfter(60.0)
    assert next_attempt(error, 1, 120.0, POLICY, Random(1)) == GiveUp(GiveUpReason.DEADLINE)


@given(seed=st.integers(), attempt=st.integers(1, 5000), elapsed=st.floats(0, 400))
def test_the_backoff_is_bounded_and_never_passes_the_deadline(seed: int, attempt: int, elapsed: float) -> None:
    """Anything from half of the doubled base to all of it, at most the cap, and inside the deadline."""
    policy = RetryPolicy(attempts_max=10_000, deadline_seconds=180.0)
    decision = next_attempt(TransientError("x"), attempt, elapsed, policy, Random(seed))

    if isinstance(decision, RetryAfter):
        full = min(30.0, 2.0 ** min(attempt - 1, 10))
        assert full / 2 <= decision.seconds <= full
        assert elapsed + decision.seconds < 180.0
    else:
        assert decision.reason is GiveUpReason.DEADLINE


def test_the_backoff_doubles_on_average_and_uses_the_whole_range() -> None:
    """Waits spread over the upper half of a range that doubles with each attempt until the cap."""
    random = Random(7)
    means = []
    for attempt in range(1, 9):
        waits = []
        for _ in range(2000):
            decision = next_attempt(TransientError("x"), attempt, 0.0, RetryPolicy(attempts_max=99), random)
            assert isinstance(decision, RetryAfter)
            waits.append(decision.seconds)
        assert min(waits) < 0.51 * max(waits)
        means.append(sum(waits) / len(waits))

    assert means[:6] == pytest.approx([0.75, 1.5, 3.0, 6.0, 12.0, 22.5], rel=0.05)
    assert means[6:] == pytest.approx([22.5, 22.5], rel=0.05)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"Retry-After": "7"}, 7.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"x-acs-retry-after": "1500"}, 1.5),
        ({"Retry-After": "1", "x-acs-retry-after": "2500"}, 2.5),
        ({"Retry-After": "3", "x-acs-retry-after": "2500"}, 3.0),
        ({"Retry-After": formatdate(NOW + 20, usegmt=True)}, 20.0),
        ({"Retry-After": formatdate(NOW - 20, usegmt=True)}, None),
        ({"Retry-After": "0"}, None),
        ({"Retry-After": "-5"}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "inf"}, None),
        ({"Retry-After": "nan", "x-acs-retry-after": "100"}, 0.1),
        ({"Retry-After": "999999999"}, RETRY_AFTER_SECONDS_MAX),
        ({"Retry-After": "Fri, 31 Dec 9999 23:59:59 GMT"}, RETRY_AFTER_SECONDS_MAX),
    ],
)
def test_the_longer_demand_counts_and_nonsense_does_not(headers: dict[str, str], expected: float | None) -> None:
    """Seconds, dates and milliseconds are read; what is not positive or not a time is no demand."""
    assert retry_after_seconds(CIMultiDict(headers), NOW) == expected
