"""The cluster: which processes collect together, and what this one runs with."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import pytest

from collector import __version__
from collector.errors import StoreUnavailable
from collector.owner.journals import FRESH_SECONDS, JournalState, KnownJournal, write_journals
from collector.settings import Settings
from collector.shares import Share
from collector.store.embedded import EmbeddedStore
from tests.support import NOW, settings
from tests.support.console_pages import served
from tests.support.virtual_clock import ManualClock

REGION = "cn-hangzhou"


def known(id: str, shard: str, state: JournalState = JournalState.COLLECTING, age: int = 5) -> KnownJournal:
    index, _, of = shard.partition("/")
    return KnownJournal(id, REGION, Share(int(index), int(of)), state, NOW - age, f"host-of-{id}", (NOW - age) * 1000)


def facts(table: Any) -> dict[str, str]:
    return {row["what"]: row["value"] for row in table["rows"]}


async def test_one_process_alone_says_so(configuration: Settings) -> None:
    """In a sentence; it has all of each quota, and no heartbeat, because nobody else could read one."""
    async with served(configuration, clock=ManualClock(NOW)) as console:
        await console.owner.membership.join()
        told = await console.json("/cluster")
        assert told["told"] == "One process collects everything: this one, with the whole of each quota."
        (row,) = told["shards"]["rows"]
        assert (row["shard"], row["state"], row["version"], row["quota_percent"]) == ("0/1", "alive", __version__, 100)
        assert row["heartbeat_age_seconds"] is None
        assert "One process collects everything" in (await console.html("/cluster")).to_text()


async def test_shards_are_told_apart_by_their_heartbeats(tmp_path: Path, store: EmbeddedStore) -> None:
    """Alive, silent, missing, and those that ended; this process is marked, and says its part of each quota."""
    made = settings(tmp_path, "http://127.0.0.1:1", targets={"nodes": ["node-a"]}).model_copy(update={"shard": "1/4"})
    async with served(made, store=store, clock=ManualClock(NOW)) as console:
        await console.owner.membership.join()
        await write_journals(
            store,
            [
                known("zero", "0/4"),
                known("two", "2/4", age=FRESH_SECONDS + 60),
                known("old", "0/2", JournalState.DRAINED, 9000),
                known("full", "1/2", JournalState.HOLDING, 9000),
                known("lost", "0/1", JournalState.FORGOTTEN, 9999),
            ],
        )
        told = await console.json("/cluster")
        assert "shard 1/4" in told["told"]
        assert told["told"].endswith("2 of 4 shards are alive.")
        rows = [(row["shard"], row["state"], row["is_this"]) for row in told["shards"]["rows"]]
        assert rows == [
            ("0/4", "alive", False),
            ("1/4", "alive", True),
            ("3/4", "missing", False),
            ("2/4", "silent", False),
            ("1/2", "holding", False),
            ("0/2", "drained", False),
            ("0/1", "forgotten", False),
        ]
        ages = {row["shard"]: row["heartbeat_age_seconds"] for row in told["shards"]["rows"]}
        assert (ages["2/4"], ages["3/4"]) == (FRESH_SECONDS + 60, None)
        (quota,) = (row for row in told["quotas"]["rows"] if row["operation"] == "ListSyslogs")
        assert quota["part_per_second"] == Share(1, 4).part(quota["account_per_second"])
        versions = {row["shard"]: row["version"] for row in told["shards"]["rows"]}
        assert (versions["1/4"], versions["0/4"]) == (__version__, None)


async def test_this_process_says_what_it_runs_with(configuration: Settings) -> None:
    """Store and its version, bounds of memory, clock and versions."""
    async with served(configuration, clock=ManualClock(NOW)) as console:
        told = await console.json("/cluster")
        store = facts(told["store"])
        assert store["location"] == str(configuration.store.path)
        assert store["kind"].startswith("embedded engine")
        assert store["tables"].startswith("version ")
        assert facts(told["memory"]).keys() >= {"limit", "engine", "pages", "most used so far"}
        clock = facts(told["clock"])
        assert (clock["time"], clock["source"], clock["offset"]) == ("2025-10-09T08:53:20Z", "machine", "+0.0 s")
        versions = facts(told["versions"])
        assert (versions["pai-collector"], versions["Python"]) == (__version__, platform.python_version())
        assert versions["ClickHouse"][0].isdigit()


async def test_journals_that_cannot_be_read_are_not_none(
    configuration: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table says why; what this process knows of itself is there."""
    async with served(configuration, clock=ManualClock(NOW)) as console:

        async def fetch(*arguments: object) -> object:
            raise StoreUnavailable("the disk is away")

        monkeypatch.setattr(console.owner.store, "fetch", fetch)
        told = await console.json("/cluster")
        assert told["shards"]["failure"] == "the store cannot be read: the disk is away"
        assert "the disk is away" in (await console.html("/cluster")).to_text()
        assert told["memory"]["rows"]
