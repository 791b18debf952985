"""Pages: what a listing is asked and gives, by number with a total, or by token; and the times in it."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, NamedTuple, Protocol

import msgspec

from collector.simulator.faults import FaultKind, Fired
from collector.simulator.hashing import key_of
from collector.simulator.requests import invalid_parameter, invalid_token


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


def iso(second: float) -> str:
    """`2025-10-09T08:00:00Z`."""
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def civil(second: float) -> str:
    """`2025-10-09 08:00:00`, UTC without saying so."""
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%d %H:%M:%S")


def civil_seconds(text: str) -> int:
    """UNIX seconds of what `civil` wrote."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def moment(parameters: Mapping[str, Any], name: str) -> float | None:
    """A parameter in either form as UNIX seconds, None where it is absent. Raises Refusal (400)."""
    text = parameters.get(name)
    if not text:
        return None
    try:
        parsed = datetime.fromisoformat(str(text))
    except ValueError:
        raise invalid_parameter(name, "a moment in UTC is expected") from None
    return parsed.replace(tzinfo=UTC).timestamp()


def time_range(
    parameters: Mapping[str, Any], now: float, default_seconds: float, most_seconds: float
) -> tuple[float, float]:
    """`StartTime` and `EndTime` as UNIX seconds; the range ends now and is `default_seconds` long unless told.

    Raises Refusal (400) for one that ends before it starts or is longer than `most_seconds`.
    """
    end = moment(parameters, "EndTime")
    end = now if end is None else end
    start = moment(parameters, "StartTime")
    start = end - default_seconds if start is None else start
    if start > end:
        raise invalid_parameter("EndTime", "it is before StartTime")
    if end - start > most_seconds:
        raise invalid_parameter("StartTime", "the range is too long")
    return start, end


_CHECKSUM_BYTES = 6


class Position(msgspec.Struct, frozen=True, array_like=True):
    """Where a listing stands. It is bound to what was asked and to the moment of its first page."""

    node_id: str
    first: int
    last: int
    query: str
    order: str
    as_of: int
    """Rows that became visible later are not part of this listing, so that pages stay as they are."""
    issued_at: float
    second: int
    """Event time of the last record given."""
    sequence: int
    """Its sequence; in a shuffled listing the number of records given so far."""


@dataclass(frozen=True, slots=True)
class TokenMint:
    """Makes and reads tokens. `seconds_max` is how long one lives, None for ever."""

    seed: int
    seconds_max: float | None = None

    def issue(self, position: Position) -> str:
        body = msgspec.json.encode(position)
        return base64.urlsafe_b64encode(self._checksum(body) + body).decode()

    def read(self, token: str, now: float) -> Position:
        """The position in a token. Raises Refusal (400) for one that is forged or too old."""
        try:
            raw = base64.b64decode(token.encode(), altchars=b"-_", validate=True)
            checksum, body = raw[:_CHECKSUM_BYTES], raw[_CHECKSUM_BYTES:]
            if checksum != self._checksum(body):
                raise invalid_token("is not valid")
            position = msgspec.json.decode(body, type=Position)
        except (binascii.Error, UnicodeEncodeError, msgspec.DecodeError):
            raise invalid_token("is not valid") from None
        if self.seconds_max is not None and now - position.issued_at > self.seconds_max:
            raise invalid_token("is expired")
        return position

    def _checksum(self, body: bytes) -> bytes:
        return blake2b(body, digest_size=_CHECKSUM_BYTES, key=str(self.seed).encode()).digest()


_SHUFFLED = "shuffled"
_encode = msgspec.json.Encoder().encode


def fields_of(answer: Mapping[str, Any]) -> bytes:
    """An answer as JSON members without the braces."""
    return _encode(answer)[1:-1]


def one(answer: Mapping[str, Any]) -> Page:
    """The page of an answer that is itself the record."""
    return Page(fields_of(answer), 1)


def shown_total(count: int, fired: Fired, ordinal: int, passed: int) -> Any:
    """Return the total of a listing of `count` records, bent where a fault says so.

    `passed` are the records up to the end of the page. The total never equals it before the last page: nobody could
    tell such an answer from that of a shorter list.
    """
    shown = count
    if fired.bend(FaultKind.CHANGING_TOTAL):
        shown = count + 1 if ordinal & 1 or count - 1 == passed else max(0, count - 1)
    return str(shown) if fired.bend(FaultKind.TOTAL_TEXT) else shown


def disordered(records: Sequence[Any], fired: Fired, seed: int) -> list[Any]:
    """The records, shuffled where a fault says so; the same records always in the same wrong order."""
    return list(records) if fired.bend(FaultKind.DISORDER) is None else shuffled(records, seed)


