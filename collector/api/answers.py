"""Types of the operations' answers, field by field as the services spell them.

A record type refuses unknown fields on purpose: a record that is not exactly of its type takes
the tolerant path (`collector.sources.records`), where an unknown field is kept in `extra` and a
number in a string becomes a number. The common case pays nothing for that.
"""

from __future__ import annotations

import msgspec


class Answer(msgspec.Struct, rename="pascal"):
    """What every answer may carry beside its records."""

    request_id: str | None = None
    code: str | None = None
    message: str | None = None


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


class UserViewMetric(msgspec.Struct, forbid_unknown_fields=True):
    """PaiStudio `UserViewMetric`: usage of one user in a resource group. Rates are numbers in strings."""

    resource_group_id: str = msgspec.field(default="", name="ResourceGroupId")
    user_id: str = msgspec.field(default="", name="UserId")
    job_type: str = msgspec.field(default="", name="JobType")
    total_cpu: int | None = msgspec.field(default=None, name="TotalCPU")
    total_gpu: int | None = msgspec.field(default=None, name="TotalGPU")
    total_memory: int | None = msgspec.field(default=None, name="TotalMemory")
    request_cpu: int | None = msgspec.field(default=None, name="RequestCPU")
    request_gpu: int | None = msgspec.field(default=None, name="RequestGPU")
    request_memory: int | None = msgspec.field(default=None, name="RequestMemory")
    cpu_usage_rate: str | None = msgspec.field(default=None, name="CPUUsageRate")
    gpu_usage_rate: str | None = msgspec.field(default=None, name="GPUUsageRate")
    memory_usage_rate: str | None = msgspec.field(default=None, name="MemoryUsageRate")
    network_input_rate: str | None = msgspec.field(default=None, name="NetworkInputRate")
    network_output_rate: str | None = msgspec.field(default=None, name="NetworkOutputRate")
    disk_read_rate: str | None = msgspec.field(default=None, name="DiskReadRate")
    disk_write_rate: str | None = msgspec.field(default=None, name="DiskWriteRate")
    cpu_node_number: int | None = msgspec.field(default=None, name="CPUNodeNumber")
    gpu_node_number: int | None = msgspec.field(default=None, name="GPUNodeNumber")
    cpu_job_names: list[str] = msgspec.field(default_factory=list, name="CpuJobNames")
    gpu_job_names: list[str] = msgspec.field(default_factory=list, name="GpuJobNames")
    node_names: list[str] = msgspec.field(default_factory=list, name="NodeNames")
    cpu_node_names: list[str] = msgspec.field(default_factory=list, name="CpuNodeNames")
    gpu_node_names: list[str] = msgspec.field(default_factory=list, name="GpuNodeNames")


class GetUserViewMetricsAnswer(Answer, rename="pascal"):
    """PaiStudio `GetUserViewMetrics`: one page of a snapshot. It carries no time and no request id."""

    resource_group_id: str | None = None
    user_metrics: list[UserViewMetric] | None = None
    summary: UserViewMetric | None = None
    total: int | None = None
