"""The same query for other programs: whatever the SQL holds, a shell and Python read it back unchanged."""

from __future__ import annotations

import shlex
from urllib.parse import parse_qs, urlsplit

import pytest

from collector.console.elsewhere import Endpoint, Value, snippets

LOCAL = Endpoint("http://127.0.0.1:8124")
GUARDED = Endpoint("http://10.0.0.1:8124", needs_secret=True)
SERVER = Endpoint("https://ch.example:8443", is_server=True, user="reader")
ODD = 'SELECT \'it\'\'s $HOME `x`\' AS a, "q\\"""" AS b\n-- SQL\nSQL\n\x07'


def texts(sql: str, endpoint: Endpoint | None, **bound: str) -> dict[str, str]:
    values = {
        name: Value("Array(String)" if value.startswith("[") else "String", value) for name, value in bound.items()
    }
    return {known.title: known.text for known in snippets(sql, values, endpoint)}


@pytest.mark.parametrize("sql", ["SELECT 1", ODD])
def test_a_shell_reads_the_same_sql(sql: str) -> None:
    """Quotes, dollars, back ticks and the end word of a heredoc in the SQL change nothing."""
    told = texts(sql, LOCAL, n="a b'")
    assert shlex.split(told["pai-collector"])[2] == sql.strip()
    head, _, body = told["curl"].partition("\n")
    end = shlex.split(head)[-1].removeprefix("<<")
    assert body == f"{sql.strip()}\n{end}"
    assert end not in sql.splitlines()
    assert parse_qs(urlsplit(shlex.split(head)[1]).query)["param_n"] == ["a b'"]
    read = shlex.split(told["clickhouse-client"])[3]
    address = read.partition("url('")[2].partition("'")[0]
    assert parse_qs(urlsplit(address).query)["query"] == [sql.strip()]


@pytest.mark.parametrize("sql", ["SELECT 1", 'SELECT "a"', ODD])
def test_python_reads_the_same_sql(sql: str) -> None:
    """The text is a program whose `sql` is the query."""
    program = texts(sql, LOCAL, n="a\\tb", x="\\N", l="['a']")["Python (clickhouse-connect)"]
    lines = program.split("client = ")[1].split("\nrows = ")
    names: dict[str, str] = {}
    exec(lines[0].partition("\n")[2], names)
    assert names["sql"].strip() == sql.strip()
    assert "{'n': 'a\\tb', 'x': None, 'l': ['a']}" in lines[1]


def test_secrets_are_named_and_not_shown() -> None:
    """A token or a password stands there as the variable that has it."""
    told = texts("SELECT 1", GUARDED)
    assert 'Bearer $PAI_COLLECTOR_SERVICE_TOKEN"' in told["curl"]
    assert 'os.environ["PAI_COLLECTOR_SERVICE_TOKEN"]' in told["Python (clickhouse-connect)"]
    assert "Bearer $PAI_COLLECTOR_SERVICE_TOKEN" in told["clickhouse-client"]
    served = texts("SELECT 1", SERVER, n="1")
    assert served["clickhouse-client"].startswith("clickhouse-client --host ch.example --secure --user reader")
    assert "--param_n=1" in served["clickhouse-client"]
    assert "secure=True" in served["Python (clickhouse-connect)"]


def test_without_an_endpoint_the_command_line_is_left() -> None:
    """Where nothing answers clients, only the project's own command is shown."""
    assert list(texts("SELECT 1", None)) == ["pai-collector"]
