"""The simulated world: what every node logged in every second, and who used which group.

Nothing is stored. What a node said in a second is a pure function of (seed, node, second), so the
truth of any window is known without having been written down, and history reaches as far back as
anyone asks. Only late rows are state: they are put in by a test.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import Any, NamedTuple

from collector.catalogue.products.eflo_controller import SyslogRecord
from collector.simulator import usage
from collector.simulator.hashing import MASK_64, key_of, mix, poisson_table
from collector.simulator.nodes import EVERYDAY_TABLE, STORMS, TABLE, Line, Node, Profile, make_nodes
from collector.simulator.wire import wire_record

ARRIVAL_DELAY_SECONDS_MAX = 20
"""A record can be read at most this long after its event, unless it is a late row."""

PACK_SECONDS = 5
"""A node's log shipper sends the lines of so many seconds as one pack."""

BURST_LINES_A_SECOND = (50, 400)
BURST_SECONDS = (2, 8)
_BURST_BLOCK_SECONDS = 1800
_BURST_ONE_IN = {Profile.QUIET: 12, Profile.NORMAL: 4, Profile.BUSY: 2}
"""Of so many half hours of a node, one has a burst."""

_LINES_A_SECOND = {Profile.NORMAL: 0.3, Profile.BUSY: 4.0}
_QUIET_LINES_A_MINUTE = 1 / 3

LONG_LINES_MAX = 20_000
"""Long lines of one stretch in a second."""
_LONG_SEQUENCE = 500_000
_LATE_SEQUENCE = 1_000_000
"""Late rows stand behind all others of their second."""

_STEP = 0x9E3779B97F4A7C15
_LAYOUT = 0x6C61796F7574
_BURST = 0x6275727374
_FAULTY_ONE_IN, _FAULTY_FIRST = 6, 1
_HEALTHY_MASK = 0x3FF
"""In a calm world, one in 1,024 lines of a healthy node may be a fault."""


class Record(NamedTuple):
    """One log line. `(time, sequence)` is unique for a node and is the service's order."""

    time: int
    """Event time, seconds since the epoch."""
    sequence: int
    visible_at: int
    """The second from which the service returns it."""
    wire: dict[str, str]
    """The 18 fields of `ListSyslogs` `Logs[]`, spelled as the service does."""


@dataclass(frozen=True, slots=True)
class LateRows:
    """`count` more records of a node, in `start <= Time < end`, that nobody can read before `visible_at`."""

    node_id: str
    start: int
    end: int
    count: int
    visible_at: int

    def __post_init__(self) -> None:
        if self.start >= self.end or self.count < 0:
            raise ValueError(f"late rows need start < end and count >= 0, got {self}")
        if self.visible_at < self.end - 1:
            raise ValueError(f"late rows are read after they happened: visible_at {self.visible_at}, end {self.end}")


@dataclass(frozen=True, slots=True)
class LongLines:
    """More lines of a node: `per_second` in every second of `start <= Time < end`, each with a message of `bytes`.

    With `is_equal` all lines of a second are the same.
    """

    node_id: str
    start: int
    end: int
    per_second: int
    bytes: int
    is_equal: bool = False

    def __post_init__(self) -> None:
        if self.start >= self.end or not 1 <= self.per_second <= LONG_LINES_MAX or self.bytes < 1:
            most = f"{LONG_LINES_MAX:,}"
            raise ValueError(f"long lines need start < end, 1 to {most} a second and bytes >= 1, got {self}")


