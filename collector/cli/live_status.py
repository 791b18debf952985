"""The live view of a status: what it shows at one moment, and what keys change of it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from rich.cells import cell_len
from rich.text import Text

from collector.cli import keys
from collector.model import ENDED
from collector.owner.answers import OperationStatus, Status, StreamStatus
from collector.redaction import printable
from collector.units import rough_duration, rough_size

RATE_SECONDS: Final = 10.0
"""Rates are means over at least this long, once so much has been seen."""
WIDE: Final = 120
"""Columns of a terminal from which every column is shown."""
GAP: Final = "  "
MIN_WIDTH: Final = 8
STATE_STYLES: Final = {
    "failing": "bold red", "stopped": "bold red", "late": "bold red", "waiting": "yellow", "new": "yellow",
    "collected": "green",
}  # fmt: skip
HELP: Final = (
    ("1 .. 9", "sort the streams by that column; again: the other way round"),
    ("< >", "sort by the column to the left or to the right"),
    ("r", "the other way round"),
    ("/", "show only streams with these words; Escape shows all"),
    ("Up Down", "scroll; also j and k, Page Up, Page Down, Home, End"),
    ("p", "pause: what is shown stays"),
    ("?", "this help"),
    ("q", "quit"),
)


@dataclass(frozen=True, slots=True)
class Sample:
    """A status, and when it came: monotonic seconds."""

    told: Status
    time: float


@dataclass(frozen=True, slots=True)
class Rate:
    """Per second, of one operation; None is not known."""

    calls: float | None = None
    rows: float | None = None


def rates(samples: Sequence[Sample]) -> dict[str, Rate]:
    """Return the rate of each operation between the first sample and the last."""
    if len(samples) < 2 or samples[-1].time <= samples[0].time:
        return {}
    first, last = samples[0], samples[-1]
    seconds = last.time - first.time
    before = {operation.operation: operation for operation in first.told.operations}

    def risen(now: OperationStatus, name: str) -> float | None:
        old, new = getattr(before.get(now.operation), name, None), getattr(now, name)
        # Less than before is another month or another process.
        return None if old is None or new is None or new < old else (new - old) / seconds

    return {
        operation.operation: Rate(risen(operation, "calls_this_month"), risen(operation, "rows_received"))
        for operation in last.told.operations
    }


def recent(samples: Sequence[Sample]) -> list[Sample]:
    """Return the samples that rates are made of: the newest, and back to the first that is old enough."""
    kept: list[Sample] = []
    for sample in reversed(samples):
        kept.insert(0, sample)
        if samples[-1].time - sample.time >= RATE_SECONDS:
            break
    return kept


@dataclass(frozen=True, slots=True)
class _StreamColumn:
    title: str
    value: Callable[[StreamStatus], Any]
    """What is sorted by; None comes last."""
    text: Callable[[StreamStatus], str]
    is_number: bool = False
    is_descending: bool = False
    """Which way is looked at first."""
    is_wide: bool = False
    """Left out where the terminal is narrow."""
    ratio: int = 0
    """Its part of the room that is left; 0 takes what it needs."""


def _age(seconds: float | None) -> str:
    return "-" if seconds is None else rough_duration(max(0, int(seconds)))


def _clock(moment: str | None) -> str:
    """Day and time, as short as they can be told apart."""
    return "-" if not moment else moment.replace("T", " ").removesuffix("Z")[5:]


_RANKS: Final = {"stopped": 0, "failing": 1, "waiting": 2, "new": 3, "collected": 4}

STREAMS: Final = (
    _StreamColumn("state", lambda s: _RANKS.get(s.state, 5), lambda s: s.state),
    _StreamColumn("operation", lambda s: s.operation, lambda s: s.operation),
    _StreamColumn("scope", lambda s: s.scope_id, lambda s: s.scope_id, ratio=2),
    _StreamColumn(
        "behind", lambda s: s.freshness_seconds, lambda s: _age(s.freshness_seconds), is_number=True,
        is_descending=True,
    ),
    _StreamColumn("watermark", lambda s: s.watermark, lambda s: _clock(s.watermark), is_wide=True),
    _StreamColumn("next try", lambda s: s.next_try, lambda s: _clock(s.next_try), is_wide=True),
    _StreamColumn(
        "pages", lambda s: s.pages_open, lambda s: f"{s.pages_open:,}", is_number=True, is_descending=True,
        is_wide=True,
    ),
    _StreamColumn("error", lambda s: s.error, lambda s: s.error or "", ratio=3),
)  # fmt: skip
"""Their numbers on the keyboard are those of the columns that are shown."""
SOURCES: Final = ("source", "operation", "state", "fresh", "behind", "promised", "calls/s", "rows/s", "due", "missed")
SOURCES_NARROW: Final = ("source", "state", "fresh", "behind", "promised", "calls/s", "rows/s")
_SOURCE_NUMBERS: Final = frozenset({"fresh", "behind", "promised", "calls/s", "rows/s", "due", "missed"})


@dataclass(frozen=True, slots=True)
class Screen:
    """What a person has chosen."""

    sort: int | None = None
    """Index in STREAMS; None is what fails first, then what is furthest behind."""
    is_reversed: bool = False
    words: str = ""
    """Only streams with all of these are shown."""
    is_typing: bool = False
    top: int = 0
    """Streams that are scrolled away."""
    is_paused: bool = False
    shows_help: bool = False
    is_over: bool = False
    page: int = field(default=10, compare=False)
    """Streams on the screen, as last drawn."""
    is_narrow: bool = field(default=False, compare=False)

    def pressed(self, key: str) -> Screen:
        """Return what is shown after a key."""
        if key == keys.CLOSED:
            return replace(self, is_over=True)
        if self.is_typing:
            return self._typed(key)
        if self.shows_help:
            return replace(self, shows_help=False, is_over=key == "q")
        shown = self.columns()
        if key.isdigit() and 1 <= int(key) <= len(shown):
            return self._sorted(shown[int(key) - 1])
        steps = {keys.UP: -1, "k": -1, keys.DOWN: 1, "j": 1, keys.PAGE_UP: -self.page, keys.PAGE_DOWN: self.page}
        if key in steps:
            return replace(self, top=max(0, self.top + steps[key]))
        match key:
            case "q":
                return replace(self, is_over=True)
            case "p" | " ":
                return replace(self, is_paused=not self.is_paused)
            case "?" | "h":
                return replace(self, shows_help=True)
            case "/":
                return replace(self, is_typing=True, top=0)
            case "r":
                return replace(self, is_reversed=not self.is_reversed, top=0)
            case "<" | ">":
                place = shown.index(self.sort) if self.sort in shown else -1 if key == ">" else len(shown)
                return self._sorted(shown[(place + (1 if key == ">" else -1)) % len(shown)])
            case keys.HOME | "g":
                return replace(self, top=0)
            case keys.END | "G":
                return replace(self, top=1 << 30)
            case keys.ESCAPE:
                return replace(self, words="", top=0)
        return self

    def _typed(self, key: str) -> Screen:
        match key:
            case keys.ENTER:
                return replace(self, is_typing=False)
            case keys.ESCAPE:
                return replace(self, is_typing=False, words="")
            case keys.BACKSPACE:
                return replace(self, words=self.words[:-1])
            case keys.CLEAR:
                return replace(self, words="")
        return replace(self, words=self.words + key) if len(key) == 1 else self

    def _sorted(self, column: int) -> Screen:
        return replace(self, sort=column, is_reversed=self.sort == column and not self.is_reversed, top=0)

    def columns(self) -> list[int]:
        """Return the places in STREAMS of the columns that are shown."""
        return [place for place, column in enumerate(STREAMS) if not (column.is_wide and self.is_narrow)]

    def streams(self, told: Status) -> list[StreamStatus]:
        """Return the streams that are collected, chosen and in order."""
        wanted = self.words.lower().split()
        found = [
            stream
            for stream in told.streams
            if stream.state != ENDED
            and all(
                word in f"{stream.state} {stream.operation} {stream.scope_id} {stream.error}".lower() for word in wanted
            )
        ]
        if self.sort is None:
            found.sort(key=lambda s: (s.error is None, -(s.freshness_seconds or 0)))
            return found[::-1] if self.is_reversed else found
        column = STREAMS[self.sort]
        known = [stream for stream in found if column.value(stream) is not None]
        known.sort(key=column.value, reverse=column.is_descending != self.is_reversed)
        return known + [stream for stream in found if column.value(stream) is None]


def source_rows(told: Status, speed: Mapping[str, Rate]) -> list[dict[str, str]]:
    """Return the sources' figures as text, by the names of SOURCES."""
    rows = []
    for source in told.sources:
        states = {name: count for name, count in source.states.items() if count and name != ENDED}
        rate = speed.get(source.operation, Rate())
        troubles = [name for name in ("stopped", "failing", "waiting", "new") if states.get(name)]
        state = troubles[0] if troubles else "collected" if states else ENDED
        if state == "collected" and not source.is_fresh:
            state = "late"
        rows.append(
            {
                "source": source.source,
                "operation": source.operation,
                "state": state,
                "fresh": f"{states.get('collected', 0):,} of {sum(states.values()):,}",
                "behind": _age(source.freshness_seconds),
                "promised": _age(source.freshness_promise_seconds),
                "calls/s": _rate(rate.calls),
                "rows/s": _rate(rate.rows),
                "due": f"{source.due:,}",
                "missed": f"{source.ticks_missed:,}",
            }
        )
    return rows


