"""What the service answers over HTTP: to whom, and whether it is true."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp.test_utils import unused_port
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from collector.errors import ConfigError, UsageError
from collector.journal import journal
from collector.service.http import check_listener, serving_http
from collector.simulator.server import SIMULATOR_KEY
from collector.simulator.world import World
from collector.telemetry.metrics import COUNTERS, GAUGES
from tests.support.running_service import Running, running

LOOPBACK = "127.0.0.1:0"
RULES = Path(__file__).parents[2] / "contrib/prometheus"
PROMTOOL = shutil.which("promtool")

with_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (Debian's package prometheus)")


@asynccontextmanager
async def listening(
    folder: Path, *, token: str = "", listen: str = LOOPBACK, key: str = SIMULATOR_KEY
) -> AsyncIterator[tuple[Running, aiohttp.ClientSession]]:
    """A service that runs, and a client of its listener."""
    world = World(seed=5, node_count=3, group_count=1, density=0.3)
    targets = {"nodes": world.node_ids, "resource_groups": world.group_ids}
    async with (
        running(folder, world, key=key, targets=targets) as run,
        serving_http(run.owner, listen=listen, token=token) as address,
        aiohttp.ClientSession(address) as client,
    ):
        yield run, client


async def text(client: aiohttp.ClientSession, path: str, **headers: str) -> tuple[int, str]:
    async with client.get(path, headers={name.replace("_", "-"): value for name, value in headers.items()}) as answer:
        return answer.status, await answer.text()


async def collected(run: Running) -> None:
    await run.until(lambda: run.source("ListSyslogs").states == {"collected": 3})


def promtool(*arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    assert PROMTOOL is not None
    return subprocess.run([PROMTOOL, *arguments], input=given, capture_output=True, text=True, timeout=180, check=False)


async def test_a_service_that_collects_is_alive_and_ready(tmp_path: Path) -> None:
    """Both questions are answered with yes, and readiness with the reasons that there are not."""
    async with listening(tmp_path) as (run, client):
        await collected(run)
        assert await text(client, "/healthz") == (200, "alive\n")
        status, body = await text(client, "/readyz")
        assert (status, body) == (200, '{"ready": true, "reasons": []}')


async def test_the_metrics_count_what_the_api_counted(tmp_path: Path) -> None:
    """Requests by operation are the simulator's own count, and every documented metric that applies is there."""
    async with listening(tmp_path) as (run, client):
        await collected(run)

        def counted() -> dict[str, float]:
            found: dict[str, float] = {}
            for family in text_string_to_metric_families(run.owner.metrics.exposition([]).decode()):
                for sample in family.samples:
                    if sample.name == "pai_collector_requests_total":
                        operation = sample.labels["operation"]
                        found[operation] = found.get(operation, 0.0) + sample.value
            return found

        await run.until(lambda: counted() == {name: s.calls for name, s in run.api.stats.items() if s.calls})
        _, body = await text(client, "/metrics")
        names = {family.name for family in text_string_to_metric_families(body)}
        # Without a budget, a stop, rechecks or a pot there is nothing to tell of them.
        absent = {"budget_cny", "stopped", "recheck_calls", "late_rows"}
        absent |= {"pot_calls", "pot_forecast_calls", "pot_free_calls"}
        assert names >= {f"pai_collector_{name}" for name in {*GAUGES, *COUNTERS} - absent}
        _, body = await text(client, "/metrics", Accept="application/openmetrics-text; version=1.0.0")
        assert {family.name for family in openmetrics(body)} >= {
            name for name in names if not name.endswith("_created")
        }


@with_promtool
@pytest.mark.slow("troubles that are told")
async def test_the_metrics_are_what_prometheus_expects(tmp_path: Path) -> None:
    """Prometheus's own check has nothing to say about them, and does about spoilt ones."""
    async with listening(tmp_path) as (run, client):
        await collected(run)
        status, body = await text(client, "/metrics")
        assert status == 200
        checked = promtool("check", "metrics", given=body)
        assert (checked.returncode, checked.stderr) == (0, "")
        broken = promtool("check", "metrics", given=body.replace(" counter", " gauge"))
        assert broken.returncode != 0


