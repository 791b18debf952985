"""What the collector promises, as facts about a simulated account, its service and its store."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import msgspec

from collector.clock import STEP_SECONDS_MAX
from collector.errors import CollectorError
from collector.journal.entries import StreamState
from collector.model import StreamKey
from collector.owner.status import status
from collector.pipeline.collecting import GAP_PARTIAL, GAP_TOO_LARGE
from collector.simulator.requests import Call, Refusal, parameters_of, target_of
from collector.simulator.server import Simulator
from collector.simulator.world import ARRIVAL_DELAY_SECONDS_MAX, LateRows, World
from collector.sources.tables import SYSLOGS
from collector.store.embedded import EmbeddedStore
from tests.simulation.history import DATES, History, Kind
from tests.simulation.twin import Twin
from tests.support import SYSLOG_COLUMNS, as_row, differences

if TYPE_CHECKING:
    from tests.simulation.machine import Machine, Shop

MARGIN_SECONDS = 1
"""By so much more is asked than a window spans, on both sides."""
CLOCK_CALL_SECONDS = 3
"""A call that is made for the time alone spans no more, margins included."""
CHANGED = " (as it was corrected)"
REGION = "cn-hangzhou"
LATE_SEQUENCE_MIN = 1_000_000
"""Sequence numbers of late rows begin here."""

TOKENS_ENOUGH = 1000
"""More than are sent in any history."""

_ODD = ',"Odd":'
"""In a record that is set aside because it cannot be read: where the simulator's addition begins."""
_TIME, _NODE, _MSG = (SYSLOG_COLUMNS.index(name) for name in ("time", "node_id", "msg"))
_SYSLOGS_SHOWN = ", ".join(
    f"toUnixTimestamp({name})" if name in ("time", "receive_time") else name for name in SYSLOG_COLUMNS
)
_CHANGED_WITH = frozenset({Kind.POISON, Kind.CURSOR_EXPIRED, Kind.DISORDER, Kind.API_ERRORS})
"""Where one of these happens too, a second whose answer changes may be shown in both versions."""
_GAPS = {Kind.ANSWERS_TOO_LARGE: GAP_TOO_LARGE, Kind.ANSWERS_DENIED: GAP_PARTIAL}
"""What may leave a gap in log lines, and its reason."""

Row = tuple[Any, ...]


class Broken(AssertionError):
    """A promise was not kept."""


