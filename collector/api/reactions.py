"""What an error reply means and what to do about it. Pure.

The services agree neither on statuses nor on codes: throttling comes with 400, 429 or 503, a
wrong key id with 404. The code therefore says more than the status, and a table is read from the
top: first by code, then by status.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from collector.errors import (
    ApiError,
    BadRequestError,
    CredentialsError,
    CursorError,
    ForbiddenError,
    FreeCallsUsedUp,
    NotFoundError,
    ThrottledError,
    TransientError,
)


class StaleSignatureError(TransientError):
    """The date or the credentials of the signature have expired. The call was not carried out, and a
    new signature may be taken."""


@dataclass(frozen=True, slots=True)
class Reaction:
    """The error to raise, and the advice that goes with it."""

    error: type[ApiError]
    hint: str
    """`{action}` in it stands for the operation's RAM action."""


@dataclass(frozen=True, slots=True)
class _Rule:
    error: type[ApiError]
    hint: str
    prefixes: tuple[str, ...] = ()
    """A code matches that begins with one of these, without case."""
    suffixes: tuple[str, ...] = ()
    statuses: tuple[range, ...] = ()

    def matches_code(self, code: str) -> bool:
        return code.startswith(self.prefixes) or code.endswith(self.suffixes)

    def matches_status(self, http_status: int) -> bool:
        return any(http_status in statuses for statuses in self.statuses)


def _one(http_status: int) -> range:
    return range(http_status, http_status + 1)


_THROTTLED: Final = _Rule(
    ThrottledError,
    "Calls slow down and are repeated by themselves. If it stays, something else uses this account's quota: "
    "lower api.quotas, lengthen the interval, or ask for a higher quota.",
    prefixes=("throttling", "toomanyrequests", "requestlimitexceeded"),
    statuses=(_one(429),),
)
_CREDENTIALS: Final = _Rule(
    CredentialsError,
    "Set DASHSCOPE_API_KEY to a key that is valid, active and of this site (gateway openapi: the access key of the "
    "default chain), then start again.",
    prefixes=(
        "invalidaccesskey", "missingaccesskey", "inactiveaccesskey", "forbidden.accesskey", "accesskey",
        "invalidapikey", "invalidapi-key", "missingapikey", "invalidcredential",
        "invalidauthorization", "missingauthorization",
        "signaturedoesnotmatch", "incompletesignature", "invalidsignature", "missingsignature",
        "invalidbearertoken", "missingbearertoken", "unauthorized",
    ),
    statuses=(_one(401),),
)  # fmt: skip
_SECURITY_TOKEN: Final = _Rule(
    CredentialsError,
    "Renew the temporary credentials: access key id, access key secret and security token belong together and expire "
    "together (ALIBABA_CLOUD_SECURITY_TOKEN, or another source of the official default chain).",
    prefixes=(
        "invalidsecuritytoken", "malformedsecuritytoken", "missingsecuritytoken", "securitytoken", "expiredtoken",
        "invalidststoken", "ststoken",
    ),
)  # fmt: skip
_TRACING_FORBIDDEN: Final = _Rule(
    ForbiddenError,
    "Attach a policy to the key's RAM user or role that allows {action}; tracing needs "
    "AliyunARMSFullAccess or its equivalent.",
    prefixes=("nopermission",),
)
_OPERATION_FORBIDDEN: Final = _Rule(
    ForbiddenError,
    "Attach AliyunPAIFullAccess to the key's RAM user or role, or a policy that allows {action}.",
    prefixes=("unauthorizedoperation", "unauthorized.operation"),
)
_FORBIDDEN: Final = _Rule(
    ForbiddenError,
    "Attach AliyunPAIFullAccess to the key's RAM user or role, or a policy that allows {action}, and check that it "
    "reaches this resource group, node or cluster.",
    prefixes=("forbidden", "accessdenied", "accessforbidden"),
    statuses=(_one(403),),
)
_NOT_FOUND: Final = _Rule(
    NotFoundError,
    "Check that the id exists, is spelled right and belongs to this account and region.",
    prefixes=("invalidresourcegroup",),
    suffixes=("notfound", "notexist", "notexists"),
    statuses=(_one(404), _one(410)),
)
_CLOCK: Final = _Rule(
    StaleSignatureError,
    "The call is signed anew by the service's clock and repeated. If it stays, set this machine's clock.",
    prefixes=("invalidtimestamp", "illegaltimestamp", "missingtimestamp", "requesttimetooskewed"),
)
# Something on the way may have sent the same bytes twice, and the first may have taken effect.
_NONCE: Final = _Rule(
    TransientError,
    "The call is signed anew and repeated. If it stays, a proxy sends calls twice.",
    prefixes=("signaturenonceused", "invalidsignaturenonce"),
)
_UNAVAILABLE: Final = _Rule(
    TransientError,
    "The service is in maintenance or overloaded. The call is repeated later by itself.",
    prefixes=("serviceunavailable",),
    statuses=(range(502, 505),),
)
_INTERNAL: Final = _Rule(
    TransientError,
    "The service failed. The call is repeated by itself; if it stays, give support the request id.",
    prefixes=("internalerror", "internalfailure", "internalservererror", "systemerror"),
    statuses=(_one(408), range(500, 600)),
)
_BAD_REQUEST: Final = _Rule(
    BadRequestError,
    "Compare the call's parameters with the operation's: required ones, value ranges, time formats. "
    "It is not repeated.",
    prefixes=("invalid", "missing", "validationerror", "illegal"),
    statuses=(range(400, 500),),
)
_PROXY: Final = _Rule(
    TransientError,
    "A proxy wants a user and a password: HTTPS_PROXY=http://user:password@host:port. The call is repeated later by "
    "itself.",
    statuses=(_one(407),),
)
_REDIRECT: Final = _Rule(
    BadRequestError,
    "The service answers from elsewhere and redirects are not followed: correct api.base_url or api.site.",
    statuses=(range(300, 400),),
)
_FREE_CALLS_USED_UP: Final = "api quota limit"
"""Of an operation that takes its free calls from a pot, in whatever code: they are used up, and no others are taken."""
_USED_UP: Final = Reaction(
    FreeCallsUsedUp,
    "Wait for the next month, ask less (sources.cloud_metrics: fewer metrics, a longer interval), or switch on "
    "pay-as-you-go of CloudMonitor Basic.",
)
_CURSOR: Final = Reaction(CursorError, "The cursor has expired. The window is asked again from its start.")
_UNKNOWN: Final = Reaction(
    TransientError, "The service reports a failure that is not known here. The call is repeated by itself."
)

