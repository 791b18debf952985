"""What is written about the configuration, made from the model itself: the example file and the JSON Schema."""

from __future__ import annotations

import json
import textwrap
from typing import Any

from pydantic import BaseModel

from collector.api.operations import CATALOGUE
from collector.settings.model import Settings
from collector.settings.reading import keys

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
