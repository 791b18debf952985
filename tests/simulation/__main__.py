"""Live through many seeds on all cores: `python -m tests.simulation --seeds 5000`."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.simulation.engine import played_somewhere
from tests.simulation.harness import Outcome
from tests.simulation.history import History, Kind, draw
from tests.simulation.shrink import command, memory, shrunk

PROGRESS_SECONDS = 5.0


def main(arguments: list[str] | None = None) -> int:
    """Exit status 1 where a promise was broken."""
    options = _parser().parse_args(arguments)
    begun = time.monotonic()
    told = begun
    done = 0
    drawn: Counter[Kind] = Counter()
    hits: Counter[Kind] = Counter()
    broken: list[Outcome] = []
    for outcome in _outcomes(options):
        done += 1
        drawn.update(one.kind for one in outcome.history.incidents)
        hits.update(outcome.hits)
        if options.log:
            print("\n".join(outcome.log))
        if outcome.broken:
            broken.append(outcome)
            print(f"\nseed {outcome.history.seed}: {outcome.broken}", flush=True)
            if len(broken) >= options.failures_max:
                break
        if time.monotonic() - told >= PROGRESS_SECONDS or done == options.seeds:
            told = time.monotonic()
            pace = done / (told - begun)
            print(f"{done} of {options.seeds} seeds, {pace:.1f} a second, {len(broken)} broken", flush=True)
    print(f"\n{'incident':40} {'drawn':>7} {'happened':>9}")
    for kind in Kind:
        print(f"{kind:40} {drawn[kind]:7} {hits[kind]:9}")
    print(f"{done} seeds from {options.first}, {len(broken)} broken")
    if broken:
        _explain(broken[0], is_on_engine=options.engine)
    return int(bool(broken))


def _explain(outcome: Outcome, *, is_on_engine: bool) -> None:
    if is_on_engine:
        print(f"\nagain:  make simulate-faults FROM={outcome.history.seed} SEEDS=1 ARGS='--engine --log'")
        return
    print(f"\nlooking for a shorter history of seed {outcome.history.seed} ...", flush=True)
    short = shrunk(outcome, print)
    print(f"\n{short.broken}\n\n{short.history}\n\nagain:  {command(short.history)}")


def _outcomes(options: argparse.Namespace) -> Iterator[Outcome]:
    histories = [_history(seed, options) for seed in range(options.first, options.first + options.seeds)]
    with TemporaryDirectory(dir=memory()) as folder:
        live = partial(played_somewhere, folder=Path(folder) if options.engine else None, keeps_log=options.log)
        jobs = min(options.jobs, len(histories))
        if jobs == 1 and not options.engine:
            yield from map(live, histories)
            return
        # An engine ends with its process.
        with multiprocessing.get_context("spawn").Pool(jobs) as pool:
            yield from pool.imap_unordered(live, histories, chunksize=4)


def _history(seed: int, options: argparse.Namespace) -> History:
    history = draw(seed)
    if options.only is not None:
        history = history.only(options.only)
    given = {name: getattr(options, name) for name in ("minutes", "nodes", "groups") if getattr(options, name)}
    if options.rechecks is not None:
        given["rechecks"] = tuple(delay for delay in options.rechecks if delay)
    return replace(history, **given)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(each) for each in text.split(","))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make simulate-faults", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--from", type=int, default=0, dest="first")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--failures-max", type=int, default=1, help="stop after so many broken seeds")
    parser.add_argument("--only", type=_numbers, help="incidents that happen, by number; 0 for none")
    parser.add_argument("--minutes", type=int)
    parser.add_argument("--nodes", type=int)
    parser.add_argument("--groups", type=int)
    parser.add_argument("--rechecks", type=_numbers)
    parser.add_argument("--engine", action="store_true", help="with the embedded engine in the place of its twin")
    parser.add_argument("--log", action="store_true", help="print everything that was logged")
    return parser


if __name__ == "__main__":
    sys.exit(main())
