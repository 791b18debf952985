"""How the parameters of a call are spelled on the product endpoint: path, query, form or JSON. Pure.

The spelling is that of the official Python SDK, to the byte: it is the one that the services are
known to take.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from collector.api.signing import percent_encode
from collector.catalogue.operation import Operation, Parameter, Place, Spread, Style
from collector.errors import BadRequestError

Pairs = tuple[tuple[str, str], ...]

_FORM = "application/x-www-form-urlencoded"
_JSON = "application/json; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Spelled:
    path: str
    """Percent-encoded."""
    query: Pairs
    """Sorted by name, not encoded yet."""
    body: bytes | None
    content_type: str
    """Empty without a body."""


def spell(operation: Operation, parameters: Mapping[str, Any]) -> Spelled:
    """Parameters as `coerce_parameters(..., product_endpoint=True)` returns them.

    Raises BadRequestError for one that the product endpoint does not have, or a part of the path
    that is missing or would name another path.
    """
    places: dict[Place, dict[str, str]] = {Place.QUERY: {}, Place.FORM: {}}
    objects: dict[tuple[Place, str], dict[str, Any]] = {}
    json_body: dict[str, Any] = {}
    for name, value in parameters.items():
        known = operation.parameter(name)
        if known is None or known.bearer_only:
            raise BadRequestError(f"{name}: the product endpoint has no such parameter", operation=operation.name)
        if known.inside:
            objects.setdefault((known.place, known.inside), {})[name] = value
        elif known.place is Place.JSON:
            json_body[name] = value
        elif known.place is not Place.PATH:
            places[known.place].update(_fields(known, value))
    for (place, name), fields in objects.items():
        # The SDK writes the fields of its own types in alphabetical order.
        places[place][name] = _compact(fields, sort_keys=True)
    body, content_type = _body(operation, places[Place.FORM], json_body)
    return Spelled(_path(operation, parameters), tuple(sorted(places[Place.QUERY].items())), body, content_type)


def _body(operation: Operation, form: Mapping[str, str], json_body: Mapping[str, Any]) -> tuple[bytes | None, str]:
    if json_body:
        return _compact({name: json_body[name] for name in sorted(json_body)}).encode(), _JSON
    if form or (operation.style is Style.RPC and any(p.place is Place.FORM for p in operation.parameters)):
        return urlencode(sorted(form.items())).encode(), _FORM
    return None, ""


def _path(operation: Operation, parameters: Mapping[str, Any]) -> str:
    def segment(match: re.Match[str]) -> str:
        text = _text(parameters.get(match[1], ""))
        # By the URL standard an escaped dot is a dot, so these cannot be made harmless.
        if text in ("", ".", ".."):
            raise BadRequestError(f"{match[1]}: expected the name of one thing, got {text!r}", operation=operation.name)
        return percent_encode(text)

    return re.sub(r"\{(\w+)\}", segment, operation.path)


def _fields(known: Parameter, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) or (isinstance(value, list) and known.spread is Spread.JSON):
        yield known.name, _compact(value)
    elif isinstance(value, list) and known.spread is Spread.NUMBERED:
        yield from _numbered(known.name, value)
    elif isinstance(value, list):
        yield known.name, ",".join(_text(part) for part in value)
    else:
        yield known.name, _text(value)


def _numbered(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, list):
        for number, part in enumerate(value, start=1):
            yield from _numbered(f"{name}.{number}", part)
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from _numbered(f"{name}.{key}", part)
    elif value is not None:
        yield name, _text(value)


def _text(value: Any) -> str:
    # True and False keep Python's capital letter, which is what the official SDK of this language sends.
    return str(value)


def _compact(value: Any, *, sort_keys: bool = False) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=sort_keys)
