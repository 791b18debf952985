"""`preview`: one page of a source as rows, with nothing stored but the meter of its call."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from collector.cli.exits import ExitStatus
from collector.journal.reading import reading
from collector.simulator.credentials import Credentials
from collector.simulator.server import SIMULATOR_KEY, Simulator
from collector.simulator.world import World
from collector.sources.tables import SYSLOGS, TABLES
from tests.support import NOW, SETTLE, calls, configuration, simulator
from tests.support.range_commands import answer
from tests.support.sessions import session
from tests.support.warm_commands import Ran, run_command

WAIT_SECONDS_MAX = 180.0
WORLD = World(5, 2, 1, lines_per_second=1.0, bursts=False)
TOML = """
[api]
base_url = "{base_url}"
[store]
path = "{folder}/store"
[journal]
path = "{folder}/journal.db"
[targets]
nodes = {nodes}
[sources.syslogs]
settle = "60s"
"""


async def command(folder: Path, api: Simulator, *words: str) -> Ran:
    """Run `preview` in a process of its own."""
    path = folder / "collector.toml"
    path.write_text(TOML.format(base_url=api.base_url, folder=folder, nodes=WORLD.node_ids))
    environ = {"PATH": os.environ["PATH"], "DASHSCOPE_API_KEY": SIMULATOR_KEY}
    return await run_command(["--config", str(path), "preview", *words], environ, folder, WAIT_SECONDS_MAX)


async def test_every_source_shows_the_rows_of_a_page(tmp_path: Path) -> None:
    """Also one that is switched off; each row has the columns of its table, and each costs one call."""
    async with simulator(World(7, 4, 2)) as api:
        account = api.backend.account
        config = configuration(
            tmp_path, api.base_url,
            targets={
                "nodes": api.world.node_ids, "resource_groups": account.group_ids, "jobs": account.job_ids(NOW)[:2],
                "instances": account.instance_ids, "services": account.service_ids, "clusters": account.cluster_ids,
                "eas_resources": account.eas_resource_ids, "discover": ["jobs"],
            },
        )  # fmt: skip
        async with session(config, key=SIMULATOR_KEY) as owner:
            # What CloudMonitor has is known once it has been listed: tests/integration/test_cloud_metrics.py.
            for name in type(config.sources).model_fields.keys() - {"cloud_metrics"}:
                before = sum(stats.calls for stats in api.stats.values())
                told = await answer(owner, "preview", {"source": name, "scope": "", "seconds": 3600})
                assert sum(stats.calls for stats in api.stats.values()) == before + 1
                assert told["tables"], name
                for table in told["tables"]:
                    assert table["columns"] == list(TABLES[table["table"]].columns)
                    assert table["rows"] or name in ("job_metrics", "events"), name
                    assert all(len(row) == len(table["columns"]) for row in table["rows"])
            job = account.job_ids(NOW)[1]
            told = await answer(owner, "preview", {"source": "events", "scope": job, "seconds": 3600})
            assert (told["scope_id"], told["operation"]) == (job, "GetJobEvents")


async def test_the_rows_are_those_that_would_be_stored_and_none_is(tmp_path: Path) -> None:
    """The first page of the last minutes, without a store; the journal knows the call and no stream."""
    async with simulator(WORLD) as api:
        config = configuration(tmp_path, api.base_url, targets={"nodes": WORLD.node_ids})
        node = WORLD.node_ids[1]
        async with session(config, key=SIMULATOR_KEY) as owner:
            told = await answer(owner, "preview", {"source": "syslogs", "scope": node, "seconds": 60})
        assert calls(api, "ListSyslogs") == 1
    (table,) = told["tables"]
    truth = WORLD.truth(node, NOW - SETTLE - 60, NOW - SETTLE)[: len(table["rows"])]
    columns = [SYSLOGS.columns.index(name) for name in ("time", "node_id", "msg")]
    assert [[row[i] for i in columns] for row in table["rows"]] == [
        [record.time, node, record.wire["Msg"]] for record in truth
    ]
    assert (told["cost"], told["has_more"]) == ("free (1 of 1,000 free calls this month)", False)
    assert not (tmp_path / "store").exists()
    with reading(tmp_path / "journal.db") as db:
        assert db.execute("SELECT count(*) FROM streams").fetchone() == (0,)
        assert db.execute("SELECT operation, calls FROM months WHERE calls > 0").fetchall() == [("ListSyslogs", 1)]


async def test_a_table_for_people_and_json_for_programs(tmp_path: Path) -> None:
    """Times as such, columns that nothing fills only named, the price in the last line."""
    async with simulator(WORLD) as api:
        table = await command(tmp_path, api, "syslogs", "--last", "5m")
        document = await command(tmp_path, api, "syslogs", "--last", "5m", "--json")

    assert (table.status, document.status) == (0, 0)
    title, heads, first, *_, where, last = table.stdout.decode().splitlines()
    assert title == "syslogs: 100 rows; empty: extra"
    assert heads.split()[:3] == ["time", "receive_time", "region"]
    assert first.startswith("2025-10-09T08:47:2")
    span = "2025-10-09T08:47:20Z to 2025-10-09T08:52:20Z"
    assert where == f"syslogs of {WORLD.node_ids[0]}, {span}; there are more pages"
    assert last == "nothing is stored; one call of ListSyslogs: free (1 of 1,000 free calls this month)"
    told = json.loads(document.stdout)
    assert len(told["tables"]["syslogs"]) == 100
    assert told["tables"]["syslogs"][0]["time"] == first.split()[0]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["syslog"], "got source 'syslog'; expected one of syslogs, user_metrics, node_metrics"),
        (["user_metrics"], "user_metrics watches nothing: it needs targets.resource_groups"),
        (
            ["syslogs", "--scope", "i-1"],
            "--scope: got 'i-1', which is no target of syslogs; it has " + WORLD.node_ids[0],
        ),
        (["syslogs", "--last", "soon"], "--last: "),
    ],
)
async def test_a_wrong_name_is_told_what_there_is(tmp_path: Path, words: list[str], said: str) -> None:
    """As usage, before anything is asked."""
    async with simulator(WORLD) as api:
        ended = await command(tmp_path, api, *words)

        assert ended.status == ExitStatus.USAGE
        assert said in ended.stderr
        assert sum(stats.calls for stats in api.stats.values()) == 0


async def test_what_the_service_refuses_is_told_as_by_other_commands(tmp_path: Path) -> None:
    """With the status of a refused key."""
    async with simulator(WORLD, credentials=Credentials(key="another")) as api:
        ended = await command(tmp_path, api, "syslogs")

    assert ended.status == ExitStatus.CREDENTIALS
    assert ended.stdout == b""
