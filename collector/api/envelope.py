"""What an answer reports about itself beside its records: success, code, status, message, total. Pure.

The services have no common envelope: some operations have none, some answer `Success` and `HttpStatusCode`, and
gateways and older products spell an error in other ways. All spellings are read from every operation's answer,
because an empty list beside one sign of failure is a failure and never "no data".
"""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """What a reply reports about its failure; each field is empty if the reply lacks it."""

    code: str = ""
    message: str = ""
    request_id: str = ""
    http_status: int = 0
    """Status named in the body, such as `HttpStatusCode`; 0 if absent."""


class _Sign(enum.Enum):
    CODE = "code"
    SUCCESS = "success"
    STATUS = "status"
    MESSAGE = "message"
    TOTAL = "total"


_NAMES: Final[Mapping[str, _Sign]] = {
    "Code": _Sign.CODE,
    "ErrorCode": _Sign.CODE,
    "ErrCode": _Sign.CODE,
    "Error": _Sign.CODE,
    "Success": _Sign.SUCCESS,
    "IsSuccess": _Sign.SUCCESS,
    "HttpStatusCode": _Sign.STATUS,
    "HttpStatus": _Sign.STATUS,
    "HttpCode": _Sign.STATUS,
    "StatusCode": _Sign.STATUS,
    "Status": _Sign.STATUS,
    "Message": _Sign.MESSAGE,
    "ErrorMessage": _Sign.MESSAGE,
    "ErrorMsg": _Sign.MESSAGE,
    "ErrMsg": _Sign.MESSAGE,
    "Msg": _Sign.MESSAGE,
    "Total": _Sign.TOTAL,
    "TotalCount": _Sign.TOTAL,
    "TotalNum": _Sign.TOTAL,
    "TotalUser": _Sign.TOTAL,
    "TotalUserCount": _Sign.TOTAL,
}
"""Names of top-level fields in order of preference; compared without case and separators."""


def folded(name: str) -> str:
    """Return a field's name without case and separators."""
    return name.replace("_", "").replace("-", "").lower()


_FOLDED: Final = {folded(name): sign for name, sign in _NAMES.items()}


def _spellings(name: str) -> tuple[str, ...]:
    snake = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
    return tuple(dict.fromkeys((name, name[0].lower() + name[1:], name.lower(), snake)))


SPELLINGS: Final = tuple(spelling for name in _NAMES for spelling in _spellings(name))
"""Spellings that the typed decoder looks for; the tolerant one takes every case."""

SUCCESS_WORDS: Final = frozenset({"0", "200", "ok", "success", "succeed", "succeeded", "true", "none", "null"})
"""Values of a code or message, without case, that mean success."""
_FAILURE_WORDS: Final = frozenset({"false", "0", "no", "fail", "failed", "failure", "error"})
"""Values of `Success` or a status, without case, that mean failure."""
_FAILURE_MESSAGE: Final = re.compile(
    r"time[sd]?[ -]?out|failed|failure|\berror\b|exception|unavailable|overload|\bbusy\b|throttl|too many"
    r"|denied|refused|forbidden|unauthori[sz]ed|no ?permission|try again",
    re.IGNORECASE,
)
_NO_FAILURE: Final = re.compile(r"\b(?:no|0|without)\s+(?:error|failure|exception)", re.IGNORECASE)

CODE_SUCCESS_FALSE: Final = "success_false"
"""Code of a failure that reports no code of its own."""
CODE_FAILURE_MESSAGE: Final = "failure_message"
"""Code of an answer without records whose message speaks of a failure."""
CODE_RECORDS_MISSING: Final = "records_missing"
"""Code of an answer without records that counts some."""


def is_success(code: str | None) -> bool:
    """Return whether a code is absent or means success."""
    return not code or code.strip().lower() in SUCCESS_WORDS or re.fullmatch(r"2\d\d", code.strip()) is not None


def signs_of(raw: Mapping[str, Any], own: Set[str] = frozenset()) -> dict[str, Any]:
    """Return the fields of an object that report about the call, by folded name.

    `own` are folded names that the operation uses for its data, such as the `Status` of a resource.
    """
    signs: dict[str, Any] = {}
    for name, value in raw.items():
        if value is not None and (key := folded(name)) in _FOLDED and key not in own:
            signs.setdefault(key, value)
    return signs


