"""The tolerant path: an odd record becomes a row all the same.

An unknown field is kept in `extra`, a missing one is empty or NULL, a number in a string is a
number and a value that its column cannot hold is kept in `extra` under its own name. Only a record
that cannot be placed in time, or that is no object at all, is unplaceable.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from collector.catalogue.answers import UnreadableRecord
from collector.sources.tables import Row

TIME_MAX = 2**32 - 1
"""The last second that a ClickHouse DateTime holds; later ones would be stored as nonsense in silence."""

INTEGER_MAX = 2**63 - 1
EXTRA_NONE = "{}"

_UNITS = ((1, TIME_MAX), (1_000, TIME_MAX * 1_000), (1_000_000, TIME_MAX * 1_000_000), (10**9, TIME_MAX * 10**9))
_MS_MIN = 10**11
"""Counted in milliseconds this is 1973, counted in seconds the year 5138: the gap tells units apart."""


class Kind(enum.Enum):
    """What a column holds."""

    TEXT = "text"
    INTEGER = "integer"
    NUMBER = "number"
    TIME = "time"
    TEXTS = "texts"


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a record: its name on the wire and what its column holds."""

    wire: str
    kind: Kind


def unusable(record: object, reason: str = "the record is not an object") -> tuple[str, object]:
    """Return the dead letter of a record that no row can be made of: why, and the record."""
    return (record.reason, record) if isinstance(record, UnreadableRecord) else (reason, record)


def time_seconds(value: object) -> int:
    """Whole seconds since the epoch of what a service calls a time.

    Takes UNIX seconds, milliseconds, microseconds and nanoseconds (told apart by size) as a number
    or as text, and ISO 8601 text (UTC where it names no zone). Raises ValueError for the rest.
    """
    if isinstance(value, str):
        text = value.strip()
        try:
            number = float(text) if "." in text or "e" in text.lower() else int(text)
        except ValueError:
            return _iso_seconds(text)
        value = number
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise ValueError(f"not a time: {value!r}")
    for divisor, largest in _UNITS:
        smallest = 0 if divisor == 1 else _MS_MIN * divisor // 1_000
        if smallest <= value <= largest:
            return int(value // divisor)
    raise ValueError(f"not a time that can be stored: {value!r}")


def _iso_seconds(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
        seconds = int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError):
        raise ValueError(f"not a time: {text[:80]!r}") from None
    if not 0 <= seconds <= TIME_MAX:
        raise ValueError(f"not a time that can be stored: {text[:80]!r}")
    return seconds


def values(record: Mapping[str, Any], fields: Sequence[Field]) -> tuple[list[Any], str]:
    """The columns of a record, in the order of `fields`, and its `extra` as JSON text.

    A value that does not fit its column leaves it empty and goes to `extra` under its wire name.
    """
    extra: dict[str, Any] = {name: value for name, value in record.items() if name not in {f.wire for f in fields}}
    columns = []
    for field in fields:
        value = record.get(field.wire)
        fitted, fits = _fit(value, field.kind)
        columns.append(fitted)
        if not fits:
            extra[field.wire] = value
    return columns, as_json(extra) if extra else EXTRA_NONE


def _fit(value: Any, kind: Kind) -> tuple[Any, bool]:
    match kind:
        case Kind.TEXT:
            return _text(value), True
        case Kind.TEXTS:
            if value is None:
                return [], True
            if isinstance(value, list):
                return [_text(item) for item in value], True
            return [], False
        case Kind.TIME:
            if value is None or value == "":
                return None, True
            try:
                seconds = time_seconds(value)
            except ValueError:
                return None, False
            # What is lost by cutting to seconds stays readable in `extra`.
            return seconds, str(value).strip() == str(seconds)
        case _:
            return _numeric(value, kind)


def _numeric(value: Any, kind: Kind) -> tuple[int | float | None, bool]:
    if value is None or value == "":
        return None, True
    if isinstance(value, bool):
        return None, False
    try:
        number = value if isinstance(value, int | float) else float(str(value).strip())
    except ValueError:
        return None, False
    if not math.isfinite(number):
        return None, False
    if kind is Kind.NUMBER:
        return float(number), True
    if isinstance(value, str) and value.strip().lstrip("+-").isdecimal():
        # Beyond 2**53 a float would not be the number that the text names.
        number = int(value.strip())
    if number != int(number) or abs(number) > INTEGER_MAX:
        return None, False
    return int(number), True


def _text(value: Any) -> str:
    """Any JSON value as text; lone surrogates, which no UTF-8 can hold, become U+FFFD."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    return as_json(value)


def as_json(value: Any) -> str:
    """Compact JSON text of anything that came out of JSON."""
    return msgspec.json.encode(_encodable(value)).decode()


def _encodable(value: Any) -> Any:
    """`value` with every text encodable and every number within JSON's range."""
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, int) and not isinstance(value, bool) and not -(2**63) <= value < 2**64:
        return str(value)
    if isinstance(value, list):
        return [_encodable(item) for item in value]
    if isinstance(value, dict):
        return {_text(key): _encodable(item) for key, item in value.items()}
    return value


_encoder = msgspec.json.Encoder()


def lines(rows: Sequence[Row]) -> bytes:
    """Rows as the journal keeps and the store takes them: one JSON array a line."""
    return _encoder.encode_lines(rows)
