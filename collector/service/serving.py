"""`pai-collector run`: collect until a signal, and answer to whoever asks meanwhile."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import structlog

from collector.api.gateways import ApiKey
from collector.clock import Clock, SystemClock
from collector.errors import ApiError, ConfigError
from collector.owner.instance import Owner
from collector.owner.reloading import changes
from collector.owner.socket import listening
from collector.pipeline.facts import told
from collector.pipeline.service import Service
from collector.service.http import TOKEN_VARIABLE, check_listener, serving_http
from collector.service.sql.serving import KEY, serving_sql
from collector.service.systemd import Notifier
from collector.settings import Settings
from collector.telemetry.secrets import register_secret

log = structlog.get_logger(__name__)

ALIVE_SECONDS = 10.0
"""Where nobody watches, systemd's status line is renewed this often."""
SIGNAL_STATUS = 128
"""A process that a signal ended has this plus the signal's number as its exit status."""

Reload = Callable[[], Settings]
"""Reads the configuration again. Raises ConfigError."""


async def serve(
    settings: Settings,
    key: ApiKey,
    *,
    reload: Reload,
    only: Sequence[str] = (),
    environ: Mapping[str, str] = os.environ,
    clock: Clock | None = None,
) -> None:
    """Collect every stream until SIGTERM or SIGINT, and end within the grace period.

    A second signal ends the process at once; the journal has what was paid for. Raises UsageError and ConfigError
    where nothing can be started, and what made the service fail.
    """
    token = environ.get(TOKEN_VARIABLE, "").strip()
    register_secret(token)
    check_listener(settings.service.listen, token)
    check_listener(settings.service.sql_listen, token, KEY)
    clock = clock or SystemClock()
    stop, reloads = asyncio.Event(), asyncio.Event()
    notifier = Notifier(environ, clock)
    with _signals(stop, reloads, notifier, settings.service.grace_seconds):
        async with await Owner.open(settings, key=key, clock=clock) as owner, listening(owner):
            service = owner.service(only)
            await service.start()
            async with (
                serving_http(owner, listen=settings.service.listen, token=token),
                serving_sql(owner, listen=settings.service.sql_listen, token=token),
                _beside(_follow_reloads(owner, service, notifier, reloads, reload)),
                _beside(_stay_alive(owner, service, notifier, clock)),
                _beside(owner.lateness.follow()),
            ):
                log.info("service_started", streams=service.stream_count, sources=len(service.facts().sources))
                notifier.ready(_in_one_line(service))
                await service.run(stop)


@contextmanager
def _signals(stop: asyncio.Event, reloads: asyncio.Event, notifier: Notifier, grace_seconds: float) -> Iterator[None]:
    """SIGTERM and SIGINT set `stop`, SIGHUP sets `reloads`; whoever insists ends the process."""
    loop = asyncio.get_running_loop()

    def end(number: signal.Signals) -> None:
        if stop.is_set():
            log.warning("ended_at_once", signal=number.name)
            # Nothing may be waited for. What is in the journal is on disk, and what was sent and is not answered
            # is entered as unknown at the next start.
            os._exit(SIGNAL_STATUS + number)
        log.info("service_stopping", signal=number.name, grace_seconds=grace_seconds)
        notifier.stopping()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end, number)
    loop.add_signal_handler(signal.SIGHUP, reloads.set)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.remove_signal_handler(number)


@asynccontextmanager
async def _beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Do something while the body runs."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _follow_reloads(
    owner: Owner, service: Service, notifier: Notifier, reloads: asyncio.Event, reload: Reload
) -> None:
    while True:
        await reloads.wait()
        reloads.clear()
        notifier.reloading()
        await reconfigure(owner, reload)
        notifier.ready(_in_one_line(service))


async def reconfigure(owner: Owner, reload: Reload) -> bool:
    """Read the configuration and the credentials again and go on with them; a bad one is refused and the old stays."""
    before = owner.settings
    try:
        settings = reload()
        owner.reconfigure(settings)
    except ConfigError as error:
        log.error("configuration_refused", mistakes=error.mistakes)
        return False
    try:
        await owner.renew()
    except (ApiError, ConfigError) as error:
        # Those that are in use stay so, for as long as the service takes them.
        log.error("credentials_unreadable", error=str(error))
    log.info("configuration_reloaded", keys=changes(before, settings))
    return True


async def _stay_alive(owner: Owner, service: Service, notifier: Notifier, clock: Clock) -> None:
    """Tell the watchdog that the loop turns and the journal answers."""
    while True:
        await owner.journal.counters()
        notifier.alive(_in_one_line(service))
        await clock.sleep(notifier.watchdog_seconds / 3 if notifier.watchdog_seconds else ALIVE_SECONDS)


def _in_one_line(service: Service) -> str:
    facts = service.facts()
    failing = sum(source.states.get("failing", 0) + source.states.get("stopped", 0) for source in facts.sources)
    stops = "".join(f"; {told(stop)}" for stop in facts.stops)
    return f"collecting {service.stream_count} streams, {failing} of them failing{stops}"
