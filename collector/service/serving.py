"""`pai-collector run`: collect until a signal, and answer to whoever asks meanwhile."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import structlog

from collector.api.gateways import ApiKey
from collector.clock import Clock, SystemClock
from collector.errors import ApiError, CollectorError, ConfigError, StoreUnavailable
from collector.owner.condition import judged
from collector.owner.instance import Owner
from collector.owner.lock import JournalOwned
from collector.owner.recorder import Recorder
from collector.owner.reloading import changes
from collector.owner.waiting import ends_soon, wait_for_journal
from collector.pipeline.service import Service
from collector.redaction import register_secret
from collector.rpc import Find, listening
from collector.service.http import TOKEN_VARIABLE, check_listener, journal_lives, serving_http
from collector.service.sql import KEY, serving_sql
from collector.service.systemd import Notifier
from collector.settings import Settings
from collector.store.address import parse_address
from collector.store.away import AwayStore
from collector.store.base import Store
from collector.store.opening import open_store
from collector.telemetry import stderr

log = structlog.get_logger(__name__)

STORE_RETRY_SECONDS = 5.0
"""A server that did not answer at the start is asked again this often."""
JOURNAL_LOOK_SECONDS = 5.0
"""Whether the journal's file is in its place is looked at this often."""
ALIVE_SECONDS = 10.0
"""Where nobody watches, systemd's status line is renewed this often."""
SIGNAL_STATUS = 128
"""A process that a signal ended has this plus the signal's number as its exit status."""
LAST_LINES_SECONDS = 0.2
"""The last log lines of a process that ends immediately are waited for this long."""

Reload = Callable[[], Settings]
"""Reads the configuration again. Raises ConfigError."""


