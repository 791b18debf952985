"""The program as a process: streams that are closed, full or of another encoding, and signals at any moment."""

from __future__ import annotations

import asyncio
import fcntl
import io
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from collector.cli.app import main
from collector.simulator.server import SIMULATOR_KEY
from collector.telemetry import log
from tests.integration.test_life_cycle import configured, simulated
from tests.support.store_template import copy_template

COLLECTOR = [sys.executable, "-m", "collector"]
PATIENCE_SECONDS = 120.0


def shell(command: str, folder: Path) -> subprocess.CompletedProcess[bytes]:
    """Run `pai-collector` as a shell does, with its redirections."""
    return subprocess.run(
        ["sh", "-c", f'"$@" {command}', "sh", *COLLECTOR], cwd=folder, capture_output=True, timeout=PATIENCE_SECONDS,
        check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("command", "status"),
    [
        ("--version 2>&-", 0), ("--version 2>/dev/full", 0), ("--version >&-", 0), ("--version <&- >&- 2>&-", 0),
        ("nonsense 2>&-", 2), ("nonsense 2>/dev/full", 2), ("--version >/dev/full", 1),
        ("--version >/dev/full 2>/dev/full", 1),
    ],
)  # fmt: skip
def test_a_closed_or_full_stream_does_not_change_the_exit_status(command: str, status: int, tmp_path: Path) -> None:
    """Only a result that could not be written is a failure, and it is named."""
    done = shell(command, tmp_path)

    assert done.returncode == status
    if command == "--version >/dev/full":
        assert b"the output cannot be written: No space left on device" in done.stderr


def test_a_file_does_not_take_the_number_of_a_closed_stream(tmp_path: Path) -> None:
    """What a library writes to stderr would go into it."""
    code = "import os, sys; from collector.cli.process import repair_streams; repair_streams(); print(os.open('f', 65))"
    done = subprocess.run(
        ["sh", "-c", '"$@" 2>&- <&-', "sh", sys.executable, "-c", code], cwd=tmp_path, capture_output=True, check=False
    )

    assert int(done.stdout) > 2


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration whose store is made by the first query and used by the others."""
    folder = tmp_path_factory.mktemp("encodings")
    path = folder / "collector.toml"
    path.write_text('[targets]\nnodes = ["e01"]\n', encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("encoding", "format", "expected"),
    [
        ("ascii", "table", b"?? ?"),
        ("gbk", "table", "节点 ?".encode("gbk")),
        ("latin-1", "table", b"?? ?"),
        ("utf-8", "table", "节点 ✓".encode()),
        ("ascii", "csv", "节点 ✓".encode()),
        ("gbk", "json", "节点 ✓".encode()),
    ],
)
def test_a_query_can_be_shown_in_any_encoding(
    encoding: str, format: str, expected: bytes, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table has a question mark for what a terminal lacks; the other formats are UTF-8 bytes on any terminal."""
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding, errors="strict"))
    monkeypatch.chdir(config.parent)
    copy_template(config.parent / "data" / "store")
    try:
        status = main(["query", "SELECT '节点 ✓' AS x", "--format", format, "--config", str(config)])
    finally:
        log.reset()

    assert status == 0
    assert expected in raw.getvalue()


def test_json_for_programs_is_exact_in_any_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an encoding lacks is spelled as JSON spells it."""
    from collector.cli.output import print_json

    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="gbk", write_through=True))
    print_json({"node": "节点 ✓"})

    assert raw.getvalue() == b'{"node": "\\u8282\\u70b9 \\u2713"}\n'


@pytest.mark.parametrize(
    ("name", "value"), [("TZ", "CST-8"), ("TZ", "Asia/Beijing"), ("TMPDIR", "/nonexistent"), ("TZ", "Asia/Shanghai")]
)
@pytest.mark.slow("services as processes")
def test_the_engine_starts_in_any_environment(name: str, value: str, tmp_path: Path) -> None:
    """Zones that it does not know, no directory for temporary files; its times are UTC whatever the machine's are."""
    (tmp_path / "collector.toml").write_text('[targets]\nnodes = ["e01"]\n', encoding="utf-8")
    copy_template(tmp_path / "data" / "store")
    done = subprocess.run(
        [*COLLECTOR, "query", "SELECT timezone(), toDateTime(0)", "--format", "csv"], cwd=tmp_path,
        env=os.environ | {name: value}, capture_output=True, timeout=PATIENCE_SECONDS, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1] == b'"UTC","1970-01-01 00:00:00"'


def handles(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a handler for a signal, as the kernel knows."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    caught = next(line.split()[1] for line in lines if line.startswith("SigCgt"))
    return bool(int(caught, 16) >> (number - 1) & 1)


async def child_of(pid: int) -> int:
    while not (children := Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
        await asyncio.sleep(0.001)
    return int(children[0])


def unshare() -> str | None:
    """The command, where it is there and may make a namespace of processes."""
    path = shutil.which("unshare")
    works = path is not None and subprocess.run([path, "--pid", "--fork", "true"], check=False).returncode == 0
    return path if works else None


UNSHARE = unshare()
with_unshare = pytest.mark.skipif(UNSHARE is None, reason="unshare --pid is not installed, or not allowed here")


@pytest.mark.parametrize(
    "words", [(), pytest.param((UNSHARE, "--pid", "--fork"), marks=with_unshare)], ids=["process", "PID 1"]
)
async def test_sigterm_ends_a_process_that_is_still_being_loaded(words: Sequence[str], tmp_path: Path) -> None:
    """The first signal after the first instant ends it, also as PID 1, and nothing was begun."""
    process = await asyncio.create_subprocess_exec(
        *words, *COLLECTOR, "run", cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(PATIENCE_SECONDS):
        pid = await child_of(process.pid) if words else process.pid
        while not handles(pid, signal.SIGTERM):
            await asyncio.sleep(0.001)
        os.kill(pid, signal.SIGTERM)
        out, err = await process.communicate()

    assert (out, err) == (b"", b"")
    assert process.returncode == (128 + signal.SIGTERM if words else -signal.SIGTERM)


@pytest.mark.slow("processes")
async def test_a_service_whose_log_nothing_reads_goes_on_and_ends(tmp_path: Path) -> None:
    """It collects everything while its stderr is full, answers, and ends in good order at SIGTERM."""
    async with simulated() as api:
        path = configured(tmp_path, api)
        read, write = os.pipe()
        # Full from the start: the first line finds no room.
        size = fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)
        os.write(write, b"x" * size)
        process = await asyncio.create_subprocess_exec(
            *COLLECTOR, "run", "--config", str(path), "--log-format", "json", "--log-level", "debug",
            env=os.environ | {"DASHSCOPE_API_KEY": SIMULATOR_KEY}, stdout=asyncio.subprocess.DEVNULL, stderr=write,
        )  # fmt: skip
        os.close(write)
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                # All that is needed once; the clock of the simulator stands still.
                while (await api.told("stats")).get("ListSyslogs", {}).get("calls", 0) < 100:
                    await asyncio.sleep(0.05)
                process.send_signal(signal.SIGTERM)
                assert await process.wait() == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            os.close(read)
