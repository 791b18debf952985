"""The embedded store with history in it: latency of queries, bytes a row, cost of an insert.

Lines come from the simulator: seeded, 100 nodes, up to 3 hours of them. The engine multiplies them into the past: each
copy stands in hours of its own and, but for the lines with numbers of faults, has other digits. Points are made in the
engine. History ends now, because the named queries ask for the last hours and days.
"""

from __future__ import annotations

import gzip
import itertools
import json
import re
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from collector.settings.model import StoreSettings
from collector.simulator.world import World
from collector.sources.normalise import lines
from collector.sources.tables import SYSLOGS
from collector.store.embedded import EmbeddedStore
from collector.store.engine import connect, connection_string
from collector.store.fault_rules import fault_rules
from collector.store.faults import COLUMNS as FAULT_COLUMNS
from collector.store.faults import SEVERITY
from collector.store.migrate import migrate
from collector.store.named import named_queries
from collector.store.shape import TEXT_INDEX, apply_shape
from tests.support import as_row

try:
    from compression import zstd
except ImportError:  # Python before 3.14
    from backports import zstd

SEED: Final = 7
NODES: Final = 100
POOL_SECONDS: Final = 3 * 3600
LINES_PER_SECOND: Final = 63
"""What the simulated nodes log together, about."""
STEP_SECONDS: Final = 300
SEGMENT_ROWS: Final = 10_000
INSERTED_ROWS: Final = 100_000
FAULTS_KEPT: Final = 30
"""Every fourth line of the simulator is a fault; with one in so many of them left, one in a hundred is."""
PYTHON_ROWS: Final = 5_000
REPEATS: Final = 7
REPEATS_MIN: Final = 3
REPEATS_MS_MAX: Final = 6_000
"""A query that is this slow is not repeated as often."""
COLUMNS: Final = SYSLOGS.columns[:-1]
DIGITS: Final = "0123456789"
RULES: Final = fault_rules()
LATER_FAULT_COLUMNS: Final = (SEVERITY, "fault_device", "fault_case")


