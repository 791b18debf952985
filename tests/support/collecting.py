"""What the tests of the whole share: a simulator, an owner before it, and the truth to compare with."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from collector.errors import StoreUnavailable
from collector.owner.instance import Owner
from collector.pipeline.run import RunReport
from collector.settings import Settings
from collector.simulator.clock import SimulatorClock
from collector.simulator.server import SIMULATOR_KEY, Simulator
from collector.simulator.world import World
from collector.sources.tables import SYSLOGS
from collector.store.embedded import EmbeddedStore

NOW = 1_760_000_000
"""2025-10-09T08:53:20Z: where the simulators' clocks stand."""
SETTLE = 60
LOOKBACK = 1800

SYSLOG_COLUMNS = SYSLOGS.columns[:-1]
_WIRE = {
    "time": "Time", "receive_time": "TagReceiveTime", "cluster_id": "ClusterId", "node_id": "NodeId",
    "hostname": "Hostname", "ip": "Ip", "sn": "Sn", "facility": "Facility", "severity": "Severity",
    "syslogtag": "Syslogtag", "source": "Source", "domain": "Domain", "topic": "Topic",
    "tag_hostname": "TagHostname", "tag_pack_id": "TagPackId", "tag_path": "TagPath",
    "tag_user_defined_id": "TagUserDefinedId", "msg": "Msg",
}  # fmt: skip


def settings(folder: Path, base_url: str, **sections: Mapping[str, Any]) -> Settings:
    """A configuration before a simulator; `sections` are merged over it, section by section."""
    merged: dict[str, dict[str, Any]] = {
        "api": {"base_url": base_url},
        "store": {"path": folder / "store", "flush_interval": "200ms"},
        "journal": {"path": folder / "journal.db"},
        "sources": {
            "syslogs": {"initial_lookback": f"{LOOKBACK}s", "settle": f"{SETTLE}s", "recheck": []},
            # Tests of usage name resource groups too; those of series switch it on.
            "node_metrics": {"enabled": False},
        },
    }
    for name, values in sections.items():
        merged.setdefault(name, {}).update(values)
    return Settings(**merged)


@asynccontextmanager
async def simulator(world: World, clock: SimulatorClock | None = None, **options: Any) -> AsyncIterator[Simulator]:
    """A simulator whose clock stands still at NOW unless another is given."""
    async with Simulator(world, now=clock or SimulatorClock.frozen(NOW), **options) as running:
        yield running


async def run_once(configuration: Settings, *, key: str = SIMULATOR_KEY) -> RunReport:
    """Open everything, catch up, close, as `run --once` does."""
    async with await Owner.open(configuration, key=key) as owner:
        return await owner.once().run()


async def fetch(configuration: Settings, sql: str, parameters: Mapping[str, object] | None = None) -> list[list[Any]]:
    """Rows of one query of the store, opened for it."""
    async with await Owner.open(configuration) as owner:
        return await owner.store.fetch(sql, parameters)


def stored_columns() -> str:
    """Every field that the service sends of a log line, as SQL gives it like `as_row`."""
    times = ("time", "receive_time")
    return ", ".join(f"toUnixTimestamp({name})" if name in times else name for name in SYSLOG_COLUMNS)


async def stored_syslogs(configuration: Settings, region: str = "cn-hangzhou") -> Counter[tuple[Any, ...]]:
    """All stored log lines, every field the service sent, as a multiset."""
    sql = f"SELECT {stored_columns()} FROM syslogs WHERE region = {{r:String}}"
    rows = await fetch(configuration, sql, {"r": region})
    return Counter(tuple(row) for row in rows)


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


class Unreliable:
    """The real store, whose answers are lost or that is away, as the test says."""

    def __init__(self, store: EmbeddedStore, *, lose_answers: int = 0, away: int = 0) -> None:
        self._store = store
        self.lose_answers = lose_answers
        self.away = away
        self.inserts = 0

    async def insert(self, table: str, columns: Sequence[str], body: bytes, *, token: str) -> None:
        self.inserts += 1
        if self.away:
            self.away -= 1
            raise StoreUnavailable("away")
        await self._store.insert(table, columns, body, token=token)
        if self.lose_answers:
            self.lose_answers -= 1
            raise StoreUnavailable("stored, and the answer was lost")

    async def fetch(self, sql: str, parameters: Mapping[str, object] | None = None) -> list[list[Any]]:
        return await self._store.fetch(sql, parameters)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


async def collect_unshipped(configuration: Settings) -> None:
    """Collect what is due into the journal while the store is away."""
    async with await Owner.open(configuration, key=SIMULATOR_KEY) as owner:
        owner.store = Unreliable(owner.store, away=1_000_000)  # type: ignore[assignment, arg-type]
        with pytest.raises(StoreUnavailable):
            await owner.once().run()


def calls(running: Simulator, operation: str) -> int:
    """Calls that the simulator has counted."""
    return running.stats[operation].calls if operation in running.stats else 0


def differences(expected: Counter[Any], actual: Counter[Any]) -> Sequence[str]:
    """A short account of what is missing and what is too much; empty when nothing is."""
    missing, extra = expected - actual, actual - expected
    return [f"missing {n} x {row}" for row, n in list(missing.items())[:3]] + [
        f"extra {n} x {row}" for row, n in list(extra.items())[:3]
    ]
