"""What is written about the configuration, made from the model itself: example, JSON Schema, effective values."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel

from collector.catalogue.operations import CATALOGUE
from collector.settings.kinds import Kind
from collector.settings.model import Settings
from collector.settings.reading import hidden, keys

_LINE_CHARACTERS_MAX = 100

_HEAD = """\
# Configuration of pai-collector.
#
# Every value below is the default. Any key can be set from the environment instead, which goes over this file:
# PAI_COLLECTOR__SOURCES__SYSLOGS__INTERVAL=10s. Durations are written 30s, 5m, 6h, 7d; sizes 512MiB, 2GiB.
# Secrets never stand here: the API key comes from the environment variable DASHSCOPE_API_KEY.
"""


def example() -> str:
    """A commented TOML file with every key at its default."""
    values = Settings().model_dump(mode="json", by_alias=True)
    return _HEAD + "".join(_tables(Settings, values, ()))


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a configuration file, defaults as a file spells them."""
    schema = Settings.model_json_schema(by_alias=True)
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    definitions = schema["$defs"]

    def spell(table: dict[str, Any], values: dict[str, Any]) -> None:
        for key, entry in table["properties"].items():
            if "$ref" in entry:
                spell(definitions[entry["$ref"].rpartition("/")[2]], values[key])
            elif key in values:
                entry["default"] = values[key]
            entry.pop("title", None)

    spell(schema, Settings().model_dump(mode="json", by_alias=True))
    return schema


@dataclass(frozen=True, slots=True)
class EffectiveKey:
    """A key with the value that counts. Values are as TOML writes them, without credentials."""

    key: str
    """Such as `sources.syslogs.interval`."""
    value: str
    default: str
    """Empty for an entry of a table with open names, such as `api.quotas.ListSyslogs`."""
    origin: str
    """`default`, `file`, `--shard`, or the name of an environment variable."""
    unit: str
    meaning: str


def effective(settings: Settings) -> list[EffectiveKey]:
    """Return every key of a configuration, in the order of the example."""
    values, defaults = (one.model_dump(mode="json", by_alias=True) for one in (settings, Settings()))
    return list(_effective(Settings, values, defaults, (), settings))


def _effective(
    model: type[BaseModel], values: dict[str, Any], defaults: dict[str, Any], path: tuple[str, ...], settings: Settings
) -> Iterator[EffectiveKey]:
    for key, name in keys(model).items():
        field, value, here = model.model_fields[name], values[key], (*path, key)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _effective(field.annotation, value, defaults[key], here, settings)
            continue
        entries = [((*here, entry), "", each) for entry, each in value.items()] if isinstance(value, dict) else []
        for where, default, each in entries or [(here, _toml(defaults[key]), value)]:
            origin = settings.origins.of(where)
            if isinstance(each, dict) and origin == "default":
                # The keys of a price may come from different places; one of them names it.
                origin = next((settings.origins.of((*where, part)) for part in each), origin)
            unit = _unit(field.annotation, field.metadata)
            text = hidden(_without_user(_toml(each)))
            yield EffectiveKey(".".join(where), text, default, origin, unit, field.description or "")


def _unit(annotation: Any, metadata: Iterable[object]) -> str:
    """What a value counts; of a list or a table, what each of its items counts."""
    if get_origin(annotation) is Annotated:
        annotation, *metadata = get_args(annotation)
    kind = next((known for known in metadata if isinstance(known, Kind)), None)
    if kind is not None:
        return kind.unit
    inner = [part for part in get_args(annotation) if part is not Ellipsis]
    return _unit(inner[-1], ()) if inner else ""


def _without_user(text: str) -> str:
    """Hide user and password of addresses."""
    return re.sub(r'://[^/@"\s]+@', "://***@", text)


def _tables(model: type[BaseModel], values: dict[str, Any], path: tuple[str, ...]) -> list[str]:
    """The text of a table: its own keys first, then the tables inside it, as TOML needs it."""
    lines = []
    inner = []
    for key, name in keys(model).items():
        field, value = model.model_fields[name], values[key]
        here = (*path, key)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            inner.append(_head(here, _first_line(field.annotation)))
            inner += _tables(field.annotation, value, here)
        elif isinstance(value, dict):
            inner.append(_head(here, field.description or ""))
            inner += _samples(key)
        else:
            lines.append(f"{_comment(field.description or '')}{key} = {_toml(value)}\n")
    return lines + inner


def _head(path: tuple[str, ...], about: str) -> str:
    # A table that only holds tables needs no line of its own in TOML, but its comment helps.
    return f"\n{_comment(about)}[{'.'.join(path)}]\n"


def _samples(key: str) -> list[str]:
    """What an entry of a table with open names looks like, commented out: the catalogue's own figure."""
    if key == "endpoints":
        return ['# PaiLLMTrace = "https://paillmtrace.cn-hangzhou.aliyuncs.com"\n']
    if key == "quotas":
        return [f"# {row.name} = {row.quota.per_second}\n" for row in CATALOGUE.values()]
    return [
        f"# {row.name} = {{ cny = {row.price.cny}, free = {row.price.free_calls_per_month} }}\n"
        for row in CATALOGUE.values()
        if row.price is not None and row.price.cny is not None
    ]


def _first_line(model: type[BaseModel]) -> str:
    return (model.__doc__ or "").partition("\n")[0]


def _comment(text: str) -> str:
    return "".join(f"# {line}\n" for line in textwrap.wrap(text, _LINE_CHARACTERS_MAX))


def _toml(value: object) -> str:
    # Strings, numbers, booleans and lists of them look the same in TOML and JSON.
    return json.dumps(value, ensure_ascii=False)
