"""The management commands as a user runs them, against a small service that remembers what it was told."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web

from collector.cli.calling import CallRequest, call_in
from collector.cli.commands.check import CHECK, CheckRequest
from collector.cli.commands.gaps import GAPS, GapsRequest
from collector.cli.commands.status import STATUS, StatusRequest
from collector.cli.commands.verify import VERIFY, VerifyRequest
from collector.errors import BadRequestError, ConfigError, ForbiddenError, NotFoundError, OwnedElsewhere, TransientError
from collector.owner.instance import Owner
from collector.owner.lock import OwnerLock
from collector.rpc import reachable, socket_path
from collector.settings import Settings, load
from collector.simulator.clock import SimulatorClock
from collector.simulator.credentials import SIMULATOR_KEY
from collector.simulator.server import Simulator
from collector.simulator.world import World
from tests.integration.test_commands import Ended, command, ended, environment, started
from tests.support import ship, simulator
from tests.support.default_chain import use_access_key
from tests.support.sessions import listening, session

KEY = "sk-canary-71fe03c9aa5540"
TOKEN = "canary-token-a91c55d07b3e42"
ENDPOINT = f"http://tracing.example.com/adapt_{TOKEN}@x/api/otlp/traces"
GROUP = "cn-shanghai/eas-r-1a2b3c"
WAIT_SECONDS_MAX = 180.0


class Service:
    """The bearer gateway with one diagnosis, one resource group and a tracing token."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.looks_until_end = 0
        """Looks at the diagnosis that still find it running."""
        self.shipping = {"ProjectName": "", "LogStore": "", "Status": "ResourceReady"}
        self.lose: set[str] = set()
        """Operations that are done, but whose answer is lost on its way."""
        self.refuse: dict[str, tuple[int, str]] = {}
        """Operation -> HTTP status and code of a refusal."""
        self.begun = asyncio.Event()
        self.hold: asyncio.Event | None = None
        """Calls wait for it before they are answered."""
        self.base_url = ""
        self.answers = {
            "CreateDiagnosticTask": self.create_diagnostic_task,
            "DescribeDiagnosticResult": self.describe_diagnostic_result,
            "ListDiagnosticResults": self.list_diagnostic_results,
            "DescribeResourceLog": self.describe_resource_log,
            "CreateResourceLog": self.create_resource_log,
            "DeleteResourceLog": self.delete_resource_log,
            "GetXtraceToken": self.get_xtrace_token,
        }

    @property
    def calls_total(self) -> int:
        return sum(self.calls.values())

    async def serve(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["operation"]
        self.calls[name] += 1
        self.begun.set()
        if self.hold is not None:
            await self.hold.wait()
        if request.headers["Authorization"] != f"Bearer {KEY}":
            return web.json_response({"Code": "InvalidApiKey", "Message": "no"}, status=401)
        if name in self.refuse:
            status, code = self.refuse[name]
            return web.json_response({"RequestId": "R-1", "Code": code, "Message": "not so"}, status=status)
        asked = dict(request.query) if request.method in ("GET", "DELETE") else json.loads(await request.read())
        answer = {"RequestId": "R-1"} | self.answers[name](asked)
        if name in self.lose:
            assert request.transport is not None
            request.transport.abort()
        return web.json_response(answer)

    def create_diagnostic_task(self, asked: dict[str, Any]) -> dict[str, Any]:
        self.created = asked
        return {"DiagnosticId": "diag-1"}

    def describe_diagnostic_result(self, asked: dict[str, Any]) -> dict[str, Any]:
        self.looks_until_end -= 1
        known = {"DiagnosticId": asked["DiagnosticId"], "ClusterId": "i1", "NodeIds": ["e01-a"], "Novel": 1.50}
        if self.looks_until_end >= 0:
            return known | {"DiagnosticState": "Running", "CreatedTime": "2025-10-09T10:17:56"}
        found = [{"NodeId": "e01-a", "Message": "Xid 79: GPU has fallen off the bus"}]
        return known | {"DiagnosticState": "Fault", "EndTime": "2025-10-09T10:20:30", "DiagnosticResults": found}

    def list_diagnostic_results(self, asked: dict[str, Any]) -> dict[str, Any]:
        first = int(asked.get("NextToken", 0))
        size = asked["MaxResults"]
        records = [{"DiagId": f"diag-{n}", "Status": "succeed"} for n in range(first, min(first + size, 130))]
        return {"DiagnosticResults": records, "NextToken": str(first + size) if first + size < 130 else ""}

    def describe_resource_log(self, asked: dict[str, Any]) -> dict[str, Any]:
        now = dict(self.shipping)
        if self.shipping["Status"] == "ResourceDeleting":
            self.shipping |= {"ProjectName": "", "LogStore": ""}
        self.shipping["Status"] = "ResourceReady"
        return now

    def create_resource_log(self, asked: dict[str, Any]) -> dict[str, Any]:
        wanted = asked.get("body", asked)
        self.shipping = {
            "ProjectName": wanted["ProjectName"], "LogStore": wanted["LogStore"], "Status": "ResourceCreating",
        }  # fmt: skip
        return {"Message": "creating"}

    def delete_resource_log(self, asked: dict[str, Any]) -> dict[str, Any]:
        self.shipping["Status"] = "ResourceDeleting"
        return {"Message": "deleting"}

    def get_xtrace_token(self, asked: dict[str, Any]) -> dict[str, Any]:
        return {"Token": TOKEN, "HttpEndpoint": ENDPOINT, "HttpInternalEndpoint": ENDPOINT,
                "GrpcEndpoint": "http://tracing.example.com:8090"}  # fmt: skip


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    """A service that listens on loopback."""
    running = Service()
    application = web.Application()
    application.router.add_route("*", "/api/{product}/{version}/{operation}", running.serve)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    running.base_url = f"http://{host}:{port}"
    yield running
    await runner.cleanup()


@pytest.fixture
def config(tmp_path: Path, service: Service) -> Path:
    """A configuration of an empty collector before the service."""
    path = tmp_path / "collector.toml"
    path.write_text(f'[api]\nbase_url = "{service.base_url}"\n[store]\nflush_interval = "300ms"\n')
    return path


@pytest.fixture
def settings(config: Path) -> Settings:
    return load(config, {})


async def run(config: Path, *arguments: object, key: str | None = KEY) -> Ended:
    return await command(*arguments, "--config", config, "--log-format", "console", key=key)


class LeapingClock:
    """Sleeps for long pass at once; short ones let others work."""

    def __init__(self) -> None:
        self._now = 0.0

    def wall(self) -> float:
        return 1_760_000_000.0 + self._now

    def monotonic(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        self._now += seconds
        await asyncio.sleep(0.01)


# The simulated service, through both gateways


class MinutePerCall(SimulatorClock):
    """Runs as the machine's, and moves on by a minute with each call that was made."""

    api: Simulator | None = None

    def now(self) -> float:
        calls = 0 if self.api is None else sum(stats.calls for stats in self.api.stats.values())
        return super().now() + 60 * calls


@pytest.mark.parametrize("gateway", ["bearer", "openapi"])
@pytest.mark.slow("many commands")
async def test_the_simulated_service_is_managed_through_either_gateway(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gateway: str
) -> None:
    """A diagnosis, log shipping and the token; what was seen is in the store, and the meter equals its count."""
    use_access_key(monkeypatch, tmp_path)
    key = SIMULATOR_KEY if gateway == "bearer" else None
    # Whatever takes its time there has ended at the second look, however fast this machine is.
    clock = MinutePerCall()
    async with simulator(World(11, 3, 1), clock) as api:
        clock.api = api
        path = tmp_path / "collector.toml"
        path.write_text(f'[api]\ngateway = "{gateway}"\nbase_url = "{api.base_url}"\n')

        async def manage(*words: object) -> Any:
            done = await run(path, *words, key=key)
            assert (done.status, done.stderr) == (0, "")
            return done.json

        cluster = (await manage("call", "ListClusters"))["Clusters"][0]["ClusterId"]
        nodes = (await manage("call", "ListClusterNodes", "--param", f"ClusterId={cluster}"))["Nodes"]
        task = await manage(
            "diagnostics", "create", "--cluster", cluster, "--node", nodes[0]["NodeId"], "--node", nodes[1]["NodeId"],
            "--type", "NetDiag", "--from", "2025-10-09T09:00Z", "--to", "2025-10-09T10:00Z", "--watch", "--json",
        )  # fmt: skip
        assert task["DiagnosticState"] in ("Succeed", "Fault")
        assert task["NodeIds"] == [node["NodeId"] for node in nodes[:2]]
        listed = await manage("diagnostics", "list", "--json")
        assert listed[0]["DiagId"] == task["DiagnosticId"]
        group = (await manage("call", "ListResources"))["Resources"][0]
        name = f"{group['ClusterId']}/{group['ResourceId']}"
        await manage("resource-log", "enable", name, "--project", "p", "--logstore", "l", "--json")
        off = await manage("resource-log", "disable", name, "--yes", "--json")
        assert (off["changed"], off["reached"], off["project_name"]) == (True, True, "")
        assert "***" in (await manage("xtrace", "token", "--json"))["Token"]
        counted = {operation: stats.calls for operation, stats in api.stats.items() if stats.calls}
        await ship(load(path, {}))
        tables = [
            await manage("query", sql, "--format", "json")
            for sql in (
                "SELECT diagnostic_id, state FROM diagnostics",
                "SELECT project_name, status FROM resource_logs ORDER BY observed_at",
                "SELECT operation, toUInt32(sum(calls)) AS calls FROM api_calls GROUP BY 1",
            )
        ]
    assert tables[0] == [{"diagnostic_id": task["DiagnosticId"], "state": task["DiagnosticState"]}]
    assert {"project_name": "p", "status": "ResourceReady"} in tables[1]
    assert tables[1][-1] == {"project_name": "", "status": "ResourceReady"}
    assert {row["operation"]: row["calls"] for row in tables[2]} == counted


# call


@pytest.mark.slow("many commands")
async def test_a_call_prints_the_answer_as_it_was_sent_and_is_in_the_meter(config: Path, service: Service) -> None:
    """Fields that the catalogue does not know are there; the store's meter equals the service's count."""
    done = await run(config, "call", "DescribeDiagnosticResult", "--param", "DiagnosticId=diag-7")
    assert (done.status, done.stderr) == (0, "")
    assert done.json["DiagnosticId"] == "diag-7"
    assert done.json["Novel"] == 1.5
    service.refuse["ListClusters"] = (403, "Forbidden.RAM")
    refused = await run(config, "call", "ListClusters")
    assert (refused.status, refused.stdout) == (3, b"")
    assert len(refused.said("error")) == len(refused.said("hint")) == 1
    sql = "SELECT operation, toUInt32(sum(calls)) AS calls FROM api_calls GROUP BY 1 ORDER BY 1"
    await ship(load(config, {}))
    metered = await run(config, "query", sql, "--format", "json", key=None)
    assert {row["operation"]: row["calls"] for row in metered.json} == dict(service.calls)


async def test_a_call_of_all_pages_prints_one_answer_and_its_cost(config: Path, service: Service) -> None:
    """On stdout the answer, on stderr the calls; a page cannot be named."""
    done = await run(config, "call", "ListDiagnosticResults", "--all")
    assert done.status == 0
    assert [each["DiagId"] for each in done.json["DiagnosticResults"]] == [f"diag-{n}" for n in range(130)]
    assert "2 calls: 2 x unpriced" in done.stderr
    assert service.calls["ListDiagnosticResults"] == 2
    refused = await run(config, "call", "ListDiagnosticResults", "--all", "--param", "NextToken=t")
    assert (refused.status, refused.stdout) == (2, b"")


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        (["listsyslog"], ["no operation 'listsyslog' in the catalogue; did you mean ListSyslogs"]),
        ([], ["call needs an operation"]),
        (
            ["ListSyslogs", "--param", "Node=x", "--param", "FromTime=1760000000000", "--param", "Reverse=perhaps"],
            [
                "Node: ListSyslogs has no such parameter",
                "FromTime: expected a moment in UNIX seconds such as 1687363300, not milliseconds",
                "Reverse: expected true or false, got 'perhaps'",
                "ToTime: required by ListSyslogs",
                "NodeId: required by ListSyslogs",
            ],
        ),
        (["ListSyslogs", "--param", "NodeId"], ["--param: expected NAME=VALUE, got 'NodeId'"]),
        (
            ["ListClusters", "--param", "MaxResults=5", "--param", "MaxResults=6", "--param", "=x"],
            ["MaxResults: given twice", "--param: expected NAME=VALUE, got '=x'"],
        ),
        (["ListClusters", "--param", "MaxResults=many"], ["MaxResults: expected a whole number"]),
        (["ListClusters", "--param", "MaxResults=101"], ["MaxResults: expected a whole number from 1 to 100, got 101"]),
    ],
)
async def test_a_wrong_call_is_not_made(config: Path, service: Service, arguments: list[str], lines: list[str]) -> None:
    """Each mistake is a line; the status is 2, nothing is asked and nothing created."""
    done = await run(config, "call", *arguments)
    assert (done.status, done.stdout) == (2, b"")
    told = [line.removeprefix("error: ") for line in done.said("error")]
    assert [line[: len(right)] for line, right in zip(told, lines, strict=True)] == lines
    assert len(done.said("hint")) == 1
    assert service.calls_total == 0
    assert [path.name for path in config.parent.iterdir()] == [config.name]


