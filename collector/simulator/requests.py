"""Requests: from what came to an operation and its checked parameters, or to a refusal. Pure.

    bearer     /api/{product}/{version}/{operation}; GET and DELETE take a query, POST a flat JSON
               object, in which the parameters of `Place.JSON` are together in `body`
    product    every other path, as the product endpoints have them: RPC calls at `/`, told apart
               by `x-acs-action`, with a form; the others at the row's path, with a query or a flat
               JSON object

All products share one host here. What neither the row nor the form knows is refused: the real
services may ignore it, but here a misspelt name has to show.

Parameters are checked as strictly as a careful service would. The client checks its calls too, in code
of its own: what it lets through by mistake is refused here.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, unquote

import msgspec

from collector.catalogue.operation import Form, Operation, Parameter, Place, Spread, Style
from collector.catalogue.operations import CATALOGUE


class Refusal(Exception):
    """A call that is answered with an error: HTTP status, code, message and headers of its own."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.headers = dict(headers or {})

    def body(self, operation: Operation | None, request_id: str) -> dict[str, str]:
        """The JSON body, with the fields that the gateway documents."""
        product = operation.product if operation else "gateway"
        return {
            "RequestId": request_id,
            "HostId": f"{product.lower()}.cn-hangzhou.aliyuncs.com",
            "Code": self.code,
            "Message": self.message,
            "Recommend": f"https://api.aliyun.com/troubleshoot?q={self.code}&product={product}",
        }


def missing_parameter(name: str) -> Refusal:
    return Refusal(400, "MissingParameter", f"The mandatory input parameter {name} is missing.")


def invalid_parameter(name: str, why: str) -> Refusal:
    return Refusal(400, "InvalidParameter", f"The specified parameter {name} is not valid: {why}.")


def invalid_token(why: str) -> Refusal:
    """`why` completes "The specified NextToken ...", as in "is expired"."""
    return Refusal(400, "InvalidParameter", f"The specified NextToken {why}.")


def invalid_key() -> Refusal:
    return Refusal(401, "InvalidApiKey", "The API key is missing or not valid.")


def not_found(kind: str, scope_id: str) -> Refusal:
    return Refusal(404, f"Invalid{kind}.NotFound", f"The specified {kind} {scope_id!r} does not exist.")


def throttled(headers: Mapping[str, str] | None = None, *, status: int = 429) -> Refusal:
    return Refusal(status, "Throttling.User", "Request was denied due to user flow control.", headers)


_ACTIONS = {(row.action, row.version): row for row in CATALOGUE.values()}
_BEARER_PATH = re.compile(r"/api/([^/]+)/(\d{4}-\d\d-\d\d)/([^/]+)")
_NUMBERED = re.compile(r"([^.]+)\.([1-9][0-9]{0,3})(?:\.([^.]+))?")
_FORM_TYPE = "application/x-www-form-urlencoded"
_JSON_TYPE = "application/json"


class Call(NamedTuple):
    """A request as it came, as far as a signature covers it."""

    method: str
    path: str
    """As sent, without the query."""
    query: str
    """As sent, without the question mark."""
    headers: Mapping[str, str]
    """By lower-case name; values of a repeated header are joined with commas."""
    body: bytes


class Gateway(enum.StrEnum):
    """The two ways to call an operation."""

    BEARER = "bearer"
    PRODUCT = "openapi"


class Target(NamedTuple):
    """What a request is for."""

    gateway: Gateway
    operation: Operation
    path_values: Mapping[str, str]
    """Parameters that stood in the path."""


def target_of(call: Call) -> Target:
    """The operation of a request. Raises Refusal (404) where there is none.

    The method is not looked at, so that a wrong one is an arrival of its operation too.
    """
    if parts := _BEARER_PATH.fullmatch(call.path):
        operation = _ACTIONS.get((parts[3], parts[2]))
        if operation is not None and operation.product == parts[1]:
            return Target(Gateway.BEARER, operation, {})
        raise _unknown("The specified API is not found.")
    action, version = call.headers.get("x-acs-action", ""), call.headers.get("x-acs-version", "")
    operation = _ACTIONS.get((action, version))
    if operation is None:
        raise _unknown(f"Specified api is not found, please check your action {action!r} and version {version!r}.")
    values = _path_values(operation.path, call.path) if call.path.isascii() else None
    if values is None:
        raise _unknown(f"{action} is not at the path {call.path!r}.")
    return Target(Gateway.PRODUCT, operation, values)


def parameters_of(target: Target, call: Call) -> dict[str, Any]:
    """The parameters, spelled as the catalogue has them. Raises Refusal for what cannot be read.

    Text that is not of its parameter's type is left as it is; `check_parameters` finds it.
    """
    operation = target.operation
    if call.method != operation.method:
        raise Refusal(405, "UnsupportedHTTPMethod", f"{operation.name} takes {operation.method} only.")
    bearer = target.gateway is Gateway.BEARER
    values = _bearer_parameters(operation, call) if bearer else _product_parameters(target, call)
    return {name: value for name, value in values.items() if value is not None}


