"""Answers that stay answers and contradict themselves: what some of the bending faults make of a page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from collector.catalogue.operation import Numbers, Operation
from collector.simulator.faults import FaultKind, Fired
from collector.simulator.listing import Page
from collector.simulator.paging import fields_of


def bent_parameters(operation: Operation, parameters: Mapping[str, Any], fired: Fired) -> Mapping[str, Any]:
    """The parameters that a page is made of: those of the first page if it repeats."""
    if not (fired.bend(FaultKind.REPEATED_PAGE) or fired.bend(FaultKind.EMPTY_PAGES)):
        return parameters
    first = {name: value for name, value in parameters.items() if name != "NextToken"}
    if isinstance(operation.paging, Numbers) and operation.paging.number in first:
        first[operation.paging.number] = type(first[operation.paging.number])(1)
    return first


def bent_page(operation: Operation, page: Page, fired: Fired, ordinal: int) -> Page:
    """The page without its records, or with the cursor of another page that is the same."""
    is_empty = fired.bend(FaultKind.EMPTY_PAGE) or fired.bend(FaultKind.EMPTY_PAGES)
    is_endless = fired.bend(FaultKind.REPEATED_PAGE) or fired.bend(FaultKind.EMPTY_PAGES)
    if operation.wire_records_field is None or not (is_empty or is_endless):
        return page
    answer = msgspec.json.decode(b"{" + page.fields + b"}")
    if is_empty:
        answer[operation.wire_records_field] = []
        answer.pop("NextToken", None)
    if is_endless and not isinstance(operation.paging, Numbers):
        answer["NextToken"] = f"and-again-{ordinal}"
    return Page(fields_of(answer), 0 if is_empty else page.rows)
