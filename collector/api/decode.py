"""From the bytes of a body to an answer: typed where it can be, tolerant where it must be.

The fast path decodes straight into the operation's type. A body that does not fit takes the
tolerant path: every field is converted on its own, a number in a string becomes a number, and a
record that is not exactly of its type stays the raw JSON value, for its source to normalise. Text that
strict parsers refuse is repaired or read record by record (`collector.api.tolerant`).
What is no answer at all is an error of its own kind and never an empty answer.
"""

from __future__ import annotations

import contextlib
import enum
import functools
import html
import json
import operator
import re
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import msgspec

from collector.api.envelope import (
    CODE_RECORDS_MISSING,
    SPELLINGS,
    SUCCESS_WORDS,
    ErrorBody,
    error_body,
    failure_of,
    folded,
    request_id_of,
    signs_of,
    total_of,
)
from collector.api.tolerant import DEPTH_MAX, UNREADABLE, decoded_text, loads, read_records, too_deep
from collector.catalogue.answers import Answer, UnreadableRecord
from collector.catalogue.operation import Nesting, Numbers, Operation
from collector.errors import InvalidAnswerError


class Reason(enum.StrEnum):
    """Why a body is not an answer."""

    NOT_JSON = "not_json"
    HTML = "html"
    TRUNCATED = "truncated"
    NOT_UTF8 = "not_utf8"
    NOT_AN_OBJECT = "not_an_object"
    NOT_AN_ANSWER = "not_an_answer"
    EMPTY = "empty"
    CODING = "coding"


_TEXTS: Final[Mapping[Reason, str]] = {
    Reason.NOT_JSON: "the body is not JSON",
    Reason.HTML: "the body is a web page or other markup, not JSON",
    Reason.TRUNCATED: "the body ends too early",
    Reason.NOT_UTF8: "the body is not UTF-8",
    Reason.NOT_AN_OBJECT: "the body is JSON but not an object",
    Reason.NOT_AN_ANSWER: "the body is an object but not an answer of this operation",
    Reason.EMPTY: "the answer has no body",
    Reason.CODING: "the body is compressed in a way that was not asked for and cannot be read",
}


class UndecodableAnswerError(InvalidAnswerError):
    """A body that is no answer; `reason` says in which way."""

    def __init__(
        self,
        reason: Reason,
        *,
        operation: str = "",
        scope_id: str = "",
        http_status: int = 0,
        request_id: str = "",
        detail: str = "",
    ) -> None:
        super().__init__(
            f"{_TEXTS[reason]}: {detail}" if detail else _TEXTS[reason],
            operation=operation,
            scope_id=scope_id,
            http_status=http_status,
            code=reason.value,
            request_id=request_id,
            hint="It is asked again. If it stays, look at what stands between here and the service: "
            "base_url, a proxy, a login page.",
        )
        self.reason = reason

    def __reduce__(self) -> tuple[Any, ...]:
        # The default would call the constructor with the text in place of the reason.
        return _rebuild, (self.reason,), self.__dict__


def _rebuild(reason: Reason) -> UndecodableAnswerError:
    return UndecodableAnswerError(reason)


_CUT_TOKEN: Final = re.compile(r"t|tr|tru|f|fa|fal|fals|n|nu|nul|-|\.|[eE][+-]?|")
"""What may be left of a body after the place where a parser saw that a word or number was cut off."""
_CUT_ESCAPE: Final = re.compile(r"\\u[0-9a-fA-F]{0,4}\Z")


def decode_answer(operation: Operation, body: bytes, *, had_cursor: bool = False) -> Answer | ErrorBody:
    """Read the body of a reply with a success status.

    Returns the operation's answer type; its records may be a mix of the record type and raw JSON
    values. Returns an `ErrorBody` if the answer itself reports a failure, in any spelling, or holds no
    record where it counts some (`had_cursor`: not on its first page). Raises UndecodableAnswerError
    (without operation and status, which the caller knows).
    """
    try:
        # The parser passes over the text of fields it does not know without looking at its bytes.
        if not body.isascii():
            body.decode()
        answer = _decoder(operation.answer).decode(_flat(operation, body))
    except UNREADABLE:
        return _decode_tolerant(operation, body, had_cursor)
    names, values_of, nothing = _sign_fields(operation.answer)
    values = values_of(answer)
    # The common case, at the cost of one comparison.
    signs = {} if values == nothing else signs_of(dict(zip(names, values, strict=True)))
    if (signs and failure_of(signs)) or not _is_answer(operation, answer):
        # Only the raw object has all that there is to report.
        return _decode_tolerant(operation, body, had_cursor)
    return _held_against_records(operation, answer, signs, had_cursor) if signs else answer


