"""`GetUserViewMetrics` as the service answers it: parameters, order, numbered pages."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from collector.simulator.drift import drift_user, user_shape
from collector.simulator.faults import NOTHING, FaultKind, Fired
from collector.simulator.paging import Page, shown_total
from collector.simulator.requests import invalid_parameter, missing_parameter, not_found
from collector.simulator.usage import INTEGER_FIELDS, LIST_FIELDS, RATE_FIELDS, parse_time_step, workspaces
from collector.simulator.world import World

PAGE_SIZE_MAX = 1000
_SORTABLE = ("GmtModified", "UserId", "JobType", *INTEGER_FIELDS, *RATE_FIELDS, *LIST_FIELDS)
_SNAPSHOTS_MAX = 16
_encode = msgspec.json.Encoder().encode


@dataclass(slots=True)
class UserMetricsListing:
    """Answers `GetUserViewMetrics` from the world. Pages asked in different minutes show different snapshots."""

    world: World
    seed: int
    _snapshots: OrderedDict[tuple[str, int, str, str], dict[str, Any]] = field(default_factory=OrderedDict)

    def page(self, parameters: Mapping[str, str], now: float, fired: Fired = NOTHING, ordinal: int = 0) -> Page:
        """One page at time `now`. Raises Refusal for what the service would not answer."""
        group_id = parameters.get("ResourceGroupID", "")
        if not group_id:
            raise missing_parameter("ResourceGroupID")
        number = _whole(parameters, "PageNumber", None)
        size = _whole(parameters, "PageSize", PAGE_SIZE_MAX)
        order = parameters.get("Order", "asc").lower()
        if order not in ("asc", "desc"):
            raise invalid_parameter("Order", "asc or desc is expected")
        sort_by = parameters.get("SortBy", "")
        if sort_by and sort_by not in _SORTABLE:
            raise invalid_parameter("SortBy", "it is not a field of the answer")
        time_step = parameters.get("TimeStep", "5m")
        try:
            parse_time_step(time_step)
        except ValueError as error:
            raise invalid_parameter("TimeStep", str(error)) from None
        if not self.world.has_group(group_id):
            raise not_found("ResourceGroupID", group_id)

        workspace = parameters.get("WorkspaceId", "")
        if workspace and workspace not in workspaces(self.world.seed):
            raise not_found("WorkspaceId", workspace)

        snapshot = self._snapshot(group_id, int(now), time_step, workspace)
        users = [u for u in snapshot["UserMetrics"] if parameters.get("UserId", u["UserId"]) == u["UserId"]]
        total = len(users)
        users = _sorted(users, sort_by, descending=order == "desc")[(number - 1) * size : number * size]
        rows = len(users)
        drift = fired.bend(FaultKind.TYPE_DRIFT)
        if drift is not None:
            users = [drift_user(u, user_shape(u, drift.shapes, drift.share, self.seed)) for u in users]
        answer = {**snapshot, "UserMetrics": users, "Total": shown_total(total, fired, ordinal, number * size)}
        return Page(_encode(answer)[1:-1], rows)

    def _snapshot(self, group_id: str, second: int, time_step: str, workspace: str) -> dict[str, Any]:
        # All pages of a minute show one snapshot, and one of thousands of users takes a while to make.
        key = (group_id, second // 60, time_step, workspace)
        snapshot = self._snapshots.get(key)
        if snapshot is None:
            snapshot = self.world.snapshot(group_id, second, time_step=time_step, workspace=workspace)
            self._snapshots[key] = snapshot
            if len(self._snapshots) > _SNAPSHOTS_MAX:
                self._snapshots.popitem(last=False)
        return snapshot


def _sorted(users: list[dict[str, Any]], sort_by: str, *, descending: bool) -> list[dict[str, Any]]:
    if sort_by in ("", "GmtModified"):
        return users[::-1] if descending else users
    rate = sort_by in RATE_FIELDS
    return sorted(users, key=lambda user: float(user[sort_by]) if rate else user[sort_by], reverse=descending)


def _whole(parameters: Mapping[str, str], name: str, most: int | None) -> int:
    text = parameters.get(name, "")
    if not text:
        raise missing_parameter(name)
    if not (text.isascii() and text.isdigit() and len(text) <= 9) or int(text) < 1:
        raise invalid_parameter(name, "a whole number of at least 1 is expected")
    if most is not None and int(text) > most:
        raise invalid_parameter(name, f"at most {most} is possible")
    return int(text)
