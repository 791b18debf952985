"""Recorded API traffic, answered again: the form is `collector.recording`'s.

A request gets the answers that it got when it was recorded, in their order; asked more often, the last one again. One
that was never recorded is refused by name.
"""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Final, Self

from collector.catalogue.operation import Operation
from collector.catalogue.operations import CATALOGUE
from collector.recording import VERSION, number_of, request_key
from collector.simulator.answers import Answer
from collector.simulator.faults import BENDS, Fault, FaultKind
from collector.simulator.requests import Refusal

_CUT: Final = frozenset({"truncated", "too_large", "unreadable"})
"""Failures after the head of an answer."""
_SHOWN_CHARACTERS_MAX: Final = 500


def check_replayable(faults: Iterable[Fault]) -> None:
    """Raise ValueError, with their names, if there are faults that change how a list is paged."""
    if bends := sorted({str(fault.kind) for fault in faults if fault.kind in BENDS}):
        raise ValueError(
            f"{', '.join(bends)}: a recording has its pages already, and these faults change how a list is paged"
        )


@dataclass(frozen=True, slots=True)
class Recorded:
    """One answer, or what there was in its place."""

    answer: Answer
    headers: Mapping[str, str]
    """Those that were recorded but the type of the content; an empty `Date` where none came."""
    seconds: float
    """It took so long."""


class Replay:
    """The answers of a recording."""

    def __init__(self, *, is_fast: bool = False) -> None:
        self.is_fast = is_fast
        """Whether answers come at once, not as late as they were."""
        self.started_at: float | None = None
        """The service's time at the first answer, seconds since the epoch; None where none told it."""
        self.requests = 0
        self.unreadable_lines = 0
        """Lines that are cut off, as the last one of a crash, or no record."""
        self.scope_ids: dict[str, list[str]] = {}
        """Operation -> what its requests were about, each once."""
        self._answers: dict[str, deque[Recorded]] = {}
        self._probes: deque[Recorded] = deque()

    @classmethod
    def read(cls, folder: Path, *, is_fast: bool = False) -> Self:
        """Read all files of a folder. Raises ValueError where it is no recording, OSError where it cannot be read."""
        replay = cls(is_fast=is_fast)
        numbered = sorted((number, path) for path in folder.iterdir() if (number := number_of(path.name)) is not None)
        if not numbered:
            raise ValueError(f"{folder} holds no recording; expected files such as traffic-000001.jsonl")
        for _, path in numbered:
            replay._read_file(path)
        if not replay.requests:
            raise ValueError(f"{folder}: no request is recorded in {len(numbered)} files")
        return replay

    def next(self, operation: Operation, parameters: Mapping[str, Any], *, take: bool) -> Recorded:
        """The next answer of a request, which is used up with `take`. Raises Refusal (404) where none was recorded."""
        answers = self._answers.get(_key(operation, parameters))
        if not answers:
            secret = {known.name for known in operation.parameters if known.is_secret}
            told = {name: value for name, value in parameters.items() if name not in secret}
            shown = json.dumps(told, ensure_ascii=False)[:_SHOWN_CHARACTERS_MAX]
            raise Refusal(404, "NotRecorded", f"{operation.name} with {shown} was never recorded.")
        return answers.popleft() if take and len(answers) > 1 else answers[0]

    def probe(self) -> Mapping[str, str] | None:
        """Headers of the next answer to the question what time it is; None after the last one."""
        return self._probes.popleft().headers if self._probes else None

    def _read_file(self, path: Path) -> None:
        lines = _lines(path)
        head = _object(lines[0]) if lines else None
        if head is None or "recording" not in head:
            raise ValueError(f"{path}: the first line is no head of a recording")
        if head["recording"] != VERSION:
            raise ValueError(f"{path}: the recording has version {head['recording']!r}; this program reads {VERSION}")
        for line in lines[1:]:
            record = _object(line)
            recorded = _recorded(record) if record is not None else None
            if record is None or recorded is None:
                self.unreadable_lines += 1
                continue
            self._take(record, recorded)

    def _take(self, record: Mapping[str, Any], recorded: Recorded) -> None:
        if self.started_at is None and recorded.headers["Date"]:
            self.started_at = parsedate_to_datetime(recorded.headers["Date"]).timestamp()
        if not record["operation"]:
            self._probes.append(recorded)
            return
        operation = CATALOGUE.get(record["operation"])
        if operation is None:
            self.unreadable_lines += 1
            return
        self.requests += 1
        self._answers.setdefault(_key(operation, record["parameters"]), deque()).append(recorded)
        scopes = self.scope_ids.setdefault(operation.name, [])
        if (scope := str(record["parameters"].get(operation.scope, ""))) and scope not in scopes:
            scopes.append(scope)


def _key(operation: Operation, parameters: Mapping[str, Any]) -> str:
    return request_key(operation.name, parameters, {known.name for known in operation.parameters if known.is_secret})


def _lines(path: Path) -> list[bytes]:
    data = path.read_bytes()
    if path.suffix == ".gz":
        try:
            data = gzip.decompress(data)
        except (EOFError, OSError, zlib.error) as error:
            raise ValueError(f"{path} cannot be decompressed: {error}") from None
    return data.splitlines()


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _recorded(record: Mapping[str, Any]) -> Recorded | None:
    try:
        headers = {str(name): str(value) for name, value in record["headers"].items()}
        body = base64.b64decode(record["base64"]) if "base64" in record else str(record.get("body", "")).encode()
        content_type = headers.pop("Content-Type", "application/json").partition(";")[0].strip()
        failure, status = record.get("failure"), int(record["status"])
        transport: FaultKind | None = None
        if "bytes_left_out" in record or failure in _CUT:
            transport, body = FaultKind.CUT_SHORT, body or b"{}"
        elif failure or not status:
            transport = FaultKind.RESET_BEFORE
        answer = Answer(status, body, content_type=content_type, transport=transport)
        seconds = float(record["seconds"])
        assert isinstance(record["operation"], str)
        assert isinstance(record["parameters"], dict)
    except (KeyError, TypeError, ValueError, AttributeError, AssertionError):
        return None
    # An answer without a Date has an empty one, which is not sent.
    return Recorded(answer, {"Date": "", **headers}, seconds)
