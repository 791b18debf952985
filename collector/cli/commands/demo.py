"""`pai-collector demo`: history collected, stored and queried, with nothing but this machine."""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.progress import Progress as Bars

from collector.cli.methods import find_method
from collector.cli.options import options_of
from collector.cli.output import print_line, print_table, started_as
from collector.cli.running import run_to_end, showing
from collector.clock import SystemClock
from collector.errors import UsageError
from collector.owner.instance import Owner
from collector.owner.status import status
from collector.pipeline.run import RunReport
from collector.rpc import listening
from collector.service.http import serving_http
from collector.service.sql import serving_sql
from collector.settings import load
from collector.simulator.process import SimulatorProcess, simulator_process
from collector.simulator.server import SIMULATOR_KEY
from collector.simulator.world import World
from collector.store.named import NamedQuery, named_query

SEED = 1
GROUPS = 2
MINUTE = 60
LATE_ROWS = 25
LATE_MINUTES = 3
LATE_MINUTES_MIN = 18
"""A shorter demo ends before the recheck that finds the late lines."""
MARKER = ".pai-collector-demo"
ANY_PORT = "127.0.0.1:0"

CONFIGURATION = """\
# Written by `pai-collector demo`. The simulator behind base_url ends with the demo.
[api]
base_url = "{base_url}"
[targets]
nodes = {nodes}
resource_groups = {groups}
[sources.syslogs]
initial_lookback = "10m"
recheck = ["5m"]
"""


@dataclass(slots=True)
class Totals:
    """What the demo has done so far."""

    minutes: int = 0
    rows: int = 0
    calls: dict[str, int] = field(default_factory=dict)


class FastClock(SystemClock):
    """The machine's clock, moved by hand: to the collector, time passes as fast as in the simulator."""

    def __init__(self) -> None:
        self._wall_offset = 0.0
        self._passed = 0.0

    def wall(self) -> float:
        return super().wall() + self._wall_offset

    def monotonic(self) -> float:
        return super().monotonic() + self._passed

    def move_to(self, wall: float) -> None:
        """Make it `wall`, seconds since the epoch; if that is later than now, as much time has passed."""
        step = wall - self.wall()
        self._wall_offset += step
        self._passed += max(step, 0.0)


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def demo(
        context: typer.Context,
        folder: Annotated[Path, typer.Option("--dir", metavar="DIR", help="Where the demo keeps its files.")] = Path(
            "pai-demo"
        ),
        nodes: Annotated[int, typer.Option(min=1, max=200, help="Nodes that log.")] = 12,
        minutes: Annotated[int, typer.Option(min=1, max=240, help="Minutes of history to live through.")] = 30,
        keep_running: Annotated[
            bool | None,
            typer.Option(
                "--keep-running/--exit",
                help="Go on collecting, with console and SQL, until Ctrl-C; or end once the minutes are collected. "
                "On a terminal it goes on, elsewhere it ends.",
                show_default=False,
            ),
        ] = None,
    ) -> None:
        """Collect a simulated cluster's history into a store under DIR, and show it in a browser.

        A simulator on a loopback port lives through the minutes in fast motion; every minute is
        collected as a real one would be. No key is needed and nothing costs money.
        """
        options = options_of(context)
        if options.log_level is None:
            # A clock in fast motion is no news here.
            options.reporter.configure("error")
        _prepare(folder)
        stays = sys.stdout.isatty() if keep_running is None else keep_running
        run_to_end(_demo(folder, nodes, minutes, stays=stays))


def _prepare(folder: Path) -> None:
    """An empty folder, or one that an earlier demo filled. Raises UsageError for anything else."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--dir: {folder} is a file")
    if folder.exists() and any(folder.iterdir()):
        if not (folder / MARKER).exists():
            raise UsageError(f"--dir: {folder} holds other files", hint="name an empty or a new folder")
        shutil.rmtree(folder / "data", ignore_errors=True)
        (folder / "collector.toml").unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARKER).touch()


async def _demo(folder: Path, node_count: int, minutes: int, *, stays: bool) -> None:
    clock = FastClock()
    end = int(clock.wall()) // MINUTE * MINUTE
    world = World(SEED, node_count, GROUPS, calm=True)
    arguments = ["--seed", str(SEED), "--nodes", str(node_count), "--groups", str(GROUPS), "--calm"]
    start = end - minutes * MINUTE
    async with simulator_process(*arguments, "--start", str(start), "--rate", "0", "--latency", "0.005", "0.03") as api:
        path = _configure(folder, api.base_url, world)
        print_line(
            f"A simulated cluster: {node_count} nodes, {GROUPS} resource groups, {minutes} minutes of their life."
        )
        settings = load(path, {})
        clock.move_to(start)
        owner = await Owner.open(settings, key=SIMULATOR_KEY, clock=clock)
        async with owner, listening(owner, find_method), _served(owner) as address:
            totals = Totals()
            async with showing(_bar(totals, minutes)):
                await _live(owner, api, clock, world.node_ids[0], start, minutes, totals)
            await _show(owner, api, path, minutes)
            if stays:
                await _collect_on(owner, api, clock, address)


@asynccontextmanager
async def _served(owner: Owner) -> AsyncIterator[str]:
    """Serve console and SQL while the body runs, and say where; gives the console's address."""
    async with (
        serving_sql(owner, listen=ANY_PORT, token="") as sql_address,
        serving_http(owner, listen=ANY_PORT, token="") as address,
    ):
        print_line(f"Console: {address}/")
        print_line(f"SQL, for ClickHouse's clients: {sql_address}")
        # Where stdout is a pipe too: whoever reads it can open the page from now on.
        sys.stdout.flush()
        yield address


