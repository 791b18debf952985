"""eas 2021-07-01, ROA: serving resources, services, their events, and where their logs are shipped."""

from __future__ import annotations

from decimal import Decimal
from types import MappingProxyType
from typing import Any

import msgspec

from collector.catalogue.answers import Answer
from collector.catalogue.operation import (
    MIB,
    Form,
    Numbers,
    Operation,
    Parameter,
    Place,
    Price,
    Product,
    Quota,
    Spread,
    Style,
)


class ResourceLogAnswer(Answer, rename="pascal"):
    """`CreateResourceLog` and `DeleteResourceLog`: what was begun, as a `Message`."""


class DescribeResourceLogAnswer(Answer, rename="pascal"):
    """`DescribeResourceLog`: where the logs of a resource group are shipped; empty names where they are not."""

    project_name: str | None = None
    log_store: str | None = None
    status: str | None = None


class ServiceEvent(msgspec.Struct, rename="pascal", forbid_unknown_fields=True):
    """`DescribeServiceEvent` `Events[]`. `time` is `YYYY-MM-DD HH:MM:SS`, UTC; `message` holds JSON."""

    time: str
    type: str = ""
    reason: str = ""
    message: str = ""


class DescribeServiceEventAnswer(Answer, rename="pascal"):
    """`DescribeServiceEvent`: one page of the events of a service."""

    events: list[ServiceEvent] | None = None
    page_num: int | None = None
    total_count: int | None = None
    total_page_num: int | None = None


class EasResourceRecord(msgspec.Struct, rename="pascal", forbid_unknown_fields=True, omit_defaults=True):
    """`ListResources` `Resources[]`."""

    cluster_id: str | None = None
    cpu_count: int | None = None
    create_time: str | None = None
    extra_data: dict[str, Any] | None = None
    gpu_count: int | None = None
    instance_count: int | None = None
    message: str | None = None
    post_paid_instance_count: int | None = None
    pre_paid_instance_count: int | None = None
    resource_id: str | None = None
    resource_name: str | None = None
    resource_type: str | None = None
    status: str | None = None
    update_time: str | None = None
    vendor: str | None = None


class ListResourcesAnswer(Answer, rename="pascal"):
    """`ListResources`: one page of serving resource groups."""

    resources: list[EasResourceRecord] | None = None
    page_number: int | None = None
    page_size: int | None = None
    total_count: int | None = None


class ServiceRecord(msgspec.Struct, rename="pascal", forbid_unknown_fields=True, omit_defaults=True):
    """`ListServices` `Services[]`. `region` is the id of the cluster."""

    access_token: str | None = None
    app_config: str | None = None
    app_spec_name: str | None = None
    app_type: str | None = None
    app_version: str | None = None
    caller_uid: str | None = None
    cpu: int | None = None
    create_time: str | None = None
    current_version: int | None = None
    extra_data: str | None = None
    gateway: str | None = None
    gpu: int | None = None
    image: str | None = None
    internet_endpoint: str | None = None
    intranet_endpoint: str | None = None
    labels: list[dict[str, Any]] | None = None
    latest_version: int | None = None
    memory: int | None = None
    message: str | None = None
    namespace: str | None = None
    parent_uid: str | None = None
    pending_instance: int | None = None
    quota_id: str | None = None
    reason: str | None = None
    region: str | None = None
    request_id: str | None = None
    resource: str | None = None
    resource_alias: str | None = None
    role: str | None = None
    role_attrs: str | None = None
    running_instance: int | None = None
    safety_lock: str | None = None
    secondary_internet_endpoint: str | None = None
    secondary_intranet_endpoint: str | None = None
    service_config: str | None = None
    service_group: str | None = None
    service_id: str | None = None
    service_name: str | None = None
    service_uid: str | None = None
    source: str | None = None
    status: str | None = None
    total_instance: int | None = None
    traffic_state: str | None = None
    update_time: str | None = None
    weight: int | None = None
    workspace_id: str | None = None


class ListServicesAnswer(Answer, rename="pascal"):
    """`ListServices`: one page of services."""

    services: list[ServiceRecord] | None = None
    page_number: int | None = None
    page_size: int | None = None
    total_count: int | None = None


def _roa(
    name: str,
    method: str,
    path: str,
    summary: str,
    parameters: tuple[Parameter, ...],
    answer: type[Answer],
    **rest: Any,
) -> Operation:
    return Operation(name, Product.EAS, "2021-07-01", Style.ROA, method, path, summary, parameters, answer, **rest)


_LOG_PATH = "/api/v2/resources/{ClusterId}/{ResourceId}/log"
_CLUSTER = Parameter("ClusterId", Place.PATH, "The cluster, which is a region, such as cn-shanghai.", required=True)
_RESOURCE = Parameter("ResourceId", Place.PATH, "The serving resource group, eas-r-...", required=True)

CREATE_RESOURCE_LOG = _roa(
    "CreateResourceLog",
    "POST",
    _LOG_PATH,
    "Ships the logs of a resource group to Log Service.",
    (
        _CLUSTER,
        _RESOURCE,
        Parameter("ProjectName", Place.JSON, "The Log Service project.", required=True),
        Parameter("LogStore", Place.JSON, "The Logstore in the project.", required=True),
    ),
    ResourceLogAnswer,
    repeatable=False,
    scope="ResourceId",
)

