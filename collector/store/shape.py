"""What the configuration decides about tables: fault rules, retention, the text index.

Migrations make the tables; this brings what a user may change of them to what is configured, at every start where it
differs. Each statement alters one table and may be repeated, so a crash between two is cured by the next start.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

import msgspec

from collector.queries import literal
from collector.settings.model import StoreSettings
from collector.store.base import DATABASE, Store
from collector.store.fault_rules import check_rules, fault_rules
from collector.store.faults import COLUMNS, SEVERITY, FaultMeaning, FaultRules, severity_type

PROJECTION: Final = "hourly"
MEANINGS: Final = "fault_code_states"
TEXT_INDEX: Final = "msg_words"
_TEXT_INDEX_TYPE: Final = "text(tokenizer = 'splitByNonAlpha')"

KEPT: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "syslogs": ("syslogs", "time"),
        "metric_points": ("metric_points", "time"),
        "user_metrics": ("user_metrics", "time"),
        "resource_group_metrics": ("resource_group_metrics", "time"),
        "events": ("events", "time"),
        "dead_letters": ("dead_letters", "observed_at"),
        "api_calls": ("api_call_parts", "minute"),
    }
)
"""Keys of `store.retention`, with the table and the column of time. A table of states is none of them: its rows are the
last that is known of something, however old they are."""

_TTL = re.compile(r" TTL (\w+) \+ toIntervalSecond\((\d+)\)")
_DROPS_PARTS: Final = "ttl_only_drop_parts = 1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What tables are to be like, or are."""

    defaults: Mapping[str, str] = field(default_factory=dict)
    """The expression of each fault column, as the engine writes it."""
    severity: str = ""
    """That of the severity, which is computed when it is read."""
    kept_seconds: Mapping[str, int] = field(default_factory=dict)
    """Of each table with a retention: how long its rows are kept."""
    text_index: bool = False
    unprepared: Sequence[str] = ()
    """Found only: tables with a part that has no hours, or whose hours were not whole on disk."""


def statements(wanted: Shape, found: Shape, comment: str) -> list[str]:
    """What makes the one of the other. Pure. `comment` is that of `fault_class`."""
    made = []
    for column in COLUMNS:
        if wanted.defaults[column] != found.defaults.get(column):
            told = f" COMMENT {literal(comment)}" if column == "fault_class" else ""
            made.append(
                f"ALTER TABLE {DATABASE}.syslogs MODIFY COLUMN {column} DEFAULT {wanted.defaults[column]}{told}"
            )
    if wanted.severity != found.severity:
        made.append(
            f"ALTER TABLE {DATABASE}.syslogs MODIFY COLUMN {SEVERITY} {severity_type()} ALIAS {wanted.severity}"
        )
    for table, time in KEPT.values():
        kept = wanted.kept_seconds.get(table, 0)
        if kept == found.kept_seconds.get(table, 0):
            continue
        if kept:
            # Without the second, a changed retention would write every old part anew, only to note when it ends.
            made.append(
                f"ALTER TABLE {DATABASE}.{table} MODIFY SETTING {_DROPS_PARTS}, materialize_ttl_recalculate_only = 1"
            )
            made.append(f"ALTER TABLE {DATABASE}.{table} MODIFY TTL {time} + toIntervalSecond({kept})")
        else:
            made.append(f"ALTER TABLE {DATABASE}.{table} REMOVE TTL")
    if wanted.text_index and not found.text_index:
        made.append(f"ALTER TABLE {DATABASE}.syslogs ADD INDEX IF NOT EXISTS {TEXT_INDEX} msg TYPE {_TEXT_INDEX_TYPE}")
        # The engine does it in the background, part by part, and goes on with it after a crash.
        made.append(f"ALTER TABLE {DATABASE}.syslogs MATERIALIZE INDEX {TEXT_INDEX}")
    if found.text_index and not wanted.text_index:
        made.append(f"ALTER TABLE {DATABASE}.syslogs DROP INDEX IF EXISTS {TEXT_INDEX}")
    # An insert waits until its rows are on disk, not their hours (the engine does that in merges only). After a power
    # cut it finds those of the last seconds broken and reads the rows instead; here they are made again. Those of older
    # parts, from before a migration changed them, are made here too, because it has to be after the fault columns have
    # their expressions: what the engine computes for a part on the way is written to it.
    made += [f"ALTER TABLE {DATABASE}.{table} MATERIALIZE PROJECTION {PROJECTION}" for table in found.unprepared]
    return made


async def plan_shape(store: Store, settings: StoreSettings) -> list[str]:
    """The statements that `apply_shape` would run. Changes nothing. Raises as `apply_shape` does."""
    return await _plan(store, settings, fault_rules(settings.fault_rules))


async def apply_shape(store: Store, settings: StoreSettings) -> list[str]:
    """Bring the tables to what is configured, and return the statements that it took.

    Raises ConfigError for fault rules that the engine does not take, and as `Store.execute` does.
    """
    rules = fault_rules(settings.fault_rules)
    made = await _plan(store, settings, rules)
    for statement in made:
        await store.execute(statement)
    await _enter_meanings(store, rules)
    return made


