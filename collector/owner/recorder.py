"""Writes API traffic to files that can be attached to a report: bounded, and without secrets.

A thread of its own makes and writes the lines. Where it cannot keep up, or the disk is full, the recording suffers and
never the collecting.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
import re
import shutil
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self

import msgspec
import structlog

from collector import PROGRAM, __version__
from collector.api.transport import Exchange
from collector.catalogue.operation import Operation
from collector.catalogue.operations import CATALOGUE
from collector.clock import Clock, SystemClock
from collector.errors import UsageError
from collector.recording import BODY_BYTES_MAX, HEADERS, VERSION, file_name, number_of
from collector.redaction import HIDDEN, redact
from collector.sources.attributes import blotted

log = structlog.get_logger(__name__)

FILE_BYTES_MAX: Final = 16 << 20
FILES_MAX: Final = 32
"""Files in the folder: the oldest go first. Compressed ones have about a tenth of FILE_BYTES_MAX."""
PENDING_BYTES_MAX: Final = 32 << 20
"""Bodies that wait to be written; what comes beyond that is counted and left out."""

SECRET_FIELDS: Final = frozenset(name for operation in CATALOGUE.values() for name in operation.secret_fields)
"""Of any operation: a list may tell what the answer about one object calls secret."""
CURSORS: Final = frozenset({"NextToken"})
"""Fields that are named like a secret and are none; without them no list could be read again."""
_SECRET_TEXT: Final = re.compile(
    r"\b(Bearer\s+)[^\s\"',]+|\b()sk-[A-Za-z0-9_-]{12,}|\b()(?:LTAI|STS\.)[A-Za-z0-9]{10,}"
    r"|((?:signature|access_?token|secret|password)[\"']?\s*[=:]\s*[\"']?)[^\s\"'&,;]{6,}",
    re.IGNORECASE,
)
"""Forms of keys, tokens and signatures that a message may quote."""

Redact = Callable[[str], str]


class Recorder:
    """Records into a folder. Use as `async with`; raises UsageError where the folder cannot be written."""

    def __init__(
        self,
        folder: Path,
        clock: Clock | None = None,
        *,
        file_bytes_max: int = FILE_BYTES_MAX,
        files_max: int = FILES_MAX,
        pending_bytes_max: int = PENDING_BYTES_MAX,
    ) -> None:
        self._folder = folder
        self._clock = clock or SystemClock()
        self._file_bytes_max = file_bytes_max
        self._files_max = files_max
        self._pending_bytes_max = pending_bytes_max
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="recorder")
        self._lock = threading.Lock()
        self._pending_bytes = 0
        self._number = 0
        self._file: IO[bytes] | None = None
        self._size = 0
        self.left_out = 0
        """Requests that are not in the recording, because it could not keep up or has ended."""
        self.is_stopped = False
        """True once the disk refused it."""

    async def __aenter__(self) -> Self:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._number = max(
                (number for each in self._folder.iterdir() if (number := number_of(each.name))), default=0
            )
            self._begin()
        except OSError as error:
            raise UsageError(f"--record: {self._folder} cannot be written: {error.strerror or error}") from None
        log.info("recording_started", path=str(self._folder))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._thread.submit(self._guarded, self._finish)
        self._thread.shutdown()
        if self.left_out:
            log.warning("recording_incomplete", path=str(self._folder), calls=self.left_out)

    def note(
        self,
        operation: Operation | None,
        parameters: Mapping[str, Any],
        exchange: Exchange,
        seconds: float,
        hide: Redact,
    ) -> None:
        """Record one request and its outcome; `operation` is None for the question what time it is.

        `hide` blots out what the gateway knows to be secret. Neither waits nor raises.
        """
        size = len(exchange.body)
        left_out = size if size > BODY_BYTES_MAX else 0
        if left_out:
            exchange, size = replace(exchange, body=b""), 0
        with self._lock:
            if self.is_stopped or self._pending_bytes + size > self._pending_bytes_max:
                self.left_out += 1
                return
            self._pending_bytes += size
        at = self._clock.wall()
        self._thread.submit(
            self._guarded, lambda: self._write(operation, dict(parameters), exchange, left_out, at, seconds, hide), size
        )

    # In the thread

    def _guarded(self, work: Callable[[], None], size: int = 0) -> None:
        try:
            if not self.is_stopped:
                work()
        except OSError as error:
            self.is_stopped = True
            if self._file is not None:
                with suppress(OSError):
                    self._file.close()
            log.warning("recording_stopped", path=str(self._folder), error=error.strerror or str(error))
        except Exception:
            # A record that cannot be made is no reason to miss the next one, and never to fail a call.
            self.left_out += 1
            log.exception("record_failed")
        finally:
            with self._lock:
                self._pending_bytes -= size

    def _write(
        self,
        operation: Operation | None,
        parameters: dict[str, Any],
        exchange: Exchange,
        left_out: int,
        at: float,
        seconds: float,
        hide: Redact,
    ) -> None:
        record = _record(operation, parameters, exchange, lambda text: hide(redact(text)))
        if left_out:
            record |= {"bytes_left_out": left_out}
        line = json.dumps({"at": round(at, 3), "seconds": round(seconds, 3), **record}, ensure_ascii=False)
        data = line.encode("utf-8", "surrogatepass") + b"\n"
        if self._size + len(data) > self._file_bytes_max:
            self._finish()
            self._begin()
        assert self._file is not None
        self._file.write(data)
        self._file.flush()
        self._size += len(data)

    def _begin(self) -> None:
        self._number += 1
        path = self._folder / file_name(self._number)
        self._file = _created(path)
        head = {"recording": VERSION, "program": f"{PROGRAM} {__version__}", "file": self._number}
        data = json.dumps(head | {"started_at": round(self._clock.wall(), 3)}).encode() + b"\n"
        self._file.write(data)
        self._file.flush()
        self._size = len(data)

    def _finish(self) -> None:
        """Compress the file that is full, and remove the oldest ones."""
        if self._file is None:
            return
        self._file.close()
        self._file = None
        path = self._folder / file_name(self._number)
        packed, unfinished = path.with_name(f"{path.name}.gz"), path.with_name(f"{path.name}.tmp")
        with (
            path.open("rb") as plain,
            _created(unfinished) as file,
            gzip.GzipFile(fileobj=file, mode="wb", compresslevel=6, mtime=0) as squeezed,
        ):
            shutil.copyfileobj(plain, squeezed, 1 << 20)
        unfinished.rename(packed)
        path.unlink()
        numbered = self._files()
        for _, oldest in numbered[: max(0, len(numbered) - self._files_max)]:
            oldest.unlink()

    def _files(self) -> list[tuple[int, Path]]:
        """The files of the folder with their numbers, the oldest first."""
        return sorted((number, each) for each in self._folder.iterdir() if (number := number_of(each.name)) is not None)


def _created(path: Path) -> IO[bytes]:
    """Create a file that only this user can read."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")


