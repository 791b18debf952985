"""A proxy of the environment: one rule for the API and for the store, and nothing of this machine goes through it."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from collector.api.credentials import AccessKey, DefaultChain
from collector.errors import CredentialsError, StoreUnavailable, TransientError
from collector.store.address import Credentials, ServerAddress
from collector.store.server import ServerStore
from tests.integration.test_client import ONCE, PAGE, calling, scripted, serve
from tests.support.default_chain import empty_chain
from tests.support.forward_proxy import ForwardProxy, forward_proxy
from tests.support.sql_server import SqlServer, sql_server
from tests.support.virtual_clock import ManualClock

PASSWORD = "proxy-canary-91"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment without proxies."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv(name.upper(), "")


def use(proxy: ForwardProxy, monkeypatch: pytest.MonkeyPatch, *, user: str = "") -> None:
    url = proxy.url.replace("http://", f"http://{user}") if user else proxy.url
    monkeypatch.setenv("HTTP_PROXY", url)
    monkeypatch.setenv("HTTPS_PROXY", url)


async def test_calls_go_through_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """With user and password of its URL; the call itself is the same."""
    async with serve(scripted(PAGE)) as service, forward_proxy(service.base_url) as proxy:
        use(proxy, monkeypatch, user=f"robot:{PASSWORD}@")
        async with calling("http://api.example.test") as api:
            await api.syslogs()

    (head,) = proxy.heads
    assert head.startswith("POST http://api.example.test/api/eflo-controller/")
    wanted = base64.b64encode(f"robot:{PASSWORD}".encode()).decode()
    assert f"Proxy-Authorization: Basic {wanted}" in head
    (request,) = service.requests
    assert request.headers["Host"] == "api.example.test"


async def test_calls_to_this_machine_and_exempted_hosts_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """A simulator on loopback is reached as without a proxy."""
    async with serve(scripted(PAGE)) as service, forward_proxy() as proxy:
        use(proxy, monkeypatch)
        async with calling(service.base_url) as api:
            await api.syslogs()

    assert not proxy.heads
    assert len(service.requests) == 1


@pytest.mark.parametrize("base_url", ["http://api.example.test", "https://api.example.test"])
@pytest.mark.parametrize("is_up", [True, False])
async def test_a_proxy_that_refuses_is_named_without_its_password(
    base_url: str, is_up: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that wants a password, and one that cannot be reached."""
    async with forward_proxy() as proxy:
        proxy.reply = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"
        use(proxy if is_up else ForwardProxy("http://127.0.0.1:9"), monkeypatch, user=f"robot:{PASSWORD}@")
        async with calling(base_url, policy=ONCE) as api:
            with pytest.raises(TransientError) as raised:
                await api.syslogs()

    said = f"{raised.value} {raised.value.hint}"
    assert PASSWORD not in said
    if is_up:
        assert "407" in said
    if not is_up or base_url.startswith("https"):
        assert "through the proxy http://127.0.0.1:" in said


async def test_the_password_of_a_store_on_this_machine_stays_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver's own reading of the environment is overruled."""
    async with sql_server(tmp_path) as server, forward_proxy() as proxy:
        use(proxy, monkeypatch)
        store = await opened(server, server.host)
        await store.close()

    assert not proxy.heads


async def test_a_store_elsewhere_is_reached_through_the_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the same rule as the API."""
    async with sql_server(tmp_path) as server, forward_proxy(server.url) as proxy:
        use(proxy, monkeypatch)
        store = await opened(server, "clickhouse.example.test")
        assert await store.fetch("SELECT 1") == [[1]]
        await store.close()
        monkeypatch.setenv("NO_PROXY", ".example.test")
        before = len(proxy.heads)
        with pytest.raises(StoreUnavailable):
            await opened(server, "clickhouse.example.test")

    assert proxy.heads
    assert all("http://clickhouse.example.test:" in head for head in proxy.heads)
    assert len(proxy.heads) == before


async def test_a_store_behind_a_proxy_that_is_away_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the proxy's password or the store's."""
    monkeypatch.setenv("HTTP_PROXY", f"http://robot:{PASSWORD}@127.0.0.1:9")
    address = ServerAddress("http", "clickhouse.example.test", 8123, "writer")
    with pytest.raises(StoreUnavailable, match=r"through the proxy http://127\.0\.0\.1:9") as raised:
        await ServerStore.open(address, Credentials("store-canary-17"))

    assert PASSWORD not in str(raised.value)
    assert "store-canary-17" not in str(raised.value)


async def opened(server: SqlServer, host: str) -> ServerStore:
    address = ServerAddress("http", host, server.port, server.writer)
    return await ServerStore.open(address, Credentials(server.writer_password))


async def test_credentials_of_this_instance_are_not_asked_through_a_proxy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Neither those of the metadata service nor those of a credentials URI on this machine."""
    body = {
        "Code": "Success", "AccessKeyId": "id-uri", "AccessKeySecret": "secret-uri", "SecurityToken": "token-uri",
        "Expiration": "2099-01-01T00:00:00Z",
    }  # fmt: skip
    async with serve(scripted(body)) as service, forward_proxy() as proxy:
        use(proxy, monkeypatch)
        library = empty_chain(monkeypatch, tmp_path)
        monkeypatch.setattr(library, "environment_credentials_uri", f"{service.base_url}/credentials")
        found = await DefaultChain(ManualClock()).get()

    assert isinstance(found, AccessKey)
    assert found.key_id == "id-uri"
    assert not proxy.heads


async def test_a_chain_without_a_key_says_so_beside_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment is as before once the chain was walked."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true")
    chain = DefaultChain(ManualClock())
    chain._chain._providers = []
    with pytest.raises(CredentialsError):
        await chain.get()
