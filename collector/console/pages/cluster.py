"""The processes that collect an account together, and what this one runs with: quota, memory, store, clock."""

from __future__ import annotations

import asyncio
import platform
import resource
import socket
import sys
from collections.abc import Sequence
from typing import Final

from collector import __version__
from collector.catalogue.operations import CATALOGUE
from collector.console.page import PageRequest
from collector.console.period import iso
from collector.console.store import Answer, failure_of
from collector.console.table import Column, Kind, Row, Table, View
from collector.errors import CollectorError
from collector.journal.schema import FORMAT
from collector.owner.instance import Owner
from collector.owner.journals import FRESH_SECONDS, JournalState, KnownJournal, read_journals
from collector.owner.streams import operations_of
from collector.shares import Share
from collector.store.migrate import load_migrations
from collector.units import rough_duration, rough_size

JOURNALS_MAX: Final = 500
ALIVE: Final = "alive"
SILENT: Final = "silent"
MISSING: Final = "missing"
ORDER: Final = (ALIVE, MISSING, SILENT, "holding", "drained", "forgotten")

SHARDS: Final = (
    Column("shard", "shard", Kind.CODE),
    Column("state", "state", Kind.STATE),
    Column("heartbeat_age_seconds", "last heard", Kind.DURATION, hint="since the last heartbeat that the store has"),
    Column("host", "host"),
    Column("version", "version", hint="of this process; the others do not say theirs"),
    Column("quota_percent", "part of each quota", Kind.PERCENT),
    Column("region", "region"),
    Column("id", "journal", Kind.CODE),
    Column("told", "what that means"),
)
QUOTAS: Final = (
    Column("operation", "operation", Kind.CODE),
    Column("account_per_second", "account, a second", Kind.NUMBER),
    Column("part_per_second", "this process, a second", Kind.NUMBER),
    Column("origin", "from"),
)
FACTS: Final = (Column("what", "what"), Column("value", "value"), Column("meaning", "what it means"))

MEANINGS: Final = {
    ALIVE: "collects its part",
    SILENT: f"no heartbeat for {FRESH_SECONDS} s: it died, or cannot reach the store; its streams wait for it",
    MISSING: "no process has this part: its streams are not collected",
    "holding": "ended, or has another part now, with rows that are not in the store; its streams wait for it",
    "drained": "ended, and holds nothing",
    "forgotten": "was given up; if it comes back, what it holds is compared",
}


async def cluster(asked: PageRequest) -> View:
    owner = asked.owner
    (journals, failure), own_id, version, migrations = await asyncio.gather(
        _journals(owner),
        owner.journal.meta("id"),
        asked.store.own("engine_version"),
        asked.store.own("migrations_applied"),
    )
    rows = _shards(owner, journals, str(own_id), asked.now)
    return View(
        "cluster.html",
        {
            "told": _told(owner, rows, failure),
            "is_alone": owner.settings.share.is_alone,
            "shards": Table(
                "shards",
                "Processes and their journals",
                SHARDS,
                rows[:JOURNALS_MAX],
                "the store knows no journal yet",
                failure,
                note=f"{JOURNALS_MAX} of {len(rows):,}" if len(rows) > JOURNALS_MAX else "",
            ),
            "quotas": Table("quotas", "Quota parts", QUOTAS, _quotas(owner), "no operation is called"),
            "store": Table("store", "Store", FACTS, _store(owner, version, migrations)),
            "memory": Table("memory", "Memory", FACTS, _memory(owner)),
            "clock": Table("clock", "Clock", FACTS, _clock(owner, asked.now)),
            "versions": Table("versions", "Versions", FACTS, _versions(version)),
        },
    )


async def _journals(owner: Owner) -> tuple[list[KnownJournal], str]:
    try:
        return await read_journals(owner.store), ""
    except CollectorError as error:
        return [], failure_of(error)


def _shards(owner: Owner, journals: Sequence[KnownJournal], own_id: str, now: int) -> list[Row]:
    share, region, is_only = owner.settings.share, owner.settings.api.region, owner.membership.is_exclusive
    rows: list[Row] = []
    for one in journals:
        is_this = one.id == own_id and one.share == share
        state = str(one.state)
        if one.state is JournalState.COLLECTING:
            # Who has the store alone sends no heartbeats: nobody could read them.
            state = ALIVE if one.is_fresh(now) or (is_this and is_only) else SILENT
        told = one.as_dict(now) | ({"heartbeat_age_seconds": None} if is_only else {})
        rows.append(
            {
                **told,
                "state": state,
                "told": ("this process; " if is_this else "") + MEANINGS[state],
                "is_this": is_this,
                "version": __version__ if is_this else None,
                "quota_percent": round(100 / one.share.of, 1) if state == ALIVE else None,
            }
        )
    present = {row["shard"] for row in rows if row["region"] == region and row["state"] in (ALIVE, SILENT)}
    for index in range(share.of if journals else 0):
        shard = str(Share(index, share.of))
        if shard not in present:
            rows.append(
                dict.fromkeys((column.name for column in SHARDS), None)
                | {"shard": shard, "state": MISSING, "region": region, "told": MEANINGS[MISSING], "is_this": False}
            )
    rows.sort(key=lambda row: (row["region"] != region, ORDER.index(row["state"]), _shard_key(row["shard"])))
    return rows