def failure_of(signs: Mapping[str, Any], request_id: str = "", *, has_records: bool = True) -> ErrorBody | None:
    """Return the failure that an answer with a success status reports, None if it reports none.

    `signs` are those of `signs_of`. A message alone counts only without records and without a sign of success.
    """
    code = message = ""
    status = 0
    is_failed = is_good = False
    for name, sign in _FOLDED.items():
        value = signs.get(name)
        if value is None:
            continue
        if sign is _Sign.CODE:
            found = _failing_code(name, value)
            is_failed = is_failed or found is not None
            is_good = is_good or (found is None and text_of(value) != "")
            code, message = code or (found or ErrorBody()).code, message or (found or ErrorBody()).message
        elif sign is _Sign.SUCCESS:
            is_failed = is_failed or text_of(value).lower() in _FAILURE_WORDS
            is_good = is_good or text_of(value).lower() in SUCCESS_WORDS - _FAILURE_WORDS
        elif sign is _Sign.STATUS:
            number = _whole(value)
            is_failed = is_failed or number >= 400 or text_of(value).lower() in _FAILURE_WORDS - {"0", "no"}
            is_good = is_good or 200 <= number < 300
            status = status or (number if number >= 400 else 0)
        elif sign is _Sign.MESSAGE and not is_success(text_of(value)):
            message = message or text_of(value)
    if is_failed:
        return ErrorBody(code or (str(status) if status else CODE_SUCCESS_FALSE), message, request_id, status)
    if not has_records and not is_good and _FAILURE_MESSAGE.search(message) and not _NO_FAILURE.search(message):
        return ErrorBody(CODE_FAILURE_MESSAGE, message, request_id)
    return None


def total_of(signs: Mapping[str, Any]) -> int | None:
    """Return the records that an answer counts, None if it counts none."""
    totals = [_whole(value) for name, value in signs.items() if _FOLDED[name] is _Sign.TOTAL]
    return max((total for total in totals if total >= 0), default=None)


def error_body(raw: Mapping[str, Any]) -> ErrorBody:
    """Return code, message and request id of an error reply, in any spelling."""
    signs = signs_of(raw)
    found = failure_of(signs)
    code, message = (found.code, found.message) if found else ("", "")
    if not found or code == CODE_SUCCESS_FALSE:
        code = next((text_of(signs[name]) for name, sign in _FOLDED.items() if _is(sign, signs, name, _Sign.CODE)), "")
    if not message:
        texts = (text_of(signs[name]) for name, sign in _FOLDED.items() if _is(sign, signs, name, _Sign.MESSAGE))
        message = next(texts, "")
    return ErrorBody(code, message, request_id_of(raw))


def request_id_of(raw: Mapping[str, Any]) -> str:
    """Return the id of a call that its answer names, empty if it names none."""
    return next((text_of(value) for name, value in raw.items() if folded(name) == "requestid" and value), "")


def text_of(value: Any) -> str:
    """Return a JSON value as stripped text; JSON if it is no text."""
    return value.strip() if isinstance(value, str) else json.dumps(value)


def _is(sign: _Sign, signs: Mapping[str, Any], name: str, wanted: _Sign) -> bool:
    return sign is wanted and name in signs and not isinstance(signs[name], bool)


def _failing_code(name: str, value: Any) -> ErrorBody | None:
    if value in (None, False, "", 0) or value == [] or value == {}:
        return None
    if name == "error" and isinstance(value, dict):
        inner = error_body(value)
        return None if inner == ErrorBody() else inner
    text = text_of(value)
    if is_success(text) and value is not True:
        return None
    if name == "error":
        # A flag, or a sentence in the place of a code.
        return ErrorBody("", "") if value is True else ErrorBody("", text) if " " in text else ErrorBody(text)
    return ErrorBody(text)


def _whole(value: Any) -> int:
    """Return a number, or a number in a text; -1 if it is neither."""
    if isinstance(value, bool):
        return -1
    try:
        return int(float(value)) if isinstance(value, str | int | float) else -1
    except (ValueError, OverflowError):
        return -1