@with_promtool
@pytest.mark.slow("troubles that are told")
def test_the_alert_rules_are_valid_and_fire_when_they_should() -> None:
    """Each rule fires for what it is about, after its time, and none of them without cause."""
    for arguments in (["check", "rules", str(RULES / "alerts.yml")], ["test", "rules", str(RULES / "alerts_test.yml")]):
        checked = promtool(*arguments)
        assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_alert_rules_name_metrics_that_exist() -> None:
    """A rule over a metric that nobody writes would never fire."""
    rules = (RULES / "alerts.yml").read_text()
    known = {*GAUGES, *(f"{name}_total" for name in COUNTERS), "requests_total"}
    named = {word.split("{")[0].split("[")[0].strip("() ") for word in rules.split() if "pai_collector_" in word}
    assert {name[name.index("pai_collector_") + len("pai_collector_") :] for name in named} <= known


async def test_an_api_that_is_away_from_the_start_is_told_alike_on_every_way(tmp_path: Path) -> None:
    """Streams that have never been collected fail; none is counted as collected, and all ways say the same."""
    world = World(seed=5, node_count=3, group_count=1)
    async with (
        running(tmp_path, world, targets={"nodes": world.node_ids}, api={"base_url": "http://127.0.0.1:9"}) as run,
        serving_http(run.owner, listen=LOOPBACK, token="") as address,
        aiohttp.ClientSession(address) as client,
    ):
        await run.until(lambda: bool(run.service.facts().stops))
        code, body = await text(client, "/readyz")
        assert code == 503
        assert "every stream fails" in body
        async with client.get("/status") as answer:
            told = await answer.json()
        assert told["headline"] == "ListSyslogs keeps failing; every stream fails."
        assert (told["is_well"], told["is_ready"], told["states"]) == (False, False, {"failing": 3})
        assert {stream["state"] for stream in told["streams"]} == {"failing"}
        assert told["headline"] in (await text(client, "/"))[1]
        metrics = (await text(client, "/metrics"))[1]
        assert 'pai_collector_streams{source="syslogs",state="failing"} 3.0' in metrics
        assert 'pai_collector_unwell{reason="nothing",subject=""} 1.0' in metrics
        assert 'pai_collector_unwell{reason="circuit",subject="ListSyslogs"} 1.0' in metrics
        assert "pai_collector_well 0.0" in metrics


@pytest.mark.slow("troubles that are told")
async def test_a_refused_account_is_told_on_every_way(tmp_path: Path) -> None:
    """With a wrong key the service lives, is not ready, and says why on the page, in the status and the metrics."""
    async with listening(tmp_path, key="sk-wrong") as (run, client):
        await run.until(lambda: bool(run.service.facts().stops))
        assert (await text(client, "/healthz"))[0] == 200
        status, body = await text(client, "/readyz")
        assert status == 503
        assert "the account is stopped" in body
        async with client.get("/status") as answer:
            told = await answer.json()
        assert not told["is_well"]
        assert told["stops"][0]["what"] == "account"
        assert told["stops"][0]["next_try"] > told["now"]
        assert 'pai_collector_stopped{operation="",what="account"} 1.0' in (await text(client, "/metrics"))[1]
        page = (await text(client, "/"))[1]
        assert "The account is stopped" in page
        assert "sk-wrong" not in page + body


@pytest.mark.slow("troubles that are told")
async def test_a_disk_without_room_is_told_on_every_way(tmp_path: Path) -> None:
    """While collecting waits for room, the service is not ready; with room it is again."""
    async with listening(tmp_path) as (run, client):
        await collected(run)
        free_bytes, run.owner.room._free_bytes = run.owner.room._free_bytes, lambda _: 0
        await run.until(lambda: run.owner.room.is_full)
        status, body = await text(client, "/readyz")
        assert status == 503
        assert "disk is full" in body
        assert "pai_collector_journal_full 1.0" in (await text(client, "/metrics"))[1]
        assert "disk is full; collecting waits" in (await text(client, "/"))[1]
        run.owner.room._free_bytes = free_bytes
        await run.until(lambda: not run.owner.room.is_full)
        assert (await text(client, "/readyz"))[0] == 200


