"""Commands that only read leave the folder as it was: names, sizes, contents and times of every file."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from collector.cli.app import main
from collector.journal.reading import reading
from collector.simulator.clock import SimulatorClock
from collector.simulator.server import SIMULATOR_KEY, Simulator
from collector.simulator.world import World
from collector.store.embedded import EmbeddedStore
from collector.store.migrate import TABLE, load_migrations, migrate
from tests.support import NOW
from tests.support.old_journals import downgrade

NODES = 2
MINUTES = 10
OLD_FORMAT = 2
TIMES = ("syslogs", "dead_letters", "events")
COUNT = ("query", "SELECT count() AS n FROM syslogs", "--format", "json")
NEEDS_STORE: Sequence[Sequence[str]] = (("status",), ("gaps",), COUNT, ("migrate", "--dry-run"))
READING: Sequence[Sequence[str]] = (
    ("status",), ("status", "--json"), ("top",), ("gaps",), ("gaps", "--json"), COUNT,
    ("plan",), ("check", "--offline"), ("journal", "ls"), ("journal", "verify"), ("migrate", "--dry-run"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended, and what it printed."""

    status: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)


class Folder:
    """A working folder and the commands that are run in it."""

    def __init__(self, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.path = path
        self._capsys = capsys

    def run(self, *words: str, log_format: str = "console") -> Ended:
        """Run one command in this process."""
        self._capsys.readouterr()
        status = main(["--config", str(self.path / "collector.toml"), "--log-format", log_format, *words])
        printed = self._capsys.readouterr()
        return Ended(status, printed.out, printed.err)

    def run_unchanged(self, *words: str) -> Ended:
        """Run one command, which must leave every file and folder as it was."""
        before = contents(self.path)
        done = self.run(*words)
        assert changed(before, contents(self.path)) == [], words
        return done


def contents(folder: Path) -> dict[str, tuple[object, ...]]:
    """Everything below a folder: kind, size, time of the last change, and what is in it."""
    found: dict[str, tuple[object, ...]] = {}
    for path in (folder, *folder.rglob("*")):
        facts = path.lstat()
        if path.is_symlink():
            inside: object = str(path.readlink())
        else:
            inside = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        found[str(path.relative_to(folder))] = (facts.st_mode, facts.st_size, facts.st_mtime_ns, inside)
    return found


def changed(before: dict[str, tuple[object, ...]], after: dict[str, tuple[object, ...]]) -> list[str]:
    """Names of what was added, removed or altered."""
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))


