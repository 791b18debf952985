"""What there is in the account, listed as each service lists it: filters, order, pages.

Every listing has `records(now)`, the truth before filters, order and pages.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from collector.simulator import records
from collector.simulator.account import JOBS_SHOWN_SECONDS, Account
from collector.simulator.drift import drift_object, object_shape
from collector.simulator.faults import NOTHING, FaultKind, Fired
from collector.simulator.paging import (
    Numbered,
    Page,
    TokenMint,
    TokenPages,
    arranged,
    by_number,
    disordered,
    fields_of,
    matching,
    shown_total,
    time_range,
)
from collector.simulator.requests import not_found
from collector.units import DAY_SECONDS

_TOKEN_PAGE_SIZE = 20
_JOB_RANGE_SECONDS_MAX = 366 * DAY_SECONDS


@dataclass(slots=True)
class ClusterListing:
    """Answers `ListClusters`."""

    account: Account
    mint: TokenMint
    _pages: TokenPages = field(init=False)

    def __post_init__(self) -> None:
        self._pages = TokenPages(self.mint, "Clusters")

    def records(self, now: float) -> list[dict[str, Any]]:
        return [records.cluster_record(self.account, cluster, now) for cluster in self.account.clusters.values()]

    def page(self, parameters: Mapping[str, Any], now: float, fired: Fired = NOTHING, ordinal: int = 0) -> Page:
        """One page at time `now`. Raises Refusal for a token that is none."""

        def read(second: float) -> list[Any]:
            found = matching(self.records(second), parameters, ResourceGroupId="ResourceGroupId")
            return drifted(_tagged(found, parameters), "ClusterId", fired, self.account.seed)

        size = int(parameters.get("MaxResults") or _TOKEN_PAGE_SIZE)
        return self._pages.page(read, size, parameters, now, fired, ordinal)


@dataclass(slots=True)
class ClusterNodeListing:
    """Answers `ListClusterNodes`."""

    account: Account
    mint: TokenMint
    _pages: TokenPages = field(init=False)

    def __post_init__(self) -> None:
        self._pages = TokenPages(self.mint, "Nodes")

    def records(self, cluster_id: str, now: float) -> list[dict[str, Any]]:
        """KeyError for a cluster that does not exist."""
        cluster = self.account.clusters[cluster_id]
        listed = [node for node in cluster.nodes if self.account.is_listed(node.node_id, now)]
        return [records.node_record(self.account, cluster, node, now) for node in listed]

    def page(self, parameters: Mapping[str, Any], now: float, fired: Fired = NOTHING, ordinal: int = 0) -> Page:
        """One page at time `now`. Raises Refusal for an unknown cluster and for a token that is none."""
        cluster_id = str(parameters.get("ClusterId", ""))
        cluster = self.account.clusters.get(cluster_id)
        if cluster is None:
            raise not_found("ClusterId", cluster_id)

        def read(second: float) -> list[Any]:
            found = matching(self.records(cluster_id, second), parameters, NodeGroupId="NodeGroupId")
            if parameters.get("ResourceGroupId", cluster.resource_group_id) != cluster.resource_group_id:
                found = []
            if states := parameters.get("OperatingStates"):
                found = [record for record in found if record["OperatingState"] in states]
            return drifted(_tagged(found, parameters), "NodeId", fired, self.account.seed)

        size = int(parameters.get("MaxResults") or _TOKEN_PAGE_SIZE)
        return self._pages.page(read, size, parameters, now, fired, ordinal)


@dataclass(slots=True)
class ResourceGroupListing:
    """Answers `ListResourceGroups`."""

    account: Account

    def records(self, now: float) -> list[dict[str, Any]]:
        return [records.group_record(self.account, group, now) for group in self.account.world.groups]

    def page(self, parameters: Mapping[str, Any], now: float, fired: Fired = NOTHING, ordinal: int = 0) -> Page:
        """One page at time `now`. Raises Refusal for a field to sort by that there is none."""
        found = matching(
            self.records(now), parameters, Name="Name", Status="Status", ResourceType="ResourceType", Versions="Version"
        )
        if ids := parameters.get("ResourceGroupIDs"):
            wanted = {part.strip() for part in str(ids).split(",")}
            found = [record for record in found if record["ResourceGroupID"] in wanted]
        found = arranged(found, parameters, "SortBy")
        numbered = by_number(_dressed(found, "ResourceGroupID", fired, self.account.seed), parameters, 20)
        return _numbered_page("ResourceGroups", numbered, fired, ordinal)


@dataclass(slots=True)
class JobListing:
    """Answers `ListJobs`: newest first, those created within seven days unless a range is given."""

    account: Account

    def records(self, now: float) -> list[dict[str, Any]]:
        return [records.job_record(self.account, job, now) for job in self.account.jobs(now)]

    def page(self, parameters: Mapping[str, Any], now: float, fired: Fired = NOTHING, ordinal: int = 0) -> Page:
        """One page at time `now`. Raises Refusal for a range that makes no sense."""
        start, end = time_range(parameters, now, JOBS_SHOWN_SECONDS, _JOB_RANGE_SECONDS_MAX)
        if not parameters.get("StartTime"):
            # The same half-open seven days as everywhere, so that a slot never shows two jobs.
            start = int(start) + 1
        jobs = self.account.jobs_between(start, min(int(end), int(now)) + 1)
        found = matching(
            [records.job_record(self.account, job, now) for job in jobs],
            parameters,
            JobId="JobId", DisplayName="DisplayName", JobType="JobType", Status="Status",
            WorkspaceId="WorkspaceId", ResourceId="ResourceId",
        )  # fmt: skip
        found = arranged(found, parameters, "SortBy", descending=True)
        numbered = by_number(_dressed(found, "JobId", fired, self.account.seed), parameters, 10)
        return _numbered_page("Jobs", numbered, fired, ordinal)


@dataclass(slots=True)
class InstanceListing:
    """Answers `ListInstances`, in this product's envelope."""

    account: Account

    def records(self, now: float) -> list[dict[str, Any]]:
        return [records.instance_record(self.account, made, now) for made in self.account.instances.values()]

    def page(self, parameters: Mapping[str, Any], now: float, fired: Fired = NOTHING, ordinal: int = 0) -> Page:
        """One page at time `now`. Raises Refusal for a field to sort by that there is none."""
        found = matching(
            self.records(now),
            parameters,
            InstanceId="InstanceId", InstanceName="InstanceName", Status="Status", WorkspaceId="WorkspaceId",
            ResourceId="ResourceId", AcceleratorType="AcceleratorType",
        )  # fmt: skip
        found = arranged(found, parameters, "SortBy")
        numbered = by_number(_dressed(found, "InstanceId", fired, self.account.seed), parameters, 10)
        return _numbered_page("Instances", numbered, fired, ordinal, **ENVELOPE)