def _configure(folder: Path, base_url: str, world: World) -> Path:
    path = folder / "collector.toml"
    quoted: Callable[[list[str]], str] = lambda names: "[" + ", ".join(f'"{name}"' for name in names) + "]"  # noqa: E731
    path.write_text(
        CONFIGURATION.format(base_url=base_url, nodes=quoted(world.node_ids), groups=quoted(world.group_ids)),
        encoding="utf-8",
    )
    return path


async def _live(
    owner: Owner, api: SimulatorProcess, clock: FastClock, late_node: str, start: int, minutes: int, totals: Totals
) -> None:
    """One minute after the other; in the middle some lines of a node come late, behind its watermark."""
    middle = start + minutes // 2 * MINUTE
    await api.tell(
        "late",
        {
            "node_id": late_node, "start": middle - MINUTE, "end": middle, "count": LATE_ROWS,
            "visible_at": middle + LATE_MINUTES * MINUTE,
        },
    )  # fmt: skip
    for minute in range(1, minutes + 1):
        # In the middle of a minute: where the simulator's time is estimated some seconds off, no tick is missed.
        moment = start + minute * MINUTE - MINUTE // 2
        await api.tell("clock", {"set": moment})
        clock.move_to(moment)
        runner = owner.once()
        report = await runner.run()
        _raise_first_failure(report)
        totals.minutes = minute
        totals.rows += sum(rows for table, rows in runner.shipped.rows.items() if table != "api_call_parts")
        for operation, calls in report.calls.items():
            totals.calls[operation] = totals.calls.get(operation, 0) + calls


def _raise_first_failure(report: RunReport) -> None:
    for error in report.failures.values():
        raise error


def _bar(totals: Totals, minutes: int) -> Callable[[Bars], None]:
    def refresh(bars: Bars) -> None:
        if not bars.tasks:
            bars.add_task("", total=minutes)
        text = f"minutes collected; {totals.rows:,} rows stored, {sum(totals.calls.values()):,} calls"
        bars.update(bars.tasks[0].id, completed=totals.minutes, description=text)

    return refresh


SHOWN = (
    ("Rows in the store", "rows", ("table", "rows", "size", "bytes_per_row")),
    ("Top faults", "faults", ("fault_severity", "fault_class", "fault_code", "device", "node_id", "lines")),
    ("Worst nodes", "worst_nodes", ("node_id", "fatal", "degraded", "lines", "fault_class", "fault_code", "device")),
    (
        "Usage by user, latest snapshot",
        "usage",
        ("resource_group_id", "user_id", "job_type", "request_gpu", "gpu_usage_rate"),
    ),
    ("Freshness", "freshness", ("operation", "scope_id", "watermark", "behind_seconds")),
    ("Spend after the free tier", "spend", ("month", "operation", "calls", "failed", "cost_cny")),
)
"""Title, named query, and the columns of it that fit a terminal."""
ROWS_SHOWN_MAX = 8


async def _show(owner: Owner, api: SimulatorProcess, path: Path, minutes: int) -> None:
    print_line()
    for title, name, columns in SHOWN:
        rows, names = await _rows(owner, named_query(name))
        places = [names.index(column) for column in columns]
        shown = [[_short(row[place]) for place in places] for row in rows[:ROWS_SHOWN_MAX]]
        more = f", {ROWS_SHOWN_MAX} of {len(rows)}" if len(rows) > ROWS_SHOWN_MAX else ""
        print_table(title + more, columns, shown)
    stats: dict[str, dict[str, Any]] = await api.told("stats")
    told = await status(owner)
    late = told.counters.get("recheck_rows/ListSyslogs", 0)
    refused = sum(s["refused"] for s in stats.values())
    metered = sum(operation.calls_this_month for operation in told.operations)
    if minutes >= LATE_MINUTES_MIN:
        print_line(f"Late lines found behind the watermark by the recheck: {late} of {LATE_ROWS}.")
    print_line(f"Calls the service counted: {sum(s['calls'] for s in stats.values()):,}; the meter says {metered:,}.")
    print_line(f"Calls it refused for going too fast: {refused}.")
    print_line()
    program = started_as()
    print_line("Try next:")
    sql = "SELECT time, node_id, msg FROM syslogs WHERE fault_class = 'xid' LIMIT 20"
    print_line(f'  {program} query --config {path} "{sql}"')
    print_line(f"  {program} query --config {path} --list")
    print_line(f"  {program} status --config {path}")
    print_line(f"  {program} init          a configuration of your own")


def _short(value: Any) -> Any:
    return ", ".join(map(str, value)) if isinstance(value, list) else value


async def _rows(owner: Owner, query: NamedQuery) -> tuple[list[list[Any]], list[str]]:
    running = owner.store.query(query.sql, format="JSONCompactEachRowWithNames", parameters=query.bind())
    async with await running as answer:
        body = b"".join([piece async for piece in answer])
    names, *rows = [msgspec.json.decode(line) for line in body.splitlines()]
    return rows, names


async def _collect_on(owner: Owner, api: SimulatorProcess, clock: FastClock, address: str) -> None:
    """Collect as a service does, at the speed of real time, until Ctrl-C or SIGTERM."""
    print_line()
    print_line(f"Collecting on; open {address}/ in a browser. Ctrl-C ends it.")
    sys.stdout.flush()
    clock.move_to(SystemClock().wall())
    await api.tell("clock", {"set": clock.wall(), "rate": 1.0})
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    service = owner.service()
    await service.start()
    await service.run(stop)
