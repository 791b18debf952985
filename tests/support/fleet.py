"""A small fleet with a known history, put into a store directly: what the console's pages about nodes and usage show.

Six nodes, two resource groups, three users, two jobs. Everything is a function of the moment that it ends at.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

from collector.console.period import iso
from collector.store.base import Store

END = int(time.time()) // 3600 * 3600
"""An hour that began lately: some queries ask for what is so old as of now."""
REGION = "cn-hangzhou"
CLUSTER = "cl-fleet"
GROUP, OTHER_GROUP = "rg-train", "rg-serve"
BAD, SILENT, GONE, GAPPED, UNLISTED, CALM = (
    "e01-bad", "e02-silent", "e03-gone", "e04-gapped", "e05-unlisted", "e06-calm",
)  # fmt: skip
NODES = (BAD, SILENT, GONE, GAPPED, UNLISTED, CALM)
JOB, OTHER_JOB = "dlc-pretrain", "dlc-finetune"
BUSY_USER, IDLE_USER, OTHER_USER = "1201", "1202", "1203"
XID = "NVRM: Xid (PCI:0000:3b:00): 79, pid=4711, name=python3, GPU has fallen off the bus."
ECC = "NVRM: Xid (PCI:0000:5e:00): 63, pid=0, Row remapping event: rows will be remapped at next reset."
OOM = "Out of memory: Killed process 4712 (python3) total-vm:1kB, anon-rss:1kB, file-rss:0kB"
CALM_LINE = "systemd[1]: Started Session 12 of user root."
HOUR, MINUTE, STEP = 3600, 60, 300
HOURS = 6
"""The history begins so long before its end."""
RANGE = f"from={END - HOURS * HOUR}&until={END}"
"""All of it, as it stands in addresses."""
FAULT_BEFORE = 2 * HOUR
"""The GPU of BAD fell off the bus so long before the end."""
SILENT_SECONDS = 3 * HOUR
GAP = (3 * HOUR, 2 * HOUR + 1800)
"""GAPPED is not covered between these two, before the end."""


def hostname(node_id: str) -> str:
    return f"host-{node_id[:3]}"


async def fill(store: Store, end: int, *, markup: str = "") -> None:
    """Insert the fleet's last HOURS before `end`, seconds since the epoch; `markup` stands in every free text."""
    tables = {
        "syslogs": _syslogs(end, markup),
        "inventory_states": _inventory(end, markup),
        "watermark_states": _watermarks(end),
        "gap_states": _gaps(end, markup),
        "metric_points": _metrics(end),
        "events": _events(end, markup),
        "diagnostic_states": _diagnostics(end, markup),
        "user_metrics": _usage(end),
        "resource_group_metrics": _groups(end),
    }
    for table, (columns, rows) in tables.items():
        body = "\n".join(json.dumps(row) for row in rows).encode()
        await store.insert(table, columns, body, token=f"fleet {table}")


Rows = tuple[Sequence[str], list[list[Any]]]


def _syslogs(end: int, markup: str) -> Rows:
    columns = ("time", "region", "cluster_id", "node_id", "hostname", "severity", "syslogtag", "msg")
    rows = []
    for place, node in enumerate(NODES):
        last = end - (SILENT_SECONDS if node == SILENT else 5 * HOUR if node == GONE else 0)
        for second in range(end - HOURS * HOUR + place, last, 60):
            if node == GAPPED and end - GAP[0] <= second < end - GAP[1]:
                continue
            rows.append([second, REGION, CLUSTER, node, hostname(node), "info", "systemd", CALM_LINE + markup])
    told = [(BAD, FAULT_BEFORE - 30 * place, XID) for place in range(4)]
    told += [(BAD, HOUR, OOM), (CALM, 4 * HOUR, ECC), (UNLISTED, 1800, OOM)]
    for node, before, message in told:
        rows.append([end - before, REGION, CLUSTER, node, hostname(node), "err", "kernel", message + markup])
    return columns, rows


def _inventory(end: int, markup: str) -> Rows:
    columns = (
        "observed_at", "region", "object_id", "is_present", "fingerprint", "kind", "parent_id", "name", "state",
        "attributes",
    )  # fmt: skip
    start = end - HOURS * HOUR
    rows: list[list[Any]] = []
    for place, node in enumerate(NODES):
        if node == UNLISTED:
            continue
        attributes = json.dumps({"MachineType": "efg1.nvga1" + markup, "ZoneId": "cn-hangzhou-b"})
        state = "Using" if node != CALM else "Unused"
        rows.append([start, REGION, node, 1, place, "node", CLUSTER, hostname(node), state, attributes])
    rows.append([end - 5 * HOUR, REGION, GONE, 0, 99, "node", CLUSTER, hostname(GONE), "Using", "{}"])
    for job, user, state, node in ((JOB, BUSY_USER, "Failed", BAD), (OTHER_JOB, OTHER_USER, "Running", CALM)):
        attributes = json.dumps(
            {
                "JobType": "PyTorchJob", "UserId": user, "ResourceId": GROUP, "RequestGPU": "8", "RequestCPU": "96",
                "GmtRunningTime": iso(end - 5 * HOUR), "GmtCreateTime": iso(end - 5 * HOUR - 60),
                **({"GmtFailedTime": iso(end - FAULT_BEFORE + 120)} if state == "Failed" else {}),
                "Pods": [{"PodId": f"{job}-worker-0", "NodeName": node}],
            }
        )  # fmt: skip
        rows.append([end - HOUR, REGION, job, 1, 7, "job", "ws-1", f"name of {job}{markup}", state, attributes])
    return columns, rows


