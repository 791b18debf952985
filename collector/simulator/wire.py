"""From a request to an operation and its parameters, in both wire forms. Pure.

    bearer     /api/{product}/{version}/{operation}; GET and DELETE take a query, POST a flat JSON
               object, in which the parameters of `Place.JSON` are together in `body`
    product    every other path, as the product endpoints have them: RPC calls at `/`, told apart
               by `x-acs-action`, with a form; the others at the row's path, with a query or a flat
               JSON object

All products share one host here. What neither the row nor the form knows is refused: the real
services may ignore it, but here a misspelt name has to show.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote

import msgspec

from collector.catalogue.operation import Operation, Parameter, Place, Spread, Style
from collector.catalogue.operations import CATALOGUE
from collector.simulator.refusals import Refusal, invalid_parameter
from collector.simulator.signatures import Call

_ACTIONS = {(row.action, row.version): row for row in CATALOGUE.values()}
_BEARER_PATH = re.compile(r"/api/([^/]+)/(\d{4}-\d\d-\d\d)/([^/]+)")
_NUMBERED = re.compile(r"([^.]+)\.([1-9][0-9]{0,3})(?:\.([^.]+))?")
_FORM_TYPE = "application/x-www-form-urlencoded"
_JSON_TYPE = "application/json"


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
