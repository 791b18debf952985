"""Seeded histories of everything that can go wrong: every promise is kept, and a promise that is not is noticed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.simulation.breakages import BREAKAGES, first_failure
from tests.simulation.engine import close_engine, played_on_engine
from tests.simulation.history import Kind, draw
from tests.simulation.shrink import command, memory, played, shrunk

SEEDS = int(os.environ.get("SIMULATED_SEEDS", "200"))
SEEDS_FAST = min(25, SEEDS)
BLOCKS = 4
ENGINE_SEEDS = int(os.environ.get("SIMULATED_ENGINE_SEEDS", "10"))


def slow_seeds(seeds: range) -> Any:
    """A parameter of a run with all seeds."""
    return pytest.param(seeds, marks=pytest.mark.slow("seeded histories", cases=len(seeds)), id=f"from {seeds.start}")


@pytest.mark.parametrize(
    "seeds",
    [
        pytest.param(range(SEEDS_FAST), id="first"),
        *(slow_seeds(range(SEEDS_FAST + block, SEEDS, BLOCKS)) for block in range(BLOCKS)),
    ],
)
def test_every_promise_is_kept(seeds: range) -> None:
    """Whatever is drawn: rows once, watermarks honest, gaps told, nothing bought twice, quota kept, calls metered."""
    for seed in seeds:
        outcome = played(draw(seed))
        assert not outcome.broken, f"{outcome.broken}\n\nmake simulate-faults FROM={seed} SEEDS=1"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("engine")
    yield folder
    close_engine(folder)


@pytest.mark.parametrize(
    "seed",
    [
        pytest.param(seed, marks=[] if seed == 0 else pytest.mark.slow("seeded histories on the engine"))
        for seed in range(ENGINE_SEEDS)
    ],
)
def test_every_promise_is_kept_on_the_engine_too(engine: Path, seed: int) -> None:
    """The same histories, with the embedded engine in the place of its twin."""
    outcome = played_on_engine(draw(seed), engine)
    assert not outcome.broken, f"{outcome.broken}\n\nmake simulate-faults FROM={seed} SEEDS=1 ARGS=--engine"


@pytest.mark.slow("seeded histories")
def test_the_same_seed_gives_the_same_run() -> None:
    """Every call, every row and everything that is logged, at the same moment: a failure can be looked at again."""
    for seed in (3, 8):
        first, second = played(draw(seed)), played(draw(seed))
        assert first.log == second.log
        assert first.digest == second.digest
    assert played(draw(3)).digest != played(draw(8)).digest


@pytest.mark.parametrize(
    "name",
    [
        "token",
        *(
            pytest.param(name, marks=pytest.mark.slow("breakages that simulations notice"))
            for name in ("watermark order", "window bounds", "recheck difference")
        ),
    ],
)
def test_a_broken_program_is_noticed(name: str) -> None:
    """Breaking one of the things that the promises hang on breaks a promise within a few seeds."""
    assert name in BREAKAGES
    assert first_failure(name, 20) is not None


@pytest.mark.slow("breakages that simulations notice")
def test_a_failure_is_told_with_a_short_history() -> None:
    """What has nothing to do with it is left out, and the command makes the same happen again."""
    with BREAKAGES["token"]():
        outcome = next(outcome for seed in range(20) if (outcome := played(draw(seed))).broken)
        short = shrunk(outcome)
        again = played(short.history)

    assert len(short.history.incidents) <= min(2, len(outcome.history.incidents))
    assert again.broken == short.broken
    assert f"FROM={outcome.history.seed} " in command(short.history)


def test_a_history_without_incidents_is_plain() -> None:
    """With nothing gone wrong every call is needed, and the meter is the service's own count."""
    outcome = played(replace(draw(5), incidents=()))
    assert not outcome.broken
    assert not [line for line in outcome.log if " warning " in line or " error " in line]


def test_every_kind_of_incident_is_drawn() -> None:
    """A few hundred seeds hold each of them."""
    drawn = {one.kind for seed in range(400) for one in draw(seed).incidents}
    assert drawn == set(Kind)


def test_runs_are_in_memory_where_there_is_room() -> None:
    """The disk of a simulated machine need not be this one's."""
    assert memory() is None or memory() == Path("/dev/shm")
