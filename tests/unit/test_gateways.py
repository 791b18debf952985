"""What a call looks like on the wire, and that its key shows nowhere."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import replace
from typing import Any

import pytest

from collector.api.gateways import BearerGateway, Key
from collector.api.operations import GET_USER_VIEW_METRICS, LIST_SYSLOGS
from collector.errors import ConfigError

CANARY = "sk-canary-5f2d8c"


class Hidden:
    """A secret as settings hold one."""

    def get_secret_value(self) -> str:
        return CANARY


def test_a_get_carries_its_parameters_in_the_query() -> None:
    """A GET goes to base, product, version and name; numbers and flags travel as text."""
    gateway = BearerGateway(CANARY)

    request = gateway.prepare(
        GET_USER_VIEW_METRICS, {"ResourceGroupID": "rg 1&2", "PageNumber": 1, "ShowOwn": True, "All": False}
    )

    assert (request.method, request.body) == ("GET", None)
    assert request.url == "https://api.aliyun.com/api/PaiStudio/2022-01-12/GetUserViewMetrics"
    assert request.query == (
        ("ResourceGroupID", "rg 1&2"), ("PageNumber", "1"), ("ShowOwn", "true"), ("All", "false"),
    )  # fmt: skip
    assert request.headers == {"Authorization": f"Bearer {CANARY}", "Content-Type": "application/json"}


def test_a_post_carries_its_parameters_as_json() -> None:
    """A POST has no query; its JSON body keeps text, flags and any script."""
    parameters: dict[str, Any] = {
        "FromTime": "1687363300",
        "NodeId": "e01-cn-9lb36u4s601",
        "Reverse": True,
        "Query": "é",
    }

    request = BearerGateway(CANARY).prepare(LIST_SYSLOGS, parameters)

    assert (request.method, request.query) == ("POST", ())
    assert request.url == "https://api.aliyun.com/api/eflo-controller/2022-12-15/ListSyslogs"
    assert request.body is not None
    assert json.loads(request.body) == parameters


def test_a_post_without_parameters_has_an_empty_object() -> None:
    """A POST always has a JSON body, so that its content type is true."""
    assert BearerGateway(CANARY).prepare(LIST_SYSLOGS, {}).body == b"{}"


def test_a_delete_carries_its_parameters_in_the_query() -> None:
    """A DELETE is spelled like a GET; a list is joined with commas and an object is compact JSON."""
    operation = replace(GET_USER_VIEW_METRICS, name="DeleteResourceLog", product="eas", method="DELETE")

    request = BearerGateway(CANARY).prepare(operation, {"Ids": ["a", "b"], "Label": {"k": "v"}})

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


def test_the_key_shows_in_no_repr_and_cannot_be_written() -> None:
    """Neither the key, the gateway nor a request shows the key, and pickling it fails."""
    gateway = BearerGateway(Hidden(), site="china")
    request = gateway.prepare(LIST_SYSLOGS, {"NodeId": "n"})

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
