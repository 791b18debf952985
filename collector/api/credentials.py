"""What proves to a product endpoint who calls: found by the official default chain, kept fresh."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol

import structlog

from collector.api.gateways import ChangingSecret
from collector.clock import Clock
from collector.errors import ConfigError, CredentialsError, TransientError
from collector.proxies import METADATA_HOST, hidden_proxies, proxy_for

ASK_SECONDS: Final = 30.0
"""So often the chain is asked whether it has newer credentials. It renews them several minutes
before they expire, so what was kept meanwhile is still good."""
CHAIN_SECONDS_MAX: Final = 30.0
"""So long the chain may take, which asks metadata services or runs a command of the user's."""
RENEWAL_SECONDS_MIN: Final = 5.0
"""Calls that are refused together share one renewal."""

_PARTS: Final = ("alibabacloud_credentials", "alibabacloud_credentials.provider", "alibabacloud_credentials.utils")
_INSTALL: Final = "pip install 'pai-collector[openapi]'"
_HINT: Final = (
    "Set ALIBABA_CLOUD_ACCESS_KEY_ID and ALIBABA_CLOUD_ACCESS_KEY_SECRET (and ALIBABA_CLOUD_SECURITY_TOKEN for "
    "temporary ones), or any other source of the official default chain."
)

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class AccessKey:
    """An access key, a temporary one where it has a security token. Its repr shows no secret."""

    key_id: str
    secret: str = field(repr=False)
    security_token: str = field(default="", repr=False)
    provider: str = ""
    """Where it came from, as the official SDK tells the service: `static_ak`, `default/env` ..."""


@dataclass(frozen=True, slots=True)
class BearerToken:
    """A token that the product endpoints take in place of a signature."""

    token: str = field(repr=False)


Credentials = AccessKey | BearerToken


class CredentialsSource(Protocol):
    """Where a gateway takes its credentials from."""

    async def get(self) -> Credentials:
        """Credentials that are not known to have expired.

        Raises CredentialsError where there are none, TransientError where there are none at present.
        """

    async def renew(self, refused: Credentials) -> bool:
        """Look for others after the service refused `refused`; return False if there are none.

        Raises TransientError if they cannot be had at present.
        """

    async def reload(self) -> bool:
        """Look for others, whatever the service thinks of these; true where they have changed."""


class StaticCredentials:
    """Credentials that never change."""

    def __init__(self, credentials: Credentials) -> None:
        """Raises CredentialsError for a value that cannot stand in a header."""
        self._credentials = usable(credentials)

    async def get(self) -> Credentials:
        return self._credentials

    async def renew(self, refused: Credentials) -> bool:
        return False

    async def reload(self) -> bool:
        return False


class ChangingToken:
    """A bearer token that may be replaced while the program runs, such as a `keys.KeyFile`."""

    def __init__(self, secret: ChangingSecret) -> None:
        self._secret = secret

    async def get(self) -> BearerToken:
        return BearerToken(self._secret.get_secret_value())

    async def renew(self, refused: Credentials) -> bool:
        # Another call that was refused may have looked already.
        return await self.get() != refused or self._secret.reread()

    async def reload(self) -> bool:
        return self._secret.reread()


class DefaultChain:
    """The official default chain: the environment, an OIDC role, the command line tool's profile, the
    credentials file, this ECS instance's role, a credentials URI; the first that has a key stays.

    The library renews temporary credentials minutes before they expire. Its asynchronous interface
    holds a thread's lock while it awaits, which would stop the event loop, so the chain is always
    asked in a thread of its own.
    """

    def __init__(self, clock: Clock) -> None:
        """Raises ConfigError when the library is not installed. Nothing is read or asked yet."""
        self._clock = clock
        self._chain = _Chain()
        self._lock = asyncio.Lock()
        self._current: AccessKey | None = None
        self._asked_at = -float("inf")
        self._renewed_at = -float("inf")
        self._failing = False

    def __repr__(self) -> str:
        return f"DefaultChain(current={self._current!r})"

    async def get(self) -> AccessKey:
        if self._current is not None and not self._is_due():
            return self._current
        async with self._lock:
            if self._current is None:
                self._current = await self._first()
            elif self._is_due():
                await self._refresh(self._chain)
            return self._current

    async def renew(self, refused: Credentials) -> bool:
        async with self._lock:
            if self._current is None or self._current != refused:
                return True
            now = self._clock.monotonic()
            if now - self._renewed_at >= RENEWAL_SECONDS_MIN:
                self._renewed_at = now
                # What the library keeps may be wrong, such as by this machine's clock: it starts anew.
                chain = _Chain()
                if await self._refresh(chain):
                    self._chain = chain
            if self._failing:
                raise TransientError(
                    "the service refused the temporary credentials, and the default chain has no others at present",
                    hint="The call is repeated by itself. " + _HINT,
                )
            return self._current != refused

    async def reload(self) -> bool:
        async with self._lock:
            before = self._current
            if before is not None:
                # A chain that is asked anew looks everywhere again; what the library keeps is left behind.
                chain = _Chain()
                if await self._refresh(chain):
                    self._chain = chain
            return self._current != before

    def _is_due(self) -> bool:
        return self._clock.monotonic() - self._asked_at >= ASK_SECONDS

    async def _first(self) -> AccessKey:
        found = await _ask(self._chain)
        if isinstance(found, AccessKey):
            self._asked_at = self._clock.monotonic()
            return found
        raise CredentialsError(f"no access key was found: {found.text}", hint=_HINT)

    async def _refresh(self, chain: _Chain) -> bool:
        """Ask `chain`. Where it fails, what is known stays in use until the service refuses it."""
        found = await _ask(chain)
        self._asked_at = self._clock.monotonic()
        if isinstance(found, _NotFound):
            if not self._failing:
                _log.warning("credentials_refresh_failed", reason=found.text)
            self._failing = True
            return False
        if found != self._current:
            _log.info("credentials_renewed", provider=found.provider)
        self._current, self._failing = found, False
        return True