@dataclass(slots=True)
class ResourceListing:
    """Answers `ListResources`."""

    account: Account

    def records(self, now: float) -> list[dict[str, Any]]:
        return [records.resource_record(self.account, made, now) for made in self.account.resources.values()]

    def page(self, parameters: Mapping[str, Any], now: float, fired: Fired = NOTHING, ordinal: int = 0) -> Page:
        """One page at time `now`. Raises Refusal for a field to sort by that there is none."""
        found = matching(
            self.records(now),
            parameters,
            ResourceId="ResourceId", ResourceName="ResourceName", ResourceType="ResourceType", ResourceStatus="Status",
        )  # fmt: skip
        found = arranged(found, parameters, "Sort")
        numbered = by_number(_dressed(found, "ResourceId", fired, self.account.seed), parameters, 100)
        beside = {"PageNumber": numbered.number, "PageSize": numbered.size}
        return _numbered_page("Resources", numbered, fired, ordinal, **beside)


@dataclass(slots=True)
class ServiceListing:
    """Answers `ListServices`."""

    account: Account

    def records(self, now: float) -> list[dict[str, Any]]:
        return [records.service_record(self.account, made, now) for made in self.account.services.values()]

    def page(self, parameters: Mapping[str, Any], now: float, fired: Fired = NOTHING, ordinal: int = 0) -> Page:
        """One page at time `now`. Raises Refusal for a field to sort by that there is none."""
        found = matching(
            self.records(now),
            parameters,
            ServiceName="ServiceName", ServiceStatus="Status", ResourceName="Resource", WorkspaceId="WorkspaceId",
        )  # fmt: skip
        if text := parameters.get("Filter"):
            found = [record for record in found if str(text) in record["ServiceName"]]
        if labels := parameters.get("Label"):
            found = [
                record for record in found if _labels(record, "Labels", "LabelKey", "LabelValue") >= labels.items()
            ]
        found = arranged(found, parameters, "Sort")
        numbered = by_number(_dressed(found, "ServiceName", fired, self.account.seed), parameters, 100)
        beside = {"PageNumber": numbered.number, "PageSize": numbered.size}
        return _numbered_page("Services", numbered, fired, ordinal, **beside)


ENVELOPE: Mapping[str, Any] = {"Code": "", "HttpStatusCode": 200, "Message": "", "Success": True}
"""What pai-dsw puts around every answer."""


def _numbered_page(key: str, numbered: Numbered, fired: Fired, ordinal: int, **beside: Any) -> Page:
    total = shown_total(numbered.total, fired, ordinal, numbered.passed)
    return Page(fields_of({**beside, key: numbered.records, "TotalCount": total}), len(numbered.records))


def _labels(record: dict[str, Any], field: str, key: str, value: str) -> Any:
    return {label[key]: label[value] for label in record[field]}.items()


def _tagged(found: list[dict[str, Any]], parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
    wanted = {str(tag.get("Key")): str(tag.get("Value")) for tag in parameters.get("Tags") or ()}
    return [record for record in found if _labels(record, "Tags", "Key", "Value") >= wanted.items()]


def drifted(found: list[dict[str, Any]], id_field: str, fired: Fired, seed: int) -> list[Any]:
    """The records in other shapes, where a fault says so."""
    drift = fired.bend(FaultKind.TYPE_DRIFT)
    if drift is None:
        return found
    shaped = [(record, object_shape(record[id_field], drift.shapes, drift.share, seed)) for record in found]
    return [drift_object(record, id_field, shape) for record, shape in shaped]


def _dressed(found: list[dict[str, Any]], id_field: str, fired: Fired, seed: int) -> list[Any]:
    """The records of a numbered listing as a fault has them: out of order, in other shapes."""
    return drifted(disordered(found, fired, seed), id_field, fired, seed)
