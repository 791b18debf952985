"""What a call looks like on the wire, and that its key shows nowhere."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Mapping
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from collector.api.credentials import AccessKey, BearerToken, Credentials, StaticCredentials
from collector.api.gateways import BearerGateway, HttpRequest, Key
from collector.api.openapi import OpenApiGateway
from collector.catalogue.operations import CATALOGUE
from collector.catalogue.products.eflo_controller import CREATE_DIAGNOSTIC_TASK, LIST_SYSLOGS
from collector.catalogue.products.pai_studio import GET_USER_VIEW_METRICS
from collector.errors import BadRequestError, ConfigError

CANARY = "sk-canary-5f2d8c"


class Hidden:
    """A secret as settings hold one."""

    def get_secret_value(self) -> str:
        return CANARY


async def test_a_get_carries_its_parameters_in_the_query() -> None:
    """A GET goes to base, product, version and name; numbers and flags travel as text."""
    gateway = BearerGateway(CANARY)

    request = await gateway.prepare(
        GET_USER_VIEW_METRICS, {"ResourceGroupID": "rg 1&2", "PageNumber": 1, "ShowOwn": True, "All": False}
    )

    assert (request.method, request.body) == ("GET", None)
    assert request.url == "https://api.aliyun.com/api/PaiStudio/2022-01-12/GetUserViewMetrics"
    assert request.query == (
        ("ResourceGroupID", "rg 1&2"), ("PageNumber", "1"), ("ShowOwn", "true"), ("All", "false"),
    )  # fmt: skip
    assert request.headers == {"Authorization": f"Bearer {CANARY}", "Content-Type": "application/json"}


async def test_a_post_carries_its_parameters_as_json() -> None:
    """A POST has no query; its JSON body keeps text, flags and any script."""
    parameters: dict[str, Any] = {
        "FromTime": "1687363300",
        "NodeId": "e01-cn-9lb36u4s601",
        "Reverse": True,
        "Query": "é",
    }

    request = await BearerGateway(CANARY).prepare(LIST_SYSLOGS, parameters)

    assert (request.method, request.query) == ("POST", ())
    assert request.url == "https://api.aliyun.com/api/eflo-controller/2022-12-15/ListSyslogs"
    assert request.body is not None
    assert json.loads(request.body) == parameters


async def test_a_post_without_parameters_has_an_empty_object() -> None:
    """A POST always has a JSON body, so that its content type is true."""
    assert (await BearerGateway(CANARY).prepare(LIST_SYSLOGS, {})).body == b"{}"


async def test_a_delete_carries_its_parameters_in_the_query() -> None:
    """A DELETE is spelled like a GET; a list is joined with commas and an object is compact JSON."""
    operation = replace(GET_USER_VIEW_METRICS, name="DeleteResourceLog", product="eas", method="DELETE")

    request = await BearerGateway(CANARY).prepare(operation, {"Ids": ["a", "b"], "Label": {"k": "v"}})

    assert (request.method, request.body) == ("DELETE", None)
    assert request.query == (("Ids", "a,b"), ("Label", '{"k":"v"}'))


@pytest.mark.parametrize(
    ("site", "base_url", "syslogs", "users"),
    [
        ("china", "", "https://api.aliyun.com", "https://api.aliyun.com"),
        ("international", "", "https://api.alibabacloud.com", "https://api.aliyun.com"),
        ("china", "http://127.0.0.1:9/prefix/", "http://127.0.0.1:9/prefix", "http://127.0.0.1:9/prefix"),
        ("international", "http://127.0.0.1:9", "http://127.0.0.1:9", "http://127.0.0.1:9"),
    ],
)
def test_the_site_decides_the_host(site: str, base_url: str, syslogs: str, users: str) -> None:
    """Each site has a host, single-host operations have one for both, and a base URL replaces either."""
    gateway = BearerGateway(CANARY, site=site, base_url=base_url)

    assert gateway.base_url(LIST_SYSLOGS) == syslogs
    assert gateway.base_url(GET_USER_VIEW_METRICS) == users


def test_an_unknown_site_is_refused() -> None:
    """A site that does not exist is a mistake of the configuration, named with its key."""
    with pytest.raises(ConfigError, match=r"api\.site: got 'mars'"):
        BearerGateway(CANARY, site="mars")


@pytest.mark.parametrize("value", ["", "  \n", "sk-a b", "sk-a\r\nX-Evil: 1", "sk-\u00e9\u4e2d"])
def test_an_unusable_key_is_refused_without_showing_it(value: str) -> None:
    """A key that is empty or cannot stand in a header is named by its variable only."""
    with pytest.raises(ConfigError, match="DASHSCOPE_API_KEY") as caught:
        Key(value)

    assert not value.strip() or value.strip() not in str(caught.value)


def test_blanks_around_a_key_are_cut() -> None:
    """A newline at the end of a copied key does no harm."""
    assert Key(f" {CANARY}\n").get_secret_value() == CANARY


async def test_the_key_shows_in_no_repr_and_cannot_be_written() -> None:
    """Neither the key, the gateway nor a request shows the key, and pickling it fails."""
    gateway = BearerGateway(Hidden(), site="china")
    request = await gateway.prepare(LIST_SYSLOGS, {"NodeId": "n"})

    assert request.headers["Authorization"] == f"Bearer {CANARY}"
    for value in (Key(CANARY), gateway, request, vars(gateway)):
        assert CANARY not in repr(value)
        assert CANARY not in str(value)
    for write in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError, match="not written"):
            write(gateway)


def test_an_echoed_key_is_blotted_out() -> None:
    """Text of a service that repeats the key loses it."""
    assert BearerGateway(CANARY).redact(f"key {CANARY} of {CANARY}!") == "key *** of ***!"


async def test_a_json_body_of_the_product_endpoint_stands_under_body() -> None:
    """Of a POST, what the product endpoint takes as its JSON body travels together; the rest stays flat."""
    request = await BearerGateway(CANARY).prepare(
        CATALOGUE["CreateResourceLog"],
        {"ClusterId": "cn-shanghai", "ProjectName": "p", "ResourceId": "eas-r-1", "LogStore": "l"},
    )

    assert request.body is not None
    assert json.loads(request.body) == {
        "ClusterId": "cn-shanghai",
        "ResourceId": "eas-r-1",
        "body": {"ProjectName": "p", "LogStore": "l"},
    }


async def test_a_list_in_a_post_stays_a_list() -> None:
    """A JSON body has lists of its own; nothing is joined or moved."""
    logs = [{"NodeId": "n", "Logs": []}]
    request = await BearerGateway(CANARY).prepare(CREATE_DIAGNOSTIC_TASK, {"NodeIds": ["a", "b"], "AiJobLogs": logs})

    assert request.body is not None
    assert json.loads(request.body) == {"NodeIds": ["a", "b"], "AiJobLogs": logs}


@pytest.mark.parametrize("name", ["DescribeResourceLog", "DeleteResourceLog", "GetJobMetrics", "ListClusters"])
async def test_each_method_has_its_place_for_parameters(name: str) -> None:
    """A GET or DELETE has all of them in the query, even those of the product endpoint's path."""
    operation = CATALOGUE[name]
    given = {parameter.name: "x" for parameter in operation.parameters if parameter.type is str}
    request = await BearerGateway(CANARY).prepare(operation, given)

    carried = json.loads(request.body) if request.body else dict(request.query)
    assert carried == given
    assert bool(request.body) == (operation.method == "POST")


