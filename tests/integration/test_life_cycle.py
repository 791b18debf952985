"""The service as a process: how it ends, what a reload does, and what it tells systemd."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from collector.journal.inspect import contents
from collector.owner.lock import OwnerLock, ReaderLock
from collector.settings import load
from collector.simulator.process import SimulatorProcess, simulator_process
from collector.simulator.server import SIMULATOR_KEY
from collector.simulator.world import World
from tests.support import LOOKBACK, NOW, SETTLE, differences, stored_syslogs, true_syslogs
from tests.support.recordings import recorded_calls

SEED = 31
NODES = 16
WORLD = World(SEED, NODES, 1, lines_per_second=4.0)
PATIENCE_SECONDS = 180.0
GRACE_SECONDS = 20
START_SECONDS_MAX = 60
"""Between a process's question for the time and its first window."""


def simulated(*arguments: str) -> Any:
    """A simulator of `WORLD` whose clock stands still, so that what is needed is the same for everybody."""
    return simulator_process(
        "--seed", str(SEED), "--nodes", str(NODES), "--groups", "1", "--lines-per-second", "4.0", "--start", str(NOW),
        "--rate", "0", *arguments,
    )  # fmt: skip


def configured(folder: Path, api: SimulatorProcess, *, nodes: int = NODES) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "collector.toml"
    path.write_text(
        f"""
        [api]
        base_url = "{api.base_url}"
        concurrency_max = 8
        [service]
        listen = ""
        sql_listen = ""
        grace = "{GRACE_SECONDS}s"
        [store]
        flush_interval = "300ms"
        [targets]
        nodes = {WORLD.node_ids[:nodes]}
        resource_groups = []
        [sources.syslogs]
        initial_lookback = "{LOOKBACK}s"
        settle = "{SETTLE}s"
        recheck = []
        """
    )
    return path


class Service:
    """A running `pai-collector run`, and what it has logged."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.events: list[Mapping[str, Any]] = []

    async def event(self, name: str, **fields: object) -> Mapping[str, Any]:
        """The next event of this name, read from the log."""
        assert self.process.stderr is not None
        async with asyncio.timeout(PATIENCE_SECONDS):
            async for line in self.process.stderr:
                self.events.append(json.loads(line))
                told = self.events[-1]
                if told["event"] == name and all(told.get(key) == value for key, value in fields.items()):
                    return told
        raise AssertionError(f"ended without {name}: {self.events}")

    async def ended(self) -> int:
        """Its exit status."""
        assert self.process.stderr is not None
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                async for line in self.process.stderr:
                    self.events.append(json.loads(line))
                return await self.process.wait()
        except TimeoutError:
            # Every thread's stack, from the fault handler.
            self.process.send_signal(signal.SIGABRT)
            stacks = (await self.process.stderr.read()).decode()
            raise AssertionError(f"does not end: {self.events[-20:]}\n{stacks}") from None


@asynccontextmanager
async def serving(path: Path, *arguments: str, **variables: str) -> AsyncIterator[Service]:
    """The service in a process of its own, which ends with the body at the latest."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "collector", "run", "--config", str(path), "--log-format", "json", *arguments,
        env=os.environ | {"DASHSCOPE_API_KEY": SIMULATOR_KEY, "PYTHONFAULTHANDLER": "1"} | variables,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield Service(process)
    finally:
        if process.returncode is None:
            process.kill()
            # To the end of its pipe, or it would be closed after the event loop is.
            await process.communicate()


