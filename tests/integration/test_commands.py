"""The command line as a user runs it: every command in a process of its own, against a simulator in another."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
import pyarrow.parquet as parquet
import pytest

from collector.errors import JournalError, UsageError
from collector.journal.inspect import contents
from collector.owner.instance import Owner
from collector.settings import load
from collector.simulator.process import SimulatorProcess, simulator_process
from collector.simulator.server import SIMULATOR_KEY
from collector.simulator.world import World
from tests.support import LOOKBACK, NOW, SETTLE, differences, stored_syslogs, true_syslogs
from tests.support.sessions import listening
from tests.support.warm_commands import run_command

SEED = 11
NODES = 3
LINES_PER_SECOND = 2.0
CANARY = "sk-canary-5e1f0a9c77d24b"
TESTDATA = Path(__file__).parents[1] / "testdata"
MIGRATIONS = Path(__file__).parents[2] / "sql" / "migrations"
WAIT_SECONDS_MAX = 180.0
IN_FLIGHT_MAX = NODES + 1
"""A stopped process has at most one call of each node and group on its way."""


# Running commands


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended, and what it said."""

    status: int
    stdout: bytes
    stderr: str

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)

    @property
    def lines(self) -> list[dict[str, Any]]:
        """stderr, which must hold JSON objects only."""
        objects = [json.loads(line) for line in self.stderr.splitlines()]
        assert all(isinstance(line, dict) for line in objects)
        return objects

    def said(self, word: str) -> list[str]:
        """The console lines of stderr that begin with `word`."""
        return [line for line in self.stderr.splitlines() if line.startswith(f"{word}: ")]


def environment(key: str | None) -> Mapping[str, str]:
    """The machine's, without anything that configures the collector; `key` is the API key."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PAI_COLLECTOR", "DASHSCOPE"))}
    return kept if key is None else kept | {"DASHSCOPE_API_KEY": key}


async def started(*arguments: object, key: str | None = SIMULATOR_KEY, folder: Path | None = None) -> Any:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell that runs the tests in its background has them ignore Ctrl-C, and every child would inherit that.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "collector", *map(str, arguments), env=environment(key), cwd=folder,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def ended(process: Any) -> Ended:
    try:
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            stdout, stderr = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            # To the end of its pipes, or they would be closed after the event loop is.
            await process.communicate()
    return Ended(process.returncode, stdout, stderr.decode())


async def command(*arguments: object, key: str | None = SIMULATOR_KEY, folder: Path | None = None) -> Ended:
    """Run one command line to its end."""
    ran = await run_command([*map(str, arguments)], environment(key), folder, WAIT_SECONDS_MAX)
    return Ended(*ran)


# Worlds and configurations


def world() -> World:
    return World(SEED, NODES, 1, lines_per_second=LINES_PER_SECOND, bursts=False)


def simulated(*arguments: str) -> contextlib.AbstractAsyncContextManager[SimulatorProcess]:
    """A simulator of `world()` whose clock stands still."""
    return simulator_process(
        "--seed", str(SEED), "--nodes", str(NODES), "--groups", "1", "--no-bursts",
        "--lines-per-second", str(LINES_PER_SECOND), "--start", str(NOW), "--rate", "0", *arguments,
    )  # fmt: skip


def configured(folder: Path, base_url: str, *, lookback: int = LOOKBACK, nodes: list[str] | None = None) -> Path:
    """A configuration for `world()`, or for other nodes."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "collector.toml"
    path.write_text(
        f"""
        [api]
        base_url = "{base_url}"
        [store]
        flush_interval = "300ms"
        [targets]
        nodes = {nodes or world().node_ids}
        resource_groups = {world().group_ids}
        [sources.syslogs]
        initial_lookback = "{lookback}s"
        settle = "{SETTLE}s"
        recheck = []
        [sources.node_metrics]
        enabled = false
        """
    )
    return path


async def calls(api: SimulatorProcess) -> int:
    return sum(stats["calls"] for stats in (await api.told("stats")).values())


@contextlib.asynccontextmanager
async def run_under_way(path: Path, api: SimulatorProcess) -> AsyncIterator[Any]:
    """A `run --once` that the service has seen calls of; killed after the body if it still runs."""
    process = await started("run", "--once", "--config", path, "--log-format", "json")
    try:
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            while process.returncode is None and not await calls(api):
                await asyncio.sleep(0.05)
        assert process.returncode is None
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


