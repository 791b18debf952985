"""The reference of the operations, made from the catalogue.

    python -m tools.operations [--check] [FILE]

`--check` writes nothing and ends with 1 where the file differs from the catalogue.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from collector.catalogue.operation import Form, Numbers, Operation, Parameter, Place, Spread, Style, Tokens
from collector.catalogue.operations import PRODUCTS

COMMAND: Final = "python -m tools.operations"
DEFAULT: Final = Path(__file__).parents[1] / "docs" / "reference" / "operations.md"

_TYPES: Final = {str: "text", int: "whole number", bool: "boolean", list: "list", dict: "object"}
_FORMS: Final = {
    Form.SECONDS: "UNIX seconds",
    Form.MINUTE: "UNIX seconds, a whole minute",
    Form.MOMENT: "`2025-10-09T08:00:00Z`, UTC",
    Form.CIVIL: "`2025-10-09 08:00:00`, UTC",
    Form.TIME_STEP: "units h, m, s",
    Form.COUNT: "a whole number from 1 up",
    Form.MILLISECONDS: "UNIX milliseconds, or `2025-10-09 08:00:00`, UTC",
}
_HEAD: Final = f"""\
# Operations

Every operation that the collector can call, from its catalogue. `{COMMAND}` writes this file.
`pai-collector call OPERATION --param Name=value` makes one call of any of them.

"Product endpoint" and "bearer gateway" are the two ways to send a call ([gateways](../how-to/gateways.md)). A quota in
brackets is the collector's own bound, where the documentation gives none. An unpriced operation has no documented
price: its calls are counted, and add nothing to the spend until `api.prices` names one. A call costs the same whether
it succeeds or fails.
"""


def document() -> str:
    """The whole file."""
    parts = [_HEAD]
    for module in PRODUCTS:
        rows = module.ROWS
        first = rows[0]
        parts.append(f"## {first.product}\n\nVersion {first.version}, {_style(first)}.\n\n{_overview(rows)}")
        parts += [_operation(row) for row in rows]
    return "\n".join(parts)


def _style(row: Operation) -> str:
    if row.style is Style.RPC:
        return "RPC: each call is a `POST /` that names its operation in the header `x-acs-action`"
    return "ROA: each operation has a path of its own"


def _overview(rows: Iterable[Operation]) -> str:
    return _table(
        ("operation", "what it gives", "calls a second", "CNY a call", "free calls a month", "paging"),
        (
            (
                f"[{row.name}](#{row.name.lower()})",
                row.summary,
                f"{row.quota.per_second}" if row.quota.documented else f"({row.quota.per_second})",
                "unpriced" if row.price is None or row.price.cny is None else f"{row.price.cny:f}",
                "-" if row.price is None else _free(row),
                _paging(row),
            )
            for row in rows
        ),
    )


def _free(row: Operation) -> str:
    assert row.price is not None
    if row.price.cny == 0:
        return "all"
    pot = f", one pot: {row.price.pot}" if row.price.pot else ""
    return f"{row.price.free_calls_per_month}{pot}"


def _paging(row: Operation) -> str:
    most = f", at most {row.records_max} records" if row.records_max else ""
    match row.paging:
        case Tokens(size=size):
            return "`NextToken`" + (f" and `{size}`" if size else "") + most
        case Numbers(number=number, size=size):
            return f"`{number}` and `{size}`{most}"
        case _:
            return f"none{most}"


def _operation(row: Operation) -> str:
    notes = [f"Product endpoint: `{row.method} {row.path}`. Bearer gateway: `{row.method} {_bearer_path(row)}`."]
    if row.one_host:
        notes.append("On the bearer gateway it is asked at `api.aliyun.com` for both sites.")
    if not row.repeatable:
        notes.append("It changes something, so it is repeated only when it certainly had no effect.")
    if row.secret_fields:
        fields = ", ".join(f"`{name}`" for name in sorted(row.secret_fields))
        notes.append(f"Secret in its answer: {fields}.")
    return f"### {row.name}\n\n{_filled(' '.join(notes))}\n\n{_parameters(row)}"


def _bearer_path(row: Operation) -> str:
    return f"/api/{row.product}/{row.version}/{row.action}"


def _parameters(row: Operation) -> str:
    if not row.parameters:
        return "It takes no parameters.\n"
    return _table(
        ("parameter", "type", "needed", "product endpoint", "bearer gateway", "meaning"),
        (
            (
                f"`{known.name}`",
                _kind(known),
                "yes" if known.required else "no",
                _on_product(known),
                _on_bearer(row, known),
                known.help,
            )
            for known in row.parameters
        ),
    )


def _kind(known: Parameter) -> str:
    limits = []
    if known.choices:
        limits.append("one of " + ", ".join(f"`{choice}`" for choice in known.choices))
    elif known.least is not None or known.most is not None:
        limits.append(f"{known.least} to {known.most}" if known.most is not None else f"from {known.least} up")
    elif known.form is not Form.ANY:
        limits.append(_FORMS[known.form])
    return ": ".join([_TYPES[known.type], *limits])


def _on_product(known: Parameter) -> str:
    if known.bearer_only:
        return "-"
    place = "JSON body" if known.place is Place.JSON else str(known.place)
    if known.inside:
        return f"{place}, in the JSON of `{known.inside}`"
    if known.type is list:
        spread = {
            Spread.COMMAS: "commas between",
            Spread.NUMBERED: f"`{known.name}.1`, `{known.name}.2`",
            Spread.JSON: "as JSON",
        }
        return f"{place}, {spread[known.spread]}"
    return f"{place}, as JSON" if known.type is dict else place


def _on_bearer(row: Operation, known: Parameter) -> str:
    if row.method != "POST":
        return "query"
    return "JSON body, in `body`" if known.place is Place.JSON else "JSON body"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _filled(text: str, width: int = 120) -> str:
    """Text in lines; a word in backticks may hold blanks and is not broken."""
    lines, line, quoted = [], "", False
    for word in text.split(" "):
        if line and not quoted and len(line) + 1 + len(word) > width:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}" if line else word
        quoted ^= word.count("`") % 2 == 1
    return "\n".join([*lines, line])


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the reference, or compare it; returns the exit status."""
    parser = argparse.ArgumentParser(prog=COMMAND, description="Write the reference of the operations.")
    parser.add_argument("--check", action="store_true", help="only compare; 1 where the file differs")
    parser.add_argument("file", nargs="?", type=Path, default=DEFAULT, metavar="FILE", help="[%(default)s]")
    given = parser.parse_args(arguments)
    path: Path = given.file
    made = document()
    if given.check:
        is_same = path.is_file() and path.read_text(encoding="utf-8") == made
        if not is_same:
            sys.stderr.write(f"{path}: differs from the catalogue; {COMMAND} writes it anew\n")
        return 0 if is_same else 1
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(made, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
