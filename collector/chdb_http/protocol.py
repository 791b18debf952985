"""What a request of ClickHouse's HTTP interface asks for. Pure: address, headers and body in, a `SqlRequest` out."""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from collector.chdb_http.compressed_blocks import decompress_blocks
from collector.chdb_http.exceptions import BAD_ARGUMENTS, NOT_IMPLEMENTED, failure

SQL_BYTES_MAX = 256 << 10
"""Of a reader's SQL, as a server's default."""
ARGUMENTS_MAX = 1_000
NAME_CHARACTERS_MAX = 256

_OF_THE_PROTOCOL = frozenset(
    {
        "query", "database", "default_format", "query_id", "user", "password", "role", "client_protocol_version",
        # How a body is sent. `network_*` are settings of the native protocol, which also name the method of blocks.
        "compress", "decompress", "wait_end_of_query", "enable_http_compression", "network_compression_method",
        "network_zstd_compression_level", "http_zlib_compression_level",
        # Ignored: there are no sessions and no quotas here, and an error is one line, with or without a stack trace.
        "session_id", "session_timeout", "session_check", "close_session", "quota_key", "stacktrace",
        # Ignored: a response is streamed, and its headers are the endpoint's own.
        "buffer_size", "http_response_headers", "add_http_cors_header",
    }
)  # fmt: skip
"""Arguments that are not settings of the engine."""

_KILL = re.compile(
    r"\s*KILL\s+QUERY\s+WHERE\s+query_id\s*=\s*'(?P<query_id>[^'\\]+)'\s*(?:A?SYNC\s*)?"
    r"(?:FORMAT\s+(?P<format>\w+)\s*)?;?\s*",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who says to be asking, and what proves it."""

    user: str = ""
    password: str = ""
    token: str = ""
    """From `Authorization: Bearer`."""

    def __repr__(self) -> str:
        return f"Credentials(user={self.user!r})"


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlRequest:
    """One request, taken apart."""

    sql: bytes
    """The statement, and after it what it inserts."""
    parameters: Mapping[str, str] = field(default_factory=dict)
    """Values of `{name:Type}`, escaped as in TabSeparated."""
    settings: Mapping[str, str] = field(default_factory=dict)
    database: str = ""
    default_format: str = ""
    query_id: str = ""
    revision: int = 0
    """Of the native protocol, as the client names it: Native blocks are then written as that revision has them."""
    is_compressed: bool = False
    """Whether a body may be compressed as the request's header Accept-Encoding says."""
    block_method: str | None = None
    """Method of compressed blocks, "" for the default; None if the body is not sent in them."""
    is_whole: bool = False
    """Nothing is to be sent before the end is known, as far as that is possible."""


def parse(
    arguments: Iterable[tuple[str, str]],
    headers: Mapping[str, str],
    body: bytes,
    *,
    form: Iterable[tuple[str, str]] = (),
    body_bytes_max: int = SQL_BYTES_MAX,
) -> SqlRequest:
    """Parse a request; `form` holds the fields of a multipart body. Raises QueryError.

    `body` is without HTTP's compression. Blocks (`decompress=1`) may have `body_bytes_max` plain bytes.
    """
    given: dict[str, str] = {}
    pairs = [*arguments, *form]
    if len(pairs) > ARGUMENTS_MAX:
        raise failure(BAD_ARGUMENTS, f"got {len(pairs)} arguments; expected at most {ARGUMENTS_MAX}")
    for name, value in pairs:
        # The last one counts, as with ClickHouse; a name that is none cannot become one of the engine's.
        if len(name) > NAME_CHARACTERS_MAX:
            raise failure(BAD_ARGUMENTS, f"got an argument whose name has {len(name)} characters")
        given[name] = value
    if is_true(given.get("decompress", "")):
        body = decompress_blocks(body, body_bytes_max)
    if given.get("role"):
        raise failure(NOT_IMPLEMENTED, "there are no roles here; leave role out")
    query = given.get("query", "").encode("utf-8", "surrogateescape")
    return SqlRequest(
        sql=b"\n".join(part for part in (query, body) if part),
        parameters={name.removeprefix("param_"): value for name, value in given.items() if name.startswith("param_")},
        settings={
            name: value
            for name, value in given.items()
            if name not in _OF_THE_PROTOCOL and not name.startswith("param_")
        },
        database=given.get("database") or headers.get("X-ClickHouse-Database", ""),
        default_format=given.get("default_format") or headers.get("X-ClickHouse-Format", ""),
        query_id=given.get("query_id", ""),
        revision=_revision(given.get("client_protocol_version", "")),
        is_compressed=is_true(given.get("enable_http_compression", "")),
        block_method=given.get("network_compression_method", "") if is_true(given.get("compress", "")) else None,
        is_whole=is_true(given.get("wait_end_of_query", "")),
    )


def credentials(arguments: Mapping[str, str], headers: Mapping[str, str]) -> Credentials:
    """Who asks: Basic, Bearer, ClickHouse's own headers or arguments, the first that is there. Raises QueryError."""
    kind, _, value = headers.get("Authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return Credentials(token=value.strip())
    if kind.lower() == "basic":
        try:
            user, _, password = b64decode(value.strip(), validate=True).decode().partition(":")
        except (binascii.Error, ValueError):
            raise failure(BAD_ARGUMENTS, "the header Authorization holds no user and password in Base64") from None
        return Credentials(user, password)
    if kind:
        raise failure(BAD_ARGUMENTS, "the header Authorization is neither Basic nor Bearer")
    if "X-ClickHouse-User" in headers or "X-ClickHouse-Key" in headers:
        return Credentials(headers.get("X-ClickHouse-User", ""), headers.get("X-ClickHouse-Key", ""))
    return Credentials(arguments.get("user", ""), arguments.get("password", ""))


def _revision(value: str) -> int:
    if not value:
        return 0
    if not (value.isascii() and value.isdigit() and len(value) <= 9):
        raise failure(BAD_ARGUMENTS, "client_protocol_version: expected a whole number")
    return int(value)


def killed_query(sql: bytes) -> tuple[str, str] | None:
    """Return the id and the format of `KILL QUERY WHERE query_id = '...'`, which drivers send to cancel; else None."""
    found = _KILL.fullmatch(sql.decode(errors="replace"))
    return (found["query_id"], found["format"] or "") if found else None


def is_true(value: str) -> bool:
    """Whether an argument says yes."""
    return value.lower() in ("1", "true", "yes", "on")
