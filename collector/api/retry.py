"""Whether a failed call is tried again, and when. Pure: chance is handed in."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Final

from collector.api.reactions import StaleSignatureError
from collector.backoff import JITTER_RATIO_MIN, backoff_seconds
from collector.clock import parse_http_date
from collector.errors import ApiError, ThrottledError, TransientError

RETRY_AFTER_SECONDS_MAX: Final = 3600.0
"""A longer demand is cut to this: one broken header must not stop an operation for good."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Bounds of the repeats of one call."""

    attempts_max: int = 6
    base_seconds: float = 1.0
    """The first backoff, with jitter between half of it and all."""
    factor: int = 2
    """Each further backoff is this many times as long."""
    cap_seconds: float = 30.0
    """Maximum of a backoff."""
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
    A wait that the service demands replaces the backoff, though a repeat, which costs as much as the first attempt,
    never follows within half of the base. No attempt starts at or after the deadline.
    """
    if not isinstance(error, TransientError):
        return GiveUp(GiveUpReason.PERMANENT)
    if isinstance(error, StaleSignatureError) and signed_anew:
        return GiveUp(GiveUpReason.PERMANENT)
    if sent and not repeatable and not isinstance(error, ThrottledError | StaleSignatureError):
        return GiveUp(GiveUpReason.NOT_REPEATABLE)
    if attempt >= policy.attempts_max:
        return GiveUp(GiveUpReason.ATTEMPTS)
    if error.retry_after_seconds:
        seconds = max(error.retry_after_seconds, policy.base_seconds * JITTER_RATIO_MIN)
    else:
        seconds = backoff_seconds(attempt, policy.base_seconds, policy.cap_seconds, factor=policy.factor, random=random)
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


def _number(text: str | None) -> float:
    try:
        number = float(text or 0)
    except ValueError:
        return 0.0
    return number if math.isfinite(number) else 0.0