def _rate(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f}"


def header(told: Status, width: int) -> list[Text]:
    """Return the lines above the tables: the verdict, then clock, money and journal, and what stops or is in doubt."""
    money, journal, clock = told.budget, told.journal, told.clock
    verdict = Text.assemble(
        (
            f" {'well' if told.is_well else 'NOT WELL'} ",
            "bold green reverse" if told.is_well else "bold red reverse",
        ),
        " ",
        (printable(told.headline), "bold"),
    )
    shard = f" shard {told.shard}" if told.shard and told.shard != "0/1" else ""
    cap = "no budget" if money.cap_cny is None else f"of {_cny(money.cap_cny)}"
    facts = [
        f"{told.region}{shard}",
        f"{told.now.replace('T', ' ').removesuffix('Z')} UTC" + (" (in doubt)" if clock.doubt else ""),
        f"spent {_cny(money.spent_cny)} CNY {cap}, forecast {_cny(money.forecast_cny)}",
        f"journal {rough_size(journal.bytes)} of {rough_size(journal.bytes_max)}",
        f"{journal.rows:,} rows to ship",
    ]
    told_lines = [facts[0]]
    for fact in facts[1:]:
        joined = f"{told_lines[-1]}   {fact}"
        told_lines[-1:] = [joined] if cell_len(joined) <= width else [told_lines[-1], fact]
    lines = [verdict, *map(Text, told_lines)]
    if told.store_error:
        lines.append(Text(f"store fails: {printable(told.store_error)}", style="red"))
    if clock.doubt:
        lines.append(Text(f"clock: {printable(clock.doubt)}", style="yellow"))
    lines += [
        Text(f"stopped: {stop.what} {stop.operation}: {printable(stop.error)}", style="red") for stop in told.stops
    ]
    return lines


