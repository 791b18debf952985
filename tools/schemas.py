"""The JSON Schemas that travel with the program, made from its types: of each operation's answer, of the configuration.

    python -m tools.schemas [--check] [DIR]

They are for users, so an answer's schema takes fields that it does not know: the services add some
without notice. `--check` writes nothing and ends with 1 where the files differ from the types.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from collector.api.decode import NESTED
from collector.api.envelope import SUCCESS_WORDS
from collector.catalogue.answers import Answer
from collector.catalogue.operation import Nesting, Operation
from collector.catalogue.operations import CATALOGUE
from collector.settings import json_schema

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
DEFAULT: Final = Path(__file__).parents[1] / "schemas"
COMMAND: Final = "python -m tools.schemas"
CONFIGURATION: Final = "config.json"
ANSWERS: Final = "answers"
SECRET: Final = "A secret: printed masked, as text, unless `--reveal` asks for it."

Schema = dict[str, Any]


def documents() -> dict[str, Schema]:
    """Every schema under its path in `schemas/`, such as `answers/ListSyslogs.json`."""
    answers = {f"{ANSWERS}/{row.name}.json": answer_schema(row) for row in CATALOGUE.values()}
    return {CONFIGURATION: configuration_schema(), **answers}


def configuration_schema() -> Schema:
    """The schema of `collector.toml`."""
    schema = json_schema()
    return {
        "$schema": schema.pop("$schema"),
        "$id": CONFIGURATION,
        "title": "Configuration of pai-collector",
        **{key: value for key, value in schema.items() if key not in ("title", "$defs")},
        "$defs": schema["$defs"],
    }


def answer_schema(row: Operation) -> Schema:
    """The schema of one operation's answer, as the service documents it: an error in its place does not fit."""
    made = msgspec.json.schema(row.answer)
    definitions = {name: _told(entry, row.secret_fields) for name, entry in made["$defs"].items()}
    root = definitions.pop(row.answer.__name__)
    if "Code" in root["properties"]:
        root["properties"]["Code"] |= {
            "description": "An answer has none, or one that means success.",
            "pattern": _any_case(SUCCESS_WORDS),
        }
    return {
        "$schema": DIALECT,
        "$id": f"{ANSWERS}/{row.name}.json",
        "title": f"Answer of {row.name}",
        "description": f"{row.summary} {root['description']}",
        "type": "object",
        "properties": _nested(row, root["properties"]),
        "anyOf": [{"required": [name]} for name in _telling(row)],
        **({"$defs": definitions} if definitions else {}),
    }


def _nested(row: Operation, properties: Schema) -> Schema:
    """The fields of an answer, with the list of records where the service has it."""
    name = row.wire_records_field
    if row.nesting is Nesting.PLAIN or name is None:
        return properties
    records = {**properties[name], "type": "array"}
    if row.nesting is Nesting.TEXT:
        text = {"type": ["string", "null"], "contentMediaType": "application/json", "contentSchema": records}
        return {**properties, name: text}
    inside = {"type": ["object", "null"], "properties": {NESTED: records}}
    return {**properties, name: inside}


def text_of(schema: Schema) -> str:
    """A schema as its file has it."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def differences(folder: Path) -> list[str]:
    """What in `folder` is not as the types give it, one line a file; empty where nothing is."""
    wanted = documents()
    found = [_difference(folder / name, text_of(schema)) for name, schema in wanted.items()]
    strays = [f"{path}: no operation has this answer" for path in _strays(folder, wanted)]
    return [line for line in found if line] + strays


def write(folder: Path) -> list[Path]:
    """Bring the files in `folder` up to date; returns those that changed or went."""
    changed = []
    for name, schema in documents().items():
        path = folder / name
        if _difference(path, text_of(schema)):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text_of(schema), encoding="utf-8")
            changed.append(path)
    for path in list(_strays(folder, documents())):
        path.unlink()
        changed.append(path)
    return changed


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns its exit status."""
    parser = argparse.ArgumentParser(prog=COMMAND, description="Write the JSON Schemas of answers and configuration.")
    parser.add_argument("--check", action="store_true", help="write nothing; end with 1 where a file is out of date")
    parser.add_argument("folder", metavar="DIR", nargs="?", type=Path, default=DEFAULT, help="default: schemas/")
    given = parser.parse_args(arguments)
    if given.check:
        lines = differences(given.folder)
        for line in lines:
            print(line, file=sys.stderr)
        if lines:
            print(f"renew them with: {COMMAND}", file=sys.stderr)
        return 1 if lines else 0
    for path in write(given.folder):
        print(path)
    return 0


def _told(entry: Schema, secrets: frozenset[str]) -> Schema:
    """A type's schema for readers: without what holds only for the program, its secrets marked."""
    properties = {name: _field(value) for name, value in entry["properties"].items()}
    for name in secrets & properties.keys():
        properties[name] = _or_masked(properties[name])
    told: Schema = {key: entry[key] for key in ("description", "type") if key in entry}
    told["properties"] = properties
    if entry["required"]:
        told["required"] = entry["required"]
    return told


def _field(value: Schema) -> Schema:
    """One field's schema. What an absent field means to the program is not the service's word."""
    value = {key: part for key, part in value.items() if key != "default"}
    if "items" in value:
        value["items"] = _field(value["items"])
    match value.get("anyOf"):
        case [dict() as only, {"type": "null"}] if "type" in only:
            only = _field(only)
            return {**only, "type": [only["type"], "null"]}
    return value


def _or_masked(field: Schema) -> Schema:
    """A secret's schema: whatever it is, its mask is text."""
    field = {"description": SECRET, **field}
    types = field.get("type", "string")
    if "string" not in types:
        field["type"] = ["string", *([types] if isinstance(types, str) else types)]
    return field


def _telling(row: Operation) -> list[str]:
    """The fields that make an object an answer; one of them is enough."""
    said_by_errors_too = {"Code", "Message"} & set(_names(Answer))
    return [name for name in _names(row.answer) if name not in said_by_errors_too]


def _names(answer: type[Answer]) -> tuple[str, ...]:
    return answer.__struct_encode_fields__


def _any_case(words: frozenset[str]) -> str:
    """A pattern of some words in any case, or nothing."""
    spelled = ("".join(f"[{c.upper()}{c}]" if c.isalpha() else c for c in word) for word in sorted(words))
    return f"^({'|'.join(spelled)})?$"


def _difference(path: Path, wanted: str) -> str:
    if not path.is_file():
        return f"{path}: missing"
    return "" if path.read_text(encoding="utf-8") == wanted else f"{path}: not as the types give it"


def _strays(folder: Path, wanted: Mapping[str, Schema]) -> Iterator[Path]:
    """Schemas of answers that are in the catalogue no more."""
    return (path for path in sorted((folder / ANSWERS).glob("*.json")) if f"{ANSWERS}/{path.name}" not in wanted)


if __name__ == "__main__":
    sys.exit(main())