async def test_the_catalogue_can_be_read_without_a_configuration(tmp_path: Path) -> None:
    """The list, as a table and as JSON, and the help of one operation; help of the command is another."""
    table, listed, help_of_one, help_of_all = await asyncio.gather(
        command("call", "--list", folder=tmp_path, key=None),
        command("call", "--list", "--json", folder=tmp_path, key=None),
        command("call", "ListClusterNodes", "--help", folder=tmp_path, key=None),
        command("call", "--help", folder=tmp_path, key=None),
    )
    assert [done.status for done in (table, listed, help_of_one, help_of_all)] == [0] * 4
    names = [row["operation"] for row in listed.json]
    assert all(name.encode() in table.stdout for name in names)
    assert b"OperatingStates" in help_of_one.stdout
    assert b"--param ClusterId=" in help_of_one.stdout
    assert b"--reveal" in help_of_all.stdout


async def test_a_group_without_a_command_shows_its_help() -> None:
    """That is wrong usage, and told on stdout without an error line."""
    for group in ("diagnostics", "resource-log", "xtrace"):
        done = await command(group)
        assert (done.status, done.stderr) == (2, "")
        assert b"Commands:" in done.stdout


# diagnostics


async def test_a_diagnosis_is_begun_watched_and_shown(config: Path, service: Service) -> None:
    """What was asked for arrives as the service takes it; the result is printed once it has ended."""
    service.looks_until_end = 1
    done = await run(
        config, "diagnostics", "create", "--cluster", "i1", "--node", "e01-a", "--node", "e01-b", "--type", "NetDiag",
        "--from", "2025-10-09T09:00Z", "--to", "1760004000", "--watch", "--json",
    )  # fmt: skip
    assert (done.status, done.stderr) == (0, "")
    assert done.json["DiagnosticState"] == "Fault"
    assert service.created == {
        "ClusterId": "i1", "NodeIds": ["e01-a", "e01-b"], "DiagnosticType": "NetDiag",
        "StartTime": "1760000400", "EndTime": "1760004000",
    }  # fmt: skip
    assert service.calls == {"CreateDiagnosticTask": 1, "DescribeDiagnosticResult": 2}
    shown = await run(config, "diagnostics", "show", "diag-1")
    assert shown.status == 0
    assert b"Xid 79" in shown.stdout
    assert b"Fault" in shown.stdout


