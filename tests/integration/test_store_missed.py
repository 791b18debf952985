"""A service that starts while its server is away."""

from __future__ import annotations

import asyncio
import json
import signal
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from collector.journal.inspect import contents
from collector.settings import STORE_PASSWORD_VARIABLE, load
from collector.simulator.process import SimulatorProcess
from tests.integration.test_life_cycle import NODES, WORLD, once, serving, simulated
from tests.support import LOOKBACK, NOW, SETTLE, differences, fetch, stored_syslogs, true_syslogs
from tests.support.server_process import PASSWORD, ServerProcess, url

PATIENCE_SECONDS = 120.0
LATER_SECONDS = 180


@pytest.fixture
async def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ServerProcess]:
    monkeypatch.setenv(STORE_PASSWORD_VARIABLE, PASSWORD)
    process = ServerProcess(tmp_path / "server")
    await process.start()
    yield process
    await process.kill()


def configured(folder: Path, api: SimulatorProcess, server: ServerProcess, listen: str = "") -> Path:
    path = folder / "collector.toml"
    path.write_text(
        f"""
        [api]
        base_url = "{api.base_url}"
        [service]
        listen = "{listen}"
        [store]
        url = "{url(server.port)}"
        flush_interval = "300ms"
        [journal]
        path = "{folder}/journal.db"
        [targets]
        nodes = {WORLD.node_ids[:NODES]}
        resource_groups = {WORLD.group_ids}
        [sources.syslogs]
        initial_lookback = "{LOOKBACK}s"
        settle = "{SETTLE}s"
        recheck = []
        [sources.node_metrics]
        enabled = false
        """
    )
    return path


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():
            await asyncio.sleep(0.1)


def waiting(path: Path) -> Counter[str]:
    """Rows of each table that are in the journal, of windows that are sealed."""
    rows: Counter[str] = Counter()
    for chunk in contents(path)["chunks"]:
        rows[chunk["table"]] += chunk["rows"] if not chunk["unsealed"] else 0
    return rows


