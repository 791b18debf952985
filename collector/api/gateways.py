"""How a call is spelled on the wire, and what proves who makes it."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, runtime_checkable

from collector.catalogue.operation import Operation, Place, Product
from collector.errors import ApiError, ConfigError, CredentialsError

KEY_VARIABLE = "DASHSCOPE_API_KEY"
"""The environment variable that holds the bearer key."""

SITES: Final[Mapping[str, str]] = {
    "china": "https://api.aliyun.com",
    "international": "https://api.alibabacloud.com",
}
"""Base URL of each site of the bearer gateway."""

REDACTED: Final = "***"
KEYS_MAX: Final = 64
"""So many keys are remembered, to blot them out of what services echo."""


Renew = Callable[[ApiError], Awaitable[bool]]
"""Looks for other credentials after a call failed; False where the failure is not of the kind that others cure,
or there are none. Raises TransientError where they cannot be had at present."""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request, complete but for the connection."""

    method: str
    url: str
    """Without query. Percent-encoded, and sent as it is."""
    query: tuple[tuple[str, str], ...] = ()
    """Not encoded yet."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """May hold the key, so a repr leaves them out."""
    body: bytes | None = None
    sign: Callable[[], Mapping[str, str]] | None = field(default=None, repr=False)
    """Further headers, which no two sends may share: asked anew right before each physical one."""
    renew: Renew | None = field(default=None, repr=False)


class Secret(Protocol):
    """A value that no repr shows; pydantic's SecretStr is one."""

    def get_secret_value(self) -> str: ...


@runtime_checkable
class ChangingSecret(Secret, Protocol):
    """A secret that may be replaced while the program runs."""

    def reread(self) -> bool:
        """Look again; true when it is another one now."""


ApiKey = str | ChangingSecret
"""A bearer key: one that stays, or one that may be replaced."""


class Key:
    """A bearer key. Neither repr nor str shows it, and it cannot be pickled."""

    __slots__ = ("_value",)

    def __init__(self, value: str, *, named: str = f"{KEY_VARIABLE}:") -> None:
        """Raises ConfigError for a key that is empty or cannot stand in a header; `named` begins its text."""
        value = value.strip()
        if not value:
            raise ConfigError([f"{named} is empty; expected the API key, such as sk-..."])
        if not all("!" <= character <= "~" for character in value):
            raise ConfigError([f"{named} holds blanks or characters that no key has; copy the key again"])
        self._value = value

    def get_secret_value(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return f"Key({REDACTED!r})"

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise TypeError("a key is not written anywhere")


class Gateway(Protocol):
    """One way to reach the services."""

    @property
    def product_endpoint(self) -> bool:
        """What `coerce_parameters` wants to know."""

    def base_url(self, operation: Operation) -> str:
        """Scheme, host and path prefix that serve `operation`. Raises ConfigError where none does."""

    async def prepare(self, operation: Operation, parameters: Mapping[str, Any]) -> HttpRequest:
        """The request of one attempt. Parameters are as `coerce_parameters` returns them.

        Raises CredentialsError or TransientError where the credentials cannot be had, BadRequestError
        for parameters that cannot be sent, ConfigError as `base_url` does.
        """

    def clock_probe(self) -> HttpRequest:
        """A request that tells the service's time, holds no secret and is no operation."""

    async def reload(self) -> bool:
        """Look for other credentials, whatever the service thinks of these; true where they have changed."""

    def redact(self, text: str) -> str:
        """`text` with every secret of this gateway blotted out: services echo what they were sent."""


class BearerGateway:
    """`{base}/api/{product}/{version}/{operation}` with `Authorization: Bearer KEY`.

    Parameters of GET and DELETE travel in the query, those of POST as a JSON body, in which what the
    product endpoint takes as its JSON body stands under `body`. Nothing on the wire carries a region.
    """

    product_endpoint = False

    def __init__(
        self,
        key: str | Secret,
        *,
        site: str = "china",
        base_url: str = "",
        endpoints: Mapping[str, str] | None = None,
    ) -> None:
        """`base_url` replaces the site's, for a proxy or the simulator, and `endpoints` a product's.

        A key that is a ChangingSecret is looked at again when the service refuses it.

        Raises ConfigError for an unknown site or an unusable key.
        """
        if site not in SITES:
            raise ConfigError([f"api.site: got {site!r}; expected one of {', '.join(SITES)}"])
        self._source = key if isinstance(key, ChangingSecret) else None
        self._key = Key(key if isinstance(key, str) else key.get_secret_value())
        self._used = [self._key]
        self._site = site
        self._base_url = base_url.rstrip("/")
        self._endpoints = {name: url.rstrip("/") for name, url in (endpoints or {}).items()}

    def __repr__(self) -> str:
        return f"BearerGateway(site={self._site!r}, base_url={self._base_url!r})"

    def base_url(self, operation: Operation) -> str:
        """Scheme, host and path prefix that serve `operation`."""
        given = self._endpoints.get(operation.product, self._base_url)
        return given or SITES["china" if operation.one_host else self._site]

    async def prepare(self, operation: Operation, parameters: Mapping[str, Any]) -> HttpRequest:
        url = f"{self.base_url(operation)}/api/{operation.product}/{operation.version}/{operation.action}"
        headers = {
            "Authorization": f"Bearer {self._key.get_secret_value()}",
            "Content-Type": "application/json",
        }
        if operation.method == "POST":
            body = json.dumps(_post_body(operation, parameters), separators=(",", ":")).encode()
            return HttpRequest("POST", url, headers=headers, body=body, renew=self._renewer())
        query = tuple((name, _query_value(value)) for name, value in parameters.items())
        return HttpRequest(operation.method, url, query=query, headers=headers, renew=self._renewer())

    def clock_probe(self) -> HttpRequest:
        given = self._endpoints.get(Product.EFLO_CONTROLLER, self._base_url)
        return HttpRequest("HEAD", f"{given or SITES[self._site]}/")

    async def reload(self) -> bool:
        if self._source is None or not self._source.reread():
            return False
        self._key = Key(self._source.get_secret_value())
        self._used = [*self._used[1 - KEYS_MAX :], self._key]
        return True

    def redact(self, text: str) -> str:
        # Longest first, so that a key that begins with another one leaves no rest behind.
        for key in sorted((each.get_secret_value() for each in self._used), key=len, reverse=True):
            text = text.replace(key, REDACTED)
        return text

    def _renewer(self) -> Renew | None:
        if self._source is None:
            return None
        used = self._key

        async def renew(error: ApiError) -> bool:
            if not isinstance(error, CredentialsError):
                return False
            # Another call that was refused may have looked already.
            return self._key is not used or await self.reload()

        return renew


def _post_body(operation: Operation, parameters: Mapping[str, Any]) -> dict[str, Any]:
    inner = {
        name: value
        for name, value in parameters.items()
        if (known := operation.parameter(name)) is not None and known.place is Place.JSON
    }
    outer = {name: value for name, value in parameters.items() if name not in inner}
    return {**outer, "body": inner} if inner else outer


def _query_value(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case list() | tuple():
            return ",".join(_query_value(part) for part in value)
        case dict():
            return json.dumps(value, separators=(",", ":"))
        case _:
            return str(value)