async def test_a_watch_that_takes_too_long_shows_the_state_and_fails(config: Path, service: Service) -> None:
    """The last state is printed all the same."""
    service.looks_until_end = 100
    done = await run(config, "diagnostics", "watch", "diag-1", "--timeout", "500ms", "--json")
    assert done.status == 1
    assert done.json["DiagnosticState"] == "Running"
    assert done.said("error") == ["error: diag-1 has not ended in 0.5 s: it is Running"]


async def test_a_new_diagnosis_with_mistakes_is_not_begun(config: Path, service: Service) -> None:
    """All of them are told at once."""
    done = await run(
        config, "diagnostics", "create", "--cluster", "i1", "--node", "e01-a", "--type", "NetDiag",
        "--from", "1760000401", "--to", "soon", "--logs", config,
    )  # fmt: skip
    assert done.status == 2
    assert len(done.said("error")) == 3
    assert service.calls_total == 0


async def test_a_diagnosis_whose_answer_is_lost_is_begun_once(config: Path, service: Service) -> None:
    """The hint tells how to find out whether it was."""
    service.lose.add("CreateDiagnosticTask")
    done = await run(config, "diagnostics", "create", "--cluster", "i1", "--node", "e01-a", "--type", "NetDiag")
    assert (done.status, done.stdout) == (1, b"")
    assert "diagnostics list" in done.said("hint")[0]
    assert service.calls["CreateDiagnosticTask"] == 1