_RULES: Final = (
    _THROTTLED,
    _TRACING_FORBIDDEN,
    _OPERATION_FORBIDDEN,
    # Before the credentials, whose codes begin alike.
    _CLOCK,
    _NONCE,
    _SECURITY_TOKEN,
    _CREDENTIALS,
    _FORBIDDEN,
    _NOT_FOUND,
    _UNAVAILABLE,
    _INTERNAL,
    _PROXY,
    _BAD_REQUEST,
    _REDIRECT,
)

_NEXT_TOKEN = re.compile(r"next[\s_-]?token|cursor", re.IGNORECASE)
_ANY_TOKEN = re.compile(r"token", re.IGNORECASE)
_STATUS_AS_CODE = re.compile(r"[1-5]\d\d")


def react(
    http_status: int,
    code: str,
    message: str,
    *,
    had_cursor: bool = False,
    told_to_wait: bool = False,
    has_pot: bool = False,
) -> Reaction:
    """What a failed call means.

    `http_status` is that of the reply, 200 for a failure inside the body. `had_cursor`: the
    request carried a `NextToken`. `told_to_wait`: the reply named a time to wait before the next
    call, which on a 4xx of no known code means throttling. `has_pot`: the operation takes its free calls from a pot
    that it shares with others.
    """
    if http_status < 300 and _STATUS_AS_CODE.fullmatch(code):
        http_status = int(code)
    if has_pot and _FREE_CALLS_USED_UP in message.lower():
        return _USED_UP
    spelled = code.lower()
    # A refusal for being too fast must slow calls down, whatever else it says.
    by_code = _THROTTLED if http_status == 429 else _rule_by_code(spelled)
    if had_cursor and _blames_cursor(http_status, by_code, f"{code} {message}"):
        return _CURSOR
    if by_code in (None, _BAD_REQUEST) and "NoPermission" in message:
        by_code = _TRACING_FORBIDDEN
    if by_code is None and told_to_wait and 400 <= http_status < 500:
        by_code = _THROTTLED
    rule = by_code or next((rule for rule in _RULES if rule.matches_status(http_status)), None)
    return Reaction(rule.error, rule.hint) if rule else _UNKNOWN


def is_renewable(code: str) -> bool:
    """Return whether the code refuses temporary credentials, which newer ones may replace."""
    return _SECURITY_TOKEN.matches_code(code.lower())


def is_expired(code: str) -> bool:
    """Return whether temporary credentials have expired, so that only newer ones can work."""
    return is_renewable(code) and "expired" in code.lower()


def _rule_by_code(code: str) -> _Rule | None:
    return next((rule for rule in _RULES if rule.matches_code(code)), None) if code else None


def _blames_cursor(http_status: int, by_code: _Rule | None, text: str) -> bool:
    if by_code not in (None, _BAD_REQUEST, _NOT_FOUND) or http_status >= 500:
        return False
    # Any other refusal may speak of another token, such as the one that authenticates.
    about_parameters = by_code is _BAD_REQUEST or http_status == 400
    return bool(_NEXT_TOKEN.search(text) or (about_parameters and _ANY_TOKEN.search(text)))
