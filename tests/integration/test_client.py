"""The client against real HTTP on the loopback: what it sends, counts, repeats and refuses."""

from __future__ import annotations

import asyncio
import bisect
import gzip
import json
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from email.utils import formatdate
from random import Random
from typing import Any

import pytest
import structlog
from aiohttp import web

from collector.api.client import ApiClient, NullMeter, RetryPolicy
from collector.api.credentials import AccessKey, Credentials, CredentialsSource, StaticCredentials
from collector.api.decode import Reason, UndecodableAnswerError
from collector.api.gateways import BearerGateway, Gateway
from collector.api.openapi import OpenApiGateway
from collector.api.signing import authorization, content_sha256
from collector.api.throttle import TokenBucket
from collector.catalogue.operation import Operation
from collector.catalogue.products.eflo_controller import (
    CREATE_DIAGNOSTIC_TASK,
    LIST_SYSLOGS,
    ListSyslogsAnswer,
    SyslogRecord,
)
from collector.catalogue.products.pai_studio import GET_USER_VIEW_METRICS
from collector.clock import ServerClock, SystemClock
from collector.errors import (
    AnswerTooLargeError,
    ApiError,
    BadRequestError,
    CollectorError,
    CredentialsError,
    CursorError,
    ForbiddenError,
    NotFoundError,
    ThrottledError,
    TransientError,
)