def configured(folder: Path, base_url: str, more: str = "") -> None:
    world = World(3, NODES, 1)
    (folder / "collector.toml").write_text(
        f"""
        [api]
        base_url = "{base_url}"
        [store]
        path = "{folder}/data/store"
        flush_interval = "300ms"
        [journal]
        path = "{folder}/data/journal.db"
        [targets]
        nodes = {world.node_ids}
        [sources.syslogs]
        initial_lookback = "{MINUTES}m"
        settle = "60s"
        recheck = []
        [sources.node_metrics]
        enabled = false
        {more}
        """
    )


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith(("PAI_COLLECTOR", "DASHSCOPE")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("DASHSCOPE_API_KEY", SIMULATOR_KEY)


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a collector that ran once and stopped in good order."""
    folder = tmp_path_factory.mktemp("collected")

    async def collect() -> None:
        from collector.owner.instance import Owner
        from collector.settings import load

        async with Simulator(World(3, NODES, 1), now=SimulatorClock.frozen(NOW)) as api:
            configured(folder, api.base_url)
            async with await Owner.open(load(folder / "collector.toml", {}), key=SIMULATOR_KEY) as owner:
                assert not (await owner.once().run()).failures

    asyncio.run(collect())
    return folder


@pytest.fixture
def empty(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Folder:
    """A folder with nothing but a configuration."""
    folder = tmp_path / "empty"
    folder.mkdir()
    configured(folder, "http://127.0.0.1:9")
    return Folder(folder, capsys)


@pytest.fixture
def stopped(tmp_path: Path, collected: Path, capsys: pytest.CaptureFixture[str]) -> Folder:
    """A copy of the stopped collector's folder."""
    folder = tmp_path / "stopped"
    shutil.copytree(collected, folder, symlinks=True)
    configured(folder, "http://127.0.0.1:9")
    return Folder(folder, capsys)


def alter(folder: Folder, *statements: str, migrations: int | None = None) -> None:
    """Change the store as another version of the program would have left it."""

    async def work() -> None:
        path = folder.path / "data" / "store"
        if migrations is not None:
            shutil.rmtree(path)
        store = await EmbeddedStore.open(path)
        try:
            if migrations is not None:
                await migrate(store, load_migrations()[:migrations])
            for statement in statements:
                await store.execute(statement)
        finally:
            await store.close()

    asyncio.run(work())


def older(folder: Folder) -> int:
    """Leave the store as a version without the last migrations made it; returns how many it had."""
    count = len(load_migrations()) - 2
    alter(folder, "INSERT INTO pai.syslogs (time, node_id, msg) VALUES (1760000000, 'n', 'a line')", migrations=count)
    return count


def newer(folder: Folder) -> None:
    """Leave the store as a version with one more migration made it."""
    alter(folder, f"INSERT INTO pai.{TABLE} (version, name, checksum) VALUES (9999, 'add_future', 'x')")


# An empty folder


@pytest.mark.parametrize("words", READING, ids=" ".join)
def test_nothing_is_created_in_an_empty_folder(empty: Folder, words: Sequence[str]) -> None:
    """No folder, no journal, no lock, no store."""
    empty.run_unchanged(*words)


def test_an_empty_folder_is_reported_as_one_without_history(empty: Folder) -> None:
    """In one line, with the command that begins one; a query, which has nothing to answer from, is an error."""
    for words, status in ((("status",), 1), (("gaps",), 1), (COUNT, 2), (("export", str(empty.path / "out")), 2)):
        done = empty.run_unchanged(*words)
        assert done.status == status, words
        assert done.stderr.count("no history here yet") == 1, done.stderr
        assert "pai-collector run" in done.stderr
    told = empty.run_unchanged("status", "--json").json
    assert told["notes"] == ["no history here yet: pai-collector run"]
    assert told["is_well"] is False
    assert (told["stream_count"], told["journal"]["rows"]) == (0, 0)
    assert len(empty.run_unchanged("gaps", "--json").json["gaps"]) == NODES
    planned = empty.run_unchanged("migrate", "--dry-run")
    assert planned.stdout.count("to be applied") == len(load_migrations())


# A stopped collector


def test_nothing_is_changed_beside_a_stopped_collector(stopped: Folder) -> None:
    """Each command answers, and leaves every byte and every time of a change as they were."""
    for words in READING:
        done = stopped.run_unchanged(*words)
        assert done.status == 0, (words, done.stderr)
        assert not done.stderr.count("hint"), done.stderr
    assert int(stopped.run_unchanged(*COUNT).json[0]["n"]) > 0
    assert stopped.run_unchanged("status", "--json").json["stream_count"] == NODES


@pytest.mark.slow("many commands")
def test_nothing_is_changed_beside_a_killed_collector(stopped: Folder) -> None:
    """What SQLite and the engine keep for their next start stays for it, and what it holds is read."""
    left_open(stopped.path / "data" / "journal.db")
    (stopped.path / "data" / "store" / "status").write_text("PID: 999999999\n")
    for words in (("gaps",), COUNT, ("journal", "ls"), ("journal", "verify")):
        assert stopped.run_unchanged(*words).status == 0, words
    assert stopped.run_unchanged("status", "--json").json["counters"]["made_by_test"] == 7


def left_open(path: Path) -> None:
    """Write to a journal as a process does that is killed afterwards."""
    import subprocess
    import sys

    script = (
        "import os, sqlite3, sys\n"
        "db = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "db.execute(\"INSERT INTO counters VALUES ('made_by_test', 7)\")\n"
        "os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    assert path.with_name("journal.db-wal").stat().st_size


@pytest.mark.parametrize("words", [("status",), ("migrate", "--dry-run")], ids=" ".join)
@pytest.mark.slow("many commands")
def test_a_changed_retention_lets_no_row_be_dropped_by_reading(stopped: Folder, words: Sequence[str]) -> None:
    """The tables' lifetime is altered by what collects, not by what reads."""
    configured(stopped.path, "http://127.0.0.1:9", '[store.retention]\nsyslogs = "1d"\n')
    rows = int(stopped.run_unchanged(*COUNT).json[0]["n"])
    done = stopped.run_unchanged(*words)
    assert done.status == 0
    if words[0] == "migrate":
        assert "MODIFY TTL" in done.stdout.replace("\n", " ")
    assert int(stopped.run_unchanged(*COUNT).json[0]["n"]) == rows > 0


@pytest.mark.slow("many commands")
def test_the_engine_finishes_nothing_while_it_is_read(stopped: Folder) -> None:
    """Expired rows, parts to be merged and an unfinished mutation are left to what collects."""
    parts = [f"INSERT INTO pai.events (time, event_id) VALUES (1760000000, '{n}')" for n in range(4)]
    alter(
        stopped, "SYSTEM STOP MERGES pai.events", *parts,
        "ALTER TABLE pai.events MODIFY TTL time + toIntervalDay(1) SETTINGS materialize_ttl_after_modify = 0",
        "ALTER TABLE pai.events UPDATE content = 'new' WHERE 1 SETTINGS mutations_sync = 0",
    )  # fmt: skip
    sql = "SELECT count() AS n, countIf(content = 'new') AS new, uniq(_part) AS parts FROM events"
    for _ in range(2):
        found = stopped.run_unchanged("query", sql, "--format", "json").json[0]
        assert [int(found[name]) for name in ("n", "new", "parts")] == [4, 0, 4]


# Tables of another version


@pytest.mark.slow("many commands")
def test_nothing_is_migrated_by_reading_a_store_of_an_older_version(stopped: Folder) -> None:
    """What can be answered is, with a line about the difference."""
    count = older(stopped)
    note = (
        f"the tables are those of version {count}, this program's are {len(load_migrations())}: pai-collector migrate"
    )
    for words in NEEDS_STORE:
        done = stopped.run_unchanged(*words)
        assert done.status == 0, (words, done.stderr)
        if words[0] in ("status", "gaps", "query"):
            assert done.stderr.replace("\n", " ").count(note) == 1, done.stderr
    assert int(stopped.run_unchanged(*COUNT).json[0]["n"]) == 1
    assert stopped.run_unchanged("status", "--json").json["notes"] == [note]
    assert stopped.run_unchanged("migrate", "--dry-run").stdout.count("to be applied") == 2


@pytest.mark.slow("many commands")
def test_nothing_is_changed_by_reading_a_store_of_a_newer_version(stopped: Folder) -> None:
    """It is read, with a line about the difference; only what would write is refused."""
    newer(stopped)
    note = f"the tables are those of version 9999, newer than this program's {len(load_migrations())}: upgrade"
    for words in NEEDS_STORE:
        done = stopped.run_unchanged(*words)
        assert done.status == (2 if words[0] == "migrate" else 0), (words, done.stderr)
        if words[0] in ("status", "gaps", "query"):
            assert done.stderr.replace("\n", " ").count(note) == 1, done.stderr
    assert int(stopped.run_unchanged(*COUNT).json[0]["n"]) > 0
    assert stopped.run_unchanged("export", str(stopped.path.parent / "out")).status == 0


@pytest.mark.slow("many commands")
def test_an_export_reads_and_says_what_is_not_in_it(stopped: Folder) -> None:
    """Rows that wait in the journal stay there for the next run."""
    folder = stopped.path.parent / "out"
    done = stopped.run_unchanged("export", str(folder))
    assert done.status == 0
    assert (folder / "manifest.json").exists()


# What calls


def test_a_call_writes_the_journal_and_nothing_else(
    stopped: Folder, empty: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is metered there; tables and their settings are left alone, and a missing store stays missing."""
    with simulated() as base_url:
        for folder in (stopped, empty):
            configured(folder.path, base_url, '[store.retention]\nsyslogs = "1d"\n')
            before = contents(folder.path)
            checked = folder.run("check", "--json")
            assert checked.status == 0, checked
            store = next(result for result in checked.json if result["what"] == "store")
            assert store["ok"]
            assert ("does not exist yet" in store["detail"]) == (folder is empty)
            assert folder.run("call", "ListClusters").status == 0
            assert {Path(name).name for name in changed(before, contents(folder.path))} <= {
                "", "data", "journal.db", "journal.db.lock",
            }  # fmt: skip
            assert folder.run_unchanged("status").status == (1 if folder is empty else 0)
            with reading(folder.path / "data" / "journal.db") as db:
                calls = dict(db.execute("SELECT operation, sum(calls) FROM months GROUP BY operation"))
            assert calls["ListClusters"] == 1
            assert calls["ListSyslogs"] >= 1


@pytest.mark.slow("many commands")
def test_commands_that_call_write_the_journal_and_nothing_else(stopped: Folder) -> None:
    """Also those that store what was told: it waits in the journal for what collects, and tables stay as they are."""
    nodes = World(3, NODES, 1).node_ids
    with simulated() as base_url:
        configured(stopped.path, base_url, '[store.retention]\nsyslogs = "1d"\n')
        group = stopped.run("call", "ListResources").json["Resources"][0]
        for words in (
            ("verify", "syslogs", "--from", "2025-10-09T08:48Z", "--to", "2025-10-09T08:50Z", "--yes"),
            ("preview", "syslogs", "--scope", nodes[0]),
            ("diagnostics", "list"),
            ("resource-log", "show", f"{group['ClusterId']}/{group['ResourceId']}"),
            ("xtrace", "token"),
        ):
            before = contents(stopped.path)
            done = stopped.run(*words)
            assert done.status == 0, (words, done)
            names = {Path(name).name for name in changed(before, contents(stopped.path))}
            assert "journal.db" in names, words
            assert names <= {"data", "journal.db", "journal.db.lock"}, words


@pytest.mark.parametrize("words", [("journal", "ls"), ("journal", "verify"), ("status",)], ids=" ".join)
def test_a_journal_of_an_older_version_is_read_as_it_is(stopped: Folder, words: Sequence[str]) -> None:
    """It is brought up to date by what collects, not by what reads."""
    downgrade(stopped.path / "data" / "journal.db", OLD_FORMAT)
    assert stopped.run_unchanged(*words).status == 0


def simulated() -> Any:
    """A simulator in a thread of its own, since commands run a loop in this one."""
    import threading
    from contextlib import contextmanager

    @contextmanager
    def running() -> Iterator[str]:
        ready, stop = threading.Event(), threading.Event()
        found: list[str] = []

        async def serve() -> None:
            async with Simulator(World(3, NODES, 1), now=SimulatorClock.frozen(NOW)) as api:
                found.append(api.base_url)
                ready.set()
                await asyncio.to_thread(stop.wait)

        thread = threading.Thread(target=lambda: asyncio.run(serve()))
        thread.start()
        assert ready.wait(30)
        try:
            yield found[0]
        finally:
            stop.set()
            thread.join()

    return running()
