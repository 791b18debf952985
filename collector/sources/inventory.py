"""Inventory: what there is, by nine listings; each object is stored in every state that it was seen in.

One stream a listing and account, for nodes one a cluster, for metrics of CloudMonitor one a namespace.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import msgspec

from collector.catalogue.answers import Answer, UnreadableRecord
from collector.catalogue.operation import Numbers, Operation, Tokens
from collector.catalogue.products.cms import DESCRIBE_METRIC_META_LIST, DESCRIBE_PROJECT_META
from collector.catalogue.products.eas import LIST_RESOURCES, LIST_SERVICES
from collector.catalogue.products.eflo_controller import LIST_CLUSTER_NODES, LIST_CLUSTERS
from collector.catalogue.products.pai_dlc import LIST_JOBS
from collector.catalogue.products.pai_dsw import LIST_INSTANCES
from collector.catalogue.products.pai_studio import LIST_RESOURCE_GROUPS
from collector.model import StreamKey
from collector.sources.attributes import attributes, without_secrets
from collector.sources.fields import text_of
from collector.sources.moments import read_moment
from collector.sources.normalise import unusable
from collector.sources.numbered import NumberedCursor, whole_total
from collector.sources.source import Observed, Seen
from collector.sources.tables import INVENTORY_STATES

_PAGE_SIZE = 100


@dataclass(frozen=True, slots=True)
class Listing:
    """How one kind of object is listed, and which fields of its records make the columns."""

    operation: Operation
    id_fields: tuple[str, ...]
    """Together, with `/` between, the object's id: what a target names it by."""
    name_field: str
    state_field: str
    parent_field: str = ""
    """What the object belongs to, empty where that is the scope of the stream, or nothing."""
    lists_all: bool = True
    final_states: frozenset[str] = frozenset()
    """States in which the object has ended, in small letters."""
    ended_fields: tuple[str, ...] = ()
    """Where a record tells when it ended, the first that does."""


LISTINGS: Mapping[str, Listing] = MappingProxyType(
    {
        "cluster": Listing(LIST_CLUSTERS, ("ClusterId",), "ClusterName", "OperatingState"),
        "node": Listing(LIST_CLUSTER_NODES, ("NodeId",), "Hostname", "OperatingState"),
        "resource_group": Listing(LIST_RESOURCE_GROUPS, ("ResourceGroupID",), "Name", "Status", "WorkspaceID"),
        "job": Listing(
            LIST_JOBS,
            ("JobId",),
            "DisplayName",
            "Status",
            "WorkspaceId",
            # Jobs older than seven days leave the list.
            lists_all=False,
            final_states=frozenset({"succeeded", "failed", "stopped"}),
            ended_fields=("GmtFinishTime", "GmtSuccessedTime", "GmtFailedTime", "GmtStoppedTime"),
        ),
        "instance": Listing(LIST_INSTANCES, ("InstanceId",), "InstanceName", "Status", "WorkspaceId"),
        "eas_resource": Listing(LIST_RESOURCES, ("ClusterId", "ResourceId"), "ResourceName", "Status", "ClusterId"),
        "service": Listing(LIST_SERVICES, ("Region", "ServiceName"), "ServiceName", "Status", "Region"),
        "cloud_namespace": Listing(DESCRIBE_PROJECT_META, ("Namespace",), "Description", ""),
        "cloud_metric": Listing(DESCRIBE_METRIC_META_LIST, ("Namespace", "MetricName"), "MetricName", ""),
    }
)
KINDS = tuple(LISTINGS)


