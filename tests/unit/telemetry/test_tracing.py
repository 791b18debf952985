"""Spans: what is recorded, what arrives, what is never said, and that collecting does not notice."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from random import Random
from typing import Any

import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from collector import __version__
from collector.catalogue.products.pai_llm_trace import GetXtraceTokenAnswer
from collector.errors import ThrottledError
from collector.redaction import forget_secrets, register_secret
from collector.telemetry import log, tracing
from collector.telemetry.tracing import Limits, Tracing, span
from tests.support.virtual_clock import ManualClock

SECRET_PATH = "/adapt_abc123@demo_abc123@demo/api/otlp/traces"
TOKEN = "abc123@demo_abc123@demo"


class Sink:
    """An OTLP endpoint over HTTP that answers as it is told and keeps what it has taken."""

    def __init__(self) -> None:
        self.address = ""
        self.taken: list[Any] = []
        """`ResourceSpans` of the requests that were taken."""
        self.asked: list[str] = []
        """Paths of all requests."""
        self.answer: Callable[[str], web.Response] = lambda path: web.Response()
        self.hold: asyncio.Event | None = None
        self.arrived = asyncio.Event()

    async def post(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.asked.append(request.raw_path)
        self.arrived.set()
        if self.hold is not None:
            await self.hold.wait()
        response = self.answer(request.raw_path)
        if response.status < 300:
            assert request.content_type == "application/x-protobuf"
            self.taken += ExportTraceServiceRequest.FromString(body).resource_spans
        return response

    @property
    def spans(self) -> list[Any]:
        return [one for resource in self.taken for scope in resource.scope_spans for one in scope.spans]

    @property
    def names(self) -> list[str]:
        return [one.name for one in self.spans]


@asynccontextmanager
async def listening() -> AsyncIterator[Sink]:
    """A sink on a free port."""
    sink = Sink()
    app = web.Application()
    app.router.add_post("/{path:.*}", sink.post)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    sink.address = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"
    try:
        yield sink
    finally:
        await runner.cleanup()


@asynccontextmanager
async def babbling() -> AsyncIterator[str]:
    """The address of something that speaks no HTTP."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTP/9.9 what?\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.fixture
async def sink() -> AsyncIterator[Sink]:
    async with listening() as running:
        yield running


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    yield
    forget_secrets()
    log.reset()


class Tokens:
    """Answers of `GetXtraceToken`, one path after the other, the last one for good."""

    def __init__(self, address: str, *paths: str) -> None:
        self._address = address
        self._paths = paths
        self.calls = 0

    async def __call__(self) -> GetXtraceTokenAnswer:
        path = self._paths[min(self.calls, len(self._paths) - 1)]
        self.calls += 1
        return GetXtraceTokenAnswer(
            token=TOKEN,
            http_endpoint=self._address + path,
            http_internal_endpoint=self._address + "/internal" + path,
        )


def started(ask: Any, clock: ManualClock, **options: Any) -> Tracing:
    running = Tracing(ask, clock=clock, random=Random(1), **options)
    running.start()
    return running


async def until(condition: Callable[[], object]) -> None:
    """Let the tasks run until a condition holds; fails when it never does."""
    async with asyncio.timeout(180):
        while not condition():
            await asyncio.sleep(0)


async def pass_time(clock: ManualClock, seconds: float) -> None:
    """Move time on once somebody waits for it."""
    await until(lambda: clock.next_wake is not None)
    await clock.advance(seconds)


def attributes(of: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in of.attributes}


def end_spans(count: int, name: str = "page") -> None:
    for number in range(count):
        with span(f"{name} {number}"):
            pass


# Off


def test_off_costs_nothing_and_imports_nothing() -> None:
    """Without a tracer a span is one shared object, and neither OpenTelemetry nor an HTTP library is loaded."""
    code = """
import sys
from collector.telemetry import tracing
with tracing.span("window", stream="x") as outer, tracing.span("page", page=1) as inner:
    inner.set(rows=100)
assert outer is inner is tracing.span("segment")
print([name for name in sys.modules if name.partition(".")[0] in ("opentelemetry", "google", "aiohttp", "requests")])
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert ended.stdout.strip() == "[]"


@pytest.mark.parametrize("package", ["opentelemetry", "google.protobuf"])
def test_a_missing_package_is_a_mistake_in_the_configuration(package: str) -> None:
    """Tracing that is switched on without its packages says which command installs them."""
    code = f"""
