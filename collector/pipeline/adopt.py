"""A stream that is new to this journal: what does the store know of it?

On a new machine, or with the journal lost, the store still has the watermark and the rows. The
stream goes on from that watermark, and windows up to its newest row are compared, not appended.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from collector.journal.clock_log import DRIFT_SECONDS_MAX, UNKNOWN_SECONDS
from collector.journal.entries import KnownObject
from collector.journal.journal import Journal
from collector.journal.ledger import billing_month, month_start
from collector.model import StreamKey, Window
from collector.pipeline.windows import gather_seconds
from collector.sources.normalise import as_json
from collector.sources.source import StateSource
from collector.sources.tables import Table
from collector.store.base import Store


async def adopt_streams(
    journal: Journal,
    store: Store,
    keys: Sequence[StreamKey],
    tables: Sequence[Table],
    rechecks: Sequence[int],
    interval_max: int = 0,
    settle: int = 0,
) -> None:
    """Enter the streams of one source that the journal does not know, and bring its recheck delays up to date.

    `tables` are those that the source fills, `rechecks` its delays in seconds, `interval_max` what may lie between two
    looks, and `settle` how far a watermark stays behind now.
    """
    known = await journal.streams()
    new = [key for key in keys if key not in known]
    for key in keys:
        state = known.get(key)
        if state is not None and set(state.rechecks) != set(rechecks):
            begin = {delay: state.rechecks.get(delay, state.sealed_to or 0) for delay in rechecks}
            await journal.set_rechecks(state.id, begin)
    if not new:
        return
    marks, versions = await _watermarks(store, new), await _versions(store, new)
    newest = await _newest(store, new, tables)
    gaps = await stored_gaps(store, new)
    for key in new:
        collected_from, watermark = marks.get(key.scope_id, (None, None))
        generation, written_at = versions.get(key.scope_id, (0, 0))
        sealed_to = watermark
        if collected_from is not None and watermark is not None and watermark + settle > written_at + DRIFT_SECONDS_MAX:
            # Its writer's clock showed less: the service's dates may have been ahead, nobody knows since when.
            sealed_to = max(collected_from, watermark - UNKNOWN_SECONDS)
        held = [Window(0, newest[key] + 1)] if key in newest else []
        await journal.adopt(
            key,
            collected_from=collected_from,
            watermark=watermark,
            held=held,
            rechecks={delay: _rechecked_to(collected_from, watermark, delay, interval_max) for delay in rechecks},
            gaps=gaps.get(key.scope_id, ()),
            generation=generation,
            sealed_to=sealed_to,
        )


async def adopt_states(journal: Journal, store: Store, source: StateSource, keys: Sequence[StreamKey]) -> None:
    """Enter the streams of observed states that the journal does not know, with the states that the store has.

    What is shown there as present and is not listed any more is then found to be gone, and what is as it was
    is not stored again.
    """
    known = await journal.streams()
    new = [key for key in keys if key not in known]
    if not new:
        return
    marks, versions = await _watermarks(store, new), await _versions(store, new)
    for key in new:
        collected_from, watermark = marks.get(key.scope_id, (None, None))
        generation, _ = versions.get(key.scope_id, (0, 0))
        await journal.adopt(
            key, collected_from=collected_from, watermark=watermark, held=(), rechecks={}, generation=generation
        )
        if watermark is None:
            continue
        stream_id = (await journal.streams())[key].id
        await journal.learn_objects(stream_id, await stored_objects(store, source, key))


async def stored_objects(store: Store, source: StateSource, key: StreamKey) -> list[KnownObject]:
    """The objects of a stream, in the state that the store has seen last."""
    (table,) = source.tables
    conditions = {"region": key.region, **source.held(key)}
    where = " AND ".join(f"{column} = {{{column}:String}}" for column in conditions)
    columns = table.columns[table.columns.index("fingerprint") + 1 :]
    state = ", ".join(f"toUnixTimestamp({name})" if name.endswith("_at") else name for name in columns)
    rows = await store.fetch(
        f"SELECT object_id, toUnixTimestamp(observed_at), is_present, fingerprint, {state} FROM {table.name}"
        f" WHERE {where} ORDER BY object_id, observed_at DESC LIMIT 1 BY object_id",
        conditions,
    )
    return [
        KnownObject(row[0], None, int(row[3]), bool(row[2]), None, int(row[1]), as_json(list(row[4:]))) for row in rows
    ]


def _rechecked_to(collected_from: int | None, watermark: int | None, delay: int, interval_max: int) -> int:
    """From where windows have to be looked at again: the lost journal had done so before the watermark by then."""
    if collected_from is None or watermark is None:
        return 0
    return max(collected_from, watermark - delay - gather_seconds(delay, interval_max))


async def _watermarks(store: Store, keys: Sequence[StreamKey]) -> dict[str, tuple[int, int]]:
    """(collected_from, watermark) by scope."""
    rows = await _shown(store, keys, "toUnixTimestamp(collected_from), toUnixTimestamp(watermark)")
    return {scope: (collected_from, watermark) for scope, collected_from, watermark in rows}


async def _versions(store: Store, keys: Sequence[StreamKey]) -> dict[str, tuple[int, int]]:
    """(generation of the watermark, when it was written by the writer's clock) by scope."""
    rows = await _shown(store, keys, "generation, toUnixTimestamp(updated_at)")
    return {scope: (generation, written_at) for scope, generation, written_at in rows}


async def _shown(store: Store, keys: Sequence[StreamKey], columns: str) -> list[list[Any]]:
    return await store.fetch(
        f"SELECT scope_id, {columns} FROM watermarks"
        " WHERE operation = {operation:String} AND region = {region:String} AND scope_id IN {scopes:Array(String)}",
        {"operation": keys[0].operation, "region": keys[0].region, "scopes": [key.scope_id for key in keys]},
    )


async def stored_gaps(store: Store, keys: Sequence[StreamKey]) -> dict[str, list[tuple[Window, str]]]:
    """The open gaps that the store shows of streams of one operation, by scope."""
    rows = await store.fetch(
        "SELECT scope_id, toUnixTimestamp(start), toUnixTimestamp(end), reason FROM gaps WHERE state = 'open'"
        " AND operation = {operation:String} AND region = {region:String} AND scope_id IN {scopes:Array(String)}"
        " ORDER BY scope_id, start, end",
        {"operation": keys[0].operation, "region": keys[0].region, "scopes": [key.scope_id for key in keys]},
    )
    found: dict[str, list[tuple[Window, str]]] = {}
    for scope, start, end, reason in rows:
        found.setdefault(scope, []).append((Window(start, end), reason))
    return found


async def _newest(store: Store, keys: Sequence[StreamKey], tables: Iterable[Table]) -> Mapping[StreamKey, int]:
    """When the newest row was that the store has of a stream, or of its target; none is left out."""
    newest: dict[StreamKey, int] = {}
    for table in tables:
        source, scope = table.sources.get(keys[0].operation, ""), table.stream_scope_sql(keys[0].operation)
        rows = await store.fetch(
            f"SELECT {scope}, toUnixTimestamp(max({table.time_column})) FROM {table.name}"
            f" WHERE region = {{region:String}} AND {scope} IN {{scopes:Array(String)}}"
            f"{' AND source = {source:String}' if source else ''} GROUP BY 1",
            {"region": keys[0].region, "scopes": sorted({table.scope_of(key) for key in keys}), "source": source},
        )
        times = dict(rows)
        for key in keys:
            if (scope := table.scope_of(key)) in times:
                newest[key] = max(newest.get(key, 0), times[scope])
    # A row that the store refused is a dead letter, of its target alone. It is not newer than the letter.
    letters = await store.fetch(
        "SELECT scope_id, toUnixTimestamp(max(observed_at)) FROM dead_letters"
        " WHERE region = {region:String} AND scope_id IN {scopes:Array(String)} GROUP BY 1",
        {"region": keys[0].region, "scopes": sorted({name for key in keys for name in (key.scope_id, key.target_id)})},
    )
    times = dict(letters)
    for key in keys:
        for scope in {key.scope_id, key.target_id} & times.keys():
            newest[key] = max(newest.get(key, 0), times[scope])
    return newest


async def adopt_spend(journal: Journal, store: Store, region: str, now: int) -> None:
    """Start this billing month's spend from what the store has of it, in a journal that has not seen the month.

    The journal's own calls of the month that are shipped already are part of the store's sum, so this
    happens once a month and journal, before its first call of the month.
    """
    month = billing_month(now)
    if await journal.meta(f"month {month}") or await journal.spend(month):
        return
    rows = await store.fetch(
        "SELECT operation, sum(calls), toString(sum(cost_cny)) FROM api_calls"
        " WHERE region = {region:String} AND minute >= {start:UInt32} GROUP BY operation",
        {"region": region, "start": month_start(now)},
    )
    spent = [(operation, int(calls), Decimal(cost)) for operation, calls, cost in rows]
    await journal.load_month(month, spent)
    await journal.set_meta(**{f"month {month}": 1})
