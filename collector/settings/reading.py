"""From raw tables, as a file or the environment gives them, to values; every mistake on the way, not just the first."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from difflib import get_close_matches
from typing import Annotated, Any, get_args, get_origin

from annotated_types import MaxLen
from pydantic import BaseModel

from collector.catalogue.operation import Product
from collector.catalogue.operations import CATALOGUE
from collector.settings.kinds import Kind
from collector.settings.model import Settings

KeyPath = tuple[str | int, ...]

PRODUCT_NAMES = tuple(product.value for product in Product)

SHOWN_CHARACTERS_MAX = 80

# The environment variable to use in place of a secret that someone has written into the file.
_SECRET_KEYS = (
    (re.compile(r"access_?key_?id"), "ALIBABA_CLOUD_ACCESS_KEY_ID"),
    (re.compile(r"access_?key.*|.*secret.*"), "ALIBABA_CLOUD_ACCESS_KEY_SECRET"),
    (re.compile(r"reader_password"), "PAI_COLLECTOR_STORE_READER_PASSWORD"),
    (re.compile(r"(.*_)?(password|passwd|passphrase)"), "PAI_COLLECTOR_STORE_PASSWORD"),
    (re.compile(r"(.*_)?token"), "PAI_COLLECTOR_SERVICE_TOKEN"),
    (re.compile(r"(.*_)?(api_?key|key|credentials?|authorization|bearer)"), "DASHSCOPE_API_KEY"),
)


@dataclass(frozen=True, slots=True)
class Mistake:
    """What is wrong at one key."""

    path: KeyPath
    text: str


def key_text(path: KeyPath) -> str:
    """`("targets", "nodes", 1)` as people write it: `targets.nodes[1]`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def expected(path: KeyPath, value: object, right: object) -> Mistake:
    """A value that is not right, shown beside what would be."""
    return Mistake(path, f"got {show(value)}; expected {right}")


def show(value: object) -> str:
    """A value as it stands in a file, cut to one short line. What looks like a secret is hidden."""
    text = json.dumps(value, ensure_ascii=False, default=lambda v: float(v) if isinstance(v, Decimal) else str(v))
    if not text.isprintable():
        text = json.dumps(value, default=str)
    text = hidden(re.sub(r'[^"\s]*@', "***@", text))
    return text if len(text) <= SHOWN_CHARACTERS_MAX else text[: SHOWN_CHARACTERS_MAX - 3] + "..."


def hidden(text: str) -> str:
    """Return a text without what looks like a key of the service."""
    return re.sub(r"\bsk-[\w.-]+", "sk-***", text)


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """The candidate that `word` was probably meant to be, or an empty text."""
    by_lower = {candidate.lower(): candidate for candidate in candidates}
    close = get_close_matches(word.lower(), by_lower, n=1)
    return by_lower[close[0]] if close else ""


def keys(model: type[BaseModel]) -> dict[str, str]:
    """A model's keys as a file spells them, with the attribute each one fills."""
    return {field.alias or name: name for name, field in model.model_fields.items()}


def read_table(
    model: type[BaseModel], raw: Mapping[str, object], path: KeyPath = ()
) -> tuple[dict[str, Any], list[Mistake]]:
    """The values of one table that are right, under the keys of the file, and the mistakes of all others."""
    values: dict[str, Any] = {}
    mistakes: list[Mistake] = []
    known = keys(model)
    for key, value in raw.items():
        here = (*path, key)
        if key not in known:
            mistakes.append(Mistake(here, _unknown(key, known, path)))
            continue
        field = model.model_fields[known[key]]
        read, wrong = _read(field.annotation, field.metadata, value, here)
        mistakes += wrong
        if not wrong or isinstance(read, dict):
            values[key] = read
    for key, name in known.items():
        field = model.model_fields[name]
        if field.is_required() and key not in raw:
            mistakes.append(Mistake((*path, key), f"missing; expected {_right(field.metadata)}"))
    return values, mistakes