# demo


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ended]:
    """A demo that has run once; its folder, and how it ended."""
    folder = tmp_path_factory.mktemp("demo") / "D"
    done = subprocess.run(
        [sys.executable, "-m", "collector", "demo", "--dir", folder, "--nodes", "3", "--minutes", "18"],
        env=environment(None), capture_output=True, timeout=180, check=False,
    )  # fmt: skip
    return folder, Ended(done.returncode, done.stdout, done.stderr.decode())


def assert_demonstrated(done: Ended) -> None:
    assert (done.status, done.stderr) == (0, "")
    text = done.stdout.decode()
    for title in ("Rows in the store", "Top faults", "Usage by user", "Freshness", "Spend", "Try next:"):
        assert f"\n{title}" in text
    counted = re.search(r"the service counted: ([\d,]+); the meter says ([\d,]+)\.", text)
    assert counted is not None
    assert counted[1] == counted[2]
    assert "going too fast: 0." in text


async def test_a_demo_needs_no_key_and_leaves_a_store_that_answers(demo: tuple[Path, Ended]) -> None:
    """It shows its tables, and the number of rows it shows is what a query of its store finds."""
    folder, done = demo
    assert_demonstrated(done)
    shown = re.search(r"^syslogs +(\d+)", done.stdout.decode(), re.MULTILINE)
    config = folder / "collector.toml"
    asked = await command("query", "SELECT count() AS n FROM syslogs", "--format", "json", "--config", config, key=None)
    assert asked.status == 0
    assert shown is not None
    assert asked.json == [{"n": int(shown[1])}]


async def test_a_demo_lives_through_all_of_its_minutes(demo: tuple[Path, Ended]) -> None:
    """Every node is collected up to the last one, with the lines that came late, and no snapshot is missed."""
    folder, done = demo
    assert "Late lines found behind the watermark by the recheck: 25 of 25." in done.stdout.decode()
    sql = (
        "SELECT dateDiff('minute', min(collected_from), min(watermark)) AS minutes FROM watermarks"
        " WHERE operation = 'ListSyslogs'"
    )
    asked = await command("query", sql, "--format", "json", "--config", folder / "collector.toml", key=None)
    assert asked.json[0]["minutes"] >= 18
    asked = await command("gaps", "--config", folder / "collector.toml", key=None)
    assert asked.stdout.decode().startswith("Nothing is missing")


@pytest.mark.slow("commands as processes")
async def test_a_demo_runs_again_in_its_folder(tmp_path: Path) -> None:
    """The second one begins anew: nothing of the first is counted twice."""
    for _ in range(2):
        assert_demonstrated(await command("demo", "--dir", tmp_path / "D", "--nodes", 1, "--minutes", 1, key=None))


async def test_a_demo_that_goes_on_serves_console_and_sql_from_its_first_line(tmp_path: Path) -> None:
    """Both answer while the minutes are lived through and after them; Ctrl-C ends it well."""
    process = await started("demo", "--dir", tmp_path / "D", "--nodes", 1, "--minutes", 2, "--keep-running")
    assert process.stdout is not None
    try:
        async with asyncio.timeout(WAIT_SECONDS_MAX), aiohttp.ClientSession() as client:
            served: dict[str, str] = {}
            async for line in process.stdout:
                name, _, address = line.decode().strip().partition(": ")
                if address.startswith("http://127.0.0.1:"):
                    served[name] = address
                    if len(served) == 2:
                        assert await fetched(client, served["SQL, for ClickHouse's clients"], query="SELECT 1") == "1\n"
                        assert "is_well" in await fetched(client, served["Console"] + ".json")
                if line.startswith(b"Collecting on"):
                    break
            sources: list[Any] = []
            while not sources:
                sources = json.loads(await fetched(client, served["Console"] + ".json"))["sources"]["rows"]
            assert {source["source"] for source in sources} >= {"syslogs", "user_metrics"}
        process.send_signal(signal.SIGINT)
        await asyncio.wait_for(process.communicate(), WAIT_SECONDS_MAX)
        assert process.returncode == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def fetched(client: aiohttp.ClientSession, url: str, **query: str) -> str:
    async with client.get(url, params=query) as answer:
        assert answer.status == 200
        return await answer.text()


async def test_a_demo_refuses_a_folder_with_other_files(tmp_path: Path) -> None:
    """Whatever else lies in a folder stays as it is, and nothing is added."""
    (tmp_path / "thesis.txt").write_text("mine")
    refused = await command("demo", "--dir", tmp_path, "--log-format", "console")
    assert refused.status == 2
    assert refused.said("error") == [f"error: --dir: {tmp_path} holds other files"]
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