def _shard_key(shard: str) -> tuple[int, int]:
    index, _, of = shard.partition("/")
    return int(of), int(index)


def _told(owner: Owner, rows: Sequence[Row], failure: str) -> str:
    share = owner.settings.share
    if share.is_alone:
        alone = "One process collects everything: this one, with the whole of each quota."
        others = [row for row in rows if not row["is_this"] and row["state"] in (ALIVE, SILENT, "holding")]
        return alone + (f" {len(others):,} other journals are not drained." if others else "")
    text = f"This process is shard {share}: it collects a part of the streams, with its part of each quota and budget."
    if failure:
        return text
    mine = [row for row in rows if row["shard"].endswith(f"/{share.of}") and row["region"] == owner.settings.api.region]
    alive = len({row["shard"] for row in mine if row["state"] == ALIVE})
    return f"{text} {alive} of {share.of} shards are alive."


def _quotas(owner: Owner) -> list[Row]:
    quotas = owner.settings.api.quotas
    return [
        {
            "operation": name,
            "account_per_second": quotas.get(name, CATALOGUE[name].quota.per_second),
            "part_per_second": owner.buckets[name].rate_limit,
            "origin": "api.quotas"
            if name in quotas
            else "documented"
            if CATALOGUE[name].quota.documented
            else "assumed",
        }
        for name in dict.fromkeys(operation.name for operation in operations_of(owner.settings))
    ]


def _store(owner: Owner, version: Answer, migrations: Answer) -> list[Row]:
    settings = owner.settings.store
    kind = "ClickHouse server" if settings.url else "embedded engine (chDB), in this process"
    applied, known = migrations.first.get("version"), load_migrations()[-1].version
    return _facts(
        ("kind", kind, "store.url chooses"),
        ("location", owner.store.location, ""),
        ("cluster", settings.cluster or "none", "tables are spread over its machines"),
        ("engine", version.first.get("version") or _unknown(version), ""),
        ("tables", f"version {applied}" if applied else _unknown(migrations), f"this program knows version {known}"),
        ("takes rows", owner.shipping_error or "yes", "the last insert"),
        ("SQL for ClickHouse's clients", owner.sql_address or "none", "service.sql_listen"),
    )


def _unknown(answer: Answer) -> str:
    return f"not known: {answer.failure}" if answer.failure else "not known"


def _memory(owner: Owner) -> list[Row]:
    bounds = owner.bounds
    # Linux counts it in KiB.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return _facts(
        ("limit", rough_size(bounds.limit.bytes), f"what the process may use, set by: {bounds.limit.source}"),
        ("most used so far", rough_size(peak), "resident memory of this process at its peak"),
        ("engine", rough_size(bounds.engine), "the embedded engine refuses work beyond it"),
        ("query", rough_size(bounds.query), "one query or one insert"),
        ("segment", rough_size(bounds.segment), "rows of one insert"),
        ("window", rough_size(bounds.window), "rows of one window that spans more than a second"),
        ("shipping", rough_size(bounds.shipping), "segments that are sent or compared side by side"),
        ("pages", rough_size(bounds.pages), "large answers that are read and decoded side by side"),
        ("fetch", rough_size(bounds.fetch), "result of one of the program's own reads"),
    )


def _clock(owner: Owner, now: int) -> list[Row]:
    clock = owner.server_clock
    offset = clock.difference_seconds
    ahead = "" if round(offset, 1) == 0 else f", this machine is {'behind' if offset > 0 else 'ahead'}"
    return _facts(
        ("time", iso(now), "what windows and watermarks go by"),
        ("source", clock.source, "whose time is used"),
        ("offset", f"{offset:+.1f} s{ahead}", "that time less this machine's"),
        ("settled", "yes" if clock.is_settled else "no", clock.doubt or "nothing speaks against it"),
        ("heartbeat", rough_duration(FRESH_SECONDS), "a process without one for so long counts as silent"),
    )


def _versions(version: Answer) -> list[Row]:
    return _facts(
        ("pai-collector", __version__, ""),
        ("ClickHouse", version.first.get("version") or _unknown(version), ""),
        ("Python", platform.python_version(), sys.executable),
        ("journal format", str(FORMAT), "older ones are brought to it when they are opened"),
        ("host", socket.gethostname(), f"{platform.system()} {platform.release()}, {platform.machine()}"),
    )


def _facts(*facts: tuple[str, str, str]) -> list[Row]:
    return [{"what": what, "value": value, "meaning": meaning} for what, value, meaning in facts]
