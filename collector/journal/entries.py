"""What goes into the journal and what comes out of it. Plain data, no IO."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from collector.api.metering import Attempt
from collector.model import ShipMode, StreamKey, Window


@dataclass(frozen=True, slots=True)
class Chunk:
    """Rows on their way to one partition of one table: JSON arrays, one a line, that never change."""

    table: str
    partition: str
    rows: int
    body: bytes
    mode: ShipMode = ShipMode.APPEND

    @property
    def crc(self) -> int:
        return zlib.crc32(self.body)


@dataclass(frozen=True, slots=True)
class OpenWindow:
    """A window whose last page is still missing, as it stands in the journal."""

    id: int
    window: Window
    mode: ShipMode
    cursor: str | None
    cursors_used: bytes
    pages: int
    reading: int
    last_time: int | None
    in_order: bool
    bytes: int = 0
    """Of the rows of this reading."""


@dataclass(slots=True)
class StreamState:
    """Everything the journal knows of a stream."""

    id: int
    key: StreamKey
    collected_from: int | None
    sealed_to: int | None
    watermark: int | None
    error: str
    error_at: int | None
    rechecks: dict[int, int] = field(default_factory=dict)
    """Recheck delay in seconds -> closed windows up to here were looked at again."""
    held: list[Window] = field(default_factory=list)
    """Ranges of which the store may hold rows already."""
    open: dict[int, OpenWindow] = field(default_factory=dict)
    """Recheck delay (0 = first look) -> the window that is being read."""
    generation: int = 0
    """Of the watermark: raised when it is set back."""

    def mode(self, window: Window) -> ShipMode:
        """How the first look at `window` is shipped."""
        return ShipMode.COMPARE if any(held.overlaps(window) for held in self.held) else ShipMode.APPEND

    def with_page(self, page: PageCommit, window_id: int, reading: int) -> StreamState:
        """The stream after a page that did not seal its window."""
        before = self.open.get(page.delay)
        after = OpenWindow(
            id=window_id,
            window=page.window,
            mode=page.mode,
            cursor=page.cursor,
            cursors_used=(before.cursors_used if before else b"") + page.cursor_used,
            pages=(before.pages if before else 0) + 1,
            reading=reading,
            last_time=page.last_time,
            in_order=page.in_order,
            bytes=(before.bytes if before else 0) + page.bytes,
        )
        return StreamState(
            self.id, self.key, self.collected_from, self.sealed_to, self.watermark, self.error, self.error_at,
            self.rechecks, self.held, {**self.open, page.delay: after}, self.generation,
        )  # fmt: skip


Rewrite = Callable[[Iterable[tuple[int, Chunk]]], Iterable[Chunk]]
"""Turns the (reading, chunk) pairs of a window, the last reading first, into the chunks that are shipped instead.

The pairs are read from the journal one at a time: a rewrite that keeps none of them takes little memory.
"""


@dataclass(frozen=True, slots=True)
class Seal:
    """The last page of a window is in.

    `end` is earlier than the window's own where it had to be cut. `date` is the server's at the last
    answer: what was looked at this late needs no recheck of a shorter delay.
    """

    end: int
    date: int
    rewrite: Rewrite | None = None
    gaps: tuple[tuple[Window, str], ...] = ()


@dataclass(frozen=True, slots=True)
class KnownObject:
    """An object of a stream of observed states, as it was seen last."""

    object_id: str
    listed: int | None
    """Digest of what the list said of it, None when it has to be looked at closer."""
    fingerprint: int
    """Digest of the state that was stored last."""
    is_present: bool
    """False when the last complete list did not hold it."""
    ended_at: int | None
    seen_at: int
    """Tick of the last list that held it; once it is gone, when that was found."""
    state: str
    """The columns of the stored state after the fingerprint, as a JSON array."""


@dataclass(frozen=True, slots=True)
class PageCommit:
    """One page, as it is committed: its rows, the cursor it moved and the call it settles."""

    stream_id: int
    delay: int
    window: Window
    mode: ShipMode
    open_id: int | None
    """The window's row, None with its first page."""
    chunks: tuple[Chunk, ...]
    strays: tuple[tuple[Window, Chunk], ...]
    """Rows outside what was asked, with the range of event time they span."""
    cursor: str | None
    cursor_used: bytes
    """Digest of the cursor this page was asked with, empty for the first page."""
    last_time: int | None
    in_order: bool
    attempt: Attempt | None
    """None where an open window is sealed with what it has, without another page."""
    seal: Seal | None
    counters: tuple[tuple[str, int], ...] = ()
    objects: tuple[KnownObject, ...] = ()
    """What is known from here on of the objects of a stream of observed states."""

    @property
    def bytes(self) -> int:
        """Bytes of the page's rows."""
        return sum(len(chunk.body) for chunk in self.chunks)


@dataclass(frozen=True, slots=True)
class Segment:
    """One insert: one table, one partition, one block, under an id that is also its deduplication token."""

    id: str
    table: str
    partition: str
    mode: ShipMode
    """Whether its rows are what was left over by comparisons."""
    rows: int
    body: bytes
    sent_at: int | None
    """Server time of the first try, None before it."""
    parent_id: str | None = None
    """The segment of which this one is a part."""

    @property
    def root_id(self) -> str:
        """The segment that is acknowledged with this one: itself, or the one that it is a part of."""
        return self.parent_id or self.id


@dataclass(frozen=True, slots=True)
class Unsent:
    """A segment that is not acknowledged, without its rows."""

    id: str
    root_id: str
    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class ChunkSize:
    """A chunk without its rows."""

    id: int
    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """The rows of one window in one partition that the store may already hold, as chunks."""

    window_id: int | None
    stream: StreamKey | None
    window: Window | None
    is_stray: bool
    delay: int
    """Of the window: 0 for the first look, the recheck's, or one of `coverage`'s."""
    chunks: tuple[ChunkSize, ...]


@dataclass(frozen=True, slots=True)
class Compared:
    """What a comparison left over, ready to be frozen as a segment."""

    chunks: tuple[ChunkSize, ...]
    missing: tuple[int, ...]
    """Places of the rows that the store does not hold, counted over all chunks, ascending."""
    conflicts: int = 0
    """Seconds whose stored rows differ from what the service answers now."""
    counter: str = ""
    """Under this name the journal counts the missing rows too."""


@dataclass(frozen=True, slots=True)
class Depth:
    """How full the journal is."""

    bytes: int
    rows: int
    chunks: int
    segments: int
    open_windows: int
