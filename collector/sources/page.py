"""What one page of an answer is to the pipeline."""

from __future__ import annotations

from dataclasses import dataclass, field

from collector.model import Window
from collector.sources.tables import Row, Table

MARGIN_SECONDS = 1
"""The services' bounds are undocumented (closed? half-open?): asking this much wider on both sides
makes the answer hold the whole window either way."""


@dataclass(slots=True)
class PageRows:
    """The rows of one page, sorted by where they belong."""

    rows: dict[Table, list[Row]] = field(default_factory=dict)
    """Rows of the window."""
    strays: dict[Table, list[Row]] = field(default_factory=dict)
    """Rows outside all that was asked: they are kept, by comparison."""
    unsure: dict[Table, list[Row]] = field(default_factory=dict)
    """Rows of the window that may still change, such as the newest point of a series: its time step may
    still be being filled. Only the last look at a window takes them; the others leave them to it."""
    dead: list[tuple[str, object]] = field(default_factory=list)
    """Records that no row can be made of: reason and the record as it came."""
    record_count: int = 0
    """Records in the answer, whatever became of them."""
    times: list[int] = field(default_factory=list)
    """Event times of the window's rows in the order of the answer, where the source is windowed."""
    is_disordered: bool = False
    """True if the rows of the window and its margin are not in order of time, as far as they were placed one by one."""
    is_full: bool = False
    """True where the answer holds as many records as it can and there is no way to ask for the rest."""
    has_changed: bool = False
    """True where the list changed while it was paged, so that a record may have slipped between two pages."""
    is_short: bool = False
    """True if the list ended before it had as many records as it counts, or began to repeat its pages."""

    _last_placed: int = 0

    def place(self, table: Table, row: Row, time: int, window: Window, margin: int = MARGIN_SECONDS) -> None:
        """Sort one row by its event time. A row in the margin belongs to the neighbouring window."""
        if not window.start - margin <= time <= window.end + margin:
            self.strays.setdefault(table, []).append(row)
            return
        self.is_disordered |= time < self._last_placed
        self._last_placed = time
        if window.start <= time < window.end:
            self.rows.setdefault(table, []).append(row)
            self.times.append(time)
