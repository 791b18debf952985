"""Where the logs of serving resources are shipped: set up and taken down, each of which takes some seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from collector.catalogue.products.eas import DescribeResourceLogAnswer
from collector.simulator.account import Account
from collector.simulator.faults import NOTHING, Fired
from collector.simulator.paging import Page, one
from collector.simulator.requests import Refusal, not_found
from collector.simulator.wire import wire_record

READY, CREATING, DELETING = "ResourceReady", "ResourceCreating", "ResourceDeleting"


class LogState(NamedTuple):
    """What the service says of a resource's logs; without shipping both names are empty."""

    project_name: str
    log_store: str
    status: str


@dataclass(frozen=True, slots=True)
class _Change:
    project_name: str
    log_store: str
    since: float
    deleting: bool


@dataclass(slots=True)
class ResourceLogDesk:
    """The log shipping of every serving resource of the account, nowhere set up to begin with."""

    account: Account
    creating_seconds: float = 10.0
    deleting_seconds: float = 5.0
    _changes: dict[str, _Change] = field(default_factory=dict)

    def state(self, scope_id: str, now: float) -> LogState:
        """Of `cluster_id/resource_id` at `now`. Raises Refusal (404) for one that does not exist."""
        if scope_id not in self.account.resources:
            raise not_found("ResourceId", scope_id.rpartition("/")[2])
        change = self._changes.get(scope_id)
        if change is None or (change.deleting and now >= change.since + self.deleting_seconds):
            return LogState("", "", READY)
        if change.deleting:
            return LogState(change.project_name, change.log_store, DELETING)
        status = CREATING if now < change.since + self.creating_seconds else READY
        return LogState(change.project_name, change.log_store, status)

    def create(self, scope_id: str, project_name: str, log_store: str, now: float) -> None:
        """Begin to ship. Raises Refusal for a resource that has it, even while it is taken down."""
        if self.state(scope_id, now).project_name:
            resource_id = scope_id.rpartition("/")[2]
            raise Refusal(400, "ResourceLogExists", f"Log service for resource [{resource_id}] exists already.")
        self._changes[scope_id] = _Change(project_name, log_store, now, deleting=False)

    def delete(self, scope_id: str, now: float) -> None:
        """Begin to take it down, also while it is being set up. Raises Refusal where there is nothing to."""
        state = self.state(scope_id, now)
        if not state.project_name or state.status == DELETING:
            resource_id = scope_id.rpartition("/")[2]
            raise Refusal(400, "ResourceLogNotFound", f"Log service for resource [{resource_id}] does not exist.")
        self._changes[scope_id] = _Change(state.project_name, state.log_store, now, deleting=True)


@dataclass(slots=True)
class CreateLogListing:
    """Answers `CreateResourceLog`."""

    desk: ResourceLogDesk

    def page(self, parameters: Mapping[str, Any], now: float, fired: Fired = NOTHING, ordinal: int = 0) -> Page:
        """Begin to ship. Raises Refusal for an unknown resource and one that is shipped already."""
        project_name, log_store = str(parameters["ProjectName"]), str(parameters["LogStore"])
        self.desk.create(_scope_id(parameters), project_name, log_store, now)
        return one({"Message": f"Log service for resource [{parameters['ResourceId']}] is creating"})


@dataclass(slots=True)
class DescribeLogListing:
    """Answers `DescribeResourceLog`."""

    desk: ResourceLogDesk

    def page(self, parameters: Mapping[str, Any], now: float, fired: Fired = NOTHING, ordinal: int = 0) -> Page:
        """The state at `now`. Raises Refusal for an unknown resource."""
        state = self.desk.state(_scope_id(parameters), now)
        words = {READY: "ready", CREATING: "creating", DELETING: "deleting"}
        answer = wire_record(
            DescribeResourceLogAnswer,
            project_name=state.project_name,
            log_store=state.log_store,
            status=state.status,
            message=f"Resource is {words[state.status]}",
        )
        return one(answer)


@dataclass(slots=True)
class DeleteLogListing:
    """Answers `DeleteResourceLog`."""

    desk: ResourceLogDesk

    def page(self, parameters: Mapping[str, Any], now: float, fired: Fired = NOTHING, ordinal: int = 0) -> Page:
        """Begin to take it down. Raises Refusal for an unknown resource and one that is not shipped."""
        self.desk.delete(_scope_id(parameters), now)
        return one({"Message": f"Log service for resource [{parameters['ResourceId']}] is deleting"})


def _scope_id(parameters: Mapping[str, Any]) -> str:
    return f"{parameters.get('ClusterId', '')}/{parameters.get('ResourceId', '')}"
