"""The tables that sources fill: columns in insert order, and what makes two rows the same row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from collector.catalogue.products.cms import DESCRIBE_METRIC_LIST
from collector.catalogue.products.eas import DESCRIBE_RESOURCE_LOG, DESCRIBE_SERVICE_EVENT
from collector.catalogue.products.eflo_controller import LIST_DIAGNOSTIC_RESULTS, LIST_SYSLOGS
from collector.catalogue.products.pai_dlc import GET_JOB_EVENTS, GET_JOB_METRICS
from collector.catalogue.products.pai_dsw import GET_INSTANCE_METRICS
from collector.catalogue.products.pai_studio import GET_NODE_METRICS, GET_USER_VIEW_METRICS
from collector.model import StreamKey

Row = tuple[object, ...]
"""One row, its values in the order of `Table.columns`; times as whole seconds since the epoch."""


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """A public table as the writer sees it.

    `identity` are the columns that the service sends and that tell records apart. Where `multiset`
    is true, equal rows are legitimate and counted; otherwise identity is a key and the first row wins.
    """

    name: str
    columns: tuple[str, ...]
    identity: tuple[str, ...]
    operation: str
    scope_column: str
    time_column: str | None = "time"
    multiset: bool = True
    always_compare: bool = False
    """True where another path may have stored the same row: then only what is missing is inserted."""
    monthly: bool = False
    """Partitioned by month instead of by day."""
    sources: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Where several operations fill the table: the value of the column `source` for each of them."""
    value_columns: tuple[str, ...] = ()
    """Where identity is a key: columns that the service must not change later. The first values stay."""
    stream_columns: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    """For operations whose streams are not told by `scope_column`: the columns that are, joined by `/`."""

    def operation_of(self, row: Sequence[object]) -> str:
        """The operation whose answer held the row."""
        if not self.sources:
            return self.operation
        source = row[self.columns.index("source")]
        return next((operation for operation, name in self.sources.items() if name == source), self.operation)

    @property
    def identity_indexes(self) -> tuple[int, ...]:
        return tuple(self.columns.index(column) for column in self.identity)

    @property
    def time_index(self) -> int | None:
        return None if self.time_column is None else self.columns.index(self.time_column)

    @property
    def partition_index(self) -> int:
        """The column that decides the partition: the first, which is always a time."""
        return 0

    def stream_scope(self, row: Sequence[object]) -> str:
        """The scope of the stream that a row belongs to."""
        return "/".join(str(row[index]) for index in self.stream_indexes(self.operation_of(row)))

    def stream_indexes(self, operation: str) -> list[int]:
        """Return where a row of an operation holds the parts of its stream's scope, which are joined by `/`."""
        return [self.columns.index(name) for name in self.stream_columns.get(operation, (self.scope_column,))]

    def stream_scope_sql(self, operation: str) -> str:
        """The same as an expression over the rows of one operation."""
        names = self.stream_columns.get(operation)
        if names is None:
            return self.scope_column
        parts = ", '/', ".join(f"toString({name})" for name in names)
        return f"concat({parts})"

    def scope_of(self, key: StreamKey) -> str:
        """What `stream_scope` gives of a stream's rows: its scope, or its target where the API names the column."""
        return key.scope_id if self.scope_column == "scope_id" else key.target_id


_USAGE = (
    "total_cpu", "total_gpu", "total_memory", "request_cpu", "request_gpu", "request_memory",
    "cpu_usage_rate", "gpu_usage_rate", "memory_usage_rate", "network_input_rate", "network_output_rate",
    "disk_read_rate", "disk_write_rate", "cpu_node_number", "gpu_node_number", "cpu_job_names",
    "gpu_job_names", "node_names", "cpu_node_names", "gpu_node_names",
)  # fmt: skip