async def once(path: Path, *arguments: str) -> None:
    """Catch everything up."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "collector", "run", "--once", "--config", str(path), "--log-format", "json", *arguments,
        env=os.environ | {"DASHSCOPE_API_KEY": SIMULATOR_KEY}, stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    assert await process.wait() == 0


async def listed(api: SimulatorProcess) -> int:
    """How often ListSyslogs was called."""
    stats = await api.told("stats")
    return int(stats.get("ListSyslogs", {"calls": 0})["calls"])


def asked_pages(*recordings: Path) -> Counter[str]:
    """How often each page was asked for, by the parameters of its call."""
    calls = [call for recording in recordings for call in recorded_calls(recording)]
    return Counter(json.dumps(call["parameters"]) for call in calls if call["operation"] == "ListSyslogs")


async def until(api: SimulatorProcess, enough: Callable[[int], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not enough(await listed(api)):
            await asyncio.sleep(0.02)


async def assert_exact(path: Path) -> None:
    # The service's clock stands, that of the process goes on: its first window begins and ends some seconds later.
    first, last = NOW - LOOKBACK + START_SECONDS_MAX, NOW - SETTLE
    stored = await stored_syslogs(load(path, {}))
    truth = true_syslogs(WORLD, WORLD.node_ids, first, last)
    assert not differences(truth, Counter({row: count for row, count in stored.items() if first <= row[0] < last}))
    assert contents(path.parent / "data" / "journal.db")["chunks"] == []


@pytest.mark.slow("services as processes")
async def test_sigterm_under_load_ends_well_and_costs_nothing_later(tmp_path: Path) -> None:
    """Requests under way finish, exit 0 within the grace period; what follows buys only what was never bought."""
    async with simulated() as api:
        await once(configured(tmp_path / "undisturbed", api))
        needed = await listed(api)
    async with simulated("--latency", "0.1", "0.3") as api:
        path = configured(tmp_path / "stopped", api)
        made = 0
        recordings = [tmp_path / f"traffic{number}" for number in range(3)]
        for number in range(2):
            async with serving(path, "--record", str(recordings[number])) as service:
                await service.event("service_started")
                await until(api, lambda calls, wanted=made + needed // 4: calls >= wanted)  # type: ignore[misc]
                service.process.send_signal(signal.SIGTERM if number == 0 else signal.SIGINT)
                assert await service.ended() == 0
                stopping, stopped = (
                    next(told for told in service.events if told["event"] == name)
                    for name in ("service_stopping", "service_stopped")
                )
                assert stopping["signal"] == ("SIGTERM" if number == 0 else "SIGINT")
                assert stopped["calls_in_flight"] == 0
                made = await listed(api)
                assert made < needed, "it was stopped in the midst of its work"
        await once(path, "--record", str(recordings[2]))
        pages = asked_pages(*recordings)
        # Each call has had its answer, and no page was bought twice. On a busy machine a process takes seconds to its
        # first window, which then ends later: their number may differ.
        assert await listed(api) == pages.total() == len(pages)
    await assert_exact(path)


@pytest.mark.slow("services as processes")
async def test_a_second_signal_ends_at_once_and_loses_nothing(tmp_path: Path) -> None:
    """Requests that hang are not waited for; their calls are metered as unknown, and their pages asked again."""
    async with simulated("--latency", "0.1", "0.3") as api:
        path = configured(tmp_path / "insisted", api)
        async with serving(path) as service:
            await service.event("service_started")
            await until(api, lambda calls: calls >= NODES)
            await api.tell("faults", [{"kind": "hang", "operation": "ListSyslogs"}])
            service.process.send_signal(signal.SIGTERM)
            await service.event("service_stopping")
            service.process.send_signal(signal.SIGTERM)
            assert await service.ended() == 128 + signal.SIGTERM
        await api.replace("faults", [])
        await once(path)
    await assert_exact(path)


@pytest.mark.slow("services as processes")
async def test_a_reload_applies_what_is_right_and_refuses_what_is_wrong(tmp_path: Path) -> None:
    """A mistake leaves everything as it was; nodes that were added are collected, and the others go on."""
    async with simulated() as api:
        path = configured(tmp_path / "reloaded", api, nodes=NODES - 1)
        async with serving(path) as service:
            started = await service.event("service_started")
            assert started["streams"] == NODES - 1
            right = path.read_text()
            path.write_text(right.replace('settle = "', 'settle = "minus '))
            service.process.send_signal(signal.SIGHUP)
            refused = await service.event("configuration_refused")
            assert "sources.syslogs.settle" in str(refused["mistakes"])
            path.write_text(right.replace('base_url = "', 'base_url = "http://127.0.0.1:9" # '))
            service.process.send_signal(signal.SIGHUP)
            refused = await service.event("configuration_refused")
            assert "api.base_url: changed; restart to apply it" in str(refused["mistakes"])
            configured(path.parent, api)
            service.process.send_signal(signal.SIGHUP)
            reloaded = await service.event("configuration_reloaded")
            assert reloaded["keys"] == ["targets.nodes"]
            await service.event("streams_changed", added=1, removed=0)
            service.process.send_signal(signal.SIGTERM)
            assert await service.ended() == 0
        await once(path)
    await assert_exact(path)


@pytest.mark.slow("services as processes")
async def test_a_query_that_a_reload_brings_and_takes_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """Answers to one query are under way while another one begins, and all lines are stored once in the end."""
    async with simulated("--latency", "0.1", "0.3") as api:
        path = configured(tmp_path / "queried", api)
        all_lines = path.read_text()
        async with serving(path) as service:
            await service.event("service_started")
            for text in (all_lines.replace('settle = "', 'query = "o"\nsettle = "'), all_lines):
                asked = await listed(api)
                await until(api, lambda calls, asked=asked: calls > asked)  # type: ignore[misc]
                path.write_text(text)
                service.process.send_signal(signal.SIGHUP)
                reloaded = await service.event("configuration_reloaded")
                assert reloaded["keys"] == ["sources.syslogs.query"]
                # Streams whose poll is under way come back once it has ended.
                await service.event("streams_changed", removed=NODES)
            service.process.send_signal(signal.SIGTERM)
            assert await service.ended() == 0
        await once(path)
    await assert_exact(path)


@pytest.mark.slow("services as processes")
async def test_a_key_that_was_replaced_is_taken_up_by_a_reload(tmp_path: Path) -> None:
    """A service that was refused goes on with the other key of the file, without a restart, and shows neither."""
    key = tmp_path / "key"
    key.write_text("sk-revoked")
    key.chmod(0o600)
    async with simulated() as api:
        path = configured(tmp_path / "renewed", api)
        async with serving(path, DASHSCOPE_API_KEY_FILE=str(key), DASHSCOPE_API_KEY="") as service:
            await service.event("stop_began", what="account")
            key.write_text(SIMULATOR_KEY)
            service.process.send_signal(signal.SIGHUP)
            await service.event("stop_ended", what="account")
            await until(api, lambda calls: calls > NODES)
            service.process.send_signal(signal.SIGTERM)
            assert await service.ended() == 0
        assert "sk-revoked" not in str(service.events)
        assert SIMULATOR_KEY not in str(service.events)
        await once(path)
    await assert_exact(path)


@pytest.mark.slow("services as processes")
async def test_systemd_is_told_what_happens(tmp_path: Path) -> None:
    """Ready once it collects, alive while the watchdog listens, reloading, and stopping."""
    told: Counter[str] = Counter()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.bind(str(tmp_path / "notify"))
        notified.setblocking(False)
        loop = asyncio.get_running_loop()

        async def hear(word: str) -> str:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while True:
                    text = (await loop.sock_recv(notified, 4096)).decode()
                    told[text.split("\n")[0]] += 1
                    if text.startswith(word):
                        return text

        async with simulated() as api:
            path = configured(tmp_path / "notifying", api)
            async with serving(path, NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="600000") as service:
                assert f"{NODES} new" in (await hear("READY=1")).partition("STATUS=")[2]
                for _ in range(3):
                    await hear("WATCHDOG=1")
                service.process.send_signal(signal.SIGHUP)
                assert "MONOTONIC_USEC=" in await hear("RELOADING=1")
                await hear("READY=1")
                service.process.send_signal(signal.SIGTERM)
                await hear("STOPPING=1")
                assert await service.ended() == 0
    assert told["STOPPING=1"] == 1


@pytest.mark.slow("services as processes")
async def test_a_service_waits_for_a_command_that_holds_the_journal(tmp_path: Path) -> None:
    """One that reads, or one that calls, is logged with its name; the service starts when it has ended."""
    async with simulated() as api:
        path = configured(tmp_path / "held", api, nodes=1)
        journal = tmp_path / "held" / "data" / "journal.db"
        OwnerLock(journal).acquire().release()
        for lock in (ReaderLock(journal), OwnerLock(journal)):
            held = lock.acquire()
            async with serving(path) as service:
                waited = await service.event("journal_waited_for")
                assert str(os.getpid()) in str(waited["holder"])
                held.release()
                await service.event("service_started")
                service.process.send_signal(signal.SIGTERM)
                assert await service.ended() == 0


@pytest.mark.slow("services as processes")
@pytest.mark.parametrize("journal", ["data/journal.db", "data/other.db"], ids=["one journal", "one store"])
async def test_a_second_service_on_the_same_files_is_refused(tmp_path: Path, journal: str) -> None:
    """And is told which process has the journal, or else the store; the first goes on."""
    async with simulated() as api:
        path = configured(tmp_path / "shared", api)
        async with serving(path) as service:
            await service.event("service_started")
            second = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "collector", "run", "--config", str(path),
                env=os.environ | {"DASHSCOPE_API_KEY": SIMULATOR_KEY, "PAI_COLLECTOR__JOURNAL__PATH": journal},
                stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
            _, said = await asyncio.wait_for(second.communicate(), PATIENCE_SECONDS)
            assert second.returncode == 2, said.decode()
            assert str(service.process.pid) in said.decode()
            assert service.process.returncode is None
            service.process.send_signal(signal.SIGTERM)
            assert await service.ended() == 0