async def test_diagnoses_are_listed_over_all_pages(config: Path, service: Service) -> None:
    """As many as there are, or as many as were asked for."""
    every, some = await asyncio.gather(
        run(config, "diagnostics", "list", "--limit", "1000", "--json"),
        run(config, "diagnostics", "list", "--limit", "3"),
    )
    assert [record["DiagId"] for record in every.json] == [f"diag-{n}" for n in range(130)]
    assert len(some.stdout.splitlines()) == 1 + 3
    assert service.calls["ListDiagnosticResults"] == 3


# resource-log


@pytest.mark.slow("many commands")
async def test_log_shipping_is_switched_on_and_off_once(config: Path, service: Service) -> None:
    """A second time says that it is so already, and asks for no change."""
    enable = ("resource-log", "enable", GROUP, "--project", "p", "--logstore", "l")
    first, again = await run(config, *enable), await run(config, *enable, "--json")
    assert (first.status, again.status, first.stderr, again.stderr) == (0, 0, "", "")
    assert first.stdout == f"the logs of {GROUP} go to p/l\n".encode()
    assert (again.json["changed"], again.json["reached"], again.json["project_name"]) == (False, True, "p")
    shown = await run(config, "resource-log", "show", GROUP, "--json")
    assert shown.json["log_store"] == "l"
    other = await run(config, "resource-log", "enable", GROUP, "--project", "q", "--logstore", "l")
    assert (other.status, len(other.said("error"))) == (2, 1)
    off = await run(config, "resource-log", "disable", GROUP, "--yes", "--json")
    again = await run(config, "resource-log", "disable", GROUP, "--yes")
    assert (off.status, off.json["changed"], off.json["project_name"]) == (0, True, "")
    assert again.stdout == f"the logs of {GROUP} are not shipped\n".encode()
    assert (service.calls["CreateResourceLog"], service.calls["DeleteResourceLog"]) == (1, 1)