@dataclass(frozen=True, slots=True)
class Pool:
    """Some hours of lines."""

    seconds: int
    end: int
    rows: list[tuple[Any, ...]]
    json: bytes
    """As the service sends them, an object a line."""


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def make_pool(rows: int, end: int) -> Pool:
    """At most `rows` lines of NODES nodes before `end`, about, node by node as they are shipped."""
    world = World(SEED, NODES, 1)
    seconds = min(POOL_SECONDS, max(60, rows // LINES_PER_SECOND))
    found, wires = [], []
    for node_id in world.node_ids:
        for record in world.truth(node_id, end - seconds, end):
            wires.append(json.dumps(record.wire, ensure_ascii=False).encode())
            found.append(as_row(record.wire, node_id))
    return Pool(seconds, end, found, b"\n".join(wires))


def segments(rows: Sequence[tuple[Any, ...]], size: int = SEGMENT_ROWS) -> Iterator[bytes]:
    """Bodies of inserts; the order within one is that of the journal."""
    for start in range(0, len(rows), size):
        yield b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows[start : start + size])


class Bench:
    """One store with history."""

    def __init__(self, store: EmbeddedStore, folder: Path) -> None:
        self.store = store
        self.handle = connect(connection_string(folder.resolve()))
        self.handle.query("USE pai")
        # With it a repeated filter looks 50 times as fast as it is.
        self.handle.query(
            "SET use_query_condition_cache = 0, max_threads = 2, output_format_json_quote_64bit_integers = 0"
        )

    def rows(self, sql: str) -> list[list[Any]]:
        answer = self.handle.query(sql, "JSONCompactEachRow").bytes()
        return [json.loads(line) for line in answer.splitlines()]

    def timed(self, sql: str) -> str:
        """Best and median time of some runs, and the least CPU that one took, after one that warms caches up."""
        walls, cpus = [], []
        for _ in range(REPEATS + 1):
            wall, cpu = time.perf_counter(), cpu_seconds()
            self.handle.query(sql, "Native").bytes()
            walls.append((time.perf_counter() - wall) * 1e3)
            cpus.append((cpu_seconds() - cpu) * 1e3)
            if len(walls) > REPEATS_MIN and sum(walls) > REPEATS_MS_MAX:
                break
        return f"{min(walls[1:]):.1f} / {statistics.median(walls[1:]):.1f} / {min(cpus[1:]):.1f}"

    async def load(self, pool: Pool, rows: int, points: int) -> int:
        """Fill the tables from the pool, as far back as it takes; the seconds of history."""
        names = ", ".join(COLUMNS)
        await self.store.execute("CREATE TABLE pai.pool AS pai.syslogs")
        await self.store.execute("ALTER TABLE pai.pool DROP PROJECTION IF EXISTS hourly")
        for number, body in enumerate(segments(pool.rows)):
            await self.store.insert("pool", COLUMNS, body, token=f"pool {number}")
        copies = max(1, round(rows / len(pool.rows)))
        for copy in range(copies):
            shift = -copy * pool.seconds
            turn = copy % 10
            values = {
                "time": f"time + {shift}",
                "receive_time": f"receive_time + {shift}",
                "msg": "if(match(msg, 'Xid|EDAC|Bank'), msg,"
                f" translate(msg, '{DIGITS}', '{DIGITS[turn:] + DIGITS[:turn]}'))",
            }
            selected = ", ".join(values.get(name, name) for name in COLUMNS)
            await self.store.execute(
                f"INSERT INTO pai.syslogs ({names}) SELECT {selected} FROM pai.pool SETTINGS max_threads = 1"
            )
        seconds, end = copies * pool.seconds, pool.end
        steps = max(1, seconds // STEP_SECONDS)
        series = max(1, points // steps)
        await self.store.execute(
            "INSERT INTO pai.metric_points (time, region, source, scope_id, entity_id, metric, gpu_type, value)"
            f" SELECT toDateTime({end - end % STEP_SECONDS} - step * {STEP_SECONDS}, 'UTC'), 'cn-hangzhou',"
            " 'node_metrics', concat('rg-', toString(series % 8)), concat('lrn-', toString(intDiv(series, 2))),"
            " ['CpuUsageRate', 'GpuUsageRate'][series % 2 + 1], if(series % 2 = 1, 'A100', ''),"
            " round(50 + 40 * sin(step / 40 + series) + (cityHash64(step, series) % 1000) / 100, 2)"
            f" FROM (SELECT number % {series} AS series, intDiv(number, {series}) AS step"
            f" FROM numbers({series * steps}))"
            " SETTINGS max_threads = 1"
        )
        minutes = max(1, seconds // 60)
        await self.store.execute(
            "INSERT INTO pai.user_metrics (time, region, resource_group_id, user_id, job_type, total_gpu, request_gpu,"
            " gpu_usage_rate, request_cpu, cpu_usage_rate, request_memory, memory_usage_rate)"
            f" SELECT toDateTime({end - end % 60} - intDiv(number, 20) * 60, 'UTC'), 'cn-hangzhou',"
            " concat('rg-', toString(number % 2)), concat('user-', toString(number % 20)), 'PyTorch', 64, number % 9,"
            " cityHash64(number) % 10000 / 100, 8, cityHash64(number, 1) % 10000 / 100, 1000, 40"
            f" FROM numbers({minutes * 20}) SETTINGS max_threads = 1"
        )
        return seconds

    async def settle(self) -> None:
        """Merge everything, so that each run measures the same parts."""
        for table in ("syslogs", "metric_points", "user_metrics"):
            await self.store.execute(f"OPTIMIZE TABLE pai.{table} FINAL")

    def bytes_a_row(self, table: str, column: str = "bytes_on_disk") -> float:
        ((found, rows),) = self.rows(
            f"SELECT sum({column}), sum(rows) FROM system.parts WHERE database = 'pai' AND table = '{table}' AND active"
        )
        return float(found) / float(rows)

    def projection_bytes_a_row(self, table: str) -> float:
        ((found,),) = self.rows(
            "SELECT sum(bytes_on_disk) FROM system.projection_parts"
            f" WHERE database = 'pai' AND table = '{table}' AND active"
        )
        ((rows,),) = self.rows(f"SELECT count() FROM {table}")
        return float(found or 0) / float(rows)


def report(title: str, rows: Sequence[Sequence[object]]) -> None:
    print(f"\n{title}")
    widths = [max(len(str(row[index])) for row in rows) for index in range(len(rows[0]))]
    for row in rows:
        first, *others = (str(cell) for cell in row)
        print(f"  {first:<{widths[0]}}  " + "  ".join(f"{c:>{w}}" for c, w in zip(others, widths[1:], strict=True)))


def latency_queries(end: int, node_id: str) -> dict[str, str]:
    hour = f"time >= {end - 3600} AND time <= {end}"
    day = f"time >= {end - 86_400} AND time <= {end}"
    return {
        "last hour: lines by node and severity": "SELECT node_id, severity, count() FROM syslogs"
        f" WHERE {hour} GROUP BY ALL",
        "last hour: faults by node and class": f"SELECT node_id, fault_class, count() FROM syslogs WHERE {hour}"
        " AND fault_class != '' GROUP BY ALL",
        "last hour: faults with their meaning": f"SELECT * FROM faults WHERE {hour} ORDER BY time DESC LIMIT 1000",
        "last hour: newest 200 lines of all nodes": f"SELECT time, node_id, severity, msg FROM syslogs WHERE {hour}"
        " ORDER BY time DESC LIMIT 200",
        "last hour: lines that hold a text": f"SELECT count() FROM syslogs WHERE {hour} AND msg ILIKE '%error%'",
        "last hour: one metric of one group": "SELECT entity_id, avg(value), max(value) FROM metric_points"
        f" WHERE {hour} AND scope_id = 'rg-1' AND metric = 'GpuUsageRate' GROUP BY entity_id",
        "last hour: usage by user": "SELECT resource_group_id, user_id, avg(gpu_usage_rate) FROM user_metrics"
        f" WHERE {hour} GROUP BY ALL",
        "one node, a day, newest 200 lines": f"SELECT time, severity, msg FROM syslogs WHERE {day}"
        f" AND node_id = '{node_id}' ORDER BY time DESC LIMIT 200",
        "one node, a day, lines by hour": f"SELECT toStartOfHour(time), count() FROM syslogs WHERE {day}"
        f" AND node_id = '{node_id}' GROUP BY ALL",
    }


ROLLUPS: Final = {
    "all: lines by hour and severity": (
        "SELECT hour, severity, sum(lines) FROM syslogs_hourly GROUP BY ALL",
        "SELECT toStartOfHour(time) AS hour, severity, count() FROM syslogs GROUP BY ALL",
    ),
    "all: faults by node and class": (
        "SELECT node_id, fault_class, sum(lines) FROM syslogs_hourly WHERE fault_class != '' GROUP BY ALL",
        "SELECT node_id, fault_class, count() FROM syslogs WHERE fault_class != '' GROUP BY ALL",
    ),
    "all: each metric by hour and group": (
        "SELECT hour, scope_id, metric, sum(value_sum) / sum(points), max(value_max) FROM metric_points_hourly"
        " GROUP BY ALL",
        "SELECT toStartOfHour(time) AS hour, scope_id, metric, avg(value), max(value) FROM metric_points GROUP BY ALL",
    ),
    "all: usage by hour and user": (
        "SELECT hour, resource_group_id, user_id, gpu_usage_rate_avg FROM user_metrics_hourly",
        "SELECT toStartOfHour(time) AS hour, resource_group_id, user_id, avg(gpu_usage_rate) FROM user_metrics"
        " GROUP BY ALL",
    ),
}


def without_most_faults(rows: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Rows without all but one in FAULTS_KEPT of the lines that are a fault, as far as Python finds them."""
    searches = [re.compile(rule.pattern).search for rule in RULES.classes]
    faults = itertools.count()
    return [
        row for row in rows if not any(search(str(row[-1])) for search in searches) or not next(faults) % FAULTS_KEPT
    ]


async def insert_cost(store: EmbeddedStore, pool: Pool, rounds: int) -> list[tuple[str, str]]:
    """CPU of the process for each row, segments of SEGMENT_ROWS, merges stopped."""
    rows = pool.rows[:INSERTED_ROWS]
    await store.execute("SYSTEM STOP MERGES")
    no_projection = "DROP PROJECTION IF EXISTS hourly"
    # The severity is computed from the others when it is read.
    no_faults = [no_projection, *(f"DROP COLUMN {column}" for column in (SEVERITY, *reversed(FAULT_COLUMNS)))]
    alone, all_columns = "rows alone", "with class, number, case and device of faults"
    variants = {
        alone: no_faults,
        "with fault class": [no_projection, *(f"DROP COLUMN {name}" for name in (*LATER_FAULT_COLUMNS, "fault_code"))],
        "with fault class and number": [no_projection, *(f"DROP COLUMN {name}" for name in LATER_FAULT_COLUMNS)],
        all_columns: [no_projection],
        "with those and the hourly projection, as shipped": [],
        "as shipped and the text index": [f"ADD INDEX {TEXT_INDEX} msg TYPE text(tokenizer = 'splitByNonAlpha')"],
    }
    compiling, body = [], next(segments(rows, 1))
    for number in range(2):
        before = cpu_seconds()
        await store.insert("syslogs", COLUMNS, body, token=f"first {number}")
        compiling.append(cpu_seconds() - before)
    await store.execute("TRUNCATE TABLE pai.syslogs")
    as_simulated = await cpu_by_variant(store, rows, variants, rounds)
    few = await cpu_by_variant(
        store, without_most_faults(rows), {name: variants[name] for name in (alone, all_columns)}, rounds
    )
    few_of = f", one fault in {FAULTS_KEPT} left"
    return [
        ("first insert of the process, which compiles the patterns", f"{(compiling[0] - compiling[1]) * 1e3:.0f} ms"),
        *((name, against(costs, as_simulated[alone])) for name, costs in as_simulated.items()),
        *((name + few_of, against(costs, few[alone])) for name, costs in few.items()),
        ("class, number, case and device found, and not stored", f"{await found_us(store, pool):.2f} us"),
        ("the same classes found in Python, one expression for all", f"{python_us(pool, fused=True):.2f} us"),
        ("the same classes found in Python, one after another", f"{python_us(pool, fused=False):.2f} us"),
    ]


def against(costs_us: Sequence[float], alone_us: Sequence[float]) -> str:
    """The least cost, and the medians of what a round costs more than, and times, the rows alone in that round."""
    pairs = list(zip(costs_us, alone_us, strict=True))
    more = statistics.median(cost - alone for cost, alone in pairs)
    times = statistics.median(cost / alone for cost, alone in pairs)
    return f"{min(costs_us):.2f} us, {more:+.2f}, x {times:.2f}"


async def cpu_by_variant(
    store: EmbeddedStore, rows: Sequence[tuple[Any, ...]], variants: Mapping[str, Sequence[str]], rounds: int
) -> dict[str, list[float]]:
    """CPU a row in us, of each round, of inserts into `syslogs` after each variant's alterations; they take turns."""
    bodies = list(segments(rows))
    costs: dict[str, list[float]] = {name: [] for name in variants}
    for attempt in range(rounds):
        for name, alterations in variants.items():
            await store.execute("DROP TABLE IF EXISTS pai.variant SYNC")
            await store.execute("CREATE TABLE pai.variant AS pai.syslogs")
            for alteration in alterations:
                await store.execute(f"ALTER TABLE pai.variant {alteration}")
            before = cpu_seconds()
            for number, body in enumerate(bodies):
                await store.insert("variant", COLUMNS, body, token=f"{attempt} {number}")
            costs[name].append((cpu_seconds() - before) / len(rows) * 1e6)
    await store.execute("DROP TABLE pai.variant SYNC")
    return costs


async def found_us(store: EmbeddedStore, pool: Pool) -> float:
    """CPU for each message of the expressions alone, best of five; the rest is what writing them costs."""
    columns = ", ".join(f"{expression} AS {name}" for name, expression in RULES.expressions.items())
    await store.execute("CREATE OR REPLACE TABLE pai.messages (msg String) ENGINE = Memory")
    messages = [(row[-1],) for row in pool.rows[:INSERTED_ROWS]]
    await store.insert("messages", ("msg",), lines(messages), token="messages")
    best = float("inf")
    for _ in range(5):
        before = cpu_seconds()
        await store.fetch(
            f"SELECT count() FROM (SELECT {columns} FROM pai.messages) WHERE NOT ignore({', '.join(FAULT_COLUMNS)})"
        )
        best = min(best, (cpu_seconds() - before) / len(messages) * 1e6)
    await store.execute("DROP TABLE pai.messages SYNC")
    return best


def python_us(pool: Pool, *, fused: bool) -> float:
    """CPU for each message that the rules take in Python."""
    messages = [str(row[-1]) for row in pool.rows[:PYTHON_ROWS]]
    classify: Callable[[str], object]
    if fused:
        search = re.compile("|".join(f"(?P<{rule.name}>{rule.pattern})" for rule in RULES.classes)).search
        classify = lambda message: (found := search(message)) and found.lastgroup  # noqa: E731
    else:
        each = [(rule.name, re.compile(rule.pattern).search) for rule in RULES.classes]
        classify = lambda message: next((name for name, search in each if search(message)), "")  # noqa: E731
    before = cpu_seconds()
    for message in messages:
        classify(message)
    return (cpu_seconds() - before) / len(messages) * 1e6


def packed(pool: Pool) -> list[tuple[str, str]]:
    rows = len(pool.rows)
    return [
        ("raw JSON", f"{len(pool.json) / rows:.1f} B"),
        ("raw JSON, gzip -6", f"{len(gzip.compress(pool.json, 6)) / rows:.1f} B"),
        ("raw JSON, zstd -3", f"{len(zstd.compress(pool.json, 3)) / rows:.1f} B"),
        ("raw JSON, zstd -9", f"{len(zstd.compress(pool.json, 9)) / rows:.1f} B"),
    ]


async def measure(rows: int, points: int, rounds: int, *, latency_only: bool = False) -> None:
    """Everything, or the latency of queries alone, printed as it is found."""
    with tempfile.TemporaryDirectory(prefix="pai-store-") as name:
        folder = Path(name) / "store"
        end = int(time.time()) - 60
        pool = make_pool(rows, end)
        store = await EmbeddedStore.open(folder)
        try:
            await migrate(store)
            await apply_shape(store, StoreSettings())
            bench = Bench(store, folder)
            if not latency_only:
                cost = await insert_cost(store, pool, rounds)
                await store.execute("SYSTEM START MERGES")
                report(
                    f"CPU of an insert, a row of syslogs, segments of {SEGMENT_ROWS:,}, {rounds} rounds: least,"
                    " and medians of what is more than, and times, the rows alone:",
                    cost,
                )
            await measure_history(bench, pool, rows, points, latency_only=latency_only)
        finally:
            await store.close()


async def measure_history(bench: Bench, pool: Pool, rows_wanted: int, points: int, *, latency_only: bool) -> None:
    store, end = bench.store, pool.end
    began = time.perf_counter()
    seconds = await bench.load(pool, rows_wanted, points)
    await bench.settle()
    counted = ", ".join(
        f"{table} {bench.rows(f'SELECT count() FROM {table}')[0][0]:,}"
        for table in ("syslogs", "metric_points", "user_metrics")
    )
    print(f"\nrows: {counted}, of {seconds / 3600:.1f} hours; made in {time.perf_counter() - began:.0f} s")
    node_id = str(pool.rows[0][COLUMNS.index("node_id")])
    report(
        "Latency in ms, best / median / CPU of several runs, condition cache off:",
        [(what, bench.timed(sql)) for what, sql in latency_queries(end, node_id).items()],
    )
    if latency_only:
        return
    types = {"time": "DateTime", "receive_time": "Nullable(DateTime)"}
    columns = ", ".join(f"{column} {types.get(column, 'String')}" for column in COLUMNS)
    await store.execute(f"CREATE TABLE pai.plain ({columns}) ENGINE = MergeTree ORDER BY (node_id, time)")
    await store.execute(f"INSERT INTO pai.plain SELECT {', '.join(COLUMNS)} FROM pai.pool")
    await store.execute("OPTIMIZE TABLE pai.plain FINAL")
    sizes = [
        *packed(pool),
        ("default table: LZ4, String, ORDER BY (node_id, time)", f"{bench.bytes_a_row('plain'):.1f} B"),
    ]
    projection = bench.projection_bytes_a_row("syslogs")
    sizes.append(("syslogs, merged", f"{bench.bytes_a_row('syslogs'):.1f} B"))
    sizes.append(("  of which the hourly projection", f"{projection:.2f} B"))
    sizes.append(("metric_points, merged", f"{bench.bytes_a_row('metric_points'):.2f} B"))

    report(
        "Hours in ms, from the view, from the table, and from the table without its projection:",
        [
            (
                what,
                bench.timed(view),
                bench.timed(base),
                bench.timed(base + " SETTINGS optimize_use_projections = 0"),
            )
            for what, (view, base) in ROLLUPS.items()
        ],
    )
    report("Named queries in ms, with their defaults, and over the last hour where they take a range:", named(bench))

    rare = rare_word(pool)
    searches = {
        "a word of few lines, all rows: count": f"SELECT count() FROM syslogs WHERE hasToken(msg, '{rare}')",
        "a word of few lines, all rows: the lines": "SELECT time, node_id, msg FROM syslogs"
        f" WHERE hasToken(msg, '{rare}') ORDER BY time LIMIT 100",
        "'lockup', all rows: count": "SELECT count() FROM syslogs WHERE hasToken(msg, 'lockup')",
        "'lockup', all rows: newest 100 lines": "SELECT time, node_id, msg FROM syslogs WHERE hasToken(msg, 'lockup')"
        " ORDER BY time DESC LIMIT 100",
        "'NCCL' and 'timeout', all rows: by node": "SELECT node_id, count() FROM syslogs"
        " WHERE hasToken(msg, 'NCCL') AND hasToken(msg, 'timeout') GROUP BY node_id",
    }
    without = {what: (bench.timed(sql), bench.rows(sql)) for what, sql in searches.items()}
    before, cpu = time.perf_counter(), cpu_seconds()
    await store.execute(f"ALTER TABLE pai.syslogs ADD INDEX {TEXT_INDEX} msg TYPE text(tokenizer = 'splitByNonAlpha')")
    for (day,) in bench.rows("SELECT DISTINCT toYYYYMMDD(time) FROM syslogs"):
        await store.execute(
            f"ALTER TABLE pai.syslogs MATERIALIZE INDEX {TEXT_INDEX} IN PARTITION ID '{day}'"
            " SETTINGS mutations_sync = 2"
        )
    built = f"{time.perf_counter() - before:.0f} s, {cpu_seconds() - cpu:.0f} s of CPU"
    failures = bench.rows("SELECT latest_fail_reason FROM system.mutations WHERE latest_fail_reason != ''")
    assert not failures, failures
    rows = []
    for what, sql in searches.items():
        taken, found = without[what]
        assert bench.rows(sql) == found or "LIMIT" in sql, what
        rows.append((what, bench.timed(sql), taken))
    report(f"Words in ms, with the text index and without (built in {built}):", rows)
    sizes.append(("syslogs with the text index", f"{bench.bytes_a_row('syslogs'):.1f} B"))
    report("Bytes a row on disk:", sizes)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"\nmost memory of the process: {peak:.0f} MiB")


def named(bench: Bench) -> list[tuple[str, str, str]]:
    """Name, time with the defaults, and time over an hour."""
    found = []
    for query in named_queries():
        required = {known.name: "dlc-none" for known in query.parameters if known.default is None}
        has_range = any(known.name == "hours" for known in query.parameters)
        hour = bench.timed(query.standing_alone(required | {"hours": "1"})) if has_range else ""
        found.append((query.name, bench.timed(query.standing_alone(required)), hour))
    return found


def rare_word(pool: Pool) -> str:
    """A word that few lines hold: the id of a process in a line about an Xid, whose digits stay as they are."""
    for row in pool.rows:
        found = re.search(r"Xid .*pid=(\d{5,})", str(row[-1]))
        if found:
            return found[1]
    raise AssertionError("the simulated lines have no Xid with a process id")
