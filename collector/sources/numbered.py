"""Paging by number: where a list stands that is asked page by page."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import msgspec


@dataclass(frozen=True, slots=True)
class NumberedCursor:
    """The next page, the records so far, and the first total. Its text is JSON."""

    page_number: int = 1
    record_count: int = 0
    total: int | None = None
    total_changed: bool = False

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

    def ends_short(self, count: int, total: int | None) -> bool:
        """True when a page without records comes before as many have come as the total promises."""
        return count == 0 and total is not None and self.record_count < total

    def after(self, count: int, total: int | None, page_size: int) -> NumberedCursor | None:
        """The cursor after a page of `count` records, None after the last one."""
        there = dataclasses.replace(
            self,
            page_number=self.page_number + 1,
            record_count=self.record_count + count,
            total=total if self.total is None else self.total,
            total_changed=self.has_changed(total),
        )
        # A service may give fewer records a page than it was asked for: a short page ends the
        # list only where there is no total to say otherwise.
        if count == 0:
            return None
        if total is None:
            return there if count >= page_size else None
        return there if there.record_count < total else None