def _read(annotation: Any, metadata: Iterable[object], raw: object, path: KeyPath) -> tuple[Any, list[Mistake]]:
    if get_origin(annotation) is Annotated:
        annotation, *inner = get_args(annotation)
        return _read(annotation, inner, raw, path)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if not isinstance(raw, Mapping):
            return None, [expected(path, raw, f"a table with {_listed(keys(annotation))}")]
        return read_table(annotation, raw, path)
    if get_origin(annotation) is Mapping:
        return _read_by_name(get_args(annotation)[1], raw, path)
    if get_origin(annotation) is tuple:
        return _read_list(get_args(annotation)[0], metadata, raw, path)
    kind = _kind(metadata)
    try:
        return kind.read(raw), []
    except ValueError as right:
        closest = did_you_mean(raw, kind.choices) if isinstance(raw, str) else ""
        return None, [expected(path, raw, f"{right}; did you mean {closest}?" if closest else right)]


def _read_by_name(annotation: Any, raw: object, path: KeyPath) -> tuple[Any, list[Mistake]]:
    what, names = ("product", PRODUCT_NAMES) if path[-1] == "endpoints" else ("operation", tuple(CATALOGUE))
    if not isinstance(raw, Mapping):
        return None, [expected(path, raw, f"a table of {what}s, such as {names[0]} = ...")]
    values: dict[str, Any] = {}
    mistakes: list[Mistake] = []
    for name, value in raw.items():
        here = (*path, name)
        if name not in names:
            closest = did_you_mean(name, names)
            mistakes.append(
                Mistake(here, f"no such {what}; " + (f"did you mean {closest}?" if closest else _listed(names)))
            )
            continue
        read, wrong = _read(annotation, (), value, here)
        mistakes += wrong
        if not wrong:
            values[name] = read
    return values, mistakes


def _read_list(annotation: Any, metadata: Iterable[object], raw: object, path: KeyPath) -> tuple[Any, list[Mistake]]:
    item, *item_metadata = get_args(annotation)
    if not isinstance(raw, list):
        return None, [expected(path, raw, f"a list, each item {_right(item_metadata)}")]
    length_max = next((m.max_length for m in metadata if isinstance(m, MaxLen)), None)
    if length_max is not None and len(raw) > length_max:
        return None, [Mistake(path, f"got a list of {len(raw)}; expected at most {length_max}")]
    read = [_read(item, item_metadata, value, (*path, index)) for index, value in enumerate(raw)]
    return tuple(value for value, _ in read), [mistake for _, wrong in read for mistake in wrong]


def _kind(metadata: Iterable[object]) -> Kind:
    return next(m for m in metadata if isinstance(m, Kind))


def _right(metadata: Iterable[object]) -> str:
    """What a kind takes, in its own words: no kind takes None."""
    try:
        _kind(metadata).read(None)
    except ValueError as right:
        return str(right)
    raise AssertionError("a kind that takes None")


def _unknown(key: str, known: Iterable[str], path: KeyPath) -> str:
    for pattern, variable in _SECRET_KEYS:
        if pattern.fullmatch(key.lower().replace("-", "_")):
            # The section tells which one a `token` or `secret` is meant to be.
            wanted = "DASHSCOPE_API_KEY" if path[:1] == ("api",) and "access" not in key.lower() else variable
            if path[:1] == ("store",) and variable == "PAI_COLLECTOR_SERVICE_TOKEN":
                wanted = "PAI_COLLECTOR_STORE_TOKEN"
            return f"a secret does not belong here; remove it and set the environment variable {wanted}"
    closest = did_you_mean(key, known) or _elsewhere(key)
    return "no such key; " + (f"did you mean {closest}?" if closest else f"there are {_listed(known)}")


def _elsewhere(key: str) -> str:
    """The full name of a key that exists once, in another table; else an empty text."""
    places = [path for path in _paths(Settings) if path[-1] == key]
    return key_text(places[0]) if len(places) == 1 else ""


def _paths(model: type[BaseModel], path: KeyPath = ()) -> Iterable[KeyPath]:
    for key, name in keys(model).items():
        yield (*path, key)
        annotation = model.model_fields[name].annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from _paths(annotation, (*path, key))


def _listed(words: Iterable[str]) -> str:
    return ", ".join(words)