# init and check


async def test_init_writes_a_configuration_that_check_accepts(tmp_path: Path) -> None:
    """It is found in the folder by itself, needs no key to be read, and is never overwritten."""
    assert (await command("init", folder=tmp_path)).status == 0
    before = (tmp_path / "collector.toml").read_bytes()
    checked, again = await asyncio.gather(
        command("check", "--offline", folder=tmp_path, key=None), command("init", folder=tmp_path)
    )
    assert (checked.status, checked.stderr) == (0, "")
    assert b"valid" in checked.stdout
    assert again.status == 2
    assert (tmp_path / "collector.toml").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["collector.toml"]


async def test_five_mistakes_are_five_lines(tmp_path: Path) -> None:
    """All of them are told at once, with exit 2; nothing is created and no secret repeated."""
    path = tmp_path / "collector.toml"
    path.write_bytes((TESTDATA / "config" / "five_mistakes.bad.toml").read_bytes())
    refused = await command("run", "--once", "--config", path, "--log-format", "console")
    assert refused.status == 2
    assert len(refused.said("error")) == 5
    assert len(refused.stderr.splitlines()) == 5
    assert "sk-0123456789abcdef" not in refused.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["collector.toml"]


@pytest.mark.parametrize("name", ["run", "check"])
async def test_a_missing_key_is_a_usage_error(tmp_path: Path, name: str) -> None:
    """The message names the variable; nothing is created."""
    path = configured(tmp_path, "http://127.0.0.1:9")
    arguments = ["run", "--once"] if name == "run" else ["check"]
    refused = await command(*arguments, "--config", path, "--log-format", "console", key=None)
    assert refused.status == 2
    assert refused.said("error") == ["error: DASHSCOPE_API_KEY: not set; expected the API key of the account"]
    assert [file.name for file in tmp_path.iterdir()] == ["collector.toml"]


# run --once


@pytest.mark.slow("commands as processes")
async def test_a_second_run_at_the_same_time_of_day_stores_nothing(tmp_path: Path) -> None:
    """The first stores all there is, the second finds every stream caught up and asks only what it must."""
    async with simulated() as api:
        path = configured(tmp_path, api.base_url)
        first = await command("run", "--once", "--json", "--config", path)
        calls_first = await calls(api)
        second = await command("run", "--once", "--json", "--config", path)
        calls_second = await calls(api) - calls_first
        truth = true_syslogs(world(), world().node_ids, NOW - LOOKBACK, NOW - SETTLE)
        assert first.status == second.status == 0
        assert first.json["rows_stored"]["syslogs"] == truth.total()
        assert first.json["streams"] == NODES + 1
        assert first.json["streams_failed"] == 0
        assert first.json["failures"] == []
        assert sum(first.json["calls"].values()) == calls_first
        assert sum(second.json["rows_stored"].values()) == 0
        assert sum(second.json["calls"].values()) == calls_second == 0
        assert not differences(truth, await stored_syslogs(load(path, {})))


@pytest.mark.parametrize("accepted", [True, False], ids=["accepted", "refused"])
@pytest.mark.slow("commands as processes", fast=("accepted",))
async def test_the_key_is_nowhere(tmp_path: Path, accepted: bool) -> None:
    """Logs at their most talkative, journal and store never hold it; a refused one costs three calls at most."""
    sim = ("--seed", str(SEED), "--nodes", "20", "--lines-per-second", "0.05", "--start", str(NOW), "--rate", "0")
    talkative = ("--debug", "--log-level", "debug", "--log-format", "json")
    async with simulator_process(*sim, "--key", CANARY if accepted else "sk-another") as api:
        path = configured(tmp_path, api.base_url, nodes=World(SEED, 20, 1).node_ids)
        done = await command("run", "--once", "--config", path, *talkative, key=CANARY)
        made = await calls(api)
        checked = await command("check", "--config", path, *talkative, key=CANARY)
    assert done.status == checked.status == (0 if accepted else 3)
    assert made > 20 if accepted else 1 <= made <= 3
    for said in (done, checked):
        assert CANARY not in said.stderr
        assert CANARY.encode() not in said.stdout
    assert done.stderr
    files = [file for file in (tmp_path / "data").rglob("*") if file.is_file()]
    assert tmp_path / "data" / "journal.db" in files
    assert len(files) > 5
    assert [file for file in files if CANARY.encode() in file.read_bytes()] == []


# Beside a run