def decode_error(body: bytes, content_type: str = "") -> ErrorBody:
    """Read the body of a reply with an error status; JSON or XML, in either case. Never raises."""
    text = body.decode("utf-8", "replace")
    if "xml" in content_type.lower() or "<Error>" in text[:512]:
        code, message, request_id = (_xml_text(text, name) for name in ("Code", "Message", "RequestId"))
        return ErrorBody(code, message, request_id)
    try:
        raw = parse_json(body)
    except UndecodableAnswerError:
        return ErrorBody()
    return error_body(raw) if isinstance(raw, dict) else ErrorBody()


def count_records(operation: Operation, answer: Answer) -> int:
    """Records that the answer carries; 1 where the answer itself is the record."""
    if operation.records_field is None:
        return 1
    return len(getattr(answer, operation.records_field) or ())


def _decode_tolerant(operation: Operation, body: bytes, had_cursor: bool) -> Answer | ErrorBody:
    raw, replaced = read_object(operation, body)
    told = {name: value for name, value in raw.items() if not isinstance(value, UnreadableRecord)}
    signs = signs_of(told, _own_signs(operation.answer))
    if failure := failure_of(signs, request_id_of(told)):
        return failure
    values: dict[str, Any] = {}
    for field in _fields(operation.answer):
        value = raw.get(field.wire_name)
        if value is not None:
            values[field.name] = field.convert(value)
    answer = operation.answer(**values)
    if not _is_answer(operation, answer):
        raise UndecodableAnswerError(Reason.NOT_AN_ANSWER)
    if replaced and not count_records(operation, answer):
        # Nothing shows that it is this operation's answer, and not other bytes that happen to have its form.
        raise UndecodableAnswerError(Reason.NOT_UTF8)
    answer.replaced_bytes = replaced
    return _held_against_records(operation, answer, signs, had_cursor)


def _held_against_records(
    operation: Operation, answer: Answer, signs: Mapping[str, Any], had_cursor: bool
) -> Answer | ErrorBody:
    """Return the answer, or a failure if what it reports about itself contradicts its records."""
    request_id = answer.request_id or ""
    count = count_records(operation, answer)
    if failure := failure_of(signs, request_id, has_records=count > 0):
        return failure
    total = total_of(signs)
    if isinstance(operation.paging, Numbers):
        # Its source holds the pages of the whole list against the total.
        if total is not None and getattr(answer, operation.paging.total) is None:
            setattr(answer, operation.paging.total, total)
    elif total and not count and not getattr(answer, "next_token", None):
        if not had_cursor:
            return ErrorBody(CODE_RECORDS_MISSING, f"the answer counts {total:,} records and holds none", request_id)
        # The pages before may hold them, which are not known here.
        answer.total_denied = total
    return answer


def read_object(operation: Operation, body: bytes) -> tuple[dict[str, Any], int]:
    """Return the JSON object of a body, and how many pieces of it were not UTF-8.

    A record that cannot be read is an UnreadableRecord. Raises UndecodableAnswerError.
    """
    text, replaced = _text(body)
    try:
        try:
            value = loads(text)
        except ValueError:
            if operation.wire_records_field is None:
                raise
            name, inner_name = operation.wire_records_field, _inner_name(operation.answer, operation.records_field)
            if operation.nesting is Nesting.RESOURCE:
                value = _read_inside(text, name, inner_name)
            else:
                value = read_records(text, name, inner_name)
    except ValueError:
        _raise_not_json(text, replaced)
    if not isinstance(value, dict):
        raise UndecodableAnswerError(Reason.NOT_AN_OBJECT)
    return _unnested(operation, value), replaced


def answer_json(operation: Operation, body: bytes) -> Any:
    """Return the JSON value of an answer, its list of records as a list. Raises UndecodableAnswerError."""
    value = parse_json(body)
    return _unnested(operation, value) if isinstance(value, dict) else value