SYSLOGS = Table(
    name="syslogs",
    columns=(*LIST_SYSLOGS.identity["syslogs"], "extra"),
    identity=LIST_SYSLOGS.identity["syslogs"],
    operation=LIST_SYSLOGS.name,
    scope_column="node_id",
)
USER_METRICS = Table(
    name="user_metrics",
    columns=("time", "region", "resource_group_id", "user_id", "job_type", *_USAGE, "extra", "workspace_id"),
    identity=GET_USER_VIEW_METRICS.identity["user_metrics"],
    operation=GET_USER_VIEW_METRICS.name,
    scope_column="resource_group_id",
    multiset=False,
    monthly=True,
)
RESOURCE_GROUP_METRICS = Table(
    name="resource_group_metrics",
    columns=("time", "region", "resource_group_id", "job_type", "user_count", *_USAGE, "extra", "workspace_id"),
    identity=GET_USER_VIEW_METRICS.identity["resource_group_metrics"],
    operation=GET_USER_VIEW_METRICS.name,
    scope_column="resource_group_id",
    multiset=False,
    monthly=True,
)
METRIC_POINTS = Table(
    name="metric_points",
    columns=(
        "time", "region", "source", "scope_id", "entity_id", "metric", "gpu_type", "value", "extra", "namespace",
        "period_seconds", "statistic", "dimensions", "unit", "measure",
    ),
    identity=GET_NODE_METRICS.identity["metric_points"],
    operation=GET_NODE_METRICS.name,
    scope_column="scope_id",
    multiset=False,
    sources=MappingProxyType(
        {
            GET_NODE_METRICS.name: "node_metrics",
            GET_JOB_METRICS.name: "job_metrics",
            GET_INSTANCE_METRICS.name: "dsw_metrics",
            DESCRIBE_METRIC_LIST.name: "cloud_metrics",
        }
    ),
    value_columns=("value",),
    stream_columns=MappingProxyType({DESCRIBE_METRIC_LIST.name: ("namespace", "metric", "period_seconds")}),
)  # fmt: skip
EVENTS = Table(
    name="events",
    columns=(*DESCRIBE_SERVICE_EVENT.identity["events"], "extra"),
    identity=DESCRIBE_SERVICE_EVENT.identity["events"],
    operation=DESCRIBE_SERVICE_EVENT.name,
    scope_column="scope_id",
    monthly=True,
    sources=MappingProxyType({DESCRIBE_SERVICE_EVENT.name: "eas", GET_JOB_EVENTS.name: "dlc"}),
)

# Tables of observed states: an object has a row for each state that it was seen in. `fingerprint` is a digest
# of all columns after it, so that a collector without its journal knows what was stored last.
_STATE = ("observed_at", "region", "object_id", "is_present", "fingerprint")

DIAGNOSTIC_STATES = Table(
    name="diagnostic_states",
    columns=(
        *_STATE, "cluster_id", "node_ids", "diagnostic_type", "state", "created_at", "ended_at", "results", "extra",
    ),
    identity=("observed_at", "region", "object_id"),
    operation=LIST_DIAGNOSTIC_RESULTS.name,
    scope_column="object_id",
    time_column="observed_at",
    multiset=False,
    monthly=True,
)  # fmt: skip
RESOURCE_LOG_STATES = Table(
    name="resource_log_states",
    columns=(*_STATE, "cluster_id", "resource_id", "project_name", "log_store", "status", "message", "extra"),
    identity=("observed_at", "region", "object_id"),
    operation=DESCRIBE_RESOURCE_LOG.name,
    scope_column="object_id",
    time_column="observed_at",
    multiset=False,
    monthly=True,
)
INVENTORY_STATES = Table(
    name="inventory_states",
    columns=(*_STATE, "kind", "parent_id", "name", "state", "attributes"),
    # A node and a job could have the same id.
    identity=("observed_at", "region", "object_id", "kind"),
    operation="",
    scope_column="object_id",
    time_column="observed_at",
    multiset=False,
    monthly=True,
)
DEAD_LETTERS = Table(
    name="dead_letters",
    columns=("observed_at", "operation", "region", "scope_id", "reason", "record"),
    # When it was seen is not part of it: the same record seen again by a recheck is the same dead letter.
    identity=("operation", "region", "scope_id", "reason", "record"),
    operation="",
    scope_column="scope_id",
    time_column=None,
    always_compare=True,
    monthly=True,
)
API_CALLS = Table(
    name="api_call_parts",
    columns=("minute", "region", "operation", "http_status", "code", "calls", "rows", "bytes", "cost_cny"),
    identity=(),
    operation="",
    scope_column="operation",
    time_column="minute",
    monthly=True,
)

TABLES: Mapping[str, Table] = MappingProxyType(
    {table.name: table for table in tuple(globals().values()) if isinstance(table, Table)}
)
"""Every table that is written through the journal: those above, in the order they are shipped."""