async def test_a_change_whose_answer_is_lost_is_looked_for(config: Path, service: Service) -> None:
    """It was made, so the command succeeds, without asking twice."""
    service.lose.add("CreateResourceLog")
    done = await run(config, "resource-log", "enable", GROUP, "--project", "p", "--logstore", "l", "--json")
    assert (done.status, done.json["changed"], done.json["reached"]) == (0, True, True)
    assert service.calls["CreateResourceLog"] == 1


@pytest.mark.parametrize("name", ["eas-r-1", "/eas-r-1", "cn-shanghai/", "a/b/c", ""])
async def test_a_wrong_name_of_a_group_is_a_usage_error(config: Path, service: Service, name: str) -> None:
    """Nothing is asked."""
    done = await run(config, "resource-log", "show", name)
    assert done.status == 2
    assert done.said("error")[0].startswith("error: CLUSTER/RESOURCE: expected")
    assert service.calls_total == 0


async def test_disabling_without_a_terminal_needs_a_yes(config: Path, service: Service) -> None:
    """Nothing is asked of the service."""
    service.shipping |= {"ProjectName": "p", "LogStore": "l"}
    done = await run(config, "resource-log", "disable", GROUP)
    assert done.status == 2
    assert done.said("hint") == ["hint: --yes says yes"]
    assert service.calls_total == 0


