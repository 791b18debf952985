"""Log lines: searched, counted over the whole range, folded, and read in their place."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final
from urllib.parse import quote_plus, urlencode

from markupsafe import Markup, escape

from collector.console.drawing import as_text, plain, state_class, time
from collector.console.log_search import SEARCHED, Field, Search, Term, filtered, searched, shown_fields
from collector.console.page import PageRequest
from collector.console.period import Period, iso, sql_time
from collector.console.store import Answer, own_sql_address
from collector.console.table import Chart, Choice, Column, Kind, Row, Series, Table, View
from collector.errors import UsageError
from collector.store.assets import sql_files, sql_folder
from collector.store.named import NamedQuery, parsed

ROWS_DEFAULT: Final = 100
ROWS_MAX: Final = 50_000
"""Lines of a file; as all of them are read into memory, its bytes are bounded too."""
ROWS_SHOWN_MAX: Final = 500
"""Lines of a page."""
BYTES_MAX: Final = 24 << 20
SHOWN_MAX: Final = 6_000
"""Characters of a message on the page; a file has all of it."""
SUMMARY_MAX: Final = 600
"""Characters of a message in the list; opening a line shows more."""
SEARCH_SECONDS: Final = 8.0
"""Time for reading lines; what is found until then is shown."""
FIRST_WINDOW_SECONDS: Final = 3600
WINDOW_FACTOR: Final = 8
"""The newest hour is read first, then eight hours before it, and so on until the page is full."""
AROUND_DEFAULT: Final = 50
AROUND_MAX: Final = 500
OF_HOURS_SECONDS_MIN: Final = 6 * 3600
"""The lines of a shorter range are counted as quickly as its hours."""
PARTS_MAX: Final = 120
"""Columns of the histogram."""
CLASSES_SHOWN: Final = 7
FACET_VALUES: Final = 10
DEFAULT_COLUMNS: Final = ("time", "node", "level", "tag", "fault", "message")
PLACES: Final = ("before", "after", "around")
"""Values of the address that name a place in the list; another search or range does not keep them."""

FACETS: Final = ("fault", "class", "code", "device", "node", "level", "program", "cluster")
LEVELS: Final = ("debug", "info", "notice", "warning", "err", "crit", "alert", "emerg")
GROUPS: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "fault": ("severity of the fault", ("", "info", "corrected", "application", "degraded", "fatal")),
    "class": ("class of the fault", ()),
    "level": ("level", LEVELS),
}
KINDS: Final = {
    "time": Kind.TIME,
    "received": Kind.TIME,
    "fault": Kind.STATE,
    "level": Kind.STATE,
    "message": Kind.CODE,
}
FOLDS: Final = (
    Column("lines", "lines", Kind.NUMBER, hint="that differ only in numbers"),
    Column("nodes", "nodes", Kind.NUMBER),
    Column("fault_severity", "fault", Kind.STATE),
    Column("first", "first", Kind.TIME),
    Column("last", "last", Kind.TIME),
    Column("pattern", "message, with # for numbers", Kind.CODE),
)


@dataclass(frozen=True, slots=True)
class Facet:
    """A column with its most frequent values in the range."""

    name: str
    title: str
    values: Sequence[Row]
    """Each with its `lines` (None if it is not among the most frequent) and addresses with it and without it."""
    has_more: bool


@dataclass(slots=True)
class Found:
    """Lines as they were found, and how far the search came."""

    rows: list[Row] = field(default_factory=list)
    failure: str = ""
    reached: int = 0
    """First moment that was searched, seconds since the epoch; of newer lines the moment after the last."""
    has_more: bool = False
    is_cut: bool = False
    newer: int = 0
    """Lines of the second and node of the first that are newer than it: they are on the page before this."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page of lines begins or ends: at a second and a node, of whose lines the newest are on another page."""

    time: int
    skipped: int
    node: str

    def __str__(self) -> str:
        return f"{self.time}-{self.skipped}-{self.node}"


@dataclass(frozen=True, slots=True)
class LineId:
    """A line: its second, its node and a hash of its message."""

    time: int
    hash: str
    node: str

    def __str__(self) -> str:
        return f"{self.time}-{self.hash}-{self.node}"