class Facts:
    """What a run has to remember so that promises can be checked."""

    def __init__(
        self, world: World, api: Simulator, history: History, quotas: Mapping[str, int], tick_seconds: int
    ) -> None:
        self.world = world
        self.api = api
        self.history = history
        self.quotas = quotas
        self.tick_seconds = tick_seconds
        self.watermarks: dict[tuple[str, str], tuple[int, int, int]] = {}
        """Of each stream, as they were last looked at: collected from, watermark and its generation."""
        self.changed: set[tuple[str, int]] = set()
        """(node, second) whose lines the service shows differently by now."""
        self.unsure: set[tuple[str, int]] = set()
        """Of these, where more has happened than the service's own change."""
        self.is_journal_lost = False
        self.is_quota_cut = False
        kinds = {one.kind for one in history.incidents}
        # While another journal ships in its place, a returning one's tokens may be pushed out of a small memory.
        # So may others, where a wrong time brings calls of two months.
        pushes_out = Kind.OLD_JOURNAL in kinds or bool(kinds & DATES)
        is_pushed_out = pushes_out and history.tokens_max < TOKENS_ENOUGH
        self.is_token_forgotten = Kind.TOKENS_FORGOTTEN in kinds or is_pushed_out
        self._asked: dict[int, set[str]] = {}

    def add_late(self, rows: LateRows) -> None:
        for record in self.world.add_late(rows):
            if (rows.node_id, record.time) in self.changed:
                self.unsure.add((rows.node_id, record.time))

    def change_answer(self, now: int, random: Random) -> None:
        """From now on the service tells some recent seconds of a node in other words."""
        node = random.choice(self.world.node_ids)
        for second in self.world.active_seconds(node, now - 200, now - random.randint(0, 100)):
            if random.random() < 0.5:
                self.changed.add((node, second))
                is_late = any(r.sequence >= LATE_SEQUENCE_MIN for r in self.world.records(node, second))
                if is_late or any(one.kind in _CHANGED_WITH for one in self.history.incidents):
                    self.unsure.add((node, second))

    def rewritten(self, path: str, body: bytes) -> bytes:
        """An answer as the service gives it after its changes."""
        if not self.changed or b'"Logs"' not in body:
            return body
        try:
            answer = msgspec.json.decode(body)
        except msgspec.DecodeError:
            return body
        for record in answer["Logs"]:
            if (record["NodeId"], int(record["Time"])) in self.changed:
                record["Msg"] += CHANGED
        return msgspec.json.encode(answer)

    def asked_by(self, machine: Machine) -> Callable[[Call], None]:
        """Looks at the first request for each node after a start: what is in the journal is not asked again."""

        def asked(call: Call) -> None:
            try:
                target = target_of(call)
            except Refusal:
                # It only looks at the clock.
                return
            if target.operation.name != SYSLOGS.operation:
                return
            if self.history.is_misdated:
                # It is collected again.
                return
            parameters = parameters_of(target, call)
            node = parameters["NodeId"]
            seen = self._asked.setdefault(id(machine.found), set())
            if node in seen:
                return
            state = machine.found.get(StreamKey(SYSLOGS.operation, REGION, node))
            if state is None or state.sealed_to is None:
                seen.add(node)
                return
            start, allowed = int(parameters["FromTime"]), _resumptions(state)
            if (start, parameters.get("NextToken") or None) in allowed:
                seen.add(node)
            elif int(parameters["ToTime"]) - start > CLOCK_CALL_SECONDS:
                # A shorter one is only asked for the time.
                expected = sorted(allowed, key=str)
                raise Broken(f"P3: {node} is asked for {parameters}, expected is a start and cursor of {expected}")

        return asked


def _resumptions(state: StreamState) -> set[tuple[int, str | None]]:
    """Start and cursor of what may be asked first after a start: one of the open windows, or else what comes next."""
    if state.open:
        return {(window.window.start - MARGIN_SECONDS, window.cursor) for window in state.open.values()}
    begins = {state.sealed_to, *state.rechecks.values()}
    return {(begin - MARGIN_SECONDS, None) for begin in begins if begin is not None}


# Checks


async def check(facts: Facts, shop: Shop, machines: Sequence[Machine], *, is_final: bool) -> None:
    """Every promise that can be looked at at this moment. Raises Broken."""
    store = shop.store
    marks = await _watermarks(facts, store, is_final=is_final)
    rechecked = await _rechecked(machines) if is_final else {}
    if is_final or not facts.history.is_ever_ahead:
        await _check_syslogs(facts, store, marks, rechecked)
        await _check_snapshots(facts, store, marks)
    for operation, limit in facts.quotas.items():
        most = facts.api.max_in_any_second(operation)
        if most > limit:
            raise Broken(f"P4: {most} calls of {operation} in a second, the quota is {limit}")
        if facts.api.stats[operation].refused and not facts.is_quota_cut:
            raise Broken(f"P4: calls of {operation} over the quota were refused")
    if is_final:
        await _check_meter(facts, store, machines)


async def check_wellness(facts: Facts, machines: Sequence[Machine]) -> None:
    """No service is well whose streams are collected beyond the present. Raises Broken."""
    if any(one.kind is Kind.CLOCK_STEP for one in facts.history.incidents):
        # Where machine and service are wrong together, nothing shows it.
        return
    for machine in machines:
        if not machine.is_up:
            continue
        try:
            told = await status(machine.owner)
        except CollectorError:
            continue
        now = facts.api.now()
        if told.is_well:
            for state in (await machine.owner.journal.streams()).values():
                ahead = (state.watermark or 0) - now
                if ahead > STEP_SECONDS_MAX + 1:
                    raise Broken(f"P11: all is well, and {state.key} is {ahead:.0f} s ahead of now")