import sys
sys.modules[{package!r}] = None
from random import Random
from collector.clock import SystemClock
from collector.errors import ConfigError
from collector.telemetry.tracing import Tracing
try:
    Tracing(None, clock=SystemClock(), random=Random())
except ConfigError as error:
    print(error.mistakes[0].split(";")[0], "|", error.hint)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert ended.stdout.strip() == "tracing.enabled: got true | pip install 'pai-collector[tracing]'"


async def test_after_the_end_nothing_is_recorded(sink: Sink, clock: ManualClock) -> None:
    """A span that is open at the end is counted as dropped, a later one is the shared nothing again."""
    running = started(Tokens(sink.address, SECRET_PATH), clock)

    with span("window"):
        await running.shutdown()
    end_spans(1)

    assert span("page") is span("window")
    assert (sink.names, running.delivered.sent, running.delivered.dropped) == ([], 0, 1)


# What arrives


async def test_spans_of_a_nested_flow_arrive_as_a_tree(sink: Sink, clock: ManualClock) -> None:
    """Pages are children of their window though other windows run beside it, and carry their attributes."""

    async def window(stream: str, pages: int) -> None:
        with span("window", stream=stream) as around:
            for number in range(pages):
                with span("page", number=number, first=number == 0, share=0.5) as page:
                    await asyncio.sleep(0)
                    page.set(rows=100 * number)
            around.set(pages=pages)

    async with Tracing(Tokens(sink.address, SECRET_PATH), clock=clock, random=Random(1)) as running:
        async with asyncio.TaskGroup() as group:
            for stream, pages in (("a", 2), ("b", 3)):
                group.create_task(window(stream, pages))
        with span("segment", table="syslogs"):
            await asyncio.to_thread(end_spans, 1, "in a thread")

    windows = {attributes(one)["stream"]: one for one in sink.spans if one.name == "window"}
    for stream, pages in (("a", 2), ("b", 3)):
        above = windows[stream]
        children = [one for one in sink.spans if one.parent_span_id == above.span_id]
        assert {one.trace_id for one in children} == {above.trace_id}
        assert [one.name for one in children] == ["page"] * pages
        assert [attributes(one)["rows"] for one in children] == [100 * number for number in range(pages)]
        assert attributes(children[0]) == {"number": 0, "first": True, "share": 0.5, "rows": 0}
        assert attributes(above) == {"stream": stream, "pages": pages}
        assert above.parent_span_id == b""
    (segment,) = [one for one in sink.spans if one.name == "segment"]
    (below,) = [one for one in sink.spans if one.name == "in a thread 0"]
    assert below.parent_span_id == segment.span_id
    assert segment.trace_id not in {one.trace_id for one in windows.values()}
    assert (running.delivered.sent, running.delivered.dropped) == (len(sink.spans), 0) == (9, 0)
    assert sink.asked == [SECRET_PATH]


async def test_spans_tell_who_sends_them_and_when(sink: Sink, clock: ManualClock) -> None:
    """The resource names service and version; a span lasts as long as the monotonic clock says."""
    running = started(Tokens(sink.address, SECRET_PATH), clock, limits=Limits(interval_seconds=1000))

    with span("window"):
        await clock.advance(1.5)
        clock.step_wall(-3600)
    await running.shutdown()

    resource = attributes(sink.taken[0].resource)
    assert (resource["service.name"], resource["service.version"]) == ("pai-collector", __version__)
    (window,) = sink.spans
    assert window.start_time_unix_nano == 1_760_000_000_000_000_000
    assert window.end_time_unix_nano - window.start_time_unix_nano == 1_500_000_000


async def test_a_batch_that_is_full_does_not_wait(sink: Sink, clock: ManualClock) -> None:
    """Spans go out when a batch is full or the interval has passed, whichever comes first."""
    running = started(Tokens(sink.address, SECRET_PATH), clock, limits=Limits(batch_max=3, interval_seconds=5))

    end_spans(3)
    await until(lambda: running.delivered.sent == 3)
    end_spans(2, "later")
    await pass_time(clock, 4)
    assert len(sink.names) == 3
    await pass_time(clock, 2)
    await until(lambda: len(sink.names) == 5)
    await running.shutdown()

    assert sink.names == ["page 0", "page 1", "page 2", "later 0", "later 1"]


