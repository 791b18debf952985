"""What the collectors of windows, snapshots and states have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, field
from typing import Final, TypeVar

import msgspec

from collector.api.client import ApiClient, Reply
from collector.api.decode import UndecodableAnswerError, read_object
from collector.catalogue.answers import Answer
from collector.catalogue.operation import Numbers, Operation, Tokens
from collector.clock import Clock, ServerClock
from collector.journal.entries import Chunk, StreamState
from collector.journal.journal import Journal
from collector.memory import MemoryBounds
from collector.model import StreamKey
from collector.pipeline.chunking import dead_letter_chunks
from collector.pipeline.clock_watch import ClockWatch
from collector.pipeline.room import Room
from collector.sources.page import PageRows
from collector.sources.source import StateSource
from collector.sources.user_metrics import UserMetricsSource

READINGS_MAX: Final = 3
"""A window, snapshot or list that changes while it is paged is read again from its start at most this often."""

PATIENCE_SECONDS: Final = 60.0
"""In a run that is to end, calls fail at once where their operation has been failing for longer than this."""

CODE_NOT_USED: Final = "not_used"
"""Code of a call whose answer came too late to be used."""

GAP_CHANGED: Final = "changed while paging"
GAP_CUT_OFF: Final = "cut off"
GAP_PARTIAL: Final = "partial"
GAP_TOO_LARGE: Final = "answer too large"
GAP_LEFT: Final = "left, and is not answered any more"

SECONDS_TOO_LARGE_MAX: Final = 30
"""Windows of one second in a row that become gaps because their answers are too large. Beyond it the stream fails:
each costs a call, and an answer that is too large whatever is asked for needs a person."""


@dataclass(slots=True)
class Collecting:
    """The parts that a collector works with. Nothing here writes to the store.

    A page is committed to the journal with the cursor it moved and the call it settles before the next one
    is asked; an error leaves the window open, never empty.
    """

    journal: Journal
    client: ApiClient
    clock: Clock
    server_clock: ServerClock
    room: Room
    watch: ClockWatch
    bounds: MemoryBounds
    second_bytes_max: int
    """Rows of a window of one second, which cannot be made smaller: beyond it the rest of the second is a gap."""
    on_page: Callable[[StreamState, int], None] = lambda state, records: None
    """Told after each committed page, with the stream as it is then and the records of the page."""
    span_max: dict[int, int] = field(default_factory=dict)
    """Stream row -> seconds that its next window may span, where one did not fit."""
    stale: dict[int, int] = field(default_factory=dict)
    """Stream row -> answers in a row that were dated too early to seal anything that is due."""
    released: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Row of an open window -> the reading and its pages whose rows were shipped without sealing it."""
    page_sizes: dict[int, int] = field(default_factory=dict)
    """Stream row -> records a page of its lists, if an answer was too large."""
    page_bytes: dict[int, int] = field(default_factory=dict)
    """Stream row -> bytes of the largest page so far of its present list, if pages are smaller than configured."""
    unsorted: set[int] = field(default_factory=set)
    """Rows of streams whose lists the service does not sort by the configured field."""
    seconds_too_large: dict[int, int] = field(default_factory=dict)
    """Stream row -> windows of one second in a row whose answers were too large."""


def is_cut_short(operation: Operation, answer: Answer, pages: int) -> bool:
    """Return whether an empty last page counts more records than `pages` pages before it can have held."""
    return answer.total_denied > pages * (operation.records_max or 1)


def counters(page: PageRows, reply: Reply) -> tuple[tuple[str, int], ...]:
    """What a page adds to the journal's counters."""
    strays = sum(len(rows) for rows in page.strays.values())
    return (("strays", strays), ("dead_letters", len(page.dead)), ("replaced_bytes", reply.answer.replaced_bytes))


def dead_letters(key: StreamKey, operation: Operation, dead: Sequence[tuple[str, object]], reply: Reply) -> list[Chunk]:
    """Records that no row can be made of, as rows of `dead_letters`: each as it came, with what it lacks lacking."""
    if not dead:
        return []
    typed = [record for _, record in dead if isinstance(record, msgspec.Struct)]
    raws: dict[int, object] = {id(record): msgspec.to_builtins(record) for record in typed}
    if typed and operation.records_field is not None:
        with suppress(UndecodableAnswerError):
            answer, _ = read_object(operation, reply.body)
            records = answer[operation.wire_records_field or ""]
            raws |= zip(map(id, getattr(reply.answer, operation.records_field)), records, strict=True)
    return dead_letter_chunks(key, ((reason, raws.get(id(record), record)) for reason, record in dead), reply.date)


S = TypeVar("S", UserMetricsSource, StateSource)


def sized(source: S, page_size: int | None) -> S:
    """Return the source, or one that asks for pages of `page_size` records."""
    if page_size is None:
        return source
    smaller = copy(source)
    smaller.page_size = page_size
    return smaller


def smaller_page(operation: Operation, page_size: int) -> int | None:
    """Return half a page's records, None if pages cannot be smaller."""
    if not isinstance(operation.paging, Numbers | Tokens):
        return None
    parameter = operation.parameter(operation.paging.size)
    least = (parameter.least if parameter else None) or 1
    return max(least, page_size // 2) if page_size > least else None


def widen_pages(
    at: Collecting, stream_id: int, operation: Operation, configured: int, size: int, *, is_last: bool
) -> None:
    """Double the pages of a list up to `configured` records once none of a whole list was large; `size` in bytes.

    Pages of twice the records then have half of what an answer may have, so that few are read in vain.
    """
    if (page_size := at.page_sizes.get(stream_id)) is None:
        return
    largest = at.page_bytes[stream_id] = max(size, at.page_bytes.get(stream_id, 0))
    if not is_last:
        return
    del at.page_bytes[stream_id]
    if largest > operation.answer_bytes_max // 4:
        return
    if 2 * page_size >= configured:
        del at.page_sizes[stream_id]
    else:
        at.page_sizes[stream_id] = 2 * page_size
