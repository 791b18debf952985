"""How well things are: decided here, and shown by `status`, the page, readiness, metrics and alerts alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from collector.model import ENDED
from collector.pipeline.facts import COLLECTED, FAILING, NEW, NOTHING, STOPPED, WAITING, ServiceFacts, Stop
from collector.pipeline.stops import ACCOUNT, BUDGET, CIRCUIT
from collector.store.missing import NO_HISTORY

KINDS: Final[Mapping[str, str]] = {
    "starting": "Collecting has not begun.",
    "account": "The key was refused.",
    "operation": "The service refuses an operation.",
    "circuit": "An operation keeps failing.",
    "budget": "The month's budget is spent.",
    "store": "The store takes no rows, or does not answer.",
    "journal": "The journal takes nothing, or its file is not in its place.",
    "nothing": "No stream is collected.",
    "waiting": "Streams wait for a journal that another process may be at work with.",
    "failing": "Streams fail.",
    "behind": "A source is later than it promises.",
    "ahead": "Streams are collected beyond the present time.",
    "clock": "What time it is is in doubt.",
}
"""Everything that can be wrong, the first of several first."""


@dataclass(frozen=True, slots=True)
class Reason:
    """One thing that is wrong."""

    kind: str
    """One of `KINDS`."""
    text: str
    """In few words."""
    action: str
    """What to do about it."""
    subject: str = ""
    """The operation or the source that it is about, empty where it is about all."""
    detail: str = ""
    """What was seen."""
    is_severe: bool = False
    """Nothing is collected because of it, or nothing of what is collected reaches the store."""

    def __str__(self) -> str:
        return f"{self.text}: {self.detail}" if self.detail else self.text


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is wrong, the worst first."""

    reasons: tuple[Reason, ...]
    headline: str
    """In one sentence."""

    @property
    def is_well(self) -> bool:
        return not self.reasons

    @property
    def is_ready(self) -> bool:
        return not any(reason.is_severe for reason in self.reasons)


@dataclass(frozen=True, slots=True)
class Condition:
    """What a verdict is based on."""

    states: Mapping[str, int]
    """State -> streams, those that ended included."""
    is_service: bool = False
    """Whether this is a service, which is expected to collect at present."""
    is_run: bool = False
    """Whether a run catches streams up at present: what it has not reached yet is no fault."""
    not_begun: str = ""
    """Why a service has not begun, empty once it has."""
    has_history: bool = True
    facts: ServiceFacts = NOTHING
    lists: Mapping[str, int] = field(default_factory=dict)
    """State -> streams that only list what may be collected; counted in `states` too."""
    expects_targets: bool = False
    """Whether the configuration asks for more than lists."""
    ahead: int = 0
    """Streams whose watermark is later than now."""
    store_error: str = ""
    journal_trouble: str = ""
    clock_doubt: str = ""
    budget_reached: str = ""
    """What the month's budget is, where it is reached; empty where it is not."""


def verdict(condition: Condition) -> Verdict:
    """Judge. Pure."""
    found = [
        *_begun(condition),
        *(_stopped(stop) for stop in condition.facts.stops),
        *_budget(condition),
        *_ways(condition),
        *_streams(condition),
        *_late(condition),
        *_clock(condition),
    ]
    order = list(KINDS)
    reasons = tuple(sorted(found, key=lambda reason: (order.index(reason.kind), reason.subject)))
    return Verdict(reasons, _headline(condition, reasons))


def _begun(condition: Condition) -> list[Reason]:
    if not condition.not_begun:
        return []
    text, action = "collecting has not begun", "wait; the log says more"
    return [Reason("starting", text, action, detail=condition.not_begun, is_severe=True)]


def _stopped(stop: Stop) -> Reason:
    if stop.what == CIRCUIT:
        text, action = f"{stop.operation} keeps failing", "look at the network and the service; it is tried by itself"
    elif stop.what == ACCOUNT:
        text, action = "the account is stopped", "put a valid key where it comes from, and send SIGHUP"
    elif stop.what == BUDGET:
        text = f"the budget stops {stop.operation}"
        action = (
            "raise budget.monthly_cny and send SIGHUP, or wait for the next month; where the service has no free calls "
            "left, switch on its pay-as-you-go"
        )
    else:
        text = f"{stop.operation} is stopped"
        action = "give the account the permission, or correct the targets, and send SIGHUP"
    return Reason(stop.what, text, action, stop.operation, stop.error, stop.what == ACCOUNT)


