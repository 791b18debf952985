"""The budget before a service that counts: calls of the real client, and the command `plan` as a user runs it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tomllib
from decimal import Decimal
from pathlib import Path
from random import Random

import pytest

from collector.api.client import ApiClient, RetryPolicy
from collector.api.gateways import BearerGateway
from collector.api.throttle import buckets_for
from collector.catalogue.operation import Price
from collector.catalogue.operations import CATALOGUE
from collector.clock import ServerClock, SystemClock
from collector.errors import BudgetReached
from collector.journal.journal import Journal
from collector.journal.money import billing_month
from collector.pipeline.budget import Budget
from collector.pipeline.meter import JournalMeter
from collector.simulator.server import SIMULATOR_KEY
from collector.simulator.world import World
from tests.support import NOW, calls, simulator

LOGS = CATALOGUE["ListSyslogs"]
ASKED = {"NodeId": "", "FromTime": str(NOW - 120), "ToTime": str(NOW - 60)}
ROOT = Path(__file__).parents[2]


async def ask(folder: Path, base_url: str, node_id: str, cap: Decimal, times: int) -> list[object]:
    """Open the journal, make calls side by side, and settle those that were answered, as a process does."""
    clock = SystemClock()
    server_clock = ServerClock(clock)
    journal = Journal(folder / "journal.db", {LOGS.name: Price(Decimal("0.01"), 2)}, region="r")
    await journal.start()
    client = ApiClient(
        BearerGateway(SIMULATOR_KEY, site="china", base_url=base_url),
        clock=clock,
        server_clock=server_clock,
        meter=JournalMeter(journal, server_clock, Budget(cap)),
        buckets=buckets_for(CATALOGUE.values(), clock, {}),
        policy=RetryPolicy(),
        random=Random(1),
        concurrency_max=16,
        timeout_seconds=10,
    )

    async def one() -> object:
        try:
            reply = await client.request(LOGS, node_id, ASKED | {"NodeId": node_id})
        except BudgetReached as error:
            return error
        await journal.settle(reply.attempt)
        return reply

    async with client:
        await client.read_clock()
        outcomes = await asyncio.gather(*(one() for _ in range(times)))
        spend = await journal.spend(billing_month(server_clock.now()))
    journal.close()
    return [*outcomes, *spend]


async def test_the_service_never_counts_a_call_that_the_budget_forbids(tmp_path: Path) -> None:
    """Side by side and over a restart: two free calls and five that fit, and the service has seen no more."""
    world = World(5, 1, 1)
    async with simulator(world) as running:
        *first, spend = await ask(tmp_path, running.base_url, world.node_ids[0], Decimal("0.05"), 4)
        assert not any(isinstance(outcome, BudgetReached) for outcome in first)
        assert spend == (LOGS.name, 4, Decimal("0.02"))
        *second, spend = await ask(tmp_path, running.base_url, world.node_ids[0], Decimal("0.05"), 40)
        assert sum(isinstance(outcome, BudgetReached) for outcome in second) == 37
        assert spend == (LOGS.name, 7, Decimal("0.05"))
        assert calls(running, LOGS.name) == 7


def plan(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command with no key, no store and no service anywhere."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("PAI_COLLECTOR", "DASHSCOPE"))}
    return subprocess.run(
        [sys.executable, "-m", "collector", "plan", *arguments],
        cwd=folder, env=environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=180,
    )  # fmt: skip


CONFIGURATION = """
[targets]
nodes = [{nodes}]
[sources.syslogs]
interval = "60s"
interval_max = "60s"
recheck = []
"""


def test_plan_prices_a_configuration_and_calls_nothing(tmp_path: Path) -> None:
    """A thousand nodes at a minute, as text and as JSON; nothing is opened or written."""
    nodes = ", ".join(f'"node-{number}"' for number in range(1000))
    (tmp_path / "collector.toml").write_text(CONFIGURATION.format(nodes=nodes))
    text = plan(tmp_path)
    assert text.returncode == 0
    assert text.stderr == ""
    assert "43,200,000" in text.stdout
    assert "4,319.90" in text.stdout
    (line,) = json.loads(plan(tmp_path, "--json").stdout)["lines"]
    assert (line["calls_per_month"]["most"], line["cny_per_month"]["most"]) == (43_200_000, "4319.90")
    assert [path.name for path in tmp_path.iterdir()] == ["collector.toml"]


@pytest.mark.slow("many commands")
def test_what_plan_proposes_can_be_pasted_and_fits(tmp_path: Path) -> None:
    """The lines are TOML; a configuration with them costs what was said and fits the same budget."""
    (tmp_path / "collector.toml").write_text("[targets]\nresource_groups = []\n")
    text = plan(tmp_path, "--assume", "nodes=1000", "--assume", "resource_groups=3", "--budget", "700").stdout
    lines = text[text.index("[sources.") :].partition("\n\nnot in the budget")[0]
    assert tomllib.loads(lines)["sources"]["syslogs"]["recheck"] == ["15m", "6h"]
    (tmp_path / "collector.toml").write_text(lines)
    again = plan(tmp_path, "--assume", "nodes=1000", "--assume", "resource_groups=3", "--budget", "700", "--json")
    told = json.loads(again.stdout)
    assert told["budget"]["fits"] is True
    assert Decimal(told["cny_per_month"]["most"]) <= 700


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--budget", "-5"), "--budget: got -5; expected CNY a month above 0"),
        (("--budget", "abc"), "--budget: got abc; expected CNY a month above 0"),
        (("--assume", "cows=3"), "--assume: got cows=3; expected KIND=N"),
    ],
)
@pytest.mark.slow("many commands")
def test_wrong_words_are_wrong_usage(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    """One line with what was seen and what would be right, and exit status 2."""
    (tmp_path / "collector.toml").write_text("")
    ended = plan(tmp_path, *arguments)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert said in ended.stderr


@pytest.mark.slow("many commands")
def test_a_budget_without_prices_is_a_wrong_configuration(tmp_path: Path) -> None:
    """The key that has to be set is named, and the exit status is 2."""
    (tmp_path / "collector.toml").write_text('[targets]\njobs = ["dlc1"]\n[budget]\nmonthly_cny = 5\n')
    ended = plan(tmp_path)
    assert ended.returncode == 2
    assert "api.prices.GetJobMetrics: missing" in ended.stderr