@pytest.mark.parametrize(("endpoint", "path"), [("internet", SECRET_PATH), ("internal", "/internal" + SECRET_PATH)])
async def test_the_setting_chooses_the_endpoint(sink: Sink, clock: ManualClock, endpoint: Any, path: str) -> None:
    """Spans go to the address that is reached from where the collector runs."""
    async with Tracing(Tokens(sink.address, SECRET_PATH), clock=clock, random=Random(1), endpoint=endpoint):
        end_spans(1)

    assert sink.asked == [path]


async def test_sending_is_not_traced_itself(sink: Sink, clock: ManualClock) -> None:
    """The call that asks for a token makes no spans, or tracing would feed itself."""
    tokens = Tokens(sink.address, SECRET_PATH)

    async def ask() -> GetXtraceTokenAnswer:
        with span("call"):
            return await tokens()

    running = started(ask, clock, limits=Limits(batch_max=1))
    end_spans(1)
    await until(lambda: running.delivered.sent == 1)
    await running.shutdown()

    assert sink.names == ["page 0"]


# Errors in the work


async def test_an_error_marks_its_spans_and_passes(sink: Sink, clock: ManualClock) -> None:
    """The project's errors are told without secrets, those of others by their type alone."""
    register_secret("sk-very-secret")

    def fail(error: Exception) -> None:
        with pytest.raises(type(error)), span("window"):
            raise error

    async with Tracing(Tokens(sink.address, SECRET_PATH), clock=clock, random=Random(1)):
        fail(ThrottledError("too fast, says sk-very-secret", operation="ListSyslogs"))
        fail(ValueError("text with a password=hunter2"))

    told, bare = sink.spans
    assert [one.status.code for one in sink.spans] == [2, 2]
    assert attributes(told)["error.type"] == "collector.errors.ThrottledError"
    assert attributes(told.events[0])["exception.message"] == "ListSyslogs: too fast, says ***"
    assert attributes(bare.events[0]) == {"exception.type": "ValueError"}
    assert b"hunter2" not in sink.taken[0].SerializeToString()


async def test_a_cancelled_span_is_no_error(sink: Sink, clock: ManualClock) -> None:
    """Work that is called off at the end is marked as that."""
    begun = asyncio.Event()

    async def work() -> None:
        with span("window"):
            begun.set()
            await asyncio.Event().wait()

    async with Tracing(Tokens(sink.address, SECRET_PATH), clock=clock, random=Random(1)):
        task = asyncio.create_task(work())
        await begun.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    (window,) = sink.spans
    assert (window.status.code, attributes(window), list(window.events)) == (0, {"cancelled": True}, [])


async def test_attributes_show_no_secret(sink: Sink, clock: ManualClock) -> None:
    """A registered secret inside an attribute's text is hidden before it leaves."""
    register_secret("sk-very-secret")

    async with Tracing(Tokens(sink.address, SECRET_PATH), clock=clock, random=Random(1)):
        with span("page", code="refused sk-very-secret") as page:
            page.set(more="sk-very-secret" * 1000)

    assert attributes(sink.spans[0])["code"] == "refused ***"
    assert b"sk-very-secret" not in sink.taken[0].SerializeToString()


# Trouble on the way


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_a_refused_token_is_renewed_and_no_span_is_lost(sink: Sink, clock: ManualClock, status: int) -> None:
    """When the token ends in the middle, the same spans go out under a new one, once."""
    tokens = Tokens(sink.address, "/old/traces", "/new/traces")
    running = started(tokens, clock, limits=Limits(batch_max=2))
    end_spans(2)
    await until(lambda: len(sink.names) == 2)

    sink.answer = lambda path: web.Response(status=status if path.startswith("/old") else 200)
    end_spans(6, "later")
    await running.shutdown()

    assert sorted(sink.names) == sorted(["page 0", "page 1", *(f"later {number}" for number in range(6))])
    assert sink.asked == ["/old/traces"] * 2 + ["/new/traces"] * 3
    assert (tokens.calls, running.delivered.sent, running.delivered.dropped) == (2, 8, 0)


async def test_a_token_refused_for_good_is_asked_for_politely(sink: Sink, clock: ManualClock) -> None:
    """While every token is refused, each attempt asks for one at most, and attempts become rarer."""
    sink.answer = lambda path: web.Response(status=403)
    tokens = Tokens(sink.address, SECRET_PATH)
    running = started(tokens, clock, limits=Limits(batch_max=1))
    end_spans(1)
    await until(lambda: running.delivered.last_error)

    for _ in range(60):
        await pass_time(clock, 10)
    calls = tokens.calls

    assert 5 < calls < 25
    assert running.delivered.last_error == "the token is refused: HTTP 403"
    sink.answer = lambda path: web.Response()
    await running.shutdown()
    assert sink.names == ["page 0"]


