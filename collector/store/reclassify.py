"""Classify stored log lines anew, after the rules for faults have changed.

New lines follow the rules of the moment they are stored. What is stored keeps its class until this is run: a day at a
time, the newest first, and only lines whose class changes are written. A run that is cut off is begun again and finds
finished days as they should be.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from collector.store.base import DATABASE, Store
from collector.store.faults import FaultRules


@dataclass(frozen=True, slots=True)
class DayClassified:
    """One day of log lines."""

    day: str
    """Its partition, such as 20251009."""
    lines: int
    changed: int
    """Lines whose class or code is not what the rules say; they are written anew unless it is a dry run."""


async def reclassify(store: Store, rules: FaultRules, *, dry_run: bool = False) -> AsyncIterator[DayClassified]:
    """Each day of `syslogs` after it was classified. Raises as `Store.execute` does; what was done until then stays."""
    name = f"CAST({rules.class_expression}, 'LowCardinality(String)')"
    # What a code depends on is the class that the line gets now, not the one that it has.
    code = rules.code_of(name)
    differs = f"(fault_class != {name} OR fault_code != {code})"
    days = await store.fetch(f"SELECT DISTINCT toYYYYMMDD(time) AS day FROM {DATABASE}.syslogs ORDER BY day DESC")
    for (day,) in days:
        ((lines, changed),) = await store.fetch(
            f"SELECT count(), countIf({differs}) FROM {DATABASE}.syslogs WHERE toYYYYMMDD(time) = {{day:UInt32}}",
            {"day": day},
        )
        if changed and not dry_run:
            await store.execute(
                f"ALTER TABLE {DATABASE}.syslogs UPDATE fault_class = {name}, fault_code = {code}"
                f" IN PARTITION ID '{int(day)}' WHERE {differs} SETTINGS mutations_sync = 2"
            )
        yield DayClassified(str(day), lines, changed)
