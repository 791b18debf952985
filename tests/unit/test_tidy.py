"""Rules of the house that no other tool checks."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# The design's groups, in import order: a file imports from its own group or one above it.
GROUPS = (
    ("words", ("model", "errors", "clock", "units", "shares")),
    # Pure data about the operations, which the configuration is checked against.
    ("catalogue", ("api.answers", "api.operation", "api.operations", "api.parameters", "api.products")),
    ("settings", ("settings",)),
    ("telemetry", ("telemetry",)),
    ("api", ("api",)),
    ("sources", ("sources",)),
    ("journal", ("journal",)),
    ("store", ("store",)),
    ("pipeline", ("pipeline",)),
    ("simulator", ("simulator",)),
    ("owner", ("owner",)),
    ("service", ("service",)),
    ("cli", ("cli", "__main__")),
)
RANKS = {module: rank for rank, (_, modules) in enumerate(GROUPS) for module in modules}

# The simulator proves the client only while it shares nothing with it but the catalogue.
SIMULATOR_MAY_IMPORT = {"words", "catalogue", "telemetry", "simulator"}
MAY_IMPORT_SIMULATOR = {"simulator", "cli"}

TIME_CALLS = {
    "asyncio": {"sleep"},
    "datetime": {"now", "utcnow", "today"},
    "date": {"today"},
    "time": {"time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "sleep"},
}
CHANCE_CALLS = {"random": {"random", "uniform", "choice", "choices", "sample", "shuffle", "randint", "randrange"}}

MAY_ASK = {
    ("collector/clock.py", "time.time"): "the clock itself",
    ("collector/clock.py", "time.monotonic"): "the clock itself",
    ("collector/clock.py", "asyncio.sleep"): "the clock itself",
}

MARKERS = re.compile(r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "X" * 3]) + r")\b")

TEXT_SUFFIXES = {".cfg", ".in", ".json", ".md", ".py", ".sh", ".sql", ".toml", ".txt", ".yaml", ".yml", ""}
# What tools and users make; none of it is part of the project.
NOT_OURS = {".git", ".hypothesis", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".venv", "__pycache__", "build",
            "data", "demo", "dist"}  # fmt: skip


def project_files() -> Iterator[Path]:
    """Every text file of the project."""
    folders = [ROOT]
    while folders:
        for path in sorted(folders.pop().iterdir()):
            if path.name in NOT_OURS or path.name.endswith(".egg-info"):
                continue
            if path.is_dir():
                folders.append(path)
            elif path.suffix in TEXT_SUFFIXES:
                yield path


def name_of(path: Path) -> str:
    """A path as it is called in messages."""
    return path.relative_to(ROOT).as_posix()


def module_name(path: Path) -> str:
    """`collector/api/client.py` as `api.client`."""
    parts = path.relative_to(ROOT / "collector").with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def rank_of(module: str) -> int | None:
    """The place of a module in the import order, None for the package itself."""
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        if (rank := RANKS.get(".".join(parts[:length]))) is not None:
            return rank
    return None


def imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and name of every import from the project."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name.startswith("collector."):
                yield node.lineno, name.removeprefix("collector.")


def wrong_imports(module: str, tree: ast.AST) -> list[str]:
    """The imports of a module that go against the order."""
    own = rank_of(module)
    if own is None:
        return []
    wrong = []
    for line, target in imported(tree):
        rank = rank_of(target)
        if rank is None:
            continue
        groups = GROUPS[own][0], GROUPS[rank][0]
        if (
            rank > own
            or (groups[0] == "simulator" and groups[1] not in SIMULATOR_MAY_IMPORT)
            or (groups[1] == "simulator" and groups[0] not in MAY_IMPORT_SIMULATOR)
        ):
            wrong.append(f"line {line}: {groups[0]} imports {target}")
    return wrong


def calls_to(tree: ast.AST, table: dict[str, set[str]]) -> Iterator[tuple[int, str]]:
    """Line and name of every use of a function in `table`, also of one imported by its name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if alias.name in table.get(node.module or "", ()):
                    yield node.lineno, f"{node.module}.{alias.name}"
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name | ast.Attribute):
            owner = node.value.id if isinstance(node.value, ast.Name) else node.value.attr
            if node.attr in table.get(owner, ()):
                yield node.lineno, f"{owner}.{node.attr}"


def modules() -> list[Path]:
    """Every file of the package."""
    return sorted((ROOT / "collector").rglob("*.py"))


