"""API traffic as files: written by a run, without secrets and bounded; answered again by the simulator."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from collector.api.transport import Exchange, Failure
from collector.catalogue.operations import CATALOGUE
from collector.cli.app import main
from collector.cli.calling import call_in
from collector.cli.exits import ExitStatus
from collector.errors import UsageError
from collector.owner.instance import Owner
from collector.owner.recorder import Recorder, recording
from collector.recording import number_of
from collector.settings import Settings
from collector.simulator.account import CANARY
from collector.simulator.clock import SimulatorClock
from collector.simulator.fault_words import parse_fault
from collector.simulator.replay import Replay
from collector.simulator.server import SIMULATOR_KEY, Simulator
from collector.simulator.world import World
from tests.support import NOW, calls, fetch, run_once, settings, simulator, stored_syslogs
from tests.support.recordings import recorded_calls
from tests.support.sessions import session
from tests.support.warm_commands import run_command

WORLD = World(5, 2, 1, lines_per_second=0.5, bursts=False)
LIST_SYSLOGS = CATALOGUE["ListSyslogs"]
ASKED = {"NodeId": "n1", "FromTime": "1", "ToTime": "2"}
WAIT_SECONDS_MAX = 180.0


def replaying(folder: Path, **options: Any) -> Simulator:
    replay = Replay.read(folder, is_fast=True)
    return Simulator(World(1, 1, 1), replay=replay, now=SimulatorClock(replay.started_at), **options)


@asynccontextmanager
async def recorded_owner(config: Settings, folder: Path) -> AsyncIterator[Owner]:
    async with recording(folder) as recorder, await Owner.open(config, key=SIMULATOR_KEY, recorder=recorder) as owner:
        yield owner


def good(body: str, **headers: str) -> Exchange:
    told = {"Content-Type": "application/json", "Date": "Thu, 09 Oct 2025 08:53:20 GMT", **headers}
    return Exchange(None, "", 200, told, body.encode())


async def asked(api: Simulator, node: str = "n1") -> tuple[int, Any, str | None]:
    """Status, body and Date of one call."""
    url = f"{api.base_url}/api/{LIST_SYSLOGS.product}/{LIST_SYSLOGS.version}/ListSyslogs"
    body = {**ASKED, "NodeId": node}
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {SIMULATOR_KEY}"}) as session,
        session.post(url, json=body) as reply,
    ):
        return reply.status, json.loads(await reply.read()), reply.headers.get("Date")


async def test_a_recorded_run_is_lived_through_again(tmp_path: Path) -> None:
    """A collector before the recording asks and stores the same, retries and all."""
    first, again, folder = tmp_path / "first", tmp_path / "again", tmp_path / "traffic"
    targets = {"nodes": WORLD.node_ids, "resource_groups": WORLD.group_ids}
    faults = [parse_fault("once:503,operation=ListSyslogs"), parse_fault("once:cut_short,operation=ListSyslogs")]
    async with simulator(WORLD, faults=faults) as api:
        config = settings(first, api.base_url, targets=targets)
        async with (
            recording(folder) as recorder,
            await Owner.open(config, key=SIMULATOR_KEY, recorder=recorder) as owner,
        ):
            assert not (await owner.once().run()).failures
        sent = {name: calls(api, name) for name in ("ListSyslogs", "GetUserViewMetrics")}
        true_lines = await stored_syslogs(config)
        true_users = await fetch(config, "SELECT * FROM user_metrics ORDER BY ALL")
    recorded = recorded_calls(folder)
    assert [line["status"] for line in recorded if line["operation"] == "ListSyslogs"].count(503) == 1
    assert [line.get("failure") for line in recorded].count("truncated") == 1

    async with replaying(folder) as api:
        config = settings(again, api.base_url, targets=targets)
        assert not (await run_once(config)).failures
        assert {name: calls(api, name) for name in sent} == sent

    assert sum(true_lines.values()) > 1000
    assert await stored_syslogs(config) == true_lines
    assert await fetch(config, "SELECT * FROM user_metrics ORDER BY ALL") == true_users


@pytest.mark.slow("recordings")
async def test_the_command_records(tmp_path: Path) -> None:
    """`run --once --record DIR`: one line for every call, in files that only this user can read."""
    async with simulator(WORLD) as api:
        path = tmp_path / "collector.toml"
        path.write_text(
            f'[api]\nbase_url = "{api.base_url}"\n[store]\npath = "{tmp_path}/store"\n'
            f'[journal]\npath = "{tmp_path}/journal.db"\n[targets]\nnodes = {WORLD.node_ids}\n'
            '[sources.syslogs]\ninitial_lookback = "5m"\nsettle = "60s"\n'
        )
        environ = {"PATH": os.environ["PATH"], "DASHSCOPE_API_KEY": SIMULATOR_KEY}
        words = ["--config", str(path), "run", "--once", "--record", "traffic"]
        ran = await run_command(words, environ, tmp_path, WAIT_SECONDS_MAX)
        assert ran.status == ExitStatus.DONE, ran.stderr
        recorded = recorded_calls(tmp_path / "traffic")
        assert len([line for line in recorded if line["operation"] == "ListSyslogs"]) == calls(api, "ListSyslogs")
    assert {stat.S_IMODE(each.stat().st_mode) for each in (tmp_path / "traffic").iterdir()} == {0o600}
    page = next(line for line in recorded if line["operation"])
    assert set(page) == {"at", "seconds", "operation", "parameters", "status", "headers", "body"}
    assert "Authorization" not in json.dumps(recorded)


async def test_no_secret_is_recorded(tmp_path: Path) -> None:
    """Not the key, and nothing that an account's lists and the token of traces tell."""
    folder = tmp_path / "traffic"
    discover = ("clusters", "resource_groups", "jobs", "instances", "services", "eas_resources")
    async with simulator(World(7, 2, 1)) as api:
        config = settings(tmp_path, api.base_url, targets={"discover": discover})
        async with (
            recording(folder) as recorder,
            await Owner.open(config, key=SIMULATOR_KEY, recorder=recorder) as owner,
        ):
            assert not (await owner.once(["inventory"]).run()).failures
        async with session(config, key=SIMULATOR_KEY) as caller:
            token = (await call_in(caller, "GetXtraceToken", {})).answer
        async with (
            recording(folder) as recorder,
            await Owner.open(config, key=SIMULATOR_KEY, recorder=recorder) as owner,
        ):
            assert owner.client is not None
            await owner.journal.settle((await owner.client.request(CATALOGUE["GetXtraceToken"], "account", {})).attempt)
    text = json.dumps(recorded_calls(folder))
    assert "ListServices" in text
    assert "GetXtraceToken" in text
    assert CANARY not in text
    assert SIMULATOR_KEY not in text
    secret_fields = CATALOGUE["GetXtraceToken"].secret_fields
    assert not [value for name, value in token.items() if name in secret_fields and value in text]


