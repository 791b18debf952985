"""The reference of faults, made from the program's rules: `python -m tools.faults`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Final

from collector.store.fault_rules import fault_rules
from collector.store.faults import FaultMeaning, FaultRule

_HEAD: Final = """\
# Faults

What `sql/faults.toml` knows, made from it (`make reference`): every class, its cases, and every number, with what it
means, what to do about it, and where the judgement comes from. In a store, with
[your own rules](../how-to/fault-rules.md) over it: `SELECT * FROM fault_codes`.

| severity | what it asks of a person |
| --- | --- |
| `fatal` | a GPU, a link, storage or the node is lost until it is reset, repaired or replaced: take it out |
| `degraded` | it works on, with less or at a risk: take it out when its work is done |
| `application` | a program was stopped, by its own fault or by a limit; the machine is well |
| `corrected` | the hardware put it right and nothing was lost: watch the rate |
| `info` | it belongs to another line, or needs nothing |

A number that is not listed has the meaning of its class. A case is told by the words of the line; it replaces what the
class or the number says.
"""
_COLUMNS: Final = "severity | meaning | action | source |\n"


def reference() -> str:
    """Return the whole page."""
    rules = fault_rules()
    meanings = {name: list(found) for name, found in groupby(rules.meanings, key=lambda known: known.name)}
    overview = "".join(
        f"| [{rule.name}](#{rule.name}) | {rule.severity} | {_cell(rule.meaning)} |\n" for rule in rules.classes
    )
    sections = [_section(rule, meanings[rule.name]) for rule in rules.classes]
    return "\n".join([_HEAD, f"| class | severity | meaning |\n| --- | --- | --- |\n{overview}", *sections])


def _section(rule: FaultRule, known: Sequence[FaultMeaning]) -> str:
    of_class = [one for one in known if not one.code]
    cases = {one.case for one in of_class}
    # A case of the class means the same for every number.
    numbers = [one for one in known if one.code and (not one.case or one.case not in cases)]
    parts = [f"## {rule.name}\n\n| case | {_COLUMNS}| --- | --- | --- | --- | --- |\n"]
    parts += [f"| {_code(one.case) if one.case else 'all others'} | {_judgement(one)}" for one in of_class]
    if numbers:
        parts.append(f"\n| number | case | {_COLUMNS}| --- | --- | --- | --- | --- | --- |\n")
        ordered = sorted(numbers, key=lambda one: (one.code, one.case))
        parts += [f"| {one.code} | {_code(one.case) if one.case else ''} | {_judgement(one)}" for one in ordered]
    return "".join(parts)


def _judgement(one: FaultMeaning) -> str:
    return f"{one.severity} | {_cell(one.meaning)} | {_cell(one.action)} | {_cell(one.source)} |\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _code(text: str) -> str:
    return f"`{text}`"


if __name__ == "__main__":
    print(reference(), end="")