@pytest.mark.parametrize("name", ["short", "long-" + "x" * 130])
@pytest.mark.slow("commands as processes")
async def test_status_and_query_work_beside_a_run_and_a_second_run_does_not(tmp_path: Path, name: str) -> None:
    """Both are answered through the runner's socket, which is its user's alone; a second owner is sent away."""
    async with simulated("--latency", "0.3", "0.5") as api:
        path = configured(tmp_path / name, api.base_url)
        async with run_under_way(path, api) as running:
            data = path.parent / "data"
            mode = (data / "journal.db.sock").stat().st_mode
            assert stat.S_ISSOCK(mode)
            assert stat.S_IMODE(mode) == 0o600
            for file in data.glob("journal.db*"):
                assert stat.S_IMODE(file.stat().st_mode) == 0o600

            status, asked, second = await asyncio.gather(
                command("status", "--json", "--config", path, key=None),
                command("query", "SELECT 6 * 7 AS n", "--format", "json", "--config", path, key=None),
                command("run", "--once", "--config", path, "--log-format", "console"),
            )
            assert running.returncode is None
            assert status.status == asked.status == 0
            assert status.json["collecting"] is True
            assert status.json["stream_count"] == NODES + 1
            assert asked.json == [{"n": 42}]
            assert second.status == 2
            assert len(second.said("error")) == 1
            assert f"process {running.pid} (" in second.stderr
            running.send_signal(signal.SIGTERM)
            assert (await ended(running)).status == 130
        assert not (data / "journal.db.sock").exists()


@pytest.mark.slow("commands as processes")
async def test_queries_at_the_same_moment_all_get_their_answers(demo: tuple[Path, Ended]) -> None:
    """Without a collector each may become the owner; those that come second do not pay for it."""
    config = demo[0] / "collector.toml"
    asked = await asyncio.gather(
        *(command("query", f"SELECT {n} AS n", "--format", "json", "--config", config) for n in range(3))
    )
    assert [(done.status, done.stderr) for done in asked] == [(0, "")] * 3
    assert [done.json for done in asked] == [[{"n": n}] for n in range(3)]


@pytest.mark.slow("commands as processes")
async def test_a_run_ended_by_sigterm_is_completed_exactly_by_the_next(tmp_path: Path) -> None:
    """It ends with 130; afterwards rows equal the truth, the meter the service's count, and no page is bought twice."""
    async with simulated() as api:
        path = configured(tmp_path / "undisturbed", api.base_url)
        assert (await command("run", "--once", "--config", path)).status == 0
        needed = await calls(api)
    async with simulated("--latency", "0.1", "0.2") as api:
        path = configured(tmp_path / "stopped", api.base_url)
        async with run_under_way(path, api) as running, asyncio.timeout(WAIT_SECONDS_MAX):
            while await calls(api) < needed // 4:
                await asyncio.sleep(0.05)
            running.send_signal(signal.SIGTERM)
            stopped = await ended(running)
        made = await calls(api)
        assert stopped.status == 130
        assert stopped.lines[-1]["event"] == "stopped"
        assert made < needed
    async with simulated() as api:
        configured(tmp_path / "stopped", api.base_url)
        assert (await command("run", "--once", "--config", path)).status == 0
        made += await calls(api)
    truth = true_syslogs(world(), world().node_ids, NOW - LOOKBACK, NOW - SETTLE)
    assert not differences(truth, await stored_syslogs(load(path, {})))
    metered = await command("query", "SELECT sum(calls) AS n FROM api_calls", "--format", "json", "--config", path)
    assert metered.json == [{"n": made}]
    assert needed <= made <= needed + IN_FLIGHT_MAX


# Errors for programs


USAGE = {
    "unknown command": ["fetch"],
    "unknown option": ["status", "--jsn"],
    "value missing": ["status", "--config"],
    "level no choice": ["status", "--log-level", "loud"],
    "nothing asked": ["query"],
    "no such name": ["query", "--name", "nothing"],
    "no parameter": ["query", "--name", "faults", "--param", "hour=1"],
    "no journal": ["journal", "verify", "--config", "collector.toml"],
}


async def test_every_line_of_stderr_is_json_where_that_was_asked_for(tmp_path: Path) -> None:
    """Usage errors too: exit 2, one `command_failed` each, whatever is wrong."""
    configured(tmp_path, "http://127.0.0.1:9")
    told = await asyncio.gather(
        *(command("--log-format", "json", *arguments, folder=tmp_path) for arguments in USAGE.values())
    )
    for name, done in zip(USAGE, told, strict=True):
        assert done.status == 2, name
        assert [line["event"] for line in done.lines if line["event"] != "hint"] == ["command_failed"], name
        assert all(line["level"] == "error" and line["message"] for line in done.lines), name
    assert [file.name for file in tmp_path.iterdir()] == ["collector.toml"]


