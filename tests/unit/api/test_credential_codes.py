"""Every code by which the services refuse credentials, and which of them say that the clock is wrong."""

from __future__ import annotations

import pytest

from collector.api.reactions import StaleSignatureError, is_expired, is_renewable, react
from collector.catalogue.operations import CATALOGUE
from collector.errors import CredentialsError, TransientError

KEYS = (
    "InvalidAccessKeyId", "InvalidAccessKeyId.NotFound", "InvalidAccessKeyId.Inactive", "InvalidAccessKeySecret",
    "MissingAccessKeyId", "InactiveAccessKey", "AccessKeyDisabled", "Forbidden.AccessKeyDisabled",
    "SignatureDoesNotMatch", "IncompleteSignature", "InvalidSignatureMethod", "InvalidSignatureVersion",
    "MissingSignature", "InvalidCredentials", "MissingAuthorization", "InvalidBearerToken", "InvalidApiKey",
)  # fmt: skip
TEMPORARY = (
    "InvalidSecurityToken", "InvalidSecurityToken.Expired", "InvalidSecurityToken.Malformed",
    "InvalidSecurityToken.MismatchWithAccessKey", "MalformedSecurityToken", "MissingSecurityToken",
    "SecurityTokenExpired", "SecurityTokenMalformed", "ExpiredToken",
)  # fmt: skip
CLOCK = (
    "InvalidTimeStamp.Expired", "InvalidTimeStamp.Format", "InvalidTimestamp", "IllegalTimestamp", "MissingTimestamp",
    "RequestTimeTooSkewed",
)  # fmt: skip


@pytest.mark.parametrize("had_cursor", [False, True], ids=["first page", "later page"])
@pytest.mark.parametrize("http_status", [400, 401, 403, 404])
@pytest.mark.parametrize("code", KEYS + TEMPORARY)
def test_a_refused_credential_is_one_with_any_status(code: str, http_status: int, had_cursor: bool) -> None:
    """The advice names where credentials come from, and a word like token does not make it a cursor's error."""
    reaction = react(http_status, code, "Specified SecurityToken is not valid.", had_cursor=had_cursor)

    assert reaction.error is CredentialsError
    assert ("ALIBABA_CLOUD_SECURITY_TOKEN" if code in TEMPORARY else "DASHSCOPE_API_KEY") in reaction.hint


@pytest.mark.parametrize("code", CLOCK)
def test_a_wrong_time_is_signed_again(code: str) -> None:
    """The call is repeated with the service's time, and the advice names the clock."""
    reaction = react(400, code, "")

    assert reaction.error is StaleSignatureError
    assert "clock" in reaction.hint


@pytest.mark.parametrize("code", ["SignatureNonceUsed", "InvalidSignatureNonce"])
def test_a_used_nonce_is_no_refused_credential(code: str) -> None:
    """Another nonce is all that it takes."""
    assert react(400, code, "").error is TransientError


def test_only_temporary_credentials_may_be_renewed() -> None:
    """A key that is wrong is told from one that others may have replaced."""
    assert all(is_renewable(code) for code in TEMPORARY)
    assert not any(is_renewable(code) for code in (*KEYS, *CLOCK, ""))
    assert [code for code in (*TEMPORARY, *CLOCK) if is_expired(code)] == [
        "InvalidSecurityToken.Expired", "SecurityTokenExpired", "ExpiredToken",
    ]  # fmt: skip


def test_every_operation_has_a_ram_action() -> None:
    """A policy names the product by its RAM code, which is not the name in the address."""
    actions = {operation.ram_action for operation in CATALOGUE.values()}

    assert {"eflo:ListSyslogs", "pai:GetUserViewMetrics", "paidlc:ListJobs", "eas:DescribeResourceLog"} <= actions
    assert all(action.partition(":")[0].islower() for action in actions)