def _watermarks(end: int) -> Rows:
    columns = ("operation", "region", "scope_id", "collected_from", "watermark", "updated_at", "generation")
    start = end - HOURS * HOUR
    rows = [["ListSyslogs", REGION, node, start, end - 60, end, 0] for node in NODES]
    return columns, rows


def _gaps(end: int, markup: str) -> Rows:
    columns = ("operation", "region", "scope_id", "start", "end", "reason", "state", "updated_at")
    return columns, [
        ["ListSyslogs", REGION, GAPPED, end - GAP[0], end - GAP[1], "the service had dropped it" + markup, "open", end]
    ]


def _metrics(end: int) -> Rows:
    columns = ("time", "region", "source", "scope_id", "entity_id", "metric", "gpu_type", "value")
    rows = []
    for second in range(end - HOURS * HOUR, end, STEP):
        for place, node in enumerate((BAD, GAPPED, CALM)):
            if node == BAD and second > end - FAULT_BEFORE:
                continue
            for number, (metric, gpu) in enumerate(
                [("GpuUsageRate", "H800"), ("CpuUsageRate", ""), ("MemoryUsageRate", ""), ("NetworkInputRate", "")]
            ):
                value = 20 + 10 * place + 5 * number + second // STEP % 7
                rows.append([second, REGION, "node_metrics", GROUP, node, metric, gpu, value])
    return columns, rows


def _events(end: int, markup: str) -> Rows:
    columns = ("time", "region", "source", "scope_id", "entity_id", "event_id", "event_type", "reason", "content")
    failed = end - FAULT_BEFORE + 120
    return columns, [
        [end - 5 * HOUR, REGION, "dlc", JOB, JOB, "1", "Normal", "Started", f"worker-0 runs on {BAD}{markup}"],
        [failed, REGION, "dlc", JOB, JOB, "2", "Warning", "PodFailed", f"worker-0 exited with code 137{markup}"],
        [failed, REGION, "eas", "cn/other", "other", "3", "Warning", "Unhealthy", "of a service elsewhere"],
    ]


def _diagnostics(end: int, markup: str) -> Rows:
    columns = (
        "observed_at", "region", "object_id", "is_present", "fingerprint", "cluster_id", "node_ids", "diagnostic_type",
        "state", "created_at", "ended_at", "results",
    )  # fmt: skip
    began = end - HOUR
    results = json.dumps([{"NodeId": BAD, "Item": "GpuXid", "Result": "Fault", "Detail": "outside" + markup}])
    return columns, [
        [end, REGION, "diag-1", 1, 1, CLUSTER, [BAD], "NodeCheck", "Fault", began, began + 300, results],
    ]  # fmt: skip


_USERS = (
    (GROUP, BUSY_USER, 8, 80.0, [JOB], [BAD]),
    (GROUP, OTHER_USER, 8, 60.0, [OTHER_JOB], [CALM]),
    (OTHER_GROUP, IDLE_USER, 4, 1.0, ["dlc-forgotten"], [GAPPED]),
)
"""Group, user, GPUs asked for, percent used, jobs, nodes."""


def _usage(end: int) -> Rows:
    columns = (
        "time", "region", "resource_group_id", "user_id", "job_type", "total_gpu", "request_gpu", "gpu_usage_rate",
        "request_cpu", "cpu_usage_rate", "gpu_job_names", "node_names", "gpu_node_names",
    )  # fmt: skip
    rows = []
    for second in range(end - HOURS * HOUR, end, MINUTE):
        for group, user, gpus, rate, jobs, nodes in _USERS:
            if user == BUSY_USER and second > end - FAULT_BEFORE + 120:
                continue
            rows.append(
                [second, REGION, group, user, "PyTorchJob", 64, gpus, rate, gpus * 12, 30.0, jobs, nodes, nodes]
            )
    return columns, rows


def _groups(end: int) -> Rows:
    columns = ("time", "region", "resource_group_id", "user_count", "total_gpu", "request_gpu", "total_cpu")
    ticks = range(end - HOURS * HOUR, end, MINUTE)
    return columns, [[second, REGION, group, 2, 64, 16, 768] for second in ticks for group in (GROUP, OTHER_GROUP)]
