"""The form of recorded API traffic, which `run --record` writes and `simulate --replay` reads.

A folder of files `traffic-000001.jsonl`, compressed (`.gz`) once they are full. Each line is a JSON object. The first
line of a file is its head:

    recording    version of the form: VERSION
    program      what wrote it, with its version
    file         number of the file; the oldest files go when there are too many
    started_at   when the file was begun, seconds since the epoch by the machine's clock

Every other line is a request that was sent and what came of it:

    at           when its outcome was there, seconds since the epoch by the machine's clock
    seconds      from the first byte sent to the outcome
    operation    name in the catalogue; empty for the question what time it is (HEAD)
    parameters   as the catalogue spells them, secret ones hidden
    status       HTTP status, 0 where no answer began
    headers      those of HEADERS that came
    body         the text after decompression, secrets left out or hidden; absent where there was none
    base64       in place of `body` where it was no UTF-8
    bytes_left_out  in place of `body` where it was larger than BODY_BYTES_MAX
    failure      why there was no complete answer, as `collector.api.transport.Failure` names it; absent if there was
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Set
from typing import Any, Final

from collector.redaction import HIDDEN

VERSION: Final = 1
BODY_BYTES_MAX: Final = 8 << 20
HEADERS: Final = (
    "Date", "Age", "X-Cache", "Retry-After", "x-acs-retry-after", "x-acs-request-id", "Content-Type", "Location",
)  # fmt: skip
"""Headers of an answer that matter to a client. Those of a request are never recorded."""

_NAME = re.compile(r"traffic-([0-9]{6,})\.jsonl(\.gz)?")


def file_name(number: int) -> str:
    """The name of a file before it is compressed."""
    return f"traffic-{number:06d}.jsonl"


def number_of(name: str) -> int | None:
    """The number in the name of a file, None where it is no recording."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match else None


def request_key(operation: str, parameters: Mapping[str, Any], secret_names: Set[str]) -> str:
    """What makes two requests the same, however their values travelled. Secret values are all alike."""
    told = {name: HIDDEN if name in secret_names else _plain(value) for name, value in parameters.items()}
    return (
        f"{operation} {json.dumps({name: value for name, value in told.items() if value is not None}, sort_keys=True)}"
    )


def _plain(value: Any) -> Any:
    match value:
        case bool():
            return str(value).lower()
        case dict():
            return {str(name): _plain(part) for name, part in value.items()}
        case list() | tuple():
            return [_plain(part) for part in value]
        case None:
            return None
        case _:
            return str(value)
