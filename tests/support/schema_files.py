"""The schemas as users have them, and the strict variant that tests hold answers against."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema

SCHEMAS = Path(__file__).parents[2] / "schemas"


def stored(name: str) -> Any:
    """A schema from its file, such as `answers/ListSyslogs.json`."""
    return json.loads((SCHEMAS / name).read_text(encoding="utf-8"))


def validator(schema: Any) -> jsonschema.Draft202012Validator:
    """What checks values against a schema."""
    return jsonschema.Draft202012Validator(schema)


def strict(schema: Any) -> Any:
    """A schema that takes no field it does not name; objects without named fields stay open."""
    match schema:
        case dict():
            inner = {key: strict(value) for key, value in schema.items()}
            return {**inner, "additionalProperties": False} if isinstance(schema.get("properties"), dict) else inner
        case list():
            return [strict(value) for value in schema]
        case _:
            return schema
