"""Fixtures that any test may ask for, and how much of the tests a run does.

Without an option pytest leaves out what is marked `slow`, and says so at the end. `--all` runs everything, `--rest`
what a run without an option leaves out; a test that is named on the command line (`FILE::TEST`) always runs.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from collector.owner.instance import Owner
from collector.settings import Settings
from collector.store.embedded import EmbeddedStore
from tests.support import settings
from tests.support.store_template import migrated_store
from tests.support.virtual_clock import ManualClock

EXAMPLES_FAST, EXAMPLES_DEEP = 40, 400
"""Of each property, without an option and with one."""
BUILD = Path(__file__).parents[1] / "build"
MEMORY = Path("/dev/shm")
MEMORY_BYTES_MIN = 4 << 30
"""Free in memory, for the temporary folders of tests to lie there."""
OTHER_KIND = "other slow tests"

LeftOut = Counter[str]
LEFT_OUT = pytest.StashKey[LeftOut]()
"""Cases by kind; properties that are tried with fewer examples under PROPERTIES."""
PROPERTIES = "properties"


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[EmbeddedStore]:
    """An embedded store with all tables and no rows, in `tmp_path / "store"`."""
    async with migrated_store(tmp_path / "store") as opened:
        yield opened


@pytest.fixture
def configuration(tmp_path: Path) -> Settings:
    """Settings of a collector without targets, before a service that is not there."""
    return settings(tmp_path, "http://127.0.0.1:1")


@pytest.fixture
async def owner(configuration: Settings) -> AsyncIterator[Owner]:
    """The opened journal, store and client of `configuration`."""
    async with await Owner.open(configuration) as opened:
        yield opened


@pytest.fixture
def virtual_clock() -> ManualClock:
    """A clock that moves only when the test moves it."""
    return ManualClock()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("effort", "how much to run")
    group.addoption("--all", action="store_true", help="run slow tests too, and more examples of each property")
    group.addoption("--rest", action="store_true", help="run only what is left out without --all")


def pytest_configure(config: pytest.Config) -> None:
    # It would hide what a command forgets to send on before it waits.
    os.environ.pop("PYTHONUNBUFFERED", None)
    if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free >= MEMORY_BYTES_MIN:
        # Stores and journals wait for the disk at every commit. Where the folder lies, --basetemp still decides.
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))
    config.stash[LEFT_OUT] = Counter()
    hypothesis.settings.register_profile("fast", max_examples=EXAMPLES_FAST, deadline=None, derandomize=True)
    hypothesis.settings.register_profile("deep", max_examples=EXAMPLES_DEEP, deadline=None, print_blob=True)
    hypothesis.settings.load_profile("deep" if _is_deep(config) else "fast")


def _is_deep(config: pytest.Config) -> bool:
    return bool(config.getoption("--all") or config.getoption("--rest"))


def _slow(item: pytest.Item) -> pytest.Mark | None:
    """Return the marker that leaves out this case, if one does: those named by its `fast` stay."""
    return next((mark for mark in item.iter_markers("slow") if _case(item) not in mark.kwargs.get("fast", ())), None)


def _case(item: pytest.Item) -> str:
    return item.callspec.id if hasattr(item, "callspec") else ""


def _check_fast_ids(items: list[pytest.Item]) -> None:
    """Raise UsageError if a marker names a case that is not there: it would leave out more than it says."""
    cases: dict[str, set[str]] = {}
    wanted: dict[str, set[str]] = {}
    for item in items:
        test = item.nodeid.partition("[")[0]
        cases.setdefault(test, set()).add(_case(item))
        for mark in item.iter_markers("slow"):
            wanted.setdefault(test, set()).update(mark.kwargs.get("fast", ()))
    for test, ids in wanted.items():
        if missing := ids - cases[test]:
            raise pytest.UsageError(f"{test}: no case {', '.join(sorted(missing))}; there are {sorted(cases[test])}")


def _is_property(item: pytest.Item) -> bool:
    return hasattr(getattr(item, "obj", None), "hypothesis")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    # Last, so that they do not hold up the other processes for long.
    items.sort(key=lambda item: item.get_closest_marker("alone") is not None)
    named = tuple(argument for argument in config.args if "::" in argument)
    if not named:
        _check_fast_ids(items)
    if config.getoption("--all"):
        return
    left_out_cases = config.stash[LEFT_OUT]
    if not config.getoption("--rest"):
        left_out_cases[PROPERTIES] = sum(map(_is_property, items))
    kept: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    for item in items:
        slow = _slow(item)
        if config.getoption("--rest"):
            is_kept = slow is not None or _is_property(item)
        else:
            is_kept = slow is None or item.nodeid.startswith(named)
        (kept if is_kept else left_out).append(item)
        if slow is not None and not is_kept:
            left_out_cases[slow.args[0] if slow.args else OTHER_KIND] += slow.kwargs.get("cases", 1)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = kept


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Let a test marked `alone` wait for the other processes of this run, and those wait for it."""
    if not hasattr(item.config, "workerinput"):
        return (yield)
    with _lock_file(os.getppid()).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX if item.get_closest_marker("alone") else fcntl.LOCK_SH)
        return (yield)


def _lock_file(controller: int) -> Path:
    BUILD.mkdir(exist_ok=True)
    return BUILD / f"alone-{controller}.lock"


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left_out"] = dict(session.config.stash[LEFT_OUT])
    else:
        _lock_file(os.getpid()).unlink(missing_ok=True)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    # Every process has collected the same.
    node.config.stash[LEFT_OUT] = Counter(getattr(node, "workeroutput", {}).get("left_out", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    left_out = Counter(config.stash[LEFT_OUT])
    properties = left_out.pop(PROPERTIES, 0)
    if left_out or properties:
        terminalreporter.section("left out of this run")
        for kind, cases in left_out.most_common():
            terminalreporter.line(f"{cases:5} {kind}")
        if properties:
            terminalreporter.line(f"{properties:5} properties with {EXAMPLES_FAST} of {EXAMPLES_DEEP} examples")
        terminalreporter.line("make test-all runs everything; FILE::TEST, or --all with a path, runs some of it")
