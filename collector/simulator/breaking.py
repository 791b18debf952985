"""Answers that are none: what the breaking faults make of a good answer."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from collector.catalogue.operation import Operation
from collector.simulator import refusals
from collector.simulator.faults import Fault, FaultKind
from collector.simulator.nesting import nested
from collector.simulator.oddities import odd_answer
from collector.simulator.refusals import Refusal

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


def refusal(fault: Fault, scope_id: str) -> Refusal | None:
    """The refusal that a fault stands for, None for faults of another sort."""
    match fault.kind:
        case FaultKind.THROTTLE_429:
            return refusals.throttled(_wait(fault, "Retry-After", 1, 1))
        case FaultKind.THROTTLE_400:
            return refusals.throttled(_wait(fault, "x-acs-retry-after", 1000, 1), status=400)
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
            return refusals.invalid_parameter("FromTime", "it is out of range")
        case FaultKind.UNAUTHORIZED:
            return refusals.invalid_key()
        case FaultKind.FORBIDDEN:
            return Refusal(403, "NoPermission", "The caller is not authorized to perform this operation.")
        case FaultKind.NOT_FOUND:
            return refusals.not_found("Scope", scope_id)
        case FaultKind.EXPIRED_TOKEN:
            return refusals.invalid_token("is expired")
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


def spoiled(fault: Fault, operation: Operation, good: Answer) -> Answer:
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
