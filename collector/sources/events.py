"""Events: of services, eas `DescribeServiceEvent`, and of jobs, pai-dlc `GetJobEvents`; windows of event time.

A record is read under the names of the eas event (`Time`, `Type`, `Reason`, `Message`) and under those
of the PaiStudio structure `Event` (`TriggerTime`, `EventType`, `Content` ...), whichever it has; a
job's event is a text that begins with its time. Equal events of one second are separate rows.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from collector.catalogue.answers import Answer
from collector.catalogue.products.eas import DESCRIBE_SERVICE_EVENT, DescribeServiceEventAnswer
from collector.catalogue.products.pai_dlc import EVENTS_MAX, GET_JOB_EVENTS, GetJobEventsAnswer
from collector.model import StreamKey, Window
from collector.sources.fields import Fields
from collector.sources.moments import civil_text, iso_text, read_moment
from collector.sources.normalise import as_json, unusable
from collector.sources.numbered import NumberedCursor
from collector.sources.page import MARGIN_SECONDS, PageRows
from collector.sources.tables import EVENTS

_TIMED_TEXT = re.compile(
    r"\s*(?P<time>\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:Z|[+-]\d\d:?\d\d)?)(?!\d)\s*(?P<content>.*)",
    re.DOTALL | re.ASCII,
)


class ServiceEventSource:
    """What to ask for a window of one service's events; `scope_id` is `cluster_id/service_name`."""

    name = "service_events"
    operation = DESCRIBE_SERVICE_EVENT
    tables = (EVENTS,)
    pages_of_window = 0

    def __init__(self, page_size: int = 100) -> None:
        self.page_size = page_size

    def parameters(self, key: StreamKey, window: Window, cursor: str | None) -> dict[str, Any]:
        """Parameters of the page at `cursor`; the range asked for is wider than the window by the margin."""
        cluster_id, service_name = _service(key)
        return {
            "ClusterId": cluster_id,
            "ServiceName": service_name,
            "StartTime": civil_text(window.start - MARGIN_SECONDS),
            "EndTime": civil_text(window.end + MARGIN_SECONDS),
            "PageNum": str(NumberedCursor.parse(cursor).page_number),
            "PageSize": str(self.page_size),
        }

    def next_cursor(self, cursor: str | None, answer: Answer) -> str | None:
        """The cursor after this page, None after the last one."""
        assert isinstance(answer, DescribeServiceEventAnswer)
        here = NumberedCursor.parse(cursor)
        there = here.after(_keys(answer, here), answer.total_count, self.page_size)
        return None if there is None else str(there)

    def page(self, key: StreamKey, window: Window, cursor: str | None, answer: Answer) -> PageRows:
        """The rows of one page; the last one says whether the list changed while it was paged."""
        assert isinstance(answer, DescribeServiceEventAnswer)
        records = answer.events or ()
        here, total = NumberedCursor.parse(cursor), answer.total_count
        keys = _keys(answer, here)
        page = PageRows(record_count=len(records))
        if self.next_cursor(cursor, answer) is None:
            page.has_changed, page.is_short = here.has_changed(total), here.is_short(keys, total)
        if here.is_repeat(keys):
            # Its events are those of a page before.
            return page
        _, service_name = _service(key)
        for record in records:
            raw = msgspec.to_builtins(record) if isinstance(record, msgspec.Struct) else record
            if isinstance(raw, dict):
                _place(page, key, window, raw, record, entity_id=service_name)
            else:
                page.dead.append(unusable(raw))
        return page


class JobEventSource:
    """What to ask for a window of one job's events; `scope_id` is the job's id.

    An answer holds all events of the window, or as many as an answer can: then the page is full.
    """

    name = "job_events"
    operation = GET_JOB_EVENTS
    tables = (EVENTS,)
    pages_of_window = 0

    def parameters(self, key: StreamKey, window: Window, cursor: str | None) -> dict[str, Any]:
        """Parameters of the only page; the range asked for is wider than the window by the margin."""
        return {
            "JobId": key.scope_id,
            "StartTime": iso_text(window.start - MARGIN_SECONDS),
            "EndTime": iso_text(window.end + MARGIN_SECONDS),
            "MaxEventsNum": EVENTS_MAX,
        }

    def next_cursor(self, cursor: str | None, answer: Answer) -> str | None:
        """None: there is one page."""
        return None

    def page(self, key: StreamKey, window: Window, cursor: str | None, answer: Answer) -> PageRows:
        """The rows of the window's only page."""
        assert isinstance(answer, GetJobEventsAnswer)
        records: list[Any] = list(answer.events or ())
        page = PageRows(record_count=len(records), is_full=len(records) >= EVENTS_MAX)
        for record in records:
            raw = _timed(record) if isinstance(record, str) else record
            if isinstance(raw, dict):
                _place(page, key, window, raw, record, entity_id=key.scope_id)
            else:
                reason = "the text has no time" if isinstance(record, str) else "the record is neither text nor object"
                page.dead.append(unusable(record, reason))
        return page


def _keys(answer: DescribeServiceEventAnswer, here: NumberedCursor) -> list[str]:
    """What identifies the records of a page. Equal events may fill several pages: then its number counts, too."""
    keys = [as_json(msgspec.to_builtins(record)) for record in answer.events or ()]
    return keys if len({*keys}) > 1 else [f"{key} {here.page_number}" for key in keys]


def _service(key: StreamKey) -> tuple[str, str]:
    cluster_id, _, service_name = key.scope_id.partition("/")
    return cluster_id, service_name


def _timed(text: str) -> dict[str, str] | None:
    """A text with a time in front, taken apart; None where it has none."""
    found = _TIMED_TEXT.match(text)
    if found is None:
        return None
    time = found["time"].replace(",", ".")
    try:
        read_moment(time)
    except ValueError:
        return None
    return {"Time": time, "Message": found["content"]}


def _place(
    page: PageRows, key: StreamKey, window: Window, raw: dict[str, Any], record: object, *, entity_id: str
) -> None:
    """Make a row of `raw`, which is the answer's `record` opened."""
    name = "TriggerTime" if raw.get("TriggerTime") not in (None, "") else "Time"
    fields = Fields(raw)
    given = fields.take(name)
    try:
        time, exact = read_moment(given)
    except ValueError as error:
        page.dead.append((f"{name} is missing" if given is None else f"{name}: {error}", record))
        return
    if not exact:
        fields.put(name, given)
    row = (
        time,
        key.region,
        EVENTS.sources[key.operation],
        key.scope_id,
        fields.text("ObjectId") or entity_id,
        fields.text("EventId"),
        fields.text("EventType", "Type"),
        fields.text("Reason"),
        fields.text("TriggeredBy"),
        fields.text("Content", "Message"),
        fields.extra(),
    )
    page.place(EVENTS, row, time, window)