async def test_a_token_is_renewed_when_it_is_old(sink: Sink, clock: ManualClock) -> None:
    """The service tells no expiry, so a token is asked for again after its time, and only then."""
    tokens = Tokens(sink.address, "/first/traces", "/second/traces")
    running = started(tokens, clock, limits=Limits(batch_max=1, renew_seconds=3600))

    for number, passed in enumerate((0, 3000, 700)):
        await pass_time(clock, passed)
        end_spans(1)
        await until(partial(lambda names: len(sink.names) == names, number + 1))
    await running.shutdown()

    assert sink.asked == ["/first/traces", "/first/traces", "/second/traces"]
    assert tokens.calls == 2


async def test_an_old_token_is_used_on_while_no_new_one_comes(sink: Sink, clock: ManualClock) -> None:
    """A renewal that fails costs no span while the old token is taken."""
    tokens = Tokens(sink.address, SECRET_PATH)

    async def ask() -> GetXtraceTokenAnswer:
        if tokens.calls:
            raise ThrottledError("too fast")
        return await tokens()

    running = started(ask, clock, limits=Limits(batch_max=1, renew_seconds=60))
    end_spans(1)
    await until(lambda: len(sink.names) == 1)
    await pass_time(clock, 61)
    end_spans(1)
    await running.shutdown()

    assert sink.names == ["page 0", "page 0"]


async def test_spans_beyond_the_queue_are_dropped_and_counted(sink: Sink, clock: ManualClock) -> None:
    """While sending fails the queue keeps what came first, and that arrives, once, when it works again."""
    sink.answer = lambda path: web.Response(status=503)
    running = started(Tokens(sink.address, SECRET_PATH), clock, limits=Limits(queue_max=10, batch_max=4))

    end_spans(25)
    await until(lambda: sink.asked)
    end_spans(3, "too late")
    sink.answer = lambda path: web.Response()
    await until(lambda: running.delivered.last_error == "HTTP 503")
    await pass_time(clock, 2)
    await until(lambda: running.delivered.sent == 10)
    await running.shutdown()

    assert sink.names == [f"page {number}" for number in range(10)]
    assert (running.delivered.sent, running.delivered.dropped, running.delivered.last_error) == (10, 18, "")


async def test_what_a_repeat_cannot_cure_is_dropped(sink: Sink, clock: ManualClock) -> None:
    """A batch refused as wrong is counted and does not hold up the next one; a redirect is not followed."""
    sink.answer = lambda path: web.Response(status=307, headers={"Location": sink.address + "/elsewhere"})
    running = started(Tokens(sink.address, SECRET_PATH), clock, limits=Limits(batch_max=2))
    end_spans(2)
    await until(lambda: running.delivered.dropped == 2)

    sink.answer = lambda path: web.Response()
    end_spans(2, "later")
    await running.shutdown()

    assert sink.names == ["later 0", "later 1"]
    assert set(sink.asked) == {SECRET_PATH}


async def test_a_partial_success_is_counted_as_that(sink: Sink, clock: ManualClock) -> None:
    """Spans that the endpoint says it rejected are dropped ones."""
    told = ExportTraceServiceResponse()
    told.partial_success.rejected_spans = 2
    sink.answer = lambda path: web.Response(body=told.SerializeToString())
    running = started(Tokens(sink.address, SECRET_PATH), clock)

    end_spans(5)
    await running.shutdown()

    assert (running.delivered.sent, running.delivered.dropped) == (3, 2)


async def test_the_endpoint_says_when_to_come_again(sink: Sink, clock: ManualClock) -> None:
    """`Retry-After` is kept to where it is longer than the wait would be."""
    sink.answer = lambda path: web.Response(status=429, headers={"Retry-After": "30"})
    running = started(Tokens(sink.address, SECRET_PATH), clock, limits=Limits(batch_max=1))
    end_spans(1)
    await until(lambda: running.delivered.last_error)

    await pass_time(clock, 29)
    assert len(sink.asked) == 1
    await pass_time(clock, 2)
    await until(lambda: len(sink.asked) == 2)
    await running.shutdown()


