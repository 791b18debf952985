"""`ListSyslogs` as the service answers it: parameters, order, pages, tokens."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import msgspec

from collector.simulator.drift import drift_syslog, syslog_shape
from collector.simulator.faults import NOTHING, Fault, FaultKind, Fired
from collector.simulator.hashing import key_of
from collector.simulator.paging import Page, Position, TokenMint
from collector.simulator.requests import invalid_parameter, invalid_token, missing_parameter, not_found
from collector.simulator.world import Record, World

Bounds = Literal["closed", "half_open"]
"""Whether `ToTime` belongs to the range. The service does not say, so a client has to live with both."""

CACHED_BYTES_MAX = 64 << 20
_ASCENDING, _DESCENDING, _SHUFFLED = "asc", "desc", "shuffled"
_encode = msgspec.json.Encoder().encode


class Row(NamedTuple):
    """A record ready to send."""

    second: int
    sequence: int
    visible_at: int
    message: str
    encoded: bytes


class RowCache:
    """Encoded records by node and second, the least recently used dropped first."""

    def __init__(self, world: World, bytes_max: int = CACHED_BYTES_MAX) -> None:
        self._world = world
        self._bytes_max = bytes_max
        self._bytes = 0
        self._seconds: OrderedDict[tuple[str, int, int], list[Row]] = OrderedDict()

    def rows(self, node_id: str, second: int) -> list[Row]:
        # Late rows change a second that may be cached already; their version is part of the key.
        key = (node_id, second, self._world.late_version(node_id))
        rows = self._seconds.get(key)
        if rows is not None:
            self._seconds.move_to_end(key)
            return rows
        rows = [_row(record, record.wire) for record in self._world.records(node_id, second)]
        self._seconds[key] = rows
        self._bytes += _size(rows)
        while self._bytes > self._bytes_max and len(self._seconds) > 1:
            _, dropped = self._seconds.popitem(last=False)
            self._bytes -= _size(dropped)
        return rows


@dataclass(slots=True)
class SyslogListing:
    """Answers `ListSyslogs` from the world, `page_size` records at a time."""

    world: World
    mint: TokenMint
    seed: int
    bounds: Bounds = "closed"
    page_size: int = 100
    _cache: RowCache = field(init=False)

    def __post_init__(self) -> None:
        self._cache = RowCache(self.world)

    def page(self, parameters: Mapping[str, Any], now: float, fired: Fired = NOTHING, ordinal: int = 0) -> Page:
        """One page at time `now`. Raises Refusal for what the service would not answer."""
        token = _text(parameters, "NextToken")
        position = self._start(parameters, now, shuffled=fired.bend(FaultKind.DISORDER) is not None)
        if token:
            position = self._resume(position, token, now)
        drift = fired.bend(FaultKind.TYPE_DRIFT)
        rows = self._shuffled(position, drift) if position.order == _SHUFFLED else self._in_order(position, drift)
        page: list[Row] = []
        more = False
        for row in rows:
            if len(page) == self.page_size:
                more = True
                break
            page.append(row)
        if more:
            next_token = self.mint.issue(_moved(position, page, now))
            if token and fired.bend(FaultKind.REPEATED_TOKEN):
                next_token = token
            head = b'"NextToken":' + _encode(next_token) + b","
        else:
            # An absent token and an empty one both mean the end; a client meets both.
            head = b'"NextToken":"",' if ordinal & 1 else b""
        return Page(head + b'"Logs":[' + b",".join([row.encoded for row in page]) + b"]", len(page))

    def _start(self, parameters: Mapping[str, Any], now: float, *, shuffled: bool) -> Position:
        first = _seconds(parameters, "FromTime")
        last = _seconds(parameters, "ToTime")
        node_id = _text(parameters, "NodeId")
        if not node_id:
            raise missing_parameter("NodeId")
        if first > last:
            raise invalid_parameter("ToTime", "it is before FromTime")
        reverse = parameters.get("Reverse")
        if reverse is not None and not isinstance(reverse, bool):
            raise invalid_parameter("Reverse", "a boolean is expected")
        if not self.world.has_node(node_id):
            raise not_found("NodeId", node_id)
        order = _SHUFFLED if shuffled else _DESCENDING if reverse else _ASCENDING
        return Position(node_id, first, last, _text(parameters, "Query"), order, int(now), now, -1, -1)

    def _resume(self, asked: Position, token: str, now: float) -> Position:
        position = self.mint.read(token, now)
        if (position.node_id, position.first, position.last, position.query) != (
            asked.node_id,
            asked.first,
            asked.last,
            asked.query,
        ):
            raise invalid_token("does not belong to this request")
        if position.order != _SHUFFLED and position.order != asked.order:
            raise invalid_token("does not belong to this request")
        return position

    def _seconds(self, position: Position) -> Iterable[int]:
        last = position.last - (self.bounds == "half_open")
        if position.order == _DESCENDING:
            # Minutes are laid out forwards; a whole window of seconds is small beside its rows.
            last = last if position.sequence < 0 else position.second
            return reversed(list(self.world.active_seconds(position.node_id, position.first, last)))
        first = position.second if position.order == _ASCENDING and position.sequence >= 0 else position.first
        return self.world.active_seconds(position.node_id, first, last)

    def _in_order(self, position: Position, drift: Fault | None) -> Iterator[Row]:
        descending = position.order == _DESCENDING
        for second in self._seconds(position):
            rows: Iterable[Row] = self._rows(position.node_id, second, drift)
            if descending:
                rows = reversed(list(rows))
            resumed = position.sequence >= 0 and second == position.second
            for row in rows:
                if row.visible_at > position.as_of or (position.query and position.query not in row.message):
                    continue
                given = row.sequence >= position.sequence if descending else row.sequence <= position.sequence
                if not (resumed and given):
                    yield row

    def _shuffled(self, position: Position, drift: Fault | None) -> Iterator[Row]:
        whole = [
            row
            for second in self._seconds(position)
            for row in self._rows(position.node_id, second, drift)
            if row.visible_at <= position.as_of and position.query in row.message
        ]
        whole.sort(key=lambda row: key_of("disorder", self.seed, row.second, row.sequence))
        return iter(whole[max(0, position.sequence) :])

    def _rows(self, node_id: str, second: int, drift: Fault | None) -> list[Row]:
        if drift is None:
            return self._cache.rows(node_id, second)
        return [
            _row(record, drift_syslog(record.wire, syslog_shape(record, drift.shapes, drift.share, self.seed)))
            for record in self.world.records(node_id, second)
        ]


def _size(rows: list[Row]) -> int:
    return sum(len(row.encoded) for row in rows)


def _row(record: Record, value: Any) -> Row:
    return Row(record.time, record.sequence, record.visible_at, record.wire["Msg"], _encode(value))


def _moved(position: Position, page: list[Row], now: float) -> Position:
    if position.order == _SHUFFLED:
        second, sequence = -1, max(0, position.sequence) + len(page)
    else:
        second, sequence = page[-1].second, page[-1].sequence
    return msgspec.structs.replace(position, issued_at=now, second=second, sequence=sequence)


def _text(parameters: Mapping[str, Any], name: str) -> str:
    value = parameters.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise invalid_parameter(name, "a string is expected")
    return value


def _seconds(parameters: Mapping[str, Any], name: str) -> int:
    text = _text(parameters, name)
    if not text:
        raise missing_parameter(name)
    if not (text.isascii() and text.isdigit() and len(text) <= 11):
        raise invalid_parameter(name, "UNIX seconds are expected")
    return int(text)
