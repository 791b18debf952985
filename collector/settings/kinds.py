"""Kinds of configuration values: how each is read, what is right, how it is written back.

A kind reads what a file or an environment variable holds and raises ValueError whose text says
what would have been right ("a duration from 1s to 1d"); the caller adds key and value seen.
Values handed over in Python may already be of the final type, such as seconds or bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic_core import CoreSchema, core_schema

from collector.units import DAY_SECONDS, format_duration, format_size, parse_duration, parse_size

ID_CHARACTERS_MAX = 256

DURATION_UNIT = "duration"
SIZE_UNIT = "size"

PRICE_DECIMALS_MAX = 6
"""The store keeps money with six decimals; a finer price would be rounded, perhaps to nothing."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of value, attached to a field with `Annotated`."""

    read: Callable[[object], Any]
    """From a file's value. Raises ValueError saying what is right."""
    schema: dict[str, Any]
    """JSON Schema of the value as it stands in a file."""
    check: Callable[[Any], Any] | None = None
    """From a value of the final type, where that differs from the file's."""
    write: Callable[[Any], Any] = field(default=lambda value: value)
    """Back to the file's value."""
    choices: tuple[str, ...] = ()
    unit: str = ""
    """What the value counts, and how it is written; empty where its key's description says all."""

    def take(self, value: object) -> Any:
        """A value from a file or from Python."""
        if self.check is None or isinstance(value, str):
            return self.read(value)
        return self.check(value)

    def __get_pydantic_core_schema__(self, _source: object, _handler: object) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self.take,
            serialization=core_schema.plain_serializer_function_ser_schema(self.write, when_used="json"),
        )

    def __get_pydantic_json_schema__(self, _schema: object, _handler: object) -> dict[str, Any]:
        return dict(self.schema)


def flag() -> Kind:
    """`true` or `false`."""

    def read(value: object) -> bool:
        if not isinstance(value, bool):
            raise ValueError("true or false")
        return value

    return Kind(read, {"type": "boolean"})


def whole(low: int, high: int | None = None) -> Kind:
    """A whole number."""
    right = f"a whole number from {low} to {high}" if high is not None else f"a whole number of at least {low}"

    def read(value: object) -> int:
        # A bool is an int in Python, never in a configuration.
        if isinstance(value, bool) or not isinstance(value, int) or value < low or (high is not None and value > high):
            raise ValueError(right)
        return value

    return Kind(read, {"type": "integer", "minimum": low} | ({} if high is None else {"maximum": high}))


def choice(*choices: str) -> Kind:
    """One of some words."""
    *others, last = (f'"{word}"' for word in choices)
    right = f"{', '.join(others)} or {last}" if others else last

    def read(value: object) -> str:
        if value not in choices:
            raise ValueError(right)
        return str(value)

    return Kind(read, {"enum": list(choices)}, choices=choices)


def duration(low: str, high: str, *, fraction: bool = False, divides_day: bool = False) -> Kind:
    """A duration, counted in seconds: an int, or a float where `fraction` allows milliseconds."""
    low_seconds, high_seconds = parse_duration(low), parse_duration(high)

    def check(seconds: object) -> float:
        if isinstance(seconds, bool) or not isinstance(seconds, int | float):
            raise ValueError("a duration such as 30s, 5m, 6h or 7d")
        if not low_seconds <= seconds <= high_seconds:
            raise ValueError(f"a duration from {low} to {high}")
        if fraction:
            return float(seconds)
        if seconds != int(seconds):
            raise ValueError("a duration of whole seconds, such as 30s")
        if divides_day and DAY_SECONDS % int(seconds):
            raise ValueError("a duration that divides a day, such as 60s or 5m")
        return int(seconds)

    def read(value: object) -> float:
        # A bare number is refused: its unit would be a guess.
        try:
            seconds = parse_duration(value) if isinstance(value, str) else None
        except ValueError:
            seconds = None
        return check(seconds)

    schema = {"type": "string", "pattern": "^[0-9]+(ms|s|m|h|d)$"}
    return Kind(read, schema, check, format_duration, unit=DURATION_UNIT)


def duration_or_auto(low: str, high: str) -> Kind:
    """A duration of whole seconds, or `auto`, which is read as 0."""
    fixed = duration(low, high)

    def right(error: ValueError) -> ValueError:
        return ValueError(f'{error}, or "auto"')

    def read(value: object) -> int:
        if value == "auto":
            return 0
        try:
            return int(fixed.read(value))
        except ValueError as error:
            raise right(error) from None

    def check(value: object) -> int:
        if value == 0 and not isinstance(value, bool):
            return 0
        try:
            return int(fixed.take(value))
        except ValueError as error:
            raise right(error) from None

    schema = {"type": "string", "pattern": "^([0-9]+(ms|s|m|h|d)|auto)$"}
    return Kind(
        read, schema, check, lambda seconds: format_duration(seconds) if seconds else "auto", unit=DURATION_UNIT
    )


