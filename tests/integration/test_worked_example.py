"""The worked example of the documentation, applied to a copy of the code and used."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/how-to/add-a-source.md"
BLOCK = re.compile(r"^```(\w+) title=(\S+)( append)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)

USE = """
import asyncio, json, sys
from pathlib import Path

from aiohttp import web

import pytest

from collector.owner.instance import Owner
from collector.settings import load


async def main() -> None:
    looks = []

    async def serve(request: web.Request) -> web.Response:
        asked = json.loads(await request.text() or "{}")
        looks.append((request.path, asked))
        if request.path.endswith("ListFaultReports"):
            first = {"ReportId": "r-1", "NodeId": "n-1", "Status": "open", "Description": "fan"}
            odd = {"ReportId": "r-2", "NodeId": "n-2", "Status": "open", "Surprise": 1}
            return web.json_response({"RequestId": "x", "Reports": [first, odd, "text"], "NextToken": ""})
        return web.json_response({"RequestId": "x", "Nodes": [], "DiagnosticResults": []})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", serve)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    file = Path("collector.toml")
    file.write_text(f"[api]\\nbase_url = 'http://127.0.0.1:{port}'\\n[targets]\\nclusters = ['c-1']\\n")
    async with await Owner.open(load(file, {}), key="sk-test") as owner:
        for _ in range(2):
            report = await owner.once(["fault_reports"]).run()
            assert not report.failures, report.failures
        rows = await owner.store.fetch("SELECT object_id, node_id, status FROM fault_report_states ORDER BY 1")
        dead = await owner.store.fetch("SELECT operation, reason FROM dead_letters")
    await runner.cleanup()
    print(json.dumps({"rows": rows, "dead": dead, "asked": looks}))


asyncio.run(main())
"""


def apply(folder: Path) -> None:
    """Follow the page: whole files are written, `+` lines go before their context line, or after it for `append`."""
    blocks = BLOCK.findall(PAGE.read_text())
    assert len(blocks) >= 8
    number = len(list((folder / "sql/migrations").glob("*.sql"))) + 1
    for kind, name, append, text in blocks:
        path = folder / name.replace("NNNN", f"{number:04}")
        if kind != "diff":
            assert not path.exists(), name
            path.write_text(text)
            continue
        context, *added = text.splitlines()
        code = path.read_text()
        assert code.count(f"\n{context[1:]}\n") == 1, (name, context)
        new = "".join(f"{line[1:]}\n" for line in added)
        whole = f"{context[1:]}\n{new}" if append else f"{new}{context[1:]}\n"
        path.write_text(code.replace(f"\n{context[1:]}\n", f"\n{whole}", 1))


@pytest.mark.slow("commands as processes")
def test_the_worked_example_works_as_it_stands(tmp_path: Path) -> None:
    """Whoever follows the page has a source that keeps the contract, asks, and stores each state once."""
    for name in ("collector", "sql", "schemas", "tests"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    apply(tmp_path)
    held = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--all", "-n", "0", "tests/contract/test_fault_reports.py"],
        cwd=tmp_path, env={"PYTHONPATH": str(tmp_path), "PATH": os.environ["PATH"]},
        capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert held.returncode == 0, held.stdout[-2000:]
    assert " passed" in held.stdout
    done = subprocess.run(
        [sys.executable, "-c", USE], cwd=tmp_path, env={"PYTHONPATH": str(tmp_path), "PATH": ""},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    told = done.stdout.splitlines()[-1]
    assert '"rows": [["r-1", "n-1", "open"], ["r-2", "n-2", "open"]]' in told
    assert '"dead": [["ListFaultReports", "ReportId is missing"]]' in told
    # The second run lies in the same tick.
    assert told.count("ListFaultReports") == 2
    assert '{"MaxResults": 100}' in told
