"""What the openapi gateway sends equals what the official Python SDKs send, header by header, field by field."""

from __future__ import annotations

import asyncio
import importlib
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random
from typing import Any
from urllib.parse import parse_qsl

import pytest
from aiohttp import web

from collector.api.credentials import AccessKey, BearerToken, Credentials, StaticCredentials
from collector.api.openapi import OpenApiGateway
from collector.api.signing import authorization
from collector.api.transport import Transport
from collector.catalogue.operation import Operation, Place, Product
from collector.catalogue.operations import CATALOGUE

KEY_ID = "LTAI5tExampleKeyId"
SECRET = "ExampleKeySecret0123456789"
CREDENTIALS: Mapping[str, Credentials] = {
    "ak": AccessKey(KEY_ID, SECRET, provider="static_ak"),
    "sts": AccessKey(KEY_ID, SECRET, "CAISexampleStsToken==", "static_sts"),
    "bearer": BearerToken("example-bearer-token"),
}
SDK_CREDENTIALS: Mapping[str, dict[str, str]] = {
    "ak": {"access_key_id": KEY_ID, "access_key_secret": SECRET},
    "sts": {"access_key_id": KEY_ID, "access_key_secret": SECRET, "security_token": "CAISexampleStsToken=="},
    "bearer": {"bearer_token": "example-bearer-token"},
}
SDKS: Mapping[Product, str] = {
    Product.EFLO_CONTROLLER: "alibabacloud_eflo_controller20221215",
    Product.PAI_STUDIO: "alibabacloud_paistudio20220112",
    Product.EAS: "alibabacloud_eas20210701",
    Product.PAI_DLC: "alibabacloud_pai_dlc20201203",
    Product.PAI_DSW: "alibabacloud_pai_dsw20220101",
    Product.PAI_LLM_TRACE: "alibabacloud_paillmtrace20240311",
    Product.CMS: "alibabacloud_cms20190101",
}
AWKWARD = "a b+c/ü~*%2F&=?#"
VALUES: Mapping[str, Any] = {
    "ClusterId": "i1 189/ü", "NodeIds": ["e01-a", "e01 b"], "DiagnosticType": "CheckByAiJobLogs",
    "AiJobLogs": [
        {"NodeId": "e01-a", "AiInstance": "i-1", "Logs": [{"LogContent": "Zeit\u00fcberlauf", "Datetime": "20251009"}]}
    ],
    "Tags": [{"Key": "env", "Value": AWKWARD}, {"Key": "team", "Value": "x"}],
    "OperatingStates": ["Using", "Extending"], "Label": {"z": AWKWARD, "a": "b"},
}  # fmt: skip
"""Values by parameter; others are made up from type and form."""
# What names the client, the moment or the connection.
VOLATILE = {
    "user-agent", "x-acs-date", "x-acs-signature-nonce", "authorization", "accept-encoding", "connection",
}  # fmt: skip


MADE_UP = {"Tag=%5B%5D"}
"""The notebook SDK states an empty list that nobody gave it."""


@dataclass
class Captured:
    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def split_target(self) -> tuple[str, list[str]]:
        """Path and fields of the query, in no order: the SDKs have none of their own."""
        path, _, query = self.target.partition("?")
        return path, sorted(field for field in query.split("&") if field and field not in MADE_UP)

    @property
    def stable_headers(self) -> dict[str, str]:
        return {name: value for name, value in self.headers.items() if name not in VOLATILE}