CANARY = "sk-canary-5f2d8c"
SYSLOGS_PATH = "/api/eflo-controller/2022-12-15/ListSyslogs"
USERS_PATH = "/api/PaiStudio/2022-01-12/GetUserViewMetrics"
SYSLOGS = {"FromTime": "1687363300", "ToTime": "1687363400", "NodeId": "e01-cn-1"}
USERS = {"ResourceGroupID": "rg1", "PageNumber": "1", "PageSize": "10"}
PAGE = {"RequestId": "R1", "NextToken": "", "Logs": [{"Time": "1760000101", "Msg": "link up"}]}
QUICK = RetryPolicy(attempts_max=3, base_seconds=0.001, cap_seconds=0.002, deadline_seconds=20.0)
ONCE = replace(QUICK, attempts_max=1)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Service:
    """An HTTP server that answers each request with the handler's reply and remembers it."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.requests: list[web.Request] = []
        self.bodies: list[bytes] = []
        self.arrivals: list[float] = []
        self.base_url = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.arrivals.append(time.monotonic())
        self.requests.append(request)
        self.bodies.append(await request.read())
        return await self.handler(request)


@asynccontextmanager
async def serve(handler: Handler) -> AsyncIterator[Service]:
    service = Service(handler)
    server = web.Server(service.answer)
    runner = web.ServerRunner(server, handle_signals=False, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    service.base_url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield service
    finally:
        await runner.cleanup()


def scripted(*replies: web.Response | dict[str, Any]) -> Handler:
    """Answers with each reply in turn, then with the last one again."""
    left = list(replies)

    async def handler(request: web.Request) -> web.StreamResponse:
        reply = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(reply, dict):
            return web.json_response(reply)
        # A response object can be sent only once.
        return web.Response(status=reply.status, body=reply.body, headers=reply.headers)

    return handler


def error_reply(http_status: int, code: str = "", message: str = "", **headers: str) -> web.Response:
    body = {"Code": code, "Message": message, "RequestId": "R-error"} if code else {}
    spelled = {name.replace("_", "-"): value for name, value in headers.items()}
    return web.json_response(body, status=http_status, headers=spelled)


class Harness:
    """A client and everything that was handed to it."""

    def __init__(
        self,
        base_url: str,
        *,
        policy: RetryPolicy,
        per_second: int,
        concurrency_max: int,
        timeout_seconds: float,
        credentials: CredentialsSource | None,
        meter: NullMeter | None,
    ) -> None:
        self.clock = SystemClock()
        self.server_clock = ServerClock(self.clock)
        self.meter = meter or NullMeter()
        self.buckets = {
            operation.name: TokenBucket(per_second, clock=self.clock)
            for operation in (LIST_SYSLOGS, GET_USER_VIEW_METRICS, CREATE_DIAGNOSTIC_TASK)
        }
        gateway: Gateway = BearerGateway(CANARY, base_url=base_url)
        if credentials is not None:
            now = self.server_clock.now
            gateway = OpenApiGateway(credentials, region="cn-hangzhou", now=now, base_url=base_url)
        self.client = ApiClient(
            gateway,
            clock=self.clock,
            server_clock=self.server_clock,
            meter=self.meter,
            buckets=self.buckets,
            policy=policy,
            random=Random(5),
            concurrency_max=concurrency_max,
            timeout_seconds=timeout_seconds,
        )

    @property
    def codes(self) -> list[tuple[int, str]]:
        return [(attempt.http_status, attempt.code) for attempt in self.meter.settled]

    async def syslogs(self, scope_id: str = "e01-cn-1", **more: str) -> Any:
        return await self.client.request(LIST_SYSLOGS, scope_id, SYSLOGS | more)

    async def users(self, operation: Operation = GET_USER_VIEW_METRICS) -> Any:
        return await self.client.request(operation, "rg1", USERS)


@asynccontextmanager
async def calling(
    base_url: str,
    *,
    policy: RetryPolicy = QUICK,
    per_second: int = 1000,
    concurrency_max: int = 64,
    timeout_seconds: float = 10.0,
    credentials: CredentialsSource | None = None,
    meter: NullMeter | None = None,
) -> AsyncIterator[Harness]:
    """With `credentials` on the gateway to the product endpoints."""
    harness = Harness(
        base_url,
        policy=policy,
        per_second=per_second,
        concurrency_max=concurrency_max,
        timeout_seconds=timeout_seconds,
        credentials=credentials,
        meter=meter,
    )
    async with harness.client:
        yield harness


@asynccontextmanager
async def raw_service(
    talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[str]:
    """A server that talks bytes, for what no HTTP server would do."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def until(condition: Callable[[], object]) -> None:
    """Let the loop run until something is so."""
    for _ in range(100_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never became so")


async def let_everything_run() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


async def read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(
        (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")),
        0,
    )
    return head + await reader.readexactly(length)


def http_bytes(body: bytes, *, status: str = "200 OK", length: int | None = None) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length or len(body)}\r\n\r\n"
    return head.encode() + body


# What goes out and what comes back


async def test_a_page_arrives_and_its_attempt_is_left_to_the_caller() -> None:
    """A success carries typed records, the service's date and an attempt that is not settled yet."""
    date = 1_760_000_123
    reply_bytes = json.dumps(PAGE).encode()
    reply = web.Response(body=reply_bytes, headers={"Date": formatdate(date, usegmt=True)})
    async with serve(scripted(reply)) as service, calling(service.base_url) as api:
        got = await api.syslogs()

    assert isinstance(got.answer, ListSyslogsAnswer)
    assert isinstance(got.answer.logs[0], SyslogRecord)
    assert (got.http_status, got.date, got.bytes) == (200, date, len(reply_bytes))
    assert got.attempt.time == date
    assert (got.attempt.rows, got.attempt.code, got.attempt.scope_id) == (1, "", "e01-cn-1")
    assert api.meter.settled == []
    assert api.meter.reserved == {got.attempt.ticket}
    assert api.server_clock.date == date
    request = service.requests[0]
    assert (request.method, request.path) == ("POST", SYSLOGS_PATH)
    assert request.headers["Authorization"] == f"Bearer {CANARY}"
    assert request.headers["Content-Type"] == "application/json"
    assert json.loads(service.bodies[0]) == SYSLOGS


async def test_a_get_travels_as_documented() -> None:
    """A GET has its parameters in the query and no body."""
    async with serve(scripted({"Total": 0, "UserMetrics": []})) as service, calling(service.base_url) as api:
        await api.users()

    request = service.requests[0]
    assert (request.method, request.path, dict(request.query)) == ("GET", USERS_PATH, USERS)
    assert request.headers["Authorization"] == f"Bearer {CANARY}"
    assert service.bodies == [b""]


async def test_the_clock_is_read_without_the_key_and_without_a_ticket() -> None:
    """The service's time is learnt from a request that is no operation; where nothing answers it stays unknown."""
    date = 1_760_000_123
    reply = web.Response(status=404, headers={"Date": formatdate(date, usegmt=True)})
    async with serve(scripted(reply)) as service, calling(service.base_url) as api:
        await api.client.read_clock()
        assert api.server_clock.date == date
    async with calling(service.base_url) as unanswered:
        await unanswered.client.read_clock()
        assert not unanswered.server_clock.synced

    assert [(request.method, request.path) for request in service.requests] == [("HEAD", "/")]
    assert "Authorization" not in service.requests[0].headers
    assert api.meter.reserved == set()
    assert api.meter.settled == []


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_a_compressed_answer_is_read(encoding: str) -> None:
    """A compressed body is unpacked, and its size is what it unpacks to."""

    async def handler(request: web.Request) -> web.StreamResponse:
        assert encoding in request.headers["Accept-Encoding"]
        response = web.json_response(PAGE)
        response.enable_compression(web.ContentCoding(encoding))
        return response

    async with serve(handler) as service, calling(service.base_url) as api:
        got = await api.syslogs()

    assert got.bytes == len(json.dumps(PAGE))
    assert got.attempt.rows == 1


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.slow("large answers")
async def test_an_answer_that_is_too_large_is_stopped_while_it_is_read(packed: bool) -> None:
    """Beyond the operation's limit reading stops, of a small body that unpacks to a huge one too; once is enough."""
    operation = replace(GET_USER_VIEW_METRICS, answer_bytes_max=100_000)
    bomb = gzip.compress(bytes(200_000_000)) if packed else bytes(300_000)
    reply = web.Response(body=bomb, headers={"Content-Encoding": "gzip"} if packed else {})
    async with serve(scripted(reply)) as service, calling(service.base_url) as api:
        with pytest.raises(AnswerTooLargeError, match="more than 100000 bytes") as caught:
            await api.users(operation)

    assert "proxy" not in caught.value.hint
    assert api.codes == [(200, "too_large")]


async def test_a_redirect_is_not_followed() -> None:
    """The key is never carried to where a redirect points."""
    reply = web.Response(status=302, headers={"Location": "http://127.0.0.1:9/elsewhere"})
    async with serve(scripted(reply)) as service, calling(service.base_url) as api:
        with pytest.raises(BadRequestError):
            await api.syslogs()

    assert len(service.requests) == 1


# Errors


@pytest.mark.parametrize(
    ("reply", "expected", "calls"),
    [
        (error_reply(400), BadRequestError, 1),
        (error_reply(401), CredentialsError, 2),
        (error_reply(403), ForbiddenError, 1),
        (error_reply(404), NotFoundError, 1),
        (error_reply(429, Retry_After="0.01"), ThrottledError, 3),
        (error_reply(500), TransientError, 3),
        (error_reply(503), TransientError, 3),
        (error_reply(400, "InvalidParameter", "FromTime"), BadRequestError, 1),
        (error_reply(403, "UnauthorizedOperation"), ForbiddenError, 1),
        (error_reply(400, "Throttling.User", x_acs_retry_after="10"), ThrottledError, 3),
        (error_reply(503, "Throttling"), ThrottledError, 3),
        (error_reply(403, "NoPermission"), ForbiddenError, 1),
        (error_reply(404, "InvalidAccessKeyId.NotFound"), CredentialsError, 2),
        (error_reply(200, "InternalError", "inside a success"), TransientError, 3),
        (web.Response(status=502, body=b"<html>Bad Gateway</html>", content_type="text/html"), TransientError, 3),
        (
            web.Response(status=403, body=b"<Error><Code>InvalidAccessKeyId</Code></Error>", content_type="text/xml"),
            CredentialsError,
            2,
        ),
    ],
)
async def test_each_documented_error_is_raised_and_metered(
    reply: web.Response, expected: type[ApiError], calls: int
) -> None:
    """Each error of the documentation has its class, its number of attempts, and every attempt is settled."""
    async with serve(scripted(reply)) as service, calling(service.base_url, per_second=500) as api:
        with pytest.raises(ApiError) as caught:
            await api.syslogs()

    error = caught.value
    assert type(error) is expected
    assert (error.operation, error.scope_id, error.http_status) == ("ListSyslogs", "e01-cn-1", reply.status)
    assert error.hint
    assert len(service.requests) == calls
    assert api.codes == [(reply.status, error.code or str(reply.status))] * calls
    assert api.meter.reserved == set()


async def test_an_error_says_what_the_service_said() -> None:
    """Message, code and request id are in the error's text."""
    reply = error_reply(400, "InvalidParameter", "FromTime\nis wrong")
    async with serve(scripted(reply)) as service, calling(service.base_url) as api:
        with pytest.raises(BadRequestError) as caught:
            await api.syslogs()

    assert str(caught.value) == (
        "ListSyslogs of e01-cn-1: FromTime is wrong (HTTP 400, InvalidParameter, request R-error)"
    )


async def test_a_dead_cursor_is_told_from_a_bad_request() -> None:
    """The same refusal is a cursor's only when the request carried one."""
    reply = error_reply(400, "InvalidParameter", "The NextToken is expired.")
    async with serve(scripted(reply)) as service, calling(service.base_url) as api:
        with pytest.raises(CursorError):
            await api.syslogs(NextToken="t2")
        with pytest.raises(BadRequestError) as caught:
            await api.syslogs()

    assert type(caught.value) is BadRequestError


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"<html>Sign in</html>", Reason.HTML),
        (b'{"RequestId": "R1", "Logs": [', Reason.TRUNCATED),
        (b'{"RequestId": "\xff"}', Reason.NOT_UTF8),
        (b"oops", Reason.NOT_JSON),
        (b"[]", Reason.NOT_AN_OBJECT),
        (b"{}", Reason.NOT_AN_ANSWER),
    ],
)
async def test_a_body_that_is_no_answer_is_asked_again_and_never_empty(body: bytes, reason: Reason) -> None:
    """What is no answer is repeated and then reported, each attempt metered with its reason."""
    async with serve(scripted(web.Response(body=body))) as service, calling(service.base_url) as api:
        with pytest.raises(UndecodableAnswerError) as caught:
            await api.syslogs()

    assert caught.value.reason is reason
    assert api.codes == [(200, reason.value)] * 3