# The product endpoints


def product_gateway(credentials: Credentials, **more: Any) -> OpenApiGateway:
    more = {"region": "cn-hangzhou", "now": lambda: 1_760_000_000.9, "random": Random(7)} | more
    return OpenApiGateway(StaticCredentials(credentials), **more)


KEY = AccessKey("LTAIid", CANARY, "sts/+canary==", "default/env")


def signed(request: HttpRequest) -> Mapping[str, str]:
    assert request.sign is not None
    return request.sign()


async def test_each_signature_is_new() -> None:
    """Date and nonce are made when asked for, so no two sends of one request share them."""
    moments = iter([1_760_000_000.9, 1_760_000_100.0])
    gateway = product_gateway(KEY, now=lambda: next(moments))
    request = await gateway.prepare(LIST_SYSLOGS, {"NodeId": "n"})

    first, second = signed(request), signed(request)

    assert first["x-acs-date"] == "2025-10-09T08:53:20Z"
    assert second["x-acs-date"] == "2025-10-09T08:55:00Z"
    assert len(first["x-acs-signature-nonce"]) == 32
    assert first["x-acs-signature-nonce"] != second["x-acs-signature-nonce"]
    assert first["Authorization"] != second["Authorization"]


async def test_nonces_of_two_processes_differ() -> None:
    """Without a given chance nonces come from the system, so a restart repeats none."""
    nonces = set()
    for _ in range(2):
        request = await product_gateway(KEY, random=None).prepare(LIST_SYSLOGS, {})
        nonces.add(signed(request)["x-acs-signature-nonce"])

    assert len(nonces) == 2


async def test_a_bearer_token_is_not_a_signature() -> None:
    """A bearer token travels as the official SDK sends it: no Authorization, and the type by style."""
    gateway = product_gateway(BearerToken(CANARY))
    rpc = await gateway.prepare(LIST_SYSLOGS, {})
    roa = await gateway.prepare(CATALOGUE["GetXtraceToken"], {})

    for request in (rpc, roa):
        assert request.headers["x-acs-bearer-token"] == CANARY
        assert set(signed(request)) == {"x-acs-date", "x-acs-signature-nonce"}
    assert rpc.query == (("SignatureType", "BEARERTOKEN"),)
    assert "x-acs-signature-type" not in rpc.headers
    assert (roa.query, roa.headers["x-acs-signature-type"]) == ((), "BEARERTOKEN")


