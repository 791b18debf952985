"""The difference between what the service answers now and what the store holds. Pure.

Of a row only a digest of its identity is kept, so that lines of any length take the same memory.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from collector.sources.tables import Table

LONG_BYTES: Final = 256
"""A longer text is compared by its SHA-256, on both sides: the store does not send it."""
_LONG_CHARACTERS: Final = LONG_BYTES // 4
"""A text with at most this many characters is never long, whatever they are."""
_DIGEST_BYTES: Final = 16

Identity = tuple[Any, ...]
Values = tuple[Any, ...]
_encode = msgspec.json.Encoder().encode


class AnsweredRows:
    """Rows that the service answered: for each the digest of its identity, its second and its value columns."""

    def __init__(self, table: Table, rows: Iterable[Sequence[Any]] = ()) -> None:
        self._table = table
        self._value_indexes = [table.columns.index(column) for column in table.value_columns]
        self.digests: list[bytes] = []
        self.times: list[int] = []
        """Seconds of the table's time column; empty if it has none."""
        self.values: list[Values] = []
        """Empty if equal rows are legitimate."""
        self.scopes: set[str] = set()
        self.region = ""
        self.operation = ""
        """Whose answer the rows are of."""
        self.add(rows)

    def __len__(self) -> int:
        return len(self.digests)

    def add(self, rows: Iterable[Sequence[Any]]) -> None:
        """Append rows, which have every column of the table."""
        table = self._table
        rows = list(rows)
        if not rows:
            return
        self.digests += [digest_identity([row[i] for i in table.identity_indexes]) for row in rows]
        if (time := table.time_index) is not None:
            self.times += [int(row[time]) for row in rows]
        if not table.multiset:
            self.values += [tuple(row[i] for i in self._value_indexes) for row in rows]
        self.operation = table.operation_of(rows[0])
        indexes = table.stream_indexes(self.operation)
        self.scopes.update("/".join(str(row[index]) for index in indexes) for row in rows)
        self.region = str(rows[0][table.columns.index("region")])


class StoredRows:
    """Rows that the store holds for the same stream and time, as the multiset or the keys that the table needs."""

    def __init__(self, table: Table, rows: Iterable[Sequence[Any]] = ()) -> None:
        self._table = table
        self._width = len(table.identity)
        self._time = table.identity.index(table.time_column) if table.time_column in table.identity else None
        self.counts: Counter[bytes] = Counter()
        self.seconds: dict[int, int] = defaultdict(int)
        """Rows in each second, where equal rows are legitimate."""
        self.values: dict[bytes, Values] = {}
        """Value columns by key, where identity is a key."""
        self.add(rows)

    def add(self, rows: Iterable[Sequence[Any]]) -> None:
        """Append rows: identity columns, then value columns."""
        width = self._width
        if not self._table.multiset:
            for row in rows:
                self.values[digest_identity(row[:width])] = tuple(row[width:])
            return
        rows = list(rows)
        self.counts.update(digest_identity(row[:width]) for row in rows)
        if self._time is not None:
            for row in rows:
                self.seconds[row[self._time]] += 1


def digest_identity(values: Sequence[Any]) -> bytes:
    """Return a digest of identity columns, the same for a long text and for its SHA-256."""
    return hashlib.blake2b(_encode([_shorten(value) for value in values]), digest_size=_DIGEST_BYTES).digest()


def shorten_sql(column: str) -> str:
    """Return SQL for a text column that gives what `digest_identity` makes of a long text."""
    return f"length({column}) > {LONG_BYTES} ? hex(SHA256({column})) : {column}"


def _shorten(value: Any) -> Any:
    if isinstance(value, str) and len(value) > _LONG_CHARACTERS and len(text := value.encode()) > LONG_BYTES:
        return hashlib.sha256(text).hexdigest().upper()
    return value


def missing_rows(
    table: Table, answered: AnsweredRows, stored: StoredRows, *, whole_seconds: bool
) -> tuple[list[int], int]:
    """Return the places of the rows that the store lacks, ascending, and how many conflict with what it has.

    Equal rows count: this is a difference of multisets, or of keys where the table's identity is one. A key whose
    values differ from the stored ones conflicts: the first ones stay. Counts in `stored` are used up.

    With `whole_seconds`, `answered` is everything the service has for its seconds. Then a second of
    which the store has as many rows but other ones has changed since it was stored: nothing is
    added, or the same event would be stored in both versions, and the conflict is counted.
    """
    if not table.multiset:
        return _missing_keys(answered, stored)
    left = stored.counts
    missing = []
    for place, digest in enumerate(answered.digests):
        if left[digest] > 0:
            left[digest] -= 1
        else:
            missing.append(place)
    if not missing or not whole_seconds or table.time_column is None:
        return missing, 0
    answered_seconds = Counter(answered.times)
    conflicting = {
        second
        for second in {answered.times[place] for place in missing}
        if stored.seconds.get(second, 0) == answered_seconds[second]
    }
    return [place for place in missing if answered.times[place] not in conflicting], len(conflicting)


def _missing_keys(answered: AnsweredRows, stored: StoredRows) -> tuple[list[int], int]:
    known = stored.values
    missing = []
    conflicts = 0
    for place, (digest, values) in enumerate(zip(answered.digests, answered.values, strict=True)):
        if digest not in known:
            known[digest] = values
            missing.append(place)
        elif known[digest] != values:
            conflicts += 1
    return missing, conflicts