@pytest.mark.slow("commands as processes")
async def test_failed_streams_are_json_lines_too(tmp_path: Path) -> None:
    """What a run could not collect is told with exit 1, on stderr in the form that was asked for."""
    async with simulated() as api:
        node, *_ = world().node_ids
        await api.tell("faults", [{"kind": "forbidden", "scope_id": node}])
        path = configured(tmp_path, api.base_url, lookback=120)
        done = await command("run", "--once", "--config", path, "--log-format", "json")
    assert done.status == 1
    assert f"{NODES} of {NODES + 1} caught up".encode() in done.stdout
    assert "stream_failed" in [line["event"] for line in done.lines]


@pytest.mark.parametrize("debug", [False, True])
async def test_a_query_error_is_one_readable_line(demo: tuple[Path, Ended], debug: bool) -> None:
    """It tells the column that is wrong, with exit 1; a traceback only for --debug."""
    config = demo[0] / "collector.toml"
    options = ["--debug"] if debug else []
    done = await command("query", "SELECT nod_id FROM syslogs", "--config", config, "--log-format", "console", *options)
    assert (done.status, done.stdout) == (1, b"")
    (line,) = done.said("error")
    assert "nod_id" in line
    assert len(line) < 500
    assert ("Traceback" in done.stderr) is debug
    if not debug:
        assert len(done.stderr.splitlines()) == 1 + len(done.said("hint"))


# query


def from_csv(body: bytes) -> list[dict[str, Any]]:
    head, *rows = body.decode().splitlines()
    assert head == '"node_id","n"'
    return [{"node_id": row.split(",")[0].strip('"'), "n": int(row.split(",")[1])} for row in rows]


def from_table(body: bytes) -> list[dict[str, Any]]:
    head, *rows = (line.split() for line in body.decode().splitlines())
    assert head == ["node_id", "n"]
    return [{"node_id": node_id, "n": int(n)} for node_id, n in rows]


READERS: dict[str, Callable[[bytes], list[dict[str, Any]]]] = {
    "csv": from_csv,
    "json": json.loads,
    "parquet": lambda body: parquet.read_table(io.BytesIO(body)).to_pylist(),
    "table": from_table,
}


@pytest.mark.slow("commands as processes")
async def test_every_format_carries_the_same_rows(demo: tuple[Path, Ended]) -> None:
    """CSV, JSON, Parquet and the table for people are read back alike."""
    config = demo[0] / "collector.toml"
    sql = "SELECT toString(node_id) AS node_id, count() AS n FROM syslogs GROUP BY 1 ORDER BY 1"
    read = {}
    for name, reader in READERS.items():
        done = await command("query", sql, "--format", name, "--config", config)
        assert (done.status, done.stderr) == (0, ""), name
        read[name] = reader(done.stdout)
    # Which nodes have said something in so short a demo depends on the time of day.
    assert read["json"]
    assert {row["node_id"] for row in read["json"]} <= set(World(1, 3, 2).node_ids)
    assert all(rows == read["json"] for rows in read.values()), read


async def test_no_rows_are_an_answer_too(demo: tuple[Path, Ended]) -> None:
    """JSON stays an array."""
    config = demo[0] / "collector.toml"
    sql = "SELECT node_id, msg FROM syslogs WHERE 0"
    assert (await command("query", sql, "--format", "json", "--config", config)).json == []


PARAMETERS = ("--name", "faults_over_time", "--param", "hours=2", "--param", "minutes=60", "--param", "rows=5")


@pytest.mark.slow("commands as processes")
async def test_parameters_work_in_every_format_beside_an_owner_or_not(demo: tuple[Path, Ended]) -> None:
    """Named or a reader's own, the values travel through the owner's socket as they are bound without it."""
    config = demo[0] / "collector.toml"
    own = ("SELECT {t:String} AS t, {n:Nullable(UInt8)} AS n", "--param", "t=a\tb'\\N\n{n:UInt8}", "--param", "n=NULL")
    told = {}
    for name in READERS:
        arguments = (*PARAMETERS, "--format", name, "--config", config)
        alone = await command("query", *arguments)
        assert (alone.status, alone.stderr) == (0, ""), name
        assert alone.stdout, name
        told[name] = alone.stdout
    own_alone = await command("query", *own, "--format", "json", "--config", config)
    assert own_alone.json == [{"t": "a\tb'\\N\n{n:UInt8}", "n": None}]
    async with await Owner.open(load(config, {})) as owner, listening(owner):
        for name, expected in told.items():
            beside = await command("query", *PARAMETERS, "--format", name, "--config", config)
            assert (beside.status, beside.stdout) == (0, expected), name
        beside = await command("query", *own, "--format", "json", "--config", config)
        assert beside.json == own_alone.json