async def test_a_body_cut_off_by_the_connection_is_not_data() -> None:
    """A body shorter than announced, or badly compressed, is an error although its start is valid JSON."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(http_bytes(b'{"RequestId": "R1", "Logs": []}', length=500))

    async with raw_service(talk) as base_url, calling(base_url, policy=ONCE) as api:
        with pytest.raises(UndecodableAnswerError) as caught:
            await api.syslogs()
    assert caught.value.reason is Reason.TRUNCATED
    assert api.codes == [(200, "truncated")]

    damaged = web.Response(body=b"\x1f\x8b damaged", headers={"Content-Encoding": "gzip"})
    async with serve(scripted(damaged)) as service, calling(service.base_url, policy=ONCE) as api:
        with pytest.raises(UndecodableAnswerError):
            await api.syslogs()
    assert api.codes == [(200, "truncated")]


async def test_a_connection_that_breaks_before_the_answer_is_metered_and_repeated() -> None:
    """The server saw the request, so it counts, and a harmless operation is asked again."""
    seen = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        await read_request(reader)
        seen += 1
        if seen == 1:
            writer.transport.abort()
        else:
            writer.write(http_bytes(json.dumps(PAGE).encode()))

    async with raw_service(talk) as base_url, calling(base_url) as api:
        got = await api.syslogs()

    assert got.attempt.rows == 1
    assert api.codes == [(0, "connection")]
    assert seen == 2


async def test_an_answer_that_is_not_http_is_a_broken_connection() -> None:
    """Bytes that are no HTTP reply end in an error of ours, and are metered."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")

    async with raw_service(talk) as base_url, calling(base_url, policy=ONCE) as api:
        with pytest.raises(TransientError) as caught:
            await api.syslogs()

    assert api.codes == [(0, "connection")]
    assert caught.value.__context__ is None


