"""PaiLLMTrace 2024-03-11, ROA: where traces are uploaded."""

from __future__ import annotations

from collector.catalogue.answers import Answer
from collector.catalogue.operation import FREE, Operation, Product, Style


class GetXtraceTokenAnswer(Answer, rename="pascal"):
    """`GetXtraceToken`: a token and four endpoints. The HTTP endpoints hold a token too. No expiry is told."""

    token: str | None = None
    http_endpoint: str | None = None
    http_internal_endpoint: str | None = None
    grpc_endpoint: str | None = None
    grpc_internal_endpoint: str | None = None


GET_XTRACE_TOKEN = Operation(
    "GetXtraceToken",
    Product.PAI_LLM_TRACE,
    "2024-03-11",
    Style.ROA,
    "GET",
    "/api/v1/PAILLMTrace/XtraceToken",
    "Token and endpoints for uploading traces.",
    (),
    GetXtraceTokenAnswer,
    price=FREE,
    secret_fields=frozenset({"Token", "HttpEndpoint", "HttpInternalEndpoint"}),
)

ROWS = (GET_XTRACE_TOKEN,)