@pytest.mark.parametrize(
    "text",
    [
        "https://oapi.example.com/robot/send?access_token=c0ffeec0ffee",
        '{"Webhook": "https://hooks.example.com/c0ffeec0ffee"}',
        '{"Logs": [{"Msg": "curl -H \'Authorization: Bearer c0ffeec0ffee\' x"}]}',
        '{"Message": "Signature=c0ffeec0ffee is wrong"}',
        '{"Envs": {"A": "c0ffeec0ffee"}, "Tags": [{"Key": "db_password", "Value": "c0ffeec0ffee"}]}',
        '{"Message": "sk-c0ffeec0ffeec0ffee, LTAIc0ffeec0ffee"}',
    ],
)  # fmt: skip
async def test_what_looks_like_a_secret_is_hidden(tmp_path: Path, text: str) -> None:
    """In fields with such names, in URLs, and where a message quotes one; cursors stay."""
    async with Recorder(tmp_path) as recorder:
        recorder.note(LIST_SYSLOGS, ASKED | {"NextToken": "t0"}, good(text), 0.1, lambda told: told)
        recorder.note(LIST_SYSLOGS, ASKED, good('{"NextToken":"t1",  "Logs":[]}'), 0.1, lambda told: told)

    hidden, plain = recorded_calls(tmp_path)
    assert "c0ffeec0ffee" not in json.dumps(hidden)
    assert hidden["parameters"]["NextToken"] == "t0"
    assert plain["body"] == '{"NextToken":"t1",  "Logs":[]}'