async def serve(
    settings: Settings,
    key: ApiKey,
    *,
    reload: Reload,
    find: Find,
    only: Sequence[str] = (),
    environ: Mapping[str, str] = os.environ,
    clock: Clock | None = None,
    recorder: Recorder | None = None,
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
    process = _Process(key, token, reload, find, only, clock, Notifier(environ, clock), recorder=recorder)
    with _signals(process, settings.service.grace_seconds):
        while not process.stop.is_set():
            try:
                settings = await process.collect(settings)
            except JournalOwned:
                if not process.stop.is_set():
                    raise
            except _StoreMissed as missed:
                # Everything is closed by now: another owner goes on with the journal.
                settings = await process.collect_without_store(settings, missed.error)


class _StoreMissed(Exception):
    """The server did not answer when the service was to start."""

    def __init__(self, error: StoreUnavailable) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(frozen=True, slots=True)
class _Process:
    """What stays from the first to the last moment, whatever is collected into."""

    key: ApiKey
    token: str
    reload: Reload
    find: Find
    """Finds what commands may request."""
    only: Sequence[str]
    clock: Clock
    notifier: Notifier
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    reloads: asyncio.Event = field(default_factory=asyncio.Event)
    recorder: Recorder | None = None

    async def collect(self, settings: Settings) -> Settings:
        """Collect and ship until told to stop, or until another journal has to be begun; returns the configuration.

        Raises _StoreMissed before anything is collected.
        """
        async with AsyncExitStack() as stack:
            try:
                owner = await stack.enter_async_context(await self._owner(settings))
                await stack.enter_async_context(listening(owner, self.find))
                service = owner.service(self.only)
                if not await _unless_stopped(service.start(), self.stop):
                    return settings
            except StoreUnavailable as error:
                if not settings.store.url:
                    # Nobody else has an embedded store: what keeps it shut is here to be mended.
                    raise
                raise _StoreMissed(error) from error
            await stack.enter_async_context(_beside(owner.lateness.follow()))
            ends = asyncio.Event()
            await stack.enter_async_context(_beside(_end_with(self.stop, ends)))
            await stack.enter_async_context(_beside(_watch_journal(owner, ends)))
            await self._run(owner, service, ends)
            return owner.settings

    async def _owner(self, settings: Settings, store: Store | None = None) -> Owner:
        """Become the owner; a command that holds the journal and ends by itself is waited for."""
        opened = partial(
            Owner.open, settings, key=self.key, clock=self.clock, is_service=True, store=store, recorder=self.recorder
        )
        return await wait_for_journal(opened, self.clock, ends_soon, self.stop)

    async def collect_without_store(self, settings: Settings, error: StoreUnavailable) -> Settings:
        """Collect into the journal until the server answers or all ends; returns the configuration then in use.

        Raises the error where the journal knows no stream: there is nothing that could be gone on with.
        """
        store = AwayStore(str(parse_address(settings.store.url)), error)
        async with (
            await self._owner(settings, store) as owner,
            listening(owner, self.find),
        ):
            service = await owner.service_without_store(error, self.only)
            await service.start()
            if not service.stream_count:
                raise error
            log.warning("store_missed", error=str(error), streams=service.stream_count)
            ends = asyncio.Event()
            async with _beside(_end_with(self.stop, ends)), _beside(_find_store(owner, ends)):
                await self._run(owner, service, ends)
            return owner.settings

    async def _run(self, owner: Owner, service: Service, stop: asyncio.Event) -> None:
        """Collect until `stop`, and answer whoever asks."""
        listeners = owner.settings.service
        async with (
            serving_http(owner, listen=listeners.listen, token=self.token),
            serving_sql(owner, listen=listeners.sql_listen, token=self.token),
            _beside(_follow_reloads(owner, self.notifier, self.reloads, self.reload)),
            _beside(_stay_alive(owner, self.notifier, self.clock)),
        ):
            log.info("service_started", streams=service.stream_count, sources=len(service.facts().sources))
            self.notifier.ready((await judged(owner)).headline)
            await service.run(stop)


async def _unless_stopped(work: Coroutine[Any, Any, None], stop: asyncio.Event) -> bool:
    """Do something, or leave it once `stop` is set; whether it was done. Raises what it raises."""
    doing, stopping = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({doing, stopping}, return_when=asyncio.FIRST_COMPLETED)
        is_done = doing.done()
    finally:
        doing.cancel()
        stopping.cancel()
        await asyncio.gather(doing, stopping, return_exceptions=True)
    if is_done:
        doing.result()
    return is_done


async def _end_with(stop: asyncio.Event, ends: asyncio.Event) -> None:
    await stop.wait()
    ends.set()


async def _watch_journal(owner: Owner, ends: asyncio.Event) -> None:
    """Set `ends` where the journal's file is gone from its place: what it holds is shipped, and a new one begun.

    While the store takes nothing, what is open is all that has the rows.
    """
    while owner.journal.is_in_place:
        await owner.clock.sleep(JOURNAL_LOOK_SECONDS)
    log.error("journal_lost", path=str(owner.journal.path))
    while owner.shipping_error is not None:
        await owner.clock.sleep(JOURNAL_LOOK_SECONDS)
    ends.set()


async def _find_store(owner: Owner, found: asyncio.Event) -> None:
    """Set `found` once the server answers."""
    while True:
        await owner.clock.sleep(STORE_RETRY_SECONDS)
        try:
            store = await open_store(owner.settings)
        except CollectorError:
            continue
        await store.close()
        log.info("store_recovered")
        found.set()
        return


@contextmanager
def _signals(process: _Process, grace_seconds: float) -> Iterator[None]:
    """SIGTERM and SIGINT set `stop`, SIGHUP sets `reloads`; whoever insists ends the process."""
    loop = asyncio.get_running_loop()

    def end(number: signal.Signals) -> None:
        if process.stop.is_set():
            log.warning("ended_at_once", signal=number.name)
            # Nothing may be waited for. What is in the journal is on disk, and what was sent and is not answered
            # is entered as unknown at the next start.
            stderr.drain(LAST_LINES_SECONDS)
            os._exit(SIGNAL_STATUS + number)
        log.info("service_stopping", signal=number.name, grace_seconds=grace_seconds)
        process.notifier.stopping()
        process.stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end, number)
    loop.add_signal_handler(signal.SIGHUP, process.reloads.set)
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


async def _follow_reloads(owner: Owner, notifier: Notifier, reloads: asyncio.Event, reload: Reload) -> None:
    while True:
        await reloads.wait()
        reloads.clear()
        notifier.reloading()
        await reconfigure(owner, reload)
        notifier.ready((await judged(owner)).headline)


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


async def _stay_alive(owner: Owner, notifier: Notifier, clock: Clock) -> None:
    """Tell the watchdog that the loop turns and the journal answers."""
    while True:
        if await journal_lives(owner):
            notifier.alive((await judged(owner)).headline)
        await clock.sleep(notifier.watchdog_seconds / 3 if notifier.watchdog_seconds else ALIVE_SECONDS)
