"""One HTTP exchange over aiohttp.

Nothing of aiohttp leaves this file, least of all its exceptions: some carry the request's headers
in their repr, and with them the key. What went wrong comes back as a value.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from types import SimpleNamespace, TracebackType
from typing import Any, Final, Protocol, Self
from urllib.parse import urlencode

import aiohttp
from yarl import URL

from collector import __version__
from collector.api.content_coding import ACCEPTED, DecompressionFailed, UnreadableCoding, decompressor_for
from collector.api.gateways import HttpRequest
from collector.memory import CURRENT_PAGE, SMALL_BODY_BYTES, PageMemory
from collector.proxies import Proxy, proxy_for

CONNECT_SECONDS_MAX: Final = 10.0
"""For name, connection and TLS together."""
ERROR_BYTES_MAX: Final = 64 * 1024
"""Bytes of an error reply that are read."""
HEADER_BYTES_MAX: Final = 1 << 20
"""Longest status line and longest header that are read. A proxy may add more than aiohttp's 8 KiB."""
HEADERS_MAX: Final = 2_000


class Failure(enum.StrEnum):
    """Why there is no complete reply."""

    NO_CONNECTION = "no_connection"
    """Nothing was sent."""
    STALE_CONNECTION = "stale_connection"
    """A kept connection closed while the call waited to be sent. Nothing was sent."""
    TIMEOUT = "timeout"
    BROKEN = "broken"
    """The connection broke before the reply began."""
    NOT_HTTP = "not_http"
    """What came was not HTTP, or its head was larger than is read."""
    UNREADABLE = "unreadable"
    """The body is compressed in a way that was not asked for and cannot be undone."""
    TRUNCATED = "truncated"
    """The body ended early, or could not be decompressed."""
    TOO_LARGE = "too_large"


@dataclass(frozen=True, slots=True)
class Exchange:
    """What came of one request."""

    failure: Failure | None = None
    detail: str = ""
    """What the system said of the failure."""
    http_status: int = 0
    """0 when no reply began."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Of the reply; names are looked up without case."""
    body: bytes = b""


class Exchanging(Protocol):
    """What carries a client's requests: a `Transport`, or what stands in for one."""

    async def __aenter__(self) -> Any: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    async def exchange(
        self, request: HttpRequest, *, depart: Callable[[], Awaitable[None]], body_bytes_max: int
    ) -> Exchange:
        """As `Transport.exchange`."""