async def test_what_may_have_taken_effect_is_not_repeated() -> None:
    """An operation that must not run twice is sent once when the connection breaks, on a kept one too."""
    seen: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answers in (True, False):
            seen.append(await read_request(reader))
            if answers:
                writer.write(http_bytes(b'{"Total": 0}'))
            else:
                writer.transport.abort()

    once_only = replace(GET_USER_VIEW_METRICS, repeatable=False)
    async with raw_service(talk) as base_url, calling(base_url) as api:
        await api.users(once_only)
        with pytest.raises(TransientError):
            await api.users(once_only)

    assert len(seen) == 2
    assert api.codes == [(0, "connection")]
    assert len(api.meter.reserved) == 1, "the first call's, which is the caller's to settle"


async def test_aiohttps_own_repeat_of_a_get_is_metered() -> None:
    """When a kept connection breaks under a GET, aiohttp sends it again: both sends are metered and take a token."""
    seen = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        for _ in range(2):
            await read_request(reader)
            seen += 1
            if seen == 2:
                writer.transport.abort()
                return
            writer.write(http_bytes(b'{"Total": 0}'))
            await writer.drain()

    async with raw_service(talk) as base_url, calling(base_url, policy=ONCE) as api:
        first = await api.users()
        second = await api.users()

    assert seen == 3
    assert api.codes == [(0, "connection")]
    assert api.meter.reserved == {first.attempt.ticket, second.attempt.ticket}
    assert len(api.buckets["GetUserViewMetrics"].snapshot()) == 3


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_kept_connection_that_closes_while_waiting_costs_no_attempt(method: str) -> None:
    """A connection that is closed while the call waits for its token has carried nothing; another one does."""
    heard: list[bytes] = []
    closed = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await read_request(reader))
        writer.write(http_bytes(json.dumps(PAGE | {"Total": 0}).encode()))
        await writer.drain()
        if len(heard) == 1:
            await waiting.wait()
            writer.close()
            closed.set()
        else:
            heard.append(await reader.read(1))

    waiting = asyncio.Event()
    async with raw_service(talk) as base_url, calling(base_url, policy=ONCE) as api:

        async def call() -> Any:
            return await (api.users() if method == "GET" else api.syslogs())

        bucket = api.buckets["GetUserViewMetrics" if method == "GET" else "ListSyslogs"]
        await call()
        turn = bucket._turn
        await turn.acquire()
        second = asyncio.create_task(call())
        await until(lambda: bucket.waiting)
        waiting.set()
        await closed.wait()
        # The end of the connection has been seen once nothing is left for the loop to do.
        await let_everything_run()
        turn.release()
        await second

        assert [request.split(b" ")[0] for request in heard if request] == [method.encode()] * 2
        assert api.codes == []
        assert len(api.meter.reserved) == 2


async def test_no_byte_leaves_before_its_token() -> None:
    """While the token is awaited the server hears nothing, on a new connection and on a kept one."""
    heard = bytearray()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(65536):
            heard.extend(chunk)
            if heard.count(b"\r\n\r\n") and heard.endswith((b"\r\n\r\n", b"}")):
                writer.write(http_bytes(json.dumps(PAGE).encode()))

    async with raw_service(talk) as base_url, calling(base_url) as api:
        bucket = api.buckets["ListSyslogs"]
        for _ in range(2):
            heard.clear()
            await bucket._turn.acquire()
            call = asyncio.create_task(api.syslogs())
            await until(lambda: bucket.waiting)
            await let_everything_run()
            assert heard == b""
            bucket._turn.release()
            await call
            assert heard


async def test_an_unreachable_service_costs_nothing() -> None:
    """A refused connection is tried again, whatever the operation; nothing was sent, so nothing is metered."""
    async with raw_service(lambda reader, writer: asyncio.sleep(0)) as base_url:
        pass
    async with calling(base_url) as api:
        with (
            structlog.testing.capture_logs() as logs,
            pytest.raises(TransientError, match="no connection") as caught,
        ):
            await api.users(replace(GET_USER_VIEW_METRICS, repeatable=False))

    assert caught.value.code == "connection"
    assert [log["attempt"] for log in logs if log["event"] == "request_failed"] == [1, 2, 3]
    assert api.meter.settled == []
    assert api.meter.reserved == set()


