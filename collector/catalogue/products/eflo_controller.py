"""eflo-controller 2022-12-15, RPC: Lingjun nodes, their logs and their diagnostics."""

from __future__ import annotations

from decimal import Decimal
from types import MappingProxyType
from typing import Any

import msgspec

from collector.catalogue.answers import Answer
from collector.catalogue.operation import (
    Form,
    Operation,
    Parameter,
    Place,
    Price,
    Product,
    Quota,
    Spread,
    Style,
    Tokens,
)


class SyslogRecord(msgspec.Struct, rename="pascal", forbid_unknown_fields=True, gc=False):
    """`ListSyslogs` `Logs[]`. All strings; `time` and `tag_receive_time` hold UNIX seconds."""

    time: str
    cluster_id: str = ""
    domain: str = ""
    facility: str = ""
    hostname: str = ""
    ip: str = ""
    msg: str = ""
    node_id: str = ""
    severity: str = ""
    sn: str = ""
    source: str = ""
    syslogtag: str = ""
    tag_hostname: str = ""
    tag_pack_id: str = ""
    tag_path: str = ""
    tag_receive_time: str = ""
    tag_user_defined_id: str = ""
    topic: str = ""


class ListSyslogsAnswer(Answer, rename="pascal"):
    """eflo-controller `ListSyslogs`: one page of one node's log lines."""

    logs: list[SyslogRecord] | None = None
    next_token: str | None = None


class CreateDiagnosticTaskAnswer(Answer, rename="pascal"):
    """`CreateDiagnosticTask`: the task has begun."""

    diagnostic_id: str | None = None


class DescribeDiagnosticResultAnswer(Answer, rename="pascal"):
    """`DescribeDiagnosticResult`: one task and, once it has ended, what it found."""

    diagnostic_id: str | None = None
    cluster_id: str | None = None
    diagnostic_type: str | None = None
    diagnostic_state: str | None = None
    created_time: str | None = None
    end_time: str | None = None
    node_ids: list[str] | None = None
    diagnostic_results: list[Any] | None = None


class DiagnosticRecord(msgspec.Struct, rename="pascal", forbid_unknown_fields=True, omit_defaults=True):
    """`ListDiagnosticResults` `DiagnosticResults[]`: a task, under other names than `DescribeDiagnosticResult`."""

    cluster_id: str | None = None
    cluster_name: str | None = None
    creation_time: str | None = None
    diag_content: str | None = None
    diag_id: str | None = None
    diag_result: str | None = None
    finished_time: str | None = None
    resource_id: str | None = None
    server_name: str | None = None
    status: str | None = None


class ListDiagnosticResultsAnswer(Answer, rename="pascal"):
    """`ListDiagnosticResults`: one page of the account's tasks."""

    diagnostic_results: list[DiagnosticRecord] | None = None
    max_results: int | None = None
    next_token: str | None = None


class ClusterRecord(msgspec.Struct, rename="pascal", forbid_unknown_fields=True, omit_defaults=True):
    """`ListClusters` `Clusters[]`."""

    cluster_description: str | None = None
    cluster_id: str | None = None
    cluster_name: str | None = None
    cluster_type: str | None = None
    components: Any = None
    computing_ip_version: str | None = None
    create_time: str | None = None
    hpn_zone: str | None = None
    node_count: int | None = None
    node_group_count: int | None = None
    operating_state: str | None = None
    resource_group_id: str | None = None
    tags: list[dict[str, Any]] | None = None
    task_id: str | None = None
    update_time: str | None = None
    vpc_id: str | None = None


class ListClustersAnswer(Answer, rename="pascal"):
    """`ListClusters`: one page of Lingjun clusters."""

    clusters: list[ClusterRecord] | None = None
    next_token: str | None = None


class NodeRecord(msgspec.Struct, rename="pascal", forbid_unknown_fields=True, omit_defaults=True):
    """`ListClusterNodes` `Nodes[]`. Times come as ISO 8601 or as UNIX milliseconds."""

    commodity_code: str | None = None
    create_time: str | None = None
    expired_time: str | None = None
    file_system_mount_enabled: bool | None = None
    hostname: str | None = None
    hpn_zone: str | None = None
    hyper_node_id: str | None = None
    image_id: str | None = None
    image_name: str | None = None
    machine_type: str | None = None
    networks: list[dict[str, Any]] | None = None
    node_group_id: str | None = None
    node_group_name: str | None = None
    node_id: str | None = None
    node_type: str | None = None
    operating_state: str | None = None
    sn: str | None = None
    tags: list[dict[str, Any]] | None = None
    task_id: str | None = None
    v_switch_id: str | None = None
    vpc_id: str | None = None
    zone_id: str | None = None


class ListClusterNodesAnswer(Answer, rename="pascal"):
    """`ListClusterNodes`: one page of the nodes of a cluster."""

    nodes: list[NodeRecord] | None = None
    next_token: str | None = None


def _rpc(name: str, summary: str, parameters: tuple[Parameter, ...], answer: type[Answer], **rest: Any) -> Operation:
    return Operation(
        name, Product.EFLO_CONTROLLER, "2022-12-15", Style.RPC, "POST", "/", summary, parameters, answer, **rest
    )


_NEXT_TOKEN = Parameter("NextToken", Place.FORM, "Cursor of the next page.")
_TAGS = Parameter("Tags", Place.QUERY, "Only objects with these tags.", type=list, spread=Spread.NUMBERED)

