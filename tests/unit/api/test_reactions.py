"""Every documented status and code, and what the client makes of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.api.reactions import StaleSignatureError, react
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

DOCUMENTED: list[tuple[int, str, type[ApiError]]] = [
    # Statuses of the service's documentation, with a body that says nothing.
    (400, "", BadRequestError),
    (401, "", CredentialsError),
    (403, "", ForbiddenError),
    (404, "", NotFoundError),
    (429, "", ThrottledError),
    (500, "", TransientError),
    (503, "", TransientError),
    # The same as codes inside a success.
    (200, "400", BadRequestError),
    (200, "401", CredentialsError),
    (200, "403", ForbiddenError),
    (200, "404", NotFoundError),
    (200, "429", ThrottledError),
    (200, "500", TransientError),
    (200, "503", TransientError),
    # Codes of the service's documentation.
    (400, "InvalidParameter", BadRequestError),
    (403, "UnauthorizedOperation", ForbiddenError),
    (401, "UnauthorizedOperation", ForbiddenError),
    (429, "Throttling", ThrottledError),
    (403, "NoPermission", ForbiddenError),
    (200, "NoPermission", ForbiddenError),
    # Throttling, whatever the status.
    (400, "Throttling.User", ThrottledError),
    (400, "Throttling.Api", ThrottledError),
    (503, "Throttling", ThrottledError),
    (200, "Throttling.User", ThrottledError),
    (403, "throttling.user", ThrottledError),
    (429, "ServiceUnavailable", ThrottledError),
    (429, "Forbidden", ThrottledError),
    # Keys.
    (404, "InvalidAccessKeyId.NotFound", CredentialsError),
    (403, "InvalidAccessKeyId.Inactive", CredentialsError),
    (400, "InvalidAccessKeyId", CredentialsError),
    (400, "SignatureDoesNotMatch", CredentialsError),
    (400, "IncompleteSignature", CredentialsError),
    (401, "InvalidApiKey", CredentialsError),
    (403, "InvalidApiKey", CredentialsError),
    (400, "InvalidSecurityToken.Expired", CredentialsError),
    # Rights.
    (400, "Forbidden.RAM", ForbiddenError),
    (404, "Forbidden", ForbiddenError),
    (400, "AccessDenied", ForbiddenError),
    # Things that are not there.
    (400, "ResourceNotFound", NotFoundError),
    (400, "InvalidResourceGroup", NotFoundError),
    (404, "InvalidAction.NotFound", NotFoundError),
    (400, "EntityNotExist.Node", BadRequestError),
    # Failures of the service.
    (500, "InternalError", TransientError),
    (500, "InternalFailure", TransientError),
    (400, "SystemError", TransientError),
    (503, "ServiceUnavailable", TransientError),
    (503, "ServiceUnavailableTemporary", TransientError),
    (400, "ServiceUnavailable", TransientError),
    (200, "InternalError", TransientError),
    (408, "", TransientError),
    (502, "", TransientError),
    (504, "", TransientError),
    (599, "", TransientError),
    (400, "InvalidTimeStamp.Expired", StaleSignatureError),
    (400, "SignatureNonceUsed", TransientError),
    # Requests that are wrong.
    (400, "MissingParameter", BadRequestError),
    (400, "MissingParameter.NodeId", BadRequestError),
    (400, "SomethingElse", BadRequestError),
    (500, "InvalidParameter", BadRequestError),
    (200, "InvalidInputParams", BadRequestError),
    (200, "ValidationError", BadRequestError),
    (402, "", BadRequestError),
    (405, "", BadRequestError),
    (413, "", BadRequestError),
    (422, "Whatever", BadRequestError),
    (302, "", BadRequestError),
    # A failure that says nothing that is known is asked again rather than given up.
    (200, "Mystery", TransientError),
]


@pytest.mark.parametrize(("http_status", "code", "expected"), DOCUMENTED)
def test_a_status_and_code_have_one_meaning(http_status: int, code: str, expected: type[ApiError]) -> None:
    """Each status and code becomes the error whose handling it needs, with advice."""
    reaction = react(http_status, code, "")

    assert reaction.error is expected
    assert len(reaction.hint) > 20


@pytest.mark.parametrize(
    ("http_status", "code", "message", "expected"),
    [
        (400, "InvalidParameter", "The NextToken is expired.", CursorError),
        (400, "InvalidParameter", "the specified token is invalid", CursorError),
        (400, "InvalidNextToken", "", CursorError),
        (400, "", "next_token not valid", CursorError),
        (404, "InvalidNextToken.NotFound", "", CursorError),
        (200, "InvalidParameter", "Token has expired", CursorError),
        (400, "InvalidParameter", "FromTime is out of range", BadRequestError),
        (401, "", "The bearer token is invalid", CredentialsError),
        (400, "InvalidSecurityToken.Expired", "token expired", CredentialsError),
        (400, "Throttling.User", "NextToken asked too often", ThrottledError),
        (403, "NoPermission", "no right to use NextToken", ForbiddenError),
        (404, "ResourceNotFound", "node token-7 not found", NotFoundError),
        (500, "InternalError", "NextToken store failed", TransientError),
        (503, "", "NextToken store failed", TransientError),
    ],
)
def test_a_dead_cursor_is_told_from_other_refusals(
    http_status: int, code: str, message: str, expected: type[ApiError]
) -> None:
    """With a cursor in the request, a refusal of parameters that speaks of it is the cursor's."""
    assert react(http_status, code, message, had_cursor=True).error is expected