def size(low: str, high: str) -> Kind:
    """A number of bytes, written as `64MiB`."""
    low_bytes, high_bytes = parse_size(low), parse_size(high)

    def check(size_bytes: object) -> int:
        if isinstance(size_bytes, bool) or not isinstance(size_bytes, int):
            raise ValueError("a size such as 512MiB or 2GiB")
        if not low_bytes <= size_bytes <= high_bytes:
            raise ValueError(f"a size from {low} to {high}")
        return size_bytes

    def read(value: object) -> int:
        try:
            size_bytes = parse_size(value) if isinstance(value, str) else None
        except ValueError:
            size_bytes = None
        return check(size_bytes)

    schema = {"type": "string", "pattern": "^[0-9]+(B|KiB|MiB|GiB|TiB)$"}
    return Kind(read, schema, check, format_size, unit=SIZE_UNIT)


def price(most: int = 1000, what: str = "CNY a call", example: str = "0.0001") -> Kind:
    """An amount of CNY, exact."""
    right = f"{what}, from 0 to {most} with at most {PRICE_DECIMALS_MAX} decimals, such as {example}"

    def read(value: object) -> Decimal:
        if isinstance(value, bool) or not isinstance(value, int | Decimal):
            raise ValueError(right)
        amount = Decimal(value)
        if not amount.is_finite() or not 0 <= amount <= most or amount != round(amount, PRICE_DECIMALS_MAX):
            raise ValueError(right)
        return amount

    return Kind(read, {"type": "number", "minimum": 0, "maximum": most}, write=_plain_number, unit=what)


def _plain_number(amount: Decimal) -> int | float:
    return int(amount) if amount == int(amount) else float(amount)


def identifier(what: str) -> Kind:
    """An id as the service gives it: not blank, no spaces."""

    def read(value: object) -> str:
        if not isinstance(value, str) or not re.fullmatch(r"\S+", value) or not value.isprintable():
            raise ValueError(f"{what} without spaces")
        if len(value) > ID_CHARACTERS_MAX:
            raise ValueError(f"{what} of at most {ID_CHARACTERS_MAX} characters")
        return value

    return Kind(read, {"type": "string", "pattern": r"^\S+$", "maxLength": ID_CHARACTERS_MAX})


def pattern(what: str, example: str) -> Kind:
    """A name in which `*` and `?` stand for any letters and for one. A slash or bracket would match no name."""
    right = (
        f'{what} without spaces, slashes and brackets; * and ? stand for any letters and for one, such as "{example}"'
    )

    def read(value: object) -> str:
        if not isinstance(value, str) or not re.fullmatch(r"[^\s/\[\]]+", value) or not value.isprintable():
            raise ValueError(right)
        if len(value) > ID_CHARACTERS_MAX:
            raise ValueError(f"{what} of at most {ID_CHARACTERS_MAX} characters")
        return value

    return Kind(read, {"type": "string", "pattern": r"^[^\s/\[\]]+$", "maxLength": ID_CHARACTERS_MAX})


def optional_identifier(what: str) -> Kind:
    """An id, or nothing."""
    named = identifier(what)

    def read(value: object) -> str:
        try:
            return "" if value == "" else str(named.read(value))
        except ValueError as right:
            raise ValueError(f"nothing, or {right}") from None

    return Kind(read, {"type": "string", "pattern": r"^\S*$", "maxLength": ID_CHARACTERS_MAX})


def search_text(what: str) -> Kind:
    """A text of one line that the service searches by, or nothing."""
    right = f"nothing, or {what} on one line, without spaces around it"

    def read(value: object) -> str:
        if not isinstance(value, str) or value != value.strip() or not value.isprintable():
            raise ValueError(right)
        if len(value) > ID_CHARACTERS_MAX:
            raise ValueError(f"nothing, or {what} of at most {ID_CHARACTERS_MAX} characters")
        return value

    return Kind(read, {"type": "string", "pattern": r"^(\S(.*\S)?)?$", "maxLength": ID_CHARACTERS_MAX})


def pair(what: str, example: str) -> Kind:
    """Two ids with a slash between, as the services address what lies in a cluster."""
    right = f'{what} with its cluster, such as "{example}"'

    def read(value: object) -> str:
        if not isinstance(value, str) or not re.fullmatch(r"[^\s/]+/[^\s/]+", value) or not value.isprintable():
            raise ValueError(right)
        if len(value) > ID_CHARACTERS_MAX:
            raise ValueError(f"{what} of at most {ID_CHARACTERS_MAX} characters")
        return value

    return Kind(read, {"type": "string", "pattern": r"^[^\s/]+/[^\s/]+$", "maxLength": ID_CHARACTERS_MAX})


def path() -> Kind:
    """A path; `~` is the user's home, and `{shard}` stands for the number of the shard."""

    def read(value: object) -> Path:
        if not isinstance(value, str) or not value.strip() or not value.isprintable():
            raise ValueError('a path, such as "./data"')
        if re.search(r"[{}]", value.replace("{shard}", "")):
            raise ValueError("a path whose only braces are those of {shard}")
        try:
            return Path(value).expanduser()
        except RuntimeError:
            raise ValueError("a path whose ~ names a known user") from None

    def check(value: object) -> Path:
        return value if isinstance(value, Path) else read(value)

    return Kind(read, {"type": "string", "minLength": 1}, check, str)


