"""What a request of ClickHouse's HTTP interface asks for. Pure: address, headers and body in, a `SqlRequest` out."""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from collector.service.sql.exceptions import BAD_ARGUMENTS, NOT_IMPLEMENTED, failure

SQL_BYTES_MAX = 256 << 10
"""Of a reader's SQL, as a server's default."""
ARGUMENTS_MAX = 1_000
NAME_CHARACTERS_MAX = 256

_OF_THE_PROTOCOL = frozenset(
    {"query", "database", "default_format", "query_id", "session_id", "session_timeout", "session_check", "user",
     "password", "quota_key", "role", "compress", "decompress", "wait_end_of_query", "buffer_size",
     "enable_http_compression", "http_zlib_compression_level", "http_response_headers", "add_http_cors_header",
     "client_protocol_version", "close_session"}
)  # fmt: skip
"""Arguments that are no settings of the engine."""


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
    """The client takes a compressed body, and says in its headers how."""
    is_whole: bool = False
    """Nothing is to be sent before the end is known, as far as that is possible."""


def parse(
    arguments: Iterable[tuple[str, str]],
    headers: Mapping[str, str],
    body: bytes,
    *,
    form: Iterable[tuple[str, str]] = (),
) -> SqlRequest:
    """Take a request apart. `form` holds the fields of a multipart body. Raises QueryError."""
    given: dict[str, str] = {}
    pairs = [*arguments, *form]
    if len(pairs) > ARGUMENTS_MAX:
        raise failure(BAD_ARGUMENTS, f"got {len(pairs)} arguments; expected at most {ARGUMENTS_MAX}")
    for name, value in pairs:
        # The last one counts, as with ClickHouse; a name that is none cannot become one of the engine's.
        if len(name) > NAME_CHARACTERS_MAX:
            raise failure(BAD_ARGUMENTS, f"got an argument whose name has {len(name)} characters")
        given[name] = value
    for name in ("compress", "decompress"):
        if is_true(given.get(name, "")):
            raise failure(
                NOT_IMPLEMENTED, f"{name}=1 (native blocks) is not taken; use enable_http_compression=1 and HTTP's own"
            )
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


def is_true(value: str) -> bool:
    """Whether an argument says yes."""
    return value.lower() in ("1", "true", "yes", "on")
