"""The gateway to the regional product endpoints, signed as the official SDKs sign."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from random import Random, SystemRandom
from typing import Any, Final
from urllib.parse import quote, urlsplit

from yarl import URL

from collector.api.credentials import AccessKey, BearerToken, Credentials, CredentialsSource
from collector.api.gateways import REDACTED, HttpRequest, Renew
from collector.api.hosts import Hosts
from collector.api.reactions import is_renewable
from collector.api.signing import authorization, content_sha256
from collector.api.spelling import Pairs, spell
from collector.catalogue.operation import Operation, Product, Style
from collector.errors import ApiError, CredentialsError

SECRETS_MAX: Final = 1024
"""So many secrets are remembered, to blot them out: weeks of temporary ones, which live for an hour."""


class OpenApiGateway:
    """RPC and ROA calls of the V3 protocol, with an access key or a bearer token."""

    product_endpoint = True

    def __init__(
        self,
        credentials: CredentialsSource,
        *,
        region: str,
        now: Callable[[], float],
        network: str = "public",
        base_url: str = "",
        endpoints: Mapping[str, str] | None = None,
        random: Random | None = None,
    ) -> None:
        """`now` is the service's time in seconds since the epoch, which is what a signature must name.

        `random` makes the nonces. It comes from the system unless handed in: a seed would repeat
        nonces after a restart, and the service refuses those. The rest, and its ConfigError, is
        as of `Hosts`.
        """
        self._credentials = credentials
        self._hosts = Hosts(region=region, network=network, base_url=base_url, endpoints=endpoints)
        self._now = now
        self._random = random or SystemRandom()
        self._secrets: deque[str] = deque(maxlen=SECRETS_MAX)

    def __repr__(self) -> str:
        return f"OpenApiGateway(hosts={self._hosts!r})"

    def base_url(self, operation: Operation) -> str:
        return self._hosts.base_url(operation.product)

    async def prepare(self, operation: Operation, parameters: Mapping[str, Any]) -> HttpRequest:
        url = self.base_url(operation)
        spelled = spell(operation, parameters)
        credentials = await self._credentials.get()
        self._remember(credentials)
        url += spelled.path
        query = spelled.query
        headers = {
            "accept": "application/json",
            "x-acs-action": operation.action,
            "x-acs-version": operation.version,
            "x-acs-content-sha256": content_sha256(spelled.body or b""),
        }
        if spelled.content_type:
            headers["content-type"] = spelled.content_type
        if isinstance(credentials, BearerToken):
            headers["x-acs-bearer-token"] = credentials.token
            if operation.style is Style.RPC:
                query = (*query, ("SignatureType", "BEARERTOKEN"))
            else:
                headers["x-acs-signature-type"] = "BEARERTOKEN"
        else:
            if credentials.provider:
                headers["x-acs-credentials-provider"] = credentials.provider
            if credentials.security_token:
                headers["x-acs-accesskey-id"] = credentials.key_id
                headers["x-acs-security-token"] = credentials.security_token
        return HttpRequest(
            operation.method,
            url,
            query=query,
            headers=headers,
            body=spelled.body,
            sign=self._signer(operation.method, url, query, headers, credentials),
            renew=self._renewer(credentials),
        )

    def clock_probe(self) -> HttpRequest:
        return HttpRequest("HEAD", f"{self._hosts.base_url(Product.EFLO_CONTROLLER)}/")

    async def reload(self) -> bool:
        return await self._credentials.reload()

    def redact(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, REDACTED)
        return text

    def _signer(
        self, method: str, url: str, query: Pairs, headers: Mapping[str, str], credentials: Credentials
    ) -> Callable[[], Mapping[str, str]]:
        # What aiohttp puts into the Host header: without the port that goes without saying.
        host = URL(url, encoded=True).host_port_subcomponent or ""
        path = urlsplit(url).path

        def sign() -> Mapping[str, str]:
            fresh = {
                "x-acs-date": datetime.fromtimestamp(self._now(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
                "x-acs-signature-nonce": f"{self._random.getrandbits(128):032x}",
            }
            if isinstance(credentials, AccessKey):
                fresh["Authorization"] = authorization(
                    method,
                    path,
                    query,
                    {**headers, **fresh, "host": host},
                    key_id=credentials.key_id,
                    secret=credentials.secret,
                )
            return fresh

        return sign

    def _renewer(self, refused: Credentials) -> Renew:
        async def renew(error: ApiError) -> bool:
            if isinstance(refused, BearerToken):
                is_curable = isinstance(error, CredentialsError)
            else:
                is_curable = is_renewable(error.code)
            return is_curable and await self._credentials.renew(refused)

        return renew

    def _remember(self, credentials: Credentials) -> None:
        if isinstance(credentials, BearerToken):
            values = [credentials.token]
        else:
            values = [value for value in (credentials.secret, credentials.security_token) if value]
        for value in values:
            if value not in self._secrets:
                # A service may echo it as it stood in a URL.
                self._secrets.extend(dict.fromkeys((value, quote(value, safe=""))))
