"""Tokens for uploading traces, and the endpoint that takes the uploads."""

from __future__ import annotations

import re
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from collector.catalogue.products.pai_llm_trace import GetXtraceTokenAnswer
from collector.simulator.faults import NOTHING, Fired
from collector.simulator.hashing import key_of
from collector.simulator.paging import Page, one
from collector.simulator.wire import wire_record

UPLOADS_KEPT_MAX = 1000
BODY_BYTES_MAX = 16 << 20
_TOKENS_KEPT_MAX = 10_000
_PATH = re.compile(r"/adapt_([^/]+)/api/otlp/traces")
_SPAN_NAME = 5
_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5


@dataclass(frozen=True, slots=True)
class Upload:
    """One upload of spans that was taken."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    """The protobuf message, decompressed."""
    span_names: tuple[str, ...]


@dataclass(slots=True)
class TraceDesk:
    """Answers `GetXtraceToken` with a token of its own each time, and takes uploads while the token lives."""

    seed: int
    now: Callable[[], float]
    token_seconds: float = 3600.0
    base_url: str = ""
    """Where the uploads are to go: the server's own address, known once it listens."""
    _expiries: dict[str, float] = field(default_factory=dict)
    _given: int = 0
    _received: deque[Upload] = field(default_factory=lambda: deque(maxlen=UPLOADS_KEPT_MAX))

    @property
    def received(self) -> list[Upload]:
        """The uploads that were taken, oldest first; of many, the newest thousand."""
        return list(self._received)

    def page(self, parameters: Mapping[str, Any], now: float, fired: Fired = NOTHING, ordinal: int = 0) -> Page:
        """A token and four endpoints. The answer does not tell when the token ends."""
        token = self._issue(now)
        answer = wire_record(
            GetXtraceTokenAnswer,
            token=token,
            http_endpoint=f"{self.base_url}/adapt_{token}/api/otlp/traces",
            http_internal_endpoint=f"{self.base_url}/adapt_{token}/api/otlp/traces",
            grpc_endpoint="http://tracing.invalid:8090",
            grpc_internal_endpoint="http://tracing-internal.invalid:8090",
        )
        return one(answer)

    def receive(self, path: str, headers: Mapping[str, str], body: bytes) -> int:
        """Take an upload; returns the HTTP status.

        401 for a token that was never given, 403 for one that has ended, 404 for another path, 415
        for another content type, 400 for a body that is no OTLP message, 413 for one too large.
        """
        match = _PATH.fullmatch(unquote(path))
        if match is None:
            return 404
        expiry = self._expiries.get(match[1])
        if expiry is None:
            return 401
        if self.now() >= expiry:
            return 403
        given = {name.casefold(): value for name, value in headers.items()}
        if given.get("content-type", "").partition(";")[0].strip() != "application/x-protobuf":
            return 415
        try:
            if given.get("content-encoding") == "gzip":
                body = _gunzip(body)
            names = tuple(_span_names(body))
        except OverflowError:
            return 413
        except (ValueError, zlib.error):
            return 400
        self._received.append(Upload(path, dict(headers), body, names))
        return 200

    def _issue(self, now: float) -> str:
        self._given += 1
        number = self._given
        first, second = (f"{key_of(part, self.seed, number, now):016x}" for part in ("token", "user"))
        token = f"{first}@sim_{second}@{number}"
        self._expiries[token] = now + self.token_seconds
        if len(self._expiries) > _TOKENS_KEPT_MAX:
            del self._expiries[next(iter(self._expiries))]
        return token


def _gunzip(body: bytes) -> bytes:
    """Raises OverflowError for what is too large, zlib.error for what is no gzip."""
    inflate = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    plain = inflate.decompress(body, BODY_BYTES_MAX)
    if inflate.unconsumed_tail:
        raise OverflowError
    if not inflate.eof:
        raise ValueError("the body ends early")
    return plain


def _span_names(body: bytes) -> Iterator[str]:
    """The names of all spans of an OTLP `ExportTraceServiceRequest`. ValueError for bytes that are none.

    Only the way down to the spans is read: resource spans (1), scope spans (2), spans (2), name (5).
    """
    for resource_spans in _messages(body, 1):
        for scope_spans in _messages(resource_spans, 2):
            for span in _messages(scope_spans, 2):
                yield from (name.decode() for name in _messages(span, _SPAN_NAME))


def _messages(data: bytes, wanted: int) -> Iterator[bytes]:
    """The values of a field that holds bytes, in a protobuf message."""
    place = 0
    while place < len(data):
        tag, place = _varint(data, place)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            _, place = _varint(data, place)
            continue
        if kind == _BYTES:
            length, place = _varint(data, place)
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            length = 8 if kind == _EIGHT_BYTES else 4
        else:
            raise ValueError(f"wire type {kind} is none")
        end = place + length
        if end > len(data):
            raise ValueError("a field reaches past the end")
        if kind == _BYTES and number == wanted:
            yield data[place:end]
        place = end


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while place < len(data) and shift < 64:
        byte = data[place]
        value |= (byte & 0x7F) << shift
        place += 1
        if byte < 0x80:
            return value, place
        shift += 7
    raise ValueError("a number does not end")