def _cny(text: str) -> str:
    amount = float(text)
    return f"{amount:,.2f}" if amount == 0 or amount >= 0.1 else f"{amount:.4f}"


def drawn(
    samples: Sequence[Sample], screen: Screen, width: int, height: int, *, trouble: str = ""
) -> tuple[list[Text], Screen]:
    """Return the lines of the whole screen, and `screen` with what fits on it.

    `trouble` is why what is shown is not fresh.
    """
    told = samples[-1].told
    screen = replace(screen, is_narrow=width < WIDE)
    lines = header(told, width)
    if trouble:
        lines.insert(0, Text(f"NOT FRESH: {printable(trouble)}", style="bold red"))
    if screen.shows_help:
        keys_shown = [Text.assemble((f"{key:>9}", "bold"), f"  {what}") for key, what in HELP]
        return _fitted([*lines, Text(), *keys_shown, Text(), Text("any key goes back")], width, height), screen
    rows = source_rows(told, rates(recent(samples)))
    lines.append(Text())
    if rows:
        names = SOURCES_NARROW if screen.is_narrow else SOURCES
        cells = [[row[name] for name in names] for row in rows]
        sources = table([Head(name, name in _SOURCE_NUMBERS, 0) for name in names], cells, width)
        most = max(4, height // 3)
        if len(sources) > most:
            sources = [*sources[: most - 1], Text(f"... {len(sources) - most + 1} more sources", style="dim")]
        lines += sources
    else:
        lines.append(Text("No service runs: nothing is collected at present.", style="yellow"))
    lines.append(Text())
    streams = screen.streams(told)
    room = max(1, height - len(lines) - 2)
    top = max(0, min(screen.top, len(streams) - room))
    screen = replace(screen, top=top, page=room)
    lines += stream_lines(streams[top : top + room], screen, width)
    lines = _fitted(lines, width, height - 1)
    lines += [Text() for _ in range(height - 1 - len(lines))]
    return [*lines, *_fitted([_footer(screen, len(streams), told)], width, 1)], screen


def stream_lines(streams: Sequence[StreamStatus], screen: Screen, width: int) -> list[Text]:
    """Return the table of the streams that are given, in their order."""
    shown = screen.columns()
    heads = []
    for number, place in enumerate(shown, 1):
        column = STREAMS[place]
        arrow = ""
        if place == screen.sort:
            arrow = " ↓" if column.is_descending != screen.is_reversed else " ↑"
        heads.append(Head(f"{number} {column.title}{arrow}", column.is_number, column.ratio))
    return table(heads, [[STREAMS[place].text(stream) for place in shown] for stream in streams], width)


def _footer(screen: Screen, count: int, told: Status) -> Text:
    if screen.is_typing:
        return Text.assemble(
            ("show only: ", "bold"), screen.words, ("_", "blink"), ("   Enter keeps, Escape clears", "dim")
        )
    first, last = min(screen.top + 1, count), min(screen.top + screen.page, count)
    ended = told.states.get(ENDED, 0)
    parts: list[Any] = []
    if screen.is_paused:
        parts.append(("PAUSED  ", "bold yellow"))
    parts.append(f"streams {first:,} to {last:,} of {count:,}")
    if screen.words:
        parts.append((f" with {screen.words!r}", "bold"))
    if ended:
        parts.append(f", and {ended:,} that ended")
    parts.append(("   1-9 < > sort  / filter  p pause  ? help  q quit", "dim"))
    return Text.assemble(*parts)


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a column."""

    title: str
    is_number: bool = False
    ratio: int = 0
    """Its part of the room that is left; 0 takes what it needs."""


def table(heads: Sequence[Head], rows: Sequence[Sequence[str]], width: int) -> list[Text]:
    """Return a head and a line for each row, none longer than `width`: what does not fit ends with an ellipsis."""
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [
        max(cell_len(head.title), *(cell_len(row[place]) for row in cells), 0) for place, head in enumerate(heads)
    ]
    left = width - sum(wide for wide, head in zip(widths, heads, strict=True) if not head.ratio)
    left -= len(GAP) * (len(heads) - 1)
    parts = sum(head.ratio for head in heads)
    for place, head in enumerate(heads):
        if head.ratio:
            part = left * head.ratio // parts
            # What one of them does not need is for those behind it.
            taken = min(widths[place], max(part, MIN_WIDTH))
            parts, left, widths[place] = parts - head.ratio, left - taken, taken
    lines = [_line([(head.title, "bold cyan") for head in heads], heads, widths)]
    lines += [_line([(cell, STATE_STYLES.get(cell, "")) for cell in row], heads, widths) for row in cells]
    return lines


def _line(cells: Sequence[tuple[str, str]], heads: Sequence[Head], widths: Sequence[int]) -> Text:
    line = Text()
    for place, ((text, style), head, wide) in enumerate(zip(cells, heads, widths, strict=True)):
        cell = Text(text, style=style)
        cell.truncate(wide, overflow="ellipsis")
        space = " " * (wide - cell.cell_len)
        line.append(GAP if place else "")
        line.append_text(Text(space) + cell if head.is_number else cell + Text(space))
    return line


def _fitted(lines: Sequence[Text], width: int, height: int) -> list[Text]:
    fitted = [line.copy() for line in lines[: max(height, 0)]]
    for line in fitted:
        line.truncate(width, overflow="ellipsis")
    return fitted