def _record(
    operation: Operation | None, parameters: dict[str, Any], exchange: Exchange, hide: Redact
) -> dict[str, Any]:
    secret = {known.name for known in operation.parameters if known.is_secret} if operation else set()
    told = {name: HIDDEN if name in secret else value for name, value in parameters.items()}
    # Names are compared without case, as HTTP has it.
    came = {name.lower(): value for name, value in exchange.headers.items()}
    record: dict[str, Any] = {
        "operation": operation.name if operation else "",
        "parameters": json.loads(_hidden(json.dumps(told, ensure_ascii=False), hide)),
        "status": exchange.http_status,
        "headers": {name: _hidden(came[name.lower()], hide) for name in HEADERS if name.lower() in came},
    }
    if exchange.failure is not None:
        record["failure"] = str(exchange.failure)
    if exchange.body:
        record |= _body(exchange.body, hide)
    return record


def _body(body: bytes, hide: Redact) -> dict[str, str]:
    try:
        text = body.decode()
    except UnicodeDecodeError:
        text = _hidden(body.decode(errors="surrogateescape"), hide)
        return {"base64": base64.b64encode(text.encode(errors="surrogateescape")).decode()}
    try:
        value = msgspec.json.decode(body)
        kept = blotted(value, SECRET_FIELDS, CURSORS)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return {"body": _hidden(text, hide)}
    # What holds no secret stays as the service spelled it, to the last blank.
    return {"body": _hidden(text if kept == value else msgspec.json.encode(kept).decode(), hide)}


def _hidden(text: str, hide: Redact) -> str:
    return _SECRET_TEXT.sub(lambda found: f"{found[1] or found[4] or ''}{HIDDEN}", hide(text))


@asynccontextmanager
async def recording(folder: Path | None) -> AsyncIterator[Recorder | None]:
    """Record into a folder while the body runs; None records nothing."""
    if folder is None:
        yield None
        return
    async with Recorder(folder) as recorder:
        yield recorder
