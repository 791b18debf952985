"""Credentials of the official default chain: found, kept fresh, renewed, and never shown."""

from __future__ import annotations

import importlib
import json
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from collector.api.credentials import (
    ASK_SECONDS,
    RENEWAL_SECONDS_MIN,
    AccessKey,
    BearerToken,
    Credentials,
    DefaultChain,
    StaticCredentials,
)
from collector.errors import ConfigError, CredentialsError, TransientError
from tests.support.default_chain import empty_chain
from tests.support.virtual_clock import ManualClock

SECRET = "canary-secret"


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The library's view of the environment, with nothing in it."""
    return empty_chain(monkeypatch, tmp_path)


def write_profile(home: Path, key_id: str, token: str = "token-1") -> None:
    profile = {
        "name": "default", "mode": "StsToken", "access_key_id": key_id, "access_key_secret": SECRET, "sts_token": token,
    }  # fmt: skip
    (home / ".aliyun").mkdir(exist_ok=True)
    (home / ".aliyun" / "config.json").write_text(json.dumps({"current": "default", "profiles": [profile]}))


async def test_the_environment_comes_first(environment: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key in the environment wins over a profile, and says where it came from as the SDK says it."""
    write_profile(tmp_path, "id-profile")
    monkeypatch.setattr(environment, "environment_access_key_id", "id-env")
    monkeypatch.setattr(environment, "environment_access_key_secret", SECRET)

    assert await DefaultChain(ManualClock()).get() == AccessKey("id-env", SECRET, "", "default/env")


async def test_a_profile_gives_temporary_credentials(environment: Any, tmp_path: Path) -> None:
    """The profile of the official command line tool is found, with its security token."""
    write_profile(tmp_path, "id-profile")

    found = await DefaultChain(ManualClock()).get()

    assert found == AccessKey("id-profile", SECRET, "token-1", "default/cli_profile/static_sts")


def test_the_chain_is_the_librarys(environment: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every source of the library's own default chain is asked, in its order."""
    monkeypatch.setattr(environment, "enable_oidc_credential", True)
    for name in ("environment_oidc_token_file", "environment_role_arn", "environment_oidc_provider_arn"):
        monkeypatch.setattr(environment, name, "x")
    monkeypatch.setattr(environment, "environment_credentials_uri", "http://127.0.0.1:9/")
    official = importlib.import_module("alibabacloud_credentials.provider").DefaultCredentialsProvider()

    expected = [type(each) for each in official._DefaultCredentialsProvider__providers_chain]
    ours = [provider.get.__self__ for provider in DefaultChain(ManualClock())._chain._providers]  # type: ignore[attr-defined]
    assert [type(each) for each in ours] == expected
    assert len(ours) == 5


async def test_without_any_key_the_sources_are_named(environment: Any) -> None:
    """Where nothing gives a key, one line says what was tried, and the advice how to set one."""
    with pytest.raises(CredentialsError) as caught:
        await DefaultChain(ManualClock()).get()

    assert caught.value.args[0] == (
        "no access key was found: tried the environment (has none), the profile of the aliyun command (has none), "
        "the credentials file (has none)"
    )
    assert "ALIBABA_CLOUD_ACCESS_KEY_ID" in caught.value.hint


class Source:
    """Stands in for the library's providers."""

    def __init__(self, *found: AccessKey | Exception) -> None:
        self.found = list(found)
        self.asked = 0
        self.threads: set[int] = set()

    def get(self) -> Any:
        self.asked += 1
        self.threads.add(threading.get_ident())
        found = self.found.pop(0) if len(self.found) > 1 else self.found[0]
        if isinstance(found, Exception):
            raise found

        class Found:
            get_access_key_id = staticmethod(lambda: found.key_id)
            get_access_key_secret = staticmethod(lambda: found.secret)
            get_security_token = staticmethod(lambda: found.security_token)
            get_provider_name = staticmethod(lambda: "test")

        return Found


def chain_of(source: Source, monkeypatch: pytest.MonkeyPatch, clock: ManualClock) -> DefaultChain:
    from collector.api import credentials

    monkeypatch.setattr(
        credentials, "_providers", lambda library, environment: [credentials._Provider("a test", source.get)]
    )
    return DefaultChain(clock)


def key(number: int) -> AccessKey:
    return AccessKey(f"id-{number}", SECRET, f"token-{number}", "default/test")


async def test_newer_credentials_are_taken_over_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The chain is asked off the event loop, and again only after a while; what it then gives is used."""
    clock, source = ManualClock(), Source(key(1), key(2))
    chain = chain_of(source, monkeypatch, clock)

    assert [await chain.get(), await chain.get()] == [key(1), key(1)]
    assert source.asked == 1
    await clock.advance(ASK_SECONDS)
    assert [await chain.get(), await chain.get()] == [key(2), key(2)]
    assert source.asked == 2
    assert threading.get_ident() not in source.threads


async def test_a_failing_chain_leaves_what_is_known_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """The chain renews long before anything expires, so its failure is no reason to stop yet."""
    clock, source = ManualClock(), Source(key(1), OSError("metadata"), key(2))
    chain = chain_of(source, monkeypatch, clock)
    await chain.get()

    await clock.advance(ASK_SECONDS)
    assert await chain.get() == key(1)
    await clock.advance(ASK_SECONDS)
    assert await chain.get() == key(2)


async def test_refused_credentials_are_looked_for_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal asks a new chain; calls that were refused together share what it found."""
    clock, source = ManualClock(), Source(key(1), key(2))
    chain = chain_of(source, monkeypatch, clock)
    refused = await chain.get()

    assert await chain.renew(refused)
    assert await chain.renew(refused)
    assert source.asked == 2
    assert await chain.get() == key(2)


async def test_the_same_credentials_again_are_no_renewal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the chain gives what was refused, there is nothing to repeat a call with, and it is asked rarely."""
    clock, source = ManualClock(), Source(key(1))
    chain = chain_of(source, monkeypatch, clock)
    refused = await chain.get()

    assert not await chain.renew(refused)
    assert not await chain.renew(refused)
    assert source.asked == 2
    await clock.advance(RENEWAL_SECONDS_MIN)
    assert not await chain.renew(refused)
    assert source.asked == 3


async def test_a_chain_that_fails_at_a_renewal_is_asked_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Expired credentials without others at present are a failure that passes, not a wrong key."""
    clock, source = ManualClock(), Source(key(1), OSError("metadata"), key(2))
    chain = chain_of(source, monkeypatch, clock)
    refused = await chain.get()

    with pytest.raises(TransientError, match="has no others at present"):
        await chain.renew(refused)
    await clock.advance(RENEWAL_SECONDS_MIN)
    assert await chain.renew(refused)


async def test_no_text_of_the_chain_is_repeated(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The library quotes answers with secrets in errors and on stderr; only the status comes through."""
    error = ValueError(f'error refreshing from http://x, http_code=403, result: {{"AccessKeySecret":"{SECRET}"}}')
    chain = chain_of(Source(error), monkeypatch, ManualClock())

    with pytest.raises(CredentialsError) as caught:
        await chain.get()
    import logging

    logging.getLogger("credentials").warning("answer %s", SECRET)
    logging.getLogger("apscheduler.executors.default").error("answer %s", SECRET)

    assert caught.value.args[0] == "no access key was found: tried a test (HTTP 403)"
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None
    assert SECRET not in "".join(capfd.readouterr())


def test_a_missing_library_is_said_at_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the optional package the mistake says how to install it."""
    monkeypatch.setitem(sys.modules, "alibabacloud_credentials.provider", None)

    with pytest.raises(ConfigError, match=r"pip install 'pai-collector\[openapi\]'"):
        DefaultChain(ManualClock())


@pytest.mark.parametrize(
    "credentials",
    [
        AccessKey("", SECRET), AccessKey("id", ""), AccessKey("id", f"{SECRET}\n"), AccessKey("i d", SECRET),
        AccessKey("id", SECRET, f"{SECRET}\u00e9"), BearerToken(""), BearerToken(f"{SECRET}\r\nX-Evil: 1"),
    ],
)  # fmt: skip
def test_what_cannot_stand_in_a_header_is_refused_unseen(credentials: Credentials) -> None:
    """An unusable part is named, not shown."""
    with pytest.raises(CredentialsError) as caught:
        StaticCredentials(credentials)

    assert SECRET not in str(caught.value)


async def test_static_credentials_stay() -> None:
    """There is nothing to renew where nothing changes."""
    static = StaticCredentials(BearerToken("t"))

    assert await static.get() == BearerToken("t")
    assert not await static.renew(BearerToken("t"))
