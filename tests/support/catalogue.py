"""What tests read out of the catalogue of operations."""

from __future__ import annotations

from collector.catalogue.operation import Operation, wire_name


def records_key(operation: Operation) -> str | None:
    """Return the key of the records in the JSON response, such as `Logs`; None if it has no list of records."""
    return operation.records_field and wire_name(operation.answer, operation.records_field)
