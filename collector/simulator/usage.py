"""Users of resource groups: the snapshots behind `GetUserViewMetrics`, each a pure function of the minute."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from collector.catalogue.products.pai_studio import UserViewMetric
from collector.simulator.hashing import MASK_64, key_of, mix
from collector.simulator.wire import fields_of_type, wire_record

USERS_IN_A_GROUP = (3, 40)
JOB_TYPES = ("PyTorchJob", "TFJob", "MPIJob", "RayJob", "DSW", "EAS")
_STEP = 0x9E3779B97F4A7C15
_UNIT_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600}
_CPUS_OF_A_NODE, _GPUS_OF_A_NODE, _KILOBYTES_OF_A_NODE = 192, 8, 2_147_483_648

INTEGER_FIELDS = fields_of_type(UserViewMetric, int | None)
RATE_FIELDS = fields_of_type(UserViewMetric, str | None)
"""Numbers that the service sends in strings."""
LIST_FIELDS = fields_of_type(UserViewMetric, list[str])


@dataclass(frozen=True, slots=True)
class Group:
    """One resource group: `user_count` records in a snapshot, on `node_count` machines."""

    group_id: str
    key: int
    user_count: int
    node_count: int


def machine_id(index: int) -> str:
    """The name of a group's machine with GPUs, counted from 0."""
    return f"lrn{index:04d}"


def make_groups(seed: int, count: int, users_per_group: int | None) -> tuple[Group, ...]:
    """`count` groups; without `users_per_group` each has 3 to 40 users."""
    low, high = USERS_IN_A_GROUP
    groups = []
    for index in range(count):
        key = key_of("group", seed, index)
        users = low + key % (high - low + 1) if users_per_group is None else users_per_group
        groups.append(Group(f"rgsim{index + 1:04d}", key, users, 4 + (key >> 16) % 60))
    return tuple(groups)


def parse_time_step(text: str) -> int:
    """Seconds of a time step such as `5m`; a bare number means seconds. ValueError for anything else."""
    match = re.fullmatch(r"([1-9][0-9]{0,6})([hms]?)", text)
    if match is None:
        raise ValueError(f"{text!r} is not a time step such as 5m, 1h or 30s")
    return int(match[1]) * _UNIT_SECONDS[match[2]]


def workspaces(seed: int) -> tuple[str, str]:
    """Ids of the two workspaces that users of an account's resource groups work in."""
    first = 90_001 + seed % 1000
    return str(first), str(first + 1000)


def workspace_of(seed: int, user_id: str) -> str:
    """Return the workspace that a user works in."""
    return workspaces(seed)[int(user_id) % 2]


def snapshot(group: Group, minute: int, step_seconds: int) -> dict[str, Any]:
    """The whole answer of one minute. Rates are averages over `step_seconds`, so they move with it."""
    base = mix(group.key ^ (minute * _STEP & MASK_64))
    rate_base = mix(group.key ^ (minute * 60 // max(60, step_seconds) * _STEP & MASK_64) ^ step_seconds)
    users = [_user(group, index, mix(base + index), mix(rate_base + index)) for index in range(group.user_count)]
    return {
        "ResourceGroupId": group.group_id,
        "UserMetrics": users,
        "Summary": summary(group, users),
        "Total": len(users),
    }


def _user(group: Group, index: int, h: int, rates: int) -> dict[str, Any]:
    # Each tenth record is the user before it again, with jobs of another type.
    twin = index % 10 == 9
    identity = mix(group.key + (index - 1 if twin else index))
    cpu_jobs = h & 1
    gpu_jobs = (h >> 1) % 3
    cpu_nodes = [f"eci{mix(h + place) & 0xFFFFFF:06x}" for place in range(cpu_jobs)]
    gpu_nodes = sorted({machine_id(mix(h - place) % group.node_count) for place in range(gpu_jobs)})
    gpus = len(gpu_nodes) * (1 << (h >> 8) % 4)
    memory = 4_194_304 * (1 + (h >> 20) % 200)
    return wire_record(
        UserViewMetric,
        resource_group_id=group.group_id,
        user_id=f"12{identity % 10**14:014d}",
        job_type=JOB_TYPES[((identity >> 50) + twin) % len(JOB_TYPES)],
        total_cpu=group.node_count * _CPUS_OF_A_NODE,
        total_gpu=group.node_count * _GPUS_OF_A_NODE,
        total_memory=group.node_count * _KILOBYTES_OF_A_NODE,
        request_cpu=gpus * 12 + cpu_jobs * 4,
        request_gpu=gpus,
        request_memory=memory if cpu_jobs or gpu_jobs else 0,
        cpu_usage_rate=_rate(mix(rates)),
        gpu_usage_rate=_rate(mix(rates + 1)),
        memory_usage_rate=_rate(mix(rates + 2)),
        network_input_rate=_rate(mix(rates + 3)),
        network_output_rate=_rate(mix(rates + 4)),
        disk_read_rate=_rate(mix(rates + 5)),
        disk_write_rate=_rate(mix(rates + 6)),
        cpu_node_number=len(cpu_nodes),
        gpu_node_number=len(gpu_nodes),
        cpu_job_names=[f"dlc{mix(identity + place) & 0xFFFFFFFF:08x}" for place in range(cpu_jobs)],
        gpu_job_names=[f"dlc{mix(identity - place - 1) & 0xFFFFFFFF:08x}" for place in range(gpu_jobs)],
        node_names=cpu_nodes + gpu_nodes,
        cpu_node_names=cpu_nodes,
        gpu_node_names=gpu_nodes,
    )


def _rate(h: int) -> str:
    """A number in a string, as the service writes it: with and without decimals, now and then zero."""
    tenths = h % 1001
    return "0" if not h >> 60 else f"{tenths // 10}" if not tenths % 10 else f"{tenths // 10}.{tenths % 10}"


def summary(group: Group, users: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what the service sums up of these users."""
    count = max(1, len(users))
    total: dict[str, Any] = wire_record(UserViewMetric, resource_group_id=group.group_id, user_id="", job_type="")
    for name in INTEGER_FIELDS:
        shared = name.startswith("Total")
        total[name] = max((u[name] for u in users), default=0) if shared else sum(u[name] for u in users)
    for name in RATE_FIELDS:
        total[name] = f"{sum(float(u[name]) for u in users) / count:.2f}"
    for name in LIST_FIELDS:
        total[name] = sorted({value for user in users for value in user[name]})
    return total
