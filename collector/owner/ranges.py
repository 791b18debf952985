"""Ranges of a source that a command asks for: which streams, from when to when, and what that costs."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from collector.errors import ClockError, OwnedElsewhere, UsageError
from collector.journal.ledger import billing_month
from collector.model import StreamKey, Window
from collector.owner.calls import refusal_to_call
from collector.pipeline.backfill import Asked, calls_at_least
from collector.pipeline.clock_watch import HINT
from collector.pipeline.plan import cost, is_priced
from collector.pipeline.streams import WindowStreams
from collector.units import iso

if TYPE_CHECKING:
    from collector.owner.caller import Caller
    from collector.owner.instance import Owner


class Range(Protocol):
    """What a command line names."""

    @property
    def source(self) -> str:
        """Source of the configuration."""

    @property
    def start(self) -> int:
        """Seconds since the epoch; 0 or below counts back from the service's time."""

    @property
    def end(self) -> int:
        """First second after the range, as `start`."""

    @property
    def scopes(self) -> Sequence[str]:
        """Empty for all of the source."""


class Price(msgspec.Struct, frozen=True):
    """What the calls of a range cost at least."""

    calls_at_least: dict[str, int]
    """Operation -> calls."""
    cny_at_least: str
    unpriced: list[str]
    """Operations of which no price is known."""


async def resolved(owner: Caller, asked: Range) -> Window:
    """The range in absolute times. Raises UsageError for an empty one."""
    if owner.client is None:
        raise refusal_to_call(owner)
    if not owner.server_clock.synced:
        await owner.watch().begin()
    clock = owner.server_clock
    if not (clock.synced and clock.is_settled) and (asked.end <= 0 or asked.end > clock.now()):
        # The range might end too early.
        await owner.start_month()
        if doubt := await owner.watch().prove():
            raise ClockError(f"the range cannot be placed: {doubt}", hint=HINT)
    now = clock.now()
    start, end = (time if time > 0 else now + time for time in (asked.start, asked.end))
    if start >= end:
        raise UsageError(f"--from {iso(start)} is not before --to {iso(end)}")
    if start > now:
        raise UsageError(f"--from {iso(start)} lies in the future: the service says that it is {iso(now)}")
    return Window(max(0, start), min(end, now))


async def asked_streams(owner: Caller, asked: Range, window: Window) -> tuple[list[Asked], list[tuple[StreamKey, str]]]:
    """The streams with what of the range they are collected in, and those that cannot be asked, with the reason.

    Raises UsageError where the source has no history to ask for, or nothing of it can be asked.
    """
    streams = [each for each in await owner.streams() if each.name == asked.source]
    _refuse_unknown(owner, asked, streams)
    region = owner.settings.api.region
    known = [key for each in streams for key in each.keys(region)]
    if strange := [scope for scope in asked.scopes if not any(key.is_about(scope) for key in known)]:
        raise UsageError(
            f"--scope: {strange[0]} is no target of {asked.source}",
            hint="pai-collector status lists the streams; of what has left, name it in [targets] to ask for it again",
        )
    states = await owner.journal.streams()
    found: list[Asked] = []
    without: list[tuple[StreamKey, str]] = []
    for each in streams:
        assert isinstance(each, WindowStreams)
        for key in each.keys(region):
            if asked.scopes and not any(map(key.is_about, asked.scopes)):
                continue
            state = states.get(key)
            if not owner.settings.share.owns(key):
                without.append((key, "another shard collects it"))
            elif state is None or state.sealed_to is None or state.collected_from is None:
                without.append((key, "nothing is collected yet"))
            elif state.sealed_to <= window.start:
                without.append((key, f"it is collected up to {iso(state.sealed_to)}"))
            else:
                found.append(Asked(each, state, Window(window.start, min(window.end, state.sealed_to))))
    if not found:
        reasons = sorted({reason for _, reason in without}) or ["it has no targets"]
        raise UsageError(
            f"{asked.source}: nothing can be asked again: {'; '.join(reasons[:3])}",
            hint="what is newer than the watermark is collected by pai-collector run",
        )
    return found, without


def _refuse_unknown(owner: Caller, asked: Range, streams: Sequence[Any]) -> None:
    names = list(type(owner.settings.sources).model_fields)
    if asked.source not in names:
        raise UsageError(f"got source {asked.source!r}; expected one of {', '.join(names)}")
    if any(not each.can_be_asked_later for each in streams):
        raise UsageError(
            f"{asked.source} shows only the present: what was not collected then cannot be asked for later",
            hint="pai-collector gaps lists what is missing",
        )
    if not streams:
        raise UsageError(f"{asked.source}: it has no targets, or is switched off")


async def claimed(owner: Owner, asked: Sequence[Asked]) -> None:
    """Raises OwnedElsewhere where another process may hold rows of these streams."""
    keys = [each.state.key for each in asked]
    mine = set(await owner.membership.claim(keys))
    if held := [key for key in keys if key not in mine]:
        raise OwnedElsewhere(
            f"{len(held)} of {len(keys)} streams are another shard's, the first is {held[0]}",
            hint="ask the shard that collects them, or wait until it lets go of them",
        )


async def price(owner: Caller, asked: Sequence[Asked]) -> Price:
    """Return what asking for these ranges takes at least."""
    calls: dict[str, int] = {}
    for each in asked:
        name = each.streams.operation.name
        calls[name] = calls.get(name, 0) + calls_at_least(each.streams, [each.window])
    prices = owner.prices()
    spent = {name: count for name, count, _ in await owner.journal.spend(billing_month(owner.server_clock.now()))}
    total = Decimal(0)
    unpriced = []
    for name, count in calls.items():
        terms = prices[name]
        if terms is None or not is_priced(terms, spent.get(name, 0) + count):
            unpriced.append(name)
        else:
            total += cost(terms, spent.get(name, 0) + count) - cost(terms, spent.get(name, 0))
    return Price(calls, f"{total:f}", unpriced)