def asked(address: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(address, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.mark.slow("services as processes")
async def test_rows_gather_in_the_journal_until_the_server_answers(tmp_path: Path, server: ServerProcess) -> None:
    """Log lines and snapshots of the time without a server are stored once, and no call is made twice."""
    journal = tmp_path / "journal.db"
    async with simulated() as api:
        path = configured(tmp_path, api, server)
        await once(path)
        await server.kill()
        await api.tell("clock", {"advance": LATER_SECONDS})
        async with serving(path) as service:
            missed = await service.event("store_missed")
            assert missed["streams"] == NODES + 1
            assert f"127.0.0.1:{server.port}" in missed["error"]
            await service.event("service_started")
            await until(lambda: waiting(journal)["syslogs"] > 0 and waiting(journal)["resource_group_metrics"] == 1)
            await server.start()
            await service.event("store_recovered")
            await service.event("service_started")
            await until(lambda: not waiting(journal))
            service.process.send_signal(signal.SIGTERM)
            assert await service.ended() == 0
        configuration = load(path, {})
        truth = true_syslogs(WORLD, WORLD.node_ids, NOW - LOOKBACK, NOW + LATER_SECONDS - SETTLE)
        assert not differences(truth, await stored_syslogs(configuration))
        ticks = await fetch(
            configuration, "SELECT toUnixTimestamp(time), count() FROM resource_group_metrics GROUP BY 1 ORDER BY 1"
        )
        assert ticks == [[tick // 60 * 60, 1] for tick in (NOW, NOW + LATER_SECONDS)]
        stats: dict[str, Any] = await api.told("stats")
        metered = await fetch(configuration, "SELECT operation, sum(calls) FROM api_calls GROUP BY 1")
        assert dict(metered) == {name: told["calls"] for name, told in stats.items() if told["calls"]}
        assert stats["GetUserViewMetrics"]["calls"] == 2


@pytest.mark.slow("services as processes")
async def test_it_says_that_the_store_is_missing_and_ends_in_good_order(tmp_path: Path, server: ServerProcess) -> None:
    """Alive and not ready; a signal ends it, and what was collected is kept for the next start."""
    journal = tmp_path / "journal.db"
    async with simulated() as api:
        path = configured(tmp_path, api, server, listen="127.0.0.1:0")
        await once(path)
        await server.kill()
        await api.tell("clock", {"advance": LATER_SECONDS})
        async with serving(path) as service:
            address = (await service.event("listener_started"))["address"]
            await until(lambda: waiting(journal)["syslogs"] > 0)
            assert asked(f"{address}/healthz")[0] == 200
            status, body = asked(f"{address}/readyz")
            assert status == 503
            assert "opening the store" in body
            service.process.send_signal(signal.SIGTERM)
            assert await service.ended() == 0
        assert waiting(journal)["syslogs"] > 0
        await server.start()
        await once(path)
        truth = true_syslogs(WORLD, WORLD.node_ids, NOW - LOOKBACK, NOW + LATER_SECONDS - SETTLE)
        assert not differences(truth, await stored_syslogs(load(path, {})))


@pytest.mark.slow("services as processes")
async def test_a_journal_that_knows_nothing_is_no_beginning(tmp_path: Path, server: ServerProcess) -> None:
    """Without a store there is nothing that could be gone on with: the first start fails, and says why."""
    await server.kill()
    async with simulated() as api:
        async with serving(configured(tmp_path, api, server)) as service:
            assert await service.ended() == 1
        (failed,) = (event for event in service.events if event["event"] == "command_failed")
        assert "opening the store" in failed["message"]
        assert not any(told["calls"] for told in (await api.told("stats")).values())
    assert json.dumps(service.events).count(PASSWORD) == 0


@pytest.mark.slow("services as processes", cases=4)
@pytest.mark.parametrize(
    "how", ["removed under it", "removed after a kill", "its folder removed after a kill", "replaced under it"]
)
async def test_a_service_whose_journal_is_lost_collects_again_by_itself(
    tmp_path: Path, server: ServerProcess, how: str
) -> None:
    """Nobody has to do anything: readiness says what happens, and every line is stored once."""
    journal = tmp_path / "journal.db"

    def lose() -> None:
        for file in (journal, tmp_path / "journal.db-wal", tmp_path / "journal.db-shm"):
            file.unlink(missing_ok=True)
        if how.startswith("its folder"):
            for name in ("journal.db.ids", "journal.db.lock"):
                (tmp_path / name).unlink()
        if how == "replaced under it":
            journal.write_bytes(b"SQLite format 3\0" + bytes(5000))

    async with simulated() as api:
        path = configured(tmp_path, api, server, listen="127.0.0.1:0")
        async with serving(path) as service:
            address = (await service.event("listener_started"))["address"]
            await until(lambda: asked(f"{address}/readyz")[0] == 200)
            is_killed = how.endswith("after a kill")
            if is_killed:
                service.process.kill()
            lose()
            if not is_killed:
                await until(lambda: asked(f"{address}/readyz")[0] == 503)
                assert "removed or replaced" in asked(f"{address}/readyz")[1]
                address = (await service.event("listener_started"))["address"]
                await api.tell("clock", {"advance": LATER_SECONDS})
                await until(lambda: asked(f"{address}/readyz")[0] == 200)
                service.process.send_signal(signal.SIGTERM)
                assert await service.ended() == 0
        if is_killed:
            await api.tell("clock", {"advance": 20})
            async with serving(path) as again:
                address = (await again.event("listener_started"))["address"]
                await until(lambda: asked(f"{address}/readyz")[0] == 200)
        await api.tell("clock", {"advance": 2 * LATER_SECONDS})
        await once(path)
        configuration = load(path, {})
        ((start, end),) = await fetch(
            configuration,
            "SELECT toUnixTimestamp(max(collected_from)), toUnixTimestamp(min(watermark)) FROM watermarks"
            " WHERE operation = 'ListSyslogs'",
        )
        stored = await stored_syslogs(configuration)
        kept = Counter({row: count for row, count in stored.items() if start <= row[0] < end})
        # A stream of which nothing was stored before the loss begins later.
        assert end - start > LOOKBACK - SETTLE - 60
        assert not differences(true_syslogs(WORLD, WORLD.node_ids, start, end), kept)
