"""The simulator's verifier of signatures, against published figures and against forgeries."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from collector.simulator.credentials import SKEW_SECONDS_MAX, Credentials, Verifier, canonical_request, signature_of
from collector.simulator.requests import Call, Refusal

EMPTY = hashlib.sha256(b"").hexdigest()

# The example of the service's documentation of this algorithm.
PUBLISHED = Call(
    "POST",
    "/",
    "ImageId=win2019_1809_x64_dtc_zh-cn_40G_alibase_20230811.vhd&RegionId=cn-shanghai",
    {
        "host": "ecs.cn-shanghai.aliyuncs.com",
        "x-acs-action": "RunInstances",
        "x-acs-version": "2014-05-26",
        "x-acs-date": "2023-10-26T10:22:32Z",
        "x-acs-signature-nonce": "3156853299f313e23d1673dc12e1703d",
        "x-acs-content-sha256": EMPTY,
    },
    b"",
)
PUBLISHED_AT = datetime(2023, 10, 26, 10, 22, 32, tzinfo=UTC).timestamp()
PUBLISHED_KEY = Credentials(access_key_id="YourAccessKeyId", access_key_secret="YourAccessKeySecret")
PUBLISHED_SIGNATURE = "06563a9e1b43f5dfe96b81484da74bceab24a1d853912eee15083a6f0f3283c0"

KEY = Credentials()
NOW = datetime(2025, 10, 9, 9, tzinfo=UTC).timestamp()


def signed(
    credentials: Credentials = KEY,
    *,
    method: str = "GET",
    path: str = "/api/v2/resources",
    query: str = "PageNumber=1",
    body: bytes = b"",
    leave_out: frozenset[str] = frozenset(),
    **headers: str,
) -> Call:
    """A call with a right signature; `headers` over the usual ones, with underscores for dashes."""
    usual = {
        "host": "127.0.0.1:8080",
        "x-acs-action": "ListResources",
        "x-acs-version": "2021-07-01",
        "x-acs-date": "2025-10-09T09:00:00Z",
        "x-acs-signature-nonce": "0123",
        "x-acs-content-sha256": hashlib.sha256(body).hexdigest(),
    }
    usual |= {name.replace("_", "-"): value for name, value in headers.items()}
    names = sorted(usual.keys() - leave_out)
    call = Call(method, path, query, usual, body)
    return authorized(call, names, signature_of(canonical_request(call, names), credentials.access_key_secret))


def authorized(call: Call, names: list[str], signature: str, key_id: str = KEY.access_key_id) -> Call:
    """The call with an Authorization header."""
    header = f"ACS3-HMAC-SHA256 Credential={key_id},SignedHeaders={';'.join(names)},Signature={signature}"
    return call._replace(headers={**call.headers, "authorization": header})


def refusal(verifier: Verifier, call: Call, now: float = NOW) -> tuple[int, str]:
    """Status and code with which a call is refused."""
    with pytest.raises(Refusal) as refused:
        verifier.verify_product(call, now)
    return refused.value.status, refused.value.code


def test_the_published_example() -> None:
    """Canonical request, signature and verdict are those of the documentation."""
    names = sorted(PUBLISHED.headers)
    canonical = canonical_request(PUBLISHED, names)

    assert hashlib.sha256(canonical.encode()).hexdigest() == (
        "7ea06492da5221eba5297e897ce16e55f964061054b7695beedaac1145b1e259"
    )
    assert signature_of(canonical, PUBLISHED_KEY.access_key_secret) == PUBLISHED_SIGNATURE
    call = authorized(PUBLISHED, names, PUBLISHED_SIGNATURE, "YourAccessKeyId")
    Verifier(PUBLISHED_KEY).verify_product(call, PUBLISHED_AT)


# Signed once by the official SDK's own signer: key secret, call, names that it signed, signature.
BY_THE_SDK: list[tuple[str, str, str, bytes, Mapping[str, str], str]] = [
    (
        "GET",
        "/api/v1/resources/rgf0zhfqn1d4ity2/usermetrics",
        "Order=desc&PageNumber=1&PageSize=10&SortBy=GmtModified&TimeStep=5m&WorkspaceId=a+b%2F%C3%BC~%2A",
        b"",
        {
            "host": "pai.cn-shanghai.aliyuncs.com",
            "x-acs-action": "GetUserViewMetrics",
            "x-acs-version": "2022-01-12",
        },
        "340fedca6f05d04c1e74f4c22af7ef4267c108c1e8168efe96f75baa2ea41571",
    ),
    (
        "POST",
        "/",
        "",
        b"FromTime=1687363300&NodeId=e01-cn-9lb36u4s601&Query=oom+killer&Reverse=true&ToTime=1687363400",
        {
            "content-type": "application/x-www-form-urlencoded",
            "host": "eflo-controller.cn-wulanchabu.aliyuncs.com",
            "x-acs-action": "ListSyslogs",
            "x-acs-version": "2022-12-15",
        },
        "ca5f7e59e97fff42c53a592b49502eeb4dac99016c2ad4ab08ad8b8abe35ea11",
    ),
    (
        "POST",
        "/api/v2/resources/cn-shanghai/eas-r-demo/log",
        "",
        b'{"LogStore":"access_log","ProjectName":"demo-sls"}',
        {
            "content-type": "application/json; charset=utf-8",
            "host": "pai-eas.cn-shanghai.aliyuncs.com",
            "x-acs-action": "CreateResourceLog",
            "x-acs-version": "2021-07-01",
        },
        "bb4ac696e0552a0e469ceb1a4e4a3a710f3b6eb32d91cf4a138624e664c989c9",
    ),
    (
        "GET",
        "/api/v1/PAILLMTrace/XtraceToken",
        "",
        b"",
        {
            "host": "paillmtrace.cn-hangzhou.aliyuncs.com",
            "x-acs-accesskey-id": "LTAI5tExampleKeyId",
            "x-acs-action": "GetXtraceToken",
            "x-acs-security-token": "CAISexampleStsToken==",
            "x-acs-version": "2024-03-11",
        },
        "9c515e052b13bfa8b56b98b6dbc8462fb7456000aa392a81ee8cd4ab1d7f8e5b",
    ),
]


@pytest.mark.parametrize(("method", "path", "query", "body", "headers", "signature"), BY_THE_SDK)
def test_signatures_of_the_official_signer(
    method: str, path: str, query: str, body: bytes, headers: Mapping[str, str], signature: str
) -> None:
    """Query, form, JSON body and security token: each is signed as the official SDK signs it."""
    call = Call(
        method,
        path,
        query,
        {
            **headers,
            "x-acs-date": "2025-10-09T09:00:00Z",
            "x-acs-signature-nonce": "0123456789abcdef0123456789abcdef",
            "x-acs-content-sha256": hashlib.sha256(body).hexdigest(),
        },
        body,
    )

    assert signature_of(canonical_request(call, sorted(call.headers)), "ExampleKeySecret0123456789") == signature


def test_a_signed_call_is_let_in_once() -> None:
    """The second call with the same nonce is a replay; another nonce is another call."""
    verifier = Verifier(KEY)

    verifier.verify_product(signed(), NOW)

    assert refusal(verifier, signed()) == (400, "SignatureNonceUsed")
    verifier.verify_product(signed(x_acs_signature_nonce="0124"), NOW)


def test_a_refused_call_does_not_use_up_its_nonce() -> None:
    """A nonce counts as used only when the signature was right, so nobody can burn those of others."""
    verifier = Verifier(KEY)
    call = signed()

    assert refusal(verifier, call._replace(query="PageNumber=2")) == (400, "SignatureDoesNotMatch")

    verifier.verify_product(call, NOW)


@pytest.mark.parametrize(
    "change",
    [
        {"method": "DELETE"},
        {"path": "/api/v2/services"},
        {"path": "/api/v2/resources/"},
        {"query": "PageNumber=2"},
        {"query": ""},
        {"body": b"{}"},
    ],
)
def test_what_was_changed_after_signing_does_not_match(change: dict[str, Any]) -> None:
    """Method, path, query and body are covered by the signature."""
    assert refusal(Verifier(KEY), signed()._replace(**change)) == (400, "SignatureDoesNotMatch")


@pytest.mark.parametrize("name", ["host", "x-acs-action", "x-acs-version", "x-acs-signature-nonce"])
def test_a_signed_header_that_was_changed_does_not_match(name: str) -> None:
    """Headers are covered by the signature."""
    call = signed()

    changed = call._replace(headers={**call.headers, name: "another"})

    assert refusal(Verifier(KEY), changed) == (400, "SignatureDoesNotMatch")


def test_a_body_of_another_digest_does_not_match() -> None:
    """The digest must be that of the body even when it is what was signed."""
    call = signed(body=b"one", x_acs_content_sha256=hashlib.sha256(b"two").hexdigest())

    assert refusal(Verifier(KEY), call) == (400, "SignatureDoesNotMatch")


def test_a_wrong_secret_does_not_match_and_a_wrong_id_is_unknown() -> None:
    """Ids and secrets are told apart, as the service tells them apart."""
    other = KEY.changed({"access_key_secret": "other"})

    assert refusal(Verifier(KEY), signed(other)) == (400, "SignatureDoesNotMatch")
    assert refusal(Verifier(KEY.changed({"access_key_id": "LTAI-other"})), signed()) == (
        404, "InvalidAccessKeyId.NotFound",
    )  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"leave_out": frozenset({"host"})},
        {"leave_out": frozenset({"x-acs-action"})},
        {"x_acs_extra": "1", "leave_out": frozenset({"x-acs-extra"})},
        {"x_acs_date": ""},
        {"x_acs_signature_nonce": ""},
        {"x_acs_content_sha256": ""},
    ],
)
def test_a_signature_that_covers_too_little_is_incomplete(change: dict[str, Any]) -> None:
    """The host and every x-acs header must be signed, and those that the algorithm needs must be there."""
    assert refusal(Verifier(KEY), signed(**change)) == (400, "IncompleteSignature")


@pytest.mark.parametrize(
    "authorization",
    [
        "Bearer sk-simulator",
        "ACS3-HMAC-SHA256 Credential=LTAI-simulator, SignedHeaders=host, Signature=" + "0" * 64,
        "ACS3-HMAC-SHA256 Credential=LTAI-simulator,SignedHeaders=host,Signature=" + "0" * 63,
        "ACS3-RSA-SHA256 Credential=LTAI-simulator,SignedHeaders=host,Signature=" + "0" * 64,
    ],
)
def test_an_authorization_of_another_form_is_incomplete(authorization: str) -> None:
    """Spaces after commas, short signatures, other algorithms and bearer keys are not signatures."""
    call = signed()

    changed = call._replace(headers={**call.headers, "authorization": authorization})

    assert refusal(Verifier(KEY), changed) == (400, "IncompleteSignature")


def test_a_call_without_any_proof_is_refused() -> None:
    """A product endpoint answers nobody whom it does not know."""
    assert refusal(Verifier(KEY), PUBLISHED) == (400, "MissingAccessKeyId")


def test_the_order_of_a_query_is_not_signed() -> None:
    """The parameters are signed in the order of their names, however the request line has them."""
    Verifier(KEY).verify_product(signed(query="A=1&B=2+3&C=")._replace(query="C=&B=2%203&A=1"), NOW)


def test_a_header_added_after_signing_is_let_through() -> None:
    """Transports add headers of their own, which no signature covers."""
    call = signed()

    Verifier(KEY).verify_product(call._replace(headers={**call.headers, "accept-encoding": "gzip"}), NOW)


@pytest.mark.parametrize("ahead", [-SKEW_SECONDS_MAX, SKEW_SECONDS_MAX])
def test_a_clock_may_be_a_quarter_of_an_hour_off(ahead: int) -> None:
    """The date is taken up to the limit, either way, and not a second beyond."""
    beyond = ahead + (1 if ahead > 0 else -1)

    Verifier(KEY).verify_product(signed(), NOW + ahead)

    assert refusal(Verifier(KEY), signed(), NOW + beyond) == (400, "InvalidTimeStamp.Expired")


def test_a_date_that_is_none() -> None:
    """A date in another form is told apart from a stale one."""
    assert refusal(Verifier(KEY), signed(x_acs_date="09 Oct 2025 09:00:00")) == (400, "InvalidTimeStamp.Format")


def test_a_nonce_is_forgotten_when_its_date_cannot_come_again() -> None:
    """Nonces do not pile up; one is good again once every date that it came with is stale."""
    verifier = Verifier(KEY)
    verifier.verify_product(signed(), NOW)
    later = NOW + 2 * SKEW_SECONDS_MAX

    assert refusal(verifier, signed(x_acs_date="2025-10-09T09:20:00Z"), later) == (400, "SignatureNonceUsed")
    verifier.verify_product(signed(x_acs_date="2025-10-09T09:20:00Z"), later + 1)


def test_a_security_token_has_to_be_the_right_one_and_alive() -> None:
    """Missing, wrong, uncalled-for and expired tokens are told apart."""
    temporary = KEY.changed({"security_token": "CAIS-one", "expires_at": NOW + 60})
    call = signed(x_acs_security_token="CAIS-one")

    Verifier(temporary).verify_product(call, NOW + 59)

    assert refusal(Verifier(temporary), call, NOW + 60) == (400, "InvalidSecurityToken.Expired")
    assert refusal(Verifier(temporary), signed()) == (400, "MissingSecurityToken")
    assert refusal(Verifier(temporary), signed(x_acs_security_token="CAIS-two")) == (400, "MalformedSecurityToken")
    assert refusal(Verifier(KEY), call) == (400, "MalformedSecurityToken")


def test_a_refusal_does_not_give_the_security_token_away() -> None:
    """The message shows the canonical request, as the service's does, with the token taken out."""
    temporary = KEY.changed({"security_token": "CAIS-one"})
    call = signed(KEY.changed({"access_key_secret": "other"}), x_acs_security_token="CAIS-one")

    with pytest.raises(Refusal) as refused:
        Verifier(temporary).verify_product(call, NOW)

    assert "x-acs-security-token:***" in refused.value.message
    assert "CAIS" not in str(refused.value)