async def test_a_connection_that_is_never_ready_costs_nothing() -> None:
    """A server that accepts but does not speak TLS is given up, and no call is metered."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        await gone.wait()

    gone = asyncio.Event()
    async with raw_service(talk) as base_url:
        secure = base_url.replace("http:", "https:")
        async with calling(secure, policy=ONCE, timeout_seconds=0.3) as api:
            with pytest.raises(TransientError, match="no connection"):
                await api.syslogs()
        gone.set()

    assert api.meter.settled == []


@pytest.mark.parametrize("begun", [False, True])
async def test_an_answer_that_does_not_come_in_time_is_given_up(begun: bool) -> None:
    """The time runs to the last byte: a reply that never begins, and one that trickles, both end."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        if begun:
            writer.write(http_bytes(b'{"RequestId": "R1"', length=500))
        await reader.read()

    async with raw_service(talk) as base_url, calling(base_url, policy=ONCE, timeout_seconds=0.3) as api:
        with pytest.raises(TransientError) as caught:
            await api.syslogs()

    assert caught.value.code == "timeout"
    assert api.codes == [(200 if begun else 0, "timeout")]


async def test_waiting_for_a_token_is_not_waiting_for_an_answer() -> None:
    """A call whose token takes longer than the timeout is still made."""
    async with (
        serve(scripted(PAGE)) as service,
        calling(service.base_url, policy=ONCE, timeout_seconds=0.4) as api,
    ):
        api.buckets["ListSyslogs"].slow_down(0.8)
        await api.syslogs()

    assert len(service.requests) == 1


# Cancelled and refused calls


async def test_a_cancelled_call_gives_its_ticket_back_or_counts() -> None:
    """Cancelled before it was sent, a call is released; after, it is settled as unknown."""
    arrived, never = asyncio.Event(), asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        arrived.set()
        await never.wait()
        raise AssertionError

    async with serve(handler) as service, calling(service.base_url, per_second=1) as api:
        sent = asyncio.create_task(api.syslogs())
        await arrived.wait()
        # The key is not proven yet, so a second call would not get as far as the bucket.
        api.client.gate._account.widen()
        waiting = asyncio.create_task(api.syslogs())
        await until(lambda: api.buckets["ListSyslogs"].waiting)
        assert len(api.meter.reserved) == 2
        waiting.cancel()
        sent.cancel()
        await asyncio.gather(waiting, sent, return_exceptions=True)

    assert waiting.cancelled()
    assert sent.cancelled()
    assert api.codes == [(0, "unknown")]
    assert len(api.meter.released) == 1
    assert api.meter.reserved == set()


@pytest.mark.parametrize("refusal", [CollectorError("the budget is spent"), OSError(28, "disk full"), TimeoutError()])
async def test_a_meter_that_refuses_keeps_the_call_from_being_sent(refusal: Exception) -> None:
    """What the meter raises reaches the caller as it is, and no byte is sent."""

    class Refusing(NullMeter):
        async def reserve(self, operation: Operation) -> int:
            raise refusal

    async with serve(scripted({"Total": 0})) as service, calling(service.base_url, meter=Refusing()) as api:
        for call in (api.users, api.syslogs):
            with pytest.raises(type(refusal)) as caught:
                await call()
            assert caught.value is refusal

    assert service.requests == []


# The gate


async def test_a_wrong_key_costs_two_calls() -> None:
    """Twenty callers with a wrong key make two calls between them, and all get the refusal."""
    async with (
        serve(scripted(error_reply(401, "InvalidApiKey", "no such key"))) as service,
        calling(service.base_url) as api,
    ):
        with structlog.testing.capture_logs() as logs:
            results = await asyncio.gather(*(api.syslogs(f"n{i}") for i in range(20)), return_exceptions=True)
            with pytest.raises(CredentialsError, match="no such key"):
                await api.users()

    assert [type(result) for result in results] == [CredentialsError] * 20
    assert sorted(result.scope_id for result in results if isinstance(result, ApiError)) == sorted(
        f"n{i}" for i in range(20)
    )
    assert len(service.requests) == 2
    assert len(api.meter.settled) == 2
    assert [log["log_level"] for log in logs if log["event"] == "account_stopped"] == ["error"]


async def test_a_key_that_is_withdrawn_stops_those_already_in_line() -> None:
    """Calls that wait for a token when the key is refused are not sent, and give their tickets back."""
    async with (
        serve(scripted(PAGE, error_reply(401, "InvalidApiKey"))) as service,
        calling(service.base_url, per_second=20) as api,
    ):
        await api.syslogs()
        results = await asyncio.gather(*(api.syslogs() for _ in range(15)), return_exceptions=True)

    assert [type(result) for result in results] == [CredentialsError] * 15
    assert len(service.requests) <= 5
    assert len(api.meter.settled) == len(service.requests) - 1
    assert len(api.meter.reserved) == 1


