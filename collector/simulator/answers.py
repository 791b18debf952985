"""What faults make of an answer: it is replaced, spoiled, emptied, made odd, or misdated.

Odd records are what strict parsers refuse, put into a good answer byte by byte:

    oddity            in the field `Odd` of a record, or inside of a record that is a text
    bad_utf8          bytes that are not UTF-8
    control           ESC, a line feed and a tab, not escaped
    bad_escape        a backslash before an x
    surrogate         half of a surrogate pair, escaped
    long_number       a number of 5,000 digits
    not_a_number      NaN
    infinity          -Infinity
    doubled           the field twice
    deep              2,000 lists in one another
    quotes            quotes inside of the string, not escaped
    quote             one quote inside of the string, not escaped
    cut               the value ends before its quote

    oddity            of the whole answer
    mark              a byte order mark before it
    trailing          a line of other text behind it

A record that is a text takes no oddity that needs a field. `deep`, `quotes`, `quote` and `cut` make records that cannot
be read; the others leave them what they were.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any, Final

import msgspec

from collector.catalogue.operation import Nesting, Numbers, Operation
from collector.simulator.faults import Fault, FaultKind, Fired, Oddity
from collector.simulator.hashing import fraction, key_of
from collector.simulator.paging import Page, fields_of
from collector.simulator.requests import Refusal, invalid_key, invalid_parameter, invalid_token, not_found, throttled


def nested(operation: Operation, answer: Mapping[str, Any]) -> dict[str, Any]:
    """The answer with its list of records where the operation has it."""
    name = operation.wire_records_field
    if operation.nesting is Nesting.PLAIN or name is None or name not in answer:
        return dict(answer)
    records = answer[name]
    if operation.nesting is Nesting.TEXT:
        return {**answer, name: msgspec.json.encode(records).decode()}
    return {**answer, name: {"Resource": records}}


def records_of(operation: Operation, answer: Mapping[str, Any]) -> list[Any]:
    """The records of an answer, wherever they are in it."""
    match answer.get(operation.wire_records_field or ""):
        case str(text):
            return list(msgspec.json.decode(text)) if text else []
        case {"Resource": records}:
            return list(records)
        case found:
            return list(found or ())


def nested_bytes(operation: Operation, records: bytes) -> bytes:
    """A list of records as the value of its field; it need not be JSON."""
    if operation.nesting is Nesting.TEXT:
        # Bytes that are no UTF-8 stay what they are.
        text = json.dumps(records.decode("utf-8", "surrogateescape"), ensure_ascii=False)
        return text.encode("utf-8", "surrogateescape")
    return b'{"Resource":' + records + b"}" if operation.nesting is Nesting.RESOURCE else records


_DEPTH = 2_000
_DIGITS = 5_000


_IN_TEXT = {
    Oddity.BAD_UTF8: b"bad \xff\xfe bytes",
    Oddity.CONTROL: b"\x1b[31mred\x1b[0m\n\tnext",
    Oddity.BAD_ESCAPE: rb"\x1b[31mred",
    Oddity.SURROGATE: rb"half \ud83d pair",
    Oddity.QUOTES: b'said "hi" twice',
    Oddity.QUOTE: b'a 5" disk',
}
_VALUES = {
    **{oddity: b'"' + text + b'"' for oddity, text in _IN_TEXT.items()},
    Oddity.LONG_NUMBER: b"9" * _DIGITS,
    Oddity.NOT_A_NUMBER: b"NaN",
    Oddity.INFINITY: b"-Infinity",
    Oddity.DOUBLED: b'1,"Odd":2',
    Oddity.DEEP: b"[" * _DEPTH + b"]" * _DEPTH,
    Oddity.CUT: b'"begun',
}

_encode = msgspec.json.Encoder().encode


def odd_answer(body: bytes, operation: Operation, oddities: Sequence[Oddity], share: float) -> bytes:
    """The answer with some of its records odd; which, and how, depends on the record alone."""
    answer: dict[str, Any] = msgspec.json.decode(body)
    records_field = operation.wire_records_field
    records = [_odd_record(_encode(record), oddities, share) for record in records_of(operation, answer)]
    # The records first, so that an answer whose last record does not end still goes on behind it.
    members = [_encode(records_field) + b":" + nested_bytes(operation, b"[" + b",".join(records) + b"]")]
    members += [_encode(name) + b":" + _encode(value) for name, value in answer.items() if name != records_field]
    mark = b"\xef\xbb\xbf" if Oddity.MARK in oddities else b""
    trailing = b"\n-- end of page\n" if Oddity.TRAILING in oddities and records else b""
    return mark + b"{" + b",".join(members) + b"}" + trailing


def odd_of(record: Any, oddities: Sequence[Oddity], share: float) -> Oddity | None:
    """The oddity of a record, None if it stays as it is."""
    encoded = _encode(record)
    possible = [each for each in oddities if each in (_IN_TEXT if encoded[:1] == b'"' else _VALUES)]
    drawn = key_of("odd", encoded)
    return None if not possible or fraction(drawn) >= share else possible[(drawn & 0x7FF) % len(possible)]


def _odd_record(encoded: bytes, oddities: Sequence[Oddity], share: float) -> bytes:
    oddity = odd_of(msgspec.json.decode(encoded), oddities, share)
    if oddity is None:
        return encoded
    if encoded[:1] == b'"':
        return encoded[:-1] + b" " + _IN_TEXT[oddity] + b'"'
    return encoded[:-1] + b',"Odd":' + _VALUES[oddity] + b"}"


_MIB = 1 << 20
_SIGN_IN_PAGE = b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body><form></form></body></html>\n"
_PROXY_PAGE = (
    b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n"
    b"<hr><center>Tengine</center>\r\n</body>\r\n</html>\r\n"
)
_NEEDS_ANSWER = frozenset(
    {
        FaultKind.NOT_UTF8,
        FaultKind.OVERSIZED,
        FaultKind.RESET_DURING,
        FaultKind.TRUNCATED,
        FaultKind.CUT_SHORT,
        FaultKind.BIG_HEAD,
        FaultKind.PLAIN_AS_GZIP,
        FaultKind.BROTLI,
        FaultKind.DENIED,
        FaultKind.ODD_RECORDS,
    }
)
_BIG_HEAD = {"X-Trace": "x" * (64 << 10)} | {f"X-Trace-{i}": str(i) for i in range(300)}
_SIGNS = {"Success": False, "HttpStatusCode": 500, "Code": "", "Message": "The backend timed out."}


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes out. `transport` names a fault of the connection itself."""

    status: int
    body: bytes
    rows: int = 0
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    transport: FaultKind | None = None


