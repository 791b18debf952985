"""The console over a store, served to tests as a service serves it."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from justhtml import JustHTML

from collector.console.pages import PAGES
from collector.owner.instance import Owner
from collector.service.http import serving_http
from collector.settings import Settings, load

ANY_PORT = "127.0.0.1:0"
MINUTES, NODES = 18, 4
DEMO_SECONDS_MAX = 300.0
FIELDS = {"node_id": "SELECT node_id FROM syslogs WHERE fault_class = 'xid' ORDER BY time DESC LIMIT 1"}
"""What stands in addresses -> how one is found in the store."""


@dataclass(frozen=True)
class Console:
    """One that is served."""

    owner: Owner
    address: str
    client: aiohttp.ClientSession

    async def json(self, path: str, status: int = 200) -> Any:
        """The JSON of a page, such as `/nodes?q=x`."""
        async with self.client.get(with_suffix(path, ".json")) as answer:
            body = await answer.text()
            assert answer.status == status, body
            return json.loads(body)

    async def csv(self, path: str, status: int = 200) -> str:
        async with self.client.get(with_suffix(path, ".csv")) as answer:
            body = await answer.text()
            assert answer.status == status, body
            return body

    async def html(self, path: str, status: int = 200) -> JustHTML:
        """The page, parsed; AssertionError where it is no valid HTML."""
        async with self.client.get(path) as answer:
            body = await answer.text()
            assert answer.status == status, body
        return valid(body)

    async def paths(self) -> list[str]:
        """An address of every page, with things that are in the store."""
        found = []
        for page in PAGES:
            path = page.path
            for name, sql in FIELDS.items():
                if f"{{{name}}}" in path:
                    rows = await self.owner.store.fetch(sql)
                    path = path.replace(f"{{{name}}}", quote(str(rows[0][0]), safe="") if rows else "nothing")
            found.append(path)
        return found


def with_suffix(path: str, suffix: str) -> str:
    """The address of a page as JSON or CSV."""
    place, question, query = path.partition("?")
    return place + suffix + question + query


def valid(body: str) -> JustHTML:
    """The document; AssertionError where it is no valid HTML."""
    document = JustHTML(body, collect_errors=True, sanitize=False)
    assert not document.errors, [str(error) for error in document.errors][:5]
    return document


@asynccontextmanager
async def served(
    settings: Settings, *, token: str = "", listen: str = ANY_PORT, **options: Any
) -> AsyncIterator[Console]:
    """The console of an owner with these settings, which collects nothing meanwhile."""
    async with (
        await Owner.open(settings, **options) as owner,
        serving_http(owner, listen=listen, token=token) as address,
        aiohttp.ClientSession(address, cookie_jar=aiohttp.CookieJar(unsafe=True)) as client,
    ):
        yield Console(owner, address, client)


@asynccontextmanager
async def demonstrated(folder: Path, nodes: int, minutes: int) -> AsyncIterator[str]:
    """Run a demo that has lived through its minutes and collects on; gives the console's address."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "collector", "demo", "--dir", str(folder), "--nodes", str(nodes), "--minutes",
        str(minutes), "--keep-running", stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        address = ""
        async with asyncio.timeout(DEMO_SECONDS_MAX):
            async for line in process.stdout:
                if line.startswith(b"Console: "):
                    address = line.decode().removeprefix("Console: ").strip().rstrip("/")
                if line.startswith(b"Collecting on"):
                    break
        assert address
        yield address
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a demo leaves: made once for all processes of the tests; each gets a copy, because a store has one owner."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    made = shared / "console-demo"
    with (shared / "console-demo.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (made / "complete").exists():
            shutil.rmtree(made, ignore_errors=True)
            arguments = ["demo", "--dir", str(made), "--nodes", str(NODES), "--minutes", str(MINUTES), "--exit"]
            done = subprocess.run(
                [sys.executable, "-m", "collector", *arguments],
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            (made / "complete").touch()
    folder = tmp_path_factory.mktemp("console") / "demo"
    shutil.copytree(made, folder, symlinks=True)
    return folder


def settings_of(folder: Path) -> Settings:
    """The settings of a demo's folder, wherever it was copied to."""
    return load(folder / "collector.toml", {})
