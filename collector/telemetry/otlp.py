"""Recording with OpenTelemetry: spans, their queue, and their bytes. Importing this needs the extra `tracing`."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Mapping
from contextvars import ContextVar, Token
from random import Random
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, cast

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import Span, Status, StatusCode, set_span_in_context

from collector import __version__
from collector.clock import Clock
from collector.errors import CollectorError
from collector.redaction import redact

if TYPE_CHECKING:
    from collector.telemetry.tracing import Delivered, Limits, Value

SERVICE_NAME: Final = "pai-collector"
TEXT_CHARACTERS_MAX: Final = 1000
"""A longer text of an attribute or an error is cut."""

_NANOSECONDS: Final = 1_000_000_000
_current: ContextVar[Span | None] = ContextVar("tracing_current", default=None)


class Recorder:
    """Opens spans, and keeps those that have ended until they are taken."""

    def __init__(self, clock: Clock, random: Random, delivered: Delivered, limits: Limits) -> None:
        self._clock = clock
        self._delivered = delivered
        self._limits = limits
        self._queue: deque[ReadableSpan] = deque()
        self._taken = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self.full = asyncio.Event()
        """Set while a whole batch waits."""
        # Not the process-wide provider: what else a process traces is not ours to send.
        provider = TracerProvider(
            resource=Resource.create({"service.name": SERVICE_NAME, "service.version": __version__}),
            id_generator=_Ids(random),
            shutdown_on_exit=False,
        )
        provider.add_span_processor(_Ended(self))
        self._tracer = provider.get_tracer("collector", __version__)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Take ended spans from now on; `full` belongs to this loop."""
        self._loop = loop

    def open(self, name: str, attributes: Mapping[str, Value]) -> RecordedSpan:
        """A span that begins when it is entered."""
        return RecordedSpan(self, name, attributes)

    def begin(self, name: str, start_nanoseconds: int) -> Span:
        """Begin a span below the present one."""
        parent = _current.get()
        # An empty context: what surrounds this process is not the parent of its spans.
        around = Context() if parent is None else set_span_in_context(parent, Context())
        return self._tracer.start_span(name, around, start_time=start_nanoseconds)

    @property
    def clock(self) -> Clock:
        return self._clock

    def add(self, span: ReadableSpan) -> None:
        """Keep an ended span, or count it where there is no room. May be called from any thread."""
        if self._loop is None or len(self._queue) + self._taken >= self._limits.queue_max:
            self._delivered.dropped += 1
            return
        self._queue.append(span)
        if len(self._queue) == self._limits.batch_max:
            with contextlib.suppress(RuntimeError):  # The loop has closed.
                self._loop.call_soon_threadsafe(self.full.set)

    @property
    def empty(self) -> bool:
        """True when no ended span waits."""
        return not self._queue

    def take(self, count: int) -> list[object]:
        """The oldest spans. They count as waiting until `settle`."""
        taken = [self._queue.popleft() for _ in range(min(count, len(self._queue)))]
        self._taken = len(taken)
        if len(self._queue) < self._limits.batch_max:
            self.full.clear()
        return cast("list[object]", taken)

    def settle(self) -> None:
        """The spans last taken have been dealt with."""
        self._taken = 0

    def close(self) -> int:
        """Keep no more spans; returns how many were still waiting."""
        left = len(self._queue) + self._taken
        self._loop = None
        self._queue.clear()
        self._taken = 0
        return left

    @staticmethod
    def encode(batch: list[object]) -> bytes:
        """The body of an OTLP request."""
        return bytes(encode_spans(cast("list[ReadableSpan]", batch)).SerializeToString())


class RecordedSpan:
    """One span, from entering to leaving."""

    __slots__ = ("_attributes", "_name", "_recorder", "_span", "_start_monotonic", "_start_nanoseconds", "_token")

    _span: Span
    _token: Token[Span | None]

    def __init__(self, recorder: Recorder, name: str, attributes: Mapping[str, Value]) -> None:
        self._recorder = recorder
        self._name = name
        self._attributes = attributes

    def set(self, **attributes: Value) -> None:
        for key, value in attributes.items():
            self._span.set_attribute(key, _shown(value) if isinstance(value, str) else value)

    def __enter__(self) -> Self:
        clock = self._recorder.clock
        self._start_monotonic = clock.monotonic()
        self._start_nanoseconds = round(clock.wall() * _NANOSECONDS)
        self._span = self._recorder.begin(self._name, self._start_nanoseconds)
        self._token = _current.set(self._span)
        self.set(**self._attributes)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A generator may be closed in another context than it began in.
        with contextlib.suppress(ValueError):
            _current.reset(self._token)
        # The wall clock may have been stepped: a span lasts as long as the monotonic one says.
        elapsed = self._recorder.clock.monotonic() - self._start_monotonic
        end_nanoseconds = self._start_nanoseconds + round(elapsed * _NANOSECONDS)
        if isinstance(error, asyncio.CancelledError):
            self._span.set_attribute("cancelled", True)
        elif error is not None:
            self._fail(error, end_nanoseconds)
        self._span.end(end_nanoseconds)

    def _fail(self, error: BaseException, at_nanoseconds: int) -> None:
        name = _type_name(error)
        described = {"exception.type": name}
        # Other libraries' texts hold addresses and whatever else they were given.
        if isinstance(error, CollectorError):
            described["exception.message"] = _shown(str(error))
        self._span.set_attribute("error.type", name)
        self._span.add_event("exception", described, at_nanoseconds)
        self._span.set_status(Status(StatusCode.ERROR, described.get("exception.message", name)))


class _Ended(SpanProcessor):
    """Hands spans to the recorder as they end."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def on_end(self, span: ReadableSpan) -> None:
        if span.context is not None and span.context.trace_flags.sampled:
            self._recorder.add(span)


class _Ids(IdGenerator):
    """Ids from the generator that was handed in; zero is no id."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def generate_span_id(self) -> int:
        return self._random.randrange(1, 1 << 64)

    def generate_trace_id(self) -> int:
        return self._random.randrange(1, 1 << 128)


def rejected_spans(answer: bytes) -> int:
    """Spans that the endpoint did not take, by the body of its answer."""
    try:
        return int(ExportTraceServiceResponse.FromString(answer).partial_success.rejected_spans)
    except Exception:
        # Not in OTLP's words, so it says nothing.
        return 0


def _shown(text: str) -> str:
    return redact(str(text))[:TEXT_CHARACTERS_MAX]


def _type_name(error: BaseException) -> str:
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