def needs_answer(fault: Fault) -> bool:
    """True when the fault spoils the usual answer, False when it takes its place."""
    return fault.kind in _NEEDS_ANSWER


def refusal_of(fault: Fault, scope_id: str) -> Refusal | None:
    """The refusal that a fault stands for, None for faults of another sort."""
    match fault.kind:
        case FaultKind.THROTTLE_429:
            return throttled(_wait(fault, "Retry-After", 1, 1))
        case FaultKind.THROTTLE_400:
            return throttled(_wait(fault, "x-acs-retry-after", 1000, 1), status=400)
        case FaultKind.ERROR_500:
            return Refusal(500, "InternalError", "The request processing has failed due to some unknown error.")
        case FaultKind.ERROR_503:
            return Refusal(
                503,
                "ServiceUnavailable",
                "The request has failed due to a temporary failure of the server.",
                _wait(fault, "Retry-After", 1, 0),
            )
        case FaultKind.INVALID_PARAMETER:
            return invalid_parameter("FromTime", "it is out of range")
        case FaultKind.UNAUTHORIZED:
            return invalid_key()
        case FaultKind.FORBIDDEN:
            return Refusal(403, "NoPermission", "The caller is not authorized to perform this operation.")
        case FaultKind.NOT_FOUND:
            return not_found("Scope", scope_id)
        case FaultKind.EXPIRED_TOKEN:
            return invalid_token("is expired")
        case _:
            return None


def replacement(fault: Fault, request_id: str) -> Answer:
    """The answer of a fault that needs no good one."""
    match fault.kind:
        case FaultKind.HTML_200:
            return Answer(200, _SIGN_IN_PAGE, content_type="text/html")
        case FaultKind.HTML_502:
            return Answer(502, _PROXY_PAGE, content_type="text/html")
        case FaultKind.INVALID_JSON:
            return Answer(200, b"{'RequestId': None, Logs: [}")
        case FaultKind.EMPTY_BODY:
            return Answer(200, b"")
        case FaultKind.CODE_IN_200:
            body = {"RequestId": request_id, "Code": "InternalError", "Message": "The backend did not answer in time."}
            return Answer(200, msgspec.json.encode(body))
        case FaultKind.RESET_BEFORE:
            return Answer(0, b"", transport=fault.kind)
        case FaultKind.NO_CONTENT:
            return Answer(204, b"")
        case FaultKind.REDIRECT:
            return Answer(307, b"", headers={"Location": "https://elsewhere.example.test/"})
        case _:
            raise AssertionError(fault.kind)