@dataclass(frozen=True, slots=True)
class Asked:
    """What an address asks the page for."""

    search: Search
    fields: Sequence[Field]
    by: str
    rows: int
    is_page: bool
    """Whether HTML is asked for, in which messages are cut."""

    @property
    def msg_max(self) -> int:
        return SHOWN_MAX if self.is_page else 2**32 - 1


async def logs(asked: PageRequest) -> View:
    period = asked.period()
    try:
        wanted = _wanted(asked)
        if around := asked.text("around"):
            return await _around(asked, wanted, _line_id(around))
        if asked.text("fold"):
            return await _folds(asked, period, wanted)
        return await _lines(asked, period, wanted)
    except UsageError as error:
        values = _values(asked, Search(), (), is_page=True) | {"error": str(error), "hint": error.hint or ""}
        return View("logs.html", values, status=400, renews=False)


def _wanted(asked: PageRequest) -> Asked:
    is_page = asked.http.path == asked.path
    by = asked.text("by", "fault")
    if by not in GROUPS:
        raise UsageError(f"by: got {by[:60]!r}; expected {', '.join(GROUPS)}")
    rows = _whole(asked, "rows", ROWS_DEFAULT, ROWS_MAX)
    fields = shown_fields(asked.query.getall("columns", []), DEFAULT_COLUMNS)
    return Asked(searched(asked.text("q")), fields, by, min(rows, ROWS_SHOWN_MAX) if is_page else rows, is_page)


def _values(asked: PageRequest, search: Search, fields: Sequence[Field], *, is_page: bool) -> dict[str, Any]:
    """What every answer of the page has; addresses and choices are for HTML alone."""
    values: dict[str, Any] = {"q": asked.text("q"), "error": "", "hint": ""}
    if not is_page:
        return values
    nowhere = asked.without(*PLACES)
    fault, fold = Term("*", "class"), asked.text("fold")
    return values | {
        "mode": "lines",
        "searched_columns": SEARCHED,
        "terms": [Choice(str(term), nowhere.address(q=str(search.without(term)))) for term in search.terms],
        "faults": Choice(
            "only faults",
            nowhere.address(q=str(search.without(fault) if search.has(fault) else search.plus(fault))),
            search.has(fault),
        ),
        "fold": Choice("fold repeats", nowhere.address(fold=None if fold else "1"), bool(fold)),
        "column_choices": [(one.name, one.meaning, one in fields) for one in shown_fields(["all"], ())],
        "place_free": nowhere,
    }


async def _lines(asked: PageRequest, period: Period, wanted: Asked) -> View:
    before, after = (_place(name, asked.text(name)) for name in ("before", "after"))
    reading = _newer(asked, period, wanted, after) if after else _older(asked, period, wanted, before)
    step = period.step(PARTS_MAX)
    found, histogram, facets, meanings = await asyncio.gather(
        reading,
        _counted(asked, "log_histogram", period, wanted.search, {"step": str(step), "by": wanted.by}),
        _counted(asked, "log_facets", period, wanted.search, {"values": str(FACET_VALUES + 1)}),
        asked.store.own("fault_meanings"),
    )
    if after and not found.failure and not found.has_more:
        # These are the newest: show a full page of them.
        found, before, after = await _older(asked, period, wanted, None), None, None
    chart = _histogram(histogram, period, step, wanted.by)
    table = _table(asked, period, wanted, found)
    nowhere = asked.without(*PLACES)
    places = {
        "older": nowhere.address(before=str(_after_last(found))) if found.rows and (found.has_more or after) else "",
        "newer": nowhere.address(after=str(_before_first(found))) if found.rows and (before or after) else "",
        "newest": nowhere.address() if before or after else "",
        "further": nowhere.address(before=str(Place(found.reached - 1, 0, "")))
        if found.failure and not after and found.reached < period.end
        else "",
        "reached": iso(found.reached),
        "unsearched": found.failure if found.rows else "",
    }
    values = {
        "lines": table,
        "histogram": chart,
        "facets": _facets(asked, facets, wanted.search),
        "facets_failure": facets.failure,
        "facets_sql": facets.sql,
        **places,
        **_values(asked, wanted.search, wanted.fields, is_page=wanted.is_page),
    }
    if wanted.is_page:
        values |= {
            "groups": [Choice(title, asked.address(by=name), name == wanted.by) for name, (title, _) in GROUPS.items()],
            "shown": _shown(asked, found.rows, wanted, meanings.rows),
            "files": [
                Choice(title, _file(asked, kind, rows))
                for title, kind, rows in (
                    ("CSV", "csv", 0),
                    ("JSON", "json", 0),
                    (f"all lines as CSV, up to {ROWS_MAX:,}", "csv", ROWS_MAX),
                    ("as JSON", "json", ROWS_MAX),
                )
            ],
        }
    is_live = bool(period.last) and not before and not after
    return View("logs.html", values, renews=is_live)


