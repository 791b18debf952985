"""Answers with status 200 that report a failure, and answers that only seem to."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from multidict import CIMultiDict

from collector.api.decode import decode_answer, decode_error
from collector.api.envelope import ErrorBody
from collector.api.interpret import interpret
from collector.api.transport import Exchange
from collector.catalogue.answers import Answer
from collector.catalogue.operation import Numbers, Operation
from collector.catalogue.operations import CATALOGUE
from collector.catalogue.products.eflo_controller import LIST_SYSLOGS
from collector.catalogue.products.pai_dsw import GET_INSTANCE_METRICS
from collector.catalogue.products.pai_studio import GET_USER_VIEW_METRICS, GetUserViewMetricsAnswer
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

TIMED_OUT = {"Success": False, "HttpStatusCode": 500, "Code": "", "Message": "backend timeout"}

DENIED: list[tuple[dict[str, Any], type[ApiError]]] = [
    (TIMED_OUT, TransientError),
    ({"Success": False}, TransientError),
    ({"success": "false"}, TransientError),
    ({"IsSuccess": 0}, TransientError),
    ({"HttpStatusCode": 503}, TransientError),
    ({"HttpStatusCode": "500", "Success": True}, TransientError),
    ({"statusCode": 429}, ThrottledError),
    ({"HttpStatusCode": 401, "Message": "the key is not valid"}, CredentialsError),
    ({"httpStatusCode": 403}, ForbiddenError),
    ({"http_status": "404"}, NotFoundError),
    ({"Status": 500}, TransientError),
    ({"status": "Failed"}, TransientError),
    ({"ErrorCode": "Throttling.User", "ErrorMessage": "slow"}, ThrottledError),
    ({"errorCode": "InvalidAccessKeyId.NotFound"}, CredentialsError),
    ({"error_code": "NoPermission"}, ForbiddenError),
    ({"code": "InvalidParameter", "message": "NextToken has expired"}, CursorError),
    ({"ErrCode": "InvalidParameter"}, BadRequestError),
    ({"Code": "OddThing", "HttpStatusCode": 403}, ForbiddenError),
    ({"error": "the backend is gone"}, TransientError),
    ({"error": True}, TransientError),
    ({"error": {"code": "Throttling", "message": "slow"}}, ThrottledError),
    ({"Error": "InternalError"}, TransientError),
    ({"Message": "Request timed out"}, TransientError),
    ({"message": "The service is unavailable, please try again"}, TransientError),
]
GOOD: list[dict[str, Any]] = [
    {"Success": True, "HttpStatusCode": 200, "Code": "", "Message": ""},
    {"Success": "true", "HttpStatusCode": "200", "Code": "OK", "Message": "success"},
    {"success": True, "code": 200, "message": "OK"},
    {"Code": 0, "error": None, "errorCode": ""},
    {"Code": "0", "Success": None},
    {"Code": None, "Message": None, "error": False},
    {"code": "Success", "error": {}, "ErrorMessage": ""},
    {"HttpStatusCode": 204, "Status": "Ready"},
    {"Message": "3 records"},
    {"Message": "query finished without error"},
    {"Success": True, "Message": "0 nodes failed"},
    {"Total": 0, "TotalCount": 0},
]


def meaning(operation: Operation, answer: dict[str, Any], *, had_cursor: bool = True) -> Answer | ApiError:
    exchange = Exchange(None, "", 200, CIMultiDict(), msgspec.json.encode(answer))
    return interpret(exchange, operation, "scope", had_cursor=had_cursor, server_now=0, redact=str)


def empty_answer(operation: Operation) -> dict[str, Any]:
    return {"RequestId": "R1"} | ({operation.wire_records_field: []} if operation.wire_records_field else {})


@pytest.mark.parametrize(("signs", "error"), DENIED, ids=lambda value: repr(value)[:60])
def test_an_empty_list_beside_a_sign_of_failure_is_that_failure(signs: dict[str, Any], error: type[ApiError]) -> None:
    """The kind of the failure follows from its code and status, in every spelling, and never is an answer."""
    found = meaning(LIST_SYSLOGS, empty_answer(LIST_SYSLOGS) | signs)
    assert type(found) is error
    assert found.code


@pytest.mark.parametrize("signs", GOOD, ids=lambda value: repr(value)[:60])
def test_signs_of_success_are_no_failure(signs: dict[str, Any]) -> None:
    """Words and numbers for success, and fields that hold nothing, leave an answer an answer."""
    for operation in (LIST_SYSLOGS, GET_INSTANCE_METRICS):
        assert isinstance(meaning(operation, empty_answer(operation) | signs), Answer)


@pytest.mark.parametrize("operation", CATALOGUE.values(), ids=lambda operation: operation.name)
def test_every_operation_is_read_in_the_same_way(operation: Operation) -> None:
    """Success false, an error code or a status of failure is a failure of whatever was asked."""
    for signs in (TIMED_OUT, {"errorCode": "InternalError"}, {"HttpStatusCode": 500}):
        assert type(meaning(operation, empty_answer(operation) | signs)) is TransientError
    assert isinstance(meaning(operation, empty_answer(operation) | {"Success": True, "Code": "OK"}), Answer)


@pytest.mark.parametrize("operation", CATALOGUE.values(), ids=lambda operation: operation.name)
def test_only_operations_with_a_pot_can_have_used_it_up(operation: Operation) -> None:
    """The words that end a budget are, of an operation without a pot, a demand to slow down."""
    signs = {"Success": False, "Code": "Throttling.User", "Message": "user api quota limit"}
    has_pot = operation.name == "DescribeMetricList"
    assert type(meaning(operation, empty_answer(operation) | signs)) is (FreeCallsUsedUp if has_pot else ThrottledError)


def test_a_status_that_is_data_is_not_a_sign() -> None:
    """The `Status` of a log shipper is what was asked for."""
    found = meaning(CATALOGUE["DescribeResourceLog"], {"RequestId": "R1", "Status": "Failed", "Message": "error"})
    assert isinstance(found, Answer)


@pytest.mark.parametrize("name", ["Total", "TotalCount", "totalCount", "TotalUser"])
def test_a_total_without_records_is_a_failure_of_a_list_that_has_no_numbered_pages(name: str) -> None:
    """Unless it is a later page: the last one may be empty."""
    answer = empty_answer(LIST_SYSLOGS) | {name: 250}
    assert isinstance(meaning(LIST_SYSLOGS, answer, had_cursor=False), TransientError)
    later = meaning(LIST_SYSLOGS, answer, had_cursor=True)
    assert isinstance(later, Answer)
    assert later.total_denied == 250
    assert isinstance(meaning(LIST_SYSLOGS, answer | {"NextToken": "t"}, had_cursor=False), Answer)
    assert isinstance(meaning(LIST_SYSLOGS, {"RequestId": "R1", "Logs": [{"Time": "1"}], name: 9}), Answer)


@pytest.mark.parametrize("name", ["TotalCount", "totalCount", "total", "TotalNum"])
def test_a_total_counts_in_every_spelling(name: str) -> None:
    """Its list is held against it page by page."""
    answer = decode_answer(GET_USER_VIEW_METRICS, msgspec.json.encode({"UserMetrics": [], name: "250"}))
    assert isinstance(answer, GetUserViewMetricsAnswer)
    assert answer.total == 250
    assert isinstance(GET_USER_VIEW_METRICS.paging, Numbers)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"errorCode": "Throttling.User", "errorMsg": "slow"}, ErrorBody("Throttling.User", "slow", "")),
        ({"error": {"code": "NoPermission", "message": "no"}}, ErrorBody("NoPermission", "no", "")),
        ({"error": "invalid_token", "requestID": "R7"}, ErrorBody("invalid_token", "", "R7")),
        ({"Message": "busy"}, ErrorBody("", "busy", "")),
        ({"success": False, "msg": "busy"}, ErrorBody("", "busy", "")),
    ],
)
def test_an_error_reply_is_read_in_every_spelling(body: dict[str, Any], expected: ErrorBody) -> None:
    """Code, message and request id of a reply with an error status."""
    assert decode_error(msgspec.json.encode(body)) == expected
