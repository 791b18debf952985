"""What came back of a call: its answer, or the error that says what to do. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from collector.api.decode import Reason, UndecodableAnswerError, decode_answer, decode_error
from collector.api.envelope import ErrorBody
from collector.api.metering import CODE_CONNECTION, CODE_TIMEOUT
from collector.api.reactions import react
from collector.api.retry import retry_after_seconds
from collector.api.transport import Exchange, Failure
from collector.catalogue.answers import Answer
from collector.catalogue.operation import Operation
from collector.errors import AnswerTooLargeError, ApiError, TransientError

MESSAGE_CHARACTERS_MAX: Final = 500
"""So much of a service's words goes into an error."""

_CONNECTION_HINT: Final = (
    "The call is repeated by itself. If it stays, check the network and api.base_url; a service that "
    "answers slowly needs a longer api.timeout."
)
_TOO_LARGE_HINT: Final = (
    "Sources ask again for less by themselves: a shorter range, or smaller pages; what is too large for all that is "
    "in `pai-collector gaps`. A call on request needs a shorter range or a smaller page size."
)
_FAILURES: Final = {
    Failure.NO_CONNECTION: (CODE_CONNECTION, "no connection to the service"),
    Failure.STALE_CONNECTION: (CODE_CONNECTION, "no connection to the service that stays open"),
    Failure.BROKEN: (CODE_CONNECTION, "the connection broke before the answer came"),
    Failure.NOT_HTTP: (CODE_CONNECTION, "an answer came that cannot be read as HTTP"),
    Failure.TIMEOUT: (CODE_TIMEOUT, "no complete answer in time"),
}
_REASONS: Final = {
    Failure.TRUNCATED: Reason.TRUNCATED,
    Failure.UNREADABLE: Reason.CODING,
}


def interpret(
    exchange: Exchange,
    operation: Operation,
    scope_id: str,
    *,
    had_cursor: bool,
    server_now: int,
    redact: Callable[[str], str],
) -> Answer | ApiError:
    """The answer, or the error to raise.

    `had_cursor`: the request carried a `NextToken`. `server_now`: the service's time in seconds
    since the epoch. `redact` blots secrets out of the service's words, which may echo them.
    """
    status = exchange.http_status
    is_success = 200 <= status < 300
    # With an error status the status alone says enough, complete or not.
    if exchange.failure is not None and (is_success or not status):
        return _failure(exchange, operation.name, scope_id)
    if not is_success:
        body = decode_error(exchange.body, exchange.headers.get("Content-Type", ""))
        return _refusal(exchange, body, operation, scope_id, had_cursor, server_now, redact)
    if not exchange.body.strip():
        return _undecodable(Reason.EMPTY, exchange, operation.name, scope_id)
    try:
        answer = decode_answer(operation, exchange.body, had_cursor=had_cursor)
    except UndecodableAnswerError as undecodable:
        reason = undecodable.reason
    else:
        if isinstance(answer, Answer):
            return answer
        return _refusal(exchange, answer, operation, scope_id, had_cursor, server_now, redact)
    return _undecodable(reason, exchange, operation.name, scope_id)


def _refusal(
    exchange: Exchange,
    body: ErrorBody,
    operation: Operation,
    scope_id: str,
    had_cursor: bool,
    server_now: int,
    redact: Callable[[str], str],
) -> ApiError:
    wait_seconds = retry_after_seconds(exchange.headers, server_now)
    reaction = react(
        # A failure inside of a 200 may name the status that it should have had.
        body.http_status or exchange.http_status,
        body.code,
        body.message,
        had_cursor=had_cursor,
        told_to_wait="x-acs-retry-after" in exchange.headers and wait_seconds is not None,
        has_pot=operation.price is not None and bool(operation.price.pot),
    )
    code, message, request_id = (
        _one_line(redact(text)) for text in (body.code, body.message, body.request_id or _header_request_id(exchange))
    )
    return reaction.error(
        message or _without_message(exchange, redact),
        operation=operation.name,
        scope_id=scope_id,
        http_status=exchange.http_status,
        code=code,
        request_id=request_id,
        hint=reaction.hint.replace("{action}", operation.ram_action),
        retry_after_seconds=wait_seconds,
    )


def _without_message(exchange: Exchange, redact: Callable[[str], str]) -> str:
    location = exchange.headers.get("Location", "")
    if 300 <= exchange.http_status < 400 and location:
        # The query may repeat what was sent.
        return f"the service redirects to {_one_line(redact(location.partition('?')[0]))}"
    return "the service refused the call without a reason"


def _failure(exchange: Exchange, operation: str, scope_id: str) -> ApiError:
    assert exchange.failure is not None
    if exchange.failure is Failure.TOO_LARGE:
        return AnswerTooLargeError(
            f"the answer has {exchange.detail}" if exchange.detail else "the answer is too large",
            operation=operation,
            scope_id=scope_id,
            http_status=exchange.http_status,
            code=exchange.failure.value,
            request_id=_one_line(_header_request_id(exchange)),
            hint=_TOO_LARGE_HINT,
        )
    if exchange.failure in _REASONS:
        return _undecodable(_REASONS[exchange.failure], exchange, operation, scope_id)
    code, text = _FAILURES[exchange.failure]
    return TransientError(
        f"{text}: {exchange.detail}" if exchange.detail else text,
        operation=operation,
        scope_id=scope_id,
        http_status=exchange.http_status,
        code=code,
        hint=_CONNECTION_HINT,
    )


def _undecodable(reason: Reason, exchange: Exchange, operation: str, scope_id: str) -> UndecodableAnswerError:
    return UndecodableAnswerError(
        reason,
        operation=operation,
        scope_id=scope_id,
        http_status=exchange.http_status,
        request_id=_one_line(_header_request_id(exchange)),
        detail=exchange.detail if reason is Reason.CODING else "",
    )


def _header_request_id(exchange: Exchange) -> str:
    return exchange.headers.get("x-acs-request-id", "")


def _one_line(text: str) -> str:
    return " ".join(text.split())[:MESSAGE_CHARACTERS_MAX]