async def _folds(asked: PageRequest, period: Period, wanted: Asked) -> View:
    step = period.step(PARTS_MAX)
    folds, histogram, facets = await asyncio.gather(
        _read(asked, "log_folds", period, wanted.search, {}),
        _counted(asked, "log_histogram", period, wanted.search, {"step": str(step), "by": wanted.by}),
        _counted(asked, "log_facets", period, wanted.search, {"values": str(FACET_VALUES + 1)}),
    )
    rows = [{**row, "query": str(Search((*wanted.search.terms, *_phrases(row["pattern"]))))} for row in folds.rows]
    target = asked.without(*PLACES, "fold", "q").address()
    link = target + ("&" if "?" in target else "?") + "q={query}"
    columns = [Column(one.name, one.title, one.kind, link if one.name == "lines" else "", one.hint) for one in FOLDS]
    read = folds.first.get("lines_read", 0)
    note = f"of the newest {read:,} lines of the range; most frequent first" if rows else ""
    table = Table("folds", "Folded lines", columns, rows, "no line in this range", folds.failure, folds.sql, note)
    values = {
        "folds": table,
        "histogram": _histogram(histogram, period, step, wanted.by),
        "facets": _facets(asked, facets, wanted.search),
        "facets_failure": facets.failure,
        "facets_sql": facets.sql,
        **_values(asked, wanted.search, wanted.fields, is_page=wanted.is_page),
    }
    if wanted.is_page:
        values |= {
            "mode": "folds",
            "groups": [Choice(title, asked.address(by=name), name == wanted.by) for name, (title, _) in GROUPS.items()],
        }
    return View("logs.html", values, renews=False)


async def _around(asked: PageRequest, wanted: Asked, line: LineId) -> View:
    """Show the lines of a node before and after one of them, all of them whatever is searched for."""
    count = _whole(asked, "context", AROUND_DEFAULT, AROUND_MAX, least=0)
    given = {
        "node": line.node, "moment": sql_time(line.time), "lines": str(count), "msg_max": str(wanted.msg_max),
    }  # fmt: skip
    query = parsed("log_around", _texts()["log_around"])
    answer, meanings = await asyncio.gather(
        asked.store.query(query, given, bytes_max=BYTES_MAX), asked.store.own("fault_meanings")
    )
    rows = list(answer.rows)
    here = next((place for place, row in enumerate(rows) if _id(row) == line), None)
    failure = answer.failure
    if not failure and here is None:
        failure = "this line is not in the store: it may be older than the store keeps lines"
        rows = []
    elif here is not None:
        first = max(0, here - count)
        rows, here = rows[first : here + count + 1], here - first
    found = Found(rows, failure, is_cut=answer.is_cut)
    table = Table(
        "lines",
        f"Lines around {sql_time(line.time)} UTC",
        [_column(one, "") for one in wanted.fields],
        [] if failure else rows,
        failure=failure,
        sql=answer.sql,
        note=f"all lines of {plain(line.node)}, oldest first, whatever is searched for",
    )
    nowhere = asked.without(*PLACES, "context")
    values = {
        "lines": table,
        "here": here,
        **_values(asked, wanted.search, wanted.fields, is_page=wanted.is_page),
    }
    if wanted.is_page:
        values |= {
            "mode": "around",
            "back": nowhere.address(),
            "contexts": [
                Choice(f"{number} lines", nowhere.address(around=str(line), context=str(number)), number == count)
                for number in (AROUND_DEFAULT, 200, AROUND_MAX)
            ],
            "shown": _shown(asked, found.rows, wanted, meanings.rows, here),
            "files": [Choice("CSV", _file(asked, "csv", 0)), Choice("JSON", _file(asked, "json", 0))],
        }
    return View("logs.html", values, renews=False)


