"""The commands, one file each: a command's requests, their handlers, what is printed, and the command line.

Every file has `register(app)`, which adds its command. One whose work needs journal or store has `METHODS` too. Its
handlers import the collector's parts where they run: help, and a command that asks a service, need none of them.
"""

from __future__ import annotations

import importlib
import keyword

import typer

# In the order and with the words of the list that `pai-collector --help` prints. The command's own help says more.
COMMANDS: dict[str, str] = {
    "demo": "Collect a simulated cluster into a new store and show it.",
    "init": "Write a commented configuration.",
    "check": "Try the configuration: key, operations, store.",
    "plan": "Price the configuration: calls, CNY, freshness.",
    "run": "Collect until stopped, or with --once what is due.",
    "status": "Show streams, freshness, quota use, spend and journal.",
    "top": "Watch sources and streams live in the terminal.",
    "query": "Query the history with SQL, read-only.",
    "gaps": "List the ranges that are not covered, and why.",
    "backfill": "Request an older range again and store what is missing.",
    "verify": "Compare a range with the service, field by field.",
    "preview": "Show a page of a source as rows, storing nothing.",
    "call": "Call one operation and print its response.",
    "diagnostics": "Create, show and list diagnoses of nodes.",
    "resource-log": "Start, show or stop shipping a resource group's logs.",
    "xtrace": "Show the token and endpoints for uploading traces.",
    "migrate": "Apply missing migrations and settings of the tables.",
    "export": "Write the whole history to files, for import.",
    "import": "Read exported history into the store.",
    "journal": "Inspect, check, replay and repair the journal.",
    "simulate": "Serve simulated PAI operations until Ctrl-C.",
}


def register(app: typer.Typer, word: str) -> None:
    """Add the command that `word` names; for any other word, add the list of all commands for `--help`.

    A command's module imports everything that the command uses, so no other module is imported.
    """
    if word in COMMANDS:
        importlib.import_module(f"{__name__}.{module_name(word)}").register(app)
        return
    for name, summary in COMMANDS.items():
        app.command(name=name, help=summary)(_listed_only)


def module_name(command: str) -> str:
    """Return the module of a command: `resource_log` for `resource-log`, `import_` for the keyword `import`."""
    return command.replace("-", "_") + ("_" if keyword.iskeyword(command) else "")


def _listed_only() -> None:
    raise AssertionError("the command line names a command whose module was not imported")
