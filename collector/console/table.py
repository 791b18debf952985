"""What pages show, as plain data: tables, charts and tiles. HTML, JSON and CSV are made from the same values."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Row = Mapping[str, Any]


class Kind(enum.StrEnum):
    """How the values of a column are shown. None is shown as not known, never as zero."""

    TEXT = "text"
    CODE = "code"
    """Ids, SQL and log lines: fixed width, as they came."""
    NUMBER = "number"
    EXACT = "exact"
    """A number as it came, with all its digits."""
    PERCENT = "percent"
    TIME = "time"
    """ISO 8601 UTC text, or `YYYY-MM-DD hh:mm:ss` as the engine writes it, in UTC."""
    DURATION = "duration"
    """Seconds."""
    BYTES = "bytes"
    MONEY = "money"
    """CNY."""
    STATE = "state"
    """A word with a colour: a severity or a state."""
    LIST = "list"
    YES_NO = "yes_no"
    SPARKLINE = "sparkline"
    """A list of numbers, None where nothing is known."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table."""

    name: str
    """Key in the rows, and the name in CSV."""
    title: str
    kind: Kind = Kind.TEXT
    link: str = ""
    """Address with fields of the row in braces, such as `/nodes/{node_id}`; each is percent-encoded."""
    hint: str = ""
    """What the title does not say, shown on hovering and to screen readers."""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows with columns; the first column names the row."""

    name: str
    """In addresses, such as `?table=gaps`."""
    title: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    empty: str = "nothing in this range"
    """What is said where there are no rows, because there are none."""
    failure: str = ""
    """Why the rows are not known; then there are none."""
    sql: str = ""
    """Address of the SQL page with the query that the rows came from."""
    note: str = ""
    detail: str = ""
    """Key of a text that is shown in a line of its own under each row that has it, such as an error."""


@dataclass(frozen=True, slots=True)
class Series:
    """A line of a chart."""

    title: str
    values: Sequence[float | None]
    """One for each time of the chart, None where nothing is known."""
    severity: str = ""
    """One of those of faults, which then decides the colour."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened on the axis of a chart: an instant, or a span with an end."""

    time: int
    title: str
    severity: str = ""
    end: int | None = None
    href: str = ""


@dataclass(frozen=True, slots=True)
class Chart:
    """Values over time."""

    name: str
    title: str
    times: Sequence[int]
    """Seconds since the epoch, ascending."""
    series: Sequence[Series]
    unit: str = ""
    """Such as `%`, `GPUs` or `CNY`; it stands behind every value."""
    is_stacked_bars: bool = False
    """Columns on one another, as in a histogram; else lines."""
    marks: Sequence[Mark] = ()
    failure: str = ""
    sql: str = ""
    zooms: bool = True
    """Whether dragging chooses the range of the page."""


@dataclass(frozen=True, slots=True)
class Tile:
    """A figure of the overview that leads on."""

    title: str
    value: str | None
    """As shown; None is not known."""
    detail: str = ""
    state: str = ""
    """`good`, `warning` or `bad`; empty has no colour."""
    href: str = ""
    points: Sequence[float | None] = ()
    """Of a sparkline; oldest first."""
    failure: str = ""
    sql: str = ""


@dataclass(frozen=True, slots=True)
class Choice:
    """An option of a form or a tab, with the address that chooses it."""

    title: str
    href: str
    is_chosen: bool = False
    count: int | None = None


@dataclass(frozen=True, slots=True)
class View:
    """What a page shows at one moment."""

    template: str
    """File in `templates/`."""
    values: Mapping[str, Any]
    """For the template and the JSON: tables, charts and tiles by name, and plain values."""
    title: str = ""
    """Of the page, where it is not that of the navigation."""
    status: int = 200
    renews: bool = True
    """Whether the browser asks again by itself."""
    headers: Mapping[str, str] = field(default_factory=dict)

    def tables(self) -> list[Table]:
        """Return the tables of the page in their order; the first is what its CSV has."""
        return [value for value in self.values.values() if isinstance(value, Table)]
