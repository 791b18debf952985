"""What an owner tells about itself: the same for a person's table, the console and a program's JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict

from collector.catalogue.operation import known_cny
from collector.catalogue.operations import CATALOGUE
from collector.journal.entries import StreamState
from collector.journal.ledger import billing_month
from collector.model import ENDED, StreamKey
from collector.owner.answers import (
    BudgetStatus,
    ClockStatus,
    Delay,
    JournalStatus,
    MemoryStatus,
    OperationStatus,
    PotStatus,
    Reason,
    SourceStatus,
    Status,
    StopStatus,
    StreamStatus,
)
from collector.owner.condition import judged, stream_states
from collector.owner.reader import Reader
from collector.owner.watched import watched
from collector.pipeline.budget import budget_facts, pot_facts
from collector.pipeline.facts import NOTHING, WAITING, Polls, SourceFacts
from collector.pipeline.streams import Streams
from collector.telemetry import stderr
from collector.units import iso

STREAMS_SHOWN_MAX = 10_000


async def status(owner: Reader, streams_max: int | None = STREAMS_SHOWN_MAX) -> Status:
    """Return how well things are. `streams_max`: streams that are listed at most; None lists all."""
    now = owner.server_clock.now()
    collected = await watched(owner)
    judgement = await judged(owner, collected)
    journaled = await owner.journal.streams()
    state_of = stream_states(owner, journaled, collected)
    known = [(state, state_of.get(state.key, ENDED)) for state in journaled.values()]
    # What is not collected any more comes last, and nothing that it once failed with counts.
    known.sort(key=lambda stream: (stream[1] == ENDED, stream[0].key))
    month = billing_month(now)
    prices = owner.prices()
    spend = {operation: (calls, cost) for operation, calls, cost in await owner.journal.spend(month)}
    depth = await owner.journal.depth()
    monotonic = owner.clock.monotonic()
    operations = [
        OperationStatus(
            operation=name,
            calls_this_month=spend.get(name, (0, 0))[0],
            rows_received=None if owner.rows_received is None else owner.rows_received.get(name, 0),
            spend_cny=str(spend[name][1]) if name in spend else "0",
            price_cny=None if (cny := known_cny(prices[name])) is None else str(cny),
            free_calls_per_month=0 if (price := prices[name]) is None else price.free_calls_per_month,
            quota_per_second=bucket.rate_limit,
            quota_documented=CATALOGUE[name].quota.documented,
            rate_per_second=round(bucket.rate, 2),
            quota_used_ratio=round(bucket.used_ratio(monotonic), 4),
            waiting=bucket.waiting,
        )
        for name, bucket in owner.buckets.items()
    ]
    money = await budget_facts(owner.journal, now, owner.budget, prices)
    pots = await pot_facts(owner.journal, now, prices)
    service = owner.service_running
    facts = service.facts() if service is not None else NOTHING
    polls = service.polls() if service is not None else {}
    states = Counter(word for _, word in known)
    if waiting := sum(source.states.get(WAITING, 0) for source in facts.sources):
        states[WAITING] = waiting
    return Status(
        headline=judgement.headline,
        is_well=judgement.is_well,
        is_ready=judgement.is_ready,
        reasons=[Reason(**asdict(reason)) for reason in judgement.reasons],
        notes=[*owner.notes, *await owner.mismatches()],
        now=iso(now),
        clock=ClockStatus(
            source=owner.server_clock.source,
            offset_seconds=round(owner.server_clock.difference_seconds, 1),
            is_settled=owner.server_clock.is_settled,
            doubt=owner.server_clock.doubt or None,
        ),
        month=month,
        region=owner.settings.api.region,
        shard=owner.settings.shard,
        streams_waiting=waiting,
        collecting=owner.runner is not None or service is not None,
        sources=[_source(source) for source in facts.sources],
        delays=await _delays(owner),
        stops=[
            StopStatus(stop.what, stop.operation, stop.error, iso(stop.since), _iso(stop.next_try))
            for stop in facts.stops
        ],
        streams=[
            _stream(state, word, None if _is_over(state, collected) else now, polls.get(state.key))
            for state, word in known[:streams_max]
        ],
        stream_count=len(known),
        states=dict(states),
        operations=operations,
        spend_cny=str(sum((cost for _, cost in spend.values()), start=0)),
        budget=BudgetStatus(
            spent_cny=f"{money.spent_cny:f}",
            forecast_cny=f"{money.forecast_cny:f}",
            cap_cny=None if money.cap_cny is None else f"{money.cap_cny:f}",
            is_reached=money.is_reached,
        ),
        # Of a pot that nothing was taken from there is nothing to tell.
        pots=[
            PotStatus(pot.pot, list(pot.operations), pot.calls, pot.free_calls_per_month, pot.forecast_calls, pot.told)
            for pot in pots
            if pot.calls
        ],
        journal=JournalStatus(
            path=str(owner.journal.path),
            bytes_max=owner.settings.journal.bytes_max,
            is_full=owner.is_journal_full,
            set_aside=str(owner.journal_set_aside) if owner.journal_set_aside else None,
            **asdict(depth),
        ),
        memory=MemoryStatus(
            bytes_max=owner.bounds.limit.bytes,
            set_by=owner.bounds.limit.source,
            **{name: size for name, size in asdict(owner.bounds).items() if name != "limit"},
        ),
        store={"url" if owner.settings.store.url else "path": owner.store.location},
        sql_address=owner.sql_address or None,
        counters=await owner.journal.counters(),
        store_error=owner.shipping_error,
        log_lines_dropped=stderr.dropped(),
    )


def _source(source: SourceFacts) -> SourceStatus:
    behind, promised = source.freshness_seconds, source.freshness_promise_seconds
    facts = asdict(source) | {"states": dict(source.states)}
    return SourceStatus(**facts, is_fresh=behind is None or behind <= promised)


async def _delays(owner: Reader) -> dict[str, Delay]:
    """How late the records of the last day arrived, seconds, by source; what is stored tells it."""
    await owner.lateness.learn()
    return {} if owner.lateness.all is None else {"syslogs": Delay(**asdict(owner.lateness.all))}


def _is_over(state: StreamState, collected: Mapping[StreamKey, Streams]) -> bool:
    """Whether a stream has nothing to get fresher by: it has ended, whether its rechecks are made or not."""
    streams = collected.get(state.key)
    end = None if streams is None else streams.end(state.key)
    return streams is None or (end is not None and (state.watermark or 0) >= end)


def _stream(state: StreamState, word: str, now: int | None, polls: Polls | None) -> StreamStatus:
    """Return the status of a stream; without `now` it has ended, and its age means nothing."""
    return StreamStatus(
        operation=state.key.operation,
        region=state.key.region,
        scope_id=state.key.scope_id,
        state=word,
        collected_from=_iso(state.collected_from),
        watermark=_iso(state.watermark),
        freshness_seconds=None if state.watermark is None or now is None else max(0, now - state.watermark),
        pages_open=sum(window.pages for window in state.open.values()),
        error=state.error or None,
        error_at=_iso(state.error_at),
        next_try=_iso(polls.next if polls is not None and polls.is_failing else None),
        last_poll=_iso(polls.last if polls is not None else None),
        next_poll=_iso(polls.next if polls is not None else None),
    )


def _iso(time: int | None) -> str | None:
    return None if time is None else iso(time)
