"""What a verdict is based on, gathered of an owner at one moment."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Mapping
from typing import Final

from collector.clock import STEP_SECONDS_MAX
from collector.errors import CollectorError
from collector.journal.entries import StreamState
from collector.model import ENDED, StreamKey
from collector.owner.health import Condition, Verdict, verdict
from collector.owner.reader import Reader
from collector.owner.streams import expects_targets
from collector.owner.watched import watched
from collector.pipeline.budget import budget_facts
from collector.pipeline.facts import NOTHING, stream_state
from collector.pipeline.streams import Streams
from collector.store.missing import MissingStore

ANSWER_SECONDS: Final = 2.0
"""A store or journal that takes longer to answer is not ready."""
LISTS: Final = "inventory"


async def judged(owner: Reader, collected: Mapping[StreamKey, Streams] | None = None) -> Verdict:
    """Return the verdict; `collected` are the streams of `watched`, if the caller has them."""
    return verdict(await _condition(owner, collected))


def stream_states(
    owner: Reader, known: Mapping[StreamKey, StreamState], collected: Mapping[StreamKey, Streams]
) -> Mapping[StreamKey, str]:
    """Return the state of every stream that the journal knows; with a service, of those that it watches."""
    if owner.service_running is not None:
        return owner.service_running.states()
    return {
        key: stream_state(is_stopped=False, is_failing=bool(state.error), watermark=state.watermark)
        if key in collected
        else ENDED
        for key, state in known.items()
    }


async def answers(work: Awaitable[object]) -> bool:
    """Whether a store or journal answers in time."""
    try:
        await asyncio.wait_for(work, ANSWER_SECONDS)
    except (TimeoutError, CollectorError):
        return False
    return True


async def _condition(owner: Reader, collected: Mapping[StreamKey, Streams] | None) -> Condition:
    now = owner.server_clock.now()
    service = owner.service_running
    facts = service.facts() if service is not None else NOTHING
    budget_reached = ""
    states: Counter[str] = Counter()
    lists: Counter[str] = Counter()
    if service is not None:
        for source in facts.sources:
            states.update(source.states)
            lists.update(source.states if source.source == LISTS else {})
        # While the journal takes nothing it is not asked: whoever wants to know would wait with it.
        if not states and not owner.is_journal_full:
            states[ENDED] = len(await owner.journal.streams())
        ahead = service.collected_beyond(now + STEP_SECONDS_MAX)
    else:
        known = await owner.journal.streams()
        words = stream_states(owner, known, await watched(owner) if collected is None else collected)
        states.update(words.values())
        listing = {streams.operation.name for streams in await owner.streams() if streams.name == LISTS}
        lists.update(word for key, word in words.items() if key.operation in listing)
        ahead = sum(
            word != ENDED and (known[key].watermark or 0) > now + STEP_SECONDS_MAX for key, word in words.items()
        )
        budget_reached = await _budget_reached(owner, now)
    return Condition(
        states=states,
        is_service=service is not None or bool(owner.not_begun),
        is_run=owner.runner is not None,
        not_begun=owner.not_begun,
        has_history=not isinstance(owner.store, MissingStore),
        facts=facts,
        lists=lists,
        expects_targets=expects_targets(owner.settings),
        ahead=ahead,
        store_error=await _store_error(owner),
        journal_trouble=owner.journal_trouble,
        clock_doubt=owner.server_clock.doubt if service is not None else "",
        budget_reached=budget_reached,
    )


async def _budget_reached(owner: Reader, now: int) -> str:
    money = await budget_facts(owner.journal, now, owner.budget, owner.prices())
    return money.month if money.is_reached and owner.budget.on_reached == "stop" else ""


async def _store_error(owner: Reader) -> str:
    if owner.shipping_error is not None:
        return owner.shipping_error
    if owner.service_running is not None and not await answers(owner.store.fetch("SELECT 1")):
        return f"it does not answer within {ANSWER_SECONDS:g} s"
    return ""