@asynccontextmanager
async def capturing() -> AsyncIterator[tuple[str, list[Captured]]]:
    """A server that keeps what it is sent, as it stood on the wire."""
    captured: list[Captured] = []

    async def answer(request: web.BaseRequest) -> web.Response:
        headers = {name.decode().lower(): value.decode() for name, value in request.raw_headers}
        assert len(headers) == len(request.raw_headers), "a header was sent twice"
        captured.append(Captured(request.method, request.raw_path, headers, await request.read()))
        return web.json_response({"RequestId": "R1"})

    runner = web.ServerRunner(web.Server(answer), handle_signals=False, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"127.0.0.1:{runner.addresses[0][1]}", captured
    finally:
        await runner.cleanup()


def every_parameter(row: Operation) -> dict[str, Any]:
    """One value for each parameter that the product endpoint has, as awkward as its form allows."""
    values: dict[str, Any] = {}
    for known in row.parameters:
        if known.bearer_only:
            continue
        if known.choices:
            values[known.name] = known.choices[-1]
        elif VALUES.get(known.name):
            values[known.name] = VALUES[known.name]
        elif known.type is bool:
            values[known.name] = len(known.name) % 2 == 0
        elif known.type is int or known.form.value == "count":
            values[known.name] = known.type(known.most or 7)
        else:
            values[known.name] = {
                "seconds": "1687363300", "minute": "1687363320", "moment": "2025-10-09T08:00:00Z",
                "civil": "2025-10-09 08:00:00", "time_step": "5m",
                "milliseconds": "1687363300000",
            }.get(known.form.value, AWKWARD)  # fmt: skip
    return values


def required_parameters(row: Operation) -> dict[str, Any]:
    required = {known.name for known in row.parameters if known.required}
    return {name: value for name, value in every_parameter(row).items() if name in required}


def call_sdk(row: Operation, address: str, mode: str, parameters: Mapping[str, Any]) -> None:
    """The same call by the official SDK. Blocks."""
    package = SDKS[row.product]
    models = importlib.import_module(f"{package}.models")
    config = importlib.import_module("alibabacloud_tea_openapi.utils_models").Config(
        endpoint=address, protocol="HTTP", region_id="cn-hangzhou", connect_timeout=5000, read_timeout=5000,
        **SDK_CREDENTIALS[mode],
    )  # fmt: skip
    client = importlib.import_module(f"{package}.client").Client(config)
    fields: dict[str, Any] = {}
    for name, value in parameters.items():
        known = row.parameter(name)
        assert known is not None
        if known.inside:
            fields.setdefault(known.inside, {})[name] = value
        elif known.place is not Place.PATH:
            fields[name] = value
    arguments: list[Any] = [parameters[name] for name in re.findall(r"\{(\w+)\}", row.path)]
    if model := getattr(models, f"{row.action}Request", None):
        request = model().from_map(fields)
        unknown = set(fields) - set(request.to_map())
        assert not unknown, f"the SDK does not know {unknown}"
        arguments.append(request)
    getattr(client, re.sub(r"(?<!^)(?=[A-Z])", "_", row.action).lower())(*arguments)


def gateway_to(address: str, mode: str) -> OpenApiGateway:
    return OpenApiGateway(
        StaticCredentials(CREDENTIALS[mode]),
        region="cn-hangzhou",
        now=lambda: 1_760_000_000.0,
        base_url=f"http://{address}",
        random=Random(5),
    )


async def call_ours(row: Operation, address: str, mode: str, parameters: Mapping[str, Any]) -> None:
    async def depart() -> None:
        return None

    request = await gateway_to(address, mode).prepare(row, parameters)
    async with Transport(timeout_seconds=5) as transport:
        exchange = await transport.exchange(request, depart=depart, body_bytes_max=1 << 20)
    assert exchange.http_status == 200


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDKs follow the environment's proxies."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.mark.parametrize("mode", ["ak", "sts", "bearer"])
@pytest.mark.parametrize("name", list(CATALOGUE))
async def test_a_call_is_byte_for_byte_the_sdks(name: str, mode: str) -> None:
    """Method, path, query, body and every lasting header are the SDK's, with all parameters and with the fewest."""
    row = CATALOGUE[name]
    for parameters in (every_parameter(row), required_parameters(row)):
        async with capturing() as (address, captured):
            await asyncio.to_thread(call_sdk, row, address, mode, parameters)
            await call_ours(row, address, mode, parameters)

        theirs, ours = captured
        assert (ours.method, ours.split_target) == (theirs.method, theirs.split_target)
        assert ours.body == theirs.body
        assert ours.stable_headers == theirs.stable_headers


@pytest.mark.parametrize("mode", ["ak", "sts"])
@pytest.mark.parametrize("name", list(CATALOGUE))
async def test_what_is_signed_is_what_arrives(name: str, mode: str) -> None:
    """The signature fits the request as it stood on the wire, down to the host and the bytes of the body."""
    row = CATALOGUE[name]
    async with capturing() as (address, captured):
        await call_ours(row, address, mode, every_parameter(row))

    (seen,) = captured
    path, _, query = seen.target.partition("?")
    pairs = parse_qsl(query, keep_blank_values=True)
    expected = authorization(seen.method, path, pairs, seen.headers, key_id=KEY_ID, secret=SECRET)
    assert seen.headers["authorization"] == expected
    assert "host;" in expected
    assert seen.headers["x-acs-date"] == "2025-10-09T08:53:20Z"