@pytest.mark.slow("commands as processes")
async def test_a_query_changes_nothing(demo: tuple[Path, Ended], tmp_path: Path) -> None:
    """Statements that write, inside the store or outside, are refused and every row is still there."""
    config = demo[0] / "collector.toml"
    count = ("query", "SELECT count() AS n FROM syslogs", "--format", "json", "--config", config)
    before = (await command(*count)).json
    outside = tmp_path / "written.csv"
    for sql in (
        "DROP TABLE syslogs",
        "SELECT 1; TRUNCATE TABLE syslogs",
        f"SELECT 1 INTO OUTFILE '{outside}'",
        f"INSERT INTO FUNCTION file('{outside}', 'CSV', 'n UInt8') SELECT 1",
    ):
        done = await command("query", sql, "--config", config, "--log-format", "console")
        assert (done.status, done.stdout) == (1, b""), sql
        assert len(done.said("error")) == 1, sql
    assert before[0]["n"] > 0
    assert (await command(*count)).json == before
    assert not outside.exists()


async def test_global_options_stand_before_or_after_the_command(demo: tuple[Path, Ended]) -> None:
    """Both places and both spellings name the same configuration and give the same form of errors."""
    config = demo[0] / "collector.toml"
    good = ("journal", "ls", "--json")
    bad = ("query", "--name", "nothing")
    first, last, bad_first, bad_last = await asyncio.gather(
        command("--config", config, *good),
        command(*good, f"--config={config}"),
        command("--log-format", "json", "--config", config, *bad),
        command(*bad, "--config", config, "--log-format=json"),
    )
    assert first.json == last.json
    assert first.json["id"]
    assert bad_first.status == bad_last.status == 2
    told = [[(line["event"], line["message"]) for line in done.lines] for done in (bad_first, bad_last)]
    assert told[0] == told[1]
    assert told[0][0][0] == "command_failed"


# status, migrate, journal, simulate


async def test_status_tells_programs_everything(demo: tuple[Path, Ended]) -> None:
    """Streams with watermark and freshness, quota, spend, journal and store, with their units in the names."""
    folder, _ = demo
    done = await command("status", "--json", "--config", folder / "collector.toml", key=None)
    assert (done.status, done.stderr) == (0, "")
    told = done.json
    assert set(told) >= {"now", "month", "region", "spend_cny", "counters"}
    assert told["collecting"] is False
    assert told["stream_count"] == len(told["streams"]) == 7
    assert told["states"] == {"collected": 7}
    for stream in told["streams"]:
        assert stream["operation"] in {"ListSyslogs", "GetUserViewMetrics", "GetNodeMetrics"}
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", stream["watermark"])
        behind = datetime.fromisoformat(told["now"]) - datetime.fromisoformat(stream["watermark"])
        assert stream["freshness_seconds"] == behind.total_seconds() >= 0
        assert stream["error"] is None
    for operation in told["operations"]:
        is_used = operation["operation"] in {"ListSyslogs", "GetUserViewMetrics", "GetNodeMetrics"}
        assert (operation["calls_this_month"] > 0) == is_used
        assert operation["spend_cny"] == "0"
        assert operation["quota_per_second"] > 0
        assert 0 <= operation["quota_used_ratio"] <= 1
    journal = told["journal"]
    assert journal["path"] == str(folder / "data" / "journal.db")
    assert 0 < journal["bytes"] < journal["bytes_max"]
    assert (journal["rows"], journal["open_windows"], journal["set_aside"]) == (0, 0, None)
    assert told["store"]["path"] == str(folder / "data" / "store")
    assert told["store_error"] is None


