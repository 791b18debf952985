"""What answers an operation: parameters in, one page out, whatever the wire form of the call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from collector.simulator.faults import Fired


class Page(NamedTuple):
    """An answer's fields as JSON text without the braces, and how many records they hold.

    `RequestId` is not among them: the server puts it in front where the operation's answer has one.
    """

    fields: bytes
    rows: int


class Listing(Protocol):
    """Makes the answers of one operation.

    `parameters` are spelled and typed as the catalogue's row has them: lists are lists, booleans
    bool, objects dict, and the fields of `AiJobLogInfo` stand beside the others. They were checked
    against the row: what is required is there, and no value has a wrong type, form or size. `now`
    is the service's time in UNIX seconds, `fired` the faults of this call (only the bends concern
    a listing), `ordinal` counts the operation's calls from 1.
    """

    def page(self, parameters: Mapping[str, Any], now: float, fired: Fired, ordinal: int) -> Page:
        """One answer. Raises Refusal for what the service would not answer, such as an unknown id."""
        ...
