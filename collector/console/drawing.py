"""Values as HTML: cells, and charts as SVG for browsers without JavaScript. Everything else's text is escaped."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote

import msgspec
from markupsafe import Markup, escape

from collector.console.table import Chart, Column, Kind
from collector.units import rough_duration, rough_size

TEXT_MAX: Final = 2_000
"""Characters of a cell; the rest is in the page's JSON."""
LIST_MAX: Final = 3
"""Values of a list in a cell; the others are in the page's JSON and CSV."""
NOT_KNOWN: Final = Markup('<span class="unknown" title="not known">n/a</span>')
_FIELD: Final = re.compile(r"\{(\w+)\}")
# Shown in Unicode's own pictures, so that a log line can neither move the cursor nor hide.
_CONTROLS: Final = {code: 0x2400 + code for code in range(32) if code not in (9, 10)} | {127: 0x2421} | dict.fromkeys(
    [*range(0x80, 0xA0), *range(0x200E, 0x2010), *range(0x202A, 0x202F), *range(0x2066, 0x206A), 0xFEFF], 0xFFFD
)  # fmt: skip

STATES: Final = {
    "good": ("collected", "fresh", "ok", "well", "running", "alive", "good", "yes"),
    "bad": (
        "fatal", "failing", "stopped", "bad", "lost", "late", "error", "unschedulable", "missing", "refused", "failed",
    ),
    "warning": (
        "degraded", "waiting", "warning", "application", "new", "partial", "silent", "doubtful", "throttled", "holding",
    ),
    "calm": ("corrected", "info", "ended", "calm", "drained", "forgotten"),
}  # fmt: skip


def plain(value: object) -> str:
    """Return others' text with its control characters made visible."""
    text = str(value)
    return text if text.isprintable() else text.translate(_CONTROLS)


def state_class(word: object) -> str:
    """Return the CSS class of a word that tells a state or a severity; empty for one without a colour."""
    lower = str(word).lower()
    return next((name for name, words in STATES.items() if lower in words), "")


def number(value: float) -> str:
    """Return a number as people read it: thousands parted, at most two digits behind the point."""
    if isinstance(value, int) or value == int(value):
        return f"{int(value):,}"
    return f"{value:,.2f}".rstrip("0").rstrip(".") if abs(value) >= 0.01 else f"{value:.3g}"


def as_text(value: Any, kind: Kind) -> str:
    """Return a value as text; `n/a` for None."""
    if value is None:
        return "n/a"
    match kind:
        case Kind.NUMBER if isinstance(value, int | float):
            return number(value)
        case Kind.PERCENT if isinstance(value, int | float):
            return f"{number(round(value, 1))} %"
        case Kind.DURATION if isinstance(value, int | float):
            return ("-" if value < 0 else "") + rough_duration(abs(value))
        case Kind.BYTES if isinstance(value, int | float):
            return rough_size(int(value))
        case Kind.MONEY:
            return money(value)
        case Kind.LIST if isinstance(value, Sequence) and not isinstance(value, str):
            return ", ".join(plain(part) for part in value)
        case Kind.YES_NO:
            return "yes" if value else "no"
        case _ if isinstance(value, list | dict | float):
            return plain(msgspec.json.encode(value).decode())
        case _:
            return plain(value)


def money(value: Any) -> str:
    """Return CNY with as many digits as they need, from an exact text or a number."""
    amount = float(value)
    return f"{amount:,.2f} CNY" if amount == 0 or abs(amount) >= 0.1 else f"{amount:.4f} CNY"


def cell(row: Mapping[str, Any], column: Column) -> Markup:
    """Return the inside of a table cell."""
    value = row.get(column.name)
    if value is None or value == "" or value == []:
        return NOT_KNOWN if value is None else Markup("")
    if column.kind is Kind.SPARKLINE:
        return sparkline(value)
    if column.kind is Kind.TIME:
        shown = time(value)
    elif column.kind is Kind.STATE:
        shown = Markup('<span class="state {}">{}</span>').format(state_class(value), plain(value))
    elif column.kind is Kind.LIST and isinstance(value, list) and len(value) > LIST_MAX:
        some, more = as_text(value[:LIST_MAX], Kind.LIST), len(value) - LIST_MAX
        shown = escape(some[:TEXT_MAX]) + Markup(' <span class="cut">and {:,} more</span>').format(more)
    else:
        text = as_text(value, column.kind)
        shown = escape(text[:TEXT_MAX])
        if len(text) > TEXT_MAX:
            shown += Markup(' <span class="cut">… {:,} characters more</span>').format(len(text) - TEXT_MAX)
    href = address(column.link, row)
    return Markup('<a href="{}">{}</a>').format(href, shown) if href else shown


