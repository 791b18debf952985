"""Lists of records as some services send them: as JSON in a text, or inside of an object."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from collector.catalogue.operation import Nesting, Operation


def nested(operation: Operation, answer: Mapping[str, Any]) -> dict[str, Any]:
    """The answer with its list of records where the operation has it."""
    name = operation.wire_records_field
    if operation.nesting is Nesting.PLAIN or name is None or name not in answer:
        return dict(answer)
    records = answer[name]
    if operation.nesting is Nesting.TEXT:
        return {**answer, name: msgspec.json.encode(records).decode()}
    return {**answer, name: {"Resource": records}}


def records_of(operation: Operation, answer: Mapping[str, Any]) -> list[Any]:
    """The records of an answer, wherever they are in it."""
    match answer.get(operation.wire_records_field or ""):
        case str(text):
            return list(msgspec.json.decode(text)) if text else []
        case {"Resource": records}:
            return list(records)
        case found:
            return list(found or ())


def nested_bytes(operation: Operation, records: bytes) -> bytes:
    """A list of records as the value of its field; it need not be JSON."""
    if operation.nesting is Nesting.TEXT:
        # Bytes that are no UTF-8 stay what they are.
        text = json.dumps(records.decode("utf-8", "surrogateescape"), ensure_ascii=False)
        return text.encode("utf-8", "surrogateescape")
    return b'{"Resource":' + records + b"}" if operation.nesting is Nesting.RESOURCE else records
