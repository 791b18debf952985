"""ClickHouse's Native format as clients of the native protocol's newer revisions read it. Pure.

The engine writes revision 0, and knows no setting for another one. Drivers that name a revision
(`client_protocol_version`), as that of Go does, expect a few bytes more: information in front of each block, and
from CUSTOM_SERIALIZATION on a flag after each column's type. To put the flag in its place, columns are measured.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from typing import Final

BLOCK_INFO: Final = b"\x01\x00\x02\xff\xff\xff\xff\x00"
"""Field 1, whether rows overflow: no. Field 2, the number of the bucket: -1, none. End."""
CUSTOM_SERIALIZATION: Final = 54454
"""The first revision in which a column says whether it is written in a way of its own."""

_SIZES = {
    "Nothing": 1, "Bool": 1, "Int8": 1, "UInt8": 1, "Enum8": 1, "Int16": 2, "UInt16": 2, "Enum16": 2, "BFloat16": 2,
    "Date": 2, "Int32": 4, "UInt32": 4, "Float32": 4, "Date32": 4, "DateTime": 4, "Time": 4, "IPv4": 4, "Int64": 8,
    "UInt64": 8, "Float64": 8, "DateTime64": 8, "Time64": 8, "Int128": 16, "UInt128": 16, "UUID": 16, "IPv6": 16,
    "Int256": 32, "UInt256": 32,
}  # fmt: skip
_TYPE = re.compile(r"(?P<name>\w+)(?:\((?P<inner>.*)\))?$", re.DOTALL)
_OFFSET_BYTES = 8
_DICTIONARY = 1 << 9
"""The flag of a dictionary that comes with the block; the engine sends no other kind."""


class UnknownType(ValueError):
    """A column's length cannot be told from its type."""


class NativeBlocks:
    """Takes an answer of revision 0 in pieces and gives it out as one of `revision`."""

    def __init__(self, revision: int) -> None:
        self._has_flags = revision >= CUSTOM_SERIALIZATION
        self._taken = bytearray()
        self._given = bytearray()
        self._is_between = True
        self._steps = self._blocks()
        next(self._steps)

    def feed(self, piece: bytes) -> bytes:
        """What can be given out with `piece`. Raises UnknownType."""
        self._taken += piece
        next(self._steps)
        given = bytes(self._given)
        self._given.clear()
        return given

    @property
    def is_between_blocks(self) -> bool:
        """Whether every byte fed so far belongs to a complete block, as at the end of a result."""
        return self._is_between and not self._taken

    # Each step goes as far as what has come allows, then yields for more.

    def _blocks(self) -> Iterator[None]:
        while True:
            while not self._taken:
                yield
            self._is_between = False
            self._given += BLOCK_INFO
            columns = yield from self._number()
            rows = yield from self._number()
            for _ in range(columns):
                yield from self._text()
                type_name = yield from self._text()
                self._given += b"\0" * self._has_flags
                if rows:
                    # A version of each dictionary stands before all values of the column, however deep they are.
                    yield from self._bytes(8 * type_name.count("LowCardinality("))
                    yield from self._values(type_name, rows)
            self._is_between = True

    def _values(self, type_name: str, count: int) -> Iterator[None]:
        found = _TYPE.match(type_name.strip())
        name, inner = (found["name"], found["inner"] or "") if found else ("", "")
        if not count:
            return
        if name == "String":
            yield from self._strings(count)
        elif name == "Nullable":
            yield from self._bytes(count)
            yield from self._values(inner, count)
        elif name in ("Array", "Map"):
            size = count * _OFFSET_BYTES
            while len(self._taken) < size:
                yield
            items = int.from_bytes(self._taken[size - _OFFSET_BYTES : size], "little")
            yield from self._bytes(size)
            for part in _parts(inner):
                yield from self._values(part, items)
        elif name == "Tuple":
            for part in _parts(inner):
                yield from self._values(part, count)
        elif name == "LowCardinality":
            yield from self._dictionary(inner)
        elif name == "SimpleAggregateFunction":
            yield from self._values(_parts(inner)[-1], count)
        else:
            yield from self._bytes(count * _size(type_name, name, inner))

    def _dictionary(self, inner: str) -> Iterator[None]:
        flags = yield from self._integer()
        if flags & _DICTIONARY:
            keys = yield from self._integer()
            # The key of NULL is a place among the others.
            yield from self._values(re.sub(r"^Nullable\((.*)\)$", r"\1", inner), keys)
        rows = yield from self._integer()
        yield from self._bytes(rows << (flags & 0xFF))

    def _integer(self) -> Generator[None, None, int]:
        while len(self._taken) < 8:
            yield
        value = int.from_bytes(self._taken[:8], "little")
        self._pass(8)
        return value

    def _bytes(self, count: int) -> Iterator[None]:
        while count:
            here = min(count, len(self._taken))
            self._pass(here)
            count -= here
            if count:
                yield

    def _strings(self, count: int) -> Iterator[None]:
        while count:
            place = 0
            while count and (end := _string_end(self._taken, place)):
                place = end
                count -= 1
            self._pass(place)
            if count:
                yield

    def _number(self) -> Generator[None, None, int]:
        while not (found := _number(self._taken, 0)):
            yield
        self._pass(found[1])
        return found[0]

    def _text(self) -> Generator[None, None, str]:
        while not (end := _string_end(self._taken, 0)):
            yield
        found = _number(self._taken, 0)
        assert found is not None
        text = self._taken[found[1] : end].decode()
        self._pass(end)
        return text

    def _pass(self, count: int) -> None:
        self._given += self._taken[:count]
        del self._taken[:count]


def _number(data: bytearray, place: int) -> tuple[int, int] | None:
    """A number of seven bits a byte, and where it ends; None when it is not all there."""
    value = shift = 0
    while place < len(data):
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7
    return None


def _string_end(data: bytearray, place: int) -> int:
    """Where the string at `place` ends; 0 when it is not all there."""
    found = _number(data, place)
    if found is None or found[0] + found[1] > len(data):
        return 0
    return found[0] + found[1]


def _size(type_name: str, name: str, inner: str) -> int:
    if name in _SIZES:
        return _SIZES[name]
    if name == "FixedString":
        return int(inner)
    if name == "Decimal":
        digits = int(inner.split(",")[0])
        return next(size for most, size in ((9, 4), (18, 8), (38, 16), (76, 32)) if digits <= most)
    if name.startswith("Interval"):
        return 8
    raise UnknownType(f"a column of type {type_name} cannot be sent to this driver; convert it, such as with toString")


def _parts(inner: str) -> list[str]:
    """The types between the brackets of a type; the elements of a tuple may have names."""
    parts = []
    depth = start = 0
    quote = ""
    for place, letter in enumerate(inner):
        if quote:
            quote = "" if letter == quote and inner[place - 1] != "\\" else quote
        elif letter in "'`":
            quote = letter
        elif letter == "," and not depth:
            parts.append(inner[start:place])
            start = place + 1
        else:
            depth += (letter == "(") - (letter == ")")
    parts.append(inner[start:])
    return [re.sub(r"^\s*(`(\\.|[^`])*`|\w+)\s+(?=\w)", "", part).strip() for part in parts]