@pytest.mark.parametrize("error", [ThrottledError("too fast"), RuntimeError("anything")])
async def test_trouble_with_the_token_reaches_nobody(sink: Sink, clock: ManualClock, error: Exception) -> None:
    """Whatever the call for the token raises, spans wait and go out when it works."""
    tokens = Tokens(sink.address, SECRET_PATH)
    failures = [error, error]

    async def ask() -> GetXtraceTokenAnswer:
        if failures:
            raise failures.pop()
        return await tokens()

    running = started(ask, clock, limits=Limits(batch_max=1))
    end_spans(1)
    for _ in range(2):
        await pass_time(clock, 5)
    await until(lambda: sink.names)
    await running.shutdown()

    assert (sink.names, running.delivered.dropped) == (["page 0"], 0)


@pytest.mark.parametrize("endpoint", [None, "", "not an address", "ftp://example.com/x", "http://[/x", "http://a:b/x"])
async def test_an_answer_without_an_address_is_trouble_like_any(clock: ManualClock, endpoint: str | None) -> None:
    """An endpoint that is none costs spans and nothing else."""

    async def ask() -> GetXtraceTokenAnswer:
        return GetXtraceTokenAnswer(http_endpoint=endpoint)

    running = started(ask, clock)
    end_spans(3)
    await running.shutdown()

    assert running.delivered.last_error == "no token: the answer holds no HTTP endpoint"
    assert running.delivered.dropped == 3


# The end


async def test_the_end_does_not_wait_for_a_dead_endpoint(clock: ManualClock) -> None:
    """With nobody listening, shutdown tries once, counts what is left, and returns without time passing."""
    async with listening() as gone:
        address = gone.address
    running = started(Tokens(address, SECRET_PATH), clock)
    end_spans(5)

    await running.shutdown()

    assert (running.delivered.sent, running.delivered.dropped) == (0, 5)
    assert running.delivered.last_error == "not sent: ClientConnectorError"
    assert clock.monotonic() == 0


async def test_the_end_waits_for_a_silent_endpoint_within_its_limit(sink: Sink, clock: ManualClock) -> None:
    """An endpoint that takes a request and never answers is left after `shutdown_seconds`."""
    sink.hold = asyncio.Event()
    running = started(Tokens(sink.address, SECRET_PATH), clock, limits=Limits(shutdown_seconds=5))
    end_spans(5)

    ending = asyncio.create_task(running.shutdown())
    await sink.arrived.wait()
    await clock.advance(4.9)
    assert not ending.done()
    await clock.advance(0.2)
    await until(ending.done)
    sink.hold.set()

    assert running.delivered.dropped == 5
    await ending


async def test_the_end_of_an_unused_tracer_asks_nothing(sink: Sink, clock: ManualClock) -> None:
    """Without spans no token is asked for and nothing is sent; ending twice is ending once."""
    tokens = Tokens(sink.address, SECRET_PATH)
    running = started(tokens, clock)

    await running.shutdown()
    await running.shutdown()

    assert (tokens.calls, sink.asked) == (0, [])


# Secrets


async def test_the_endpoint_is_in_no_log(
    sink: Sink, clock: ManualClock, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """At debug level, through success, refusals and broken connections, neither token nor path is said by anyone."""
    log.configure("debug", "json")
    # Records before the program's own redaction: nobody may rely on that alone.
    caplog.set_level(logging.DEBUG)
    async with listening() as gone:
        dead = gone.address
    answers = iter([503, 403, 400, 200])
    sink.answer = lambda path: web.Response(status=next(answers, 200))

    async with babbling() as odd:
        for address in (sink.address, odd, dead, "http://127.0.0.1:99999", "http://"):
            running = started(Tokens(address, SECRET_PATH), clock, limits=Limits(batch_max=1))
            end_spans(4)
            for _ in range(4):
                await pass_time(clock, 70)
            await running.shutdown()
            if address == odd:
                assert running.delivered.last_error == "not sent: ClientResponseError"

    assert "spans_not_sent" in caplog.text
    said = caplog.text + "".join(capsys.readouterr())
    assert not [secret for secret in (TOKEN, SECRET_PATH, "adapt_", "abc123") if secret in said]


async def test_objects_do_not_show_the_endpoint(sink: Sink, clock: ManualClock) -> None:
    """No repr of what tracing is made of holds the token."""
    running = started(Tokens(sink.address, SECRET_PATH), clock)
    end_spans(1)
    await running.shutdown()

    shown = "".join(map(repr, [running, running.delivered, *vars(running).values(), tracing]))
    assert "adapt_" not in shown