LIST_SYSLOGS = _rpc(
    "ListSyslogs",
    "Log lines of one node in a time range, 100 a page.",
    (
        Parameter("FromTime", Place.FORM, "Start of the range, UNIX seconds.", required=True, form=Form.SECONDS),
        Parameter("ToTime", Place.FORM, "End of the range, UNIX seconds.", required=True, form=Form.SECONDS),
        Parameter("NodeId", Place.FORM, "The node.", required=True),
        Parameter("Query", Place.FORM, "Search condition."),
        Parameter("Reverse", Place.FORM, "Newest first.", type=bool),
        _NEXT_TOKEN,
    ),
    ListSyslogsAnswer,
    records_field="logs",
    records_max=100,
    paging=Tokens(),
    price=Price(Decimal("0.0001"), free_calls_per_month=1000),
    scope="NodeId",
    identity=MappingProxyType(
        {
            "syslogs": (
                "time", "receive_time", "region", "cluster_id", "node_id", "hostname", "ip", "sn",
                "facility", "severity", "syslogtag", "source", "domain", "topic", "tag_hostname",
                "tag_pack_id", "tag_path", "tag_user_defined_id", "msg",
            ),
        }
    ),
)  # fmt: skip

CREATE_DIAGNOSTIC_TASK = _rpc(
    "CreateDiagnosticTask",
    "Starts a diagnosis of nodes; its result is asked for later.",
    (
        Parameter("ClusterId", Place.FORM, "The cluster."),
        Parameter("NodeIds", Place.FORM, "The nodes.", type=list),
        Parameter("DiagnosticType", Place.FORM, "What is diagnosed, such as CheckByAiJobLogs or NetDiag."),
        Parameter(
            "StartTime", Place.FORM, "Start of the job, UNIX seconds, a whole minute.",
            form=Form.MINUTE, inside="AiJobLogInfo",
        ),
        Parameter(
            "EndTime", Place.FORM, "End of the job, UNIX seconds, a whole minute.",
            form=Form.MINUTE, inside="AiJobLogInfo",
        ),
        Parameter(
            "AiJobLogs", Place.FORM, "Logs of the job: a list of {AiInstance, NodeId, Logs: [{Datetime, LogContent}]}.",
            type=list, inside="AiJobLogInfo",
        ),
    ),
    CreateDiagnosticTaskAnswer,
    quota=Quota(100),
    price=Price(Decimal("0.001"), free_calls_per_month=100),
    repeatable=False,
    scope="ClusterId",
)  # fmt: skip

DESCRIBE_DIAGNOSTIC_RESULT = _rpc(
    "DescribeDiagnosticResult",
    "State and findings of one diagnosis.",
    (Parameter("DiagnosticId", Place.FORM, "The diagnosis.", required=True),),
    DescribeDiagnosticResultAnswer,
    quota=Quota(100),
    price=Price(None, free_calls_per_month=1000),
    scope="DiagnosticId",
)

LIST_DIAGNOSTIC_RESULTS = _rpc(
    "ListDiagnosticResults",
    "The account's diagnoses.",
    (
        Parameter("DiagType", Place.FORM, "Only diagnoses of this type."),
        Parameter("DiagnosticId", Place.FORM, "Only this diagnosis.", bearer_only=True),
        Parameter("MaxResults", Place.FORM, "Diagnoses a page, 20 to 100.", type=int, least=20, most=100),
        _NEXT_TOKEN,
        Parameter("ResourceGroupId", Place.FORM, "Only diagnoses of this resource group."),
    ),
    ListDiagnosticResultsAnswer,
    records_field="diagnostic_results",
    records_max=100,
    paging=Tokens("MaxResults"),
    quota=Quota(100),
)

LIST_CLUSTERS = _rpc(
    "ListClusters",
    "The account's Lingjun clusters.",
    (
        Parameter("MaxResults", Place.FORM, "Clusters a page, at most 100.", type=int, least=1, most=100),
        _NEXT_TOKEN,
        Parameter("ResourceGroupId", Place.FORM, "Only clusters of this resource group."),
        _TAGS,
    ),
    ListClustersAnswer,
    records_field="clusters",
    records_max=100,
    paging=Tokens("MaxResults"),
)

LIST_CLUSTER_NODES = _rpc(
    "ListClusterNodes",
    "Nodes of one cluster.",
    (
        Parameter("ClusterId", Place.FORM, "The cluster.", required=True),
        Parameter("MaxResults", Place.FORM, "Nodes a page, at most 100.", type=int, least=1, most=100),
        _NEXT_TOKEN,
        Parameter("NodeGroupId", Place.FORM, "Only nodes of this node group."),
        Parameter("ResourceGroupId", Place.FORM, "Only nodes of this resource group."),
        Parameter(
            "OperatingStates", Place.FORM, "Only nodes in these states, such as Using.",
            type=list, spread=Spread.NUMBERED,
        ),
        _TAGS,
    ),
    ListClusterNodesAnswer,
    records_field="nodes",
    records_max=100,
    paging=Tokens("MaxResults"),
    scope="ClusterId",
)  # fmt: skip

ROWS = (
    LIST_SYSLOGS, CREATE_DIAGNOSTIC_TASK, DESCRIBE_DIAGNOSTIC_RESULT, LIST_DIAGNOSTIC_RESULTS,
    LIST_CLUSTERS, LIST_CLUSTER_NODES,
)  # fmt: skip
