"""The methods that a process with the journal answers, by name. They are in the files of the commands."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collector.rpc import Method

COMMANDS: Final = ("backfill", "call", "check", "gaps", "journal", "preview", "query", "status", "verify")
"""Commands with methods. The name of a method is its command's, or `command.what`."""
_PARTS: Final = (
    "collector.owner.calls", "collector.owner.gaps", "collector.owner.ranges",
    "collector.owner.replaying", "collector.owner.status", "collector.pipeline.backfill", "collector.pipeline.chunking",
    "collector.pipeline.verify",
)  # fmt: skip
"""What the handlers import where they run."""


def find_method(name: str) -> Method[Any, Any, Any]:
    """Return a method. Raises LookupError if it does not exist."""
    command = name.partition(".")[0]
    if command not in COMMANDS:
        raise LookupError(name)
    module = _module(command)
    found = [method for method in module.METHODS if method.name == name]
    if not found:
        raise LookupError(name)
    method: Method[Any, Any, Any] = found[0]
    return method


def import_methods() -> None:
    """Import all that handlers need: a service answers with the version that it began with, also after an upgrade."""
    for command in COMMANDS:
        _module(command)
    for part in _PARTS:
        importlib.import_module(part)


def _module(command: str) -> Any:
    return importlib.import_module(f"collector.cli.commands.{command}")