# Reading


async def _read(
    asked: PageRequest,
    name: str,
    period: Period,
    search: Search,
    given: Mapping[str, str],
    *,
    seconds_max: float | None = None,
    bytes_max: int | None = None,
) -> Answer:
    query, values = _composed(name, search)
    return await asked.store.query(
        query, {**_moments(period), **given, **values}, seconds_max=seconds_max, bytes_max=bytes_max
    )


async def _counted(asked: PageRequest, name: str, period: Period, search: Search, given: Mapping[str, str]) -> Answer:
    """Count lines; of a longer range from its hours, where they hold what is searched for."""
    is_of_hours = search.is_of_hours and period.seconds >= OF_HOURS_SECONDS_MIN
    return await _read(asked, f"{name}_hours" if is_of_hours else name, period, search, given)


def _composed(name: str, search: Search) -> tuple[NamedQuery, dict[str, str]]:
    text = _texts()[name]
    return filtered(parsed(name, text), text, search)


def _moments(period: Period) -> dict[str, str]:
    return {"start": sql_time(period.start), "end": sql_time(period.end)}


async def _older(asked: PageRequest, period: Period, wanted: Asked, place: Place | None) -> Found:
    """Read lines back from the end of the range or from a place: window by window, until there are enough."""
    found = Found(reached=period.end, newer=place.skipped if place else 0)
    given = {"msg_max": str(wanted.msg_max), "rows": str(wanted.rows + 1)}
    if place:
        found.reached = min(period.end, place.time + 1)
        given |= {"node_from": place.node, "skipped": str(place.skipped)}
    clock = asked.owner.clock
    deadline = clock.monotonic() + SEARCH_SECONDS
    bytes_left, window = BYTES_MAX, FIRST_WINDOW_SECONDS
    while found.reached > period.start and not found.is_cut:
        seconds_left = deadline - clock.monotonic()
        if seconds_left < 0.5:
            found.failure = f"{SEARCH_SECONDS:.0f} s were not enough for the whole range"
            break
        start = max(period.start, found.reached - window)
        part = Period(start, found.reached)
        answer = await _read(
            asked, "log_lines", part, wanted.search, given, seconds_max=seconds_left, bytes_max=bytes_left
        )
        if answer.failure:
            found.failure = answer.failure
            break
        found.rows += answer.rows
        found.is_cut = answer.is_cut
        bytes_left -= sum(row["msg_bytes"] for row in answer.rows)
        if len(found.rows) > wanted.rows:
            found.has_more = True
            break
        found.reached = start
        given = {"msg_max": given["msg_max"], "rows": str(wanted.rows + 1 - len(found.rows))}
        window *= WINDOW_FACTOR
    found.rows = found.rows[: wanted.rows]
    found.has_more = found.has_more or found.is_cut
    if place and found.rows and _key(found.rows[0]) != (place.time, place.node):
        found.newer = 0
    return found


