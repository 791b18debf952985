"""Methods of commands: each is found by its name, and a service has loaded all that their handlers need."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from collector.cli import commands, methods

FILES = Path(commands.__file__).parent


@pytest.mark.parametrize("command", methods.COMMANDS)
def test_a_method_is_found_by_its_name(command: str) -> None:
    """Its name begins with the command's, as the file does that it is in."""
    found = importlib.import_module(f"{commands.__name__}.{command}").METHODS
    assert {method.name for method in found} == set(_names(command))
    for method in found:
        assert methods.find_method(method.name) is method


@pytest.mark.parametrize("name", ["", "run", "gaps.price", "backfill.", "../gaps"])
def test_what_is_no_method_is_not_found(name: str) -> None:
    """Not even where a command has the name."""
    with pytest.raises(LookupError):
        methods.find_method(name)


def _names(command: str) -> list[str]:
    """The names of a command's methods, by its file."""
    several = {
        "backfill": ["backfill", "backfill.price"],
        "journal": ["journal.repair", "journal.replay"],
        "verify": ["verify", "verify.price"],
    }
    return several.get(command, [command])


def test_a_service_imports_nothing_for_a_request() -> None:
    """After an upgrade it goes on with the version that it began with: all that handlers import is loaded before."""
    files = [FILES / f"{command}.py" for command in methods.COMMANDS] + [FILES.parent / "calling.py"]
    wanted = {
        node.module if node.module != "collector.owner" else f"collector.owner.{node.names[0].name}"
        for path in files
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.ImportFrom) and node.module
    }
    assert "collector.pipeline.verify" in wanted
    code = (
        "import sys, collector.cli.commands.run; from collector.cli.methods import import_methods; import_methods();"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=180, check=True)
    assert wanted - set(done.stdout.split()) == set()
