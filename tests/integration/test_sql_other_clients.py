"""Clients with dependencies of their own at the SQL endpoint: dbt, ibis, a command line, SQLAlchemy, a server of MCP.

Each is installed from PyPI into an environment beside the other temporary files, which the next run finds again; the
first run takes minutes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = Path(tempfile.gettempdir()) / "pai-collector-tests-clients"
RUN_SECONDS_MAX = 240
PACKAGES = {
    # Newer releases of dbt-core download a part of themselves from elsewhere.
    "dbt": ["dbt-core==1.10.23", "dbt-clickhouse==1.10.3"],
    "ibis": ["ibis-framework[clickhouse]==12.0.0", "clickhouse-connect==1.12.0", "packaging"],
    "clickhouse-cli": ["clickhouse-cli==0.3.9"],
    "clickhouse-sqlalchemy": ["clickhouse-sqlalchemy==0.3.2"],
    "mcp-clickhouse": ["mcp-clickhouse==0.7.0"],
}
pytestmark = [
    pytest.mark.timeout(1_800),
    pytest.mark.slow("clients with dependencies of their own", cases=len(PACKAGES)),
]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Host and port of an endpoint in a process of its own, with a table."""
    folder = tmp_path_factory.mktemp("other")
    command = [sys.executable, "-m", "tests.support.sql_server", str(folder / "store")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        for sql in (
            "CREATE TABLE pai.lines (time DateTime('UTC'), node String) ENGINE = MergeTree ORDER BY time",
            "INSERT INTO pai.lines SELECT now() - number, concat('n', toString(number % 9)) FROM numbers(1000)",
        ):
            urlopen(Request(f"{url}?user=writer&password=write-it", sql.encode()), timeout=60).close()
        host, _, port = url.removeprefix("http://").rpartition(":")
        yield host, port
        process.communicate()


def environment(name: str) -> Path:
    """Return the folder of programs of an environment that has the client, or skip with the reason."""
    folder = FOLDER / name
    programs = folder / "bin"
    if not (folder / "ready").exists():
        venv.create(folder, with_pip=True, clear=True)
        command = [str(programs / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        command = [*command, "--timeout", "60", *PACKAGES[name]]
        installed = subprocess.run(command, capture_output=True, text=True, check=False)
        if installed.returncode:
            pytest.skip(f"pip cannot install {PACKAGES[name]}: {installed.stderr[-300:]}")
        (folder / "ready").touch()
    return programs


def run(*command: str | Path, status: int = 0, given: str = "", **variables: str) -> str:
    """Run a program to its end, and return what it prints."""
    ended = subprocess.run(
        [str(part) for part in command],
        input=given, capture_output=True, text=True, timeout=RUN_SECONDS_MAX, check=False,
        env={**os.environ, "DO_NOT_TRACK": "1", **variables},
    )  # fmt: skip
    assert ended.returncode == status, ended.stdout[-2000:] + ended.stderr[-2000:]
    return ended.stdout


PROFILE = """
pai:
  target: dev
  outputs:
    dev:
      {{type: clickhouse, driver: http, host: "{host}", port: {port}, user: reader, password: read-it, schema: pai}}
"""
SOURCES = """
version: 2
sources:
  - name: pai
    loaded_at_field: time
    freshness: {error_after: {count: 1, period: hour}}
    tables: [{name: lines}]
"""


def test_dbt(address: tuple[str, str], tmp_path: Path) -> None:
    """Connection, freshness of sources and compiling work; a model is refused with the endpoint's own error."""
    programs = environment("dbt")
    host, port = address
    (tmp_path / "models").mkdir()
    (tmp_path / "dbt_project.yml").write_text("{name: pai, version: '1.0', profile: pai, model-paths: [models]}")
    profile = PROFILE.format(host=host, port=port)
    (tmp_path / "profiles.yml").write_text(profile)
    (tmp_path / "models" / "sources.yml").write_text(SOURCES)
    model = "SELECT node, count() AS lines FROM {{ source('pai', 'lines') }} GROUP BY node"
    (tmp_path / "models" / "by_node.sql").write_text(model)
    folders = ("--project-dir", tmp_path, "--profiles-dir", tmp_path)
    dbt = programs / "dbt"
    assert "All checks passed!" in run(dbt, "debug", *folders)
    assert "PASS freshness of pai.lines" in run(dbt, "source", "freshness", *folders)
    assert "`pai`.`lines`" in run(dbt, "compile", "--select", "by_node", *folders)
    refused = run(dbt, "run", *folders, status=1)
    assert "only statements that read are accepted" in refused
    assert "is readonly" not in refused


IBIS = """
import ibis, sys
con = ibis.clickhouse.connect(
    host=sys.argv[1], port=int(sys.argv[2]), user="reader", password="read-it", database="pai",
    settings={"max_threads": 1, "session_timezone": "UTC", "max_execution_time": 10},
)
lines = con.table("lines")
assert lines.count().execute() == 1000
assert len(lines.group_by("node").agg(n=lines.count()).execute()) == 9
sql = "SELECT node, count() AS n FROM lines GROUP BY node"
assert con.sql(sql, schema={"node": "string", "n": "uint64"}).count().execute() == 9
try:
    con.sql(sql)
except Exception as error:
    assert "instead of a view" in str(error), error
else:
    raise AssertionError("a view was made")
"""
SQLALCHEMY = """
import sys
from sqlalchemy import create_engine, inspect, text
engine = create_engine(f"clickhouse+http://reader:read-it@{sys.argv[1]}:{sys.argv[2]}/pai")
with engine.connect() as connection:
    assert connection.execute(text("SELECT count() FROM lines")).scalar() == 1000
    assert "lines" in inspect(engine).get_table_names()
"""
MCP = """
import asyncio, inspect, os, sys
os.environ.update(
    CLICKHOUSE_HOST=sys.argv[1], CLICKHOUSE_PORT=sys.argv[2], CLICKHOUSE_USER="reader", CLICKHOUSE_PASSWORD="read-it",
    CLICKHOUSE_SECURE="false", CLICKHOUSE_DATABASE="pai",
)
from mcp_clickhouse import mcp_server
plain = lambda tool: getattr(tool, "fn", tool)
assert "pai" in str(plain(mcp_server.list_databases)())
assert "lines" in str(plain(mcp_server.list_tables)(database="pai"))
found = plain(mcp_server.run_query)("SELECT count() AS lines FROM pai.lines")
found = asyncio.run(found) if inspect.isawaitable(found) else found
assert "1000" in str(found), found
"""


@pytest.mark.parametrize(
    ("name", "program"), [("ibis", IBIS), ("clickhouse-sqlalchemy", SQLALCHEMY), ("mcp-clickhouse", MCP)]
)
def test_a_library(address: tuple[str, str], name: str, program: str) -> None:
    """It lists tables and reads rows, with the settings that it sends."""
    run(environment(name) / "python", "-c", program, *address)


def test_a_command_line(address: tuple[str, str]) -> None:
    """It reads rows, although it sends `stacktrace`."""
    host, port = address
    programs = environment("clickhouse-cli")
    sql = "SELECT count() FROM lines"
    arguments = ("-h", host, "-p", port, "-u", "reader", "-B", "read-it", "-d", "pai", "-q", sql)
    assert "1000" in run(programs / "clickhouse-cli", *arguments)