async def _newer(asked: PageRequest, period: Period, wanted: Asked, place: Place) -> Found:
    """Read lines from a place on towards the end of the range; newest first, as all pages show them."""

    async def read(name: str, part: Period, rows: int, **given: str) -> list[Row]:
        answer = await _read(
            asked, name, part, wanted.search, {"msg_max": str(wanted.msg_max), "rows": str(rows)} | given,
            seconds_max=SEARCH_SECONDS, bytes_max=BYTES_MAX,
        )  # fmt: skip
        found.failure = found.failure or answer.failure
        found.is_cut = found.is_cut or answer.is_cut
        return list(answer.rows)

    async def of_second(key: tuple[int, str], skipped: int, rows: int, **given: str) -> list[Row]:
        """Lines of a second and a node, newest first."""
        part = Period(key[0], key[0] + 1)
        found_there = await read("log_lines", part, rows, node_from=key[1], skipped=str(skipped), **given)
        return [row for row in found_there if _key(row) == key]

    found = Found(reached=period.end)
    key, count = (place.time, place.node), min(place.skipped, wanted.rows)
    same = await of_second(key, place.skipped - count, count) if count else []
    free = wanted.rows - len(same)
    rest = await read(
        "log_lines_newer", Period(place.time, max(period.end, place.time + 1)), free + 1, node_before=place.node
    )
    found.has_more = len(rest) > free or place.skipped > count
    found.rows = rest[:free][::-1] + same
    if not free:
        found.newer = place.skipped - count
    elif len(rest) > free and _key(rest[free]) == _key(rest[free - 1]):
        key = _key(rest[free])
        all_of_them = await of_second(key, 0, ROWS_MAX, msg_max="1")
        found.newer = len(all_of_them) - sum(_key(row) == key for row in rest[:free])
    return found


def _place(name: str, text: str) -> Place | None:
    if not text:
        return None
    found = re.fullmatch(r"(\d{1,10})-(\d{1,9})-(.{0,500})", text, re.ASCII | re.DOTALL)
    if not found or int(found[1]) >= 2**32 - 1:
        raise UsageError(f"{name}: got {text[:60]!r}; expected what the links of this page have")
    return Place(int(found[1]), int(found[2]), found[3])


def _line_id(text: str) -> LineId:
    found = re.fullmatch(r"(\d{1,10})-([0-9A-F]{1,16})-(.{1,500})", text, re.ASCII | re.DOTALL)
    if not found or int(found[1]) >= 2**32 - 1:
        raise UsageError(f"around: got {text[:60]!r}; expected what the links of this page have")
    return LineId(int(found[1]), found[2], found[3])


def _after_last(found: Found) -> Place:
    """Where the next older page begins."""
    last = _key(found.rows[-1])
    newer = found.newer if _key(found.rows[0]) == last else 0
    return Place(last[0], newer + sum(_key(row) == last for row in found.rows), last[1])


def _before_first(found: Found) -> Place:
    """Where the next newer page ends."""
    time, node = _key(found.rows[0])
    return Place(time, found.newer, node)


def _key(row: Row) -> tuple[int, str]:
    return _second(row), row["node_id"]


def _second(row: Row) -> int:
    return int(datetime.fromisoformat(row["time"]).replace(tzinfo=UTC).timestamp())


def _id(row: Row) -> LineId:
    return LineId(_second(row), row["msg_hash"], row["node_id"])


def _whole(asked: PageRequest, name: str, default: int, most: int, least: int = 1) -> int:
    text = asked.text(name, str(default))
    if not re.fullmatch(r"\d{1,9}", text, re.ASCII) or not least <= int(text) <= most:
        raise UsageError(f"{name}: got {text[:60]!r}; expected {least} to {most:,}")
    return int(text)


@cache
def _texts() -> Mapping[str, str]:
    return dict(sql_files(sql_folder("console")))


# What is shown


def _table(asked: PageRequest, period: Period, wanted: Asked, found: Found) -> Table:
    query, values = _composed("log_lines", wanted.search)
    columns = [_column(one, "/nodes/{node_id}" if one.name == "node" else "") for one in wanted.fields]
    failure, note = found.failure, ""
    if found.is_cut:
        note = f"cut after {len(found.rows):,} lines, which take {BYTES_MAX >> 20} MiB"
        if asked.http.path.endswith(".csv"):
            failure = f"these lines take more than {BYTES_MAX >> 20} MiB: choose a shorter range or fewer rows"
    if found.rows and wanted.is_page:
        # What was found is shown, and the page says what was not searched.
        failure = ""
    sql = own_sql_address(query, _moments(period) | {"rows": str(wanted.rows)} | values)
    return Table("lines", "Lines", columns, found.rows, _nothing(period, wanted.search), failure, sql, note)


