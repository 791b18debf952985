"""Syslogs: eflo-controller `ListSyslogs`, one stream a node, windows of event time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from collector.catalogue.answers import Answer
from collector.catalogue.products.eflo_controller import LIST_SYSLOGS, ListSyslogsAnswer, SyslogRecord
from collector.model import StreamKey, Window
from collector.sources.normalise import EXTRA_NONE, Field, Kind, time_seconds, unusable, values
from collector.sources.page import MARGIN_SECONDS, PageRows
from collector.sources.tables import SYSLOGS, Row

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
            "NodeId": key.target_id,
            **key.filters,
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
        page.rows[SYSLOGS] = []
        if not self._place_clean(page, key, window, records):
            for record in records:
                if not self._place_clean(page, key, window, (record,)):
                    self._place_odd(page, key, window, record)
        return page

    def _place_clean(self, page: PageRows, key: StreamKey, window: Window, records: Sequence[Any]) -> bool:
        """Place records that are all as the service means them, as nearly all pages are; else nothing, and false.

        A page costs most here: its times are looked at together, not one by one.
        """
        if {*map(type, records)} != {SyslogRecord}:
            return False
        times = _plain_seconds([record.time for record in records])
        received = [record.tag_receive_time for record in records]
        receive_times = _plain_seconds(received) if any(received) else [None] * len(records)
        if times is None or receive_times is None:
            return False
        region, node_id = key.region, key.target_id
        rows: list[Row] = [
            (
                time, receive_time, region, record.cluster_id, record.node_id or node_id, record.hostname, record.ip,
                record.sn, record.facility, record.severity, record.syslogtag, record.source, record.domain,
                record.topic, record.tag_hostname, record.tag_pack_id, record.tag_path, record.tag_user_defined_id,
                record.msg, EXTRA_NONE,
            )
            for time, receive_time, record in zip(times, receive_times, records, strict=True)
        ]  # fmt: skip
        if window.start <= min(times) and max(times) < window.end:
            page.rows[SYSLOGS] += rows
            page.times += times
        else:
            for time, row in zip(times, rows, strict=True):
                page.place(SYSLOGS, row, time, window)
        return True

    def _place_odd(self, page: PageRows, key: StreamKey, window: Window, record: Any) -> None:
        raw = _wire(record)
        if not isinstance(raw, dict):
            page.dead.append(unusable(raw))
            return
        try:
            time = time_seconds(raw.get("Time"))
        except ValueError as error:
            # Typed or raw: the dead letter shows the record as it came.
            page.dead.append((f"Time: {error}" if "Time" in raw else "Time is missing", record))
            return
        # Time stands in `_FIELDS` of this call only so that a finer unit than seconds is kept in `extra`.
        columns, extra = values(raw, (Field("Time", Kind.TIME), *_FIELDS))
        columns[1 + _NODE] = columns[1 + _NODE] or key.target_id
        page.place(SYSLOGS, (columns[0], columns[1], key.region, *columns[2:], extra), time, window)


def _plain_seconds(texts: list[str]) -> list[int] | None:
    """The numbers of texts that are all plain UNIX seconds of this age, else None."""
    together = "".join(texts)
    if {*map(len, texts)} == {10} and together.isascii() and together.isdecimal() and max(texts) <= "4294967295":
        return [*map(int, texts)]
    return None


def _wire(record: Any) -> Any:
    """A typed record back in the service's spelling, so that one path serves all odd ones."""
    return msgspec.to_builtins(record) if isinstance(record, SyslogRecord) else record