@pytest.mark.slow("commands as processes")
async def test_a_dry_migration_applies_nothing(tmp_path: Path) -> None:
    """All that it lists is still there to be applied; after that nothing is."""
    path = configured(tmp_path, "http://127.0.0.1:9")
    names = sorted(file.stem for file in MIGRATIONS.glob("*.sql"))
    dry = await command("migrate", "--dry-run", "--config", path, key=None)
    assert dry.status == 0
    assert dry.stdout.count(b"to be applied") == len(names)
    assert all(name.encode() in dry.stdout for name in names)
    applied = await command("migrate", "--config", path, key=None)
    assert applied.status == 0
    assert applied.stdout.count(b"applied") == len(names)
    again = await command("migrate", "--dry-run", "--config", path, key=None)
    assert (again.status, again.stdout) == (0, b"the store is up to date\n")


@pytest.mark.slow("commands as processes")
async def test_migrate_classifies_stored_lines_anew(tmp_path: Path) -> None:
    """A user's rule is refused with its name while it is wrong; right, it is applied, and to stored lines too."""
    async with simulated() as api:
        path = configured(tmp_path, api.base_url)
        assert (await command("run", "--once", "--config", path)).status == 0
    rules = path.parent / "mine.toml"
    rules.write_text("[[rule]]\nclass = 'session'\npatterns = ['Started Session (']\n")
    path.write_text(path.read_text().replace("[store]", '[store]\nfault_rules = "mine.toml"'))

    wrong = await command("migrate", "--config", path, key=None)
    rules.write_text("[[rule]]\nclass = 'session'\npatterns = ['Started Session']\n")
    dry = await command("migrate", "--dry-run", "--reclassify", "--config", path, key=None)
    done = await command("migrate", "--reclassify", "--config", path, key=None)
    again = await command("migrate", "--reclassify", "--config", path, key=None)

    assert wrong.status == 2
    assert "store.fault_rules: rule 'session': patterns[0]: got 'Started Session ('" in wrong.stderr
    assert dry.status == done.status == again.status == 0
    assert b"MODIFY COLUMN fault_class" in done.stdout
    assert b"the store is up to date" in again.stdout
    changed = [int(out.stdout.split(b" of them ")[0].split()[-1].replace(b",", b"")) for out in (dry, done, again)]
    assert changed[0] == changed[1] > 0
    assert changed[2] == 0


def spoil_head(journal: Path) -> None:
    with journal.open("r+b") as file:
        file.write(b"this was a journal once")


def spoil_pages(journal: Path) -> None:
    size = journal.stat().st_size
    with journal.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (size - 4096))


@pytest.mark.slow("commands as processes")
async def test_a_damaged_journal_is_told_set_aside_and_gone_on_without(tmp_path: Path) -> None:
    """`journal` tells it by its status; `run` reports where it put the file, and stores no row twice."""
    async with simulated() as api:
        path = configured(tmp_path, api.base_url, lookback=120)
        assert (await command("run", "--once", "--config", path)).status == 0
        sound, listed = await asyncio.gather(
            command("journal", "verify", "--config", path), command("journal", "ls", "--json", "--config", path)
        )
        assert sound.status == listed.status == 0
        assert sound.stdout.endswith(b": sound\n")
        assert (listed.json["chunks"], listed.json["open_windows"], listed.json["calls_unsettled"]) == ([], [], 0)

        journal = tmp_path / "data" / "journal.db"
        copy, other = tmp_path / "copy.db", tmp_path / "other.db"
        copy.write_bytes(journal.read_bytes())
        other.write_bytes(journal.read_bytes())
        spoil_pages(other)
        spoil_head(journal)
        damaged_bytes = journal.read_bytes()
        damaged, damaged_other, unlisted = await asyncio.gather(
            command("journal", "verify", "--config", path),
            command("journal", "verify", "--path", other),
            command("journal", "ls", "--config", path, "--log-format", "console"),
        )
        assert (damaged.status, damaged_other.status, unlisted.status) == (1, 1, 1)
        assert damaged_other.stdout
        assert damaged.stdout
        assert len(unlisted.said("error")) == 1
        assert journal.read_bytes() == damaged_bytes

        again = await command("run", "--once", "--config", path, "--log-format", "json")
        assert again.status == 0
        (line,) = (line for line in again.lines if line["event"] == "journal_set_aside")
        aside = Path(line["path"])
        assert aside.parent == journal.parent
        assert aside.read_bytes() == damaged_bytes
        listed, old, new = await asyncio.gather(
            command("journal", "ls", "--config", path),
            command("journal", "verify", "--path", aside),
            command("journal", "verify", "--config", path),
        )
        assert f"set aside as damaged: {aside}\n".encode() in listed.stdout
        assert (listed.status, old.status, new.status) == (0, 1, 0)
    # What these two can do without the service, they do without a key.
    replayed = await command("journal", "replay", copy, "--json", "--config", path, key=None)
    (told,) = replayed.json
    assert (replayed.status, told["error"], Path(told["moved_to"]).exists()) == (0, "", True)
    repaired = await command("journal", "repair", "--config", path, "--log-format", "console", key=None)
    assert repaired.status == 1
    assert [line for line in repaired.said("failed") if str(aside) in line]
    truth = true_syslogs(world(), world().node_ids, NOW - 120, NOW - SETTLE)
    assert not differences(truth, await stored_syslogs(load(path, {})))


