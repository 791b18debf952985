"""Which proxy a URL is requested through, and what is shown of it."""

from __future__ import annotations

import os

import pytest

from collector.errors import ConfigError
from collector.proxies import Proxy, exempt_host, hidden_proxies, proxy_for
from collector.redaction import redact


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment without proxies."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


def through(url: str) -> str | None:
    proxy = proxy_for(url)
    return None if proxy is None else str(proxy)


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
def test_the_environment_names_the_proxy_of_a_scheme(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In either case, with or without a scheme of its own."""
    for value in ("http://proxy.corp:3128", "proxy.corp:3128"):
        monkeypatch.setenv(name, value)
        assert through("https://api.aliyun.com/x") == "http://proxy.corp:3128"
    if name != "ALL_PROXY":
        assert through("http://clickhouse.corp:8123") is None


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8123",
        "http://127.0.0.2:8123",
        "http://localhost:8123",
        "http://[::1]:8123",
        "https://127.0.0.1",
    ],
)
def test_this_machine_is_reached_without_a_proxy(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever NO_PROXY says; and so is what hands out this instance's credentials."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://proxy.corp:3128")
    assert through(url) is None
    assert through("http://100.100.100.200/latest") is None
    assert through("http://clickhouse.corp:8123") == "http://proxy.corp:3128"


@pytest.mark.parametrize(
    ("no_proxy", "host", "is_direct"),
    [
        ("clickhouse.corp", "clickhouse.corp", True),
        (".corp", "clickhouse.corp", True),
        ("corp", "clickhouse.corp", True),
        ("house.corp", "clickhouse.corp", False),
        ("clickhouse.corp:8123", "clickhouse.corp", True),
        ("clickhouse.corp:9000", "clickhouse.corp", False),
        ("*", "clickhouse.corp", True),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8, 192.168.0.0/16", "172.16.0.1", False),
        ("fd00::/8", "[fd12::1]", True),
        ("nonsense/99,, ", "10.1.2.3", False),
    ],
)
def test_no_proxy_names_hosts_domains_ports_and_networks(
    no_proxy: str, host: str, is_direct: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An entry is a host, a domain, a host with its port, a network, or a star for all."""
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.corp:3128")
    monkeypatch.setenv("NO_PROXY", no_proxy)

    assert (through(f"http://{host}:8123/x") is None) is is_direct


@pytest.mark.parametrize("value", ["socks5://proxy.corp:1080", "http://", "http://user:s3cret-pw@proxy.corp:0"])
def test_a_proxy_that_cannot_be_used_is_refused_by_name(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable, the value without its password, and what would be right."""
    monkeypatch.setenv("HTTPS_PROXY", value)
    with pytest.raises(ConfigError, match=r"HTTPS_PROXY: got .*; expected http://host:port") as raised:
        proxy_for("https://api.aliyun.com")

    assert "s3cret-pw" not in str(raised.value)


def test_a_proxy_shows_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither as text nor as repr; and it is redacted in what libraries say."""
    monkeypatch.setenv("HTTP_PROXY", "http://robot:s3cret%2Fpw@proxy.corp:3128")
    proxy = proxy_for("http://clickhouse.corp")

    assert proxy is not None
    assert str(proxy) == "http://proxy.corp:3128"
    assert "s3cret" not in repr(proxy)
    assert (
        redact("cannot connect to http://robot:s3cret%2Fpw@proxy.corp")
        == "cannot connect to http://robot:***@proxy.corp"
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [({}, "NO_PROXY=db"), ({"NO_PROXY": "a,b"}, "NO_PROXY=a,b,db"), ({"no_proxy": "a"}, "no_proxy=a,db"),
     ({"NO_PROXY": "*"}, "NO_PROXY=*"), ({"NO_PROXY": "db"}, "NO_PROXY=db")],
)  # fmt: skip
def test_a_host_is_exempted_for_libraries(before: dict[str, str], after: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is added to the variable that is in use."""
    monkeypatch.setenv("NO_PROXY", "")
    for name, value in before.items():
        monkeypatch.setenv(name, value)
    exempt_host("db")

    name, _, value = after.partition("=")
    assert os.environ[name] == value


def test_hidden_proxies_are_hidden_from_libraries_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment is as before afterwards; the program's own requests still know their proxy."""
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.corp:3128")
    with hidden_proxies():
        assert "HTTP_PROXY" not in os.environ
        assert proxy_for("http://clickhouse.corp") == Proxy("http://proxy.corp:3128")

    assert os.environ["HTTP_PROXY"] == "http://proxy.corp:3128"
