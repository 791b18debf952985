"""Tables for a terminal: as wide as it is, cells wrapped at words, and records where a table does not fit. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

HEADER_STYLE: Final = "bold cyan"
WORD_MAX: Final = 28
"""Longer words may be folded."""
FOLDED_MIN: Final = 12
"""Narrower no column becomes; rather each row is shown as a record."""
_CONSOLE: Final = Console(width=80, file=None)


@dataclass(frozen=True, slots=True)
class Grid:
    """What a table shows; every row has a cell for each column."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    right: Sequence[bool]
    """Columns of figures: they stand under each other and are wrapped at blanks only."""
    below: frozenset[int] = field(default_factory=frozenset)
    """Columns that may go under their row, `-` cells left out."""


def table_lines(grid: Grid, width: int) -> list[Text]:
    """Return the lines of a table, none of them longer than `width` columns of the terminal."""
    for gap in (2, 1):
        if _needed(_natural(grid), gap) <= width:
            return _laid_out(grid, _natural(grid), gap, width, [])
    below: list[int] = sorted(grid.below)
    upper = _without(grid, grid.below)
    notes = [
        "; ".join(
            row[place] if place == below[-1] else f"{grid.columns[place]} {row[place]}"
            for place in below
            if row[place] not in ("-", "")
        )
        for row in grid.rows
    ]
    natural, least = _natural(upper), _least(upper)
    for gap in (2, 1) if below else ():
        if _needed(natural, gap) <= width:
            return _laid_out(upper, natural, gap, width, notes)
    for gap in (2, 1):
        if _needed(least, gap) <= width:
            return _laid_out(upper, _shared(least, natural, width - _needed(least, gap)), gap, width, notes)
    folded = _folded(upper, least, width)
    return _records(grid, width) if folded is None else _laid_out(upper, folded, 1, width, notes)


def _without(grid: Grid, places: frozenset[int]) -> Grid:
    kept = [place for place in range(len(grid.columns)) if place not in places]
    return Grid(
        [grid.columns[place] for place in kept],
        [[row[place] for place in kept] for row in grid.rows],
        [grid.right[place] for place in kept],
    )


def _needed(widths: Sequence[int], gap: int) -> int:
    return sum(widths) + gap * (len(widths) - 1)


def _cells(grid: Grid, place: int) -> list[str]:
    return [grid.columns[place], *(row[place] for row in grid.rows)]


def _natural(grid: Grid) -> list[int]:
    return [max(map(cell_len, _cells(grid, place))) for place in range(len(grid.columns))]


def _least(grid: Grid) -> list[int]:
    """The longest word of each column."""
    found = []
    for place in range(len(grid.columns)):
        longest = max((cell_len(word) for cell in _cells(grid, place) for word in cell.split()), default=0)
        found.append(longest if grid.right[place] else min(longest, max(WORD_MAX, cell_len(grid.columns[place]))))
    return found


def _shared(least: Sequence[int], natural: Sequence[int], left: int) -> list[int]:
    """Widths between the two: the narrowest columns get what they want first."""
    widths = list(least)
    for count, place in enumerate(sorted(range(len(widths)), key=lambda place: natural[place] - least[place])):
        more = min(natural[place] - least[place], left // (len(widths) - count))
        widths[place] += more
        left -= more
    return widths


def _folded(grid: Grid, least: Sequence[int], width: int) -> list[int] | None:
    """Widths with the longest words cut; None if that would leave too little of them."""
    widths = list(least)
    while (over := _needed(widths, 1) - width) > 0:
        widest = max(
            (place for place in range(len(widths)) if not grid.right[place]), key=widths.__getitem__, default=-1
        )
        if widest < 0 or widths[widest] <= FOLDED_MIN:
            return None
        widths[widest] = max(FOLDED_MIN, widths[widest] - over)
    return widths


def _laid_out(grid: Grid, widths: Sequence[int], gap: int, width: int, notes: Sequence[str]) -> list[Text]:
    lines = _row([Text(name, HEADER_STYLE) for name in grid.columns], grid.right, widths, gap)
    lines.append(Text("─" * min(width, _needed(widths, gap)), "dim"))
    for number, row in enumerate(grid.rows):
        lines += _row([Text(cell) for cell in row], grid.right, widths, gap)
        if notes and notes[number]:
            lines += [Text("    ") + line for line in _wrapped(Text(notes[number]), width - 4)]
    return lines


def _row(cells: Sequence[Text], right: Sequence[bool], widths: Sequence[int], gap: int) -> list[Text]:
    parts = [_wrapped(cell, wide) for cell, wide in zip(cells, widths, strict=True)]
    lines = []
    for number in range(max(map(len, parts))):
        line = Text()
        for place, (part, wide) in enumerate(zip(parts, widths, strict=True)):
            cell = part[number] if number < len(part) else Text()
            space = Text(" " * (wide - cell.cell_len))
            line += Text(" " * gap if place else "") + (space + cell if right[place] else cell + space)
        line.rstrip()
        lines.append(line)
    return lines


def _wrapped(text: Text, width: int) -> list[Text]:
    if text.cell_len <= width:
        return [text]
    lines = list(text.wrap(_CONSOLE, max(width, 1), overflow="fold"))
    for line in lines:
        line.rstrip()
    return lines


def _records(grid: Grid, width: int) -> list[Text]:
    """Each row as lines of name and value."""
    name_width = min(max(map(cell_len, grid.columns)), width // 2)
    lines = []
    for number, row in enumerate(grid.rows, 1):
        head = f"─ {number} of {len(grid.rows)} "
        lines.append(Text(head + "─" * max(0, width - cell_len(head)), "dim"))
        for name, value in zip(grid.columns, row, strict=True):
            lines += _row(
                [Text(name, HEADER_STYLE), Text(value)], [False, False], [name_width, width - name_width - 2], 2
            )
    return lines