class World:
    """A PAI account: nodes that log, resource groups that are used.

    `density` multiplies how much is logged; `bursts=False` leaves the storms out. Every node logs
    faults by the minute, which tests need; with `calm=True` only one in six does, as in a real
    cluster, and the others log one now and then. With
    `lines_per_second` all nodes log alike, at that rate. `users_per_group` fixes the number of
    records in a snapshot (they share somewhat fewer user ids); without it a group has 3 to 40.
    """

    def __init__(
        self,
        seed: int,
        node_count: int = 20,
        group_count: int = 2,
        *,
        users_per_group: int | None = None,
        nodes_per_cluster: int = 500,
        density: float = 1.0,
        bursts: bool = True,
        calm: bool = False,
        lines_per_second: float | None = None,
        late: Iterable[LateRows] = (),
        long: Iterable[LongLines] = (),
    ) -> None:
        self.seed = seed
        self._nodes = {node.node_id: node for node in make_nodes(seed, node_count, nodes_per_cluster)}
        self._groups = {group.group_id: group for group in usage.make_groups(seed, group_count, users_per_group)}
        self._bursts = bursts
        self._healthy = {
            node_id for number, node_id in enumerate(self._nodes) if calm and number % _FAULTY_ONE_IN != _FAULTY_FIRST
        }
        self._tables = _count_tables(density, lines_per_second)
        self._uniform = lines_per_second is not None
        self._late: dict[str, dict[int, list[Record]]] = {}
        self._late_given: dict[str, int] = {}
        # Neighbouring pages and seconds ask for the same minute; the answer can never change.
        self._minute = lru_cache(maxsize=16_384)(self._lay_out_minute)
        for rows in late:
            self.add_late(rows)
        self._long: dict[str, list[LongLines]] = {}
        for lines in long:
            self.add_long(lines)

    @property
    def node_ids(self) -> list[str]:
        return list(self._nodes)

    @property
    def nodes(self) -> list[Node]:
        return list(self._nodes.values())

    @property
    def group_ids(self) -> list[str]:
        return list(self._groups)

    @property
    def groups(self) -> list[usage.Group]:
        return list(self._groups.values())

    def has_node(self, node_id: str) -> bool:
        return node_id in self._nodes

    def has_group(self, group_id: str) -> bool:
        return group_id in self._groups

    def profile(self, node_id: str) -> Profile:
        """How talkative the node is. KeyError for a node that does not exist."""
        return self._nodes[node_id].profile

    def late_version(self, node_id: str) -> int:
        """Changes whenever late rows are put into the node's history; for those who cache it."""
        return self._late_given.get(node_id, 0)

    def add_late(self, rows: LateRows) -> list[Record]:
        """Put late rows into a node's history; returns them.

        They depend on (seed, rows, how many were added to the node before). KeyError for a node
        that does not exist.
        """
        node = self._nodes[rows.node_id]
        ordinal = self._late_given.get(rows.node_id, 0)
        self._late_given[rows.node_id] = ordinal + 1
        base = key_of("late", self.seed, rows, ordinal)
        seconds = self._late.setdefault(rows.node_id, {})
        added = []
        for place in range(rows.count):
            h = mix(base + place * _STEP)
            second = rows.start + h % (rows.end - rows.start)
            frame = _frame(node, second, rows.visible_at, pack=rows.visible_at // PACK_SECONDS)
            wire = _wire(frame, node, h, TABLE[mix(h) & 1023])
            record = Record(second, _LATE_SEQUENCE * (ordinal + 1) + place, rows.visible_at, wire)
            seconds.setdefault(second, []).append(record)
            added.append(record)
        return added

    def add_long(self, lines: LongLines) -> None:
        """Let a node log long lines. KeyError for a node that does not exist."""
        self._long.setdefault(self._nodes[lines.node_id].node_id, []).append(lines)

    def active_seconds(self, node_id: str, first: int, last: int) -> Iterator[int]:
        """The seconds of the closed range `[first, last]` in which the node logged anything, ascending."""
        node = self._nodes[node_id]
        late = self._late.get(node_id, {})
        long = self._long.get(node_id, ())
        for minute in range(first // 60, last // 60 + 1):
            seconds: Iterable[int] = self._minute(node, minute)
            if late or long:
                whole = range(minute * 60, minute * 60 + 60)
                more = {s for s in whole if s in late or any(lines.start <= s < lines.end for lines in long)}
                seconds = sorted({*seconds, *more})
            for second in seconds:
                if first <= second <= last:
                    yield second

    def records(self, node_id: str, second: int) -> list[Record]:
        """All records of the node with this event time, visible or not, late ones last."""
        node = self._nodes[node_id]
        records = self._generate(node, second, self._minute(node, second // 60).get(second, 0))
        for number, lines in enumerate(self._long.get(node_id, ())):
            if lines.start <= second < lines.end:
                records += self._long_records(node, second, lines, _LONG_SEQUENCE + number * LONG_LINES_MAX)
        return records + self._late.get(node_id, {}).get(second, [])

    def _long_records(self, node: Node, second: int, lines: LongLines, first: int) -> list[Record]:
        visible_at = second + PACK_SECONDS
        frame = _frame(node, second, visible_at, second // PACK_SECONDS)
        found = []
        for place in range(lines.per_second):
            wire = frame.copy()
            wire["Msg"] = _long_message(
                key_of("long", self.seed, node.key, second, 0 if lines.is_equal else place), lines.bytes
            )
            found.append(Record(second, first + place, visible_at, wire))
        return found

    def window(self, node_id: str, first: int, last: int, now: int) -> list[Record]:
        """What the service returns at `now` for the closed range `[first, last]`, by time, then sequence."""
        return [
            record
            for second in self.active_seconds(node_id, first, last)
            for record in self.records(node_id, second)
            if record.visible_at <= now
        ]

    def truth(self, node_id: str, start: int, end: int) -> list[Record]:
        """Every record with `start <= Time < end`, whenever it becomes visible."""
        return [r for second in self.active_seconds(node_id, start, end - 1) for r in self.records(node_id, second)]

    def snapshot(self, group_id: str, second: int, *, time_step: str = "5m", workspace: str = "") -> dict[str, Any]:
        """The whole answer of `GetUserViewMetrics` in the minute of `second`: all users, or a workspace's, on one page.

        A pure function of (seed, group, minute, time step). KeyError for a group that does not
        exist, ValueError for a time step that is none.
        """
        whole = usage.snapshot(self._groups[group_id], second // 60, usage.parse_time_step(time_step))
        if not workspace:
            return whole
        users = [user for user in whole["UserMetrics"] if usage.workspace_of(self.seed, user["UserId"]) == workspace]
        return whole | {
            "UserMetrics": users,
            "Summary": usage.summary(self._groups[group_id], users),
            "Total": len(users),
        }

    def _lay_out_minute(self, node: Node, minute: int) -> dict[int, int]:
        """How many lines each second of a minute holds; seconds without any are left out."""
        start = minute * 60
        base = mix(node.key ^ (minute * _STEP & MASK_64) ^ _LAYOUT)
        counts: dict[int, int] = {}
        if node.profile is Profile.QUIET and not self._uniform:
            lines = self._tables[Profile.QUIET][base & 63]
            for place in range(lines):
                second = start + mix(base + place) % 60
                counts[second] = counts.get(second, 0) + 1
        else:
            table = self._tables[node.profile]
            for ten in range(6):
                h = mix(base + ten)
                for one in range(10):
                    if count := table[h & 63]:
                        counts[start + ten * 10 + one] = count
                    h >>= 6
        burst = self._burst(node, start)
        if burst is not None:
            first, last, lines, _ = burst
            for second in range(max(first, start), min(last, start + 59) + 1):
                counts[second] = counts.get(second, 0) + lines
        return dict(sorted(counts.items()))

    def _burst(self, node: Node, second: int) -> tuple[int, int, int, Line] | None:
        """First and last second, lines a second and line of the burst in the half hour of `second`."""
        if not self._bursts or node.node_id in self._healthy:
            return None
        block = second // _BURST_BLOCK_SECONDS
        h = mix(node.key ^ (block * _STEP & MASK_64) ^ _BURST)
        if h % _BURST_ONE_IN[node.profile]:
            return None
        low, high = BURST_SECONDS
        seconds = low + (h >> 24) % (high - low + 1)
        # A burst never reaches into the next half hour, so a second has to look at its own only.
        first = block * _BURST_BLOCK_SECONDS + (h >> 8) % (_BURST_BLOCK_SECONDS - high)
        low, high = BURST_LINES_A_SECOND
        return first, first + seconds - 1, low + (h >> 32) % (high - low + 1), STORMS[(h >> 48) % len(STORMS)]

    def _generate(self, node: Node, second: int, count: int) -> list[Record]:
        if not count:
            return []
        pack = second // PACK_SECONDS
        pack_hash = mix(node.key + pack)
        # A pack leaves when its last second is over, so all its lines become visible together.
        slack = ARRIVAL_DELAY_SECONDS_MAX - PACK_SECONDS + 2
        visible_at = pack * PACK_SECONDS + PACK_SECONDS - 1 + pack_hash % slack
        burst = self._burst(node, second)
        storm = burst[3] if burst is not None and burst[0] <= second <= burst[1] else None
        base = mix(node.key ^ (second * _STEP & MASK_64))
        frame = _frame(node, second, visible_at, pack)
        records: list[Record] = []
        for sequence in range(count):
            h = mix(base + sequence)
            if sequence and not h & 31:
                # Two equal lines in one second are legitimate: a daemon that says it twice.
                records.append(records[-1]._replace(sequence=sequence))
                continue
            if node.node_id in self._healthy and h >> 4 & _HEALTHY_MASK:
                line = EVERYDAY_TABLE[h >> 54]
            else:
                line = storm if storm is not None and h & 15 else TABLE[h >> 54]
            records.append(Record(second, sequence, visible_at, _wire(frame, node, h, line)))
        return records


def _frame(node: Node, second: int, receive_time: int, pack: int) -> dict[str, str]:
    """A wire record with all that the lines of one second share; the rest is empty."""
    return wire_record(
        SyslogRecord,
        cluster_id=node.cluster_id,
        domain=node.domain,
        facility="",
        hostname=node.hostname,
        ip=node.ip,
        msg="",
        node_id=node.node_id,
        severity="",
        sn=node.sn,
        source=node.hostname,
        syslogtag="",
        tag_hostname=node.hostname,
        tag_pack_id=f"{node.pack_prefix}-{pack:X}",
        tag_path="",
        tag_receive_time=str(receive_time),
        tag_user_defined_id=node.user_defined_id,
        time=str(second),
        topic=node.topic,
    )


def _wire(frame: dict[str, str], node: Node, h: int, line: Line) -> dict[str, str]:
    wire = frame.copy()
    wire["Facility"] = line.facility
    # Bits of their own: those that chose the line would leave few for what it says.
    wire["Msg"] = line.render(mix(h ^ _STEP), node)
    wire["Severity"] = line.severity
    wire["Syslogtag"] = line.tag
    wire["TagPath"] = line.path
    return wire


def _long_message(key: int, size: int) -> str:
    """Hexadecimal digits, which compress to half: more like a dump than like prose."""
    return Random(key).randbytes(size // 2 + 1).hex()[:size]


def _count_tables(density: float, lines_per_second: float | None) -> dict[Profile, tuple[int, ...]]:
    if lines_per_second is not None:
        table = poisson_table(lines_per_second)
        return dict.fromkeys(Profile, table)
    tables = {profile: poisson_table(rate * density) for profile, rate in _LINES_A_SECOND.items()}
    tables[Profile.QUIET] = poisson_table(_QUIET_LINES_A_MINUTE * density)
    return tables
