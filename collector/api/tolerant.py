"""JSON that strict parsers refuse: repaired where that is safe, else read record by record. Pure.

One odd record must not cost the others of its page. Bytes that are no UTF-8 become U+FFFD, control characters inside of
strings are taken as they are, a bad escape is the text it looks like. What cannot be read for all that is an
`UnreadableRecord` in the place of the record.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from collector.catalogue.answers import UnreadableRecord

DEPTH_MAX: Final = 100
"""Levels of lists and objects in a record. Deeper ones would exhaust the stack of what works on them."""
NUMBER_CHARACTERS_MAX: Final = 400
"""A longer number is kept as its text: it is more than any column holds."""

UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for text that is not JSON, or too deep for it."""

_ESCAPE: Final = re.compile(r'\\(["\\/bfnrt]|u[0-9a-fA-F]{4})|\\')
_LONE_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_TOKEN: Final = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{},"]', re.DOTALL)
_KEY: Final = re.compile(r'\s*("[^"\\]*+(?:\\.[^"\\]*+)*+")\s*:\s*', re.DOTALL)
_FIRST_KEY: Final = re.compile(r'\{\s*("[^"\\]*")\s*:')
_BETWEEN: Final = re.compile(r"[\s,]*")
_BETWEEN_TEXTS: Final = re.compile(r'(?<="),\s*(?=")')
_IS_WHOLE: Final = re.compile(r"\s*[,\]]")
_END_OF_LIST: Final = re.compile(r"\]\s*(?=,)")


def decoded_text(body: bytes) -> tuple[str, int]:
    """Return the text of a body, and how many pieces of it were not UTF-8 and are U+FFFD now."""
    try:
        return body.decode("utf-8-sig"), 0
    except UnicodeDecodeError:
        text = body.decode("utf-8-sig", "replace")
        return text, text.count("\ufffd") - body.count("\ufffd".encode())


def loads(text: str) -> Any:
    """Return the JSON value of a text, repaired if need be.

    Raises ValueError if it is not JSON or too deep, json.JSONDecodeError if that has a place in the text.
    """
    try:
        return msgspec.json.decode(text)
    except UNREADABLE:
        pass
    try:
        try:
            value = _DECODER.decode(text)
        except json.JSONDecodeError as error:
            if "escape" not in error.msg:
                raise
            value = _DECODER.decode(_ESCAPE.sub(lambda found: found[0] if found[1] else r"\\", text))
        return _clean(value, DEPTH_MAX)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None


def read_records(text: str, records_name: str, inner_name: str | None) -> dict[str, Any]:
    """Return an object with a list of records under `records_name`, each read by itself.

    `inner_name` is the list of points inside of each record, which are read by themselves as well. A value that
    cannot be read is an UnreadableRecord. Raises ValueError if the text is no such object.
    """
    try:
        return _read_by_brackets(text, records_name, inner_name)
    except ValueError:
        return _resynchronised(text, records_name)


def _read_by_brackets(text: str, records_name: str, inner_name: str | None) -> dict[str, Any]:
    members, end = _split(text, len(text) - len(text.lstrip()))
    found: dict[str, Any] = {}
    for name, value in _members(text, members):
        is_list = name == records_name and value.startswith("[")
        found[name] = _read_list(value, inner_name) if is_list else _read(value)
    if (rest := text[end:].strip()) and (rest[0] in "{[" or not found.get(records_name)):
        # Only behind records that are there, and only if it is no second answer.
        raise ValueError("something follows the answer")
    return found


def too_deep(value: Any, depth_max: int = DEPTH_MAX) -> bool:
    """Return whether lists and objects are nested deeper than `depth_max`."""
    level = [value]
    for _ in range(depth_max + 1):
        level = [part for each in level for part in _parts(each)]
        if not level:
            return False
    return True