@pytest.mark.parametrize("answer", ["y", "n"])
@pytest.mark.slow("many commands")
async def test_disabling_asks_on_a_terminal(config: Path, service: Service, answer: str) -> None:
    """A yes does it; a no changes nothing and is no success."""
    service.shipping |= {"ProjectName": "p", "LogStore": "l"}
    main, side = pty.openpty()
    try:
        os.write(main, f"{answer}\n".encode())
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "collector", "resource-log", "disable", GROUP, "--config",
            str(config), env=environment(KEY), stdin=side, stdout=asyncio.subprocess.PIPE, stderr=side,
        )  # fmt: skip
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            stdout, _ = await process.communicate()
    finally:
        os.close(main)
        os.close(side)
    agreed = answer == "y"
    assert process.returncode == (0 if agreed else 1)
    assert stdout.decode().endswith("are shipped no longer\n" if agreed else "nothing was changed\n")
    assert service.calls["DeleteResourceLog"] == int(agreed)


# xtrace, and secrets


async def test_the_tracing_token_is_masked_unless_asked_for(config: Path, service: Service) -> None:
    """So it is by `call`; what is no secret is shown."""
    masked, as_json, called, revealed = [
        await run(config, *words)
        for words in (
            ("xtrace", "token"),
            ("xtrace", "token", "--json"),
            ("call", "GetXtraceToken"),
            ("xtrace", "token", "--reveal", "--json"),
        )
    ]
    for done in (masked, as_json, called):
        assert done.status == 0
        assert TOKEN.encode() not in done.stdout
        assert b"cana*** (27 characters)" in done.stdout
        assert b"http://tracing.example.com:8090" in done.stdout
    assert revealed.json["Token"] == TOKEN
    assert revealed.json["HttpEndpoint"] == ENDPOINT


async def test_without_the_permission_the_policy_is_named(config: Path, service: Service) -> None:
    """With the status of refused credentials."""
    service.refuse["GetXtraceToken"] = (403, "NoPermission")
    done = await run(config, "xtrace", "token")
    assert done.status == 3
    assert "AliyunARMSFullAccess" in done.said("hint")[0]


async def test_no_secret_is_in_any_log_or_file(config: Path, service: Service) -> None:
    """Neither the key nor the token, in the most talkative logs, in the journal or in the store; also when revealed."""
    talkative = ("--debug", "--log-level", "debug", "--log-format", "json", "--config", config)
    for words in (
        ("xtrace", "token"),
        ("xtrace", "token", "--reveal"),
        ("call", "GetXtraceToken", "--reveal"),
        ("call", "GetXtraceToken"),
    ):
        done = await command(*words, *talkative, key=KEY)
        assert done.status == 0
        assert done.stderr
        assert TOKEN not in done.stderr
        assert KEY not in done.stderr + done.stdout.decode()
        assert (TOKEN.encode() in done.stdout) == ("--reveal" in words)
    await ship(load(config, {}))
    files = [file for file in config.parent.rglob("*") if file.is_file()]
    assert len(files) > 5
    assert [file for file in files if TOKEN.encode() in (held := file.read_bytes()) or KEY.encode() in held] == []