DESCRIBE_RESOURCE_LOG = _roa(
    "DescribeResourceLog",
    "GET",
    _LOG_PATH,
    "Where the logs of a resource group are shipped.",
    (_CLUSTER, _RESOURCE),
    DescribeResourceLogAnswer,
    quota=Quota(100),
    price=Price(Decimal("0.0001"), free_calls_per_month=1000),
    scope="ResourceId",
)

DELETE_RESOURCE_LOG = _roa(
    "DeleteResourceLog",
    "DELETE",
    _LOG_PATH,
    "Ends the shipping of the logs of a resource group.",
    (_CLUSTER, _RESOURCE),
    ResourceLogAnswer,
    quota=Quota(10),
    price=Price(Decimal("0.001"), free_calls_per_month=100),
    repeatable=False,
    scope="ResourceId",
)

DESCRIBE_SERVICE_EVENT = _roa(
    "DescribeServiceEvent",
    "GET",
    "/api/v2/services/{ClusterId}/{ServiceName}/events",
    "Events of a service, those of the last seven days unless a range is given.",
    (
        _CLUSTER,
        Parameter("ServiceName", Place.PATH, "The service.", required=True),
        Parameter("StartTime", Place.QUERY, "Start of the range, such as 2025-10-09 08:00:00, UTC.", form=Form.CIVIL),
        Parameter("EndTime", Place.QUERY, "End of the range, such as 2025-10-09 09:00:00, UTC.", form=Form.CIVIL),
        Parameter("EventType", Place.QUERY, "Normal or Warning.", choices=("Normal", "Warning")),
        Parameter("InstanceName", Place.QUERY, "Only events of this instance."),
        Parameter("PageNum", Place.QUERY, "1-based page.", form=Form.COUNT),
        Parameter("PageSize", Place.QUERY, "Events a page, at most 100.", form=Form.COUNT, least=1, most=100),
    ),
    DescribeServiceEventAnswer,
    records_field="events",
    records_max=100,
    paging=Numbers(number="PageNum", as_text=True),
    scope="ServiceName",
    identity=MappingProxyType(
        {
            "events": (
                "time", "region", "source", "scope_id", "entity_id", "event_id", "event_type", "reason",
                "triggered_by", "content",
            ),
        }
    ),
)  # fmt: skip

LIST_RESOURCES = _roa(
    "ListResources",
    "GET",
    "/api/v2/resources",
    "Serving resource groups.",
    (
        Parameter("PageNumber", Place.QUERY, "1-based page.", type=int, least=1),
        Parameter("PageSize", Place.QUERY, "Resource groups a page, at most 100.", type=int, least=1, most=100),
        Parameter("ResourceId", Place.QUERY, "Only this resource group."),
        Parameter("ResourceName", Place.QUERY, "Only resource groups of this name."),
        Parameter("ResourceType", Place.QUERY, "Dedicated or SelfManaged.", choices=("Dedicated", "SelfManaged")),
        Parameter("ResourceStatus", Place.QUERY, "Only resource groups of this status."),
        Parameter("Sort", Place.QUERY, "Field to sort by."),
        Parameter("Order", Place.QUERY, "Desc or Asc.", choices=("Desc", "Asc")),
    ),
    ListResourcesAnswer,
    records_field="resources",
    records_max=100,
    paging=Numbers(),
)

LIST_SERVICES = _roa(
    "ListServices",
    "GET",
    "/api/v2/services",
    "Services.",
    (
        Parameter("PageNumber", Place.QUERY, "1-based page.", type=int, least=1),
        Parameter("PageSize", Place.QUERY, "Services a page, at most 100.", type=int, least=1, most=100),
        Parameter("ServiceName", Place.QUERY, "Only services of this name."),
        Parameter("ServiceStatus", Place.QUERY, "Only services of this status, such as Running."),
        Parameter("ServiceType", Place.QUERY, "Only services of this type."),
        Parameter("ResourceName", Place.QUERY, "Only services on this resource group."),
        Parameter("GroupName", Place.QUERY, "Only services of this group."),
        Parameter("WorkspaceId", Place.QUERY, "Only services of this workspace."),
        Parameter("Label", Place.QUERY, "Only services with these labels.", type=dict, spread=Spread.JSON),
        Parameter("Filter", Place.QUERY, "Text that a service must hold."),
        Parameter("Sort", Place.QUERY, "Field to sort by."),
        Parameter("Order", Place.QUERY, "desc or asc.", choices=("desc", "asc")),
    ),
    ListServicesAnswer,
    records_field="services",
    records_max=100,
    paging=Numbers(),
    answer_bytes_max=32 * MIB,
    secret_fields=frozenset({"AccessToken", "AppConfig", "ServiceConfig"}),
)

ROWS = (
    CREATE_RESOURCE_LOG, DESCRIBE_RESOURCE_LOG, DELETE_RESOURCE_LOG, DESCRIBE_SERVICE_EVENT,
    LIST_RESOURCES, LIST_SERVICES,
)  # fmt: skip
