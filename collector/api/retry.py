"""Whether a failed call is tried again, and when. Pure: chance is handed in."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Final

from collector.api.reactions import StaleSignatureError
from collector.clock import parse_http_date
from collector.errors import ApiError, ThrottledError, TransientError

RETRY_AFTER_SECONDS_MAX: Final = 3600.0
"""A longer demand is cut to this: one broken header must not stop an operation for good."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Bounds of the repeats of one call."""

    attempts_max: int = 6
    base_seconds: float = 0.5
    """Upper end of the first backoff; each further one is twice as long."""
    cap_seconds: float = 30.0
    """No backoff is longer."""
    deadline_seconds: float = 180.0
    """Counted from the first attempt; no attempt starts after it."""


class GiveUpReason(enum.StrEnum):
    """Why a call is not tried again."""

    PERMANENT = "permanent"
    """Asking again cannot help."""
    NOT_REPEATABLE = "not_repeatable"
    """It may have taken effect, and a second time would do harm."""
    ATTEMPTS = "attempts"
    DEADLINE = "deadline"


@dataclass(frozen=True, slots=True)
class RetryAfter:
    seconds: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    reason: GiveUpReason


def next_attempt(
    error: ApiError,
    attempt: int,
    elapsed_seconds: float,
    policy: RetryPolicy,
    random: Random,
    *,
    repeatable: bool = True,
    sent: bool = True,
    signed_anew: bool = False,
) -> RetryAfter | GiveUp:
    """What follows on attempt number `attempt` (from 1) that failed with `error`.

    `repeatable` is the operation's; `sent` is False when the request certainly never left;
    `signed_anew` when an earlier attempt of this call failed by a stale signature.
    A wait that the service demands beats the backoff; both stay before the deadline.
    """
    if not isinstance(error, TransientError):
        return GiveUp(GiveUpReason.PERMANENT)
    if isinstance(error, StaleSignatureError) and signed_anew:
        return GiveUp(GiveUpReason.PERMANENT)
    if sent and not repeatable and not isinstance(error, ThrottledError | StaleSignatureError):
        return GiveUp(GiveUpReason.NOT_REPEATABLE)
    if attempt >= policy.attempts_max:
        return GiveUp(GiveUpReason.ATTEMPTS)
    seconds = error.retry_after_seconds or random.uniform(0.0, _backoff_seconds(attempt, policy))
    if elapsed_seconds + seconds >= policy.deadline_seconds:
        return GiveUp(GiveUpReason.DEADLINE)
    return RetryAfter(seconds)


def retry_after_seconds(headers: Mapping[str, str], server_now: int) -> float | None:
    """The wait that a reply demands, or None.

    `Retry-After` holds seconds or an HTTP date, `x-acs-retry-after` milliseconds; the longer one
    counts. `server_now` is the service's time in seconds since the epoch. `headers` must look
    names up without case.
    """
    demands = [_number(headers.get("x-acs-retry-after")) / 1000]
    value = headers.get("Retry-After")
    demands.append(_number(value))
    if (date := parse_http_date(value)) is not None:
        demands.append(float(date - server_now))
    longest = max(demands)
    return min(longest, RETRY_AFTER_SECONDS_MAX) if longest > 0 else None


def _backoff_seconds(attempt: int, policy: RetryPolicy) -> float:
    # The exponent is bounded first: 2.0 ** 1100 does not fit a float.
    return min(policy.cap_seconds, policy.base_seconds * 2.0 ** min(attempt - 1, 64))


def _number(text: str | None) -> float:
    try:
        number = float(text or 0)
    except ValueError:
        return 0.0
    return number if math.isfinite(number) else 0.0