class InventorySource:
    """One listing. `scope_id` is the cluster for nodes, the namespace for metrics; the other kinds have none."""

    name = "inventory"
    tables = (INVENTORY_STATES,)

    def __init__(self, kind: str) -> None:
        """`kind` is one of KINDS."""
        self.kind = kind
        self._listing = LISTINGS[kind]
        self.operation = self._listing.operation
        self.lists_all = self._listing.lists_all
        self.page_size = _PAGE_SIZE

    def parameters(self, key: StreamKey, cursor: str | None) -> dict[str, Any]:
        """Parameters of the page at `cursor`."""
        scope = {self.operation.scope: key.scope_id} if self.operation.scope else {}
        match self.operation.paging:
            case Tokens(size):
                return {**scope, size: self.page_size} | ({} if cursor is None else {"NextToken": cursor})
            case Numbers(number, size):
                here = NumberedCursor.parse(cursor)
                return {**scope, number: here.page_number, size: here.page_size or self.page_size}
            case _:
                return dict(scope)

    def next_cursor(self, cursor: str | None, answer: Answer) -> str | None:
        """The cursor after this page, None after the last one."""
        paging = self.operation.paging
        if isinstance(paging, Numbers):
            total = whole_total(getattr(answer, paging.total))
            here = NumberedCursor.parse(cursor)
            there = here.after(self._keys(answer), total, here.page_size or self.page_size)
            return None if there is None else str(there)
        return getattr(answer, "next_token", None) or None

    def held(self, key: StreamKey) -> dict[str, str]:
        """Columns and values that tell the rows of this listing from those of others."""
        parent = {"parent_id": key.scope_id} if self.operation.scope else {}
        return {"kind": self.kind, **parent}

    def page(self, key: StreamKey, cursor: str | None, answer: Answer) -> Seen:
        """The objects of one page, each once; the last page says whether the list changed while it was paged."""
        records = self._records(answer)
        objects: dict[str, Observed] = {}
        seen = Seen(record_count=len(records))
        for record in records:
            raw = msgspec.to_builtins(record) if isinstance(record, msgspec.Struct) else record
            if not isinstance(raw, dict):
                reason, kept = unusable(raw)
                seen.dead.append((reason, self._safe(kept)))
                continue
            missing = [name for name in self._listing.id_fields if raw.get(name) in (None, "")]
            if missing:
                seen.dead.append((f"{' and '.join(missing)} missing", self._safe(raw)))
                continue
            try:
                observed = self._observed(key, raw)
            except RecursionError:
                ids = {name: raw[name] for name in self._listing.id_fields}
                seen.dead.append(("nested too deeply", ids))
                continue
            objects.setdefault(observed.object_id, observed)
        seen.objects = list(objects.values())
        paging = self.operation.paging
        if isinstance(paging, Numbers) and self.next_cursor(cursor, answer) is None:
            here, total = NumberedCursor.parse(cursor), whole_total(getattr(answer, paging.total))
            seen.has_changed, seen.is_short = here.has_changed(total), here.is_short(self._keys(answer), total)
        return seen

    def _safe(self, raw: object) -> object:
        # A dead letter is stored as well. In a text that cannot be read no secret can be told from other words.
        if isinstance(raw, UnreadableRecord):
            ids = (re.search(rf'"{name}"\s*:\s*"([^"\\]*)"', raw.text) for name in self._listing.id_fields)
            return {"id": "/".join(found[1] for found in ids if found), "characters": len(raw.text)}
        return without_secrets(raw, self.operation.secret_fields)

    def _records(self, answer: Answer) -> list[Any]:
        assert self.operation.records_field is not None
        return getattr(answer, self.operation.records_field) or []

    def _keys(self, answer: Answer) -> list[str]:
        """What identifies the records of a page."""
        raws = [msgspec.to_builtins(record) for record in self._records(answer)]
        names = self._listing.id_fields
        return [
            "/".join(text_of(raw.get(name)) for name in names) if isinstance(raw, dict) else text_of(raw)
            for raw in raws
        ]

    def _observed(self, key: StreamKey, raw: dict[str, Any]) -> Observed:
        listing = self._listing
        parent_id = text_of(raw.get(listing.parent_field)) if listing.parent_field else key.scope_id
        state = text_of(raw.get(listing.state_field))
        values = (
            self.kind,
            parent_id,
            text_of(raw.get(listing.name_field)),
            state,
            attributes(raw, self.operation.secret_fields),
        )
        object_id = "/".join(text_of(raw[name]) for name in listing.id_fields)
        return Observed(object_id, values, self._ended_at(raw) if state.lower() in listing.final_states else None)

    def is_over(self, state: str) -> bool:
        """Whether an object has ended by its stored state, the JSON array of `Observed.values`."""
        values: list[Any] = msgspec.json.decode(state)
        return text_of(values[3]).lower() in self._listing.final_states

    def _ended_at(self, raw: dict[str, Any]) -> int | None:
        for name in self._listing.ended_fields:
            try:
                return read_moment(raw.get(name))[0]
            except ValueError:
                continue
        return None