def _budget(condition: Condition) -> list[Reason]:
    if not condition.budget_reached or any(stop.what == BUDGET for stop in condition.facts.stops):
        return []
    action = "raise budget.monthly_cny, or wait for the next month"
    return [Reason("budget", f"the budget of {condition.budget_reached} is reached", action)]


def _ways(condition: Condition) -> list[Reason]:
    """What lies on the way of the rows."""
    found = []
    if condition.store_error:
        action = "mend the store: rows wait in the journal until then"
        found.append(Reason("store", "the store takes no rows", action, detail=condition.store_error, is_severe=True))
    if condition.journal_trouble:
        action = "give the journal's disk room, free the file, and leave it where it is"
        found.append(Reason("journal", condition.journal_trouble, action, is_severe=True))
    return found


def _streams(condition: Condition) -> list[Reason]:
    states = condition.states
    total = sum(count for state, count in states.items() if state != ENDED)
    waiting, ill = states.get(WAITING, 0), states.get(FAILING, 0) + states.get(STOPPED, 0)
    found = []
    if not condition.has_history:
        found.append(Reason("nothing", NO_HISTORY, "pai-collector run", is_severe=True))
    elif not condition.is_run and not condition.not_begun and (why := _nothing(condition, total)):
        found.append(why)
    if waiting and waiting != total:
        found.append(Reason("waiting", f"{waiting} of {total} streams wait for another journal", _FORGET))
    if ill and ill != total:
        found.append(Reason("failing", f"{ill} of {total} streams fail", "pai-collector status names them"))
    return found


_FORGET: Final = "start the shard that it belongs to, or pai-collector journal forget ID"


def _nothing(condition: Condition, total: int) -> Reason | None:
    """Why nothing that the configuration is about is collected."""
    states, listed = condition.states, condition.lists if condition.expects_targets else {}
    counts = {state: states.get(state, 0) - listed.get(state, 0) for state in (NEW, FAILING, STOPPED, WAITING)}
    ill = states.get(FAILING, 0) + states.get(STOPPED, 0)
    text, action = "", "wait for the first windows"
    if not total:
        ended = states.get(ENDED, 0)
        text = f"nothing is collected: all {ended} streams have ended" if ended else "nothing is collected: no streams"
        action = "name targets, or let them be discovered"
    elif ill == total:
        text, action = "every stream fails", "pai-collector status says why"
    elif states.get(WAITING, 0) == total:
        text, action = f"nothing is collected: all {total} streams wait for another journal", _FORGET
    elif total == sum(count for state, count in listed.items() if state != ENDED):
        text = "nothing is collected: no target has been discovered"
        action = "look at targets.discover, targets.clusters and sources.cloud_metrics, and at what the lists show"
    elif states.get(COLLECTED, 0) == listed.get(COLLECTED, 0):
        text = "nothing is collected yet: " + ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    return Reason("nothing", text, action, is_severe=True) if text else None


def _late(condition: Condition) -> list[Reason]:
    found: dict[str, Reason] = {}
    for source in condition.facts.sources:
        late = max(source.freshness_seconds or 0.0, source.new_seconds)
        if late > source.freshness_promise_seconds:
            promised = f"{late:.0f} s, {source.freshness_promise_seconds:.0f} s promised"
            action = "pai-collector plan says which interval the quotas allow"
            found[source.source] = Reason("behind", f"{source.source} is behind", action, source.source, promised)
    return list(found.values())


def _clock(condition: Condition) -> list[Reason]:
    found = []
    if condition.ahead:
        text = f"{condition.ahead} streams are collected beyond the present time; a clock was or is wrong"
        found.append(Reason("ahead", text, "mend the clock; they are set back by themselves"))
    if condition.clock_doubt:
        found.append(Reason("clock", "the clock is in doubt", "mend the clock (NTP)", detail=condition.clock_doubt))
    return found


def _headline(condition: Condition, reasons: tuple[Reason, ...]) -> str:
    if reasons:
        said = "; ".join(dict.fromkeys(reason.text for reason in reasons[:_SAID_MAX]))
        more = f", and {len(reasons) - _SAID_MAX} more" if len(reasons) > _SAID_MAX else ""
        return f"{said[0].upper()}{said[1:]}{more}."
    total = sum(count for state, count in condition.states.items() if state != ENDED)
    if not condition.is_service:
        return f"{total} streams, none fails; {'a run is at work' if condition.is_run else 'no service runs'}."
    if new := condition.states.get(NEW, 0):
        return f"All is well: {total - new} of {total} streams are collected, {new} are new."
    return f"All is well: {total} streams are collected."


_SAID_MAX: Final = 2
"""A headline names so many reasons; the list has them all."""
