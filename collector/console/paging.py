"""A long list in parts: which part an address asks for, and what leads to the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from collector.console.page import PageRequest
from collector.errors import UsageError

PAGE_ROWS: Final = 500


@dataclass(frozen=True, slots=True)
class Pages:
    """The part of a long list that is shown."""

    page: int
    pages: int
    first: int
    last: int
    count: int
    """Of all that match."""
    before: str
    """Address of the page before; empty on the first."""
    after: str


def part_of(asked: PageRequest, rows: Sequence[Any]) -> tuple[Sequence[Any], Pages]:
    """Return the rows that `?page=` asks for. Raises UsageError."""
    text = asked.text("page", "1")
    if not (text.isascii() and text.isdigit() and len(text) <= 7 and int(text)):
        raise UsageError(f"page: got {text[:40]!r}; expected a whole number from 1")
    pages = max(1, -(-len(rows) // PAGE_ROWS))
    page = min(int(text), pages)
    first = (page - 1) * PAGE_ROWS
    part = rows[first : first + PAGE_ROWS]
    address: Callable[[int], str] = lambda number: asked.address(page=str(number) if number > 1 else None)  # noqa: E731
    return part, Pages(
        page,
        pages,
        first + 1 if part else 0,
        first + len(part),
        len(rows),
        address(page - 1) if page > 1 else "",
        address(page + 1) if page < pages else "",
    )
