"""Answers that refuse a call, in the shape of the service's gateway."""

from __future__ import annotations

from collections.abc import Mapping

from collector.catalogue.operation import Operation


class Refusal(Exception):
    """A call that is answered with an error: HTTP status, code, message and headers of its own."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.headers = dict(headers or {})

    def body(self, operation: Operation | None, request_id: str) -> dict[str, str]:
        """The JSON body, with the fields that the gateway documents."""
        product = operation.product if operation else "gateway"
        return {
            "RequestId": request_id,
            "HostId": f"{product.lower()}.cn-hangzhou.aliyuncs.com",
            "Code": self.code,
            "Message": self.message,
            "Recommend": f"https://api.aliyun.com/troubleshoot?q={self.code}&product={product}",
        }


def missing_parameter(name: str) -> Refusal:
    return Refusal(400, "MissingParameter", f"The mandatory input parameter {name} is missing.")


def invalid_parameter(name: str, why: str) -> Refusal:
    return Refusal(400, "InvalidParameter", f"The specified parameter {name} is not valid: {why}.")


def invalid_token(why: str) -> Refusal:
    """`why` completes "The specified NextToken ...", as in "is expired"."""
    return Refusal(400, "InvalidParameter", f"The specified NextToken {why}.")


def invalid_key() -> Refusal:
    return Refusal(401, "InvalidApiKey", "The API key is missing or not valid.")


def not_found(kind: str, scope_id: str) -> Refusal:
    return Refusal(404, f"Invalid{kind}.NotFound", f"The specified {kind} {scope_id!r} does not exist.")


def throttled(headers: Mapping[str, str] | None = None, *, status: int = 429) -> Refusal:
    return Refusal(status, "Throttling.User", "Request was denied due to user flow control.", headers)
