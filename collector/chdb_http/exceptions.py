"""Errors as ClickHouse tells them over HTTP. Pure: codes and texts in, lines and status out."""

from __future__ import annotations

from http import HTTPStatus

from collector.errors import QueryError
from collector.queries import EngineQueryError, hint_of
from collector.redaction import redact

TEXT_CHARACTERS_MAX = 4_000

# The codes that the endpoint itself gives, in ClickHouse's words.
CANNOT_READ_ALL_DATA = (33, "CANNOT_READ_ALL_DATA")
BAD_ARGUMENTS = (36, "BAD_ARGUMENTS")
CHECKSUM_DOESNT_MATCH = (40, "CHECKSUM_DOESNT_MATCH")
NOT_IMPLEMENTED = (48, "NOT_IMPLEMENTED")
UNKNOWN_SETTING = (115, "UNKNOWN_SETTING")
TIMEOUT_EXCEEDED = (159, "TIMEOUT_EXCEEDED")
READONLY = (164, "READONLY")
TOO_MANY_SIMULTANEOUS_QUERIES = (202, "TOO_MANY_SIMULTANEOUS_QUERIES")
QUERY_IS_TOO_LARGE = (307, "TOO_MANY_BYTES")
QUERY_WAS_CANCELLED = (394, "QUERY_WAS_CANCELLED")
CANNOT_DECOMPRESS = (271, "CANNOT_DECOMPRESS")
ACCESS_DENIED = (497, "ACCESS_DENIED")
AUTHENTICATION_FAILED = (516, "AUTHENTICATION_FAILED")

_STATUS = {
    **dict.fromkeys((46, 47, 50, 60, 81), HTTPStatus.NOT_FOUND),
    **dict.fromkeys((6, 26, 27, 36, 40, 43, 53, 62, 69, 70, 72, 73, 115, 271, 456, 457), HTTPStatus.BAD_REQUEST),
    164: HTTPStatus.FORBIDDEN,
    307: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    48: HTTPStatus.NOT_IMPLEMENTED,
    497: HTTPStatus.FORBIDDEN,
    516: HTTPStatus.UNAUTHORIZED,
}


def failure(kind: tuple[int, str], message: str) -> EngineQueryError:
    """An error of the endpoint's own."""
    code, name = kind
    return EngineQueryError(message, code=code, name=name, hint=hint_of(code))


def code_of(error: QueryError) -> int:
    """ClickHouse's code of an error: what the gate refused has none of its own, and is READONLY to a client."""
    return error.code if isinstance(error, EngineQueryError) and error.code else READONLY[0]


def status_of(error: QueryError) -> int:
    """The HTTP status that goes with an error. Never 429 or 503: clients repeat those without showing the text."""
    return int(_STATUS.get(code_of(error), HTTPStatus.INTERNAL_SERVER_ERROR))


def text_of(error: QueryError, version: str) -> str:
    """One line such as `Code: 60. DB::Exception: ... (UNKNOWN_TABLE) (version 26.9.2.1)`."""
    name = error.name if isinstance(error, EngineQueryError) and error.name else READONLY[1]
    text = redact(str(error))
    if error.hint:
        text += f"; {error.hint}"
    if len(text) > TEXT_CHARACTERS_MAX:
        text = text[: TEXT_CHARACTERS_MAX - 3] + "..."
    return f"Code: {code_of(error)}. DB::Exception: {' '.join(text.split())}. ({name}) (version {version})"


def frame(text: str, tag: str) -> bytes:
    """What ends a body whose beginning was already sent; clients find it by the tag of the headers."""
    message = text.encode()
    return b"\r\n__exception__\r\n%s\r\n%s\n%d %s\r\n__exception__\r\n" % (
        tag.encode(), message, len(message) + 1, tag.encode(),
    )  # fmt: skip