async def test_a_recording_is_bounded(tmp_path: Path) -> None:
    """Full files are compressed, the oldest ones go, and another recording goes on behind them."""
    for _ in range(2):
        async with Recorder(tmp_path, file_bytes_max=2000, files_max=3) as recorder:
            for number in range(30):
                recorder.note(LIST_SYSLOGS, ASKED, good(json.dumps({"n": number, "x": "y" * 200})), 0.1, str)
    names = sorted(each.name for each in tmp_path.iterdir())

    assert len(names) == 3
    assert all(name.endswith(".jsonl.gz") for name in names)
    numbers = [number_of(name) for name in names]
    assert numbers == list(range(numbers[0] or 0, (numbers[0] or 0) + 3))
    assert json.loads(recorded_calls(tmp_path)[-1]["body"])["n"] == 29


async def test_what_is_too_much_is_left_out_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Bodies beyond what may wait are counted; the calls go on."""
    async with Recorder(tmp_path, pending_bytes_max=10) as recorder:
        recorder.note(LIST_SYSLOGS, ASKED, good("{}"), 0.1, str)
        recorder.note(LIST_SYSLOGS, ASKED, good('{"Logs": []}'), 0.1, str)

    assert recorder.left_out == 1
    assert [line["body"] for line in recorded_calls(tmp_path)] == ["{}"]


@pytest.mark.slow("recordings")
async def test_a_full_disk_ends_the_recording_and_nothing_else(tmp_path: Path) -> None:
    """The collector goes on; what came then is counted."""
    folder = tmp_path / "traffic"
    folder.mkdir()
    async with simulator(WORLD) as api:
        config = settings(tmp_path, api.base_url, targets={"nodes": WORLD.node_ids})
        recorder = Recorder(folder, file_bytes_max=4000)
        async with recorder, await Owner.open(config, key=SIMULATOR_KEY, recorder=recorder) as owner:
            # The next file of the recording is on a device without room.
            (folder / "traffic-000002.jsonl").symlink_to("/dev/full")
            assert not (await owner.once().run()).failures
    assert recorder.is_stopped
    assert recorder.left_out > 0
    assert sum((await stored_syslogs(config)).values()) > 1000


async def test_a_folder_that_cannot_be_written_ends_the_start(tmp_path: Path) -> None:
    """Before anything is asked."""
    (tmp_path / "file").write_text("x")

    with pytest.raises(UsageError, match=r"--record: .*file cannot be written: "):
        async with Recorder(tmp_path / "file"):
            pass


async def test_a_request_gets_its_answers_in_their_order(tmp_path: Path) -> None:
    """The last one again and again; what was never recorded is named; faults come on top and use up nothing."""
    async with Recorder(tmp_path) as recorder:
        for body in ('{"Logs": 1}', '{"Logs": 2}'):
            recorder.note(LIST_SYSLOGS, ASKED, good(body), 0.1, str)
        recorder.note(LIST_SYSLOGS, {**ASKED, "NodeId": "n2"}, Exchange(Failure.BROKEN), 0.1, str)

    async with replaying(tmp_path, faults=[parse_fault("500,calls=2")]) as api:
        answers = [await asked(api) for _ in range(4)]
        told = [(status, body.get("Logs")) for status, body, _ in answers]
        assert told == [(200, 1), (500, None), (200, 2), (200, 2)]
        assert answers[0][2] == "Thu, 09 Oct 2025 08:53:20 GMT"
        with pytest.raises(aiohttp.ClientConnectionError):
            await asked(api, "n2")
        status, body, _ = await asked(api, "n3")
        assert (status, body["Code"]) == (404, "NotRecorded")
        assert body["Message"].startswith('ListSyslogs with {"NodeId": "n3", ')


async def test_faults_that_a_recording_cannot_honour_are_refused_by_name(tmp_path: Path) -> None:
    """Over the control address as on the command line; its pages stand, and the faults that were there stay."""
    async with Recorder(tmp_path) as recorder:
        recorder.note(LIST_SYSLOGS, ASKED, good("{}"), 0.1, str)

    async with replaying(tmp_path, faults=[parse_fault("500,calls=2")]) as api, aiohttp.ClientSession() as session:
        address = f"{api.base_url}/_simulator/faults"
        for method, body in (
            ("POST", "disorder\nrepeated_token"),
            ("POST", '{"kind": "disorder"}'),
            ("PUT", '[{"kind": "error_500"}, {"kind": "disorder"}]'),
        ):
            async with session.request(method, address, data=body) as reply:
                assert reply.status == 400
                assert (await reply.text()).startswith("disorder")
        assert [fault.kind for fault in api.faults] == ["error_500"]
        # A recording has other nodes than the simulator's world.
        async with session.post(address, data="429,node=n1") as reply:
            assert (reply.status, len(api.faults)) == (200, 2)


async def test_answers_come_as_late_as_they_did(tmp_path: Path) -> None:
    """By the simulator's clock; with `is_fast` at once."""
    waits: list[float] = []

    class Waiting(SimulatorClock):
        """A machine's clock that notes what it is waited for."""

        def wall(self) -> float:
            return NOW

        def monotonic(self) -> float:
            return 0.0

        async def sleep(self, seconds: float) -> None:
            waits.append(seconds)

    async with Recorder(tmp_path) as recorder:
        recorder.note(LIST_SYSLOGS, ASKED, good("{}"), 1.5, str)
    for is_fast in (False, True):
        clock = Waiting()
        simulated = Simulator(World(1, 1, 1), replay=Replay.read(tmp_path, is_fast=is_fast), clock=clock)
        async with simulated as api:
            await asked(api)

    assert waits == [1.5]


