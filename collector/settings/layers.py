"""Where values come from: a TOML file, and over it the environment. Each is read on its own."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_settings import PydanticBaseSettingsSource

from collector.catalogue.operations import CATALOGUE
from collector.settings.model import Settings
from collector.settings.reading import KeyPath, Mistake, did_you_mean, key_text, keys, read_table

ENVIRONMENT_PREFIX = "PAI_COLLECTOR__"


@dataclass(slots=True)
class Layer:
    """One place's values, and a line for each of its mistakes."""

    values: dict[str, Any] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    failed: list[KeyPath] = field(default_factory=list)
    """The keys that the lines are about."""
    origins: dict[KeyPath, str] = field(default_factory=dict)
    """The environment variables that keys came from."""

    def add(self, mistakes: list[Mistake]) -> None:
        self.lines += [line(mistake, self.origins) for mistake in mistakes]
        self.failed += [mistake.path for mistake in mistakes]


class LayerSource(PydanticBaseSettingsSource):
    """A layer as the settings library takes it."""

    def __init__(self, layer: Layer) -> None:
        super().__init__(Settings)
        self._layer = layer

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        return self._layer.values.get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        return self._layer.values


def line(mistake: Mistake, origins: Mapping[KeyPath, str]) -> str:
    """One mistake as a user reads it, with the environment variable it came from."""
    lengths = range(len(mistake.path), 0, -1)
    origin = next((origins[mistake.path[:n]] for n in lengths if mistake.path[:n] in origins), "")
    return f"{key_text(mistake.path)}{f' (from {origin})' if origin else ''}: {mistake.text}"


def file_layer(path: Path) -> Layer:
    """The file's values. A file that cannot be read has one line and no failed keys."""
    layer = Layer()
    try:
        text = path.read_bytes().decode("utf-8-sig")
        # Money stays exact: a float has no 0.0001.
        raw = tomllib.loads(text, parse_float=Decimal)
    except OSError as error:
        layer.lines.append(f"{path}: cannot be read: {error.strerror or error}")
    except UnicodeDecodeError as error:
        layer.lines.append(f"{path}:{_line_number(error.object, error.start)}: not UTF-8 text")
    except (ValueError, RecursionError) as error:
        layer.lines.append(_syntax_mistake(path, text, error))
    else:
        layer.values, mistakes = read_table(Settings, raw)
        layer.add(mistakes)
    return layer


def environment_layer(environ: Mapping[str, str]) -> Layer:
    """The values of all `PAI_COLLECTOR__SECTION__KEY` in `environ`. Lists are comma separated or JSON."""
    layer = Layer()
    known = {"__".join(map(str, path)).upper(): (path, annotation) for path, annotation in _settable(Settings)}
    raw: dict[str, Any] = {}
    # Sorted, so that a whole table comes before its single keys, which then go over it.
    for name in sorted(name for name in environ if name.startswith(ENVIRONMENT_PREFIX)):
        word = name.removeprefix(ENVIRONMENT_PREFIX).upper()
        if word in known:
            path, annotation = known[word]
            layer.origins[path] = name
            _put(raw, path, _from_text(annotation, environ[name]))
        else:
            layer.lines.append(f"{name}: {_unknown_variable(word, known)}")
    layer.values, mistakes = read_table(Settings, raw)
    layer.add(mistakes)
    return layer


def _syntax_mistake(path: Path, text: str, error: Exception) -> str:
    if isinstance(error, RecursionError):
        return f"{path}: nested too deeply"
    place = re.search(r" \(at (?:line (\d+), column (\d+)|end of document)\)$", str(error))
    if place is None:
        return f"{path}: not TOML: {error}"
    what = str(error)[: place.start()]
    number = int(place[1]) if place[1] else len(text.splitlines())
    return f"{path}:{number}: not TOML: {what[:1].lower()}{what[1:]}"


def _line_number(content: bytes, offset: int) -> int:
    return content.count(b"\n", 0, offset) + 1


def _settable(model: type[BaseModel], path: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    """Every key that one variable can set, and its type."""
    for key, name in keys(model).items():
        yield from _settable_below(model.model_fields[name].annotation, (*path, key))


def _settable_below(annotation: Any, path: KeyPath) -> Iterator[tuple[KeyPath, Any]]:
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield from _settable(annotation, path)
        return
    yield path, annotation
    if get_origin(annotation) is Mapping:
        entry = get_args(annotation)[1]
        for operation in CATALOGUE:
            if isinstance(entry, type) and issubclass(entry, BaseModel):
                yield (*path, operation), Mapping[str, object]
            yield from _settable_below(entry, (*path, operation))


def _from_text(annotation: Any, text: str) -> object:
    """The raw value that `text` stands for; unchanged where it stands for none, which reading then refuses."""
    text = text.strip()
    if annotation is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    if annotation is int and re.fullmatch(r"[+-]?[0-9]{1,18}", text):
        return int(text)
    if annotation is Decimal:
        try:
            return Decimal(text)
        except InvalidOperation:
            return text
    if get_origin(annotation) is tuple and not text.startswith("["):
        return [item.strip() for item in text.split(",")] if text else []
    if get_origin(annotation) in (tuple, Mapping):
        try:
            return json.loads(text, parse_float=Decimal)
        except (ValueError, RecursionError):
            return text
    return text


def _put(raw: dict[str, Any], path: KeyPath, value: object) -> None:
    for part in path[:-1]:
        below = raw.setdefault(str(part), {})
        if not isinstance(below, dict):
            return  # The variable of the whole table is wrong, and reported.
        raw = below
    raw[str(path[-1])] = value


def _unknown_variable(word: str, known: Mapping[str, object]) -> str:
    *section, key = word.lower().split("__")
    _, (mistake, *_) = read_table(Settings, {key: None}, tuple(section))
    if "secret" in mistake.text:
        return mistake.text
    closest = did_you_mean(word, known)
    return "no such setting" + (f"; did you mean {ENVIRONMENT_PREFIX}{closest}?" if closest else "")