def _bearer_parameters(operation: Operation, call: Call) -> dict[str, Any]:
    if operation.method != "POST":
        _no_body(operation, call)
        return _from_text(operation, operation.parameters, _pairs(call.query))
    _no_more(operation, _pairs(call.query))
    given = _object(call)
    wrapped = {row.name: row for row in operation.parameters if row.place is Place.JSON}
    inner = given.pop("body", {}) if wrapped else {}
    if not isinstance(inner, dict):
        raise invalid_parameter("body", "an object is expected")
    flat = {row.name: row for row in operation.parameters if row.place is not Place.JSON}
    _only_known(operation, given, flat)
    _only_known(operation, inner, wrapped)
    return {**given, **inner}


def _product_parameters(target: Target, call: Call) -> dict[str, Any]:
    operation = target.operation
    rows = [row for row in operation.parameters if not row.bearer_only]
    query = _pairs(call.query)
    if operation.style is Style.RPC:
        # The official SDKs name the signature type in the query when they carry a bearer token.
        query.pop("SignatureType", None)
    values: dict[str, Any] = dict(target.path_values)
    values |= _from_text(operation, [row for row in rows if row.place is Place.QUERY], query)
    if form := [row for row in rows if row.place is Place.FORM]:
        values |= _from_text(operation, form, _form(call))
    elif fields := {row.name: row for row in rows if row.place is Place.JSON}:
        given = _object(call)
        _only_known(operation, given, fields)
        values |= given
    else:
        _no_body(operation, call)
    return values


def _path_values(pattern: str, path: str) -> dict[str, str] | None:
    ours, theirs = pattern.split("/"), path.split("/")
    if len(ours) != len(theirs):
        return None
    values = {}
    for segment, given in zip(ours, theirs, strict=True):
        if segment.startswith("{"):
            values[segment[1:-1]] = unquote(given)
        elif segment != given:
            return None
    return values


def _pairs(text: str) -> dict[str, str]:
    """A query or a form. Raises Refusal when it is not UTF-8 or names something twice."""
    try:
        text.encode()
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict")
    except ValueError:
        raise Refusal(400, "InvalidParameter", "The parameters are not UTF-8.") from None
    values: dict[str, str] = {}
    for name, value in pairs:
        if name in values:
            raise invalid_parameter(name, "it is given twice")
        values[name] = value
    return values


def _form(call: Call) -> dict[str, str]:
    if call.body and not call.headers.get("content-type", "").startswith(_FORM_TYPE):
        raise Refusal(400, "InvalidParameter", f"The body must be {_FORM_TYPE}.")
    return _pairs(call.body.decode(errors="surrogateescape"))


