"""Values of a query's parameters: read from text, bound to `{name:Type}`, written as literals. Pure."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime

from collector.sources.moments import read_moment

NULL = "NULL"
"""How no value is written, where a type takes it."""

_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r", "\0": "\\0"})
_COMPOSED = ("Array(", "Tuple(", "Map(")
_NULLABLE = re.compile(r"Nullable\((.+)\)")
_INTEGER = re.compile(r"(U?)Int(8|16|32|64)")
_DATE_TIME = re.compile(r"DateTime(\('UTC'\))?")
_MOMENT_MAX = 2**32 - 1


def read_value(type: str, text: str) -> str | None:
    """`text` as the engine reads a value of `type`, None for NULL; types unknown here are left to the engine.

    Raises ValueError, which says what would be right. The engine itself takes a number that is too large
    for its type, and goes on with another one.
    """
    if nullable := _NULLABLE.fullmatch(type):
        return None if text == NULL else read_value(nullable[1], text)
    if integer := _INTEGER.fullmatch(type):
        return _whole_number(text, is_signed=not integer[1], bits=int(integer[2]))
    if type in ("Float32", "Float64"):
        return _number(text)
    if _DATE_TIME.fullmatch(type):
        return _moment(text)
    return text


def bound(type: str, value: str | None) -> str:
    """A value as the engine takes it beside the SQL: escaped as in TabSeparated, where lists escape for themselves."""
    if value is None:
        return "\\N"
    return value if type.startswith(_COMPOSED) else value.translate(_ESCAPES)


def literal(type: str, value: str | None) -> str:
    """A value as a literal of `type` in SQL, for a text that a person pastes."""
    if value is None:
        return NULL
    base = _NULLABLE.sub(r"\1", type)
    if _INTEGER.fullmatch(base) or base.startswith("Float"):
        return value
    quoted = "'" + value.translate(_ESCAPES).replace("'", "\\'") + "'"
    return quoted if base == "String" else f"CAST({quoted} AS {type})"


def _whole_number(text: str, *, is_signed: bool, bits: int) -> str:
    least, most = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if is_signed else (0, 2**bits - 1)
    if not re.fullmatch(r"-?\d{1,20}", text, re.ASCII) or not least <= int(text) <= most:
        raise ValueError(f"a whole number from {least} to {most}")
    return str(int(text))


def _number(text: str) -> str:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or "_" in text:
        raise ValueError("a number, such as 1.5")
    return repr(number)


def _moment(text: str) -> str:
    try:
        seconds, _ = read_moment(text)
    except ValueError:
        seconds = -1
    if not 0 <= seconds <= _MOMENT_MAX:
        raise ValueError("a moment such as 2025-10-09T08:00:00Z, UTC unless it says otherwise")
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