async def test_a_key_that_is_accepted_opens_the_way() -> None:
    """After the first good answer calls run side by side, up to the limit and not beyond."""
    running = most = 0

    async def handler(request: web.Request) -> web.StreamResponse:
        nonlocal running, most
        running += 1
        most = max(most, running)
        # The first call goes alone; each later one stays until as many as may have come.
        await until(lambda: api.client.gate._account.is_narrow or most == 4)
        # A fifth, if it were let through, would come now.
        await let_everything_run()
        running -= 1
        return web.json_response(PAGE)

    async with serve(handler) as service, calling(service.base_url, concurrency_max=4) as api:
        await asyncio.gather(*(api.syslogs() for _ in range(20)))

    assert most == 4
    assert len(service.requests) == 20


async def test_three_refused_scopes_stop_the_operation_and_a_success_forgives() -> None:
    """Three different scopes refused in a row stop the operation; the same one thrice, or a success between, do not."""

    async def handler(request: web.Request) -> web.StreamResponse:
        scope = json.loads(await request.read())["NodeId"]
        return web.json_response(PAGE) if scope == "good" else error_reply(403, "Forbidden.RAM", "no right")

    async with serve(handler) as service, calling(service.base_url) as api:

        async def call(scope_id: str) -> None:
            await api.client.request(LIST_SYSLOGS, scope_id, SYSLOGS | {"NodeId": scope_id})

        for scope_id in ("a", "a", "a", "b"):
            with pytest.raises(ForbiddenError):
                await call(scope_id)
        await call("good")
        for scope_id in ("a", "b", "c"):
            with pytest.raises(ForbiddenError, match="no right"):
                await call(scope_id)
        before = len(service.requests)
        with pytest.raises(ForbiddenError, match="3 scopes in a row"):
            await call("good")
        assert len(service.requests) == before
        assert api.client.gate.operation_stopped("ListSyslogs")
        assert not api.client.gate.operation_stopped("GetUserViewMetrics")

        api.client.gate.reopen("ListSyslogs")
        await call("good")


async def test_a_circuit_holds_calls_back_until_a_probe_succeeds() -> None:
    """After eight failures in a row one probe at a time goes out; its success lets everybody through."""
    failing = True

    async def handler(request: web.Request) -> web.StreamResponse:
        return error_reply(503) if failing else web.json_response(PAGE)

    async with serve(handler) as service, calling(service.base_url, policy=replace(QUICK, attempts_max=4)) as api:
        for _ in range(2):
            with pytest.raises(TransientError):
                await api.syslogs()
        assert api.client.gate.circuit_open("ListSyslogs")
        failed = len(service.requests)
        waiting = [asyncio.create_task(api.syslogs()) for _ in range(20)]
        await let_everything_run()
        assert len(service.requests) == failed == 8
        failing = False
        await asyncio.gather(*waiting)

    assert len(service.requests) == 8 + 20
    assert not api.client.gate.circuit_open("ListSyslogs")


async def test_a_pause_longer_than_the_deadline_is_not_waited_for() -> None:
    """A call that cannot be sent before its deadline is given up at once, unsent."""
    async with serve(scripted(PAGE)) as service, calling(service.base_url) as api:
        api.buckets["ListSyslogs"].slow_down(500.0)
        with pytest.raises(ThrottledError):
            await api.syslogs()

    assert service.requests == []
    assert api.meter.settled == []


# The quota


async def test_the_server_never_counts_more_than_the_quota() -> None:
    """With more callers than tokens, no second at the server holds more than the quota, and order is kept."""
    order: list[str] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        order.append(json.loads(await request.read())["NodeId"])
        return web.json_response(PAGE)

    async with serve(handler) as service, calling(service.base_url, concurrency_max=8) as api:
        # A busy machine delays arrivals by more than a network does.
        api.buckets["ListSyslogs"] = TokenBucket(40, clock=api.clock, jitter_seconds=0.3)
        await api.client.request(LIST_SYSLOGS, "warm", SYSLOGS)
        order.clear()
        await asyncio.gather(
            *(api.client.request(LIST_SYSLOGS, f"n{i}", SYSLOGS | {"NodeId": f"{i:03}"}) for i in range(90))
        )

    times = service.arrivals
    most = max(bisect.bisect_left(times, start + 1.0) - index for index, start in enumerate(times))
    assert most <= 40
    assert len(order) == 90
    # Requests of neighbouring tokens may pass one another on their way; the line itself keeps its order.
    assert all(abs(int(node) - index) <= 8 for index, node in enumerate(order))


async def test_a_refusal_slows_the_operation_down() -> None:
    """A 429 pauses and slows the bucket as the service demands, and is told once."""
    async with (
        serve(scripted(error_reply(429, "Throttling.User", Retry_After="0.05"), PAGE)) as service,
        calling(service.base_url) as api,
    ):
        with structlog.testing.capture_logs() as logs:
            await api.syslogs()

    assert api.codes == [(429, "Throttling.User")]
    assert api.buckets["ListSyslogs"].rate < 600
    assert service.arrivals[1] - service.arrivals[0] >= 0.05
    throttled = [log for log in logs if log["event"] == "request_throttled"]
    assert [log["retry_after_seconds"] for log in throttled] == [0.05]


# Secrets


async def echo_key(request: web.Request) -> web.StreamResponse:
    key = request.headers["Authorization"]
    body = {"Code": f"Bad {key}", "Message": f"refused {key}", "RequestId": key}
    return web.json_response(body, status=int(request.headers.get("X-Status", "400")))


