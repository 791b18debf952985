"""Spans of the collector's own work, sent to the account's XTrace where the configuration asks for it.

`span` stands around a piece of work and costs next to nothing while tracing is off: OpenTelemetry is
imported only by a `Tracing`, and is the extra `tracing`. While it is on, finished spans wait in a
bounded queue; one task sends them in batches. Whatever goes wrong there costs spans, which are
counted, and never touches the work that they tell of.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from random import Random
from types import TracebackType
from typing import TYPE_CHECKING, Final, Literal, Protocol, Self

import structlog

from collector.backoff import backoff_seconds
from collector.catalogue.products.pai_llm_trace import GetXtraceTokenAnswer
from collector.clock import Clock
from collector.errors import ConfigError

if TYPE_CHECKING:
    from collector.telemetry.otlp import Recorder
    from collector.telemetry.xtrace import Uploader

log = structlog.get_logger(__name__)

Value = str | int | float | bool

BACKOFF_SECONDS_MIN: Final = 1.0
BACKOFF_SECONDS_MAX: Final = 60.0


class Span(Protocol):
    """One piece of work, from entering to leaving. An exception passes through and marks the span."""

    def set(self, **attributes: Value) -> None:
        """Add what is known only now, such as the rows of a page."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class _Nothing:
    """The span that is not there."""

    __slots__ = ()

    def set(self, **attributes: Value) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


_NOTHING: Final = _Nothing()
_recorder: Recorder | None = None
_muted: ContextVar[bool] = ContextVar("tracing_muted", default=False)
"""True in the task that sends spans: its own calls are not traced, else it would feed itself."""


def span(name: str, /, **attributes: Value) -> Span:
    """The span of the work inside `with`: a child of the span around it, also across tasks begun there.

    Texts go out without registered secrets.
    """
    recorder = _recorder
    return _NOTHING if recorder is None or _muted.get() else recorder.open(name, attributes)


@dataclass(frozen=True, slots=True)
class Limits:
    """How spans are kept and sent."""

    queue_max: int = 4096
    """Spans waiting; those that end beyond are dropped."""
    batch_max: int = 512
    interval_seconds: float = 5.0
    """A finished span waits at most this long while sending works."""
    timeout_seconds: float = 10.0
    """For one request."""
    renew_seconds: float = 3600.0
    """A token is asked for again after this long: the service tells no expiry."""
    shutdown_seconds: float = 5.0
    """At the end, for all that is left."""


@dataclass(slots=True)
class Delivered:
    """What has become of finished spans."""

    sent: int = 0
    dropped: int = 0
    """Had no room, were rejected, or were left at the end."""
    last_error: str = ""
    """Why sending does not work at the moment, empty while it does."""


class Tracing:
    """Records spans from `start` to `shutdown` and sends them. One at a time in a process."""

    def __init__(
        self,
        ask: Callable[[], Awaitable[GetXtraceTokenAnswer]],
        *,
        clock: Clock,
        random: Random,
        endpoint: Literal["internet", "internal"] = "internet",
        limits: Limits = Limits(),
    ) -> None:
        """`ask` makes the call of `GetXtraceToken`; first when there is something to send.

        Raises ConfigError when OpenTelemetry is not installed.
        """
        try:
            from collector.telemetry.otlp import Recorder
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in ("opentelemetry", "google"):
                raise
            raise ConfigError(
                ["tracing.enabled: got true; expected false, or OpenTelemetry beside this program"],
                hint="pip install 'pai-collector[tracing]'",
            ) from None
        from collector.telemetry.xtrace import Uploader

        self.delivered = Delivered()
        self._clock = clock
        self._random = random
        self._limits = limits
        self._recorder = Recorder(clock, random, self.delivered, limits)
        self._uploader: Uploader = Uploader(ask, clock, self.delivered, limits, internal=endpoint == "internal")
        self._ending = asyncio.Event()
        self._sending: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.shutdown()

    def start(self) -> None:
        """From now on spans are recorded. Needs the running loop."""
        global _recorder
        self._recorder.start(asyncio.get_running_loop())
        self._sending = asyncio.create_task(self._send_all(), name="tracing")
        _recorder = self._recorder

    async def shutdown(self) -> None:
        """Record nothing more, and send what is left while that works, within the limit. Never raises an error."""
        global _recorder
        if _recorder is self._recorder:
            _recorder = None
        if self._sending is None:
            return
        sending, self._sending = self._sending, None
        self._ending.set()
        limit = asyncio.ensure_future(self._clock.sleep(self._limits.shutdown_seconds))
        try:
            await asyncio.wait({sending, limit}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            limit.cancel()
            sending.cancel()
            self.delivered.dropped += self._recorder.close()
            _, outcome = await asyncio.gather(limit, sending, return_exceptions=True)
        if isinstance(outcome, Exception):
            log.error("tracing_failed", error_type=type(outcome).__name__)
        if self.delivered.dropped:
            log.warning("spans_dropped", sent=self.delivered.sent, dropped=self.delivered.dropped)

    async def _send_all(self) -> None:
        _muted.set(True)
        async with self._uploader:
            while not (self._ending.is_set() and self._recorder.empty):
                await self._pause(self._limits.interval_seconds, self._recorder.full, self._ending)
                while batch := self._recorder.take(self._limits.batch_max):
                    if not await self._deliver(batch):
                        return
                    self._recorder.settle()

    async def _deliver(self, batch: list[object]) -> bool:
        """Send until the batch is in or refused for good; false when the end came first."""
        body = await asyncio.to_thread(self._recorder.encode, batch)
        failures = 0
        while not await self._uploader.send(body, len(batch)):
            if self._ending.is_set():
                return False
            failures += 1
            wait = backoff_seconds(failures, BACKOFF_SECONDS_MIN, BACKOFF_SECONDS_MAX, random=self._random)
            await self._pause(min(max(self._uploader.retry_after_seconds, wait), BACKOFF_SECONDS_MAX), self._ending)
        return True

    async def _pause(self, seconds: float, *events: asyncio.Event) -> None:
        """Sleep until one of the events."""
        waits = [asyncio.ensure_future(event.wait()) for event in events]
        sleeping = asyncio.ensure_future(self._clock.sleep(seconds))
        try:
            await asyncio.wait({sleeping, *waits}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for waiting in (sleeping, *waits):
                waiting.cancel()
