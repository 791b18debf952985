"""What commands show: results on stdout, everything else on stderr.

Tables have lines and colours on a terminal only; elsewhere they are plain aligned text that is never
cut or wrapped. Colours are the ones that read well on a dark background, and NO_COLOR switches them off.
"""

from __future__ import annotations

import json as json_module
import shlex
import shutil
import sys
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, NoReturn

from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from collector import PROGRAM
from collector.cli.terminal_table import Grid, table_lines
from collector.redaction import printable


class _Console(Console):
    def on_broken_pipe(self) -> NoReturn:
        """Leave it to the caller: the library would end the process with status 1."""
        raise


def stdout() -> Console:
    """The console of results."""
    return _Console(file=sys.stdout, highlight=False, markup=False, emoji=False)


def stderr() -> Console:
    """The console of logs, errors and progress."""
    return _Console(file=sys.stderr, highlight=False, markup=False, emoji=False)


def print_table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    json: bool = False,
    right: Collection[str] = (),
    below: Collection[str] = (),
) -> None:
    """Print rows under their columns; with `json` as one array of objects, values as they are.

    Columns of numbers, and those of `right`, are right-aligned; None shows as `-`. A table with a title is one of
    several, so that an empty line ends it. On a narrow terminal the columns of
    `below` go under their row, and rows of a table that does not fit at all become records.
    """
    table = [list(row) for row in rows]
    if json:
        print_json([dict(zip(columns, row, strict=True)) for row in table])
        return
    aligned = [name in right or _is_numeric([row[index] for row in table]) for index, name in enumerate(columns)]
    cells = [[cell_text(value) for value in row] for row in table]
    console = stdout()
    if not console.is_terminal:
        sys.stdout.write(_plain_table(title, columns, cells, aligned) + ("\n" if title else ""))
        return
    grid = Grid(columns, cells, aligned, frozenset(index for index, name in enumerate(columns) if name in below))
    for line in [*([Text(title, "bold")] if title else []), *table_lines(grid, console.width)]:
        console.print(line, soft_wrap=True)
    if title:
        console.print()


def print_json(value: object) -> None:
    """Print one JSON document, indented on a terminal."""
    indent = 2 if sys.stdout.isatty() else None
    # Where the encoding lacks a character, JSON has a way to spell it.
    is_unicode = (sys.stdout.encoding or "").lower().startswith("utf")
    text = json_module.dumps(value, indent=indent, ensure_ascii=not is_unicode, default=_json_value)
    sys.stdout.write(text + "\n")


def print_line(text: str = "") -> None:
    """Print one line of a result, as it is: what a person may paste."""
    sys.stdout.write(printable(text) + "\n")


def print_sentence(text: str) -> None:
    """Print a line to be read, which is wrapped at words on a terminal; further lines are as far in as the first."""
    console = stdout()
    if not console.is_terminal:
        print_line(text)
        return
    inner = text.lstrip(" ")
    space = text[: len(text) - len(inner)]
    for line in Text(printable(inner)).wrap(console, max(20, console.width - len(space)), overflow="fold"):
        console.print(Text(space) + line, soft_wrap=True)


def started_as() -> str:
    """How this process was started, without what stands behind it: for commands that can be pasted."""
    script = Path(sys.argv[0])
    if script.name == "__main__.py":
        return f"{shlex.quote(sys.orig_argv[0])} -m collector"
    if not script.exists():
        return PROGRAM
    found = shutil.which(script.name)
    is_on_path = found is not None and Path(found).resolve() == script.resolve()
    return script.name if is_on_path else shlex.quote(sys.argv[0])


def progress() -> Progress:
    """Progress bars on stderr; they show nothing unless that is a terminal."""
    console = stderr()
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(complete_style="cyan", finished_style="green"),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )


def cell_text(value: object) -> str:
    """A value as a table shows it, on one line."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, datetime):
        return _iso(value)
    return printable(str(value))


def _plain_table(title: str, columns: Sequence[str], cells: list[list[str]], right: list[bool]) -> str:
    grid = [list(columns), *cells]
    widths = [max(cell_len(row[index]) for row in grid) for index in range(len(columns))]

    def aligned(row: list[str]) -> str:
        padded = []
        for cell, width, numeric in zip(row, widths, right, strict=True):
            # Characters of Chinese text take two places.
            space = " " * (width - cell_len(cell))
            padded.append(space + cell if numeric else cell + space)
        return "  ".join(padded).rstrip()

    return "\n".join([*([title] if title else []), *map(aligned, grid)]) + "\n"


def _is_numeric(values: list[object]) -> bool:
    numbers = [value for value in values if value is not None]
    return bool(numbers) and all(
        isinstance(value, int | float | Decimal) and not isinstance(value, bool) for value in numbers
    )


def _iso(value: datetime) -> str:
    # Times without a zone are UTC everywhere in this program.
    utc = value.astimezone(UTC) if value.tzinfo else value
    return utc.replace(tzinfo=None).isoformat() + "Z"


def _json_value(value: Any) -> object:
    if isinstance(value, Decimal):
        return float(value)
    return _iso(value) if isinstance(value, datetime) else str(value)