async def talk_garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = await read_request(reader)
    writer.write(b"HTTP/1.1 whatever\r\n" + head)


async def talk_abort(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    writer.transport.abort()


async def talk_short(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    writer.write(http_bytes(b"{", length=500))


async def talk_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


def everything_about(error: BaseException) -> str:
    """Every text that a log, a traceback or a debugger could make of an exception and what hangs on it."""
    texts = []
    seen: list[BaseException | None] = [error]
    while seen:
        each = seen.pop()
        if each is None:
            continue
        texts += [repr(each), str(each), repr(each.args), repr(vars(each)), *traceback.format_exception(each)]
        seen += [each.__cause__, each.__context__]
    return "\n".join(texts)


@pytest.mark.parametrize("talk", [talk_garbage, talk_abort, talk_short, talk_nothing])
async def test_the_key_is_in_nothing_that_a_broken_call_leaves(
    talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> None:
    """However a call breaks, no exception, log or meter entry holds the key."""
    async with raw_service(talk) as base_url, calling(base_url, policy=ONCE, timeout_seconds=0.3) as api:
        with structlog.testing.capture_logs() as logs:
            for call in (api.users, api.syslogs):
                with pytest.raises(ApiError) as caught:
                    await call()
                assert CANARY not in everything_about(caught.value)

    assert logs
    assert CANARY not in repr(logs)
    assert CANARY not in repr(api.meter.settled)
    assert api.meter.settled


async def test_the_key_is_in_nothing_that_a_refused_call_leaves() -> None:
    """A service that echoes the key in code, message and request id does not get it into an error or log."""
    async with serve(echo_key) as service, calling(service.base_url) as api:
        with structlog.testing.capture_logs() as logs, pytest.raises(BadRequestError) as caught:
            await api.syslogs()

    assert "refused Bearer ***" in str(caught.value)
    assert CANARY not in everything_about(caught.value)
    assert CANARY not in repr(logs) + repr(api.meter.settled) + repr(vars(api.client))


# Signed calls


KEY = AccessKey("LTAIid-1", f"{CANARY}-1", "token-1")
OTHER_KEY = AccessKey("LTAIid-2", f"{CANARY}-2", "token-2")


class Rotating:
    """Credentials that change when the service calls them expired."""

    def __init__(self, *credentials: Credentials, failure: TransientError | None = None) -> None:
        self.left = list(credentials)
        self.failure = failure
        self.renewals: list[Credentials] = []

    async def get(self) -> Credentials:
        return self.left[0]

    async def renew(self, refused: Credentials) -> bool:
        self.renewals.append(refused)
        if self.failure is not None:
            raise self.failure
        if self.left[0] == refused and len(self.left) > 1:
            self.left.pop(0)
        return self.left[0] != refused


def proofs(requests: list[web.Request]) -> set[str]:
    return {request.headers["x-acs-signature-nonce"] for request in requests}


def assert_well_signed(requests: list[web.Request], bodies: list[bytes], *keys: AccessKey) -> None:
    """Every request carries the signature of its own bytes, each by the key of its turn."""
    for request, body, key in zip(requests, bodies, keys, strict=True):
        assert request.headers["x-acs-content-sha256"] == content_sha256(body)
        assert request.headers["Authorization"] == authorization(
            request.method, request.path, request.query.items(), request.headers, key_id=key.key_id, secret=key.secret
        )


async def test_a_repeated_call_is_signed_anew() -> None:
    """Each attempt has a nonce and a signature of its own."""
    handler = scripted(error_reply(503), error_reply(400, "SignatureNonceUsed"), PAGE)
    async with serve(handler) as service, calling(service.base_url, credentials=StaticCredentials(KEY)) as api:
        await api.syslogs()

    assert len(proofs(service.requests)) == 3
    assert_well_signed(service.requests, service.bodies, KEY, KEY, KEY)


async def test_aiohttps_own_repeat_of_a_get_is_signed_anew() -> None:
    """The service takes no nonce twice, so the repeat on a new connection has another."""
    heads: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            heads.append(await read_request(reader))
            if len(heads) == 2:
                writer.transport.abort()
                return
            writer.write(http_bytes(b'{"Total": 0}'))
            await writer.drain()

    async with (
        raw_service(talk) as base_url,
        calling(base_url, policy=ONCE, credentials=StaticCredentials(KEY)) as api,
    ):
        await api.users()
        await api.users()

    assert len(heads) == 3
    for name in (b"x-acs-signature-nonce: ", b"Authorization: "):
        values = [line for head in heads for line in head.split(b"\r\n") if line.startswith(name)]
        assert len(values) == len(set(values)) == 3
    assert api.codes == [(0, "connection")]


async def test_a_signature_is_made_when_the_call_leaves() -> None:
    """The date is that of the moment after the wait for a token, however long that was."""
    async with serve(scripted(PAGE)) as service, calling(service.base_url, credentials=StaticCredentials(KEY)) as api:
        api.server_clock.observe(1_760_000_000)
        bucket = api.buckets["ListSyslogs"]
        acquire = bucket.acquire

        async def half_a_minute_later() -> None:
            await acquire()
            api.server_clock.observe(1_760_000_030)

        bucket.acquire = half_a_minute_later  # type: ignore[method-assign]
        await api.syslogs()

    assert service.requests[0].headers["x-acs-date"] == "2025-10-09T08:53:50Z"


async def test_a_signature_with_a_wrong_date_is_made_anew_by_the_services_clock() -> None:
    """The refusal tells the time, and the second signature names it; it had no effect, so any call is repeated."""
    date = 1_750_000_000
    refusal = error_reply(400, "InvalidTimeStamp.Expired", Date=formatdate(date, usegmt=True))
    answer = web.json_response({"DiagnosticId": "d-1"}, headers={"Date": formatdate(date, usegmt=True)})
    async with (
        serve(scripted(refusal, answer)) as service,
        calling(service.base_url, credentials=StaticCredentials(KEY)) as api,
    ):
        assert not CREATE_DIAGNOSTIC_TASK.repeatable
        await api.client.request(CREATE_DIAGNOSTIC_TASK, "", {"ClusterId": "c"})

    assert len(service.requests) == 2
    assert service.requests[1].headers["x-acs-date"].startswith("2025-06-15T15:06:4")
    assert api.codes == [(400, "InvalidTimeStamp.Expired")]


async def test_a_date_that_is_refused_again_is_not_sent_a_third_time() -> None:
    """One new signature is enough to know that it was not the date."""
    reply = error_reply(400, "InvalidTimeStamp.Expired")
    async with serve(scripted(reply)) as service, calling(service.base_url, credentials=StaticCredentials(KEY)) as api:
        with pytest.raises(TransientError):
            await api.syslogs()

    assert len(service.requests) == 2
    assert not api.client.gate.account_stopped


async def test_expired_credentials_are_renewed_and_the_call_repeated() -> None:
    """The repeat is signed with the new key, nobody is stopped, and what was refused together is renewed together."""

    async def handler(request: web.Request) -> web.StreamResponse:
        if request.headers["x-acs-security-token"] == KEY.security_token:
            return error_reply(400, "InvalidSecurityToken.Expired")
        return web.json_response(PAGE)

    credentials = Rotating(KEY, OTHER_KEY)
    async with serve(handler) as service, calling(service.base_url, credentials=credentials) as api:
        api.client.gate._account.widen()
        await asyncio.gather(*(api.syslogs(f"n{number}") for number in range(12)))

    used = [OTHER_KEY if KEY.key_id not in request.headers["Authorization"] else KEY for request in service.requests]
    assert_well_signed(service.requests, service.bodies, *used)
    assert used.count(OTHER_KEY) == 12
    assert not api.client.gate.account_stopped
    assert not api.client.gate.circuit_open("ListSyslogs")


async def test_expired_credentials_without_others_stop_the_account() -> None:
    """Where the chain gives the same key again, nothing is repeated, and the advice is to set another."""
    reply = error_reply(400, "InvalidSecurityToken.Expired", f"token {KEY.security_token} of {KEY.secret}")
    credentials = Rotating(KEY)
    async with serve(scripted(reply)) as service, calling(service.base_url, credentials=credentials) as api:
        with pytest.raises(CredentialsError) as caught:
            await api.syslogs()

    assert "token *** of ***" in str(caught.value)
    assert len(service.requests) == 1
    assert credentials.renewals == [KEY]
    assert api.client.gate.account_stopped


async def test_new_credentials_that_are_refused_too_are_not_renewed_again() -> None:
    """One call renews once: a service that calls everything expired ends in a refused key."""
    reply = error_reply(400, "InvalidSecurityToken.Expired")
    credentials = Rotating(KEY, OTHER_KEY, KEY, OTHER_KEY)
    async with serve(scripted(reply)) as service, calling(service.base_url, credentials=credentials) as api:
        with pytest.raises(CredentialsError):
            await api.syslogs()

    assert len(service.requests) == 2
    assert credentials.renewals == [KEY]


async def test_credentials_that_cannot_be_had_at_present_stop_nobody() -> None:
    """A chain that is down is a failure that passes."""
    reply = error_reply(400, "InvalidSecurityToken.Expired")
    credentials = Rotating(KEY, failure=TransientError("metadata service is down"))
    async with (
        serve(scripted(reply)) as service,
        calling(service.base_url, policy=ONCE, credentials=credentials) as api,
    ):
        with pytest.raises(TransientError, match="ListSyslogs of e01-cn-1: metadata service is down"):
            await api.syslogs()

    assert not api.client.gate.account_stopped
    assert api.meter.reserved == set()


async def test_without_credentials_nothing_is_sent() -> None:
    """A chain without a key stops the account before a call is counted."""

    class Nothing(Rotating):
        async def get(self) -> Credentials:
            raise CredentialsError("no access key was found")

    async with serve(scripted(PAGE)) as service, calling(service.base_url, credentials=Nothing()) as api:
        with pytest.raises(CredentialsError, match="ListSyslogs of e01-cn-1: no access key was found"):
            await api.syslogs()

    assert service.requests == []
    assert (api.meter.reserved, api.meter.settled, api.meter.released) == (set(), [], [])
    assert api.client.gate.account_stopped