@pytest.mark.parametrize(
    ("headers", "query"),
    [({"x-acs-signature-type": "BEARERTOKEN"}, ""), ({}, "SignatureType=BEARERTOKEN&Tags.1.Key=a")],
)
def test_a_bearer_token_of_the_official_sdks_is_let_in(headers: dict[str, str], query: str) -> None:
    """The type of the token is named in a header or in the query; the token is the simulator's key."""
    call = PUBLISHED._replace(headers={**PUBLISHED.headers, **headers, "x-acs-bearer-token": KEY.key}, query=query)

    Verifier(KEY).verify_product(call, NOW)

    wrong = call._replace(headers={**call.headers, "x-acs-bearer-token": "sk-other"})
    assert refusal(Verifier(KEY), wrong) == (401, "InvalidApiKey")
    assert refusal(Verifier(KEY), call._replace(headers={**call.headers, "x-acs-signature-type": "x"}, query="")) == (
        400, "InvalidSignatureType",
    )  # fmt: skip


def test_secrets_are_not_shown() -> None:
    """Neither a key nor a secret nor a token stands in what a log or a traceback would show."""
    credentials = Credentials(key="sk-1", access_key_secret="hidden", security_token="CAIS-1")

    assert repr(credentials) == "Credentials(access_key_id='LTAI-simulator')"