def spoil(fault: Fault, operation: Operation, good: Answer) -> Answer:
    """A good answer after the fault."""
    body = good.body
    half = body[: len(body) // 2]
    match fault.kind:
        case FaultKind.NOT_UTF8:
            # An opened string with a lone continuation byte in it: broken wherever it stands.
            return Answer(200, body[:-1] + b',"Note":"\xff\xfe\x80"}', headers=good.headers)
        case FaultKind.OVERSIZED:
            size = operation.answer_bytes_max + _MIB if fault.bytes is None else fault.bytes
            return Answer(200, body[:-1] + b',"Padding":"' + b"x" * size + b'"}', headers=good.headers)
        case FaultKind.TRUNCATED:
            return Answer(200, half, headers=good.headers)
        case FaultKind.DENIED:
            name = operation.wire_records_field
            empty: dict[str, object] = nested(operation, {name: []}) if name else {}
            answer = msgspec.json.decode(body) | empty | (_SIGNS if fault.signs is None else fault.signs)
            answer.pop("NextToken", None)
            return Answer(200, msgspec.json.encode(answer), headers=good.headers)
        case FaultKind.ODD_RECORDS:
            name = operation.wire_records_field
            odd = body if name is None else odd_answer(body, operation, fault.oddities, fault.share)
            return Answer(200, odd, good.rows, headers=good.headers)
        case FaultKind.CUT_SHORT | FaultKind.RESET_DURING:
            return Answer(200, body, headers=good.headers, transport=fault.kind)
        case FaultKind.BIG_HEAD:
            return Answer(200, body, good.rows, headers=good.headers | _BIG_HEAD)
        case FaultKind.PLAIN_AS_GZIP:
            return Answer(200, body, good.rows, headers=good.headers | {"Content-Encoding": "gzip"})
        case FaultKind.BROTLI:
            return Answer(200, body, headers=good.headers | {"Content-Encoding": "br"})
        case _:
            raise AssertionError(fault.kind)


def _wait(fault: Fault, header: str, per_second: int, default_seconds: float) -> dict[str, str]:
    seconds = default_seconds if fault.retry_after_seconds is None else fault.retry_after_seconds
    return {header: str(round(seconds * per_second))} if seconds else {}


def bent_parameters(operation: Operation, parameters: Mapping[str, Any], fired: Fired) -> Mapping[str, Any]:
    """The parameters that a page is made of: those of the first page if it repeats."""
    if not (fired.bend(FaultKind.REPEATED_PAGE) or fired.bend(FaultKind.EMPTY_PAGES)):
        return parameters
    first = {name: value for name, value in parameters.items() if name != "NextToken"}
    if isinstance(operation.paging, Numbers) and operation.paging.number in first:
        first[operation.paging.number] = type(first[operation.paging.number])(1)
    return first


def bent_page(operation: Operation, page: Page, fired: Fired, ordinal: int) -> Page:
    """The page without its records, or with the cursor of another page that is the same."""
    is_empty = fired.bend(FaultKind.EMPTY_PAGE) or fired.bend(FaultKind.EMPTY_PAGES)
    is_endless = fired.bend(FaultKind.REPEATED_PAGE) or fired.bend(FaultKind.EMPTY_PAGES)
    if operation.wire_records_field is None or not (is_empty or is_endless):
        return page
    answer = msgspec.json.decode(b"{" + page.fields + b"}")
    if is_empty:
        answer[operation.wire_records_field] = []
        answer.pop("NextToken", None)
    if is_endless and not isinstance(operation.paging, Numbers):
        answer["NextToken"] = f"and-again-{ordinal}"
    return Page(fields_of(answer), 0 if is_empty else page.rows)


SKEW_SECONDS: Final = 3600.0
CACHED_SECONDS: Final = 7200.0
"""How far a `date_skewed` is ahead, and a `date_cached` behind, unless the fault says otherwise."""

_FORMS: Final = {
    "asctime": "%a %b %e %H:%M:%S %Y",
    "rfc850": "%A, %d-%b-%y %H:%M:%S GMT",
    "minus_zero": "%a, %d %b %Y %H:%M:%S -0000",
}


def date_headers(now: float, fault: Fault | None = None) -> dict[str, str]:
    """`Date` at `now` (s since the epoch) and what a cache adds. A `Date` that is empty is not sent."""
    if fault is None:
        return {"Date": formatdate(now // 1, usegmt=True)}
    match fault.kind:
        case FaultKind.DATE_MISSING:
            return {"Date": ""}
        case FaultKind.DATE_GARBLED:
            return {"Date": "yesterday, perhaps"}
        case FaultKind.DATE_ODD:
            return {"Date": time.strftime(_FORMS[fault.form], time.gmtime(now))}
        case FaultKind.DATE_CACHED:
            skew = -CACHED_SECONDS if fault.skew_seconds is None else fault.skew_seconds
            headers = date_headers(now + skew)
            return headers | {"Age": str(round(-skew)), "X-Cache": "HIT", "Via": "1.1 cache"}
        case _:
            return date_headers(now + (SKEW_SECONDS if fault.skew_seconds is None else fault.skew_seconds))