async def _plan(store: Store, settings: StoreSettings, rules: FaultRules) -> list[str]:
    written = await _written(store, rules)
    wanted = Shape(
        severity=written.pop(SEVERITY),
        defaults=written,
        kept_seconds={
            table: kept for name, (table, _) in KEPT.items() if (kept := getattr(settings.retention, f"{name}_seconds"))
        },
        text_index=settings.text_index,
    )
    found = await _look(store)
    if wanted.defaults != found.defaults and settings.fault_rules is not None:
        # The program's own rules are tried by its tests, with every example.
        await check_rules(store, rules)
    names = ", ".join(rule.name for rule in rules.classes)
    return statements(wanted, found, f"Kind of fault that the message reports, empty when none: {names}")


async def _written(store: Store, rules: FaultRules) -> dict[str, str]:
    """The expressions as the engine would write them, to compare with what it has."""
    expressions = rules.expressions | {SEVERITY: rules.severity_expression}
    try:
        (texts,) = await store.fetch(
            f"SELECT {', '.join(f'formatQuerySingleLine({{{column}:String}})' for column in expressions)}",
            {column: f"SELECT {expression}" for column, expression in expressions.items()},
        )
    except Exception:
        # Rules of a kind that cannot even be read: their own check says which.
        await check_rules(store, rules)
        raise
    return {column: text.removeprefix("SELECT ") for column, text in zip(expressions, texts, strict=True)}


async def _look(store: Store) -> Shape:
    # On a cluster the rows are in tables of the same name with `_local` behind; they are what counts.
    columns = await store.fetch(
        "SELECT name, default_expression FROM system.columns"
        f" WHERE database = '{DATABASE}' AND table IN ('syslogs', 'syslogs_local') AND name IN {{names:Array(String)}}"
        " ORDER BY table",
        {"names": [*COLUMNS, SEVERITY]},
    )
    engines = await store.fetch(
        f"SELECT name, engine_full FROM system.tables WHERE database = '{DATABASE}' AND engine LIKE '%MergeTree'"
    )
    kept = {}
    for name, engine in engines:
        found = _TTL.search(engine)
        if found and _DROPS_PARTS in engine:
            kept[name.removesuffix("_local")] = int(found[2])
        elif " TTL " in engine:
            # Some other lifetime, or one that was cut off before it was whole: neither is what anybody configured.
            kept[name.removesuffix("_local")] = -1
    indexes = await store.fetch(
        f"SELECT name FROM system.data_skipping_indices WHERE database = '{DATABASE}'"
        " AND table IN ('syslogs', 'syslogs_local') AND name = {name:String}",
        {"name": TEXT_INDEX},
    )
    unprepared = await store.fetch(
        f"SELECT DISTINCT table FROM system.parts WHERE database = '{DATABASE}' AND active AND rows > 0"
        " AND (table, name) NOT IN (SELECT table, parent_name FROM system.projection_parts"
        f" WHERE database = '{DATABASE}' AND active AND NOT is_broken AND name = {{name:String}})"
        f" AND table IN (SELECT table FROM system.projections WHERE database = '{DATABASE}' AND name = {{name:String}})"
        f" AND table NOT IN (SELECT table FROM system.mutations WHERE database = '{DATABASE}' AND NOT is_done"
        " AND position(command, {command:String}) > 0) ORDER BY table",
        {"name": PROJECTION, "command": f"MATERIALIZE PROJECTION {PROJECTION}"},
    )
    expressions = dict(columns)
    return Shape(
        severity=expressions.pop(SEVERITY, ""),
        defaults=expressions,
        kept_seconds=kept,
        text_index=bool(indexes),
        unprepared=[table.removesuffix("_local") for (table,) in unprepared],
    )


async def _enter_meanings(store: Store, rules: FaultRules) -> None:
    """Insert the meanings that are new or have changed, and take back those that the rules do not hold any more."""
    columns = ("fault_class", "fault_code", "fault_case", "fault_severity", "meaning", "action", "source")
    rows = await store.fetch(f"SELECT {', '.join(columns)} FROM {DATABASE}.fault_codes")
    stored = {tuple(row[:3]): tuple(row) for row in rows}
    wanted = {tuple(row[:3]): row for row in map(_row, rules.meanings)}
    changed = [(*row, 1) for key, row in wanted.items() if stored.get(key) != row]
    changed += [(*key, "", "", "", "", 0) for key in stored if key not in wanted]
    if changed:
        body = b"".join(msgspec.json.encode(row) + b"\n" for row in changed)
        await store.insert(MEANINGS, (*columns, "is_known"), body, token=f"fault codes {uuid.uuid4()}")


def _row(known: FaultMeaning) -> tuple[str, int, str, str, str, str, str]:
    return (known.name, known.code, known.case, known.severity, known.meaning, known.action, known.source)