@pytest.mark.slow("commands as processes", cases=2)
@pytest.mark.parametrize("is_first", [True, False], ids=["before the next run", "after it"])
async def test_an_open_window_of_a_lost_machine_is_replayed_once(tmp_path: Path, is_first: bool) -> None:
    """A run was killed in the middle of its windows; their rows are in its journal only, and arrive once."""
    async with simulated("--latency", "0.1", "0.2") as api:
        path = configured(tmp_path, api.base_url)
        journal, other = tmp_path / "data" / "journal.db", tmp_path / "other.db"
        async with run_under_way(path, api) as process, asyncio.timeout(WAIT_SECONDS_MAX):
            while sum(window["pages"] for window in opened(journal)) < NODES:
                assert process.returncode is None
                await asyncio.sleep(0.02)
            process.kill()
            await process.communicate()
        for end in ("", "-wal", "-shm"):
            if (file := Path(f"{journal}{end}")).exists():
                file.rename(f"{other}{end}")
        waiting = sum(chunk["rows"] for chunk in contents(other)["chunks"] if chunk["unsealed"])
        assert opened(other)
        assert waiting > 0

        truth = true_syslogs(world(), world().node_ids, NOW - LOOKBACK, NOW - SETTLE)
        if not is_first:
            assert (await command("run", "--once", "--config", path)).status == 0
        before = await calls(api)
        replayed = await command("journal", "replay", other, "--json", "--config", path, key=None)
        (told,) = replayed.json
        assert (replayed.status, told["error"], told["left_out"]) == (0, "", [])
        assert told["rows"] >= waiting
        assert await calls(api) == before
        if is_first:
            stored = await stored_syslogs(load(path, {}))
            assert stored.total() >= waiting
            assert stored <= truth
            assert (await command("run", "--once", "--config", path)).status == 0
        assert not differences(truth, await stored_syslogs(load(path, {})))
        again = await command("journal", "replay", told["moved_to"], "--json", "--config", path, key=None)
        assert (again.status, again.json[0]["rows_added"]) == (0, 0)
        assert not differences(truth, await stored_syslogs(load(path, {})))


def opened(journal: Path) -> list[dict[str, Any]]:
    """The windows of syslogs whose last page is missing; none before the journal is made."""
    try:
        found: list[dict[str, Any]] = contents(journal)["open_windows"]
    except (JournalError, UsageError):
        return []
    return [window for window in found if window["operation"] == "ListSyslogs"]


@pytest.mark.slow("commands as processes")
async def test_simulate_tells_where_it_is_and_ends_on_sigterm(tmp_path: Path) -> None:
    """Its one line is all that a configuration needs; a taken port is a usage error."""
    process = await started("simulate", "--json", "--nodes", 2, "--groups", 1, key=None)
    try:
        told = json.loads(await asyncio.wait_for(process.stdout.readline(), WAIT_SECONDS_MAX))
        assert set(told) == {"base_url", "key", "nodes", "resource_groups"}
        assert (len(told["nodes"]), len(told["resource_groups"])) == (2, 1)
        path = tmp_path / "collector.toml"
        path.write_text(
            f'[api]\nbase_url = "{told["base_url"]}"\n'
            f"[targets]\nnodes = {told['nodes']}\nresource_groups = {told['resource_groups']}\n"
        )
        checked = await command("check", "--json", "--config", path, key=told["key"])
        assert checked.status == 0
        assert all(result["ok"] for result in checked.json)
        process.send_signal(signal.SIGTERM)
    except BaseException:
        process.kill()
        raise
    finally:
        done = await ended(process)
    assert (done.status, done.stdout, done.stderr) == (0, b"", "")


async def test_a_taken_port_is_a_usage_error() -> None:
    """The message names the option and the port."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = await command("simulate", "--port", port, "--log-format", "console")
    assert refused.status == 2
    assert refused.said("error")[0].startswith(f"error: --port: cannot listen on {port}")