def _flat(operation: Operation, body: bytes) -> bytes:
    """The body with the list of records as its field, cut out of where the service has put it. Raises UNREADABLE."""
    name = operation.wire_records_field
    if operation.nesting is Nesting.PLAIN or name is None:
        return body
    members = _members.decode(body)
    for spelling, value in members.items():
        if spelling.lower() != name.lower():
            continue
        first = bytes(memoryview(value)[:1])
        if operation.nesting is Nesting.TEXT and first == b'"':
            text = msgspec.json.decode(value, type=str)
            members[spelling] = msgspec.Raw(text.encode() if text.strip() else b"[]")
        elif operation.nesting is Nesting.RESOURCE and first == b"{":
            members[spelling] = _members.decode(value).get(NESTED, msgspec.Raw(b"[]"))
        break
    else:
        return body
    # Products do not agree on the letters of the same field.
    members[name] = members.pop(spelling)
    return msgspec.json.encode(members)


def _unnested(operation: Operation, answer: dict[str, Any]) -> dict[str, Any]:
    """The same of an answer that was read; what cannot be read as a list stays what it is."""
    name = operation.wire_records_field
    if operation.nesting is Nesting.PLAIN or name is None:
        return answer
    spelling = next((key for key in answer if key.lower() == name.lower()), name)
    value = answer.get(spelling)
    if operation.nesting is Nesting.TEXT and isinstance(value, str):
        try:
            value = loads(value) if value.strip() else []
        except ValueError:
            with contextlib.suppress(ValueError):
                # The text around it was whole, so this one was not cut off.
                value = read_records(f'{{"{name}":{value},"{_BEHIND}":0}}', name, None)[name]
    elif operation.nesting is Nesting.RESOURCE and isinstance(value, dict):
        value = value.get(NESTED, [])
    return {**{key: held for key, held in answer.items() if key != spelling}, name: value}


def _read_inside(text: str, name: str, inner_name: str | None) -> dict[str, Any]:
    """As `read_records`, of a list inside of an object. Raises ValueError."""
    begin = re.search(rf'"{re.escape(name)}"\s*:\s*(\{{\s*"{NESTED}"\s*:\s*)\[', text)
    if begin is None:
        raise ValueError("no records")
    # Where the object ends is not known while a record cannot be read: the last place at which the rest fits.
    for end in list(re.finditer(r"\]\s*\}", text[begin.end(1) :]))[: -1 - ENDS_TRIED_MAX : -1]:
        at = begin.end(1) + end.start() + 1
        flat = text[: begin.start(1)] + text[begin.end(1) : at] + text[begin.end(1) + end.end() :]
        with contextlib.suppress(ValueError):
            return read_records(flat, name, inner_name)
    raise ValueError("it does not end")


_BEHIND: Final = "behind"
ENDS_TRIED_MAX: Final = 8
_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
NESTED: Final = "Resource"
"""Field of an object that holds the list of records."""


def parse_json(body: bytes) -> Any:
    """The JSON value of a body; raises UndecodableAnswerError saying what it is instead."""
    text, replaced = _text(body)
    try:
        return loads(text)
    except ValueError:
        _raise_not_json(text, replaced)


def _text(body: bytes) -> tuple[str, int]:
    text, replaced = decoded_text(body)
    text = text.strip()
    if text.startswith("<"):
        raise UndecodableAnswerError(Reason.HTML)
    return text, replaced


def _raise_not_json(text: str, replaced: int) -> NoReturn:
    try:
        json.loads(text, parse_constant=str, strict=False)
    except json.JSONDecodeError as error:
        if _is_cut_off(error, text):
            raise UndecodableAnswerError(Reason.TRUNCATED) from None
    except (ValueError, RecursionError):
        pass
    raise UndecodableAnswerError(Reason.NOT_UTF8 if replaced else Reason.NOT_JSON) from None


def _is_cut_off(error: json.JSONDecodeError, text: str) -> bool:
    """Whether a parser failed only because the text ends where it does."""
    if error.msg.startswith("Unterminated string"):
        return True
    in_token = _CUT_TOKEN.fullmatch(text, error.pos)
    in_escape = _CUT_ESCAPE.search(text, max(error.pos - 2, 0))
    return bool(in_token or in_escape)


@dataclass(frozen=True, slots=True)
class _Field:
    """One field of an answer and how its value is taken over."""

    name: str
    wire_name: str
    type: Any
    item_type: Any
    """Type of one item where the field is a list, else None."""
    is_object: bool

    def convert(self, value: Any) -> Any:
        """Raises UndecodableAnswerError where taking the value for absent would hide data."""
        if self.item_type is not None:
            if not isinstance(value, list):
                raise UndecodableAnswerError(Reason.NOT_AN_ANSWER)
            return [_typed_or_raw(item, self.item_type) for item in value]
        if self.is_object and isinstance(value, dict | UnreadableRecord):
            return _typed_or_raw(value, self.type)
        spellings = [value, str(value)] if type(value) in (int, float) else [value]
        for spelling in spellings:
            with contextlib.suppress(msgspec.ValidationError):
                return msgspec.convert(spelling, self.type, strict=False)
        if self.name in Answer.__struct_fields__ or value == "":
            return None
        raise UndecodableAnswerError(Reason.NOT_AN_ANSWER)


