"""The table of capabilities in the documentation: each command is run on each gateway, and its rows are looked at."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import pytest

from collector.settings import load
from collector.simulator.process import simulator_process
from tests.support import fetch, ship
from tests.support.warm_commands import run_command

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/how-to/capabilities.md"
ROW = re.compile(r"^\| ([A-Z][^|]+) \| `pai-collector ([^`]+)` \| `(\w+)` \|$", re.MULTILINE)
CAPABILITIES = 8
WAIT_SECONDS_MAX = 300.0
KEYS = {
    "DASHSCOPE_API_KEY": "sk-simulator",
    "ALIBABA_CLOUD_ACCESS_KEY_ID": "LTAI-simulator",
    "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "simulator-secret",
}
TYPES = {
    "user_metrics": {"time": "DateTime('UTC')", "cpu_usage_rate": "Nullable(Float64)", "node_names": "Array(String)"},
    "metric_points": {"time": "DateTime('UTC')", "value": "Float64"},
    "syslogs": {"time": "DateTime('UTC')", "msg": "String"},
    "diagnostics": {"node_ids": "Array(String)", "observed_at": "DateTime('UTC')"},
    "resource_logs": {"observed_at": "DateTime('UTC')"},
    "api_calls": {"minute": "DateTime('UTC')"},
    "events": {"time": "DateTime('UTC')", "content": "String"},
}


async def command(folder: Path, arguments: list[str]) -> None:
    ran = await run_command(arguments, {**os.environ, **KEYS}, folder, WAIT_SECONDS_MAX)
    assert ran.status == 0, (arguments, ran.stdout[-2000:], ran.stderr[-2000:])


@pytest.mark.slow("capabilities of the table", cases=8)
@pytest.mark.parametrize("gateway", ["bearer", "openapi"])
async def test_every_capability_works_as_the_table_says(tmp_path: Path, gateway: str) -> None:
    """Nothing but the commands of the page, in their order, against the simulator; each leaves its rows."""
    rows = ROW.findall(PAGE.read_text())
    assert len(rows) == CAPABILITIES
    async with simulator_process("--nodes", "3", "--groups", "1", "--seed", "7", "--rate", "10") as api:
        (toml,) = re.findall(r"^```toml\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
        text = toml.replace('"bearer"', f'"{gateway}"').replace("http://127.0.0.1:9100", api.base_url)
        (tmp_path / "collector.toml").write_text(f"{text}[sources.syslogs]\ninitial_lookback = '10m'\n")
        configuration = load(tmp_path / "collector.toml", {})
        for capability, words, table in rows:
            if "CLUSTER" in words:
                ((cluster, node), *_) = await fetch(configuration, "SELECT cluster_id, node_id FROM nodes")
                words = words.replace("CLUSTER", cluster).replace("NODE", node)
            await command(tmp_path, shlex.split(words))
            # Without a service, what a command records is shipped by the next process that owns the store.
            await ship(configuration)
            source = {"node_metrics": "node_metrics", "job_metrics": "job_metrics"}.get(words.rpartition(" ")[2])
            where = f" WHERE source = '{source}'" if source else ""
            ((count,),) = await fetch(configuration, f"SELECT count() FROM {table}{where}")
            assert count > 0, capability
            types = dict(
                await fetch(
                    configuration,
                    "SELECT name, type FROM system.columns WHERE database = 'pai' AND table = {table:String}",
                    {"table": table},
                )
            )
            assert {name: types[name] for name in TYPES[table]} == TYPES[table], capability
        stats = await api.told("stats")
        made = {name for name, each in stats.items() if each["calls"]}
        assert {"GetXtraceToken", "CreateDiagnosticTask", "DescribeDiagnosticResult", "CreateResourceLog"} <= made