@pytest.mark.slow("troubles that are told")
async def test_a_journal_that_another_program_locks_is_outlasted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service is alive and not ready meanwhile, says why, and collects again afterwards."""
    monkeypatch.setattr(journal, "BUSY_TIMEOUT_MS", 20)
    async with listening(tmp_path) as (run, client):
        await collected(run)
        other = sqlite3.connect(run.owner.journal.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        await run.until(lambda: run.owner.room.is_full)
        assert (await text(client, "/healthz"))[0] == 200
        status, body = await text(client, "/readyz")
        assert status == 503
        assert "the journal takes nothing at present: database is locked" in body
        other.close()
        await run.until(lambda: not run.owner.room.is_full)
        assert (await text(client, "/readyz"))[0] == 200


@pytest.mark.slow("troubles that are told")
async def test_what_an_error_says_is_text_on_the_page(tmp_path: Path) -> None:
    """An answer of the API cannot put markup on the page, and the page may load and run nothing."""
    async with listening(tmp_path) as (run, client):
        await collected(run)
        state = next(iter((await run.owner.journal.streams()).values()))
        await run.owner.journal.set_error(state.id, "<script>alert(1)</script>", run.owner.server_clock.now())
        async with client.get("/") as answer:
            page = await answer.text()
            policy = answer.headers["Content-Security-Policy"]
        assert "<script>" not in page
        assert "&lt;script&gt;" in page or "streams fail" not in page
        assert "default-src 'none'" in policy


@pytest.mark.parametrize("host", ["evil.example", "evil.example:9600", "127.0.0.1.evil.example", ""])
@pytest.mark.slow("hostile queries", fast=("evil.example",))
async def test_a_name_that_was_made_to_point_here_is_refused(tmp_path: Path, host: str) -> None:
    """A page in a browser cannot read the listener under a name of its own."""
    async with listening(tmp_path) as (_, client):
        for path in ("/", "/status", "/metrics", "/healthz"):
            assert (await text(client, path, Host=host))[0] == 403
        assert (await text(client, "/healthz", Host="localhost:9600"))[0] == 200


async def test_with_a_token_only_who_has_it_is_told_anything(tmp_path: Path) -> None:
    """Without it there are only yes and no, for what watches processes."""
    async with listening(tmp_path, token="a-long-token", listen="0.0.0.0:0") as (run, client):
        await collected(run)
        for path in ("/", "/status", "/metrics"):
            assert (await text(client, path))[0] == 401
            assert (await text(client, path, Authorization="Bearer a-long-toke"))[0] == 401
            assert (await text(client, path, Authorization="Bearer a-long-token"))[0] == 200
        assert (await text(client, "/healthz"))[0] == 200
        assert await text(client, "/readyz") == (200, '{"ready": true}')


@pytest.mark.parametrize("listen", ["0.0.0.0:9600", "[::]:9600", "collector.example:9600", "10.0.0.1:9600"])
def test_others_are_listened_to_only_with_a_token(listen: str) -> None:
    """An address that others can reach is a mistake of the configuration without a token, and none with one."""
    with pytest.raises(ConfigError, match=r"service\.listen: got .*PAI_COLLECTOR_SERVICE_TOKEN"):
        check_listener(listen, "")
    check_listener(listen, "a-long-token")


@pytest.mark.slow("troubles that are told")
async def test_an_address_that_is_taken_is_named(tmp_path: Path) -> None:
    """The error names the key and the address."""
    port = unused_port()
    async with listening(tmp_path, listen=f"127.0.0.1:{port}") as (run, _):
        with pytest.raises(UsageError, match=rf"service\.listen: got \"127\.0\.0\.1:{port}\""):
            async with serving_http(run.owner, listen=f"127.0.0.1:{port}", token=""):
                pass
