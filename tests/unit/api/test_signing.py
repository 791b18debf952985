"""The signature equals what the service's documentation and the official SDK compute."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from collector.api.signing import authorization, canonical_request, content_sha256, percent_encode, string_to_sign

OF_NOTHING = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
KEY_ID = "LTAI5tExampleKeyId"
SECRET = "ExampleKeySecret0123456789"


class Vector(NamedTuple):
    method: str
    host: str
    action: str
    version: str
    path: str
    query: tuple[tuple[str, str], ...]
    body: bytes
    more: dict[str, str]
    canonical_sha256: str
    signature: str
    date: str = "2025-10-09T09:00:00Z"
    nonce: str = "0123456789abcdef0123456789abcdef"
    key_id: str = KEY_ID
    secret: str = SECRET

    @property
    def headers(self) -> dict[str, str]:
        return {
            "host": self.host,
            "x-acs-action": self.action,
            "x-acs-version": self.version,
            "x-acs-date": self.date,
            "x-acs-signature-nonce": self.nonce,
            "x-acs-content-sha256": content_sha256(self.body),
            **self.more,
        }


PUBLISHED = Vector(
    "POST", "ecs.cn-shanghai.aliyuncs.com", "RunInstances", "2014-05-26", "/",
    (("ImageId", "win2019_1809_x64_dtc_zh-cn_40G_alibase_20230811.vhd"), ("RegionId", "cn-shanghai")), b"", {},
    "7ea06492da5221eba5297e897ce16e55f964061054b7695beedaac1145b1e259",
    "06563a9e1b43f5dfe96b81484da74bceab24a1d853912eee15083a6f0f3283c0",
    "2023-10-26T10:22:32Z", "3156853299f313e23d1673dc12e1703d", "YourAccessKeyId", "YourAccessKeySecret",
)  # fmt: skip
USERS = Vector(
    "GET", "pai.cn-shanghai.aliyuncs.com", "GetUserViewMetrics", "2022-01-12",
    "/api/v1/resources/rgf0zhfqn1d4ity2/usermetrics",
    (
        ("WorkspaceId", "a b/ü~*"), ("PageNumber", "1"), ("PageSize", "10"), ("Order", "desc"),
        ("SortBy", "GmtModified"), ("TimeStep", "5m"),
    ), b"", {},
    "e5f2551801d20f8a46ee539a3369ba0657a67c1e982a714e25849b0f97561818",
    "340fedca6f05d04c1e74f4c22af7ef4267c108c1e8168efe96f75baa2ea41571",
)  # fmt: skip
SYSLOGS = Vector(
    "POST", "eflo-controller.cn-wulanchabu.aliyuncs.com", "ListSyslogs", "2022-12-15", "/", (),
    b"FromTime=1687363300&NodeId=e01-cn-9lb36u4s601&Query=oom+killer&Reverse=true&ToTime=1687363400",
    {"content-type": "application/x-www-form-urlencoded"},
    "c09cef41a0d6bc6b17e405954ad1c7e575320fde9c8a254d674c60bffc7d9b87",
    "ca5f7e59e97fff42c53a592b49502eeb4dac99016c2ad4ab08ad8b8abe35ea11",
)  # fmt: skip
RESOURCE_LOG = Vector(
    "POST", "pai-eas.cn-shanghai.aliyuncs.com", "CreateResourceLog", "2021-07-01",
    "/api/v2/resources/cn-shanghai/eas-r-demo/log", (), b'{"LogStore":"access_log","ProjectName":"demo-sls"}',
    {"content-type": "application/json; charset=utf-8"},
    "7f64355b4b9922a0261e82674f98af4965c5d739f7a41904e605f4c38dec6b3c",
    "bb4ac696e0552a0e469ceb1a4e4a3a710f3b6eb32d91cf4a138624e664c989c9",
)  # fmt: skip
TEMPORARY = Vector(
    "GET", "paillmtrace.cn-hangzhou.aliyuncs.com", "GetXtraceToken", "2024-03-11",
    "/api/v1/PAILLMTrace/XtraceToken", (), b"",
    {"x-acs-accesskey-id": KEY_ID, "x-acs-security-token": "CAISexampleStsToken=="},
    "9edaafbeab3b0ff358980d277929bacd43db3feb27be9968962fa30a70b75fa1",
    "9c515e052b13bfa8b56b98b6dbc8462fb7456000aa392a81ee8cd4ab1d7f8e5b",
)  # fmt: skip
VECTORS = pytest.mark.parametrize(
    "vector", [PUBLISHED, USERS, SYSLOGS, RESOURCE_LOG, TEMPORARY], ids=lambda v: v.action
)


@VECTORS
def test_a_vector_is_signed_as_published(vector: Vector) -> None:
    """Hash of the canonical request, signature and the whole header are those of the vector."""
    canonical, names = canonical_request(vector.method, vector.path, vector.query, vector.headers)
    header = authorization(
        vector.method, vector.path, vector.query, vector.headers, key_id=vector.key_id, secret=vector.secret
    )

    assert string_to_sign(canonical) == f"ACS3-HMAC-SHA256\n{vector.canonical_sha256}"
    assert header == (f"ACS3-HMAC-SHA256 Credential={vector.key_id},SignedHeaders={names},Signature={vector.signature}")


def test_the_canonical_request_is_spelled_line_by_line() -> None:
    """Pairs are sorted and percent-encoded, headers lower-case and sorted, the body stands as its hash."""
    canonical, names = canonical_request(USERS.method, USERS.path, USERS.query, USERS.headers)

    assert canonical.split("\n") == [
        "GET",
        "/api/v1/resources/rgf0zhfqn1d4ity2/usermetrics",
        "Order=desc&PageNumber=1&PageSize=10&SortBy=GmtModified&TimeStep=5m&WorkspaceId=a%20b%2F%C3%BC~%2A",
        "host:pai.cn-shanghai.aliyuncs.com",
        "x-acs-action:GetUserViewMetrics",
        f"x-acs-content-sha256:{OF_NOTHING}",
        "x-acs-date:2025-10-09T09:00:00Z",
        "x-acs-signature-nonce:0123456789abcdef0123456789abcdef",
        "x-acs-version:2022-01-12",
        "",
        "host;x-acs-action;x-acs-content-sha256;x-acs-date;x-acs-signature-nonce;x-acs-version",
        OF_NOTHING,
    ]
    assert names == canonical.split("\n")[-2]


def test_headers_that_a_proxy_may_change_are_not_signed() -> None:
    """User agent and accept play no part, nor do case and blanks around a value."""
    plain = authorization("GET", "/", (), USERS.headers, key_id="k", secret="s")
    spelled = {name.upper(): f" {value} " for name, value in USERS.headers.items()}
    more = {"User-Agent": "a", "accept": "b", "Accept-Encoding": "gzip"}

    assert authorization("GET", "/", (), spelled | more, key_id="k", secret="s") == plain


def test_an_empty_path_is_the_root_and_an_empty_value_keeps_its_name() -> None:
    """No path means `/`; a parameter without value still stands with its sign of equality."""
    lines = canonical_request("POST", "", [("b", ""), ("a", "1")], SYSLOGS.headers)[0].split("\n")

    assert lines[1:3] == ["/", "a=1&b="]


def test_everything_but_the_unreserved_is_escaped() -> None:
    """Blanks, slashes, stars, plus signs and any script are escaped; tilde, dot, dash and underscore are not."""
    assert percent_encode("a b+/*~.-_ü%") == "a%20b%2B%2F%2A~.-_%C3%BC%25"
