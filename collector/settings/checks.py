"""Mistakes that no single key shows: values that do not fit each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from collector.settings.model import Settings
from collector.settings.reading import KeyPath, Mistake, expected, show
from collector.units import format_duration


@dataclass(frozen=True, slots=True)
class Check:
    """One rule, and the keys it looks at: it says nothing while one of them is itself wrong."""

    keys: tuple[KeyPath, ...]
    find: Callable[[Settings], Iterator[Mistake]]

    def applies(self, failed: Sequence[KeyPath]) -> bool:
        return not any(_same_branch(key, path) for key in self.keys for path in failed)


def cross_mistakes(settings: Settings, failed: Sequence[KeyPath]) -> list[Mistake]:
    """What does not fit together, beside the keys that have already failed on their own."""
    return [mistake for check in CHECKS if check.applies(failed) for mistake in check.find(settings)]


def _same_branch(one: KeyPath, other: KeyPath) -> bool:
    length = min(len(one), len(other))
    return one[:length] == other[:length]


def _repeated(path: KeyPath, ids: Sequence[str]) -> Iterator[Mistake]:
    for scope_id in dict.fromkeys(scope_id for scope_id in ids if ids.count(scope_id) > 1):
        times = {2: "twice"}.get(ids.count(scope_id), f"{ids.count(scope_id)} times")
        yield Mistake(path, f"got {show(scope_id)} {times}; expected each id once")


def _recheck(settings: Settings) -> Iterator[Mistake]:
    syslogs = settings.sources.syslogs
    recheck = syslogs.recheck_seconds
    shown = [format_duration(seconds) for seconds in recheck]
    if list(recheck) != sorted(set(recheck)):
        yield expected(_RECHECK, shown, "durations that ascend, each once")
    elif recheck and recheck[0] <= syslogs.settle_seconds:
        settle = format_duration(syslogs.settle_seconds)
        yield expected(_RECHECK, shown, f"durations longer than sources.syslogs.settle, which is {settle}")


def _journal_apart(settings: Settings) -> Iterator[Mistake]:
    store, journal = settings.store.path.resolve(), settings.journal.path.resolve()
    if journal.is_relative_to(store) or store.is_relative_to(journal):
        yield expected(_JOURNAL, str(settings.journal.path), "a path apart from store.path, which the engine owns")


_RECHECK: KeyPath = ("sources", "syslogs", "recheck")
_SETTLE: KeyPath = ("sources", "syslogs", "settle")
_NODES: KeyPath = ("targets", "nodes")
_GROUPS: KeyPath = ("targets", "resource_groups")
_JOURNAL: KeyPath = ("journal", "path")
_STORE: KeyPath = ("store", "path")

CHECKS = (
    Check((_NODES,), lambda settings: _repeated(_NODES, settings.targets.nodes)),
    Check((_GROUPS,), lambda settings: _repeated(_GROUPS, settings.targets.resource_groups)),
    Check((_RECHECK, _SETTLE), _recheck),
    Check((_JOURNAL, _STORE), _journal_apart),
)