def _parts(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from (part for part in value.values() if isinstance(part, dict | list))
    elif isinstance(value, list):
        yield from (part for part in value if isinstance(part, dict | list))


def _read(text: str) -> Any:
    try:
        value = loads(text)
    except ValueError as error:
        return UnreadableRecord(_reason(error), text)
    return UnreadableRecord(_TOO_DEEP, text) if too_deep(value) else value


def _read_list(text: str, inner_name: str | None) -> list[Any]:
    spans, _ = _split(text, 0)
    parts = (text[begin:end].strip() for begin, end in spans)
    return [value for part in parts if part for value in _read_item(part, inner_name)]


def _read_item(text: str, inner_name: str | None) -> list[Any]:
    value = _read_with_points(text, inner_name) if inner_name else _read(text)
    if not isinstance(value, UnreadableRecord):
        return [value]
    # A quote that is missing or too many hides the ends of records up to the next one.
    begins = [0, *(found.end() for found in _boundary(text, 0).finditer(text, 1))]
    ends = [text.rindex(",", 0, begin) for begin in begins[1:]] + [len(text)]
    return (
        [value]
        if len(begins) == 1
        else [_read(text[begin:end].strip()) for begin, end in zip(begins, ends, strict=True)]
    )


def _boundary(text: str, at: int) -> re.Pattern[str]:
    """What is between a record that cannot be read and the next one, which begins with the same field."""
    key = _FIRST_KEY.match(text, at)
    return re.compile(rf",\s*(?=\{{\s*{re.escape(key[1])}\s*:)") if key else _BETWEEN_TEXTS


def _read_with_points(text: str, inner_name: str) -> Any:
    value = _read(text)
    if not isinstance(value, UnreadableRecord) or not text.startswith("{"):
        return value
    try:
        members, end = _split(text, 0)
        if end < len(text):
            return value
        found = {
            name: _read_list(part, None) if name == inner_name and part.startswith("[") else _read(part)
            for name, part in _members(text, members)
        }
    except ValueError:
        return value
    return value if any(isinstance(part, UnreadableRecord) for part in found.values()) else found


def _members(text: str, spans: list[tuple[int, int]]) -> Iterator[tuple[str, str]]:
    for begin, end in spans:
        if not text[begin:end].strip():
            continue
        key = _KEY.match(text, begin, end)
        if key is None:
            raise ValueError("a member without a name")
        yield loads(key[1]), text[key.end() : end].strip()


def _split(text: str, start: int) -> tuple[list[tuple[int, int]], int]:
    """Return where the items of the list or object at `start` are, and its end. Raises ValueError if it has none."""
    if text[start : start + 1] not in ("[", "{"):
        raise ValueError("not a list or an object")
    spans, depth, begin = [], 0, start + 1
    for token in _TOKEN.finditer(text, start):
        match token[0]:
            case "[" | "{":
                depth += 1
            case "]" | "}":
                depth -= 1
                if depth == 0:
                    spans.append((begin, token.start()))
                    return spans, token.end()
            case "," if depth == 1:
                spans.append((begin, token.start()))
                begin = token.end()
            case '"':
                raise ValueError("a string that does not end")
    raise ValueError("it does not end")


def _resynchronised(text: str, records_name: str) -> dict[str, Any]:
    """Read records of which one hides where it ends: the next begins with the same field."""
    begins = re.search(rf'"{re.escape(records_name)}"\s*:\s*\[', text)
    if begins is None:
        raise ValueError("no records")
    head, at, items, tail = text[: begins.end()], begins.end(), [], ""
    while not tail:
        found = _BETWEEN.match(text, at)
        at = found.end() if found else at
        if text[at : at + 1] == "]":
            tail = text[at:]
            break
        try:
            value, end = _DECODER.raw_decode(text, at)
            if not _IS_WHOLE.match(text, end):
                raise ValueError("not JSON: more text behind its end")
            items.append(_clean(value, DEPTH_MAX))
            at = end
            continue
        except (ValueError, RecursionError) as error:
            reason = _reason(error)
        end = _end_of_broken(text, at, head)
        items.append(UnreadableRecord(reason, text[at:end]))
        at = end
    envelope = loads(head + tail)
    if not isinstance(envelope, dict):
        raise ValueError("not an object")
    return envelope | {records_name: items}


def _end_of_broken(text: str, at: int, head: str) -> int:
    if following := _boundary(text, at).search(text, at + 1):
        return following.start()
    # The last one ends where the rest of the answer is whole. An answer that ends with its records may be cut off.
    for end in _END_OF_LIST.finditer(text, at):
        try:
            loads(head + text[end.start() :])
        except ValueError:
            continue
        return end.start()
    raise ValueError("it does not end")


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return _TOO_DEEP
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON: {error.msg} at character {error.pos}"
    return str(error)


_TOO_DEEP: Final = f"nested more than {DEPTH_MAX} levels deep"


def _clean(value: Any, depth_left: int) -> Any:
    """The value with every text encodable: half of a surrogate pair would fail far from here, in a store."""
    if depth_left < 0:
        raise ValueError(_TOO_DEEP)
    match value:
        case str():
            return _LONE_SURROGATE.sub("\ufffd", value)
        case list():
            return [_clean(item, depth_left - 1) for item in value]
        case dict():
            return {_LONE_SURROGATE.sub("\ufffd", name): _clean(item, depth_left - 1) for name, item in value.items()}
        case _:
            return value


def _whole(text: str) -> int | str:
    return int(text) if len(text) <= NUMBER_CHARACTERS_MAX else text


def _real(text: str) -> float | str:
    number = float(text)
    return number if math.isfinite(number) else text


_DECODER: Final = json.JSONDecoder(strict=False, parse_constant=str, parse_int=_whole, parse_float=_real)
