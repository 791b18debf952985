"""Lists that bring page after page and nothing new: found by what the pages hold, whatever their cursors are."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterable, Sequence
from typing import Any, Final

import msgspec

from collector.catalogue.answers import Answer
from collector.errors import CursorLoopError
from collector.sources.page import PageRows
from collector.sources.source import WindowSource

REPEATED_PAGES_MAX: Final = 3
"""Pages in a row that bring only records that came before, until their list is abandoned."""
REPEATED_PAGES_OF_A_SECOND_MAX: Final = 100
"""The same for well-filled pages whose records are all of one second: a storm of equal lines is legitimate."""
EMPTY_PAGES_MAX: Final = 10
"""Pages in a row without a record, each with a cursor for another: a service that searches may answer a few."""
RECORDS_REMEMBERED_MAX: Final = 20_000
"""Records of a list that are remembered to tell new ones from old ones; what comes after them counts as new."""
DIGEST_BYTES: Final = 8

HINT: Final = (
    "Nothing was stored of these pages. The list is asked again later, in smaller parts if it has a time; "
    "if it stays, report it to the service with the operation, the scope and a request id."
)


class PageWatch:
    """Counts the pages of one list that bring nothing new."""

    def __init__(self) -> None:
        self._seen: set[int] = set()
        self._repeated = self._empty = 0

    def fault(self, keys: Iterable[Hashable], *, repeats_max: int = REPEATED_PAGES_MAX) -> str:
        """Return what is wrong with the list as of this page, empty if nothing is.

        `keys` identify the records of the page, which is not the last one.
        """
        found = {hash(key) for key in keys}
        self._empty = 0 if found else self._empty + 1
        if not found:
            return (
                f"{self._empty} empty pages in a row, each with a new cursor" if self._empty > EMPTY_PAGES_MAX else ""
            )
        if not found <= self._seen:
            self._repeated = 0
            if len(self._seen) < RECORDS_REMEMBERED_MAX:
                self._seen |= found
            return ""
        return self.repeated(repeats_max)

    def window_fault(self, source: WindowSource, answer: Answer, page: PageRows, last_time: int | None) -> str:
        """Return what is wrong with the pages of a window, as `fault`; `last_time`: the newest before."""
        times = page.times
        # A page that moves on in time is new, which costs nothing to see. A known number of pages ends.
        if source.pages_of_window or (times and (last_time is None or last_time < max(times))):
            self._repeated = self._empty = 0
            return ""
        is_filled = 2 * page.record_count >= (source.operation.records_max or 0)
        is_of_a_second = not times or min(times) == max(times)
        repeats_max = REPEATED_PAGES_OF_A_SECOND_MAX if is_filled and is_of_a_second else REPEATED_PAGES_MAX
        return self.fault(map(_encode, _records(source, answer)), repeats_max=repeats_max)

    def repeated(self, repeats_max: int = REPEATED_PAGES_MAX) -> str:
        """Count a page that came before; returns as `fault`."""
        self._repeated += 1
        if self._repeated < repeats_max:
            return ""
        return f"{self._repeated} pages in a row brought only records that came before, each with a new cursor"


def page_digest(source: WindowSource, page: PageRows) -> bytes:
    """Return a digest of a page, empty unless it spans several seconds.

    Taken of the times and of what identifies some rows, because it is taken of every page and a service may tell a
    record in other words. Pages of one second may be equal.
    """
    times, table = page.times, source.tables[0]
    # Records that are neither rows of the window nor dead are of the seconds beside it, where it begins or ends.
    is_one_second = len(times) + len(page.dead) == page.record_count and len(set(times)) == 1
    if source.pages_of_window or not times or is_one_second:
        return b""
    rows = page.rows[table]
    chosen = (rows[0], rows[len(rows) // 2], rows[-1])
    some = [page.record_count, sum(times), [[row[i] for i in table.identity_indexes] for row in chosen]]
    return hashlib.blake2b(_encode(some), digest_size=DIGEST_BYTES, person=b"page").digest()


def loop_error(operation: str, scope_id: str, fault: str) -> CursorLoopError:
    """Return the error for a list that was abandoned."""
    return CursorLoopError(f"the list does not end: {fault}", operation=operation, scope_id=scope_id, hint=HINT)


def _records(source: WindowSource, answer: Answer) -> Sequence[Any]:
    field = source.operation.records_field
    return (getattr(answer, field) or ()) if field else ()


_encode = msgspec.json.Encoder(enc_hook=repr).encode
