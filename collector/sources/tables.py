"""The tables that sources fill: columns in insert order, and what makes two rows the same row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from collector.api.operations import GET_USER_VIEW_METRICS, LIST_SYSLOGS

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

    @property
    def scope_index(self) -> int:
        return self.columns.index(self.scope_column)


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
    columns=("time", "region", "resource_group_id", "user_id", "job_type", *_USAGE, "extra"),
    identity=GET_USER_VIEW_METRICS.identity["user_metrics"],
    operation=GET_USER_VIEW_METRICS.name,
    scope_column="resource_group_id",
    multiset=False,
    monthly=True,
)
RESOURCE_GROUP_METRICS = Table(
    name="resource_group_metrics",
    columns=("time", "region", "resource_group_id", "job_type", "user_count", *_USAGE, "extra"),
    identity=GET_USER_VIEW_METRICS.identity["resource_group_metrics"],
    operation=GET_USER_VIEW_METRICS.name,
    scope_column="resource_group_id",
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
    {table.name: table for table in (SYSLOGS, USER_METRICS, RESOURCE_GROUP_METRICS, DEAD_LETTERS, API_CALLS)}
)
"""Every table that is written through the journal, in the order they are shipped."""