@pytest.mark.parametrize(
    ("head", "words", "says"),
    [
        (None, [], "holds no recording; expected files such as traffic-000001.jsonl"),
        ('{"recording": 2}', [], "the recording has version 2; this program reads 1"),
        ("hello", [], "the first line is no head of a recording"),
        ('{"recording": 1}', [], "no request is recorded in 1 files"),
        ('{"recording": 1}', ["--fault", "disorder"], "--fault: disorder: a recording has its pages already"),
    ],
)
def test_what_cannot_be_replayed_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], head: str | None, words: list[str], says: str
) -> None:
    """With the file and what would be right, before anything listens."""
    if head is not None:
        (tmp_path / "traffic-000001.jsonl").write_text(head + "\n")

    assert main(["simulate", "--replay", str(tmp_path), *words]) == ExitStatus.USAGE
    assert says in capsys.readouterr().err


def test_a_line_that_was_cut_off_is_counted(tmp_path: Path) -> None:
    """As a killed process leaves it; all others are replayed."""
    record = {"at": 1, "seconds": 0, "operation": "ListSyslogs", "parameters": ASKED, "status": 200, "headers": {}}
    text = '{"recording": 1}\n' + json.dumps(record | {"body": "{}"}) + "\n" + json.dumps(record)[:40]
    (tmp_path / "traffic-000001.jsonl").write_text(text)

    replay = Replay.read(tmp_path)

    assert (replay.requests, replay.unreadable_lines, replay.scope_ids) == (1, 1, {"ListSyslogs": ["n1"]})
    assert main(["simulate", "--fast"]) == ExitStatus.USAGE
