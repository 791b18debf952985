"""Syslogs: eflo-controller `ListSyslogs`, one stream a node, windows of event time."""

from __future__ import annotations

from typing import Any

import msgspec

from collector.api.answers import Answer
from collector.api.products.eflo_controller import LIST_SYSLOGS, ListSyslogsAnswer, SyslogRecord
from collector.model import StreamKey, Window
from collector.sources.normalise import EXTRA_NONE, Field, Kind, time_seconds, values
from collector.sources.page import MARGIN_SECONDS, PageRows
from collector.sources.tables import SYSLOGS

_FIELDS = (
    Field("TagReceiveTime", Kind.TIME),
    Field("ClusterId", Kind.TEXT),
    Field("NodeId", Kind.TEXT),
    Field("Hostname", Kind.TEXT),
    Field("Ip", Kind.TEXT),
    Field("Sn", Kind.TEXT),
    Field("Facility", Kind.TEXT),
    Field("Severity", Kind.TEXT),
    Field("Syslogtag", Kind.TEXT),
    Field("Source", Kind.TEXT),
    Field("Domain", Kind.TEXT),
    Field("Topic", Kind.TEXT),
    Field("TagHostname", Kind.TEXT),
    Field("TagPackId", Kind.TEXT),
    Field("TagPath", Kind.TEXT),
    Field("TagUserDefinedId", Kind.TEXT),
    Field("Msg", Kind.TEXT),
)
_NODE = 2
"""Where NodeId stands in `_FIELDS`."""


class SyslogSource:
    """What to ask for a window of one node's log lines, and how they become rows of `syslogs`."""

    name = "syslogs"
    operation = LIST_SYSLOGS
    tables = (SYSLOGS,)
    pages_of_window = 0

    def parameters(self, key: StreamKey, window: Window, cursor: str | None) -> dict[str, Any]:
        """Parameters of the page at `cursor`; the range asked for is wider than the window by the margin."""
        asked = {
            "NodeId": key.scope_id,
            "FromTime": str(max(0, window.start - MARGIN_SECONDS)),
            "ToTime": str(window.end + MARGIN_SECONDS),
        }
        return asked if cursor is None else asked | {"NextToken": cursor}

    def next_cursor(self, cursor: str | None, answer: Answer) -> str | None:
        """Cursor of the next page, None after the last one."""
        assert isinstance(answer, ListSyslogsAnswer)
        return answer.next_token or None

    def page(self, key: StreamKey, window: Window, cursor: str | None, answer: Answer) -> PageRows:
        """The rows of one page."""
        assert isinstance(answer, ListSyslogsAnswer)
        records = answer.logs or ()
        page = PageRows(record_count=len(records))
        rows, times = page.rows.setdefault(SYSLOGS, []), page.times
        region, start, end = key.region, window.start, window.end
        for record in records:
            # This loop is where a page costs most: what lies in the window, as nearly all does, goes straight in.
            if isinstance(record, SyslogRecord) and (received := _clean_times(record)) is not None:
                time = int(record.time)
                row = (
                    time, received or None, region, record.cluster_id, record.node_id or key.scope_id,
                    record.hostname, record.ip, record.sn, record.facility, record.severity, record.syslogtag,
                    record.source, record.domain, record.topic, record.tag_hostname, record.tag_pack_id,
                    record.tag_path, record.tag_user_defined_id, record.msg, EXTRA_NONE,
                )  # fmt: skip
                if start <= time < end:
                    rows.append(row)
                    times.append(time)
                else:
                    page.place(SYSLOGS, row, time, window)
            else:
                self._place_odd(page, key, window, record)
        return page

    def _place_odd(self, page: PageRows, key: StreamKey, window: Window, record: Any) -> None:
        raw = _wire(record)
        if not isinstance(raw, dict):
            page.dead.append(("the record is not an object", raw))
            return
        try:
            time = time_seconds(raw.get("Time"))
        except ValueError as error:
            page.dead.append((f"Time: {error}" if "Time" in raw else "Time is missing", raw))
            return
        # Time stands in `_FIELDS` of this call only so that a finer unit than seconds is kept in `extra`.
        columns, extra = values(raw, (Field("Time", Kind.TIME), *_FIELDS))
        columns[1 + _NODE] = columns[1 + _NODE] or key.scope_id
        page.place(SYSLOGS, (columns[0], columns[1], key.region, *columns[2:], extra), time, window)


def _clean_times(record: SyslogRecord) -> int | None:
    """`TagReceiveTime` in seconds (0 when absent) of a record whose times are plain UNIX seconds, else None."""
    time, received = record.time, record.tag_receive_time
    if len(time) == 10 and time.isdecimal() and time.isascii() and time <= "4294967295":
        if not received:
            return 0
        if len(received) == 10 and received.isdecimal() and received.isascii() and received <= "4294967295":
            return int(received)
    return None


def _wire(record: Any) -> Any:
    """A typed record back in the service's spelling, so that one path serves all odd ones."""
    return msgspec.to_builtins(record) if isinstance(record, SyslogRecord) else record
