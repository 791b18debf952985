"""How listings of objects come in pages: by number with a total, or by token."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from collector.simulator.faults import FaultKind, Fired
from collector.simulator.hashing import key_of
from collector.simulator.listing import Page
from collector.simulator.refusals import invalid_parameter, invalid_token
from collector.simulator.tokens import Position, TokenMint

_SHUFFLED = "shuffled"
_encode = msgspec.json.Encoder().encode


def fields_of(answer: Mapping[str, Any]) -> bytes:
    """An answer as JSON members without the braces."""
    return _encode(answer)[1:-1]


def one(answer: Mapping[str, Any]) -> Page:
    """The page of an answer that is itself the record."""
    return Page(fields_of(answer), 1)


def shown_total(count: int, fired: Fired, ordinal: int, passed: int) -> int | str:
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
