"""User metrics: PaiStudio `GetUserViewMetrics`, one stream a resource group, a snapshot each tick.

An answer carries no time, so all pages of one snapshot get the tick's. Within a snapshot a user's
row is told apart by user and job type, and the first one wins: a list that shifts while it is paged
shows some users twice. A workspace that was asked for is part of the key: it has other figures of the same user.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any

import msgspec

from collector.catalogue.answers import Answer
from collector.catalogue.products.pai_studio import GET_USER_VIEW_METRICS, GetUserViewMetricsAnswer, UserViewMetric
from collector.model import StreamKey, Window
from collector.sources.normalise import Field, Kind, as_json, unusable, values
from collector.sources.numbered import NumberedCursor
from collector.sources.page import PageRows
from collector.sources.tables import RESOURCE_GROUP_METRICS, USER_METRICS, Row, Table

_USAGE_FIELDS = (
    Field("TotalCPU", Kind.INTEGER),
    Field("TotalGPU", Kind.INTEGER),
    Field("TotalMemory", Kind.INTEGER),
    Field("RequestCPU", Kind.INTEGER),
    Field("RequestGPU", Kind.INTEGER),
    Field("RequestMemory", Kind.INTEGER),
    Field("CPUUsageRate", Kind.NUMBER),
    Field("GPUUsageRate", Kind.NUMBER),
    Field("MemoryUsageRate", Kind.NUMBER),
    Field("NetworkInputRate", Kind.NUMBER),
    Field("NetworkOutputRate", Kind.NUMBER),
    Field("DiskReadRate", Kind.NUMBER),
    Field("DiskWriteRate", Kind.NUMBER),
    Field("CPUNodeNumber", Kind.INTEGER),
    Field("GPUNodeNumber", Kind.INTEGER),
    Field("CpuJobNames", Kind.TEXTS),
    Field("GpuJobNames", Kind.TEXTS),
    Field("NodeNames", Kind.TEXTS),
    Field("CpuNodeNames", Kind.TEXTS),
    Field("GpuNodeNames", Kind.TEXTS),
)
_USER_FIELDS = (Field("UserId", Kind.TEXT), Field("JobType", Kind.TEXT), *_USAGE_FIELDS)
_SUMMARY_FIELDS = (Field("JobType", Kind.TEXT), *_USAGE_FIELDS)
_USER = USER_METRICS.columns.index("user_id")
_USER_COUNT = RESOURCE_GROUP_METRICS.columns.index("user_count")


class UserMetricsSource:
    """What to ask for one snapshot of a resource group, and how it becomes rows."""

    name = "user_metrics"
    operation = GET_USER_VIEW_METRICS
    tables = (USER_METRICS, RESOURCE_GROUP_METRICS)

    def __init__(self, *, page_size: int, time_step: str, sort_by: str = "", order: str = "asc") -> None:
        """`sort_by` is empty for a list as the service has it."""
        self.page_size = page_size
        self.time_step = time_step
        self.sort_by = sort_by
        self.order = order

    def unsorted(self) -> UserMetricsSource:
        """Return a source that asks for lists in the order that the service gives them."""
        plain = copy(self)
        plain.sort_by = ""
        return plain

    def parameters(self, key: StreamKey, window: Window, cursor: str | None) -> dict[str, Any]:
        """Parameters of the page at `cursor`."""
        here = NumberedCursor.parse(cursor)
        return {
            "ResourceGroupID": key.target_id,
            **key.filters,
            "PageNumber": str(here.page_number),
            "PageSize": str(here.page_size or self.page_size),
            "TimeStep": self.time_step,
        } | ({"SortBy": self.sort_by, "Order": self.order} if self.sort_by else {})

    def next_cursor(self, cursor: str | None, answer: Answer) -> str | None:
        """The cursor after this page, None after the last one."""
        assert isinstance(answer, GetUserViewMetricsAnswer)
        here = NumberedCursor.parse(cursor)
        there = here.after(_keys(answer), answer.total, here.page_size or self.page_size)
        return None if there is None else str(there)

    def is_short(self, cursor: str | None, answer: Answer) -> bool:
        """Return whether the list ends here although `Total` denies it, or began to repeat its pages."""
        assert isinstance(answer, GetUserViewMetricsAnswer)
        here = NumberedCursor.parse(cursor)
        return self.next_cursor(cursor, answer) is None and here.is_short(_keys(answer), answer.total)

    def total_changed(self, cursor: str | None, answer: Answer) -> bool:
        """True when `Total` differs between pages: users may have moved from a page not yet read to one read."""
        assert isinstance(answer, GetUserViewMetricsAnswer)
        return NumberedCursor.parse(cursor).has_changed(answer.total)

    def page(self, key: StreamKey, window: Window, cursor: str | None, answer: Answer) -> PageRows:
        """The rows of one page; the first page also gives the group's Summary."""
        assert isinstance(answer, GetUserViewMetricsAnswer)
        tick, group_id, filters = window.start, key.target_id, key.filters
        workspace_id = filters.get("WorkspaceId", "")
        users: dict[tuple[str, str], Row] = {}
        page = PageRows(record_count=len(answer.user_metrics or ()))
        for record in answer.user_metrics or ():
            raw = _wire(record)
            if not isinstance(raw, dict):
                page.dead.append(unusable(raw))
                continue
            columns, extra = values(_without_group(raw, group_id), _USER_FIELDS)
            row = (tick, key.region, group_id, *columns, extra, workspace_id)
            users.setdefault((columns[0], columns[1]), row)
        page.rows[USER_METRICS] = list(users.values())
        # Whether a Summary is of the group or of the one user that was asked for, the service does not say.
        if NumberedCursor.parse(cursor).page_number == 1 and "UserId" not in filters:
            summary = _wire(answer.summary)
            if summary is not None and not isinstance(summary, dict):
                page.dead.append(unusable(summary, "the Summary is not an object"))
            fields = _without_group(summary, group_id) if isinstance(summary, dict) else {}
            (job_type, *usage), extra = values(fields, _SUMMARY_FIELDS)
            user_count = len({user for user, _ in users})
            page.rows[RESOURCE_GROUP_METRICS] = [
                (tick, key.region, group_id, job_type, user_count, *usage, extra, workspace_id)
            ]
        return page

    @staticmethod
    def whole(rows: dict[Table, list[Sequence[Any]]]) -> dict[Table, list[Row]]:
        """One snapshot out of the rows of all its pages: each key once, and the users counted over all pages."""
        users: dict[tuple[Any, ...], Row] = {}
        for row in rows.get(USER_METRICS, []):
            users.setdefault(tuple(row[i] for i in USER_METRICS.identity_indexes), tuple(row))
        user_count = len({row[_USER] for row in users.values()})
        summaries = rows.get(RESOURCE_GROUP_METRICS, [])[:1]
        groups: list[Row] = [(*row[:_USER_COUNT], user_count, *row[_USER_COUNT + 1 :]) for row in summaries]
        return {USER_METRICS: list(users.values()), RESOURCE_GROUP_METRICS: groups}


def _keys(answer: GetUserViewMetricsAnswer) -> list[str]:
    """What identifies the records of a page."""
    raws = [_wire(record) for record in answer.user_metrics or ()]
    return [f"{raw.get('UserId')} {raw.get('JobType')}" if isinstance(raw, dict) else as_json(raw) for raw in raws]


def _wire(record: Any) -> Any:
    return msgspec.to_builtins(record) if isinstance(record, UserViewMetric) else record


def _without_group(raw: dict[str, Any], group_id: str) -> dict[str, Any]:
    """The record without its own group id, unless that names another group than the one asked for.

    Rows stand under the group that was asked; a differing id is kept in `extra`.
    """
    if raw.get("ResourceGroupId") not in (group_id, "", None):
        return raw
    return {name: value for name, value in raw.items() if name != "ResourceGroupId"}
