"""A shorter history that breaks a promise too: incidents left out one by one, then less of everything."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from collector.store.embedded import EmbeddedStore
from tests.simulation.harness import Outcome, play
from tests.simulation.history import History

TRIES_MAX = 60


def shrunk(outcome: Outcome, tell: Callable[[str], None] = lambda line: None) -> Outcome:
    """The shortest history found that is broken as well, whatever promise it is then."""
    tries = 0
    smaller = True
    while smaller and tries < TRIES_MAX:
        smaller = False
        for history in _smaller(outcome.history):
            tries += 1
            found = played(history)
            if found.broken:
                outcome, smaller = found, True
                tell(f"still broken with {len(history.incidents)} incidents in {history.minutes} min")
                break
            if tries >= TRIES_MAX:
                break
    return outcome


def _smaller(history: History) -> Iterator[History]:
    for one in history.incidents:
        yield history.only(tuple(other.number for other in history.incidents if other is not one))
    last = max((one.at for one in history.incidents), default=0.0)
    if (minutes := int(last // 60) + 1) < history.minutes:
        yield replace(history, minutes=minutes)
    if history.nodes > 1:
        yield replace(history, nodes=1)
    if history.groups > 1:
        yield replace(history, groups=1)
    if history.rechecks:
        yield replace(history, rechecks=history.rechecks[:-1])


def played(history: History, store: EmbeddedStore | None = None) -> Outcome:
    """A history in a folder of its own, in memory where there is such a place."""
    with TemporaryDirectory(dir=memory()) as folder:
        return play(history, Path(folder), store)


def memory() -> Path | None:
    """A folder in memory."""
    return place if (place := Path("/dev/shm")).is_dir() else None


def command(history: History) -> str:
    """What makes this very history happen again."""
    words = [f"make simulate-faults FROM={history.seed} SEEDS=1 ARGS='--log"]
    words.append(f"--only {','.join(str(one.number) for one in history.incidents) or '0'}")
    words.append(f"--minutes {history.minutes} --nodes {history.nodes} --groups {history.groups}")
    words.append(f"--rechecks {','.join(map(str, history.rechecks)) or '0'}'")
    return " ".join(words)
