"""What the tables must hold of a simulated account, to compare with what they hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from collector.simulator.world import World
from collector.sources.tables import SYSLOGS

SYSLOG_COLUMNS = SYSLOGS.columns[:-1]
_WIRE = {
    "time": "Time", "receive_time": "TagReceiveTime", "cluster_id": "ClusterId", "node_id": "NodeId",
    "hostname": "Hostname", "ip": "Ip", "sn": "Sn", "facility": "Facility", "severity": "Severity",
    "syslogtag": "Syslogtag", "source": "Source", "domain": "Domain", "topic": "Topic",
    "tag_hostname": "TagHostname", "tag_pack_id": "TagPackId", "tag_path": "TagPath",
    "tag_user_defined_id": "TagUserDefinedId", "msg": "Msg",
}  # fmt: skip


def stored_columns() -> str:
    """Every field that the service sends of a log line, as SQL gives it like `as_row`."""
    times = ("time", "receive_time")
    return ", ".join(f"toUnixTimestamp({name})" if name in times else name for name in SYSLOG_COLUMNS)


def true_syslogs(
    world: World, node_ids: Iterable[str], start: int, end: int, region: str = "cn-hangzhou"
) -> Counter[tuple[Any, ...]]:
    """What the tables must hold of `start <= time < end`, as a multiset."""
    return Counter(
        as_row(record.wire, node_id, region) for node_id in node_ids for record in world.truth(node_id, start, end)
    )


def as_row(wire: Mapping[str, Any], node_id: str, region: str = "cn-hangzhou") -> tuple[Any, ...]:
    """A record of the service as a row of `syslogs`, without `extra`."""
    values: list[Any] = []
    for column in SYSLOG_COLUMNS:
        if column == "region":
            values.append(region)
        elif column == "time":
            values.append(int(wire["Time"]))
        elif column == "receive_time":
            values.append(int(wire["TagReceiveTime"]) if wire.get("TagReceiveTime") else None)
        elif column == "node_id":
            values.append(wire.get("NodeId") or node_id)
        else:
            values.append(wire.get(_WIRE[column]) or "")
    return tuple(values)


def differences(expected: Counter[Any], actual: Counter[Any]) -> Sequence[str]:
    """A short account of what is missing and what is too much; empty when nothing is."""
    missing, extra = expected - actual, actual - expected
    return [f"missing {n} x {row}" for row, n in list(missing.items())[:3]] + [
        f"extra {n} x {row}" for row, n in list(extra.items())[:3]
    ]