def parsed(path: Path) -> ast.Module:
    """A file's syntax tree."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def test_every_file_stands_in_a_group() -> None:
    """A new package has to be given its place in the import order."""
    homeless = [name_of(path) for path in modules() if rank_of(module_name(path)) is None]

    assert homeless == ["collector/__init__.py"]


def test_files_import_from_their_own_group_or_one_above() -> None:
    """The import direction of the design holds, and the simulator shares nothing with the client but the catalogue."""
    wrong = [
        f"{name_of(path)}: {text}" for path in modules() for text in wrong_imports(module_name(path), parsed(path))
    ]

    assert wrong == []


@pytest.mark.parametrize(
    ("module", "code"),
    [
        ("model", "from collector.settings import load"),
        ("settings.model", "from collector.telemetry import log"),
        ("settings.model", "import collector.api.client"),
        ("api.client", "from collector import pipeline"),
        ("simulator.server", "from collector.api.client import ApiClient"),
        ("simulator.server", "from collector.api import decode"),
        ("service.console", "from collector.simulator import Simulator"),
    ],
)
def test_a_wrong_import_is_seen(module: str, code: str) -> None:
    """The rule about imports notices each kind of breach."""
    assert wrong_imports(module, ast.parse(code)) != []


@pytest.mark.parametrize(
    ("module", "code"),
    [
        ("settings.kinds", "from collector.api.operations import CATALOGUE"),
        ("simulator.server", "from collector.api import operations"),
        ("cli.commands.demo", "from collector.simulator import Simulator"),
        ("api.client", "from collector.telemetry import log"),
    ],
)
def test_a_right_import_is_let_through(module: str, code: str) -> None:
    """The rule about imports has no quarrel with the order itself."""
    assert wrong_imports(module, ast.parse(code)) == []


def asks(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and name of every use of the machine's clock or of the global random generator."""
    yield from calls_to(tree, TIME_CALLS)
    imports = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    parameters = {argument.arg for node in ast.walk(tree) if isinstance(node, ast.arguments) for argument in node.args}
    # A parameter called `random` is a generator that was handed in.
    if "random" in imports - parameters:
        yield from calls_to(tree, CHANCE_CALLS)


def test_time_and_chance_are_handed_in() -> None:
    """Nobody but the clock reads a clock or sleeps, and nobody draws from the global generator."""
    asked = [
        f"{name_of(path)}:{line}: {name}"
        for path in modules()
        for line, name in asks(parsed(path))
        if (name_of(path), name) not in MAY_ASK
    ]

    assert asked == []


def test_a_clock_read_elsewhere_is_seen() -> None:
    """The rule about time notices module, class and directly imported functions."""
    code = """
import random, time
from asyncio import sleep
then = time.monotonic()
now = datetime.datetime.now()
wait = random.uniform(0, 1)
"""

    assert {name for _, name in asks(ast.parse(code))} == {
        "asyncio.sleep",
        "time.monotonic",
        "datetime.now",
        "random.uniform",
    }


def test_no_exception_to_the_rules_outlives_its_use() -> None:
    """A file that may ask the time, and no longer does, loses the permission."""
    asked = {(name_of(path), name) for path in modules() for _, name in asks(parsed(path))}

    assert [exception for exception in MAY_ASK if exception not in asked] == []


def test_no_stray_markers() -> None:
    """Notes to oneself do not stay in the code."""
    found = [
        f"{name_of(path)}:{number}"
        for path in project_files()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if MARKERS.search(line)
    ]

    assert found == []


def test_every_test_says_what_it_shows() -> None:
    """Each test function has a docstring that states the behaviour."""
    silent = [
        f"{name_of(path)}:{node.lineno}: {node.name}"
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and not ast.get_docstring(node)
    ]

    assert silent == []


def test_a_test_is_skipped_only_for_a_tool_that_is_missing() -> None:
    """And then the reason names the tool."""
    skip = re.compile(
        r"pytest\.(skip|mark\.skip|mark\.skipif|mark\.xfail|importorskip)\b"
        r"(?!\((PROMTOOL|COMPOSE|CURL|NODE) is None, reason=\"|\(f\"npm cannot install )"
    )
    found = [
        name_of(path)
        for path in sorted((ROOT / "tests").rglob("*.py"))
        if path != Path(__file__) and skip.search(path.read_text(encoding="utf-8"))
    ]

    assert found == []