# Through another owner


@asynccontextmanager
async def owner_listening(settings: Settings, key: str | None = KEY) -> AsyncIterator[Owner]:
    async with await Owner.open(settings, key=key) as owner, listening(owner):
        yield owner


@pytest.mark.slow("many commands")
async def test_another_process_makes_the_call_with_its_own_key(
    config: Path, service: Service, settings: Settings
) -> None:
    """The user of the command needs none; mistakes and refusals have the status they have without an owner."""
    async with owner_listening(settings):
        call = ("call", "DescribeDiagnosticResult", "--param", "DiagnosticId=diag-7")
        done = await run(config, *call, key=None)
        assert (done.status, done.json["DiagnosticState"]) == (0, "Fault")
        for http_status, code, status in (
            (403, "NoPermission", 3), (401, "InvalidApiKey", 3), (404, "NotFound", 1), (400, "InvalidParameter", 1),
        ):  # fmt: skip
            service.refuse["GetXtraceToken"] = (http_status, code)
            refused = await run(config, "xtrace", "token", key=None)
            assert refused.status == status
            assert len(refused.said("error")) == len(refused.said("hint")) == 1
            assert f"HTTP {http_status}, {code}, request R-1" in refused.said("error")[0]
            if http_status == 401:
                break


@pytest.mark.slow("many commands")
async def test_errors_cross_the_socket_as_what_they_are(service: Service, settings: Settings) -> None:
    """Each kind with its facts and its hint."""
    async with owner_listening(settings), session(settings) as through:
        with pytest.raises(ConfigError) as mistakes:
            await call_in(through, "ListSyslogs", {"NodeId": 5})
        assert len(mistakes.value.mistakes) == 3
        for http_status, code, kind in (
            (404, "ResourceNotFound", NotFoundError), (400, "InvalidParameter", BadRequestError),
            (403, "NoPermission", ForbiddenError),
        ):  # fmt: skip
            service.refuse["ListClusters"] = (http_status, code)
            with pytest.raises(kind) as raised:
                await call_in(through, "ListClusters", {})
            assert (raised.value.http_status, raised.value.code, raised.value.request_id) == (http_status, code, "R-1")
            assert raised.value.hint
    assert service.calls_total == 3


@pytest.mark.slow("many commands")
async def test_an_owner_that_only_reads_makes_no_call(service: Service, settings: Settings) -> None:
    """It says so, unless it ends soon: then the command becomes the owner itself."""
    async with owner_listening(settings, key=None), session(settings, key=KEY, clock=LeapingClock()) as through:
        with pytest.raises(OwnedElsewhere, match="only reads and has no key"):
            await call_in(through, "ListClusters", {})
        with pytest.raises(OwnedElsewhere, match="only reads and has no key"):
            await through.ask(CHECK, CheckRequest())
    assert service.calls_total == 0
    ends = asyncio.Event()

    async def reader() -> None:
        async with owner_listening(settings, key=None):
            ends.set()
            await asyncio.sleep(0.3)

    reading = asyncio.create_task(reader())
    await ends.wait()
    async with session(settings, key=KEY) as through:
        assert (await call_in(through, "DescribeDiagnosticResult", {"DiagnosticId": "diag-1"})).http_status == 200
    await reading