def _object(call: Call) -> dict[str, Any]:
    try:
        given = msgspec.json.decode(call.body or b"{}", type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Refusal(400, "InvalidParameter", "The body is not a JSON object.") from None
    if call.body and not call.headers.get("content-type", "").startswith(_JSON_TYPE):
        raise Refusal(400, "InvalidParameter", f"The body must be {_JSON_TYPE}.")
    return given


def _no_body(operation: Operation, call: Call) -> None:
    if call.body:
        raise Refusal(400, "InvalidParameter", f"{operation.name} takes no body.")


def _no_more(operation: Operation, names: Iterable[str]) -> None:
    for name in names:
        raise invalid_parameter(name, f"{operation.name} has no such parameter there")


def _only_known(operation: Operation, given: Iterable[str], rows: Mapping[str, Parameter]) -> None:
    _no_more(operation, (name for name in given if name not in rows))


def _from_text(operation: Operation, rows: Iterable[Parameter], pairs: dict[str, str]) -> dict[str, Any]:
    """Values of these rows, out of a query or form that may hold nothing else."""
    left = dict(pairs)
    values: dict[str, Any] = {}
    nested: dict[str, list[Parameter]] = {}
    for row in rows:
        if row.inside:
            nested.setdefault(row.inside, []).append(row)
        elif row.type is list and row.spread is Spread.NUMBERED:
            if items := _numbered(row.name, left):
                values[row.name] = items
        elif row.name in left:
            values[row.name] = _value(row, left.pop(row.name))
    for name, fields in nested.items():
        if name in left:
            values |= _fields(operation, name, left.pop(name), {row.name: row for row in fields})
    _no_more(operation, left)
    return values


def _value(row: Parameter, text: str) -> Any:
    if row.type is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    if row.type is int:
        return int(text) if re.fullmatch(r"-?[0-9]{1,18}", text) else text
    if row.type is list and row.spread is Spread.COMMAS:
        return text.split(",") if text else []
    if row.type in (list, dict):
        try:
            return msgspec.json.decode(text)
        except msgspec.DecodeError:
            return text
    return text


def _fields(operation: Operation, name: str, text: str, rows: Mapping[str, Parameter]) -> dict[str, Any]:
    """Parameters that travel together as the object `name`."""
    try:
        given = msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError:
        raise invalid_parameter(name, "a JSON object is expected") from None
    _only_known(operation, given, rows)
    return given


def _numbered(name: str, left: dict[str, str]) -> list[Any]:
    """The list `name` out of `name.1`, `name.2` or `name.1.Key`, `name.1.Value`; taken out of `left`."""
    items: dict[int, Any] = {}
    for key in [key for key in left if key.startswith(f"{name}.")]:
        parts = _NUMBERED.fullmatch(key)
        if parts is None:
            raise invalid_parameter(key, f"{name} is a list, numbered from 1")
        number, field = int(parts[2]), parts[3]
        if field is None:
            items[number] = left.pop(key)
        elif isinstance(item := items.setdefault(number, {}), dict):
            item[field] = left.pop(key)
        else:
            raise invalid_parameter(key, "it is text and an object at once")
    if sorted(items) != list(range(1, len(items) + 1)):
        raise invalid_parameter(name, "its numbers do not go from 1 up by one")
    return [items[number] for number in sorted(items)]


def _unknown(message: str) -> Refusal:
    return Refusal(404, "InvalidAction.NotFound", message)


_EXPECTED: Final = {str: "a string", int: "a whole number", bool: "a boolean", list: "a list", dict: "an object"}
_SECONDS_MAX: Final = 2**32 - 1


def check_parameters(operation: Operation, parameters: Mapping[str, Any]) -> None:
    """Raises Refusal (400) for the first parameter that is missing or not as the row says."""
    for row in operation.parameters:
        value = parameters.get(row.name)
        if value is None or (value == "" and row.required):
            if row.required:
                raise missing_parameter(row.name)
            continue
        if why := _wrong(row, value):
            raise invalid_parameter(row.name, why)


def _wrong(row: Parameter, value: Any) -> str:
    # A bool is an int to Python, and to nobody else.
    if type(value) is not row.type:
        return f"{_EXPECTED[row.type]} is expected"
    text = str(value)
    if row.choices and text.lower() not in [choice.lower() for choice in row.choices]:
        return f"one of {', '.join(row.choices)} is expected"
    if row.form is not Form.ANY:
        expected, fits = _FORMS[row.form]
        if not fits(text):
            return f"{expected} is expected"
    return _outside(row, int(text)) if (row.least, row.most) != (None, None) else ""


def _outside(row: Parameter, number: int) -> str:
    if row.least is not None and number < row.least:
        return f"at least {row.least} is expected"
    return f"at most {row.most} is possible" if row.most is not None and number > row.most else ""


def _is_seconds(text: str) -> bool:
    return re.fullmatch(r"[0-9]{1,10}", text) is not None and int(text) <= _SECONDS_MAX


def _is_minute(text: str) -> bool:
    return _is_seconds(text) and int(text) % 60 == 0


def _is_time(pattern: str) -> Callable[[str], bool]:
    def fits(text: str) -> bool:
        parts = re.fullmatch(pattern, text, re.ASCII)
        if parts is None:
            return False
        year, month, day, hour, minute, second = map(int, parts.groups())
        try:
            datetime(year, month, day, hour, minute, second, tzinfo=UTC)
        except ValueError:
            return False
        return True

    return fits


def _is_time_step(text: str) -> bool:
    return re.fullmatch(r"[0-9]{1,9}[hms]?", text) is not None and int(text.rstrip("hms")) > 0


def _is_count(text: str) -> bool:
    return re.fullmatch(r"[0-9]{1,9}", text) is not None and int(text) > 0


_is_civil = _is_time(r"(\d{4})-(\d\d)-(\d\d) (\d\d):(\d\d):(\d\d)")


def _is_milliseconds(text: str) -> bool:
    return re.fullmatch(r"[0-9]{12,13}", text) is not None or _is_civil(text)


_FORMS: Final[Mapping[Form, tuple[str, Callable[[str], bool]]]] = {
    Form.SECONDS: ("a moment in UNIX seconds", _is_seconds),
    Form.MINUTE: ("a whole minute in UNIX seconds", _is_minute),
    Form.MOMENT: (
        "a moment such as 2025-10-09T08:00:00Z",
        _is_time(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.\d{1,6})?Z"),
    ),
    Form.CIVIL: (
        "a moment such as 2025-10-09 08:00:00",
        _is_civil,
    ),
    Form.TIME_STEP: ("a span such as 5m", _is_time_step),
    Form.COUNT: ("a whole number of at least 1", _is_count),
    Form.MILLISECONDS: ("a moment in UNIX milliseconds or as 2025-10-09 08:00:00", _is_milliseconds),
}