@pytest.mark.parametrize("value", ["a/../../jobs", "a b", "ü?#", "%2F", "a+b"])
async def test_a_value_never_leaves_its_part_of_the_path(value: str) -> None:
    """Whatever stands in an id, the path keeps its parts."""
    request = await product_gateway(KEY).prepare(
        CATALOGUE["DescribeResourceLog"], {"ClusterId": "c", "ResourceId": value}
    )

    path = request.url.removeprefix("https://pai-eas.cn-hangzhou.aliyuncs.com")
    assert path.count("/") == "/api/v2/resources/c/x/log".count("/")
    assert all("!" <= character <= "~" and character not in "?#+ " for character in path)


@pytest.mark.parametrize("value", ["", ".", ".."])
async def test_a_value_that_names_another_path_is_refused(value: str) -> None:
    """An empty part or dots would make another path of it, escaped or not."""
    with pytest.raises(BadRequestError, match="ResourceId: expected the name of one thing"):
        await product_gateway(KEY).prepare(CATALOGUE["DescribeResourceLog"], {"ClusterId": "c", "ResourceId": value})


async def test_what_only_the_bearer_gateway_takes_is_refused() -> None:
    """A parameter that the product endpoint does not have is not dropped in silence."""
    with pytest.raises(BadRequestError, match="DiagnosticId: the product endpoint has no such parameter"):
        await product_gateway(KEY).prepare(CATALOGUE["ListDiagnosticResults"], {"DiagnosticId": "d"})


async def test_every_secret_ever_used_is_blotted_out() -> None:
    """Text that echoes a secret, plain or as in a URL, loses it; the key's id stays, to be found by."""
    first = product_gateway(KEY)
    await first.prepare(LIST_SYSLOGS, {})
    token = product_gateway(BearerToken("token+1"))
    await token.prepare(LIST_SYSLOGS, {})

    text = f"LTAIid {CANARY} sts/+canary== sts%2F%2Bcanary%3D%3D"
    assert first.redact(text) == "LTAIid *** *** ***"
    assert token.redact("token+1 token%2B1") == "*** ***"


async def test_no_repr_of_the_product_gateway_shows_a_secret() -> None:
    """Neither credentials nor gateway nor request show more than the key's id."""
    gateway = product_gateway(KEY)
    request = await gateway.prepare(LIST_SYSLOGS, {"NodeId": "n"})

    for value in (KEY, BearerToken(CANARY), gateway, request):
        assert CANARY not in repr(value)
        assert "canary" not in repr(value)


async def test_the_clock_probe_holds_no_secret() -> None:
    """The time is asked at one product's root, with nothing in the request."""
    probe = product_gateway(KEY).clock_probe()

    assert (probe.method, probe.url) == ("HEAD", "https://eflo-controller.cn-hangzhou.aliyuncs.com/")
    assert (probe.headers, probe.query, probe.body, probe.sign) == ({}, (), None, None)


def test_gateways_say_which_they_are() -> None:
    """Parameters are checked against the gateway that will carry them."""
    assert product_gateway(KEY).product_endpoint
    assert not BearerGateway(CANARY).product_endpoint


def test_a_product_without_an_address_is_a_mistake_of_the_configuration() -> None:
    """Before anything is sent it is known that an operation has no address in this region."""
    gateway = product_gateway(KEY, region="cn-wulanchabu")

    assert gateway.base_url(LIST_SYSLOGS) == "https://eflo-controller.cn-wulanchabu.aliyuncs.com"
    with pytest.raises(ConfigError, match=r"api\.endpoints\.PaiLLMTrace"):
        gateway.base_url(CATALOGUE["GetXtraceToken"])


def test_an_endpoint_of_a_product_goes_before_site_and_base_url() -> None:
    """Its calls go there; those of other products, and those of the clock, stay where they were."""
    own = {"PaiStudio": "https://own.example/"}
    gateway = BearerGateway("sk-1", site="international", endpoints=own)
    assert gateway.base_url(GET_USER_VIEW_METRICS) == "https://own.example"
    assert gateway.base_url(LIST_SYSLOGS) == "https://api.alibabacloud.com"
    assert gateway.clock_probe().url == "https://api.alibabacloud.com/"
    gateway = BearerGateway("sk-1", base_url="http://proxy", endpoints=own)
    assert gateway.base_url(GET_USER_VIEW_METRICS) == "https://own.example"
    assert gateway.base_url(LIST_SYSLOGS) == "http://proxy"
