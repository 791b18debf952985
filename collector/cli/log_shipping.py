"""Where the logs of a serving resource group are shipped: looked at, switched on, switched off. No terminal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Self

from collector.catalogue.products.eas import CREATE_RESOURCE_LOG, DELETE_RESOURCE_LOG, DESCRIBE_RESOURCE_LOG
from collector.cli.calling import Ask, text_of
from collector.cli.waiting import PAUSE_SECONDS_MAX, look_until
from collector.clock import Clock
from collector.errors import CollectorError, NotFoundError, TransientError, UsageError
from collector.units import format_duration

CHANGING_WORDS: Final = ("creating", "deleting", "updating", "pending", "initializing", "starting", "stopping", "init")
"""Parts of a status, without case, that say it will soon be another."""

FAILED_WORDS: Final = ("fail", "error", "abnormal")
"""Parts of a status, without case, that say it will not get better by waiting."""

LOST_SECONDS_MAX: Final = 30.0
"""So long may a change take to show whose answer was lost; then it was never begun."""


@dataclass(frozen=True, slots=True)
class Shipping:
    """What `DescribeResourceLog` says; all empty where nothing is shipped."""

    project_name: str = ""
    log_store: str = ""
    status: str = ""
    message: str = ""

    @classmethod
    def of(cls, answer: Any) -> Self:
        """Out of an answer as the service sent it."""
        return cls(*(text_of(answer, name) for name in ("ProjectName", "LogStore", "Status", "Message")))

    @property
    def is_configured(self) -> bool:
        return bool(self.project_name or self.log_store)

    @property
    def is_changing(self) -> bool:
        return any(word in self.status.lower() for word in CHANGING_WORDS)

    @property
    def is_deleting(self) -> bool:
        return "deleting" in self.status.lower()

    @property
    def has_failed(self) -> bool:
        return any(word in self.status.lower() for word in FAILED_WORDS)

    def goes_to(self, project_name: str, log_store: str) -> bool:
        return (self.project_name, self.log_store) == (project_name, log_store)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a change came to."""

    shipping: Shipping
    has_changed: bool
    """False where it already was as it should be, and no change was asked for."""
    is_reached: bool = True
    """False where nobody waited for it, or waiting took too long."""


