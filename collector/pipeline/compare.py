"""The difference between what the service answers now and what the store holds. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from collector.pipeline.chunking import Identity, identities
from collector.sources.tables import Table


def missing_rows(
    table: Table, rows: Sequence[Sequence[Any]], stored: Sequence[Identity], *, whole_seconds: bool
) -> tuple[list[int], int]:
    """Indexes of the rows that the store lacks, and how many conflict with what it has.

    `stored` are the identities that the store holds for the same stream and time, each with the table's value
    columns behind it. Equal rows count: this is a difference of multisets, or of keys where the table's
    identity is one. A key whose values differ from the stored ones conflicts: the first ones stay.

    With `whole_seconds`, `rows` are everything the service has for their seconds. Then a second of
    which the store has as many rows but other ones has changed since it was stored: nothing is
    added, or the same event would stand there in both versions, and the conflict is counted.
    """
    if not table.multiset:
        return _missing_keys(table, rows, stored)
    left = Counter(stored)
    missing = []
    for index, identity in enumerate(identities(table, rows)):
        if left[identity] > 0:
            left[identity] -= 1
        else:
            missing.append(index)
    if not missing or not whole_seconds or table.time_column is None:
        return missing, 0
    conflicting = _conflicting_seconds(table, rows, stored, missing)
    time = table.time_index
    assert time is not None
    return [index for index in missing if rows[index][time] not in conflicting], len(conflicting)


def _missing_keys(table: Table, rows: Sequence[Sequence[Any]], stored: Sequence[Identity]) -> tuple[list[int], int]:
    width = len(table.identity)
    known = {identity[:width]: identity[width:] for identity in stored}
    places = [table.columns.index(column) for column in table.value_columns]
    found = []
    conflicts = 0
    for index, identity in enumerate(identities(table, rows)):
        values = tuple(rows[index][place] for place in places)
        if identity not in known:
            known[identity] = values
            found.append(index)
        elif known[identity] != values:
            conflicts += 1
    return found, conflicts


def _conflicting_seconds(
    table: Table, rows: Sequence[Sequence[Any]], stored: Sequence[Identity], missing: Sequence[int]
) -> set[int]:
    time = table.time_index
    assert time is not None
    time_in_identity = table.identity.index(str(table.time_column))
    stored_count: dict[int, int] = defaultdict(int)
    for identity in stored:
        stored_count[identity[time_in_identity]] += 1
    answered_count: dict[int, int] = defaultdict(int)
    for row in rows:
        answered_count[row[time]] += 1
    seconds = {rows[index][time] for index in missing}
    return {second for second in seconds if stored_count[second] == answered_count[second]}