def address(link: str, row: Mapping[str, Any]) -> str:
    """Fill the fields of a link in; empty where the row lacks one."""
    fields = _FIELD.findall(link)
    if not link or any(row.get(name) in (None, "") for name in fields):
        return ""
    return _FIELD.sub(lambda match: quote(str(row[match[1]]), safe=""), link)


def time(value: object) -> Markup:
    """Return a time as an element that the browser can show in local time."""
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        return escape(plain(value))
    if moment.year <= 1970:
        return NOT_KNOWN
    exact = f"{moment:%Y-%m-%dT%H:%M:%S}" + (f".{moment.microsecond // 1000:03}" if moment.microsecond else "")
    return Markup('<time datetime="{}Z">{}</time>').format(exact, exact.replace("T", " "))


def sparkline(values: Sequence[float | None], width: int = 120, height: int = 28) -> Markup:
    """Return a small line without axes, with its range as a text for screen readers."""
    known = [value for value in values if value is not None]
    if not known:
        return NOT_KNOWN
    top = max(max(known), 0)
    bottom = min(min(known), 0)
    lines = _polylines(list(range(len(values))), values, (width, height), (bottom, top), (0, max(len(values) - 1, 1)))
    label = f"{number(min(known))} to {number(max(known))}, last {number(known[-1])}"
    return Markup('<svg class="sparkline" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        width, height, label, Markup("").join(Markup('<polyline points="{}"/>').format(line) for line in lines)
    )


def chart_svg(chart: Chart, width: int = 800, height: int = 200) -> Markup:
    """Return a chart for browsers without JavaScript: lines or columns, and the values at the edges."""
    known = [value for series in chart.series for value in series.values if value is not None]
    if not known or not chart.times:
        return Markup("")
    first, last = chart.times[0], max(chart.times[-1], chart.times[0] + 1)
    parts: list[Markup] = []
    if chart.is_stacked_bars:
        sums = [sum(series.values[place] or 0 for series in chart.series) for place in range(len(chart.times))]
        top = max([*sums, 1e-9])
        wide = width / len(chart.times)
        bases = [0.0] * len(chart.times)
        for index, series in enumerate(chart.series):
            color = series.severity or index % 8
            for place, value in enumerate(series.values):
                if value:
                    tall = value / top * (height - 4)
                    bases[place] += tall
                    parts.append(
                        Markup('<rect class="series-{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>').format(
                            color, place * wide, height - bases[place], max(wide - 1, 0.5), tall
                        )
                    )
        bottom = 0.0
    else:
        bottom, top = min(0, *known), max(known)
        for index, series in enumerate(chart.series):
            for line in _polylines(chart.times, series.values, (width, height), (bottom, top), (first, last)):
                color = series.severity or index % 8
                parts.append(Markup('<polyline class="series-{}" points="{}"/>').format(color, line))
    return Markup(
        '<svg class="drawn" viewBox="0 0 {} {}" preserveAspectRatio="none" aria-hidden="true">{}</svg>'
    ).format(width, height, Markup("").join(parts))


def sentences(chart: Chart) -> list[str]:
    """Say each line of a chart in words, such as `used: 12 % to 97 %, last 64 %`."""
    unit = f" {chart.unit}" if chart.unit else ""
    told = []
    for series in chart.series:
        known = [value for value in series.values if value is not None]
        if not known:
            told.append(f"{series.title}: not known")
        elif chart.is_stacked_bars:
            told.append(f"{series.title}: {number(sum(known))}{unit}")
        else:
            least, most = number(min(known)), number(max(known))
            told.append(f"{series.title}: {least}{unit} to {most}{unit}, last {number(known[-1])}{unit}")
    return told


def _polylines(
    xs: Sequence[int],
    values: Sequence[float | None],
    size: tuple[int, int],
    y_range: tuple[float, float],
    x_range: tuple[int, int],
) -> list[str]:
    """The points of each unbroken stretch; a value that stands alone gets a short line."""
    width, height = size
    bottom, top = y_range
    tall = (top - bottom) or 1.0
    lines: list[list[str]] = [[]]
    for x, value in zip(xs, values, strict=True):
        if value is None:
            lines.append([])
            continue
        across = (x - x_range[0]) / (x_range[1] - x_range[0]) * width
        lines[-1].append(f"{across:.1f},{2 + (height - 4) * (1 - (value - bottom) / tall):.1f}")
    return [" ".join(line if len(line) > 1 else [line[0], _beside(line[0])]) for line in lines if line]


def _beside(point: str) -> str:
    x, y = point.split(",")
    return f"{float(x) + 1:.1f},{y}"
