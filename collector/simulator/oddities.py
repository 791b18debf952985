"""Records whose text is odd: what strict parsers refuse, put into a good answer byte by byte.

    oddity            in the field `Odd` of a record, or inside of a record that is a text
    bad_utf8          bytes that are not UTF-8
    control           ESC, a line feed and a tab, not escaped
    bad_escape        a backslash before an x
    surrogate         half of a surrogate pair, escaped
    long_number       a number of 5,000 digits
    not_a_number      NaN
    infinity          -Infinity
    doubled           the field twice
    deep              2,000 lists in one another
    quotes            quotes inside of the string, not escaped
    quote             one quote inside of the string, not escaped
    cut               the value ends before its quote

    oddity            of the whole answer
    mark              a byte order mark before it
    trailing          a line of other text behind it

A record that is a text takes no oddity that needs a field. `deep`, `quotes`, `quote` and `cut` make records that cannot
be read; the others leave them what they were.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Any

import msgspec

from collector.catalogue.operation import Operation
from collector.simulator.hashing import fraction, key_of
from collector.simulator.nesting import nested_bytes, records_of

_DEPTH = 2_000
_DIGITS = 5_000


class Oddity(enum.StrEnum):
    """What is odd; the module's docstring has a line for each."""

    BAD_UTF8 = "bad_utf8"
    CONTROL = "control"
    BAD_ESCAPE = "bad_escape"
    SURROGATE = "surrogate"
    LONG_NUMBER = "long_number"
    NOT_A_NUMBER = "not_a_number"
    INFINITY = "infinity"
    DOUBLED = "doubled"
    DEEP = "deep"
    QUOTES = "quotes"
    QUOTE = "quote"
    CUT = "cut"
    MARK = "mark"
    TRAILING = "trailing"


_IN_TEXT = {
    Oddity.BAD_UTF8: b"bad \xff\xfe bytes",
    Oddity.CONTROL: b"\x1b[31mred\x1b[0m\n\tnext",
    Oddity.BAD_ESCAPE: rb"\x1b[31mred",
    Oddity.SURROGATE: rb"half \ud83d pair",
    Oddity.QUOTES: b'said "hi" twice',
    Oddity.QUOTE: b'a 5" disk',
}
_VALUES = {
    **{oddity: b'"' + text + b'"' for oddity, text in _IN_TEXT.items()},
    Oddity.LONG_NUMBER: b"9" * _DIGITS,
    Oddity.NOT_A_NUMBER: b"NaN",
    Oddity.INFINITY: b"-Infinity",
    Oddity.DOUBLED: b'1,"Odd":2',
    Oddity.DEEP: b"[" * _DEPTH + b"]" * _DEPTH,
    Oddity.CUT: b'"begun',
}
UNREADABLE = (Oddity.DEEP, Oddity.QUOTES, Oddity.QUOTE, Oddity.CUT)
"""Oddities that cost the record."""
READABLE = tuple(oddity for oddity in Oddity if oddity not in UNREADABLE)
"""Oddities that leave a record what it was."""

_encode = msgspec.json.Encoder().encode


def odd_answer(body: bytes, operation: Operation, oddities: Sequence[Oddity], share: float) -> bytes:
    """The answer with some of its records odd; which, and how, depends on the record alone."""
    answer: dict[str, Any] = msgspec.json.decode(body)
    records_field = operation.wire_records_field
    records = [_odd_record(_encode(record), oddities, share) for record in records_of(operation, answer)]
    # The records first, so that an answer whose last record does not end still goes on behind it.
    members = [_encode(records_field) + b":" + nested_bytes(operation, b"[" + b",".join(records) + b"]")]
    members += [_encode(name) + b":" + _encode(value) for name, value in answer.items() if name != records_field]
    mark = b"\xef\xbb\xbf" if Oddity.MARK in oddities else b""
    trailing = b"\n-- end of page\n" if Oddity.TRAILING in oddities and records else b""
    return mark + b"{" + b",".join(members) + b"}" + trailing


def odd_of(record: Any, oddities: Sequence[Oddity], share: float) -> Oddity | None:
    """The oddity of a record, None if it stays as it is."""
    encoded = _encode(record)
    possible = [each for each in oddities if each in (_IN_TEXT if encoded[:1] == b'"' else _VALUES)]
    drawn = key_of("odd", encoded)
    return None if not possible or fraction(drawn) >= share else possible[(drawn & 0x7FF) % len(possible)]


def _odd_record(encoded: bytes, oddities: Sequence[Oddity], share: float) -> bytes:
    oddity = odd_of(msgspec.json.decode(encoded), oddities, share)
    if oddity is None:
        return encoded
    if encoded[:1] == b'"':
        return encoded[:-1] + b" " + _IN_TEXT[oddity] + b'"'
    return encoded[:-1] + b',"Odd":' + _VALUES[oddity] + b"}"