class Transport:
    """A session with kept connections. TLS is verified; redirects and cookies are not followed.

    A proxy is the environment's (`proxies.proxy_for`).
    """

    def __init__(self, *, timeout_seconds: float) -> None:
        """`timeout_seconds` runs from the moment of sending to the last byte of the body."""
        self._timeout_seconds = timeout_seconds
        self._session: aiohttp.ClientSession | None = None
        self._proxies: dict[tuple[str, str], Proxy | None] = {}

    async def __aenter__(self) -> Self:
        # Of aiohttp's hooks these two run right before bytes are written, on kept connections and in
        # its own repeat of a GET too. Hooks of the connector run earlier, and to raise or be
        # cancelled in one would leak the connection. A middleware would run for each send as well, but
        # before the wait for a token, which the service may have asked to last longer than it takes a
        # signature to expire.
        trace = aiohttp.TraceConfig()
        trace.on_request_headers_sent.append(_before_headers)
        trace.on_request_chunk_sent.append(_before_body)
        self._session = aiohttp.ClientSession(
            # How many calls run at once is the client's decision.
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": f"pai-collector/{__version__}", "Accept-Encoding": ACCEPTED},
            # Its own would fail on what a header wrongly claims.
            auto_decompress=False,
            max_line_size=HEADER_BYTES_MAX,
            max_field_size=HEADER_BYTES_MAX,
            max_headers=HEADERS_MAX,
            # A content type that nobody stated would not be part of a signature.
            skip_auto_headers=("Content-Type",),
            trace_configs=[trace],
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def exchange(
        self, request: HttpRequest, *, depart: Callable[[], Awaitable[None]], body_bytes_max: int
    ) -> Exchange:
        """Send the request and read the reply, at most `body_bytes_max` bytes after decompression.

        `depart` is awaited right before the bytes of each physical send: twice, when a kept
        connection breaks under a GET or DELETE and aiohttp sends it again. What it raises ends
        the exchange unsent and is raised here. After it the request is signed, anew for each send.
        """
        if self._session is None:
            raise RuntimeError("the transport is used before it is entered")
        url = _url(request)
        proxy = self._proxy_for(url)
        flight = _Flight(request, depart, self._timeout_seconds, proxy)
        connect_seconds = min(CONNECT_SECONDS_MAX, self._timeout_seconds)
        try:
            async with (
                asyncio.timeout(connect_seconds) as flight.timeout,
                self._session.request(
                    request.method,
                    url,
                    headers=request.headers,
                    data=request.body,
                    proxy=None if proxy is None else proxy.url,
                    allow_redirects=False,
                    trace_request_ctx=flight,
                ) as response,
            ):
                flight.response = response
                return await _read(response, body_bytes_max, flight.timeout)
        except _Refused:
            pass
        except (aiohttp.ClientError, OSError) as error:
            return flight.failed(error)
        # Outside the except block, so that nothing of aiohttp stays attached as context.
        assert flight.refusal is not None
        raise flight.refusal

    def _proxy_for(self, url: URL) -> Proxy | None:
        origin = (url.scheme, url.authority)
        if origin not in self._proxies:
            self._proxies[origin] = proxy_for(f"{url.scheme}://{url.authority}")
        return self._proxies[origin]


class _Refused(Exception):
    """`depart` raised; its error is kept aside so that aiohttp does not take it for one of its own."""


class _Flight:
    """One request on its way, as the hooks see it."""

    def __init__(
        self,
        request: HttpRequest,
        depart: Callable[[], Awaitable[None]],
        timeout_seconds: float,
        proxy: Proxy | None,
    ) -> None:
        self.timeout: asyncio.Timeout | None = None
        self.response: aiohttp.ClientResponse | None = None
        self.refusal: Exception | None = None
        self._request = request
        self._depart = depart
        self._timeout_seconds = timeout_seconds
        self._proxy = proxy
        self._departed = False
        self._body_begun = False

    async def before_headers(self, headers: MutableMapping[str, str]) -> None:
        """`headers` are about to be written, and what is put into them is written, too."""
        assert self.timeout is not None
        # Waiting for a token is neither connecting nor waiting for an answer.
        self.timeout.reschedule(None)
        try:
            await self._depart()
        except Exception as error:
            self.refusal = error
            raise _Refused from None
        if self._request.sign is not None:
            headers.update(self._request.sign())
        self._departed = True
        self._body_begun = False
        self.timeout.reschedule(asyncio.get_running_loop().time() + self._timeout_seconds)

    def before_body(self) -> None:
        self._body_begun = True

    def failed(self, error: aiohttp.ClientError | OSError) -> Exchange:
        detail = _detail(error)
        if self._proxy is not None:
            detail += f", through the proxy {self._proxy}"
        if self.response is not None:
            failure = Failure.TIMEOUT if isinstance(error, TimeoutError) else Failure.TRUNCATED
            return Exchange(failure, detail, self.response.status, self.response.headers)
        if not self._departed:
            return Exchange(Failure.NO_CONNECTION, detail)
        if self._unwritten(error):
            return Exchange(Failure.STALE_CONNECTION, detail)
        if isinstance(error, aiohttp.ClientResponseError):
            return Exchange(Failure.NOT_HTTP, detail)
        return Exchange(Failure.TIMEOUT if isinstance(error, TimeoutError) else Failure.BROKEN, detail)

    def _unwritten(self, error: Exception) -> bool:
        # Headers wait in a buffer for the body; when that was never begun, neither was written.
        if self._request.body is not None and not self._body_begun:
            return True
        return any(isinstance(each, aiohttp.ClientConnectionResetError) for each in (error, error.__cause__))


async def _before_headers(
    session: aiohttp.ClientSession, context: SimpleNamespace, parameters: aiohttp.TraceRequestHeadersSentParams
) -> None:
    await context.trace_request_ctx.before_headers(parameters.headers)


async def _before_body(
    session: aiohttp.ClientSession, context: SimpleNamespace, parameters: aiohttp.TraceRequestChunkSentParams
) -> None:
    context.trace_request_ctx.before_body()


def _url(request: HttpRequest) -> URL:
    # Declared encoded, so that nothing is spelled anew on the way: what is signed is what is sent.
    query = f"?{urlencode(request.query)}" if request.query else ""
    return URL(request.url + query, encoded=True)


async def _read(response: aiohttp.ClientResponse, body_bytes_max: int, limit: asyncio.Timeout) -> Exchange:
    is_error = response.status >= 300
    bytes_max = min(body_bytes_max, ERROR_BYTES_MAX) if is_error else body_bytes_max
    body = bytearray()
    page = None if is_error else CURRENT_PAGE.get()
    failure: Failure | None = None
    detail = ""
    try:
        decompressor = decompressor_for(response.headers.get("Content-Encoding", ""))
        async for chunk in response.content.iter_any():
            body += decompressor.feed(chunk, bytes_max - len(body) + 1)
            if page is not None and len(body) > SMALL_BODY_BYTES and not page.is_held:
                await _wait_for_memory(page, bytes_max, limit)
            if len(body) > bytes_max:
                failure, detail = Failure.TOO_LARGE, f"more than {bytes_max} bytes"
                break
        else:
            body += decompressor.finish()
    except UnreadableCoding as coding:
        failure, detail = Failure.UNREADABLE, f"Content-Encoding {coding}"
    except DecompressionFailed as error:
        failure, detail = Failure.TRUNCATED, str(error)
    if failure is not None:
        # Without this the rest would be read when the connection is given back.
        response.close()
        return Exchange(None if is_error else failure, detail, response.status, response.headers)
    if page is not None:
        page.measure(len(body))
    return Exchange(None, "", response.status, response.headers, bytes(body))


async def _wait_for_memory(page: PageMemory, size: int, limit: asyncio.Timeout) -> None:
    """Wait until a body of `size` bytes may be read; the wait does not count as the service's time."""
    loop = asyncio.get_running_loop()
    deadline, begun = limit.when(), loop.time()
    limit.reschedule(None)
    await page.expect(size)
    if deadline is not None:
        limit.reschedule(deadline + loop.time() - begun)


def _detail(error: Exception) -> str:
    """What happened, in words that hold neither headers nor URL."""
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return f"HTTP {error.status}"
    if isinstance(error, aiohttp.ClientResponseError):
        # The parser's words go on with the bytes that it met.
        return " ".join(error.message.split("\n")[0].split(":")[0].split())[:100]
    # Another exception's text may quote the request.
    system = next((each for each in (getattr(error, "os_error", None), error) if isinstance(each, OSError)), None)
    text = system.strerror if system is not None else None
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