def optional_path() -> Kind:
    """A path, or nothing."""
    named = path()

    def read(value: object) -> Path | None:
        try:
            return None if value == "" else named.read(value)
        except ValueError as right:
            raise ValueError(f"nothing, or {right}") from None

    def check(value: object) -> Path | None:
        return value if value is None or isinstance(value, Path) else read(value)

    return Kind(read, {"type": "string"}, check, lambda value: "" if value is None else str(value))


def retention() -> Kind:
    """How long something is kept, counted in seconds: from a day on, or 0 for ever."""
    right = 'a duration from 1d to 36500d, such as "90d", or "0s" to keep everything'

    def check(seconds: object) -> int:
        if isinstance(seconds, bool) or not isinstance(seconds, int):
            raise ValueError(right)
        if seconds != 0 and not DAY_SECONDS <= seconds <= 36_500 * DAY_SECONDS:
            raise ValueError(right)
        return seconds

    def read(value: object) -> int:
        try:
            seconds = parse_duration(value) if isinstance(value, str) else None
        except ValueError:
            seconds = None
        return check(int(seconds) if seconds is not None and seconds == int(seconds) else seconds)

    schema = {"type": "string", "pattern": "^[0-9]+(ms|s|m|h|d)$"}
    return Kind(read, schema, check, format_duration, unit=DURATION_UNIT)


def base_url(*, required: bool = False) -> Kind:
    """An HTTP address without credentials, or nothing. A slash at its end means nothing and is taken off."""
    right = f"{'' if required else 'nothing, or '}an address such as http://127.0.0.1:8080"

    def read(value: object) -> str:
        if value == "" and not required:
            return ""
        if not isinstance(value, str) or not re.fullmatch(r"[!-~]+", value):
            raise ValueError(right)
        try:
            parts = urlsplit(value)
            host, port = parts.hostname, parts.port
        except ValueError:
            raise ValueError(right) from None
        if "@" in parts.netloc:
            raise ValueError("an address without user name and password; the key comes from DASHSCOPE_API_KEY")
        if parts.scheme not in ("http", "https") or not host or port == 0:
            raise ValueError(right)
        if "?" in value or "#" in value:
            raise ValueError("an address without ? and #")
        return value.rstrip("/")

    return Kind(read, {"type": "string", "pattern": r"^https?://[^@?#]+$" if required else r"^$|^https?://[^@?#]+$"})


def store_url() -> Kind:
    """The HTTP address of a ClickHouse server with a user's name in it, or nothing for the embedded store."""
    right = 'nothing, or a server such as "http://user@host:8123/pai"'

    def read(value: object) -> str:
        if value == "":
            return ""
        if not isinstance(value, str) or not re.fullmatch(r"[!-~]+", value):
            raise ValueError(right)
        try:
            parts = urlsplit(value)
            host, port = parts.hostname, parts.port
        except ValueError:
            raise ValueError(right) from None
        if parts.password is not None:
            raise ValueError("a server without a password; it comes from PAI_COLLECTOR_STORE_PASSWORD")
        if parts.scheme not in ("http", "https") or not host or port == 0:
            raise ValueError(right)
        if "?" in value or "#" in value:
            raise ValueError("a server without ? and #")
        if parts.path.strip("/") not in ("", "pai"):
            raise ValueError("a server whose database is pai, the name that the tables have")
        return value.rstrip("/")

    return Kind(read, {"type": "string", "pattern": r"^$|^https?://([^:@/?#]*@)?[^@/?#]+(/|/pai/?)?$"})


def cluster_name() -> Kind:
    """The name of a ClickHouse cluster, or nothing."""

    def read(value: object) -> str:
        if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9_.-]{0,64}", value):
            raise ValueError('nothing, or the name of a cluster in letters, digits and _ . -, such as "main"')
        return value

    return Kind(read, {"type": "string", "pattern": r"^[A-Za-z0-9_.-]{0,64}$"})


def shard() -> Kind:
    """`I/N`, the I-th (from 0) of N processes, or `auto/N`; empty for a process that is alone."""
    right = 'a part such as "0/3" (the first of three) or "auto/3", or ""'

    def read(value: object) -> str:
        match = isinstance(value, str) and re.fullmatch(r"(\d{1,4}|auto)/(\d{1,4})", value)
        if value == "":
            return ""
        if not match or int(match[2]) < 1 or (match[1] != "auto" and int(match[1]) >= int(match[2])):
            raise ValueError(right)
        return str(value)

    return Kind(read, {"type": "string", "pattern": r"^((\d{1,4}|auto)/\d{1,4})?$"})


def listener() -> Kind:
    """`host:port` to listen at, `[::1]:9600` for IPv6; empty for none."""
    right = 'an address and port such as "127.0.0.1:9600", or ""'

    def read(value: object) -> str:
        if value == "":
            return ""
        match = isinstance(value, str) and re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+):(\d{1,5})", value)
        if not match or int(match[2]) > 65_535:
            raise ValueError(right)
        return str(value)

    return Kind(read, {"type": "string", "pattern": r"^$|^.+:\d{1,5}$"})