class LogShipping:
    """The log shipping of one resource group."""

    def __init__(
        self,
        ask: Ask,
        clock: Clock,
        cluster_id: str,
        resource_id: str,
        *,
        on_look: Callable[[Shipping], None] = lambda _: None,
    ) -> None:
        """`on_look` is told of each state that is seen while waiting."""
        self._ask = ask
        self._clock = clock
        self._scope = {"ClusterId": cluster_id, "ResourceId": resource_id}
        self._on_look = on_look

    async def look(self) -> Shipping:
        """The state as it is now. Raises ApiError."""
        return Shipping.of((await self._ask(DESCRIBE_RESOURCE_LOG.name, self._scope)).answer)

    async def enable(self, project_name: str, log_store: str, *, timeout_seconds: float) -> Outcome:
        """Ship to a Logstore and wait until that is in place; `timeout_seconds` 0 does not wait.

        What is just being switched off is waited for first. Raises UsageError when the logs go
        elsewhere already, and ApiError.
        """
        started = self._clock.monotonic()

        def is_reached(seen: Shipping) -> bool:
            return seen.goes_to(project_name, log_store) and not seen.is_changing

        before = await self._look_or_nothing()
        if is_reached(before):
            return Outcome(before, has_changed=False)
        if before.is_deleting and before.is_configured:
            gone = await self._wait(lambda seen: not seen.is_configured, before, timeout_seconds, has_changed=False)
            if not gone.is_reached:
                return gone
            timeout_seconds = max(timeout_seconds - (self._clock.monotonic() - started), PAUSE_SECONDS_MAX)
        elif before.goes_to(project_name, log_store):
            return await self._wait(is_reached, before, timeout_seconds, has_changed=False)
        elif before.is_configured:
            raise UsageError(
                f"the logs of {self._scope['ResourceId']} go to {before.project_name}/{before.log_store} already",
                hint="disable that first, if it is no longer wanted",
            )
        wanted = self._scope | {"ProjectName": project_name, "LogStore": log_store}
        return await self._change(
            CREATE_RESOURCE_LOG.name,
            wanted,
            is_reached,
            has_begun=lambda seen: seen.goes_to(project_name, log_store),
            timeout_seconds=timeout_seconds,
        )

    async def disable(self, *, timeout_seconds: float) -> Outcome:
        """Ship no longer, and wait until nothing is configured; `timeout_seconds` 0 does not wait. Raises ApiError."""

        def is_reached(seen: Shipping) -> bool:
            return not seen.is_configured

        before = await self.look()
        if is_reached(before) or before.is_deleting:
            return await self._wait(is_reached, before, timeout_seconds, has_changed=False)
        return await self._change(
            DELETE_RESOURCE_LOG.name,
            self._scope,
            is_reached,
            has_begun=lambda seen: seen.is_deleting,
            timeout_seconds=timeout_seconds,
        )

    async def _change(
        self,
        operation: str,
        parameters: dict[str, str],
        is_reached: Callable[[Shipping], bool],
        *,
        has_begun: Callable[[Shipping], bool],
        timeout_seconds: float,
    ) -> Outcome:
        """Ask for a change, once. Where the answer is lost, the state tells whether it has begun."""
        try:
            await self._ask(operation, parameters)
        except TransientError as lost:
            seen = await self._after_loss(lambda now: is_reached(now) or has_begun(now), timeout_seconds)
            if seen is None:
                raise lost
            return await self._wait(is_reached, seen, timeout_seconds, has_changed=True)
        return await self._wait(is_reached, None, timeout_seconds, has_changed=True)

    async def _after_loss(self, shows: Callable[[Shipping], bool], timeout_seconds: float) -> Shipping | None:
        """The state, once it shows the change; None when it does not."""
        try:
            looked = await look_until(
                self._look_or_nothing,
                shows,
                clock=self._clock,
                timeout_seconds=min(timeout_seconds, LOST_SECONDS_MAX),
                on_look=self._on_look,
            )
        except TransientError:
            return None
        return looked.last if looked.has_happened else None

    async def _wait(
        self,
        is_reached: Callable[[Shipping], bool],
        last: Shipping | None,
        timeout_seconds: float,
        *,
        has_changed: bool,
    ) -> Outcome:
        """Wait for a state; `last` is the one just seen, None before any look. Each look is billed."""
        if last is None and not timeout_seconds:
            last = await self._look_or_nothing()
        if last is not None and (not timeout_seconds or is_reached(last)):
            return Outcome(last, has_changed, is_reached(last))
        looked = await look_until(
            self._look_or_nothing,
            is_reached,
            clock=self._clock,
            timeout_seconds=timeout_seconds,
            on_look=self._on_look,
            has_looked=last is not None,
        )
        return Outcome(looked.last, has_changed, looked.has_happened)

    async def _look_or_nothing(self) -> Shipping:
        """The state; where the service knows none, nothing is shipped. A group that does not exist refuses a change."""
        try:
            return await self.look()
        except NotFoundError:
            return Shipping()


def require_reached(outcome: Outcome, wish: str, timeout_seconds: float) -> None:
    """Raise CollectorError where waiting for `wish` took too long, or the service says that it has failed."""
    shipping = outcome.shipping
    if shipping.is_configured and shipping.has_failed:
        message = f": {shipping.message}" if shipping.message else ""
        raise CollectorError(f"the status is {shipping.status}{message}")
    if timeout_seconds and not outcome.is_reached:
        raise CollectorError(
            f"not {wish} after {format_duration(timeout_seconds)}; the status is {shipping.status or 'none'}",
            hint="pai-collector resource-log show tells how it goes on",
        )