def _nothing(period: Period, search: Search) -> str:
    told = f"no line from {sql_time(period.start)} to {sql_time(period.end)} UTC"
    return told + (f" matches {plain(search)}" if search.terms else " is in the store")


def _column(field: Field, link: str) -> Column:
    return Column(field.column, field.name, KINDS.get(field.name, Kind.NUMBER if field.is_number else Kind.TEXT), link)


def _histogram(answer: Answer, period: Period, step: int, by: str) -> Chart:
    times = list(range(period.start // step * step, period.end, step))
    places = {time: place for place, time in enumerate(times)}
    found: dict[str, list[float | None]] = {}
    for row in answer.rows:
        if (place := places.get(row["start"])) is not None:
            values = found.setdefault(row["value"], [0] * len(times))
            values[place] = row["lines"]
    _, order = GROUPS[by]
    sums = {value: sum(count or 0 for count in counts) for value, counts in found.items()}
    if not order:
        most = sorted((value for value in found if value), key=lambda value: (-sums[value], value))
        rest = most[CLASSES_SHOWN - 1 :] if len(most) > CLASSES_SHOWN - 1 else []
        if rest:
            found["others"] = [sum(counts) for counts in zip(*(found.pop(value) for value in rest), strict=True)]
        order = ("", *most[: CLASSES_SHOWN - 1], "others")
    known = [value for value in order if value in found] + sorted(value for value in found if value not in order)
    nothing = "no level" if by == "level" else "no fault"
    series = [Series(plain(value) or nothing, found[value], value if by == "fault" else "") for value in known]
    total = sum(sums.values())
    return Chart(
        "histogram", f"{total:,} lines", times if series else [], series, "lines", is_stacked_bars=True,
        failure=answer.failure, sql=answer.sql,
    )  # fmt: skip


def _facets(asked: PageRequest, answer: Answer, search: Search) -> list[Facet]:
    link = _Links(asked, search)
    facets = []
    for name in FACETS:
        counted: dict[str, int | None] = {row["value"]: row["lines"] for row in answer.rows if row["field"] == name}
        # What is chosen can be taken back, also where no line has it.
        for term in search.terms:
            if term.field == name and "*" not in term.text:
                counted.setdefault(term.text, None)
        values = [
            {
                "value": value,
                "title": _value_title(name, value),
                "lines": lines,
                "include": link(name, value),
                "exclude": link(name, value, is_excluded=True),
                "is_included": search.has(Term(value, name)),
                "is_excluded": search.has(Term(value, name, is_excluded=True)),
            }
            for value, lines in counted.items()
        ]
        if any(one["title"] != "none" for one in values):
            has_more = sum(one["lines"] is not None for one in values) > FACET_VALUES
            facets.append(
                Facet(
                    name,
                    name,
                    values[:FACET_VALUES] + [one for one in values[FACET_VALUES:] if one["lines"] is None],
                    has_more,
                )
            )
    return facets


def _value_title(name: str, value: str) -> str:
    is_nothing = value == "" or (name == "code" and value == "0")
    return "none" if is_nothing else plain(value)


class _Links:
    """Addresses of the page with a term more, or without it if it is there."""

    def __init__(self, asked: PageRequest, search: Search) -> None:
        self._search = search
        target = asked.without(*PLACES, "context", "q").address()
        self._target = target + ("&" if "?" in target else "?") + "q="
        self._without = target
        self._known: dict[Term, str] = {}

    def __call__(self, field: str, value: str, *, is_excluded: bool = False) -> str:
        term = Term(value, field, is_excluded)
        if term not in self._known:
            search = self._search.without(term) if self._search.has(term) else self._search.plus(term)
            self._known[term] = self._target + quote_plus(str(search)) if search.terms else self._without
        return self._known[term]


def _shown(
    asked: PageRequest, rows: Sequence[Row], wanted: Asked, meanings: Sequence[Row], here: int | None = None
) -> list[dict[str, Any]]:
    """Lines as the template shows them."""
    link = _Links(asked, wanted.search)
    known = {(row["fault_class"], row["fault_code"], row["fault_case"]): row for row in meanings}
    nowhere = asked.without(*PLACES, "fold", "context")
    around = nowhere.address()
    around += ("&" if "?" in around else "?") + "around="
    shown = []
    for place, row in enumerate(rows):
        line = str(_id(row))
        meaning = known.get((row["fault_class"], row["fault_code"], row["fault_case"])) or known.get(
            (row["fault_class"], 0, row["fault_case"]), {}
        )
        message = row["msg"]
        fields = [
            (field.name, str(value), link(field.name, str(value)), link(field.name, str(value), is_excluded=True))
            for field in SEARCHED
            if field.column and (value := row.get(field.column))
        ]
        shown.append(
            {
                "id": line,
                "is_here": place == here,
                "state": state_class(row["fault_severity"]) if row["fault_severity"] else "",
                "cells": _cells(row, wanted),
                "message": _marked(message, wanted.search.words),
                "bytes_more": row["msg_bytes"] - len(message.encode()) if len(message) >= SHOWN_MAX else 0,
                "fields": fields,
                "received": row["receive_time"],
                "extra": row["extra"] if row["extra"] != "{}" else "",
                "meaning": meaning.get("meaning", ""),
                "action": meaning.get("action", ""),
                "node": row["node_id"],
                "around": around + quote_plus(line) + "#here",
                "whole": f"{asked.path}.json?" + urlencode({"around": line, "context": "0"}),
            }
        )
    return shown


def _cells(row: Row, wanted: Asked) -> list[tuple[str, Markup]]:
    cells = {field.name: _cell(row, field, wanted.search.words) for field in wanted.fields}
    if "message" in cells and cells.get("fault") is not None:
        # Most lines have none: it takes no room of its own.
        fault = cells.pop("fault")
        cells["message"] = fault + (Markup(" ") if fault else Markup("")) + cells["message"]
    return list(cells.items())


def _cell(row: Row, field: Field, words: Sequence[str]) -> Markup:
    value = row[field.column]
    if field.name == "message":
        return _marked(value[:SUMMARY_MAX], words) + (Markup("…") if len(value) > SUMMARY_MAX else Markup(""))
    if field.name == "fault":
        parts = (row["fault_class"], row["fault_code"] or "", row["fault_case"])
        text = plain(" ".join(str(part) for part in parts if part))
        badge = Markup('<span class="state {}" title="{}">{}</span>')
        return badge.format(state_class(value), value, text) if text else Markup("")
    if field.name == "level":
        place = LEVELS.index(value) if value in LEVELS else 0
        state = "bad" if place >= LEVELS.index("err") else "warning" if value == "warning" else ""
        return Markup('<span class="level {}">{}</span>').format(state, plain(value))
    kind = KINDS.get(field.name, Kind.TEXT)
    if kind is Kind.TIME:
        return Markup("") if value is None else time(value)
    return escape(as_text("" if value is None else value, kind)[:SUMMARY_MAX])


def _marked(text: str, words: Sequence[str]) -> Markup:
    """Return a message with the words that were searched for marked."""
    shown = plain(text)
    if not words:
        return escape(shown)
    parts = re.split("(" + "|".join(re.escape(plain(word)) for word in words) + ")", shown, flags=re.IGNORECASE)
    return Markup("").join(
        Markup("<mark>{}</mark>").format(part) if place % 2 else escape(part) for place, part in enumerate(parts)
    )


def _phrases(pattern: str) -> list[Term]:
    """Return what lines of a folded message have in common, long enough to find them by."""
    parts = [part.strip() for part in re.split("[#\ufffd]", pattern)]
    longest = sorted((part for part in parts if len(part) >= 4), key=len, reverse=True)[:3]
    return [Term(part) for part in parts if part in longest]


def _file(asked: PageRequest, kind: str, rows: int) -> str:
    """Return the address of the same lines as a file; with `rows`, of all lines of the range up to so many."""
    wanted = asked.without(*PLACES) if rows else asked
    changes: dict[str, str | None] = {"rows": str(rows), "columns": "all"} if rows else {}
    if not rows and kind == "csv" and not asked.text("columns"):
        changes = {"columns": "all"}
    target = wanted.address(**changes)
    return f"{asked.path}.{kind}" + target.removeprefix(asked.path)
