"""What went wrong between here and a server, as errors of the project. Pure."""

from __future__ import annotations

import re
from typing import Final

from collector.errors import CollectorError, QueryError, StoreRefused, StoreTooLarge, StoreUnavailable
from collector.store.address import ServerAddress
from collector.store.failures import error_code, error_name, told_failure, told_query_failure

CREDENTIALS_HINT: Final = (
    "the password comes from PAI_COLLECTOR_STORE_PASSWORD, or a token from PAI_COLLECTOR_STORE_TOKEN; "
    "the user stands in store.url"
)
GRANTS_HINT: Final = "grant it to the user of store.url: docs/how-to/server.md lists what is needed"

_REFUSED_USER: Final = frozenset({192, 193, 194, 516})
"""UNKNOWN_USER, WRONG_PASSWORD, REQUIRED_PASSWORD, AUTHENTICATION_FAILED"""
_HINTS: Final = {
    81: "the database was dropped, or the user may not see it; a restart makes it again",
    115: "the server is older than this version needs, or a proxy in front of it is",
    164: "the user of store.url may only read; give it a profile without readonly",
    497: GRANTS_HINT,
}
_UNKNOWN_TABLE: Final = 60
_TOO_LARGE: Final = "HTTP status 413: "

# What clickhouse-connect puts around the server's own words.
_FRAME = re.compile(r"^Received ClickHouse exception, code: \d+, server response: ", re.DOTALL)
_URL = re.compile(r" \(for url [^)]*\)$")
_STATUS = re.compile(r"^HTTP driver received HTTP status (\d+)(?:, server response: )?")
_FRAMED = re.compile(
    rb"\r\n__exception__\r\n(?P<tag>\w+)\r\n(?P<text>.*?)\n\d+ (?P=tag)\r\n__exception__\r\n$", re.DOTALL
)
FRAME_BYTES_MAX: Final = 32 << 10
"""A server writes at most 16 KiB of an error that comes when a result is under way."""


def server_failure(
    what: str, error: Exception, address: ServerAddress
) -> StoreUnavailable | StoreRefused | CollectorError:
    """The error of an insert, a statement or one of the program's own reads at a server."""
    if isinstance(error, CollectorError):
        return error
    text, code, name = _told(error)
    if code in _REFUSED_USER:
        return StoreUnavailable(
            f"{what}: {address.scheme}://{address.host}:{address.port} refuses the user {address.user} "
            f"({name or 'code'} {code})",
            hint=CREDENTIALS_HINT,
        )
    if code == _UNKNOWN_TABLE and what.startswith("insert into "):
        return StoreRefused(f"{what}: there is no such table ({name} {code})")
    if not code:
        text = f"{text} ({address.scheme}://{address.host}:{address.port})"
        if text.startswith(_TOO_LARGE):
            # A proxy in front of the server limits the size of requests.
            return StoreTooLarge(f"{what}: {text}", is_certain=True)
    return told_failure(what, text, code, name, hint=_HINTS.get(code, ""))


def server_query_failure(error: Exception, address: ServerAddress) -> QueryError:
    """The error of a reader's query at a server."""
    if isinstance(error, QueryError):
        return error
    text, code, name = _told(error)
    if code in _REFUSED_USER or not code:
        return QueryError(f"{text} ({address.scheme}://{address.host}:{address.port})")
    return told_query_failure(text, code, name)


def failure_in(tail: bytes) -> tuple[bytes, QueryError | None]:
    """The end of a result without the error that the server has put behind it, and that error."""
    found = _FRAMED.search(tail)
    if found is None:
        return tail, None
    text = found["text"].decode(errors="replace")
    return tail[: found.start()], told_query_failure(text, error_code(text), error_name(text))


def _told(error: Exception) -> tuple[str, int, str]:
    """What the server said, its code and its name; 0 and '' where it said nothing of the kind."""
    text = _URL.sub("", str(error)) or type(error).__name__
    code = getattr(error, "code", None) or 0
    name = getattr(error, "name", None) or ""
    if status := _STATUS.match(text):
        text = f"HTTP status {status[1]}: {text[status.end() :] or 'no reason given'}"
    text = _FRAME.sub("", text)
    return text, code, name