async def _watermarks(facts: Facts, store: Any, *, is_final: bool) -> dict[tuple[str, str], tuple[int, int]]:
    rows = await store.fetch(
        "SELECT operation, scope_id, toUnixTimestamp(collected_from), toUnixTimestamp(watermark), generation"
        " FROM watermarks"
    )
    now = facts.api.now()
    marks = {(operation, scope): (start, end, generation) for operation, scope, start, end, generation in rows}
    for stream, (start, end, generation) in marks.items():
        settle = facts.history.settle if stream[0] == SYSLOGS.operation else 0
        if end > now - settle + 1 and (is_final or not facts.history.is_ever_ahead):
            raise Broken(f"P2: the watermark of {stream} is {end}, {now - end:.0f} s behind now, settle is {settle} s")
        before = facts.watermarks.get(stream, (start, end, 0))
        # A generation begins where the service's time went back, and what was sealed before it did is looked at again.
        is_set_back = generation > before[2]
        if is_set_back and not facts.history.is_misdated:
            raise Broken(f"P2: {stream} was set back from {before[1]} to {end}, and its time never went back")
        if (end < before[1] and not is_set_back) or start > before[0]:
            raise Broken(f"P2: {stream} was covered from {before[0]} to {before[1]}, and is from {start} to {end}")
    if lost := facts.watermarks.keys() - marks.keys():
        raise Broken(f"P2: {lost} have no watermark any more")
    facts.watermarks = marks
    return {stream: (start, end) for stream, (start, end, _) in marks.items()}


async def _rechecked(machines: Sequence[Machine]) -> dict[str, int]:
    """Node -> up to where every recheck was made, as the journals told at the end."""
    return {
        key.scope_id: max(state.rechecks.values(), default=0) and state.rechecks[max(state.rechecks)]
        for machine in machines
        for key, state in machine.at_end.items()
        if key.operation == SYSLOGS.operation
    }


async def _check_syslogs(
    facts: Facts, store: Any, marks: dict[tuple[str, str], tuple[int, int]], rechecked: dict[str, int]
) -> None:
    stored: Counter[Row] = Counter()
    set_aside: set[Row] = set()
    is_told_twice = any(one.kind is Kind.ODD_RECORDS for one in facts.history.incidents)
    for told in await store.fetch(f"SELECT {_SYSLOGS_SHOWN} FROM syslogs"):
        stored[_plain(facts, told)] += 1
    for operation, reason, record in await store.fetch("SELECT operation, reason, record FROM dead_letters"):
        if operation == SYSLOGS.operation and reason.startswith("refused by the store"):
            row = _plain(facts, msgspec.json.decode(record.encode())[: len(SYSLOG_COLUMNS)])
            if is_told_twice:
                # The store may have refused a record as it was told once and taken it as it was told later.
                set_aside.add(row)
            else:
                stored[row] += 1
        elif operation == SYSLOGS.operation and _ODD in record:
            wire = msgspec.json.decode(record[: record.index(_ODD)] + "}")
            set_aside.add(_plain(facts, as_row(wire, wire["NodeId"])))
    excused = {reason for kind, reason in _GAPS.items() if any(one.kind is kind for one in facts.history.incidents)}
    gaps = [
        (node, start, end)
        for operation, node, start, end, reason in await store.fetch(
            "SELECT operation, scope_id, toUnixTimestamp(start), toUnixTimestamp(end), reason FROM gaps"
        )
        if operation == SYSLOGS.operation and reason in excused
    ]
    delay = max(facts.history.rechecks, default=0)
    now = facts.api.now()
    wanted: Counter[Row] = Counter()
    possible: Counter[Row] = Counter()
    bounds = {}
    for node in facts.world.node_ids:
        mark = marks.get((SYSLOGS.operation, node))
        if mark is None:
            continue
        bounds[node] = mark
        for record in facts.world.truth(node, *mark):
            if (node, record.time) in facts.unsure or record.visible_at > now:
                continue
            row = as_row(record.wire, node)
            possible[row] += 1
            if any(scope == node and start <= record.time < end for scope, start, end in gaps):
                continue
            is_late = record.visible_at > record.time + ARRIVAL_DELAY_SECONDS_MAX
            if not is_late or (record.visible_at <= record.time + delay and record.time < rechecked.get(node, 0)):
                wanted[row] += 1
    covered = Counter(
        {
            row: count
            for row, count in stored.items()
            if row[_NODE] in bounds
            and bounds[row[_NODE]][0] <= row[_TIME] < bounds[row[_NODE]][1]
            and (row[_NODE], row[_TIME]) not in facts.unsure
        }
    )
    wanted = Counter({row: count for row, count in wanted.items() if row not in set_aside})
    if wanted - covered:
        raise Broken(f"P1: lines behind the watermark are not stored: {differences(wanted, wanted & covered)}")
    if covered - possible:
        extra = differences(possible, possible | covered)
        raise Broken(f"P1: lines are stored that the service did not give so often: {extra}")


