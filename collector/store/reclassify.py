"""Classify stored log lines again, after the rules for faults have changed.

New lines follow the rules of the moment they are stored. What is stored keeps its class until this is run: a day at a
time, the newest first, and only lines that change are written. A run that is cut off is begun again and finds finished
days as they should be.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

from collector.store.base import DATABASE, Store
from collector.store.faults import COLUMNS, FaultRules


@dataclass(frozen=True, slots=True)
class DayClassified:
    """One day of log lines."""

    day: str
    """Its partition, such as 20251009."""
    lines: int
    changed: int
    """Lines of which a fault column is not what the rules say; they are written again unless it is a dry run."""


async def reclassify(store: Store, rules: FaultRules, *, dry_run: bool = False) -> AsyncIterator[DayClassified]:
    """Yield each day of `syslogs` after classifying it. Raises as `Store.execute` does; finished days stay finished."""
    expressions = rules.expressions
    days = await store.fetch(f"SELECT DISTINCT toYYYYMMDD(time) AS day FROM {DATABASE}.syslogs ORDER BY day DESC")
    computed = await _computed_days(store)
    for (day,) in days:
        ((lines, changed, *by_column),) = await store.fetch(_counts(expressions), {"day": day})
        commands = [
            f"UPDATE {column} = {expressions[column]} IN PARTITION ID '{int(day)}'"
            f" WHERE {column} != {expressions[column]}"
            for column, differing in zip(COLUMNS, by_column, strict=True)
            if differing
        ]
        if str(day) in computed:
            commands += [f"MATERIALIZE COLUMN {column} IN PARTITION ID '{int(day)}'" for column in COLUMNS]
        if commands and not dry_run:
            # In this order, because each column depends on those before it.
            await store.execute(f"ALTER TABLE {DATABASE}.syslogs {', '.join(commands)} SETTINGS mutations_sync = 2")
        yield DayClassified(str(day), lines, changed)


def _counts(expressions: Mapping[str, str]) -> str:
    """All lines of a day, those that differ in any column, and those that differ in each."""
    stored = ", ".join(f"{column} AS stored_{column}" for column in COLUMNS)
    sql = f"SELECT msg, {stored} FROM {DATABASE}.syslogs WHERE toYYYYMMDD(time) = {{day:UInt32}}"
    for column in COLUMNS:
        sql = f"SELECT *, {expressions[column]} AS {column} FROM ({sql})"
    differing = [f"stored_{column} != {column}" for column in COLUMNS]
    counts = ", ".join(f"countIf({test})" for test in differing)
    return f"SELECT count(), countIf({' OR '.join(differing)}), {counts} FROM ({sql})"


async def _computed_days(store: Store) -> set[str]:
    """Return the days with a part older than some fault column, whose values are computed at each read."""
    rows = await store.fetch(
        "SELECT DISTINCT partition_id FROM"
        " (SELECT name, partition_id, countIf(column IN {columns:Array(String)}) AS found FROM system.parts_columns"
        f" WHERE database = '{DATABASE}' AND table IN ('syslogs', 'syslogs_local') AND active"
        " GROUP BY name, partition_id) WHERE found < {wanted:UInt8}",
        {"columns": list(COLUMNS), "wanted": len(COLUMNS)},
    )
    return {day for (day,) in rows}
