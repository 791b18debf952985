"""What an engine's error means to the caller. Pure: codes and texts in, errors of the project out."""

from __future__ import annotations

import re

from collector.errors import StoreRefused, StoreTooLarge, StoreUnavailable
from collector.queries import EngineQueryError, hint_of

REFUSED_CODES = frozenset(
    {
        6,  # CANNOT_PARSE_TEXT
        7,  # INCORRECT_NUMBER_OF_COLUMNS
        8,  # THERE_IS_NO_COLUMN
        10,  # NOT_FOUND_COLUMN_IN_BLOCK
        15,  # DUPLICATE_COLUMN
        16,  # NO_SUCH_COLUMN_IN_TABLE
        20,  # NUMBER_OF_COLUMNS_DOESNT_MATCH
        25,  # CANNOT_PARSE_ESCAPE_SEQUENCE
        26,  # CANNOT_PARSE_QUOTED_STRING
        27,  # CANNOT_PARSE_INPUT_ASSERTION_FAILED
        32,  # ATTEMPT_TO_READ_AFTER_EOF: the last row is cut off
        38,  # CANNOT_PARSE_DATE
        41,  # CANNOT_PARSE_DATETIME
        43,  # ILLEGAL_TYPE_OF_ARGUMENT
        44,  # ILLEGAL_COLUMN
        46,  # UNKNOWN_FUNCTION
        47,  # UNKNOWN_IDENTIFIER
        48,  # NOT_IMPLEMENTED
        50,  # UNKNOWN_TYPE
        53,  # TYPE_MISMATCH
        57,  # TABLE_ALREADY_EXISTS
        60,  # UNKNOWN_TABLE
        62,  # SYNTAX_ERROR
        69,  # ARGUMENT_OUT_OF_BOUND
        70,  # CANNOT_CONVERT_TYPE
        72,  # CANNOT_PARSE_NUMBER
        117,  # INCORRECT_DATA
        128,  # TOO_LARGE_ARRAY_SIZE
        130,  # CANNOT_READ_ARRAY_FROM_TEXT
        131,  # TOO_LARGE_STRING_SIZE
        321,  # VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE
        349,  # CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN
        395,  # FUNCTION_THROW_IF_VALUE_IS_NON_ZERO
        407,  # DECIMAL_OVERFLOW
        441,  # CANNOT_PARSE_DOMAIN_VALUE_FROM_STRING
        456,  # UNKNOWN_QUERY_PARAMETER
        457,  # BAD_QUERY_PARAMETER
        467,  # CANNOT_PARSE_BOOL
        469,  # VIOLATED_CONSTRAINT
    }
)
"""Codes for which the same bytes fail for ever. Any other code may be the moment's, so it is tried again:
a wrong guess this way costs time, the other way it costs rows."""

MEMORY_CODES = frozenset(
    {
        173,  # CANNOT_ALLOCATE_MEMORY
        241,  # MEMORY_LIMIT_EXCEEDED
    }
)
"""Codes of work that was too large for the memory that was free at that moment."""
SIZE_CODES = frozenset(
    {
        158,  # TOO_MANY_ROWS
        229,  # QUERY_IS_TOO_LARGE
        307,  # TOO_MANY_BYTES
        396,  # TOO_MANY_ROWS_OR_BYTES
    }
)
"""Codes of work that exceeds a fixed limit of the store."""

_TEXT_CHARACTERS_MAX = 400
_SYNTAX_ERROR = 62

# Anchored to the front: further on the text may quote a record, and a record may say "Code: 241".
_CODES = re.compile(r"^(?:Streaming \w+(?: \w+)? failed: )?(?:Code:\s*(?P<code>\d+)\.\s*(?:DB::Exception:\s*)?)+")
_NAME = re.compile(r"\(([A-Z][A-Z0-9_]{2,})\)\s*(?:\(version [^()]*(?:\([^()]*\))?[^()]*\))?\s*$")
_TRAILER = re.compile(r"(?:[\s.]*\((?:[A-Z][A-Z0-9_]{2,}|version [^()]*(?:\([^()]*\))?[^()]*)\))+[\s.]*$")
# What follows quotes the engine's own plumbing, or whole records.
_TAIL = re.compile(
    r"(?::? ?\bwhile (?:executing|processing) |:? ?\(in (?:file/uri|query)\b|Stack trace|: data for INSERT"
    r"|\s:\s*Row \d+:|: Buffer has gone|: In scope SELECT formatQuery).*$",
    re.DOTALL | re.IGNORECASE,
)


def error_code(text: str) -> int:
    """The innermost ClickHouse code that an engine's text begins with, 0 where it has none."""
    found = _CODES.match(text)
    return int(found["code"]) if found else 0


def error_name(text: str) -> str:
    """ClickHouse's symbolic name of the error, such as UNKNOWN_TABLE, or ''."""
    found = _NAME.search(text)
    return found[1] if found else ""


def readable(text: str) -> str:
    """The engine's message as one line, without its stack, version and copies of the data."""
    text = _CODES.sub("", text)
    text = _TRAILER.sub("", _TAIL.sub("", _TRAILER.sub("", text)))
    text = " ".join(text.split()).rstrip(" .:,")
    return text if len(text) <= _TEXT_CHARACTERS_MAX else text[: _TEXT_CHARACTERS_MAX - 3] + "..."


def write_failure(what: str, error: BaseException) -> StoreUnavailable | StoreRefused:
    """The error of an insert, of a statement or of one of the program's own reads."""
    text = str(error)
    return told_failure(what, text or type(error).__name__, error_code(text), error_name(text))


def told_failure(what: str, text: str, code: int, name: str, *, hint: str = "") -> StoreUnavailable | StoreRefused:
    """The error of an insert, a statement or a read, once its code is known; 0 where there is none."""
    message = f"{what}: {readable(text)}" + (f" ({name or 'code'} {code})" if code else "")
    if code in MEMORY_CODES or code in SIZE_CODES:
        return StoreTooLarge(message, hint=hint, is_certain=code in SIZE_CODES)
    kind = StoreRefused if code in REFUSED_CODES else StoreUnavailable
    return kind(message, hint=hint)


def query_failure(error: BaseException) -> EngineQueryError:
    """The error of a reader's query."""
    text = str(error)
    return told_query_failure(text or type(error).__name__, error_code(text), error_name(text))


def told_query_failure(text: str, code: int, name: str) -> EngineQueryError:
    """The error of a reader's query, once its code is known."""
    message = readable(text)
    if code == _SYNTAX_ERROR:
        # The list of all that could stand there instead fills a screen and helps nobody.
        message = message.partition(". Expected one of")[0]
    return EngineQueryError(message, code=code, name=name, hint=hint_of(code))
