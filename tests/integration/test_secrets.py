"""Secrets, from the environment to everywhere else: no output, file or table of the program ever holds one."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import stat
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from collector.owner.instance import Owner
from collector.packing import packed, unpacked
from collector.settings import Settings, load
from collector.simulator.process import simulator_process
from tests.support import NOW

SECRETS = {
    "DASHSCOPE_API_KEY": "sk-canary-71d0c2b9f04e",
    "ALIBABA_CLOUD_ACCESS_KEY_ID": "LTAI-canary-0f6ae1",
    "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "canary-secret-93b7ce28",
    "PAI_COLLECTOR_SERVICE_TOKEN": "canary-token-5ad81c",
    "PAI_COLLECTOR_STORE_PASSWORD": "canary-password-e7720d",
}
PATIENCE_SECONDS = 180.0
ASKED = ("/", "/status", "/metrics", "/healthz", "/readyz")


def found_in(text: bytes | str) -> list[str]:
    """Names of the secrets that a text holds."""
    raw = text.encode() if isinstance(text, str) else text
    return [name for name, secret in SECRETS.items() if secret.encode() in raw]


def journal_texts(path: Path) -> Iterator[bytes]:
    """Every value of every table of the journal, packed rows unpacked."""
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as db:
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            for row in db.execute(f'SELECT * FROM "{table}"'):
                for value in row:
                    if isinstance(value, bytes):
                        yield value
                        try:
                            yield unpacked(value)
                        except (ValueError, zlib.error):
                            continue
                    else:
                        yield str(value).encode()


async def stored_secrets(configuration: Settings) -> list[str]:
    """Tables of the store that hold a secret: what is compressed on disk is read through the engine."""
    async with await Owner.open(configuration) as owner:
        tables = await owner.store.fetch("SELECT name FROM system.tables WHERE database = 'pai'")
        assert len(tables) > 15
        held = []
        for (table,) in tables:
            # A row as one text, whatever its columns are.
            ((count,),) = await owner.store.fetch(
                f"SELECT count() FROM pai.`{table}`"
                " WHERE multiSearchAny(toString(tuple(*)), {secrets:Array(String)})",
                {"secrets": list(SECRETS.values())},
            )
            held += [table] * bool(count)
        return held


@pytest.mark.parametrize("gateway", [pytest.param("bearer", marks=pytest.mark.slow("second gateways")), "openapi"])
async def test_no_secret_is_anywhere(tmp_path: Path, gateway: str) -> None:
    """A service at its most talkative, before an API that works, then refuses; asked with a right and a wrong token."""
    arguments = ["--nodes", "3", "--groups", "1", "--seed", "7", "--start", str(NOW), "--rate", "10"]
    keys = ["--key", SECRETS["DASHSCOPE_API_KEY"]] if gateway == "bearer" else []
    path = tmp_path / "collector.toml"
    answers: list[bytes] = []
    async with simulator_process(*arguments, *keys) as api:
        path.write_text(
            f"""
            [api]
            gateway = "{gateway}"
            base_url = "{api.base_url}"
            [service]
            listen = "127.0.0.1:0"
            grace = "5s"
            [store]
            flush_interval = "200ms"
            [targets]
            discover = ["clusters", "resource_groups", "jobs"]
            [sources.syslogs]
            initial_lookback = "2m"
            """
        )
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "collector", "run", "--config", str(path), "--debug", "--log-level", "debug",
            "--log-format", "json", env=os.environ | SECRETS, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        listening, working = asyncio.Event(), asyncio.Event()
        address = ""

        async def listen() -> bytes:
            # To the end, or a talkative process would wait for its reader.
            nonlocal address
            said = b""
            assert process.stderr is not None
            async for line in process.stderr:
                said += line
                event = json.loads(line)
                if event["event"] == "listener_started":
                    address = address or event["address"]
                    listening.set()
                # The bearer key is accepted; access keys that are not the simulator's are refused.
                if event["event"] in ("segment_shipped", "account_stopped"):
                    working.set()
            return said

        reading = asyncio.create_task(listen())
        try:
            async with asyncio.timeout(PATIENCE_SECONDS), aiohttp.ClientSession() as session:
                await listening.wait()
                await working.wait()
                for token in (SECRETS["PAI_COLLECTOR_SERVICE_TOKEN"], "wrong", SECRETS["DASHSCOPE_API_KEY"]):
                    for asked in ASKED:
                        async with session.get(address + asked, headers={"Authorization": f"Bearer {token}"}) as reply:
                            answers.append(await reply.read() + str(reply.headers).encode())
                process.send_signal(signal.SIGTERM)
                said = await reading
                assert process.stdout is not None
                answers.append(await process.stdout.read())
                assert await process.wait() == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            await asyncio.gather(reading, return_exceptions=True)
    assert b'"level": "debug"' in said or b'"level":"debug"' in said
    assert found_in(said) == []
    assert [found_in(answer) for answer in answers if found_in(answer)] == []
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert [(file.name, found_in(file.read_bytes())) for file in files if found_in(file.read_bytes())] == []
    texts = list(journal_texts(tmp_path / "data" / "journal.db"))
    assert len(texts) > 10
    assert [found_in(text) for text in texts if found_in(text)] == []
    assert await stored_secrets(load(path, {})) == []
    for file in (tmp_path / "data").glob("journal.db*"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    assert stat.S_IMODE((tmp_path / "data" / "store").stat().st_mode) == 0o700


def test_a_search_that_finds_nothing_could_find_something(tmp_path: Path) -> None:
    """The searches above find what is there, also in packed rows."""
    journal = tmp_path / "journal.db"
    with sqlite3.connect(journal) as db:
        db.execute("CREATE TABLE t (body BLOB, text TEXT)")
        secret = SECRETS["PAI_COLLECTOR_SERVICE_TOKEN"].encode()
        db.execute("INSERT INTO t VALUES (?, ?)", (packed(b"key=" * 500 + secret + b"key=" * 500), "nothing"))
    db.close()
    found = {name for text in journal_texts(journal) for name in found_in(text)}
    assert found == {"PAI_COLLECTOR_SERVICE_TOKEN"}
    assert found_in(f"a {SECRETS['DASHSCOPE_API_KEY']} b") == ["DASHSCOPE_API_KEY"]