@pytest.mark.slow("many commands")
async def test_an_owner_that_never_answers_is_told_in_words(settings: Settings) -> None:
    """Who it is, and that it has to be looked at: not the error of a socket."""

    async def hang_up(request: bytes) -> None:
        pass

    lock = OwnerLock(settings.journal.path).acquire()
    try:
        async with false_owner(settings, hang_up), session(settings, key=KEY, clock=LeapingClock()) as through:
            for asking in (
                through.ask(STATUS, StatusRequest()),
                through.ask(GAPS, GapsRequest()),
                through.ask(VERIFY, VerifyRequest("syslogs", -60, 0)),
            ):
                with pytest.raises(OwnedElsewhere, match=f"is owned by process {os.getpid()} .*does not answer"):
                    await asking
    finally:
        lock.release()


@asynccontextmanager
async def false_owner(settings: Settings, handler: Callable[[bytes], Awaitable[None]]) -> AsyncIterator[None]:
    """What greets at the owner's socket as if it were one, gives each request to `handler`, and hangs up."""
    path = socket_path(settings.journal.path)
    path.parent.mkdir(parents=True, exist_ok=True)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await frame(reader))
        await handler((await frame(reader))[FRAME_HEAD:])
        writer.transport.abort()

    async with reachable(path) as address:
        server = await asyncio.start_unix_server(serve, address)
    try:
        yield
    finally:
        server.close()


FRAME_HEAD = 5


async def frame(reader: asyncio.StreamReader) -> bytes:
    """One frame as it came: the greeting of a command is that of an owner too."""
    head = await reader.readexactly(FRAME_HEAD)
    return head + await reader.readexactly(int.from_bytes(head[1:]))


@pytest.mark.slow("many commands")
async def test_what_another_command_asked_for_is_finished_and_metered_when_the_owner_ends(
    config: Path, service: Service, settings: Settings
) -> None:
    """The answer still comes, and the call is in the store."""
    service.hold = asyncio.Event()
    async with session(settings, key=KEY) as first:
        await first.ask(STATUS, StatusRequest())
        process = await started(
            "call", "DescribeDiagnosticResult", "--param", "DiagnosticId=diag-1", "--config", config, key=None
        )
        asyncio.get_running_loop().call_later(0.5, service.hold.set)
        await asyncio.wait_for(service.begun.wait(), WAIT_SECONDS_MAX)
    done = await ended(process)
    assert (done.status, done.json["DiagnosticState"]) == (0, "Fault")
    await ship(settings)
    metered = await run(config, "query", "SELECT sum(calls) AS n FROM api_calls", "--format", "json", key=None)
    assert [int(row["n"]) for row in metered.json] == [1]


@pytest.mark.parametrize("operation", ["DescribeDiagnosticResult", "CreateDiagnosticTask"])
async def test_a_call_under_which_the_owner_dies_is_repeated_only_where_that_does_no_harm(
    service: Service, settings: Settings, operation: str
) -> None:
    """One that may have begun something is an error that says so."""
    path = socket_path(settings.journal.path)

    async def die(request: bytes) -> None:
        assert msgspec.msgpack.decode(request, type=CallRequest).operation == operation
        path.unlink()

    async with false_owner(settings, die), session(settings, key=KEY) as through:
        if operation == "CreateDiagnosticTask":
            with pytest.raises(TransientError, match="the call may have been made"):
                await call_in(through, operation, {"ClusterId": "i1"})
        else:
            assert (await call_in(through, operation, {"DiagnosticId": "diag-1"})).http_status == 200
    assert service.calls_total == (0 if operation == "CreateDiagnosticTask" else 1)


@pytest.mark.slow("many commands")
async def test_a_watch_keeps_nobody_from_the_journal(config: Path, service: Service, settings: Settings) -> None:
    """Between two looks another process can be the owner; Ctrl-C ends the watch at once."""
    service.looks_until_end = 1000
    process = await started("diagnostics", "watch", "diag-1", "--config", config, key=KEY)
    await asyncio.wait_for(service.begun.wait(), WAIT_SECONDS_MAX)
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        while True:
            try:
                async with await Owner.open(settings):
                    break
            except OwnedElsewhere:
                await asyncio.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert (await ended(process)).status == 130