def test_without_a_cursor_a_bad_request_stays_one() -> None:
    """A request that carried no cursor cannot have a dead one."""
    assert react(400, "InvalidParameter", "The NextToken is expired.").error is BadRequestError


def test_a_missing_right_inside_a_message_is_seen() -> None:
    """The tracing service reports a missing right in the message of another code."""
    reaction = react(200, "InvalidInputParams", "NoPermission: attach the policy")

    assert reaction.error is ForbiddenError
    assert "AliyunARMSFullAccess" in reaction.hint


def test_a_demand_to_wait_means_throttling_where_no_code_says_otherwise() -> None:
    """A 4xx of no known code that names a time to wait is throttling; a known code keeps its meaning."""
    assert react(400, "Odd", "", told_to_wait=True).error is ThrottledError
    assert react(503, "", "", told_to_wait=True).error is TransientError
    assert react(400, "InvalidParameter", "", told_to_wait=True).error is BadRequestError
    assert react(401, "InvalidApiKey", "", told_to_wait=True).error is CredentialsError


@pytest.mark.parametrize(
    ("http_status", "code", "expected"),
    [
        (400, "Throttling.User", ThrottledError),
        (429, "", ThrottledError),
        (403, "Forbidden", ForbiddenError),
        (400, "InvalidParameter", BadRequestError),
    ],
)
def test_only_a_pot_of_free_calls_can_be_used_up(http_status: int, code: str, expected: type[ApiError]) -> None:
    """Of an operation that shares no pot, the same words mean what their code says: its quota is of calls a second."""
    words = "Request was denied due to user API quota limit."

    assert react(http_status, code, words, has_pot=True).error is FreeCallsUsedUp
    assert react(http_status, code, words).error is expected


def test_the_advice_names_what_to_do() -> None:
    """The advice of the documented errors names the variable, the policy or the setting to look at."""
    assert "DASHSCOPE_API_KEY" in react(401, "", "").hint
    assert "RAM" in react(403, "", "").hint
    assert "spelled" in react(404, "", "").hint
    assert "api.quotas" in react(429, "", "").hint
    assert "request id" in react(500, "", "").hint
    assert "later" in react(503, "", "").hint
    assert "time formats" in react(400, "InvalidParameter", "").hint
    assert "AliyunPAIFullAccess" in react(403, "UnauthorizedOperation", "").hint
    assert "AliyunARMSFullAccess" in react(403, "NoPermission", "").hint


@given(st.integers(100, 999), st.text(max_size=12), st.text(max_size=12), st.booleans(), st.booleans())
def test_every_reply_has_a_meaning(
    http_status: int, code: str, message: str, had_cursor: bool, told_to_wait: bool
) -> None:
    """No status, code or message is without an error class and advice."""
    reaction = react(http_status, code, message, had_cursor=had_cursor, told_to_wait=told_to_wait)

    assert issubclass(reaction.error, ApiError)
    assert reaction.hint