def _typed_or_raw(value: Any, wanted: Any) -> Any:
    if isinstance(value, UnreadableRecord):
        return value
    if too_deep(value):
        return UnreadableRecord(f"nested more than {DEPTH_MAX} levels deep", _shown(value))
    try:
        return msgspec.convert(value, wanted, strict=False)
    except msgspec.ValidationError:
        return value


def _shown(value: Any) -> str:
    try:
        return msgspec.json.encode(value).decode()
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return ""


@functools.cache
def _decoder(answer_type: type[Answer]) -> msgspec.json.Decoder[Answer]:
    return msgspec.json.Decoder(_wire_type(answer_type))


@functools.cache
def _wire_type(answer_type: type[Answer]) -> type[Answer]:
    """The answer's type with a field for each spelling of a sign of failure that is not its own field."""
    known = set(answer_type.__struct_encode_fields__)
    names = {f"sign_{i}": name for i, name in enumerate(SPELLINGS) if name not in known}
    renamed = dict(zip(answer_type.__struct_fields__, answer_type.__struct_encode_fields__, strict=True)) | names
    fields = [(attribute, Any, None) for attribute in names]
    made = msgspec.defstruct(f"{answer_type.__name__}OnTheWire", fields, bases=(answer_type,), rename=renamed)
    return typing.cast(type[Answer], made)


@functools.cache
def _inner_name(answer_type: type[Answer], records_field: str | None) -> str | None:
    """The list of points inside of each record of a series, None for other records."""
    (item_type,) = (field.item_type for field in _fields(answer_type) if field.name == records_field)
    if not (isinstance(item_type, type) and issubclass(item_type, msgspec.Struct)):
        return None
    inner = (field for field in _fields(item_type) if isinstance(field.item_type, type))
    return next((field.wire_name for field in inner if issubclass(field.item_type, msgspec.Struct)), None)


@functools.cache
def _own_signs(answer_type: type[Answer]) -> frozenset[str]:
    """Folded names of fields that report about the call elsewhere and are data of this answer."""
    return frozenset({"status"}) & {folded(name) for name in answer_type.__struct_encode_fields__}


@functools.cache
def _sign_fields(answer_type: type[Answer]) -> tuple[tuple[str, ...], Callable[[Answer], tuple[Any, ...]], Any]:
    """Wire names of the fields that may report about the call, how to get their values, and those of none."""
    wire_type, own = _wire_type(answer_type), _own_signs(answer_type)
    by_name = dict(zip(wire_type.__struct_encode_fields__, wire_type.__struct_fields__, strict=True))
    names = tuple(name for name in SPELLINGS if name in by_name and folded(name) not in own)
    return names, operator.attrgetter(*(by_name[name] for name in names)), (None,) * len(names)


@functools.cache
def _fields(answer_type: type[msgspec.Struct]) -> tuple[_Field, ...]:
    return tuple(_field(field.name, field.encode_name, field.type) for field in msgspec.structs.fields(answer_type))


def _field(name: str, wire_name: str, field_type: Any) -> _Field:
    options = typing.get_args(field_type) if isinstance(field_type, types.UnionType) else (field_type,)
    origins = [typing.get_origin(option) or option for option in options]
    item_types = (typing.get_args(option)[0] for option in options if typing.get_origin(option) is list)
    is_object = any(issubclass(origin, msgspec.Struct | dict) for origin in origins)
    return _Field(name, wire_name, field_type, next(item_types, None), is_object)


def _is_answer(operation: Operation, answer: Answer) -> bool:
    """Whether an object that could be read is this operation's answer, with or without records."""
    if operation.records_field is not None:
        if getattr(answer, operation.records_field) is not None:
            return True
        # Without records, an unknown message may be the only sign of a failure.
        if answer.message and answer.message.lower() not in SUCCESS_WORDS:
            return False
    own = (name for name in operation.answer.__struct_fields__ if name not in ("code", "message"))
    return any(getattr(answer, name) is not None for name in own)


def _xml_text(text: str, name: str) -> str:
    # Two fields of a flat document do not need a parser that expands entities.
    found = re.search(rf"<{name}>([^<]*)</{name}>", text)
    return html.unescape(found.group(1)).strip() if found else ""
