"""The same query for other programs: text to paste, without secrets. Pure."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, urlencode, urlsplit

from collector import PROGRAM
from collector.store.base import DATABASE

TOKEN: Final = "PAI_COLLECTOR_SERVICE_TOKEN"
PASSWORD: Final = "CLICKHOUSE_PASSWORD"
NULL: Final = "\\N"
"""No value, as `Store.query` takes it."""
_ESCAPES: Final = {"t": "\t", "n": "\n", "r": "\r", "0": "\0"}
_PORTS: Final = {"http": 8123, "https": 8443}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where ClickHouse's clients are answered, over HTTP."""

    address: str
    """Such as `http://127.0.0.1:8124`."""
    is_server: bool = False
    """Whether it is a ClickHouse server, which speaks its own protocol too."""
    user: str = ""
    needs_secret: bool = False


@dataclass(frozen=True, slots=True)
class Value:
    """The value of a parameter."""

    type: str
    bound: str
    """As `Store.query` takes it."""


@dataclass(frozen=True, slots=True)
class Snippet:
    """Text to paste."""

    title: str
    text: str
    note: str = ""


def snippets(
    sql: str, parameters: Mapping[str, Value], endpoint: Endpoint | None, name: str = "", given: Mapping[str, str] = {}
) -> list[Snippet]:
    """Return the query for the command line, curl, Python and ClickHouse's own client.

    `name` is of a named query, `given` are values of parameters as a person gave them.
    """
    text = sql.strip()
    found = [Snippet(PROGRAM, _command(text, name, given))]
    if endpoint is None:
        return found
    found.append(Snippet("curl", _curl(text, parameters, endpoint)))
    found.append(Snippet("Python (clickhouse-connect)", _python(text, parameters, endpoint)))
    found.append(_client(text, parameters, endpoint))
    return found


def _command(sql: str, name: str, given: Mapping[str, str]) -> str:
    what = f"--name {shlex.quote(name)}" if name else shlex.quote(sql)
    values = "".join(f" --param {shlex.quote(f'{key}={value}')}" for key, value in given.items())
    return f"{PROGRAM} query {what}{values} --format csv"


def _curl(sql: str, parameters: Mapping[str, Value], endpoint: Endpoint) -> str:
    query = urlencode(
        {"database": DATABASE, "default_format": "PrettyCompact"}
        | {f"param_{key}": value.bound for key, value in parameters.items()}
    )
    end = "SQL"
    while end in sql.splitlines():
        end += "_"
    address = shlex.quote(f"{endpoint.address}/?{query}")
    return f"curl{_curl_secret(endpoint)} {address} --data-binary @- <<'{end}'\n{sql}\n{end}"


def _curl_secret(endpoint: Endpoint) -> str:
    if endpoint.is_server:
        return f' -u {shlex.quote(endpoint.user)}:"${PASSWORD}"'
    return f' -H "Authorization: Bearer ${TOKEN}"' if endpoint.needs_secret else ""


def _python(sql: str, parameters: Mapping[str, Value], endpoint: Endpoint) -> str:
    host, port, is_secure = _place(endpoint)
    arguments = [f"host={host!r}", f"port={port}", f"database={DATABASE!r}"]
    arguments += ["secure=True"] if is_secure else []
    lines = ["import clickhouse_connect", ""]
    if endpoint.is_server or endpoint.needs_secret:
        lines.insert(0, "import os")
        variable = PASSWORD if endpoint.is_server else TOKEN
        arguments += [f"username={endpoint.user or 'reader'!r}", f'password=os.environ["{variable}"]']
    is_plain = "\\" not in sql and '"""' not in sql and all(line.isprintable() for line in sql.split("\n"))
    lines += [
        f"client = clickhouse_connect.get_client({', '.join(arguments)})",
        f'sql = """\n{sql}\n"""' if is_plain else f"sql = {sql!r}",
        f"rows = client.query(sql{_python_values(parameters)})",
        "print(rows.column_names, rows.result_rows)",
    ]
    return "\n".join(lines)


def _python_values(parameters: Mapping[str, Value]) -> str:
    if not parameters:
        return ""
    values = ", ".join(f"{key!r}: {_python_value(value)!r}" for key, value in parameters.items())
    return f", parameters={{{values}}}"


def _client(sql: str, parameters: Mapping[str, Value], endpoint: Endpoint) -> Snippet:
    host, _, is_secure = _place(endpoint)
    if endpoint.is_server:
        words = ["clickhouse-client", "--host", host, *(["--secure"] if is_secure else []), "--user", endpoint.user]
        words += ["--database", DATABASE, *(f"--param_{key}={value.bound}" for key, value in parameters.items())]
        return Snippet("clickhouse-client", f"{shlex.join(words)} --password \\\n  --query {shlex.quote(sql)}")
    query = urlencode(
        {"database": DATABASE} | {f"param_{key}": value.bound for key, value in parameters.items()} | {"query": sql},
        quote_via=quote,
    )
    headers = ""
    if endpoint.needs_secret:
        headers = f", headers('Authorization'='Bearer ${TOKEN}')"
    read = f"SELECT * FROM url('{endpoint.address}/?{query}', Native{headers})"
    shown = f'"{read}"' if headers else shlex.quote(read)
    return Snippet(
        "clickhouse-client",
        f"clickhouse local --query {shown}",
        "The endpoint speaks HTTP, which clickhouse-client does not; clickhouse local, of the same program, does.",
    )


def _place(endpoint: Endpoint) -> tuple[str, int, bool]:
    parts = urlsplit(endpoint.address)
    return parts.hostname or "", parts.port or _PORTS[parts.scheme], parts.scheme == "https"


def _python_value(value: Value) -> object:
    """What clickhouse-connect makes the same value of."""
    if value.bound == NULL:
        return None
    if value.type.startswith("Array("):
        try:
            return ast.literal_eval(value.bound)
        except (ValueError, SyntaxError):
            return value.bound
    return re.sub(r"\\(.)", lambda found: _ESCAPES.get(found[1], found[1]), value.bound, flags=re.DOTALL)