def shuffled(records: Sequence[Any], seed: int) -> list[Any]:
    """The records in an order that has nothing to do with theirs."""
    return sorted(records, key=lambda record: key_of("disorder", seed, _encode(record)))


@dataclass(frozen=True, slots=True)
class Numbered:
    """One page of a numbered listing."""

    records: list[Any]
    number: int
    size: int
    total: int
    """Records on all pages."""

    @property
    def passed(self) -> int:
        """Records up to the end of this page."""
        return self.number * self.size

    @property
    def page_count(self) -> int:
        return math.ceil(self.total / self.size)


def by_number(
    records: Sequence[Any], parameters: Mapping[str, Any], size: int, number_name: str = "PageNumber"
) -> Numbered:
    """The page that the parameters name, `size` records where they name no size. A page past the end is empty."""
    number = int(parameters.get(number_name) or 1)
    size = int(parameters.get("PageSize") or size)
    return Numbered(list(records[(number - 1) * size : number * size]), number, size, len(records))


def matching(records: Sequence[dict[str, Any]], parameters: Mapping[str, Any], **names: str) -> list[dict[str, Any]]:
    """The records whose fields equal the filters given; `names` are parameter=field. Text compares without case."""
    wanted = {field: parameters[name] for name, field in names.items() if parameters.get(name) not in (None, "")}
    return [
        record
        for record in records
        if all(str(record.get(field)).casefold() == str(value).casefold() for field, value in wanted.items())
    ]


def arranged(
    records: Sequence[dict[str, Any]], parameters: Mapping[str, Any], sort_name: str, *, descending: bool = False
) -> list[dict[str, Any]]:
    """The records in the order of `Order` and the parameter `sort_name`; their own order, or its reverse, without.

    `descending` says which way round they come where `Order` is absent. Raises Refusal (400) for a
    field to sort by that no record has.
    """
    field = parameters.get(sort_name)
    if field:
        if records and not any(field in record for record in records):
            raise invalid_parameter(sort_name, "it is not a field of the answer")
        records = sorted(records, key=lambda record: _sort_key(record.get(field)))
    order = str(parameters.get("Order") or ("desc" if descending else "asc")).lower()
    return list(reversed(records)) if order == "desc" else list(records)


def _sort_key(value: Any) -> tuple[str, Any]:
    number = isinstance(value, int | float)
    return ("number", value) if number else ("text", str(value))


@dataclass(frozen=True, slots=True)
class TokenPages:
    """Cuts a listing into pages that hang together by `NextToken`.

    All pages show what there was when the first was asked for, in the order it had then.
    """

    mint: TokenMint
    key: str
    """Under which the records stand in the answer."""

    def page(
        self,
        read: Callable[[float], Sequence[Any]],
        size: int,
        parameters: Mapping[str, Any],
        now: float,
        fired: Fired,
        ordinal: int,
        **beside: Any,
    ) -> Page:
        """The next `size` of the records that `read` finds at a time, and the fields `beside`.

        Raises Refusal (400) for a token that is forged, too old, or of another request.
        """
        position = self._position(parameters, now, fired)
        records = read(position.as_of)
        if position.order == _SHUFFLED:
            records = shuffled(records, self.mint.seed)
        rows = list(records[position.sequence : position.sequence + size])
        given = position.sequence + len(rows)
        token = ""
        if given < len(records):
            token = self.mint.issue(msgspec.structs.replace(position, issued_at=now, sequence=given))
            if parameters.get("NextToken") and fired.bend(FaultKind.REPEATED_TOKEN):
                token = str(parameters["NextToken"])
        answer: dict[str, Any] = {self.key: rows, **beside}
        if token or ordinal & 1:
            # An absent token and an empty one both mean the end; a client meets both.
            answer["NextToken"] = token
        return Page(fields_of(answer), len(rows))

    def _position(self, parameters: Mapping[str, Any], now: float, fired: Fired) -> Position:
        asked = {name: value for name, value in sorted(parameters.items()) if name not in ("NextToken", "MaxResults")}
        query = f"{key_of(_encode(asked)):016x}"
        if token := parameters.get("NextToken"):
            position = self.mint.read(str(token), now)
            if (position.node_id, position.query) != (self.key, query):
                raise invalid_token("does not belong to this request")
            return position
        order = "" if fired.bend(FaultKind.DISORDER) is None else _SHUFFLED
        return Position(self.key, 0, 0, query, order, int(now), now, -1, 0)
