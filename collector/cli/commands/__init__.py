"""The commands, one file each. Every file has `register(app)`, which adds its command."""

from __future__ import annotations

import importlib
import keyword

import typer

# The order in which `--help` lists them. `resource-log` is in `resource_log.py`, `import` in `import_.py`.
COMMANDS: tuple[str, ...] = (
    "demo", "init", "check", "plan", "run", "status", "query", "gaps", "backfill", "verify", "call", "diagnostics",
    "resource-log", "xtrace", "migrate", "export", "import", "journal", "simulate",
)  # fmt: skip


def register_all(app: typer.Typer, word: str = "") -> None:
    """Add every command to the application, or only the one that `word` names.

    A command is loaded with all that it needs, so a command line pays for its own command alone.
    """
    for name in (word,) if word in COMMANDS else COMMANDS:
        importlib.import_module(f"{__name__}.{module_name(name)}").register(app)


def module_name(command: str) -> str:
    """The file of a command; a word that Python has for itself gets a line below."""
    return command.replace("-", "_") + ("_" if keyword.iskeyword(command) else "")
