"""Paging by number: where a list stands that is asked page by page."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

PAGES_REMEMBERED = 8
"""Pages of a list before the present one with which it is compared."""


@dataclass(frozen=True, slots=True)
class NumberedCursor:
    """The next page, the records so far, the first total and the last pages. Its text is JSON."""

    page_number: int = 1
    record_count: int = 0
    total: int | None = None
    total_changed: bool = False
    pages: tuple[str, ...] = ()
    """Digests of the last pages, each of what identifies its records."""
    page_size: int = 0
    """Records a page of this list: its numbers mean nothing with another. 0 before the first page."""

    @classmethod
    def parse(cls, text: str | None) -> NumberedCursor:
        """The cursor of `text`, that of the first page for None. Raises msgspec.MsgspecError."""
        return cls() if text is None else msgspec.json.decode(text, type=cls)

    def __str__(self) -> str:
        return msgspec.json.encode(self).decode()

    def has_changed(self, total: int | None) -> bool:
        """True when the total, or whether there is one, differs between pages.

        Then a record may have moved from a page not yet read to one that was.
        """
        return self.total_changed or (self.total is not None and total != self.total)

    def is_short(self, keys: Sequence[str], total: int | None) -> bool:
        """Return whether the list ends with this page although its total denies it, or repeats a page.

        `keys` identify the records of the page.
        """
        if not keys:
            return total is not None and self.record_count < total
        return self.is_repeat(keys)

    def is_repeat(self, keys: Sequence[str]) -> bool:
        """Return whether a page of these records came before."""
        return _digest(keys) in self.pages

    def after(self, keys: Sequence[str], total: int | None, page_size: int) -> NumberedCursor | None:
        """Return the cursor after a page whose records `keys` identify, None after the last one."""
        there = dataclasses.replace(
            self,
            page_number=self.page_number + 1,
            record_count=self.record_count + len(keys),
            total=total if self.total is None else self.total,
            total_changed=self.has_changed(total),
            pages=(*self.pages, _digest(keys))[-PAGES_REMEMBERED:],
            page_size=page_size,
        )
        if not keys or self.is_repeat(keys):
            return None
        # A service may give fewer records a page than it was asked for: a short page ends the
        # list only where there is no total to say otherwise. A total that was passed says nothing.
        if total is None or total < there.record_count:
            return there if len(keys) >= page_size else None
        return there if there.record_count < total else None


def whole_total(total: object) -> int | None:
    """Return the total of a list, which some services send as text; None if it is no number."""
    try:
        return int(str(total))
    except ValueError:
        return None


def _digest(keys: Sequence[str]) -> str:
    return hashlib.blake2b("\x1f".join(keys).encode(errors="replace"), digest_size=8).hexdigest()