def usable(credentials: Credentials) -> Credentials:
    """The same credentials. Raises CredentialsError where a part is empty or cannot stand in a header."""
    parts = (
        {"bearer token": credentials.token}
        if isinstance(credentials, BearerToken)
        else {"access key id": credentials.key_id, "access key secret": credentials.secret}
    )
    if isinstance(credentials, AccessKey) and credentials.security_token:
        parts["security token"] = credentials.security_token
    for name, value in parts.items():
        if not re.fullmatch(r"[!-~]+", value):
            wrong = "holds blanks or characters that none has" if value else "is empty"
            raise CredentialsError(f"the {name} {wrong}", hint=_HINT)
    return credentials


class _NotFound(NamedTuple):
    text: str


class _Provider(NamedTuple):
    words: str
    get: Callable[[], Any]
    url: str = ""
    """What it asks, where the library would not heed NO_PROXY and hand credentials to a proxy."""

    @property
    def is_direct(self) -> bool:
        return bool(self.url) and proxy_for(self.url) is None


class _Chain:
    """The library's providers, in the order of its default chain.

    Its own class for the chain is not used: each of its instances starts a thread that never ends,
    and a renewal needs a new instance.
    """

    def __init__(self) -> None:
        try:
            library = importlib.import_module("alibabacloud_credentials.provider")
            environment = importlib.import_module("alibabacloud_credentials.utils.auth_util")
        except ImportError as error:
            is_missing = isinstance(error, ModuleNotFoundError) and error.name in _PARTS
            mistake = 'api.gateway: "openapi" needs the package alibabacloud-credentials' + (
                f"; {_INSTALL}" if is_missing else f", which cannot be loaded: {error}"
            )
            raise ConfigError([mistake]) from None
        _silence()
        self._providers = list(_providers(library, environment))
        self._chosen: _Provider | None = None

    def walk(self) -> AccessKey | _NotFound:
        """Blocking. Never raises, and no text of the library's leaves: it quotes answers that hold secrets."""
        tried = []
        for provider in [self._chosen] if self._chosen else self._providers:
            try:
                with hidden_proxies() if provider.is_direct else contextlib.nullcontext():
                    found = _access_key(provider.get())
            except Exception as error:
                tried.append(f"{provider.words} ({_kind(error)})")
            else:
                self._chosen = provider
                return found
        return _NotFound(f"tried {', '.join(tried)}")


async def _ask(chain: _Chain) -> AccessKey | _NotFound:
    try:
        async with asyncio.timeout(CHAIN_SECONDS_MAX):
            return await asyncio.to_thread(chain.walk)
    except TimeoutError:
        return _NotFound(f"the default chain took more than {CHAIN_SECONDS_MAX:.0f} s")


def _providers(library: Any, environment: Any) -> list[_Provider]:
    chain = [_Provider("the environment", library.EnvironmentVariableCredentialsProvider().get_credentials)]
    if environment.enable_oidc_credential:
        chain.append(_Provider("the OIDC role", library.OIDCRoleArnCredentialsProvider().get_credentials))
    chain.append(
        _Provider("the profile of the aliyun command", library.CLIProfileCredentialsProvider().get_credentials)
    )
    chain.append(_Provider("the credentials file", library.ProfileCredentialsProvider().get_credentials))
    if environment.environment_ecs_metadata_disabled.lower() != "true":
        # Without its background thread: the chain is asked often enough.
        role = library.EcsRamRoleCredentialsProvider(async_update_enabled=False)
        chain.append(_Provider("the role of this ECS instance", role.get_credentials, f"http://{METADATA_HOST}"))
    if uri := environment.environment_credentials_uri:
        chain.append(_Provider("the credentials URI", library.URLCredentialsProvider().get_credentials, uri))
    return chain


def _access_key(found: Any) -> AccessKey:
    key = AccessKey(
        found.get_access_key_id() or "",
        found.get_access_key_secret() or "",
        found.get_security_token() or "",
        f"default/{found.get_provider_name()}",
    )
    usable(key)
    return key


def _kind(error: Exception) -> str:
    """What may be said of an error: its text may quote a service's answer, and with it a secret."""
    if isinstance(error, CredentialsError):
        return str(error.args[0])
    status = re.search(r"http_?code\W{1,3}(\d{3})\b", str(error), re.IGNORECASE)
    if status:
        return f"HTTP {status[1]}"
    return "has none" if type(error).__name__ == "CredentialException" else type(error).__name__


def _silence() -> None:
    """The library writes what goes wrong to stderr by itself, with the answers it got, secrets and all."""
    for name in ("credentials", "apscheduler"):
        logger = logging.getLogger(name)
        logger.handlers = [logging.NullHandler()]
        logger.propagate = False