def _plain(facts: Facts, row: Sequence[Any]) -> Row:
    """A row in the words in which the service told it first."""
    values = list(row)
    if (values[_NODE], values[_TIME]) in facts.changed:
        values[_MSG] = values[_MSG].removesuffix(CHANGED)
    return tuple(values)


async def _check_snapshots(facts: Facts, store: Any, marks: dict[tuple[str, str], tuple[int, int]]) -> None:
    stored: dict[tuple[str, int], list[Row]] = {}
    for group, time, *row in await store.fetch(
        "SELECT resource_group_id, toUnixTimestamp(time), user_id, job_type, request_gpu, cpu_usage_rate"
        " FROM user_metrics"
    ):
        stored.setdefault((group, time), []).append(tuple(row))
    summaries = Counter(
        (group, time)
        for group, time in await store.fetch(
            "SELECT resource_group_id, toUnixTimestamp(time) FROM resource_group_metrics"
        )
    )
    if twice := [place for place, count in summaries.items() if count > 1]:
        raise Broken(f"P1: summaries are stored more than once: {twice[:3]}")
    gaps = [
        (scope, start, end)
        for operation, scope, start, end, state in await store.fetch(
            "SELECT operation, scope_id, toUnixTimestamp(start), toUnixTimestamp(end), state FROM gaps"
        )
        if operation == "GetUserViewMetrics" and state == "open"
    ]
    is_misdated = facts.history.is_misdated
    for (group, tick), rows in stored.items():
        if is_misdated:
            if len({row[:2] for row in rows}) != len(rows):
                raise Broken(f"P1: the snapshot of {group} at {tick} holds some users twice")
            continue
        truth = _snapshot(facts, group, tick)
        if len(set(rows)) != len(rows) or not set(rows) <= truth:
            raise Broken(f"P1: the snapshot of {group} at {tick} holds other users than it had, or some twice")
    step = facts.tick_seconds
    for group in facts.world.group_ids:
        start, end = marks.get(("GetUserViewMetrics", group), (0, 0))
        for tick in range(-(-start // step) * step, end, step):
            if any(scope == group and low <= tick < high for scope, low, high in gaps):
                continue
            is_whole = set(stored.get((group, tick), ())) == _snapshot(facts, group, tick)
            if not (is_whole or is_misdated) or not summaries[group, tick]:
                raise Broken(f"P1: the snapshot of {group} at {tick} is not stored, and no gap says so")


def _snapshot(facts: Facts, group: str, tick: int) -> set[Row]:
    users: dict[tuple[str, str], Row] = {}
    for user in facts.world.snapshot(group, tick)["UserMetrics"]:
        key = (user["UserId"], user["JobType"])
        users.setdefault(key, (*key, user["RequestGPU"], float(user["CPUUsageRate"])))
    return set(users.values())


async def _check_meter(facts: Facts, store: Any, machines: Sequence[Machine]) -> None:
    metered: Counter[str] = Counter()
    for operation, calls in await store.fetch("SELECT operation, calls FROM api_calls"):
        metered[operation] += calls
    unknown = sum(machine.unknown_calls for machine in machines)
    for operation, stats in facts.api.stats.items():
        ahead = metered[operation] - stats.calls
        # Parts of the meter cannot be compared: one whose token is forgotten may be entered twice, never not at all.
        if (ahead > unknown and not facts.is_token_forgotten) or (ahead < 0 and not facts.is_journal_lost):
            raise Broken(
                f"P5: {metered[operation]} calls of {operation} are metered, {stats.calls} were served, "
                f"{unknown} were unsettled at crashes"
            )


async def behind(facts: Facts, shop: Shop, machines: Sequence[Machine], until: float) -> str:
    """Which stream is not collected, shipped and rechecked up to a time; empty when all are."""
    known: dict[StreamKey, StreamState] = {}
    for machine in machines:
        if not machine.is_on:
            continue
        if not machine.is_up:
            return "a service that does not come up"
        share = machine.owner.settings.share
        for key, state in (await machine.owner.journal.streams()).items():
            if share.owns(key):
                known[key] = state
                if machine.service._watch.is_due(state):
                    return f"{key} is still to be set back"
    marks = {
        (operation, scope): end
        for operation, scope, end in await shop.store.fetch(
            "SELECT operation, scope_id, toUnixTimestamp(watermark) FROM watermarks"
        )
    }
    wanted = [(SYSLOGS.operation, node, facts.history.settle) for node in facts.world.node_ids]
    wanted += [("GetUserViewMetrics", group, facts.tick_seconds) for group in facts.world.group_ids]
    for operation, scope, settle in wanted:
        state = known.get(StreamKey(operation, REGION, scope))
        if state is None:
            return f"{operation} of {scope} is nobody's"
        reached = [state.sealed_to or 0, marks.get((operation, scope), 0), *state.rechecks.values()]
        ahead = max(reached[:2]) - facts.api.now() + (settle if operation == SYSLOGS.operation else 0)
        if facts.history.is_ever_ahead and ahead > 1:
            return f"{operation} of {scope}: {ahead:.0f} s ahead of now"
        if min(reached) < until - settle:
            return f"{operation} of {scope}: {[round(until - each) for each in reached]} s, {state.error or 'well'}"
    return ""


def check_written(lines: Sequence[str], folder: Path, store: EmbeddedStore | Twin, key: str) -> None:
    """Nothing that was written holds the key, and nothing that was logged is a fault of the program."""
    for event in ("look_failed_unexpectedly", "journal_set_aside"):
        if found := [line for line in lines if f"'{event}'" in line]:
            place = lines.index(found[0])
            raise Broken(f"{found[0]} {lines[place + 1] if event.startswith('look') else ''}")
    if any(key in line for line in lines):
        raise Broken("P7: the key was logged")
    for path in folder.rglob("*"):
        if path.is_file() and key.encode() in path.read_bytes():
            raise Broken(f"P7: the key is in {path.name}")
    if key in repr(everything(store)):
        raise Broken("P7: the key is in the store")


def everything(store: EmbeddedStore | Twin) -> list[list[Any]]:
    """All rows of all tables, in an order of their own."""
    if isinstance(store, Twin):
        return [[name, *row] for name in sorted(store.tables) for row in sorted(store.tables[name], key=repr)]
    rows = []
    for table in ("syslogs", "user_metrics", "watermarks", "gaps"):
        rows += asyncio.run(store.fetch(f"SELECT * FROM {table} ORDER BY ALL"))
    return rows
