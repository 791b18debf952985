"""Sending spans to XTrace: OTLP over HTTP, to an address that is itself a secret.

The address comes from `GetXtraceToken` and holds a token in its path, so nothing here says it: of an
exception only the type is told, because aiohttp's texts quote addresses.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import urlsplit

import aiohttp
import structlog

from collector import __version__
from collector.catalogue.products.pai_llm_trace import GetXtraceTokenAnswer
from collector.clock import Clock
from collector.errors import CollectorError, ConfigError
from collector.proxies import proxy_for
from collector.redaction import redact, register_secret
from collector.telemetry.otlp import rejected_spans

if TYPE_CHECKING:
    from collector.telemetry.tracing import Delivered, Limits

log = structlog.get_logger(__name__)

REFUSED: Final = frozenset({401, 403, 404})
"""The token is no longer taken. It stands in the path, so an unknown one may also be "not found"."""
LATER: Final = frozenset({408, 429, 500, 502, 503, 504})
ANSWER_BYTES_MAX: Final = 64 * 1024
ASK_AGAIN_SECONDS: Final = 60.0
"""A token that could not be renewed in time is used on, and asked for again after this long."""


class _Verdict(enum.Enum):
    SENT = enum.auto()
    REFUSED = enum.auto()
    LATER = enum.auto()
    NEVER = enum.auto()
    """A repeat cannot help."""


class Uploader:
    """Posts encoded spans, and keeps the address to post them to."""

    def __init__(
        self,
        ask: Callable[[], Awaitable[GetXtraceTokenAnswer]],
        clock: Clock,
        delivered: Delivered,
        limits: Limits,
        *,
        internal: bool,
    ) -> None:
        self._ask = ask
        self._clock = clock
        self._delivered = delivered
        self._limits = limits
        self._internal = internal
        self._address = ""
        self._renew_at = 0.0
        self._session: aiohttp.ClientSession | None = None
        self.retry_after_seconds = 0.0
        """What the last answer asked for, 0 where it did not."""

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=self._limits.timeout_seconds),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": f"pai-collector/{__version__}", "Content-Type": "application/x-protobuf"},
        )
        return self

    async def __aexit__(self, *exception: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def send(self, body: bytes, spans: int) -> bool:
        """Post a batch; true when it is in, or can never be. A token that is refused is renewed once."""
        verdict, reason = await self._attempt(body)
        if verdict is _Verdict.SENT:
            # What a partial success did not take is counted already.
            self._delivered.sent += spans
            self._note("")
        elif verdict is _Verdict.NEVER:
            self._delivered.dropped += spans
            self._note(reason)
        else:
            self._note(reason)
        return verdict in (_Verdict.SENT, _Verdict.NEVER)

    async def _attempt(self, body: bytes) -> tuple[_Verdict, str]:
        self.retry_after_seconds = 0.0
        for _ in range(2):
            had = self._address
            if reason := await self._renew_if_due():
                return _Verdict.LATER, reason
            verdict, reason = await self._post(body)
            if verdict is not _Verdict.REFUSED:
                return verdict, reason
            self._address = ""
            if not had:
                # The token is new: another one will not be better right now.
                break
        return _Verdict.LATER, reason

    async def _renew_if_due(self) -> str:
        """Have an address; returns why there is none."""
        now = self._clock.monotonic()
        if self._address and now < self._renew_at:
            return ""
        reason = await self._renew()
        if not reason:
            self._renew_at = now + self._limits.renew_seconds
        elif self._address:
            log.warning("xtrace_token_not_renewed", reason=reason)
            self._renew_at = now + ASK_AGAIN_SECONDS
            return ""
        return reason

    async def _renew(self) -> str:
        try:
            answer = await self._ask()
        except CollectorError as error:
            return f"no token: {redact(str(error))}"
        except Exception as error:
            return f"no token: {type(error).__name__}"
        address = (answer.http_internal_endpoint if self._internal else answer.http_endpoint) or ""
        for secret in (answer.token or "", address, _path(address)):
            register_secret(secret)
        if not _path(address):
            return "no token: the answer holds no HTTP endpoint"
        self._address = address
        return ""

    async def _post(self, body: bytes) -> tuple[_Verdict, str]:
        assert self._session is not None, "entered before it sends"
        try:
            proxy = proxy_for(self._address)
            via = None if proxy is None else proxy.url
            async with self._session.post(self._address, data=body, allow_redirects=False, proxy=via) as response:
                status = response.status
                self.retry_after_seconds = _seconds(response.headers.get("Retry-After", ""))
                answer = await response.content.read(ANSWER_BYTES_MAX)
        except ConfigError as error:
            return _Verdict.LATER, f"not sent: {error}"
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            return _Verdict.LATER, f"not sent: {type(error).__name__}"
        if 200 <= status < 300:
            rejected = rejected_spans(answer)
            self._delivered.dropped += rejected
            self._delivered.sent -= rejected
            return _Verdict.SENT, ""
        if status in REFUSED:
            return _Verdict.REFUSED, f"the token is refused: HTTP {status}"
        return _Verdict.LATER if status in LATER else _Verdict.NEVER, f"HTTP {status}"

    def _note(self, reason: str) -> None:
        """Say once that sending stopped working, and once that it works again."""
        before, self._delivered.last_error = self._delivered.last_error, reason
        if reason and not before:
            log.warning("spans_not_sent", reason=reason)
        elif before and not reason:
            log.info("spans_sent_again", dropped=self._delivered.dropped)


def _path(address: str) -> str:
    """The path of an address, empty where it is no HTTP address."""
    try:
        parts = urlsplit(address)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return ""
    return parts.path if usable and parts.path.strip("/") else ""


def _seconds(text: str) -> float:
    return float(text) if text.isascii() and text.isdecimal() and len(text) < 6 else 0.0
